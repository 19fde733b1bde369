//! A staged device: real keys and signatures; hangs, faults and limits as a test wants them.

use super::*;
use crate::hsm::inventory::{Found, Inventory};
use crate::hsm::label;
use crate::hsm::ladder::Fault;
use crate::hsm::pins::{PinnedKey, Pins};
use crate::passport::hex;
use crate::verify::Way;
use crate::wire::link::KeyRole;
use ed25519_dalek::{Signer, SigningKey};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Condvar, Mutex, mpsc};

const KID: &str = "ed25519/t1/auth/v1";
const SEAL_KID: &str = "hmac-sha256/t1/seal/v1";
/// The longest message that the device takes.
pub(super) const LONGEST: usize = 1000;
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// A deadline that an honest call meets on a machine that is busy with other tests.
pub(super) const PATIENT_MS: u64 = 700;

/// What the next calls do.
#[derive(Default)]
pub(super) struct Stage {
    /// Calls to hang, until `release`.
    pub(super) hang: AtomicUsize,
    /// Sessions whose closing hangs, until `release`.
    pub(super) hang_close: AtomicUsize,
    /// Logins and restarts to hang, until `release`.
    pub(super) hang_heal: AtomicUsize,
    released: (Mutex<bool>, Condvar),
    /// Signatures to fail, and how.
    pub(super) fail: AtomicUsize,
    pub(super) fault: Mutex<Option<Fault>>,
    /// The same for sessions that are asked whether they live.
    pub(super) idled_out: AtomicUsize,
    /// Nobody is logged in until somebody does, or the module is started afresh.
    pub(super) logged_out: AtomicBool,
    /// Nothing works until the module is started afresh.
    pub(super) gone: AtomicBool,
    /// Return a signature with one bit turned.
    pub(super) bend: AtomicBool,
    /// Sessions that may be open at once; 0: as many as one likes.
    pub(super) session_limit: AtomicUsize,
    /// The token says so.
    pub(super) tells_limit: AtomicBool,
    pub(super) opened: AtomicUsize,
    pub(super) open_now: AtomicUsize,
    pub(super) shared: AtomicUsize,
    pub(super) asked: AtomicUsize,
    pub(super) kept: AtomicUsize,
    pub(super) logins: AtomicUsize,
    pub(super) restarts: AtomicUsize,
    pub(super) login_fails: AtomicBool,
    pub(super) restart_fails: AtomicBool,
    pub(super) pin_refused: AtomicBool,
    /// Sessions that were open when the module was started afresh.
    pub(super) open_at_restart: AtomicUsize,
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

    pub(super) fn release(&self) {
        *self.released.0.lock().unwrap() = true;
        self.released.1.notify_all();
    }

    /// So many signatures fail.
    pub(super) fn fails(&self, times: usize, fault: Fault) {
        *self.fault.lock().unwrap() = Some(fault);
        self.fail.store(times, Ordering::SeqCst);
    }

    pub(super) fn count(counter: &AtomicUsize) -> usize {
        counter.load(Ordering::SeqCst)
    }

    fn healed(&self) -> Result<(), HsmError> {
        if Self::take(&self.hang_heal) {
            self.wait_for_release();
        }
        match self.pin_refused.load(Ordering::SeqCst) {
            true => Err(HsmError::PinIncorrect { token: "staged".to_owned(), left: "" }),
            false => Ok(()),
        }
    }
}

fn call(reason: &str, fault: Fault) -> HsmError {
    HsmError::Call { what: "sign", reason: reason.to_owned(), fault }
}

pub(super) struct Staged(Arc<Stage>, SigningKey);

pub(super) struct StagedSession(Arc<Stage>);

impl Drop for StagedSession {
    fn drop(&mut self) {
        if Stage::take(&self.0.hang_close) {
            self.0.wait_for_release();
        }
        self.0.open_now.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Staged {
    fn session(&self) -> StagedSession {
        self.0.open_now.fetch_add(1, Ordering::SeqCst);
        StagedSession(Arc::clone(&self.0))
    }

    fn work(&self, message: &[u8]) -> Result<(), HsmError> {
        let stage = &self.0;
        if Stage::take(&stage.hang) {
            stage.wait_for_release();
        }
        if Stage::take(&stage.fail) {
            return Err(call("staged", stage.fault.lock().unwrap().unwrap_or(Fault::Device)));
        }
        if stage.gone.load(Ordering::SeqCst) {
            return Err(call("CKR_OBJECT_HANDLE_INVALID", Fault::Object));
        }
        if stage.logged_out.load(Ordering::SeqCst) {
            return Err(call("CKR_USER_NOT_LOGGED_IN", Fault::Login));
        }
        if message.len() > LONGEST { Err(HsmError::TooLong(message.len())) } else { Ok(()) }
    }
}

impl Device for Staged {
    type Session = StagedSession;

    fn open(&self, _: &Arc<Ring>) -> Result<StagedSession, HsmError> {
        let limit = Stage::count(&self.0.session_limit);
        // One is the keeper's.
        if limit > 0 && Stage::count(&self.0.open_now) + 1 >= limit {
            return Err(call("CKR_SESSION_COUNT", Fault::Capacity));
        }
        self.0.opened.fetch_add(1, Ordering::SeqCst);
        Ok(self.session())
    }

    fn share(&self, _: &Arc<Ring>) -> Result<StagedSession, HsmError> {
        self.0.shared.fetch_add(1, Ordering::SeqCst);
        Ok(self.session())
    }

    fn sign(&self, _: &mut StagedSession, _: usize, message: &[u8]) -> Result<[u8; SIGNATURE], HsmError> {
        self.work(message)?;
        let mut signature = self.1.sign(message).to_bytes();
        if self.0.bend.load(Ordering::SeqCst) {
            signature[40] ^= 1;
        }
        Ok(signature)
    }

    fn derive(&self, _: &mut StagedSession, _: usize, input: &[u8]) -> Result<Zeroizing<[u8; DERIVED]>, HsmError> {
        self.work(input)?;
        Ok(Zeroizing::new([u8::try_from(input.len()).unwrap(); 32]))
    }

    fn alive(&self, _: &mut StagedSession) -> Result<(), HsmError> {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        match Stage::take(&self.0.idled_out) {
            true => Err(call("CKR_SESSION_HANDLE_INVALID", Fault::Session)),
            false => Ok(()),
        }
    }

    fn keep(&self) -> Result<(), HsmError> {
        self.0.kept.fetch_add(1, Ordering::SeqCst);
        match self.0.logged_out.load(Ordering::SeqCst) {
            true => Err(call("CKR_SESSION_CLOSED", Fault::Session)),
            false => Ok(()),
        }
    }

    fn login(&self) -> Result<(), HsmError> {
        self.0.logins.fetch_add(1, Ordering::SeqCst);
        self.0.healed()?;
        if self.0.login_fails.load(Ordering::SeqCst) {
            return Err(call("CKR_GENERAL_ERROR", Fault::Device));
        }
        self.0.logged_out.store(false, Ordering::SeqCst);
        Ok(())
    }

    fn limit(&self) -> Option<usize> {
        let told = self.0.tells_limit.load(Ordering::SeqCst);
        told.then(|| Stage::count(&self.0.session_limit).saturating_sub(1))
    }

    fn reinitialise(&self) -> Result<Ring, HsmError> {
        self.0.restarts.fetch_add(1, Ordering::SeqCst);
        self.0.open_at_restart.fetch_add(Stage::count(&self.0.open_now), Ordering::SeqCst);
        self.0.healed()?;
        if self.0.restart_fails.load(Ordering::SeqCst) {
            return Err(HsmError::Initialise("CKR_GENERAL_ERROR".to_owned()));
        }
        self.0.logged_out.store(false, Ordering::SeqCst);
        self.0.gone.store(false, Ordering::SeqCst);
        Ok(ring(&self.1))
    }

    fn close(&self) -> Result<(), HsmError> {
        Ok(())
    }
}

fn ring(key: &SigningKey) -> Ring {
    let public = key.verifying_key().to_bytes();
    let (mut found, mut pinned) = (Vec::new(), Vec::new());
    let more = (2..=u8::try_from(PROBES + 2).unwrap()).map(|n| (format!("ed25519/t1/auth/v{n}"), n + 1));
    for (kid, id) in [(KID.to_owned(), 1), (SEAL_KID.to_owned(), 2)].into_iter().chain(more) {
        let kid = kid.as_str();
        let role = label::Label::parse(kid).unwrap().role;
        let public = (role != KeyRole::Seal).then_some(public);
        found.push(Found {
            label: kid.to_owned(),
            role,
            id: vec![id],
            public,
            mechanisms_bound: true,
            unsaid: vec![],
            attributes: crate::statement::transcript::Attributes::default(),
            problems: vec![],
        });
        pinned.push(PinnedKey {
            kid: kid.to_owned(),
            label: None,
            role,
            cka_id: hex::encode(&[id]),
            public: public.map(|public| hex::encode(&public)),
            created: 0,
            module: String::new(),
            token_serial: String::new(),
            mechanisms_bound: true,
            retired: None,
            compromised: None,
            destroyed: None,
        });
    }
    Ring::new(Inventory { keys: found, ..Inventory::default() }, &Pins::of(pinned), "")
}

pub(super) struct Bench {
    pub(super) pool: Pool<Staged>,
    pub(super) stage: Arc<Stage>,
    pub(super) key: SigningKey,
    pub(super) lost: Mutex<mpsc::Receiver<()>>,
}

pub(super) fn bench(sessions: usize, queue: usize, op_timeout: u64) -> Bench {
    with(limits(sessions, queue, op_timeout), Arc::new(Stage::default()))
}

pub(super) fn limits(sessions: usize, queue: usize, op_timeout: u64) -> Limits {
    Limits {
        sessions,
        queue,
        op_timeout: Duration::from_millis(op_timeout),
        login_timeout: Duration::from_millis(op_timeout),
        max_stuck: 4,
        keepalive: None,
    }
}

pub(super) fn with(limits: Limits, stage: Arc<Stage>) -> Bench {
    verified_by(Verifier::start(&[Way::Portable]).unwrap(), limits, stage)
}

pub(super) fn verified_by(verifier: Verifier, limits: Limits, stage: Arc<Stage>) -> Bench {
    let key = SigningKey::from_bytes(&[9; 32]);
    let (tell, lost) = mpsc::channel();
    let device = Staged(Arc::clone(&stage), key.clone());
    let tell = move || tell.send(()).unwrap_or_default();
    let pool = Pool::start(device, ring(&key), limits, verifier, Box::new(tell)).unwrap();
    Bench { pool, stage, key, lost: Mutex::new(lost) }
}

pub(super) type Outcome = Result<[u8; SIGNATURE], LinkRefusal>;

impl Bench {
    pub(super) fn submit(&self, message: &[u8]) -> mpsc::Receiver<Outcome> {
        let (tell, told) = mpsc::channel();
        let ring = self.pool.ring();
        self.pool.sign(ring, 0, message.to_vec(), Box::new(move |outcome| tell.send(outcome).unwrap()));
        told
    }

    pub(super) fn sign(&self, message: &[u8]) -> Outcome {
        self.submit(message).recv_timeout(PATIENCE).unwrap()
    }

    pub(super) fn derive(&self, position: usize, input: &[u8]) -> Result<Zeroizing<[u8; DERIVED]>, LinkRefusal> {
        let (tell, told) = mpsc::channel();
        let ring = self.pool.ring();
        self.pool.derive(ring, position, input.to_vec(), Box::new(move |outcome| tell.send(outcome).unwrap()));
        told.recv_timeout(PATIENCE).unwrap()
    }

    pub(super) fn counts(&self) -> Counts {
        self.pool.health().counts
    }

    pub(super) fn wait(&self, what: impl Fn(&PoolHealth) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !what(&self.pool.health()) {
            assert!(Instant::now() < end, "{:?}", self.pool.health());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(super) fn ended(&self) -> HsmError {
        self.lost.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        self.pool.lost().unwrap()
    }
}
