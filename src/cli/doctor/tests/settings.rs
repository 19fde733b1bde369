//! Configuration, policy, bounds, accounts.

use super::healthy::{CONFIG, POLICY, bounds, loaded, policy};
use super::*;
use crate::config::SignerBounds;
use crate::wire::sealed::NamespacePattern;

/// Bounds by which secrets are sealed in these namespaces.
fn sealing(pattern: &str) -> SignerBounds {
    let mut bounds = bounds("t1");
    bounds.tenants[0].seal_namespaces = vec![NamespacePattern::parse(pattern).unwrap()];
    bounds
}

#[test]
fn bad_settings() {
    const HIDDEN: &str = "uid 7 may not look at /etc/p";
    judged(&[
        (
            "config",
            |facts| facts.settings.config = Read::Bad(vec!["p.toml:3:1: no".into()]),
            Status::Fail,
            &["p.toml:3:1: no"],
        ),
        ("config", |facts| facts.settings.config = Read::Hidden(HIDDEN.into()), Status::Skipped, &[HIDDEN, "as root"]),
        (
            "config",
            |facts| facts.settings.config = Read::Good(loaded(&CONFIG.replace("127.0.0.1", "0.0.0.0"))),
            Status::Warn,
            &["server.metrics_addr is not a loopback address"],
        ),
        (
            "policy",
            |facts| facts.settings.policy = Some(Read::Bad(vec!["x.toml:1:2: no".into()])),
            Status::Fail,
            &["x.toml:1:2"],
        ),
        (
            "policy",
            |facts| facts.settings.policy = Some(Read::Hidden(HIDDEN.into())),
            Status::Skipped,
            &[HIDDEN, "front's user"],
        ),
        (
            "policy",
            |facts| facts.settings.policy = Some(Read::Good(policy(""))),
            Status::Warn,
            &["has no rule", "[[peer]]"],
        ),
        (
            "policy",
            |facts| {
                facts.settings.policy =
                    Some(Read::Good(policy("[[peer]]\nname = \"a\"\nuid = 1\nlistener = \"main\"\n")));
            },
            Status::Warn,
            &["no rule lets anybody issue", "allow = [\"issue\"]"],
        ),
        (
            "policy",
            |facts| {
                let more = POLICY.replace("uid = 33", "uid = 33\nlistener = \"wbe\"");
                facts.settings.policy = Some(Read::Good(policy(&more)));
            },
            Status::Warn,
            &["rule \"web\" (10.toml:2)", "listener \"wbe\", which does not exist", "[[server.listener]]"],
        ),
        (
            "bounds",
            |facts| facts.settings.bounds = Some(Read::Good(bounds("t2"))),
            Status::Fail,
            &["sign for tenant t1, purpose auth, but template \"demo\"", "add purpose auth to the [[tenant]] t1"],
        ),
        (
            "bounds",
            |facts| facts.settings.policy = Some(Read::Good(policy(&POLICY.replace("= 60", "= 61")))),
            Status::Fail,
            &["signs for at most 60 s for tenant t1: template \"demo\" gives 61 s to whoever asks for no lifetime"],
        ),
        (
            "bounds",
            |facts| {
                let more = POLICY.replace("= 60", "= 61\ndefault_ttl_s = 60");
                facts.settings.policy = Some(Read::Good(policy(&more)));
            },
            Status::Warn,
            &["template \"demo\" allows 61 s", "or lower that of the template"],
        ),
        (
            "bounds",
            |facts| {
                let more = POLICY.replace("uid = 33", "uid = 33\nseal_namespaces = [\"t1/web\"]");
                facts.settings.policy = Some(Read::Good(policy(&more)));
            },
            Status::Fail,
            &["lets nothing be sealed in \"t1/web\", which rule \"web\"", "seal_namespaces of the [[tenant]] t1"],
        ),
        (
            "bounds",
            |facts| {
                let more = POLICY.replace("uid = 33", "uid = 33\nseal_namespaces = [\"t1/*\"]");
                facts.settings.policy = Some(Read::Good(policy(&more)));
                facts.settings.bounds = Some(Read::Good(sealing("t1/web")));
            },
            Status::Warn,
            &["lets a part of \"t1/*\" be sealed, all of which rule \"web\"", "or correct the rule"],
        ),
        (
            "bounds",
            |facts| {
                let more = POLICY.replace("uid = 33", "uid = 33\nseal_namespaces = [\"t1/web\"]");
                facts.settings.policy = Some(Read::Good(policy(&more)));
                facts.settings.bounds = Some(Read::Good(sealing("t1/*")));
            },
            Status::Ok,
            &["tenants t1"],
        ),
        (
            "bounds",
            |facts| facts.settings.bounds = Some(Read::Hidden(HIDDEN.into())),
            Status::Skipped,
            &["signer's user"],
        ),
        (
            "accounts",
            |facts| facts.settings.accounts[0].id = Ok(None),
            Status::Fail,
            &["server.user: there is no user \"passportd\"", "useradd --system passportd"],
        ),
        (
            "accounts",
            |facts| facts.settings.accounts[1].id = Ok(None),
            Status::Fail,
            &["server.socket_group: there is no group \"clients\"", "groupadd --system clients"],
        ),
        ("accounts", |facts| facts.settings.accounts[0].id = Ok(Some(0)), Status::Fail, &["is root", "unprivileged"]),
        (
            "accounts",
            |facts| facts.settings.accounts[0].id = Err("EIO".into()),
            Status::Fail,
            &["EIO", "nsswitch.conf"],
        ),
        ("accounts", |facts| facts.settings.accounts.clear(), Status::Warn, &["every role stays root", "sysusers.d"]),
    ]);
}
