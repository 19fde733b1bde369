//! Passports of either form, read. An envelope is read where it came; a JWS is decoded into memory that is used again for the next
//! one, so what was read of it is handed to whoever looks at it, and not given back.

use std::cell::Cell;

use crate::passport::jws::MAX_JWS;
use crate::passport::{Envelope, Jws, KidRef, Refusal, Room, View};
use crate::verify::{Keyring, PreparedKey};
use crate::wire::{Code, Passport};

thread_local! {
    // What one JWS is decoded into, as long as it is read.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A passport whose form and key are known good; nothing is said of its claims and its signature yet.
pub(super) struct Opened<'a, 'k> {
    pub(super) view: View<'a>,
    pub(super) kid: KidRef<'a>,
    pub(super) key: &'k PreparedKey,
    #[cfg_attr(not(feature = "daemon"), expect(dead_code, reason = "only the daemon shows it"))]
    pub(super) payload: &'a [u8],
    pub(super) message: &'a [u8],
    pub(super) signature: &'a [u8; 64],
}

/// Form, size and key of an envelope.
pub(super) fn open<'a, 'k>(
    envelope: &Envelope<'a>,
    keyring: &'k Keyring,
    max_msg_bytes: usize,
) -> Result<Opened<'a, 'k>, Code> {
    let Envelope { kid, msg, .. } = *envelope;
    if msg.len() > max_msg_bytes {
        return Err(Code::TooLarge);
    }
    let opened = envelope.open()?;
    let key = keyring.get(kid).ok_or(Code::UnknownKid)?;
    Ok(Opened { view: opened.view, kid: opened.kid, key, payload: msg, message: msg, signature: opened.sig })
}

/// The same of a JWS, for as long as it is decoded.
pub(super) fn open_jws<'k, T>(
    text: &str,
    keyring: &'k Keyring,
    max_msg_bytes: usize,
    then: impl FnOnce(&Opened<'_, 'k>) -> Result<T, Code>,
) -> Result<T, Code> {
    if text.len() > MAX_JWS {
        return Err(Code::TooLarge);
    }
    decoded(text, |jws, room| {
        if jws.payload_len() > max_msg_bytes {
            return Err(Code::TooLarge);
        }
        let opened = jws.open(room)?;
        let key = keyring.get(opened.view.kid).ok_or(Code::UnknownKid)?;
        let (payload, message, signature) = (opened.payload, opened.msg, opened.sig);
        then(&Opened { view: opened.view, kid: opened.kid, key, payload, message, signature })
    })
}

/// Either of them.
pub(super) fn open_any<'k, T>(
    passport: &Passport<'_>,
    keyring: &'k Keyring,
    max_msg_bytes: usize,
    then: impl FnOnce(&Opened<'_, 'k>) -> Result<T, Code>,
) -> Result<T, Code> {
    match *passport {
        Passport::Envelope { alg, kid, msg, sig } => {
            then(&open(&Envelope { alg, kid, msg, sig }, keyring, max_msg_bytes)?)
        }
        Passport::Jws { text } => open_jws(text, keyring, max_msg_bytes, then),
    }
}

/// Reads one that was read before.
pub(super) fn reread<T>(passport: &Passport<'_>, read: impl FnOnce(&View<'_>, KidRef<'_>) -> T) -> Option<T> {
    match *passport {
        Passport::Envelope { alg, kid, msg, sig } => {
            Envelope { alg, kid, msg, sig }.open().ok().map(|opened| read(&opened.view, opened.kid))
        }
        Passport::Jws { text } => {
            decoded(text, |jws, room| jws.open(room).map(|opened| read(&opened.view, opened.kid))).ok()
        }
    }
}

/// Takes a JWS apart, with room to decode it into.
fn decoded<T, E: From<Refusal>>(
    text: &str,
    then: impl for<'r> FnOnce(Jws<'r>, &mut Room<'r>) -> Result<T, E>,
) -> Result<T, E> {
    let jws = Jws::parse(text)?;
    let mut buffer = ROOM.take();
    let done = then(jws, &mut Room::new(&mut buffer, [text]));
    ROOM.set(buffer);
    done
}
