//! What an operator wants to see, as JSON documents.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Author, Daemon, NoCheckpoint};
use crate::audit::{AuditError, Event, Outcome};
use crate::clock::Moment;
use crate::config::Origin;
use crate::metrics::Socket;
use crate::passport::hex;
use crate::state::{KeyState, Role};
use crate::statement::{ATTESTATION_PREFIX, Signed};
use crate::wire::WIRE_VERSION;
use crate::wire::link::LinkKey;

/// The longest that Status waits for the signer's counts.
const STATS_WAIT: Duration = Duration::from_millis(500);

impl Daemon {
    /// Where keys, state and log are: `amnesia` says that what is durable is so for the life of this process.
    pub fn mode(&self) -> &'static str {
        if self.forgets() { "amnesia" } else { "hsm" }
    }

    /// What is revoked, and how much is kept.
    fn kept(&self) -> Value {
        let (keys, kept) = (self.store.keys(), self.store.kept());
        // One that is in a later epoch only because all are has none of its own.
        let tenants = keys.iter().map(|key| key.tenant.as_str()).chain(kept.epochs().map(|(tenant, _)| tenant));
        let ended = tenants.map(|tenant| (tenant, kept.epoch(tenant))).filter(|(_, epoch)| *epoch > 0);
        let epochs: BTreeMap<_, _> = ended.collect();
        json!({
            "revoked_ids": kept.revoked_ids(),
            "revoked_subjects": kept.revoked_subjects(),
            "rows": kept.len(),
            "epochs": epochs,
        })
    }

    /// Everything, for `Status`.
    pub async fn status(&self) -> Value {
        let live = self.live.load_full();
        let hsm = self.hsm.load_full();
        let stats = tokio::time::timeout(STATS_WAIT, self.signer.stats()).await.ok().and_then(Result::ok);
        let (seq, hash) = self.audit.head();
        let welcome = hsm.welcome.as_ref();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "wire": WIRE_VERSION,
            "issuer": live.loaded.config.passport.issuer,
            "mode": self.mode(),
            "durable": if self.forgets() { "for the life of the processes" } else { "over restarts" },
            "started": self.started.unix(),
            "uptime_s": Moment::now().unix() - self.started.unix(),
            "phase": if self.draining() { "draining" } else { "serving" },
            "issue_paused": self.paused(),
            "health": self.health(),
            "policy": {
                "hash": hex::encode(&live.policy.hash()),
                "dir": live.loaded.config.policy.dir,
                "peers": live.policy.rules().count(),
                "templates": live.policy.templates().count(),
            },
            "config": { "source": self.source(), "hash": hex::encode(&live.loaded.hash), "warnings": live.loaded.warnings },
            "keys": self.key_list(),
            "signer": {
                "up": hsm.trouble.is_none(),
                "why": hsm.trouble,
                "module": welcome.map(|welcome| &welcome.module),
                "token": welcome.map(|welcome| &welcome.token),
                "sessions": welcome.map(|welcome| welcome.sessions),
                "signatures": stats.map(|stats| stats.signatures),
                "refused": stats.map(|stats| stats.refused),
                "queued": stats.map(|stats| stats.queued),
                "stuck": stats.map(|stats| stats.stuck),
            },
            "audit": {
                "seq": seq,
                "hash": hex::encode(&hash),
                "healthy": self.audit.healthy(),
                "trouble": self.audit.trouble(),
                "checkpoint": self.checkpoint_status(),
                "room": self.audit.room().map(|room| json!({
                    "bytes": room.usage.bytes, "segments": room.usage.segments, "free_bytes": room.usage.free,
                    "days_left": room.days_left,
                })),
                "journald": self.audit.journald().is_some_and(crate::audit::JournaldStats::up),
            },
            "state": self.kept(),
            "tickets": self.ticket_status(),
            "connections": {
                "services": self.metrics.connections.at(Socket::Service).get(),
                "admins": self.metrics.connections.at(Socket::Admin).get(),
            },
            "sandbox": self.sandbox(),
            "processes": {
                "front": own_process(),
                "signer": stats.map(|stats| json!({ "rss_kib": stats.rss_kib, "cpu_us": stats.cpu_us })),
            },
        })
    }

    /// A statement, for `Attest`: what runs, under which configuration and policy, with which keys. That it was given is
    /// on record first; the statement's `audit_head` is that record, or a later one. It is signed if there is an audit key and the
    /// HSM signs, and says so if it is not.
    ///
    /// # Errors
    /// [`AuditError`]: it can't be put on record.
    pub async fn attest(&self, author: &Author) -> Result<Value, AuditError> {
        // Keys and their ETag are of one moment.
        let _one_at_a_time = self.changes.lock().await;
        self.audit.record(author.entry(Event::Attested, Outcome::Ok)).await?;
        let seen = self.signer.keys().await.unwrap_or_default();
        let mut statement = self.statement(&seen);
        let signed = self.sign_statement(&statement).await;
        if let Some(members) = statement.as_object_mut() {
            match signed {
                Ok(signature) => drop(members.insert("signature".to_owned(), json!(signature))),
                Err(error) => {
                    members.insert("signed".to_owned(), json!(false));
                    members.insert("unsigned_because".to_owned(), json!(error.to_string()));
                }
            }
        }
        Ok(statement)
    }

    async fn sign_statement(&self, statement: &Value) -> Result<Signed, NoCheckpoint> {
        let key = self.audit_key()?;
        let document = serde_json_canonicalizer::to_vec(statement).unwrap_or_default();
        let sig = self.signer.attest(&key.name, document.clone()).await?;
        let signed = Signed::new(&key.name, &sig);
        match signed.verify(ATTESTATION_PREFIX, &document, std::slice::from_ref(&key)) {
            Some(true) => Ok(signed),
            _ => Err(NoCheckpoint::Unfit(key.name)),
        }
    }

    /// `seen`: the keys as the signer sees them.
    fn statement(&self, seen: &[LinkKey]) -> Value {
        let live = self.live.load_full();
        let (seq, hash) = self.audit.head();
        json!({
            "type": "passportd/attestation/v1",
            "signed": true,
            "at": Moment::now().unix(),
            "version": env!("CARGO_PKG_VERSION"),
            "wire": WIRE_VERSION,
            "issuer": live.loaded.config.passport.issuer,
            "mode": self.mode(),
            "config_hash": hex::encode(&live.loaded.hash),
            "policy_hash": hex::encode(&live.policy.hash()),
            "jwks_etag": hex::encode(self.keyring.load().etag()),
            "keys": self.key_list(),
            "hsm": {
                "module": self.hsm.load().welcome.as_ref().map(|welcome| welcome.module.clone()),
                "token": self.hsm.load().welcome.as_ref().map(|welcome| welcome.token.clone()),
                // One that can be used has passed every check of its attributes: docs/HSM.md.
                "keys": seen.iter().map(|key| json!({ "kid": key.kid, "usable": key.usable, "problem": key.problem })).collect::<Vec<_>>(),
            },
            "audit_head": { "seq": seq, "hash": hex::encode(&hash) },
            "sandbox": self.sandbox(),
        })
    }

    fn health(&self) -> Value {
        let health = self.report().to_health(true);
        let conditions =
            health.conditions.iter().map(|one| json!({ "name": one.name, "ok": one.ok, "detail": one.detail }));
        json!({
            "issue_ready": health.issue_ready,
            "verify_ready": health.verify_ready,
            "conditions": conditions.collect::<Vec<_>>(),
        })
    }

    fn key_list(&self) -> Vec<Value> {
        let (table, at) = (self.store.keys(), self.judged());
        let live = self.live.load();
        let (warning_s, days) = (live.loaded.config.cache.jwks_ttl_s, live.loaded.config.passport.rotation_period_days);
        let keys = table.iter().map(|key| {
            let is = |state: KeyState| key.state == state;
            let back = is(KeyState::Active) && key.confirmed_at.is_none() && key.role != Role::Seal;
            let back_to = back.then(|| table.predecessor(key, at)).flatten();
            json!({
                "kid": key.kid,
                "role": key.role,
                "state": key.standing(at),
                "public": key.public.as_ref().map(|public| hex::encode(public)),
                "created": key.created,
                "staged_at": key.staged_at,
                "activated_at": key.activated_at,
                "retired_at": key.retired_at,
                "compromised_at": key.compromised_at,
                "destroyed_at": key.destroyed_at,
                "confirmed_at": key.confirmed_at,
                "activate_from": is(KeyState::Staged).then(|| table.ready_at(key, warning_s)),
                "rotate_by": super::ending::rotate_by(key, days),
                "verifies_until": key.verifies_until,
                "rollback_to": back_to.map(|back| &back.kid),
                "rollback_until": back_to.map(|back| back.verifies_until),
            })
        });
        keys.collect()
    }

    /// Where the configuration was read from, without the line.
    fn source(&self) -> Option<String> {
        // The issuer has no default, so it tells where the whole came from.
        match self.live.load().loaded.origins.get("passport.issuer")? {
            Origin::File { path, .. } => Some(path.display().to_string()),
            other => Some(other.to_string()),
        }
    }

    fn sandbox(&self) -> Value {
        let applied = &self.applied;
        json!({
            "role": applied.role,
            "uid": applied.identity.uid,
            "gid": applied.identity.gid,
            "capabilities_empty": applied.bounding_empty,
            "no_new_privs": applied.no_new_privs,
            "dumpable": applied.dumpable,
            "amnesia": applied.amnesia,
            "landlock": format!("{:?}, ABI {}", applied.landlock.level, applied.landlock.abi).to_lowercase(),
            "notes": applied.notes,
        })
    }
}

/// Resident memory and CPU time of this process.
fn own_process() -> Value {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF);
    let micros = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    json!({
        "pid": std::process::id(),
        "rss_kib": resident_kib(),
        "cpu_us": usage.map(|usage| micros(usage.user_time()) + micros(usage.system_time())).ok(),
    })
}

/// `VmRSS` of `/proc/self/status`.
fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").trim().parse().ok()
}
