//! Issue, verify, introspect.

use serde_json::{Value, json};

use super::args::{Issue, Verify, VerifyWith, Wanted};
use super::context::Context;
use super::error::{CliError, Exit};
use super::holder::Holder;
use super::input::{self, Given, Slot};
use super::progress::Extent;
use super::proving;
use super::text::{self, plain};
use crate::client::{Client, IssueRequest, Want};
use crate::clock::Moment;
use crate::passport::OwnedPassport;
use crate::wire::{Accepted, Code, Consumed, Introspection, Problem, Verdict};

/// Passports that are asked about between two steps of what is shown as progress.
const STRIDE: usize = 1024;

type Answers = Vec<Result<OwnedPassport, Problem>>;

pub(super) async fn issue(context: &mut Context<'_>, mut issue: Issue) -> Result<Exit, CliError> {
    if let Some(path) = issue.batch.take() {
        let (name, bytes) = context.read(&path)?;
        let requests: Vec<IssueRequest> = input::batch(&name, &bytes)?;
        let client = context.client().await?;
        let answers = issue_all(context, &client, &requests).await?;
        return issued(context, &answers);
    }
    let count = usize::try_from(issue.count).unwrap_or(usize::MAX);
    let holder = issue.pop_key.take().map(|path| Holder::read(&path)).transpose()?;
    let mut request = request(issue)?;
    if let Some(holder) = holder {
        request.jkt = Some(holder.thumbprint());
    }
    let client = context.client().await?;
    if count > 1 {
        let answers = issue_all(context, &client, &vec![request; count]).await?;
        return issued(context, &answers);
    }
    let passport = client.issue(&request).await?;
    if !context.out.is_json_in_a_pipe() {
        let claims = claims(&passport.payload());
        context.out.pairs(readable(&claims))?;
    }
    context.out.line(&passport.to_text())?;
    Ok(Exit::Ok)
}

async fn issue_all(context: &mut Context<'_>, client: &Client, requests: &[IssueRequest]) -> Result<Answers, CliError> {
    let progress = context.out.progress("issuing", Extent::Items(requests.len()));
    let mut answers = Vec::with_capacity(requests.len());
    for part in requests.chunks(STRIDE) {
        answers.extend(client.issue_batch(part).await?);
        progress.advance(part.len());
    }
    Ok(answers)
}

async fn verify_all(
    context: &mut Context<'_>,
    client: &Client,
    passports: &[OwnedPassport],
    want: &Want,
) -> Result<Vec<Verdict>, CliError> {
    let progress = context.out.progress("verifying", Extent::Items(passports.len()));
    let mut verdicts = Vec::with_capacity(passports.len());
    for part in passports.chunks(STRIDE) {
        verdicts.extend(client.verify_batch(part, want).await?);
        progress.advance(part.len());
    }
    Ok(verdicts)
}

fn request(issue: Issue) -> Result<IssueRequest, CliError> {
    let ctx = issue.ctx.as_deref().map(serde_json::from_str).transpose();
    let ctx = ctx.map_err(|error| CliError::Usage(format!("--ctx is not a JSON object: {error}")))?;
    let Issue { template, sub, aud, scopes, ttl, nbf, action, limit, nonce, jkt, form, uid, .. } = issue;
    let (template, sub) = (template.unwrap_or_default(), sub.unwrap_or_default());
    Ok(IssueRequest { template, sub, aud, scopes, ttl_s: ttl, nbf, action, ctx, limit, nonce, jkt, form, uid })
}

/// Shows a batch; refused if any item is.
fn issued(context: &mut Context<'_>, answers: &Answers) -> Result<Exit, CliError> {
    let exit = if answers.iter().all(Result::is_ok) { Exit::Ok } else { Exit::Refused };
    if context.out.is_json_in_a_pipe() {
        let item = |answer: &Result<_, _>| match answer {
            Ok(passport) => json!({"passport": passport}),
            Err(problem) => json!({"problem": problem_json(problem)}),
        };
        let items: Vec<_> = answers.iter().map(item).collect();
        return context.out.json(&json!({"items": items})).map(|()| exit);
    }
    let rows = answers.iter().enumerate().map(|(index, answer)| match answer {
        Ok(passport) => {
            let claims = claims(&passport.payload());
            vec![index.to_string(), "issued".into(), member(&claims, "sub"), member(&claims, "jti"), expiry(&claims)]
        }
        Err(problem) => vec![index.to_string(), problem.code.to_string(), plain(&problem.message)],
    });
    context.out.table(&["item", "result", "sub", "jti", "exp"], rows)?;
    Ok(exit)
}

pub(super) async fn verify(context: &mut Context<'_>, with: VerifyWith, now: Moment) -> Result<Exit, CliError> {
    let VerifyWith { verify, retry_key, pop_key, dpop } = with;
    let alone = retry_key.is_some() || pop_key.is_some() || dpop.dpop.is_some();
    let (given, want) = (given(context, &verify)?, want(verify.wanted));
    let slots = match given {
        Given::One(Slot::Passport(passport)) => {
            let verdict = if alone {
                proving::verdict(context, &passport, &want, retry_key, (pop_key, dpop), now).await?
            } else {
                context.client().await?.verify(&passport, &want).await?
            };
            return one_verdict(context, &passport, &verdict);
        }
        Given::Batch(_) if alone => {
            let what = "--retry-key, --pop-key and --dpop go with one passport; a batch has none";
            return Err(CliError::Usage(what.to_owned()));
        }
        Given::One(problem) => vec![problem],
        Given::Batch(slots) => slots,
    };
    let passports: Vec<_> = slots.iter().filter_map(passport).cloned().collect();
    let client = context.client().await?;
    let verdicts = verify_all(context, &client, &passports, &want).await?;
    let mut verdicts = verdicts.into_iter();
    let mut judged = Vec::with_capacity(slots.len());
    for slot in &slots {
        judged.push(match slot {
            Slot::Problem(problem) => Err(problem),
            Slot::Passport(passport) => {
                Ok((passport, verdicts.next().ok_or_else(|| CliError::Answer("a verdict is missing".to_owned()))?))
            }
        });
    }
    batch_verdicts(context, &judged)
}

fn given(context: &mut Context<'_>, verify: &Verify) -> Result<Given<Slot>, CliError> {
    let (name, bytes) = context.read(&verify.passports.file)?;
    input::passports(&name, &bytes)
}

pub(super) fn want(wanted: Wanted) -> Want {
    let Wanted { aud, scopes, peer_uid } = wanted;
    Want { aud, scopes, peer_uid }
}

fn passport(slot: &Slot) -> Option<&OwnedPassport> {
    match slot {
        Slot::Passport(passport) => Some(passport),
        Slot::Problem(_) => None,
    }
}

pub(super) fn one_verdict(
    context: &mut Context<'_>,
    passport: &OwnedPassport,
    verdict: &Verdict,
) -> Result<Exit, CliError> {
    let exit = if verdict.is_accepted() { Exit::Ok } else { Exit::NotValid };
    if context.out.is_json() {
        return context.out.json(&verdict_json(passport, verdict)).map(|()| exit);
    }
    match verdict {
        Verdict::Accepted(_) => {
            context.out.line("accepted")?;
            context.out.pairs(readable(&claims(&passport.payload())))?;
        }
        Verdict::Consumed(consumed) => {
            context.out.line(&format!("accepted{}", taken(consumed)))?;
            context.out.pairs(readable(&claims(&passport.payload())))?;
        }
        Verdict::Unproven { why } => context.out.line(&format!("refused: {}: {}", Code::PopInvalid, plain(why)))?,
        Verdict::Refused(code) => context.out.line(&format!("refused: {code}: {}", code.meaning()))?,
    }
    Ok(exit)
}

/// What an acceptance took, for people.
fn taken(consumed: &Consumed) -> String {
    let left = consumed.left.map(|left| format!(", uses left: {left}")).unwrap_or_default();
    left + if consumed.repeated { ", the same answer once more" } else { "" }
}

type Judged<'a> = Result<(&'a OwnedPassport, Verdict), &'a Value>;

fn batch_verdicts(context: &mut Context<'_>, judged: &[Judged<'_>]) -> Result<Exit, CliError> {
    let all = judged.iter().all(|one| matches!(one, Ok((_, verdict)) if verdict.is_accepted()));
    let exit = if all { Exit::Ok } else { Exit::NotValid };
    if context.out.is_json() {
        let item = |one: &Judged<'_>| match one {
            Ok((passport, verdict)) => verdict_json(passport, verdict),
            Err(problem) => json!({"problem": problem}),
        };
        let items: Vec<_> = judged.iter().map(item).collect();
        return context.out.json(&json!({"items": items})).map(|()| exit);
    }
    let rows = judged.iter().enumerate().map(|(index, one)| match one {
        Ok((passport, Verdict::Accepted(Accepted { exp }) | Verdict::Consumed(Consumed { exp, .. }))) => {
            let claims = claims(&passport.payload());
            vec![index.to_string(), "accepted".into(), member(&claims, "sub"), text::time(*exp)]
        }
        Ok((_, Verdict::Unproven { .. })) => {
            vec![index.to_string(), "refused".into(), Code::PopInvalid.to_string()]
        }
        Ok((_, Verdict::Refused(code))) => vec![index.to_string(), "refused".into(), code.to_string()],
        Err(problem) => {
            vec![index.to_string(), "problem".into(), problem.get("code").map(text::cell).unwrap_or_default()]
        }
    });
    context.out.table(&["item", "verdict", "sub or reason", "exp"], rows)?;
    Ok(exit)
}

/// Claims are shown only of an accepted passport: before that they are a stranger's words.
fn verdict_json(passport: &OwnedPassport, verdict: &Verdict) -> Value {
    match verdict {
        Verdict::Accepted(Accepted { exp }) => {
            json!({"verdict": "accepted", "exp": exp, "kid": passport.kid(), "claims": claims(&passport.payload())})
        }
        Verdict::Consumed(Consumed { exp, left, repeated }) => json!({
            "verdict": "accepted", "exp": exp, "kid": passport.kid(), "claims": claims(&passport.payload()), "uses_left": left,
            "repeated": repeated,
        }),
        Verdict::Unproven { why } => {
            json!({"verdict": "refused", "reason": Code::PopInvalid.name(), "meaning": why})
        }
        Verdict::Refused(code) => json!({"verdict": "refused", "reason": code.name(), "meaning": code.meaning()}),
    }
}

pub(super) async fn introspect(context: &mut Context<'_>, verify: Verify) -> Result<Exit, CliError> {
    let (given, want) = (given(context, &verify)?, want(verify.wanted));
    let (slots, single) = match given {
        Given::One(slot) => (vec![slot], true),
        Given::Batch(slots) => (slots, false),
    };
    let client = context.client().await?;
    let (mut items, mut exit) = (Vec::with_capacity(slots.len()), Exit::Ok);
    let progress = context.out.progress("introspecting", Extent::Items(slots.len()));
    for slot in slots {
        progress.advance(1);
        let item = match slot {
            Slot::Passport(passport) => introspection_json(&client.introspect(&passport, &want).await?),
            Slot::Problem(problem) => json!({"active": false, "problem": problem}),
        };
        if item.get("active") != Some(&Value::Bool(true)) {
            exit = Exit::NotValid;
        }
        items.push(item);
    }
    drop(progress);
    let document = match items.pop() {
        Some(one) if single => one,
        last => {
            items.extend(last);
            json!({"items": items})
        }
    };
    if context.out.is_json() {
        context.out.json(&document)?;
    } else {
        context.out.pairs(readable(&document))?;
    }
    Ok(exit)
}

fn introspection_json(introspection: &Introspection) -> Value {
    let Introspection { active, reason, claims: bytes } = introspection;
    let mut document = json!({"active": active});
    if let (Some(members), Some(code)) = (document.as_object_mut(), reason) {
        members.insert("reason".to_owned(), code.name().into());
    }
    if let (Some(members), Some(bytes)) = (document.as_object_mut(), bytes) {
        members.insert("claims".to_owned(), claims(bytes));
    }
    document
}

pub(super) fn problem_json(problem: &Problem) -> Value {
    let mut document = json!({
        "code": problem.code.name(), "message": problem.message, "retryable": problem.retryable,
    });
    if let (Some(members), Some(millis)) = (document.as_object_mut(), problem.retry_after_ms) {
        members.insert("retry_after_ms".to_owned(), millis.into());
    }
    document
}

/// The payload as JSON; null if it is none, which only a daemon of another kind would send.
pub(super) fn claims(msg: &[u8]) -> Value {
    serde_json::from_slice(msg).unwrap_or_default()
}

fn member(claims: &Value, name: &str) -> String {
    claims.get(name).map(text::cell).unwrap_or_default()
}

fn expiry(claims: &Value) -> String {
    claims.get("exp").and_then(Value::as_i64).map(text::time).unwrap_or_default()
}

/// Claims by name, times readable.
fn readable(claims: &Value) -> Vec<(String, String)> {
    let mut pairs = text::leaves(claims);
    for (key, value) in &mut pairs {
        let name = key.rsplit('.').next().unwrap_or_default();
        if let (true, Ok(seconds)) = (["iat", "nbf", "exp"].contains(&name), value.parse()) {
            *value = text::time(seconds);
        }
    }
    pairs
}
