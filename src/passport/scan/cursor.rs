//! The walker over canonical JSON: reads one token after the other and admits no spelling but the canonical one.

use std::cmp::Ordering;

use super::{
    super::bounds::{MAX_DEPTH, MAX_INTEGER},
    Fault, Refused,
    text::Text,
};

/// A place in the bytes.
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

/// Where a number ends that could still be read: 2^53 − 1 has 16 digits.
const MAX_DIGITS: usize = 16;

/// The place of the first byte that can't stand in a string as it is: a quote, a backslash or a control character.
///
/// Looks at eight bytes at once (a scan takes a tenth less time). In each byte of `below` the high bit says that the
/// byte is less than the constant taken from it; a borrow can set it wrongly, but only above a byte where it is set
/// rightly, and the lowest is what counts.
fn special(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word;
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let quote = below(word ^ (ONES * u64::from(b'"')), 1);
        let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
        let hits = (quote | backslash | below(word, 0x20)) & (ONES << 7);
        if let (true, Ok(bit)) = (hits != 0, usize::try_from(hits.trailing_zeros())) {
            return Some(index * 8 + bit / 8);
        }
    }
    let place = rest.iter().position(|byte| matches!(byte, 0..=0x1f | b'"' | b'\\'))?;
    Some(words.len() * 8 + place)
}

impl<'a> Cursor<'a> {
    /// Starts at the first of `bytes`.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Refused> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self { text, at: 0 }),
            Err(error) => Err(Refused::new(Fault::NotUtf8, error.valid_up_to())),
        }
    }

    /// The next byte.
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Where the cursor stands, in bytes from the start.
    pub(super) const fn at(&self) -> usize {
        self.at
    }

    /// What stands between two places.
    pub(super) fn between(&self, start: usize, end: usize) -> &'a str {
        self.text.get(start..end).unwrap_or_default()
    }

    /// The refusal for what stands at the cursor.
    pub(super) fn refuse<T>(&self, fault: Fault) -> Result<T, Refused> {
        Err(Refused::new(fault, self.at))
    }

    /// Steps over `byte`, which must be the next.
    fn expect(&mut self, byte: u8) -> Result<(), Refused> {
        match self.peek() {
            Some(found) if found == byte => {
                self.at += 1;
                Ok(())
            }
            Some(_) => self.refuse(Fault::Unexpected),
            None => self.refuse(Fault::Truncated),
        }
    }

    /// Makes sure that nothing follows.
    pub(super) fn end(&self) -> Result<(), Refused> {
        if self.peek().is_none() { Ok(()) } else { self.refuse(Fault::Trailing) }
    }

    /// Reads a string.
    pub(super) fn string(&mut self) -> Result<Text<'a>, Refused> {
        self.expect(b'"')?;
        let (start, mut escaped) = (self.at, false);
        loop {
            let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
            let Some(plain) = special(rest) else {
                self.at = self.text.len();
                return self.refuse(Fault::Truncated);
            };
            self.at += plain;
            match rest.get(plain) {
                Some(b'"') => break,
                Some(b'\\') => self.escape(rest.get(plain + 1..).unwrap_or_default())?,
                _ => return self.refuse(Fault::ControlCharacter),
            }
            escaped = true;
        }
        let raw = self.between(start, self.at);
        self.at += 1;
        Ok(Text::new(raw, escaped))
    }

    /// Steps over an escape; `tail` is what follows its backslash. RFC 8785 §3.2.2.2 leaves one spelling to each
    /// character: two-character escapes where there is one, `\u00` and two lower-case digits for other controls.
    fn escape(&mut self, tail: &[u8]) -> Result<(), Refused> {
        self.at += match *tail {
            [b'"' | b'\\' | b'b' | b't' | b'n' | b'f' | b'r', ..] => 2,
            [b'u', b'0', b'0', b'0', b'0'..=b'7' | b'b' | b'e' | b'f', ..]
            | [b'u', b'0', b'0', b'1', b'0'..=b'9' | b'a'..=b'f', ..] => 6,
            _ => return self.refuse(Fault::Escape),
        };
        Ok(())
    }

    /// Reads an integer within ±(2^53 − 1).
    pub(super) fn integer(&mut self) -> Result<i64, Refused> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let (negative, rest) = rest.strip_prefix(b"-").map_or((false, rest), |rest| (true, rest));
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        match rest {
            // Neither 007 nor −0 is how RFC 8785 §3.2.2.3 writes a number.
            [b'0', ..] if digits > 1 || negative => return self.refuse(Fault::Number),
            _ if digits == 0 => return self.refuse(Fault::Unexpected),
            _ if matches!(rest.get(digits), Some(b'.' | b'e' | b'E')) => return self.refuse(Fault::Float),
            _ if digits > MAX_DIGITS => return self.refuse(Fault::NumberRange),
            _ => {}
        }
        let value = rest.iter().take(digits).fold(0, |n: i64, digit| n * 10 + i64::from(digit - b'0'));
        if value > MAX_INTEGER {
            return self.refuse(Fault::NumberRange);
        }
        self.at += digits + usize::from(negative);
        Ok(if negative { -value } else { value })
    }

    /// Steps over any value that stands inside nesting level `depth`.
    pub(super) fn value(&mut self, depth: usize) -> Result<(), Refused> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            _ => self.integer().map(drop),
        }
    }

    /// Steps over an object at nesting level `depth`.
    pub(super) fn object(&mut self, depth: usize) -> Result<(), Refused> {
        let mut members = Members::open(self, depth)?;
        while members.next(self)?.is_some() {
            self.value(depth)?;
        }
        Ok(())
    }

    /// Steps over an array at nesting level `depth`.
    fn array(&mut self, depth: usize) -> Result<(), Refused> {
        let mut elements = Elements::open(self, depth)?;
        while elements.next(self)? {
            self.value(depth)?;
        }
        Ok(())
    }

    /// Steps over a literal.
    fn literal(&mut self, word: &str) -> Result<(), Refused> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        if !rest.starts_with(word) {
            return self.refuse(Fault::Unexpected);
        }
        self.at += word.len();
        Ok(())
    }

    /// Steps over an opening bracket of nesting level `depth`.
    fn open(&mut self, bracket: u8, depth: usize) -> Result<(), Refused> {
        if depth > MAX_DEPTH {
            return self.refuse(Fault::TooDeep);
        }
        self.expect(bracket)
    }
}

/// The members of an object: hands out one name after the other and sees to their order, which makes a name that
/// stands twice impossible.
pub(super) struct Members<'a> {
    previous: Option<Text<'a>>,
}

impl<'a> Members<'a> {
    /// Enters the object at the cursor, which stands at nesting level `depth`.
    pub(super) fn open(cursor: &mut Cursor<'a>, depth: usize) -> Result<Self, Refused> {
        cursor.open(b'{', depth)?;
        Ok(Self { previous: None })
    }

    /// The name of the next member, whose value the caller must step over; `None` once the object is closed.
    pub(super) fn next(&mut self, cursor: &mut Cursor<'a>) -> Result<Option<Text<'a>>, Refused> {
        if cursor.peek() == Some(b'}') {
            cursor.at += 1;
            return Ok(None);
        }
        if self.previous.is_some() {
            cursor.expect(b',')?;
        }
        let at = cursor.at;
        let name = cursor.string()?;
        match self.previous.map(|previous| previous.utf16_cmp(name)) {
            Some(Ordering::Equal) => return Err(Refused::new(Fault::DuplicateMember, at)),
            Some(Ordering::Greater) => return Err(Refused::new(Fault::MemberOrder, at)),
            Some(Ordering::Less) | None => {}
        }
        cursor.expect(b':')?;
        self.previous = Some(name);
        Ok(Some(name))
    }
}

/// The elements of an array.
pub(super) struct Elements {
    first: bool,
}

impl Elements {
    /// Enters the array at the cursor, which stands at nesting level `depth`.
    pub(super) fn open(cursor: &mut Cursor<'_>, depth: usize) -> Result<Self, Refused> {
        cursor.open(b'[', depth)?;
        Ok(Self { first: true })
    }

    /// Whether there is another element, at which the cursor then stands; `false` once the array is closed.
    pub(super) fn next(&mut self, cursor: &mut Cursor<'_>) -> Result<bool, Refused> {
        if cursor.peek() == Some(b']') {
            cursor.at += 1;
            return Ok(false);
        }
        if !self.first {
            // If the bracket follows the comma, reading the value refuses it.
            cursor.expect(b',')?;
        }
        self.first = false;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::special;

    #[test]
    fn eight_bytes_at_once_find_what_one_by_one_find() {
        for fill in [b'a', 0x20, 0x21, b'#', b'[', b']', 0x7f, 0x80, 0xff] {
            for (length, at, byte) in
                (0..20).flat_map(|n| (0..n).flat_map(move |at| (0..=255).map(move |b| (n, at, b))))
            {
                let mut bytes = vec![fill; length];
                bytes[at] = byte;
                let expected = bytes.iter().position(|byte| matches!(byte, 0..=0x1f | b'"' | b'\\'));
                assert_eq!(special(&bytes), expected, "{bytes:?}");
                // A second hit above the first must not be taken for it.
                bytes[length - 1] = b'"';
                let expected = bytes.iter().position(|byte| matches!(byte, 0..=0x1f | b'"' | b'\\'));
                assert_eq!(special(&bytes), expected, "{bytes:?}");
            }
        }
        assert_eq!(special(b""), None);
    }
}
