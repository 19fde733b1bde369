//! The admin socket.

use std::sync::Arc;
use std::time::Instant;

use tracing::error;

use super::revoking::{MAX_REASON, Named, Wanted, may_be_said};
use super::shares::Place;
use super::{Client, Done, Refused, Speaker, Turned, outcome, problems};
use crate::audit::{AuditError, Outcome};
use crate::lifecycle::{Author, Daemon, KeyChangeError, MAX_TICKET_TTL_FOR_S, Reloaded};
use crate::metrics::{Answer, Endpoint, Op, Socket};
use crate::passport::MAX_TICKET_TTL_S;
use crate::policy::{Operation, Peer, Rights};
use crate::wire::{AdminOk, AdminOp, AdminReply, AdminRequest, Code, Problem, decode, encode_frame, peek_id};

/// Changes of a policy that the answer to `ReloadReport` lists; it counts the rest.
const MAX_LISTED: usize = 64;

/// Speaks with one admin.
#[expect(missing_debug_implementations, reason = "as Daemon")]
pub struct Admin {
    client: Arc<Client>,
}

impl Admin {
    /// For a peer that has its place.
    pub fn new(daemon: Arc<Daemon>, peer: Peer, place: Arc<Place>) -> Self {
        daemon.metrics.connections.at(Socket::Admin).inc();
        Self { client: Arc::new(Client::new(daemon, peer, place)) }
    }
}

impl Client {
    /// The whole of the admin socket, from request to reply.
    async fn administer(&self, rights: &Rights, corr_id: [u8; 16], op: Asked) -> Result<AdminOk, Problem> {
        let daemon = &self.daemon;
        let author = Author { peer: Some(self.on_record()), corr_id };
        match op {
            Asked::WhoAmI => Ok(AdminOk::WhoAmI(self.identity(rights))),
            Asked::Status => {
                self.permit(rights, Operation::Status, &author)?;
                Ok(AdminOk::Status(daemon.status().await.to_string()))
            }
            Asked::Health => {
                self.permit(rights, Operation::Health, &author)?;
                Ok(AdminOk::Health(daemon.report().to_health(true)))
            }
            Asked::Attest => {
                self.permit(rights, Operation::Attest, &author)?;
                let statement = daemon.attest(&author).await.map_err(|error| unrecorded(&error))?;
                Ok(AdminOk::Attest(statement.to_string()))
            }
            Asked::Stage(kid) => {
                self.permit(rights, Operation::Stage, &author)?;
                let staged = daemon.stage(&kid, &author).await;
                let staged = staged.map_err(|error| self.unchanged(Operation::Stage, &kid, corr_id, &error))?;
                Ok(AdminOk::Staged { kid: staged.kid, public: staged.public })
            }
            Asked::Activate(kid) => {
                self.permit(rights, Operation::Activate, &author)?;
                let active = daemon.activate(&kid, None, &author).await;
                let active = active.map_err(|error| self.unchanged(Operation::Activate, &kid, corr_id, &error))?;
                Ok(AdminOk::Activated { kid: active.kid, retired: active.retired })
            }
            Asked::ActivateNow(kid, reason) => {
                self.permit(rights, Operation::Activate, &author)?;
                may_be_said(&reason)?;
                let active = daemon.activate(&kid, Some(&reason), &author).await;
                let active = active.map_err(|error| self.unchanged(Operation::Activate, &kid, corr_id, &error))?;
                Ok(AdminOk::Activated { kid: active.kid, retired: active.retired })
            }
            Asked::Rollback { tenant, purpose, reason } => {
                self.permit(rights, Operation::Rollback, &author)?;
                may_be_said(&reason)?;
                let active = daemon.rollback((&tenant, &purpose), &reason, &author).await;
                let active = active.map_err(|error| self.unchanged(Operation::Rollback, "", corr_id, &error))?;
                Ok(AdminOk::Activated { kid: active.kid, retired: active.retired })
            }
            Asked::Confirm(kid) => {
                self.permit(rights, Operation::Confirm, &author)?;
                let confirmed = daemon.confirm(&kid, &author).await;
                confirmed.map_err(|error| self.unchanged(Operation::Confirm, &kid, corr_id, &error))?;
                Ok(AdminOk::Done)
            }
            Asked::Destroyed(kid) => {
                self.permit(rights, Operation::Destroy, &author)?;
                let destroyed = daemon.destroyed(&kid, &author).await;
                destroyed.map_err(|error| self.unchanged(Operation::Destroy, &kid, corr_id, &error))?;
                Ok(AdminOk::Done)
            }
            Asked::PauseIssue(reason) => {
                self.permit(rights, Operation::PauseIssue, &author)?;
                if reason.len() > MAX_REASON {
                    return Err(Problem::too_large("the reason's length", MAX_REASON));
                }
                daemon.pause(&reason, &author).await.map_err(|error| unrecorded(&error))?;
                Ok(AdminOk::Done)
            }
            Asked::ResumeIssue => {
                self.permit(rights, Operation::ResumeIssue, &author)?;
                daemon.resume(&author).await.map_err(|error| unrecorded(&error))?;
                Ok(AdminOk::Done)
            }
            Asked::Reload => {
                self.permit(rights, Operation::Reload, &author)?;
                let done = daemon.reload(&author).await.map_err(|error| problems::of_reload(&error))?;
                let Reloaded { old_policy, new_policy, changed, needs_restart, .. } = done;
                Ok(AdminOk::Reloaded { old_policy, new_policy, changed, needs_restart })
            }
            Asked::ReloadReport => {
                self.permit(rights, Operation::Reload, &author)?;
                let done = daemon.reload(&author).await.map_err(|error| problems::of_reload(&error))?;
                Ok(report(done))
            }
            Asked::Revoke(wanted) => {
                self.permit(rights, Operation::RevokeAny, &author)?;
                self.revoke(wanted, &author).await
            }
            Asked::BumpEpoch(tenant, reason) => {
                self.permit(rights, Operation::BumpEpoch, &author)?;
                self.bump_epoch(&tenant, &reason, &author).await
            }
            Asked::Compromise(kid, reason) => {
                self.permit(rights, Operation::Compromise, &author)?;
                self.compromise(&kid, &reason, &author).await
            }
            Asked::TicketTtl { seconds, for_s, reason } => {
                self.permit(rights, Operation::TicketTtl, &author)?;
                self.ticket_ttl(seconds, for_s, &reason, &author).await
            }
            Asked::Checkpoint => {
                self.permit(rights, Operation::Checkpoint, &author)?;
                let note = daemon.checkpoint().await.map_err(|error| problems::of_checkpoint(&error))?;
                Ok(AdminOk::Checkpoint(note.to_string()))
            }
            Asked::TestAppend(reason) => {
                self.permit(rights, Operation::TestAppend, &author)?;
                may_be_said(&reason)?;
                let seq = daemon.test_append(&reason, &author).await.map_err(|error| unrecorded(&error))?;
                Ok(AdminOk::Recorded { seq })
            }
            Asked::Drain | Asked::Undrain => {
                self.permit(rights, Operation::Drain, &author)?;
                let drain = matches!(op, Asked::Drain);
                daemon.set_drained(drain, &author).await.map_err(|error| unrecorded(&error))?;
                Ok(AdminOk::Done)
            }
        }
    }

    /// Whether policy lets this admin do it; a refusal goes on record.
    fn permit(&self, rights: &Rights, operation: Operation, author: &Author) -> Result<(), Problem> {
        let Err(denial) = rights.decide(operation).into_result() else { return Ok(()) };
        self.denied(author.corr_id, operation, &denial, |entry| entry);
        Err(problems::of_denial(&denial))
    }
}

impl Client {
    /// How long tickets may live for a while, within what the signer signs; nothing is cut to the bounds unsaid.
    async fn ticket_ttl(&self, seconds: u32, for_s: u32, reason: &str, author: &Author) -> Result<AdminOk, Problem> {
        may_be_said(reason)?;
        if for_s == 0 {
            self.daemon.end_ticket_ttl(reason, author).await.map_err(|error| unrecorded(&error))?;
            return Ok(AdminOk::Done);
        }
        if !(1..=MAX_TICKET_TTL_S).contains(&seconds) {
            return Err(Problem::saying(Code::Malformed, format!("a ticket lives for 1 to {MAX_TICKET_TTL_S} s")));
        }
        if for_s > MAX_TICKET_TTL_FOR_S {
            let why = format!("this is allowed for {MAX_TICKET_TTL_FOR_S} s (4 h) at most; it can be said again");
            return Err(Problem::saying(Code::Malformed, why));
        }
        let allowed = self.daemon.allow_ticket_ttl((seconds, for_s), reason, author).await;
        allowed.map_err(|error| unrecorded(&error))?;
        Ok(AdminOk::Done)
    }

    /// Why a key did not change; that goes on record. What ledger or state did not take is there already, or can't be.
    pub(super) fn unchanged(
        &self,
        operation: Operation,
        kid: &str,
        corr_id: [u8; 16],
        error: &KeyChangeError,
    ) -> Problem {
        use KeyChangeError::{Audit, Fleeting, Key, Name, NotThere, State, StillThere};
        let problem = problems::of_key_change(error);
        let outcome = match error {
            Audit(_) | State(_) => return problem,
            NotThere { .. } | StillThere { .. } | Name { .. } | Key(_) | Fleeting => Outcome::Refused,
            _ => Outcome::Failed,
        };
        self.not_done(corr_id, operation, outcome, |entry| {
            let entry = if kid.is_empty() { entry } else { entry.kid(kid) };
            entry.reason(problem.code.name()).detail(&error.to_string())
        });
        problem
    }
}

fn report(done: Reloaded) -> AdminOk {
    let Reloaded { old_policy, new_policy, old_config, new_config, changed, needs_restart, mut policy_changed } = done;
    let more = policy_changed.len().saturating_sub(MAX_LISTED);
    policy_changed.truncate(MAX_LISTED);
    let policy_more = u32::try_from(more).unwrap_or(u32::MAX);
    AdminOk::ReloadReport {
        old_config,
        new_config,
        changed,
        needs_restart,
        old_policy,
        new_policy,
        policy_changed,
        policy_more,
    }
}

fn unrecorded(error: &AuditError) -> Problem {
    Problem::saying(Code::AuditUnavailable, error.to_string())
}

/// [`AdminOp`], owned, since admin work outlives the buffer that it came in.
enum Asked {
    WhoAmI,
    Status,
    Health,
    Attest,
    Stage(String),
    Activate(String),
    PauseIssue(String),
    ResumeIssue,
    Reload,
    ReloadReport,
    Drain,
    Undrain,
    Revoke(Wanted),
    BumpEpoch(String, String),
    Compromise(String, String),
    TicketTtl { seconds: u32, for_s: u32, reason: String },
    Checkpoint,
    Rollback { tenant: String, purpose: String, reason: String },
    Confirm(String),
    Destroyed(String),
    ActivateNow(String, String),
    TestAppend(String),
}

impl From<AdminOp<'_>> for Asked {
    fn from(op: AdminOp<'_>) -> Self {
        match op {
            AdminOp::WhoAmI => Self::WhoAmI,
            AdminOp::Status => Self::Status,
            AdminOp::Health => Self::Health,
            AdminOp::Attest => Self::Attest,
            AdminOp::Stage { kid } => Self::Stage(kid.to_owned()),
            AdminOp::Activate { kid } => Self::Activate(kid.to_owned()),
            AdminOp::PauseIssue { reason } => Self::PauseIssue(reason.to_owned()),
            AdminOp::ResumeIssue => Self::ResumeIssue,
            AdminOp::Reload => Self::Reload,
            AdminOp::ReloadReport => Self::ReloadReport,
            AdminOp::Drain => Self::Drain,
            AdminOp::Undrain => Self::Undrain,
            AdminOp::Revoke { tenant, what, reason } => Self::Revoke(Wanted {
                tenant: tenant.to_owned(),
                what: what.into_iter().map(Named::from).collect(),
                reason: reason.to_owned(),
            }),
            AdminOp::BumpEpoch { tenant, reason } => Self::BumpEpoch(tenant.to_owned(), reason.to_owned()),
            AdminOp::Checkpoint => Self::Checkpoint,
            AdminOp::Compromise { kid, reason } => Self::Compromise(kid.to_owned(), reason.to_owned()),
            AdminOp::TicketTtl { seconds, for_s, reason } => {
                Self::TicketTtl { seconds, for_s, reason: reason.to_owned() }
            }
            AdminOp::Rollback { tenant, purpose, reason } => {
                let [tenant, purpose, reason] = [tenant, purpose, reason].map(str::to_owned);
                Self::Rollback { tenant, purpose, reason }
            }
            AdminOp::Confirm { kid } => Self::Confirm(kid.to_owned()),
            AdminOp::Destroyed { kid } => Self::Destroyed(kid.to_owned()),
            AdminOp::ActivateNow { kid, reason } => Self::ActivateNow(kid.to_owned(), reason.to_owned()),
            AdminOp::TestAppend { reason } => Self::TestAppend(reason.to_owned()),
        }
    }
}

fn reply(daemon: &Daemon, id: u64, op: Op, result: Result<AdminOk, Problem>, started: Instant, out: &mut Vec<u8>) {
    let answer = match &result {
        Ok(_) => Answer::OK,
        Err(problem) => Answer::problem(problem.code),
    };
    let mut reply = AdminReply { id, result };
    if let Err(error) = encode_frame(&reply, out) {
        reply.result = Err(problems::of_wire(error));
        if let Err(error) = encode_frame(&reply, out) {
            error!(name: "reply_not_encoded", %error, "a problem does not fit a frame");
        }
    }
    daemon.metrics.answered(op, answer, started.elapsed());
}

impl Speaker for Admin {
    fn greet(&self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Refused> {
        // Admins get in while the daemon drains: somebody has to be able to end it.
        self.client.greet(body, false, out)
    }

    async fn turn<'b>(&self, bodies: &mut (impl Iterator<Item = &'b [u8]> + Send), out: &mut Vec<u8>) -> Turned {
        let started = Instant::now();
        let Some(body) = bodies.next() else { return Turned::Done };
        let request: AdminRequest<'_> = match decode(body) {
            Ok(request) => request,
            Err(error) => {
                self.refuse(peek_id(body), problems::of_wire(error), out);
                return Turned::Done;
            }
        };
        let (id, corr_id, op) = (request.id, request.corr_id, Op::admin(&request.op));
        let asked = Asked::from(request.op);
        let client = Arc::clone(&self.client);
        let later = Box::pin(async move {
            let rights = client.rights(&client.daemon.live.load());
            let result = client.administer(&rights, corr_id, asked).await;
            let mut frame = Vec::new();
            if let Err(problem) = &result {
                outcome::problem(&client.peer, op, Some(&corr_id), problem);
            }
            reply(&client.daemon, id, op, result, started, &mut frame);
            Done { frame, lease: None, sensitive: false }
        });
        Turned::Later(later)
    }

    fn refuse_greeting(&self, out: &mut Vec<u8>) {
        self.client.refuse_greeting(Endpoint::Admin, out);
    }

    fn refuse(&self, id: u64, problem: Problem, out: &mut Vec<u8>) {
        outcome::problem(&self.client.peer, Op::Unreadable, None, &problem);
        reply(&self.client.daemon, id, Op::Unreadable, Err(problem), Instant::now(), out);
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.client.daemon.metrics.connections.at(Socket::Admin).dec();
    }
}
