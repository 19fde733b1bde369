//! `smoke`: a running daemon does its job, and refuses what it must.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::args::Smoke;
use super::context::Context;
use super::error::{CliError, Exit};
use super::passports::claims;
use super::progress::Extent;
use super::scrape::{get, total};
use crate::client::{Client, ClientError, IssueRequest, Keys, Want};
use crate::config::Config;
use crate::passport::{OwnedEnvelope, OwnedPassport};
use crate::wire::{Code, Passport, ServiceOp, Verdict};

/// Passports in the batch.
const BATCH: usize = 8;

/// One step's outcome: what was seen, or what is wrong.
type Seen = Result<String, String>;

struct Step {
    name: &'static str,
    seen: Seen,
    took: Duration,
}

pub(super) async fn run(context: &mut Context<'_>, smoke: Smoke) -> Result<Exit, CliError> {
    let metrics = metrics_address(context, &smoke)?;
    let timeout = context.global.patience();
    let client = context.client().await?;
    let progress = context.out.progress("trying the daemon", Extent::Unknown);
    let before = scrape(metrics, timeout).await;
    let mut steps = Steps { context, taken: Vec::new() };
    exercise(&mut steps, &client, &smoke).await?;
    let start = Instant::now();
    let counters = counters_moved(before, scrape(metrics, timeout).await);
    steps.take("counters moved", start, counters)?;
    if let Some(address) = metrics {
        let start = Instant::now();
        let ready = fetch(address, "/readyz", timeout).await.map(|_| format!("http://{address}/readyz answers 200"));
        steps.take("ready", start, ready)?;
    }
    drop(progress);
    steps.end()
}

/// The steps so far, each shown when it is done.
struct Steps<'c, 'a> {
    context: &'c mut Context<'a>,
    taken: Vec<Step>,
}

impl Steps<'_, '_> {
    fn take(&mut self, name: &'static str, start: Instant, seen: Seen) -> Result<bool, CliError> {
        let took = start.elapsed();
        let (ok, text) = match &seen {
            Ok(text) => (true, text),
            Err(text) => (false, text),
        };
        if !self.context.out.is_json() {
            let micros = took.as_micros();
            let time = format!("{}.{} ms", micros / 1000, micros % 1000 / 100);
            let line = format!("{} {name:<22} {time:>10}  {}", self.context.out.mark(ok), super::text::plain(text));
            self.context.out.line(line.trim_end())?;
        }
        self.taken.push(Step { name, seen, took });
        Ok(ok)
    }

    fn end(self) -> Result<Exit, CliError> {
        let exit = if self.taken.iter().all(|step| step.seen.is_ok()) { Exit::Ok } else { Exit::Failed };
        if self.context.out.is_json() {
            let steps: Vec<_> = self.taken.iter().map(step_json).collect();
            self.context.out.json(&json!({"ok": exit == Exit::Ok, "steps": steps}))?;
        }
        Ok(exit)
    }
}

fn step_json(step: &Step) -> Value {
    let micros = u64::try_from(step.took.as_micros()).unwrap_or(u64::MAX);
    let (ok, detail) = match &step.seen {
        Ok(text) => (true, text),
        Err(text) => (false, text),
    };
    json!({"step": step.name, "ok": ok, "us": micros, "detail": detail})
}

async fn exercise(steps: &mut Steps<'_, '_>, client: &Client, smoke: &Smoke) -> Result<(), CliError> {
    let aud = smoke.aud.iter().cloned().collect();
    let request = IssueRequest { template: smoke.template.clone(), sub: smoke.sub.clone(), aud, ..Default::default() };
    let start = Instant::now();
    let issued = client.issue(&request).await.and_then(|it| it.into_envelope().ok_or(ClientError::WrongAnswer));
    let passport = match issued {
        Ok(passport) => passport,
        Err(error) => {
            // All that follows needs a passport.
            return steps.take("issue one", start, Err(CliError::from(error).to_string())).map(drop);
        }
    };
    steps.take("issue one", start, Ok(passport.kid.clone()))?;
    let want = Want { aud: smoke.aud.clone().or_else(|| audience(&passport)), ..Want::default() };

    let start = Instant::now();
    let seen = accepted(client.verify(&passport, &want).await);
    steps.take("verify one", start, seen)?;
    let start = Instant::now();
    let seen = batch(client, &request, &want).await;
    steps.take("issue and verify batch", start, seen)?;
    let start = Instant::now();
    let seen = keys(client, &passport.kid).await;
    steps.take("keys, twice", start, seen)?;
    let start = Instant::now();
    let seen = tampered(client, &passport, &want).await;
    steps.take("tampered is refused", start, seen)?;
    let start = Instant::now();
    let seen = long_message(client, &passport, &want).await;
    steps.take("long msg is refused", start, seen)?;
    let start = Instant::now();
    let seen = long_batch(client, &want).await;
    steps.take("long batch is refused", start, seen)?;
    Ok(())
}

/// The first audience of the passport, which the template chose.
fn audience(passport: &OwnedEnvelope) -> Option<String> {
    claims(&passport.msg).pointer("/aud/0")?.as_str().map(str::to_owned)
}

fn accepted(verdict: Result<Verdict, ClientError>) -> Seen {
    match verdict.map_err(said)? {
        Verdict::Accepted(accepted) => Ok(format!("expires {}", super::text::time(accepted.exp))),
        Verdict::Consumed(consumed) => Ok(format!("expires {}", super::text::time(consumed.exp))),
        Verdict::Refused(code) => Err(format!("refused: {code}: {}", code.meaning())),
        Verdict::Unproven { why } => Err(format!("refused: {}: {why}", Code::PopInvalid)),
    }
}

fn said(error: ClientError) -> String {
    CliError::from(error).to_string()
}

async fn batch(client: &Client, request: &IssueRequest, want: &Want) -> Seen {
    let issued = client.issue_batch(&vec![request.clone(); BATCH]).await.map_err(said)?;
    let passports: Vec<OwnedPassport> =
        issued.into_iter().collect::<Result<_, _>>().map_err(|problem| said(ClientError::Problem(problem)))?;
    let verdicts = client.verify_batch(&passports, want).await.map_err(said)?;
    let good = verdicts.iter().filter(|verdict| verdict.is_accepted()).count();
    let summary = format!("{good} of {BATCH} accepted");
    if good == BATCH { Ok(summary) } else { Err(summary) }
}

async fn keys(client: &Client, kid: &str) -> Seen {
    let Keys::Set(set) = client.keys(None).await.map_err(said)? else {
        return Err("`not modified` without an ETag".to_owned());
    };
    let keys = crate::passport::parse_jwks(&set.jwks).map_err(|error| error.to_string())?;
    if !keys.iter().any(|key| key.kid.to_string() == kid) {
        return Err(format!("the key that signed, {kid}, is not in the set"));
    }
    match client.keys(Some(set.etag)).await.map_err(said)? {
        Keys::NotModified { max_age_s } => Ok(format!("{} keys, then not modified for {max_age_s} s", keys.len())),
        Keys::Set(_) => Err("the set was sent again although its ETag is current".to_owned()),
    }
}

async fn tampered(client: &Client, passport: &OwnedEnvelope, want: &Want) -> Seen {
    let mut wrong = passport.clone();
    // One bit in the middle of s, the second half of the signature.
    let Some(byte) = wrong.sig.get_mut(40) else { return Err("the signature is shorter than 64 bytes".to_owned()) };
    *byte ^= 1;
    match client.verify(&wrong, want).await.map_err(said)? {
        Verdict::Refused(Code::VerifyFailed) => Ok("verify_failed".to_owned()),
        Verdict::Refused(other) => Err(format!("refused as {other}, expected verify_failed")),
        Verdict::Unproven { why } => Err(format!("refused since {why}, expected verify_failed")),
        Verdict::Accepted(_) | Verdict::Consumed(_) => Err("a tampered passport was ACCEPTED".to_owned()),
    }
}

async fn long_message(client: &Client, passport: &OwnedEnvelope, want: &Want) -> Seen {
    let limit = client.welcome().await.map_err(said)?.limits.max_msg_bytes;
    let mut long = passport.clone();
    long.msg.resize(usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(1), b' ');
    match client.verify(&long, want).await {
        Ok(Verdict::Refused(Code::TooLarge)) => Ok(format!("too_large over {limit} bytes")),
        Ok(Verdict::Refused(code)) => Err(format!("refused as {code}, expected too_large")),
        Ok(Verdict::Unproven { why }) => Err(format!("refused since {why}, expected too_large")),
        Ok(Verdict::Accepted(_) | Verdict::Consumed(_)) => Err("it was ACCEPTED".to_owned()),
        Err(error) if error.code() == Some(Code::TooLarge) => Ok(said(error)),
        Err(error) => Err(said(error)),
    }
}

async fn long_batch(client: &Client, want: &Want) -> Seen {
    let limit = client.welcome().await.map_err(said)?.limits.max_batch;
    let count = usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(1);
    // Empty passports: nothing but their number is too large.
    let items = vec![Passport::Envelope { alg: "", kid: "", msg: &[], sig: &[] }; count];
    let want = crate::wire::Want { aud: want.aud.as_deref(), ..Default::default() };
    match client.ask([0; 16], ServiceOp::VerifyBatch { want, items }).await {
        Ok(_) => Err(format!("{count} passports were taken; limits.max_batch is {limit}")),
        Err(ClientError::Problem(problem)) if problem.code == Code::TooLarge => {
            let named = problem.message.contains("max_batch");
            let text = format!("too_large: {}", problem.message);
            if named { Ok(text) } else { Err(format!("{text} (which does not name max_batch)")) }
        }
        Err(error) => Err(said(error)),
    }
}

fn metrics_address(context: &Context<'_>, smoke: &Smoke) -> Result<Option<SocketAddr>, CliError> {
    Ok(match (smoke.metrics, &context.global.config) {
        (Some(address), _) => Some(address),
        (None, Some(_)) => context.configuration()?.config.server.metrics_addr,
        (None, None) => Config::default().server.metrics_addr,
    })
}

async fn fetch(address: SocketAddr, path: &'static str, timeout: Duration) -> Result<String, String> {
    let page =
        tokio::task::spawn_blocking(move || get(address, path, timeout)).await.map_err(|error| error.to_string())?;
    match page {
        Ok(page) if page.status == 200 => Ok(page.body),
        Ok(page) => Err(format!("http://{address}{path} answers {}: {}", page.status, page.body.trim())),
        Err(error) => Err(format!("http://{address}{path}: {error}; give --metrics ADDR, or --config FILE")),
    }
}

/// Items issued and verified so far; none where the port is off.
async fn scrape(address: Option<SocketAddr>, timeout: Duration) -> Option<Result<(f64, f64), String>> {
    let page = fetch(address?, "/metrics", timeout).await;
    let of = |page: &str, op| total(page, "passport_ops_total", op);
    Some(page.map(|page| (of(&page, "issue"), of(&page, "verify"))))
}

fn counters_moved(before: Option<Result<(f64, f64), String>>, after: Option<Result<(f64, f64), String>>) -> Seen {
    let (Some(before), Some(after)) = (before, after) else {
        return Ok("skipped: the metrics port is off (server.metrics_addr)".to_owned());
    };
    let ((issued, verified), (issued_now, verified_now)) = (before?, after?);
    let (issued, verified) = (issued_now - issued, verified_now - verified);
    let text = format!("passport_ops_total: {issued} issued, {verified} verified");
    if issued >= 1.0 && verified >= 1.0 { Ok(text) } else { Err(text) }
}
