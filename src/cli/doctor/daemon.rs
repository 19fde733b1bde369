//! What a daemon that runs says of itself, and what its process shows.

use serde_json::Value;

use super::facts::{Daemon, Port, Process, Read, Said, Settings};
use super::settings::short;
use super::{Check, START};
use crate::client::ClientError;
use crate::config::OTHER_FILES;
use crate::passport::hex;
use crate::wire::{Code, Identity};

/// What `passportd` calls itself.
const OURS: &str = concat!("passportd/", env!("CARGO_PKG_VERSION"));
/// What tells one condition's remedy from another's.
const REMEDIES: [(&str, &str); 7] = [
    ("hsm", "passportctl hsm doctor --pin-file FILE"),
    ("keys", "passportctl hsm init --tenant TENANT --purpose PURPOSE"),
    ("audit", "make room for audit.dir, and see journalctl -u passportd"),
    ("state", "make room for state.path, and see journalctl -u passportd"),
    ("clock", "set the clock right"),
    ("issuing", "passportctl resume"),
    ("serving", "passportctl undrain, or start the daemon again"),
];

pub(super) fn judge(daemon: &Daemon, settings: &Settings) -> Vec<Check> {
    let mut checks = vec![version(&daemon.service, &daemon.admin)];
    checks.push(whoami("whoami", &daemon.service));
    checks.push(whoami("whoami admin", &daemon.admin));
    checks.push(token(&daemon.status));
    checks.push(port(daemon));
    checks.push(ready(daemon));
    checks.push(in_force(&daemon.status, settings));
    let wanted = match &settings.config {
        Read::Good(loaded) => Some(loaded.config.server.max_connections),
        _ => None,
    };
    checks.push(descriptors(daemon.process.as_ref(), wanted));
    checks.push(program(daemon.process.as_ref()));
    checks
}

/// Whether nobody was there to say anything.
const fn absent(error: &ClientError) -> bool {
    matches!(error, ClientError::Connect { .. })
}

/// What can't be known without the daemon.
fn unasked(name: &str, error: &ClientError, remedy: &str) -> Check {
    let why = if absent(error) { "the daemon can't be asked".to_owned() } else { error.to_string() };
    Check::skipped(name, why, remedy)
}

fn version(service: &Result<Said, ClientError>, admin: &Result<Said, ClientError>) -> Check {
    let server = match (service, admin) {
        (Ok(said), _) | (_, Ok(said)) => &said.welcome.server,
        (Err(error), _) if absent(error) => return unasked("version", error, ""),
        (Err(error @ (ClientError::Timeout | ClientError::Lost(_))), _) => {
            let detail = format!("the daemon takes connections and gives no answer: {error}");
            return Check::fail(
                "version",
                detail,
                "is it stopped or overloaded? see systemctl status passportd, and `ps -o stat,pid,cmd`",
            );
        }
        (Err(ClientError::Problem(problem)), _) if problem.code != Code::UnsupportedVersion => {
            let remedy = "passportctl ping shows when it answers again";
            return Check::warn(
                "version",
                format!("the daemon refuses: {}: {}", problem.code, problem.message),
                remedy,
            );
        }
        (Err(error), _) => {
            let remedy = format!(
                "install passportd and passportctl of one version (this is {OURS}), and start the daemon again"
            );
            return Check::fail("version", format!("the daemon does not speak with this passportctl: {error}"), remedy);
        }
    };
    if server == OURS {
        return Check::ok("version", format!("{OURS}, daemon and tool"));
    }
    let remedy = "install both of one version, and start the daemon again";
    Check::warn("version", format!("the daemon is {server}, this tool is of {OURS}"), remedy)
}

fn whoami(name: &str, said: &Result<Said, ClientError>) -> Check {
    let identity = match said {
        Ok(said) => &said.identity,
        Err(error) => return unasked(name, error, ""),
    };
    let Identity { uid, gid, listener, rules, operations, templates, .. } = identity;
    let who = format!("uid {uid}, gid {gid}, by listener {listener}");
    if rules.is_empty() {
        let remedy = "write a [[peer]] for it, or call doctor as the user that the service has";
        return Check::warn(name, format!("policy names {who} nowhere: it may do nothing"), remedy);
    }
    let list = |items: &[String]| if items.is_empty() { "none".to_owned() } else { items.join(" ") };
    let (rules, operations, templates) = (list(rules), list(operations), list(templates));
    Check::ok(name, format!("{who}: rules {rules}; may {operations}; templates {templates}"))
}

fn token(status: &Result<Value, ClientError>) -> Check {
    const DOCTOR: &str = "passportctl hsm doctor looks for itself, without the daemon";
    let status = match status {
        Ok(status) => status,
        Err(error) => return unasked("token", error, DOCTOR),
    };
    let text = |name: &str| status.pointer(name).and_then(Value::as_str).unwrap_or("unknown");
    if status.pointer("/signer/up").and_then(Value::as_bool) == Some(true) {
        return Check::ok("token", format!("{}, by {}", text("/signer/token"), text("/signer/module")));
    }
    let why = text("/signer/why");
    Check::fail("token", format!("the signer can't use the HSM: {why}"), "passportctl hsm doctor --pin-file FILE")
}

fn port(daemon: &Daemon) -> Check {
    const NAME: &str = "metrics";
    let (address, answer) = match &daemon.port {
        Port::Off => return Check::ok(NAME, "server.metrics_addr is off"),
        Port::Unknown => return Check::skipped(NAME, "its address is in the configuration", ""),
        Port::Elsewhere { address } => {
            let remedy = "set server.metrics_addr to an address of this host, such as 127.0.0.1:9909, or to \"off\"";
            return Check::fail(NAME, format!("{address} can't be listened on: this host does not have it"), remedy);
        }
        Port::Asked { address, answer } => (address, answer),
    };
    let runs = daemon.service.is_ok() || daemon.admin.is_ok();
    match answer {
        Ok((200 | 503, body)) if conditions(body).is_some() => Check::ok(NAME, format!("http://{address}")),
        Ok((status, _)) => {
            let remedy = "end that program, or set server.metrics_addr to another address";
            Check::fail(NAME, format!("something else answers at {address}: /readyz gives {status}"), remedy)
        }
        Err(why) if runs => {
            let remedy = "compare server.metrics_addr with what `ss -tlnp` shows; start the daemon again";
            Check::fail(NAME, format!("{address} does not answer: {why}"), remedy)
        }
        Err(why) => Check::skipped(NAME, format!("neither the daemon nor {address} answers: {why}"), ""),
    }
}

/// The conditions of a readiness report, with what each says.
fn conditions(body: &str) -> Option<Value> {
    serde_json::from_str::<Value>(body).ok().filter(|report| report.get("conditions").is_some_and(Value::is_array))
}

fn ready(daemon: &Daemon) -> Check {
    let by_port = match &daemon.port {
        Port::Asked { answer: Ok((_, body)), .. } => conditions(body),
        _ => None,
    };
    let health = daemon.status.as_ref().ok().and_then(|status| status.get("health").cloned());
    // Status has the reasons; the port, which asks nobody who they are, only names.
    let Some(report) = health.or(by_port) else { return Check::skipped("ready", "the daemon can't be asked", START) };
    let holds = |value: &Value, name: &str| value.get(name).and_then(Value::as_bool) == Some(true);
    let (issue, verify) = (holds(&report, "issue_ready"), holds(&report, "verify_ready"));
    let all = report.get("conditions").and_then(Value::as_array);
    let broken: Vec<_> = all.into_iter().flatten().filter(|one| !holds(one, "ok")).collect();
    let text = |one: &Value, name: &str| one.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let told: Vec<_> = broken
        .iter()
        .map(|one| match (text(one, "name"), text(one, "detail")) {
            (name, detail) if detail.is_empty() => name,
            (name, detail) => format!("{name}: {detail}"),
        })
        .collect();
    if issue && verify && broken.is_empty() {
        return Check::ok("ready", "passports are issued and verified");
    }
    let mut remedies: Vec<_> = broken.iter().filter_map(|one| remedy(&text(one, "name"))).collect();
    if remedies.is_empty() {
        remedies.push("passportctl status shows the whole, and journalctl -u 'passportd*' what came before");
    }
    let (told, remedy) = (told.join("; "), remedies.join("; "));
    let yes = |holds: bool| if holds { "yes" } else { "NO" };
    let detail = format!("issue {}, verify {}: {told}", yes(issue), yes(verify));
    if issue && verify { Check::warn("ready", detail, remedy) } else { Check::fail("ready", detail, remedy) }
}

fn remedy(condition: &str) -> Option<&'static str> {
    REMEDIES.iter().find(|(name, _)| *name == condition).map(|(_, remedy)| *remedy)
}

/// Whether what is on disk is what the daemon goes by.
fn in_force(status: &Result<Value, ClientError>, settings: &Settings) -> Check {
    const NAME: &str = "in force";
    let status = match status {
        Ok(status) => status,
        Err(error) => return unasked(NAME, error, ""),
    };
    let differs = |pointer: &str, hash: Option<[u8; 32]>| {
        let running = status.pointer(pointer).and_then(Value::as_str);
        hash.zip(running).filter(|(hash, running)| hex::encode(hash) != *running).map(|(hash, _)| short(&hash))
    };
    let config = match &settings.config {
        Read::Good(loaded) => Some(loaded.hash),
        _ => None,
    };
    let policy = match &settings.policy {
        Some(Read::Good(policy)) => Some(policy.hash()),
        _ => None,
    };
    let pending = [("configuration", differs("/config/hash", config)), ("policy", differs("/policy/hash", policy))];
    let pending: Vec<_> = pending.into_iter().filter_map(|(what, hash)| Some(format!("{what} {}", hash?))).collect();
    if pending.is_empty() {
        return Check::ok(NAME, "configuration and policy on disk are what the daemon goes by");
    }
    let remedy = "passportctl reload says what it takes in and what waits for a restart";
    Check::warn(NAME, format!("on disk, but not in force: {}", pending.join(", ")), remedy)
}

fn descriptors(process: Option<&Process>, max_connections: Option<usize>) -> Check {
    const NAME: &str = "descriptors";
    let (Some(limit), Some(connections)) = (process.and_then(|process| process.descriptors), max_connections) else {
        return Check::skipped(NAME, "the limit of the front's process can't be read", "");
    };
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OTHER_FILES);
    if limit >= wanted {
        return Check::ok(NAME, format!("{limit} open files, {wanted} needed for {connections} connections"));
    }
    let room = limit.saturating_sub(OTHER_FILES);
    let detail =
        format!("{limit} open files have room for {room} connections; server.max_connections is {connections}");
    Check::warn(NAME, detail, format!("set LimitNOFILE={wanted} in passportd.service, or lower server.max_connections"))
}

/// An upgrade replaces the file of a process that goes on running; the kernel marks the old one.
fn program(process: Option<&Process>) -> Check {
    const NAME: &str = "program";
    let Some(process) = process else { return Check::skipped(NAME, "it is not known which process serves", "") };
    match &process.program {
        Ok(path) => match path.strip_suffix(" (deleted)") {
            Some(old) => {
                let detail = format!("pid {} still runs the {old} of before an upgrade", process.pid);
                Check::warn(NAME, detail, "systemctl restart passportd.target")
            }
            None => Check::ok(NAME, format!("pid {} runs {path}", process.pid)),
        },
        Err(why) => Check::skipped(
            NAME,
            format!("/proc/{}/exe: {why}", process.pid),
            "call doctor as root to have it looked at",
        ),
    }
}
