//! Who may have tickets, how many, in which form, and for how long they live.

use std::time::Duration;

use passportd::wire::{AdminOk, AdminOp, Code, PassportForm, TicketSpec};

use crate::asked::{Got, from, house, plain, policy, said};
use crate::support::house::House;
use crate::support::{Options, Roles, eventually, ledger, root_or_skip};

const OTHER: u32 = 61_201;

#[test]
fn who_was_not_granted_it_has_no_tickets() {
    let without = policy().replace("\"watch\", \"exchange\", ", "\"watch\", ");
    let house = House::start(Options::default().roles(Roles::Apart).policy(&without));
    let mut raw = house.raw();
    let passport = raw.issue(from("demo")).unwrap();
    assert_eq!(raw.exchange(&passport, plain()), Got::Problem(Code::OpDenied));
    let reload = |text: &str| {
        house.write_policy("10-test.toml", text);
        house.admin_raw().admin(AdminOp::Reload).unwrap();
    };
    // The operation alone is not enough: a template must be named, too.
    reload(&policy().replace("exchange_templates = [\"demo\", ", "exchange_templates = ["));
    assert_eq!(raw.exchange(&passport, plain()), Got::Problem(Code::OpDenied));
    reload(&policy());
    assert!(matches!(raw.exchange(&passport, plain()), Got::Ticket { .. }));
    // What a template does not allow any more no ticket has, whatever its passport says.
    reload(&policy().replacen("scopes = [\"read\", \"write\"]", "scopes = [\"read\"]", 1));
    assert_eq!(raw.exchange(&passport, plain()), Got::Problem(Code::ScopeDenied));
    assert!(matches!(raw.exchange(&passport, TicketSpec { scopes: vec!["read"], ..plain() }), Got::Ticket { .. }));
    reload(&policy().replacen("audiences = [\"demo\", \"api\", \"files\"]", "audiences = [\"api\"]", 1));
    assert_eq!(raw.exchange(&passport, plain()), Got::Problem(Code::BadAud));
    eventually("all four are on record", Duration::from_secs(10), || {
        let of_exchange = |one: &serde_json::Value| one["event"] == "request_refused" && one["action"] == "exchange";
        (ledger::records(&house.ledger()).into_iter().filter(of_exchange).count() == 4).then_some(())
    });
}

#[test]
fn a_ticket_is_a_jws_only_where_that_risk_is_taken() {
    let house = house();
    let mut raw = house.raw();
    let jws = || TicketSpec { form: PassportForm::Jws, ..plain() };
    let passport = raw.issue(from("web")).unwrap();
    assert_eq!(raw.exchange(&passport, jws()), Got::Problem(Code::ScopeDenied));
    let text = policy().replace("\"jws\"]", "\"jws\"]\noffline_risk = true");
    house.write_policy("10-test.toml", &text);
    house.admin_raw().admin(AdminOp::Reload).unwrap();
    match raw.try_exchange(&passport, jws(), None, None) {
        Ok(passportd::wire::Exchanged::Ticket(it)) => {
            let passportd::wire::Issued::Jws { text } = it.ticket else { panic!("a JWS") };
            let ask = |raw: &mut crate::support::raw::Raw| {
                let passport = passportd::wire::Passport::Jws { text: &text };
                match raw.ask(passportd::wire::ServiceOp::Verify { want: crate::asked::for_demo(), passport }) {
                    Ok(passportd::wire::ServiceOk::Verdict(verdict)) => crate::asked::word(&verdict),
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!((ask(&mut raw).as_str(), ask(&mut raw).as_str()), (crate::asked::ONCE, "limit_exceeded"));
        }
        other => panic!("{other:?}"),
    }
    let demo = raw.issue(from("demo")).unwrap();
    assert_eq!(raw.exchange(&demo, jws()), Got::Problem(Code::ScopeDenied), "the template has no such form");
}

#[test]
fn a_user_has_so_many_tickets_a_minute_and_others_have_theirs() {
    if !root_or_skip("a_user_has_so_many_tickets_a_minute_and_others_have_theirs") {
        return;
    }
    let other = policy().replace("name = \"tester\"\nuid = @UID@", &format!("name = \"other\"\nuid = {OTHER}"));
    let rule = other.split("[[template]]").next().unwrap().to_owned();
    let options = Options::default().roles(Roles::Apart).set("limits.exchange_rpm", 5);
    let house =
        House::start(options.policy(&(policy() + &rule.replace("rps = 10000000", "rps = 10000000\nexchange_rpm = 7"))));
    let mut raw = house.raw();
    let passport = raw.issue(from("demo")).unwrap();
    let until_refused = |raw: &mut crate::support::raw::Raw| {
        let mut had = 0;
        loop {
            match raw.try_exchange(&passport, plain(), None, None) {
                Ok(_) => had += 1,
                Err(problem) => return (had, problem.code, problem.retry_after_ms),
            }
            assert!(had < 50);
        }
    };
    assert_eq!(until_refused(&mut raw), (5, Code::RateLimited, Some(12_000)));
    let mut other = house.raw_as(OTHER, OTHER, &[]);
    assert_eq!(until_refused(&mut other), (7, Code::RateLimited, Some(8571)), "by its rule");
    assert_eq!(raw.word(&passport), "accepted", "and does all else");
}

#[test]
fn an_admin_lets_tickets_live_longer_for_a_while_and_that_is_on_record() {
    let mut house = house();
    let mut raw = house.raw();
    let passport = raw.issue(from("demo")).unwrap();
    let life = |raw: &mut crate::support::raw::Raw| {
        let claims = said(&raw.exchange(&passport, TicketSpec { ttl_s: Some(600), ..plain() }).ticket());
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap()
    };
    let allow = |house: &House, seconds, for_s| {
        house.admin_raw().admin(AdminOp::TicketTtl { seconds, for_s, reason: "rollout" })
    };
    assert_eq!(life(&mut raw), 60);
    for (seconds, for_s) in [(0, 60), (301, 60), (120, 4 * 3600 + 1)] {
        let problem = allow(&house, seconds, for_s).unwrap_err();
        assert_eq!(problem.code, Code::Malformed, "{seconds} s for {for_s} s");
        assert_eq!(life(&mut raw), 60);
    }
    assert_eq!(allow(&house, 120, 3), Ok(AdminOk::Done));
    assert_eq!(life(&mut raw), 120);
    eventually("its time is over", Duration::from_secs(10), || (life(&mut raw) == 60).then_some(()));
    let events = |house: &House, event: &str| -> Vec<serde_json::Value> {
        ledger::records(&house.ledger()).into_iter().filter(|one| one["event"] == event).collect()
    };
    eventually("its end is on record", Duration::from_secs(10), || {
        (events(&house, "ticket_ttl_ended").len() == 1).then_some(())
    });
    // Ended before its time; and with the daemon.
    assert_eq!(allow(&house, 300, 3600), Ok(AdminOk::Done));
    assert_eq!(life(&mut raw), 300);
    assert_eq!(allow(&house, 0, 0), Ok(AdminOk::Done));
    assert_eq!(life(&mut raw), 60);
    assert_eq!(allow(&house, 0, 0), Ok(AdminOk::Done), "twice is no more");
    assert_eq!(allow(&house, 90, 3600), Ok(AdminOk::Done));
    house.stop();
    let said =
        |event| events(&house, event).iter().map(|one| one["detail"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(
        said("ticket_ttl_allowed"),
        ["120 s, for 3 s: rollout", "300 s, for 3600 s: rollout", "90 s, for 3600 s: rollout"]
    );
    assert_eq!(said("ticket_ttl_ended"), ["120 s: its time is over", "300 s: rollout", "90 s: the daemon stops"]);
}

/// Whoever has the front could have any passport; a ticket it can have signed is one all the same.
#[test]
fn the_signer_signs_no_ticket_that_is_none() {
    let house = House::start(Options::default());
    let forged = |change: &dyn Fn(&mut serde_json::Value)| {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            house.forge(|claims| {
                let par = serde_json::json!({"iat": claims["iat"], "jti": "p", "kid": claims["kid"]});
                claims["par"] = par;
                claims["cap"]["limit"] = 1.into();
                claims["exp"] = (claims["iat"].as_i64().unwrap() + 300).into();
                change(claims);
            })
        }))
        .is_ok()
    };
    assert!(forged(&|_| {}));
    assert!(!forged(&|claims| claims["exp"] = (claims["iat"].as_i64().unwrap() + 301).into()), "longer");
    assert!(!forged(&|claims| claims["cap"]["limit"] = 2.into()), "more often");
    assert!(!forged(&|claims| drop(claims["cap"].as_object_mut().unwrap().remove("limit"))), "without a limit");
    assert!(!forged(&|claims| claims["aud"] = serde_json::json!(["demo", "api"])), "for two");
    assert!(!forged(&|claims| claims["par"]["kid"] = "ed25519/t2/auth/v1".into()), "another tenant's");
    assert!(
        !forged(&|claims| claims["par"]["iat"] = (claims["iat"].as_i64().unwrap() + 1).into()),
        "out of the future"
    );
}
