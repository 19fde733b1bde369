//! State and ledger.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use passportd::audit::{Audit, AuditConfig, Entry, Event, Outcome};
use passportd::clock::Moment;
use passportd::log::{Pace, SegmentConfig};
use passportd::wire::ceremony::PlanKind;

use super::running::ended;
use super::support::house::FIRST_KEY;
use super::support::passports::demo;
use super::support::{House, Options, Users, ledger, root_or_skip, skipped};
use super::table::{By, CONFIG, Mistake, OTHER, check, give, mode, put, set, text};
use super::workshop::Workshop;

fn newest_segment(shop: &Workshop) -> PathBuf {
    let mut all: Vec<_> = fs::read_dir(shop.path("ledger")).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    all.sort();
    all.pop().unwrap()
}

/// Writes the number of a format that this version does not know, as a later one would.
fn newer_format(path: &Path) {
    let table: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("meta");
    let store = redb::Database::open(path).unwrap();
    let change = store.begin_write().unwrap();
    change.open_table(table).unwrap().insert("format", &b"4"[..]).unwrap();
    change.commit().unwrap();
}

const LEDGER: &[Mistake] = &[
    Mistake {
        what: "a record was changed",
        role: "front",
        by: By::Tester,
        spoil: |shop| {
            let path = newest_segment(shop);
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, text.replacen("alice", "mallo", 1)).unwrap();
        },
        code: CONFIG,
        finds: "ledger chain",
        says: &[
            "audit ledger: /",
            "/ledger/0000000000",
            ".jsonl, line ",
            "was altered",
            "is not repaired: copy the directory away",
            "restore it",
        ],
    },
    Mistake {
        what: "the ledger is gone, and the state is not",
        role: "front",
        by: By::Tester,
        spoil: |shop| fs::remove_file(newest_segment(shop)).unwrap(),
        code: CONFIG,
        finds: "state rows",
        says: &[
            "[audit] dir /",
            "/ledger, [state] path /",
            "the ledger ends at record 0",
            "Restore the ledger that belongs to this state",
        ],
    },
    Mistake {
        what: "something else in the ledger's directory",
        role: "front",
        by: By::Tester,
        spoil: |shop| put(&shop.path("ledger/notes.txt"), "x"),
        code: CONFIG,
        finds: "ledger chain",
        says: &["/ledger: \"notes.txt\" is not a segment of the log; move it elsewhere"],
    },
    Mistake {
        what: "others may write into the ledger's directory",
        role: "front",
        by: By::Tester,
        spoil: |shop| mode(&shop.path("ledger"), 0o777),
        code: CONFIG,
        finds: "ledger",
        says: &["/ledger: mode 0777 lets others in, must be at most 0755 (chmod it)"],
    },
    Mistake {
        what: "the ledger's directory is somebody else's",
        role: "front",
        by: By::Root,
        spoil: |shop| give(&shop.path("ledger"), 0),
        code: CONFIG,
        finds: "ledger",
        says: &["/ledger: belongs to uid 0, must belong to uid ", "chown it"],
    },
    Mistake {
        what: "the ledger's directory can't be made",
        role: "front",
        by: By::Tester,
        spoil: |shop| set(shop, "audit.dir", "/nonexistent/below/ledger"),
        code: CONFIG,
        finds: "ledger",
        says: &[
            "[audit] dir /nonexistent/below/ledger: can't create it: No such file",
            "make the directory above it first",
        ],
    },
];

const STATE: &[Mistake] = &[
    Mistake {
        what: "the state is gone, and the ledger is not",
        role: "front",
        by: By::Tester,
        spoil: |shop| fs::remove_file(shop.path("front/state.redb")).unwrap(),
        code: CONFIG,
        finds: "state file",
        says: &["/front/state.redb: there is no state file, but there has been one", "passportctl state restore"],
    },
    Mistake {
        what: "the state is damaged",
        role: "front",
        by: By::Tester,
        spoil: |shop| {
            let path = shop.path("front/state.redb");
            let mut bytes = fs::read(&path).unwrap();
            bytes[..4096].fill(0x5a);
            fs::write(&path, bytes).unwrap();
        },
        code: CONFIG,
        finds: "state rows",
        says: &["/front/state.redb: is damaged", "`passportctl state restore` puts the newest backup in its place"],
    },
    Mistake {
        what: "the state of a later version",
        role: "front",
        by: By::Tester,
        spoil: |shop| newer_format(&shop.path("front/state.redb")),
        code: CONFIG,
        finds: "state rows",
        says: &["/front/state.redb: has format 4, this passportd knows 3; use the passportd that wrote it"],
    },
    Mistake {
        what: "others may read the state",
        role: "front",
        by: By::Tester,
        spoil: |shop| mode(&shop.path("front/state.redb"), 0o644),
        code: CONFIG,
        finds: "state file",
        says: &["/front/state.redb: mode 0644 lets others in, must be at most 0600 (chmod it)"],
    },
    Mistake {
        what: "others may write into the state's directory",
        role: "front",
        by: By::Tester,
        spoil: |shop| mode(&shop.path("front"), 0o775),
        code: CONFIG,
        finds: "state",
        says: &["/front: mode 0775 lets others in, must be at most 0755 (chmod it)"],
    },
    Mistake {
        what: "the state's directory is somebody else's",
        role: "front",
        by: By::Root,
        spoil: |shop| give(&shop.path("front"), shop.signer().unwrap().0),
        code: CONFIG,
        finds: "state",
        says: &["/front: belongs to uid ", ", must belong to uid ", "chown it"],
    },
    Mistake {
        what: "the state is somebody else's",
        role: "front",
        by: By::Root,
        spoil: |shop| give(&shop.path("front/state.redb"), 0),
        code: CONFIG,
        finds: "state file",
        says: &["/front/state.redb: belongs to uid 0, must belong to uid ", "chown it"],
    },
];

#[test]
fn the_ledger() {
    check(LEDGER);
}

#[test]
fn the_state() {
    check(STATE);
}

#[test]
fn an_older_copy_of_the_state() {
    let mut house = House::start(Options::default());
    let (path, old, new) = ("front/state.redb", house.dir().join("old"), house.dir().join("new"));
    let path = house.dir().join(path);
    let next = "ed25519/t1/auth/v2";
    house.ceremony(PlanKind::Generate, "t1", "auth");
    house.stop();
    fs::copy(&path, &old).unwrap();
    house.boot();
    house.stage(next).unwrap();
    house.activate(next).unwrap();
    // Whether it ends in order or not: records after the change know of it.
    house.raw().issue(demo("alice")).unwrap();
    house.kill("front");
    house.stop();
    fs::copy(&path, &new).unwrap();
    let records = ledger::records(&house.ledger());
    let first = |event: &str| records.iter().find(|one| one["event"] == event).unwrap()["seq"].as_u64().unwrap();
    let (old_seq, new_seq) = (first("key_activated"), first("key_retired"));
    // What is in the file is replaced; owner and mode stay.
    let put = |from: &Path| fs::write(&path, fs::read(from).unwrap()).unwrap();
    put(&old);
    let refused = ended(&house, "front");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(CONFIG), "{said}");
    for says in [
        "[audit] dir /",
        "/ledger, [state] path /",
        "/front/state.redb: the ledger says that the state was changed on the strength of audit record ",
        "it is an older copy, in which later keys are forgotten and retired ones sign again",
        "Put the state that belongs to this ledger back",
    ] {
        assert!(said.contains(says), "{says}: {said}");
    }
    let numbers = format!("audit record {new_seq}, but this state knows of no change after record {old_seq}:");
    assert!(said.contains(&numbers), "{numbers}: {said}");
    put(&new);
    house.boot();
    house.wait_ready();
    assert_eq!(house.raw().issue(demo("bob")).unwrap().kid, next);
    house.stop();
}

/// A change is on record before it is made. One that a crash, or a disk, kept from being made stops no start.
#[test]
fn a_change_that_is_on_record_and_was_not_made() {
    let mut house = House::start(Options::default().users(Users::Own));
    house.stop();
    let config = AuditConfig {
        segment: SegmentConfig::default(),
        pace: Pace::default(),
        journald: None,
        now: Moment::now,
        metrics: None,
    };
    let (audit, _) = Audit::open(&house.ledger(), &config).unwrap();
    audit
        .record_blocking(Entry::new(Event::KeyActivated, Outcome::Ok, Moment::now()).kid("ed25519/t1/auth/v2"))
        .unwrap();
    audit.close();
    drop(audit);
    house.boot();
    house.wait_ready();
    assert_eq!(house.raw().issue(demo("alice")).unwrap().kid, FIRST_KEY);
    house.stop();
}

#[test]
fn what_another_process_holds() {
    let shop = Workshop::new();
    let before = shop.files();
    for (lock, says) in
        [("front/state.redb.lock", "/front/state.redb: is in use by pid "), ("ledger/lock", "/ledger: is in use")]
    {
        let held = fs::File::options().write(true).open(shop.path(lock)).unwrap();
        held.lock().unwrap();
        let ended = shop.start("front", &[]);
        assert_eq!(ended.status.and_then(|status| status.code()), Some(OTHER), "it may end: {}", ended.said);
        for says in [says, "two daemons must not share it"] {
            assert!(ended.said.contains(says), "{says}: {}", ended.said);
        }
        drop(held);
    }
    assert_eq!(shop.files(), before);
}

/// A file system without room, until this value goes.
struct Full {
    dir: tempfile::TempDir,
}

impl Full {
    fn new() -> Option<Self> {
        if !root_or_skip("a full disk") {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=16k", "tmpfs"]).arg(dir.path()).output().unwrap();
        if !mounted.status.success() {
            skipped(&format!("a full disk can't be mounted: {}", String::from_utf8_lossy(&mounted.stderr).trim()));
            return None;
        }
        Some(Self { dir })
    }

    /// Takes all pages but `left`; names need none.
    fn fill(&self, left: u64) {
        let mut filler = fs::File::create(self.dir.path().join("filler")).unwrap();
        while std::io::Write::write_all(&mut filler, &[0; 4096]).is_ok() {}
        filler.set_len(filler.metadata().unwrap().len() - left * 4096).unwrap();
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(self.dir.path()).status());
    }
}

#[test]
fn a_full_disk() {
    let Some(disk) = Full::new() else { return };
    let private = disk.dir.path().join("private");
    fs::create_dir(&private).unwrap();
    mode(disk.dir.path(), 0o755);
    let shop = Workshop::new();
    let before = shop.files();
    let Some((uid, _)) = shop.front() else { return skipped("a full disk: there are no two unprivileged users") };
    give(&private, uid);
    mode(&private, 0o700);
    shop.with(
        |shop| {
            // Without records a new state may be made, for which there is no room. (A ledger without room does not stop the
            // start: what was issued is verified.)
            disk.fill(1);
            fs::remove_dir_all(shop.path("ledger")).unwrap();
            set(shop, "state.path", text(&private.join("state.redb")));
        },
        |shop| {
            let ended = shop.start("front", &[]);
            let code = ended.status.and_then(|status| status.code());
            assert_eq!(code, Some(OTHER), "room may come: {}", ended.said);
            for says in [private.to_str().unwrap(), "No space left on device", "make room"] {
                assert!(ended.said.contains(says), "{says}: {}", ended.said);
            }
        },
    );
    assert_eq!(shop.files(), before);
}
