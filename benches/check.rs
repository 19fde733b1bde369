//! What a verdict costs in this process: the whole of `check` for one passport and for batches, `verify_strict` alone
//! beside it, and reading a payload by the scanner and by way of a JSON tree.

#![expect(clippy::unwrap_used, reason = "helpers of benches")]

use std::hint::black_box;

use criterion::{Bencher, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ed25519_dalek::{Signature, Signer as _, SigningKey};
use passportd::check::{Means, Terms, check};
use passportd::clock::Moment;
use passportd::passport::{Cap, Claims, Expect, Jwk, Kid, Presenter, scan};
use passportd::state::Store;
use passportd::verify::{Budget, Keyring, Verifier, Way};
use passportd::wire::{Passport, Verdict};

const ISSUER: &str = "bench.example";
/// 2026-01-01, when every passport of this bench is valid.
const NOW: i64 = 1_767_225_600;
/// What `verify.table_bytes` is by default.
const TABLE_BYTES: usize = 16 << 20;
/// What the operators of older systems know.
const BATCHES: [usize; 8] = [1, 8, 32, 64, 128, 256, 512, 4096];

struct Stock {
    keyring: Keyring,
    signer: SigningKey,
    kid: String,
    /// Payloads and signatures, all different.
    passports: Vec<(Vec<u8>, [u8; 64])>,
}

impl Stock {
    fn new(passports: usize) -> Self {
        let signer = SigningKey::from_bytes(&[7; 32]);
        let kid = Kid::new("t1", "auth", 1).unwrap();
        let public = signer.verifying_key().to_bytes();
        let keyring = Keyring::new(&[Jwk::new(kid.clone(), public)]).unwrap();
        let passports = (0..passports)
            .map(|number| {
                let payload = claims(&kid, number).canonical(4096).unwrap();
                let signature = signer.sign(&payload).to_bytes();
                (payload, signature)
            })
            .collect();
        Self { keyring, signer, kid: kid.to_string(), passports }
    }

    fn passports(&self, items: usize) -> Vec<Passport<'_>> {
        let all = self.passports.iter().take(items);
        all.map(|(msg, sig)| Passport::Envelope { alg: "Ed25519", kid: &self.kid, msg, sig }).collect()
    }
}

/// About 330 bytes, as passports usually are.
fn claims(kid: &Kid, number: usize) -> Claims {
    Claims {
        iss: ISSUER.to_owned(),
        sub: format!("service-{number:06}"),
        aud: vec!["orders".to_owned()],
        iat: NOW - 10,
        exp: NOW + 3590,
        nbf: None,
        jti: format!("019b76da-a800-7000-8000-{number:012}"),
        scopes: vec!["orders:read".to_owned(), "orders:write".to_owned()],
        nonce: None,
        ctx: None,
        kid: kid.clone(),
        epoch: 0,
        cap: Cap { template: "orders".to_owned(), action: None, limit: None },
        cnf_jkt: None,
        cnf_uid: None,
        par: None,
    }
}

fn terms() -> Terms<'static> {
    let expect = Expect {
        issuer: ISSUER,
        now: Moment::from_unix(NOW),
        skew_s: 120,
        audiences: &["orders"],
        require_aud: true,
        scopes: &["orders:read"],
    };
    Terms { expect, max_msg_bytes: 4096, presenter: Presenter::Unsaid }
}

fn checking(criterion: &mut Criterion, stock: &Stock, verifier: &Verifier, name: &str) {
    let (terms, confirmations) = (terms(), Budget::default());
    let state = Store::memory(Moment::from_unix(NOW)).unwrap();
    let (keyring, confirmations) = (&stock.keyring, &confirmations);
    let means = Means { keyring, verifier, confirmations, remembered: None, state: &state };
    let accepted = |verdicts: &[Verdict]| verdicts.iter().all(|one| matches!(one, Verdict::Accepted(_)));
    let single = stock.passports(1);
    assert!(accepted(&check(&single, means, &terms).verdicts), "what is timed must be acceptances");
    let timed = |bencher: &mut Bencher<'_>| bencher.iter(|| check(black_box(&single), means, &terms));
    criterion.bench_function(&format!("{name}_single"), timed);
    let mut group = criterion.benchmark_group(format!("{name}_batch"));
    for items in BATCHES {
        let batch = stock.passports(items);
        assert!(accepted(&check(&batch, means, &terms).verdicts));
        group.throughput(Throughput::Elements(u64::try_from(items).unwrap()));
        group.bench_with_input(BenchmarkId::from_parameter(items), &batch, |bencher, batch| {
            bencher.iter(|| check(black_box(batch), means, &terms));
        });
    }
    group.finish();
}

/// By the reference, which is what ratios are held against, and by the ways that the daemon uses by default.
fn verifying(criterion: &mut Criterion) {
    let mut stock = Stock::new(4096);
    checking(criterion, &stock, &Verifier::reference(), "verify");
    let (kid, public) = (Kid::new("t1", "auth", 1).unwrap(), stock.signer.verifying_key().to_bytes());
    stock.keyring = Keyring::with_tables(&[Jwk::new(kid, public)], TABLE_BYTES, None).unwrap();
    checking(criterion, &stock, &Verifier::start(&[Way::Ifma, Way::Portable]).unwrap(), "auto");
    let key = stock.signer.verifying_key();
    let (message, signature) = stock.passports.first().unwrap();
    let signature = Signature::from_bytes(signature);
    criterion.bench_function("verify_strict", |bencher| {
        bencher.iter(|| black_box(&key).verify_strict(black_box(message), &signature).unwrap());
    });
}

fn reading(criterion: &mut Criterion) {
    let stock = Stock::new(1);
    let (payload, _) = stock.passports.first().unwrap();
    criterion.bench_function("canonical_scan", |bencher| bencher.iter(|| scan(black_box(payload)).unwrap().exp));
    criterion.bench_function("canonical_tree", |bencher| {
        bencher.iter(|| {
            let tree: serde_json::Value = serde_json::from_slice(black_box(payload)).unwrap();
            serde_json_canonicalizer::to_vec(&tree).unwrap() == *payload
        });
    });
}

criterion_group!(benches, verifying, reading);
criterion_main!(benches);
