//! `bench`: what a running daemon does under load, and what of that is the socket's and this client's own cost.

mod compare;
mod drive;
mod echo;
mod mixed;
mod report;
mod work;

use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;

use super::admin::status_document;
use super::args::{Bench, BenchWhat};
use super::context::Context;
use super::error::{CliError, Exit};
use super::passports::claims;
use super::progress::Extent;
use crate::client::{AdminClient, Client, IssueRequest};
use crate::passport::OwnedPassport;
use drive::{Plan, Tally, drive};
use echo::Echo;
use report::{Outcome, Usage};
use work::{Issuing, SECRET, Secrets, Verifying};

/// Different passports that single verifications take turns with, so that no cache of one message is measured.
const VARIETY: usize = 64;

pub(super) async fn run(context: &mut Context<'_>, bench: Bench) -> Result<Exit, CliError> {
    if bench.compare {
        if bench.what != BenchWhat::Verify || bench.load.batch != 1 {
            return Err(CliError::Usage("--compare goes with `bench verify` and a batch of 1".to_owned()));
        }
        return compare::run(context, &bench).await;
    }
    if bench.what == BenchWhat::Echo && bench.load.batch != 1 {
        return Err(CliError::Usage("`bench echo` echoes one passport a request; leave --batch at 1".to_owned()));
    }
    let progress = context.out.progress("measuring", Extent::Time(bench.load.seconds));
    let outcome = match bench.what {
        BenchWhat::Issue => issue(context, &bench).await?,
        BenchWhat::Verify => verify(context, &bench).await?,
        BenchWhat::Seal => secrets(context, &bench, false).await?,
        BenchWhat::Unseal => secrets(context, &bench, true).await?,
        BenchWhat::Echo => echo(&bench).await?,
        BenchWhat::Mixed => return mixed::run(context, &bench, progress).await,
    };
    drop(progress);
    report::show(context, &bench, &outcome, Vec::new())
}

fn plan(bench: &Bench, seconds: Duration) -> Plan {
    Plan { connections: bench.load.connections, in_flight: bench.load.in_flight, seconds }
}

fn request(bench: &Bench) -> IssueRequest {
    let aud = bench.aud.iter().cloned().collect();
    IssueRequest { template: bench.template.clone(), sub: bench.sub.clone(), aud, ..Default::default() }
}

async fn issue(context: &mut Context<'_>, bench: &Bench) -> Result<Outcome, CliError> {
    let client = context.client().await?;
    within_limits(&client, bench).await?;
    let work = Rc::new(Issuing { request: request(bench), batch: usize::from(bench.load.batch) });
    let socket = context.socket()?;
    measured(context, drive(&drive::Place::Path(socket), work, plan(bench, bench.load.seconds))).await
}

async fn verify(context: &mut Context<'_>, bench: &Bench) -> Result<Outcome, CliError> {
    let client = context.client().await?;
    within_limits(&client, bench).await?;
    let work = Rc::new(verifying(&client, bench).await?);
    let socket = context.socket()?;
    measured(context, drive(&drive::Place::Path(socket), work, plan(bench, bench.load.seconds))).await
}

/// A load of one secret that is sealed, or unsealed, again and again.
async fn secrets(context: &mut Context<'_>, bench: &Bench, unseal: bool) -> Result<Outcome, CliError> {
    if bench.load.batch != 1 {
        return Err(CliError::Usage("secrets have no batches; leave out --batch".to_owned()));
    }
    let client = context.client().await?;
    within_limits(&client, bench).await?;
    let (namespace, plain) = (bench.namespace.clone(), vec![0x5a; bench.size]);
    let blob = client.seal(&namespace, SECRET, &plain).await?;
    let work = Rc::new(Secrets { namespace, blob: unseal.then_some(blob), plain });
    let socket = context.socket()?;
    measured(context, drive(&drive::Place::Path(socket), work, plan(bench, bench.load.seconds))).await
}

/// A load of echoes with the frame sizes of a single verify.
async fn echo(bench: &Bench) -> Result<Outcome, CliError> {
    let echo = Echo::start(echo::Sizes::usual()?)?;
    let tally = drive(&echo.place(), Rc::new(echo.work()), plan(bench, bench.load.seconds)).await?;
    Ok(Outcome { tally, usage: None })
}

/// Passports to verify, and what they are verified for.
async fn verifying(client: &Client, bench: &Bench) -> Result<Verifying, CliError> {
    let batch = usize::from(bench.load.batch);
    let issued = client.issue_batch(&vec![request(bench); batch.max(VARIETY)]).await?;
    let passports: Vec<OwnedPassport> =
        issued.into_iter().collect::<Result<_, _>>().map_err(crate::client::ClientError::Problem)?;
    let first = passports.first().ok_or_else(|| CliError::Answer("no passport was issued".to_owned()))?;
    let from_template = || claims(&first.payload()).pointer("/aud/0").and_then(Value::as_str).map(str::to_owned);
    let aud = bench.aud.clone().or_else(from_template);
    Ok(Verifying { aud, passports, batch })
}

/// More than the daemon takes would measure refusals.
async fn within_limits(client: &Client, bench: &Bench) -> Result<(), CliError> {
    let limits = client.welcome().await?.limits;
    if u32::from(bench.load.batch) > limits.max_batch {
        return Err(CliError::Usage(format!("--batch {}: limits.max_batch is {}", bench.load.batch, limits.max_batch)));
    }
    if u32::from(bench.load.in_flight) > limits.max_in_flight {
        let limit = limits.max_in_flight;
        return Err(CliError::Usage(format!("--in-flight {}: limits.max_in_flight is {limit}", bench.load.in_flight)));
    }
    Ok(())
}

/// Runs the load between two looks at the daemon's processes.
async fn measured(
    context: &mut Context<'_>,
    load: impl Future<Output = Result<Tally, CliError>>,
) -> Result<Outcome, CliError> {
    // Without the admins' socket the rest is still worth having.
    let admin = context.admin().await.ok();
    let before = usage(admin.as_ref()).await;
    let tally = load.await?;
    let after = usage(admin.as_ref()).await;
    Ok(Outcome { tally, usage: before.zip(after).map(|(before, after)| Usage { before, after }) })
}

async fn usage(admin: Option<&AdminClient>) -> Option<Value> {
    status_document(admin?).await.ok()?.get("processes").cloned()
}
