//! Inside the signer: the PKCS#11 module, its sessions, the keys, and the guard that decides what they may sign.
//!
//! A vendor's module is C code that hangs, leaks and crashes, so everything here assumes that a call may never come
//! back, and nothing here runs in the process that reads strangers' bytes. Threads, no executor: every call blocks.
//!
//! | part | what it does |
//! |---|---|
//! | [`path`] | is the file that is about to be loaded root's alone? |
//! | [`module`] | load once, initialise, find the token, log in |
//! | [`label`] | what a key's `CKA_LABEL` says: role, tenant, purpose, version |
//! | [`inventory`] | which keys are there, with which attributes |
//! | `make` | making one key, in the token or in a session |
//! | [`fleeting`] | amnesia mode: keys of the signer's own, which go with it |
//! | [`pin_note`] | what is remembered of a refused PIN |
//! | [`pins`] | which keys ought to be there: `keys.json`, written by ceremonies |
//! | [`recycle`] | when a module that leaks is left behind |
//! | [`reread`] | when the keys are read again without anybody's asking |
//! | [`ring`] | both compared: the keys that are used, and why the others are not |
//! | [`guard`] | what a passport key signs: pure |
//! | [`sealer`] | how secrets are sealed: a trait, since it is a later room that does it |
//! | [`device`] | sessions that sign, behind a trait so that the pool's tests need no module |
//! | [`ladder`] | which way back from a failure: pure |
//! | [`pool`] | workers, queue, deadlines, the watchdog |
//! | [`server`] | the private socket to the front |
//! | [`serve`] | the signer from PIN to the last signature |
//! | [`doctor`] | one line for each thing that can be set up wrong |
//! | [`mod@bench`] | the module's own rate, to measure ours against |

pub mod bench;
pub mod device;
pub mod doctor;
pub(crate) mod ec;
mod error;
pub mod fleeting;
pub mod guard;
pub mod inventory;
pub mod label;
pub mod ladder;
pub(crate) mod make;
pub mod marks;
pub mod module;
pub mod path;
pub mod pin_note;
pub mod pins;
pub mod pool;
pub mod recycle;
pub mod reread;
pub mod ring;
pub mod sealer;
pub mod serve;
pub mod server;
pub mod tally;

pub use error::HsmError;
pub use fleeting::Fleeting;
pub use guard::{Bounds, TenantBounds};
pub use serve::{ExitReason, Manager, SignerPlan, run_signer};

use std::path::PathBuf;
use std::time::Duration;

/// Ends this process at once, by `_exit`. `exit` would run the module's destructors, under its own threads and those that
/// are still inside: that crashed 14 of 20 times (DESIGN §8).
pub fn leave(code: u8) -> ! {
    signal_hook::low_level::exit(i32::from(code))
}

/// Which token is meant. Everything that is given must match; a label or a serial number must be given.
///
/// Never a slot number: SoftHSM renumbers its slots whenever a token is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenChoice {
    /// `CK_TOKEN_INFO.label`, without padding (`token` in RFC 7512).
    pub label: Option<String>,
    /// `CK_TOKEN_INFO.serialNumber`.
    pub serial: Option<String>,
    /// `CK_TOKEN_INFO.manufacturerID`.
    pub manufacturer: Option<String>,
    /// `CK_TOKEN_INFO.model`.
    pub model: Option<String>,
}

/// The module and how it is used.
#[derive(Clone, Debug)]
pub struct ModuleConfig {
    /// The PKCS#11 library: absolute, root's alone.
    pub module: PathBuf,
    /// The token in it.
    pub token: TokenChoice,
    /// Sessions that sign, a thread each.
    pub sessions: usize,
    /// After this long a call of the module counts as stuck, and a request is answered `Timeout`.
    pub op_timeout: Duration,
    /// How long a login may take.
    pub login_timeout: Duration,
    /// Threads that may be lost inside the module before the process ends.
    pub max_stuck: u32,
    /// A session that has been idle for so long is looked at; none for never.
    pub keepalive: Option<Duration>,
    /// Growth of the process, in KiB, after which it ends between two requests, to be started afresh; none for any.
    pub recycle_kib: Option<u64>,
    /// Requests that may wait for a session.
    pub queue: usize,
    /// The signer's own directory, which holds `keys.json`.
    pub state_dir: PathBuf,
    /// In amnesia mode: the keys that the signer makes for itself; then nothing is written to `state_dir`, and none of the
    /// token's own keys is used.
    pub fleeting: Option<Fleeting>,
    /// The directory of a file-based token, if it is one: copied before each ceremony, checked by the doctor.
    pub store: Option<PathBuf>,
    /// The module's own configuration file. Whoever starts the process puts it into the variable `module_env`.
    pub module_config: Option<PathBuf>,
    /// The variable by which the module finds its configuration: `SOFTHSM2_CONF`, `KRYOPTIC_CONF`.
    pub module_env: String,
}
