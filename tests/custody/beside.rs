//! Who works beside a fault: a client that verifies a thousand passports a second. And what a process must come back to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use passportd::passport::OwnedEnvelope;
use passportd::wire::{Problem, ServiceOk, ServiceOp, Verdict};

use super::load::{Load, Told, on_record, only};
use super::proc;
use super::support::passports::{demo, for_demo, on_wire};
use super::support::raw::Raw;
use super::support::{House, eventually};

/// Verifications that are sent at once, and how often.
const TOGETHER: usize = 10;
const EVERY: Duration = Duration::from_millis(10);
/// An answer that takes longer counts as none.
const LATE: Duration = Duration::from_secs(1);
/// What an answer takes at most beside the time of an operation, which it may wait for in the queue and in the module.
const BESIDE: Duration = Duration::from_secs(2);
/// How long threads and descriptors of a fault that is over may stay.
const SETTLES: Duration = Duration::from_secs(10);

/// What the client was told.
#[derive(Debug, Default)]
struct Seen {
    accepted: u64,
    refused: Vec<Verdict>,
    problems: Vec<Problem>,
    slowest: Duration,
}

/// The client at work.
pub(crate) struct Beside {
    front: Baseline,
    stop: Arc<AtomicBool>,
    begun: Instant,
    client: JoinHandle<Seen>,
}

impl Beside {
    /// Starts it.
    pub(crate) fn start(house: &House) -> Self {
        let front = Baseline::of(house, "front");
        let stop = Arc::new(AtomicBool::new(false));
        let (mut raw, ours) = (house.raw(), Arc::clone(&stop));
        let passport = raw.issue(demo("verified")).unwrap();
        Self { front, stop, begun: Instant::now(), client: std::thread::spawn(move || work(&ours, raw, &passport)) }
    }

    /// Ends it, and asserts that nothing failed, and that the front has no more threads and descriptors than before it. How
    /// many verdicts it got.
    pub(crate) fn end(self, house: &House) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.client.join().expect("one connection, which lasts");
        assert!(seen.refused.is_empty() && seen.problems.is_empty() && seen.accepted > 0, "{seen:?}");
        assert!(seen.slowest < LATE, "a verdict took {:?}", seen.slowest);
        // Half of what it asks for at its pace: a machine has pauses.
        let (rate, paced) = (self.begun.elapsed() / u32::try_from(seen.accepted).unwrap(), EVERY / 10);
        assert!(rate < paced * 2, "a verdict in {rate:?}, asked for each {paced:?}");
        self.front.again(house);
        seen.accepted
    }
}

fn work(stop: &AtomicBool, mut raw: Raw, passport: &OwnedEnvelope) -> Seen {
    let (mut seen, mut due) = (Seen::default(), Instant::now());
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        for _ in 0..TOGETHER {
            raw.request(ServiceOp::Verify { want: for_demo(), passport: on_wire(passport) });
        }
        for _ in 0..TOGETHER {
            match raw.reply().result {
                Ok(ServiceOk::Verdict(Verdict::Accepted(_))) => seen.accepted += 1,
                Ok(ServiceOk::Verdict(refused)) => seen.refused.push(refused),
                Ok(other) => panic!("to Verify: {other:?}"),
                Err(problem) => seen.problems.push(problem),
            }
        }
        seen.slowest = seen.slowest.max(asked.elapsed());
        // What a pause of the machine has cost is not made up for: that would be a burst.
        due = (due + EVERY).max(asked);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    seen
}

/// Threads and descriptors of a role.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Baseline {
    role: &'static str,
    threads: usize,
    descriptors: Option<usize>,
}

impl Baseline {
    /// What it has now.
    pub(crate) fn of(house: &House, role: &'static str) -> Self {
        let pid = house.pid(role);
        Self { role, threads: proc::threads(pid), descriptors: proc::descriptors(pid).map(|all| all.len()) }
    }

    /// Waits until the role, or who has taken its place, has no more than that.
    pub(crate) fn again(self, house: &House) {
        let mut now = self;
        let settled = |now: &Self| now.threads <= self.threads && now.descriptors <= self.descriptors;
        eventually(&format!("{self:?} again"), SETTLES, || {
            now = Self::of(house, self.role);
            settled(&now).then_some(())
        });
    }
}

/// Everybody who is there while something fails: the client that verifies, and some that issue.
pub(crate) struct Company {
    beside: Beside,
    load: Load,
    signer: Baseline,
}

impl Company {
    /// Starts them, and waits until they are at work.
    pub(crate) fn start(house: &House, issuers: usize) -> Self {
        let signer = Baseline::of(house, "signer");
        let made = Self { beside: Beside::start(house), load: Load::start(house, issuers, 0), signer };
        let issued = "passport_ops_total{alg=\"Ed25519\",op=\"issue\",result=\"ok\"}";
        eventually("everybody is at work", SETTLES, || (house.metric(issued) > 100.0).then_some(()));
        made
    }

    /// Ends them. Asserts that every verdict came in time and accepted, that issuers were told nothing but passports and
    /// these problems, and that in time, that no passport is lost or bad, and that threads and descriptors are again as many as at the start.
    pub(crate) fn end(self, house: &House, codes: &[&str]) -> Told {
        let (told, _) = self.load.end();
        let verdicts = self.beside.end(house);
        println!(
            "{verdicts} verdicts; {} issued, {:?}, the slowest {:?}",
            told.jtis.len(),
            told.problems,
            told.slowest
        );
        only(&told, codes);
        assert_eq!(told.broken, 0, "connections outlive it");
        assert!(told.slowest < longest(house), "nobody waits for ever: {:?}", told.slowest);
        on_record(house, &told);
        self.signer.again(house);
        told
    }
}

/// The longest that any answer may take.
pub(crate) fn longest(house: &House) -> Duration {
    house.op_timeout() * 2 + BESIDE
}

/// Waits until passports are issued again after something is over, for two seconds at most. How long that took.
pub(crate) fn recovers(house: &House) -> Duration {
    recovers_since(house, Instant::now())
}

/// The same of something that was over at that moment.
pub(crate) fn recovers_since(house: &House, over: Instant) -> Duration {
    let left = Duration::from_secs(2).saturating_sub(over.elapsed());
    eventually("passports are issued again", left, || house.raw().issue(demo("again")).ok());
    let took = over.elapsed();
    println!("back after {took:?}");
    house.wait_ready();
    took
}
