//! What a role gives up before it starts a thread or reads a stranger's byte (DESIGN §4, in its order).
//!
//! Signals come first ([`heed_only`]), before a role can be told anything. Then [`enter`] is the only way in, so that no
//! step can be forgotten or swapped: bounding set emptied (needs `CAP_SETPCAP`, so before the uid goes), groups and ids,
//! verified, `no_new_privs`, not dumpable (reset by every change of credentials, so after them), Landlock. Each step is
//! read back from the kernel before the next. Where there is no Landlock, a mount keeps what must not be written, as long
//! as this is root. All of it binds the calling thread or is inherited, hence "before any thread".

mod amnesia;
mod confine;
mod identity;
mod mounts;
mod process;

pub use amnesia::no_bytes;
pub use confine::{Landlock, Level};
pub use identity::Identity;
pub use process::heed_only;

use std::path::PathBuf;

/// What a role may keep.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The role's name, for messages: `front`, `signer`, `ceremony`.
    pub role: &'static str,
    /// The user to become. `None`, or not being root, keeps the present one (and [`Applied::notes`] says so).
    pub user: Option<String>,
    /// Groups beside the user's own; all others are given up.
    pub groups: Vec<String>,
    /// Files and directories that may be read.
    pub read_only: Vec<PathBuf>,
    /// Those of them that must not be written where there is no Landlock either; see [`Applied::notes`] if they can be.
    pub unwritten: Vec<PathBuf>,
    /// Directories in which files may be made, written, renamed and removed.
    pub read_write: Vec<PathBuf>,
    /// Device files that may be read, written and controlled, and directories of such.
    pub devices: Vec<PathBuf>,
    /// Whether TCP sockets may be bound or connected. Inherited listeners work either way.
    pub tcp: bool,
    /// Whether to lock all memory (`mlockall`), where `RLIMIT_MEMLOCK` is unlimited.
    pub lock_memory: bool,
    /// Whether nothing may be written to any file, nor memory reach a disk; see [`Applied::amnesia`].
    pub amnesia: bool,
    /// The process whose death ends this one (a child of `run`); checked, so that a parent that is already gone is seen.
    pub parent: Option<u32>,
}

/// What holds now, each item read back from the kernel. For `Status` and the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The role's name.
    pub role: &'static str,
    /// Uid, gid and groups, and whether they were changed.
    pub identity: Identity,
    /// The capability sets are all empty: bounding too, if this process was allowed to empty it.
    pub bounding_empty: bool,
    /// `PR_GET_NO_NEW_PRIVS` is 1.
    pub no_new_privs: bool,
    /// `PR_GET_DUMPABLE` is not 0 (it always is after [`enter`]).
    pub dumpable: bool,
    /// What Landlock enforces.
    pub landlock: Landlock,
    /// `mlockall` succeeded.
    pub memory_locked: bool,
    /// Landlock allows no path to be written, `RLIMIT_FSIZE` is 0, standard error is no file, and there is
    /// no swap or all memory is locked.
    pub amnesia: bool,
    /// What an operator should know: what could not be had, and why.
    pub notes: Vec<String>,
}

/// Why a role could not be confined. Nothing may be served after one of these.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A thread exists already, which would escape the sandbox (us).
    #[error("{0} threads run already; the sandbox must be entered before any is started")]
    Threads(usize),
    /// The user or group does not exist (operator).
    #[error("there is no {kind} \"{name}\"; create it (sysusers.d/passportd.conf) or set another in [server]")]
    Unknown {
        /// `user` or `group`.
        kind: &'static str,
        /// What was asked for.
        name: String,
    },
    /// A user named to drop privileges to is root (operator).
    #[error("user \"{0}\" has uid 0; name an unprivileged user in [server]")]
    Root(String),
    /// A path to be allowed can't be opened (operator).
    #[error("{}: {reason}; the {role} role needs it: create it, or correct the setting that names it", path.display())]
    Path {
        /// The role.
        role: &'static str,
        /// The path.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A step failed (host).
    #[error("{step}: {reason}")]
    Step {
        /// The step: a system call or what it is for.
        step: &'static str,
        /// Why it failed.
        reason: String,
    },
    /// A step succeeded, but the kernel does not show its effect (host).
    #[error("{step} had no effect: {found}")]
    Unverified {
        /// The step.
        step: &'static str,
        /// What was read back.
        found: String,
    },
    /// Memory could reach a disk (operator).
    #[error(
        "amnesia mode, and memory can be swapped out to {swaps}: turn swap off (swapoff -a), or let the {role} role lock its \
         memory (LimitMEMLOCK=infinity, `ulimit -l unlimited`); {why}"
    )]
    Swap {
        /// The role.
        role: &'static str,
        /// The swap areas that are in use.
        swaps: String,
        /// Why the memory is not locked.
        why: String,
    },
    /// A file is open for writing (operator).
    #[error(
        "amnesia mode, and descriptor {fd} of the {role} role is a file that is open for writing ({file}): have the log go to \
         the journal or a pipe, such as `2>&1 | cat`"
    )]
    Writable {
        /// The role.
        role: &'static str,
        /// The descriptor.
        fd: i32,
        /// The file.
        file: String,
    },
    /// The kernel can't keep this process from making files (operator).
    #[error(
        "amnesia mode needs Landlock, by which the kernel keeps the {0} role from writing: boot with lsm=landlock,…"
    )]
    NoLandlock(&'static str),
    /// The parent was gone before its death could be watched (nobody's fault).
    #[error("the parent process {0} is gone")]
    Orphan(u32),
}

impl SandboxError {
    fn step(step: &'static str, reason: &impl ToString) -> Self {
        Self::Step { step, reason: reason.to_string() }
    }
}

/// Confines the calling process as the plan says, for ever.
///
/// # Errors
/// [`SandboxError`]; the process is then in an undefined state between its old and new rights and must end.
pub fn enter(plan: &Plan) -> Result<Applied, SandboxError> {
    match process::threads()? {
        1 => steps(plan),
        more => Err(SandboxError::Threads(more)),
    }
}

/// The steps, in their order. Apart from [`enter`] for the tests, whose harness runs in a thread.
fn steps(plan: &Plan) -> Result<Applied, SandboxError> {
    let mut notes = Vec::new();
    process::private_files()?;
    let swaps = if plan.amnesia { amnesia::begin(plan, &mut notes)? } else { None };
    // What the new user may not be able to look up or open any more.
    let target = identity::resolve(plan, &mut notes)?;
    let ruleset = confine::prepare(plan)?;
    mounts::keep_unwritten(&plan.unwritten, &mut notes)?;

    let bounding_empty = identity::empty_bounding_set(&mut notes)?;
    let identity = identity::switch(target)?;
    identity::drop_capabilities()?;
    process::no_new_privs()?;
    process::die_with(plan.parent)?;
    process::not_dumpable()?;
    let memory_locked = (plan.lock_memory || swaps.is_some()) && process::lock_memory(&mut notes);
    if let Some(swaps) = swaps.filter(|_| !memory_locked) {
        let why = notes.pop().unwrap_or_default();
        return Err(SandboxError::Swap { role: plan.role, swaps, why });
    }
    let landlock = confine::restrict(ruleset, &mut notes)?;
    if plan.amnesia && landlock.level == Level::None {
        return Err(SandboxError::NoLandlock(plan.role));
    }
    Ok(Applied {
        role: plan.role,
        identity,
        bounding_empty,
        no_new_privs: true,
        dumpable: false,
        landlock,
        memory_locked,
        amnesia: plan.amnesia,
        notes,
    })
}

#[cfg(test)]
mod tests;
