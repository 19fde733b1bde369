//! `verify_strict` as a default build of `ed25519-dalek` has it: for the bench `ways`, which runs this program beside
//! itself. `scripts/bench` builds it without this repository's compiler flags.
//!
//! Reads a number of signatures from each line of its input and answers with how many nanoseconds one of them took.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program of the bench's")]

use std::hint::black_box;
use std::time::Instant;

use ed25519_dalek::{Signer as _, SigningKey};

fn main() {
    if std::env::args().any(|argument| argument == "--list" || argument == "--test") {
        return;
    }
    let signer = SigningKey::from_bytes(&[1; 32]);
    let (key, message) = (signer.verifying_key(), [7; 300]);
    let signature = signer.sign(&message);
    for line in std::io::stdin().lines() {
        let count: u32 = line.unwrap().trim().parse().unwrap();
        let begun = Instant::now();
        for _ in 0..count {
            black_box(&key).verify_strict(black_box(&message), black_box(&signature)).unwrap();
        }
        println!("{}", begun.elapsed().as_secs_f64() * 1e9 / f64::from(count));
    }
}
