//! `ceremony plan …`: what is to be done, as a file. The signer's own files say who has to approve it and which keys there are.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use nix::unistd::{User, getuid};
use serde_json::{Value, json};

use super::super::admin::{Said, say, status_document};
use super::super::args::{Approvers, Destroy, Kept, NewLedger, OneKey, PlanCommand, PlanInit, PlanRotate, Restore};
use super::super::context::Context;
use super::super::error::{CliError, Exit};
use super::super::hsm::ceremony;
use super::super::text::{plain, time};
use super::{create, steps, text};
use crate::clock::Moment;
use crate::hsm::label::Label;
use crate::statement::approval::Rule;
use crate::statement::plan::{LostKey, Plan, Planner, Step};
use crate::wire::ceremony::{PlanKind, Request, Standing};
use crate::wire::link::KeyRole;

/// Anybody may read a plan; what it does is no secret.
const MODE: u32 = 0o644;

pub(super) async fn plan(context: &mut Context<'_>, command: PlanCommand, now: Moment) -> Result<Exit, CliError> {
    // Files first: what can't be read is no reason to ask.
    let (all, kept) = match command {
        PlanCommand::Init(PlanInit { tenant, purpose, kept }) => (vec![Step::Init { tenant, purpose }], kept),
        PlanCommand::Rotate(rotate) => {
            let standing = standing(context)?;
            let found = to_rotate(&standing, &rotate, now)?;
            return write(context, &standing, found, &rotate.kept, now);
        }
        PlanCommand::Adopt(adopt) => {
            let (tenant, purpose) = (adopt.key.tenant, adopt.key.purpose);
            let out = adopt.out.ok_or_else(|| CliError::Usage("--out is missing".to_owned()))?;
            let step = Step::Adopt { tenant, purpose, cka_id: adopt.cka_id };
            (vec![step], Kept { out, valid: adopt.valid })
        }
        PlanCommand::RetireSeal(OneKey { kid, kept }) => (vec![Step::RetireSeal { kid }], kept),
        PlanCommand::Destroy(Destroy { kid, verifies_until, purge_backups, kept }) => {
            let verifies_until = match verifies_until {
                Some(until) => until,
                None => until(context, &kid).await?,
            };
            (vec![Step::Destroy { kid, verifies_until, purge_backups }], kept)
        }
        PlanCommand::Compromise(OneKey { kid, kept }) => (vec![Step::Compromise { kid }], kept),
        PlanCommand::Approvers(Approvers { threshold, approvers, kept }) => {
            let rule = Rule::new(threshold, merged(approvers)).map_err(|why| CliError::Usage(why.to_string()))?;
            (vec![Step::Approvers { rule }], kept)
        }
        PlanCommand::Restore(Restore { from, kept }) => (vec![Step::Restore { keys: lost(context, &from)? }], kept),
        PlanCommand::NewLedger(NewLedger { kept }) => {
            let standing = standing(context)?;
            let none =
                || CliError::Failed("the signer has signed no checkpoint, so there is nothing to give up".to_owned());
            let records = standing.ledger.ok_or_else(none)?;
            return write(context, &standing, vec![Step::NewLedger { records }], &kept, now);
        }
    };
    let standing = standing(context)?;
    write(context, &standing, all, &kept, now)
}

/// Until when something may verify with a key, as the daemon says.
async fn until(context: &mut Context<'_>, kid: &str) -> Result<i64, CliError> {
    let status = status_document(&context.admin().await?).await?;
    let keys = status.get("keys").and_then(Value::as_array).into_iter().flatten();
    let known = keys.into_iter().find(|key| key.get("kid").and_then(Value::as_str) == Some(kid));
    let time = |key: &Value, name: &str| key.get(name).and_then(Value::as_i64);
    // Nothing verifies with a compromised key from then on.
    let until = |key| time(key, "compromised_at").map(|at| at - 1).or_else(|| time(key, "verifies_until"));
    known.and_then(until).ok_or_else(|| {
        let kid = plain(kid);
        CliError::Failed(format!(
            "the daemon does not say until when something verifies with {kid}; give --verifies-until TIME"
        ))
    })
}

/// One who has a key and a uid is one.
fn merged(all: Vec<crate::statement::approval::Approver>) -> Vec<crate::statement::approval::Approver> {
    let mut made: Vec<crate::statement::approval::Approver> = Vec::new();
    for one in all {
        match made.iter_mut().find(|other| other.name == one.name) {
            Some(other) if other.uid.is_none() && one.public.is_none() => other.uid = one.uid,
            Some(other) if other.public.is_none() && one.uid.is_none() => other.public = one.public,
            _ => made.push(one),
        }
    }
    made
}

/// What the signer's own files say.
fn standing(context: &mut Context<'_>) -> Result<Standing, CliError> {
    let request = Request { plan: PlanKind::Standing, ..Request::default() };
    let report = ceremony(context, &request, None)?;
    let standing = report.standing.ok_or_else(|| CliError::Answer("it does not say who approves".to_owned()))?;
    Ok(*standing)
}

/// The newest of each passport key that is meant.
fn to_rotate(standing: &Standing, wish: &PlanRotate, now: Moment) -> Result<Vec<Step>, CliError> {
    let PlanRotate { tenant, purpose, all, older_than, .. } = wish;
    let step = |tenant: &str, purpose: &str| Step::Rotate { tenant: tenant.to_owned(), purpose: purpose.to_owned() };
    if !all && older_than.is_none() {
        return match (tenant, purpose) {
            (Some(tenant), Some(purpose)) => Ok(vec![step(tenant, purpose)]),
            _ => Err(CliError::Usage("say which: --tenant and --purpose, or --all, or --older-than".to_owned())),
        };
    }
    let mut newest: BTreeMap<(&str, &str), (u64, i64)> = BTreeMap::new();
    for key in standing.keys.iter().filter(|key| key.out_of_service.is_none()) {
        let Some(label) = Label::parse(&key.kid).filter(|label| label.role == KeyRole::Passport) else { continue };
        let at = newest.entry((label.tenant, label.purpose)).or_default();
        *at = (*at).max((label.version, key.created));
    }
    let age = i64::try_from(older_than.unwrap_or(Duration::ZERO).as_secs()).unwrap_or(i64::MAX);
    let meant = newest.into_iter().filter(|((of, for_what), (_, created))| {
        tenant.as_deref().is_none_or(|tenant| tenant == *of)
            && purpose.as_deref().is_none_or(|purpose| purpose == *for_what)
            && now.unix().saturating_sub(*created) >= age
    });
    let found: Vec<Step> = meant.map(|((tenant, purpose), _)| step(tenant, purpose)).collect();
    if found.is_empty() {
        Err(CliError::Failed("no key is meant: nothing is to be rotated".to_owned()))
    } else {
        Ok(found)
    }
}

/// The keys that files name: transcripts, the signer's list of keys, or the daemon's status.
fn lost(context: &mut Context<'_>, files: &[std::path::PathBuf]) -> Result<Vec<LostKey>, CliError> {
    let mut all: BTreeMap<String, LostKey> = BTreeMap::new();
    for path in files {
        let (name, text) = text(context, path)?;
        let document: Value = serde_json::from_str(&text).map_err(|why| CliError::input(&name, why.to_string()))?;
        let steps = document.get("steps").and_then(Value::as_array).into_iter().flatten();
        let lists = steps.chain([&document]).filter_map(|one| one.get("keys").and_then(Value::as_array));
        let mut any = false;
        for key in lists.flatten() {
            let Some(kid) = key.get("kid").and_then(Value::as_str) else { continue };
            let public = key.get("public").and_then(Value::as_str).map(str::to_owned);
            all.insert(kid.to_owned(), LostKey { kid: kid.to_owned(), public });
            any = true;
        }
        if !any {
            return Err(CliError::input(
                &name,
                "it names no keys; expected a transcript, keys.json, or status as JSON",
            ));
        }
    }
    Ok(all.into_values().collect())
}

fn planner() -> Planner {
    let uid = getuid();
    let user = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "unknown".to_owned() } else { host.trim().to_owned() };
    Planner { uid: uid.as_raw(), name: user, host }
}

fn write(
    context: &mut Context<'_>,
    standing: &Standing,
    all: Vec<Step>,
    kept: &Kept,
    now: Moment,
) -> Result<Exit, CliError> {
    let wrong = |why: String| CliError::Usage(why);
    let hash = standing.rule.as_ref().map(Rule::hash).transpose().map_err(|why| wrong(why.to_string()))?;
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|why| CliError::Failed(format!("no random bytes: {why}")))?;
    let life = i64::try_from(kept.valid.as_secs()).unwrap_or(i64::MAX);
    let plan = Plan::new(&id, standing.issuer.clone(), planner(), hash, all).made(now.unix(), life);
    let opened = plan.close().map_err(|why| wrong(why.to_string()))?;
    create(&kept.out, format!("{}\n", opened.text).as_bytes(), MODE)?;
    told(context, &opened, &kept.out, standing.rule.as_ref())
}

fn told(
    context: &mut Context<'_>,
    opened: &crate::statement::plan::Opened,
    out: &Path,
    rule: Option<&Rule>,
) -> Result<Exit, CliError> {
    let path = plain(&out.display().to_string());
    let who = rule.map_or_else(
        || "nobody has to approve it".to_owned(),
        |rule| format!("to be approved by {}", plain(&rule.to_string())),
    );
    let mut lines = vec![format!("{opened}, good until {}, {who}", time(opened.plan.expires))];
    lines.extend(steps(&opened.plan));
    lines.push(match rule {
        Some(_) => format!("now: passportctl ceremony approve {path} --key KEY --out APPROVAL"),
        None => format!("now: passportctl ceremony run {path}"),
    });
    let hash = crate::passport::hex::encode(&opened.hash);
    let json = json!({"plan": out, "id": opened.plan.id, "hash": hash, "expires": opened.plan.expires, "rule": rule});
    say(context, &Said { text: lines.join("\n"), json })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::approval::Approver;
    use crate::wire::ceremony::StandingKey;

    fn standing() -> Standing {
        let key = |kid: &str, created, out: bool| StandingKey {
            kid: kid.to_owned(),
            created,
            public: None,
            out_of_service: out.then(|| "it was destroyed".to_owned()),
        };
        let keys = vec![
            key("ed25519/t1/auth/v1", 100, false),
            key("ed25519/t1/auth/v2", 500, false),
            key("ed25519/t2/auth/v1", 200, false),
            key("ed25519/t2/mail/v1", 900, false),
            key("ed25519/t3/auth/v1", 100, true),
            key("ed25519/t1/audit/v1", 100, false),
            key("hmac-sha256/t1/seal/v1", 100, false),
        ];
        Standing { keys, ..Standing::default() }
    }

    fn meant(
        tenant: Option<&str>,
        purpose: Option<&str>,
        all: bool,
        older_than: Option<u64>,
    ) -> Result<String, String> {
        let kept = Kept { out: "p".into(), valid: Duration::from_secs(1) };
        let wish = PlanRotate {
            tenant: tenant.map(str::to_owned),
            purpose: purpose.map(str::to_owned),
            all,
            older_than: older_than.map(Duration::from_secs),
            kept,
        };
        let steps = to_rotate(&standing(), &wish, Moment::from_unix(1_000)).map_err(|error| error.to_string())?;
        let name = |step: &Step| match step {
            Step::Rotate { tenant, purpose } => format!("{tenant}/{purpose}"),
            other => other.words(),
        };
        Ok(steps.iter().map(name).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn keys_are_meant_by_name_by_age_or_all() {
        assert_eq!(meant(Some("t9"), Some("audit"), false, None).unwrap(), "t9/audit");
        assert_eq!(meant(None, None, true, None).unwrap(), "t1/auth t2/auth t2/mail");
        assert_eq!(meant(None, Some("auth"), true, None).unwrap(), "t1/auth t2/auth");
        // The newest of t1 is 500 s old.
        assert_eq!(meant(None, None, false, Some(501)).unwrap(), "t2/auth");
        assert_eq!(meant(None, None, false, Some(500)).unwrap(), "t1/auth t2/auth");
        assert!(meant(None, None, false, Some(901)).unwrap_err().contains("nothing is to be rotated"));
        assert!(meant(Some("t1"), None, false, None).unwrap_err().contains("--purpose"));
    }

    #[test]
    fn a_name_with_a_key_and_a_uid_is_one_approver() {
        let key = |name: &str| Approver { name: name.to_owned(), public: Some("00".to_owned()), uid: None };
        let uid = |name: &str| Approver { name: name.to_owned(), public: None, uid: Some(7) };
        assert_eq!(merged(vec![key("a"), uid("b"), uid("a"), key("b")]).len(), 2);
        assert_eq!(merged(vec![key("a"), key("a")]).len(), 2, "two keys of one name are refused later");
    }
}
