//! `policy check` and `policy explain`.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::args::{Explain, PolicyCommand};
use super::context::Context;
use super::error::{CliError, Exit};
use super::progress::Extent;
use super::text::plain;
use crate::passport::hex;
use crate::policy::{
    MAX_FILE_BYTES, Operation, Overflow, Peer, Policy, PolicyError, PolicyFile, SystemNames, Template,
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
            }
            Err(error) => context.out.note(&error.to_string()),
        }
    }
    Ok(exit)
}

fn document(name: &str, outcome: &Result<Policy, PolicyError>) -> Value {
    match outcome {
        Ok(policy) => {
            let rules: Vec<_> = policy.rules().map(|rule| json!({"name": rule.name(), "file": rule.file()})).collect();
            let templates: Vec<_> = policy.templates().map(Template::name).collect();
            json!({"path": name, "ok": true, "hash": hex::encode(&policy.hash()), "rules": rules, "templates": templates})
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
    let Explain { uid, gid, groups, listener, template, .. } = explain;
    let peer = Peer { uid, gid: gid.unwrap_or(uid), pid: 0, groups, listener };
    let explanation = policy.explain(&peer, operation, template.as_deref());
    if context.out.is_json() {
        context.out.json(&explanation)?;
    } else {
        context.out.line(explanation.to_string().trim_end())?;
    }
    // The answer was found, whatever it is; scripts that want to branch read `allowed`.
    Ok(if explanation.allowed { Exit::Ok } else { Exit::Refused })
}
