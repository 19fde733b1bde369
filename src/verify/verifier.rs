//! The way in force, and the nets under it (decision 0033).
//!
//! The reference, `verify_strict` of `ed25519-dalek`, is never far: known answers are asked before a fast way is used; every
//! few milliseconds one acceptance is verified by the reference as well, in the background; and refusals are confirmed by
//! it as far as each peer's budget goes. One difference, and the reference is all that is used from then on.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use strict25519::{Item, PreparedKey, Way, Window, verify_many_by};
use tokio::sync::watch;

/// Between two looks at an acceptance. At 35 us each they take a third of a percent of a processor.
const PAUSE: Duration = Duration::from_millis(10);

/// What noticed that a way does not say what the reference says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Net {
    /// Known answers, at the start.
    SelfTest,
    /// A sample of what was accepted.
    Sample,
    /// A refusal that the reference did not confirm.
    Refusal,
}

impl Net {
    /// Every net.
    pub const ALL: [Self; 3] = [Self::SelfTest, Self::Sample, Self::Refusal];

    /// Its name in records, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SelfTest => "self_test",
            Self::Sample => "sample",
            Self::Refusal => "refusal",
        }
    }
}

/// A way gave another verdict than the reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The way.
    pub way: Way,
    /// What noticed.
    pub net: Net,
    /// What it was about, without the message: BLAKE3 of key, message and signature, or the size of a self-test's batch.
    pub about: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { way, net, about } = self;
        write!(f, "the verification path {way} differs from verify_strict ({}, {about})", net.name())
    }
}

/// Verifies by the wanted way as long as it can be trusted.
#[derive(Debug)]
pub struct Verifier {
    inner: Arc<Inner>,
}

/// Verifies items by a way; an argument so that tests can put a faulty one in.
type Engine = fn(Way, &[Item<'_>], &mut Vec<bool>);

#[derive(Debug)]
struct Inner {
    /// The index in [`Way::ALL`].
    way: AtomicU8,
    engine: Engine,
    samples: Samples,
    rechecked: AtomicU64,
    differences: watch::Sender<Option<Difference>>,
}

/// One acceptance at a time for the reference to look at.
#[derive(Debug, Default)]
struct Samples {
    wanted: AtomicBool,
    /// Counts offers, so that which item of a batch is taken changes: a fault may be in one lane only.
    turn: AtomicU64,
    sample: Mutex<Option<Sample>>,
    arrived: Condvar,
}

#[derive(Debug)]
struct Sample {
    way: Way,
    key: PreparedKey,
    message: Vec<u8>,
    signature: [u8; 64],
}

impl Verifier {
    /// The first way of `wanted`, best first, whose self-test passes; the reference if none does. Looks at acceptances from
    /// a thread of its own, if the way is not the reference.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(wanted: &[Way], window: Window) -> std::io::Result<Self> {
        let verifier = Self::with_engine(wanted, window, verify_many_by, Way::self_test);
        if verifier.way() != Way::Dalek {
            let inner = Arc::clone(&verifier.inner);
            thread::Builder::new().name("verify-sample".to_owned()).spawn(move || inner.look_on())?;
        }
        Ok(verifier)
    }

    /// The reference alone.
    pub fn reference() -> Self {
        Self::with_engine(&[], Window::WIDEST, verify_many_by, Way::self_test)
    }

    /// One whose wanted way failed its self-test.
    #[cfg(all(test, feature = "daemon"))]
    pub(crate) fn failed(way: Way) -> Self {
        let fails = |way, _| Err(strict25519::SelfTestError { way, batch: 8 });
        Self::with_engine(&[way], Window::WIDEST, verify_many_by, fails)
    }

    fn with_engine(
        wanted: &[Way],
        window: Window,
        engine: Engine,
        self_test: fn(Way, Window) -> Result<(), strict25519::SelfTestError>,
    ) -> Self {
        let (differences, _) = watch::channel(None);
        let mut chosen = Way::Dalek;
        for way in wanted.iter().copied().filter(|way| way.is_available()) {
            match self_test(way, window) {
                Ok(()) => {
                    chosen = way;
                    break;
                }
                Err(error) => {
                    let about = format!("a batch of {}", error.batch);
                    differences.send_replace(Some(Difference { way, net: Net::SelfTest, about }));
                }
            }
        }
        let way = AtomicU8::new(index(chosen));
        let (samples, rechecked) = (Samples::default(), AtomicU64::new(0));
        Self { inner: Arc::new(Inner { way, engine, samples, rechecked, differences }) }
    }

    /// The way in force.
    pub fn way(&self) -> Way {
        self.inner.way()
    }

    /// Shows the newest difference.
    pub fn differences(&self) -> watch::Receiver<Option<Difference>> {
        self.inner.differences.subscribe()
    }

    /// How many verdicts the reference has looked at: samples and refusals.
    pub fn rechecked(&self) -> u64 {
        self.inner.rechecked.load(Ordering::Relaxed)
    }

    /// Verifies each item as if it were alone; `verdicts` is cleared and filled, one entry per item, in order. A refusal by
    /// a fast way is confirmed by the reference for as long as `may_confirm` says that there is budget for another one.
    pub fn verify_many(&self, items: &[Item<'_>], verdicts: &mut Vec<bool>, mut may_confirm: impl FnMut() -> bool) {
        let inner = &*self.inner;
        let way = inner.way();
        (inner.engine)(way, items, verdicts);
        if way == Way::Dalek {
            return;
        }
        for (item, _) in items.iter().zip(&*verdicts).filter(|(_, good)| !**good) {
            if !may_confirm() {
                break;
            }
            inner.rechecked.fetch_add(1, Ordering::Relaxed);
            if item.key.verify(item.message, item.signature) {
                inner.distrust(way, Net::Refusal, item);
                // Nothing that this way said of the batch counts.
                verify_many_by(Way::Dalek, items, verdicts);
                return;
            }
        }
        if inner.samples.wanted.load(Ordering::Relaxed) {
            inner.samples.offer(way, items, verdicts);
        }
    }
}

impl Inner {
    fn way(&self) -> Way {
        let at = usize::from(self.way.load(Ordering::Relaxed));
        Way::ALL.get(at).copied().unwrap_or(Way::Dalek)
    }

    fn distrust(&self, way: Way, net: Net, item: &Item<'_>) {
        self.way.store(index(Way::Dalek), Ordering::Relaxed);
        let mut hash = blake3::Hasher::new();
        hash.update(item.key.as_bytes()).update(item.signature).update(item.message);
        let about = format!("BLAKE3 {}", hash.finalize().to_hex());
        self.differences.send_replace(Some(Difference { way, net, about }));
    }

    /// Until the way is the reference.
    fn look_on(&self) {
        while self.way() != Way::Dalek {
            self.look();
            thread::sleep(PAUSE);
        }
    }

    /// Waits for an acceptance and looks at it.
    fn look(&self) {
        self.samples.wanted.store(true, Ordering::Relaxed);
        let mut slot = self.samples.sample.lock().unwrap_or_else(PoisonError::into_inner);
        let sample = loop {
            if let Some(sample) = slot.take() {
                break sample;
            }
            slot = self.samples.arrived.wait(slot).unwrap_or_else(PoisonError::into_inner);
        };
        drop(slot);
        self.rechecked.fetch_add(1, Ordering::Relaxed);
        let Sample { way, key, message, signature } = &sample;
        if !key.verify(message, signature) {
            self.distrust(*way, Net::Sample, &Item { key, message, signature });
        }
    }
}

impl Samples {
    fn offer(&self, way: Way, items: &[Item<'_>], verdicts: &[bool]) {
        let turn = usize::try_from(self.turn.fetch_add(1, Ordering::Relaxed)).unwrap_or_default();
        let mut accepted = items.iter().zip(verdicts).filter(|(_, good)| **good).map(|(item, _)| item).cycle();
        // Any stride that is odd visits every lane.
        let Some(item) = accepted.nth(turn % items.len().max(1)) else { return };
        // Whoever comes first while one is wanted.
        if !self.wanted.swap(false, Ordering::Relaxed) {
            return;
        }
        let Item { key, message, signature } = *item;
        let sample = Sample { way, key: key.clone(), message: message.to_vec(), signature: *signature };
        *self.sample.lock().unwrap_or_else(PoisonError::into_inner) = Some(sample);
        self.arrived.notify_one();
    }
}

fn index(way: Way) -> u8 {
    match way {
        Way::Dalek => 0,
        Way::Portable => 1,
        Way::Ifma => 2,
    }
}

#[cfg(test)]
mod tests;
