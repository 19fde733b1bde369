//! A record as a reader sees it: borrowed from its line, and checked against its own hash.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, Error as _, Visitor};
use serde::{Deserialize, Serialize};

use crate::audit::record;
use crate::log::Hash;

/// A text of a record; borrowed unless it has escapes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text<'a>(Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Reader)
    }
}

/// 64 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(pub Hash);

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?;
        digest(text.as_bytes()).map(Self).ok_or_else(|| D::Error::custom("not a SHA-256 value"))
    }
}

/// A hash of 64 lower-case hex digits, without a detour through the heap: there are two in each record.
fn digest(text: &[u8]) -> Option<Hash> {
    let nibble = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_chunks::<2>();
    let mut hash = [0; 32];
    if !rest.is_empty() || pairs.len() != hash.len() {
        return None;
    }
    for (out, [high, low]) in hash.iter_mut().zip(pairs) {
        *out = (nibble(*high)? << 4) | nibble(*low)?;
    }
    Some(hash)
}

/// A torn segment that a break record names.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TornPart<'a> {
    /// How many bytes were found behind the good ones.
    pub bytes: u64,
    /// How many are good.
    pub offset: u64,
    /// The segment's name.
    #[serde(borrow)]
    pub segment: Cow<'a, str>,
}

/// The members of a record (docs/AUDIT.md). One that is not known here is passed over.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "docs/AUDIT.md says what each member means")]
pub struct Record<'a> {
    #[serde(borrow)]
    pub action: Option<Text<'a>>,
    #[serde(borrow)]
    pub aud: Option<Text<'a>>,
    #[serde(borrow)]
    pub corr_id: Option<Text<'a>>,
    pub count: Option<u64>,
    #[serde(borrow)]
    pub detail: Option<Text<'a>>,
    #[serde(borrow)]
    pub event: Text<'a>,
    pub exp: Option<i64>,
    pub gid: Option<u32>,
    pub hash: Digest,
    #[serde(borrow)]
    pub jti: Option<Text<'a>>,
    #[serde(borrow)]
    pub kid: Option<Text<'a>>,
    #[serde(borrow)]
    pub listener: Option<Text<'a>>,
    #[serde(borrow)]
    pub outcome: Text<'a>,
    pub pid: Option<i32>,
    pub prev: Digest,
    #[serde(borrow)]
    pub reason: Option<Text<'a>>,
    pub refused: Option<u64>,
    pub seq: u64,
    #[serde(borrow)]
    pub sub: Option<Text<'a>>,
    #[serde(borrow)]
    pub template: Option<Text<'a>>,
    #[serde(borrow)]
    pub time: Text<'a>,
    #[serde(default, borrow)]
    pub torn: Vec<TornPart<'a>>,
    pub uid: Option<u32>,
}

impl<'a> Record<'a> {
    /// Reads a line without its newline, whatever its hash says.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn look(line: &'a [u8]) -> Result<Self, String> {
        serde_json::from_slice(line).map_err(|error| error.to_string())
    }

    /// Reads a line without its newline and checks it against its own hash.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(line: &'a [u8]) -> Result<Self, String> {
        let hash = record::hash_of(line)?;
        let found = Self::look(line)?;
        if found.hash.0 != hash {
            return Err("it has more than one hash".to_owned());
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_as_it_is_written() {
        let hash: Hash = std::array::from_fn(|at| u8::try_from(at * 7).unwrap());
        let text = crate::passport::hex::encode(&hash);
        assert_eq!(digest(text.as_bytes()), Some(hash));
        for bad in [&text.replacen('0', "", 1), &text.to_uppercase(), &format!("{text}00"), &text.replacen('0', "g", 1)]
        {
            assert_eq!(digest(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn texts_are_borrowed_unless_they_are_escaped() {
        let hash = "0".repeat(64);
        let line = format!(
            r#"{{"event":"e","hash":"{hash}","later":[{{"a":1}}],"outcome":"ok","prev":"{hash}","seq":7,"sub":"a\nb","time":"t","uid":3}}"#
        );
        let record = Record::look(line.as_bytes()).unwrap();
        assert!(
            matches!(record.event.0, Cow::Borrowed("e")) && matches!(record.sub.as_ref().unwrap().0, Cow::Owned(_))
        );
        assert_eq!((record.seq, record.uid, record.sub.as_deref()), (7, Some(3), Some("a\nb")));
        assert!(Record::read(line.as_bytes()).is_err());
        let twice = line.replace("\"seq\":7", "\"seq\":7,\"seq\":8");
        assert!(Record::look(twice.as_bytes()).unwrap_err().contains("duplicate"), "{twice}");
    }
}
