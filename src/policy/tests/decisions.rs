//! Who may do what.

use super::*;
use crate::wire::{PassportForm, sealed::Namespace};

const SHIPPED: &str = include_str!("../../../policy/00-admin.toml");
const DEMO: &str = include_str!("../../../policy/examples/demo.toml");

pub(super) const BOUNDS: Bounds<'_> =
    Bounds { issuer: "issuer.example", default_ttl_s: 300, max_ttl_s: 7200, require_aud: true };

pub(super) fn wish() -> IssueWish<'static> {
    IssueWish {
        template: "demo",
        sub: "alice",
        aud: &[],
        scopes: &[],
        action: None,
        ttl_s: None,
        nbf_offset_s: None,
        limit: None,
        nonce: None,
        jkt: None,
        form: PassportForm::Envelope,
        uid: None,
    }
}

fn allows(policy: &Policy, peer: &Peer) -> Vec<&'static str> {
    let allowed = |operation: &Operation| policy.decide(peer, *operation).into_result().is_ok();
    Operation::ALL.into_iter().filter(allowed).map(Operation::name).collect()
}

fn denied<T>(decision: Decision<T>) -> (DenyCode, String) {
    match decision {
        Decision::Deny(denial) => (denial.code, denial.rule),
        Decision::Allow(_) => panic!("this should be denied"),
    }
}

#[test]
fn the_shipped_policy_lets_admins_do_four_things_and_root_none() {
    let policy = files(&[("00-admin.toml", SHIPPED)]).unwrap();
    let admin = Peer { groups: vec![4, 900], ..uid(1000) };
    assert_eq!(allows(&policy, &admin), ["ping", "version", "whoami", "health", "status", "reload", "drain"]);
    assert_eq!(allows(&policy, &Peer { gid: 900, ..uid(1000) }), allows(&policy, &admin));
    assert_eq!(allows(&policy, &Peer { gid: 0, groups: vec![0], ..uid(0) }), ["whoami"]);
    assert_eq!(allows(&policy, &uid(1000)), ["whoami"]);
    assert_eq!(allows(&files(&[]).unwrap(), &admin), ["whoami"]);
}

#[test]
fn the_example_loads_and_does_what_it_says() {
    let policy = files(&[("demo.toml", DEMO)]).unwrap();
    let web =
        ["ping", "version", "whoami", "issue", "verify", "introspect", "keys", "health", "seal", "unseal", "watch"];
    assert_eq!(allows(&policy, &uid(33)), web);
    assert_eq!(allows(&policy, &Peer { gid: 1, ..uid(2) }), ["ping", "version", "whoami", "verify", "keys"]);
    let terms = policy.decide_issue(&uid(33), &IssueWish { aud: &["api"], ..wish() }, &BOUNDS).into_result().unwrap();
    assert_eq!((terms.tenant, terms.purpose, terms.ttl_s), ("t1".into(), "auth".into(), 600));
    assert_eq!((terms.aud, terms.scopes), (vec!["api".into()], vec!["read".into()]));
}

/// To seal takes the operation and the namespace, from whichever rules; to open is another operation.
#[test]
fn secrets_are_sealed_where_a_rule_says() {
    let policy = files(&[(
        "a.toml",
        "[[peer]]\nname = \"a\"\nuid = 33\nallow = [\"seal\"]\nseal_namespaces = [\"t1/web/*\", \"t1/mail\"]\n\
         [[peer]]\nname = \"b\"\nuid = 34\nallow = [\"seal\", \"unseal\"]\n",
    )])
    .unwrap();
    let decide = |id, operation, namespace| {
        let rights = policy.rights(&uid(id));
        rights.decide_seal(operation, Namespace::parse(namespace).unwrap()).into_result().map_err(|denial| denial.code)
    };
    let granted = |id, operation, namespace| decide(id, operation, namespace).map(|grant| grant.operation);
    assert_eq!(granted(33, Operation::Seal, "t1/web/eu"), Ok(Operation::Seal));
    assert_eq!(granted(33, Operation::Seal, "t1/mail"), Ok(Operation::Seal));
    for namespace in ["t1/web", "t1/mail/eu", "t2/web/eu", "passportd/shared"] {
        assert_eq!(granted(33, Operation::Seal, namespace), Err(DenyCode::OpDenied), "{namespace}");
    }
    assert_eq!(granted(33, Operation::Unseal, "t1/mail"), Err(DenyCode::OpDenied));
    assert_eq!(
        granted(34, Operation::Unseal, "t1/mail"),
        Err(DenyCode::OpDenied),
        "no rule of its own has a namespace"
    );
    assert_eq!(granted(35, Operation::Seal, "t1/mail"), Err(DenyCode::NoPeerPolicy));
    let rights = policy.rights(&uid(33));
    let denial = rights.decide_seal(Operation::Seal, Namespace::parse("t1/x").unwrap()).into_result().unwrap_err();
    assert!(
        denial.rule.contains("seal and unseal in \"t1/x\"") && denial.rule.contains("`seal_namespaces`"),
        "{denial:?}"
    );
}

#[test]
fn conditions_by_table() {
    let in_groups = |gid, groups: &[u32]| Peer { gid, groups: groups.to_vec(), ..uid(7) };
    let by = |listener: &str| Peer { listener: listener.into(), ..uid(33) };
    for (condition, peer, matches) in [
        ("uid = 33", uid(33), true),
        ("uid = 33", uid(34), false),
        ("user = 'www-data'", uid(33), true),
        ("user = 'www-data'\nuid = 34", uid(33), false),
        ("gid = 33", in_groups(33, &[]), true),
        ("gid = 33", in_groups(1, &[33]), false),
        ("group = 'web'", in_groups(33, &[]), true),
        ("group = 'web'", in_groups(1, &[33]), false),
        ("groups = ['web']", in_groups(1, &[2, 33]), true),
        ("groups = ['web']", in_groups(33, &[]), true),
        ("groups = ['web', 'daemon']", in_groups(1, &[]), true),
        ("groups = ['web', 'daemon']", in_groups(2, &[3]), false),
        ("listener = 'web'", by("web"), true),
        ("listener = 'web'", by("web2"), false),
        ("uid = 33\nlistener = 'web'", by("web"), true),
        ("uid = 34\nlistener = 'web'", by("web"), false),
        ("uid = 33\ngroups = ['web']", uid(33), false),
        // Strangers share the overflow uid, and the overflow gid is no group.
        ("listener = 'web'", Peer { uid: NOBODY, ..by("web") }, false),
        ("groups = ['web']", Peer { uid: NOBODY, ..in_groups(33, &[33]) }, false),
        ("gid = 33", in_groups(NOBODY, &[NOBODY]), false),
    ] {
        let policy = policy(&format!("[[peer]]\nname = 'r'\n{condition}\nallow = ['keys']"));
        let expected: &[&str] = if matches { &["ping", "version", "whoami", "keys"] } else { &["whoami"] };
        assert_eq!(allows(&policy, &peer), expected, "{condition} {peer}");
        assert_eq!(policy.explain(&peer, Operation::Keys, None).allowed, matches);
    }
}

const TWO_TENANTS: &str = r#"
[[peer]]
name = "one"
uid = 1
allow = ["issue", "verify"]
templates = ["t-one"]
verify_as = ["one", "shared"]
rps = 10
max_bytes = 100

[[peer]]
name = "two"
uid = 2
allow = ["issue"]
templates = ["t-two"]
verify_as = ["two"]
rps = 20

[[peer]]
name = "local"
listener = "local"
allow = ["keys"]
rps = 15
issue_rps = 5
exchange_rpm = 60

[[template]]
name = "t-one"
tenant = "one"
purpose = "auth"
subjects = ["one/*"]
audiences = ["one"]
max_ttl_s = 60

[[template]]
name = "t-two"
tenant = "two"
purpose = "auth"
subjects = ["two/*"]
audiences = ["two"]
max_ttl_s = 60
"#;

#[test]
fn nothing_of_another_rule_leaks() {
    let policy = policy(TWO_TENANTS);
    let wish = |template, sub| IssueWish { template, sub, ..wish() };
    let issue = |peer, wish| policy.decide_issue(&uid(peer), &wish, &BOUNDS);
    assert_eq!(issue(1, wish("t-one", "one/a")).into_result().unwrap().tenant, "one");
    assert_eq!(denied(issue(1, wish("t-one", "two/a"))).0, DenyCode::ScopeDenied);
    assert_eq!(denied(issue(3, wish("t-one", "one/a"))).0, DenyCode::NoPeerPolicy);

    // Another's template and one that does not exist look the same, to the operator but for the name.
    let (others, none) = (denied(issue(1, wish("t-two", "two/a"))), denied(issue(1, wish("t-xxx", "two/a"))));
    assert_eq!((others.0, others.1.replace("t-two", "t-xxx")), none);

    let rights = policy.rights(&uid(1));
    assert_eq!(rights.templates().iter().map(|template| template.name()).collect::<Vec<_>>(), ["t-one"]);
    assert_eq!(rights.verify_as(), ["one", "shared"]);
    assert_eq!(rights.share(), Share { rps: Some(10), max_bytes: Some(100), ..Share::default() });
    // An audience without the operation is of no use.
    assert_eq!(denied(policy.decide_verify(&uid(2), Some("two"), true)).0, DenyCode::OpDenied);
}

#[test]
fn grants_add_up_and_the_larger_number_counts() {
    let policy = policy(TWO_TENANTS);
    let both = Peer { listener: "local".into(), ..uid(1) };
    assert_eq!(allows(&policy, &both), ["ping", "version", "whoami", "issue", "verify", "keys"]);
    let rights = policy.rights(&both);
    assert_eq!(
        rights.share(),
        Share {
            rps: Some(15),
            issue_rps: Some(5),
            exchange_rpm: Some(60),
            max_connections: None,
            max_bytes: Some(100)
        }
    );
    assert_eq!(rights.rules().map(Rule::name).collect::<Vec<_>>(), ["one", "local"]);
    let granting = |operation| policy.decide(&both, operation).into_result().unwrap().rule;
    assert_eq!(granting(Operation::Keys).as_deref(), Some("local"));
    assert_eq!(granting(Operation::WhoAmI), None);
}

#[test]
fn a_refusal_names_the_missing_rule_and_file() {
    let policy = policy(TWO_TENANTS);
    let (code, text) = denied(policy.decide(&uid(9), Operation::Issue));
    assert_eq!(code, DenyCode::NoPeerPolicy);
    assert!(text.starts_with("no [[peer]] in /etc/passportd/policy.d matches uid 9,"), "{text}");
    let (code, text) = denied(policy.decide(&uid(2), Operation::Verify));
    assert_eq!(code, DenyCode::OpDenied);
    assert!(text.contains("uid 2,") && text.contains("allows `verify`"), "{text}");
    assert!(text.contains("add it to `allow` of rule \"two\" (10-test.toml:12)"), "{text}");
    for code in
        [DenyCode::NoPeerPolicy, DenyCode::OpDenied, DenyCode::ScopeDenied, DenyCode::BadAud, DenyCode::Malformed]
    {
        assert!(!code.client_text().contains("policy.d") && !code.code().is_empty());
    }
}

#[test]
fn a_clients_text_is_bounded_and_escaped_for_the_operator() {
    let long = format!("\n\u{1b}[31m{}", "x".repeat(10_000));
    let (_, text) =
        denied(policy(TWO_TENANTS).decide_issue(&uid(1), &IssueWish { template: &long, ..wish() }, &BOUNDS));
    assert!(text.len() < 500 && !text.contains(char::is_control), "{text}");
}

/// What an issue with one audience wish gets from a template with these audiences.
fn audience(template: &str, aud: &[&str], require_aud: bool) -> Result<Vec<String>, DenyCode> {
    let text = format!(
        "[[peer]]\nname = 'r'\nuid = 1\nallow = ['issue']\ntemplates = ['demo']\n[[template]]\nname = 'demo'\n\
         tenant = 't'\npurpose = 'p'\nsubjects = ['*']\naudiences = {template}\nmax_ttl_s = 60"
    );
    let bounds = Bounds { require_aud, ..BOUNDS };
    let decision = policy(&text).decide_issue(&uid(1), &IssueWish { aud, ..wish() }, &bounds);
    decision.into_result().map(|terms| terms.aud).map_err(|denial| denial.code)
}

#[test]
fn audiences_of_an_issue_by_table() {
    let got = |names: &[&str]| Ok(names.iter().map(ToString::to_string).collect::<Vec<_>>());
    let bad = || Err(DenyCode::BadAud);
    for (template, aud, require_aud, expected) in [
        ("['a', 'b']", &["b"][..], true, got(&["b"])),
        ("['a', 'b']", &["b", "a"], true, got(&["b", "a"])),
        ("['a', 'b']", &["b", "c"], true, bad()),
        ("['a']", &[], true, got(&["a"])),
        ("['a', 'b']", &[], true, bad()),
        ("['a', 'issuer.example']", &[], true, got(&["issuer.example"])),
        ("['issuer.example']", &[], true, got(&["issuer.example"])),
        ("['a', 'b']", &["issuer.example"], true, bad()),
        ("[]", &[], true, bad()),
        ("[]", &["a"], true, bad()),
        // Where no audience is demanded, only a template that lists none may do without.
        ("[]", &[], false, got(&[])),
        ("['a']", &[], false, got(&["a"])),
        ("['a', 'b']", &[], false, bad()),
    ] {
        assert_eq!(audience(template, aud, require_aud), expected, "{template} {aud:?} {require_aud}");
    }
}

const BOUNDED: &str = r#"
[[peer]]
name = "alice"
user = "alice"
allow = ["issue"]
templates = ["demo"]
[[peer]]
name = "same, by number"
uid = 33
allow = ["issue"]
templates = ["demo"]
[[template]]
name = "demo"
tenant = "t1.host7"
purpose = "auth"
subjects = ["{user}", "svc/*"]
audiences = ["a"]
scopes = ["read", "write", "admin"]
default_scopes = ["read"]
actions = ["open"]
max_ttl_s = 100
"#;

#[test]
fn the_template_bounds_subject_scopes_and_action() {
    let policy = policy(BOUNDED);
    let issue = |peer, wish: IssueWish<'_>| {
        policy.decide_issue(&uid(peer), &wish, &BOUNDS).into_result().map_err(|denial| denial.code)
    };
    assert_eq!(issue(1000, wish()).unwrap().scopes, ["read"]);
    assert_eq!(issue(1000, IssueWish { sub: "bob", ..wish() }), Err(DenyCode::ScopeDenied));
    // `{user}` is the name in a matching rule; a rule by number gives none.
    assert_eq!(issue(33, wish()), Err(DenyCode::ScopeDenied));
    assert!(issue(33, IssueWish { sub: "svc/x", ..wish() }).is_ok());
    let scopes = |scopes| issue(1000, IssueWish { scopes, ..wish() }).map(|terms| terms.scopes);
    assert_eq!(scopes(&["write", "read"]).unwrap(), ["write", "read"]);
    assert_eq!(scopes(&["read", "root"]), Err(DenyCode::ScopeDenied));
    let action = |action| issue(1000, IssueWish { action: Some(action), ..wish() }).map(|terms| terms.action);
    assert_eq!(action("open"), Ok(Some("open".into())));
    assert_eq!(action("close"), Err(DenyCode::ScopeDenied));
}

#[test]
fn lifetimes_are_cut_and_never_empty() {
    let policy = policy(BOUNDED);
    let ttl = |ttl_s, nbf_offset_s, bounds: Bounds<'_>| {
        let wish = IssueWish { ttl_s, nbf_offset_s, ..wish() };
        policy.decide_issue(&uid(1000), &wish, &bounds).into_result().map(|terms| terms.ttl_s).map_err(|d| d.code)
    };
    assert_eq!(ttl(None, None, BOUNDS), Ok(100));
    assert_eq!(ttl(None, None, Bounds { default_ttl_s: 50, ..BOUNDS }), Ok(50));
    assert_eq!(ttl(Some(70), None, BOUNDS), Ok(70));
    assert_eq!(ttl(Some(u64::MAX), None, BOUNDS), Ok(100));
    assert_eq!(ttl(Some(70), None, Bounds { max_ttl_s: 60, ..BOUNDS }), Ok(60));
    assert_eq!(ttl(Some(0), None, BOUNDS), Err(DenyCode::Malformed));
    assert_eq!(ttl(Some(70), Some(69), BOUNDS), Ok(70));
    assert_eq!(ttl(Some(1000), Some(100), BOUNDS), Err(DenyCode::Malformed));
    assert_eq!(ttl(None, Some(u64::MAX), BOUNDS), Err(DenyCode::Malformed));
}

#[test]
fn audiences_of_a_verify_by_table() {
    for (granted, aud, require_aud, expected) in [
        ("['a', 'b']", Some("b"), true, Ok(Some("b"))),
        ("['a', 'b']", Some("c"), true, Err(DenyCode::BadAud)),
        ("['a', 'b']", None, true, Err(DenyCode::BadAud)),
        ("['a']", None, true, Ok(Some("a"))),
        ("[]", None, true, Err(DenyCode::BadAud)),
        ("[]", Some("a"), true, Err(DenyCode::BadAud)),
        ("[]", None, false, Ok(None)),
        ("['a']", None, false, Ok(Some("a"))),
        ("['a', 'b']", None, false, Ok(None)),
        ("['a']", Some("b"), false, Err(DenyCode::BadAud)),
    ] {
        let policy = policy(&format!("[[peer]]\nname = 'r'\nuid = 1\nallow = ['verify']\nverify_as = {granted}"));
        let decision = policy.decide_verify(&uid(1), aud, require_aud).into_result();
        let decision = decision.as_ref().map(Option::as_deref).map_err(|denial| denial.code);
        assert_eq!(decision, expected, "{granted} {aud:?} {require_aud}");
    }
}

#[test]
fn an_explanation_lists_each_rule_and_condition() {
    let policy = policy(BOUNDED);
    let why = policy.explain(&uid(1000), Operation::Issue, Some("demo"));
    assert!(why.allowed && why.code.is_none());
    assert_eq!(why.rules.len(), 2);
    let text = why.to_string();
    for line in [
        "`issue` from template \"demo\" is allowed",
        "rule \"alice\" (10-test.toml:3) matches",
        "yes user = \"alice\" (uid 1000)",
        "rule \"same, by number\" (10-test.toml:8) does not match",
        "no  uid = 33",
        "yes grants the template",
    ] {
        assert!(text.contains(line), "{line:?} is not in {text}");
    }
    let why = policy.explain(&uid(1000), Operation::Issue, Some("other"));
    assert_eq!((why.allowed, why.code), (false, Some("op_denied")));
    let json = serde_json::to_value(policy.explain(&uid(5), Operation::Drain, None)).unwrap();
    assert_eq!((&json["code"], &json["operation"]), (&"no_peer_policy".into(), &"drain".into()));
    assert_eq!(json["rules"][0]["conditions"][0]["holds"], false);
    assert!(json["rules"][0].get("grants_template").is_none());
}

#[test]
fn operation_names_are_unique_and_read_back() {
    for operation in Operation::ALL {
        assert_eq!(Operation::by_name(operation.name()), Some(operation));
    }
    assert_eq!(Operation::by_name("Issue"), None);
    assert_eq!(Operation::by_name("undrain"), None);
}
