//! What the wire costs: finding frames, decoding requests, encoding replies.
//!
//! A payload is 320 bytes long, as passports usually are.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of benches")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use passportd::wire::frame::{Split, split};
use passportd::wire::{
    Accepted, HEADER, Issued, Passport, Reply, Request, ServiceOk, ServiceOp, Verdict, Want, decode, encode_frame,
};

const KID: &str = "ed25519/t1/auth/v1";
const PAYLOAD: [u8; 320] = [b'a'; 320];

fn passport() -> Passport<'static> {
    Passport::Envelope { alg: "Ed25519", kid: KID, msg: &PAYLOAD, sig: &[7; 64] }
}

fn frame(op: ServiceOp<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    encode_frame(&Request { id: 1_000, corr_id: [9; 16], op }, &mut out).unwrap();
    out
}

fn want() -> Want<'static> {
    Want { aud: Some("api"), scopes: vec!["read"], ..Want::default() }
}

fn single() -> Vec<u8> {
    frame(ServiceOp::Verify { want: want(), passport: passport() })
}

fn batch(items: usize) -> Vec<u8> {
    frame(ServiceOp::VerifyBatch { want: want(), items: vec![passport(); items] })
}

fn decoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for (name, items, frame) in [("verify", 1, single()), ("verify batch of 64", 64, batch(64))] {
        group.throughput(Throughput::Elements(items));
        group.bench_function(name, |bencher| {
            bencher.iter(|| decode::<Request<'_>>(black_box(&frame[HEADER..])).unwrap());
        });
    }
    group.finish();
}

fn encoding(criterion: &mut Criterion) {
    let verdict = || Verdict::Accepted(Accepted { exp: 1_700_003_600 });
    let issued = Issued::Envelope { kid: KID.to_owned(), msg: PAYLOAD.to_vec(), sig: [7; 64] };
    let mut group = criterion.benchmark_group("encode");
    for (name, items, ok) in [
        ("verdict", 1, ServiceOk::Verdict(verdict())),
        ("64 verdicts", 64, ServiceOk::Verdicts((0..64).map(|_| verdict()).collect())),
        ("issued", 1, ServiceOk::Issued(issued)),
    ] {
        let reply = Reply { id: 1_000, result: Ok(ok) };
        group.throughput(Throughput::Elements(items));
        // The buffer has room already, as a connection's has.
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || Vec::with_capacity(1024),
                |out| encode_frame(black_box(&reply), out).unwrap(),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn splitting(criterion: &mut Criterion) {
    let stream: Vec<u8> = single().repeat(64);
    let mut group = criterion.benchmark_group("split");
    group.throughput(Throughput::Elements(64));
    group.bench_function("64 frames", |bencher| {
        bencher.iter(|| {
            let (mut rest, mut found) = (black_box(stream.as_slice()), 0);
            while let Ok(Split::Frame { used, .. }) = split(rest) {
                rest = &rest[used..];
                found += 1;
            }
            assert_eq!(found, 64);
        });
    });
    group.finish();
}

criterion_group!(wire, decoding, encoding, splitting);
criterion_main!(wire);
