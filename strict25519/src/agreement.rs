//! All ways against the reference, on cases that an attacker would make. `PASSPORTD_ROUNDS` scales how many; the soak's 500
//! make ten million.

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::{EdwardsPoint, Scalar};
use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest as _, Sha512};

use crate::scalar::tests::edges;
use crate::testing::{Dice, skipped_lanes};
use crate::{Item, PreparedKey, Way, Window, verify_many_by};

/// One question, owned.
#[derive(Clone)]
struct Case {
    key: usize,
    message: Vec<u8>,
    signature: [u8; 64],
}

fn rounds() -> usize {
    std::env::var("PASSPORTD_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(2)
}

impl Dice {
    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill_with(|| self.byte());
    }

    fn scalar(&mut self) -> Scalar {
        let mut bytes = [0; 64];
        self.fill(&mut bytes);
        Scalar::from_bytes_mod_order_wide(&bytes)
    }
}

/// Asserts that every way says of every case what the reference says, in chunks of that size; how many were accepted.
fn agree(keys: &[PreparedKey], cases: &[Case], chunk: usize) -> usize {
    let ask = |case: &Case| keys[case.key].verify(&case.message, &case.signature);
    let expected: Vec<bool> = cases.iter().map(ask).collect();
    assert_ways(keys, cases, &expected, chunk);
    expected.into_iter().filter(|good| *good).count()
}

fn assert_ways(keys: &[PreparedKey], cases: &[Case], expected: &[bool], chunk: usize) {
    let items: Vec<_> = cases
        .iter()
        .map(|case| Item { key: &keys[case.key], message: &case.message, signature: &case.signature })
        .collect();
    let mut verdicts = Vec::new();
    for way in [Way::Portable, Way::Ifma] {
        if !way.is_available() {
            skipped_lanes();
            continue;
        }
        for (number, (items, expected)) in items.chunks(chunk).zip(expected.chunks(chunk)).enumerate() {
            verify_many_by(way, items, &mut verdicts);
            for (at, (verdict, expected)) in verdicts.iter().zip(expected).enumerate() {
                assert_eq!(
                    verdict,
                    expected,
                    "{way}, chunk {number} of {chunk}, item {at}: {:x?}",
                    cases[number * chunk + at].signature
                );
            }
        }
    }
}

fn encode(point: EdwardsPoint) -> [u8; 32] {
    point.compress().to_bytes()
}

fn k_of(r: &[u8; 32], a: &[u8; 32], message: &[u8]) -> Scalar {
    let hash = Sha512::new().chain_update(r).chain_update(a).chain_update(message).finalize();
    Scalar::from_bytes_mod_order_wide(&hash.into())
}

fn join(r: &[u8; 32], s: &Scalar) -> [u8; 64] {
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(r);
    signature[32..].copy_from_slice(s.as_bytes());
    signature
}

/// Sizes that end in every spread of the lanes, in full groups and in full batches.
const CHUNKS: [usize; 12] = [1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 71, 256];

/// Honest signatures, and everything that can be done to one.
#[test]
fn honest_and_corrupted() {
    let mut dice = Dice(11);
    let signers: Vec<_> = (1..=6).map(|seed| SigningKey::from_bytes(&[seed; 32])).collect();
    let windows = [4, 5, 6, 7, 8, 8];
    let keys: Vec<_> = signers
        .iter()
        .zip(windows)
        .map(|(signer, bits)| {
            let window = Window::all().find(|window| window.bits() == bits).unwrap();
            PreparedKey::new(signer.verifying_key().as_bytes()).unwrap().with_table(window)
        })
        .collect();
    let honest: Vec<_> = (0..512)
        .map(|number| {
            let key = dice.below(6);
            let mut message = vec![0; if number < 400 { number } else { dice.below(700) }];
            dice.fill(&mut message);
            let signature = signers[key].sign(&message).to_bytes();
            Case { key, message, signature }
        })
        .collect();
    let mut accepted = 0;
    for round in 0..rounds() {
        // 20,000 cases: 500 rounds make ten million.
        let cases: Vec<_> = (0..20_000).map(|_| bend(honest[dice.below(honest.len())].clone(), &mut dice)).collect();
        accepted += agree(&keys, &cases, CHUNKS[round % CHUNKS.len()]);
    }
    assert!(accepted > rounds() * 5_000, "{accepted}");
}

fn bend(mut case: Case, dice: &mut Dice) -> Case {
    let Case { key, message, signature } = &mut case;
    match dice.below(14) {
        0 => signature[dice.below(64)] ^= 1 << dice.below(8),
        1 if !message.is_empty() => {
            let at = dice.below(message.len());
            message[at] ^= 1 << dice.below(8);
        }
        2 => *key = dice.below(6),
        3 => signature[31] ^= 0x80,
        4 => add_order(signature),
        5 => dice.fill(signature),
        6 => {
            let torsion = encode(EIGHT_TORSION[dice.below(8)]);
            signature[..32].copy_from_slice(&torsion);
        }
        7 => {
            // A y from p − 1 up, with either sign: most of them no canonical encoding.
            signature[..32].fill(0xff);
            signature[0] = 0xec + dice.byte() % 20;
            signature[31] = if dice.below(2) == 0 { 0x7f } else { 0xff };
        }
        _ => {}
    }
    case
}

/// s + L, which RFC 8032 §5.1.7 refuses.
fn add_order(signature: &mut [u8; 64]) {
    let mut carry = false;
    for (word, order) in signature[32..].as_chunks_mut::<8>().0.iter_mut().zip(crate::scalar::ORDER) {
        let (sum, over) = u64::from_le_bytes(*word).carrying_add_by_hand(order, carry);
        (*word, carry) = (sum.to_le_bytes(), over);
    }
}

trait CarryingAdd: Sized {
    fn carrying_add_by_hand(self, other: Self, carry: bool) -> (Self, bool);
}

impl CarryingAdd for u64 {
    fn carrying_add_by_hand(self, other: Self, carry: bool) -> (Self, bool) {
        let (sum, first) = self.overflowing_add(other);
        let (sum, second) = sum.overflowing_add(Self::from(carry));
        (sum, first || second)
    }
}

/// Keys and Rs with a component of small order, and s, r and a at the edges of windows. Where the torsion of both sides
/// happens to cancel the reference accepts, and so must every way.
#[test]
fn torsion_and_edge_scalars() {
    let mut dice = Dice(7);
    let edges = edges();
    let (mut keys, mut cases, mut accepted) = (Vec::new(), Vec::new(), 0);
    for number in 0..400 * rounds() {
        let a = match number % 8 {
            3 => Scalar::ZERO,
            4 => edges[dice.below(edges.len())],
            _ => dice.scalar(),
        };
        let r = if number % 3 == 0 { edges[dice.below(edges.len())] } else { dice.scalar() };
        let (tau_a, tau_r) = (EIGHT_TORSION[dice.below(8)], EIGHT_TORSION[dice.below(8)]);
        let (a_bytes, r_bytes) =
            (encode(EdwardsPoint::mul_base(&a) + tau_a), encode(EdwardsPoint::mul_base(&r) + tau_r));
        // Weak keys are refused when they are loaded, and verify_strict refuses all their signatures.
        let key = PreparedKey::unchecked(&a_bytes).unwrap();
        if a == Scalar::ZERO {
            assert!(PreparedKey::new(&a_bytes).is_err());
            continue;
        }
        keys.push(key.with_table(if number % 2 == 0 { Window::WIDEST } else { Window::NARROWEST }));
        let message = number.to_le_bytes().to_vec();
        let s = r + k_of(&r_bytes, &a_bytes, &message) * a;
        cases.push(Case { key: keys.len() - 1, message: message.clone(), signature: join(&r_bytes, &s) });
        // s at an edge, R made to fit: R = sB − kA needs k before R, so R is of another message, and is refused.
        let s = edges[dice.below(edges.len())];
        let r_bytes = encode(EdwardsPoint::mul_base(&s));
        cases.push(Case { key: keys.len() - 1, message, signature: join(&r_bytes, &s) });
        if keys.len() == 32 {
            accepted += agree(&keys, &cases, CHUNKS[number % CHUNKS.len()]);
            (keys, cases) = (Vec::new(), Vec::new());
        }
    }
    // The torsion of R cancels that of kA in one case of eight.
    assert!(accepted > 20 * rounds(), "{accepted}");
}

/// R of small order for which the equation holds: s = k·a, and a key with torsion that cancels. The list alone refuses it.
#[test]
fn r_of_small_order_is_refused_although_the_equation_holds() {
    let mut dice = Dice(31);
    let (mut keys, mut cases, mut seen) = (Vec::new(), Vec::new(), [false; 8]);
    for number in 0_u32.. {
        let (a, tau, at) = (dice.scalar(), EIGHT_TORSION[dice.below(8)], dice.below(8));
        let (a_bytes, r) = (encode(EdwardsPoint::mul_base(&a) + tau), encode(EIGHT_TORSION[at]));
        let message = number.to_le_bytes().to_vec();
        let k = k_of(&r, &a_bytes, &message);
        if encode(-(tau * k)) != r {
            continue;
        }
        keys.push(PreparedKey::unchecked(&a_bytes).unwrap().with_table(Window::NARROWEST));
        cases.push(Case { key: keys.len() - 1, message, signature: join(&r, &(k * a)) });
        seen[at] = true;
        if seen == [true; 8] {
            break;
        }
    }
    for chunk in [1, 3, 8, 64] {
        assert_eq!(agree(&keys, &cases, chunk), 0);
    }
}

/// The sums themselves, with k chosen freely, which a hash does not allow: a message cannot be found for it, so the
/// portable sum is asked directly, and that of the lanes.
#[test]
fn sums_of_edge_scalars() {
    let point = ED25519_BASEPOINT_POINT * Scalar::from(987_654_321_u64) + EIGHT_TORSION[3];
    for window in Window::all() {
        let key = PreparedKey::unchecked(&encode(point)).unwrap().with_table(window);
        let table = key.table().unwrap();
        let edges: Vec<_> = edges().into_iter().step_by(11).collect();
        for (s, k) in edges.iter().flat_map(|s| edges.iter().map(move |k| (s, k))) {
            let expected = encode(EdwardsPoint::vartime_double_scalar_mul_basepoint(k, &-point, s));
            let (s, k) = (crate::field::words(s.as_bytes()), crate::field::words(k.as_bytes()));
            assert_eq!(crate::portable::sum(table, s, k), expected, "portable, {window:?}");
            match crate::dispatch::sum_in_lanes(table, s, k) {
                Some(sum) => assert_eq!(sum, expected, "lanes, {window:?}"),
                None => skipped_lanes(),
            }
        }
    }
}

/// Tables of all widths in one batch, and keys without one.
#[test]
fn mixed_widths_in_one_batch() {
    let mut dice = Dice(23);
    let signers: Vec<_> = (1..=12).map(|seed| SigningKey::from_bytes(&[seed; 32])).collect();
    let keys: Vec<_> = signers
        .iter()
        .zip(Window::all().map(Some).chain([None]).cycle())
        .map(|(signer, window)| {
            let key = PreparedKey::new(signer.verifying_key().as_bytes()).unwrap();
            window.map_or_else(|| key.clone(), |window| key.clone().with_table(window))
        })
        .collect();
    for size in (1..=70).chain([256]) {
        let cases: Vec<_> = (0..size)
            .map(|number: usize| {
                let key = dice.below(keys.len());
                let message = number.to_le_bytes().to_vec();
                let mut signature = signers[key].sign(&message).to_bytes();
                signature[dice.below(64)] ^= u8::from(dice.below(4) == 0);
                Case { key, message, signature }
            })
            .collect();
        agree(&keys, &cases, size);
    }
}

/// A batch of 512 with one bad item, at each position.
#[test]
fn one_bad_item_at_each_position() {
    let signer = SigningKey::from_bytes(&[9; 32]);
    let keys = [PreparedKey::new(signer.verifying_key().as_bytes()).unwrap().with_table(Window::WIDEST)];
    let mut cases: Vec<_> = (0..512_usize)
        .map(|number| {
            let message = number.to_le_bytes().to_vec();
            let signature = signer.sign(&message).to_bytes();
            Case { key: 0, message, signature }
        })
        .collect();
    for bad in 0..512 {
        let mut expected = vec![true; 512];
        expected[bad] = false;
        cases[bad].signature[bad % 64] ^= 0x10;
        assert_ways(&keys, &cases, &expected, 512);
        cases[bad].signature[bad % 64] ^= 0x10;
    }
}
