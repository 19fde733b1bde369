//! Claims → signature, in three steps that a reader can follow in order: [`prepare`] decides and writes the payload,
//! [`sign`] has it signed and checks the signature, [`record`] makes the audit record durable. Only what has passed all
//! three leaves the process (law L2).

mod ticket;

use std::time::Instant;

pub use ticket::{TicketTerms, prepare_ticket, twin};

use serde_json::{Map, Value};
use uuid::{NoContext, Timestamp, Uuid};

use crate::audit::{self, Audit, AuditError, Entry, Event, Outcome};
use crate::clock::Moment;
use crate::passport::{Cap, Claims, ClaimsError, Kid, check_subject, jws};
use crate::policy::{Bounds, Denial, IssueWish, Rights, Terms};
use crate::signer::{Signer, SignerError};
use crate::state::Epochs;
use crate::verify::{Item, Keyring, Verifier};
use crate::wire::link::LinkRefusal;
use crate::wire::{IssueSpec, Issued, PassportForm};

/// Why there is no passport.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The peer asked for what policy does not give it.
    #[error("{}", .0.rule)]
    Denied(Denial),
    /// The peer's claims don't make a passport.
    #[error(transparent)]
    Claims(#[from] ClaimsError),
    /// The peer's `ctx` is not a JSON object.
    #[error("ctx is not a JSON object")]
    Context,
    /// No key signs for the template's tenant and purpose (the operator's to mend).
    #[error("no key is active for tenant {tenant}, purpose {purpose}; see `passportctl status`")]
    NoKey {
        /// The template's tenant.
        tenant: String,
        /// Its purpose.
        purpose: String,
    },
    /// The signer gave none.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The HSM's signature does not verify: the HSM, or the signer, is faulty or hostile.
    #[error("the signature of {kid} does not verify; it is not released")]
    BadSignature {
        /// The key's id.
        kid: String,
        /// Who noticed.
        noticed: Noticed,
    },
    /// An operator paused issuing while this was under way.
    #[error("issuing was paused")]
    Paused,
    /// What it was made from was revoked while this was under way.
    #[error("the passport was revoked")]
    Revoked,
    /// The record can't be made durable, so nothing is released.
    #[error("the audit record can't be written: {0}")]
    Audit(#[from] AuditError),
    /// Another item of the same batch could not be recorded, and the records of a batch stand or fall together.
    #[error("the audit records of the batch can't be written")]
    Batch,
}

/// Who noticed that a signature does not verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noticed {
    /// The signer, which destroyed it.
    BySigner,
    /// Only the front: the signer let it pass.
    ByFront,
}

/// Whose request it is.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The peer, as audit records name it.
    pub peer: audit::Peer,
    /// The caller's correlation id.
    pub corr_id: [u8; 16],
}

/// What issuing needs to know, all of one moment.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'a> {
    /// What the peer may do.
    pub rights: &'a Rights,
    /// The configured bounds.
    pub bounds: Bounds<'a>,
    /// The time.
    pub now: Moment,
    /// The largest payload, in bytes.
    pub max_msg_bytes: usize,
    /// The epochs of the tenants.
    pub epochs: &'a Epochs,
}

/// A payload that is allowed and complete, and its record to be.
#[derive(Debug)]
pub struct Prepared {
    kid: String,
    /// What is signed: the payload, or the input of a JWS.
    message: Vec<u8>,
    form: PassportForm,
    /// [`PassportForm::issued_size`] of the payload.
    size: usize,
    entry: Entry,
}

impl Prepared {
    /// What it takes of a reply at most, in bytes.
    pub const fn size(&self) -> usize {
        self.size
    }
}

/// Decides whether the peer gets this passport, and writes what it says. `active` names the signing key of a tenant and
/// purpose.
///
/// # Errors
/// [`IssueError::Denied`], [`IssueError::Claims`], [`IssueError::Context`] or [`IssueError::NoKey`].
pub fn prepare(
    spec: &IssueSpec<'_>,
    origin: &Origin,
    ground: &Ground<'_>,
    active: impl FnOnce(&str, &str) -> Option<Kid>,
) -> Result<Prepared, IssueError> {
    // Before policy is asked: whether a template's patterns would hold it does not make it a subject.
    check_subject(spec.sub)?;
    let iat = ground.now.unix();
    let offset = spec.nbf.map(|nbf| u64::try_from(nbf.saturating_sub(iat)).unwrap_or(0));
    let wish = IssueWish {
        template: spec.template,
        sub: spec.sub,
        aud: &spec.aud,
        scopes: &spec.scopes,
        action: spec.action,
        ttl_s: spec.ttl_s.map(u64::from),
        nbf_offset_s: offset,
        limit: spec.limit,
        nonce: spec.nonce,
        jkt: spec.jkt,
        form: spec.form,
        uid: spec.uid,
    };
    let terms = ground.rights.decide_issue(&wish, &ground.bounds).into_result().map_err(IssueError::Denied)?;
    let kid = active(&terms.tenant, &terms.purpose)
        .ok_or_else(|| IssueError::NoKey { tenant: terms.tenant.clone(), purpose: terms.purpose.clone() })?;
    let ctx = spec.ctx.map(serde_json::from_str::<Map<String, Value>>).transpose().map_err(|_| IssueError::Context)?;
    let epoch = ground.epochs.of(&terms.tenant);
    let claims = claims(terms, kid, ctx, ground, epoch);
    let payload = claims.canonical(ground.max_msg_bytes)?;
    let entry = entry(Event::PassportIssued, &claims, origin, ground.now);
    Ok(prepared(&claims, payload, spec.form, entry))
}

/// What of the payload is signed.
fn prepared(claims: &Claims, payload: Vec<u8>, form: PassportForm, entry: Entry) -> Prepared {
    let size = form.issued_size(payload.len());
    let message = match form {
        PassportForm::Envelope => payload,
        PassportForm::Jws => jws::signing_input(claims.kid.borrowed(), &payload).into_bytes(),
    };
    Prepared { kid: claims.kid.to_string(), message, form, size, entry }
}

fn claims(terms: Terms, kid: Kid, ctx: Option<Map<String, Value>>, ground: &Ground<'_>, epoch: u64) -> Claims {
    let iat = ground.now.unix();
    let after = |seconds: u64| iat.saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX));
    Claims {
        iss: ground.bounds.issuer.to_owned(),
        sub: terms.sub,
        aud: terms.aud,
        iat,
        exp: after(terms.ttl_s),
        nbf: terms.nbf_offset_s.map(after),
        jti: jti(ground.now),
        scopes: terms.scopes,
        nonce: terms.nonce,
        ctx,
        kid,
        epoch,
        cap: Cap { template: terms.template, action: terms.action, limit: terms.limit },
        cnf_jkt: terms.jkt,
        cnf_uid: terms.uid,
        par: None,
    }
}

/// UUIDv7 (RFC 9562 §5.7): 48 bits of time, so that ids sort as they were issued, and 74 random ones.
fn jti(now: Moment) -> String {
    let micros = u64::try_from(now.micros()).unwrap_or(0);
    let nanos = u32::try_from(micros % 1_000_000).unwrap_or(0).saturating_mul(1000);
    Uuid::new_v7(Timestamp::from_unix(NoContext, micros / 1_000_000, nanos)).to_string()
}

fn entry(event: Event, claims: &Claims, origin: &Origin, now: Moment) -> Entry {
    let entry = Entry::new(event, Outcome::Ok, now)
        .corr_id(origin.corr_id)
        .peer(origin.peer.clone())
        .subject(&claims.sub)
        .jti(&claims.jti)
        .kid(&claims.kid.to_string())
        .template(&claims.cap.template)
        .aud(&claims.aud.join(" "))
        .exp(claims.exp);
    match &claims.cap.action {
        Some(action) => entry.action(action),
        None => entry,
    }
}

/// A signed passport without its record: it must not leave the process yet.
#[derive(Debug)]
pub struct Signed {
    issued: Issued,
    entry: Entry,
}

/// Has each payload signed by `until`, all under way at once as far as there is room, and checks every signature against the key
/// that is known here: the signer checked it too, but the signer may be the one that is broken. `lost` is told of each that was
/// prepared and not signed, with what would have been its record.
pub async fn sign(
    who: u32,
    prepared: Vec<Result<Prepared, IssueError>>,
    signer: &Signer,
    (keyring, verifier): (&Keyring, &Verifier),
    until: Instant,
    lost: impl Fn(&IssueError, Entry),
) -> Vec<Result<Signed, IssueError>> {
    let lose = |error: IssueError, entry: Entry| {
        lost(&error, entry);
        error
    };
    let verifies = |kid: &str, message: &[u8], signature: &[u8; 64]| {
        keyring.get(kid).is_some_and(|key| verifier.verify(Item { key, message, signature }))
    };
    let mut waiting = Vec::with_capacity(prepared.len());
    // Once there is no place or no signer, the rest is not asked for: each would wait as long.
    let mut given_up = None;
    for one in prepared {
        waiting.push(match (one, given_up) {
            (Ok(Prepared { entry, .. }), Some(error)) => Err(lose(IssueError::Signer(error), entry)),
            (Ok(Prepared { kid, message, form, entry, .. }), None) => {
                match signer.sign(who, &kid, message.clone(), until).await {
                    Ok(signing) => Ok((kid, message, form, entry, signing)),
                    Err(error) => {
                        // Another item's key may sign.
                        given_up = (!matches!(error, SignerError::Open { .. })).then_some(error);
                        Err(lose(error.into(), entry))
                    }
                }
            }
            (Err(error), _) => Err(error),
        });
    }
    let mut signed = Vec::with_capacity(waiting.len());
    for one in waiting {
        signed.push(match one {
            Ok((kid, message, form, entry, signing)) => match signing.signature().await {
                Ok(sig) if verifies(&kid, &message, &sig) => {
                    Ok(Signed { issued: issued(kid, message, form, sig), entry })
                }
                Ok(_) => Err(lose(IssueError::BadSignature { kid, noticed: Noticed::ByFront }, entry)),
                Err(SignerError::Refused(LinkRefusal::BadSignature)) => {
                    Err(lose(IssueError::BadSignature { kid, noticed: Noticed::BySigner }, entry))
                }
                Err(error) => Err(lose(error.into(), entry)),
            },
            Err(error) => Err(error),
        });
    }
    signed
}

/// The passport of what was signed.
fn issued(kid: String, message: Vec<u8>, form: PassportForm, sig: [u8; 64]) -> Issued {
    match form {
        PassportForm::Envelope => Issued::Envelope { kid, msg: message, sig },
        // It is base64url and a point, so nothing is lost.
        PassportForm::Jws => Issued::Jws { text: jws::compact(String::from_utf8_lossy(&message).into_owned(), &sig) },
    }
}

/// Why what was recorded as issued is not released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// Issuing was paused meanwhile.
    Paused,
    /// What it was made from was revoked meanwhile.
    Revoked,
}

impl Withheld {
    const fn error(self) -> IssueError {
        match self {
            Self::Paused => IssueError::Paused,
            Self::Revoked => IssueError::Revoked,
        }
    }
}

/// Makes the records durable, together; then, and only then, the passports may go. `withhold` is asked in between, and says why not,
/// with the time: a pause may have come while the records were written, and what is recorded after a pause is not released. Those
/// records are followed by others that say so. There are at most [`crate::log::MAX_GROUP`].
pub async fn record(
    signed: Vec<Result<Signed, IssueError>>,
    audit: &Audit,
    withhold: impl Fn() -> Option<(Withheld, Moment)>,
) -> Vec<Result<Issued, IssueError>> {
    let entries: Vec<_> = signed.iter().filter_map(|one| one.as_ref().ok()).map(|one| one.entry.clone()).collect();
    let (mut failure, mut why) = (None, None);
    if !entries.is_empty() {
        failure = audit.record_many(entries.clone()).await.err().map(IssueError::Audit);
    }
    if failure.is_none()
        && !entries.is_empty()
        && let Some((reason, now)) = withhold()
    {
        withheld(entries, audit, reason, now).await;
        (failure, why) = (Some(reason.error()), Some(reason));
    }
    let rest = || why.map_or(IssueError::Batch, Withheld::error);
    let failed = failure.is_some();
    signed
        .into_iter()
        .map(|one| match one {
            Ok(_) if failed => Err(failure.take().unwrap_or_else(rest)),
            Ok(signed) => Ok(signed.issued),
            Err(error) => Err(error),
        })
        .collect()
}

/// Puts on record that what was recorded as issued was not released.
async fn withheld(entries: Vec<Entry>, audit: &Audit, why: Withheld, now: Moment) {
    let (reason, detail) = match why {
        Withheld::Paused => ("paused", "recorded as issued, and not released: issuing was paused meanwhile"),
        Withheld::Revoked => ("revoked", "recorded as issued, and not released: its passport was revoked meanwhile"),
    };
    let revised = |entry: Entry| entry.revised(Event::IssueRefused, Outcome::Failed, now).reason(reason).detail(detail);
    if let Err(error) = audit.record_many(entries.into_iter().map(revised).collect()).await {
        tracing::error!(name: "withheld_not_recorded", %error, "passports were withheld, and the records say issued");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::AuditConfig;
    use crate::log::{Pace, SegmentConfig};

    fn signed(jti: &str) -> Result<Signed, IssueError> {
        let issued = Issued::Envelope { kid: "k".to_owned(), msg: Vec::new(), sig: [0; 64] };
        let entry = Entry::new(Event::PassportIssued, Outcome::Ok, Moment::now()).jti(jti);
        Ok(Signed { issued, entry })
    }

    #[tokio::test]
    async fn what_is_recorded_after_a_pause_is_not_released_and_the_record_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let (segment, pace) = (SegmentConfig::default(), Pace::default());
        let config = AuditConfig { segment, pace, journald: None, now: Moment::now, metrics: None };
        let (audit, _) = Audit::open(dir.path(), &config).unwrap();
        // The pause becomes durable between the look before and the records.
        let batch = || vec![signed("a"), Err(IssueError::Context), signed("b")];
        let given = record(batch(), &audit, || (audit.head().0 >= 2).then(|| (Withheld::Paused, Moment::now()))).await;
        let refused = |one: &Result<Issued, IssueError>| matches!(one, Err(IssueError::Paused));
        assert!(refused(&given[0]) && matches!(given[1], Err(IssueError::Context)) && refused(&given[2]), "{given:?}");
        let text = std::fs::read_to_string(dir.path().join("00000000000000000001.jsonl")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        for (line, jti) in lines[2..].iter().zip(["a", "b"]) {
            let says =
                [r#""event":"issue_refused""#, r#""outcome":"failed""#, &format!(r#""jti":"{jti}""#), "not released"];
            assert!(says.iter().all(|part| line.contains(part)), "{line}");
        }
        assert!(record(batch(), &audit, || None).await[0].is_ok());
        audit.close();
        let closed = record(batch(), &audit, || None).await;
        assert!(matches!((&closed[0], &closed[2]), (Err(IssueError::Audit(_)), Err(IssueError::Batch))), "{closed:?}");
        assert!(
            record(vec![Err(IssueError::Context)], &audit, || Some((Withheld::Paused, Moment::now()))).await[0]
                .is_err(),
            "nothing to record"
        );
    }
}
