//! One uid floods, another works: what the one who works still gets, against what it gets alone.
//!
//! The flood comes from a process of another uid on the same processors, so a part of what it takes is its own time,
//! and not the daemon's to give. A flood of connections is mostly that. What is left beside it is held against a
//! control, the same flood of a socket of this program's own, behind which each connection is accepted and dropped.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use passportd::passport::OwnedEnvelope;
use passportd::wire::Request;
use passportd::wire::{ServiceOp, encode_frame};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::bars::{Bar, group, median};
use super::ctl;
use super::support::House;
use super::support::passports::{demo, for_demo, on_wire};
use super::support::raw::hello;

/// Tells this program to flood, and how.
pub(super) const FLOOD: &str = "PASSPORTD_BENCH_FLOOD";
const SOCKET: &str = "PASSPORTD_BENCH_SOCKET";
const PASSPORT: &str = "PASSPORTD_BENCH_PASSPORT";
const UID: &str = "PASSPORTD_BENCH_UID";

/// Who floods at the rate that a uid has by default, so that most of it is refused.
const LIMITED: u32 = 41_002;
/// Who floods without a rate that matters, so that what bounds it are its stints.
const FAST: u32 = 41_003;

/// One kind of flood.
struct Kind {
    name: &'static str,
    /// What it does a second at least, to be one: requests that the daemon counted, or connections.
    at_least: f64,
}

const fn kind(name: &'static str, at_least: f64) -> Kind {
    Kind { name, at_least }
}

/// The peer at given rates asks for some 1,000 things a second: a flood of small requests is ten times that at least,
/// unless the rate of who floods is what keeps it small.
const LIMITED_FLOODS: [Kind; 5] = [
    kind("frames", 5_000.0),
    kind("connections", 5_000.0),
    kind("bad_signatures", 2_000.0),
    kind("giant_batches", 5.0),
    kind("never_reading", 50.0),
];
const FAST_FLOODS: [Kind; 3] =
    [kind("frames", 10_000.0), kind("bad_signatures", 10_000.0), kind("giant_batches", 20.0)];

/// Rounds of each flood; a bar's value is the median of their ratios.
const ROUNDS: usize = 3;
const FAST_ROUNDS: usize = 3;
/// Length of the figures at given rates, and of those of a peer that asks as fast as it is answered.
const PACED: &str = "5";
const CLOSED: &str = "2";

/// The rules of those who flood.
pub(super) fn rules() -> String {
    let rule = |name, uid, rate: &str| {
        format!(
            "\n[[peer]]\nname = {name:?}\nuid = {uid}\n{rate}allow = [\"verify\", \"keys\"]\nverify_as = [\"demo\"]\n"
        )
    };
    rule("limited", LIMITED, "") + &rule("fast", FAST, "rps = 10000000\n")
}

/// Bars for each kind of flood: what a peer at given rates is answered, how long that takes, and what a peer gets that
/// asks as fast as it is answered.
pub(super) fn bars(house: &House) -> Vec<Bar> {
    let mut bars = beside(house, &LIMITED_FLOODS, "fair", LIMITED, ROUNDS);
    bars.extend(beside(house, &FAST_FLOODS, "fair_fast", FAST, FAST_ROUNDS));
    bars
}

/// The bars of the flood that costs the daemon most, where verification is fast.
pub(super) fn with_engine_auto(house: &House) -> Vec<Bar> {
    let floods = [kind("bad_signatures", 2_000.0)];
    beside(house, &floods, "fair_auto", LIMITED, ROUNDS)
}

/// The bars of some kinds of flood by `uid`, whose names begin with `prefix`.
fn beside(house: &House, kinds: &[Kind], prefix: &str, uid: u32, rounds: usize) -> Vec<Bar> {
    if !nix::unistd::geteuid().is_root() {
        println!("{prefix}_*: not measured, since only root can be two users");
        return vec![Bar::new(prefix, f64::NAN, "", "as root", false)];
    }
    println!(
        "a peer at 1,000 verifications and 50 issues a second, and then as fast as it can, beside a flood of uid {uid}:"
    );
    println!(
        "{:16} {:>10} {:>9} {:>12} {:>12} {:>10} {:>12}",
        "flood", "of which/s", "answered", "verify p99", "issue p99", "unpaced/s", "unpaced p99"
    );
    let bars = |kind: &Kind| of_kind(house, kind, &format!("{prefix}_{}", kind.name), uid, rounds);
    kinds.iter().flat_map(|kind| group(&format!("{prefix}_{}", kind.name), || bars(kind))).collect()
}

fn of_kind(house: &House, kind: &Kind, name: &str, uid: u32, rounds: usize) -> Vec<Bar> {
    let (mut throughput, mut slower, mut unpaced) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let flood = |socket: &Path| Figures::of(house, Some((kind, uid, socket)));
        let alone = Figures::of(house, None);
        alone.print("alone");
        let control = (kind.name == "connections").then(|| {
            let elsewhere = Elsewhere::new(house);
            let control = flood(&elsewhere.socket);
            control.print("elsewhere");
            control.unpaced
        });
        let beside = flood(&house.socket());
        beside.print(kind.name);
        throughput.push(beside.answered / alone.answered);
        slower.push((beside.verify_p99 / alone.verify_p99).max(beside.issue_p99 / alone.issue_p99));
        unpaced.push(beside.unpaced / control.unwrap_or(alone.unpaced));
    }
    let [throughput, slower, unpaced] = [throughput, slower, unpaced].map(median);
    // Were the daemon not fair, eight connections that flood would leave the two of the peer a fifth. Beside
    // connections the time of who floods is in the control already.
    let (least, wanted) = if kind.name == "connections" { (0.6, ">= 0.6") } else { (0.33, ">= 0.33") };
    vec![
        Bar::new(format!("{name}_throughput"), throughput, "ratio", ">= 0.8", throughput >= 0.8),
        Bar::new(format!("{name}_p99"), slower, "ratio", "<= 5", slower <= 5.0),
        Bar::new(format!("{name}_unpaced"), unpaced, "ratio", wanted, unpaced >= least),
    ]
}

/// A socket behind which each connection is accepted and dropped: the least that anybody can do for one.
struct Elsewhere {
    socket: PathBuf,
    end: Arc<AtomicBool>,
}

impl Elsewhere {
    fn new(house: &House) -> Self {
        let (socket, end) = (house.dir().join("elsewhere.sock"), Arc::new(AtomicBool::new(false)));
        let listener = UnixListener::bind(&socket).unwrap();
        std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o666)).unwrap();
        let ended = Arc::clone(&end);
        thread::spawn(move || while !ended.load(Ordering::Relaxed) && listener.accept().is_ok() {});
        Self { socket, end }
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        // One more, so that it looks.
        drop(UnixStream::connect(&self.socket));
        drop(std::fs::remove_file(&self.socket));
    }
}

struct Figures {
    answered: f64,
    verify_p99: f64,
    issue_p99: f64,
    /// Verifications a second of a peer that asks again as soon as it is answered, and what that takes.
    unpaced: f64,
    unpaced_p99: f64,
    /// What the flood did meanwhile, a second.
    flooded: f64,
}

impl Figures {
    /// The peer is connected when the flood begins, as services are.
    fn of(house: &House, flood: Option<(&Kind, u32, &Path)>) -> Self {
        let rates = ["--issues-per-second", "50", "--verifies-per-second", "1000"];
        let paced = [&["bench", "mixed", "--connections", "2", "--seconds", PACED], &rates[..]].concat();
        let closed = ["bench", "verify", "--connections", "2", "--in-flight", "4", "--seconds", CLOSED];
        thread::scope(|scope| {
            let peer = scope.spawn(|| (ctl(house, &paced), ctl(house, &closed)));
            thread::sleep(Duration::from_millis(500));
            let flood = flood.map(|(kind, uid, socket)| Flood::start(house, kind, uid, socket));
            let (ours, unpaced) = peer.join().unwrap();
            let number = |name: &str| ours[name].as_f64().unwrap();
            Self {
                answered: number("issue_per_second") + number("verify_per_second"),
                verify_p99: number("verify_p99_us"),
                issue_p99: number("issue_p99_us"),
                unpaced: unpaced["per_second"].as_f64().unwrap(),
                unpaced_p99: unpaced["p99_us"].as_f64().unwrap(),
                flooded: flood.map_or(0.0, |flood| flood.end(house)),
            }
        })
    }

    fn print(&self, beside: &str) {
        let Self { answered, verify_p99, issue_p99, unpaced, unpaced_p99, flooded } = self;
        println!(
            "{beside:16} {flooded:10.0} {answered:7.1}/s {verify_p99:9.0} us {issue_p99:9.0} us {unpaced:10.0} \
             {unpaced_p99:9.0} us"
        );
    }
}

/// The flooding process; it ends with this value.
struct Flood {
    name: &'static str,
    at_least: f64,
    child: Child,
    dir: PathBuf,
    begun: Instant,
    /// What the daemon had counted of its kind before.
    before: f64,
}

impl Flood {
    fn start(house: &House, kind: &Kind, uid: u32, socket: &Path) -> Self {
        let &Kind { name, at_least } = kind;
        let mut passport = house.raw().issue(demo("flood")).unwrap();
        passport.sig[40] ^= 1;
        let dir = house.dir().join("flood");
        std::fs::create_dir(&dir).unwrap();
        let file = dir.join("passport.json");
        std::fs::write(&file, passport.to_json()).unwrap();
        let before = counted(house, name);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(FLOOD, name).env(SOCKET, socket).env(PASSPORT, &file).env(UID, uid.to_string());
        // A flood of connections says here how many it has made; no counter of the daemon's does. Not in a file: that would
        // have the ledger wait for the file system's journal.
        command.stdout(Stdio::piped());
        Self { name, at_least, child: command.spawn().unwrap(), dir, begun: Instant::now(), before }
    }

    /// What it did a second. A flood that did not happen would make every bar look good.
    fn end(mut self, house: &House) -> f64 {
        let ended = self.child.try_wait().unwrap();
        assert_eq!(ended, None, "the flood {} ended before the peer did", self.name);
        let lasted = self.begun.elapsed().as_secs_f64();
        let did = if self.name == "connections" { self.connected() } else { counted(house, self.name) - self.before };
        let rate = did / lasted;
        assert!(rate >= self.at_least, "the flood {} did {rate:.0} a second, which is none", self.name);
        rate
    }
}

impl Flood {
    /// How many connections it has said last that it had made.
    fn connected(&mut self) -> f64 {
        self.child.kill().unwrap();
        let mut said = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        said.lines().last().map_or(0.0, |count| count.parse().unwrap())
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
    let passport = std::fs::read(&file).unwrap();
    let passport = OwnedEnvelope::from_json(&passport).unwrap();
    set_thread_groups(&[]).unwrap();
    let uid: u32 = std::env::var(UID).unwrap().parse().unwrap();
    let (gid, uid) = (Gid::from_raw(uid), Uid::from_raw(uid));
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
                    println!("{}", connected.load(Ordering::Relaxed));
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
