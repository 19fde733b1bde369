//! A socket that listens where journald would, and a real journald where this machine has one.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;
use passportd::audit::{self, Audit, AuditConfig, Event, Outcome, Peer};
use passportd::boot;
use passportd::clock::Moment;
use passportd::log::{Pace, SegmentConfig};
use passportd::verify::Way;
use passportd::wire::{Code, IssueSpec, Passport, Problem, ServiceOp, encode_frame};

use super::support::fences;
pub(super) use super::support::journald::{Journald, open};
use super::support::passports::{demo, for_demo, on_wire};
use super::support::{House, Options, eventually};
use super::with_env;

/// The `corr_id` of the requests that are looked for; docs/LOGS.md looks for it, too.
const CORR_ID: [u8; 16] =
    [0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
const CORR_ID_HEX: &str = "00112233445566778899aabbccddeeff";

/// One entry, as journald would take it.
pub(super) type Entry = BTreeMap<String, String>;

/// Reads what daemons say, all the while: what finds no room is lost, by design.
pub(super) struct Journal {
    entries: Arc<Mutex<Vec<Entry>>>,
    _ends_the_reader: Sender<()>,
}

impl Journal {
    /// A socket in `dir`, for everybody.
    pub(super) fn listen(dir: &Path) -> (Self, PathBuf) {
        let (socket, path) = bind(dir);
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let entries = Arc::new(Mutex::new(Vec::new()));
        let (end, ended) = channel::<()>();
        let into = Arc::clone(&entries);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 18];
            while ended.try_recv() == Err(TryRecvError::Empty) {
                while let Ok(len) = socket.recv(&mut buffer) {
                    into.lock().unwrap().push(decode(&buffer[..len]));
                }
            }
        });
        (Self { entries, _ends_the_reader: end }, path)
    }

    /// What has come so far.
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap().clone()
    }

    /// The first entry that `fits`.
    #[track_caller]
    pub(super) fn find(&self, what: &str, fits: impl Fn(&Entry) -> bool) -> Entry {
        eventually(what, Duration::from_secs(20), || self.entries().into_iter().find(|entry| fits(entry)))
    }
}

/// A socket in `dir` that everybody may write to.
pub(super) fn bind(dir: &Path) -> (UnixDatagram, PathBuf) {
    let path = dir.join("journal");
    let socket = UnixDatagram::bind(&path).unwrap();
    open(dir, 0o755);
    open(&path, 0o666);
    (socket, path)
}

/// Only the length-prefixed form is written.
fn decode(mut bytes: &[u8]) -> Entry {
    let mut entry = Entry::new();
    while !bytes.is_empty() {
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
        let (name, rest) = (&bytes[..end], &bytes[end + 1..]);
        let len = usize::try_from(u64::from_le_bytes(rest[..8].try_into().unwrap())).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        assert!(entry.insert(text(name), text(&rest[8..8 + len])).is_none(), "{entry:?}");
        bytes = &rest[9 + len..];
    }
    entry
}

fn is(event: &str) -> impl Fn(&Entry) -> bool {
    move |entry| entry.get("PASSPORT_EVENT").is_some_and(|name| name == event)
}

fn ask(house: &House, op: ServiceOp<'_>) -> Result<(), Problem> {
    let mut raw = house.raw();
    let mut frame = Vec::new();
    encode_frame(&passportd::wire::Request { id: 1, corr_id: CORR_ID, op }, &mut frame).unwrap();
    raw.send(&frame).unwrap();
    raw.reply().result.map(drop)
}

/// A request of each kind, with [`CORR_ID`].
fn use_it(house: &House) {
    let passport = house.raw().issue(demo("alice")).unwrap();
    let stranger = Passport::Envelope { alg: "Ed25519", kid: "ed25519/x/y/v1", msg: b"{}", sig: &[0; 64] };
    ask(house, ServiceOp::Issue(demo("alice"))).unwrap();
    ask(house, ServiceOp::Issue(IssueSpec { template: "none", ..demo("alice") })).unwrap_err();
    ask(house, ServiceOp::Verify { want: for_demo(), passport: on_wire(&passport) }).unwrap();
    let items = vec![on_wire(&passport), stranger, on_wire(&passport)];
    ask(house, ServiceOp::VerifyBatch { want: for_demo(), items }).unwrap();
}

#[test]
fn every_field_of_a_request_reaches_journald() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, path) = Journal::listen(dir.path());
    let options =
        with_env(Options::default(), &[("PASSPORTD_LOG_TO", path.to_str().unwrap()), ("PASSPORTD_LOG", "debug")]);
    let house = House::start(options);
    use_it(&house);
    let own = |entry: &Entry, name: &str| entry.get(name).cloned().unwrap_or_default();
    let corr_id = |entry: &Entry| entry.get("PASSPORT_CORR_ID").is_some_and(|id| id == CORR_ID_HEX);
    let path_in_force = Way::fastest().name();
    for (event, op, more) in [
        ("issued", "issue", vec![("KID", "ed25519/t1/auth/v1"), ("RESULT", "ok"), ("BATCH_LEN", "1")]),
        ("answer_refused", "issue", vec![("REASON", "op_denied"), ("RESULT", "refused")]),
        ("verified", "verify", vec![("KID", "ed25519/t1/auth/v1"), ("RESULT", "ok"), ("VERIFY_PATH", path_in_force)]),
        ("verified", "verify_batch", vec![("BATCH_LEN", "3"), ("ACCEPTED", "2"), ("RESULT", "mixed")]),
    ] {
        let found = journal.find(event, |entry| is(event)(entry) && own(entry, "PASSPORT_OP") == op && corr_id(entry));
        for (name, value) in more {
            assert_eq!(own(&found, &format!("PASSPORT_{name}")), value, "{name} of {found:?}");
        }
        assert_eq!(own(&found, "PASSPORT_PEER_UID"), nix::unistd::geteuid().to_string());
        assert_eq!(own(&found, "PASSPORT_PEER_PID"), std::process::id().to_string());
        assert_eq!(own(&found, "PASSPORT_LISTENER"), "main");
        assert_eq!(own(&found, "PASSPORT_ROLE"), "front");
        assert_eq!((own(&found, "PRIORITY"), own(&found, "SYSLOG_IDENTIFIER")), ("7".into(), "passportd".into()));
    }
    for role in ["front", "signer"] {
        let ready = journal.find(role, |entry| is("ready")(entry) && own(entry, "PASSPORT_ROLE") == role);
        assert_eq!((own(&ready, "PASSPORT_READY"), own(&ready, "PRIORITY")), ("1".into(), "6".into()));
    }
    // Whatever was said is in the table, with its id and no other field.
    for entry in &journal.entries() {
        let event = boot::events().find(|event| is(event.name)(entry)).unwrap_or_else(|| panic!("{entry:?}"));
        assert_eq!(entry.get("MESSAGE_ID").map(String::as_str), event.message_id, "{entry:?}");
        let fields = entry.keys().filter_map(|name| name.strip_prefix("PASSPORT_"));
        for field in fields.filter(|field| !["EVENT", "ROLE"].contains(field)) {
            let known = event.fields.split_whitespace().any(|known| known.to_uppercase() == field);
            assert!(known, "{field} of {entry:?}");
        }
    }
    assert_eq!(house.log(), "", "nothing of it on standard error");
}

#[test]
fn crashes_and_the_hsm_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, path) = Journal::listen(dir.path());
    let mut house = House::start(with_env(Options::default(), &[("PASSPORTD_LOG_TO", path.to_str().unwrap())]));
    journal.find("the HSM signs", is("hsm_up"));
    house.kill("signer");
    let crashed = journal.find("the crash", is("service_crashed"));
    let own = |name: &str| crashed.get(name).map(String::as_str);
    assert_eq!(
        (own("PASSPORT_SERVICE"), own("PASSPORT_ROLE"), own("PRIORITY")),
        (Some("signer"), Some("run"), Some("3"))
    );
    assert!(own("PASSPORT_REASON").unwrap().contains("SIGKILL"), "{crashed:?}");
    let down = journal.find("the HSM is away", is("hsm_down"));
    assert!(!down["PASSPORT_REASON"].is_empty());
    house.wait_ready();
    house.signal("front", Signal::SIGHUP);
    journal.find("the reload", is("reloaded"));
    house.write_policy("10-broken.toml", "[[peer]]\nname = 1\n");
    house.signal("front", Signal::SIGHUP);
    let refused = journal.find("the broken reload", is("reload_refused"));
    assert!(refused["PASSPORT_ERROR"].contains("10-broken.toml:2"), "{refused:?}");
}

#[test]
fn a_failure_of_ours_is_told_without_asking_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, path) = Journal::listen(dir.path());
    let house =
        House::start(with_env(Options::default().without_keys(), &[("PASSPORTD_LOG_TO", path.to_str().unwrap())]));
    house.raw().issue(IssueSpec { template: "none", ..demo("x") }).unwrap_err();
    // Far more than are written one by one; a summary counts the rest.
    for _ in 0..100 {
        house.raw().issue(demo("x")).unwrap_err();
    }
    let failed = journal.find("the failure", is("answer_failed"));
    assert_eq!((&*failed["PASSPORT_REASON"], &*failed["PASSPORT_OP"]), ("not_ready", "issue"));
    let storm = journal.find("the summary", is("log_storm"));
    assert_eq!((&*storm["PASSPORT_OF"], &*storm["PASSPORT_REASON"]), ("answer_failed", "not_ready"));
    eventually("each is written or counted", Duration::from_secs(20), || {
        let entries = journal.entries();
        let written = entries.iter().filter(|entry| is("answer_failed")(entry)).count();
        let storms = entries.iter().filter(|entry| is("log_storm")(entry));
        let counted: usize = storms.map(|entry| entry["PASSPORT_COUNT"].parse::<usize>().unwrap()).sum();
        (written + counted == 100).then_some(())
    });
    assert!(!journal.entries().iter().any(is("answer_refused")), "that is for debug");
}

/// What each query of docs/LOGS.md has to find, in their order.
const FINDS: [&[&str]; 12] = [
    &["it ended; starting it again"],
    &["serving ready=1"],
    &["\"PASSPORT_SERVICE\":\"signer\"", "\"PASSPORT_ROLE\":\"run\"", "\"PASSPORT_REASON\":"],
    // What process 1 says nobody else can say, and here it is not systemd: no more can be seen than that it is a query.
    &["-- No entries --"],
    &["the HSM does not sign", "the HSM signs"],
    // Of both kinds.
    &["PASSPORT_EVENT=verified", "PASSPORT_OP=verify_batch", "PASSPORT_EVENT=passport_issued", "PASSPORT_SEQ="],
    &["reason=\"hsm_timeout\""],
    &[" hsm_timeout"],
    &["of=\"answer_refused\""],
    // And of audit records each that it names.
    &["\"PASSPORT_PEER_UID\":\"1000\""],
    &["\"PASSPORT_SUB\":\"alice\""],
    &["signature_rejected", "ledger_break"],
];

/// A record of each kind, by the code that copies those of a daemon. A daemon's own go to the system's journal.
fn audited(dir: &Path, socket: PathBuf) {
    fs::create_dir(dir).unwrap();
    open(dir, 0o700);
    let config = AuditConfig {
        segment: SegmentConfig::default(),
        pace: Pace::default(),
        journald: Some(socket),
        now: Moment::now,
        metrics: None,
    };
    let (audit, opened) = Audit::open(dir, &config).unwrap();
    assert!(opened.journald);
    let entry = |event| {
        let peer = Peer { uid: 1000, gid: 1000, pid: 1, listener: "main".to_owned() };
        audit::Entry::new(event, Outcome::Ok, Moment::now()).corr_id(CORR_ID).peer(peer)
    };
    for event in Event::ALL.iter().copied() {
        let entry = if event == Event::PassportIssued { entry(event).subject("alice") } else { entry(event) };
        audit.record_blocking(entry).unwrap();
    }
    audit.close();
}

/// The events that a query names; each is one that there is.
fn events(query: &str) -> Vec<&str> {
    let names = query.split("PASSPORT_EVENT=").skip(1).map(|rest| rest.split_whitespace().next().unwrap());
    let is_known = |name: &str| {
        boot::events().any(|event| event.name == name) || Event::ALL.iter().any(|event| event.name() == name)
    };
    names.inspect(|name| assert!(is_known(name), "{query}: no event is called {name}")).collect()
}

/// The queries of docs/LOGS.md, as they stand, against a real journal; only the uid that failed is the tester's.
#[test]
fn the_queries_of_the_document_find_what_they_promise() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_journald) = Journald::start(dir.path()) else { return };
    let socket = dir.path().join("run/socket");
    let options = Options::default().set("hsm.op_timeout_ms", 300);
    let variables = [("PASSPORTD_LOG_TO", socket.to_str().unwrap()), ("PASSPORTD_LOG", "debug")];
    let mut house = House::start(with_env(options, &variables));
    // Refusals enough for a summary, and a failure for each thing that can be asked for.
    for _ in 0..100 {
        house.raw().issue(IssueSpec { template: "none", ..demo("x") }).unwrap_err();
    }
    house.freeze("signer");
    assert_eq!(house.raw().issue(demo("alice")).unwrap_err().code, Code::HsmTimeout);
    house.kill("signer");
    eventually("the signer is back", Duration::from_secs(20), || house.raw().issue(demo("alice")).ok());
    use_it(&house);
    audited(&dir.path().join("ledger"), socket);
    let blocks: Vec<_> = fences::all().into_iter().filter(|fence| fence.page == "docs/LOGS.md").collect();
    assert_eq!(blocks.len(), FINDS.len(), "what does each query find?");
    let logs = dir.path().join("log");
    let run = |block: &str| {
        let here = format!("journalctl() {{ command journalctl -D '{}' \"$@\"; }}\n{block}", logs.display());
        let output = Command::new("bash").args(["-euo", "pipefail", "-c", &here]).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success(), "{block}\n{said}");
        said
    };
    let uid = format!("PASSPORT_PEER_UID={} --no-pager\n", nix::unistd::geteuid());
    for (block, finds) in blocks.iter().zip(FINDS) {
        let query = match block.text.contains("=answer_failed") {
            true => block.text.replace("PASSPORT_PEER_UID=1000 --no-pager\n", &uid),
            false => block.text.clone(),
        };
        let records =
            events(&block.text).into_iter().filter(|name| Event::ALL.iter().any(|event| event.name() == *name));
        for says in finds.iter().copied().chain(records) {
            let what = format!("{}: {says}", block.place());
            eventually(&what, Duration::from_secs(20), || run(&query).contains(says).then_some(()));
        }
    }
}
