//! What the log says of requests: the one place that sees how each of them ended. The macros look at the level before they
//! look at anything else, so that an event that is turned off costs one load and one comparison; nothing here writes out a
//! value before that. No event holds a byte that was signed or is to be signed.

use tracing::{debug, info};

use crate::metrics::{Label as _, Op};
use crate::passport::hex;
use crate::policy::Peer;
use crate::verify::{self, Keyring};
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

/// Verdicts were given on `passports`.
pub(super) fn verified(
    peer: &Peer,
    asked: Asked<'_>,
    keyring: &Keyring,
    passports: &[Passport<'_>],
    given: &[Verdict],
) {
    let Peer { uid: peer_uid, pid: peer_pid, listener, .. } = peer;
    debug!(
        name: "verified", op = asked.op.name(), result = result(accepted(given), given.len()), reason = reason(given),
        corr_id = hex::encode(asked.corr_id), kid = kid(keyring, passports), batch_len = given.len(),
        accepted = accepted(given), verify_path = verify::PATH, peer_uid, peer_pid, listener, "verified"
    );
}

/// Passports were issued, or not, each by itself.
pub(super) fn issued(peer: &Peer, asked: Asked<'_>, results: &[Result<Issued, Problem>]) {
    let Peer { uid: peer_uid, pid: peer_pid, listener, .. } = peer;
    let done = || results.iter().filter_map(|one| one.as_ref().ok());
    debug!(
        name: "issued", op = asked.op.name(), result = result(done().count(), results.len()),
        corr_id = hex::encode(asked.corr_id), kid = done().next().map(|Issued::Envelope { kid, .. }| kid.as_str()),
        batch_len = results.len(), accepted = done().count(), peer_uid, peer_pid, listener, "issued"
    );
    // The reply to a batch is no problem, whatever is inside. One of its failures stands for all.
    if asked.op == Op::IssueBatch
        && let Some(first) = results.iter().filter_map(|one| one.as_ref().err()).find(|problem| ours(problem.code))
    {
        problem(peer, asked.op, Some(asked.corr_id), first);
    }
}

/// What a request is known by.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) op: Op,
    pub(super) corr_id: &'a [u8; 16],
}

fn accepted(given: &[Verdict]) -> usize {
    given.iter().filter(|verdict| matches!(verdict, Verdict::Accepted(_))).count()
}

const fn result(accepted: usize, all: usize) -> &'static str {
    match accepted {
        0 if all > 0 => "refused",
        _ if accepted == all => "ok",
        _ => "mixed",
    }
}

/// Why the only one was refused.
fn reason(given: &[Verdict]) -> Option<&'static str> {
    match given {
        [Verdict::Refused(code)] => Some(code.name()),
        _ => None,
    }
}

/// The kid of the only passport, if it is one of ours: any other is a stranger's text.
fn kid<'a>(keyring: &Keyring, passports: &[Passport<'a>]) -> Option<&'a str> {
    match passports {
        [Passport::Envelope { kid, .. }] => keyring.get(kid).map(|_| *kid),
        _ => None,
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
