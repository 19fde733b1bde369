//! Verdicts that take a proof of possession. A nonce is good on one connection, so whoever asks for it verifies there, too.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde_json::json;

use super::args::{Challenge, Dpop};
use super::context::Context;
use super::error::{CliError, Exit};
use super::holder::Holder;
use super::input::{self, Given, Slot};
use super::passports::{one_verdict, want};
use crate::client::{Client, Want};
use crate::clock::Moment;
use crate::passport::OwnedPassport;
use crate::passport::proof::{MAX_TEXT, ath};
use crate::wire::{Passport, Possession, Verdict};

/// What a proof is for.
const OP: &str = "verify";

/// A verdict with a retry key, with a proof that is made here, or with one that came with an HTTP request.
pub(super) async fn verdict(
    context: &mut Context<'_>,
    passport: &OwnedPassport,
    want: &Want,
    retry: Option<[u8; 16]>,
    (pop_key, dpop): (Option<PathBuf>, Dpop),
    now: Moment,
) -> Result<Verdict, CliError> {
    let holder = pop_key.map(|path| Holder::read(&path)).transpose()?;
    let Dpop { dpop, htm, htu, dpop_nonce } = dpop;
    let forwarded = dpop.map(|path| proof_of(&path)).transpose()?;
    let client = context.client().await?;
    let made = match &holder {
        Some(holder) => {
            let aud = audience(&client, want).await?;
            let (nonce, _) = client.challenge().await?;
            Some(holder.proof(presented(passport), &aud, OP, &nonce, now)?)
        }
        None => None,
    };
    let proof = match (&made, &forwarded) {
        (Some(proof), _) => Some(Possession::Pop { proof }),
        (None, Some(proof)) => {
            let (htm, htu) = (htm.as_deref().unwrap_or_default(), htu.as_deref().unwrap_or_default());
            Some(Possession::Dpop { proof, htm, htu, nonce: dpop_nonce.as_deref() })
        }
        (None, None) => None,
    };
    Ok(client.verify_with(passport, want, retry, proof).await?)
}

pub(super) async fn challenge(context: &mut Context<'_>, challenge: Challenge) -> Result<Exit, CliError> {
    let Challenge { wanted, file } = challenge;
    if file == Path::new("-") {
        return Err(CliError::Usage("the passport comes from a file; stdin is for the proof".to_owned()));
    }
    let (name, bytes) = context.read(&file)?;
    let Given::One(Slot::Passport(passport)) = input::passports(&name, &bytes)? else {
        return Err(CliError::input(&name, "a challenge is for one passport"));
    };
    let mut want = want(wanted);
    let client = context.client().await?;
    let aud = audience(&client, &want).await?;
    let (nonce, expires_in_s) = client.challenge().await?;
    let ath = Base64UrlUnpadded::encode_string(&presented(&passport));
    // Somebody is asked now, and not the daemon.
    context.out.answered();
    if context.out.is_json() {
        let asked = json!({"nonce": nonce, "expires_in_s": expires_in_s, "aud": aud, "op": OP, "ath": ath});
        context.out.json(&asked)?;
    } else {
        let expires = format!("{expires_in_s} s");
        let asked =
            [("nonce", nonce), ("expires in", expires), ("aud", aud.clone()), ("op", OP.to_owned()), ("ath", ath)];
        context.out.pairs(asked)?;
    }
    let proof = line(&mut *context.stdin)?;
    context.out.asking();
    want.aud = Some(aud);
    let verdict = client.verify_with(&passport, &want, None, Some(Possession::Pop { proof: &proof })).await?;
    one_verdict(context, &passport, &verdict)
}

/// What `ath` of a proof must be.
fn presented(passport: &OwnedPassport) -> [u8; 32] {
    match Passport::from(passport) {
        Passport::Envelope { msg, .. } => ath(msg),
        Passport::Jws { text } => ath(text.as_bytes()),
    }
}

/// As whom the daemon lets us verify: the one that is wanted, else the only one.
async fn audience(client: &Client, want: &Want) -> Result<String, CliError> {
    if let Some(aud) = &want.aud {
        return Ok(aud.clone());
    }
    match client.whoami().await?.audiences.as_slice() {
        [only] => Ok(only.clone()),
        several => {
            let what = format!("policy lets this user verify as {several:?}; say which, by --aud");
            Err(CliError::Usage(what))
        }
    }
}

/// A proof in a file.
fn proof_of(path: &Path) -> Result<String, CliError> {
    let file = File::open(path).map_err(|why| CliError::File { path: path.to_owned(), why })?;
    text(&path.display().to_string(), file, |_| false)
}

/// A proof on one line of stdin.
fn line(stdin: &mut dyn Read) -> Result<String, CliError> {
    text("stdin", stdin, |byte| byte == b'\n')
}

/// A proof, as far as it can be one: up to the end of what is read, or to the byte that ends it.
fn text(from: &str, mut read: impl Read, ends: impl Fn(u8) -> bool) -> Result<String, CliError> {
    let (mut bytes, mut one) = (Vec::new(), [0; 1]);
    // One more than a proof has, and the end of its line. One at a time: what follows the line is not ours.
    while bytes.len() < MAX_TEXT + 2 {
        match read.read(&mut one) {
            Ok(0) => break,
            Ok(_) if one.iter().any(|byte| ends(*byte)) => break,
            Ok(_) => bytes.extend(one),
            Err(why) if why.kind() == ErrorKind::Interrupted => {}
            Err(why) => return Err(CliError::File { path: from.into(), why }),
        }
    }
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    match text.len() {
        0 => Err(CliError::input(from, "no proof came; expected a compact JWS")),
        long if long > MAX_TEXT => Err(CliError::input(from, format!("no proof is longer than {MAX_TEXT} bytes"))),
        _ => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_ends_with_its_line_and_has_a_bound() {
        let read = |mut text: &[u8]| line(&mut text).map_err(|error| error.to_string());
        assert_eq!(read(b"a.b.c\nmore"), Ok("a.b.c".to_owned()));
        assert_eq!(read(b"a.b.c"), Ok("a.b.c".to_owned()));
        for none in [&b""[..], b"\n", b"  \na.b.c"] {
            assert!(read(none).unwrap_err().contains("no proof came"), "{none:?}");
        }
        let longest = "x".repeat(MAX_TEXT);
        assert_eq!(read(format!("{longest}\n").as_bytes()), Ok(longest.clone()));
        assert!(read(format!("{longest}x\n").as_bytes()).unwrap_err().contains("longer than"));
        assert!(read(format!("{longest}{longest}").as_bytes()).unwrap_err().contains("longer than"));
    }
}
