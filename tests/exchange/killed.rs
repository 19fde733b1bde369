//! A front that is killed at any moment, under clients that do everything that leaves a record: what a client was told is on record.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use passportd::wire::{
    AdminOk, AdminOp, AdminReply, AdminRequest, Exchanged, Greeting, IssueSpec, Plain, Reply, Revocation, ServiceOk,
    ServiceOp, Verdict, decode, encode_frame,
};
use serde_json::Value;

use crate::asked::{for_demo, from, plain, policy, said};
use crate::support::passports::{on_wire, owned};
use crate::support::raw::{Raw, request};
use crate::support::{House, Options, ledger, rounds};

/// Events that a client was told of, each with what its record names: `jti`, or `sub` of a secret.
type Told = Vec<(&'static str, String)>;

fn connect(socket: &Path) -> Option<Raw> {
    let mut raw = Raw::connect(socket).ok()?;
    matches!(raw.greet(), Ok(Greeting::Welcome(_))).then_some(raw)
}

/// The answer, unless the connection broke or there was a problem.
fn ask(raw: &mut Raw, op: ServiceOp<'_>) -> Option<ServiceOk> {
    raw.send(&request(1, op)).ok()?;
    let reply: Reply = decode(&raw.body().ok()??).ok()?;
    reply.result.ok()
}

fn administer(raw: &mut Raw, op: AdminOp<'_>) -> Option<AdminOk> {
    let mut frame = Vec::new();
    encode_frame(&AdminRequest { id: 1, corr_id: [0; 16], op }, &mut frame).unwrap();
    raw.send(&frame).ok()?;
    let reply: AdminReply = decode(&raw.body().ok()??).ok()?;
    reply.result.ok()
}

fn jti(claims: &Value) -> String {
    claims["jti"].as_str().unwrap().to_owned()
}

/// Issue, take a ticket, use it, take a use, seal, revoke: until something breaks.
fn work(who: &str, raw: &mut Raw, admin: &mut Raw, told: &mut Told) -> Option<()> {
    for turn in 0.. {
        let limited = IssueSpec { limit: Some(5), ..from("few") };
        let Some(ServiceOk::Issued(issued)) = ask(raw, ServiceOp::Issue(limited)) else { return None };
        let passport = owned(issued);
        let id = jti(&said(&passport));
        told.push(("passport_issued", id.clone()));
        let op = ServiceOp::Exchange { passport: on_wire(&passport), spec: plain(), retry: None, proof: None };
        let ServiceOk::Exchanged(Exchanged::Ticket(ticket)) = ask(raw, op)? else { return None };
        let ticket = owned(ticket.ticket);
        told.extend([("passport_accepted", id.clone()), ("ticket_issued", jti(&said(&ticket)))]);
        for one in [&ticket, &passport] {
            let op = ServiceOp::Verify { want: for_demo(), passport: on_wire(one) };
            let ServiceOk::Verdict(Verdict::Consumed(_)) = ask(raw, op)? else { return None };
            told.push(("passport_accepted", jti(&said(one))));
        }
        let name = format!("{who}-{turn}");
        let op = ServiceOp::Seal { namespace: "t1/kills", name: &name, plain: Plain(b"a secret") };
        let ServiceOk::Sealed { blob } = ask(raw, op)? else { return None };
        told.push(("sealed", format!("t1/kills/{name}")));
        let op = ServiceOp::Unseal { namespace: "t1/kills", name: &name, blob: &blob };
        let ServiceOk::Unsealed { .. } = ask(raw, op)? else { return None };
        told.push(("unsealed", format!("t1/kills/{name}")));
        let what = vec![Revocation::Id { jti: &id, exp: None }];
        let AdminOk::Revoked { .. } = administer(admin, AdminOp::Revoke { tenant: "t1", what, reason: "a kill" })?
        else {
            return None;
        };
        told.push(("passport_revoked", id));
    }
    None
}

fn client(number: usize, (socket, admin): (PathBuf, PathBuf), stop: &AtomicBool) -> Told {
    let (mut told, mut lives) = (Told::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        let Some((mut raw, mut admin)) = connect(&socket).zip(connect(&admin)) else {
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        lives += 1;
        work(&format!("{number}-{lives}"), &mut raw, &mut admin, &mut told);
    }
    told
}

#[test]
fn whatever_a_client_was_told_before_a_kill_is_on_record() {
    let mut house = House::start(Options::default().policy(&policy()));
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..3)
        .map(|number| {
            let (sockets, stop) = ((house.socket(), house.admin_socket()), Arc::clone(&stop));
            thread::spawn(move || client(number, sockets, &stop))
        })
        .collect();
    let kills = (rounds(20) / 4).max(1);
    for round in 0..kills {
        thread::sleep(Duration::from_millis(60 + u64::from(round) * 37 % 251));
        house.kill("front");
        house.wait_ready();
    }
    thread::sleep(Duration::from_millis(300));
    stop.store(true, Ordering::Relaxed);
    // A client ends when it is answered no more.
    house.stop();
    let told: Told = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    let records = ledger::records(&house.ledger());
    let mut on_record = std::collections::HashMap::<(String, String), usize>::new();
    for record in records.iter().filter(|record| record["outcome"] == "ok") {
        let event = record["event"].as_str().unwrap();
        let named = if event.contains("sealed") { &record["sub"] } else { &record["jti"] };
        *on_record.entry((event.to_owned(), named.as_str().unwrap_or_default().to_owned())).or_default() += 1;
    }
    for (event, named) in &told {
        let left = on_record.entry(((*event).to_owned(), named.clone())).or_default();
        assert!(*left > 0, "{event} of {named} was told and has no record");
        *left -= 1;
    }
    for event in ["passport_issued", "ticket_issued", "passport_accepted", "sealed", "unsealed", "passport_revoked"] {
        let times = told.iter().filter(|(told, _)| *told == event).count();
        println!("{event}: told {times} times over {kills} kills");
        assert!(times > 0, "{event}");
    }
    ledger::assert_chain(&house.ledger());
}
