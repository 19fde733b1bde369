//! What can be wrong with an HSM, told apart: set-up errors that all look alike are what people suffer from most.

use super::ladder::Fault;
use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

/// Everything that fails around the module. [`HsmError::detail`] says what is wrong and where, [`HsmError::remedy`]
/// what to do; `Display` says both. No variant holds any part of a PIN or key.
#[derive(Debug)]
pub enum HsmError {
    /// The module's path is not absolute (operator).
    ModuleRelative(PathBuf),
    /// There is no such file (operator).
    ModuleMissing(PathBuf, std::io::Error),
    /// Somebody other than root could replace the file or a directory above it (operator).
    ModuleUntrusted {
        /// The file or directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is no PKCS#11 library, or not for this machine (operator).
    NotAModule(PathBuf, String),
    /// Another module was loaded before; a process loads one (us).
    SecondModule(PathBuf),
    /// `C_Initialize` failed (operator, HSM).
    Initialise(String),
    /// `C_Initialize` says `CKR_TOKEN_WRITE_PROTECTED`: it would have to take back a write to the store that was cut short,
    /// and the signer has no right to write there. kryoptic does (operator).
    CutShort,
    /// The directory of the file-based token can't be used (operator).
    Store(PathBuf, String),
    /// Neither a label nor a serial number was given (operator).
    NoChoice,
    /// No token of that label or serial number (operator).
    NoToken {
        /// What was asked for.
        wanted: String,
        /// What is there.
        present: String,
    },
    /// More than one token fits (operator).
    ManyTokens {
        /// What was asked for.
        wanted: String,
        /// Their serial numbers.
        serials: String,
    },
    /// The token is there, but was never initialised (HSM admin).
    TokenUninitialised(String),
    /// The token has no user PIN yet (HSM admin).
    PinUnset(String),
    /// `CKR_PIN_INCORRECT` (operator). Must not be tried again: the device counts.
    PinIncorrect {
        /// The token's label.
        token: String,
        /// What the token's flags say of the attempts that are left.
        left: &'static str,
    },
    /// `CKR_PIN_LOCKED` (HSM admin).
    PinLocked(String),
    /// This PIN was refused before, by this token; it was not tried again (operator).
    PinRemembered {
        /// The token's label.
        token: String,
        /// What the token's flags said of the attempts that are left.
        left: String,
    },
    /// One wrong PIN more locks the token; none was tried (operator).
    PinFinalTry(String),
    /// What is remembered of a refused PIN can't be read (operator).
    PinNote(PathBuf, String),
    /// The token wants another PIN first: expired, to be changed, or of a length it does not take (HSM admin).
    PinUnfit(String, String),
    /// The token can't do what is needed (HSM).
    Mechanism {
        /// `CKM_…`.
        name: &'static str,
        /// The token's label.
        token: String,
    },
    /// A call failed (HSM).
    Call {
        /// What was being done.
        what: &'static str,
        /// Function and `CKR_…`, as the module answered.
        reason: String,
        /// Where that says the trouble is.
        fault: Fault,
    },
    /// `CKR_DATA_LEN_RANGE`: the device takes no message of this length (HSM, or the peer that asked for so much).
    TooLong(usize),
    /// More objects in the token than any of ours has (HSM admin).
    TooManyObjects(usize),
    /// A key that worked is no longer found (HSM).
    KeyGone(String),
    /// The HSM has another public key than the pinned one, and no passport key that can be used (HSM admin).
    PinnedKeyChanged(String),
    /// The list of pinned keys can't be used (operator).
    Pins(PathBuf, String),
    /// Others could have changed the list of pinned keys (operator).
    PinsOpen(PathBuf, String),
    /// The list of pinned keys is of a version that this one does not know (operator).
    PinsLayout(PathBuf, u32),
    /// A file operation failed (operator, host).
    File {
        /// What was being done.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The signer's own directory, or what is in it, is not the signer's to use (operator).
    OwnDir {
        /// The directory.
        dir: PathBuf,
        /// The user that it must belong to.
        uid: u32,
        /// What was being done.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The signer's own threads or socket failed (host).
    Host(&'static str, std::io::Error),
    /// The PIN can't be used (operator).
    Secret(crate::secret::SecretError),
    /// Calls failed again and again: the signer ends, to be started afresh (HSM).
    Lost(String),
}

impl HsmError {
    /// A failed call. `what` reads as in "could not …".
    pub(crate) fn call(what: &'static str, error: &cryptoki::error::Error) -> Self {
        let fault = match error {
            cryptoki::error::Error::Pkcs11(rv, _) => Fault::of(rv),
            _ => Fault::Device,
        };
        Self::Call { what, reason: error.to_string(), fault }
    }

    /// Where the trouble is, for the ladder.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Call { fault, .. } => *fault,
            Self::KeyGone(_) => Fault::Object,
            Self::TooLong(_) => Fault::Message,
            _ => Fault::Device,
        }
    }

    /// Whether the PIN was refused: the process must end and not be started again by itself (exit code 78).
    pub const fn refused_pin(&self) -> bool {
        matches!(
            self,
            Self::PinIncorrect { .. }
                | Self::PinLocked(_)
                | Self::PinUnfit(..)
                | Self::PinUnset(_)
                | Self::PinRemembered { .. }
                | Self::PinFinalTry(_)
        )
    }

    /// Whether starting again can't help until somebody changes something.
    pub const fn needs_operator(&self) -> bool {
        self.refused_pin()
            || matches!(
                self,
                Self::ModuleRelative(_)
                    | Self::ModuleMissing(..)
                    | Self::ModuleUntrusted { .. }
                    | Self::NotAModule(..)
                    | Self::NoChoice
                    | Self::ManyTokens { .. }
                    | Self::TokenUninitialised(_)
                    | Self::Mechanism { .. }
                    | Self::PinnedKeyChanged(_)
                    | Self::PinNote(..)
                    | Self::OwnDir { .. }
                    | Self::Pins(..)
                    | Self::PinsOpen(..)
                    | Self::PinsLayout(..)
                    | Self::Secret(_)
            )
    }

    /// What is wrong, and where.
    pub fn detail(&self) -> String {
        match self {
            Self::ModuleRelative(path) => format!("the module's path {} is not absolute", path.display()),
            Self::ModuleMissing(path, error) => format!("the module {} can't be opened: {error}", path.display()),
            Self::ModuleUntrusted { path, owner, mode } => {
                format!(
                    "{} belongs to uid {owner} and has mode {mode:04o}, so others than root may change it",
                    path.display()
                )
            }
            Self::NotAModule(path, why) => format!("{} is not a PKCS#11 module: {why}", path.display()),
            Self::SecondModule(path) => format!("another module is loaded already, so {} is not", path.display()),
            Self::Initialise(why) => format!("the module does not initialise: {why}"),
            Self::CutShort => {
                "the module would have to take back a write to its store that was cut short, and may not \
                               write there (CKR_TOKEN_WRITE_PROTECTED)"
                    .to_owned()
            }
            Self::Store(path, why) => format!("the token store {}: {why}", path.display()),
            Self::NoChoice => "the configuration names neither a token label nor a serial number".to_owned(),
            Self::NoToken { wanted, present } => format!("no token with {wanted}; the module shows {present}"),
            Self::ManyTokens { wanted, serials } => format!("several tokens have {wanted}: serial numbers {serials}"),
            Self::TokenUninitialised(token) => format!("the token \"{token}\" is not initialised"),
            Self::PinUnset(token) => format!("the token \"{token}\" has no user PIN yet"),
            Self::PinIncorrect { token, left } => {
                format!("the token \"{token}\" refused the PIN (CKR_PIN_INCORRECT); {left}")
            }
            Self::PinRemembered { token, left } if left.is_empty() => {
                format!("the token \"{token}\" has refused this PIN before; it was not tried again")
            }
            Self::PinRemembered { token, left } => {
                format!("the token \"{token}\" has refused this PIN before, and said: {left}; it was not tried again")
            }
            Self::PinFinalTry(token) => {
                format!("one more wrong PIN locks the token \"{token}\" (CKF_USER_PIN_FINAL_TRY), so none was tried")
            }
            Self::PinLocked(token) => format!("the user PIN of the token \"{token}\" is locked (CKR_PIN_LOCKED)"),
            Self::PinUnfit(token, why) => format!("the token \"{token}\" does not take this PIN: {why}"),
            Self::Mechanism { name, token } => format!("the token \"{token}\" does not offer {name}"),
            Self::Call { what, reason, .. } => format!("could not {what}: {reason}"),
            Self::TooLong(bytes) => format!("the token signs no message of {bytes} bytes (CKR_DATA_LEN_RANGE)"),
            Self::TooManyObjects(limit) => format!("the token holds more than {limit} objects"),
            Self::PinnedKeyChanged(kid) => {
                format!("the public key of {kid} in the HSM is not the pinned one, and no passport key can be used")
            }
            Self::KeyGone(kid) => format!("the key {kid} is no longer in the token"),
            Self::PinsLayout(path, layout) => {
                format!("{}: layout {layout} is not the one that this version knows", path.display())
            }
            Self::Pins(path, why) | Self::PinsOpen(path, why) | Self::PinNote(path, why) => {
                format!("{}: {why}", path.display())
            }
            Self::File { what, path, source } | Self::OwnDir { what, path, source, .. } => {
                format!("could not {what} {}: {source}", path.display())
            }
            Self::Host(what, error) => format!("could not {what}: {error}"),
            Self::Secret(error) => error.to_string(),
            Self::Lost(why) => format!("the HSM keeps failing: {why}"),
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> Cow<'static, str> {
        match self {
            Self::OwnDir { dir, uid, .. } => {
                let dir = dir.display();
                format!("run: mkdir -p {dir} && chown -R {uid} {dir} && chmod -R u=rwX,go= {dir}").into()
            }
            other => other.advice().into(),
        }
    }

    /// What to do about what needs no path.
    const fn advice(&self) -> &'static str {
        match self {
            Self::ModuleRelative(_) => "set hsm.module to an absolute path",
            Self::ModuleMissing(..) => {
                "install the module or set hsm.module (SoftHSM: /usr/lib/softhsm/libsofthsm2.so)"
            }
            Self::ModuleUntrusted { .. } => "run: chown root, chmod go-w on it, or install the module under /usr/lib",
            Self::NotAModule(..) => "set hsm.module to the vendor's PKCS#11 library for this architecture",
            Self::SecondModule(_) => "restart the signer to change the module",
            Self::Initialise(_) => {
                "check the module's own configuration (SoftHSM: SOFTHSM2_CONF must name a readable file whose directories.tokendir exists)"
            }
            Self::CutShort => "run passportctl hsm doctor: a ceremony may write, and takes it back",
            Self::Store(..) => "give it to the signer's user: chown -R passportd-hsm, chmod -R go=",
            Self::NoChoice => "set hsm.uri to pkcs11:token=LABEL",
            Self::NoToken { .. } => {
                "correct hsm.uri, or make the token (SoftHSM: softhsm2-util --init-token --free --label LABEL)"
            }
            Self::ManyTokens { .. } => "add ;serial=… to hsm.uri",
            Self::TokenUninitialised(_) => "initialise it (SoftHSM: softhsm2-util --init-token)",
            Self::PinUnset(_) => "set it (SoftHSM: softhsm2-util --init-pin)",
            Self::PinIncorrect { .. } => "correct the PIN file, then start again; it is not tried again by itself",
            Self::PinRemembered { .. } => {
                "correct the PIN file, or run passportctl hsm retry-pin if the PIN is right; then start the signer"
            }
            Self::PinFinalTry(_) => {
                "make sure that the PIN is right, run passportctl hsm retry-pin --final-try, then start the signer"
            }
            Self::PinNote(..) => "run passportctl hsm retry-pin, which writes it anew",
            Self::PinLocked(_) => "have the security officer unlock it (C_InitPIN)",
            Self::PinUnfit(..) => "have the PIN changed with the vendor's tool",
            Self::Mechanism { .. } => "use a token with Ed25519 (PKCS#11 3.0), and check that its policy allows it",
            Self::Call { .. } | Self::Host(..) | Self::File { .. } | Self::OwnDir { .. } => {
                "run passportctl hsm doctor"
            }
            Self::TooLong(_) => "lower limits.max_msg_bytes to what the token takes",
            Self::TooManyObjects(_) => "give passportd a token of its own",
            Self::KeyGone(_) => "run passportctl hsm list",
            Self::PinnedKeyChanged(_) => {
                "find out who has changed the HSM; restore it, or make a new key (passportctl hsm rotate)"
            }
            Self::PinsOpen(..) => "make sure that nobody has changed it, then run chown and chmod 0600 on it",
            Self::PinsLayout(..) => "use the passportd that wrote it",
            Self::Pins(..) => "restore it from state_dir/backups; never edit it",
            Self::Secret(_) => "the PIN file must hold the user PIN alone, mode 0400",
            Self::Lost(_) => "the signer is started again; if this repeats, run passportctl hsm doctor",
        }
    }
}

impl fmt::Display for HsmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.detail(), self.remedy())
    }
}

impl std::error::Error for HsmError {}

impl From<crate::secret::SecretError> for HsmError {
    fn from(error: crate::secret::SecretError) -> Self {
        Self::Secret(error)
    }
}
