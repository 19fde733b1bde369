//! `passportctl` as its users meet it: the program itself, its exit codes, and every byte that it prints, against a
//! daemon in threads of the test.
#![cfg(feature = "cli")]

#[cfg(test)]
#[path = "cli_fake/mod.rs"]
#[expect(dead_code, reason = "shared by several tests")]
mod fake;
#[cfg(test)]
#[path = "cli/forms.rs"]
mod forms;
#[cfg(test)]
#[path = "cli_fake/tool.rs"]
mod tool;

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use fake::{Fake, KID, ceremony};
use serde_json::{Value, json};
use tool::{run, tool};

#[test]
fn wrong_usage_is_2_and_help_is_0() {
    for wrong in [
        &["nonsense"][..],
        &[],
        &["issue"],
        &["issue", "--template", "demo", "--sub", "a", "--ctx", "[1]"],
        &["issue", "--batch", "-", "--sub", "a"],
        &["keys", "--etag", "abc"],
        &["ping", "--timeout", "0"],
        &["bench", "issue", "--compare"],
        &["policy", "explain", "--uid", "1", "--op", "fly"],
    ] {
        let ran = run(&mut tool(wrong), "");
        assert_eq!(ran.code, Some(2), "{wrong:?}: {ran:?}");
        assert!(ran.stdout.is_empty() && !ran.stderr.is_empty(), "{ran:?}");
    }
    let help = run(&mut tool(&["bench", "--help"]), "");
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    assert!(help.stdout.contains("passportctl bench verify --in-flight 1 --compare"), "{}", help.stdout);
    assert_eq!(run(&mut tool(&["--version"]), "").stdout, format!("passportctl {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn without_a_daemon_one_line_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("none.sock");
    let socket = socket.to_str().unwrap();
    run(&mut tool(&["ping", "--socket", socket]), "").says(1, "is passportd running");
    run(&mut tool(&["status", "--admin-socket", socket]), "").says(1, socket);
}

#[test]
fn the_issues_pipe_works() {
    let fake = Fake::start();
    let issued = fake.run(&["issue", "--template", "demo", "--sub", "alice", "--scope", "read", "--ctx", r#"{"n":7}"#]);
    assert_eq!((issued.code, issued.stderr.as_str()), (Some(0), ""));
    assert!(issued.stdout.starts_with(r#"{"alg":"Ed25519","kid":"ed25519/t1/auth/v1","msg_b64":""#), "{issued:?}");
    let verified = fake.fed(&["verify", "--aud", "demo", "--scope", "read", "--output", "json"], &issued.stdout);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    assert_eq!(verified.json()["verdict"], "accepted");
    assert_eq!(verified.json()["claims"]["ctx"], json!({"n": 7}));

    let other = fake.fed(&["verify", "--aud", "other", "--output", "json"], &issued.stdout);
    assert_eq!((other.code, &other.json()["reason"]), (Some(3), &json!("bad_aud")));
    assert!(other.json().get("claims").is_none());
    let table = fake.fed(&["verify", "--aud", "demo", "--scope", "write"], &issued.stdout);
    assert_eq!(table.code, Some(3));
    assert!(table.stdout.starts_with("refused: scope_denied: "), "{table:?}");

    let looked = fake.fed(&["introspect", "--aud", "other", "--output", "json"], &issued.stdout);
    let document = looked.json();
    assert_eq!((looked.code, &document["active"], &document["reason"]), (Some(3), &json!(false), &json!("bad_aud")));
    assert_eq!(document["claims"]["sub"], "alice");
}

#[test]
fn batches_keep_their_places() {
    let fake = Fake::start();
    let asked =
        r#"{"items":[{"template":"demo","sub":"a"},{"template":"nope","sub":"b"},{"template":"demo","sub":"c"}]}"#;
    let issued = fake.fed(&["issue", "--batch", "-"], asked);
    let items = issued.json();
    assert_eq!(issued.code, Some(4), "{issued:?}");
    assert_eq!(items["items"][1]["problem"]["code"], "op_denied");
    assert!(items["items"][0]["passport"]["msg_b64"].is_string());

    let verified = fake.fed(&["verify", "--aud", "demo", "--output", "json"], &issued.stdout);
    let verdicts = verified.json();
    assert_eq!(verified.code, Some(3));
    assert_eq!(verdicts["items"][0]["claims"]["sub"], "a");
    assert_eq!(verdicts["items"][1]["problem"]["code"], "op_denied");
    assert_eq!(verdicts["items"][2]["claims"]["sub"], "c");

    // More than one request holds; a bare array of envelopes.
    let many = fake.run(&["issue", "--template", "demo", "--sub", "a", "--count", "150"]).json();
    let bare: Vec<_> = many["items"].as_array().unwrap().iter().map(|item| item["passport"].clone()).collect();
    assert_eq!(bare.len(), 150);
    let verified = fake.fed(&["verify", "--aud", "demo", "--output", "json"], &json!(bare).to_string());
    assert_eq!((verified.code, verified.json()["items"].as_array().map(Vec::len)), (Some(0), Some(150)));
    let table = fake.fed(&["verify", "--aud", "demo"], &json!(bare[..2]).to_string());
    assert!(table.stdout.starts_with("ITEM  VERDICT   SUB OR REASON  EXP\n0     accepted  a "), "{table:?}");
}

#[test]
fn a_refusal_is_4_and_bad_input_is_2() {
    let fake = Fake::start();
    let denied = fake.run(&["issue", "--template", "nope", "--sub", "a"]);
    denied.says(4, "op_denied: no rule grants this template (`passportctl whoami` shows");
    fake.fed(&["verify"], "").says(2, "stdin: it is empty");
    fake.fed(&["verify"], r#"{"alg":"Ed25519"}"#).says(2, "missing field `kid`");
    fake.run(&["verify", "/no/such/file"]).says(1, "/no/such/file: No such file");
    fake.fed(&["issue", "--batch", "-"], r#"[{"template":"demo","sub":"a"},{"subject":"b"}]"#).says(2, "stdin: item 1");
}

#[test]
fn keys_are_the_exact_bytes_until_they_are_known() {
    let fake = Fake::start();
    let keys = fake.run(&["keys"]);
    assert!(keys.stdout.ends_with("}]}") && keys.json()["keys"][0]["kid"] == KID, "{keys:?}");
    let etag: String =
        passportd::passport::etag(keys.stdout.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(fake.run(&["keys", "--etag", &etag]).json(), json!({"not_modified": true, "max_age_s": 60}));
    let table = fake.run(&["keys", "--output", "table"]);
    insta::assert_snapshot!(table.stdout, @"
    KID                 THUMBPRINT (RFC 7638)                        PUBLIC KEY
    ed25519/t1/auth/v1  --6IM5l0OosLj9yWskISYhUA3n_3CURQkmrYMSha_ck  ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c
    etag 289f90f204502b670b91b14a0fba0323fb2406e14a7b17556b7bcd2a5edfac4a, good for 60 s
    ");
}

#[test]
fn tables_for_people() {
    let fake = Fake::start();
    insta::assert_snapshot!(fake.run(&["whoami"]).stdout, @"
    uid         1000
    gid         1000
    pid         42
    groups      4, 27
    listener    main
    rules       web
    operations  issue
    templates   demo
    audiences   -
    ");
    assert_eq!(fake.run(&["whoami", "--admin", "--output", "json"]).json()["groups"], json!([4, 27]));
    assert_eq!(fake.run(&["health"]).code, Some(0));
    fake.become_unready();
    let health = fake.run(&["health", "--admin"]);
    assert_eq!(health.code, Some(1));
    insta::assert_snapshot!(health.stdout, @"
    FAIL issue
    ok   verify
    FAIL hsm      the HSM has not answered for 12 s; see `journalctl -u passportd-signer`
    ok   policy
    ok   audit
    ok   state
    ok   clock
    ok   keys
    ok   issuing
    ok   serving
    ");
    let reload = fake.run(&["reload"]);
    assert!(reload.stdout.contains("settings now in force             limits.rps\n"), "{reload:?}");
    assert!(reload.stderr.contains("systemctl restart"), "{reload:?}");
    assert_eq!(fake.run(&["pause", "--reason", "test", "--output", "json"]).json(), json!({"done": true}));
    assert_eq!(
        fake.run(&["drain"]).stdout,
        "draining: no new connections, and nothing is issued; those that are there go on verifying\n"
    );
    let activated = fake.run(&["key", "activate", "ed25519/t1/auth/v2"]).stdout;
    assert!(activated.contains("ed25519/t1/auth/v1 retires"), "{activated}");
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let mut child = tool(&["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

/// What a ceremony that made these keys, or only found them, reports.
fn report(made_now: bool, keys: [(&str, &str); 2]) -> String {
    let key = |(kid, role)| {
        json!({"kid": kid, "role": role, "public": null, "cka_id": "01", "made_now": made_now, "usable": true,
               "problem": "", "mechanisms_bound": true})
    };
    json!({"done": {"keys": keys.map(key), "orphans": [], "findings": [], "backup": "/b", "module": "m", "token": "t",
                    "warnings": ["a warning"]}})
    .to_string()
}

fn made() -> String {
    report(true, [("ed25519/t1/auth/v2", "passport"), ("ed25519/t1/audit/v1", "audit")])
}

#[test]
fn init_finishes_what_an_earlier_one_left() {
    let fake = Fake::start();
    let pin = fake.path("pin");
    std::fs::write(&pin, "1234").unwrap();
    std::fs::set_permissions(&pin, PermissionsExt::from_mode(0o400)).unwrap();
    // The daemon knows the first of these keys, and tenant t2 is not asked about.
    let keys = [(KID, "passport"), ("ed25519/t1/audit/v1", "audit")];
    for (tenant, staged) in [("t1", 1), ("t2", 0)] {
        let held = ceremony(&fake.path("c.sock"), report(false, keys));
        let ran =
            fake.run(&["hsm", "init", "--tenant", tenant, "--purpose", "auth", "--pin-file", pin.to_str().unwrap()]);
        held.join().unwrap();
        std::fs::remove_file(fake.path("c.sock")).unwrap();
        assert_eq!((ran.code, ran.stdout.matches("staged ed25519/t1/audit/v1").count()), (Some(0), staged), "{ran:?}");
        assert_eq!(
            (ran.stdout.matches("staged").count(), ran.stdout.lines().any(|line| line.starts_with("made "))),
            (staged, false),
            "{ran:?}"
        );
    }
}

#[test]
fn init_makes_stages_and_activates_or_says_what_is_left() {
    let fake = Fake::start();
    let pin = fake.path("pin");
    std::fs::write(&pin, "1234\n").unwrap();
    std::fs::set_permissions(&pin, PermissionsExt::from_mode(0o644)).unwrap();
    let arguments = ["hsm", "init", "--tenant", "t1", "--purpose", "auth", "--pin-file", pin.to_str().unwrap()];
    fake.run(&arguments).says(2, "chmod 0400");

    std::fs::set_permissions(&pin, PermissionsExt::from_mode(0o400)).unwrap();
    fake.run(&arguments).says(1, "systemctl start passportd-ceremony.socket");
    let held = ceremony(&fake.path("c.sock"), made());
    let ran = fake.run(&arguments);
    assert_eq!(held.join().unwrap(), (r#"{"plan":"init","tenant":"t1","purpose":"auth"}"#.into(), "1234".into()));
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), "passportctl: warning: a warning\n"), "{ran:?}");
    let activated: Vec<_> = ran.stdout.lines().filter(|line| line.starts_with("activated")).collect();
    assert_eq!(activated.len(), 2, "{ran:?}");

    // The same without a daemon: the keys are made, and the commands that are left are named.
    std::fs::remove_file(fake.path("c.sock")).unwrap();
    let held = ceremony(&fake.path("c.sock"), made());
    let ran = run(fake.tool(&arguments).env("PASSPORTCTL_ADMIN_SOCKET", fake.path("none.sock")), "");
    held.join().unwrap();
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let left = "then run: passportctl key stage ed25519/t1/auth/v2 && passportctl key activate ed25519/t1/auth/v2";
    assert!(ran.stdout.contains("made ed25519/t1/auth/v2") && ran.stderr.contains(left), "{ran:?}");
}

#[test]
fn the_doctor_has_a_line_and_a_remedy_for_each_finding() {
    let fake = Fake::start();
    let findings = json!([
        {"name": "module", "ok": true, "detail": "/usr/lib/x.so", "remedy": ""},
        {"name": "token", "ok": false, "detail": "no token \"dev\"", "remedy": "mend hsm.uri"},
    ]);
    let answer = json!({"done": {"findings": findings}}).to_string();
    let held = ceremony(&fake.path("c.sock"), answer);
    let pin = fake.path("pin");
    std::fs::write(&pin, "1234").unwrap();
    std::fs::set_permissions(&pin, PermissionsExt::from_mode(0o600)).unwrap();
    let ran = fake.run(&["hsm", "doctor", "--pin-file", pin.to_str().unwrap()]);
    held.join().unwrap();
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), ""));
    assert_eq!(ran.stdout, "ok   module /usr/lib/x.so\nFAIL token  no token \"dev\"; mend hsm.uri\n");
}

#[test]
fn configuration_and_policy_need_no_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let bad = write("bad.conf", "[limits]\nmax_batsh = 3\n");
    run(&mut tool(&["config", "check", "--config", &bad]), "").says(1, "bad.conf:2:1: unknown key `limits.max_batsh`");
    let text = "[passport]\nissuer = \"x\"\n[hsm]\nuri = \"pkcs11:token=t\"\nmodule = \"/usr/lib/x.so\"\n";
    let good = write("good.conf", text);
    let checked = run(&mut tool(&["config", "check", "--config", &good]), "");
    assert!(checked.code == Some(0) && checked.stdout.starts_with("the configuration is good; hash "), "{checked:?}");
    let printed =
        run(tool(&["config", "print", "--config", &good, "--output", "json"]).env("PASSPORT_MAX_BATCH", "9"), "");
    let row = |key: &str| printed.json().as_array().unwrap().iter().find(|row| row["key"] == key).unwrap().clone();
    assert_eq!(row("limits.max_batch")["origin"], "PASSPORT_MAX_BATCH");
    assert!(row("verify.max_batch")["note"].as_str().unwrap().contains("limits.max_batch"));

    let policy = "[[peer]]\nname = \"web\"\nuid = 33\nallow = [\"issue\"]\ntemplates = [\"demo\"]\n\
                  [[template]]\nname = \"demo\"\ntenant = \"t1\"\npurpose = \"auth\"\nsubjects = [\"*\"]\n\
                  audiences = [\"demo\"]\nscopes = []\nmax_ttl_s = 60\n";
    let file = write("10-web.toml", policy);
    let path = dir.path().to_str().unwrap();
    let checked = run(&mut tool(&["policy", "check", path, &file]), "");
    assert_eq!(checked.stdout.matches("good; 1 rules, 1 templates").count(), 2, "{checked:?}");
    let explain = |uid| {
        run(&mut tool(&["policy", "explain", "--uid", uid, "--op", "issue", "--template", "demo", "--dir", path]), "")
    };
    let (web, other) = (explain("33"), explain("34"));
    assert!(web.code == Some(0) && web.stdout.contains("rule \"web\" allows it"), "{web:?}");
    assert!(other.code == Some(4) && other.stdout.contains("denied (no_peer_policy)"), "{other:?}");
    let broken = write("20-broken.toml", "[[peer]]\nname = 3\n");
    run(&mut tool(&["policy", "check", path]), "").says(1, "20-broken.toml:2:");
    run(&mut tool(&["policy", "check", &broken]), "").says(1, "20-broken.toml:2:");
}

#[test]
fn groups_are_those_of_the_user_unless_they_are_given() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("10-team.toml"),
        "[[peer]]\nname = \"team\"\ngroups = [\"daemon\"]\nallow = [\"verify\"]\n",
    )
    .unwrap();
    let explain = |more: &[&str]| {
        let always = ["policy", "explain", "--op", "verify", "--dir", dir.path().to_str().unwrap()];
        run(&mut tool(&[&always[..], more].concat()), "")
    };
    let daemon = nix::unistd::User::from_name("daemon").unwrap().expect("a user that every Debian has");
    let (uid, gid) = (daemon.uid.to_string(), daemon.gid.to_string());
    let own = explain(&["--uid", &uid]);
    assert!(own.code == Some(0) && own.stdout.contains("gid: of user daemon; groups: of user daemon"), "{own:?}");
    let given = explain(&["--uid", &uid, "--gid", "4200000001", "--groups", "4200000002"]);
    assert!(given.code == Some(4) && given.stdout.ends_with("gid: as given; groups: as given\n"), "{given:?}");
    let half = explain(&["--uid", &uid, "--gid", "4200000001", "--output", "json"]);
    assert_eq!(
        half.json()["origin"],
        serde_json::json!({"user": "daemon", "gid": "option", "groups": "user_database"})
    );
    assert_eq!((half.code, &half.json()["peer"]["gid"]), (Some(0), &serde_json::json!(4_200_000_001_u32)));
    let nobody = explain(&["--uid", "4200000003", "--groups", &gid]);
    assert!(nobody.code == Some(0), "{nobody:?}");
    let says = "gid: the number of the uid, since no user has this uid; groups: as given\n";
    assert!(nobody.stdout.ends_with(says), "{nobody:?}");
}

#[test]
fn smoke_passes_with_a_good_daemon_and_fails_with_a_gullible_one() {
    let fake = Fake::start();
    let metrics = fake.metrics.to_string();
    let good = fake.run(&["smoke", "--metrics", &metrics]);
    assert_eq!(good.code, Some(0), "{good:?}");
    assert_eq!(good.stdout.lines().filter(|line| line.starts_with("ok   ")).count(), 9, "{good:?}");
    fake.become_gullible();
    let bad = fake.run(&["smoke", "--metrics", &metrics, "--output", "json"]);
    assert_eq!((bad.code, bad.json()["ok"].as_bool()), (Some(1), Some(false)));
    let steps = bad.json();
    let failed: Vec<_> = steps["steps"].as_array().unwrap().iter().filter(|step| step["ok"] == false).collect();
    assert_eq!(failed.len(), 2, "{failed:?}");
    assert!(failed[0]["detail"].as_str().unwrap().contains("ACCEPTED"));
}

#[test]
fn benches_count_and_compare() {
    let fake = Fake::start();
    let bench = |arguments: &[&str]| {
        let all = [&["bench"], arguments, &["--seconds", "0.3", "--output", "json"]].concat();
        let ran = fake.run(&all);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
        ran.json()
    };
    for arguments in [
        &["issue", "--connections", "2", "--in-flight", "4"][..],
        &["verify", "--in-flight", "8"],
        &["verify", "--batch", "50", "--connections", "2"],
        &["echo", "--in-flight", "8"],
        &["verify", "--compare"],
    ] {
        let numbers = bench(arguments);
        assert!(numbers["per_second"].as_f64().unwrap() > 0.0, "{numbers}");
        assert_eq!(numbers["errors"], 0, "{numbers}");
        let order: Vec<_> = ["p50_us", "p95_us", "p99_us", "max_us"].map(|name| numbers[name].as_f64().unwrap()).into();
        assert!(order.is_sorted(), "{numbers}");
        let known = if arguments[0] == "echo" { Value::Null } else { json!(2048) };
        assert_eq!(numbers["front_rss_kib"], known);
    }
    let mixed = bench(&["mixed", "--connections", "2", "--issues-per-second", "50", "--verifies-per-second", "200"]);
    assert_eq!((&mixed["issue_errors"], &mixed["verify_errors"]), (&json!(0), &json!(0)), "{mixed}");
    assert_eq!((&mixed["issue_per_second"], &mixed["verify_per_second"]), (&json!(50.0), &json!(200.0)), "{mixed}");
    assert!((0.0..=100.0).contains(&mixed["cpu_idle_percent"].as_f64().unwrap()), "{mixed}");
    fake.run(&["bench", "mixed", "--batch", "2"]).says(2, "leave --batch at 1");
    fake.run(&["bench", "echo", "--batch", "2"]).says(2, "leave --batch at 1");
    assert!(bench(&["verify", "--compare"])["ratio"].as_f64().unwrap() > 0.0);
    fake.run(&["bench", "issue", "--batch", "65"]).says(2, "limits.max_batch is 64");
    let denied = fake.run(&["bench", "issue", "--template", "nope", "--seconds", "0.1", "--output", "json"]);
    assert!(denied.code == Some(1) && denied.stderr.contains("the first: op_denied"), "{denied:?}");
}
