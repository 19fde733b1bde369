//! The epochs that tenants are in, and what was done to the file while no daemon ran.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What is done to a file before a daemon has it again, at most.
pub(super) const MAX_PENDING: usize = 16;

/// The epochs of the tenants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Epochs {
    pub(super) floor: u64,
    pub(super) own: BTreeMap<String, u64>,
}

impl Epochs {
    /// The one that the tenant is in: its own, or the one that all have begun with since.
    pub fn of(&self, tenant: &str) -> u64 {
        self.own.get(tenant).copied().unwrap_or(0).max(self.floor)
    }

    /// The one that every tenant is in at least.
    pub const fn floor(&self) -> u64 {
        self.floor
    }

    /// The tenants whose epoch was bumped, and their epochs.
    pub fn each(&self) -> impl Iterator<Item = (&str, u64)> {
        self.own.iter().map(|(tenant, epoch)| (tenant.as_str(), *epoch))
    }
}

/// What was done to the file while no daemon ran. The next one that opens it puts it on record, and ends every tenant's epoch,
/// before it does anything else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// What.
    pub what: Done,
    /// When, by the clock as it stood then, in seconds since 1970.
    pub at: i64,
    /// The uid that did it.
    pub uid: u32,
    /// Why.
    pub reason: String,
}

/// What can be done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Done {
    /// A backup took its place.
    Restored {
        /// The newest audit record that the backup knew of.
        audit_seq: u64,
    },
    /// The mark of the clock was set.
    ClockReset {
        /// Before, in seconds since 1970.
        from: i64,
        /// Since then.
        to: i64,
    },
}
