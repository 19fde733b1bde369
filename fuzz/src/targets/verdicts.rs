//! Signatures: every way against `verify_strict` (the fuzz target of `strict25519`), and the nets of the daemon, none of
//! which may find anything.

#[path = "../../../strict25519/fuzz/src/ways.rs"]
mod ways;

use std::sync::OnceLock;

use passportd::verify::Verifier;
use strict25519::Way;

/// The ways of `engine = "auto"`, with all their nets; samples are looked at in a thread of its own.
fn verifier() -> &'static Verifier {
    static VERIFIER: OnceLock<Verifier> = OnceLock::new();
    VERIFIER.get_or_init(|| {
        let verifier = Verifier::start(&[Way::Ifma, Way::Portable]).unwrap();
        assert_ne!(verifier.way(), Way::Dalek, "a self-test failed: {:?}", verifier.take_differences());
        verifier
    })
}

/// The script is that of `ways`.
pub fn verdicts(data: &[u8]) {
    ways::batch(data, |items, expected, verdicts| {
        verifier().verify_many(items, verdicts, || true);
        assert_eq!(verdicts, expected, "as the daemon verifies");
    });
    let differences = verifier().take_differences();
    assert!(differences.is_empty(), "{differences:?}");
}
