//! Every way to approve what nobody approved.

use super::super::plan::{Plan, Planner, Step};
use super::*;

const NOW: i64 = 1_000_000;
const ISSUER: &str = "https://issuer.test";

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(seed: u8) -> String {
    hex::encode(key(seed).verifying_key().as_bytes())
}

fn person(name: &str, seed: Option<u8>, uid: Option<u32>) -> Approver {
    Approver { name: name.to_owned(), public: seed.map(public), uid }
}

/// Two of Ann, Bob and Cy; Cy by uid 7 alone, Bob by key or uid 8.
fn rule(threshold: u32) -> Rule {
    let all = vec![person("Ann", Some(1), None), person("Bob", Some(2), Some(8)), person("Cy", None, Some(7))];
    Rule::new(threshold, all).unwrap()
}

fn plan(rule: &Rule, purpose: &str, planner: u32) -> Opened {
    let steps = vec![Step::Rotate { tenant: "t1".to_owned(), purpose: purpose.to_owned() }];
    let planner = Planner { uid: planner, name: "Ann".to_owned(), host: "h".to_owned() };
    let plan = Plan::new(&[7; 16], ISSUER.to_owned(), planner, Some(rule.hash().unwrap()), steps);
    plan.made(NOW, 3_600).close().unwrap()
}

fn said(plan: &Opened, rule: &Rule, approvals: &[Approval], uid: u32, now: i64) -> Result<Vec<String>, Refusal> {
    let counted = admit(plan, Some(ISSUER), Some(rule), approvals, uid, now)?;
    Ok(counted.into_iter().map(|one| one.name).collect())
}

#[test]
fn enough_of_them_are_enough() {
    let (rule, nobody) = (rule(2), 0);
    let plan = plan(&rule, "auth", 0);
    let [ann, bob] = [1, 2].map(|seed| Approval::sign(&plan, &key(seed), NOW + 5));
    let text = serde_json::to_string(&ann).unwrap();
    assert_eq!(Approval::parse(&text).unwrap(), ann);
    assert_eq!(said(&plan, &rule, &[ann.clone(), bob.clone()], nobody, NOW + 10).unwrap(), ["Ann", "Bob"]);
    assert_eq!(said(&plan, &rule, std::slice::from_ref(&ann), 7, NOW + 10).unwrap(), ["Ann", "Cy"]);
    let by_uid = admit(&plan, None, Some(&rule), &[ann], 7, NOW + 10).unwrap();
    assert_eq!((by_uid[1].by_uid_alone, by_uid[1].approval.is_none()), (Some(7), true));
    // By key and by uid is still one.
    assert!(matches!(said(&plan, &rule, &[bob], 8, NOW + 10), Err(Refusal::Few { given: 1, wanted: 2, .. })));
}

#[test]
fn who_planned_it_adds_nothing() {
    let rule = rule(2);
    // Ann planned it, as uid 7 even, and says so: her approval is one, and her being the planner none.
    let plan = plan(&rule, "auth", 7);
    let ann = Approval::sign(&plan, &key(1), NOW);
    assert!(matches!(said(&plan, &rule, &[ann], 0, NOW), Err(Refusal::Few { given: 1, .. })));
    assert!(matches!(said(&plan, &rule, &[], 0, NOW), Err(Refusal::Few { given: 0, .. })));
}

#[test]
fn what_is_not_approved_is_refused() {
    let rule = rule(2);
    let plan = plan(&rule, "auth", 0);
    let other = self::plan(&rule, "other", 0);
    let [ann, bob, stranger] = [1, 2, 3].map(|seed| Approval::sign(&plan, &key(seed), NOW));
    let moved = Approval::sign(&other, &key(2), NOW);
    let claimed = Approval { plan: ann.plan.clone(), ..moved.clone() };
    let in_her_name = Approval { key: public(1), ..stranger.clone() };
    let longer = Approval { expires: ann.expires + 1, ..ann.clone() };
    let soon = Approval { expires: NOW + 5, ..Approval::sign(&plan, &key(2), NOW) };
    let early = Approval::sign(&plan, &key(2), NOW + SKEW_S + 20);
    for (approvals, refused) in [
        (vec![ann.clone(), ann.clone()], Refusal::Twice("Ann".to_owned())),
        (vec![ann.clone(), stranger], Refusal::Unknown(public(3).chars().take(16).collect())),
        (vec![ann.clone(), moved], Refusal::OtherPlan("Bob".to_owned())),
        (vec![ann.clone(), claimed], Refusal::Forged("Bob".to_owned())),
        (vec![in_her_name, bob.clone()], Refusal::Forged("Ann".to_owned())),
        (vec![longer, bob.clone()], Refusal::Forged("Ann".to_owned())),
        (vec![ann.clone(), soon], Refusal::Stale("Bob".to_owned())),
        (vec![ann.clone(), early], Refusal::Stale("Bob".to_owned())),
        (vec![bob.clone(); MAX_APPROVERS + 1], Refusal::Many),
    ] {
        assert_eq!(said(&plan, &rule, &approvals, 0, NOW + 10), Err(refused));
    }
    let both = [ann, bob];
    let at = |now| said(&plan, &rule, &both, 0, now);
    assert_eq!(at(NOW + 3_601), Err(Refusal::Expired));
    assert!(at(NOW + 3_600).is_ok());
    assert_eq!(at(NOW - SKEW_S - 1), Err(Refusal::Early));
    assert!(matches!(admit(&plan, Some("https://other.test"), Some(&rule), &both, 0, NOW), Err(Refusal::Issuer(_))));
}

/// Whoever writes plans can't choose how many have to approve them.
#[test]
fn a_rule_that_is_not_the_signers_own_is_refused() {
    let (own, lowered) = (rule(2), rule(1));
    let plan = plan(&lowered, "auth", 0);
    let ann = [Approval::sign(&plan, &key(1), NOW)];
    assert!(said(&plan, &lowered, &ann, 0, NOW).is_ok());
    assert_eq!(said(&plan, &own, &ann, 0, NOW), Err(Refusal::Rule));
    // None at all: neither a plan that names no rule, nor one that names a rule where there is none.
    let mut bare = plan.plan.clone();
    bare.rule = None;
    let bare = bare.close().unwrap();
    assert_eq!(said(&bare, &own, &[], 0, NOW), Err(Refusal::Rule));
    assert_eq!(admit(&plan, None, None, &ann, 0, NOW), Err(Refusal::Rule));
    assert_eq!(admit(&bare, None, None, &[], 0, NOW), Ok(vec![]));
    assert!(matches!(admit(&bare, None, None, &ann, 0, NOW), Err(Refusal::Unknown(_))));
}

#[test]
fn a_rule_can_be_kept_and_by_nobody_twice() {
    let ok = rule(3);
    assert_eq!(Rule::parse(&ok.text().unwrap()).unwrap(), ok);
    assert_ne!(ok.hash().unwrap(), rule(2).hash().unwrap());
    assert!(ok.to_string().contains("Cy (by uid 7 alone)"), "{ok}");
    let ann = || person("Ann", Some(1), None);
    let weak = Approver { public: Some(format!("01{}", "00".repeat(31))), ..ann() };
    let upper = Approver { public: Some(public(1).to_uppercase()), ..ann() };
    for (threshold, approvers) in [
        (0, vec![ann()]),
        (2, vec![ann()]),
        (1, vec![ann(), ann()]),
        (1, vec![ann(), person("Ann", Some(2), None)]),
        (1, vec![ann(), person("Bob", Some(1), None)]),
        (1, vec![person("Bob", None, Some(1)), person("Cy", None, Some(1))]),
        (1, vec![person("Bob", None, None)]),
        (1, vec![person("", Some(1), None)]),
        (1, vec![person(&"n".repeat(MAX_NAME + 1), Some(1), None)]),
        (1, vec![weak]),
        (1, vec![upper]),
    ] {
        assert!(Rule::new(threshold, approvers.clone()).is_err(), "{threshold} of {approvers:?}");
    }
    let crowd = |count: u8| (0..count).map(|n| person(&format!("p{n}"), Some(n + 1), None)).collect();
    assert!(Rule::new(1, crowd(32)).is_ok() && Rule::new(1, crowd(33)).is_err());
    assert!(Rule::parse(&ok.text().unwrap().replace("\"v\":1", "\"v\":1,\"x\":1")).is_err());
}

#[test]
fn what_is_no_approval_is_not_read() {
    let rule = rule(1);
    let good = serde_json::to_string(&Approval::sign(&plan(&rule, "auth", 0), &key(1), NOW)).unwrap();
    for bad in ["", "{}", &good.replace("\"v\":1", "\"v\":2"), &good.replace("\"v\":1", "\"v\":1,\"x\":1")] {
        assert!(matches!(Approval::parse(bad), Err(Refusal::Form(_))), "{bad}");
    }
    let padded = |length: usize| format!("{good}{}", " ".repeat(length - good.len()));
    assert!(Approval::parse(&padded(MAX_APPROVAL)).is_ok() && Approval::parse(&padded(MAX_APPROVAL + 1)).is_err());
}
