//! How signatures are verified: which way the configuration wants, and what becomes of one that can't be trusted.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::{Author, Daemon};
use crate::audit::{AuditError, Event, Outcome};
use crate::config::{Engine, Verify};
use crate::metrics::{Cache, Metrics, Net as NetLabel, Path};
use crate::verify::{Difference, Net, Verdicts, Verifier, Way, say_difference, say_way, ways};

/// Between looks at the counters, and attempts to put a difference on record.
const AGAIN: Duration = Duration::from_secs(1);

/// The verifier that the configuration asks for.
///
/// # Errors
/// A thread could not be started.
pub fn verifier(config: &Verify) -> io::Result<Verifier> {
    Verifier::start(ways(config.engine))
}

/// Room for the verdicts that the configuration wants remembered.
///
/// # Errors
/// The system gives no random numbers.
pub fn verdicts(config: &Verify, metrics: &Metrics) -> io::Result<Verdicts> {
    let (hits, misses) = (metrics.verify_hits.clone(), metrics.verify_misses.clone());
    Verdicts::new(config.cache_items, hits, misses)
}

/// Memory for the tables of all keys, in bytes; the reference needs none.
pub(super) fn table_bytes(config: &Verify) -> usize {
    match config.engine {
        Engine::Dalek => 0,
        Engine::Portable | Engine::Auto => usize::try_from(config.table_bytes).unwrap_or(usize::MAX),
    }
}

/// Counts what the nets under the fast ways have looked at, and puts on record what they caught.
pub async fn watch_verifier(daemon: Arc<Daemon>) {
    let mut news = daemon.verifier.news();
    let mut stopping = daemon.stopping();
    let (mut unrecorded, mut counted) = (Vec::new(), 0);
    loop {
        // One more look after the end.
        let last = *stopping.borrow_and_update();
        let rechecked = daemon.verifier.rechecked();
        daemon.metrics.verify_rechecked.inc_by(rechecked.saturating_sub(counted));
        counted = rechecked;
        daemon.metrics.set_path(path(daemon.verifier.way()));
        let known = i64::try_from(daemon.verdicts.len()).unwrap_or(i64::MAX);
        daemon.metrics.cache_items.at(Cache::Verdicts).set(known);
        for difference in daemon.verifier.take_differences() {
            daemon.tell(&difference);
            unrecorded.push(difference);
        }
        while let Some(difference) = unrecorded.first() {
            if daemon.record_difference(difference).await.is_err() {
                break;
            }
            unrecorded.remove(0);
        }
        if last {
            return;
        }
        tokio::select! {
            _ = news.changed() => {}
            () = tokio::time::sleep(AGAIN) => {}
            _ = stopping.changed() => {}
        }
    }
}

impl Daemon {
    pub(super) fn tell(&self, difference: &Difference) {
        say_difference(difference);
        self.metrics.verify_differences.at(label(difference.net)).inc();
    }

    async fn record_difference(&self, difference: &Difference) -> Result<(), AuditError> {
        let entry = Author::NOBODY.entry(Event::VerifyPathDistrusted, Outcome::Failed);
        let entry = entry.reason(difference.net.name()).detail(&difference.to_string());
        self.audit.record(entry).await.map(drop)
    }
}

/// Says how signatures are verified from the start.
pub(super) fn announce(metrics: &Metrics, verifier: &Verifier) {
    let way = verifier.way();
    metrics.set_path(path(way));
    say_way(way);
}

fn path(way: Way) -> Path {
    match way {
        Way::Dalek => Path::Dalek,
        Way::Portable => Path::Portable,
        Way::Ifma => Path::Ifma,
    }
}

fn label(net: Net) -> NetLabel {
    match net {
        Net::SelfTest => NetLabel::SelfTest,
        Net::Sample => NetLabel::Sample,
        Net::Refusal => NetLabel::Refusal,
    }
}
