//! Why the policy answers as it does, rule by rule: for operators, never for clients.

use std::fmt;

use serde::Serialize;

use super::{
    decide::{Denial, Policy},
    operation::Operation,
    peer::{Peer, Rule},
};

/// A decision with everything that was considered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The peer that was asked about.
    pub peer: Peer,
    /// The operation that was asked about.
    pub operation: Operation,
    /// The template that was asked about.
    pub template: Option<String>,
    /// The answer.
    pub allowed: bool,
    /// The code of a denial.
    pub code: Option<&'static str>,
    /// What allows it, or what is missing.
    pub reason: String,
    /// Each rule of the policy, in order.
    pub rules: Vec<RuleNote>,
}

/// What one rule contributes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleNote {
    /// Its name.
    pub rule: String,
    /// Its file.
    pub file: String,
    /// Its line.
    pub line: usize,
    /// Whether all its conditions hold.
    pub matches: bool,
    /// Each of its conditions.
    pub conditions: Vec<ConditionNote>,
    /// Whether it allows the operation.
    pub allows_operation: bool,
    /// Whether it grants the template; absent if none was asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grants_template: Option<bool>,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConditionNote {
    /// As it stands in the file, with the id that a name resolved to.
    pub condition: String,
    /// Whether it holds for the peer.
    pub holds: bool,
}

impl Policy {
    /// Explains whether the peer may do `operation`, for `issue` from the given template, for `exchange` with passports of it.
    pub fn explain(&self, peer: &Peer, operation: Operation, template: Option<&str>) -> Explanation {
        let (allowed, code, reason) = match self.reason(peer, operation, template) {
            Ok(reason) => (true, None, reason),
            Err(denial) => (false, Some(denial.code.code()), denial.rule),
        };
        let rules = self.rules().map(|rule| self.note(rule, peer, operation, template)).collect();
        Explanation {
            peer: peer.clone(),
            operation,
            template: template.map(str::to_owned),
            allowed,
            code,
            reason,
            rules,
        }
    }

    /// What allows it, or the denial.
    fn reason(&self, peer: &Peer, operation: Operation, template: Option<&str>) -> Result<String, Denial> {
        let rights = self.rights(peer);
        let grant = rights.allowed(operation)?;
        match (operation, template) {
            (_, None) => {}
            (Operation::Exchange, Some(name)) => drop(rights.exchange_template(name)?),
            (_, Some(name)) => drop(rights.template(name)?),
        }
        let rule = grant.rule.as_deref();
        Ok(rule.map_or_else(|| "everybody may".to_owned(), |rule| format!("rule {rule:?} allows it")))
    }

    /// What one rule contributes.
    fn note(&self, rule: &Rule, peer: &Peer, operation: Operation, template: Option<&str>) -> RuleNote {
        let conditions: Vec<_> = rule
            .weigh(peer, self.overflow)
            .map(|(condition, holds)| ConditionNote { condition: condition.to_string(), holds })
            .collect();
        RuleNote {
            rule: rule.name().to_owned(),
            file: rule.file().to_owned(),
            line: rule.line,
            matches: rule.matches(peer, self.overflow),
            conditions,
            allows_operation: rule.allow().contains(&operation),
            grants_template: template.map(|name| match operation {
                Operation::Exchange => rule.exchange_templates().any(|template| template.name() == name),
                _ => rule.templates().any(|template| template.name() == name),
            }),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.allowed { "allowed" } else { "denied" };
        write!(f, "{}: `{}`", self.peer, self.operation)?;
        if let Some(template) = &self.template {
            write!(f, " from template {template:?}")?;
        }
        write!(f, " is {verdict}")?;
        if let Some(code) = self.code {
            write!(f, " ({code})")?;
        }
        writeln!(f, "\n  {}", self.reason)?;
        self.rules.iter().try_for_each(|rule| rule.fmt(f))
    }
}

impl fmt::Display for RuleNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let matches = if self.matches { "matches" } else { "does not match" };
        writeln!(f, "rule {:?} ({}:{}) {matches}", self.rule, self.file, self.line)?;
        for ConditionNote { condition, holds } in &self.conditions {
            writeln!(f, "  {} {condition}", if *holds { "yes" } else { "no " })?;
        }
        writeln!(f, "  {} allows the operation", if self.allows_operation { "yes" } else { "no " })?;
        match self.grants_template {
            Some(grants) => writeln!(f, "  {} grants the template", if grants { "yes" } else { "no " }),
            None => Ok(()),
        }
    }
}
