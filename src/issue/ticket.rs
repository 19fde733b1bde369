//! What a ticket says: no more than its passport, for one audience, once, and for a short time.

use uuid::{Builder, Uuid};

use super::{IssueError, Origin, Prepared, entry, jti, prepared};
use crate::audit::Event;
use crate::clock::Moment;
use crate::passport::{Cap, Claims, Kid, Parent};
use crate::wire::PassportForm;

/// What is to be said beside what the passport says.
#[derive(Clone, Debug)]
pub struct TicketTerms {
    /// The key that signs.
    pub kid: Kid,
    /// For whom it is.
    pub aud: String,
    /// What it allows, all of which the passport does.
    pub scopes: Vec<String>,
    /// In which form.
    pub form: PassportForm,
    /// Its lifetime in seconds; it ends with the passport's.
    pub ttl_s: u32,
    /// Its id; none: a new one.
    pub id: Option<Uuid>,
    /// When the request was first answered, in seconds since 1970: its end does not move with a repetition.
    pub at: i64,
}

/// The id of a ticket whose request may be repeated, by `request`, 32 bytes that say all of it, and the time of its first answer.
/// All tickets that answer it are one.
pub fn twin(request: &[u8; 32], at: i64) -> Uuid {
    let [a, b, c, d, e, f, g, h, i, j, ..] = *request;
    let millis = u64::try_from(at).unwrap_or(0).saturating_mul(1000);
    Builder::from_unix_timestamp_millis(millis, &[a, b, c, d, e, f, g, h, i, j]).into_uuid()
}

/// Writes the ticket, with its end in seconds since 1970 and its id; none if its time is over already.
///
/// # Errors
/// [`IssueError::Claims`].
pub fn prepare_ticket(
    parent: &Claims,
    terms: &TicketTerms,
    origin: &Origin,
    now: Moment,
    max_msg_bytes: usize,
) -> Result<Option<(Prepared, i64, String)>, IssueError> {
    let exp = terms.at.saturating_add(terms.ttl_s.into()).min(parent.exp);
    if exp <= now.unix() {
        return Ok(None);
    }
    let Cap { template, action, .. } = &parent.cap;
    let claims = Claims {
        aud: vec![terms.aud.clone()],
        scopes: terms.scopes.clone(),
        iat: now.unix(),
        exp,
        nbf: None,
        jti: terms.id.map_or_else(|| jti(now), |id| id.to_string()),
        nonce: None,
        kid: terms.kid.clone(),
        cap: Cap { template: template.clone(), action: action.clone(), limit: Some(1) },
        par: Some(Parent { iat: parent.iat, jti: parent.jti.clone(), kid: parent.kid.clone() }),
        ..parent.clone()
    };
    let payload = claims.canonical(max_msg_bytes)?;
    let entry = entry(Event::TicketIssued, &claims, origin, now).detail(&format!("made from {}", parent.jti));
    Ok(Some((prepared(&claims, payload, terms.form, entry), exp, claims.jti)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Peer;
    use crate::passport::scan;

    const NOW: i64 = 1_700_000_000;

    fn parent() -> Claims {
        Claims {
            iss: "test".into(),
            sub: "x".into(),
            aud: vec!["a".into(), "b".into()],
            iat: NOW - 100,
            exp: NOW + 30,
            nbf: Some(NOW - 50),
            jti: "parent".into(),
            scopes: vec!["read".into(), "write".into()],
            nonce: Some("n".into()),
            ctx: serde_json::json!({"door": 7}).as_object().cloned(),
            kid: Kid::new("t1", "auth", 1).unwrap(),
            epoch: 3,
            cap: Cap { template: "demo".into(), action: Some("open".into()), limit: Some(9) },
            cnf_jkt: Some("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k".into()),
            cnf_uid: Some(1000),
            par: None,
        }
    }

    fn terms() -> TicketTerms {
        let kid = Kid::new("t1", "auth", 2).unwrap();
        let (aud, scopes, form) = ("b".to_owned(), vec!["read".to_owned()], PassportForm::Envelope);
        TicketTerms { kid, aud, scopes, form, ttl_s: 10, id: None, at: NOW }
    }

    fn made(terms: &TicketTerms, now: i64) -> Option<Claims> {
        let peer = Peer { uid: 1, gid: 1, pid: 1, listener: String::new() };
        let origin = Origin { peer, corr_id: [0; 16] };
        let made = prepare_ticket(&parent(), terms, &origin, Moment::from_unix(now), 4096).unwrap();
        let (prepared, exp, jti) = made?;
        let claims = scan(&prepared.message).unwrap().to_claims().unwrap();
        assert_eq!((claims.exp, &claims.jti), (exp, &jti));
        Some(claims)
    }

    #[test]
    fn a_ticket_is_its_passport_once_for_one_and_for_a_short_time() {
        let claims = made(&terms(), NOW).unwrap();
        let expected = Claims {
            aud: vec!["b".into()],
            scopes: vec!["read".into()],
            iat: NOW,
            exp: NOW + 10,
            nbf: None,
            jti: claims.jti.clone(),
            nonce: None,
            kid: terms().kid,
            cap: Cap { limit: Some(1), ..parent().cap },
            par: Some(Parent { iat: NOW - 100, jti: "parent".into(), kid: parent().kid }),
            ..parent()
        };
        assert_eq!(claims, expected);
        let long = TicketTerms { ttl_s: 300, ..terms() };
        assert_eq!(made(&long, NOW).unwrap().exp, NOW + 30, "it ends with its passport");
    }

    #[test]
    fn one_that_is_asked_for_again_is_the_same_and_ends_when_it_did() {
        let request = [7; 32];
        let terms = TicketTerms { id: Some(twin(&request, NOW)), ..terms() };
        let (first, again) = (made(&terms, NOW).unwrap(), made(&terms, NOW + 9).unwrap());
        assert_eq!((&first.jti, first.exp), (&again.jti, again.exp));
        assert_eq!(made(&terms, NOW + 10), None, "and then no more");
        assert_ne!(twin(&request, NOW), twin(&request, NOW + 1));
        assert_ne!(twin(&request, NOW), twin(&[8; 32], NOW));
    }
}
