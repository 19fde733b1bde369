//! Plans that have to be approved, against a real HSM: what is carried out, what is refused, and what a kill leaves.

use super::*;
use ed25519_dalek::SigningKey;
use passportd::passport::hex;
use passportd::statement::Signed;
use passportd::statement::approval::{Approval, Approver, Rule};
use passportd::statement::plan::{LostKey, Opened, Plan, Planner, Step};
use passportd::statement::transcript::{Daemon, DaemonStep, Transcript, examine};
use serde_json::Value;

pub(crate) fn approver(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn person(name: &str, seed: u8) -> Approver {
    Approver { name: name.to_owned(), public: Some(hex::encode(approver(seed).verifying_key().as_bytes())), uid: None }
}

pub(crate) fn two_of_three() -> Rule {
    Rule::new(2, vec![person("Ann", 1), person("Bob", 2), person("Cy", 3)]).unwrap()
}

pub(crate) fn planned(rule: Option<&Rule>, steps: Vec<Step>) -> Opened {
    let planner = Planner { uid: uid(), name: "planner".to_owned(), host: "h".to_owned() };
    let hash = rule.map(|rule| rule.hash().unwrap());
    let id = *uuid::Uuid::now_v7().as_bytes();
    Plan::new(&id, ISSUER.to_owned(), planner, hash, steps).made(Moment::now().unix(), 3_600).close().unwrap()
}

pub(crate) fn rotate(purpose: &str) -> Step {
    Step::Rotate { tenant: "t1".to_owned(), purpose: purpose.to_owned() }
}

fn approvals(plan: &Opened, seeds: &[u8]) -> Vec<String> {
    let now = Moment::now().unix();
    seeds.iter().map(|seed| serde_json::to_string(&Approval::sign(plan, &approver(*seed), now)).unwrap()).collect()
}

pub(crate) fn request(plan: &Opened, kind: PlanKind, seeds: &[u8]) -> Request {
    let approvals = if kind == PlanKind::Run { approvals(plan, seeds) } else { Vec::new() };
    Request { plan: kind, document: Some(plan.text.clone()), approvals, ..Request::default() }
}

pub(crate) fn ask(hsm: &Token, request: &Request) -> Response {
    let process = start(hsm, "ceremony", &[]).ready();
    call(UnixStream::connect(&process.socket).unwrap(), request, PIN.as_bytes()).unwrap()
}

pub(crate) fn carried_out(hsm: &Token, plan: &Opened, seeds: &[u8]) -> Report {
    match ask(hsm, &request(plan, PlanKind::Run, seeds)) {
        Response::Done(report) => report,
        Response::Failed { code, message } => panic!("{code}: {message}"),
    }
}

fn sealed(hsm: &Token, plan: &Opened) -> (String, Signed) {
    let Response::Done(report) = ask(hsm, &request(plan, PlanKind::Seal, &[])) else { panic!("not sealed") };
    let transcript = report.transcript.unwrap();
    (transcript.document, transcript.signed)
}

/// Fixes who approves, as the first ceremony of all may.
pub(crate) fn with_rule(hsm: &Token, rule: &Rule) {
    carried_out(hsm, &planned(None, vec![Step::Approvers { rule: rule.clone() }]), &[]);
}

pub(crate) fn kids(hsm: &Token) -> Vec<String> {
    let report = done(hsm, PlanKind::List, "auth");
    assert!(report.orphans.is_empty() && report.keys.iter().all(|key| key.problem.is_empty()), "{report:?}");
    report.keys.into_iter().map(|key| key.kid).collect()
}

pub(crate) fn file(hsm: &Token, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(hsm.state_dir().join(name)).unwrap()).unwrap()
}

pub(crate) fn edit(hsm: &Token, name: &str, change: impl FnOnce(&mut Value)) {
    let mut value = file(hsm, name);
    change(&mut value);
    std::fs::write(hsm.state_dir().join(name), value.to_string()).unwrap();
}

#[test]
fn an_approved_plan_is_carried_out_and_its_transcript_believed() {
    let Some(hsm) = initialised() else { return };
    let rule = two_of_three();
    with_rule(&hsm, &rule);
    let plan = planned(Some(&rule), vec![rotate("auth"), rotate("seal"), rotate("audit")]);
    let (code, message) = failed(ask(&hsm, &request(&plan, PlanKind::Seal, &[])));
    assert!(code == "request" && message.contains("not carried out"), "{message}");
    let report = carried_out(&hsm, &plan, &[1, 3]);
    let made: Vec<&str> = report.steps.iter().flat_map(|step| &step.keys).map(|key| key.kid.as_str()).collect();
    assert_eq!(made, [V2, "hmac-sha256/t1/seal/v2", "ed25519/t1/audit/v2"]);
    assert!(report.backup.is_some(), "a copy was made first");

    let step = DaemonStep { op: "stage".to_owned(), kid: V2.to_owned(), audit_seq: Some(7) };
    let daemon = Daemon { audit_before: Some(6), audit_after: Some(7), did: vec![step] };
    let asked = Request { daemon: Some(daemon.clone()), ..request(&plan, PlanKind::Seal, &[]) };
    let Response::Done(report) = ask(&hsm, &asked) else { panic!() };
    let first = report.transcript.unwrap();
    let (read, findings) = examine(&first.document, &first.signed, None);
    assert!(findings.iter().all(|one| one.ok), "{findings:?}");
    let read: Transcript = read.unwrap();
    assert_eq!((first.signed.kid.as_str(), read.signer.kid.as_str()), (AUDIT, AUDIT), "the key from before signs");
    assert_eq!((read.operator_uid, read.daemon.clone()), (uid(), Some(daemon)));
    assert!(!read.device.serial.is_empty() && !read.device.module.is_empty() && !read.device.firmware.is_empty());
    let names: Vec<&str> = read.approvals.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["Ann", "Cy"]);
    assert!(read.steps[0].keys[0].challenge.is_some() && read.steps[1].keys[0].challenge.is_none());
    assert_eq!(read.steps[0].keys[0].attributes.sensitive, Some(true));

    // It is signed once; what it says does not change by asking again.
    let (again, _) = sealed(&hsm, &plan);
    assert_eq!(again, first.document);
    let (code, message) = failed(ask(&hsm, &request(&plan, PlanKind::Run, &[1, 3])));
    assert!(code == "spent" && message.contains("make a new one"), "{message}");
    assert_eq!(kids(&hsm).len(), 6);
}

#[test]
fn a_transcript_takes_so_much_of_the_daemon_and_no_more() {
    let Some(hsm) = initialised() else { return };
    let plan = planned(None, vec![rotate("auth")]);
    carried_out(&hsm, &plan, &[]);
    let step = DaemonStep { op: "stage".to_owned(), kid: V2.to_owned(), audit_seq: Some(7) };
    let seal = |count: usize| {
        let daemon = Daemon { did: vec![step.clone(); count], ..Daemon::default() };
        ask(&hsm, &Request { daemon: Some(daemon), ..request(&plan, PlanKind::Seal, &[]) })
    };
    let (code, message) = failed(seal(513));
    assert!(code == "request" && message.contains("512"), "{message}");
    assert!(matches!(seal(512), Response::Done(_)));
}

/// The front plays no part in this, and neither does what the tool believes: all of it is refused here.
#[test]
fn what_is_not_approved_changes_nothing() {
    let Some(hsm) = initialised() else { return };
    let rule = two_of_three();
    with_rule(&hsm, &rule);
    let before = signer::snapshot(&hsm.state_dir());
    let objects = kids(&hsm);
    let plan = planned(Some(&rule), vec![rotate("auth")]);
    let other = planned(Some(&rule), vec![rotate("other")]);
    let lowered = Rule::new(1, two_of_three().approvers).unwrap();
    let cheap = planned(Some(&lowered), vec![rotate("auth")]);
    let bare = planned(None, vec![rotate("auth")]);
    let own = Step::Approvers { rule: Rule::new(1, vec![person("Eve", 9)]).unwrap() };
    let coup = planned(Some(&rule), vec![own]);
    let with = |plan: &Opened, approvals| Request { approvals, ..request(plan, PlanKind::Run, &[]) };
    let mut twice = approvals(&plan, &[1]);
    twice.extend(approvals(&plan, &[1]));
    let foreign = Plan::open(&plan.text.replace(ISSUER, "https://other.test")).unwrap();
    let mut late = plan.plan.clone();
    (late.created, late.expires) = (late.created - 7_200, late.created - 3_600);
    let late = late.close().unwrap();
    for (asked, why) in [
        (request(&plan, PlanKind::Run, &[]), "0 of 2 approvals"),
        (request(&plan, PlanKind::Run, &[1]), "1 of 2 approvals"),
        (with(&plan, twice), "Ann has approved twice"),
        (request(&plan, PlanKind::Run, &[1, 9]), "no approver's"),
        (with(&plan, [approvals(&plan, &[1]), approvals(&other, &[2])].concat()), "is for another plan"),
        (request(&late, PlanKind::Run, &[1, 2]), "has expired"),
        (request(&foreign, PlanKind::Run, &[1, 2]), "for the instance https://other.test"),
        (request(&cheap, PlanKind::Run, &[1]), "another rule than the signer has"),
        (request(&bare, PlanKind::Run, &[]), "another rule than the signer has"),
        (request(&coup, PlanKind::Run, &[1]), "1 of 2 approvals"),
        (request(&coup, PlanKind::Run, &[1, 9]), "no approver's"),
    ] {
        let (code, message) = failed(ask(&hsm, &asked));
        assert!(
            code == "approval" && message.contains(why) && message.contains("nothing was done"),
            "{why}: {message}"
        );
    }
    let spoilt = Request { document: Some(format!("{} x", plan.text)), ..request(&plan, PlanKind::Run, &[1, 2]) };
    assert_eq!(failed(ask(&hsm, &spoilt)).0, "request");
    // Nor does one admin do it alone any more.
    for (kind, word) in
        [(PlanKind::Init, "plan init"), (PlanKind::Generate, "plan rotate"), (PlanKind::RetireSeal, "retire-seal")]
    {
        let (code, message) = failed(hold(&hsm, &[], kind, "auth", Some(PIN)));
        assert!(code == "approval" && message.contains(word), "{message}");
    }
    assert_eq!(kids(&hsm), objects);
    assert!(signer::snapshot(&hsm.state_dir()) == before, "no file was touched");
}

#[test]
fn the_rule_changes_under_the_old_one_and_the_new_one_holds_then() {
    let Some(hsm) = initialised() else { return };
    let (old, new) = (two_of_three(), Rule::new(1, vec![person("Dee", 4)]).unwrap());
    with_rule(&hsm, &old);
    let waits = planned(Some(&old), vec![rotate("auth")]);
    let change = planned(Some(&old), vec![Step::Approvers { rule: new.clone() }]);
    assert_eq!(failed(ask(&hsm, &request(&change, PlanKind::Run, &[4]))).0, "approval");
    carried_out(&hsm, &change, &[2, 3]);
    // As if the tool had been killed before the transcript: it is the rule's own change that goes on.
    assert_eq!(carried_out(&hsm, &change, &[]).steps.len(), 1);
    let (document, signed) = sealed(&hsm, &change);
    assert!(examine(&document, &signed, None).1.iter().all(|one| one.ok));
    let (_, message) = failed(ask(&hsm, &request(&waits, PlanKind::Run, &[1, 2])));
    assert!(message.contains("another rule"), "what was planned under the old rule is not carried out: {message}");
    carried_out(&hsm, &planned(Some(&new), vec![rotate("auth")]), &[4]);
    assert!(kids(&hsm).contains(&V2.to_owned()));
}

#[test]
fn a_key_that_still_verifies_or_is_the_last_is_not_destroyed() {
    let Some(hsm) = initialised() else { return };
    let now = Moment::now().unix();
    let destroy = |kid: &str, verifies_until: i64, purge_backups: bool| {
        planned(None, vec![Step::Destroy { kid: kid.to_owned(), verifies_until, purge_backups }])
    };
    let refused = |plan: &Opened, why: &str| {
        let (code, message) = failed(ask(&hsm, &request(plan, PlanKind::Run, &[])));
        assert!(code == "unfit" && message.starts_with("step 1: ") && message.contains(why), "{why}: {message}");
    };
    refused(&destroy(V1, now - 10, false), "the newest of its kind");
    carried_out(&hsm, &planned(None, vec![rotate("auth"), rotate("seal")]), &[]);
    refused(&destroy(V1, now + 600, false), "something may verify with it until");
    // The plan says that it is over. The signer's own bounds say that a passport of an hour can be of the last second.
    refused(&destroy(V1, now - 10, false), "by the signer's own bounds");
    refused(&destroy(SEAL, now - 10, false), "it is not retired");
    refused(&destroy("ed25519/t1/auth/v9", now - 10, false), "there is no key");
    let pins = |field: &str, kid: &str| {
        let pins = file(&hsm, "keys.json");
        pins["keys"].as_array().unwrap().iter().find(|key| key["kid"] == *kid).unwrap()[field].clone()
    };
    // An hour later.
    edit(&hsm, "keys.json", |pins| {
        for key in pins["keys"].as_array_mut().unwrap() {
            key["created"] = (key["created"].as_i64().unwrap() - 3_700).into();
        }
    });
    let plan = destroy(V1, now - 10, true);
    let report = carried_out(&hsm, &plan, &[]);
    assert!(report.steps[0].notes.iter().any(|note| note.contains("copies of the store")), "{report:?}");
    let gone = report.keys.iter().find(|key| key.kid == V1).unwrap();
    assert_eq!((gone.usable, gone.problem.as_str()), (false, "it was destroyed"));
    assert!(pins("destroyed", V1).is_i64());
    let copies: Vec<_> = std::fs::read_dir(hsm.state_dir().join("backups")).unwrap().collect();
    assert_eq!(copies.len(), 1, "those with the key are gone, and one is without it");
    assert!(report.orphans.is_empty(), "its public half went with it: {report:?}");
    // Begun again after a kill, it is the same; and its version is not given again.
    edit(&hsm, "ceremony-run.json", |journal| {
        let run = journal["runs"].as_array_mut().unwrap().last_mut().unwrap();
        run["finished"] = Value::Null;
        run["steps"][0]["done"] = Value::Null;
    });
    carried_out(&hsm, &plan, &[]);
    let next = carried_out(&hsm, &planned(None, vec![rotate("auth")]), &[]);
    assert_eq!(next.steps[0].keys[0].kid, "ed25519/t1/auth/v3");
}

#[test]
fn a_compromised_key_signs_nothing_any_more() {
    let Some(hsm) = initialised() else { return };
    let process = signer(&hsm);
    let (mut link, _) = Link::open(&process);
    let message = payload(V1, |_| ());
    signature(link.sign(&message));
    let plan = planned(None, vec![rotate("auth"), Step::Compromise { kid: V1.to_owned() }]);
    let report = carried_out(&hsm, &plan, &[]);
    let old = report.keys.iter().find(|key| key.kid == V1).unwrap();
    assert_eq!((old.usable, old.problem.as_str()), (false, "it is compromised"));
    // The signer looks at its list each second, without being asked.
    let end = Instant::now() + Duration::from_secs(20);
    while matches!(link.sign(&message), LinkResult::Signed { .. }) {
        assert!(Instant::now() < end, "it still signs");
        std::thread::sleep(Duration::from_millis(100));
    }
    let (document, signed) = sealed(&hsm, &plan);
    assert!(examine(&document, &signed, None).1.iter().all(|one| one.ok));
    // It may be destroyed at once: nothing verifies with it.
    let now = Moment::now().unix();
    let destroy = Step::Destroy { kid: V1.to_owned(), verifies_until: now - 1, purge_backups: false };
    let report = carried_out(&hsm, &planned(None, vec![destroy]), &[]);
    assert!(report.steps[0].notes.iter().any(|note| note.contains("still hold it")), "{report:?}");
}

/// Another HSM, and of the old one nothing but a transcript.
#[test]
fn after_the_loss_of_an_hsm_no_version_is_given_again() {
    let Some(hsm) = Token::new(Hsm::chosen()) else { return };
    let public = hex::encode(approver(8).verifying_key().as_bytes());
    let lost = |kid: &str, public: Option<&String>| LostKey { kid: kid.to_owned(), public: public.cloned() };
    let keys = vec![lost(V2, Some(&public)), lost(AUDIT, Some(&public)), lost(SEAL, None)];
    let init = Step::Init { tenant: "t1".to_owned(), purpose: "auth".to_owned() };
    let report = carried_out(
        &hsm,
        &planned(None, vec![Step::Restore { keys }, rotate("auth"), rotate("audit"), rotate("seal"), init]),
        &[],
    );
    let made: Vec<&str> = report.steps.iter().flat_map(|step| &step.keys).map(|key| key.kid.as_str()).collect();
    assert_eq!(made, ["ed25519/t1/auth/v3", "ed25519/t1/audit/v2", "hmac-sha256/t1/seal/v2"]);
    let old = report.keys.iter().find(|key| key.kid == V2).unwrap();
    assert!(!old.usable && old.problem.contains("its HSM is lost") && old.public.as_ref() == Some(&public), "{old:?}");
    let wrong = vec![lost(V2, Some(&hex::encode(approver(7).verifying_key().as_bytes())))];
    let (_, message) =
        failed(ask(&hsm, &request(&planned(None, vec![Step::Restore { keys: wrong }]), PlanKind::Run, &[])));
    assert!(message.contains("another key has its name"), "{message}");
}

/// Approvers may be named before there is any key.
#[test]
fn the_first_rule_is_signed_for_once_there_is_an_audit_key() {
    let Some(hsm) = Token::new(Hsm::chosen()) else { return };
    let rule = two_of_three();
    let first = planned(None, vec![Step::Approvers { rule: rule.clone() }]);
    carried_out(&hsm, &first, &[]);
    let (code, message) = failed(ask(&hsm, &request(&first, PlanKind::Seal, &[])));
    assert!(code == "request" && message.contains("no audit key"), "{message}");
    let init = Step::Init { tenant: "t1".to_owned(), purpose: "auth".to_owned() };
    let init = planned(Some(&rule), vec![init]);
    assert_eq!(failed(ask(&hsm, &request(&init, PlanKind::Run, &[]))).0, "approval");
    let report = carried_out(&hsm, &init, &[1, 2]);
    assert_eq!(report.steps[0].keys.len(), 3);
    for plan in [&first, &init] {
        let (document, signed) = sealed(&hsm, plan);
        assert!(examine(&document, &signed, None).1.iter().all(|one| one.ok) && signed.kid == AUDIT);
    }
}

#[test]
fn who_plans_is_told_the_rule_and_the_keys_without_a_pin() {
    let Some(hsm) = initialised() else { return };
    let rule = two_of_three();
    with_rule(&hsm, &rule);
    let process = start(&hsm, "ceremony", &[]).ready();
    let asked = Request { plan: PlanKind::Standing, ..Request::default() };
    let Response::Done(report) = call(UnixStream::connect(&process.socket).unwrap(), &asked, b"").unwrap() else {
        panic!()
    };
    let standing = report.standing.unwrap();
    assert_eq!((standing.issuer.as_str(), standing.rule, standing.keys.len()), (ISSUER, Some(rule), 3));
    assert_eq!(standing.under_way.len(), 1, "the rule's own plan has no transcript yet");
}

/// The one who holds the ceremony, where the rule takes that for an approval, and calls it that.
#[test]
fn approval_by_uid_alone_is_named_in_the_transcript() {
    let Some(hsm) = initialised() else { return };
    let me = Approver { name: "Operator".to_owned(), public: None, uid: Some(uid()) };
    let rule = Rule::new(2, vec![person("Ann", 1), me]).unwrap();
    with_rule(&hsm, &rule);
    let plan = planned(Some(&rule), vec![rotate("auth")]);
    assert_eq!(failed(ask(&hsm, &request(&plan, PlanKind::Run, &[]))).0, "approval", "one of two");
    carried_out(&hsm, &plan, &[1]);
    let (document, signed) = sealed(&hsm, &plan);
    let (read, findings) = examine(&document, &signed, None);
    assert!(findings.iter().all(|one| one.ok), "{findings:?}");
    assert_eq!(read.unwrap().approvals[1].by_uid_alone, Some(uid()));
}
