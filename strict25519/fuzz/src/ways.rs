//! Every way against `verify_strict`, in any batch and alone. The fuzz target, the replay of its corpus, and the fuzz target
//! `verdicts` of passportd are made of this file.

use std::sync::OnceLock;

use ed25519_dalek::{Signer as _, SigningKey};
use strict25519::{Item, PreparedKey, Way, Window, verify_many_by};

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

/// What is left of a script. Past its end everything is zero.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    /// The next `count` bytes, or as many as are left.
    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// Asks every way about the batch of a script, which says of each item which key, which message, and what is done to message
/// and signature; then `more` is given it, with what the reference says.
pub fn batch(data: &[u8], more: impl FnOnce(&[Item<'_>], &[bool], &mut Vec<bool>)) {
    let Stock { keys, signed } = stock();
    let mut script = Script(data);
    let mut cases: Vec<(usize, Vec<u8>, [u8; 64])> = Vec::new();
    while !script.0.is_empty() && cases.len() < MOST {
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
    more(&items, &expected, &mut verdicts);
}

fn fill(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}
