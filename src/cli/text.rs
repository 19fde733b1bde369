//! Small conversions between values and what people read or type.

use serde_json::Value;

use crate::passport::hex;

/// 32 bytes from 64 hexadecimal digits: how an ETag is written. People may type upper case.
pub(super) fn etag(text: &str) -> Result<[u8; 32], String> {
    hex::decode_exactly(&text.to_ascii_lowercase())
        .ok_or_else(|| "expected 64 hexadecimal digits: BLAKE3 of the key set".to_owned())
}

/// Seconds since 1970 as RFC 3339, beside the number.
pub(super) fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |at| format!("{at} ({seconds})"))
}

/// A JSON value in a cell: strings without quotes, lists of plain values joined, control characters escaped.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => plain(text),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            items.iter().map(cell).collect::<Vec<_>>().join(", ")
        }
        other => plain(&other.to_string()),
    }
}

/// Whether a character does something on a screen instead of being seen: controls (C0, DEL and C1, which terminals
/// obey), and what is invisible or turns the direction of its neighbours (UTR #36 §2.10), so that one text looks like
/// another.
fn is_unseen(c: char) -> bool {
    let formats = ['\u{ad}', '\u{61c}', '\u{180e}', '\u{feff}'];
    c.is_control()
        || formats.contains(&c)
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
}

/// Text that can neither move the cursor nor hide.
pub(super) fn plain(text: &str) -> String {
    if !text.chars().any(is_unseen) {
        return text.to_owned();
    }
    text.chars().map(|c| if is_unseen(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// A JSON text with the same meaning and nothing unseen. What JSON lets stand unescaped stands in strings alone, and all
/// of it is in the basic plane, so that `\u` and four digits say it (RFC 8259 §7).
pub(super) fn escaped(json: &str) -> String {
    if !json.chars().any(|c| c != '\n' && is_unseen(c)) {
        return json.to_owned();
    }
    let escape = |c: char| match c {
        '\n' => c.to_string(),
        c if is_unseen(c) => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    json.chars().map(escape).collect()
}

/// The leaves of a JSON document as `a.b.c` and value, in the order of the keys. Lists of objects are numbered.
pub(super) fn leaves(value: &Value) -> Vec<(String, String)> {
    let mut out = Vec::new();
    walk(value, "", 0, &mut out);
    out
}

/// Beyond this depth a value is shown as JSON text.
const MAX_LEVELS: usize = 8;

fn walk(value: &Value, path: &str, level: usize, out: &mut Vec<(String, String)>) {
    let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(members) if level < MAX_LEVELS && !members.is_empty() => {
            for (key, member) in members {
                walk(member, &join(&plain(key)), level + 1, out);
            }
        }
        Value::Array(items) if level < MAX_LEVELS && items.iter().any(|item| item.is_object() || item.is_array()) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, &join(&index.to_string()), level + 1, out);
            }
        }
        other => out.push((path.to_owned(), cell(other))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_etag_is_64_hex_digits() {
        let text = "00ff".repeat(16);
        assert_eq!(hex::encode(&etag(&text).unwrap()), text);
        assert_eq!(etag(&text.to_uppercase()).unwrap(), etag(&text).unwrap());
        for bad in ["", "00", &"0g".repeat(32), &"+1".repeat(32), &"é".repeat(32), &format!("{text}0")] {
            assert!(etag(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_from_outside_moves_the_cursor() {
        assert_eq!(plain("a\u{1b}[2J\nb"), "a\\u{1b}[2J\\nb");
        assert_eq!(cell(&json!("x\u{9b}31m")), "x\\u{9b}31m");
        assert_eq!(cell(&json!({"k": "\u{7}"})), r#"{"k":"\u0007"}"#);
        assert_eq!(plain("user\u{202e}nimda"), "user\\u{202e}nimda");
        let value = json!({"k\u{9b}": "\u{7f}é\u{202e}\u{feff}", "l": ["\n"]});
        let text = escaped(&serde_json::to_string_pretty(&value).unwrap());
        assert!(text.contains(r#""k\u009b": "\u007fé\u202e\ufeff""#) && text.contains("\n  \"l\""), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }

    #[test]
    fn leaves_keep_the_order_and_number_lists_of_objects() {
        let value = json!({"a": {"b": 1, "c": ["x", "y"]}, "d": [{"e": null}, {"e": true}], "f": {}});
        let leaves: Vec<_> = leaves(&value).into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(leaves, ["a.b=1", "a.c=x, y", "d.0.e=-", "d.1.e=true", "f={}"]);
    }

    #[test]
    fn times_are_readable_and_exact() {
        assert_eq!(time(1_700_000_000), "2023-11-14T22:13:20Z (1700000000)");
        assert_eq!(time(i64::MAX), i64::MAX.to_string());
    }
}
