//! Signed notes (c2sp.org/signed-note): a text that ends in a newline, an empty line, and a line for each signature.
//!
//! ```text
//! text …
//!
//! — <name of the key> <base64 of 4 bytes of the key's id and the 64 bytes of the signature>
//! ```

use base64ct::{Base64, Encoding as _};
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::passport::hex;

/// The longest note, in bytes: a checkpoint that counts for every key there can be.
pub const MAX_NOTE: usize = 1 << 20;

/// The most signatures of a note.
pub const MAX_SIGNATURES: usize = 16;

/// What a line of a signature begins with: an em dash and a space.
const DASH: &str = "\u{2014} ";

/// The type of Ed25519 keys in ids and vkeys.
const ED25519: u8 = 1;

/// Why a text is no note, or a note is not believed. Its writer is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not of the form.
    #[error("not a signed note: {0}")]
    Form(&'static str),
    /// Nobody whose key is known has signed it.
    #[error("no signature of a key that was given; it is signed by {0}")]
    Unknown(String),
    /// A signature of a known key does not fit.
    #[error("the signature of {0} does not fit: the note was altered, or is forged")]
    Signature(String),
    /// Not a key.
    #[error("not a verifier key (`<name>+<8 hex digits>+<base64>`): {0}")]
    Key(&'static str),
}

/// A public key and its name, as auditors are given it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    /// Its name: the kid.
    pub name: String,
    /// The raw Ed25519 public key.
    pub public: [u8; 32],
}

impl VerifierKey {
    /// The first four bytes of SHA-256(name, newline, type, key).
    pub fn id(&self) -> [u8; 4] {
        let hash = Sha256::new().chain_update(&self.name).chain_update([b'\n', ED25519]).chain_update(self.public);
        let [a, b, c, d, ..] = <[u8; 32]>::from(hash.finalize());
        [a, b, c, d]
    }

    /// The text that [`VerifierKey::parse`] reads: `<name>+<id>+<base64 of type and key>`.
    pub fn vkey(&self) -> String {
        let typed: Vec<u8> = [ED25519].into_iter().chain(self.public).collect();
        format!("{}+{}+{}", self.name, hex::encode(&self.id()), Base64::encode_string(&typed))
    }

    /// Reads a vkey.
    ///
    /// # Errors
    /// [`NoteError::Key`].
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(typed)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key("it has not three parts"));
        };
        if !is_name(name) {
            return Err(NoteError::Key("the name is empty, or has a space or a +"));
        }
        let typed = Base64::decode_vec(typed).map_err(|_| NoteError::Key("the last part is not base64"))?;
        let Some((&ED25519, public)) = typed.split_first() else {
            return Err(NoteError::Key("it is not an Ed25519 key"));
        };
        let public = public.try_into().map_err(|_| NoteError::Key("the key has not 32 bytes"))?;
        let key = Self { name: name.to_owned(), public };
        if hex::encode(&key.id()) != id {
            return Err(NoteError::Key("its id is not that of the key: it was copied badly"));
        }
        Ok(key)
    }

    /// The keys of a file: one a line; empty lines and those that begin with `#` are passed over.
    ///
    /// # Errors
    /// [`NoteError::Key`].
    pub fn parse_all(text: &str) -> Result<Vec<Self>, NoteError> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(Self::parse).collect()
    }

    /// Whether this key signed `message`, as `verify_strict` has it.
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let key = VerifyingKey::from_bytes(&self.public);
        key.is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+')
}

/// One line beneath the text.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Signed {
    name: String,
    id: [u8; 4],
    signature: Vec<u8>,
}

/// A text and its signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signed>,
}

impl Note {
    /// A text, which ends in a newline, signed by one key.
    pub fn signed(text: String, key: &VerifierKey, signature: &[u8; 64]) -> Self {
        let signed = Signed { name: key.name.clone(), id: key.id(), signature: signature.to_vec() };
        Self { text, signatures: vec![signed] }
    }

    /// What is signed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Reads a note.
    ///
    /// # Errors
    /// [`NoteError::Form`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > MAX_NOTE {
            return Err(NoteError::Form("it is too long"));
        }
        let note = std::str::from_utf8(bytes).map_err(|_| NoteError::Form("it is not UTF-8"))?;
        if note.contains(|c: char| c.is_control() && c != '\n') {
            return Err(NoteError::Form("it has control characters"));
        }
        // The last empty line: a text may have others.
        let cut = note.rfind("\n\n").ok_or(NoteError::Form("it has no empty line before its signatures"))?;
        let (text, rest) = note.split_at_checked(cut + 1).ok_or(NoteError::Form("it has no text"))?;
        let lines = rest.strip_prefix('\n').and_then(|lines| lines.strip_suffix('\n'));
        let lines = lines.ok_or(NoteError::Form("it does not end in a newline"))?;
        let signatures = lines.split('\n').map(signature).collect::<Option<Vec<_>>>();
        let signatures = signatures.ok_or(NoteError::Form("a line beneath it is no signature"))?;
        if signatures.len() > MAX_SIGNATURES {
            return Err(NoteError::Form("it has too many signatures"));
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// All notes of a file in which one stands after the other.
    ///
    /// # Errors
    /// [`NoteError::Form`].
    pub fn parse_all(bytes: &[u8]) -> Result<Vec<Self>, NoteError> {
        let mut notes = Vec::new();
        let text = std::str::from_utf8(bytes).map_err(|_| NoteError::Form("it is not UTF-8"))?;
        let (mut own, mut signed) = (String::new(), false);
        for line in text.split_inclusive('\n') {
            let signature = line.starts_with(DASH);
            if signed && !signature {
                notes.push(Self::parse(own.as_bytes())?);
                own.clear();
            }
            signed = signature;
            own.push_str(line);
        }
        if !own.is_empty() {
            notes.push(Self::parse(own.as_bytes())?);
        }
        Ok(notes)
    }

    /// The name of the first of `keys` that signed it. Signatures of others are passed over; one of a known key that does not
    /// fit is a forgery, whoever else signed.
    ///
    /// # Errors
    /// [`NoteError::Unknown`], [`NoteError::Signature`].
    pub fn verify<'k>(&self, keys: &'k [VerifierKey]) -> Result<&'k VerifierKey, NoteError> {
        let mut by = None;
        for signed in &self.signatures {
            let Some(key) = keys.iter().find(|key| key.name == signed.name && key.id() == signed.id) else { continue };
            let fits = |bytes: &[u8; 64]| key.verifies(self.text.as_bytes(), bytes);
            if !<&[u8; 64]>::try_from(&signed.signature[..]).is_ok_and(fits) {
                return Err(NoteError::Signature(key.name.clone()));
            }
            by = by.or(Some(key));
        }
        let names = || self.signatures.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ");
        by.ok_or_else(|| NoteError::Unknown(names()))
    }
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.text)?;
        for Signed { name, id, signature } in &self.signatures {
            let bytes: Vec<u8> = id.iter().chain(signature).copied().collect();
            writeln!(f, "{DASH}{name} {}", Base64::encode_string(&bytes))?;
        }
        Ok(())
    }
}

fn signature(line: &str) -> Option<Signed> {
    let (name, encoded) = line.strip_prefix(DASH)?.split_once(' ')?;
    let bytes = Base64::decode_vec(encoded).ok().filter(|_| is_name(name))?;
    let (id, signature) = bytes.split_first_chunk::<4>()?;
    Some(Signed { name: name.to_owned(), id: *id, signature: signature.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer as _, SigningKey};

    fn key(seed: u8, name: &str) -> (SigningKey, VerifierKey) {
        let signing = SigningKey::from_bytes(&[seed; 32]);
        let public = signing.verifying_key().to_bytes();
        (signing, VerifierKey { name: name.to_owned(), public })
    }

    fn note(text: &str, (signing, key): &(SigningKey, VerifierKey)) -> Note {
        Note::signed(text.to_owned(), key, &signing.sign(text.as_bytes()).to_bytes())
    }

    /// The key of golang.org/x/mod/sumdb/note's own example, which every implementation of signed notes knows.
    #[test]
    fn a_published_key_and_its_note_are_read() {
        let known = VerifierKey::parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").unwrap();
        assert_eq!(known.vkey(), "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW");
        let text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\
                    \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        let read = Note::parse(text.as_bytes()).unwrap();
        assert_eq!(read.verify(std::slice::from_ref(&known)).unwrap(), &known);
        assert_eq!(read.to_string(), text);
    }

    #[test]
    fn what_was_altered_is_not_believed() {
        let (ours, other) = (key(1, "ed25519/t1/audit/v1"), key(2, "ed25519/t1/audit/v2"));
        let signed = note("a\nb\n", &ours);
        assert_eq!(signed.verify(&[other.1.clone(), ours.1.clone()]).unwrap(), &ours.1);
        assert_eq!(signed.verify(std::slice::from_ref(&other.1)), Err(NoteError::Unknown(ours.1.name.clone())));
        let forged = Note::parse(signed.to_string().replace("b\n", "c\n").as_bytes()).unwrap();
        assert_eq!(forged.verify(std::slice::from_ref(&ours.1)), Err(NoteError::Signature(ours.1.name.clone())));
        let foreign = VerifierKey { name: ours.1.name.clone(), public: other.1.public };
        assert!(matches!(signed.verify(&[foreign]), Err(NoteError::Unknown(_))), "the id is of name and key");
    }

    #[test]
    fn notes_stand_one_after_the_other() {
        let ours = key(1, "k");
        let all = [note("a\n\nb\n", &ours), note("c\n", &ours)];
        let file = format!("{}{}", all[0], all[1]);
        assert_eq!(Note::parse_all(file.as_bytes()).unwrap(), all);
        assert_eq!(Note::parse_all(b"").unwrap(), []);
        assert!(Note::parse_all(&file.as_bytes()[..file.len() - 1]).is_err(), "torn");
    }

    #[test]
    fn what_is_no_note_is_refused() {
        let whole = note("a\n", &key(1, "k")).to_string();
        for bad in [
            "",
            "a\n",
            "a\n\n",
            "a\n\nb\n",
            "a\n\n\u{2014} k\n",
            "a\n\n\u{2014} k !!\n",
            "\u{1}\n\n\u{2014} k AAAAAA==\n",
        ] {
            assert!(matches!(Note::parse(bad.as_bytes()), Err(NoteError::Form(_))), "{bad:?}");
        }
        assert!(Note::parse(whole.trim_end().as_bytes()).is_err());
        let line = whole.lines().last().unwrap();
        let many = format!("a\n\n{}", format!("{line}\n").repeat(MAX_SIGNATURES + 1));
        assert_eq!(Note::parse(many.as_bytes()), Err(NoteError::Form("it has too many signatures")));
        assert!(Note::parse(&many.as_bytes()[..many.len() - line.len() - 1]).is_ok());
        assert_eq!(Note::parse(&vec![b'a'; MAX_NOTE + 1]), Err(NoteError::Form("it is too long")));
    }

    #[test]
    fn keys_are_copied_whole_or_not_at_all() {
        let text = key(1, "ed25519/t1/audit/v1").1.vkey();
        assert_eq!(VerifierKey::parse_all(&format!("# ours\n\n{text}\n")).unwrap(), [key(1, "ed25519/t1/audit/v1").1]);
        let (cut, torn) = (text.replacen('e', "", 1), text.replace("/v1+", "/v2+"));
        for bad in [&cut, &torn, "x", "a b+00000000+AA==", "k+00000000+AA=="] {
            assert!(matches!(VerifierKey::parse(bad), Err(NoteError::Key(_))), "{bad}");
        }
    }
}
