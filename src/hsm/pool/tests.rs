//! The pool against a staged device: real keys and signatures, staged hangs and faults.

use super::*;
use crate::hsm::inventory::{Found, Inventory};
use crate::hsm::label;
use crate::hsm::ladder::Fault;
use crate::hsm::pins::{PinnedKey, Pins};
use crate::passport::hex;
use ed25519_dalek::{Signer, SigningKey};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc;

const KID: &str = "ed25519/t1/auth/v1";
const SEAL: &str = "hmac-sha256/t1/seal/v1";
/// The longest message that the device takes.
const LONGEST: usize = 1000;
const PATIENCE: Duration = Duration::from_secs(20);
/// A deadline that an honest call meets on a machine that is busy with other tests.
const PATIENT_MS: u64 = 700;

/// What the next calls do.
#[derive(Default)]
struct Stage {
    /// Calls to hang, until `release`.
    hang: AtomicUsize,
    /// Sessions whose closing hangs, until `release`.
    hang_close: AtomicUsize,
    released: (Mutex<bool>, Condvar),
    /// Calls to fail.
    fail: AtomicUsize,
    /// Return a signature with one bit turned.
    bend: AtomicBool,
    opened: AtomicUsize,
    open_now: AtomicUsize,
    restarts: AtomicUsize,
    restart_fails: AtomicBool,
    /// Sessions that were open when the module was started afresh.
    open_at_restart: AtomicUsize,
}

impl Stage {
    fn take(counter: &AtomicUsize) -> bool {
        counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }

    fn wait_for_release(&self) {
        let mut released = self.released.0.lock().unwrap();
        while !*released {
            released = self.released.1.wait(released).unwrap();
        }
    }

    fn release(&self) {
        *self.released.0.lock().unwrap() = true;
        self.released.1.notify_all();
    }
}

struct Staged(Arc<Stage>, SigningKey);

struct StagedSession(Arc<Stage>);

impl Drop for StagedSession {
    fn drop(&mut self) {
        if Stage::take(&self.0.hang_close) {
            self.0.wait_for_release();
        }
        self.0.open_now.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Device for Staged {
    type Session = StagedSession;

    fn open(&self, _: &Arc<Ring>) -> Result<StagedSession, HsmError> {
        self.0.opened.fetch_add(1, Ordering::SeqCst);
        self.0.open_now.fetch_add(1, Ordering::SeqCst);
        Ok(StagedSession(Arc::clone(&self.0)))
    }

    fn sign(&self, _: &mut StagedSession, _: usize, message: &[u8]) -> Result<[u8; SIGNATURE], HsmError> {
        if Stage::take(&self.0.hang) {
            self.0.wait_for_release();
        }
        if Stage::take(&self.0.fail) {
            return Err(HsmError::Call { what: "sign", reason: "CKR_DEVICE_ERROR".to_owned(), fault: Fault::Device });
        }
        if message.len() > LONGEST {
            return Err(HsmError::TooLong(message.len()));
        }
        let mut signature = self.1.sign(message).to_bytes();
        if self.0.bend.load(Ordering::SeqCst) {
            signature[40] ^= 1;
        }
        Ok(signature)
    }

    fn derive(&self, _: &mut StagedSession, _: usize, input: &[u8]) -> Result<Zeroizing<[u8; DERIVED]>, HsmError> {
        Ok(Zeroizing::new(*blake3::hash(input).as_bytes()))
    }

    fn alive(&self, _: &mut StagedSession) -> Result<(), HsmError> {
        Ok(())
    }

    fn reinitialise(&self) -> Result<Ring, HsmError> {
        self.0.restarts.fetch_add(1, Ordering::SeqCst);
        self.0.open_at_restart.fetch_add(self.0.open_now.load(Ordering::SeqCst), Ordering::SeqCst);
        if self.0.restart_fails.load(Ordering::SeqCst) {
            return Err(HsmError::Initialise("CKR_GENERAL_ERROR".to_owned()));
        }
        Ok(ring(&self.1))
    }

    fn close(&self) -> Result<(), HsmError> {
        Ok(())
    }
}

/// A passport key and, behind it, a seal key.
fn ring(key: &SigningKey) -> Ring {
    let made = |kid: &str, n: u8, public: Option<[u8; 32]>| {
        let role = label::Label::parse(kid).unwrap().role;
        let (label, id, problems) = (kid.to_owned(), vec![n], vec![]);
        let found = Found { label, role, id, public, mechanisms_bound: true, problems };
        let pin = PinnedKey {
            kid: kid.to_owned(),
            role,
            cka_id: hex::encode(&[n]),
            public: public.map(|public| hex::encode(&public)),
            created: 0,
            module: String::new(),
            token_serial: String::new(),
            mechanisms_bound: true,
        };
        (found, pin)
    };
    let made = [made(KID, 1, Some(key.verifying_key().to_bytes())), made(SEAL, 2, None)];
    let (keys, pinned) = made.into_iter().unzip();
    Ring::new(Inventory { keys, ..Inventory::default() }, &Pins::of(pinned), "")
}

struct Bench {
    pool: Pool<Staged>,
    stage: Arc<Stage>,
    key: SigningKey,
    lost: Mutex<mpsc::Receiver<()>>,
}

fn bench(sessions: usize, queue: usize, op_timeout: u64) -> Bench {
    let key = SigningKey::from_bytes(&[9; 32]);
    let stage = Arc::new(Stage::default());
    let limits = Limits { sessions, queue, op_timeout: Duration::from_millis(op_timeout) };
    let (tell, lost) = mpsc::channel();
    let device = Staged(Arc::clone(&stage), key.clone());
    let pool = Pool::start(device, ring(&key), limits, Box::new(move || tell.send(()).unwrap_or_default())).unwrap();
    Bench { pool, stage, key, lost: Mutex::new(lost) }
}

type Outcome = Result<[u8; SIGNATURE], LinkRefusal>;

impl Bench {
    fn submit(&self, message: &[u8]) -> mpsc::Receiver<Outcome> {
        let (tell, told) = mpsc::channel();
        let ring = self.pool.ring();
        self.pool.sign(ring, 0, message.to_vec(), Box::new(move |outcome| tell.send(outcome).unwrap()));
        told
    }

    fn sign(&self, message: &[u8]) -> Outcome {
        self.submit(message).recv_timeout(PATIENCE).unwrap()
    }

    fn wait(&self, what: impl Fn(&Counts) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !what(&self.pool.counts()) {
            assert!(Instant::now() < end, "{:?}", self.pool.counts());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn what_is_signed_verifies_and_sessions_are_kept() {
    let bench = bench(2, 64, 5000);
    let public = strict25519::PreparedKey::new(&bench.key.verifying_key().to_bytes()).unwrap();
    let told: Vec<_> = (0..50_u8).map(|n| (n, bench.submit(&[n; 20]))).collect();
    for (n, told) in told {
        assert!(public.verify(&[n; 20], &told.recv_timeout(PATIENCE).unwrap().unwrap()));
    }
    assert_eq!(bench.pool.counts().signatures, 50);
    assert!(bench.stage.opened.load(Ordering::SeqCst) <= 2);
    assert!(bench.pool.close());
    assert_eq!(bench.sign(b"late"), Err(LinkRefusal::HsmUnavailable));
}

#[test]
fn an_error_costs_the_session_and_not_the_request() {
    let bench = bench(1, 8, 5000);
    assert!(bench.sign(b"a").is_ok());
    bench.stage.fail.store(1, Ordering::SeqCst);
    assert!(bench.sign(b"b").is_ok());
    assert_eq!(bench.stage.opened.load(Ordering::SeqCst), 2);
    assert_eq!(bench.pool.counts().reopened, 1);
    bench.stage.fail.store(2, Ordering::SeqCst);
    assert_eq!(bench.sign(b"c"), Err(LinkRefusal::HsmUnavailable));
    assert!(bench.sign(b"d").is_ok());
}

#[test]
fn a_signature_that_does_not_verify_is_never_released() {
    let bench = bench(1, 8, 5000);
    bench.stage.bend.store(true, Ordering::SeqCst);
    assert_eq!(bench.sign(b"a"), Err(LinkRefusal::BadSignature));
    bench.stage.bend.store(false, Ordering::SeqCst);
    assert!(bench.sign(b"a").is_ok());
    let counts = bench.pool.counts();
    assert_eq!((counts.signatures, counts.bad_signatures), (1, 1));
}

#[test]
fn a_hanging_call_is_answered_once_and_its_worker_replaced() {
    let bench = bench(1, 8, PATIENT_MS);
    bench.stage.hang.store(1, Ordering::SeqCst);
    let begun = Instant::now();
    let told = bench.submit(b"a");
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Err(LinkRefusal::Timeout));
    assert!(begun.elapsed() >= Duration::from_millis(PATIENT_MS));
    bench.wait(|counts| counts.stuck == 1);
    assert!(bench.sign(b"b").is_ok());
    // A module can't be finalised under a thread that is inside it.
    assert_eq!(bench.pool.reinitialise().err(), Some(LinkRefusal::HsmUnavailable));
    assert_eq!(bench.stage.restarts.load(Ordering::SeqCst), 0);
    bench.stage.release();
    bench.wait(|counts| counts.stuck == 0);
    // The late signature went nowhere.
    assert!(matches!(told.try_recv(), Err(mpsc::TryRecvError::Disconnected)));
    assert_eq!(bench.pool.counts().signatures, 1);
    assert!(bench.pool.reinitialise().is_ok());
    assert!(bench.sign(b"c").is_ok());
}

#[test]
fn too_many_stuck_workers_end_the_process() {
    let bench = bench(1, 8, 30);
    bench.stage.hang.store(100, Ordering::SeqCst);
    for n in 0..=MAX_STUCK {
        assert_eq!(bench.sign(b"a"), Err(LinkRefusal::Timeout), "{n}");
    }
    bench.lost.lock().unwrap().recv_timeout(PATIENCE).unwrap();
    assert!(bench.pool.lost().unwrap().detail().contains("5 threads are stuck"));
    assert!(!bench.pool.close());
    bench.stage.release();
}

#[test]
fn a_full_queue_refuses_at_once_and_what_waits_times_out() {
    let bench = bench(1, 2, 150);
    bench.stage.hang.store(1, Ordering::SeqCst);
    let first = bench.submit(b"a");
    bench.wait(|counts| counts.queued == 0);
    let waiting = [bench.submit(b"b"), bench.submit(b"c")];
    let begun = Instant::now();
    assert_eq!(bench.sign(b"d"), Err(LinkRefusal::Busy));
    assert!(begun.elapsed() < Duration::from_millis(100));
    assert_eq!(first.recv_timeout(PATIENCE).unwrap(), Err(LinkRefusal::Timeout));
    for told in waiting {
        // Late, or served by the replacement just before.
        assert!(matches!(told.recv_timeout(PATIENCE).unwrap(), Ok(_) | Err(LinkRefusal::Timeout)));
    }
    bench.stage.release();
}

#[test]
fn failures_without_end_end_the_process() {
    let bench = bench(1, 8, 5000);
    let fail = |times: u32| {
        bench.stage.fail.store(1000, Ordering::SeqCst);
        (0..times).for_each(|_| assert_eq!(bench.sign(b"a"), Err(LinkRefusal::HsmUnavailable)));
        bench.stage.fail.store(0, Ordering::SeqCst);
    };
    fail(MAX_FAILURES - 1);
    assert!(bench.sign(b"b").is_ok(), "one fewer is endured, and counts no more after one that did not fail");
    fail(MAX_FAILURES);
    bench.lost.lock().unwrap().recv_timeout(PATIENCE).unwrap();
    assert!(matches!(bench.pool.lost(), Some(HsmError::Lost(_))));
}

#[test]
fn so_many_signatures_wait_to_be_checked_and_a_worker_checks_the_next_itself() {
    let bench = bench(1, 8, 5000);
    let (sender, waiting) = checker::queue();
    *bench.pool.shared.checker.lock().unwrap() = Some(sender);
    let (tell, told) = mpsc::channel();
    let hand_over = || {
        let (ring, tell) = (bench.pool.ring(), tell.clone());
        let answer: Answer = Box::new(move |outcome| tell.send(outcome).unwrap_or_default());
        let signature = bench.key.sign(b"a").to_bytes();
        let ticket = Ticket::sign(answer);
        let signed = checker::Signed { ring, position: 0, message: b"a".to_vec(), signature, ticket };
        checker::hand_over(&*bench.pool.shared, signed);
    };
    (0..checker::WAITING).for_each(|_| hand_over());
    assert!(told.try_recv().is_err(), "all of them wait");
    hand_over();
    assert!(told.try_recv().unwrap().is_ok());
    assert_eq!(waiting.try_iter().count(), checker::WAITING);
}

#[test]
fn messages_that_are_too_long_end_nothing() {
    let bench = bench(1, 8, 5000);
    for _ in 0..=MAX_FAILURES {
        assert_eq!(bench.sign(&[b'a'; LONGEST + 1]), Err(LinkRefusal::TooLong));
    }
    assert!(bench.pool.lost().is_none());
    assert!(bench.sign(b"a").is_ok());
    assert_eq!(bench.pool.counts().reopened, 0, "none was tried again");
}

#[test]
fn the_module_is_started_afresh_with_no_session_open_and_no_request_lost() {
    let bench = bench(2, 4096, 5000);
    std::thread::scope(|scope| {
        let signing = scope.spawn(|| (0..400).all(|_| bench.sign(b"under way").is_ok()));
        for _ in 0..20 {
            assert!(bench.pool.reinitialise().is_ok());
        }
        assert!(signing.join().unwrap());
    });
    assert_eq!(bench.stage.restarts.load(Ordering::SeqCst), 20);
    assert_eq!(bench.stage.open_at_restart.load(Ordering::SeqCst), 0);
}

#[test]
fn a_module_that_does_not_come_back_ends_the_process() {
    let bench = bench(1, 8, 5000);
    bench.stage.restart_fails.store(true, Ordering::SeqCst);
    assert_eq!(bench.pool.reinitialise().err(), Some(LinkRefusal::HsmUnavailable));
    bench.lost.lock().unwrap().recv_timeout(PATIENCE).unwrap();
    assert!(matches!(bench.pool.lost(), Some(HsmError::Initialise(_))));
}

#[test]
fn a_session_that_does_not_close_delays_nobody_for_ever() {
    let bench = bench(1, 8, PATIENT_MS);
    assert!(bench.sign(b"a").is_ok());
    bench.stage.hang_close.store(1, Ordering::SeqCst);
    assert_eq!(bench.pool.reinitialise().err(), Some(LinkRefusal::HsmUnavailable));
    assert_eq!(bench.stage.restarts.load(Ordering::SeqCst), 0);
    assert!(bench.sign(b"b").is_ok());
    bench.stage.release();
    bench.wait(|counts| counts.stuck == 0);
    assert!(bench.pool.reinitialise().is_ok());
}

#[test]
fn an_answer_that_nobody_gives_in_time_shows() {
    let bench = bench(1, 64, 60_000);
    let in_time = |after: Duration| bench.pool.in_time(Instant::now() + after);
    let twice = Duration::from_secs(121);
    assert!(in_time(twice), "nothing is asked, so nothing is late");
    bench.stage.hang.store(1, Ordering::SeqCst);
    let told = [bench.submit(b"in the module"), bench.submit(b"in the queue")];
    bench.wait(|counts| counts.queued == 1);
    // A minute to answer, and as long for the watch to answer instead, which it would have done by then.
    assert!(in_time(Duration::from_secs(110)));
    assert!(!in_time(twice));
    bench.stage.release();
    assert!(told.iter().all(|told| told.recv_timeout(PATIENCE).unwrap().is_ok()));
    bench.wait(|counts| counts.queued == 0);
    assert!(in_time(twice));
}

#[test]
fn a_seal_key_derives_and_never_signs_and_no_other_derives() {
    let bench = bench(1, 8, 5000);
    let derive = |position| {
        let (tell, told) = mpsc::channel();
        let answer: DeriveAnswer = Box::new(move |outcome| tell.send(outcome).unwrap_or_default());
        bench.pool.derive(bench.pool.ring(), position, b"input".to_vec(), answer);
        told.recv_timeout(PATIENCE).unwrap()
    };
    assert_eq!(derive(1).unwrap().as_slice(), blake3::hash(b"input").as_bytes());
    assert_eq!(derive(0), Err(LinkRefusal::PurposeDenied));
    assert_eq!(derive(2), Err(LinkRefusal::Internal));
    let (tell, told) = mpsc::channel();
    let answer: Answer = Box::new(move |outcome| tell.send(outcome).unwrap_or_default());
    bench.pool.sign(bench.pool.ring(), 1, b"a".to_vec(), answer);
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Err(LinkRefusal::PurposeDenied));
}
