//! The module itself: loaded once, initialised, the token found, logged in.

use super::pin_note::PinFlags;
use super::{HsmError, TokenChoice, path};
use crate::secret::Pin;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::MechanismType;
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Limit, Slot, TokenInfo};
use cryptoki::types::RawAuthPin;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Loaded once and never unloaded: threads of the module may outlive every session, and `dlclose` under them crashes.
static LOADED: OnceLock<(PathBuf, Pkcs11)> = OnceLock::new();

/// What a token must offer to serve, and to have keys made in it.
const MECHANISMS: [(MechanismType, &str); 2] =
    [(MechanismType::EDDSA, "CKM_EDDSA"), (MechanismType::ECC_EDWARDS_KEY_PAIR_GEN, "CKM_EC_EDWARDS_KEY_PAIR_GEN")];

/// Whether this process has loaded a module; it then ends by [`super::leave`].
pub fn loaded() -> bool {
    LOADED.get().is_some()
}

/// A loaded module.
#[derive(Clone, Debug)]
pub struct Module {
    pkcs11: Pkcs11,
}

/// A token that was found.
#[derive(Clone, Debug)]
pub struct Token {
    /// Its slot, for this initialisation of the module only.
    pub slot: Slot,
    /// Its label.
    pub label: String,
    /// Its serial number.
    pub serial: String,
    /// How many sessions a process may have open (`ulMaxSessionCount`), if it says so.
    pub max_sessions: Option<usize>,
    /// It takes its PIN on a pad of its own (`CKF_PROTECTED_AUTHENTICATION_PATH`).
    pub own_pad: bool,
    /// Maker, model, firmware and hardware.
    pub make: [String; 4],
}

impl Module {
    /// Loads the module at `path`, once it is known to be root's alone.
    ///
    /// # Errors
    /// One of the `Module…` variants, or [`HsmError::SecondModule`].
    pub fn load(path: &Path) -> Result<Self, HsmError> {
        let real = path::trusted(path)?;
        if LOADED.get().is_none() {
            let pkcs11 = Pkcs11::new(&real).map_err(|error| not_a_module(&real, &error))?;
            // Two threads may come here at once; the loser's handle is only a second reference to the same library.
            drop(LOADED.set((real.clone(), pkcs11)));
        }
        match LOADED.get() {
            Some((loaded, pkcs11)) if *loaded == real => Ok(Self { pkcs11: pkcs11.clone() }),
            _ => Err(HsmError::SecondModule(real)),
        }
    }

    /// `C_Initialize`, with the module to use the system's locks: it is called from many threads.
    ///
    /// # Errors
    /// [`HsmError::Initialise`] or [`HsmError::CutShort`].
    pub fn initialise(&self) -> Result<(), HsmError> {
        let args = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
        self.pkcs11.initialize(args).map_err(|error| match error {
            Error::Pkcs11(RvError::TokenWriteProtected, _) => HsmError::CutShort,
            other => HsmError::Initialise(other.to_string()),
        })
    }

    /// `C_Finalize`. No thread may be inside the module: the caller has seen all of them leave it.
    ///
    /// # Errors
    /// [`HsmError::Call`].
    pub fn finalise(&self) -> Result<(), HsmError> {
        self.pkcs11.clone().finalize().map_err(|error| HsmError::call("finalise the module", &error))
    }

    /// The library's description and version, for `Status`.
    pub fn description(&self) -> String {
        self.pkcs11.get_library_info().map_or_else(
            |error| format!("unknown ({error})"),
            |info| {
                let version = info.library_version();
                format!("{} {}.{}", info.library_description(), version.major(), version.minor())
            },
        )
    }

    /// Finds the one token that fits.
    ///
    /// # Errors
    /// [`HsmError::NoChoice`], [`HsmError::NoToken`] with what is there, [`HsmError::ManyTokens`] or
    /// [`HsmError::TokenUninitialised`].
    pub fn token(&self, choice: &TokenChoice) -> Result<Token, HsmError> {
        if choice.label.is_none() && choice.serial.is_none() {
            return Err(HsmError::NoChoice);
        }
        let slots = self.pkcs11.get_slots_with_token().map_err(|error| HsmError::call("list the tokens", &error))?;
        // A slot whose token was pulled a moment ago fails alone.
        let shown: Vec<(Slot, TokenInfo)> =
            slots.into_iter().filter_map(|slot| Some((slot, self.pkcs11.get_token_info(slot).ok()?))).collect();
        let fits: Vec<&(Slot, TokenInfo)> = shown.iter().filter(|(_, info)| fits(choice, info)).collect();
        match fits.as_slice() {
            [] => Err(HsmError::NoToken { wanted: describe(choice), present: list(&shown) }),
            [(_, info)] if !info.token_initialized() => Err(HsmError::TokenUninitialised(info.label().to_owned())),
            [(slot, info)] => Ok(Token {
                slot: *slot,
                label: info.label().to_owned(),
                serial: info.serial_number().to_owned(),
                max_sessions: match info.max_session_count() {
                    Limit::Max(most) => usize::try_from(most).ok(),
                    Limit::Unavailable | Limit::Infinite => None,
                },
                own_pad: info.protected_authentication_path(),
                make: make(info),
            }),
            several => {
                let serials: Vec<&str> = several.iter().map(|(_, info)| info.serial_number()).collect();
                Err(HsmError::ManyTokens { wanted: describe(choice), serials: serials.join(", ") })
            }
        }
    }

    /// Whether the token can make and use Ed25519 keys.
    ///
    /// # Errors
    /// [`HsmError::Mechanism`], naming the first that is missing.
    pub fn check_mechanisms(&self, token: &Token) -> Result<(), HsmError> {
        let offered = self
            .pkcs11
            .get_mechanism_list(token.slot)
            .map_err(|error| HsmError::call("list the token's mechanisms", &error))?;
        match MECHANISMS.iter().find(|(mechanism, _)| !offered.contains(mechanism)) {
            None => Ok(()),
            Some((_, name)) => Err(HsmError::Mechanism { name, token: token.label.clone() }),
        }
    }

    /// A read-only session.
    ///
    /// # Errors
    /// [`HsmError::Call`].
    pub fn read_only_session(&self, token: &Token) -> Result<Session, HsmError> {
        self.pkcs11.open_ro_session(token.slot).map_err(|error| HsmError::call("open a session", &error))
    }

    /// A session that can make keys: for ceremonies alone.
    ///
    /// # Errors
    /// [`HsmError::Call`].
    pub fn read_write_session(&self, token: &Token) -> Result<Session, HsmError> {
        self.pkcs11.open_rw_session(token.slot).map_err(|error| HsmError::call("open a read-write session", &error))
    }

    /// Logs the user in, for all sessions of this process. Being logged in already is success.
    ///
    /// # Errors
    /// One of the `Pin…` variants, after which nobody may try the same PIN again, or [`HsmError::Call`].
    pub fn login(&self, token: &Token, session: &Session, pin: &Pin) -> Result<(), HsmError> {
        // cryptoki wants its own box; it zeroises it.
        let boxed = RawAuthPin::new(Box::new(pin.expose().to_vec()));
        self.logged_in(token, session.login_with_raw(UserType::User, &boxed))
    }

    /// The same where the token takes its PIN itself ([`Token::own_pad`]): it is typed there, and passes no program.
    ///
    /// # Errors
    /// As [`Module::login`].
    pub fn login_at_the_pad(&self, token: &Token, session: &Session) -> Result<(), HsmError> {
        self.logged_in(token, session.login(UserType::User, None))
    }

    fn logged_in(&self, token: &Token, answer: Result<(), Error>) -> Result<(), HsmError> {
        let refused = match answer {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => return Ok(()),
            Err(error) => error,
        };
        let label = token.label.clone();
        Err(match refused {
            Error::Pkcs11(RvError::PinIncorrect, _) => {
                HsmError::PinIncorrect { token: label, left: self.tries_left(token) }
            }
            Error::Pkcs11(RvError::PinLocked, _) => HsmError::PinLocked(label),
            Error::Pkcs11(RvError::UserPinNotInitialized, _) => HsmError::PinUnset(label),
            Error::Pkcs11(RvError::PinExpired | RvError::PinInvalid | RvError::PinLenRange, _) => {
                HsmError::PinUnfit(label, refused.to_string())
            }
            other => HsmError::call("log in", &other),
        })
    }

    /// Whether the token offers `CKM_SHA256_HMAC`, by which small secrets are sealed.
    ///
    /// # Errors
    /// [`HsmError::Call`].
    pub fn seals(&self, token: &Token) -> Result<bool, HsmError> {
        let offered = self.pkcs11.get_mechanism_list(token.slot);
        let offered = offered.map_err(|error| HsmError::call("list the token's mechanisms", &error))?;
        Ok(offered.contains(&MechanismType::SHA256_HMAC))
    }

    /// What the token says of its user PIN now.
    ///
    /// # Errors
    /// [`HsmError::Call`].
    pub fn pin_flags(&self, token: &Token) -> Result<PinFlags, HsmError> {
        let info = self.pkcs11.get_token_info(token.slot).map_err(|error| HsmError::call("ask the token", &error))?;
        Ok(PinFlags {
            locked: info.user_pin_locked(),
            final_try: info.user_pin_final_try(),
            count_low: info.user_pin_count_low(),
        })
    }

    /// What `CK_TOKEN_INFO.flags` say after a refusal. SoftHSM never sets them: it does not count.
    fn tries_left(&self, token: &Token) -> &'static str {
        match self.pkcs11.get_token_info(token.slot) {
            Ok(info) if info.user_pin_locked() => "it is locked now (CKF_USER_PIN_LOCKED)",
            Ok(info) if info.user_pin_final_try() => "ONE attempt is left before it locks (CKF_USER_PIN_FINAL_TRY)",
            Ok(info) if info.user_pin_count_low() => "few attempts are left (CKF_USER_PIN_COUNT_LOW)",
            _ => "it says nothing of the attempts that are left",
        }
    }
}

fn make(info: &TokenInfo) -> [String; 4] {
    let (firmware, hardware) = (info.firmware_version(), info.hardware_version());
    let version = |major: u8, minor: u8| format!("{major}.{minor}");
    [
        info.manufacturer_id().to_owned(),
        info.model().to_owned(),
        version(firmware.major(), firmware.minor()),
        version(hardware.major(), hardware.minor()),
    ]
}

fn not_a_module(path: &Path, error: &Error) -> HsmError {
    let why = match error {
        Error::LibraryLoading(source) => {
            std::error::Error::source(source).map_or_else(|| source.to_string(), ToString::to_string)
        }
        other => other.to_string(),
    };
    HsmError::NotAModule(path.to_owned(), why)
}

fn fits(choice: &TokenChoice, info: &TokenInfo) -> bool {
    let same = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
    same(&choice.label, info.label())
        && same(&choice.serial, info.serial_number())
        && same(&choice.manufacturer, info.manufacturer_id())
        && same(&choice.model, info.model())
}

fn describe(choice: &TokenChoice) -> String {
    let parts = [
        ("label", &choice.label),
        ("serial number", &choice.serial),
        ("manufacturer", &choice.manufacturer),
        ("model", &choice.model),
    ];
    let given: Vec<String> =
        parts.iter().filter_map(|(name, value)| value.as_ref().map(|value| format!("{name} \"{value}\""))).collect();
    given.join(" and ")
}

fn list(shown: &[(Slot, TokenInfo)]) -> String {
    let lines: Vec<String> = shown
        .iter()
        .map(|(_, info)| match info.token_initialized() {
            true => format!("\"{}\" (serial {})", info.label(), info.serial_number()),
            false => "an uninitialised token".to_owned(),
        })
        .collect();
    if lines.is_empty() { "no token at all".to_owned() } else { lines.join(", ") }
}
