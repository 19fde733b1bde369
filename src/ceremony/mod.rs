//! Making keys: a process of its own that lives for one approved plan.
//!
//! systemd (or `run`) starts it for each connection; it knows who asks from the kernel, reads one request and the PIN,
//! copies a file-based store, makes what is asked, checks it, pins it, answers, and ends. The serving signer can do none
//! of this: its sessions are read-only, and often its view of the store is too.
//!
//! A ceremony that is killed leaves at most a key that is not pinned, which no signer uses and `list` and `doctor` name.
//! It never modifies an object: SoftHSM lost the file in 104 of 200 kills while it did.

mod adopt;
mod backup;
mod error;
mod journal;
mod keys;
mod protocol;
mod run;
mod sealing;
mod standing;
mod steps;

pub use error::CeremonyError;

use crate::hsm::doctor::doctor;
use crate::hsm::inventory::Inventory;
use crate::hsm::label::{AUDIT_PURPOSE, SEAL_PURPOSE};
use crate::hsm::module::{Module, Token};
use crate::hsm::pin_note;
use crate::hsm::pins::Pins;
use crate::hsm::ring::Ring;
use crate::hsm::{Bounds, HsmError, ModuleConfig};
use crate::passport::hex;
use crate::secret::Pin;
use crate::statement::transcript::Device;
use crate::wire::ceremony::{PlanKind, Report, Request, Response, write_response};
use crate::wire::link::KeyRole;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a peer may take over its request, and over reading the answer.
const PEER_DEADLINE: Duration = Duration::from_secs(10);

/// All that a ceremony is given.
#[derive(Debug)]
pub struct CeremonyPlan {
    /// The connection.
    pub stream: UnixStream,
    /// The module.
    pub module: ModuleConfig,
    /// Who may hold ceremonies.
    pub allowed_uids: Vec<u32>,
    /// Amnesia mode, in which there are none.
    pub amnesia: bool,
    /// The signer's bounds, to warn of keys that it will refuse to use.
    pub bounds: Option<Bounds>,
}

/// Holds one ceremony. The peer has been told of an error too, if it still listens.
///
/// # Errors
/// [`CeremonyError`].
pub fn run_ceremony(plan: &CeremonyPlan) -> Result<(), CeremonyError> {
    plan.stream.set_nonblocking(false)?;
    plan.stream.set_read_timeout(Some(PEER_DEADLINE))?;
    plan.stream.set_write_timeout(Some(PEER_DEADLINE))?;
    let outcome = hold(plan);
    let response = match &outcome {
        Ok(report) => Response::Done(report.clone()),
        Err(error) => protocol::failed(error),
    };
    let told = write_response(&plan.stream, &response);
    outcome?;
    Ok(told?)
}

fn hold(plan: &CeremonyPlan) -> Result<Report, CeremonyError> {
    let peer = getsockopt(&plan.stream, PeerCredentials).map_err(|errno| CeremonyError::Link(errno.into()))?;
    if !plan.allowed_uids.contains(&peer.uid()) {
        return Err(CeremonyError::Peer(peer.uid()));
    }
    let (request, pin) = protocol::read(&plan.stream)?;
    if plan.amnesia {
        let why =
            "in amnesia mode the signer makes its keys itself, and no ceremony is held: start it again for new keys";
        return Err(CeremonyError::Request(why.to_owned()));
    }
    tracing::info!(name: "ceremony_begun", peer_uid = peer.uid(), plan = ?request.plan, "a ceremony begins");
    let mut report = match (request.plan, pin) {
        (PlanKind::RetryPin, _) => retry_pin(&plan.module, request.final_try)?,
        (PlanKind::Doctor, pin) => Report { findings: doctor(&plan.module, pin.as_ref()), ..Report::default() },
        (PlanKind::Standing, _) => standing::report(plan)?,
        (PlanKind::Run, pin) => run::run(plan, &request, pin.as_ref(), peer.uid())?,
        (PlanKind::Seal, pin) => sealing::seal(plan, &request, pin.as_ref())?,
        (PlanKind::List, pin) => {
            let access = Access { writing: false, dry_run: true, final_try: request.final_try };
            with_token(&plan.module, pin.as_ref(), &access, |_| Ok(()))?
        }
        (_, pin) => change(&plan.module, &request, pin.as_ref())?,
    };
    report.warnings.extend(outside_bounds(plan.bounds.as_ref(), &request));
    Ok(report)
}

/// How the token is opened.
struct Access {
    /// Keys can be made.
    writing: bool,
    /// The list of pinned keys stays as it is.
    dry_run: bool,
    /// The admin is sure of the PIN: it is tried even if one more refusal locks it.
    final_try: bool,
}

/// Lets the signer try its PIN once more. No PIN is needed: it stays where it is.
fn retry_pin(config: &ModuleConfig, final_try: bool) -> Result<Report, CeremonyError> {
    let _held = lock(&config.state_dir)?;
    if !final_try {
        let module = Module::load(&config.module)?;
        module.initialise()?;
        let may = module.token(&config.token).and_then(|token| may_log_in(&module, &token, false));
        module.finalise()?;
        may?;
    }
    pin_note::allow(&config.state_dir, final_try)?;
    Ok(Report::default())
}

/// What the token says of its PIN must be asked before a login, not after it.
fn may_log_in(module: &Module, token: &Token, final_try: bool) -> Result<(), HsmError> {
    let flags = module.pin_flags(token)?;
    if flags.locked {
        return Err(HsmError::PinLocked(token.label.clone()));
    }
    if flags.final_try && !final_try { Err(HsmError::PinFinalTry(token.label.clone())) } else { Ok(()) }
}

/// Changes what is asked for, with a copy of all that it could spoil made first.
fn change(config: &ModuleConfig, request: &Request, pin: Option<&Pin>) -> Result<Report, CeremonyError> {
    let missing = |what| CeremonyError::Request(format!("the plan needs a {what}"));
    let wanted = if request.plan == PlanKind::RetireSeal { Vec::new() } else { wanted(request)? };
    let id = request.cka_id.as_deref().map(cka_id).transpose()?;
    let _held = lock(&config.state_dir)?;
    if !request.dry_run {
        standing::nobody_is_asked(&config.state_dir, request.plan)?;
    }
    let backup = if request.dry_run { None } else { backup::take(config)? };
    let writing = matches!(request.plan, PlanKind::Init | PlanKind::Generate);
    if writing && request.dry_run {
        return Err(CeremonyError::Request("only adopt and retire-seal can be tried without effect".to_owned()));
    }
    let access = Access { writing, dry_run: request.dry_run, final_try: request.final_try };
    let mut report = with_token(config, pin, &access, |bench| {
        if request.plan == PlanKind::RetireSeal {
            return bench.retire_seal(request.kid.as_deref().ok_or_else(|| missing("kid"))?);
        }
        for (role, tenant, purpose) in &wanted {
            match request.plan {
                PlanKind::Adopt => {
                    bench.adopt(*role, tenant, purpose, id.as_deref().ok_or_else(|| missing("cka_id"))?)?;
                }
                PlanKind::Init if bench.exists(*role, tenant, purpose) => {}
                _ => bench.make(*role, tenant, purpose)?,
            }
        }
        Ok(())
    })?;
    report.backup = backup.map(|path| path.display().to_string());
    Ok(report)
}

/// As tools print it, in either case.
fn cka_id(text: &str) -> Result<Vec<u8>, CeremonyError> {
    let id = hex::decode(&text.to_ascii_lowercase()).filter(|id| !id.is_empty());
    id.ok_or_else(|| CeremonyError::Request(format!("\"{text}\" is no CKA_ID in hex")))
}

/// What a key of this purpose is.
fn role_of(purpose: &str) -> KeyRole {
    match purpose {
        AUDIT_PURPOSE => KeyRole::Audit,
        SEAL_PURPOSE => KeyRole::Seal,
        _ => KeyRole::Passport,
    }
}

/// The keys that a plan is about; names are checked before anything is touched.
fn wanted(request: &Request) -> Result<Vec<(KeyRole, String, String)>, CeremonyError> {
    let missing = |what| CeremonyError::Request(format!("the plan needs a {what}"));
    let tenant = request.tenant.clone().ok_or_else(|| missing("tenant"))?;
    let purpose = request.purpose.clone().ok_or_else(|| missing("purpose"))?;
    let role = if request.plan == PlanKind::Init { KeyRole::Passport } else { role_of(&purpose) };
    crate::hsm::label::label(role, &tenant, &purpose, 1)?;
    let mut wanted = vec![(role, tenant.clone(), purpose)];
    if request.plan == PlanKind::Init {
        wanted.push((KeyRole::Audit, tenant.clone(), AUDIT_PURPOSE.to_owned()));
        wanted.push((KeyRole::Seal, tenant, SEAL_PURPOSE.to_owned()));
    }
    Ok(wanted)
}

/// From loading the module to finalising it, with a login between.
fn with_token(
    config: &ModuleConfig,
    pin: Option<&Pin>,
    access: &Access,
    work: impl FnOnce(&mut keys::Bench<'_>) -> Result<(), CeremonyError>,
) -> Result<Report, CeremonyError> {
    let module = Module::load(&config.module)?;
    module.initialise()?;
    let outcome = logged_in(&module, config, pin, access, work);
    let ended = module.finalise();
    let report = outcome?;
    ended?;
    Ok(report)
}

fn logged_in(
    module: &Module,
    config: &ModuleConfig,
    pin: Option<&Pin>,
    access: &Access,
    work: impl FnOnce(&mut keys::Bench<'_>) -> Result<(), CeremonyError>,
) -> Result<Report, CeremonyError> {
    let token = module.token(&config.token)?;
    module.check_mechanisms(&token)?;
    let session = if access.writing { module.read_write_session(&token)? } else { module.read_only_session(&token)? };
    may_log_in(module, &token, access.final_try)?;
    match pin {
        Some(pin) => module.login(&token, &session, pin)?,
        None if token.own_pad => module.login_at_the_pad(&token, &session)?,
        None => return Err(CeremonyError::Request("the PIN is missing".to_owned())),
    }
    let pins = Pins::read(&config.state_dir)?;
    let inventory = Inventory::read(&session)?;
    let mut bench = keys::Bench {
        session: &session,
        state_dir: &config.state_dir,
        device: device(module, &token),
        pins,
        inventory,
        made: Vec::new(),
        dry_run: access.dry_run,
    };
    work(&mut bench)?;
    let keys::Bench { pins, inventory, made, device, .. } = bench;
    let all = inventory.keys.iter().chain(&inventory.others);
    let bound: Vec<Vec<u8>> = all.filter(|key| key.mechanisms_bound).map(|key| key.id.clone()).collect();
    let ring = Ring::new(inventory, &pins, &token.serial);
    Ok(protocol::report(&ring, &made, &bound, device.module, format!("{} {}", token.label, token.serial)))
}

/// What the HSM says of itself.
fn device(module: &Module, token: &Token) -> Device {
    let [manufacturer, model, firmware, hardware] = token.make.clone();
    let (label, serial) = (token.label.clone(), token.serial.clone());
    Device { module: module.description(), label, serial, manufacturer, model, firmware, hardware }
}

/// The signer will not use a key whose tenant or purpose is not in its bounds.
fn outside_bounds(bounds: Option<&Bounds>, request: &Request) -> Option<String> {
    let (bounds, tenant, purpose) = (bounds?, request.tenant.as_deref()?, request.purpose.as_deref()?);
    if matches!(purpose, AUDIT_PURPOSE | SEAL_PURPOSE) {
        return None;
    }
    match bounds.tenants.get(tenant) {
        None => Some(format!("tenant \"{tenant}\" is not in the signer's bounds, so its keys will not sign")),
        Some(found) if !found.purposes.contains(purpose) => Some(format!(
            "purpose \"{purpose}\" of tenant \"{tenant}\" is not in the signer's bounds, so its keys will not sign"
        )),
        Some(_) => None,
    }
}

/// One ceremony at a time; the kernel lets go of the lock when we end, however we end.
fn lock(state_dir: &Path) -> Result<OwnedFd, CeremonyError> {
    let path = state_dir.join("ceremony.lock");
    let fails = |errno: rustix::io::Errno| HsmError::File { what: "lock", path: path.clone(), source: errno.into() };
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(fails)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(CeremonyError::Busy),
        Err(errno) => Err(fails(errno).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(plan: PlanKind, tenant: &str, purpose: &str) -> Request {
        Request { plan, tenant: Some(tenant.to_owned()), purpose: Some(purpose.to_owned()), ..Request::default() }
    }

    #[test]
    fn init_makes_three_and_generate_one() {
        let roles = |plan, purpose| {
            wanted(&request(plan, "t1", purpose)).unwrap().into_iter().map(|(role, ..)| role).collect::<Vec<_>>()
        };
        assert_eq!(roles(PlanKind::Init, "auth"), [KeyRole::Passport, KeyRole::Audit, KeyRole::Seal]);
        assert_eq!(roles(PlanKind::Generate, "auth"), [KeyRole::Passport]);
        assert_eq!(roles(PlanKind::Generate, "audit"), [KeyRole::Audit]);
        assert_eq!(roles(PlanKind::Generate, "seal"), [KeyRole::Seal]);
    }

    #[test]
    fn names_are_checked_before_anything_is_touched() {
        for (tenant, purpose) in [("T1", "auth"), ("t1", "a/b"), ("t1", "audit"), ("t1", "seal"), ("", "auth")] {
            let refused = wanted(&request(PlanKind::Init, tenant, purpose));
            assert!(matches!(refused, Err(CeremonyError::Name(_))), "{tenant} {purpose}");
        }
        let nameless = Request { plan: PlanKind::Init, ..Request::default() };
        assert!(matches!(wanted(&nameless), Err(CeremonyError::Request(_))));
    }

    #[test]
    fn one_ceremony_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path()).unwrap();
        assert!(matches!(lock(dir.path()), Err(CeremonyError::Busy)));
        drop(held);
        assert!(lock(dir.path()).is_ok());
    }
}
