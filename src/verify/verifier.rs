//! The way in force, and the nets under it (decision 0033).
//!
//! The reference, `verify_strict` of `ed25519-dalek`, is never far: known answers are asked before a fast way is used; every
//! few milliseconds one acceptance is verified by the reference as well, in the background; and refusals are confirmed by
//! it as far as each peer's budget goes. One difference, and the reference is all that is used from then on.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use strict25519::{Item, PreparedKey, Way, verify_many_by};
use tokio::sync::watch;

/// Between two looks at an acceptance. At 35 us each they take a third of a percent of a processor.
const PAUSE: Duration = Duration::from_millis(10);

/// For how long a sample of another key than the last one is preferred.
const OTHERS_FIRST: Duration = Duration::from_millis(10);

/// Refusals of one batch that are confirmed: more would hold the thread for longer than a stint lasts.
const CONFIRMED: usize = 4;

/// Differences that are kept until they are on record. After the first no fast way is used, so there are as many as threads
/// at most.
const MAX_DIFFERENCES: usize = 16;

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
    /// Those that nobody has taken yet.
    differences: Mutex<Vec<Difference>>,
    news: watch::Sender<()>,
}

/// One acceptance at a time for the reference to look at.
#[derive(Debug, Default)]
struct Samples {
    wanted: AtomicBool,
    /// Counts draws, and a key to hash that count with: which items are looked at changes, since a fault may be in one lane
    /// only, and nobody outside can tell which, nor be in step with it.
    turn: AtomicU64,
    dice: RandomState,
    /// Since when one is wanted, and the key of the one before.
    before: Mutex<(Option<Instant>, Option<[u8; 32]>)>,
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
    pub fn start(wanted: &[Way]) -> std::io::Result<Self> {
        let verifier = Self::with_engine(wanted, verify_many_by, Way::self_test);
        if verifier.way() != Way::Dalek {
            let inner = Arc::clone(&verifier.inner);
            thread::Builder::new().name("verify-sample".to_owned()).spawn(move || inner.look_on())?;
        }
        Ok(verifier)
    }

    /// The reference alone.
    pub fn reference() -> Self {
        Self::with_engine(&[], verify_many_by, Way::self_test)
    }

    /// One that nobody watches.
    #[cfg(all(test, feature = "daemon"))]
    pub(crate) fn unwatched(way: Way) -> Self {
        Self::with_engine(&[way], verify_many_by, |_| Ok(()))
    }

    /// One whose wanted way failed its self-test.
    #[cfg(all(test, feature = "daemon"))]
    pub(crate) fn failed(way: Way) -> Self {
        tests::errs_on_purpose();
        let fails = |way| Err(strict25519::SelfTestError { way, batch: 8 });
        Self::with_engine(&[way], verify_many_by, fails)
    }

    /// One whose way accepts whatever is not empty, and refuses what is.
    #[cfg(all(test, feature = "daemon"))]
    pub(super) fn gullible() -> Self {
        fn faulty(way: Way, items: &[Item<'_>], verdicts: &mut Vec<bool>) {
            tests::errs_on_purpose();
            verify_many_by(way, items, verdicts);
            if way == Way::Portable {
                verdicts.iter_mut().zip(items).for_each(|(verdict, item)| *verdict = !item.message.is_empty());
            }
        }
        Self::with_engine(&[Way::Portable], faulty, |_| Ok(()))
    }

    /// As if a net had caught something.
    #[cfg(all(test, feature = "daemon"))]
    pub(super) fn distrusted(&self, net: Net, about: &Item<'_>) {
        self.inner.distrust(self.way(), net, about);
    }

    fn with_engine(
        wanted: &[Way],
        engine: Engine,
        self_test: fn(Way) -> Result<(), strict25519::SelfTestError>,
    ) -> Self {
        let (mut differences, mut chosen) = (Vec::new(), Way::Dalek);
        for way in wanted.iter().copied().filter(|way| way.is_available()) {
            match self_test(way) {
                Ok(()) => {
                    chosen = way;
                    break;
                }
                Err(error) => {
                    let about = format!("a batch of {}", error.batch);
                    differences.push(Difference { way, net: Net::SelfTest, about });
                }
            }
        }
        let way = AtomicU8::new(index(chosen));
        let (samples, rechecked, news) = (Samples::default(), AtomicU64::new(0), watch::channel(()).0);
        let differences = Mutex::new(differences);
        Self { inner: Arc::new(Inner { way, engine, samples, rechecked, differences, news }) }
    }

    /// The way in force.
    pub fn way(&self) -> Way {
        self.inner.way()
    }

    /// Changes when there is a difference.
    pub fn news(&self) -> watch::Receiver<()> {
        self.inner.news.subscribe()
    }

    /// The differences since the last call, the oldest first.
    pub fn take_differences(&self) -> Vec<Difference> {
        std::mem::take(&mut *self.inner.differences.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many verdicts the reference has looked at: samples and refusals.
    pub fn rechecked(&self) -> u64 {
        self.inner.rechecked.load(Ordering::Relaxed)
    }

    /// The verdict on one item, for whoever made what it is about: a refusal is always confirmed.
    pub fn verify(&self, item: Item<'_>) -> bool {
        let mut verdicts = Vec::with_capacity(1);
        self.verify_many(&[item], &mut verdicts, || true);
        verdicts == [true]
    }

    /// Verifies each item as if it were alone; `verdicts` is cleared and filled, one entry per item, in order. Some refusals
    /// by a fast way are confirmed by the reference, as long as `may_confirm` says that there is budget for another one.
    pub fn verify_many(&self, items: &[Item<'_>], verdicts: &mut Vec<bool>, mut may_confirm: impl FnMut() -> bool) {
        let inner = &*self.inner;
        let way = inner.way();
        (inner.engine)(way, items, verdicts);
        if way == Way::Dalek {
            return;
        }
        // Without a table it was the reference that refused.
        let refused = |(item, good): &(&Item<'_>, &bool)| !**good && item.key.window().is_some();
        let count = items.iter().zip(&*verdicts).filter(refused).count();
        let first = if count > 1 { inner.samples.throw(count) } else { 0 };
        let some = items.iter().zip(&*verdicts).filter(refused).cycle().skip(first);
        for (item, _) in some.take(count.min(CONFIRMED)).take_while(|_| may_confirm()) {
            inner.rechecked.fetch_add(1, Ordering::Relaxed);
            if item.key.verify(item.message, item.signature) {
                inner.distrust(way, Net::Refusal, item);
                break;
            }
        }
        if inner.way() != way {
            // Nothing that this way said counts, whoever found out.
            verify_many_by(Way::Dalek, items, verdicts);
        } else if inner.samples.wanted.load(Ordering::Relaxed) {
            inner.samples.offer(way, items, verdicts, Instant::now());
        }
    }
}

impl Drop for Verifier {
    /// Ends the thread that looks at acceptances. Under the lock, so that it does not begin to wait after this.
    fn drop(&mut self) {
        self.inner.way.store(index(Way::Dalek), Ordering::Relaxed);
        let waiting = self.inner.samples.sample.lock().unwrap_or_else(PoisonError::into_inner);
        self.inner.samples.arrived.notify_all();
        drop(waiting);
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
        let mut differences = self.differences.lock().unwrap_or_else(PoisonError::into_inner);
        if differences.len() < MAX_DIFFERENCES {
            differences.push(Difference { way, net, about });
        }
        drop(differences);
        self.news.send_replace(());
        // Nobody looks at samples any more.
        self.samples.arrived.notify_all();
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
        self.samples.want(Instant::now());
        let mut slot = self.samples.sample.lock().unwrap_or_else(PoisonError::into_inner);
        let sample = loop {
            if let Some(sample) = slot.take() {
                break sample;
            }
            if self.way() == Way::Dalek {
                return;
            }
            slot = self.samples.arrived.wait(slot).unwrap_or_else(PoisonError::into_inner);
        };
        drop(slot);
        self.rechecked.fetch_add(1, Ordering::Relaxed);
        let Sample { way, key, message, signature } = &sample;
        let item = Item { key, message, signature };
        // The reference may use the same unit of the processor; the portable way does not.
        let mut portable = Vec::new();
        verify_many_by(Way::Portable, &[item], &mut portable);
        if !key.verify(message, signature) || portable != [true] {
            self.distrust(*way, Net::Sample, &item);
        }
    }
}

impl Samples {
    fn want(&self, now: Instant) {
        self.before.lock().unwrap_or_else(PoisonError::into_inner).0 = Some(now);
        self.wanted.store(true, Ordering::Relaxed);
    }

    /// One of `sides`, from 0; 0 when there are none.
    fn throw(&self, sides: usize) -> usize {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let sides = u64::try_from(sides).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.dice.hash_one(turn) % sides).unwrap_or_default()
    }

    /// Takes one of what was accepted. A processor that is broken is so for everybody, but a table only for its own key: so
    /// nobody who floods with the passports of one key keeps those of other keys from being looked at.
    fn offer(&self, way: Way, items: &[Item<'_>], verdicts: &[bool], now: Instant) {
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, last) = *before;
        let accepted = |(item, good): &(&Item<'_>, &bool)| **good && item.key.window().is_some();
        let another = |(item, _): &(&Item<'_>, &bool)| last.is_none_or(|last| *item.key.as_bytes() != last);
        let all = || items.iter().zip(verdicts).filter(accepted);
        let (count, others) = (all().count(), all().filter(another).count());
        let waited = since.is_none_or(|since| now.saturating_duration_since(since) >= OTHERS_FIRST);
        let picked = match others {
            0 if waited => all().nth(self.throw(count)),
            _ => all().filter(another).nth(self.throw(others)),
        };
        let Some((item, _)) = picked else { return };
        if !self.wanted.swap(false, Ordering::Relaxed) {
            return;
        }
        before.1 = Some(*item.key.as_bytes());
        drop(before);
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
