//! Whatever is asked for, in whatever order: no chain of exchanges gives anybody more than the passport did.

use passportd::passport::OwnedEnvelope;
use passportd::wire::{Code, IssueSpec, TicketSpec};
use serde_json::Value;

use crate::asked::{Got, policy, said};
use crate::support::raw::Raw;
use crate::support::{House, Options, Roles, rounds};

const AUDIENCES: [&str; 3] = ["demo", "api", "files"];
const SCOPES: [&str; 3] = ["read", "write", "list"];
/// Chains of each round.
const CHAINS: u32 = 1000;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((z ^ (z >> 31)) % u64::from(sides)).unwrap()
    }

    fn one_in(&mut self, times: u32) -> bool {
        self.roll(times) == 0
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[usize::try_from(self.roll(u32::try_from(all.len()).unwrap())).unwrap()]
    }
}

/// Some of them, `least` at least.
fn some<'a>(dice: &mut Dice, all: &[&'a str], least: usize) -> Vec<&'a str> {
    let mut some: Vec<_> = all.iter().copied().filter(|_| dice.one_in(2)).collect();
    while some.len() < least {
        let one: &&str = dice.pick(all);
        some.push(one);
    }
    some
}

fn list(claims: &Value, name: &str) -> Vec<String> {
    claims[name].as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
}

/// What must hold between a passport and what was made from it.
fn assert_no_wider(parent: &Value, ticket: &Value) {
    let within = |name| list(ticket, name).iter().all(|one| list(parent, name).contains(one));
    assert!(within("aud") && list(ticket, "aud").len() == 1, "{parent} {ticket}");
    assert!(within("scopes"), "{parent} {ticket}");
    let number = |claims: &Value, name: &str| claims[name].as_i64().unwrap();
    assert!(number(ticket, "exp") <= number(parent, "exp"), "{parent} {ticket}");
    assert!(number(ticket, "exp") - number(ticket, "iat") <= 60, "{parent} {ticket}");
    assert!(number(ticket, "iat") >= number(parent, "iat"), "{parent} {ticket}");
    for same in ["iss", "sub", "epoch"] {
        assert_eq!(parent[same], ticket[same]);
    }
    assert_eq!(
        (&parent["cap"]["template"], &parent["cap"]["action"]),
        (&ticket["cap"]["template"], &ticket["cap"]["action"])
    );
    assert_eq!((parent.get("cnf"), parent.get("ctx")), (ticket.get("cnf"), ticket.get("ctx")));
    assert_eq!((&ticket["cap"]["limit"], &ticket["par"]["jti"]), (&1.into(), &parent["jti"]));
}

fn passport(raw: &mut Raw, dice: &mut Dice) -> (OwnedEnvelope, Option<u32>) {
    let limit = dice.one_in(2).then(|| 1 + dice.roll(4));
    let template = if limit.is_some() { "few" } else { *dice.pick(&["demo", "web"]) };
    let action = (template != "demo" && dice.one_in(3)).then_some("open");
    let ctx = dice.one_in(3).then_some(r#"{"door":7}"#);
    let scopes = if template == "demo" { some(dice, &SCOPES[..2], 1) } else { some(dice, &SCOPES, 0) };
    let (aud, ttl_s) = (some(dice, &AUDIENCES, 1), Some(60 + dice.roll(600)));
    let spec = IssueSpec { template, sub: "alice", aud, scopes, ttl_s, action, ctx, limit, ..IssueSpec::default() };
    (raw.issue(spec).unwrap(), limit)
}

/// One passport and some wishes, each of which may make a ticket, from the passport or from any ticket so far.
fn chain(raw: &mut Raw, dice: &mut Dice) {
    let (parent, limit) = passport(raw, dice);
    let claims = said(&parent);
    let mut uses = limit.unwrap_or(u32::MAX);
    let mut tickets: Vec<OwnedEnvelope> = Vec::new();
    for _ in 0..=dice.roll(5) {
        let aud = *dice.pick(&AUDIENCES);
        let scopes = some(dice, &SCOPES, 0);
        let ttl_s = dice.one_in(2).then(|| 10 + dice.roll(900));
        let from_ticket = !tickets.is_empty() && dice.one_in(3);
        let of_ticket = from_ticket.then(|| dice.pick(&tickets).clone());
        let from = of_ticket.as_ref().unwrap_or(&parent);
        let got = raw.exchange(from, TicketSpec { aud, scopes: scopes.clone(), ttl_s, ..TicketSpec::default() });
        let has = |name, one: &str| list(&said(from), name).iter().any(|own| own == one);
        let expected = match () {
            () if !has("aud", aud) => Some(Code::BadAud),
            () if !scopes.iter().all(|scope| has("scopes", scope)) => Some(Code::ScopeDenied),
            () if of_ticket.is_some() => Some(Code::ScopeDenied),
            () if uses == 0 => Some(Code::LimitExceeded),
            () => None,
        };
        match (got, expected) {
            (Got::Ticket { ticket, left, .. }, None) => {
                uses = if limit.is_some() { uses - 1 } else { uses };
                assert_eq!(left, limit.map(|_| u64::from(uses)));
                assert_no_wider(&claims, &said(&ticket));
                tickets.push(ticket);
            }
            (Got::Refused(code), Some(expected)) => assert_eq!(code, expected),
            (got, expected) => panic!("{got:?}, expected {expected:?}, from {}", said(from)),
        }
    }
    let mut ids: Vec<_> = tickets.iter().map(|ticket| said(ticket)["jti"].as_str().unwrap().to_owned()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), tickets.len(), "each is another");
}

#[test]
fn a_thousand_random_chains_never_widen() {
    let seed = match std::env::var("PASSPORTD_MODEL_SEED") {
        Ok(seed) => seed.parse().expect("PASSPORTD_MODEL_SEED is a number"),
        Err(_) => std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into(),
    };
    // Shown if this fails, wherever it does.
    eprintln!("to ask the same once more: PASSPORTD_MODEL_SEED={seed}");
    let options = Options::default().roles(Roles::Apart).set("limits.exchange_rpm", 10_000_000);
    let house = House::start(options.policy(&policy()));
    let (mut raw, mut dice) = (house.raw(), Dice(seed));
    for _ in 0..CHAINS * rounds(1) {
        chain(&mut raw, &mut dice);
    }
}
