//! What a reload reports: to the admin who asked, on record, and in the metrics.

use std::process::{Command, Output};

use serde_json::Value;

use crate::support::options::POLICY;
use crate::support::{House, Options, ledger};

fn passportctl(house: &House, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_passportctl"));
    command.env_clear().arg("--admin-socket").arg(house.admin_socket()).args(arguments).output().unwrap()
}

fn document(house: &House, arguments: &[&str]) -> Value {
    let output = passportctl(house, &[&["--output", "json"], arguments].concat());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn newest(house: &House, event: &str) -> Value {
    ledger::records(&house.ledger()).into_iter().rfind(|one| one["event"] == event).unwrap()
}

/// Which policy the metrics say is in force; there must be one.
fn in_metrics(house: &House) -> String {
    let text = house.get("/metrics").1;
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("passport_policy_info{")).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let (_, rest) = lines[0].split_once("hash=\"").unwrap();
    assert!(rest.ends_with("\"} 1"), "{rest}");
    rest.split('"').next().unwrap().to_owned()
}

#[test]
fn old_and_new_hashes_and_what_changed_are_told_and_put_on_record() {
    let mut house = House::start(Options::default());
    let before = document(&house, &["status"]);
    assert_eq!(in_metrics(&house), before["policy"]["hash"]);
    let rule = "[[peer]]\nname = \"more\"\nuid = 4711\nallow = [\"verify\"]\n";
    house.write_policy("00-start.toml", &POLICY.replace("max_ttl_s = 3600", "max_ttl_s = 60"));
    house.write_policy("20-more.toml", rule);
    house.set("limits.max_batch", 7);
    house.set("hsm.sessions", 1);
    let told = document(&house, &["reload"]);
    let after = document(&house, &["status"]);
    for (what, now) in [("policy", "/policy/hash"), ("config", "/config/hash")] {
        let (old, new) = (&told[format!("old_{what}")], &told[format!("new_{what}")]);
        assert_ne!(old, new, "{what}");
        assert_eq!((old, new), (before.pointer(now).unwrap(), after.pointer(now).unwrap()), "{what}");
    }
    // The rule `tester` lets issue from a template of the same name as before.
    assert_eq!(told["policy_changed"], serde_json::json!(["rule more added", "template demo changed"]));
    assert_eq!((&told["policy_more"], &told["changed"]), (&0.into(), &serde_json::json!(["limits.max_batch"])));
    assert_eq!(told["needs_restart"], serde_json::json!(["hsm.sessions"]));
    assert_eq!(in_metrics(&house), told["new_policy"]);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let hashes =
        |what: &str| format!("{} -> {}", text(&told[format!("old_{what}")]), text(&told[format!("new_{what}")]));
    let policy = format!("policy {}; rule more added, template demo changed", hashes("policy"));
    assert_eq!(newest(&house, "policy_reloaded")["detail"], policy);
    let config = format!("config {}; changed: limits.max_batch, hsm.sessions (needs a restart)", hashes("config"));
    assert_eq!(newest(&house, "config_reloaded")["detail"], config);

    // The same again: nothing changed, and what needs a restart still does.
    let again = document(&house, &["reload"]);
    assert_eq!((&again["old_config"], &again["old_policy"]), (&again["new_config"], &again["new_policy"]));
    assert_eq!(again["needs_restart"], serde_json::json!(["hsm.sessions"]));
    assert_eq!((&again["policy_changed"], &again["changed"]), (&serde_json::json!([]), &serde_json::json!([])));
}

#[test]
fn a_large_difference_is_cut_and_counted() {
    let house = House::start(Options::default());
    let rule =
        |n: u32| format!("[[peer]]\nname = \"rule-{n:03}-{}\"\nuid = {n}\nallow = [\"verify\"]\n", "x".repeat(40));
    house.write_policy("20-more.toml", &(0..500).map(rule).collect::<String>());
    let told = document(&house, &["reload"]);
    assert_eq!((told["policy_changed"].as_array().unwrap().len(), &told["policy_more"]), (64, &436.into()));
    let detail = newest(&house, "policy_reloaded")["detail"].as_str().unwrap().to_owned();
    assert!(detail.len() <= 512 && detail.ends_with(" more") && detail.contains("rule rule-000-"), "{detail}");
}

#[test]
fn a_reload_that_fails_ends_with_its_reason_and_changes_nothing() {
    let mut house = House::start(Options::default());
    let before = document(&house, &["status"]);
    let good = std::fs::read_to_string(house.dir().join("passportd.toml")).unwrap();
    house.write_policy("20-more.toml", "[[peer]]\nname = \"x\"\n");
    let policy = passportctl(&house, &["reload"]);
    std::fs::remove_file(house.dir().join("policy.d/20-more.toml")).unwrap();
    house.set("limits.max_batch", 0);
    let config = passportctl(&house, &["reload"]);
    house.restore_config(&good);
    for (output, place) in [(policy, "20-more.toml:2"), (config, "limits.max_batch")] {
        let said = String::from_utf8(output.stderr).unwrap();
        // ExecReload= is this command: systemctl reload then says that it failed.
        assert_eq!(output.status.code(), Some(4), "{said}");
        assert!(said.contains("not reloaded, what was in force stays so") && said.contains(place), "{said}");
        assert!(output.stdout.is_empty());
    }
    let after = document(&house, &["status"]);
    assert_eq!((&before["policy"], &before["config"]), (&after["policy"], &after["config"]));
    assert_eq!(in_metrics(&house), before["policy"]["hash"]);
    let refused = newest(&house, "policy_refused");
    assert!(refused["detail"].as_str().unwrap().contains("20-more.toml:2"), "{refused}");
    assert_eq!(newest(&house, "config_refused")["outcome"], "refused");
}
