//! Whatever is asked, in whatever order, by sixteen at once, while keys change and the front is killed: the laws hold. They are
//! written down once more in plain code (`model/laws.rs`), and what came is held against them.
//!
//! `PASSPORTD_MODEL_SEED` asks for the steps of a run that failed. What of them is done at the same time is left to chance.
#![cfg(test)]

#[path = "model/drive.rs"]
mod drive;
#[path = "model/events.rs"]
mod events;
#[path = "model/facts.rs"]
mod facts;
#[path = "model/laws.rs"]
mod laws;
#[path = "model/laws_tests.rs"]
mod laws_tests;
#[path = "model/plan.rs"]
mod plan;
#[path = "model/steps.rs"]
mod steps;
#[expect(dead_code, reason = "shared by several tests")]
mod support;

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use drive::Run;
use events::{Came, Change, Event, Got, Look, Said, What};
use laws::broken;
use support::options::POLICY;
use support::{House, Options, Roles, ledger, rounds};

/// Steps of an ordinary run, and of the longest.
const STEPS: usize = 10_000;
const MOST: usize = 100_000;
/// The ordinary [`rounds`].
const ROUNDS: u32 = 20;
/// Broken laws that are shown, and events before each.
const SHOWN: usize = 5;
const BEFORE: usize = 20;

fn house() -> House {
    let names = "[\"demo\", \"few\", \"once\"]";
    let policy = POLICY
        .replace("templates = [\"demo\"]", &format!("templates = {names}\nexchange_templates = {names}"))
        .replace("\"watch\"]", "\"watch\", \"exchange\"]")
        .replace("max_ttl_s = 3600", "max_ttl_s = 3600\nforms = [\"envelope\", \"jws\"]")
        + &["few:limit = 10", "once:nonce = \"required\""]
            .map(|one| {
                let (name, keys) = one.split_once(':').unwrap();
                format!(
                    "[[template]]\nname = {name:?}\ntenant = \"t1\"\npurpose = \"auth\"\nsubjects = [\"*\"]\n\
                     audiences = [\"demo\"]\nmax_ttl_s = 3600\nforms = [\"envelope\", \"jws\"]\noffline_risk = true\n{keys}\n"
                )
            })
            .concat();
    let options = Options::default().roles(Roles::Apart).policy(&policy);
    let options = options.set("limits.exchange_rpm", 10_000_000);
    House::start(options.set("passport.clock_skew_s", 0).set("passport.default_ttl_s", 3600))
}

fn seed() -> u64 {
    match std::env::var("PASSPORTD_MODEL_SEED") {
        Ok(seed) => seed.parse().expect("PASSPORTD_MODEL_SEED is a number"),
        Err(_) => std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into(),
    }
}

#[test]
fn whatever_is_asked_the_laws_hold() {
    let seed = seed();
    // Shown if this fails, wherever it does.
    eprintln!("to ask the same once more: PASSPORTD_MODEL_SEED={seed}");
    let steps = (STEPS * usize::try_from(rounds(ROUNDS)).unwrap() / usize::try_from(ROUNDS).unwrap()).min(MOST);
    let run = Run::new(house(), plan::plan(seed, steps));
    let begun = Instant::now();
    let events = run.through();
    eprintln!("{steps} steps and {} events in {:.1?}", events.len(), begun.elapsed());
    let broken = broken(&events);
    for one in broken.iter().take(SHOWN) {
        show(&events, one);
    }
    assert!(broken.is_empty(), "{} laws are broken; PASSPORTD_MODEL_SEED={seed}", broken.len());
    met(&events, steps);
    on_record(&run, &events);
}

/// The events that show what is wrong, and what came before the last of them.
fn show(events: &[Event], broken: &laws::Broken) {
    eprintln!("{}:", broken.law);
    for at in &broken.events {
        eprintln!("  {at}: {:?}", events[*at]);
    }
    let last = broken.events.iter().copied().max().unwrap_or_default();
    eprintln!("  before:");
    for (at, event) in events.iter().enumerate().take(last).skip(last.saturating_sub(BEFORE)) {
        eprintln!("    {at}: {event:?}");
    }
}

/// That all of it came about: a daemon that refuses everything breaks no law.
fn met(events: &[Event], steps: usize) {
    let mut counts = BTreeMap::<String, usize>::new();
    for event in events {
        let kind = match &event.what {
            What::Issue(Got::Passport(_)) => "issued".to_owned(),
            What::Issue(got) => format!("not issued: {got:?}"),
            What::Look(Look { how, said: Said::Taken { .. }, .. }) => format!("{how:?}: taken"),
            What::Look(Look { how, said: Said::Again { .. }, .. }) => format!("{how:?}: again"),
            What::Look(Look { how, said, .. }) => format!("{how:?}: {said:?}"),
            What::Change { change, came } => {
                let (change, came) = (format!("{change:?}"), matches!(came, Came::Done { .. }));
                let change = change.split('(').next().unwrap();
                format!("{change}: {}", if came { "done" } else { "not, or nobody knows" })
            }
            What::Kill { .. } => "killed".to_owned(),
        };
        *counts.entry(kind).or_default() += 1;
    }
    eprintln!("{counts:#?}");
    let least = |kind: &str, least: usize| {
        let count = counts.get(kind).copied().unwrap_or_default();
        assert!(count >= least, "{kind}: {count}, and not {least}");
    };
    least("issued", steps / 10);
    for often in ["Take: Free", "Take: taken", "Take: Refused(Revoked)", "Passport: done"] {
        least(often, steps / 100);
    }
    for rare in [
        "Exchange: Free",
        "Exchange: taken",
        "Take: again",
        "Take: Refused(LimitExceeded)",
        "Take: Refused(Replayed)",
        "Peek: Refused(LimitExceeded)",
    ] {
        least(rare, steps / 1000);
    }
    least("Forged: Refused(VerifyFailed)", steps / 500);
    for once in ["Subject: done", "Activate: done", "Pause: done", "Resume: done", "killed"] {
        least(once, steps / 2000);
    }
}

/// What was issued, accepted and revoked is on record: issued once, accepted as often as it was said, or more.
fn on_record(run: &Run, events: &[Event]) {
    let records = ledger::records(&run.house.read().unwrap().ledger());
    let mut there = HashMap::<(&str, &str), usize>::new();
    for record in &records {
        if let (Some(event), Some(jti)) = (record["event"].as_str(), record["jti"].as_str()) {
            *there.entry((event, jti)).or_default() += 1;
        }
    }
    let count = |event, jti: &str| there.get(&(event, jti)).copied().unwrap_or_default();
    let (mut jtis, mut accepted) = (HashMap::new(), HashMap::<usize, usize>::new());
    for event in events {
        match &event.what {
            What::Issue(Got::Passport(pass)) => {
                match pass.parent {
                    None => assert_eq!(count("passport_issued", &pass.jti), 1, "{event:?}"),
                    // The answer to the first time may have been lost.
                    Some(_) => assert!(count("ticket_issued", &pass.jti) > 0, "{event:?}"),
                }
                jtis.insert(event.step, pass.jti.as_str());
            }
            What::Look(Look { passport, said: Said::Taken { .. } | Said::Again { .. }, .. }) => {
                *accepted.entry(*passport).or_default() += 1;
            }
            What::Change { change: Change::Passport(of), came: Came::Done { new: Some(true) } } => {
                assert!(count("passport_revoked", jtis[of]) > 0, "{event:?}");
            }
            _ => {}
        }
    }
    for (passport, times) in accepted {
        assert!(count("passport_accepted", jtis[&passport]) >= times, "{} times: {}", times, jtis[&passport]);
    }
}
