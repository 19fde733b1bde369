//! A signer that lies to the front: what it says passes through the test's hands.

use std::io::Write as _;
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use passportd::wire::link::{LinkReply, LinkResult};
use passportd::wire::{Code, ServiceOk, ServiceOp, decode, encode_frame};

use crate::support::passports::demo;
use crate::support::raw::{Raw, frame};
use crate::support::{House, Options, Roles, ledger, people};

/// Stands between the front and the real signer from the front's next start on.
struct Between {
    bending: Arc<AtomicBool>,
}

impl Between {
    fn new(house: &House) -> Self {
        let (outer, inner) = (house.dir().join("signer.sock"), house.dir().join("real.sock"));
        std::fs::rename(&outer, &inner).unwrap();
        let listener = UnixListener::bind(&outer).unwrap();
        std::fs::set_permissions(&outer, std::fs::Permissions::from_mode(0o666)).unwrap();
        let bending = Arc::new(AtomicBool::new(false));
        let (flag, front) = (Arc::clone(&bending), house.front_ids());
        std::thread::spawn(move || {
            for link in listener.incoming() {
                let signer = Raw::over(reach(&inner, front)).unwrap();
                pass(link.unwrap(), signer, Arc::clone(&flag));
            }
        });
        Self { bending }
    }

    fn bend(&self, bending: bool) {
        self.bending.store(bending, Ordering::SeqCst);
    }
}

/// The signer speaks with the front's user alone.
fn reach(signer: &Path, front: Option<(u32, u32)>) -> UnixStream {
    match front {
        Some((uid, gid)) => people::connect_as(signer, uid, gid, &[]),
        None => UnixStream::connect(signer).unwrap(),
    }
}

/// Hands on what either side says until one of them closes.
fn pass(mut front: UnixStream, mut signer: Raw, bending: Arc<AtomicBool>) {
    signer.stream.set_read_timeout(None).unwrap();
    let (mut from_front, mut to_signer) = (front.try_clone().unwrap(), signer.stream.try_clone().unwrap());
    std::thread::spawn(move || {
        drop(std::io::copy(&mut from_front, &mut to_signer));
        drop(to_signer.shutdown(Shutdown::Both));
    });
    std::thread::spawn(move || {
        while let Ok(Some(body)) = signer.body() {
            let said = if bending.load(Ordering::SeqCst) { bent(&body) } else { frame(&body) };
            if front.write_all(&said).is_err() {
                break;
            }
        }
        drop(front.shutdown(Shutdown::Both));
    });
}

/// One bit of a passport's signature is another; all else, probes too, stays as it is.
fn bent(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match decode(body) {
        Ok(LinkReply { id, result: LinkResult::Signed { mut sig } }) => {
            sig[40] ^= 4;
            encode_frame(&LinkReply { id, result: LinkResult::Signed { sig } }, &mut out).unwrap();
            out
        }
        _ => frame(body),
    }
}

#[test]
fn a_signature_that_the_signer_should_not_have_released_goes_no_further_than_the_front() {
    let mut house = House::start(Options::default().roles(Roles::Apart));
    let between = Between::new(&house);
    house.kill("front");
    house.start_role("front");
    house.wait_ready();
    let mut raw = house.raw();
    let before = raw.issue(demo("before")).unwrap();
    let on_record = ledger::issued(&house.ledger()).len();

    between.bend(true);
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

    between.bend(false);
    let after = raw.issue(demo("after")).unwrap();
    house.assert_on_record([&before.msg[..], &after.msg[..]]);
}
