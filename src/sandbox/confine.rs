//! Landlock: which files and ports the role may still name.
//!
//! Rights are asked for by a fixed ABI that was tested, and the crate drops what the kernel lacks (best effort, as its
//! documentation asks); what was achieved is reported. No path is ever given the right to execute.

use super::{Plan, SandboxError};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope, make_bitflags,
};
use std::path::Path;

/// The newest ABI that is asked for (Linux 6.12): files, truncation, TCP, device ioctls, abstract sockets, signals.
const ASKED: ABI = ABI::V6;

/// How much of what was asked for is enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Everything.
    Full,
    /// What this kernel knows.
    Partial,
    /// Nothing: the kernel has no Landlock, or it is not enabled.
    None,
}

/// What Landlock enforces here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landlock {
    /// How much of what was asked for is enforced.
    pub level: Level,
    /// The kernel's ABI version; 0 without Landlock.
    pub abi: i32,
}

const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
/// Beside reading: files and directories made, written, renamed, removed, and a socket of one's own. No devices, no links.
const WRITE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | MakeSock | RemoveFile | RemoveDir | Refer
});

/// A device: its driver is spoken to by ioctl, too.
const DEVICE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile | IoctlDev});

/// Opens every path, while the role still can.
pub(super) fn prepare(plan: &Plan) -> Result<RulesetCreated, SandboxError> {
    const STEP: &str = "prepare Landlock";
    let fails = |error: landlock::RulesetError| SandboxError::step(STEP, &error);
    let mut asked = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ASKED))
        .map_err(fails)?
        .scope(Scope::from_all(ASKED))
        .map_err(fails)?;
    if !plan.tcp {
        // Handled, and no port is allowed: none can be bound or connected.
        asked = asked.handle_access(AccessNet::from_all(ASKED)).map_err(fails)?;
    }
    let mut ruleset = asked.create().map_err(fails)?;
    let listed = [(&plan.read_only, READ), (&plan.read_write, WRITE), (&plan.devices, DEVICE)];
    for (path, access) in listed.into_iter().flat_map(|(paths, access)| paths.iter().map(move |path| (path, access))) {
        // Rights that only directories have would be dropped from a file's rule, and make the whole look partial.
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(ASKED) };
        let rule = PathBeneath::new(open(plan.role, path)?, access).set_compatibility(CompatLevel::BestEffort);
        ruleset = ruleset.add_rule(rule).map_err(fails)?;
    }
    Ok(ruleset)
}

fn open(role: &'static str, path: &Path) -> Result<PathFd, SandboxError> {
    PathFd::new(path).map_err(|error| {
        // The crate's text names the path again; what the kernel said is its source.
        let reason = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        SandboxError::Path { role, path: path.to_owned(), reason }
    })
}

/// Enforces the rules on this thread and all that it starts.
pub(super) fn restrict(ruleset: RulesetCreated, notes: &mut Vec<String>) -> Result<Landlock, SandboxError> {
    let status = ruleset.restrict_self().map_err(|error| SandboxError::step("enforce Landlock", &error))?;
    let abi = match status.landlock {
        LandlockStatus::Available { effective_abi, kernel_abi } => kernel_abi.unwrap_or(abi_number(effective_abi)),
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => 0,
    };
    let level = match status.ruleset {
        RulesetStatus::FullyEnforced => Level::Full,
        RulesetStatus::PartiallyEnforced => Level::Partial,
        RulesetStatus::NotEnforced => Level::None,
    };
    match level {
        Level::Full => {}
        Level::Partial => notes.push(format!("Landlock is enforced in part: this kernel has ABI {abi}, 6 has it all")),
        Level::None => {
            notes.push("Landlock is not enforced: this kernel does not have it or boots without it".to_owned());
        }
    }
    Ok(Landlock { level, abi })
}

/// The crate gives no number for its enum but through `Display`.
fn abi_number(abi: ABI) -> i32 {
    abi.to_string().parse().unwrap_or(0)
}
