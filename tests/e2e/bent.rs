//! A signer that lies to the front: what it says passes through the test's hands.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use passportd::wire::link::{LinkRefusal, LinkReply, LinkResult};
use passportd::wire::{Code, Request, ServiceOk, ServiceOp, decode, encode_frame};
use rustix::process::Uid;
use rustix::thread::set_thread_res_uid;
use serde_json::Value;

use crate::support::house::FIRST_KEY;
use crate::support::passports::demo;
use crate::support::raw::{Raw, frame};
use crate::support::{House, Options, Roles, eventually, ledger, people, root_or_skip};

/// What the front is told instead of the truth.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bend {
    Nothing,
    /// A passport's signature with another bit.
    Signatures,
    /// That the signer has destroyed a passport's signature.
    Destroyed,
    /// Passports and probes alike: signatures with another bit.
    All,
}

/// Stands between the front and the real signer from the front's next start on.
struct Between {
    bending: Arc<Mutex<Bend>>,
}

impl Between {
    fn new(house: &House) -> Self {
        let (outer, inner) = (house.dir().join("signer.sock"), house.dir().join("real.sock"));
        std::fs::rename(&outer, &inner).unwrap();
        let listener = UnixListener::bind(&outer).unwrap();
        std::fs::set_permissions(&outer, std::fs::Permissions::from_mode(0o666)).unwrap();
        let bending = Arc::new(Mutex::new(Bend::Nothing));
        let (flag, front) = (Arc::clone(&bending), house.front_ids());
        std::thread::spawn(move || {
            for link in listener.incoming() {
                let signer = Raw::over(reach(&inner, front)).unwrap();
                pass(link.unwrap(), signer, Arc::clone(&flag));
            }
        });
        Self { bending }
    }

    fn bend(&self, bend: Bend) {
        *self.bending.lock().unwrap() = bend;
    }
}

/// A socket on which the kernel says that `uid` listens, at `path`.
fn listen_as(uid: u32, path: &Path) -> UnixListener {
    // Ids belong to threads, and who listens is who called listen(2) (unix(7), SO_PEERCRED).
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let made = dir.path().join("socket");
    let listener = std::thread::scope(|scope| {
        let listen = || {
            set_thread_res_uid(Uid::from_raw(uid), Uid::from_raw(uid), Uid::from_raw(uid)).unwrap();
            UnixListener::bind(&made).unwrap()
        };
        scope.spawn(listen).join().unwrap()
    });
    std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o666)).unwrap();
    std::fs::rename(&made, path).unwrap();
    listener
}

/// The signer speaks with the front's user alone.
fn reach(signer: &Path, front: Option<(u32, u32)>) -> UnixStream {
    match front {
        Some((uid, gid)) => people::connect_as(signer, uid, gid, &[]),
        None => UnixStream::connect(signer).unwrap(),
    }
}

/// Hands on what either side says until one of them closes.
fn pass(mut front: UnixStream, mut signer: Raw, bending: Arc<Mutex<Bend>>) {
    signer.stream.set_read_timeout(None).unwrap();
    let (mut from_front, mut to_signer) = (front.try_clone().unwrap(), signer.stream.try_clone().unwrap());
    std::thread::spawn(move || {
        drop(std::io::copy(&mut from_front, &mut to_signer));
        drop(to_signer.shutdown(Shutdown::Both));
    });
    std::thread::spawn(move || {
        while let Ok(Some(body)) = signer.body() {
            let said = bent(*bending.lock().unwrap(), &body);
            if front.write_all(&said).is_err() {
                break;
            }
        }
        drop(front.shutdown(Shutdown::Both));
    });
}

fn bent(bend: Bend, body: &[u8]) -> Vec<u8> {
    let Ok(LinkReply { id, result }) = decode(body) else { return frame(body) };
    let result = match (bend, result) {
        (Bend::Signatures | Bend::All, LinkResult::Signed { mut sig }) => {
            sig[40] ^= 4;
            LinkResult::Signed { sig }
        }
        (Bend::All, LinkResult::Probed { challenge, mut sig }) => {
            sig[40] ^= 4;
            LinkResult::Probed { challenge, sig }
        }
        (Bend::Destroyed, LinkResult::Signed { .. }) => LinkResult::Refused(LinkRefusal::BadSignature),
        _ => return frame(body),
    };
    let mut out = Vec::new();
    encode_frame(&LinkReply { id, result }, &mut out).unwrap();
    out
}

/// A house whose front speaks with the signer through what stands between them.
fn house_between() -> (House, Between) {
    let mut house = House::start(Options::default().roles(Roles::Apart));
    let between = Between::new(&house);
    house.kill("front");
    house.start_role("front");
    house.wait_ready();
    (house, between)
}

fn records(house: &House, event: &str) -> Vec<Value> {
    ledger::records(&house.ledger()).into_iter().filter(|one| one["event"] == event).collect()
}

/// How many signatures the records of rejected ones stand for.
fn rejected(house: &House) -> u64 {
    let more = |record: &Value| {
        record["detail"].as_str().map_or(0, |detail| detail.split(' ').nth(1).unwrap().parse::<u64>().unwrap())
    };
    records(house, "signature_rejected").iter().map(|record| 1 + more(record)).sum()
}

#[test]
fn a_signature_that_the_signer_should_not_have_released_goes_no_further_than_the_front() {
    let (house, between) = house_between();
    let mut raw = house.raw();
    let before = raw.issue(demo("before")).unwrap();
    let on_record = ledger::issued(&house.ledger()).len();

    between.bend(Bend::Signatures);
    let problem = raw.issue(demo("x")).unwrap_err();
    assert_eq!((problem.code, problem.retryable), (Code::HsmUnavailable, true));
    assert!(problem.retry_after_ms.is_some());
    let Ok(ServiceOk::IssuedBatch(batch)) = raw.ask(ServiceOp::IssueBatch(vec![demo("y"); 3])) else {
        panic!("no batch")
    };
    assert!(batch.iter().all(|one| matches!(one, Err(problem) if problem.code == Code::HsmUnavailable)), "{batch:?}");
    assert_eq!(house.metric("passport_issuance_blocked_total{reason=\"hsm_unavailable\"}"), 4.0);
    assert_eq!(house.metric("passport_ops_total{alg=\"Ed25519\",op=\"issue\",result=\"error\"}"), 4.0);
    assert_eq!(ledger::issued(&house.ledger()).len(), on_record, "what is not released is not on record as issued");
    assert!(house.log().contains("a signature was refused"), "the operator is told");
    eventually("each is on record", Duration::from_secs(5), || (rejected(&house) == 4).then_some(()));
    assert!(records(&house, "signature_rejected").len() <= 4);

    between.bend(Bend::Nothing);
    let after = raw.issue(demo("after")).unwrap();
    house.assert_on_record([&before.msg[..], &after.msg[..]]);
}

#[test]
fn a_rejected_signature_is_on_record_with_key_and_request_whoever_noticed_it() {
    let (house, between) = house_between();
    let mut raw = house.raw();
    for (bend, reason, corr_id) in
        [(Bend::Signatures, "noticed_by_front", [7; 16]), (Bend::Destroyed, "noticed_by_signer", [8; 16])]
    {
        between.bend(bend);
        let mut frame = Vec::new();
        encode_frame(&Request { id: 7, corr_id, op: ServiceOp::Issue(demo("alice")) }, &mut frame).unwrap();
        raw.send(&frame).unwrap();
        assert_eq!(raw.reply().result.unwrap_err().code, Code::HsmUnavailable);
        let record = eventually("it is on record", Duration::from_secs(5), || {
            records(&house, "signature_rejected").into_iter().find(|one| one["reason"] == reason)
        });
        let hex = format!("{:032x}", u128::from_be_bytes(corr_id));
        for (member, value) in [
            ("outcome", "failed".into()),
            ("kid", FIRST_KEY.into()),
            ("corr_id", hex.as_str().into()),
            ("sub", "alice".into()),
            ("uid", Value::from(nix::unistd::geteuid().as_raw())),
        ] {
            assert_eq!(record[member], value, "{member} of {record}");
        }
    }
    assert_eq!(rejected(&house), 2);
    assert!(records(&house, "issue_refused").is_empty(), "nobody refused: the HSM failed");
}

#[test]
fn probes_that_verify_and_one_that_does_not_are_on_record() {
    let (house, between) = house_between();
    let passed = || records(&house, "self_test_passed").len();
    eventually("the start is on record", Duration::from_secs(5), || (passed() == 1).then_some(()));
    assert!(records(&house, "self_test_failed").is_empty() && records(&house, "signer_lost").is_empty());
    between.bend(Bend::All);
    // What fails asks for a look.
    house.raw().issue(demo("x")).unwrap_err();
    eventually("it is not ready", Duration::from_secs(5), || (house.get("/readyz").0 == 503).then_some(()));
    let failed = eventually("on record", Duration::from_secs(5), || records(&house, "self_test_failed").pop());
    assert!(failed["detail"].as_str().unwrap().contains(FIRST_KEY), "{failed}");
    assert_eq!(records(&house, "signer_lost").len(), 1);
    between.bend(Bend::Nothing);
    house.wait_ready();
    let recovered = || records(&house, "signer_recovered").len();
    eventually("the end of it, too", Duration::from_secs(5), || (recovered() == 1).then_some(()));
    assert_eq!((passed(), records(&house, "self_test_failed").len()), (1, 1));
}

#[test]
fn whoever_else_listens_in_the_signers_place_is_told_nothing() {
    const STRANGER: u32 = 41_020;
    if !root_or_skip("a listener of another user") {
        return;
    }
    let mut house = House::start(Options::default().roles(Roles::Apart));
    house.kill("front");
    house.kill("signer");
    let stranger = listen_as(STRANGER, &house.dir().join("signer.sock"));
    house.start_role("front");
    let (mut front, _) = stranger.accept().unwrap();
    front.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut told = Vec::new();
    front.read_to_end(&mut told).expect("the front closes at once");
    assert_eq!(told, b"", "not even a greeting, which names the issuer");
    let problem = eventually("the front answers", Duration::from_secs(10), || {
        let mut raw = Raw::connect(&house.socket()).ok()?;
        raw.greet().ok()?;
        raw.issue(demo("x")).err()
    });
    assert_eq!((problem.code, problem.retryable), (Code::HsmUnavailable, true));
    let named = format!("uid {STRANGER} listens there, not the signer's");
    eventually("the operator is told", Duration::from_secs(10), || {
        let health = house.health();
        health.conditions.into_iter().find(|one| one.name == "hsm" && !one.ok && one.detail.contains(&named))
    });
}
