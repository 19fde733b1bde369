//! Configuration, policy, the signer's bounds, and the accounts that they name.

use super::facts::{Account, Read, Settings};
use super::{Check, Status};
use crate::config::{Config, Loaded, Origin, SignerBounds, TenantBounds};
use crate::passport::hex;
use crate::policy::{Operation, Policy, Rule, Template};
use crate::wire::sealed::NamespacePattern;

/// Names that listeners have without being configured.
const OWN_LISTENERS: [&str; 2] = ["main", "admin"];
/// Lists of names end after this many, with the count of the rest.
const MAX_NAMES: usize = 6;
/// How much of a hash tells one from another for a reader.
const SHORT_HASH: usize = 16;

pub(super) fn judge(settings: &Settings, uid: u32) -> Vec<Check> {
    let mut checks = config(&settings.config);
    let Read::Good(loaded) = &settings.config else {
        checks.push(Check::skipped("policy", "the configuration, which says where everything is, can't be used", ""));
        return checks;
    };
    if let Some(read) = &settings.policy {
        checks.extend(policy(read, &loaded.config));
    }
    if let Some(read) = &settings.bounds {
        let policy = match &settings.policy {
            Some(Read::Good(policy)) => Some(policy),
            _ => None,
        };
        checks.extend(bounds(read, policy, &loaded.config));
    }
    checks.extend(accounts(&settings.accounts, uid));
    checks
}

pub(super) fn short(hash: &[u8; 32]) -> String {
    hex::encode(hash).chars().take(SHORT_HASH).collect()
}

/// What keeps a file from being used, one line for each thing; none if it is good.
fn unread<T>(name: &str, read: &Read<T>, who: &str, again: &str) -> Vec<Check> {
    match read {
        Read::Good(_) => Vec::new(),
        Read::Bad(faults) => faults.iter().map(|fault| Check::fail(name, fault, format!("mend it; {again}"))).collect(),
        Read::Hidden(why) | Read::Left(why) => vec![Check::skipped(name, why, format!("call doctor as {who}"))],
    }
}

fn config(read: &Read<Loaded>) -> Vec<Check> {
    let Read::Good(loaded) = read else {
        return unread("config", read, "root", "passportctl config check looks again");
    };
    let set = loaded.origins.values().filter(|origin| **origin != Origin::Default).count();
    let from = match loaded.origins.get("passport.issuer") {
        Some(Origin::File { path, .. }) => path.display().to_string(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let mut checks = vec![Check::ok("config", format!("{from}: {set} settings, hash {}", short(&loaded.hash)))];
    checks.extend(
        loaded.warnings.iter().map(|warning| Check::warn("config", warning, "change the setting, unless it is meant")),
    );
    checks
}

fn policy(read: &Read<Policy>, config: &Config) -> Vec<Check> {
    let Read::Good(policy) = read else {
        return unread("policy", read, "root or the front's user", "passportctl policy check looks again");
    };
    let dir = config.policy.dir.display();
    let (rules, templates) = (policy.rules().count(), policy.templates().count());
    if rules == 0 {
        let remedy = format!("write a [[peer]] into {dir}/10-local.toml");
        return vec![Check::warn("policy", format!("{dir} has no rule, so nobody may do anything"), remedy)];
    }
    let hash = short(&policy.hash());
    let mut checks = vec![Check::ok("policy", format!("{dir}: rules {rules}, templates {templates}, hash {hash}"))];
    let issues = policy.rules().any(|rule| rule.allow().contains(&Operation::Issue) && rule.templates().count() > 0);
    if !issues {
        let remedy = "give a rule allow = [\"issue\"] and templates = [...]";
        checks.push(Check::warn("policy", format!("{dir}: no rule lets anybody issue"), remedy));
    }
    for rule in policy.rules() {
        let unknown = rule.listeners().find(|name| {
            !OWN_LISTENERS.contains(name) && !config.server.listeners.iter().any(|known| known.name == *name)
        });
        if let Some(name) = unknown {
            let detail = format!("{rule} is for listener \"{name}\", which does not exist: it never matches");
            checks.push(Check::warn("policy", detail, "add a [[server.listener]] of that name, or correct the rule"));
        }
    }
    checks
}

/// Templates and namespaces that the signer would refuse: it holds its own, narrower or not, against whatever the front asks.
fn bounds(read: &Read<SignerBounds>, policy: Option<&Policy>, config: &Config) -> Vec<Check> {
    let Read::Good(bounds) = read else {
        return unread("bounds", read, "root or the signer's user", "then restart the signer");
    };
    let file = config.hsm.bounds.display();
    let mut checks = Vec::new();
    for template in policy.into_iter().flat_map(Policy::templates) {
        let (tenant, purpose) = (template.tenant(), template.purpose());
        let allowed = bounds.tenant(tenant).filter(|tenant| tenant.allows(purpose));
        checks.extend(allowed.and_then(|allowed| lifetime(template, allowed, config)));
        if allowed.is_none() {
            let detail = format!(
                "{file} lets nobody sign for tenant {tenant}, purpose {purpose}, but template \"{}\" is of these",
                template.name()
            );
            let remedy = format!(
                "add purpose {purpose} to the [[tenant]] {tenant} there and restart the signer, or correct the template"
            );
            checks.push(Check::fail("bounds", detail, remedy));
        }
    }
    for rule in policy.into_iter().flat_map(Policy::rules) {
        checks.extend(rule.namespaces().iter().filter_map(|granted| namespace(rule, granted, bounds, config)));
    }
    if checks.is_empty() {
        let names: Vec<_> = bounds.tenants.iter().take(MAX_NAMES).map(|tenant| tenant.name.as_str()).collect();
        let more = bounds.tenants.len().saturating_sub(MAX_NAMES);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let tenants = format!("tenants {}{more}", names.join(" "));
        checks.push(Check::ok("bounds", format!("{file}: {tenants}")));
    }
    checks
}

/// A template whose passports would live longer than the signer signs for.
fn lifetime(template: &Template, bounds: &TenantBounds, config: &Config) -> Option<Check> {
    let (name, most, passport) = (template.name(), bounds.max_ttl_s, &config.passport);
    let longest = template.max_ttl_s().min(passport.max_ttl_s);
    let usual = template.default_ttl_s().unwrap_or(passport.default_ttl_s).min(longest);
    let what = if usual > most {
        format!("template \"{name}\" gives {usual} s to whoever asks for no lifetime, and nothing is issued")
    } else if longest > most {
        format!("template \"{name}\" allows {longest} s, and a longer lifetime than the signer's is refused")
    } else {
        return None;
    };
    let detail =
        format!("{} signs for at most {most} s for tenant {}: {what}", config.hsm.bounds.display(), bounds.name);
    let remedy = "raise max_ttl_s there and restart the signer, or lower that of the template";
    Some(if usual > most { Check::fail("bounds", detail, remedy) } else { Check::warn("bounds", detail, remedy) })
}

/// A namespace that a rule grants and the signer seals nothing in, or in a part of it only.
fn namespace(rule: &Rule, granted: &NamespacePattern, bounds: &SignerBounds, config: &Config) -> Option<Check> {
    let (file, tenant, granted_as) = (config.hsm.bounds.display(), granted.tenant(), granted.as_str());
    let held = bounds.tenant(tenant).map_or(&[][..], |bounds| &bounds.seal_namespaces);
    if held.iter().any(|held| held.includes(granted)) {
        return None;
    }
    let remedy = format!(
        "add \"{granted_as}\" to seal_namespaces of the [[tenant]] {tenant} there and restart the signer, or correct the rule"
    );
    let part = held.iter().any(|held| granted.includes(held));
    Some(if part {
        let detail = format!("{file} lets a part of \"{granted_as}\" be sealed, all of which {rule} grants");
        Check::warn("bounds", detail, remedy)
    } else {
        let detail = format!("{file} lets nothing be sealed in \"{granted_as}\", which {rule} grants");
        Check::fail("bounds", detail, remedy)
    })
}

fn accounts(accounts: &[Account], uid: u32) -> Vec<Check> {
    let mut checks: Vec<Check> = accounts.iter().filter_map(account).collect();
    if checks.is_empty() {
        let known = accounts.iter().filter_map(|one| Some(format!("{} ({} {})", one.name, of(one.kind), id(one)?)));
        let known: Vec<_> = known.collect();
        let detail = if known.is_empty() { "none is configured".to_owned() } else { known.join(", ") };
        checks.push(Check::ok("accounts", detail));
    }
    if uid == 0 && !accounts.iter().any(|one| one.kind == "user") {
        let detail = "server.user and server.hsm_user are not set: started as root, every role stays root";
        checks.push(Check::new(
            Status::Warn,
            "accounts",
            detail,
            "set both; sysusers.d/passportd.conf makes such users",
        ));
    }
    checks
}

fn of(kind: &str) -> &'static str {
    if kind == "user" { "uid" } else { "gid" }
}

fn id(account: &Account) -> Option<u32> {
    account.id.as_ref().ok().copied().flatten()
}

/// What is wrong with an account.
fn account(account: &Account) -> Option<Check> {
    let Account { key, kind, name, id } = account;
    match id {
        Ok(Some(0)) if *kind == "user" => {
            Some(Check::fail("accounts", format!("{key}: \"{name}\" is root"), "name an unprivileged user"))
        }
        Ok(Some(_)) => None,
        Ok(None) => {
            let remedy = format!("create it (systemd-sysusers, or {kind}add --system {name}), or correct {key}");
            Some(Check::fail("accounts", format!("{key}: there is no {kind} \"{name}\""), remedy))
        }
        Err(why) => {
            let detail = format!("{key}: the database of users and groups does not answer: {why}");
            Some(Check::fail("accounts", detail, "see nsswitch.conf(5)"))
        }
    }
}
