//! The text of a checkpoint (c2sp.org/tlog-checkpoint): what the ledger was at one moment, in few enough bytes to be kept
//! elsewhere.
//!
//! ```text
//! passportd/checkpoint/v1/<issuer>
//! <records>
//! <root of the Merkle tree over them, base64>
//! head <hash of the newest record, hex>
//! time <seconds since 1970, by the signer's clock>
//! signatures <kid> <signed> <recorded>
//! ```
//!
//! The last line stands once for each passport key, in the order of the kids: how often the signer, by its own count, has
//! signed with it, and of how many signatures the ledger has a record. The signer is another process than the one that writes
//! the ledger: whoever takes over the latter can't issue unseen.

use std::fmt::Write as _;

use base64ct::{Base64, Encoding as _};

use super::merkle::Hash;
use crate::passport::{KidRef, MAX_KEYS, hex};

/// What every origin begins with.
pub const ORIGIN: &str = "passportd/checkpoint/v1/";

/// Why a text is no checkpoint. Its writer is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a checkpoint of passportd: {0}")]
pub struct CheckpointError(&'static str);

/// The signatures of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The key.
    pub kid: String,
    /// Signatures, by the signer's count.
    pub signed: u64,
    /// Signatures that the ledger accounts for, by the front's count.
    pub recorded: u64,
}

/// What a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose ledger: [`origin`] of the issuer.
    pub origin: String,
    /// How many records; the newest has this sequence number.
    pub size: u64,
    /// The root of the Merkle tree over them.
    pub root: Hash,
    /// The newest record's own hash.
    pub head: Hash,
    /// When it was signed, in seconds since 1970, by the signer's clock.
    pub time: i64,
    /// For each passport key, sorted by kid.
    pub counts: Vec<Counted>,
}

/// The origin of an issuer's checkpoints: one line, without spaces.
pub fn origin(issuer: &str) -> String {
    let mut origin = ORIGIN.to_owned();
    for byte in issuer.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'/' => {
                origin.push(byte.into());
            }
            _ => write!(origin, "%{byte:02X}").unwrap_or_default(),
        }
    }
    origin
}

impl Checkpoint {
    /// The text, which is signed.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n{}\n{}\n", self.origin, self.size, Base64::encode_string(&self.root));
        text.push_str(&format!("head {}\ntime {}\n", hex::encode(&self.head), self.time));
        for Counted { kid, signed, recorded } in &self.counts {
            text.push_str(&format!("signatures {kid} {signed} {recorded}\n"));
        }
        text
    }

    /// Reads what [`Checkpoint::text`] wrote, and nothing else: a text has one reading.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.lines();
        let mut next = |what| lines.next().ok_or(CheckpointError(what));
        let origin = next("it is empty")?;
        if !origin.starts_with(ORIGIN) {
            return Err(CheckpointError("its first line names another kind of log"));
        }
        let size = number(next("it has no size")?).ok_or(CheckpointError("its size is no number"))?;
        let root = Base64::decode_vec(next("it has no root")?).ok().and_then(|root| root.try_into().ok());
        let root = root.ok_or(CheckpointError("its root is no SHA-256 value"))?;
        let head = next("it has no head")?.strip_prefix("head ").and_then(hex::decode_exactly);
        let head = head.ok_or(CheckpointError("its head is no SHA-256 value"))?;
        let time = next("it has no time")?.strip_prefix("time ").and_then(number);
        let time = time.and_then(|time| i64::try_from(time).ok()).ok_or(CheckpointError("its time is no number"))?;
        let counts = lines.map(counted).collect::<Option<Vec<_>>>();
        let counts = counts.ok_or(CheckpointError("a line of it is not understood"))?;
        let checkpoint = Self { origin: origin.to_owned(), size, root, head, time, counts };
        match checkpoint.text() == text && checkpoint.is_ordered() {
            true => Ok(checkpoint),
            false => Err(CheckpointError("it is not spelt as passportd spells it")),
        }
    }

    /// Whether no key is counted twice, and no more keys are than there can be.
    pub fn is_ordered(&self) -> bool {
        self.counts.len() <= MAX_KEYS && self.counts.is_sorted_by(|one, next| one.kid < next.kid)
    }

    /// What was counted for a key.
    pub fn counted(&self, kid: &str) -> Option<&Counted> {
        self.counts.iter().find(|one| one.kid == kid)
    }
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

fn counted(line: &str) -> Option<Counted> {
    let mut words = line.strip_prefix("signatures ")?.split(' ');
    let (kid, signed, recorded) = (words.next()?, words.next()?, words.next()?);
    KidRef::parse(kid).ok()?;
    let counted = Counted { kid: kid.to_owned(), signed: number(signed)?, recorded: number(recorded)? };
    words.next().is_none().then_some(counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        let counted = |kid: &str| Counted { kid: kid.to_owned(), signed: 7, recorded: 8 };
        Checkpoint {
            origin: origin("https://issuer.example/a b+é"),
            size: 42,
            root: [1; 32],
            head: [2; 32],
            time: 1_800_000_000,
            counts: vec![counted("ed25519/t1/auth/v1"), counted("ed25519/t1/auth/v2")],
        }
    }

    #[test]
    fn a_text_has_one_reading() {
        let text = checkpoint().text();
        assert!(text.starts_with("passportd/checkpoint/v1/https://issuer.example/a%20b%2B%C3%A9\n42\nAQEB"), "{text}");
        assert_eq!(Checkpoint::parse(&text).unwrap(), checkpoint());
        let without = Checkpoint { counts: Vec::new(), ..checkpoint() };
        assert_eq!(Checkpoint::parse(&without.text()).unwrap(), without);
        for (from, to) in [
            ("passportd/checkpoint/v1/", "passportd/transcript/v1/"),
            ("\n42\n", "\n042\n"),
            ("\n42\n", "\n-1\n"),
            ("head ", "head  "),
            ("time 18", "time +18"),
            ("AQEB", "AQE"),
            (" 7 8\n", " 7\n"),
            (" 7 8\n", " 7 8 9\n"),
            ("/v2 7", "/v1 7"),
            ("ed25519/t1/auth/v1", "t1"),
            ("signatures", "witnessed"),
            ("8\n", "8\r\n"),
        ] {
            let altered = text.replacen(from, to, 1);
            assert_ne!(altered, text, "{from}");
            assert!(Checkpoint::parse(&altered).is_err(), "{altered}");
        }
        assert!(Checkpoint::parse(text.trim_end()).is_err());
        assert!(Checkpoint::parse("").is_err());
    }

    #[test]
    fn keys_are_counted_once_and_in_order() {
        let mut turned = checkpoint();
        turned.counts.reverse();
        assert!(Checkpoint::parse(&turned.text()).is_err());
    }
}
