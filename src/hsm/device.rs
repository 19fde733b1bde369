//! Sessions that sign.
//!
//! [`Device`] is what the pool needs of an HSM, so that its tests can stage hangs and faults. [`Pkcs11Device`] is the one
//! implementation outside tests: there is no software signer (law L13).

use super::inventory::{self, Inventory};
use super::ladder::Fault;
use super::module::{Module, Token};
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
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a signature (RFC 8032 §5.1.6).
pub const SIGNATURE: usize = 64;
/// Bytes of HMAC-SHA256 (RFC 2104, FIPS 180-4).
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

    /// Has the HSM derive 32 bytes from `input` under the seal key at `position`: HMAC-SHA256, which is `C_Sign` with
    /// `CKM_SHA256_HMAC`.
    ///
    /// # Errors
    /// The module's; the session is not used again after one.
    fn derive(
        &self,
        session: &mut Self::Session,
        position: usize,
        input: &[u8],
    ) -> Result<Zeroizing<[u8; DERIVED]>, HsmError>;

    /// Whether the session is still there and logged in: `C_GetSessionInfo` says `CKS_RO_USER_FUNCTIONS`.
    ///
    /// # Errors
    /// The module's; the session is not used again after one.
    fn alive(&self, session: &mut Self::Session) -> Result<(), HsmError>;

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
struct Live {
    token: Token,
    /// Logged in once and never out: a login holds for the process as long as one session is open. SoftHSM rewrites its
    /// token at login, so workers never do it.
    keeper: Session,
}

/// A worker's session.
#[derive(Debug)]
pub struct WorkerSession {
    session: Session,
    ring: Arc<Ring>,
    /// By position in the ring, as far as they have been needed. Looking up one key costs a few calls; SoftHSM looks
    /// through all objects for each, so that looking up all 129 keys of a token took seconds on a busy machine.
    handles: HashMap<usize, ObjectHandle>,
}

impl WorkerSession {
    /// Where the module keeps the key at `position`, as long as this session is open. It must be of one of `roles`.
    fn handle(&mut self, position: usize, roles: &[KeyRole]) -> Result<ObjectHandle, HsmError> {
        let fits = |key: &&RingKey| roles.contains(&key.role) && key.usable();
        let key = self.ring.get(position).filter(fits);
        if let Some(handle) = self.handles.get(&position).filter(|_| key.is_some()) {
            return Ok(*handle);
        }
        let key = key.ok_or_else(|| HsmError::KeyGone(format!("number {position}")))?;
        let handle = inventory::handle(&self.session, &key.kid, &key.id, key.role)?;
        self.handles.insert(position, handle);
        Ok(handle)
    }
}

/// As the module itself would say it.
fn not_initialised() -> HsmError {
    HsmError::Call { what: "open a session", reason: "the module is not initialised".to_owned(), fault: Fault::Module }
}

/// Ed25519 without context and without pre-hash. SoftHSM ignores the parameters that would ask for either.
fn ed25519() -> Mechanism<'static> {
    Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure))
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
        Ok((device, ring))
    }

    /// Label and serial number of the token, and the module's description.
    pub fn describe(&self) -> (String, String) {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let token =
            live.as_ref().map_or_else(String::new, |live| format!("{} {}", live.token.label, live.token.serial));
        (self.module.description(), token)
    }

    fn connect(&self) -> Result<Ring, HsmError> {
        self.module.initialise().map_err(|error| self.explain(error))?;
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let token = self.module.token(&self.config.token).map_err(|error| self.explain(error))?;
        self.module.check_mechanisms(&token)?;
        let keeper = self.module.read_only_session(&token)?;
        self.module.login(&token, &keeper, &self.pin)?;
        let pins = Pins::read(&self.config.state_dir)?;
        let ring = Ring::new(Inventory::read(&keeper)?, &pins, &token.serial);
        *live = Some(Live { token, keeper });
        Ok(ring)
    }

    /// SoftHSM shows no token, or does not initialise, when it can't read its store: say that instead.
    fn explain(&self, error: HsmError) -> HsmError {
        super::doctor::store_problem(self.config.store.as_deref()).unwrap_or(error)
    }

    fn disconnect(&self) -> Result<(), HsmError> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Live { keeper, .. }) = live {
            // Finalising closes it in any case.
            drop(keeper.close());
        }
        self.module.finalise()
    }
}

impl Device for Pkcs11Device {
    type Session = WorkerSession;

    fn open(&self, ring: &Arc<Ring>) -> Result<WorkerSession, HsmError> {
        let token = {
            let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
            live.as_ref().map(|live| live.token.clone()).ok_or_else(not_initialised)?
        };
        let session = self.module.read_only_session(&token)?;
        Ok(WorkerSession { session, ring: Arc::clone(ring), handles: HashMap::new() })
    }

    fn sign(&self, session: &mut WorkerSession, position: usize, message: &[u8]) -> Result<[u8; SIGNATURE], HsmError> {
        let handle = session.handle(position, &[KeyRole::Passport, KeyRole::Audit])?;
        let mut made = session.session.sign(&ed25519(), handle, message).map_err(|error| match error {
            Error::Pkcs11(RvError::DataLenRange, _) => HsmError::TooLong(message.len()),
            error => HsmError::call("sign", &error),
        })?;
        // Bytes of a wrong length may still be half of a signature over this message: they are not kept.
        let signature = <[u8; SIGNATURE]>::try_from(made.as_slice());
        made.zeroize();
        signature.map_err(|_| {
            let reason = "the signature is not 64 bytes".to_owned();
            HsmError::Call { what: "sign", reason, fault: Fault::Device }
        })
    }

    fn derive(
        &self,
        session: &mut WorkerSession,
        position: usize,
        input: &[u8],
    ) -> Result<Zeroizing<[u8; DERIVED]>, HsmError> {
        let handle = session.handle(position, &[KeyRole::Seal])?;
        let made = session.session.sign(&Mechanism::Sha256Hmac, handle, input);
        let made = Zeroizing::new(made.map_err(|error| HsmError::call("derive a seal key", &error))?);
        <[u8; DERIVED]>::try_from(made.as_slice())
            .map(Zeroizing::new)
            .map_err(|_| HsmError::Call { what: "derive a seal key", reason: "the code is not 32 bytes".to_owned() })
    }

    fn alive(&self, session: &mut WorkerSession) -> Result<(), HsmError> {
        let what = "look at a session";
        let info = session.session.get_session_info().map_err(|error| HsmError::call(what, &error))?;
        match info.session_state() {
            SessionState::RoUser => Ok(()),
            state => Err(HsmError::Call { what, reason: format!("it is in the state {state:?}") }),
        }
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
