//! What is counted of tickets.

use prometheus::{IntCounter, IntGauge};

use super::family::{Family, Maker};
use super::{MetricsError, Opening};

/// `passport_tickets_*`, and what passports and tickets open.
#[derive(Debug)]
pub struct Tickets {
    /// `passport_tickets_issued_total`
    pub issued: IntCounter,
    /// `passport_tickets_expired_total`: that nobody used in time.
    pub expired: IntCounter,
    /// `passport_tickets_invalid_total`: refused ones, as often as they were.
    pub invalid: IntCounter,
    /// `passport_tickets_active`: issued here since the start, neither used nor expired.
    pub active: IntGauge,
    /// `passport_stream_openings_total{by}`: acceptances.
    pub openings: Family<Opening, IntCounter>,
}

impl Tickets {
    pub(super) fn make(make: &Maker<'_>) -> Result<Self, MetricsError> {
        Ok(Self {
            issued: make.counter("passport_tickets_issued_total", "Tickets issued.")?,
            expired: make
                .counter("passport_tickets_expired_total", "Tickets that expired before anybody used them.")?,
            invalid: make.counter("passport_tickets_invalid_total", "Tickets refused.")?,
            active: make.gauge(
                "passport_tickets_active",
                "Tickets issued since the start that are neither used nor expired.",
            )?,
            openings: make.counters((
                "passport_stream_openings_total",
                "Acceptances, by what was presented.",
                ["by"],
            ))?,
        })
    }
}
