//! Known answers: what a process asks a way before it trusts it.

use std::fmt;

use crate::{Item, PreparedKey, SIGNATURE_LENGTH, Way, Window, verify_many_by};

/// One signature of RFC 8032 §7.1.
struct Known {
    key: [u8; 32],
    message: &'static [u8],
    signature: [u8; SIGNATURE_LENGTH],
}

/// TEST 1, TEST 2, TEST 3, and TEST SHA(abc), whose message fills more than one block.
const KNOWN: [Known; 4] = [
    Known {
        key: unhex(b"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"),
        message: &[],
        signature: unhex(
            b"e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
    },
    Known {
        key: unhex(b"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"),
        message: &[0x72],
        signature: unhex(
            b"92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
    },
    Known {
        key: unhex(b"fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"),
        message: &[0xaf, 0x82],
        signature: unhex(
            b"6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    },
    Known {
        key: unhex(b"ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf"),
        message: &unhex::<64, 128>(
            b"ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ),
        signature: unhex(
            b"dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
        ),
    },
];

#[expect(clippy::indexing_slicing, reason = "evaluated when it is compiled")]
const fn unhex<const N: usize, const DIGITS: usize>(digits: &[u8; DIGITS]) -> [u8; N] {
    const fn value(digit: u8) -> u8 {
        if digit <= b'9' { digit - b'0' } else { digit - b'a' + 10 }
    }
    assert!(DIGITS == 2 * N, "two digits make a byte");
    let mut bytes = [0; N];
    let mut at = 0;
    while at < N {
        bytes[at] = value(digits[2 * at]) << 4 | value(digits[2 * at + 1]);
        at += 1;
    }
    bytes
}

/// A way gave another verdict than it must. It is not to be used: the processor, the memory or the build is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelfTestError {
    /// The way.
    pub way: Way,
    /// The size of the batch in which it erred.
    pub batch: usize,
}

impl fmt::Display for SelfTestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the self-test of the verification path {} failed in a batch of {}", self.way, self.batch)
    }
}

impl std::error::Error for SelfTestError {}

impl Way {
    /// Asks known answers: signatures of RFC 8032, and the same with each bit of the signature turned, under keys in turn, in
    /// batches of 1 to 9 and of 64, so that every arrangement of the lanes has its turn, and with tables of every width.
    /// 0.2 s or less.
    ///
    /// # Errors
    /// The first batch that got a wrong verdict.
    pub fn self_test(self) -> Result<(), SelfTestError> {
        let bent = (0..SIGNATURE_LENGTH * 8).map(|bit| (bit / 8, 1 << (bit % 8)));
        // Good ones between bad ones, so that neither "all" nor "none" can be right.
        let questions: Vec<(usize, u8)> = bent.flat_map(|bent| [(0, 0), bent, (0, 0)]).collect();
        for window in Window::all() {
            let failed = |batch| SelfTestError { way: self, batch };
            let keys: Vec<_> = KNOWN
                .iter()
                .map(|known| PreparedKey::new(&known.key).map(|key| (key.with_table(window), known)))
                .collect::<Result<_, _>>()
                .map_err(|_| failed(0))?;
            if keys.iter().any(|(key, _)| key.window().is_none()) {
                return Err(failed(0));
            }
            for batch in (1..=9).chain([64]) {
                // The smaller batches take a part of the questions, another one each time.
                let part = questions.len().min(24 * batch);
                let from = (questions.len() - part) * batch / 64;
                let some = questions.get(from..from + part).unwrap_or_default();
                self.ask(&keys, some, batch).then_some(()).ok_or_else(|| failed(batch))?;
            }
        }
        Ok(())
    }

    fn ask(self, keys: &[(PreparedKey, &Known)], questions: &[(usize, u8)], batch: usize) -> bool {
        let mut verdicts = Vec::new();
        let mut turns = keys.iter().cycle();
        questions.chunks(batch).all(|questions| {
            let asked: Vec<_> = questions
                .iter()
                .zip(&mut turns)
                .map(|((at, bits), (key, known))| {
                    let mut signature = known.signature;
                    if let Some(byte) = signature.get_mut(*at) {
                        *byte ^= bits;
                    }
                    (key, known.message, signature, *bits == 0)
                })
                .collect();
            let items: Vec<_> =
                asked.iter().map(|(key, message, signature, _)| Item { key, message, signature }).collect();
            verify_many_by(self, &items, &mut verdicts);
            verdicts.len() == items.len() && verdicts.iter().zip(&asked).all(|(good, (.., expected))| good == expected)
        })
    }
}
