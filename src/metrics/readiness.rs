//! Whether the daemon can do its work, and if not, why: the answer of `/readyz`, of Health and of Status.

use serde::Serialize;

use crate::wire;

/// One thing that must hold. Names: `hsm`, `policy`, `audit`, `state`, `clock`, `keys`, `issuing`, `serving`.
/// Where `audit.journald` is `on`, `journald` too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// Its name.
    pub name: &'static str,
    /// Whether it holds.
    pub ok: bool,
    /// What it means that it does not, in fixed words that tell a stranger nothing: the detail of `/readyz`.
    #[serde(rename = "detail", skip_serializing_if = "str::is_empty")]
    pub summary: &'static str,
    /// Why it does not; for administrators only.
    #[serde(skip)]
    pub detail: String,
}

/// The daemon's state in the eyes of those who wait for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReadyReport {
    /// Passports can be issued.
    pub issue_ready: bool,
    /// Passports can be verified.
    pub verify_ready: bool,
    /// Each condition.
    pub conditions: Vec<Condition>,
}

impl ReadyReport {
    /// Whether `/readyz` answers 200: exactly when passports can be issued and verified.
    pub const fn ready(&self) -> bool {
        self.issue_ready && self.verify_ready
    }

    /// The body of `/readyz`. What administrators are told is left out: the port asks nobody who they are.
    ///
    /// # Errors
    /// None in practice: the report is plain data.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    /// The wire's form; details only for administrators.
    pub fn to_health(&self, with_details: bool) -> wire::Health {
        let condition = |condition: &Condition| wire::Condition {
            name: condition.name.to_owned(),
            ok: condition.ok,
            detail: if with_details { condition.detail.clone() } else { String::new() },
        };
        wire::Health {
            issue_ready: self.issue_ready,
            verify_ready: self.verify_ready,
            conditions: self.conditions.iter().map(condition).collect(),
        }
    }
}
