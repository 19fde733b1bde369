//! What a newer policy changes, by the names of its rules and templates.

use std::sync::Arc;

use super::{decide::Policy, peer::Rule, template::Template};

impl Policy {
    /// `rule NAME added`, `template NAME removed`, `rule NAME changed`, in the order of the newer policy, what is gone
    /// last. Where a table stands, comments and the order of files do not count.
    pub fn difference(&self, newer: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        compare("rule", &self.rules, &newer.rules, |rule| rule.name(), |old, new| same_rule(old, new), &mut changes);
        let (old, new) = (&self.templates, &newer.templates);
        compare("template", old, new, |one| one.name(), |old, new| same_template(old, new), &mut changes);
        changes
    }
}

fn compare<T>(
    kind: &str,
    old: &[T],
    new: &[T],
    name: impl Fn(&T) -> &str,
    same: impl Fn(&T, &T) -> bool,
    changes: &mut Vec<String>,
) {
    // At most 1024 of either (`MAX_TABLES`), and a reload is rare.
    for one in new {
        match old.iter().find(|other| name(other) == name(one)) {
            None => changes.push(format!("{kind} {} added", name(one))),
            Some(other) if !same(other, one) => changes.push(format!("{kind} {} changed", name(one))),
            Some(_) => {}
        }
    }
    let gone = old.iter().filter(|one| !new.iter().any(|other| name(other) == name(one)));
    changes.extend(gone.map(|one| format!("{kind} {} removed", name(one))));
}

/// Taken apart, so that a new member has to be thought of here.
fn same_rule(old: &Rule, new: &Rule) -> bool {
    let Rule {
        name: _,
        file: _,
        line: _,
        conditions,
        allow,
        templates,
        verify_as,
        namespaces,
        watch_tenants,
        exchange_templates,
        share,
    } = old;
    let same = |old: &[Arc<Template>], new: &[Arc<Template>]| {
        old.iter().map(|template| template.name()).eq(new.iter().map(|template| template.name()))
    };
    *conditions == new.conditions
        && *allow == new.allow
        && same(templates, &new.templates)
        && *verify_as == new.verify_as
        && *namespaces == new.namespaces
        && *watch_tenants == new.watch_tenants
        && same(exchange_templates, &new.exchange_templates)
        && *share == new.share
}

fn same_template(old: &Template, new: &Template) -> bool {
    let Template {
        name: _,
        file: _,
        tenant,
        purpose,
        subjects,
        audiences,
        scopes,
        default_scopes,
        actions,
        max_ttl_s,
        default_ttl_s,
        forms,
        limit,
        nonce,
        proof,
        bind,
        offline_risk,
    } = old;
    (tenant, purpose, subjects, audiences) == (&new.tenant, &new.purpose, &new.subjects, &new.audiences)
        && (scopes, default_scopes, actions) == (&new.scopes, &new.default_scopes, &new.actions)
        && (max_ttl_s, default_ttl_s) == (&new.max_ttl_s, &new.default_ttl_s)
        && (forms, limit, nonce, proof, bind) == (&new.forms, &new.limit, &new.nonce, &new.proof, &new.bind)
        && *offline_risk == new.offline_risk
}
