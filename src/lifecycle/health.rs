//! Which conditions hold, by name.

use super::Daemon;
use crate::audit::JOURNALD_SOCKET;
use crate::clock::Moment;
use crate::config::Journald;
use crate::metrics::{Condition, Dependency, ReadyReport};

/// How far the clock may stand behind the newest thing that the state knows, in seconds.
const CLOCK_SLACK_S: i64 = 300;

impl Daemon {
    /// Each condition, and what can be done under them. Cheap: nothing is asked of another process.
    pub fn report(&self) -> ReadyReport {
        let hsm = self.hsm.load();
        let snapshot = self.store.snapshot();
        let newest = snapshot.keys.iter().map(|key| key.staged_at).max().unwrap_or(snapshot.created);
        let behind = newest - Moment::now().unix();
        let clock = (behind > CLOCK_SLACK_S)
            .then(|| format!("the clock is {behind} s behind the newest key; set it right (timedatectl)"));
        let keys = (!hsm.any_key).then(|| "no key signs passports; run `passportctl hsm init`".to_owned());
        let audit = if self.audit.healthy() { None } else { self.audit.trouble() };
        let journald = self.audit.journald().is_some_and(crate::audit::JournaldStats::up);
        let mut conditions = vec![
            condition("hsm", hsm.trouble.clone()),
            condition("policy", None),
            condition("audit", audit),
            condition("state", self.store.trouble()),
            condition("clock", clock),
            condition("keys", keys),
            condition("issuing", self.paused().map(|reason| format!("paused: {reason}"))),
            condition("serving", self.draining().then(|| "draining".to_owned())),
        ];
        if self.live.load().loaded.config.audit.journald == Journald::On {
            // Named, but in nobody's way: what must be durable is the ledger.
            let why = match self.audit.journald() {
                Some(_) => "takes no records",
                None => "was not there when the daemon started; restart it once journald runs",
            };
            let trouble = (!journald).then(|| format!("[audit] journald is on, and {JOURNALD_SOCKET} {why}"));
            conditions.push(condition("journald", trouble));
        }
        let holds = |names: &[&str]| conditions.iter().all(|one| one.ok || !names.contains(&one.name));
        let verify_ready = holds(&["policy", "state", "serving"]) && !self.keyring.load().is_empty();
        let issue_ready = verify_ready && holds(&["hsm", "audit", "clock", "keys", "issuing"]);
        self.metrics.dependency_up.at(Dependency::Audit).set(i64::from(self.audit.healthy()));
        self.metrics.dependency_up.at(Dependency::State).set(i64::from(self.store.trouble().is_none()));
        self.metrics.dependency_up.at(Dependency::Journald).set(i64::from(journald));
        self.metrics.audit_lag.set(self.audit.lag().as_secs_f64());
        ReadyReport { issue_ready, verify_ready, conditions }
    }
}

fn condition(name: &'static str, trouble: Option<String>) -> Condition {
    Condition { name, ok: trouble.is_none(), detail: trouble.unwrap_or_default() }
}
