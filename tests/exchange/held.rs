//! Whoever may present a passport may have its tickets, and present them, and nobody else.

use std::time::{SystemTime, UNIX_EPOCH};

use ed25519_dalek::{Signer as _, SigningKey};
use passportd::passport::proof::{ProofClaims, Purpose, ath, with_signature};
use passportd::passport::{OwnedEnvelope, thumbprint};
use passportd::wire::{Code, IssueSpec, Possession, ServiceOk, ServiceOp, TicketSpec, Verdict, Want};

use crate::asked::{Got, ONCE, for_demo, from, house, plain, said, word};
use crate::support::passports::on_wire;
use crate::support::raw::Raw;

const OTHER: u32 = 61_201;

fn key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

fn jkt() -> String {
    thumbprint(&key().verifying_key().to_bytes())
}

fn nonce(raw: &mut Raw) -> String {
    match raw.ask(ServiceOp::Challenge) {
        Ok(ServiceOk::Challenge { nonce, .. }) => nonce,
        other => panic!("{other:?}"),
    }
}

/// A proof for this passport, made for an operation.
fn proof(raw: &mut Raw, passport: &OwnedEnvelope, op: &str, aud: &str) -> String {
    // What the nonce is, no other proof has.
    let jti = nonce(raw);
    let purpose = Purpose::Operation { aud: aud.to_owned(), op: op.to_owned(), nonce: jti.clone() };
    let iat = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap();
    let claims = ProofClaims { jti, iat, ath: ath(&passport.msg), purpose };
    let input = claims.signing_input(&key().verifying_key().to_bytes()).unwrap();
    with_signature(&input, &key().sign(input.as_bytes()).to_bytes())
}

fn verify(raw: &mut Raw, passport: &OwnedEnvelope, want: Want<'_>, proof: Option<&str>) -> String {
    let proof = proof.map(|proof| Possession::Pop { proof });
    match raw.ask(ServiceOp::VerifyWith { want, passport: on_wire(passport), retry: None, proof }) {
        Ok(ServiceOk::Verdict(verdict)) => word(&verdict),
        other => panic!("{other:?}"),
    }
}

fn unproven(got: &Got, why: &str) {
    assert!(matches!(got, Got::Unproven(said) if said.contains(why)), "{got:?} should say {why:?}");
}

#[test]
fn a_ticket_of_a_passport_with_a_key_needs_the_key_for_itself_and_for_its_use() {
    let house = house();
    let mut raw = house.raw();
    let jkt = jkt();
    let passport = raw.issue(IssueSpec { jkt: Some(&jkt), ..from("bound") }).unwrap();
    let with =
        |raw: &mut Raw, proof: &str| raw.exchange_with(&passport, plain(), None, Some(Possession::Pop { proof }));
    assert_eq!(raw.exchange(&passport, plain()), Got::Refused(Code::PopRequired));
    // What was made to have the passport verified is not good for a ticket, nor for one of another audience.
    let other = proof(&mut raw, &passport, "verify", "demo");
    unproven(&with(&mut raw, &other), "`op`");
    let other = proof(&mut raw, &passport, "exchange", "api");
    unproven(&with(&mut raw, &other), "`aud`");
    let good = proof(&mut raw, &passport, "exchange", "demo");
    assert!(verify(&mut raw, &passport, for_demo(), Some(&good)).contains("`op`"), "nor the other way round");
    let got = with(&mut raw, &good);
    assert_eq!(got.left(), Some(2), "what was refused took nothing");
    unproven(&with(&mut raw, &good), "`nonce`");
    let ticket = got.ticket();
    assert_eq!(said(&ticket)["cnf"], said(&passport)["cnf"]);
    assert_eq!(raw.word(&ticket), "pop_required");
    let own = proof(&mut raw, &ticket, "verify", "demo");
    assert_eq!(verify(&mut raw, &ticket, for_demo(), Some(&own)), ONCE);
    // A key that nobody asked for proves nothing.
    let free = raw.issue(from("demo")).unwrap();
    let made = proof(&mut raw, &free, "exchange", "demo");
    unproven(&raw.exchange_with(&free, plain(), None, Some(Possession::Pop { proof: &made })), "no key");
}

#[test]
fn a_ticket_of_a_users_passport_is_for_that_user() {
    let house = house();
    let mut raw = house.raw();
    let mine = raw.issue(from("desk")).unwrap();
    let other = raw.issue(IssueSpec { uid: Some(OTHER), ..from("desk") }).unwrap();
    let by = |uid| TicketSpec { peer_uid: Some(uid), ..plain() };
    // Who asks presents it, unless it says who did.
    let ticket = raw.exchange(&mine, plain()).ticket();
    assert_eq!(raw.exchange(&mine, by(OTHER)), Got::Refused(Code::PopInvalid));
    assert_eq!(raw.exchange(&other, plain()), Got::Refused(Code::PopInvalid));
    let others = raw.exchange(&other, by(OTHER)).ticket();
    assert_eq!(said(&others)["cnf"]["uid"], OTHER);
    let me = nix::unistd::geteuid().as_raw();
    assert_eq!(raw.word(&ticket), "pop_required");
    assert_eq!(verify(&mut raw, &ticket, Want { peer_uid: Some(OTHER), ..for_demo() }, None), "pop_invalid");
    assert_eq!(verify(&mut raw, &ticket, Want { peer_uid: Some(me), ..for_demo() }, None), ONCE);
    let verdict = raw.verify(Want { peer_uid: Some(OTHER), ..for_demo() }, &others).unwrap();
    assert!(matches!(verdict, Verdict::Consumed(_)), "{verdict:?}");
}
