//! Clients that issue and verify until they are told to stop, and remember what they were told.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ed25519_dalek::{Signature, VerifyingKey};
use passportd::passport::{OwnedEnvelope, parse_jwks};
use passportd::wire::{Code, Greeting, Reply, ServiceOk, ServiceOp, Verdict, decode};

use super::support::House;
use super::support::ledger::{self, jti};
use super::support::passports::{demo, for_demo, on_wire, owned};
use super::support::raw::{Raw, request};

/// Requests of one connection under way at once.
const PIPELINED: usize = 8;

/// How long a client waits that was told to come back later.
const REPELLED: Duration = Duration::from_millis(5);

/// What one client was told.
#[derive(Default)]
pub(crate) struct Told {
    /// The ids of passports received.
    pub(crate) jtis: Vec<String>,
    /// Passports of which another implementation says that they are none.
    pub(crate) bad: u64,
    /// Verdicts that accept.
    pub(crate) accepted: u64,
    /// Problems by code, and whether all were marked as worth trying again.
    pub(crate) problems: BTreeMap<String, u64>,
    /// Codes of problems that were not marked so.
    pub(crate) final_problems: Vec<Code>,
    /// Verdicts that refuse.
    pub(crate) refused: u64,
    /// Connections that broke.
    pub(crate) broken: u64,
    /// The longest that one answer took.
    pub(crate) slowest: Duration,
}

impl Told {
    fn merge(mut self, other: Self) -> Self {
        self.jtis.extend(other.jtis);
        self.bad += other.bad;
        self.accepted += other.accepted;
        for (code, count) in other.problems {
            *self.problems.entry(code).or_default() += count;
        }
        self.final_problems.extend(other.final_problems);
        self.refused += other.refused;
        self.broken += other.broken;
        self.slowest = self.slowest.max(other.slowest);
        self
    }

    fn note(&mut self, reply: Reply, keys: &Keys) {
        match reply.result {
            Ok(ServiceOk::Issued(issued)) => {
                let passport = owned(issued);
                self.bad += u64::from(!verifies(&passport, keys));
                self.jtis.push(jti(&passport.msg));
            }
            Ok(ServiceOk::Verdict(Verdict::Accepted(_))) => self.accepted += 1,
            Ok(ServiceOk::Verdict(Verdict::Refused(_))) => self.refused += 1,
            Ok(other) => panic!("{other:?}"),
            Err(problem) => {
                *self.problems.entry(problem.code.to_string()).or_default() += 1;
                if problem.retry_after_ms.is_some() {
                    // Not as long as they are told, but who comes back at once has the processors to themselves.
                    std::thread::sleep(REPELLED);
                }
                if !problem.retryable {
                    self.final_problems.push(problem.code);
                }
            }
        }
    }
}

/// Public keys by kid.
type Keys = BTreeMap<String, VerifyingKey>;

/// The keys that verify at this moment.
pub(crate) fn keys_of(house: &House) -> Keys {
    let Ok(ServiceOk::Keys(set)) = house.ask(ServiceOp::Keys { if_etag: None }) else { panic!("no keys") };
    let keys = parse_jwks(&set.jwks).unwrap();
    keys.into_iter().map(|key| (key.kid.to_string(), VerifyingKey::from_bytes(&key.public).unwrap())).collect()
}

/// What another implementation says of a passport.
pub(crate) fn verifies(passport: &OwnedEnvelope, keys: &Keys) -> bool {
    let signature = Signature::from_slice(&passport.sig).unwrap();
    keys.get(&passport.kid).is_some_and(|key| key.verify_strict(&passport.msg, &signature).is_ok())
}

/// Clients at work.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    issuers: Vec<JoinHandle<Told>>,
    verifiers: Vec<JoinHandle<Told>>,
}

impl Load {
    /// Starts `issuers` and `verifiers` with a connection each.
    pub(crate) fn start(house: &House, issuers: usize, verifiers: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let passport = house.raw().issue(demo("verified")).unwrap();
        let keys = Arc::new(keys_of(house));
        let spawn = |passport: Option<OwnedEnvelope>| {
            let (stop, socket, keys) = (Arc::clone(&stop), house.socket(), Arc::clone(&keys));
            std::thread::spawn(move || work(&stop, &socket, passport.as_ref(), &keys))
        };
        let issuers = (0..issuers).map(|_| spawn(None)).collect();
        let verifiers = (0..verifiers).map(|_| spawn(Some(passport.clone()))).collect();
        Self { stop: Arc::clone(&stop), issuers, verifiers }
    }

    /// Ends them; what issuers and verifiers were told.
    pub(crate) fn end(self) -> (Told, Told) {
        self.stop.store(true, Ordering::Relaxed);
        let all = |threads: Vec<JoinHandle<Told>>| {
            threads.into_iter().map(|thread| thread.join().unwrap()).fold(Told::default(), Told::merge)
        };
        (all(self.issuers), all(self.verifiers))
    }
}

fn work(stop: &AtomicBool, socket: &Path, passport: Option<&OwnedEnvelope>, keys: &Keys) -> Told {
    let mut told = Told::default();
    while !stop.load(Ordering::Relaxed) {
        match connect(socket) {
            Some(raw) => converse(stop, raw, passport, keys, &mut told),
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    told
}

fn connect(socket: &Path) -> Option<Raw> {
    let mut raw = Raw::connect(socket).ok()?;
    matches!(raw.greet(), Ok(Greeting::Welcome(_))).then_some(raw)
}

/// Keeps some requests under way until told to stop; then takes the answers that are still to come.
fn converse(stop: &AtomicBool, mut raw: Raw, passport: Option<&OwnedEnvelope>, keys: &Keys, told: &mut Told) {
    let (mut next, mut waiting) = (1, BTreeMap::new());
    let mut writable = true;
    loop {
        while writable && waiting.len() < PIPELINED && !stop.load(Ordering::Relaxed) {
            let frame = match passport {
                Some(passport) => request(next, ServiceOp::Verify { want: for_demo(), passport: on_wire(passport) }),
                None => request(next, ServiceOp::Issue(demo("alice"))),
            };
            // A daemon that ends does not read any more, and may still have answers.
            writable = raw.send(&frame).is_ok();
            waiting.insert(next, Instant::now());
            next += 1;
        }
        if waiting.is_empty() {
            return;
        }
        let Ok(Some(body)) = raw.body() else {
            told.broken += 1;
            return;
        };
        let reply: Reply = decode(&body).unwrap();
        let asked = waiting.remove(&reply.id).expect("one answer for each request");
        told.slowest = told.slowest.max(asked.elapsed());
        told.note(reply, keys);
    }
}

/// Asserts that issuers were told nothing but passports and these problems, and that each may be tried again.
pub(crate) fn only(told: &Told, codes: &[&str]) {
    let strange: Vec<_> = told.problems.keys().filter(|code| !codes.contains(&code.as_str())).collect();
    assert!(strange.is_empty(), "{strange:?} of {:?}", told.problems);
    assert!(told.final_problems.is_empty(), "not marked as worth trying again: {:?}", told.final_problems);
}

/// Asserts that each passport that somebody received is one, and has exactly one record, and that the ledger verifies.
/// Returns how many records more there are.
pub(crate) fn on_record(house: &House, told: &Told) -> usize {
    assert_eq!(told.bad, 0, "passports that do not verify");
    let records = ledger::issued(&house.ledger());
    for jti in &told.jtis {
        assert_eq!(records.get(jti), Some(&1), "records of {jti}");
    }
    ledger::assert_chain(&house.ledger());
    records.len() - told.jtis.iter().collect::<HashSet<_>>().len()
}
