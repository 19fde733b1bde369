//! Who may have tickets, and of what.

use super::{files, uid};
use crate::policy::{ExchangeWish, Operation};
use crate::wire::PassportForm;

const TEMPLATES: &str = r#"
[[template]]
name = "plain"
tenant = "t1"
purpose = "auth"
subjects = ["*"]
audiences = ["a", "b"]
scopes = ["read", "write"]
max_ttl_s = 90

[[template]]
name = "web"
tenant = "t1"
purpose = "auth"
subjects = ["*"]
max_ttl_s = 60
forms = ["jws"]
offline_risk = true

[[template]]
name = "open"
tenant = "t1"
purpose = "auth"
subjects = ["*"]
max_ttl_s = 60
forms = ["envelope", "jws"]
"#;

const RULES: &str = r#"
[[peer]]
name = "all"
uid = 1
allow = ["exchange"]
exchange_templates = ["plain", "web", "open"]
exchange_rpm = 7

[[peer]]
name = "no-operation"
uid = 2
allow = ["issue"]
templates = ["plain"]
exchange_templates = ["plain"]

[[peer]]
name = "no-template"
uid = 3
allow = ["exchange", "issue"]
templates = ["plain"]
"#;

fn wish<'a>(template: &'a str, scopes: &'a [String]) -> ExchangeWish<'a> {
    ExchangeWish { template, tenant: "t1", purpose: "auth", aud: "a", scopes, form: PassportForm::Envelope }
}

#[test]
fn tickets_by_table() {
    let policy = files(&[("a.toml", &(TEMPLATES.to_owned() + RULES))]).unwrap();
    let said = |id, wish: &ExchangeWish<'_>| match policy.rights(&uid(id)).decide_exchange(wish).into_result() {
        Ok(longest) => longest.to_string(),
        Err(denial) => denial.code.code().to_owned(),
    };
    let (none, read, more) = (&[][..], &["read".to_owned()][..], &["read".to_owned(), "list".to_owned()][..]);
    let plain = |scopes| wish("plain", scopes);
    for (id, wish, expected) in [
        (1, plain(none), "90"),
        (1, plain(read), "90"),
        (1, plain(more), "scope_denied"),
        (1, ExchangeWish { aud: "b", ..plain(read) }, "90"),
        (1, ExchangeWish { aud: "c", ..plain(read) }, "bad_aud"),
        (1, ExchangeWish { tenant: "t2", ..plain(read) }, "op_denied"),
        (1, ExchangeWish { purpose: "other", ..plain(read) }, "op_denied"),
        (1, ExchangeWish { form: PassportForm::Jws, ..plain(read) }, "scope_denied"),
        (1, wish("gone", none), "op_denied"),
        // A template without audiences is for everybody, and a ticket of it for whom its passport is.
        (1, ExchangeWish { aud: "anybody", ..wish("open", none) }, "60"),
        (1, ExchangeWish { form: PassportForm::Jws, ..wish("open", none) }, "scope_denied"),
        (1, ExchangeWish { form: PassportForm::Jws, ..wish("web", none) }, "60"),
        (1, wish("web", none), "scope_denied"),
        (2, plain(read), "op_denied"),
        (3, plain(read), "op_denied"),
        (4, plain(read), "no_peer_policy"),
    ] {
        assert_eq!(said(id, &wish), expected, "uid {id}: {wish:?}");
    }
    assert_eq!(policy.rights(&uid(1)).share().exchange_rpm, Some(7));
}

#[test]
fn what_is_missing_is_said_and_explained() {
    let policy = files(&[("a.toml", &(TEMPLATES.to_owned() + RULES))]).unwrap();
    let explained = |id| policy.explain(&uid(id), Operation::Exchange, Some("plain"));
    assert!(explained(1).allowed && explained(1).rules[0].grants_template == Some(true));
    assert!(explained(2).reason.contains("`allow` of rule \"no-operation\""), "{}", explained(2).reason);
    assert!(explained(3).reason.contains("`exchange_templates` of rule \"no-template\""), "{}", explained(3).reason);
    assert_eq!(explained(3).rules[2].grants_template, Some(false), "to issue is another right");
}

#[test]
fn a_template_that_is_not_there_is_refused_and_a_change_is_seen() {
    let with = |templates: &str| {
        let text = RULES.replacen("[\"plain\", \"web\", \"open\"]", templates, 1);
        files(&[("a.toml", &(TEMPLATES.to_owned() + &text))])
    };
    let error = with("[\"plian\"]").unwrap_err().to_string();
    assert!(error.contains("plian"), "{error}");
    let (before, after) = (with("[\"plain\", \"web\", \"open\"]").unwrap(), with("[\"plain\"]").unwrap());
    assert_eq!(before.difference(&after), ["rule all changed"]);
    let risky = TEMPLATES.replacen("max_ttl_s = 90", "max_ttl_s = 90\noffline_risk = true", 1) + RULES;
    assert_eq!(before.difference(&files(&[("a.toml", &risky)]).unwrap()), ["template plain changed"]);
}
