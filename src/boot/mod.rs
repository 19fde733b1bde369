//! The order of starting, per role: configuration, then sockets and files that need the starting user's rights, then the
//! sandbox, and only then threads, strangers' bytes and the HSM's module.

mod args;
mod ends;
mod front;
mod house;
mod hsm;
mod logging;
mod records;
mod restored;
mod run;
mod runtimes;
mod sockets;
mod watchdog;

use std::io;
use std::process::ExitCode;

use clap::Parser as _;
use tracing::error;

use crate::audit::AuditError;
use crate::ceremony::CeremonyError;
use crate::config::{Config, ConfigError, Server, Sources};
use crate::hsm::HsmError;
use crate::log::{LogError, PlaceError};
use crate::metrics::MetricsError;
use crate::policy::PolicyError;
use crate::sandbox::{SandboxError, heed_only};
use crate::secret::SecretError;
use crate::server::inherit::{InheritError, Inherited};
use crate::server::listen::ListenError;
use crate::state::StateError;
use crate::verify::KeyringError;
use args::{Arguments, Role};

pub use logging::events::{Event, events};

/// `EX_CONFIG` of sysexits.h: starting again does not help until somebody changes something. Units name it, and the 2 of
/// wrong arguments, in `RestartPreventExitStatus=`.
pub const EXIT_CONFIG: u8 = 78;

/// Why a role could not start, or had to end.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant carries the error of the room that it names")]
pub enum BootError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Inherit(#[from] InheritError),
    #[error("can't listen on [server] metrics_addr {addr}: {error}; configure another address, or \"off\"")]
    Metrics { addr: std::net::SocketAddr, error: io::Error },
    #[error("[server] {key}: there is no {kind} {name:?}; create it (sysusers.d/passportd.conf), or configure another")]
    Unknown { key: &'static str, kind: &'static str, name: String },
    #[error("{key} {path}: can't {what}: {error}{}", room(error, whose))]
    Place { key: &'static str, path: String, whose: String, what: &'static str, error: io::Error },
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("{places}: {error}")]
    Apart { places: String, error: StateError },
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    #[error("[hsm] pin_file: {0}")]
    Pin(SecretError),
    #[error("the credential hsm-pin, which LoadCredential= of the signer's unit names: {0}")]
    Credential(SecretError),
    #[error("no PIN is configured: set [hsm] pin_file, or give the unit the credential hsm-pin")]
    NoPin,
    #[error("[hsm] module is not set, and the URI has no module-path")]
    NoModule,
    #[error(transparent)]
    Hsm(#[from] HsmError),
    #[error("ceremony: {0}")]
    Ceremony(#[from] CeremonyError),
    #[error(
        "standard input is not a connected Unix socket: {0}; ceremonies are started by systemd or by `passportd run`"
    )]
    NoStream(io::Error),
    #[error("can't start the runtime: {0}")]
    Runtime(io::Error),
    #[error("can't start the thread that writes the log: {0}")]
    Log(io::Error),
    #[error(
        "can't receive signals or connections: {0}; that takes descriptors: raise LimitNOFILE= (`ulimit -n`) if there are \
         too few, and report it otherwise"
    )]
    Signals(io::Error),
    #[error("can't find this program's own file: {0}")]
    Program(io::Error),
    #[error(transparent)]
    Defect(#[from] MetricsError),
}

impl BootError {
    /// The exit code: [`EXIT_CONFIG`] when only a person can help.
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::Policy(_)
            | Self::Listen(ListenError::Occupied(_) | ListenError::Served(_) | ListenError::Foreign { .. })
            | Self::Inherit(_)
            | Self::Unknown { .. }
            | Self::Sandbox(
                SandboxError::Unknown { .. }
                | SandboxError::Root(_)
                | SandboxError::Path { .. }
                | SandboxError::Swap { .. }
                | SandboxError::Writable { .. }
                | SandboxError::NoLandlock(_),
            )
            | Self::Pin(_)
            | Self::Credential(_)
            | Self::NoPin
            | Self::NoModule
            | Self::Keyring(_) => EXIT_CONFIG,
            Self::Listen(ListenError::System { error, .. })
            | Self::Metrics { error, .. }
            | Self::Place { error, .. }
                if is_lasting(error.kind()) =>
            {
                EXIT_CONFIG
            }
            Self::State(error) | Self::Apart { error, .. } if state_needs_operator(error) => EXIT_CONFIG,
            Self::Audit(AuditError::Open(error)) if log_needs_operator(error) => EXIT_CONFIG,
            Self::Hsm(error) if error.needs_operator() => EXIT_CONFIG,
            _ => 1,
        }
    }
}

/// What the system will say again until somebody changes something: a directory that is not there, a right that is
/// missing, an address that this host does not have. An address in use may come free.
const fn is_lasting(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{
        AddrNotAvailable, InvalidInput, NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem,
    };
    matches!(kind, NotFound | PermissionDenied | NotADirectory | ReadOnlyFilesystem | AddrNotAvailable | InvalidInput)
}

/// Everything but a store that another process still holds, or that the host fails to read or write.
const fn state_needs_operator(error: &StateError) -> bool {
    match error {
        StateError::Place(place) => place_needs_operator(place),
        StateError::Missing { .. }
        | StateError::Format { .. }
        | StateError::Corrupt { .. }
        | StateError::AheadOfLedger { .. }
        | StateError::BehindLedger { .. } => true,
        _ => false,
    }
}

/// The same for the ledger. A damaged one is evidence: starting again and again would not make it whole.
const fn log_needs_operator(error: &LogError) -> bool {
    match error {
        LogError::Place(place) => place_needs_operator(place),
        LogError::Damaged { .. }
        | LogError::Base { .. }
        | LogError::Twice { .. }
        | LogError::Stranger { .. }
        | LogError::TooMany { .. } => true,
        LogError::Io { .. } | LogError::Thread(_) => false,
    }
}

const fn place_needs_operator(error: &PlaceError) -> bool {
    !matches!(error, PlaceError::InUse { .. } | PlaceError::Lock { .. })
}

/// `passportd`, from its arguments to its exit code.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are "errors" that print to standard output and exit with 0.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    logging::start(arguments.role.name());
    let code = start(&arguments.role).unwrap_or_else(|error| {
        error!(name: "role_failed", "{error}");
        error.exit_code()
    });
    logging::flush();
    if crate::hsm::module::loaded() {
        crate::hsm::leave(code);
    }
    ExitCode::from(code)
}

fn start(role: &Role) -> Result<u8, BootError> {
    heed_only(role.heeds())?;
    let inherited = Inherited::from_environment()?;
    if !matches!(role, Role::Front(_)) {
        inherited.none_for(role.name())?;
    }
    let common = role.common();
    // Absolute, since a reload reads it again from inside the sandbox.
    let argument = common.config.as_ref().map(std::path::absolute).transpose().map_err(BootError::Program)?;
    let sources = Sources { amnesia: common.amnesia, ..Sources::new(argument, std::env::vars_os()) };
    let loaded = Config::load(&sources)?;
    if loaded.config.security.amnesia {
        logging::forget_peers();
    }
    accounts_exist(role, &loaded.config.server)?;
    match role {
        Role::Front(_) => front::front(loaded, sources, common.parent, inherited),
        Role::Signer(_) => hsm::signer(&loaded.config, common.parent),
        Role::Ceremony(_) => hsm::ceremony(&loaded.config, common.parent),
        Role::Run(_) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(BootError::Runtime)?.block_on(run::run(&loaded, common.config.clone(), common.amnesia))
        }
    }
}

/// What to do where a directory can't be made; `whose` it is to be.
fn room(error: &io::Error, whose: &str) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "; make the directory above it first".to_owned(),
        io::ErrorKind::PermissionDenied => format!("; make it yourself, and give it to {whose}"),
        _ => crate::log::remedy(error).to_owned(),
    }
}

/// A role's user, by the name and the setting; our own where none is configured.
fn user_of(role: &str, key: &str, name: Option<&String>) -> String {
    match name {
        Some(name) => format!("the {role}'s user, {name} ([server] {key})"),
        None => format!("the {role}'s user, uid {}", nix::unistd::geteuid()),
    }
}

/// Every account that a role is going to ask for, each by the setting that names it.
fn accounts_exist(role: &Role, server: &Server) -> Result<(), BootError> {
    let wanted = |name: Option<&String>, key, known: &dyn Fn(&str) -> bool, kind| match name {
        Some(name) if !known(name) => Err(BootError::Unknown { key, kind, name: name.clone() }),
        _ => Ok(()),
    };
    let user = |name: &str| uid_of(name).is_ok();
    let group = |name: &str| gid_of(name).is_ok();
    wanted(server.user.as_ref(), "user", &user, "user")?;
    wanted(server.hsm_user.as_ref(), "hsm_user", &user, "user")?;
    if matches!(role, Role::Front(_) | Role::Run(_)) {
        wanted(server.socket_group.as_ref(), "socket_group", &group, "group")?;
        wanted(server.admin_socket_group.as_ref(), "admin_socket_group", &group, "group")?;
        for listener in &server.listeners {
            wanted(listener.user.as_ref(), "listener: user", &user, "user")?;
            wanted(listener.group.as_ref(), "listener: group", &group, "group")?;
        }
    }
    Ok(())
}

/// The uid of a configured user.
fn uid_of(name: &str) -> Result<u32, BootError> {
    match nix::unistd::User::from_name(name) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        _ => Err(BootError::Unknown { key: "user, hsm_user, listener: user", kind: "user", name: name.to_owned() }),
    }
}

/// The gid of a configured user's own group.
fn gid_of_user(name: &str) -> Result<u32, BootError> {
    match nix::unistd::User::from_name(name) {
        Ok(Some(user)) => Ok(user.gid.as_raw()),
        _ => Err(BootError::Unknown { key: "user, hsm_user", kind: "user", name: name.to_owned() }),
    }
}

/// The gid of a configured group.
fn gid_of(name: &str) -> Result<u32, BootError> {
    match nix::unistd::Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        _ => Err(BootError::Unknown { key: "groups of sockets", kind: "group", name: name.to_owned() }),
    }
}

/// The gid that a role has in the end, as [`uid_after`].
fn gid_after(user: Option<&String>) -> Result<u32, BootError> {
    match user {
        Some(name) if is_root() => gid_of_user(name),
        _ => Ok(nix::unistd::getegid().as_raw()),
    }
}

/// Whether this process may become another user.
fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The uid that a role has in the end: the configured user's if it was started as root, else our own.
fn uid_after(user: Option<&String>) -> Result<u32, BootError> {
    match user {
        Some(name) if is_root() => uid_of(name),
        _ => Ok(nix::unistd::geteuid().as_raw()),
    }
}

/// Whether this process was started as a configured user already, as by systemd's `User=`.
fn is_user(user: Option<&String>) -> bool {
    user.is_some_and(|name| uid_of(name).is_ok_and(|uid| uid == nix::unistd::geteuid().as_raw()))
}

/// The uid that another role has: its configured user's, if this role is, or is about to be, the user configured for it;
/// else our own, as where an ordinary user runs all of them.
fn uid_of_peer(own: Option<&String>, peer: Option<&String>) -> Result<u32, BootError> {
    match peer {
        Some(name) if is_root() || is_user(own) => uid_of(name),
        _ => Ok(nix::unistd::geteuid().as_raw()),
    }
}
