//! Signatures: every way against `verify_strict`, and the nets of the daemon, none of which may find anything.

use std::sync::OnceLock;

use ed25519_dalek::{Signer as _, SigningKey};
use passportd::verify::Verifier;
use strict25519::{Item, PreparedKey, Way, Window, verify_many_by};

use super::script::Script;

/// Messages that are signed under each key.
const SIGNED: usize = 16;

/// The most items of one batch: two full ones of the engine, and some.
const MOST: usize = 140;

struct Stock {
    /// One key for each width of tables, and one without.
    keys: Vec<PreparedKey>,
    /// Message and signature, by key.
    signed: Vec<Vec<(Vec<u8>, [u8; 64])>>,
}

fn stock() -> &'static Stock {
    static STOCK: OnceLock<Stock> = OnceLock::new();
    STOCK.get_or_init(|| {
        let signers: Vec<_> = (1..=6).map(|seed| SigningKey::from_bytes(&[seed; 32])).collect();
        let windows = Window::all().map(Some).chain([None]);
        let prepare = |(signer, window): (&SigningKey, Option<Window>)| {
            let key = PreparedKey::new(signer.verifying_key().as_bytes()).unwrap();
            window.map_or_else(|| key.clone(), |window| key.clone().with_table(window))
        };
        let sign = |signer: &SigningKey| {
            let message = |length: usize| vec![u8::try_from(length % 251).unwrap(); length];
            (0..SIGNED)
                .map(|at| message(at * 37))
                .map(|message| (message.clone(), signer.sign(&message).to_bytes()))
                .collect()
        };
        Stock { keys: signers.iter().zip(windows).map(prepare).collect(), signed: signers.iter().map(sign).collect() }
    })
}

/// The ways of `engine = "auto"`, with all their nets; samples are looked at in a thread of its own.
fn verifier() -> &'static Verifier {
    static VERIFIER: OnceLock<Verifier> = OnceLock::new();
    VERIFIER.get_or_init(|| {
        let verifier = Verifier::start(&[Way::Ifma, Way::Portable]).unwrap();
        assert_ne!(verifier.way(), Way::Dalek, "a self-test failed: {:?}", verifier.take_differences());
        verifier
    })
}

/// The script says of each item which key, which message, and what is done to key, message and signature.
pub fn verdicts(data: &[u8]) {
    let Stock { keys, signed } = stock();
    let mut script = Script::new(data);
    let mut cases: Vec<(usize, Vec<u8>, [u8; 64])> = Vec::new();
    while !script.done() && cases.len() < MOST {
        let step = usize::from(script.byte());
        let (key, at) = (step % keys.len(), usize::from(script.byte()));
        let (mut message, mut signature) = signed[key][at % SIGNED].clone();
        match at / SIGNED % 8 {
            // Honest.
            0 | 1 => {}
            2 => signature[usize::from(script.byte()) % 64] ^= script.byte(),
            3 => message = script.bytes(step).to_vec(),
            4 => fill(&mut signature[..32], script.bytes(32)),
            5 => fill(&mut signature[32..], script.bytes(32)),
            6 => fill(&mut signature, script.bytes(64)),
            _ => {
                // A signature of another key.
                signature = signed[(key + 1) % keys.len()][at % SIGNED].1;
            }
        }
        cases.push((key, message, signature));
    }
    let items: Vec<_> =
        cases.iter().map(|(key, message, signature)| Item { key: &keys[*key], message, signature }).collect();
    let expected: Vec<bool> = items.iter().map(|item| item.key.verify(item.message, item.signature)).collect();
    let mut verdicts = Vec::new();
    for way in Way::ALL {
        verify_many_by(way, &items, &mut verdicts);
        assert_eq!(verdicts, expected, "{way}");
        // And the first alone, in the company of none.
        verify_many_by(way, items.get(..1).unwrap_or_default(), &mut verdicts);
        assert_eq!(verdicts.first(), expected.first(), "{way}, alone");
    }
    verifier().verify_many(&items, &mut verdicts, || true);
    assert_eq!(verdicts, expected, "as the daemon verifies");
    let differences = verifier().take_differences();
    assert!(differences.is_empty(), "{differences:?}");
}

fn fill(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}
