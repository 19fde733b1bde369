//! Faulty ways, and what becomes of them.

use ed25519_dalek::{Signer as _, SigningKey};
use strict25519::{SelfTestError, Window};

use super::*;

fn key() -> (SigningKey, PreparedKey) {
    let signer = SigningKey::from_bytes(&[5; 32]);
    let key = PreparedKey::new(signer.verifying_key().as_bytes()).unwrap().with_table(Window::NARROWEST);
    (signer, key)
}

#[path = "../../../tests/support/mark.rs"]
mod mark;

/// Marks the function that calls it, so that it is found where it must not be.
pub(in crate::verify) fn errs_on_purpose() {
    std::hint::black_box(mark::FAULT);
}

/// `tests/programs.rs` looks for the mark in what is shipped, where it would not see it if it were never there.
#[test]
fn what_errs_on_purpose_is_found_in_this_program() {
    assert!(mark::has_fault(&std::fs::read(std::env::current_exe().unwrap()).unwrap()));
}

/// As good as the reference, but for a lane that is always accepted, or refused.
fn accepts_the_third(way: Way, items: &[Item<'_>], verdicts: &mut Vec<bool>) {
    errs_on_purpose();
    verify_many_by(way, items, verdicts);
    if way == Way::Portable
        && let Some(verdict) = verdicts.get_mut(3)
    {
        *verdict = true;
    }
}

fn refuses_the_third(way: Way, items: &[Item<'_>], verdicts: &mut Vec<bool>) {
    errs_on_purpose();
    verify_many_by(way, items, verdicts);
    if way == Way::Portable
        && let Some(verdict) = verdicts.get_mut(3)
    {
        *verdict = false;
    }
}

fn passes(_: Way) -> Result<(), SelfTestError> {
    Ok(())
}

fn verifier(engine: Engine) -> Verifier {
    Verifier::with_engine(&[Way::Portable], engine, passes)
}

/// Eight items, of which those in `bad` are not signed.
fn ask(verifier: &Verifier, bad: &[usize], budget: usize) -> Vec<bool> {
    let (signer, key) = key();
    let messages: Vec<_> = (0..8_u8).map(|at| [at; 100]).collect();
    let signatures: Vec<_> = messages.iter().map(|message| signer.sign(message).to_bytes()).collect();
    let items: Vec<_> = (0..8)
        .map(|at| Item {
            key: &key,
            message: &messages[at],
            signature: &signatures[if bad.contains(&at) { (at + 1) % 8 } else { at }],
        })
        .collect();
    let (mut verdicts, mut left) = (vec![true; 3], budget);
    verifier.verify_many(&items, &mut verdicts, || {
        left = left.saturating_sub(1);
        left + 1 > 0 && budget > 0
    });
    verdicts
}

const GOOD: [bool; 8] = [true; 8];

#[test]
fn a_wrong_refusal_is_mended_noticed_and_the_last() {
    let verifier = verifier(refuses_the_third);
    assert_eq!(ask(&verifier, &[], 8), GOOD, "the reference's verdict is what counts");
    assert_eq!(verifier.way(), Way::Dalek);
    let [difference] = &verifier.take_differences()[..] else { panic!("one difference") };
    assert_eq!((difference.way, difference.net), (Way::Portable, Net::Refusal));
    assert!(difference.to_string().contains("portable differs from verify_strict (refusal, BLAKE3 "), "{difference}");
    assert_eq!(ask(&verifier, &[], 0), GOOD);
}

#[test]
fn without_budget_a_refusal_stands_unconfirmed() {
    let verifier = verifier(refuses_the_third);
    assert!(!ask(&verifier, &[], 0)[3]);
    assert_eq!((verifier.way(), verifier.rechecked()), (Way::Portable, 0));
}

#[test]
fn right_refusals_are_confirmed_and_nothing_changes() {
    let verifier = verifier(verify_many_by);
    let mut expected = GOOD;
    (expected[1], expected[6]) = (false, false);
    assert_eq!(ask(&verifier, &[1, 6], 8), expected);
    assert_eq!((verifier.way(), verifier.rechecked()), (Way::Portable, 2));
    assert!(verifier.take_differences().is_empty());
}

/// The sampler looks at an item that is drawn, so it comes by the one that is wrong, whatever the two are in step with: one of
/// eight is not drawn in 256 samples once in 10^14 runs.
#[test]
fn a_wrong_acceptance_in_one_lane_is_noticed_by_the_samples() {
    let verifier = verifier(accepts_the_third);
    let inner = Arc::clone(&verifier.inner);
    let sampler = thread::spawn(move || {
        (0..256).for_each(|_| {
            if inner.way() != Way::Dalek {
                inner.look();
            }
        });
    });
    while verifier.way() != Way::Dalek && !sampler.is_finished() {
        ask(&verifier, &[3], 0);
    }
    assert_eq!(verifier.way(), Way::Dalek);
    assert_eq!(verifier.take_differences().first().map(|difference| difference.net), Some(Net::Sample));
    sampler.join().unwrap();
    assert!(!ask(&verifier, &[3], 0)[3], "from now on the reference");
}

#[test]
fn samples_of_a_good_way_change_nothing() {
    let verifier = verifier(verify_many_by);
    let inner = Arc::clone(&verifier.inner);
    let sampler = thread::spawn(move || (0..20).for_each(|_| inner.look()));
    while !sampler.is_finished() {
        assert_eq!(ask(&verifier, &[], 0), GOOD);
    }
    sampler.join().unwrap();
    assert_eq!((verifier.way(), verifier.rechecked()), (Way::Portable, 20));
}

#[test]
fn a_way_that_fails_its_self_test_is_not_used() {
    fn only_portable(way: Way) -> Result<(), SelfTestError> {
        errs_on_purpose();
        if way == Way::Portable { Err(SelfTestError { way, batch: 8 }) } else { Ok(()) }
    }
    let verifier = Verifier::with_engine(&[Way::Portable], verify_many_by, only_portable);
    assert_eq!(verifier.way(), Way::Dalek);
    let differences = verifier.take_differences();
    assert_eq!(differences, [Difference { way: Way::Portable, net: Net::SelfTest, about: "a batch of 8".to_owned() }]);
    assert_eq!(ask(&verifier, &[], 0), GOOD);
    // The next best is taken.
    let both = [Way::Portable, Way::Dalek];
    assert_eq!(Verifier::with_engine(&both, verify_many_by, only_portable).way(), Way::Dalek);
}

#[test]
fn what_is_wanted_and_there_is_used() {
    let fastest = Verifier::start(&[Way::Ifma, Way::Portable]).unwrap();
    assert_eq!(fastest.way(), Way::fastest());
    assert_eq!(ask(&fastest, &[2], 1), [true, true, false, true, true, true, true, true]);
    assert_eq!(Verifier::reference().way(), Way::Dalek);
    assert!(Way::ALL.iter().enumerate().all(|(at, way)| usize::from(index(*way)) == at));
}

/// The thread that looks at samples is there, and one that looks at nothing ends.
#[test]
fn a_started_verifier_looks_at_samples_by_itself() {
    let verifier = Verifier::start(&[Way::Portable]).unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while verifier.rechecked() == 0 {
        assert!(Instant::now() < end, "nobody looks");
        assert_eq!(ask(&verifier, &[], 0), GOOD);
    }
    assert_eq!(verifier.way(), Way::Portable);
}

/// Else each one that a service gives up would leave a thread behind.
#[test]
fn nobody_looks_on_for_a_verifier_that_is_gone() {
    let verifier = Verifier::start(&[Way::Portable]).unwrap();
    let inner = Arc::downgrade(&verifier.inner);
    drop(verifier);
    let end = Instant::now() + Duration::from_secs(20);
    while inner.strong_count() > 0 {
        assert!(Instant::now() < end, "the thread goes on");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A way that errs in both directions: once one error is seen, none of its verdicts on the batch counts.
#[test]
fn nothing_that_a_distrusted_way_said_of_the_batch_counts() {
    fn errs_twice(way: Way, items: &[Item<'_>], verdicts: &mut Vec<bool>) {
        errs_on_purpose();
        verify_many_by(way, items, verdicts);
        if way == Way::Portable && verdicts.len() == 8 {
            (verdicts[1], verdicts[3]) = (true, false);
        }
    }
    let verifier = verifier(errs_twice);
    let mut expected = GOOD;
    expected[1] = false;
    assert_eq!(ask(&verifier, &[1], 8), expected);
    assert_eq!(verifier.way(), Way::Dalek);
}

/// A batch of forgeries costs no more than so many looks of the reference.
#[test]
fn of_a_batch_only_some_refusals_are_confirmed_and_not_always_the_same() {
    let verifier = verifier(verify_many_by);
    let all: Vec<usize> = (0..8).collect();
    for round in 1..=3 {
        assert_eq!(ask(&verifier, &all, 100), [false; 8]);
        assert_eq!(verifier.rechecked(), round * u64::try_from(CONFIRMED).unwrap());
    }
}

#[test]
fn so_many_differences_are_kept_until_somebody_takes_them() {
    let verifier = verifier(verify_many_by);
    let (signer, key) = key();
    let signature = signer.sign(b"x").to_bytes();
    let item = Item { key: &key, message: b"x", signature: &signature };
    for count in 1..=MAX_DIFFERENCES + 1 {
        verifier.inner.distrust(Way::Portable, Net::Sample, &item);
        assert_eq!(verifier.inner.differences.lock().unwrap().len(), count.min(MAX_DIFFERENCES));
    }
    assert_eq!(verifier.take_differences().len(), MAX_DIFFERENCES);
    assert!(verifier.take_differences().is_empty());
}

/// Whoever floods with passports of one key does not keep the tables of others from being looked at.
#[test]
fn a_sample_of_another_key_comes_first_for_a_while() {
    let key = |seed| {
        let public = SigningKey::from_bytes(&[seed; 32]).verifying_key().to_bytes();
        PreparedKey::new(&public).unwrap().with_table(Window::NARROWEST)
    };
    let (flooder, polite) = (key(5), key(6));
    let (samples, start) = (Samples::default(), Instant::now());
    let taken = |keys: &[&PreparedKey], at: Duration| {
        let items: Vec<_> = keys.iter().map(|key| Item { key, message: b"x", signature: &[0; 64] }).collect();
        samples.offer(Way::Portable, &items, &vec![true; items.len()], start + at);
        samples.sample.lock().unwrap().take().map(|sample| sample.key)
    };
    let (soon, later) = (OTHERS_FIRST - Duration::from_nanos(1), OTHERS_FIRST);
    assert_eq!(taken(&[&flooder], soon), None, "nobody wants one");
    samples.want(start);
    assert_eq!(taken(&[&flooder], Duration::ZERO), Some(flooder.clone()), "the first of all");
    samples.want(start);
    assert_eq!(taken(&[&flooder, &flooder], soon), None, "it had the last one");
    assert_eq!(taken(&[&flooder, &polite, &flooder], soon), Some(polite.clone()), "wherever it is in the batch");
    samples.want(start);
    assert_eq!(taken(&[&polite], soon), None);
    assert_eq!(taken(&[&flooder], soon), Some(flooder.clone()));
    samples.want(start);
    assert_eq!(taken(&[&flooder], later), Some(flooder.clone()), "nobody else came");
    assert_eq!(taken(&[&polite], later), None, "one at a time");
}
