//! `bench verify --compare`: rounds of echo and verify in turn, and one strict verification without any socket, so that
//! all three see the same machine in the same minutes.

use std::hint::black_box;
use std::rc::Rc;
use std::time::Instant;

use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::json;

use super::drive::{Place, Tally, drive, frame_size};
use super::echo::{Echo, Sizes, verdict_size};
use super::report::{self, Numbers, Outcome, Usage, micros};
use super::{plan, usage, verifying, within_limits};
use crate::cli::args::Bench;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::progress::Extent;
use crate::client::{Client, Keys};
use crate::passport::{OwnedPassport, parse_jwks};

/// Rounds that the time is divided into.
const ROUNDS: u32 = 5;
/// Verifications of one round's in-process timing.
const STRICT: u32 = 200;

pub(super) async fn run(context: &mut Context<'_>, bench: &Bench) -> Result<Exit, CliError> {
    let progress = context.out.progress("comparing", Extent::Time(bench.load.seconds));
    let client = context.client().await?;
    within_limits(&client, bench).await?;
    let work = Rc::new(verifying(&client, bench).await?);
    let strict = Strict::new(&client, work.passports.first().cloned()).await?;
    let echo = Echo::start(Sizes { request: frame_size(&*work)?, reply: verdict_size()? })?;
    let (daemon, idle) = (Place::Path(context.socket()?), echo.place());
    let admin = context.admin().await.ok();
    let before = usage(admin.as_ref()).await;
    let (mut echoes, mut verifies) = (Tally::new()?, Tally::new()?);
    let (mut ratios, mut timings) = (Vec::new(), Vec::new());
    // Two halves a round.
    let half = bench.load.seconds / (2 * ROUNDS);
    for _ in 0..ROUNDS {
        let echoed = drive(&idle, Rc::new(echo.work()), plan(bench, half)).await?;
        let verified = drive(&daemon, Rc::clone(&work), plan(bench, half)).await?;
        let alone = strict.time();
        let base = echoed.latency.value_at_quantile(0.5).saturating_add(alone);
        ratios.push(ratio(verified.latency.value_at_quantile(0.5), base));
        timings.push(alone);
        echoes.add(&echoed)?;
        verifies.add(&verified)?;
    }
    drop(progress);
    let after = usage(admin.as_ref()).await;
    let beside = numbers(&echoes, &mut timings, &mut ratios);
    let outcome = Outcome { tally: verifies, usage: before.zip(after).map(|(before, after)| Usage { before, after }) };
    report::show(context, bench, &outcome, beside)
}

fn numbers(echoes: &Tally, timings: &mut [u64], ratios: &mut [f64]) -> Numbers {
    timings.sort_unstable();
    ratios.sort_unstable_by(f64::total_cmp);
    let middle = |length: usize| length / 2;
    let alone = timings.get(middle(timings.len())).copied().unwrap_or_default();
    let ratio = ratios.get(middle(ratios.len())).copied().unwrap_or_default();
    let named = [
        ("rounds", json!(ROUNDS)),
        ("echo_p50_us", json!(micros(echoes.latency.value_at_quantile(0.5)))),
        ("verify_strict_us", json!(micros(alone))),
        // p50(verify) / (p50(echo) + verify_strict): the median of the rounds.
        ("ratio", json!((ratio * 1000.0).round() / 1000.0)),
    ];
    named.map(|(name, value)| (name.to_owned(), value)).into()
}

#[expect(clippy::cast_precision_loss, reason = "latencies are below 2^53 ns, which is 104 days")]
fn ratio(part: u64, base: u64) -> f64 {
    if base == 0 { 0.0 } else { part as f64 / base as f64 }
}

/// `verify_strict` of one of the passports, in this process.
struct Strict {
    key: VerifyingKey,
    message: Vec<u8>,
    signature: Signature,
}

impl Strict {
    async fn new(client: &Client, passport: Option<OwnedPassport>) -> Result<Self, CliError> {
        let wrong = |what: &str| CliError::Answer(what.to_owned());
        let passport =
            passport.and_then(OwnedPassport::into_envelope).ok_or_else(|| wrong("no passport was issued"))?;
        let Keys::Set(set) = client.keys(None).await? else { return Err(wrong("`not modified` without an ETag")) };
        let keys = parse_jwks(&set.jwks).map_err(|error| wrong(&error.to_string()))?;
        let public = keys.into_iter().find(|key| key.kid.to_string() == passport.kid).map(|key| key.public);
        let public = public.ok_or_else(|| wrong("the key that signed is not in the key set"))?;
        let key = VerifyingKey::from_bytes(&public).map_err(|_| wrong("a public key is not a point"))?;
        let signature = Signature::from_slice(&passport.sig).map_err(|_| wrong("a signature is not 64 bytes"))?;
        let strict = Self { key, message: passport.msg, signature };
        // What is timed must be an acceptance.
        if strict.verify() { Ok(strict) } else { Err(wrong("a passport that it issued does not verify")) }
    }

    fn verify(&self) -> bool {
        black_box(&self.key).verify_strict(black_box(&self.message), black_box(&self.signature)).is_ok()
    }

    /// The median of single timings, in nanoseconds.
    fn time(&self) -> u64 {
        let mut timings: Vec<_> = (0..STRICT)
            .map(|_| {
                let start = Instant::now();
                black_box(self.verify());
                u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
            })
            .collect();
        timings.sort_unstable();
        timings.get(timings.len() / 2).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_the_median_of_the_rounds() {
        let mut echoes = Tally::new().unwrap();
        echoes.latency.record(20_000).unwrap();
        let numbers = numbers(&echoes, &mut [50_000, 30_000, 40_000], &mut [1.5, 1.1, 1.2]);
        assert_eq!(numbers[2], ("verify_strict_us".to_owned(), json!(40.0)));
        assert_eq!(numbers[3], ("ratio".to_owned(), json!(1.2)));
        assert!((ratio(75, 60) - 1.25).abs() < 1e-9 && ratio(1, 0).abs() < 1e-9);
    }
}
