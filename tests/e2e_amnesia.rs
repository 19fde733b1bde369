//! Amnesia mode: nothing is kept, and the laws hold for the life of the processes.
#![cfg(test)]

#[path = "amnesia/life.rs"]
mod life;
#[path = "amnesia/refused.rs"]
mod refused;
#[expect(dead_code, reason = "shared by several tests")]
mod support;
#[path = "amnesia/traces.rs"]
mod traces;

use std::collections::BTreeSet;
use std::time::Duration;

use passportd::passport::{OwnedEnvelope, parse_jwks};
use passportd::wire::{AdminOk, AdminOp, Code, IssueSpec, Revocation, ServiceOk, ServiceOp, Verdict};
use serde_json::Value;

use support::options::POLICY;
use support::passports::{demo, for_demo};
use support::raw::Raw;
use support::{House, Options, eventually};

const PATIENCE: Duration = Duration::from_secs(20);

/// With a template of passports that are good for so often.
fn options() -> Options {
    let few = "\n[[template]]\nname = \"few\"\ntenant = \"t1\"\npurpose = \"auth\"\nsubjects = [\"*\"]\naudiences = [\"demo\"]\n\
               max_ttl_s = 3600\nlimit = 10\n";
    let policy = POLICY.replace("templates = [\"demo\"]", "templates = [\"demo\", \"few\"]") + few;
    Options::default().amnesia().policy(&policy)
}

fn house(options: Options) -> House {
    let house = House::start(options);
    house.wait_ready();
    house
}

fn few(sub: &str, limit: u32) -> IssueSpec<'_> {
    IssueSpec { template: "few", sub, limit: Some(limit), ..IssueSpec::default() }
}

/// The code of the refusal; none if it is accepted.
fn refusal(raw: &mut Raw, passport: &OwnedEnvelope) -> Option<Code> {
    match raw.verify(for_demo(), passport).unwrap() {
        Verdict::Refused(code) => Some(code),
        Verdict::Accepted(_) | Verdict::Consumed(_) => None,
        other @ Verdict::Unproven { .. } => panic!("{other:?}"),
    }
}

fn status(house: &House) -> Value {
    match house.admin_raw().admin(AdminOp::Status) {
        Ok(AdminOk::Status(json)) => serde_json::from_str(&json).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// The kids of the published key set.
fn published(raw: &mut Raw) -> BTreeSet<String> {
    match raw.ask(ServiceOp::Keys { if_etag: None }).unwrap() {
        ServiceOk::Keys(set) => parse_jwks(&set.jwks).unwrap().into_iter().map(|key| key.kid.to_string()).collect(),
        other => panic!("{other:?}"),
    }
}

/// A passport, as soon as one is given.
fn issue_again(house: &House, sub: &str) -> OwnedEnvelope {
    eventually("passports are issued again", PATIENCE, || house.raw().issue(demo(sub)).ok())
}

fn revoke(house: &House, jti: &str) {
    let what = vec![Revocation::Id { jti, exp: None }];
    house.admin_raw().admin(AdminOp::Revoke { tenant: "t1", what, reason: "canary-reason" }).unwrap();
}

fn version(kid: &str) -> u64 {
    kid.rsplit_once("/v").unwrap().1.parse().unwrap()
}
