use super::*;

fn line(seq: u64, time: &str, event: &str, outcome: &str, more: &str) -> String {
    let hash = "0".repeat(64);
    format!(
        r#"{{"event":"{event}","hash":"{hash}","outcome":"{outcome}","prev":"{hash}","seq":{seq},"time":"{time}"{more}}}"#
    )
}

fn add(tally: &mut Tally, line: &str) {
    tally.add(&Record::look(line.as_bytes()).unwrap());
}

#[test]
fn a_period_is_counted_and_nothing_beside_it() {
    let mut tally = Tally::of(Filter {
        since: Some("2026-11-24T08:00:00.000000Z".to_owned()),
        until: Some("2026-11-25T00:00:00.000000Z".to_owned()),
        ..Filter::default()
    });
    for (seq, time, event, outcome, more) in [
        (1, "2026-11-24T07:59:59.999999Z", "key_staged", "ok", r#","kid":"early""#),
        (2, "2026-11-24T08:00:00.000000Z", "passport_issued", "ok", ""),
        (3, "2026-11-24T08:30:00.000000Z", "issue_refused", "refused", r#","reason":"scope_denied","uid":7"#),
        (4, "2026-11-24T08:30:01.000000Z", "issue_refused", "refused", r#","reason":"scope_denied","uid":7"#),
        (5, "2026-11-24T09:00:00.000000Z", "passport_issued", "failed", r#","reason":"hsm_timeout","uid":8"#),
        (6, "2026-11-24T09:00:01.000000Z", "refusals_suppressed", "refused", r#","count":40"#),
        (7, "2026-11-24T10:00:00.000000Z", "key_activated", "ok", r#","kid":"k""#),
        (8, "2026-11-24T11:00:00.000000Z", "ledger_break", "failed", r#","detail":"torn""#),
        (9, "2026-11-24T11:00:01.000000Z", "daemon_started", "ok", ""),
        (10, "2026-11-25T00:00:00.000000Z", "passport_issued", "ok", ""),
    ] {
        add(&mut tally, &line(seq, time, event, outcome, more));
    }
    assert_eq!((tally.records, tally.first.as_ref().unwrap().0, tally.last.as_ref().unwrap().0), (8, 2, 9));
    assert_eq!(tally.events["passport_issued"], Outcomes { ok: 1, refused: 0, failed: 1 });
    assert_eq!(tally.events["issue_refused"].all(), 2);
    let bars: Vec<_> = tally.times.bars.iter().map(|(time, bar)| (time.as_str(), bar.all())).collect();
    assert_eq!(bars, [("2026-11-24T08", 3), ("2026-11-24T09", 2), ("2026-11-24T10", 1), ("2026-11-24T11", 2)]);
    let most = tally.most_refused();
    assert_eq!((most[0].0.reason.as_str(), most[0].0.uid, most[0].1), ("scope_denied", Some(7), 2));
    assert_eq!(tally.suppressed, 40);
    let seqs = |list: &List| list.told.iter().map(|told| told.seq).collect::<Vec<_>>();
    assert_eq!((seqs(&tally.keys), seqs(&tally.notable), seqs(&tally.runs)), (vec![7], vec![8], vec![9]));
    let json = serde_json::to_value(&tally).unwrap();
    assert_eq!(json["kinds"][0]["count"], 2);
}

#[test]
fn nothing_grows_with_the_records_whatever_they_say() {
    let mut tally = Tally::default();
    for seq in 0..20_000_u64 {
        let time = format!("{seq:04}-{:02}-01T{:02}:00:00.000000Z", seq % 12 + 1, seq % 24);
        let more = format!(r#","reason":"r{seq}","uid":{seq}"#);
        add(&mut tally, &line(seq, &time, &format!("key_{}", seq % 1_000), "refused", &more));
    }
    assert_eq!((tally.records, tally.keys.all), (20_000, 20_000));
    assert!(tally.events.len() <= MAX_EVENTS + 1 && tally.kinds.len() == MAX_KINDS);
    assert!(tally.times.bars.len() <= MAX_BARS && tally.keys.told.len() == MAX_TOLD);
    assert_eq!(tally.kinds.values().sum::<u64>() + tally.other_kinds, 20_000);
    assert_eq!(tally.times.bars.values().map(|bar| bar.all()).sum::<u64>(), 20_000);
    assert_eq!(tally.events.values().map(|one| one.all()).sum::<u64>(), 20_000);
    assert_eq!(tally.times.unit(), "period");
    // A text that can't be cut there is a text all the same.
    add(&mut Tally::default(), &line(1, "äääääääääääää", "e", "ok", ""));
}
