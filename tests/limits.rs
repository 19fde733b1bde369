//! `docs/LIMITS.md` is held to the code: each bound is the one of the code or the configuration, each test that it names
//! exists. The bounds that no other test goes to are gone to here.
#![cfg(test)]

#[path = "abuse/proc.rs"]
#[expect(dead_code, reason = "shared by several tests")]
mod proc;
#[expect(dead_code, reason = "shared by several tests")]
mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use passportd::config::reference_markdown;
use passportd::wire::{AdminOp, Code, Greeting, ServiceOp, decode};
use support::passports::demo;
use support::raw::{Raw, hello, request};
use support::{House, Options, eventually, ledger, root_or_skip};

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
            [file, constant] => {
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
        let others: Vec<_> = (0..20)
            .map(|_| knock(STRANGER))
            .take_while(|(_, greeting)| matches!(greeting, Greeting::Welcome(_)))
            .collect();
        assert_eq!(others.len(), 12, "the last four of 32 are kept for uids that have none");
        assert!(matches!(knock(STRANGER + 1).1, Greeting::Welcome(_)));
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

#[test]
fn threads_do_not_grow_with_load() {
    let house = House::start(Options::default().set("hsm.sessions", 2));
    let (front, signer) = (house.pid("front"), house.pid("signer"));
    let processors = std::thread::available_parallelism().unwrap().get();
    let frame = request(1, ServiceOp::Issue(demo("thread")));
    let mut connections: Vec<Raw> = (0..100).map(|_| house.raw()).collect();
    for raw in &mut connections {
        raw.send(&frame.repeat(4)).unwrap();
    }
    let (of_front, of_signer) = (proc::threads(front), proc::threads(signer));
    for raw in &mut connections {
        (0..4).for_each(|_| drop(raw.reply()));
    }
    println!("under way with 400 requests: front {of_front} threads, signer {of_signer}");
    // The page's list, and a few that the runtime lends for files and names.
    assert!(of_front <= processors + 6 + 4, "front: {of_front}");
    assert!(of_signer <= 2 + 5 + 2 * 2, "signer: {of_signer}");
}
