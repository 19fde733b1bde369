use super::*;

pub(crate) fn plan(steps: Vec<Step>) -> Plan {
    let planner = Planner { uid: 0, name: "root".to_owned(), host: "h".to_owned() };
    Plan::new(&[7; 16], "https://issuer.test".to_owned(), planner, None, steps).made(1_000, DEFAULT_LIFE_S)
}

fn rotate() -> Step {
    Step::Rotate { tenant: "t1".to_owned(), purpose: "auth".to_owned() }
}

#[test]
fn a_plan_is_one_text_and_its_hash_is_of_that_text() {
    let opened = plan(vec![rotate()]).close().unwrap();
    assert_eq!(
        opened.text,
        r#"{"created":1000,"expires":87400,"id":"07070707070707070707070707070707","issuer":"https://issuer.test","planner":{"host":"h","name":"root","uid":0},"rule":null,"steps":[{"kind":"rotate","purpose":"auth","tenant":"t1"}],"v":1}"#
    );
    // printf 'passportd/plan/v1\0%s' "$TEXT" | sha256sum
    assert_eq!(Plan::open(&format!("{}\n", opened.text)).unwrap(), opened);
    let other = Plan::open(&opened.text.replace("auth", "auth2")).unwrap();
    assert_ne!(other.hash, opened.hash);
    assert_ne!(challenge(&opened.hash, "a"), challenge(&other.hash, "a"));
    assert_ne!(challenge(&opened.hash, "a"), challenge(&opened.hash, "b"));
}

#[test]
fn whatever_is_not_exactly_a_plan_is_refused() {
    let good = plan(vec![rotate()]).close().unwrap().text;
    for (from, to) in [
        ("\"v\":1", "\"v\":2"),
        ("\"v\":1", "\"v\":1,\"x\":1"),
        ("\"v\":1", "\"v\": 1"),
        ("{\"created\":1000,", "{"),
        ("\"expires\":87400", "\"expires\":1000"),
        ("\"expires\":87400", "\"expires\":2593001"),
        ("\"id\":\"07", "\"id\":\""),
        ("\"rule\":null", "\"rule\":\"00\""),
        ("\"kind\":\"rotate\"", "\"kind\":\"rotate\",\"more\":1"),
        ("\"kind\":\"rotate\"", "\"kind\":\"export\""),
        ("\"tenant\":\"t1\"", "\"tenant\":\"t\\u0007\""),
        ("\"tenant\":\"t1\"", "\"tenant\":\"\""),
        ("[{\"kind\":\"rotate\",\"purpose\":\"auth\",\"tenant\":\"t1\"}]", "[]"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        assert!(Plan::open(&bad).is_err(), "{bad}");
    }
    assert!(plan(vec![rotate(); MAX_STEPS]).close().is_ok() && plan(vec![rotate(); MAX_STEPS + 1]).close().is_err());
    let lost = || LostKey { kid: "ed25519/t1/auth/v1".to_owned(), public: Some("ab".repeat(32)) };
    let restore = |count| plan(vec![Step::Restore { keys: vec![lost(); count] }]).close();
    assert!(restore(MAX_RESTORED).is_ok() && restore(MAX_RESTORED + 1).is_err() && restore(0).is_err());
    let wide = |step: Step, count| plan(vec![step; count]).close();
    let long = Step::RetireSeal { kid: "k".repeat(512) };
    assert!(wide(long.clone(), 64).is_ok());
    assert!(Plan::open(&" ".repeat(2 * MAX_PLAN)).is_err());
    let many = Step::Restore { keys: vec![LostKey { kid: "k".repeat(400), ..lost() }; MAX_RESTORED] };
    assert!(matches!(wide(many, 2), Err(PlanError::Form(why)) if why.contains("65536")));
}

#[test]
fn what_can_not_be_undone_has_a_word_to_type() {
    let kid = || "k".to_owned();
    for (step, word) in [
        (rotate(), None),
        (Step::Destroy { kid: kid(), verifies_until: 1, purge_backups: false }, Some("k")),
        (Step::Compromise { kid: kid() }, Some("k")),
        (Step::RetireSeal { kid: kid() }, Some("k")),
        (Step::NewLedger { records: 12 }, Some("12")),
    ] {
        assert_eq!(step.asks_for().as_deref(), word, "{}", step.words());
    }
}
