//! What is counted of the ledger beside its records.

use prometheus::IntGauge;

use super::MetricsError;
use super::family::Maker;

/// `passport_checkpoint_*`.
#[derive(Debug)]
pub struct Ledger {
    /// `passport_checkpoint_records`: those that the newest checkpoint covers.
    pub checkpoint_records: IntGauge,
    /// `passport_checkpoint_time_seconds`: when it was signed.
    pub checkpoint_time: IntGauge,
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
        })
    }
}
