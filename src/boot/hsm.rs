//! Starting the signer and a ceremony.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::info;

use super::{BootError, ends, gid_of_user, is_root, is_user, logging, uid_after, uid_of_peer, user_of};
use crate::ceremony::{CeremonyPlan, run_ceremony};
use crate::clock::Moment;
use crate::config::{Config, Hsm, SignerBounds};
use crate::hsm;
use crate::hsm::path::trusted;
use crate::hsm::pin_note;
use crate::hsm::{Bounds, Fleeting, ModuleConfig, SignerPlan, TenantBounds, TokenChoice, run_signer};
use crate::lifecycle::{Manager, watchdog_every};
use crate::log::give_dir;
use crate::sandbox::{Plan, enter};
use crate::seal::XChaCha;
use crate::secret::Pin;
use crate::server::listen::{Access, bind};
use crate::verify::ways;

/// The credential that holds the PIN where systemd gives it (`LoadCredentialEncrypted=hsm-pin:…`).
const CREDENTIAL: &str = "hsm-pin";

/// What any PKCS#11 module needs to read beside its own files.
const LIBRARIES: [&str; 4] = ["/usr/lib", "/lib", "/lib64", "/etc/ld.so.cache"];

/// The signer, until it is told to end.
///
/// # Errors
/// [`BootError`].
pub(super) fn signer(config: &Config, parent: Option<u32>) -> Result<u8, BootError> {
    let hsm = &config.hsm;
    let bounds = bounds(config, &SignerBounds::load(&hsm.bounds)?);
    let amnesia = config.security.amnesia;
    let now = u64::try_from(Moment::now().unix()).unwrap_or(0);
    let module = ModuleConfig { fleeting: amnesia.then(|| Fleeting::of(&bounds, now)), ..module(hsm)? };
    let pin = pin(hsm)?;
    let front_uid = uid_of_peer(config.server.hsm_user.as_ref(), config.server.user.as_ref())?;
    let listener = bind(&hsm.socket, link_access(config)?)?;
    let manager = Manager::from_environment();
    let own_dir = if amnesia { None } else { Some(make_own_dir(config)?) };
    // Without keys of the token's there may be none; what is noted there of a refused PIN holds in any mode.
    let state_dir = Some(hsm.state_dir.clone()).filter(|dir| !amnesia || dir.exists());
    let applied = enter(&Plan {
        role: "signer",
        user: config.server.hsm_user.clone(),
        read_only: readable(hsm, &module.module, state_dir.as_slice()),
        unwritten: hsm.store.iter().cloned().collect(),
        read_write: own_dir.into_iter().collect(),
        amnesia,
        devices: devices(hsm),
        tcp: hsm.network,
        parent,
        lock_memory: true,
        ..Plan::default()
    })?;
    logging::queue_from_now().map_err(BootError::Log)?;
    info!(name: "confined", uid = applied.identity.uid, landlock = ?applied.landlock.level, notes = ?applied.notes, "confined");
    run_signer(SignerPlan {
        module,
        bounds,
        pin,
        listener,
        front_uid,
        ways: ways(config.verify.engine),
        sealer: Box::new(XChaCha),
        manager: Box::new(ServiceManager { manager, end: ends::signer(config) }),
    })?;
    Ok(0)
}

/// One ceremony, for the peer at the other end of standard input.
///
/// # Errors
/// [`BootError`]; the peer has been told too.
pub(super) fn ceremony(config: &Config, parent: Option<u32>) -> Result<u8, BootError> {
    let hsm = &config.hsm;
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().map_err(BootError::NoStream)?;
    let stream = UnixStream::from(stdin);
    stream.peer_addr().map_err(BootError::NoStream)?;
    let bounds = bounds(config, &SignerBounds::load(&hsm.bounds)?);
    let module = module(hsm)?;
    // Where signer and ceremony share a user of their own, that user is not an admin: a compromised signer knows the PIN.
    let mut allowed_uids = vec![0];
    if hsm_has_no_user_of_its_own(config) {
        allowed_uids.push(nix::unistd::geteuid().as_raw());
    }
    let amnesia = config.security.amnesia;
    let mut writable = vec![hsm.state_dir.clone()];
    writable.extend(hsm.store.clone());
    enter(&Plan {
        role: "ceremony",
        user: config.server.hsm_user.clone(),
        read_only: readable(hsm, &module.module, &[]),
        devices: devices(hsm),
        tcp: hsm.network,
        read_write: if amnesia { Vec::new() } else { writable },
        amnesia,
        parent,
        lock_memory: true,
        ..Plan::default()
    })?;
    logging::queue_from_now().map_err(BootError::Log)?;
    run_ceremony(&CeremonyPlan { stream, module, allowed_uids, amnesia, bounds: Some(bounds) })?;
    Ok(0)
}

/// The one directory that the signer writes to, as its alone, where it is missing and its parent is there.
fn make_own_dir(config: &Config) -> Result<PathBuf, BootError> {
    let dir = config.hsm.state_dir.join(pin_note::OWN_DIR);
    let fail = |what| {
        let path = dir.display().to_string();
        let whose = user_of("signer", "hsm_user", config.server.hsm_user.as_ref());
        move |error| BootError::Place { key: "[hsm] state_dir", path, whose, what, error }
    };
    // Without that of the state, the sandbox says what is missing.
    if config.hsm.state_dir.is_dir() && !dir.is_dir() {
        fs::DirBuilder::new().mode(0o700).create(&dir).map_err(fail("create it"))?;
        if is_root() {
            give_dir(&dir, uid_after(config.server.hsm_user.as_ref())?)
                .map_err(fail("give it to the signer's user"))?;
        }
    }
    Ok(dir)
}

fn hsm_has_no_user_of_its_own(config: &Config) -> bool {
    config.server.hsm_user.is_none()
}

/// The link's socket belongs to the signer; the front reaches it through its group. Where systemd starts the signer as its
/// own user, that group is given away by the socket's directory, which is set-group-id (tmpfiles.d/passportd.conf).
fn link_access(config: &Config) -> Result<Access, BootError> {
    let server = &config.server;
    let user = is_root().then(|| uid_after(server.hsm_user.as_ref())).transpose()?;
    if user.is_none() && !is_user(server.hsm_user.as_ref()) {
        return Ok(Access { mode: 0o600, user: None, group: None, heir_of: None });
    }
    let group = server.user.as_deref().map(gid_of_user).transpose()?;
    Ok(Access { mode: 0o660, user, group, heir_of: None })
}

fn readable(hsm: &Hsm, module: &Path, more: &[PathBuf]) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = LIBRARIES.iter().map(PathBuf::from).filter(|path| path.exists()).collect();
    paths.push(module.to_owned());
    paths.extend(hsm.store.clone());
    paths.extend(hsm.module_config.clone());
    paths.extend(hsm.module_paths.iter().filter(|path| !is_device(path)).cloned());
    paths.push("/proc/self".into());
    paths.extend_from_slice(more);
    paths
}

fn is_device(path: &Path) -> bool {
    path.starts_with("/dev")
}

fn devices(hsm: &Hsm) -> Vec<PathBuf> {
    hsm.module_paths.iter().filter(|path| is_device(path)).cloned().collect()
}

fn pin(hsm: &Hsm) -> Result<Pin, BootError> {
    if let Some(path) = hsm.pin_path() {
        return Pin::from_file(&path).map_err(BootError::Pin);
    }
    match std::env::var_os("CREDENTIALS_DIRECTORY") {
        Some(directory) => Pin::from_credential(Path::new(&directory), CREDENTIAL).map_err(BootError::Credential),
        None => Err(BootError::NoPin),
    }
}

fn module(hsm: &Hsm) -> Result<ModuleConfig, BootError> {
    let module = hsm.module_path().ok_or(BootError::NoModule)?.to_owned();
    // It is checked again where it is loaded. Here because the sandbox would say no more than that it is not there.
    trusted(&module)?;
    Ok(ModuleConfig {
        module,
        token: TokenChoice {
            label: hsm.uri.token.clone(),
            serial: hsm.uri.serial.clone(),
            manufacturer: hsm.uri.manufacturer.clone(),
            model: hsm.uri.model.clone(),
        },
        sessions: hsm.sessions,
        op_timeout: Duration::from_millis(hsm.op_timeout_ms),
        login_timeout: Duration::from_millis(hsm.login_timeout_ms),
        max_stuck: hsm.max_stuck,
        keepalive: (hsm.keepalive_s > 0).then(|| Duration::from_secs(hsm.keepalive_s)),
        recycle_kib: (hsm.recycle_mib > 0).then(|| hsm.recycle_mib.saturating_mul(1024)),
        queue: hsm.queue,
        state_dir: hsm.state_dir.clone(),
        store: hsm.store.clone(),
        module_config: hsm.module_config.clone(),
        module_env: hsm.module_env.clone(),
        fleeting: None,
    })
}

fn bounds(config: &Config, file: &SignerBounds) -> Bounds {
    let seconds = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let tenant = |tenant: &crate::config::TenantBounds| TenantBounds {
        purposes: tenant.purposes.iter().cloned().collect(),
        max_ttl_s: seconds(tenant.max_ttl_s),
        rate_per_s: tenant.rate_per_s.try_into().ok(),
        namespaces: tenant.seal_namespaces.clone(),
    };
    Bounds {
        issuer: config.passport.issuer.clone(),
        tenants: file.tenants.iter().map(|one| (one.name.clone(), tenant(one))).collect(),
        max_iat_drift_s: seconds(file.max_iat_drift_s),
    }
}

/// The signer's words for the service manager.
struct ServiceManager {
    manager: Manager,
    /// What the end may take.
    end: Duration,
}

impl hsm::Manager for ServiceManager {
    fn starting(&self, within: Duration) {
        self.manager.starting("the HSM's module starts", within);
    }

    fn ready(&self, usable_keys: usize) {
        self.manager.ready(&format!("serving; keys {usable_keys}"));
    }

    fn watches(&self) -> Option<Duration> {
        watchdog_every()
    }

    fn alive(&self) {
        self.manager.alive();
    }

    fn stopping(&self) {
        self.manager.stopping("ending", self.end);
    }
}
