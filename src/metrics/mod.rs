//! What the daemon counts, under the names of `docs/METRICS.md`.
//!
//! Label values come from closed sets ([`labels`]) or from words that a later room hands over when the metrics are
//! made. Every series exists from the start; hot paths hold handles, and counting is one atomic addition.

mod family;
pub mod labels;
mod ledger;
mod ops;
mod readiness;
mod signer;
mod tickets;

use std::sync::Mutex;
use std::time::Duration;

use prometheus::{Gauge, Histogram, IntCounter, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};
use thiserror::Error;

pub use family::{Family, Labels, Named, Worded};
pub use labels::{
    Act, Alg, Answer, Blocked, Breaker, Cache, Dependency, Endpoint, Label, Mode, Net, Op, Opening, Outcome, Path,
    Rung, Socket,
};
pub use ledger::Ledger;
pub use prometheus::{IntCounter as Counter, TEXT_FORMAT};
pub use readiness::{Condition, ReadyReport};
pub use tickets::Tickets;

use crate::passport::hex;
use crate::wire::Code;
use family::Maker;

/// Seconds. A verification takes tens of microseconds, a signature some hundred, a stuck HSM seconds.
const LATENCY_BUCKETS: [f64; 17] = [
    0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
    2.5, 10.0,
];
/// Items. `limits.max_batch` is at most 8192.
const BATCH_BUCKETS: [f64; 14] =
    [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0];
/// Bytes. A frame has at most 1 MiB.
const SIZE_BUCKETS: [f64; 9] = [64.0, 256.0, 512.0, 1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0];

/// A defect of ours: a name that is not valid or used twice. It shows in the first test and never later.
#[derive(Debug, Error)]
#[error("metrics: {0}")]
pub struct MetricsError(#[from] prometheus::Error);

/// Words of rooms that come later in the order, which this one can't import.
#[derive(Debug, Clone, Copy)]
pub struct Words {
    /// States of a key, for `passport_keys{state}`.
    pub key_states: &'static [&'static str],
    /// Types of audit records, for `ledger_events_total{type}`.
    pub ledger_events: &'static [&'static str],
}

/// Every metric of the daemon. One instance, shared by all rooms.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// `passport_ops_total{op,result,alg}`: items, alone or in batches.
    pub ops: Family<(Act, Outcome, Alg), IntCounter>,
    /// `passport_failures_total{reason}`: refused verdicts and problems, by code.
    pub failures: Family<Code, IntCounter>,
    /// `passport_requests_total{op,code}`: answered requests.
    pub requests: Family<(Op, Answer), IntCounter>,
    /// `passport_op_latency_seconds{op}`: from the complete frame to the answer.
    pub latency: Family<Op, Histogram>,
    /// `svc_passport_issue_latency_seconds`: signing for one request in which something was signed, all its passports
    /// together.
    pub issue_latency: Histogram,
    /// `ekey_issue_total{template}`: passports issued.
    pub ekey_issues: Named,
    /// `ekey_issue_latency_seconds`: from taking up a request to its durable record, if it issued anything.
    pub ekey_issue_latency: Histogram,
    /// `ekey_verify_success_total`: passports accepted.
    pub ekey_verified: IntCounter,
    /// `ekey_verify_replay_blocked_total`: refused since a nonce or proof was accepted before, or all uses were.
    pub ekey_replayed: IntCounter,
    /// `ekey_verify_invalid_proof_total`: refused since a proof of possession did not hold.
    pub ekey_unproven: IntCounter,
    /// `passport_batch_len`: items of a batch request.
    pub batch_len: Histogram,
    /// `passport_body_size_bytes`: bodies of request frames.
    pub body_size: Histogram,
    /// `passport_cache_items{kind}`
    pub cache_items: Family<Cache, IntGauge>,
    /// `passport_verify_cache_hits_total`: a signature was remembered as authentic.
    pub verify_hits: IntCounter,
    /// `passport_verify_cache_misses_total`: it was not, and there is a cache.
    pub verify_misses: IntCounter,
    /// `passport_vk_cache_hits_total`: a passport's kid was known.
    pub vk_hits: IntCounter,
    /// `passport_vk_cache_misses_total`: it was not.
    pub vk_misses: IntCounter,
    /// `passport_jwks_cache_hits_total`: Keys answered `not_modified`.
    pub jwks_hits: IntCounter,
    /// `passport_jwks_cache_misses_total`: Keys answered with the set.
    pub jwks_misses: IntCounter,
    /// `passport_rotations_total`: activations.
    pub rotations: IntCounter,
    /// `passport_rotation_due_seconds`: until the key that signs and is due first should be followed by another; negative if it
    /// should have been.
    pub rotation_due: IntGauge,
    /// `passport_keys{state}`
    pub keys: Worded<IntGauge>,
    /// `svc_passport_dependency_up{dep}`: 1 or 0.
    pub dependency_up: Family<Dependency, IntGauge>,
    /// `passport_issuance_blocked_total{reason}`
    pub issuance_blocked: Family<Blocked, IntCounter>,
    /// `busy_rejections_total{endpoint}`
    pub busy: Family<Endpoint, IntCounter>,
    /// `passport_connections{socket}`: open ones.
    pub connections: Family<Socket, IntGauge>,
    /// `passport_audit_lag_seconds`: age of the oldest record that is not durable yet.
    pub audit_lag: Gauge,
    /// `passport_journald_lag_seconds`: age of the oldest record that journald has not taken.
    pub journald_lag: Gauge,
    /// `passport_signer_restarts_total`: connections to a new signer after the first, which the last one had not announced.
    pub signer_restarts: IntCounter,
    /// `passport_signer_recycled_total`: signers that left to be started afresh.
    pub signer_recycled: IntCounter,
    /// `passport_signer_sessions`: sessions that sign.
    pub signer_sessions: IntGauge,
    /// `passport_signer_stuck`: workers given up whose call has not come back.
    pub signer_stuck: IntGauge,
    /// `passport_signer_rss_bytes`: resident memory of the signer, its module's leaks included.
    pub signer_rss: IntGauge,
    /// `passport_signer_ladder_total{rung}`: steps of recovery.
    pub signer_ladder: Family<Rung, IntCounter>,
    /// `passport_signer_refused_total{reason}`: what its guard refused.
    pub signer_refused: Worded<IntCounter>,
    /// `passport_signer_bad_signatures_total`: signatures of the HSM that did not verify.
    pub signer_bad_signatures: IntCounter,
    /// `passport_breakers{state}`: keys whose signatures are not asked for.
    pub breakers: Family<Breaker, IntGauge>,
    /// `passport_breaker_opened_total`
    pub breaker_opened: IntCounter,
    /// `ledger_events_total{type}`: durable records.
    pub ledger_events: Worded<IntCounter>,
    /// `passport_watchers`: those that wait for events.
    pub watchers: IntGauge,
    /// `bus_overflow_dropped_total`: events that went before every watcher can have read them.
    pub events_dropped: IntCounter,
    /// `bus_lagged_total`: answers that told a watcher that it had missed some.
    pub watchers_lagged: IntCounter,
    /// `passport_verify_rechecked_total`: verdicts of a fast way that the reference has looked at.
    pub verify_rechecked: IntCounter,
    /// `passport_verify_differences_total{net}`: verdicts that it did not share. The first one ends the way.
    pub verify_differences: Family<Net, IntCounter>,
    /// Tickets.
    pub tickets: Tickets,
    /// The ledger.
    pub ledger: Ledger,
    path: Family<Path, IntGauge>,
    mode: Family<Mode, IntGauge>,
    policy_info: Mutex<IntGaugeVec>,
}

impl Metrics {
    /// Makes every series, at zero.
    ///
    /// # Errors
    /// [`MetricsError`], which is a defect and no condition of the machine.
    pub fn new(words: Words) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let make = Maker(&registry);
        build_info(&registry)?;
        Ok(Self {
            ops: make.counters(("passport_ops_total", "Items, alone or in batches.", ["op", "result", "alg"]))?,
            failures: make.counters(("passport_failures_total", "Refusals and problems by code.", ["reason"]))?,
            requests: make.counters(("passport_requests_total", "Answered requests.", ["op", "code"]))?,
            latency: make.histograms(
                ("passport_op_latency_seconds", "From the complete request to its answer.", ["op"]),
                &LATENCY_BUCKETS,
            )?,
            issue_latency: make.histogram(
                "svc_passport_issue_latency_seconds",
                "From asking for a request's signatures to the last one checked; once for a request that got any.",
                &LATENCY_BUCKETS,
            )?,
            ekey_issues: make.named_counters(("ekey_issue_total", "Passports issued, by template.", "template"))?,
            ekey_issue_latency: make.histogram(
                "ekey_issue_latency_seconds",
                "From taking up a request to the durable record of what it issued; once for a request that issued any.",
                &LATENCY_BUCKETS,
            )?,
            ekey_verified: make.counter("ekey_verify_success_total", "Passports accepted.")?,
            ekey_replayed: make.counter(
                "ekey_verify_replay_blocked_total",
                "Passports refused since their nonce, proof or all of their uses were accepted before.",
            )?,
            ekey_unproven: make.counter(
                "ekey_verify_invalid_proof_total",
                "Passports refused since the proof of possession did not hold.",
            )?,
            batch_len: make.histogram("passport_batch_len", "Items of a batch request.", &BATCH_BUCKETS)?,
            body_size: make.histogram("passport_body_size_bytes", "Bodies of request frames.", &SIZE_BUCKETS)?,
            cache_items: make.gauges(("passport_cache_items", "Entries kept in memory.", ["kind"]))?,
            verify_hits: make.counter(
                "passport_verify_cache_hits_total",
                "Signatures that were known as authentic from a moment ago.",
            )?,
            verify_misses: make.counter(
                "passport_verify_cache_misses_total",
                "Signatures that were not, where verdicts are remembered.",
            )?,
            vk_hits: make.counter("passport_vk_cache_hits_total", "Verifications whose key was known.")?,
            vk_misses: make.counter("passport_vk_cache_misses_total", "Verifications whose key was not known.")?,
            jwks_hits: make.counter("passport_jwks_cache_hits_total", "Keys requests answered not_modified.")?,
            jwks_misses: make.counter("passport_jwks_cache_misses_total", "Keys requests answered with the set.")?,
            rotations: make.counter("passport_rotations_total", "Activations of a new key.")?,
            rotation_due: make.gauge(
                "passport_rotation_due_seconds",
                "Until the first key that signs should be rotated; negative when it should have been.",
            )?,
            keys: make.worded_gauges(("passport_keys", "Keys by state of their life.", "state"), words.key_states)?,
            dependency_up: make.gauges((
                "svc_passport_dependency_up",
                "Whether what the daemon needs is there.",
                ["dep"],
            ))?,
            issuance_blocked: make.counters((
                "passport_issuance_blocked_total",
                "Passports not issued because of the daemon's condition.",
                ["reason"],
            ))?,
            busy: make.counters(("busy_rejections_total", "Refusals because too much was under way.", ["endpoint"]))?,
            connections: make.gauges(("passport_connections", "Open connections.", ["socket"]))?,
            audit_lag: seconds(
                &registry,
                "passport_audit_lag_seconds",
                "Age of the oldest record that is not durable yet.",
            )?,
            journald_lag: seconds(
                &registry,
                "passport_journald_lag_seconds",
                "Age of the oldest record that journald has not taken yet.",
            )?,
            signer_restarts: make
                .counter("passport_signer_restarts_total", "New signers after the first that none had announced.")?,
            signer_recycled: make
                .counter("passport_signer_recycled_total", "Signers that left to be started afresh.")?,
            signer_sessions: make.gauge("passport_signer_sessions", "Sessions that sign.")?,
            signer_stuck: make.gauge("passport_signer_stuck", "Calls into the HSM's module that never came back.")?,
            signer_rss: make.gauge("passport_signer_rss_bytes", "Resident memory of the signer.")?,
            signer_ladder: make.counters((
                "passport_signer_ladder_total",
                "Steps of recovery from failures of the HSM.",
                ["rung"],
            ))?,
            signer_refused: make.worded_counters(
                ("passport_signer_refused_total", "Requests that the signer refused.", "reason"),
                &signer::REFUSALS,
            )?,
            signer_bad_signatures: make
                .counter("passport_signer_bad_signatures_total", "Signatures of the HSM that did not verify.")?,
            breakers: make.gauges(("passport_breakers", "Keys that are not asked for, since they fail.", ["state"]))?,
            breaker_opened: make.counter("passport_breaker_opened_total", "Keys that failed again and again.")?,
            ledger_events: make
                .worded_counters(("ledger_events_total", "Durable audit records.", "type"), words.ledger_events)?,
            watchers: make.gauge("passport_watchers", "Requests that wait for events.")?,
            events_dropped: make
                .counter("bus_overflow_dropped_total", "Events that went to make room for newer ones.")?,
            watchers_lagged: make
                .counter("bus_lagged_total", "Answers that told a watcher that it had missed events.")?,
            verify_rechecked: make
                .counter("passport_verify_rechecked_total", "Verdicts that the reference has looked at as well.")?,
            verify_differences: make.counters((
                "passport_verify_differences_total",
                "Verdicts that the reference did not share; the first one ends the fast path.",
                ["net"],
            ))?,
            tickets: Tickets::make(&make)?,
            ledger: Ledger::make(&make)?,
            path: make.gauges((
                "passport_verify_path",
                "How signatures are verified: 1 for the path in force.",
                ["path"],
            ))?,
            mode: make.gauges(("passport_mode", "Where the keys are: 1 for the mode in force.", ["mode"]))?,
            policy_info: Mutex::new(policy_info(&registry)?),
            registry,
        })
    }

    /// Counts one answered request and the time that it took.
    pub fn answered(&self, op: Op, answer: Answer, took: Duration) {
        self.requests.at((op, answer)).inc();
        self.latency.at(op).observe(took.as_secs_f64());
    }

    /// Says where the keys are.
    pub fn set_mode(&self, mode: Mode) {
        for each in Mode::all() {
            self.mode.at(each).set(i64::from(each == mode));
        }
    }

    /// Says how signatures are verified.
    pub fn set_path(&self, path: Path) {
        for each in Path::all() {
            self.path.at(each).set(i64::from(each == path));
        }
    }

    /// Says which policy is in force, by its hash. The series of the one before goes.
    pub fn set_policy(&self, hash: &[u8; 32]) {
        let text = hex::encode(hash);
        // One writer at a time, so that two reloads can't leave two series. A poisoned lock guards nothing that breaks.
        let info = self.policy_info.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        info.reset();
        info.with_label_values(&[&text]).set(1);
    }

    /// Everything in the text format 0.0.4 ([`TEXT_FORMAT`] is its content type).
    ///
    /// # Errors
    /// [`MetricsError`] if a family is inconsistent, which only a defect can make.
    pub fn render(&self) -> Result<Vec<u8>, MetricsError> {
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?.into_bytes())
    }
}

fn build_info(registry: &Registry) -> Result<(), MetricsError> {
    let opts = Opts::new("passport_build_info", "What is running; always 1.");
    let wire = crate::wire::WIRE_VERSION.to_string();
    let opts = opts.const_label("version", env!("CARGO_PKG_VERSION")).const_label("wire", wire);
    let info = IntGauge::with_opts(opts)?;
    info.set(1);
    Ok(registry.register(Box::new(info))?)
}

fn seconds(registry: &Registry, name: &str, help: &str) -> Result<Gauge, MetricsError> {
    let gauge = Gauge::new(name, help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

fn policy_info(registry: &Registry) -> Result<IntGaugeVec, MetricsError> {
    let info = IntGaugeVec::new(Opts::new("passport_policy_info", "The policy in force; always 1."), &["hash"])?;
    registry.register(Box::new(info.clone()))?;
    info.with_label_values(&["none"]).set(1);
    Ok(info)
}

#[cfg(test)]
mod tests;
