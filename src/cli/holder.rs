//! The Ed25519 key of somebody who holds a passport, out of a file, and the proofs that it signs.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use base64ct::{Base64, Encoding as _};
use ed25519_dalek::{Signer as _, SigningKey};
use zeroize::Zeroizing;

use super::error::CliError;
use crate::clock::Moment;
use crate::passport::proof::{ProofClaims, Purpose, with_signature};
use crate::passport::thumbprint;

/// The largest file, in bytes: such a key has 119, with room for comments before it.
const MAX_KEY_FILE: u64 = 4096;
const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";
/// What stands before the 32 bytes of the key in PKCS#8 without a public key (RFC 8410 §7).
const PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// PKCS#8 as it is, in bytes.
const LENGTH: usize = PKCS8.len() + 32;

/// Who holds a passport.
pub(super) struct Holder(SigningKey);

impl Holder {
    /// Reads a key that nobody else can read.
    pub(super) fn read(path: &Path) -> Result<Self, CliError> {
        let text = read_private(path)?;
        let what = "no Ed25519 key in PEM; make one by: openssl genpkey -algorithm ed25519";
        let key = seed(&text).map(|seed| Self(SigningKey::from_bytes(&seed)));
        key.ok_or_else(|| CliError::input(&path.display().to_string(), what))
    }

    fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// What passports of theirs name.
    pub(super) fn thumbprint(&self) -> String {
        thumbprint(&self.public())
    }

    /// A `passport-pop+jwt` for one operation at the peer that goes by `aud`.
    pub(super) fn proof(
        &self,
        ath: [u8; 32],
        aud: &str,
        op: &str,
        nonce: &str,
        now: Moment,
    ) -> Result<String, CliError> {
        let purpose = Purpose::Operation { aud: aud.to_owned(), op: op.to_owned(), nonce: nonce.to_owned() };
        let jti = uuid::Uuid::now_v7().to_string();
        let input = ProofClaims { jti, iat: now.unix(), ath, purpose }.signing_input(&self.public());
        let input = input.map_err(|why| CliError::Usage(format!("there is no such proof: {why}")))?;
        Ok(with_signature(&input, &self.0.sign(input.as_bytes()).to_bytes()))
    }
}

/// A file of a key, which nobody else can read.
pub(super) fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let unreadable = |why| CliError::File { path: path.to_owned(), why };
    let name = path.display().to_string();
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(CliError::input(
            &name,
            format!("has mode {mode:04o}, so others may use it; run: chmod 0600 {name}"),
        ));
    }
    let mut text = Zeroizing::new(Vec::with_capacity(usize::try_from(MAX_KEY_FILE).unwrap_or(0) + 1));
    file.take(MAX_KEY_FILE + 1).read_to_end(&mut text).map_err(unreadable)?;
    Ok(text)
}

/// A key as PKCS#8 in PEM, as [`seed`] reads it.
pub(super) fn pem(seed: &[u8; 32]) -> Zeroizing<String> {
    let der = Zeroizing::new([&PKCS8[..], seed].concat());
    let body = Zeroizing::new(Base64::encode_string(&der));
    Zeroizing::new(format!("{BEGIN}\n{}\n{END}\n", *body))
}

/// The 32 bytes of the key.
pub(super) fn seed(pem: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let text = std::str::from_utf8(pem).ok()?;
    let (_, rest) = text.split_once(BEGIN)?;
    let (body, _) = rest.split_once(END)?;
    let mut der = Zeroizing::new([0; LENGTH]);
    let decoded = Base64::decode(body.trim(), &mut *der).ok().filter(|decoded| decoded.len() == LENGTH)?;
    let seed = decoded.strip_prefix(&PKCS8)?;
    Some(Zeroizing::new(seed.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::passport::Proof;
    use crate::passport::proof::{Expected, ProofExpect};
    use crate::verify::possession;

    /// RFC 8410 §10.3, and the public key of it in §10.1.
    const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
    const PUBLIC: &str = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn the_published_key_is_read_and_proves_itself() {
        let (_dir, path) = file(PEM, 0o600);
        let holder = Holder::read(&path).unwrap();
        assert_eq!(crate::passport::hex::encode(&holder.public()), PUBLIC);
        let now = Moment::from_unix(1_700_000_000);
        let text = holder.proof([7; 32], "demo", "verify", "n", now).unwrap();
        let jkt = holder.thumbprint();
        let purpose = Expected::Operation { audiences: &["demo"], op: "verify", nonce: "n" };
        let expect = ProofExpect { now, window_s: 60, skew_s: 0, jkt: &jkt, ath: [7; 32], purpose };
        assert!(possession(&text, &expect).is_ok());
        let again = holder.proof([7; 32], "demo", "verify", "n", now).unwrap();
        let key = |text: &str| Proof::open(text).unwrap().replay_key();
        assert_ne!(key(&text), key(&again), "each proof is another");
    }

    #[test]
    fn what_others_may_read_and_what_is_no_key_is_refused() {
        for mode in [0o640, 0o604, 0o660] {
            let (_dir, path) = file(PEM, mode);
            let error = Holder::read(&path).err().unwrap().to_string();
            assert!(error.contains("chmod 0600"), "{error}");
        }
        let other = PEM.replace("MC4CAQAwBQYDK2Vw", "MC4CAQAwBQYDK2Vu");
        let (short, long) = (PEM.replace("hC\n", "\n"), PEM.replace("hC\n", "hCAAAA\n"));
        for text in ["", "key", &other, &short, &long, &PEM.replace("PRIVATE", "PUBLIC"), &"x".repeat(5000)] {
            let (_dir, path) = file(text, 0o600);
            let error = Holder::read(&path).err().unwrap().to_string();
            assert!(error.contains("openssl genpkey") && !error.contains("MC4C"), "{error}");
        }
        assert!(matches!(Holder::read(Path::new("/no/such/key")), Err(CliError::File { .. })));
    }
}
