//! What no log says, at any level, of any role.

use std::time::Duration;

use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};
use passportd::wire::ceremony::PlanKind;
use passportd::wire::{IssueSpec, Passport, Plain, ServiceOk, ServiceOp, Want};

use super::journal::Journal;
use super::support::passports::{demo, for_demo, on_wire};
use super::support::softhsm::PIN;
use super::support::{House, Options, eventually, ledger};
use super::with_env;

const SUBJECT: &str = "canary-subject-58213";
const CONTEXT: &str = "canary-context-93117";
const NONCE: &str = "canary-nonce-40622";
const SECRET: &str = "canary-secret-77031";

/// Uses all that carries something to sign, well and badly. What must not be seen.
fn scenario(house: &mut House) -> Vec<String> {
    let mut raw = house.raw();
    let context = format!("{{\"x\":\"{CONTEXT}\"}}");
    let spec = IssueSpec { ctx: Some(&context), ..demo(SUBJECT) };
    let passport = raw.issue(spec.clone()).unwrap();
    raw.ask(ServiceOp::IssueBatch(vec![spec.clone(), IssueSpec { template: NONCE, ..spec.clone() }])).unwrap();
    raw.issue(IssueSpec { template: "none", ..spec.clone() }).unwrap_err();
    raw.issue(IssueSpec { ctx: Some(CONTEXT), ..spec.clone() }).unwrap_err();
    raw.verify(for_demo(), &passport).unwrap();
    raw.verify(Want { aud: Some(NONCE), ..Want::default() }, &passport).unwrap_err();
    let mut broken = passport.clone();
    broken.sig[7] ^= 1;
    raw.verify_batch(for_demo(), &[passport.clone(), broken.clone()]).unwrap();
    raw.ask(ServiceOp::Introspect { want: for_demo(), passport: on_wire(&broken) }).unwrap();
    let stranger = Passport::Envelope { alg: NONCE, kid: NONCE, msg: &passport.msg, sig: &passport.sig };
    raw.ask(ServiceOp::Verify { want: for_demo(), passport: stranger }).unwrap();
    // A secret, sealed and opened; one that does not open, and one where policy lets nobody.
    let place = |namespace| ServiceOp::Seal { namespace, name: "x", plain: Plain(SECRET.as_bytes()) };
    let Ok(ServiceOk::Sealed { blob }) = raw.ask(place("t1/logs")) else { panic!("not sealed") };
    let opened = raw.ask(ServiceOp::Unseal { namespace: "t1/logs", name: "x", blob: &blob });
    assert!(matches!(opened, Ok(ServiceOk::Unsealed { .. })), "{opened:?}");
    let refusals = [
        raw.ask(ServiceOp::Unseal { namespace: "t1/logs", name: "y", blob: &blob }),
        raw.ask(ServiceOp::Unseal { namespace: "t1/logs", name: "x", blob: SECRET.as_bytes() }),
        raw.ask(place("t2/logs")),
    ];
    assert_absent(&format!("{:?}", refusals.map(Result::unwrap_err)), &[SECRET.to_owned()]);
    // Bytes that are no request, with all of it in them.
    let junk = [&[1, 200][..], &passport.msg, &passport.sig, PIN.as_bytes(), SECRET.as_bytes()].concat();
    raw.send(&super::support::raw::frame(&junk)).unwrap();
    raw.reply();
    // Who typed the PIN is not told it.
    let report = house.ceremony(PlanKind::List, "t1", "auth");
    assert_absent(&format!("{report:?}"), &spellings(PIN.as_bytes()));
    house.kill("signer");
    eventually("a new signer is in use", Duration::from_secs(20), || {
        (house.metric("passport_signer_restarts_total") > 0.0).then_some(())
    });
    let mut never: Vec<_> = [SUBJECT, CONTEXT, NONCE, PIN, SECRET].map(str::to_owned).into();
    for bytes in [&passport.sig[..], &broken.sig, &passport.msg, SECRET.as_bytes(), PIN.as_bytes()] {
        never.extend(spellings(bytes));
    }
    // In part is bad enough.
    never.into_iter().map(|text| text.chars().take(40).collect()).collect()
}

/// As text, where it is, and as a log or a debugger might write bytes.
fn spellings(bytes: &[u8]) -> Vec<String> {
    let mut all = vec![Base64::encode_string(bytes), Base64UrlUnpadded::encode_string(bytes)];
    all.push(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
    all.push(bytes.escape_ascii().to_string());
    all.push(format!("{bytes:?}").trim_matches(['[', ']']).to_owned());
    all
}

fn assert_absent(text: &str, never: &[String]) {
    let text = text.to_lowercase();
    for secret in never {
        assert!(!text.contains(&secret.to_lowercase()), "{secret}");
    }
}

#[test]
fn no_log_holds_what_was_signed_or_a_secret() {
    let mut house = House::start(with_env(Options::default(), &[("PASSPORTD_LOG", "trace")]));
    let never = scenario(&mut house);
    house.stop();
    let log = house.log();
    for said in
        ["front: verified op=\"verify_batch\"", "signer: serving", "ceremony: a ceremony begins", "op=\"unreadable\""]
    {
        assert!(log.contains(said), "{said} in\n{log}");
    }
    assert_absent(&log, &never);
    // The ledger says whom a passport was for, and which template was asked for. Nothing else of it.
    let records: String = ledger::records(&house.ledger()).iter().map(ToString::to_string).collect();
    for event in
        ["passport_issued", "issue_refused", "verify_refused", "sealed", "unsealed", "unseal_refused", "seal_refused"]
    {
        assert!(records.contains(&format!("\"event\":\"{event}\"")), "{event}");
    }
    let never: Vec<_> = never.into_iter().filter(|one| one != SUBJECT && one != NONCE).collect();
    assert_absent(&records, &never);
}

#[test]
fn nor_does_journald_get_it() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, path) = Journal::listen(dir.path());
    let env = [("PASSPORTD_LOG_TO", path.to_str().unwrap()), ("PASSPORTD_LOG", "trace")];
    let mut house = House::start(with_env(Options::default(), &env));
    let never = scenario(&mut house);
    house.stop();
    journal.find("the end", |entry| entry["PASSPORT_EVENT"] == "connections_drained");
    let entries = journal.entries();
    let said = |event: &str| entries.iter().any(|entry| entry["PASSPORT_EVENT"] == event);
    assert!(["verified", "issued", "answer_refused", "ready", "hsm_down"].into_iter().all(said));
    assert_absent(&format!("{entries:?}"), &never);
}
