//! The lives of keys over the real roles: the warning before a key signs, the way back, the end of a retired key, and kills
//! in between.
#![cfg(test)]

#[expect(dead_code, reason = "shared by several tests")]
mod support;

#[path = "keys/ending.rs"]
mod ending;
#[path = "keys/kills.rs"]
mod kills;
#[path = "keys/way_back.rs"]
mod way_back;

use std::collections::BTreeSet;

use passportd::passport::parse_jwks;
use passportd::wire::ceremony::PlanKind;
use passportd::wire::{AdminOk, AdminOp, Problem, ServiceOk, ServiceOp};
use serde_json::Value;
use support::House;
use support::raw::Raw;

fn kid(version: u32) -> String {
    format!("ed25519/t1/auth/v{version}")
}

/// Has a ceremony make the next key, and publishes it.
fn staged(house: &House, version: u32) -> String {
    house.ceremony(PlanKind::Generate, "t1", "auth");
    house.stage(&kid(version)).unwrap();
    kid(version)
}

fn ask(house: &House, op: AdminOp<'_>) -> Result<AdminOk, Problem> {
    house.admin_raw().admin(op)
}

fn rollback(house: &House) -> Result<AdminOk, Problem> {
    ask(house, AdminOp::Rollback { tenant: "t1", purpose: "auth", reason: "a test" })
}

/// The kids of the key set.
fn published(raw: &mut Raw) -> BTreeSet<String> {
    match raw.ask(ServiceOp::Keys { if_etag: None }).unwrap() {
        ServiceOk::Keys(set) => parse_jwks(&set.jwks).unwrap().into_iter().map(|key| key.kid.to_string()).collect(),
        other => panic!("{other:?}"),
    }
}

/// What the status says of a key.
fn said(house: &House, kid: &str) -> Value {
    let AdminOk::Status(text) = ask(house, AdminOp::Status).unwrap() else { panic!("no status") };
    let status: Value = serde_json::from_str(&text).unwrap();
    let keys = status["keys"].as_array().unwrap();
    keys.iter().find(|key| key["kid"] == *kid).unwrap_or_else(|| panic!("{kid} is not in {text}")).clone()
}
