//! What is remembered, for how long, and what is not.

use std::collections::BTreeSet;

use ed25519_dalek::{Signer as _, SigningKey};
use strict25519::{PreparedKey, Window};

use super::*;
use crate::verify::Net;

const MESSAGE: &[u8] = br#"{"kid":"ed25519/t1/auth/v1"}"#;

fn key(seed: u8) -> (SigningKey, PreparedKey) {
    let signer = SigningKey::from_bytes(&[seed; 32]);
    let key = PreparedKey::new(signer.verifying_key().as_bytes()).unwrap().with_table(Window::NARROWEST);
    (signer, key)
}

fn counter(name: &str) -> Counter {
    Counter::new(name, "-").unwrap()
}

fn verdicts(most: usize) -> Verdicts {
    Verdicts::new(most, counter("hits"), counter("misses")).unwrap()
}

/// Hits and misses so far.
fn counted(verdicts: &Verdicts) -> (u64, u64) {
    (verdicts.hits.get(), verdicts.misses.get())
}

/// The verdicts, and how many of them were remembered.
fn ask(known: &Verdicts, verifier: &Verifier, now: Instant, items: &[Item<'_>]) -> (Vec<bool>, usize) {
    let mut verdicts = vec![true; 3];
    let hits = known.verify_many(verifier, now, items, &mut verdicts, || true);
    (verdicts, hits)
}

#[test]
fn only_exactly_what_was_authentic_is_remembered() {
    let (verifier, known, now) = (Verifier::reference(), verdicts(1000), Instant::now());
    let (signer, key) = key(1);
    let signature = signer.sign(MESSAGE).to_bytes();
    let item = Item { key: &key, message: MESSAGE, signature: &signature };
    assert_eq!(ask(&known, &verifier, now, &[item]), (vec![true], 0));
    assert_eq!(ask(&known, &verifier, now, &[item]), (vec![true], 1));
    // Any bit of the signature or the message, which holds the kid.
    for bit in 0..512 {
        let mut signature = signature;
        signature[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(ask(&known, &verifier, now, &[Item { signature: &signature, ..item }]), (vec![false], 0), "{bit}");
    }
    for bit in 0..MESSAGE.len() * 8 {
        let mut message = MESSAGE.to_vec();
        message[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(ask(&known, &verifier, now, &[Item { message: &message, ..item }]), (vec![false], 0), "{bit}");
    }
    for message in [&MESSAGE[1..], &MESSAGE[..MESSAGE.len() - 1], &[MESSAGE, b"\0"].concat()] {
        assert_eq!(ask(&known, &verifier, now, &[Item { message, ..item }]), (vec![false], 0));
    }
    // One item, still; a refusal is asked about again.
    assert_eq!((known.len(), ask(&known, &verifier, now, &[item])), (1, (vec![true], 1)));
}

/// Keys that are points are rare among their neighbours, so the digest is asked.
#[test]
fn another_key_another_digest() {
    let (verifier, known, now) = (Verifier::reference(), verdicts(1000), Instant::now());
    let ((signer, mine), (_, other)) = (key(1), key(2));
    let signature = signer.sign(MESSAGE).to_bytes();
    let item = Item { key: &mine, message: MESSAGE, signature: &signature };
    ask(&known, &verifier, now, &[item]);
    assert_eq!(ask(&known, &verifier, now, &[Item { key: &other, ..item }]), (vec![false], 0));
    let digest = |seed| known.digest(&Item { key: &key(seed).1, message: MESSAGE, signature: &signature });
    let digests: BTreeSet<_> = (0..64).map(digest).collect();
    assert_eq!(digests.len(), 64);
    // The same question to another process.
    assert_ne!(known.digest(&item), verdicts(1000).digest(&item));
}

/// Neighbouring fields can't be shifted into each other.
#[test]
fn bytes_that_move_between_fields_change_the_digest() {
    let known = verdicts(1);
    let key = key(1).1;
    let (front, back) = ([7; 64], [&[7; 63][..], &[8]].concat());
    let one = Item { key: &key, signature: &front, message: &[8] };
    let two = Item { key: &key, signature: back[..].try_into().unwrap(), message: b"" };
    assert_ne!(known.digest(&one), known.digest(&two));
}

#[test]
fn a_verdict_counts_for_its_time_and_not_a_nanosecond_more() {
    let (verifier, known, now) = (Verifier::reference(), verdicts(1000), Instant::now());
    let (signer, key) = key(1);
    let signature = signer.sign(MESSAGE).to_bytes();
    let item = [Item { key: &key, message: MESSAGE, signature: &signature }];
    assert_eq!(ask(&known, &verifier, now, &item).1, 0);
    // Two threads may have looked at the clock in the other order.
    assert_eq!(ask(&known, &verifier, now - Duration::from_micros(1), &item).1, 1);
    assert_eq!(ask(&known, &verifier, now + TTL - Duration::from_nanos(1), &item).1, 1, "and is not prolonged by that");
    assert_eq!(ask(&known, &verifier, now + TTL, &item), (vec![true], 0));
    assert_eq!(ask(&known, &verifier, now + TTL * 2 - Duration::from_nanos(1), &item).1, 1);
    assert_eq!((known.len(), counted(&known)), (1, (3, 2)));
}

/// Whatever stands beside it, each has its own verdict; what is twice in a batch is verified twice.
#[test]
fn batches_are_mixed_and_may_repeat_themselves() {
    let (verifier, known, now) = (Verifier::reference(), verdicts(1000), Instant::now());
    let (signer, key) = key(1);
    let messages: Vec<_> = (0..6_u8).map(|at| [at; 50]).collect();
    let signatures: Vec<_> = messages.iter().map(|message| signer.sign(message).to_bytes()).collect();
    // The signature `by` over the message `of`.
    let item = |(of, by): (usize, usize)| Item { key: &key, message: &messages[of], signature: &signatures[by] };
    let batch =
        |pairs: &[(usize, usize)]| ask(&known, &verifier, now, &pairs.iter().copied().map(item).collect::<Vec<_>>());
    assert_eq!(batch(&[(0, 0), (1, 2), (0, 0), (1, 2), (3, 3)]), (vec![true, false, true, false, true], 0));
    assert_eq!(
        batch(&[(1, 2), (0, 0), (4, 4), (3, 3), (0, 3), (0, 0)]),
        (vec![false, true, true, true, false, true], 3)
    );
    assert_eq!(batch(&[]), (vec![], 0));
    assert_eq!((known.len(), counted(&known)), (3, (3, 8)));
}

/// A wrong acceptance does not outlive the way that gave it.
#[test]
fn what_a_distrusted_way_said_is_forgotten() {
    let verifier = Verifier::gullible();
    let (known, now) = (verdicts(1000), Instant::now());
    let (signer, key) = key(1);
    let (good, bad) = (signer.sign(MESSAGE).to_bytes(), [9; 64]);
    let item = |signature| Item { key: &key, message: MESSAGE, signature };
    let both = [item(&good), item(&bad)];
    assert_eq!(ask(&known, &verifier, now, &both), (vec![true, true], 0), "the fault");
    assert_eq!(ask(&known, &verifier, now, &both), (vec![true, true], 2), "is remembered");
    verifier.distrusted(Net::Sample, &both[1]);
    assert_eq!(ask(&known, &verifier, now, &both), (vec![true, false], 0));
    assert_eq!(ask(&known, &verifier, now, &both), (vec![true, false], 1), "by the reference, from now on");
}

/// Neither does it count for the batch in which the fault comes to light.
#[test]
fn what_was_remembered_does_not_count_beside_the_fault() {
    let verifier = Verifier::gullible();
    let (known, now) = (verdicts(1000), Instant::now());
    let (signer, key) = key(1);
    let (good, bad) = (signer.sign(MESSAGE).to_bytes(), [9; 64]);
    let item = |message, signature| Item { key: &key, message, signature };
    assert_eq!(ask(&known, &verifier, now, &[item(MESSAGE, &bad)]), (vec![true], 0), "the fault");
    // This way refuses whatever is empty, even if it is signed; the reference is asked, and so it comes out.
    let empty = signer.sign(b"").to_bytes();
    let batch = [item(MESSAGE, &bad), item(b"", &empty), item(MESSAGE, &good)];
    assert_eq!(ask(&known, &verifier, now, &batch), (vec![false, true, true], 0));
    assert_eq!(verifier.way(), Way::Dalek);
}

#[test]
fn so_many_are_remembered_and_no_more() {
    let now = Instant::now();
    for most in [1, 2, 31, 32, 33, 100, 1000, 1024, 2049] {
        let cache = Bounded::new(most).unwrap();
        let mut seen = 0;
        for number in 0..most as u64 * 20 {
            cache.found.insert(*blake3::hash(&number.to_le_bytes()).as_bytes(), (now, Way::Dalek));
            assert!(cache.found.len() <= most, "{} of {most}", cache.found.len());
            seen = seen.max(cache.found.len());
        }
        let shards = cache.found.num_shards();
        assert!(shards <= SHARDS && seen > most - shards, "{seen} of {most}");
        assert_eq!(cache.found.capacity(), (most / shards * shards) as u64);
        // What the documents say of its memory.
        let bytes = cache.found.memory_used().total() / most;
        assert!(most < 1000 || bytes <= 90, "{bytes} bytes each of {most}");
    }
    assert!(Bounded::new(0).is_none());
}

#[test]
fn another_bound_begins_anew_and_none_remembers_nothing() {
    let (verifier, known, now) = (Verifier::reference(), verdicts(8), Instant::now());
    let (signer, key) = key(1);
    let signature = signer.sign(MESSAGE).to_bytes();
    let item = [Item { key: &key, message: MESSAGE, signature: &signature }];
    let hits = || [(); 2].map(|()| ask(&known, &verifier, now, &item).1);
    assert_eq!((hits(), known.len()), ([0, 1], 1));
    known.set_most(8);
    assert_eq!((hits(), known.is_on()), ([1, 1], true), "no change");
    known.set_most(9);
    assert_eq!((known.is_empty(), hits()), (true, [0, 1]));
    let before = counted(&known);
    known.set_most(0);
    assert_eq!((hits(), known.is_on(), known.len(), counted(&known)), ([0, 0], false, 0, before));
    // No secret in a log.
    assert_eq!(format!("{known:?}"), "Verdicts { most: 0, .. }");
}
