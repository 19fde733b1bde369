//! The ceremony's end of its socket: the request and the PIN in, and what becomes of a result on its way out. The
//! messages themselves are [`crate::wire::ceremony`]'s.

use super::CeremonyError;
use crate::hsm::ring::Ring;
use crate::passport::hex;
use crate::secret::{MAX_PIN_BYTES, Pin, SecretBytes};
use crate::wire::ceremony::{KeyReport, Report, Request, Response, read_length, read_request};
use std::io::Read;

/// Reads the request and the PIN, which goes from the socket into a locked page.
pub(super) fn read(mut stream: impl Read) -> Result<(Request, Option<Pin>), CeremonyError> {
    let request = read_request(&mut stream)?;
    let length = read_length(&mut stream, MAX_PIN_BYTES, "PIN")?;
    let mut secret = SecretBytes::zeroed(length)?;
    stream.read_exact(secret.expose_mut())?;
    let pin = if length == 0 { None } else { Some(Pin::take(secret.expose_mut())?) };
    Ok((request, pin))
}

/// What the peer is told of an error.
pub(super) fn failed(error: &CeremonyError) -> Response {
    let code = match error {
        CeremonyError::Peer(_) => "denied",
        CeremonyError::Request(_) | CeremonyError::Name(_) => "request",
        CeremonyError::NotApproved(_) | CeremonyError::NeedsApproval { .. } => "approval",
        CeremonyError::Spent => "spent",
        CeremonyError::Pin(_) => "pin",
        CeremonyError::Hsm(hsm) if hsm.refused_pin() => "pin",
        CeremonyError::Busy | CeremonyError::TooMany(_) => "busy",
        CeremonyError::Backup { .. } => "backup",
        CeremonyError::Unfit { .. } | CeremonyError::Step { .. } | CeremonyError::NotAdopted { .. } => "unfit",
        CeremonyError::Hsm(_) => "hsm",
        CeremonyError::Link(_) => "link",
    };
    Response::Failed { code: code.to_owned(), message: error.to_string() }
}

/// What the peer is told of the keys: `made` by this ceremony (kids), `bound` to their mechanism (ids).
pub(super) fn report(ring: &Ring, made: &[String], bound: &[Vec<u8>], module: String, token: String) -> Report {
    let keys = ring.keys().iter().map(|key| KeyReport {
        kid: key.kid.clone(),
        role: key.role,
        public: key.public.as_ref().map(|public| hex::encode(public.as_bytes())),
        cka_id: hex::encode(&key.id),
        made_now: made.contains(&key.kid),
        usable: key.usable(),
        problem: key.problem.clone(),
        mechanisms_bound: bound.contains(&key.id),
    });
    Report { keys: keys.collect(), orphans: ring.orphans().to_vec(), module, token, ..Report::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ceremony::{MAX_REQUEST, PlanKind};

    fn frames(parts: &[&[u8]]) -> Vec<u8> {
        parts.iter().flat_map(|part| [&u32::try_from(part.len()).unwrap().to_be_bytes()[..], part].concat()).collect()
    }

    #[test]
    fn a_request_and_its_pin_are_read() {
        let bytes = frames(&[br#"{"plan":"init","tenant":"t1","purpose":"auth"}"#, b"12\"34"]);
        let (request, pin) = read(&bytes[..]).unwrap();
        let wanted = Request {
            plan: PlanKind::Init,
            tenant: Some("t1".to_owned()),
            purpose: Some("auth".to_owned()),
            ..Request::default()
        };
        assert_eq!(request, wanted);
        assert_eq!(pin.unwrap().expose(), b"12\"34");
        assert!(read(&frames(&[br#"{"plan":"doctor"}"#, b""])[..]).unwrap().1.is_none());
    }

    #[test]
    fn what_is_not_a_request_is_refused() {
        for bytes in [
            frames(&[b"{}", b""]),
            frames(&[br#"{"plan":"destroy"}"#, b""]),
            frames(&[br#"{"plan":"list","pin":"1234"}"#, b""]),
            frames(&[&[b' '; MAX_REQUEST + 1]]),
            frames(&[br#"{"plan":"list"}"#, &[b'1'; MAX_PIN_BYTES + 1]]),
            0xffff_ffff_u32.to_be_bytes().to_vec(),
        ] {
            assert!(matches!(read(&bytes[..]), Err(CeremonyError::Request(_))));
        }
        assert!(matches!(read(&frames(&[br#"{"plan":"list"}"#])[..]), Err(CeremonyError::Link(_))));
        let torn = frames(&[br#"{"plan":"list"}"#, b"12\n34"]);
        assert!(matches!(read(&torn[..]), Err(CeremonyError::Pin(_))));
    }
}
