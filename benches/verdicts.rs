//! Whether it pays to remember verdicts: what the signature step costs for messages of 300 bytes, one by one and in piles of
//! 64, without a cache, by a hit and by a miss. They take turns, so that whatever else the machine does disturbs all alike,
//! and a turn is short; of each, the time that one turn in twenty keeps is what counts.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use ed25519_dalek::{Signer as _, SigningKey};
use passportd::metrics::Counter;
use passportd::verify::{Item, PreparedKey, Verdicts, Verifier, Way, Window};

const ROUNDS: usize = 201;
/// In one turn.
const SIGNATURES: usize = 64;
/// Far more than the cache holds, so that each comes back when it is forgotten.
const POOL: usize = 8192;
const KEPT: usize = 1024;

type Signed = (Vec<u8>, [u8; 64]);

struct Subject {
    name: String,
    verifier: Verifier,
    /// What is remembered, and whether what it is asked is among it.
    known: Option<(Verdicts, bool)>,
    now: Instant,
    at: usize,
    turns: Vec<Duration>,
}

impl Subject {
    fn new(way: Way, known: Option<bool>) -> Self {
        let counter = |name| Counter::new(name, "-").unwrap();
        let kind = match known {
            None => "no cache",
            Some(true) => "hit",
            Some(false) => "miss",
        };
        let verifier = Verifier::start(&[way]).unwrap();
        assert_eq!(verifier.way(), way);
        let known = known.map(|hit| (Verdicts::new(KEPT, counter("hits"), counter("misses")).unwrap(), hit));
        Self { name: format!("{way}, {kind}"), verifier, known, now: Instant::now(), at: 0, turns: Vec::new() }
    }

    /// Verifies [`SIGNATURES`], `pile` at a time.
    fn turn(&mut self, key: &PreparedKey, pool: &[Signed], pile: usize) {
        let item = |(message, signature)| Item { key, message, signature };
        let always = self.known.as_ref().is_some_and(|(_, hit)| *hit);
        let begin = if always { 0 } else { self.at };
        let items: Vec<_> = pool
            .iter()
            .cycle()
            .skip(begin)
            .take(SIGNATURES)
            .map(|(message, signature)| item((message, signature)))
            .collect();
        self.at = (begin + SIGNATURES) % pool.len();
        let mut verdicts = Vec::with_capacity(pile);
        // So that each finds its tables where they would be under load.
        self.verifier.verify_many(&items, &mut verdicts, || true);
        let (mut hits, begun) = (0, Instant::now());
        for part in items.chunks(pile) {
            match &self.known {
                None => self.verifier.verify_many(black_box(part), &mut verdicts, || true),
                Some((known, _)) => {
                    hits += known.verify_many(&self.verifier, self.now, black_box(part), &mut verdicts, || true);
                }
            }
            assert!(verdicts.iter().all(|good| *good));
        }
        let took = begun.elapsed();
        if let Some((_, hit)) = &self.known {
            // The first turn of those that hit fills the cache.
            if *hit && hits == 0 {
                return;
            }
            assert_eq!(hits, if *hit { SIGNATURES } else { 0 });
            // As if the pool took longer than anything is remembered.
            self.now += Duration::from_millis(if *hit { 0 } else { 100 });
        }
        self.turns.push(took);
    }

    /// Nanoseconds for one signature.
    fn undisturbed(&mut self) -> f64 {
        self.turns.sort_unstable();
        let turn = self.turns.get(self.turns.len() / 20).unwrap();
        turn.as_secs_f64() * 1e9 / f64::from(u32::try_from(SIGNATURES).unwrap())
    }
}

fn main() {
    let signer = SigningKey::from_bytes(&[7; 32]);
    let key = PreparedKey::new(signer.verifying_key().as_bytes()).unwrap().with_table(Window::WIDEST);
    let message = |number: usize| [&number.to_le_bytes()[..], &[b'x'; 292]].concat();
    let sign = |number| {
        let message = message(number);
        let signature = signer.sign(&message).to_bytes();
        (message, signature)
    };
    let pool: Vec<Signed> = (0..POOL).map(sign).collect();
    println!("| at a time | | ns a signature | of no cache |\n|---|---|---|---|");
    for pile in [1, SIGNATURES] {
        let ways = Way::ALL.into_iter().filter(|way| way.is_available());
        let kinds = [None, Some(true), Some(false)];
        let mut subjects: Vec<_> = ways.flat_map(|way| kinds.map(|known| Subject::new(way, known))).collect();
        for _ in 0..ROUNDS {
            subjects.iter_mut().for_each(|subject| subject.turn(&key, &pool, pile));
        }
        let mut without = 0.0;
        for subject in &mut subjects {
            let nanos = subject.undisturbed();
            without = if subject.known.is_none() { nanos } else { without };
            println!("| {pile} | {} | {nanos:.0} | {:.2} |", subject.name, nanos / without);
        }
    }
}
