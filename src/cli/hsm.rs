//! `hsm …`: ceremonies, and after them the admin operations that put the new keys to use.

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::admin::{seals, stage, status_document};
use super::args::{Doctor, HsmCommand, HsmInit, HsmRetire, HsmRotate, Pin as PinArgument};
use super::ceremony::{Starting, hold, hold_anyway};
use super::context::Context;
use super::error::{CliError, Exit};
use super::keys::activate_in_time;
use super::progress::Extent;
use super::text::plain;
use crate::client::{AdminClient, ClientError};
use crate::secret::Pin;
use crate::wire::ceremony::{Finding, KeyReport, PlanKind, Report, Request};

pub(super) async fn run(context: &mut Context<'_>, command: HsmCommand) -> Result<Exit, CliError> {
    match command {
        HsmCommand::Init(init) => self::init(context, &init).await,
        HsmCommand::Rotate(rotate) => self::rotate(context, &rotate).await,
        HsmCommand::Retire(retire) => self::retire(context, &retire),
        HsmCommand::List(pin) => list(context, &pin),
        HsmCommand::RetryPin { final_try } => retry_pin(context, final_try),
        HsmCommand::Doctor(doctor) => self::doctor(context, &doctor),
    }
}

const HOLDING: &str = "holding the ceremony";

/// From the file, else typed. There is no third way: arguments and variables are seen by others and end up in logs.
pub(super) fn pin(argument: &PinArgument) -> Result<Pin, CliError> {
    if let Some(path) = &argument.pin_file {
        return Pin::from_file(path).map_err(|error| CliError::Usage(error.to_string()));
    }
    let typed = rpassword::prompt_password("User PIN of the HSM: ").map_err(|error| {
        CliError::Usage(format!(
            "can't ask for the PIN: {error}; give --pin-file FILE (mode 0400) where there is no terminal"
        ))
    })?;
    let mut typed = Zeroizing::new(typed.into_bytes());
    Pin::take(&mut typed).map_err(|error| CliError::Usage(error.to_string()))
}

pub(super) fn ceremony(context: &mut Context<'_>, request: &Request, pin: Option<&Pin>) -> Result<Report, CliError> {
    let socket = context.ceremony_socket()?;
    let progress = context.out.progress(HOLDING, Extent::Unknown);
    let report = hold(&socket, request, pin);
    drop(progress);
    report
}

async fn init(context: &mut Context<'_>, init: &HsmInit) -> Result<Exit, CliError> {
    let request = Request {
        plan: PlanKind::Init,
        tenant: Some(init.tenant.clone()),
        purpose: Some(init.purpose.clone()),
        ..Request::default()
    };
    let pin = pin(&init.pin)?;
    let report = ceremony(context, &request, Some(&pin))?;
    put_to_use(context, &report, &Use { activate: true, unknown_of: Some(&init.tenant), became: "made" }).await
}

async fn rotate(context: &mut Context<'_>, rotate: &HsmRotate) -> Result<Exit, CliError> {
    let HsmInit { tenant, purpose, pin: argument } = &rotate.key;
    let request = Request {
        plan: PlanKind::Generate,
        tenant: Some(tenant.clone()),
        purpose: Some(purpose.clone()),
        ..Request::default()
    };
    let pin = pin(argument)?;
    let report = ceremony(context, &request, Some(&pin))?;
    put_to_use(context, &report, &Use { activate: rotate.activate, unknown_of: None, became: "made" }).await
}

/// How the keys of a ceremony are put to use.
pub(super) struct Use<'a> {
    /// They sign at once.
    pub(super) activate: bool,
    /// Keys of this tenant that the daemon does not know count as new, so that an `init` that was interrupted is finished by
    /// the next.
    pub(super) unknown_of: Option<&'a str>,
    /// What the ceremony has done with them: `made`, `adopted`.
    pub(super) became: &'static str,
}

/// What became of one new key.
struct Step {
    kid: String,
    done: Vec<String>,
    /// What stopped it, and what to run then.
    left: Option<(String, Vec<String>)>,
}

/// Stages each new key, and activates it if asked. The keys exist whatever happens here, so nothing is undone: what
/// could not be done is said, with the commands that do it later.
pub(super) async fn put_to_use(context: &mut Context<'_>, report: &Report, wish: &Use<'_>) -> Result<Exit, CliError> {
    let Use { activate: and_activate, unknown_of, .. } = *wish;
    let admin = context.admin().await;
    let known = match (&admin, unknown_of) {
        (Ok(admin), Some(_)) => status_document(admin).await.ok(),
        _ => None,
    };
    let is_new = |key: &&KeyReport| {
        let left = || unknown_of.zip(known.as_ref()).is_some_and(|(tenant, known)| is_left(key, tenant, known));
        key.made_now || left()
    };
    let new: Vec<_> = report.keys.iter().filter(is_new).collect();
    let mut steps = Vec::with_capacity(new.len());
    let progress = context.out.progress("putting the keys to use", Extent::Items(new.len()));
    for key in new {
        steps.push(match &admin {
            Ok(admin) => one_key(admin, key, and_activate).await,
            Err(error) => unreachable_daemon(key, and_activate, error),
        });
        progress.advance(1);
    }
    drop(progress);
    let exit = if steps.iter().all(|step| step.left.is_none()) { Exit::Ok } else { Exit::Failed };
    if context.out.is_json() {
        let steps: Vec<_> = steps.iter().map(step_json).collect();
        return context.out.json(&json!({"ceremony": report, "keys": steps})).map(|()| exit);
    }
    tell(context, report, &steps, wish)?;
    Ok(exit)
}

/// Whether a usable key of the tenant is missing from the daemon's status.
fn is_left(key: &KeyReport, tenant: &str, status: &Value) -> bool {
    let names = |known: &Value| known.get("kid").and_then(Value::as_str) == Some(&key.kid);
    let known = status.get("keys").and_then(Value::as_array).is_some_and(|keys| keys.iter().any(names));
    key.usable && key.kid.split('/').nth(1) == Some(tenant) && !known
}

/// `stage` and `activate` of a key, as they would be typed.
fn commands(key: &KeyReport, and_activate: bool) -> Vec<String> {
    let verbs: &[&str] = if and_activate { &["stage", "activate"] } else { &["stage"] };
    verbs.iter().map(|verb| format!("passportctl key {verb} {}", key.kid)).collect()
}

fn unreachable_daemon(key: &KeyReport, and_activate: bool, error: &CliError) -> Step {
    Step { kid: key.kid.clone(), done: Vec::new(), left: Some((error.to_string(), commands(key, and_activate))) }
}

async fn one_key(admin: &AdminClient, key: &KeyReport, and_activate: bool) -> Step {
    let mut step = Step { kid: key.kid.clone(), done: Vec::new(), left: None };
    let mut todo = commands(key, and_activate).into_iter();
    let outcome = async {
        step.done.push(stage_when_seen(admin, &key.kid).await?);
        todo.next();
        if and_activate {
            step.done.push(activate_in_time(admin, &key.kid).await?.text);
            todo.next();
        }
        Ok::<_, CliError>(())
    };
    if let Err(error) = outcome.await {
        step.left = Some((error.to_string(), todo.collect()));
    }
    step
}

/// How often, and how long after each other, a key is staged that the signer does not see yet.
const ATTEMPTS: u32 = 20;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(250);

/// The signer initialises again after a ceremony, in a quiet moment; until then it does not know the key, and the
/// daemon says so with a problem that may be tried again.
pub(super) async fn stage_when_seen(admin: &AdminClient, kid: &str) -> Result<String, CliError> {
    let mut attempt = 1;
    loop {
        match stage(admin, kid).await {
            Err(CliError::Client(ClientError::Problem(problem))) if problem.retryable && attempt < ATTEMPTS => {
                attempt += 1;
                tokio::time::sleep(PAUSE).await;
            }
            other => return Ok(other?.text),
        }
    }
}

fn step_json(step: &Step) -> Value {
    let (error, run) = step.left.as_ref().map_or((None, &[][..]), |(error, run)| (Some(error), run.as_slice()));
    json!({"kid": step.kid, "done": step.done, "error": error, "run": run})
}

fn tell(context: &mut Context<'_>, report: &Report, steps: &[Step], wish: &Use<'_>) -> Result<(), CliError> {
    for warning in &report.warnings {
        context.out.note(&format!("warning: {}", plain(warning)));
    }
    if let Some(backup) = &report.backup {
        context.out.line(&format!("the HSM's store was copied to {} first", plain(backup)))?;
    }
    if steps.is_empty() {
        context.out.line("nothing was missing: no key was made (`passportctl hsm rotate` makes the next version)")?;
    }
    for step in steps {
        if report.keys.iter().any(|key| key.made_now && key.kid == step.kid) {
            context.out.line(&format!("{} {}", wish.became, plain(&step.kid)))?;
        }
        for done in &step.done {
            context.out.line(done)?;
        }
        if let Some((error, run)) = &step.left {
            context.out.note(&format!("{}: {error}; then run: {}", step.kid, run.join(" && ")));
        }
    }
    for step in steps.iter().filter(|step| !wish.activate && step.left.is_none()) {
        let next = match seals(&step.kid) {
            // The signer takes the newest there is.
            true => {
                "older ones still open what they sealed, and passportctl reseal moves that on; then put it on record"
            }
            false => "activate it once verifiers have fetched the key set (cache.jwks_ttl_s)",
        };
        context.out.line(&format!("{next}: passportctl key activate {}", step.kid))?;
    }
    Ok(())
}

fn retry_pin(context: &mut Context<'_>, final_try: bool) -> Result<Exit, CliError> {
    let request = Request { plan: PlanKind::RetryPin, final_try, ..Request::default() };
    let report = ceremony(context, &request, None)?;
    if context.out.is_json() {
        return context.out.json(&report).map(|()| Exit::Ok);
    }
    context.out.line("the signer may try its PIN once more; now run: systemctl start passportd-signer")?;
    Ok(Exit::Ok)
}

fn retire(context: &mut Context<'_>, retire: &HsmRetire) -> Result<Exit, CliError> {
    let HsmRetire { kid, dry_run, pin: argument } = retire;
    let request =
        Request { plan: PlanKind::RetireSeal, kid: Some(kid.clone()), dry_run: *dry_run, ..Request::default() };
    let pin = pin(argument)?;
    let report = ceremony(context, &request, Some(&pin))?;
    if context.out.is_json() {
        return context.out.json(&report).map(|()| Exit::Ok);
    }
    if let Some(backup) = &report.backup {
        context.out.line(&format!("the HSM's store was copied to {} first", plain(backup)))?;
    }
    let done = match dry_run {
        true => "could be retired; nothing was changed",
        false => "is retired; the signer stops using it within a second",
    };
    context.out.line(&format!("{} {done}", plain(kid)))?;
    Ok(Exit::Ok)
}

fn list(context: &mut Context<'_>, argument: &PinArgument) -> Result<Exit, CliError> {
    let request = Request { plan: PlanKind::List, ..Request::default() };
    let pin = pin(argument)?;
    let report = ceremony(context, &request, Some(&pin))?;
    if context.out.is_json() {
        return context.out.json(&report).map(|()| Exit::Ok);
    }
    context.out.line(&format!("{}, token {}", plain(&report.module), plain(&report.token)))?;
    let rows = report.keys.iter().map(|key| {
        let state = if key.usable { "usable".to_owned() } else { format!("NOT USED: {}", plain(&key.problem)) };
        vec![
            plain(&key.kid),
            key.role.name().to_owned(),
            key.cka_id.clone(),
            key.public.clone().unwrap_or_default(),
            state,
        ]
    });
    context.out.table(&["kid", "role", "cka_id", "public key", "state"], rows)?;
    for orphan in &report.orphans {
        context.out.note(&format!("belongs to no key: {}", plain(orphan)));
    }
    for warning in &report.warnings {
        context.out.note(&format!("warning: {}", plain(warning)));
    }
    Ok(Exit::Ok)
}

/// The doctor's PIN, if there is one: without, it looks at everything but the login.
fn doctors_pin(context: &mut Context<'_>, argument: &PinArgument) -> Result<Option<Pin>, CliError> {
    match pin(argument) {
        Ok(pin) => Ok(Some(pin)),
        Err(error) if argument.pin_file.is_some() => Err(error),
        Err(_) => {
            context.out.note("no PIN given, so the login is not tried; give --pin-file FILE (mode 0400)");
            Ok(None)
        }
    }
}

/// What the ceremony's doctor finds. That it can't be asked is a finding, too.
fn examined(context: &mut Context<'_>, doctor: &Doctor) -> Result<Vec<Finding>, CliError> {
    let pin = doctors_pin(context, &doctor.pin)?;
    let request = Request { plan: PlanKind::Doctor, ..Request::default() };
    // The daemon is not needed, and neither is its configuration where the socket is served.
    let module_config = context.configuration().ok().and_then(|loaded| {
        let hsm = &loaded.config.hsm;
        Some((hsm.module_env.clone(), hsm.module_config.clone()?))
    });
    let starting = Starting { config: context.global.config.clone(), module_config };
    let socket = context.ceremony_socket()?;
    let progress = context.out.progress(HOLDING, Extent::Unknown);
    let report = hold_anyway(&socket, &starting, &request, pin.as_ref());
    drop(progress);
    match report {
        Ok(report) => Ok(report.findings),
        Err(error) => {
            let (name, remedy) = ("ceremony".to_owned(), String::new());
            Ok(vec![Finding { name, ok: false, detail: error.to_string(), remedy }])
        }
    }
}

fn doctor(context: &mut Context<'_>, doctor: &Doctor) -> Result<Exit, CliError> {
    let findings = examined(context, doctor)?;
    let exit = if findings.iter().all(|finding| finding.ok) { Exit::Ok } else { Exit::Failed };
    if context.out.is_json() {
        return context.out.json(&json!({"ok": exit == Exit::Ok, "findings": findings})).map(|()| exit);
    }
    let width = findings.iter().map(|finding| finding.name.chars().count()).max().unwrap_or_default();
    for Finding { name, ok, detail, remedy } in &findings {
        let remedy = if remedy.is_empty() { String::new() } else { format!("; {}", plain(remedy)) };
        let line = format!("{} {:<width$} {}{remedy}", context.out.mark(*ok), plain(name), plain(detail));
        context.out.line(line.trim_end())?;
    }
    Ok(exit)
}
