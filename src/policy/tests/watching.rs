//! Whose events a peer may hear.

use super::{files, uid};

/// To watch takes the operation; of whom, that say templates and tenants of any rule of the peer's.
#[test]
fn tenants_are_watched_as_the_rules_say() {
    let template = |name: &str, tenant: &str| {
        format!(
            "[[template]]\nname = \"{name}\"\ntenant = \"{tenant}\"\npurpose = \"p\"\nsubjects = [\"*\"]\naudiences = [\"a\"]\nmax_ttl_s = 60\n"
        )
    };
    let rule = |id: u32, more: &str| format!("[[peer]]\nname = \"r{id}\"\nuid = {id}\n{more}\n");
    let text = [
        template("one", "t1"),
        template("two", "t2"),
        rule(33, "allow = [\"watch\"]\ntemplates = [\"one\"]"),
        rule(34, "allow = [\"watch\"]\nwatch_tenants = [\"t2\"]\ntemplates = [\"one\"]"),
        rule(35, "allow = [\"watch\"]\nwatch_tenants = [\"t1\", \"*\"]"),
        rule(36, "allow = [\"watch\"]"),
        rule(37, "allow = [\"verify\"]\nwatch_tenants = [\"*\"]"),
    ];
    let policy = files(&[("a.toml", &text.concat())]).unwrap();
    let watches = |id| match policy.rights(&uid(id)).decide_watch().into_result() {
        Ok(None) => vec!["every one".to_owned()],
        Ok(Some(these)) => these.into_iter().collect(),
        Err(denial) => vec![denial.code.code().to_owned()],
    };
    let watched = [33, 34, 35, 36, 37, 38].map(|id| watches(id).join(" "));
    assert_eq!(watched, ["t1", "t1 t2", "every one", "", "op_denied", "no_peer_policy"]);
}
