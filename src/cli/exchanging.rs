//! Tickets, and how long they may live.

use serde_json::Value;

use super::args::{Exchange, TicketTtl};
use super::context::Context;
use super::error::{CliError, Exit};
use super::input::{self, Given, Slot};
use super::passports::{claims, one_verdict, readable};
use super::proving::Evidence;
use super::{admin, text};
use crate::client::{ClientError, TicketRequest};
use crate::clock::Moment;
use crate::passport::{OwnedPassport, hex};
use crate::wire::{AdminOp, Exchanged, Ticket, Verdict};

pub(super) async fn exchange(context: &mut Context<'_>, exchange: Exchange, now: Moment) -> Result<Exit, CliError> {
    let Exchange { aud, scopes, ttl, form, peer_uid, retry_key, pop_key, dpop, file } = exchange;
    let (name, bytes) = context.read(&file)?;
    let Given::One(Slot::Passport(passport)) = input::passports(&name, &bytes)? else {
        return Err(CliError::input(&name, "a ticket is made from one passport"));
    };
    let aud = aud.map_or_else(|| only_audience(&passport), Ok)?;
    let evidence = Evidence::read((pop_key, dpop))?;
    let retry = retry_key.map_or_else(random, Ok)?;
    let client = context.client().await?;
    let made = evidence.made(&client, &passport, (&aud, "exchange"), now).await?;
    let request = TicketRequest { aud, scopes, ttl_s: ttl, form, peer_uid };
    let exchanged = client.exchange(&passport, &request, Some(retry), evidence.proof(made.as_deref())).await;
    if exchanged.as_ref().err().is_some_and(may_have_taken) {
        let key = hex::encode(&retry);
        context
            .out
            .note(&format!("a use may be gone; asking again with --retry-key {key} within 120 s takes no other"));
    }
    match exchanged? {
        Exchanged::Ticket(ticket) => given(context, ticket),
        Exchanged::Refused(code) => one_verdict(context, &passport, &Verdict::Refused(code)),
        Exchanged::Unproven { why } => one_verdict(context, &passport, &Verdict::Unproven { why }),
    }
}

/// Whether a use may be gone although there is no ticket.
fn may_have_taken(error: &ClientError) -> bool {
    error.retryable() && !matches!(error, ClientError::Connect { .. })
}

/// As a passport that was issued; for people, with what is left of the one that it was made from.
fn given(context: &mut Context<'_>, ticket: Ticket) -> Result<Exit, CliError> {
    let Ticket { ticket, left, repeated, .. } = ticket;
    let ticket = OwnedPassport::from(ticket);
    if !context.out.is_json_in_a_pipe() {
        context.out.pairs(readable(&claims(&ticket.payload())))?;
        if let Some(left) = left {
            context.out.pairs([("uses left of the passport", left.to_string())])?;
        }
    }
    if repeated {
        context.out.note("the same request was answered before; whichever ticket is used first, the other is used up");
    }
    context.out.line(&ticket.to_text())?;
    Ok(Exit::Ok)
}

/// For whom a passport is, if it says one.
fn only_audience(passport: &OwnedPassport) -> Result<String, CliError> {
    let claims = claims(&passport.payload());
    match claims.get("aud").and_then(Value::as_array).map(Vec::as_slice) {
        Some([Value::String(only)]) => Ok(only.clone()),
        _ => Err(CliError::Usage(
            "the passport is not for exactly one audience; say for whom the ticket is, by --aud".to_owned(),
        )),
    }
}

fn random() -> Result<[u8; 16], CliError> {
    let mut key = [0; 16];
    getrandom::fill(&mut key).map_err(|error| CliError::Failed(format!("no random bytes: {error}")))?;
    Ok(key)
}

pub(super) async fn ticket_ttl(context: &mut Context<'_>, wish: TicketTtl) -> Result<Exit, CliError> {
    let TicketTtl { seconds, period, reason, .. } = wish;
    let (seconds, for_s) = (seconds.unwrap_or_default(), period.unwrap_or_default());
    let said = if for_s == 0 {
        "tickets live as long as the configuration says".to_owned()
    } else {
        format!("tickets live for {seconds} s at most, for the next {for_s} s")
    };
    admin::done(context, AdminOp::TicketTtl { seconds, for_s, reason: &reason }, &said).await
}

/// That a longer or shorter lifetime is in force, of the daemon's status.
pub(super) fn in_force(status: &Value) -> Option<String> {
    let until = status.pointer("/tickets/until")?.as_i64()?;
    let seconds = status.pointer("/tickets/ttl_s")?.as_u64()?;
    Some(format!("live for at most {seconds} s until {}", text::time(until)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_in_force_is_said_and_what_is_usual_is_not() {
        let status = |until: Value| json!({"tickets": {"ttl_s": 120, "until": until, "active": 3}});
        assert_eq!(in_force(&status(json!(null))), None);
        assert_eq!(in_force(&json!({})), None);
        let said = in_force(&status(json!(1_700_000_000))).unwrap();
        assert!(said.starts_with("live for at most 120 s until 2023-11-14"), "{said}");
    }
}
