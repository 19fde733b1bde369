//! Sessions that sign.
//!
//! [`Device`] is what the pool needs of an HSM, so that its tests can stage hangs and faults. [`Pkcs11Device`] is the one
//! implementation outside tests: there is no software signer (law L13).

use super::fleeting::Place;
use super::inventory::{self, Inventory};
use super::ladder::Fault;
use super::module::{Module, Token};
use super::pin_note;
use super::pins::Pins;
use super::ring::{Ring, RingKey};
use super::{HsmError, ModuleConfig};
use crate::secret::Pin;
use crate::wire::link::KeyRole;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::ObjectHandle;
use cryptoki::session::{Session, SessionState};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a signature (RFC 8032 §5.1.6).
pub const SIGNATURE: usize = 64;
/// Bytes that a seal key derives: an HMAC-SHA256 (RFC 2104).
pub const DERIVED: usize = 32;

/// An HSM as the pool sees it. Every call may hang.
pub trait Device: Send + Sync + 'static {
    /// A worker's own session. It never leaves the worker's thread.
    type Session;

    /// Opens a session for the keys of `ring`.
    ///
    /// # Errors
    /// The module's.
    fn open(&self, ring: &Arc<Ring>) -> Result<Self::Session, HsmError>;

    /// Signs with the key at `position` of the ring that the session was opened for.
    ///
    /// # Errors
    /// The module's; the session is not used again after one.
    fn sign(&self, session: &mut Self::Session, position: usize, message: &[u8]) -> Result<[u8; SIGNATURE], HsmError>;

    /// HMAC-SHA256 of `input` under the seal key at `position`, as [`Device::sign`].
    ///
    /// # Errors
    /// The same.
    fn derive(
        &self,
        session: &mut Self::Session,
        position: usize,
        input: &[u8],
    ) -> Result<Zeroizing<[u8; DERIVED]>, HsmError>;

    /// The session that holds the login, lent to the one worker that finds no other. Dropped, it comes back.
    ///
    /// # Errors
    /// The module's, or that it is lent already.
    fn share(&self, ring: &Arc<Ring>) -> Result<Self::Session, HsmError>;

    /// Whether a session is alive and logged in. It is not used again after an error.
    ///
    /// # Errors
    /// The module's.
    fn alive(&self, session: &mut Self::Session) -> Result<(), HsmError>;

    /// The same for the session that holds the login.
    ///
    /// # Errors
    /// The module's.
    fn keep(&self) -> Result<(), HsmError>;

    /// Logs in anew. No session may be in use.
    ///
    /// # Errors
    /// The module's; one of the `Pin…` variants ends the process.
    fn login(&self) -> Result<(), HsmError>;

    /// How many sessions may sign beside the one that holds the login, if the token says so.
    fn limit(&self) -> Option<usize>;

    /// Starts the module afresh and reads its keys. No session may be open and no thread inside the module.
    ///
    /// # Errors
    /// The module's; nothing works until a later call succeeds.
    fn reinitialise(&self) -> Result<Ring, HsmError>;

    /// Ends the module, under the same condition.
    ///
    /// # Errors
    /// The module's.
    fn close(&self) -> Result<(), HsmError>;
}

/// A PKCS#11 token.
pub struct Pkcs11Device {
    module: Module,
    config: ModuleConfig,
    pin: Pin,
    live: Mutex<Option<Live>>,
}

/// What lasts from one initialisation to the next.
#[derive(Clone)]
struct Live {
    token: Token,
    keeper: Keeper,
    /// In amnesia mode the session that holds the keys: used by nobody, so that no failed call costs the keys.
    vault: Option<Arc<Mutex<Option<Session>>>>,
}

/// Logged in once and never out: a login holds for the process as long as one session is open. SoftHSM rewrites its token
/// at login, so workers never do it. Empty while it is lent, or after it failed.
type Keeper = Arc<Mutex<Option<Session>>>;

fn lock(keeper: &Keeper) -> MutexGuard<'_, Option<Session>> {
    keeper.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A worker's session.
pub struct WorkerSession {
    /// Taken out at the end alone.
    session: Option<Session>,
    ring: Arc<Ring>,
    /// By position in the ring, as far as they have been needed. Looking up one key costs a few calls; SoftHSM looks
    /// through all objects for each, so that looking up all 129 keys of a token took seconds on a busy machine.
    handles: HashMap<usize, ObjectHandle>,
    /// Whose it is, if it is lent.
    keeper: Option<Keeper>,
    /// Something failed in it.
    spoilt: bool,
}

impl WorkerSession {
    fn new(session: Session, ring: &Arc<Ring>, keeper: Option<Keeper>) -> Self {
        Self { session: Some(session), ring: Arc::clone(ring), handles: HashMap::new(), keeper, spoilt: false }
    }

    fn session(&self) -> Result<&Session, HsmError> {
        self.session.as_ref().ok_or_else(not_initialised)
    }

    /// Where the module keeps the key at `position`, as long as this session is open.
    fn handle(&mut self, position: usize, kind: Kind) -> Result<ObjectHandle, HsmError> {
        if let Some(handle) = self.handles.get(&position) {
            return Ok(*handle);
        }
        let key = self.ring.get(position).filter(|key| key.usable() && kind.fits(key));
        let key = key.ok_or_else(|| HsmError::KeyGone(format!("number {position}")))?;
        let kept = self.ring.is_kept();
        let handle = inventory::handle_of(self.session()?, kept, (&key.label, &key.id), key.role)?;
        self.handles.insert(position, handle);
        Ok(handle)
    }

    /// `C_Sign`, and exactly so many bytes of it.
    fn make<const N: usize>(&mut self, position: usize, kind: Kind, message: &[u8]) -> Result<[u8; N], HsmError> {
        let handle = self.handle(position, kind)?;
        let mut made = self.session()?.sign(&kind.mechanism(), handle, message).map_err(|error| match error {
            Error::Pkcs11(RvError::DataLenRange, _) => HsmError::TooLong(message.len()),
            error => HsmError::call(kind.name(), &error),
        })?;
        // Bytes of a wrong length may still be half of a signature over this message: they are not kept.
        let right = <[u8; N]>::try_from(made.as_slice());
        made.zeroize();
        right.map_err(|_| {
            let reason = format!("what it made is not {N} bytes");
            HsmError::Call { what: kind.name(), reason, fault: Fault::Device }
        })
    }
}

impl Drop for WorkerSession {
    fn drop(&mut self) {
        // A lent session that failed is closed as any other; then nobody is logged in, and the next call says so.
        if let Some(keeper) = self.keeper.take().filter(|_| !self.spoilt) {
            *lock(&keeper) = self.session.take();
        }
    }
}

/// What a key is used for.
#[derive(Clone, Copy)]
enum Kind {
    Sign,
    Derive,
}

impl Kind {
    const fn fits(self, key: &RingKey) -> bool {
        match self {
            Self::Sign => matches!(key.role, KeyRole::Passport | KeyRole::Audit),
            Self::Derive => matches!(key.role, KeyRole::Seal),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Sign => "sign",
            Self::Derive => "derive a key",
        }
    }

    fn mechanism(self) -> Mechanism<'static> {
        match self {
            // Without context and without pre-hash. SoftHSM ignores the parameters that would ask for either.
            Self::Sign => Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure)),
            Self::Derive => Mechanism::Sha256Hmac,
        }
    }
}

/// A session that the module knows, and that is logged in.
fn logged_in(session: &Session) -> Result<(), HsmError> {
    const WHAT: &str = "look after a session";
    let info = session.get_session_info().map_err(|error| HsmError::call(WHAT, &error))?;
    match info.session_state() {
        SessionState::RoUser | SessionState::RwUser => Ok(()),
        state => Err(HsmError::Call { what: WHAT, reason: format!("it is {state:?}"), fault: Fault::Login }),
    }
}

/// As the module itself would say it.
fn not_initialised() -> HsmError {
    HsmError::Call { what: "open a session", reason: "the module is not initialised".to_owned(), fault: Fault::Module }
}

impl Pkcs11Device {
    /// Loads and initialises the module, finds the token, logs in, and reads the keys.
    ///
    /// # Errors
    /// [`HsmError`] for each thing that can be wrong on the way.
    pub fn start(config: ModuleConfig, pin: Pin) -> Result<(Self, Ring), HsmError> {
        let module = Module::load(&config.module)?;
        let device = Self { module, config, pin, live: Mutex::new(None) };
        let ring = device.connect()?;
        ring.may_start()?;
        Ok((device, ring))
    }

    /// Label and serial number of the token, and the module's description.
    pub fn describe(&self) -> (String, String) {
        let live = self.live();
        let token =
            live.as_ref().map_or_else(String::new, |live| format!("{} {}", live.token.label, live.token.serial));
        (self.module.description(), token)
    }

    fn live(&self) -> MutexGuard<'_, Option<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connected(&self) -> Result<Live, HsmError> {
        self.live().clone().ok_or_else(not_initialised)
    }

    fn connect(&self) -> Result<Ring, HsmError> {
        self.module.initialise().map_err(|error| self.explain(error))?;
        let token = self.module.token(&self.config.token).map_err(|error| self.explain(error))?;
        self.module.check_mechanisms(&token)?;
        let keeper = self.module.read_only_session(&token)?;
        self.log_in(&token, &keeper)?;
        let (ring, vault) = match &self.config.fleeting {
            None => {
                let pins = Pins::read(&self.config.state_dir)?;
                (Ring::new(Inventory::read(&keeper)?, &pins, &token.serial), None)
            }
            Some(fleeting) => {
                let vault = self.module.read_only_session(&token)?;
                let (module, seals) = (self.module.description(), self.module.seals(&token)?);
                let place = Place { module: &module, token_serial: &token.serial, seals };
                let (inventory, pins) = fleeting.make(&vault, place)?;
                let ring = Ring::of_session(inventory, &pins, &token.serial);
                (ring, Some(Arc::new(Mutex::new(Some(vault)))))
            }
        };
        *self.live() = Some(Live { token, keeper: Arc::new(Mutex::new(Some(keeper))), vault });
        Ok(ring)
    }

    /// Once for each PIN that is refused, however often this process is started.
    fn log_in(&self, token: &Token, session: &Session) -> Result<(), HsmError> {
        let dir = &self.config.state_dir;
        if self.config.fleeting.is_some() {
            // What was noted in other times holds; nothing is noted now. A refused PIN ends the process all the same.
            pin_note::allows(dir, token, &self.pin, self.module.pin_flags(token)?)?;
            return self.module.login(token, session, &self.pin);
        }
        pin_note::before(dir, token, &self.pin, self.module.pin_flags(token)?)?;
        let outcome = self.module.login(token, session, &self.pin);
        if let Err(error) = pin_note::after(dir, token, &self.pin, &outcome) {
            tracing::warn!(name: "pin_note_failed", %error, "what came of a login can't be noted");
        }
        outcome
    }

    /// SoftHSM shows no token, or does not initialise, when it can't read its store: say that instead.
    fn explain(&self, error: HsmError) -> HsmError {
        super::doctor::store_problem(self.config.store.as_deref()).unwrap_or(error)
    }

    fn disconnect(&self) -> Result<(), HsmError> {
        // No lock is held meanwhile: if this hangs, others still ask how it stands.
        let live = self.live().take();
        let sessions =
            live.map(|Live { keeper, vault, .. }| [vault.and_then(|vault| lock(&vault).take()), lock(&keeper).take()]);
        for session in sessions.into_iter().flatten().flatten() {
            // Finalising closes it in any case.
            drop(session.close());
        }
        self.module.finalise()
    }
}

impl Device for Pkcs11Device {
    type Session = WorkerSession;

    fn open(&self, ring: &Arc<Ring>) -> Result<WorkerSession, HsmError> {
        let session = self.module.read_only_session(&self.connected()?.token)?;
        Ok(WorkerSession::new(session, ring, None))
    }

    fn share(&self, ring: &Arc<Ring>) -> Result<WorkerSession, HsmError> {
        let keeper = self.connected()?.keeper;
        let session = lock(&keeper).take().ok_or_else(|| {
            let reason = "the session that holds the login is gone".to_owned();
            HsmError::Call { what: "open a session", reason, fault: Fault::Login }
        })?;
        Ok(WorkerSession::new(session, ring, Some(keeper)))
    }

    fn sign(&self, session: &mut WorkerSession, position: usize, message: &[u8]) -> Result<[u8; SIGNATURE], HsmError> {
        let made = session.make(position, Kind::Sign, message);
        session.spoilt |= made.is_err();
        made
    }

    fn derive(
        &self,
        session: &mut WorkerSession,
        position: usize,
        input: &[u8],
    ) -> Result<Zeroizing<[u8; DERIVED]>, HsmError> {
        let made = session.make(position, Kind::Derive, input);
        session.spoilt |= made.is_err();
        made.map(Zeroizing::new)
    }

    fn alive(&self, session: &mut WorkerSession) -> Result<(), HsmError> {
        let outcome = session.session().and_then(logged_in);
        session.spoilt |= outcome.is_err();
        outcome
    }

    fn keep(&self) -> Result<(), HsmError> {
        let keeper = self.connected()?.keeper;
        // Lent, it is looked after by its worker.
        lock(&keeper).as_ref().map_or(Ok(()), logged_in)
    }

    fn login(&self) -> Result<(), HsmError> {
        let Live { token, keeper, .. } = self.connected()?;
        let mut kept = lock(&keeper);
        if let Some(session) = kept.take() {
            drop(session.close());
        }
        let session = self.module.read_only_session(&token)?;
        self.log_in(&token, &session)?;
        *kept = Some(session);
        Ok(())
    }

    fn limit(&self) -> Option<usize> {
        let live = self.live();
        let live = live.as_ref()?;
        Some(live.token.max_sessions?.saturating_sub(1 + usize::from(live.vault.is_some())))
    }

    fn reinitialise(&self) -> Result<Ring, HsmError> {
        // A failure to finalise shows in what follows (CKR_CRYPTOKI_ALREADY_INITIALIZED), which says more.
        drop(self.disconnect());
        self.connect()
    }

    fn close(&self) -> Result<(), HsmError> {
        self.disconnect()
    }
}
