//! Every bad fact, shown to its judge; and the whole report as people and programs see it.

mod answers;
mod files;
mod healthy;
mod settings;

use super::facts::*;
use super::settings::short;
use super::*;
use crate::cli::args::Format;
use crate::cli::out::Screen;
use healthy::{CONFIG, POLICY, healthy, loaded, policy};

fn shown(checks: &[Check], format: Option<Format>) -> (String, Exit) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let exit = report(&mut Out::new(&mut stdout, &mut stderr, Screen::default(), format), checks).unwrap();
    assert!(stderr.is_empty());
    (String::from_utf8(stdout).unwrap(), exit)
}

#[test]
fn the_whole_table_is_this() {
    let (table, exit) = shown(&judge(&healthy()), None);
    let (config, policy) = (short(&loaded(CONFIG).hash), short(&policy(POLICY).hash()));
    let table =
        table.replace(&config, "CONFIG").replace(&policy, "POLICY").replace(env!("CARGO_PKG_VERSION"), "VERSION");
    insta::assert_snapshot!(table, @"
    ok   config        PASSPORT_CONFIG: 6 settings, hash CONFIG
    ok   policy        /etc/passportd/policy.d: rules 1, templates 1, hash POLICY
    ok   bounds        /etc/passportd/signer.toml: tenants t1
    ok   accounts      passportd (uid 900), clients (gid 800)
    ok   readable      passportd may read configuration and policy
    ok   module        /usr/lib/m.so, root's alone to change
    ok   module config /etc/p/m.conf
    ok   pin           /etc/p/pin, uid 0, mode 0400
    ok   state         /var/lib/p/state, mode 0700, 9000 MiB free
    ok   ledger        /var/lib/p/ledger, mode 0700, 9000 MiB free
    ok   hsm state     /var/lib/p/hsm-state, mode 0700
    ok   signer dir    /var/lib/p/signer-dir, mode 0700
    ok   key list      /var/lib/p/hsm-state/keys.json: keys 3
    ok   state file    /var/lib/p/state/state.redb, mode 0600, 2 KiB
    ok   state rows    every row is as it was written; newest record 5
    ok   ledger chain  its newest segment is unbroken; newest record 7
    ok   clock         10 s after the newest audit record
    ok   socket        /run/p/socket.sock, mode 0660, served by pid 42
    ok   admin socket  /run/p/admin-socket.sock, mode 0660, served by pid 42
    ok   signer socket /run/p/signer-socket.sock, mode 0660
    ok   ceremony      /run/p/ceremony.sock, mode 0660
    ok   version       passportd/VERSION, daemon and tool
    ok   whoami        uid 33, gid 33, by listener main: rules web; may issue verify; templates demo
    ok   whoami admin  uid 33, gid 33, by listener admin: rules web; may issue verify; templates demo
    ok   token         t 01, by SoftHSM 2.6
    ok   metrics       http://127.0.0.1:9909
    ok   ready         passports are issued and verified
    ok   in force      configuration and policy on disk are what the daemon goes by
    ok   descriptors   2048 open files, 1120 needed for 1024 connections
    ok   program       pid 42 runs /usr/bin/passportd
    ok   landlock      Linux 6.12.0, ABI 6
    ok   pidfd         SO_PEERPIDFD is there
    ok   systemd       systemd 252
    33 checks: failed 0, warnings 0, skipped 0
    ");
    assert_eq!(exit, Exit::Ok);
}

#[test]
fn the_whole_json_is_this() {
    let checks = [
        Check::ok("a", "good"),
        Check::warn("b", "odd", "look"),
        Check::skipped("c", "hidden", ""),
        Check::fail("d", "two\nlines \u{1b}[2J", "mend it"),
    ];
    let (text, exit) = shown(&checks, Some(Format::Json));
    insta::assert_snapshot!(text, @r#"{"checks":[{"detail":"good","name":"a","remedy":"","status":"ok"},{"detail":"odd","name":"b","remedy":"look","status":"warn"},{"detail":"skipped: hidden","name":"c","remedy":"","status":"skipped"},{"detail":"two\nlines \u001b[2J","name":"d","remedy":"mend it","status":"fail"}],"ok":false}"#);
    assert_eq!(exit, Exit::Failed);
    let (table, _) = shown(&checks, None);
    insta::assert_snapshot!(table, @r"
    ok   a good
    warn b odd; look
    skip c skipped: hidden
    FAIL d two\nlines \u{1b}[2J; mend it
    4 checks: failed 1, warnings 1, skipped 1
    ");
    assert_eq!(shown(&checks[..3], Some(Format::Json)).1, Exit::Ok, "warnings and skipped checks are no failure");
}

/// One bad fact: which check finds it, how it comes out, and what it says.
type Bad = (&'static str, fn(&mut Facts), Status, &'static [&'static str]);

#[track_caller]
fn judged(all: &[Bad]) {
    for (name, spoil, outcome, says) in all {
        let mut facts = healthy();
        spoil(&mut facts);
        let checks = judge(&facts);
        let found: Vec<_> = checks.iter().filter(|check| check.name == *name && check.status == *outcome).collect();
        let lines: Vec<_> = found.iter().map(|check| check.line(0)).collect();
        let fits = lines.iter().any(|line| says.iter().all(|says| line.contains(says)));
        assert!(fits, "{name} should say {says:?}: {checks:#?}");
        let bad = |check: &&Check| matches!(check.status, Status::Fail | Status::Warn);
        for check in checks.iter().filter(bad) {
            assert!(!check.remedy.is_empty(), "{name}: a finding without a remedy: {check:?}");
        }
        let exit = if *outcome == Status::Fail { Exit::Failed } else { Exit::Ok };
        let others: Vec<_> =
            checks.iter().filter(|check| check.status == Status::Fail && check.name != *name).collect();
        assert!(others.is_empty(), "{name}: others fail, too: {others:?}");
        assert_eq!(shown(&checks, None).1, exit, "{name}");
    }
}
