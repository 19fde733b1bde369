//! Strings of a scanned payload, borrowed as they stand in it.

use std::{borrow::Cow, cmp::Ordering, fmt};

use super::super::{bounds::has_control, canon::utf16_rank};

/// A JSON string inside canonical bytes: what stands between the quotes, with its escapes.
///
/// Canonical JSON has one spelling for each string, so two `Text`s are equal if and only if their strings are.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Text<'a> {
    raw: &'a str,
    escaped: bool,
}

impl<'a> Text<'a> {
    /// Takes what the cursor found to be a canonical string body; `escaped` says whether it holds a backslash.
    pub(super) const fn new(raw: &'a str, escaped: bool) -> Self {
        Self { raw, escaped }
    }

    /// The string itself, if it stands in the payload without escapes, which is the usual case.
    pub const fn plain(self) -> Option<&'a str> {
        if self.escaped { None } else { Some(self.raw) }
    }

    /// The string, copied only where escapes have to be undone.
    pub fn decode(self) -> Cow<'a, str> {
        if self.escaped { Cow::Owned(self.chars().collect()) } else { Cow::Borrowed(self.raw) }
    }

    /// The string between the quotes as it stands in the payload, escapes and all.
    pub const fn raw(self) -> &'a str {
        self.raw
    }

    /// The characters of the string, escapes undone.
    pub fn chars(self) -> impl Iterator<Item = char> + 'a {
        Decoded { rest: self.raw.chars() }
    }

    /// How the two compare by UTF-16 code units, which is the order of members (RFC 8785 §3.2.3).
    pub(super) fn utf16_cmp(self, other: Text<'_>) -> Ordering {
        let plain = |text: Text<'_>| !text.escaped && text.raw.is_ascii();
        if plain(self) && plain(other) {
            return self.raw.as_bytes().cmp(other.raw.as_bytes());
        }
        self.chars().map(utf16_rank).cmp(other.chars().map(utf16_rank))
    }

    /// Whether the string is an identifier of at most `max` bytes: see [`super::super::bounds::is_identifier`].
    pub(super) fn is_identifier(self, max: usize) -> bool {
        if !self.escaped {
            return (1..=max).contains(&self.raw.len()) && !has_control(self.raw);
        }
        self.chars().map(char::len_utf8).sum::<usize>() <= max && !self.chars().any(char::is_control)
    }
}

impl PartialEq<str> for Text<'_> {
    fn eq(&self, other: &str) -> bool {
        if self.escaped { self.chars().eq(other.chars()) } else { self.raw == other }
    }
}

impl PartialEq<&str> for Text<'_> {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.decode())
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.decode(), f)
    }
}

/// Undoes the escapes of a canonical string.
struct Decoded<'a> {
    rest: std::str::Chars<'a>,
}

impl Iterator for Decoded<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        if c != '\\' {
            return Some(c);
        }
        Some(match self.rest.next()? {
            'b' => '\u{8}',
            't' => '\t',
            'n' => '\n',
            'f' => '\u{c}',
            'r' => '\r',
            // The cursor admits \u00XX only.
            'u' => char::from_u32(
                self.rest.by_ref().take(4).filter_map(|digit| digit.to_digit(16)).fold(0, |n, digit| n * 16 + digit),
            )?,
            quote_or_backslash => quote_or_backslash,
        })
    }
}

/// An array of strings inside canonical bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Texts<'a> {
    body: &'a str,
    count: usize,
}

impl<'a> Texts<'a> {
    /// Takes what stands between the brackets of an array that the cursor found to hold `count` strings.
    pub(super) const fn new(body: &'a str, count: usize) -> Self {
        Self { body, count }
    }

    /// How many strings there are.
    pub const fn len(self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.count == 0
    }

    /// Whether `wanted` is one of them.
    pub fn contains(self, wanted: &str) -> bool {
        self.iter().any(|text| text == *wanted)
    }

    /// The strings, in the order of the payload.
    pub fn iter(self) -> impl Iterator<Item = Text<'a>> {
        Split { rest: self.body }
    }
}

/// Splits the body of an array of canonical strings at the quotes.
struct Split<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Split<'a> {
    type Item = Text<'a>;

    fn next(&mut self) -> Option<Text<'a>> {
        let body = self.rest.strip_prefix(',').unwrap_or(self.rest).strip_prefix('"')?;
        let (mut bytes, mut escaped) = (body.bytes().enumerate(), false);
        let end = loop {
            match bytes.next()? {
                (_, b'\\') => {
                    escaped = true;
                    bytes.next()?;
                }
                (at, b'"') => break at,
                _ => {}
            }
        };
        let (raw, rest) = body.split_at_checked(end)?;
        self.rest = rest.strip_prefix('"')?;
        Some(Text::new(raw, escaped))
    }
}
