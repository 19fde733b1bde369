use std::path::Path;

use super::*;
use crate::audit::AuditConfig;
use crate::log::{Pace, SegmentConfig};
use crate::service::shares::{Bounds, OwnBounds, Place};

const RECORDED: u64 = 10;

fn ledger(dir: &Path) -> Audit {
    let (segment, pace) = (SegmentConfig::default(), Pace::default());
    let config = AuditConfig { segment, pace, journald: None, now: Moment::now, metrics: None };
    Audit::open(dir, &config).unwrap().0
}

fn records(dir: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(dir.join("00000000000000000001.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn shares() -> Arc<Shares> {
    let bounds = Bounds { connections: 64, connections_per_uid: 8, bytes: 1 << 20, bytes_per_uid: 1 << 20 };
    Shares::new(1, Box::new(move || bounds))
}

fn refusals(audit: &Audit, place: &Place) -> Refusals {
    Refusals::new(audit.clone(), Arc::clone(place.share()))
}

fn entry() -> Entry {
    Entry::new(Event::RequestRefused, Outcome::Refused, Moment::now())
}

fn taking(jti: &str) -> Taking {
    Taking {
        kid: "ed25519/t1/auth/v1".to_owned(),
        tenant: "t1".to_owned(),
        jti: jti.to_owned(),
        sub: "alice".to_owned(),
        template: "demo".to_owned(),
        iat: 1,
        epoch: 0,
        exp: 2,
        limit: Some(1),
        nonce: None,
        jkt: None,
        par: None,
    }
}

/// Of all records of an event, how many they stand for.
fn stands_for(records: &[serde_json::Value], event: &str) -> u64 {
    let of_event = records.iter().filter(|record| record["event"] == event);
    of_event.map(|record| record["count"].as_u64().unwrap_or(1)).sum()
}

#[tokio::test]
async fn nothing_is_lost_between_records_and_summaries() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, shares) = (ledger(dir.path()), shares());
    let places = [1000, 1001].map(|uid| shares.admit(uid, OwnBounds::default()).unwrap());
    let stranger = OwnBounds { stranger: true, ..OwnBounds::default() };
    let strangers = shares.admit(7, stranger).unwrap();
    // Two uids, one of them with verdicts as well; and strangers, with a place and without one.
    let mut elsewhere = 0;
    for _ in 0..500 {
        places.iter().for_each(|place| refusals(&audit, place).put(Kind::Request, entry));
        refusals(&audit, &strangers).put(Kind::Request, entry);
        // Whoever turns a connection away writes the record itself, if it may.
        elsewhere += u64::from(shares.refusal_on_record(4242));
    }
    let (used, refused) = (taking("a"), Verdict::Refused(crate::wire::Code::LimitExceeded));
    let whose = Entry::new(Event::PassportAccepted, Outcome::Ok, Moment::now());
    for _ in 0..300 {
        refusals(&audit, &places[0]).of_taken(&whose, std::iter::once((&used, &refused)));
    }
    summarise_the_end(&shares, &audit).await;
    assert!(shares.take_tallies().is_empty() && shares.are_quiet());
    audit.close();
    let records = records(dir.path());
    let single = |event: &str| stands_for(&records, event);
    assert!(single("request_refused") >= 3 * RECORDED && single("verify_refused") >= RECORDED);
    let summaries: Vec<_> = records.iter().filter(|record| record["event"] == "refusals_suppressed").collect();
    assert_eq!(summaries.len(), 4, "{summaries:?}");
    let suppressed =
        |uid: u64| summaries.iter().find(|record| record["uid"] == uid).unwrap()["count"].as_u64().unwrap();
    let recorded: u64 = ["request_refused", "verify_refused", "refusals_suppressed"].into_iter().map(single).sum();
    assert_eq!(recorded + elsewhere, 3 * 500 + 500 + 300);
    assert!(suppressed(1000) >= 700 && (400..500).contains(&suppressed(1001)), "{summaries:?}");
    let text = summaries.iter().find(|record| record["uid"] == 1000).unwrap()["detail"].as_str().unwrap();
    assert!(text.contains("limit_exceeded 2") && text.contains("request_refused 4"), "{text}");
    let nobody: Vec<_> = summaries.iter().filter(|record| record.get("uid").is_none()).collect();
    assert!(
        nobody.len() == 2
            && nobody.iter().all(|record| record["detail"].as_str().unwrap().starts_with("peers without"))
    );
    let refused = records.iter().find(|record| record["event"] == "verify_refused").unwrap();
    for (member, says) in [("reason", "limit_exceeded"), ("jti", "a"), ("sub", "alice"), ("kid", "ed25519/t1/auth/v1")]
    {
        assert_eq!(refused[member], says);
    }
}

#[tokio::test]
async fn a_batch_is_one_record_of_a_kind_with_how_many_there_were() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, shares) = (ledger(dir.path()), shares());
    let place = shares.admit(1000, OwnBounds::default()).unwrap();
    let all: Vec<_> = ["a", "b", "c", "d"].map(taking).into();
    let unproven = Verdict::Unproven { why: "the proof was accepted before".to_owned() };
    let code = Verdict::Refused;
    let verdicts = [
        code(crate::wire::Code::Replayed),
        unproven,
        code(crate::wire::Code::Replayed),
        code(crate::wire::Code::Expired),
    ];
    let whose = Entry::new(Event::PassportAccepted, Outcome::Ok, Moment::now());
    refusals(&audit, &place).of_taken(&whose, all.iter().zip(&verdicts));
    summarise_the_end(&shares, &audit).await;
    audit.close();
    let mut said: Vec<_> = records(dir.path())
        .iter()
        .map(|r| (r["reason"].as_str().unwrap().to_owned(), r["jti"].as_str().unwrap().to_owned(), r["count"].as_u64()))
        .collect();
    said.sort();
    let expected = [("pop_invalid", "b", None), ("replayed", "a", Some(2))];
    assert_eq!(said, expected.map(|(reason, jti, count)| (reason.to_owned(), jti.to_owned(), count)));
}

/// The ledger is closed, as on a disk that takes nothing: what was refused is known all the same, and said later.
#[tokio::test]
async fn what_the_ledger_does_not_take_is_counted_on() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, shares) = (ledger(dir.path()), shares());
    let place = shares.admit(1000, OwnBounds::default()).unwrap();
    audit.close();
    for _ in 0..50 {
        refusals(&audit, &place).put(Kind::Request, entry);
    }
    summarise_the_end(&shares, &audit).await;
    assert!(write_summaries(&shares, &audit).await.is_err());
    let [(uid, counted, _)] = shares.take_tallies().try_into().unwrap();
    assert_eq!((uid, counted.all()), (Some(1000), 50));
}
