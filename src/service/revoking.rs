//! Revoke, BumpEpoch and Compromise. What was acknowledged is durable, and in effect for every verdict that is given after.

use std::sync::Arc;

use super::services::{Service, Turn, reply};
use super::{Client, Done, Later, problems};
use crate::check::{Claimed, authentic};
use crate::lifecycle::{Author, Daemon, Revoked, Wish};
use crate::policy::Operation;
use crate::state::{Owner, StateError};
use crate::verify::Keyring;
use crate::wire::{AdminOk, Code, Passport, Problem, Revocation, ServiceOk};

/// Revocations of one request.
pub(super) const MAX_REVOKED: usize = 256;
/// Revocations by services that are under way, of which half are one uid's at most: the queue of the state has room for eight
/// times as many, so that an admin's finds a place.
const REVOKING: usize = 128;
/// The longest reason, in bytes.
pub(super) const MAX_REASON: usize = 256;
/// The longest tenant, id or subject, in bytes.
const MAX_NAME: usize = 256;

/// What an admin wants revoked, owned.
pub(super) struct Wanted {
    pub(super) tenant: String,
    pub(super) what: Vec<Named>,
    pub(super) reason: String,
}

/// [`Revocation`], owned.
pub(super) enum Named {
    Id(String, Option<i64>),
    Subject(String, Option<i64>),
}

impl From<Revocation<'_>> for Named {
    fn from(one: Revocation<'_>) -> Self {
        match one {
            Revocation::Id { jti, exp } => Self::Id(jti.to_owned(), exp),
            Revocation::Subject { sub, before } => Self::Subject(sub.to_owned(), before),
        }
    }
}

impl Service {
    /// Revokes a passport that the peer presents. Whoever may issue from a template may take back what was issued from it.
    pub(super) fn revoke(&self, turn: &Turn, keyring: &Keyring, passport: &Passport<'_>) -> Result<Later, Problem> {
        let config = &turn.live.loaded.config;
        let inside = self.enter(turn, &self.gates.revoke, &self.client.place.share().revoke, REVOKING)?;
        let claimed = authentic(passport, keyring, &config.passport.issuer, config.limits.max_msg_bytes);
        let Claimed { tenant, jti, sub, template, exp } = claimed.map_err(|code| {
            let why = format!("this is no authentic passport of this issuer ({code})");
            Problem::saying(Code::Malformed, why)
        })?;
        turn.rights.decide_revoke(&tenant, &template).into_result().map_err(|denial| {
            self.client.denied(turn.corr_id, Operation::Revoke, &denial, |entry| {
                entry.subject(&sub).jti(&jti).template(&template)
            });
            problems::of_denial(&denial)
        })?;
        let (daemon, client) = (Arc::clone(self.daemon()), Arc::clone(&self.client.peer));
        let (peer, turn) = (self.client.on_record(), turn.owned());
        Ok(Box::pin(async move {
            let _inside = inside;
            let author = Author { peer: Some(peer), corr_id: turn.corr_id };
            let owner = Owner::Peer(client.uid);
            let wish = Wish { author: &author, owner, tenant: &tenant, reason: "presented by a service" };
            let now = daemon.reckoned();
            let until = daemon.matters_until(Some(exp), now);
            let result = match is_revoked(&daemon, &tenant, &jti, until).await {
                // It has expired, too, long ago.
                _ if until <= now.unix() => Ok(ServiceOk::Revoked { new: false }),
                Ok(true) => Ok(ServiceOk::Revoked { new: false }),
                Ok(false) => {
                    let revoked = daemon.revoke(wish, &[Revoked::Id { jti, exp: Some(exp) }]).await;
                    revoked.map(|new| ServiceOk::Revoked { new: new > 0 }).map_err(|error| problems::of_revoke(&error))
                }
                Err(error) => Err(problems::of_state(&error)),
            };
            let mut frame = Vec::new();
            reply(&daemon, &client, &turn, result, &mut frame);
            Done { frame, lease: None, sensitive: false }
        }))
    }
}

/// Whether the passport is revoked by its id, durably and for so long: to revoke it once more would cost a record and a sync.
async fn is_revoked(daemon: &Daemon, tenant: &str, jti: &str, until: i64) -> Result<bool, StateError> {
    let known = || daemon.store.kept().id_revoked_until(tenant, jti, until);
    if !known() {
        return Ok(false);
    }
    // What shows may not be durable yet, and may come to nothing.
    daemon.store.settle().await.map(|()| known())
}

impl Client {
    pub(super) async fn revoke(&self, wanted: Wanted, author: &Author) -> Result<AdminOk, Problem> {
        let Wanted { tenant, what, reason } = wanted;
        may_be_said(&reason)?;
        if what.is_empty() {
            return Ok(AdminOk::Revoked { new: 0 });
        }
        self.is_tenant(&tenant)?;
        if what.len() > MAX_REVOKED {
            return Err(Problem::too_large("the number of revocations", MAX_REVOKED));
        }
        let now = self.daemon.now();
        let by_clock = |one: &Named| matches!(one, Named::Id(_, None) | Named::Subject(..));
        if self.daemon.clock_doubt().is_some() && what.iter().any(by_clock) {
            // It would be kept for too short a time, or cover nothing that the right clock has issued.
            return Err(Problem::new(Code::ClockSuspect));
        }
        let now = now.unix();
        let what: Vec<Revoked> = what.into_iter().map(|one| of_admin(one, now)).collect::<Result<_, _>>()?;
        let wish = Wish { author, owner: Owner::Admin, tenant: &tenant, reason: &reason };
        let new = self.daemon.revoke(wish, &what).await.map_err(|error| problems::of_revoke(&error))?;
        Ok(AdminOk::Revoked { new: u32::try_from(new).unwrap_or(u32::MAX) })
    }

    pub(super) async fn bump_epoch(&self, tenant: &str, reason: &str, author: &Author) -> Result<AdminOk, Problem> {
        self.is_tenant(tenant)?;
        may_be_said(reason)?;
        let bumped = self.daemon.bump_epoch(tenant, reason, author).await;
        bumped.map(|epoch| AdminOk::EpochBumped { epoch }).map_err(|error| problems::of_revoke(&error))
    }

    pub(super) async fn compromise(&self, kid: &str, reason: &str, author: &Author) -> Result<AdminOk, Problem> {
        may_be_said(reason)?;
        let done = self.daemon.compromise(kid, reason, author).await;
        done.map_err(|error| self.unchanged(Operation::Compromise, kid, author.corr_id, &error))?;
        Ok(AdminOk::Done)
    }

    /// A tenant without keys has issued nothing: it is a slip of the pen, and what was meant would go on being accepted.
    fn is_tenant(&self, tenant: &str) -> Result<(), Problem> {
        if self.daemon.store.keys().iter().any(|key| key.tenant == tenant) {
            return Ok(());
        }
        Err(Problem::saying(Code::Malformed, "there is no tenant of that name; see passportctl keys"))
    }
}

pub(super) fn may_be_said(reason: &str) -> Result<(), Problem> {
    if reason.len() > MAX_REASON { Err(Problem::too_large("the reason's length", MAX_REASON)) } else { Ok(()) }
}

fn of_admin(one: Named, now: i64) -> Result<Revoked, Problem> {
    let (Named::Id(name, _) | Named::Subject(name, _)) = &one;
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(Problem::saying(Code::Malformed, "an id or subject has 1 to 256 bytes"));
    }
    match one {
        // One that is over already, or a slip: it is kept as if nobody had said.
        Named::Id(jti, exp) => Ok(Revoked::Id { jti, exp: exp.filter(|exp| *exp > now) }),
        Named::Subject(_, Some(before)) if before > now => Err(Problem::saying(
            Code::Malformed,
            "a subject is not revoked in advance; give a time that is not in the future",
        )),
        Named::Subject(sub, before) => Ok(Revoked::Subject { sub, before: before.unwrap_or(now) }),
    }
}
