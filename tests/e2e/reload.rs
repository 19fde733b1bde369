//! Reload while in use: what is good takes effect on open connections, what is broken changes nothing and says where.

use std::time::Duration;

use nix::sys::signal::Signal;
use passportd::wire::{AdminOk, AdminOp, Code, IssueSpec, Problem, ServiceOk, ServiceOp};
use serde_json::Value;

use crate::support::options::POLICY;
use crate::support::passports::{claims, demo, for_demo};
use crate::support::{House, Options, eventually, ledger, rounds};

fn reload(house: &House) -> Result<AdminOk, Problem> {
    house.admin_raw().admin(AdminOp::Reload)
}

fn status(house: &House) -> Value {
    match house.admin_raw().admin(AdminOp::Status) {
        Ok(AdminOk::Status(text)) => serde_json::from_str(&text).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn count(house: &House, event: &str) -> usize {
    ledger::records(&house.ledger()).iter().filter(|one| one["event"] == event).count()
}

#[test]
fn a_good_policy_takes_effect_on_open_connections() {
    let house = House::start(Options::default());
    let mut raw = house.raw();
    raw.issue(demo("x")).unwrap();
    house.write_policy("00-start.toml", &POLICY.replace("\"issue\", ", ""));
    raw.issue(demo("x")).expect("a file that is only written changes nothing");
    let Ok(AdminOk::Reloaded { old_policy, new_policy, .. }) = reload(&house) else { panic!("not reloaded") };
    assert_ne!(old_policy, new_policy);
    assert_eq!(raw.issue(demo("x")).unwrap_err().code, Code::OpDenied);
    let hex = blake3::Hash::from_bytes(new_policy).to_hex().to_string();
    assert_eq!(house.metric(&format!("passport_policy_info{{hash=\"{hex}\"}}")), 1.0);
    assert_eq!(status(&house)["policy"]["hash"], hex);

    house.write_policy("00-start.toml", &POLICY.replace("max_ttl_s = 3600", "max_ttl_s = 7"));
    house.signal("run", Signal::SIGHUP);
    let passport = eventually("SIGHUP reaches the front", Duration::from_secs(5), || raw.issue(demo("x")).ok());
    let claims = claims(&passport);
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 7);
    house.assert_on_record([&passport.msg[..]]);
}

#[test]
fn a_broken_policy_changes_nothing_and_says_file_and_line() {
    let house = House::start(Options::default());
    let mut raw = house.raw();
    let before = status(&house)["policy"]["hash"].clone();
    for (text, place, words) in [
        ("[[peer]]\nname = \"x\"\nuid = \n", "20-broken.toml:3", ""),
        ("[[peer]]\nname = \"x\"\nuid = 1\nallow = [\"fly\"]\n", "20-broken.toml:4", "there is no operation \"fly\""),
        ("[[peer]]\nname = \"x\"\nuser = \"no-such-user\"\n", "20-broken.toml:3", "there is no user \"no-such-user\""),
        (
            "[[peer]]\nname = \"x\"\nuid = 1\ntemplates = [\"none\"]\n",
            "20-broken.toml:4",
            "there is no [[template]] named",
        ),
        ("[[peer]]\nname = \"tester\"\nuid = 1\n", "20-broken.toml:2", "is taken in 00-start.toml"),
        ("[[peer]]\nname = \"x\"\n", "20-broken.toml:2", "a rule needs a condition"),
        (
            "\n\n[[template]]\nname = \"t\"\ntenant = \"t1\"\npurpose = \"p\"\nsubjects = [\"*\"]\nmax_ttl_s = 5\nbind = \"uid\"\n",
            "20-broken.toml:9",
            "must be \"none\" or \"peer\"",
        ),
    ] {
        house.write_policy("20-broken.toml", text);
        let problem = reload(&house).unwrap_err();
        assert_eq!((problem.code, problem.retryable), (Code::Malformed, false));
        assert!(
            problem.message.contains(place) && problem.message.contains(words),
            "{place} {words}: {}",
            problem.message
        );
        raw.issue(demo("x")).unwrap();
    }
    assert_eq!(status(&house)["policy"]["hash"], before);
    assert_eq!(count(&house, "policy_refused"), 7);
    // By a signal there is nobody to tell but the log and the ledger.
    house.signal("front", Signal::SIGHUP);
    eventually("the signal's mistake is on record", Duration::from_secs(5), || {
        (count(&house, "policy_refused") == 8).then_some(())
    });
    eventually("and in the log", Duration::from_secs(5), || {
        let log = house.log();
        (log.contains("not reloaded") && log.contains("20-broken.toml:9")).then_some(())
    });
    std::fs::remove_file(house.dir().join("policy.d/20-broken.toml")).unwrap();
    reload(&house).unwrap();
    house.assert_on_record([]);
}

#[test]
fn limits_change_by_reload_and_the_rest_says_that_it_needs_a_restart() {
    let mut house = House::start(Options::default());
    let mut raw = house.raw();
    let three = |raw: &mut crate::support::raw::Raw| raw.ask(ServiceOp::IssueBatch(vec![demo("x"); 3]));
    assert!(three(&mut raw).is_ok());
    house.set("limits.max_batch", 2);
    house.set("passport.default_ttl_s", 4);
    house.set("passport.max_ttl_s", 5);
    house.set("hsm.sessions", 1);
    house.set("passport.issuer", "another.test");
    let Ok(AdminOk::Reloaded { mut changed, mut needs_restart, .. }) = reload(&house) else { panic!("not reloaded") };
    changed.sort();
    needs_restart.sort();
    assert_eq!(changed, ["limits.max_batch", "passport.default_ttl_s", "passport.max_ttl_s"]);
    assert_eq!(needs_restart, ["hsm.sessions", "passport.issuer"]);
    assert_eq!(three(&mut raw).unwrap_err().message, "limits.max_batch is 2");
    let one = claims(&raw.issue(IssueSpec { ttl_s: Some(100), ..demo("x") }).unwrap());
    assert_eq!(one["exp"].as_i64().unwrap() - one["iat"].as_i64().unwrap(), 5);
    assert_eq!(one["iss"], "passportd.test", "what needs a restart waits for it");
}

/// The sandbox keeps the front out of it, and where the kernel has no Landlock the directory's mode.
#[test]
fn a_policy_that_moved_out_of_reach_is_refused_with_a_way_out() {
    let mut house = House::start(Options::default());
    let before = status(&house)["policy"]["hash"].clone();
    let elsewhere = tempfile::tempdir().unwrap();
    let good = house.dir().join("policy.d/00-start.toml");
    std::fs::copy(&good, elsewhere.path().join("00-start.toml")).unwrap();
    let mode = if house.log().contains("landlock=Full") { 0o755 } else { 0 };
    std::fs::set_permissions(elsewhere.path(), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    house.set("policy.dir", elsewhere.path().to_str().unwrap());
    let problem = reload(&house).unwrap_err();
    assert_eq!((problem.code, problem.retryable), (Code::Malformed, false));
    for words in [
        elsewhere.path().to_str().unwrap(),
        "Permission denied",
        "only within that of the start, /etc, or the configuration's; restart the front for any other",
    ] {
        assert!(problem.message.contains(words), "{words}: {}", problem.message);
    }
    assert_eq!(status(&house)["policy"]["hash"], before);
    assert_eq!(count(&house, "policy_refused"), 1);
    // Beside the configuration it is in reach.
    let near = house.dir().join("moved.d");
    std::fs::create_dir(&near).unwrap();
    std::fs::copy(&good, near.join("00-start.toml")).unwrap();
    house.set("policy.dir", near.to_str().unwrap());
    reload(&house).unwrap();
}

#[test]
fn a_broken_configuration_changes_nothing_and_says_file_and_line() {
    let mut house = House::start(Options::default());
    let mut raw = house.raw();
    let before = status(&house)["config"]["hash"].clone();
    for (key, value, words) in [
        ("limits.max_batsch", toml::Value::from(2), "max_batch"),
        ("limits.max_batch", 0.into(), "max_batch"),
        ("limits.max_batch", "many".into(), "max_batch"),
        ("security.pq_mode", "require".into(), "pq_mode"),
    ] {
        let path = house.dir().join("passportd.toml");
        let good = std::fs::read_to_string(&path).unwrap();
        house.set(key, value);
        let text = std::fs::read_to_string(&path).unwrap();
        let name = key.split_once('.').unwrap().1;
        let line = 1 + text.lines().position(|line| line.starts_with(&format!("{name} ="))).unwrap();
        let problem = reload(&house).unwrap_err();
        assert_eq!(problem.code, Code::Malformed);
        let place = format!("passportd.toml:{line}:");
        assert!(problem.message.contains(&place) && problem.message.contains(words), "{place} {}", problem.message);
        house.restore_config(&good);
        raw.issue(demo("x")).unwrap();
    }
    assert_eq!(count(&house, "config_refused"), 4);
    assert_eq!(status(&house)["config"]["hash"], before);
    reload(&house).unwrap();
}

#[test]
fn reload_under_load_fails_nobody() {
    let house = House::start(Options::default());
    let done = std::sync::atomic::AtomicBool::new(false);
    let passports = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut raw = house.raw();
                    let mut issued = Vec::new();
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        let passport = raw.issue(demo("x")).unwrap();
                        raw.verify(for_demo(), &passport).unwrap();
                        issued.push(passport);
                    }
                    issued
                })
            })
            .collect();
        for round in 0..rounds(20) {
            house.write_policy("00-start.toml", &format!("{POLICY}# {round}\n"));
            let broken = round % 3 == 0;
            house.write_policy("20-more.toml", if broken { "[[peer]]\n" } else { "# nothing\n" });
            assert_eq!(reload(&house).is_err(), broken);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(passports.len() > 3);
    house.assert_on_record(passports.iter().map(|one| &one.msg[..]));
    assert!(matches!(house.ask(ServiceOp::Ping), Ok(ServiceOk::Pong)));
}

#[tokio::test]
async fn a_client_follows_limits_that_a_reload_lowered() {
    let mut house = House::start(Options::default());
    let client = house.client().await;
    let wanted = passportd::client::IssueRequest { template: "demo".into(), sub: "x".into(), ..Default::default() };
    let passports = client.issue_batch(&vec![wanted.clone(); 20]).await.unwrap();
    house.set("limits.max_batch", 8);
    reload(&house).unwrap();
    let again = client.issue_batch(&vec![wanted; 20]).await.unwrap();
    assert!(again.len() == 20 && again.iter().all(Result::is_ok), "{again:?}");
    house.set("limits.max_batch", 5);
    reload(&house).unwrap();
    let passports: Vec<_> = passports.into_iter().map(Result::unwrap).collect();
    let want = passportd::client::Want { aud: Some("demo".into()), ..passportd::client::Want::default() };
    let verdicts = client.verify_batch(&passports, &want).await.unwrap();
    assert!(verdicts.len() == 20 && verdicts.iter().all(|one| matches!(one, passportd::wire::Verdict::Accepted(_))));
}
