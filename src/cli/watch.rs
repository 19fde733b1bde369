//! `watch`: a line for each event, for as long as somebody reads.

use std::time::Duration;

use serde_json::{Value, json};

use super::args::{At, Watch};
use super::context::Context;
use super::error::{CliError, Exit};
use super::text::plain;
use crate::passport::hex;
use crate::wire::{Cursor, Event, Topic, Watched, What};

/// The longest that one answer is waited for, as far as `--timeout` leaves room for it.
const LONGEST: Duration = Duration::from_secs(30);
/// Between attempts after something that may pass.
const AGAIN: Duration = Duration::from_secs(1);

pub(super) async fn watch(context: &mut Context<'_>, watch: Watch) -> Result<Exit, CliError> {
    let Watch { topics, after, once } = watch;
    let mut after = after.map(|At(cursor)| cursor);
    // Before the time of a request is over, so that nothing to tell is no failure.
    let wait = (context.global.patience() * 3 / 4).min(LONGEST);
    let client = context.client().await?;
    let mut said = None;
    loop {
        let told = client.watch(&topics, after, wait).await;
        context.out.answered();
        match told {
            Ok(told) => {
                said = None;
                after = Some(show(context, told)?);
            }
            // The cursor is as good as before.
            Err(error) if !once && error.retryable() => {
                let text = format!("{}; trying on", CliError::from(error));
                if said.as_ref() != Some(&text) {
                    context.out.note(&text);
                    said = Some(text);
                }
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => return Err(error.into()),
        }
        if once || context.out.is_closed() {
            return Ok(Exit::Ok);
        }
    }
}

/// Says what has come; from where to go on.
fn show(context: &mut Context<'_>, told: Watched) -> Result<Cursor, CliError> {
    let (kind, missed, cursor) = match told {
        Watched::Events { events, cursor } => {
            for event in &events {
                let at = Cursor { seq: event.seq, ..cursor };
                let text = if context.out.is_json() { None } else { Some(line(event)) };
                match text {
                    Some(text) => context.out.line(&text)?,
                    None => context.out.json(&document(event, &at))?,
                }
            }
            return Ok(cursor);
        }
        Watched::Begin { cursor } => ("begin", None, cursor),
        Watched::Lagged { missed, cursor } => ("lagged", Some(missed), cursor),
    };
    let at = At(cursor).to_string();
    if context.out.is_json() {
        context.out.json(&json!({kind: {"missed": missed, "cursor": at}}))?;
    } else {
        let what = missed.map_or_else(
            || "begin: look at keys and revocations, then go on".to_owned(),
            |missed| format!("lagged: up to {missed} events are lost; look at keys and revocations, then go on"),
        );
        context.out.line(&format!("{what} --after {at}"))?;
    }
    Ok(cursor)
}

fn line(event: &Event) -> String {
    let at = jiff::Timestamp::from_millisecond(event.at_ms);
    let at = at.map_or_else(|_| event.at_ms.to_string(), |at| format!("{at:.3}"));
    let tenant = event.tenant.as_deref().map_or_else(|| "-".to_owned(), plain);
    let what = match &event.what {
        What::Key { kid, state } => format!("key {} is {}", plain(kid), plain(state)),
        What::RevokedId { jti, until } => format!("passport {} is revoked until {until}", plain(jti)),
        What::RevokedSubject { sub, before, until } => {
            format!("subject {} is revoked as issued by {before}, until {until}", plain(sub))
        }
        What::RevokedKey { kid } => format!("what key {} signed is revoked", plain(kid)),
        What::Epoch { epoch } => format!("epoch {epoch} has begun"),
        What::Policy { hash } => format!("policy {} is in force", hex::encode(hash)),
        What::Draining { on: true } => "the daemon drains".to_owned(),
        What::Draining { on: false } => "the daemon drains no more".to_owned(),
    };
    format!("{at}  {tenant}  {what}")
}

fn document(event: &Event, at: &Cursor) -> Value {
    let what = match &event.what {
        What::Key { kid, state } => json!({"kid": kid, "state": state}),
        What::RevokedId { jti, until } => json!({"jti": jti, "until": until}),
        What::RevokedSubject { sub, before, until } => json!({"sub": sub, "before": before, "until": until}),
        What::RevokedKey { kid } => json!({"compromised": kid}),
        What::Epoch { epoch } => json!({"epoch": epoch}),
        What::Policy { hash } => json!({"policy": hex::encode(hash)}),
        What::Draining { on } => json!({"draining": on}),
    };
    let topic = event.what.topic().name();
    json!({"seq": event.seq, "at_ms": event.at_ms, "tenant": event.tenant, "topic": topic, "what": what,
           "cursor": At(*at).to_string()})
}

/// A topic as it is typed.
pub(super) fn topic(name: &str) -> Result<Topic, String> {
    let known = || Topic::ALL.map(Topic::name).join(", ");
    Topic::by_name(name).ok_or_else(|| format!("there are {}", known()))
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}-{}", hex::encode(&self.0.life), hex::encode(&self.0.wants), self.0.seq)
    }
}

impl std::str::FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (life, rest) = text.split_once('-')?;
            let (wants, seq) = rest.split_once('-')?;
            Some(Cursor {
                life: hex::decode_exactly(life)?,
                wants: hex::decode_exactly(wants)?,
                seq: seq.parse().ok()?,
            })
        };
        read().map(Self).ok_or_else(|| "a cursor is copied whole from what `passportctl watch` says".to_owned())
    }
}
