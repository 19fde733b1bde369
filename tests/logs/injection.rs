//! Hostile texts wherever a peer or an admin may put one, through a daemon, to a real journald, and back: the fields are ours, their
//! values are those of the ledger, and none is forged.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use passportd::boot;
use passportd::wire::{
    AdminOp, Hello, IssueSpec, Passport, Plain, Revocation, ServiceOp, WIRE_VERSION, Want, encode_frame,
};
use serde_json::Value;

use super::support::journald::Journald;
use super::support::passports::{demo, for_demo, on_wire};
use super::support::raw::Raw;
use super::support::{House, Options, eventually, ledger};
use super::with_env;

/// What would be fields of its own in journald's textual form, and what a terminal would take for commands.
const HOSTILE: &str = "x\nPRIORITY=0\nMESSAGE_ID=ffffffffffffffffffffffffffffffff\n_UID=0\nPASSPORT_FORGED=1\n\
                       MESSAGE\n\u{5}\0\0\0\0\0\0\0false\n\u{1b}[2J\u{1b}]0;owned\u{7}\r\u{9b}31m\u{202e}é\u{7f}";

/// One entry, each value as the bytes that journald has.
type Entry = BTreeMap<String, Vec<u8>>;

fn entries(logs: &Path) -> Vec<Entry> {
    let output = Command::new("journalctl").args(["-o", "json", "--all", "-D"]).arg(logs).output().unwrap();
    let bytes = |value: Value| match value {
        Value::String(text) => text.into_bytes(),
        // What is no text, or not for every terminal, is an array of bytes; a field that is there twice, one of texts.
        Value::Array(all) => all.iter().map(|byte| byte.as_u64().expect("one value").try_into().unwrap()).collect(),
        other => panic!("{other}"),
    };
    let of_line = |line: &str| {
        let fields: BTreeMap<String, Value> = serde_json::from_str(line).unwrap();
        fields.into_iter().map(|(name, value)| (name, bytes(value))).collect()
    };
    String::from_utf8(output.stdout).unwrap().lines().map(of_line).collect()
}

/// The fields that a record of the ledger has in the journal, but for those that name its event.
fn fields(record: &Value) -> Entry {
    let members = [
        ("seq", "SEQ"),
        ("hash", "HASH"),
        ("event", "EVENT"),
        ("outcome", "OUTCOME"),
        ("corr_id", "CORR_ID"),
        ("uid", "PEER_UID"),
        ("gid", "PEER_GID"),
        ("pid", "PEER_PID"),
        ("listener", "LISTENER"),
        ("exp", "EXP"),
        ("count", "COUNT"),
        ("sub", "SUB"),
        ("jti", "JTI"),
        ("kid", "KID"),
        ("template", "TEMPLATE"),
        ("action", "ACTION"),
        ("aud", "AUD"),
        ("reason", "REASON"),
        ("detail", "DETAIL"),
    ];
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned).into_bytes();
    let found =
        members.iter().filter_map(|(member, name)| Some((format!("PASSPORT_{name}"), text(record.get(member)?))));
    // And the line of the ledger.
    let line = serde_json_canonicalizer::to_vec(record).unwrap();
    found.chain([("PASSPORT_RECORD".to_owned(), line)]).collect()
}

/// Every text of every operation that takes one, well formed otherwise.
fn attack(house: &House) {
    let mut raw = house.raw();
    let passport = raw.issue(demo("alice")).unwrap();
    let of = |spec: IssueSpec<'static>| ServiceOp::Issue(spec);
    let with = |aud, scopes| Want { aud, scopes, ..Want::default() };
    let stranger = |alg, kid| Passport::Envelope { alg, kid, msg: HOSTILE.as_bytes(), sig: &passport.sig };
    let asked = vec![
        of(demo(HOSTILE)),
        of(IssueSpec { template: HOSTILE, ..demo(HOSTILE) }),
        of(IssueSpec { aud: vec![HOSTILE], ..demo("alice") }),
        of(IssueSpec { scopes: vec![HOSTILE], ..demo("alice") }),
        of(IssueSpec { action: Some(HOSTILE), ..demo("alice") }),
        of(IssueSpec { nonce: Some(HOSTILE), ..demo("alice") }),
        of(IssueSpec { ctx: Some(HOSTILE), jkt: Some(HOSTILE), ..demo("alice") }),
        ServiceOp::IssueBatch(vec![IssueSpec { template: HOSTILE, ..demo(HOSTILE) }; 2]),
        ServiceOp::Verify { want: with(Some(HOSTILE), vec![]), passport: on_wire(&passport) },
        ServiceOp::Verify { want: with(Some("demo"), vec![HOSTILE]), passport: on_wire(&passport) },
        ServiceOp::Verify { want: for_demo(), passport: stranger(HOSTILE, HOSTILE) },
        ServiceOp::Verify { want: for_demo(), passport: stranger("Ed25519", HOSTILE) },
        ServiceOp::Verify { want: for_demo(), passport: stranger("Ed25519", "ed25519/t1/auth/v1") },
        ServiceOp::Introspect { want: with(Some(HOSTILE), vec![]), passport: Passport::Jws { text: HOSTILE } },
        ServiceOp::Revoke { passport: Passport::Jws { text: HOSTILE } },
        ServiceOp::Seal { namespace: HOSTILE, name: HOSTILE, plain: Plain(b"x") },
        ServiceOp::Seal { namespace: "t2/x", name: "a\u{202e}b=\u{85}c", plain: Plain(b"x") },
        ServiceOp::Unseal { namespace: "t2/x", name: HOSTILE, blob: HOSTILE.as_bytes() },
    ];
    for op in asked {
        let mut frame = Vec::new();
        // The id of a request is the peer's, too.
        encode_frame(&passportd::wire::Request { id: 1, corr_id: *b"\nPRIORITY=0\n\x1b[2J", op }, &mut frame).unwrap();
        raw.send(&frame).unwrap();
        raw.reply();
    }
    let what = |sub| vec![Revocation::Subject { sub, before: None }];
    let admins = [
        AdminOp::PauseIssue { reason: HOSTILE },
        AdminOp::ResumeIssue,
        AdminOp::Stage { kid: HOSTILE },
        AdminOp::Activate { kid: HOSTILE },
        AdminOp::Compromise { kid: HOSTILE, reason: HOSTILE },
        AdminOp::Revoke { tenant: "t1", what: what(HOSTILE), reason: "said" },
        AdminOp::Revoke { tenant: "t1", what: what("bob"), reason: HOSTILE },
        AdminOp::Revoke { tenant: HOSTILE, what: what("bob"), reason: "said" },
        AdminOp::BumpEpoch { tenant: HOSTILE, reason: HOSTILE },
        AdminOp::TicketTtl { seconds: 60, for_s: 1, reason: HOSTILE },
    ];
    for op in admins {
        drop(house.admin_raw().admin(op));
    }
    // Who says so in the greeting.
    let mut greeting = Vec::new();
    encode_frame(&Hello { wire: WIRE_VERSION, client: "y\nPRIORITY=0\n\u{1b}[2J" }, &mut greeting).unwrap();
    let mut other = Raw::connect(&house.socket()).unwrap();
    other.send(&greeting).unwrap();
    other.body().unwrap();
    // And a policy that is broken in words.
    house.write_policy("10-broken.toml", &format!("[[peer]]\nname = {HOSTILE:?}\n\"\\u001b[2J\\nPRIORITY=0\" = 1\n"));
    house.signal("front", Signal::SIGHUP);
    eventually("the policy is refused", Duration::from_secs(10), || {
        ledger::records(&house.ledger()).iter().any(|record| record["event"] == "policy_refused").then_some(())
    });
}

/// In a view of the file system of this thread's own, and of what it starts: the daemon's journald is the test's.
fn see(run: &Path) {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).unwrap();
    fs::create_dir_all("/run/systemd/journal").unwrap();
    mount(Some(run), "/run/systemd/journal", none, MsFlags::MS_BIND, none).unwrap();
}

fn is_shown(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c))
}

#[test]
fn no_text_of_a_peer_or_an_admin_forges_a_field_in_a_real_journal() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_journald) = Journald::start(dir.path()) else { return };
    let (logs, run) = (dir.path().join("log"), dir.path().join("run"));
    let variables =
        [("PASSPORTD_LOG_TO", run.join("socket").to_str().unwrap().to_owned()), ("PASSPORTD_LOG", "debug".to_owned())];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let options = with_env(Options::default().set("audit.journald", "on"), &variables);
    let records = std::thread::scope(|scope| {
        let daemon = scope.spawn(|| {
            see(&run);
            let mut house = House::start(options);
            attack(&house);
            house.stop();
            ledger::records(&house.ledger())
        });
        daemon.join().unwrap()
    });
    let last = records.last().unwrap()["seq"].to_string().into_bytes();
    let found = eventually("all of it is in the journal", Duration::from_secs(20), || {
        Some(entries(&logs)).filter(|all| all.iter().any(|entry| entry.get("PASSPORT_SEQ") == Some(&last)))
    });
    let own = |entry: &&Entry| entry.get("SYSLOG_IDENTIFIER").is_some_and(|name| name == b"passportd");
    let (copies, said): (Vec<&Entry>, Vec<&Entry>) =
        found.iter().filter(own).partition(|entry| entry.contains_key("PASSPORT_SEQ"));
    assert_eq!(copies.len(), records.len(), "each record once, and nothing else that says it is one");
    let mut hostile = BTreeSet::new();
    for record in &records {
        let mut expected = fields(record);
        let copy = copies.iter().find(|one| one["PASSPORT_SEQ"] == expected["PASSPORT_SEQ"]).unwrap();
        let event = passportd::audit::Event::ALL.iter().find(|event| record["event"] == event.name()).unwrap();
        let named = [
            ("MESSAGE_ID", event.message_id()),
            ("PRIORITY", event.priority().digit()),
            ("SYSLOG_IDENTIFIER", "passportd"),
        ];
        expected.extend(named.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())));
        let message = String::from_utf8(copy["MESSAGE"].clone()).unwrap();
        assert!(is_shown(&message) && message.starts_with(event.name()), "{message:?}");
        // What begins with an underscore is journald's word.
        let ours = copy.iter().filter(|(name, _)| !name.starts_with('_') && *name != "MESSAGE");
        let ours: Entry = ours.map(|(name, value)| (name.clone(), value.clone())).collect();
        assert_eq!(ours, expected, "{record}");
        assert_ne!(copy["_UID"], b"0".to_vec(), "the front's user, and no other: {record}");
        let texts = expected.iter().filter(|(_, value)| value.contains(&b'\n') || value.contains(&0x1b));
        hostile.extend(texts.map(|(name, _)| name.clone()));
    }
    println!("{} records, {} events; hostile in {hostile:?}", records.len(), said.len());
    assert!(["SUB", "KID", "DETAIL"].iter().all(|name| hostile.contains(&format!("PASSPORT_{name}"))));
    for entry in said {
        let text = |name: &str| String::from_utf8(entry[name].clone()).unwrap();
        let event =
            boot::events().find(|event| event.name == text("PASSPORT_EVENT")).unwrap_or_else(|| panic!("{entry:?}"));
        assert_eq!(entry.get("MESSAGE_ID").map(Vec::as_slice), event.message_id.map(str::as_bytes), "{entry:?}");
        assert!(
            ["3", "4", "5", "6", "7"].contains(&text("PRIORITY").as_str()) && is_shown(&text("MESSAGE")),
            "{entry:?}"
        );
        for name in entry.keys().filter(|name| !name.starts_with('_')) {
            let known = match name.strip_prefix("PASSPORT_") {
                Some(field) => {
                    ["EVENT", "ROLE"].contains(&field)
                        || event.fields.split_whitespace().any(|known| known.to_uppercase() == field)
                }
                None => ["MESSAGE", "MESSAGE_ID", "PRIORITY", "SYSLOG_IDENTIFIER"].contains(&name.as_str()),
            };
            assert!(known, "{name} of {entry:?}");
        }
    }
}
