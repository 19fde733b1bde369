//! Writing canonical JSON (RFC 8785): strings with the fewest escapes, members in UTF-16 order, integers only.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::bounds::{MAX_DEPTH, MAX_INTEGER};

/// Why a JSON value has no canonical form here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwritable {
    /// A number that is not an integer within ±(2^53 − 1).
    Number,
    /// Nested deeper than [`MAX_DEPTH`].
    TooDeep,
}

/// Where `c` stands in the order of RFC 8785 §3.2.3, which compares UTF-16 code units. It differs from the order of
/// code points only in that the surrogates of U+10000 and above (D800 to DFFF) come before U+E000 to U+FFFF.
pub(super) fn utf16_rank(c: char) -> u32 {
    match u32::from(c) {
        high @ 0xe000..=0xffff => high + 0x11_0000,
        other => other,
    }
}

/// Appends `text` as a JSON string, escaped as RFC 8785 §3.2.2.2 demands.
pub(super) fn string(out: &mut String, text: &str) {
    out.push('"');
    if text.bytes().any(|byte| matches!(byte, 0..=0x1f | b'"' | b'\\')) {
        escaped(out, text);
    } else {
        out.push_str(text);
    }
    out.push('"');
}

/// Appends `text` with its escapes.
fn escaped(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            control @ '\0'..='\u{1f}' => {
                // Writing to a String can't fail.
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            plain => out.push(plain),
        }
    }
}

/// Appends an integer.
pub(super) fn integer(out: &mut String, number: i64) {
    // Writing to a String can't fail.
    let _ = write!(out, "{number}");
}

/// Appends an array of strings.
pub(super) fn strings(out: &mut String, texts: &[String]) {
    out.push('[');
    for (index, text) in texts.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        string(out, text);
    }
    out.push(']');
}

/// Appends an object that stands at nesting level `depth`, with its members sorted.
pub(super) fn object(out: &mut String, members: &Map<String, Value>, depth: usize) -> Result<(), Unwritable> {
    if depth > MAX_DEPTH {
        return Err(Unwritable::TooDeep);
    }
    let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
    sorted.sort_unstable_by(|(a, _), (b, _)| a.chars().map(utf16_rank).cmp(b.chars().map(utf16_rank)));
    out.push('{');
    for (index, (key, value)) in sorted.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        string(out, key);
        out.push(':');
        self::value(out, value, depth)?;
    }
    out.push('}');
    Ok(())
}

/// Appends a value that stands inside nesting level `depth`.
fn value(out: &mut String, value: &Value, depth: usize) -> Result<(), Unwritable> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => {
            let number = number
                .as_i64()
                .filter(|number| number.unsigned_abs() <= MAX_INTEGER.unsigned_abs())
                .ok_or(Unwritable::Number)?;
            integer(out, number);
        }
        Value::String(text) => string(out, text),
        Value::Array(items) => array(out, items, depth + 1)?,
        Value::Object(members) => object(out, members, depth + 1)?,
    }
    Ok(())
}

/// Appends an array that stands at nesting level `depth`.
fn array(out: &mut String, items: &[Value], depth: usize) -> Result<(), Unwritable> {
    if depth > MAX_DEPTH {
        return Err(Unwritable::TooDeep);
    }
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        value(out, item, depth)?;
    }
    out.push(']');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(json: &str) -> Result<String, Unwritable> {
        let Value::Object(members) = serde_json::from_str(json).unwrap() else { panic!("not an object: {json}") };
        let mut out = String::new();
        object(&mut out, &members, 1).map(|()| out)
    }

    #[test]
    fn the_order_is_that_of_utf16_units() {
        // U+FF01 sorts after U+1F602, whose first unit is D83D (RFC 8785 §3.2.3).
        assert_eq!(written(r#"{"！":1,"😂":2,"ö":3,"1":4}"#).unwrap(), r#"{"1":4,"ö":3,"😂":2,"！":1}"#);
        for (a, b) in [('\u{ffff}', '\u{10000}'), ('\u{d7ff}', '\u{e000}'), ('a', '€'), ('\u{10000}', '\u{10ffff}')] {
            let units = |c: char| c.to_string().encode_utf16().collect::<Vec<_>>();
            assert_eq!(utf16_rank(a).cmp(&utf16_rank(b)), units(a).cmp(&units(b)), "{a:?} {b:?}");
        }
    }

    #[test]
    fn escapes_are_the_shortest() {
        let mut out = String::new();
        string(&mut out, "\0\u{8}\t\n\u{b}\u{c}\r\u{1f}\"\\/\u{7f}\u{2028}é");
        assert_eq!(out, "\"\\u0000\\b\\t\\n\\u000b\\f\\r\\u001f\\\"\\\\/\u{7f}\u{2028}é\"");
    }

    #[test]
    fn numbers_are_integers_that_doubles_hold() {
        assert_eq!(written(r#"{"n":9007199254740991}"#).unwrap(), r#"{"n":9007199254740991}"#);
        assert_eq!(written(r#"{"n":-9007199254740991}"#).unwrap(), r#"{"n":-9007199254740991}"#);
        for bad in [r#"{"n":9007199254740992}"#, r#"{"n":[1.5]}"#, r#"{"n":1e3}"#, r#"{"n":18446744073709551615}"#] {
            assert_eq!(written(bad), Err(Unwritable::Number), "{bad}");
        }
        assert_eq!(written(r#"{"n":-9223372036854775808}"#), Err(Unwritable::Number));
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(written(&nested(MAX_DEPTH - 1)).is_ok());
        assert_eq!(written(&nested(MAX_DEPTH)), Err(Unwritable::TooDeep));
    }
}
