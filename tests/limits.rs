//! `docs/LIMITS.md` is held to the code: each bound is the one of the code or the configuration, each test that it names
//! exists. The bounds that no other test goes to are gone to here.
#![cfg(test)]

#[expect(dead_code, reason = "shared by several tests")]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use passportd::config::reference_markdown;
use passportd::wire::ceremony::{PlanKind, Request, Response, call};
use passportd::wire::{AdminOp, Code, Greeting, ServiceOp, decode};
use support::passports::{demo, for_demo, on_wire};
use support::raw::{Raw, hello, request};
use support::{House, Options, eventually, ledger, process, root_or_skip};

/// Somebody whom no rule names.
const STRANGER: u32 = 41_007;

fn text(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What stands between backquotes.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Cells of every row of the page's tables of five columns.
fn rows(page: &str) -> Vec<Vec<&str>> {
    page.lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| what "))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>())
        .filter(|cells| cells.len() == 5)
        .collect()
}

#[test]
fn the_page_says_what_the_code_does() {
    let page = text("docs/LIMITS.md");
    let (rows, reference) = (rows(&page), reference_markdown());
    assert!(rows.len() >= 40, "{} rows", rows.len());
    for row in rows {
        let [what, bound, _, place, test] = row.try_into().unwrap();
        assert!(!what.is_empty() && !bound.is_empty());
        match quoted(place)[..] {
            [key, value] if place.contains("` = `") => {
                let line = format!("| `{key}` | `{value}` |");
                assert!(reference.contains(&line), "{what}: {line} is not in the configuration");
            }
            // A rule that cannot be tuned. Nothing is cited for it, least of all a number that happens to be the same.
            [] => assert!(place.starts_with("in no number: "), "{what}: where it is set is {place:?}"),
            [file, constant] => {
                let layout = constant.starts_with("LAYOUT") || constant.starts_with("VERSION");
                assert!(!layout, "{what}: {constant:?} numbers a format and bounds nothing");
                let found = text(file).lines().any(|line| line.trim_end_matches([';', ',']).ends_with(constant));
                assert!(found, "{what}: {file} has no line {constant:?}");
            }
            ref other => panic!("{what}: where it is set is {other:?}"),
        }
        let [file, name] = quoted(test)[..] else { panic!("{what}: held by {test:?}") };
        let source = text(file);
        let found = source.split_once(&format!("fn {name}("));
        let (before, _) = found.unwrap_or_else(|| panic!("{what}: {file} has no test {name}"));
        let marked = before.lines().rev().take(4).any(|line| line.contains("test]") || line.contains("test("));
        assert!(marked, "{what}: {name} is no test");
    }
}

/// The files of a directory and of those in it.
fn sources(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

/// Every number that the daemon calls a maximum is on the page: as a row, or in the list of lengths. The client and the tool
/// bound themselves.
#[test]
fn every_maximum_of_the_code_is_on_the_page() {
    let (root, page) = (Path::new(env!("CARGO_MANIFEST_DIR")), text("docs/LIMITS.md"));
    let (mut missing, mut found) = (Vec::new(), 0);
    for path in sources(&root.join("src")) {
        let file = path.strip_prefix(root).unwrap().to_str().unwrap();
        if ["src/cli/", "src/client/"].iter().any(|aside| file.starts_with(aside)) || file.contains("tests") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        // Tests stand behind the code.
        let (code, _) = text.split_once("mod tests {").unwrap_or((&text, ""));
        for line in code.lines().filter(|_| !file.ends_with("fuzzing.rs")) {
            let Some((_, rest)) = line.split_once("const ").filter(|(before, _)| !before.contains("//")) else {
                continue;
            };
            let (name, kind) = rest.split_once(':').unwrap_or_default();
            let number = ["usize", "u64", "u32", "u16", "i64"].iter().any(|one| kind.trim_start().starts_with(one));
            let bound = name.starts_with("MAX_") || name.ends_with("PER_SECOND");
            if bound && number {
                found += 1;
                let place = format!("`{file}` `{}`", rest.trim_end_matches(';'));
                missing.extend((!page.contains(&place)).then_some(place));
            }
        }
    }
    assert!(found > 50 && missing.is_empty(), "{found} found; not on the page:\n{}", missing.join("\n"));
}

/// Settings of these sections that bound nothing.
const NO_BOUNDS: [(&str, &str); 2] =
    [("verify.engine", "how, not how much"), ("verify.max_wait_us", "accepted for compatibility; nothing waits")];

/// Every setting that bounds the work for peers is on the page with its default; that it is the right one, the page's
/// rows are held to by the first test.
#[test]
fn every_bound_of_the_configuration_is_on_the_page() {
    let (page, reference) = (text("docs/LIMITS.md"), reference_markdown());
    let sections = ["verify.", "limits.", "server.max_"];
    let keys = reference.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(key, _)| key);
    let keys: Vec<_> = keys.filter(|key| sections.iter().any(|section| key.starts_with(section))).collect();
    assert!(keys.len() > 15 && NO_BOUNDS.iter().all(|(key, _)| keys.contains(key)), "{keys:?}");
    let bounds = keys.iter().filter(|key| NO_BOUNDS.iter().all(|(other, _)| other != *key));
    let missing: Vec<_> = bounds.filter(|key| !page.contains(&format!("`{key}` = `"))).collect();
    assert!(missing.is_empty(), "not on the page: {missing:?}");
}

/// What stands in the list of lengths is what the code says, too.
#[test]
fn the_list_of_lengths_says_what_the_code_does() {
    let page = text("docs/LIMITS.md");
    let (_, list) = page.split_once("## Lengths").unwrap();
    let (list, _) = list.split_once("\n## ").unwrap();
    let rows: Vec<_> = list.lines().filter(|line| line.starts_with("| ") && line.contains('`')).collect();
    assert!(rows.len() >= 20, "{}", rows.len());
    for row in rows {
        let place = row.trim_matches(['|', ' ']).rsplit('|').next().unwrap();
        let [file, constant] = quoted(place)[..] else { panic!("{row}") };
        let there = text(file).lines().any(|line| line.trim_end_matches(';').ends_with(constant));
        assert!(there, "{file} has no line {constant:?}");
    }
}

/// The answer to a greeting of a peer that may have been turned away before it could say anything.
fn greeted(mut raw: Raw) -> (Raw, Greeting) {
    drop(raw.send(&hello()));
    let body = raw.body().unwrap().expect("a greeting");
    (raw, decode(&body).unwrap())
}

#[test]
fn admins_have_places_of_their_own_and_so_many() {
    let house =
        House::start(Options::default().set("server.max_connections", 8).set("server.max_connections_per_uid", 8));
    // Services have taken every place that one uid can have.
    let services: Vec<Raw> = std::iter::from_fn(|| {
        let (raw, greeting) = greeted(Raw::connect(&house.socket()).unwrap());
        matches!(greeting, Greeting::Welcome(_)).then_some(raw)
    })
    .take(20)
    .collect();
    assert_eq!(services.len(), 7, "one of eight is kept for others");
    let mut admins: Vec<Raw> = Vec::new();
    loop {
        match greeted(Raw::connect(&house.admin_socket()).unwrap()) {
            (raw, Greeting::Welcome(_)) => admins.push(raw),
            (_, Greeting::Refused(problem)) => break assert_eq!(problem.code, Code::Busy),
        }
        assert!(admins.len() <= 16, "one uid has at most 16");
    }
    assert_eq!(admins.len(), 16);
    assert!(admins.iter_mut().all(|raw| raw.admin(AdminOp::Health).is_ok()));
    if root_or_skip("admins of other uids") {
        let knock =
            |uid| greeted(Raw::over(support::people::connect_as(&house.admin_socket(), uid, uid, &[])).unwrap());
        let mut others: Vec<_> = (0..20)
            .map(|_| knock(STRANGER))
            .take_while(|(_, greeting)| matches!(greeting, Greeting::Welcome(_)))
            .collect();
        assert_eq!(others.len(), 12, "the last four of 32 are kept for uids that have none");
        for uid in STRANGER + 1..=STRANGER + 4 {
            let (raw, greeting) = knock(uid);
            assert!(matches!(greeting, Greeting::Welcome(_)), "uid {uid}");
            others.push((raw, greeting));
        }
        let Greeting::Refused(problem) = knock(STRANGER + 5).1 else { panic!("a 33rd admin") };
        assert_eq!((problem.code, problem.message.as_str()), (Code::Busy, "all connections are taken"));
    }
}

#[test]
fn refusals_on_record_are_so_many_a_second() {
    if !root_or_skip("a peer that no rule names, which is another uid") {
        return;
    }
    let house = House::start(Options::default());
    let mut raw = house.raw_as(STRANGER, STRANGER, &[]);
    let begun = Instant::now();
    for _ in 0..200 {
        assert_eq!(raw.ask(ServiceOp::Keys { if_etag: None }).unwrap_err().code, Code::NoPeerPolicy);
    }
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap() + 1;
    let refused = || ledger::records(&house.ledger()).iter().filter(|record| record["outcome"] == "refused").count();
    eventually("ten are on record", Duration::from_secs(5), || (refused() >= 10).then_some(()));
    assert!(refused() <= 10 * (seconds + 1), "{} of 200 in {seconds} s", refused());
}

/// The ceremonies that `run` has started and that have not ended.
fn ceremonies(house: &House) -> usize {
    let children = process::children(house.pid("run"));
    children.into_iter().filter(|pid| process::role_of(*pid).as_deref() == Some("ceremony")).count()
}

#[test]
fn two_ceremonies_are_accepted_and_the_next_waits() {
    let house = House::start(Options::default().without_keys());
    let socket = house.dir().join("ceremony.sock");
    // They say nothing; each has ten seconds for it.
    let begun = Instant::now();
    let mut held: Vec<_> = (0..2).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    eventually("two are under way", Duration::from_secs(8), || (ceremonies(&house) == 2).then_some(()));
    let (tell, told) = mpsc::channel();
    let third = UnixStream::connect(&socket).unwrap();
    let asks = thread::spawn(move || {
        let doctor = Request { plan: PlanKind::Doctor, ..Request::default() };
        tell.send(call(third, &doctor, b"")).unwrap();
    });
    assert!(told.recv_timeout(Duration::from_secs(1)).is_err(), "it waits to be accepted");
    assert_eq!(ceremonies(&house), 2);
    held.remove(0);
    let answer = told.recv_timeout(Duration::from_secs(20)).expect("it has its turn").unwrap();
    assert!(matches!(&answer, Response::Done(report) if !report.findings.is_empty()), "{answer:?}");
    asks.join().unwrap();
    // The other one is cut off when its time is up.
    let mut silent = held.remove(0);
    silent.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    silent.read_to_end(&mut Vec::new()).expect("its end");
    let took = begun.elapsed();
    assert!((Duration::from_secs(10)..Duration::from_secs(20)).contains(&took), "cut off after {took:?}");
}

/// The names of a process's threads, each with how many have it.
fn threads(pid: i32) -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        // One that ends meanwhile has no name any more.
        let Ok(name) = fs::read_to_string(thread.unwrap().path().join("comm")) else { continue };
        *names.entry(name.trim().to_owned()).or_default() += 1;
    }
    names
}

/// The page's list, by name.
fn list(of: &[(&str, usize)]) -> BTreeMap<String, usize> {
    of.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

#[test]
fn threads_do_not_grow_with_load() {
    let processors = thread::available_parallelism().unwrap().get();
    for engine in ["dalek", "auto"] {
        let house = House::start(Options::default().set("hsm.sessions", 2).set("verify.engine", engine));
        let (front, signer) = (house.pid("front"), house.pid("signer"));
        // There is no journald. The log and the ledger are of one name, and so are the main thread and the program.
        let mut of_front = list(&[
            ("passportd", 1),
            ("services", processors),
            ("admins", 1),
            ("log", 2),
            ("retention", 1),
            ("state", 1),
        ]);
        of_front.extend((engine == "auto").then(|| ("verify-sample".to_owned(), 1)));
        let mut of_signer = list(&[
            ("passportd", 1),
            ("hsm-0", 1),
            ("hsm-1", 1),
            ("hsm-watchdog", 1),
            ("hsm-healer", 1),
            ("link", 1),
            ("link-writer", 1),
            ("log", 1),
        ]);
        of_signer.extend((engine == "auto").then(|| ("verify-sample".to_owned(), 1)));
        // What read at the reload that the house begins with goes by itself.
        eventually("the page's threads and no other", Duration::from_secs(30), || {
            let (now_front, now_signer) = (threads(front), threads(signer));
            println!("{engine}: front {now_front:?}, signer {now_signer:?}");
            (now_front == of_front && now_signer == of_signer).then_some(())
        });
        let issue = request(1, ServiceOp::Issue(demo("thread")));
        let passport = house.raw().issue(demo("thread")).unwrap();
        let verify = request(1, ServiceOp::Verify { want: for_demo(), passport: on_wire(&passport) });
        let frames = [issue, verify].concat().repeat(4);
        let mut connections: Vec<Raw> = (0..100).map(|_| house.raw()).collect();
        for raw in &mut connections {
            raw.send(&frames).unwrap();
        }
        assert_eq!((threads(front), threads(signer)), (of_front, of_signer), "under way with 800 requests");
        for raw in &mut connections {
            (0..8).for_each(|_| drop(raw.reply()));
        }
    }
}
