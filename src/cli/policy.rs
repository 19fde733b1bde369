//! `policy check` and `policy explain`.

use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User, getgrouplist};
use serde::Serialize;
use serde_json::{Value, json};

use super::args::{Explain, PolicyCommand};
use super::context::Context;
use super::error::{CliError, Exit};
use super::progress::Extent;
use super::text::plain;
use crate::passport::hex;
use crate::policy::{
    Explanation, MAX_FILE_BYTES, Operation, Overflow, Peer, Policy, PolicyError, PolicyFile, SystemNames, Template,
    cgroup,
};

pub(super) fn run(context: &mut Context<'_>, command: PolicyCommand) -> Result<Exit, CliError> {
    match command {
        PolicyCommand::Check { paths } => check(context, &paths),
        PolicyCommand::Explain(explain) => self::explain(context, explain),
    }
}

/// Files may be many, names are looked up, and a file may be a pipe.
const READING: &str = "reading the policy";

fn failed(error: &PolicyError) -> CliError {
    CliError::Failed(error.to_string())
}

/// Each directory is a policy of its own; the files that were named make one together, so that a template may stand in
/// one and the rule that grants it in another.
fn check(context: &mut Context<'_>, paths: &[PathBuf]) -> Result<Exit, CliError> {
    let (mut dirs, mut files) = (Vec::new(), Vec::new());
    if paths.is_empty() {
        dirs.push(context.configuration()?.config.policy.dir.clone());
    }
    for path in paths {
        if path.is_dir() { dirs.push(path.clone()) } else { files.push(path.clone()) }
    }
    let overflow = Overflow::read().map_err(|error| failed(&error))?;
    let progress = context.out.progress(READING, Extent::Unknown);
    let mut outcomes: Vec<_> =
        dirs.into_iter().map(|dir| (dir.display().to_string(), Policy::load(&dir, &SystemNames, overflow))).collect();
    if !files.is_empty() {
        let name = files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ");
        let read = files.iter().map(|path| policy_file(path)).collect::<Result<_, _>>()?;
        outcomes.push((name, Policy::from_files(Path::new(""), read, &SystemNames, overflow)));
    }
    drop(progress);
    report(context, &outcomes)
}

fn report(context: &mut Context<'_>, outcomes: &[(String, Result<Policy, PolicyError>)]) -> Result<Exit, CliError> {
    let exit = if outcomes.iter().all(|(_, outcome)| outcome.is_ok()) { Exit::Ok } else { Exit::Failed };
    if context.out.is_json() {
        let documents: Vec<_> = outcomes.iter().map(|(name, outcome)| document(name, outcome)).collect();
        return context.out.json(&documents).map(|()| exit);
    }
    for (name, outcome) in outcomes {
        match outcome {
            Ok(policy) => {
                let (rules, templates) = (policy.rules().count(), policy.templates().count());
                let hash = hex::encode(&policy.hash());
                context.out.line(&format!("{name}: good; {rules} rules, {templates} templates, hash {hash}"))?;
                if rules == 0 {
                    context.out.note(&format!("warning: {name} has no rule, so nobody may do anything"));
                }
                for warning in by_cgroup(policy, cgroup::missing()) {
                    context.out.note(&format!("warning: {name}: {warning}"));
                }
            }
            Err(error) => context.out.note(&error.to_string()),
        }
    }
    Ok(exit)
}

/// The rules that match nobody on this host, and why.
fn by_cgroup(policy: &Policy, missing: Option<&str>) -> Vec<String> {
    let Some(why) = missing else { return Vec::new() };
    let rules = policy.rules().filter(|rule| rule.is_by_cgroup());
    rules.map(|rule| format!("rule {:?}, which is by cgroup, matches nobody: {why}", rule.name())).collect()
}

fn document(name: &str, outcome: &Result<Policy, PolicyError>) -> Value {
    match outcome {
        Ok(policy) => {
            let rules: Vec<_> = policy.rules().map(|rule| json!({"name": rule.name(), "file": rule.file()})).collect();
            let templates: Vec<_> = policy.templates().map(Template::name).collect();
            let warnings = by_cgroup(policy, cgroup::missing());
            let hash = hex::encode(&policy.hash());
            json!({"path": name, "ok": true, "hash": hash, "rules": rules, "templates": templates, "warnings": warnings})
        }
        Err(error) => json!({"path": name, "ok": false, "error": error.to_string()}),
    }
}

fn policy_file(path: &Path) -> Result<PolicyFile, CliError> {
    let unreadable = |why| CliError::File { path: path.to_owned(), why };
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    File::open(path).map_err(unreadable)?.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(CliError::input(&path.display().to_string(), format!("more than {MAX_FILE_BYTES} bytes")));
    }
    Ok(PolicyFile { name: path.display().to_string(), bytes })
}

fn explain(context: &mut Context<'_>, explain: Explain) -> Result<Exit, CliError> {
    let operation = Operation::by_name(&explain.op).ok_or_else(|| {
        let names = Operation::ALL.map(Operation::name).join(", ");
        CliError::Usage(format!("--op {} is no operation; there are {names}", plain(&explain.op)))
    })?;
    let dir = match explain.dir {
        Some(dir) => dir,
        None => context.configuration()?.config.policy.dir.clone(),
    };
    let overflow = Overflow::read().map_err(|error| failed(&error))?;
    let progress = context.out.progress(READING, Extent::Unknown);
    let policy = Policy::load(&dir, &SystemNames, overflow).map_err(|error| failed(&error))?;
    drop(progress);
    let Explain { uid, gid, groups, listener, cgroup, template, .. } = explain;
    let (ids, origin) = Ids::of(uid, gid, groups)?;
    let peer = Peer { uid, gid: ids.gid, pid: 0, groups: ids.groups, listener, cgroup };
    let explanation = policy.explain(&peer, operation, template.as_deref());
    if context.out.is_json() {
        context.out.json(&Explained { explanation: &explanation, origin: &origin })?;
    } else {
        context.out.line(&format!("{}\n{origin}", explanation.to_string().trim_end()))?;
    }
    // The answer was found, whatever it is; scripts that want to branch read `allowed`.
    Ok(if explanation.allowed { Exit::Ok } else { Exit::Refused })
}

/// The groups that a peer is taken to have.
struct Ids {
    gid: u32,
    groups: Vec<u32>,
}

/// Where they come from.
#[derive(Serialize)]
struct Origin {
    /// The user of this uid, if it was asked for and there is one.
    user: Option<String>,
    gid: Source,
    groups: Source,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Source {
    Option,
    UserDatabase,
    /// There is no such user, and nobody has said.
    Assumed,
}

/// The decision, and whom it is about.
#[derive(Serialize)]
struct Explained<'a> {
    #[serde(flatten)]
    explanation: &'a Explanation,
    origin: &'a Origin,
}

impl Ids {
    /// What the options say; else what the user database does, which is what a login would give; else the usual of a user
    /// that nobody has made.
    fn of(uid: u32, gid: Option<u32>, groups: Option<Vec<u32>>) -> Result<(Self, Origin), CliError> {
        let asked = gid.is_none() || groups.is_none();
        let user = if asked { user(uid)? } else { None };
        let from = |given: bool| match (given, &user) {
            (true, _) => Source::Option,
            (false, Some(_)) => Source::UserDatabase,
            (false, None) => Source::Assumed,
        };
        let origin = Origin {
            gid: from(gid.is_some()),
            groups: from(groups.is_some()),
            user: user.as_ref().map(|(name, _)| name.clone()),
        };
        let (own, all) = user.map_or((uid, Vec::new()), |(_, ids)| (ids.gid, ids.groups));
        Ok((Self { gid: gid.unwrap_or(own), groups: groups.unwrap_or(all) }, origin))
    }
}

/// The user of this uid with its groups, as a login sets them; none if there is none.
fn user(uid: u32) -> Result<Option<(String, Ids)>, CliError> {
    let failed = |errno| {
        let what = format!("the groups of uid {uid} can't be looked up ({errno}); give both --gid and --groups");
        CliError::Failed(what)
    };
    let Some(user) = User::from_uid(Uid::from_raw(uid)).map_err(failed)? else { return Ok(None) };
    let name = CString::new(user.name.as_str()).map_err(|_| failed(nix::Error::EINVAL))?;
    let groups = getgrouplist(&name, user.gid).map_err(failed)?;
    let ids = Ids { gid: user.gid.as_raw(), groups: groups.into_iter().map(nix::unistd::Gid::as_raw).collect() };
    Ok(Some((user.name, ids)))
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.as_deref().unwrap_or_default();
        let from = |from: Source, assumed: &str| match from {
            Source::Option => "as given".to_owned(),
            Source::UserDatabase => format!("of user {user}"),
            Source::Assumed => format!("{assumed}, since no user has this uid"),
        };
        write!(f, "gid: {}; groups: {}", from(self.gid, "the number of the uid"), from(self.groups, "none"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_match_nobody_here_are_named() {
        let text = "[[peer]]\nname = \"web\"\nuid = 7\ncgroup = \"/system.slice/web.service\"\n[[peer]]\nname = \"b\"\nuid = 8\n";
        let file = PolicyFile { name: "a.toml".to_owned(), bytes: text.into() };
        let overflow = Overflow { uid: 65534, gid: 65534 };
        let policy = Policy::from_files(Path::new(""), vec![file], &SystemNames, overflow).unwrap();
        assert_eq!(by_cgroup(&policy, None), Vec::<String>::new());
        let said = by_cgroup(&policy, Some("no such call"));
        assert_eq!(said, [r#"rule "web", which is by cgroup, matches nobody: no such call"#]);
    }
}
