//! What is counted of the ledger beside its records.

use prometheus::IntGauge;

use super::MetricsError;
use super::family::Maker;

/// `passport_checkpoint_*`, `passport_ledger_*`, `passport_ledger_left_seconds`.
#[derive(Debug)]
pub struct Ledger {
    /// `passport_checkpoint_records`: those that the newest checkpoint covers.
    pub checkpoint_records: IntGauge,
    /// `passport_checkpoint_time_seconds`: when it was signed.
    pub checkpoint_time: IntGauge,
    /// `passport_ledger_bytes`: what the ledger takes on its disk.
    pub bytes: IntGauge,
    /// `passport_ledger_segments`: in so many files.
    pub segments: IntGauge,
    /// `passport_ledger_free_bytes`: what that disk has left.
    pub free_bytes: IntGauge,
    /// `passport_ledger_left_seconds`: how long that lasts.
    pub left: IntGauge,
}

impl Ledger {
    pub(super) fn make(make: &Maker<'_>) -> Result<Self, MetricsError> {
        Ok(Self {
            checkpoint_records: make
                .gauge("passport_checkpoint_records", "Records of the ledger that the newest checkpoint covers.")?,
            checkpoint_time: make.gauge(
                "passport_checkpoint_time_seconds",
                "When the newest checkpoint was signed, in seconds since 1970; 0 before the first since the start.",
            )?,
            bytes: make.gauge("passport_ledger_bytes", "What the ledger takes on its disk, looked at every minute.")?,
            segments: make.gauge("passport_ledger_segments", "Files of the ledger, compressed ones included.")?,
            free_bytes: make.gauge("passport_ledger_free_bytes", "What the ledger's disk has left for the daemon.")?,
            left: make.gauge(
                "passport_ledger_left_seconds",
                "How long that lasts at the ledger's growth over the last day, or since the start; a hundred years where no end is in sight.",
            )?,
        })
    }
}
