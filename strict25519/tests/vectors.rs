//! The published Ed25519 cases, against the verdicts that were measured with dalek's `verify_strict`.
#![cfg(test)]

mod skipped {
    include!("support/skipped.rs");
}

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde_json::Value;
use strict25519::{Item, KeyError, PreparedKey, Way, Window, verify_many, verify_many_by};

/// One published case.
struct Case {
    set: &'static str,
    id: String,
    key: [u8; 32],
    message: Vec<u8>,
    signature: Vec<u8>,
}

fn read(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json(path: &str) -> Value {
    serde_json::from_str(&read(path)).unwrap()
}

fn unhex(value: &Value) -> Vec<u8> {
    let digits = value.as_str().unwrap();
    assert_eq!(digits.len() % 2, 0);
    let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().unwrap()
}

/// Every Ed25519 case of the three published sets.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for group in json("wycheproof/ed25519_test.json")["testGroups"].as_array().unwrap() {
        let key = array(&unhex(&group["publicKey"]["pk"]));
        for test in group["tests"].as_array().unwrap() {
            let (message, signature) = (unhex(&test["msg"]), unhex(&test["sig"]));
            cases.push(Case { set: "wycheproof", id: test["tcId"].to_string(), key, message, signature });
        }
    }
    for (id, case) in json("speccheck/cases.json").as_array().unwrap().iter().enumerate() {
        let (message, signature) = (unhex(&case["message"]), unhex(&case["signature"]));
        let key = array(&unhex(&case["pub_key"]));
        cases.push(Case { set: "speccheck", id: id.to_string(), key, message, signature });
    }
    for test in json("rfc/rfc8032_ed25519.json")["tests"].as_array().unwrap() {
        let (message, signature) = (unhex(&test["msg"]), unhex(&test["sig"]));
        let id = test["name"].as_str().unwrap().to_owned();
        cases.push(Case { set: "rfc8032", id, key: array(&unhex(&test["pk"])), message, signature });
    }
    cases
}

/// What `verify_strict` of ed25519-dalek 3.0.0 said about each case, by set and id.
fn measured() -> BTreeMap<(String, String), bool> {
    let mut verdicts = BTreeMap::new();
    for line in read("ed25519_verdicts.jsonl").lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let name = (row["set"].as_str().unwrap().to_owned(), row["id"].as_str().unwrap().to_owned());
        assert!(verdicts.insert(name, row["verify_strict"].as_bool().unwrap()).is_none());
    }
    verdicts
}

#[test]
fn every_published_case_gets_the_measured_verdict() {
    let measured = measured();
    let (mut seen, mut accepted, mut short, mut refused_keys) = (0, 0, 0, Vec::new());
    for case in cases() {
        seen += 1;
        let expected = measured[&(case.set.to_owned(), case.id.clone())];
        let Ok(signature) = <[u8; 64]>::try_from(case.signature.as_slice()) else {
            assert!(!expected, "{} {}: a signature that is not 64 bytes long", case.set, case.id);
            short += 1;
            continue;
        };
        match PreparedKey::new(&case.key) {
            Ok(key) => {
                assert_eq!(key.verify(&case.message, &signature), expected, "{} {}", case.set, case.id);
                accepted += usize::from(expected);
            }
            Err(error) => refused_keys.push((case.set, case.id, error, expected)),
        }
    }
    assert_eq!((seen, measured.len(), accepted, short), (168, 168, 93, 12));

    // Where a key is refused there is no verdict at all. Case 3 is the one that `verify_strict` itself would accept.
    let refused: Vec<_> =
        refused_keys.iter().map(|(set, id, error, strict)| (*set, id.as_str(), *error, *strict)).collect();
    assert_eq!(
        refused,
        [
            ("speccheck", "0", KeyError::SmallOrder, false),
            ("speccheck", "1", KeyError::SmallOrder, false),
            ("speccheck", "2", KeyError::MixedOrder, false),
            ("speccheck", "3", KeyError::MixedOrder, true),
            ("speccheck", "4", KeyError::MixedOrder, false),
            ("speccheck", "5", KeyError::MixedOrder, false),
            ("speccheck", "8", KeyError::MixedOrder, false),
            ("speccheck", "9", KeyError::MixedOrder, false),
            ("speccheck", "10", KeyError::NonCanonical, false),
            ("speccheck", "11", KeyError::NonCanonical, false),
        ]
    );
}

#[test]
fn rfc_8032_accepts_its_own_and_nothing_else() {
    for case in cases().into_iter().filter(|case| case.set == "rfc8032") {
        let key = PreparedKey::new(&case.key).unwrap();
        let signature: [u8; 64] = array(&case.signature);
        assert!(key.verify(&case.message, &signature), "{}", case.id);
        for bit in 0..512 {
            let mut bent = signature;
            bent[bit / 8] ^= 1 << (bit % 8);
            assert!(!key.verify(&case.message, &bent), "{}: bit {bit} of the signature", case.id);
        }
        let longer = [case.message.as_slice(), &[0]].concat();
        assert!(!key.verify(&longer, &signature), "{}", case.id);
    }
}

#[test]
fn keys_that_are_no_point_or_not_canonical_are_refused() {
    // y = 2 is on no point of the curve; y = p + 1 is a second encoding of the neutral element (y = 1).
    let mut two = [0; 32];
    two[0] = 2;
    assert_eq!(PreparedKey::new(&two), Err(KeyError::NotAPoint));
    let mut p_plus_1 = [0xff; 32];
    (p_plus_1[0], p_plus_1[31]) = (0xee, 0x7f);
    assert_eq!(PreparedKey::new(&p_plus_1), Err(KeyError::NonCanonical));
    let mut neutral = [0; 32];
    neutral[0] = 1;
    assert_eq!(PreparedKey::new(&neutral), Err(KeyError::SmallOrder));
}

/// A small generator (SplitMix64), so that a shuffle is the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(bound).unwrap()).unwrap()
    }
}

/// Every case alone and in shuffled batches of every size with honest mates, by every way and with tables of every width,
/// gets the verdict that `verify_strict` was measured to give.
#[test]
fn every_way_gives_the_measured_verdicts_alone_and_in_any_company() {
    let measured = measured();
    let cases: Vec<_> = cases()
        .into_iter()
        .filter_map(|case| Some((PreparedKey::new(&case.key).ok()?, array_of(&case.signature)?, case)))
        .map(|(key, signature, case)| (key, signature, measured[&(case.set.to_owned(), case.id.clone())], case))
        .collect();
    assert_eq!((cases.len(), cases.iter().filter(|(_, _, good, _)| *good).count()), (146, 93));
    let (mut dice, mut verdicts) = (Dice(1), vec![true; 3]);
    for window in Window::all() {
        let keys: Vec<_> = cases.iter().map(|(key, ..)| key.clone().with_table(window)).collect();
        let item = |at: usize| Item { key: &keys[at], message: &cases[at].3.message, signature: &cases[at].1 };
        for way in Way::ALL.into_iter().filter(available_or_say) {
            for (at, (_, _, expected, case)) in cases.iter().enumerate() {
                verify_many_by(way, &[item(at)], &mut verdicts);
                assert_eq!(verdicts, [*expected], "{way}, {window:?}: {} {}", case.set, case.id);
            }
            for size in (1..=70).chain([256]) {
                // Each case is somewhere in a batch of that size, beside others and repeated ones.
                let mut order: Vec<usize> = (0..size.max(cases.len())).map(|at| at % cases.len()).collect();
                for at in (1..order.len()).rev() {
                    order.swap(at, dice.below(at + 1));
                }
                if way == Way::Dalek {
                    order.truncate(size);
                }
                for batch in order.chunks(size) {
                    let items: Vec<_> = batch.iter().map(|at| item(*at)).collect();
                    verify_many_by(way, &items, &mut verdicts);
                    let expected: Vec<bool> = batch.iter().map(|at| cases[*at].2).collect();
                    assert_eq!(verdicts, expected, "{way}, {window:?}, batches of {size}");
                }
            }
        }
    }
}

fn available_or_say(way: &Way) -> bool {
    if !way.is_available() {
        skipped::skipped_lanes();
    }
    way.is_available()
}

fn array_of<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

#[test]
fn every_way_passes_its_self_test_where_it_is_available() {
    for way in Way::ALL.into_iter().filter(available_or_say) {
        assert_eq!(way.self_test(), Ok(()), "{way}");
    }
    assert!(Way::fastest().is_available() && Way::Dalek.is_available() && Way::Portable.is_available());
    assert_eq!(Way::ALL.map(Way::name), ["dalek", "portable", "ifma"]);
}

#[test]
fn a_budget_buys_the_widest_windows_that_fit() {
    let bits = |keys, bytes| Window::for_budget(keys, bytes).map(Window::bits);
    assert_eq!(bits(1, 1 << 20), Some(8));
    assert_eq!(bits(40, 16 << 20), Some(8));
    assert_eq!(bits(100, 16 << 20), Some(6));
    assert_eq!(bits(300, 16 << 20), Some(4));
    assert_eq!(bits(1000, 16 << 20), None);
    assert_eq!(bits(usize::MAX, 16 << 20), None, "no overflow");
    for window in Window::all() {
        let bytes = window.table_bytes();
        assert_eq!((bits(3, 3 * bytes), bits(1, 0)), (Some(window.bits()), None));
        assert_ne!(bits(3, 3 * bytes - 1), Some(window.bits()));
    }
}

#[test]
fn an_empty_batch_leaves_no_old_verdicts() {
    let mut verdicts = vec![true, true];
    verify_many(&[], &mut verdicts);
    assert!(verdicts.is_empty());
}
