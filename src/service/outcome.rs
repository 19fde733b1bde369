//! What the log says of requests: the one place that sees how each of them ended. The macros look at the level before they
//! look at anything else, so that an event that is turned off costs one load and one comparison; nothing here writes out a
//! value before that. No event holds a byte that was signed or is to be signed.

use std::borrow::Cow;

use tracing::{debug, info};

use crate::metrics::{Label as _, Op};
use crate::passport::{Jws, hex};
use crate::policy::Peer;
use crate::verify::{Keyring, Way};
use crate::wire::{Code, Issued, Passport, Problem, Verdict};

/// A connection begins.
pub(super) fn greeted(peer: &Peer, client: &str) {
    let Peer { uid: peer_uid, pid: peer_pid, listener, .. } = peer;
    debug!(name: "greeted", ?client, peer_uid, peer_pid, listener, "greeted");
}

/// A connection ends at its first frame.
pub(super) fn not_greeted(peer: &Peer, problem: &Problem) {
    let Peer { uid: peer_uid, pid: peer_pid, listener, .. } = peer;
    debug!(name: "greeting_refused", reason = problem.code.name(), peer_uid, peer_pid, listener, "not greeted");
}

/// A request was answered with a problem; `corr_id` is none where the request could not be read.
pub(super) fn problem(peer: &Peer, op: Op, corr_id: Option<&[u8; 16]>, problem: &Problem) {
    let Peer { uid: peer_uid, pid: peer_pid, listener, .. } = peer;
    let reason = problem.code.name();
    if ours(problem.code) {
        let result = "failed";
        info!(
            name: "answer_failed", op = op.name(), result, reason,
            corr_id = corr_id.map(|id| hex::encode(id)), peer_uid, peer_pid, listener, "a request failed"
        );
    } else {
        let result = "refused";
        debug!(
            name: "answer_refused", op = op.name(), result, reason,
            corr_id = corr_id.map(|id| hex::encode(id)), peer_uid, peer_pid, listener, "a request was refused"
        );
    }
}

/// With which keys, and in which way, passports were verified.
#[derive(Clone, Copy)]
pub(super) struct By<'a> {
    pub(super) keyring: &'a Keyring,
    pub(super) way: Way,
}

/// Verdicts were given on `passports`.
pub(super) fn verified(
    peer: &Peer,
    asked: Asked<'_>,
    By { keyring, way }: By<'_>,
    passports: &[Passport<'_>],
    given: &[Verdict],
) {
    consumed(peer, asked, way, || kid(keyring, passports), given);
}

/// The same, of passports that are gone.
pub(super) fn consumed<'a>(
    peer: &Peer,
    asked: Asked<'_>,
    way: Way,
    kid: impl FnOnce() -> Option<Cow<'a, str>>,
    given: &[Verdict],
) {
    let Peer { uid: peer_uid, pid: peer_pid, listener, .. } = peer;
    debug!(
        name: "verified", op = asked.op.name(), result = result(accepted(given), given.len()), reason = reason(given),
        corr_id = hex::encode(asked.corr_id), kid = kid().as_deref(), batch_len = given.len(),
        accepted = accepted(given), verify_path = way.name(), peer_uid, peer_pid, listener, "verified"
    );
}

/// Passports were issued, or not, each by itself.
pub(super) fn issued(peer: &Peer, asked: Asked<'_>, results: &[Result<Issued, Problem>]) {
    let Peer { uid: peer_uid, pid: peer_pid, listener, .. } = peer;
    let done = || results.iter().filter_map(|one| one.as_ref().ok());
    debug!(
        name: "issued", op = asked.op.name(), result = result_of_issue(results),
        corr_id = hex::encode(asked.corr_id), kid = done().next().and_then(issued_kid).as_deref(),
        batch_len = results.len(), accepted = done().count(), peer_uid, peer_pid, listener, "issued"
    );
    // The reply to a batch is no problem, whatever is inside. One of its failures stands for all.
    if asked.op == Op::IssueBatch
        && let Some(first) = results.iter().filter_map(|one| one.as_ref().err()).find(|problem| ours(problem.code))
    {
        problem(peer, asked.op, Some(asked.corr_id), first);
    }
}

/// A secret was sealed or opened.
pub(super) fn sealed(peer: &Peer, asked: Asked<'_>, kid: &str) {
    let Peer { uid: peer_uid, pid: peer_pid, listener, .. } = peer;
    debug!(
        name: "secret_given", op = asked.op.name(), result = "ok", corr_id = hex::encode(asked.corr_id), kid, peer_uid,
        peer_pid, listener, "a secret was sealed or opened"
    );
}

/// What a request is known by.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) op: Op,
    pub(super) corr_id: &'a [u8; 16],
}

fn accepted(given: &[Verdict]) -> usize {
    given.iter().filter(|verdict| verdict.is_accepted()).count()
}

const fn result(accepted: usize, all: usize) -> &'static str {
    match accepted {
        0 if all > 0 => "refused",
        _ if accepted == all => "ok",
        _ => "mixed",
    }
}

/// Where nothing was issued, one fault of ours makes it a failure.
fn result_of_issue(results: &[Result<Issued, Problem>]) -> &'static str {
    match result(results.iter().filter(|one| one.is_ok()).count(), results.len()) {
        "refused" if results.iter().any(|one| one.as_ref().is_err_and(|problem| ours(problem.code))) => "failed",
        result => result,
    }
}

/// Why the only one was refused.
fn reason(given: &[Verdict]) -> Option<&'static str> {
    match given {
        [Verdict::Refused(code)] => Some(code.name()),
        [Verdict::Unproven { .. }] => Some(Code::PopInvalid.name()),
        _ => None,
    }
}

/// The kid of the only passport, if it is one of ours: any other is a stranger's text.
pub(super) fn kid<'a>(keyring: &Keyring, passports: &[Passport<'a>]) -> Option<Cow<'a, str>> {
    match *passports {
        [Passport::Envelope { kid, .. }] => keyring.get(kid).map(|_| Cow::Borrowed(kid)),
        [Passport::Jws { text }] => Jws::kid(text).filter(|kid| keyring.get(kid).is_some()).map(Cow::Owned),
        _ => None,
    }
}

fn issued_kid(issued: &Issued) -> Option<Cow<'_, str>> {
    match issued {
        Issued::Envelope { kid, .. } => Some(Cow::Borrowed(kid)),
        Issued::Jws { text } => Jws::kid(text).map(Cow::Owned),
    }
}

/// Whether the fault is on this side: what an operator wants to know of without asking for it.
const fn ours(code: Code) -> bool {
    matches!(
        code,
        Code::Internal
            | Code::NotReady
            | Code::HsmUnavailable
            | Code::HsmTimeout
            | Code::AuditUnavailable
            | Code::StoreUnavailable
            | Code::ClockSuspect
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_issued_by_a_fault_of_ours_has_failed() {
        let issued = || Ok(Issued::Envelope { kid: "k".to_owned(), msg: Vec::new(), sig: [0; 64] });
        let problem = |code| Err(Problem::new(code));
        let (fault, refusal) = (|| problem(Code::AuditUnavailable), || problem(Code::OpDenied));
        for (results, said) in [
            (vec![issued()], "ok"),
            (vec![issued(), fault(), refusal()], "mixed"),
            (vec![refusal(), refusal()], "refused"),
            (vec![fault()], "failed"),
            (vec![refusal(), fault()], "failed"),
            (vec![], "ok"),
        ] {
            assert_eq!(result_of_issue(&results), said, "{results:?}");
        }
    }
}
