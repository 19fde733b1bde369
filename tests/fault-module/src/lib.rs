//! A PKCS#11 module for tests. It hands every call to the module that `FAULT_WRAPS` names, and fails where, when and how
//! the file that `FAULT_CONTROL` names says ([`Control`]).
//!
//! The file may be replaced at any time: it is read again at the next call after that. It must lie where the process may
//! still read it once it is confined; for passportd that is `hsm.state_dir`.
//!
//! C_GetFunctionList is the only way in, so that a caller sees a module of PKCS#11 2.40 whatever is behind.

mod calls;
mod clock;
mod control;
mod disk;
mod faults;
mod kernel;
mod shared;

pub use calls::C_GetFunctionList;
pub use clock::clock_gettime;
pub use control::{Action, Control, Kill, Rule};
pub use disk::{fdatasync, fsync, ftruncate64, open64, pwrite64};
pub use kernel::without_landlock;

/// The module that is wrapped.
pub const WRAPS: &str = "FAULT_WRAPS";
/// The control file. Without it nothing fails.
pub const CONTROL: &str = "FAULT_CONTROL";
/// What is wrapped unless told otherwise: where Debian puts SoftHSM.
pub const DEFAULT_WRAPS: &str = "/usr/lib/softhsm/libsofthsm2.so";
/// How each line on standard error begins that `log` asks for; the function, the process id and the
/// thread's name follow.
pub const SAYS: &str = "fault-module:";
/// The file with the seconds that a preloaded process's clock is off by, as an `i64` in the machine's order of bytes.
pub const STEP: &str = "FAULT_CLOCK";
/// The file with what is the matter with a preloaded process's disk: the error of a sync, the error of a write, and device and number of the
/// file that has them, each as an `i64` in the machine's order of bytes.
pub const DISK: &str = "FAULT_DISK";
