//! How the fake daemon issues.

use std::sync::atomic::Ordering;

use ed25519_dalek::Signer as _;
use passportd::passport::{Cap, Claims, jws};
use passportd::wire::{Code, Exchanged, IssueSpec, Issued, PassportForm, Problem, Ticket, TicketSpec};

use super::{ISSUER, KID, MAX_MSG, State};

/// A ticket of some passport.
pub(super) fn exchange(state: &State, spec: &TicketSpec<'_>) -> Result<Exchanged, Problem> {
    // As if no passport were for it.
    if spec.aud == "other" {
        return Ok(Exchanged::Refused(Code::BadAud));
    }
    let (aud, scopes, ttl_s) = (vec![spec.aud], spec.scopes.clone(), Some(spec.ttl_s.unwrap_or(60)));
    let exp = state.now().unix() + i64::from(spec.ttl_s.unwrap_or(60));
    let wanted =
        IssueSpec { template: "demo", sub: "alice", aud, scopes, ttl_s, form: spec.form, ..IssueSpec::default() };
    Ok(Exchanged::Ticket(Ticket { ticket: issue(state, &wanted)?, exp, left: Some(2), repeated: false }))
}

pub(super) fn issue(state: &State, spec: &IssueSpec<'_>) -> Result<Issued, Problem> {
    if spec.template != "demo" {
        return Err(Problem::saying(Code::OpDenied, "no rule grants this template"));
    }
    let iat = state.now().unix();
    let number = state.issued.fetch_add(1, Ordering::SeqCst);
    let claims = Claims {
        iss: ISSUER.into(),
        sub: spec.sub.into(),
        aud: if spec.aud.is_empty() { vec!["demo".into()] } else { spec.aud.iter().map(ToString::to_string).collect() },
        iat,
        exp: iat + i64::from(spec.ttl_s.unwrap_or(600)),
        nbf: spec.nbf,
        jti: format!("jti-{number}"),
        scopes: spec.scopes.iter().map(ToString::to_string).collect(),
        nonce: None,
        ctx: spec.ctx.map(|ctx| serde_json::from_str(ctx).unwrap()),
        kid: KID.parse().unwrap(),
        epoch: 0,
        cap: Cap { template: "demo".into(), action: spec.action.map(Into::into), limit: None },
        cnf_jkt: None,
        cnf_uid: None,
        par: None,
    };
    let msg = claims.canonical(MAX_MSG).unwrap();
    Ok(match spec.form {
        PassportForm::Envelope => {
            let sig = state.key.sign(&msg).to_bytes();
            Issued::Envelope { kid: KID.into(), msg, sig }
        }
        PassportForm::Jws => {
            let input = jws::signing_input(claims.kid.borrowed(), &msg);
            let sig = state.key.sign(input.as_bytes()).to_bytes();
            Issued::Jws { text: jws::compact(input, &sig) }
        }
    })
}
