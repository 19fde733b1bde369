//! Approvers' keys, and what they sign.

use std::path::Path;

use base64ct::{Base64, Encoding as _};
use chacha20poly1305::aead::{Aead as _, KeyInit as _};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use ed25519_dalek::SigningKey;
use pbkdf2::pbkdf2_hmac;
use serde_json::json;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::super::admin::{Said, say};
use super::super::args::{Approve, Keygen};
use super::super::context::Context;
use super::super::error::{CliError, Exit};
use super::super::holder::{pem, read_private, seed};
use super::super::text::{plain, time};
use super::{create, plan_of, steps};
use crate::clock::Moment;
use crate::passport::hex;
use crate::statement::approval::Approval;

const BEGIN: &str = "-----BEGIN PASSPORTD APPROVER KEY-----";
const END: &str = "-----END PASSPORTD APPROVER KEY-----";
/// PBKDF2-HMAC-SHA256: what OWASP asked for in 2023.
const ROUNDS: u32 = 600_000;
const SALT: usize = 16;
const NONCE: usize = 24;
/// The seed and the tag behind it.
const SECRET: usize = 32 + 16;

/// Makes a key.
pub(super) fn keygen(context: &mut Context<'_>, wish: &Keygen) -> Result<Exit, CliError> {
    let mut fresh = Zeroizing::new([0; 32]);
    random(&mut *fresh)?;
    let public = hex::encode(SigningKey::from_bytes(&fresh).verifying_key().as_bytes());
    let file = match passphrase_twice()? {
        Some(phrase) if !phrase.is_empty() => {
            let mut spice = [0; SALT + NONCE];
            random(&mut spice)?;
            Zeroizing::new(locked(&fresh, &phrase, &spice)?)
        }
        _ => {
            context.out.note("no passphrase: whoever reads the file can approve");
            pem(&fresh)
        }
    };
    create(&wish.out, file.as_bytes(), 0o600)?;
    let text = format!(
        "{public}\nwritten to {}; give the public key to whoever plans",
        plain(&wish.out.display().to_string())
    );
    say(context, &Said { text, json: json!({"public": public, "key": wish.out}) })
}

/// Signs a plan, after showing it.
pub(super) fn approve(context: &mut Context<'_>, wish: &Approve, now: Moment) -> Result<Exit, CliError> {
    let opened = plan_of(context, &wish.plan)?;
    if now.unix() > opened.plan.expires {
        return Err(CliError::Failed("the plan has expired; have it made anew".to_owned()));
    }
    let planner = &opened.plan.planner;
    let (name, host) = (plain(&planner.name), plain(&planner.host));
    context.out.note(&format!(
        "{opened} for {}, by {name} (uid {}) on {host}",
        plain(&opened.plan.issuer),
        planner.uid
    ));
    for line in steps(&opened.plan) {
        context.out.note(&line);
    }
    let key = read(&wish.key)?;
    let approval = Approval::sign(&opened, &key, now.unix());
    let text = serde_json_canonicalizer::to_string(&approval).map_err(|why| CliError::Failed(why.to_string()))?;
    create(&wish.out, format!("{text}\n").as_bytes(), 0o644)?;
    let out = plain(&wish.out.display().to_string());
    let text = format!("approved by {}, good until {}: {out}", approval.key, time(approval.expires));
    let json = json!({"approval": wish.out, "key": approval.key, "plan": approval.plan, "expires": approval.expires});
    say(context, &Said { text, json })
}

fn random(bytes: &mut [u8]) -> Result<(), CliError> {
    getrandom::fill(bytes).map_err(|why| CliError::Failed(format!("no random bytes: {why}")))
}

/// Typed twice; none where there is no terminal.
fn passphrase_twice() -> Result<Option<Zeroizing<String>>, CliError> {
    let Ok(first) = rpassword::prompt_password("Passphrase for the new key (empty for none): ").map(Zeroizing::new)
    else {
        return Ok(None);
    };
    if first.is_empty() {
        return Ok(Some(first));
    }
    let again = rpassword::prompt_password("Once more: ").map(Zeroizing::new);
    match again {
        Ok(again) if again == first => Ok(Some(first)),
        _ => Err(CliError::Failed("the two are not the same; no key was made".to_owned())),
    }
}

/// The key under a passphrase. Salt and nonce are random, and stand before it.
fn locked(fresh: &[u8; 32], phrase: &str, spice: &[u8; SALT + NONCE]) -> Result<String, CliError> {
    let failed = || CliError::Failed("the key can't be encrypted".to_owned());
    let (salt, nonce) = spice.split_at_checked(SALT).ok_or_else(failed)?;
    let nonce = XNonce::try_from(nonce).map_err(|_| failed())?;
    let sealed = cipher(phrase, salt).encrypt(&nonce, &fresh[..]).map_err(|_| failed())?;
    let body = Base64::encode_string(&[&spice[..], &sealed].concat());
    Ok(format!("{BEGIN}\n{body}\n{END}\n"))
}

fn unlocked(text: &str, phrase: &str) -> Option<Zeroizing<[u8; 32]>> {
    let body = text.split_once(BEGIN)?.1.split_once(END)?.0;
    let bytes = Base64::decode_vec(body.trim()).ok().filter(|bytes| bytes.len() == SALT + NONCE + SECRET)?;
    let (salt, rest) = bytes.split_at_checked(SALT)?;
    let (nonce, sealed) = rest.split_at_checked(NONCE)?;
    let opened = cipher(phrase, salt).decrypt(&XNonce::try_from(nonce).ok()?, sealed).ok().map(Zeroizing::new)?;
    Some(Zeroizing::new(<[u8; 32]>::try_from(opened.as_slice()).ok()?))
}

fn cipher(phrase: &str, salt: &[u8]) -> XChaCha20Poly1305 {
    let mut key = Zeroizing::new([0; 32]);
    pbkdf2_hmac::<Sha256>(phrase.as_bytes(), salt, ROUNDS, &mut *key);
    XChaCha20Poly1305::new((&*key).into())
}

/// The key of a file that nobody else can read, with its passphrase if it has one.
fn read(path: &Path) -> Result<SigningKey, CliError> {
    let name = path.display().to_string();
    let text = read_private(path)?;
    let found = match std::str::from_utf8(&text) {
        Ok(locked) if locked.contains(BEGIN) => {
            let typed = rpassword::prompt_password(format!("Passphrase of {}: ", plain(&name)));
            let phrase = typed
                .map(Zeroizing::new)
                .map_err(|why| CliError::Usage(format!("can't ask for the passphrase of {name}: {why}")))?;
            let found = unlocked(locked, &phrase);
            Some(
                found
                    .ok_or_else(|| CliError::Failed(format!("{name}: this is not its passphrase, or it is spoilt")))?,
            )
        }
        _ => seed(&text),
    };
    let what = "no Ed25519 key; make one by: passportctl ceremony keygen --out FILE";
    found.map(|seed| SigningKey::from_bytes(&seed)).ok_or_else(|| CliError::input(&name, what))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_opens_under_its_passphrase_alone() {
        let text = locked(&[7; 32], "correct horse", &[9; SALT + NONCE]).unwrap();
        assert_eq!(unlocked(&text, "correct horse").map(|seed| *seed), Some([7; 32]));
        assert!(unlocked(&text, "correct horsf").is_none());
        let spoilt = text.replacen("CQkJ", "CQkK", 1);
        assert!(spoilt != text && unlocked(&spoilt, "correct horse").is_none(), "another salt");
        assert!(unlocked(&text.replace("\n-----END", "AAAA\n-----END"), "correct horse").is_none(), "longer");
    }

    #[test]
    fn keys_without_one_are_those_that_openssl_makes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, pem(&[7; 32]).as_bytes()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read(&path).unwrap().to_bytes(), [7; 32]);
        std::fs::write(&path, "no key").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("ceremony keygen"));
    }
}
