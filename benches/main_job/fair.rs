//! One uid floods, another works: what the one who works still gets, against what it gets alone.
//!
//! The flood comes from a process of another uid on the same processors, so a part of what it takes is its own time, and
//! not the daemon's to give.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use passportd::passport::OwnedEnvelope;
use passportd::wire::Request;
use passportd::wire::{ServiceOp, encode_frame};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::support::House;
use super::support::passports::{demo, for_demo, on_wire};
use super::support::raw::hello;
use super::{Bar, ctl, median};

/// Tells this program to flood, and how.
pub(super) const FLOOD: &str = "PASSPORTD_BENCH_FLOOD";
const SOCKET: &str = "PASSPORTD_BENCH_SOCKET";
const PASSPORT: &str = "PASSPORTD_BENCH_PASSPORT";
/// The file in which the flood of connections says how many it has made; no counter of the daemon's does.
const CONNECTED: &str = "connected";

/// Who floods; a rule lets it verify.
pub(super) const OTHER: u32 = 41_002;

const FLOODS: [&str; 5] = ["frames", "connections", "bad_signatures", "giant_batches", "never_reading"];

/// Rounds of each flood; a bar's value is the median of their ratios.
const ROUNDS: usize = 3;
/// Length of the figures at given rates, and of those of a peer that asks as fast as it is answered.
const PACED: &str = "5";
const CLOSED: &str = "2";

/// What a flood does at least, in the time of one round, to be one: requests that the daemon counted, or connections.
const AT_LEAST: f64 = 50.0;

/// Bars for each kind of flood: what a peer at given rates is answered, how long that takes, and what a peer gets that
/// asks as fast as it is answered.
pub(super) fn bars(house: &House) -> Vec<Bar> {
    beside(house, &FLOODS, "fair")
}

/// The bars of some kinds of flood, whose names begin with `prefix`.
pub(super) fn beside(house: &House, kinds: &[&str], prefix: &str) -> Vec<Bar> {
    if !nix::unistd::geteuid().is_root() {
        println!("fair_*: not measured, since only root can be two users");
        return vec![Bar { name: "fair", value: 0.0, unit: "", bar: "as root", pass: false }];
    }
    let mut bars = Vec::new();
    println!(
        "a peer at 1,000 verifications and 50 issues a second, and then as fast as it can, beside a flood of another uid:"
    );
    println!(
        "{:16} {:>12} {:>10} {:>12} {:>12} {:>12} {:>12} {:>12} {:>12}",
        "flood", "of which", "answered", "verify p99", "alone", "issue p99", "alone", "unpaced/s", "alone"
    );
    for kind in kinds {
        let (mut throughput, mut slower, mut unpaced) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (alone, beside) = (Figures::of(house, None), Figures::of(house, Some(kind)));
            println!(
                "{kind:16} {:12.0} {:9.1}% {:9.0} us {:9.0} us {:9.0} us {:9.0} us {:12.0} {:12.0}",
                beside.flooded,
                100.0 * beside.answered / alone.answered,
                beside.verify_p99,
                alone.verify_p99,
                beside.issue_p99,
                alone.issue_p99,
                beside.unpaced,
                alone.unpaced,
            );
            throughput.push(beside.answered / alone.answered);
            slower.push((beside.verify_p99 / alone.verify_p99).max(beside.issue_p99 / alone.issue_p99));
            unpaced.push(beside.unpaced / alone.unpaced);
        }
        let name = |what: &str| -> &'static str { Box::leak(format!("{prefix}_{kind}_{what}").into_boxed_str()) };
        let bar = |name, value, bar, pass| Bar { name, value, unit: "ratio", bar, pass };
        let [throughput, slower, unpaced] = [throughput, slower, unpaced].map(median);
        bars.push(bar(name("throughput"), throughput, ">= 0.8", throughput >= 0.8));
        bars.push(bar(name("p99"), slower, "<= 5", slower <= 5.0));
        // Were the daemon not fair, eight connections that flood would leave the two of the peer a fifth.
        bars.push(bar(name("unpaced"), unpaced, ">= 0.33", unpaced >= 0.33));
    }
    bars
}

struct Figures {
    answered: f64,
    verify_p99: f64,
    issue_p99: f64,
    /// Verifications a second of a peer that asks again as soon as it is answered.
    unpaced: f64,
    /// What the flood did meanwhile.
    flooded: f64,
}

impl Figures {
    /// The peer is connected when the flood begins, as services are.
    fn of(house: &House, flood: Option<&str>) -> Self {
        let rates = ["--issues-per-second", "50", "--verifies-per-second", "1000"];
        let paced = [&["bench", "mixed", "--connections", "2", "--seconds", PACED], &rates[..]].concat();
        let closed = ["bench", "verify", "--connections", "2", "--in-flight", "4", "--seconds", CLOSED];
        thread::scope(|scope| {
            let peer = scope.spawn(|| (ctl(house, &paced), ctl(house, &closed)));
            thread::sleep(Duration::from_millis(500));
            let flood = flood.map(|kind| Flood::start(house, kind));
            let (ours, unpaced) = peer.join().unwrap();
            let number = |name: &str| ours[name].as_f64().unwrap();
            Self {
                answered: number("issue_per_second") + number("verify_per_second"),
                verify_p99: number("verify_p99_us"),
                issue_p99: number("issue_p99_us"),
                unpaced: unpaced["per_second"].as_f64().unwrap(),
                flooded: flood.map_or(0.0, |flood| flood.end(house)),
            }
        })
    }
}

/// The flooding process; it ends with this value.
struct Flood {
    kind: String,
    child: Child,
    dir: PathBuf,
    /// What the daemon had counted of its kind before.
    before: f64,
}

impl Flood {
    fn start(house: &House, kind: &str) -> Self {
        let mut passport = house.raw().issue(demo("flood")).unwrap();
        passport.sig[40] ^= 1;
        let dir = house.dir().join("flood");
        std::fs::create_dir(&dir).unwrap();
        // Who floods leaves its count here.
        std::os::unix::fs::chown(&dir, Some(OTHER), None).unwrap();
        let file = dir.join("passport.json");
        std::fs::write(&file, passport.to_json()).unwrap();
        let before = counted(house, kind);
        let mut command = Command::new(std::env::current_exe().unwrap());
        let child = command.env(FLOOD, kind).env(SOCKET, house.socket()).env(PASSPORT, &file).spawn().unwrap();
        Self { kind: kind.to_owned(), child, dir, before }
    }

    /// What it did. A flood that did not happen would make every bar look good.
    fn end(mut self, house: &House) -> f64 {
        let ended = self.child.try_wait().unwrap();
        assert_eq!(ended, None, "the flood {} ended before the peer did", self.kind);
        let connections = std::fs::read_to_string(self.dir.join(CONNECTED)).unwrap_or_default();
        let connections: f64 = connections.parse().unwrap_or(0.0);
        let did = if self.kind == "connections" { connections } else { counted(house, &self.kind) - self.before };
        assert!(did >= AT_LEAST, "the flood {} did {did}, which is none", self.kind);
        did
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

/// What the daemon has counted of what a flood of this kind asks for.
fn counted(house: &House, kind: &str) -> f64 {
    let label = match kind {
        "frames" => "op=\"unreadable\"",
        "giant_batches" => "op=\"verify_batch\"",
        "never_reading" => "op=\"keys\"",
        // The peer verifies, too, but what verifies.
        "bad_signatures" => "reason=\"verify_failed\"",
        _ => return 0.0,
    };
    let (_, text) = house.get("/metrics");
    let counters = ["passport_requests_total{", "passport_failures_total{"];
    let lines = text.lines().filter(|line| line.contains(label) && counters.iter().any(|name| line.starts_with(name)));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// Floods until it is killed.
pub(super) fn flood(kind: &str) {
    let socket = PathBuf::from(std::env::var_os(SOCKET).unwrap());
    let file = PathBuf::from(std::env::var_os(PASSPORT).unwrap());
    let (passport, count) = (std::fs::read(&file).unwrap(), file.with_file_name(CONNECTED));
    let passport = OwnedEnvelope::from_json(&passport).unwrap();
    set_thread_groups(&[]).unwrap();
    let (gid, uid) = (Gid::from_raw(OTHER), Uid::from_raw(OTHER));
    set_thread_res_gid(gid, gid, gid).unwrap();
    set_thread_res_uid(uid, uid, uid).unwrap();
    let frame = |op| {
        let mut frame = Vec::new();
        encode_frame(&Request { id: 1, corr_id: [0; 16], op }, &mut frame).unwrap();
        frame
    };
    let single = || ServiceOp::Verify { want: for_demo(), passport: on_wire(&passport) };
    let batch = || ServiceOp::VerifyBatch { want: for_demo(), items: vec![on_wire(&passport); 512] };
    match kind {
        "frames" => pour(&socket, 8, &[&[0, 0, 0, 5, 1, 0, 0, 0, 0xff][..]; 1000].concat(), true),
        "bad_signatures" => pour(&socket, 8, &frame(single()).repeat(100), true),
        "giant_batches" => pour(&socket, 8, &frame(batch()), true),
        "never_reading" => pour(&socket, 64, &frame(ServiceOp::Keys { if_etag: None }).repeat(500), false),
        "connections" => {
            let connected = AtomicU64::new(0);
            let storm = || {
                while UnixStream::connect(&socket).is_ok() {
                    connected.fetch_add(1, Ordering::Relaxed);
                }
            };
            thread::scope(|scope| {
                (0..4).for_each(|_| drop(scope.spawn(storm)));
                loop {
                    thread::sleep(Duration::from_millis(100));
                    std::fs::write(&count, connected.load(Ordering::Relaxed).to_string()).unwrap();
                }
            });
        }
        other => panic!("no flood is called {other}"),
    }
}

/// Sends the same bytes over and over, on so many connections; one that the daemon cuts off is made again.
fn pour(socket: &Path, connections: usize, bytes: &[u8], read: bool) {
    thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                loop {
                    let Ok(mut stream) = UnixStream::connect(socket) else { continue };
                    if read {
                        let mut replies = stream.try_clone().unwrap();
                        thread::spawn(move || {
                            let mut buffer = vec![0; 1 << 16];
                            while replies.read(&mut buffer).is_ok_and(|n| n > 0) {}
                        });
                    }
                    if stream.write_all(&hello()).is_ok() {
                        while stream.write_all(bytes).is_ok() {}
                    }
                }
            });
        }
    });
}
