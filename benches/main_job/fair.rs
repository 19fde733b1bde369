//! One uid floods, another works: what the one who works still gets, against what it gets alone.
//!
//! The flood comes from a process of another uid on the same processors, so a part of what it takes is its own time, and
//! not the daemon's to give.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
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
use super::{Bar, ctl};

/// Tells this program to flood, and how.
pub(super) const FLOOD: &str = "PASSPORTD_BENCH_FLOOD";
const SOCKET: &str = "PASSPORTD_BENCH_SOCKET";
const PASSPORT: &str = "PASSPORTD_BENCH_PASSPORT";

/// Who floods; a rule lets it verify.
pub(super) const OTHER: u32 = 41_002;

const FLOODS: [&str; 5] = ["frames", "connections", "bad_signatures", "giant_batches", "never_reading"];

/// Length of one figure.
const SECONDS: &str = "5";

/// A bar for throughput and one for latency, for each kind of flood. None where this process can't be somebody else.
pub(super) fn bars(house: &House) -> Vec<Bar> {
    if !nix::unistd::geteuid().is_root() {
        println!("fair_*: skipped, since only root can be two users");
        return Vec::new();
    }
    let mut bars = Vec::new();
    println!("a peer at 1,000 verifications and 50 issues a second, beside a flood of another uid:");
    println!(
        "{:16} {:>10} {:>12} {:>12} {:>12} {:>12}",
        "flood", "answered", "verify p99", "alone", "issue p99", "alone"
    );
    for kind in FLOODS {
        let alone = Figures::of(house, None);
        let beside = Figures::of(house, Some(kind));
        println!(
            "{kind:16} {:9.1}% {:9.0} us {:9.0} us {:9.0} us {:9.0} us",
            100.0 * beside.answered / alone.answered,
            beside.verify_p99,
            alone.verify_p99,
            beside.issue_p99,
            alone.issue_p99
        );
        let throughput = beside.answered / alone.answered;
        let slower = (beside.verify_p99 / alone.verify_p99).max(beside.issue_p99 / alone.issue_p99);
        let name = |what: &str| -> &'static str { Box::leak(format!("fair_{kind}_{what}").into_boxed_str()) };
        let bar = |name, value, bar, pass| Bar { name, value, unit: "ratio", bar, pass };
        bars.push(bar(name("throughput"), throughput, ">= 0.8", throughput >= 0.8));
        bars.push(bar(name("p99"), slower, "<= 5", slower <= 5.0));
    }
    bars
}

struct Figures {
    answered: f64,
    verify_p99: f64,
    issue_p99: f64,
}

impl Figures {
    /// The peer is connected when the flood begins, as services are.
    fn of(house: &House, flood: Option<&str>) -> Self {
        let rates = ["--issues-per-second", "50", "--verifies-per-second", "1000"];
        let arguments = [&["bench", "mixed", "--connections", "2", "--seconds", SECONDS], &rates[..]].concat();
        let ours = thread::scope(|scope| {
            let peer = scope.spawn(|| ctl(house, &arguments));
            thread::sleep(Duration::from_millis(500));
            let flood = flood.map(|kind| Flood::start(house, kind));
            let ours = peer.join().unwrap();
            drop(flood);
            ours
        });
        let number = |name: &str| ours[name].as_f64().unwrap();
        Self {
            answered: number("issue_per_second") + number("verify_per_second"),
            verify_p99: number("verify_p99_us"),
            issue_p99: number("issue_p99_us"),
        }
    }
}

/// The flooding process; it ends with this value.
struct Flood(Child, PathBuf);

impl Flood {
    fn start(house: &House, kind: &str) -> Self {
        let mut passport = house.raw().issue(demo("flood")).unwrap();
        passport.sig[40] ^= 1;
        let file = house.dir().join("flood.json");
        std::fs::write(&file, passport.to_json()).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        let child = command.env(FLOOD, kind).env(SOCKET, house.socket()).env(PASSPORT, &file).spawn().unwrap();
        Self(child, file)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
        drop(std::fs::remove_file(&self.1));
    }
}

/// Floods until it is killed.
pub(super) fn flood(kind: &str) {
    let socket = PathBuf::from(std::env::var_os(SOCKET).unwrap());
    let passport = OwnedEnvelope::from_json(&std::fs::read(std::env::var_os(PASSPORT).unwrap()).unwrap()).unwrap();
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
            let storm = |socket: PathBuf| move || while UnixStream::connect(&socket).is_ok() {};
            let storms: Vec<_> = (0..4).map(|_| thread::spawn(storm(socket.clone()))).collect();
            storms.into_iter().for_each(|one| drop(one.join()));
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
