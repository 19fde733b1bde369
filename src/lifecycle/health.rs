//! Which conditions hold, by name: for `/readyz`, Health and Status, and as one line for the service manager.

use std::time::Duration;

use super::Daemon;
use super::clock::says;
use crate::audit::JOURNALD_SOCKET;
use crate::clock::Moment;
use crate::config::Journald;
use crate::metrics::{Condition, Dependency, ReadyReport};

/// What verification needs. Not `state`: keys and revocations are read from memory, and most acceptances change nothing.
/// One that takes a use, a nonce or a proof is `store_unavailable` while the state can't be written.
const VERIFYING: [&str; 2] = ["policy", "serving"];
/// What issuing needs beside that.
const ISSUING: [&str; 5] = ["hsm", "audit", "clock", "keys", "issuing"];

impl Daemon {
    /// Each condition, and what can be done under them. Cheap: nothing is asked of another process.
    pub fn report(&self) -> ReadyReport {
        let journald = self.audit.journald().is_some_and(crate::audit::JournaldStats::up);
        let conditions = self.conditions(journald);
        let holds = |names: &[&str]| conditions.iter().all(|one| one.ok || !names.contains(&one.name));
        let verify_ready = holds(&VERIFYING) && !self.keyring.load().is_empty();
        let issue_ready = verify_ready && holds(&ISSUING);
        self.metrics.dependency_up.at(Dependency::Audit).set(i64::from(self.audit.healthy()));
        self.metrics.dependency_up.at(Dependency::State).set(i64::from(self.store.trouble().is_none()));
        self.metrics.dependency_up.at(Dependency::Journald).set(i64::from(journald));
        self.metrics.audit_lag.set(self.audit.lag().as_secs_f64());
        let behind = self.audit.journald().map_or(Duration::ZERO, |journald| journald.lag(Moment::now()));
        self.metrics.journald_lag.set(behind.as_secs_f64());
        ReadyReport { issue_ready, verify_ready, conditions }
    }

    fn conditions(&self, journald: bool) -> Vec<Condition> {
        let hsm = self.hsm.load();
        let clock = self.clock_doubt().map(says);
        let keys = (!hsm.any_key).then(|| "no key signs passports; run `passportctl hsm init`".to_owned());
        let audit = if self.audit.healthy() { None } else { self.audit.trouble() };
        let serving = if self.ending() {
            Some("the daemon is ending".to_owned())
        } else {
            self.draining().then(|| "drained by an admin".to_owned())
        };
        let mut conditions = vec![
            condition("hsm", "the HSM does not sign", hsm.trouble.clone()),
            condition("policy", "", None),
            condition("audit", "the ledger can't be written", audit),
            condition("state", "the state can't be written", self.store.trouble()),
            condition("clock", "the clock can't be right", clock),
            condition("keys", "no key signs passports", keys),
            condition("issuing", "paused by an admin", self.paused().map(|reason| format!("paused: {reason}"))),
            condition("serving", "no new work is taken", serving),
        ];
        let live = self.live.load();
        if live.loaded.config.passport.jwks_file.is_some() {
            // In nobody's way either: services fetch the set over the socket.
            conditions.push(condition("published", "the key set is not published", self.published.trouble()));
        }
        if live.loaded.config.audit.journald == Journald::On {
            // Named, but in nobody's way: what must be durable is the ledger.
            let why = match self.audit.journald() {
                Some(_) => "takes no records",
                None => "was not there when the daemon started; restart it once journald runs",
            };
            let trouble = (!journald).then(|| format!("[audit] journald is on, and {JOURNALD_SOCKET} {why}"));
            conditions.push(condition("journald", "journald takes no records", trouble));
        }
        conditions
    }

    /// How it stands, on one line: `serving; keys 2`, or with every condition that does not hold. Everybody on the host may
    /// read it, so why is said only in words that are fixed.
    pub fn status_line(&self) -> String {
        line(&self.report(), self.keyring.load().len())
    }

    /// Has the service manager know how it stands, if that is something new.
    pub(super) fn tell_manager(&self) {
        self.manager.status(&self.status_line());
    }
}

fn condition(name: &'static str, summary: &'static str, trouble: Option<String>) -> Condition {
    let ok = trouble.is_none();
    Condition { name, ok, summary: if ok { "" } else { summary }, detail: trouble.unwrap_or_default() }
}

fn line(report: &ReadyReport, keys: usize) -> String {
    let mut parts = Vec::new();
    let failing = |name: &str| report.conditions.iter().find(|one| one.name == name && !one.ok);
    parts.push(failing("serving").map_or_else(|| "serving".to_owned(), |one| one.detail.clone()));
    for one in report.conditions.iter().filter(|one| !one.ok && one.name != "serving") {
        parts.push(match one.name {
            "issuing" => format!("issuing {}", one.summary),
            _ => one.summary.to_owned(),
        });
    }
    parts.push(format!("keys {keys}"));
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_does_not_hold() {
        let report = |conditions| ReadyReport { issue_ready: true, verify_ready: true, conditions };
        let holds = || condition("policy", "", None);
        let fails = |name, summary, why: &str| condition(name, summary, Some(why.to_owned()));
        assert_eq!(line(&report(vec![holds()]), 2), "serving; keys 2");
        let paused = vec![holds(), fails("issuing", "paused by an admin", "paused: incident 42")];
        assert_eq!(line(&report(paused), 2), "serving; issuing paused by an admin; keys 2");
        let bad = vec![
            fails("hsm", "the HSM does not sign", "no answer"),
            fails("audit", "the ledger can't be written", "/var/lib: disk full"),
            fails("serving", "no new work is taken", "drained by an admin"),
        ];
        let said = "drained by an admin; the HSM does not sign; the ledger can't be written; keys 0";
        assert_eq!(line(&report(bad), 0), said);
    }
}
