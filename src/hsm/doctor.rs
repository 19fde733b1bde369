//! One line for each thing that can be set up wrong, in the order in which one depends on the other.

use super::inventory::Inventory;
use super::module::{Module, Token};
use super::pin_note::{self, PinFlags};
use super::pins::Pins;
use super::pins::{COMPROMISED, DESTROYED, RETIRED};
use super::ring::{Ring, RingKey};
use super::{HsmError, ModuleConfig, path};
use crate::secret::Pin;
use crate::wire::ceremony::Finding;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

impl Finding {
    fn good(name: &str, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), ok: true, detail: detail.into(), remedy: String::new() }
    }

    fn bad(name: &str, error: &HsmError) -> Self {
        Self { name: name.to_owned(), ok: false, detail: error.detail(), remedy: error.remedy().into_owned() }
    }

    fn problem(name: &str, detail: impl Into<String>, remedy: &str) -> Self {
        Self { name: name.to_owned(), ok: false, detail: detail.into(), remedy: remedy.to_owned() }
    }
}

/// Looks at everything, as the signer would; stops where nothing more can be said. Loads, initialises and finalises the
/// module, so not for the serving process. Without a PIN it does not log in and says so; with one it logs in once.
pub fn doctor(config: &ModuleConfig, pin: Option<&Pin>) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(store(config));
    findings.extend(module_config(config));
    let module = match Module::load(&config.module) {
        Ok(module) => module,
        Err(error) => {
            findings.push(Finding::bad("module", &error));
            return findings;
        }
    };
    findings.push(Finding::good("module", real_path(&config.module)));
    if let Err(error) = module.initialise() {
        findings.push(Finding::bad("initialise", &error));
        return findings;
    }
    findings.push(Finding::good("initialise", module.description()));
    match module.token(&config.token) {
        Err(error) => findings.push(Finding::bad("token", &error)),
        Ok(token) => {
            findings.push(Finding::good("token", format!("\"{}\", serial {}", token.label, token.serial)));
            findings.push(match module.check_mechanisms(&token) {
                Ok(()) => Finding::good("mechanisms", "CKM_EDDSA and CKM_EC_EDWARDS_KEY_PAIR_GEN are offered"),
                Err(error) => Finding::bad("mechanisms", &error),
            });
            let said = module.seals(&token).and_then(|seals| Ok((seals, module.pin_flags(&token)?)));
            let may_log_in = match said {
                Ok((seals, flags)) => told(config, &token, seals, flags, &mut findings),
                Err(error) => {
                    findings.push(Finding::bad("token", &error));
                    false
                }
            };
            match pin {
                Some(pin) if may_log_in => findings.extend(inside(config, &module, &token, pin)),
                Some(_) => {}
                None => findings.push(Finding::good("pin", "not tried, and the keys not read: no PIN was given")),
            }
        }
    }
    if let Err(error) = module.finalise() {
        findings.push(Finding::bad("finalise", &error));
    }
    findings
}

/// What the token says of itself. Whether the PIN may be tried: never when it could be the last time.
fn told(config: &ModuleConfig, token: &Token, seals: bool, pin: PinFlags, findings: &mut Vec<Finding>) -> bool {
    let wanted = config.sessions;
    // One more is the keeper, which is logged in and signs nothing.
    if let Some(most) = token.max_sessions.filter(|most| *most <= wanted) {
        let detail = format!("the token allows {most}, one of which holds the login; hsm.sessions asks for {wanted}");
        let remedy = "set hsm.sessions to one less than the token allows; until then fewer sign than are asked for";
        findings.push(Finding::problem("sessions", detail, remedy));
    }
    if !seals {
        let remedy = "use a token that offers it, or do without seal and unseal";
        findings.push(Finding::problem("seal", "CKM_SHA256_HMAC is not offered, so nothing can be sealed", remedy));
    }
    if pin.locked {
        findings.push(Finding::bad("pin", &HsmError::PinLocked(token.label.clone())));
    } else if pin.final_try {
        let detail = "not tried: ONE attempt is left before it locks (CKF_USER_PIN_FINAL_TRY)";
        let remedy =
            "make sure of the PIN; then have the security officer reset the count, or log in with the vendor's tool";
        findings.push(Finding::problem("pin", detail, remedy));
    } else if pin.count_low {
        findings.push(Finding::good("pin", "it was refused since it was last accepted (CKF_USER_PIN_COUNT_LOW)"));
    }
    match pin_note::describe(&config.state_dir) {
        Ok(None) => {}
        Ok(Some(said)) => findings.push(Finding::problem(
            "pin note",
            said,
            "put the right PIN into its file, or run passportctl hsm retry-pin",
        )),
        Err(error) => findings.push(Finding::bad("pin note", &error)),
    }
    !pin.locked && !pin.final_try
}

/// What only a login shows.
fn inside(config: &ModuleConfig, module: &Module, token: &Token, pin: &Pin) -> Vec<Finding> {
    let session = match module.read_only_session(token) {
        Ok(session) => session,
        Err(error) => return vec![Finding::bad("session", &error)],
    };
    if let Err(error) = module.login(token, &session, pin) {
        return vec![Finding::bad("pin", &error)];
    }
    let mut findings = vec![Finding::good("pin", "accepted")];
    let pins = match Pins::read(&config.state_dir) {
        Ok(pins) => pins,
        Err(error) => {
            findings.push(Finding::bad("pins", &error));
            return findings;
        }
    };
    match Inventory::read(&session) {
        Err(error) => findings.push(Finding::bad("keys", &error)),
        Ok(inventory) => findings.extend(keys(&Ring::new(inventory, &pins, &token.serial))),
    }
    findings
}

fn keys(ring: &Ring) -> Vec<Finding> {
    const REPLACE: &str =
        "do not repair it by hand; make a new key (passportctl hsm rotate) and have this one destroyed";
    const RESTORE: &str =
        "bring back the token that has it (ceremonies copy hsm.store), or make a new key (passportctl hsm rotate)";
    const DESTROY: &str = "nothing uses it; have it destroyed with the token's own tool";
    let mut findings: Vec<Finding> = ring
        .keys()
        .iter()
        .map(|key| match key.usable() {
            true => Finding::good(&key.kid, fit(key)),
            // As it is meant to be, if nothing else is wrong with it.
            false if key.retired && key.problem == RETIRED => Finding::good(&key.kid, "retired, not used any more"),
            false if key.problem == COMPROMISED => Finding::good(&key.kid, "compromised, not used any more"),
            false if key.problem == DESTROYED => Finding::good(&key.kid, "destroyed"),
            false => Finding::problem(&key.kid, key.problem.clone(), if key.missing { RESTORE } else { REPLACE }),
        })
        .collect();
    findings.extend(ring.orphans().iter().map(|orphan| Finding::problem("orphan", orphan.clone(), DESTROY)));
    if findings.is_empty() {
        findings.push(Finding::problem("keys", "there are none", "run passportctl hsm init"));
    }
    findings
}

/// What a key that is used is like.
fn fit(key: &RingKey) -> String {
    let mut said = "pinned and fit".to_owned();
    if key.label != key.kid {
        said.push_str(&format!("; adopted, its label is \"{}\"", key.label));
    }
    if !key.unsaid.is_empty() {
        said.push_str(&format!("; the token does not say {}", key.unsaid.join(", ")));
    }
    said
}

fn real_path(module: &Path) -> String {
    path::trusted(module).map_or_else(|_| module.display().to_string(), |real| real.display().to_string())
}

fn store(config: &ModuleConfig) -> Option<Finding> {
    let path = config.store.as_deref()?;
    Some(match store_problem(Some(path)) {
        Some(error) => Finding::bad("store", &error),
        None => Finding::good("store", path.display().to_string()),
    })
}

/// What is wrong with the directory of a file-based token, if there is one and something is.
pub(super) fn store_problem(store: Option<&Path>) -> Option<HsmError> {
    let path = store?;
    let wrong = |why: String| Some(HsmError::Store(path.to_owned(), why));
    let uid = nix::unistd::geteuid();
    let found = match std::fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return wrong("does not exist".to_owned()),
        Err(error) => return wrong(format!("can't be reached by uid {uid}: {error}")),
    };
    if !found.is_dir() {
        return wrong("is not a directory".to_owned());
    }
    if found.mode() & 0o007 != 0 {
        return wrong(format!("has mode {:04o}, so everybody may enter it", found.mode() & 0o7777));
    }
    // SoftHSM: a directory for each token, with files of mode 0600; others: files. Ids of another user are the usual mistake.
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => return wrong(format!("can't be read by uid {uid}: {error}")),
    };
    for entry in entries.flatten() {
        let token = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            if std::fs::File::open(&token).is_err() {
                return wrong(format!("holds {}, which uid {uid} can't read", token.display()));
            }
            continue;
        }
        let inside = std::fs::read_dir(&token).map(Iterator::flatten);
        let Ok(inside) = inside else {
            return wrong(format!("holds {}, which uid {uid} can't read", token.display()));
        };
        for file in inside {
            // SoftHSM's lock file is opened for writing and may be missing on a read-only store.
            if file.path().extension().is_some_and(|end| end == "object") && std::fs::File::open(file.path()).is_err() {
                return wrong(format!("holds {}, which uid {uid} can't read", file.path().display()));
            }
        }
    }
    None
}

/// The module reads the environment, not our configuration: both must say the same.
fn module_config(config: &ModuleConfig) -> Option<Finding> {
    let path = config.module_config.as_deref()?;
    let name = &config.module_env;
    let seen = std::env::var_os(name);
    Some(if seen.as_deref() != Some(path.as_os_str()) {
        let seen = seen.map_or_else(|| "not set".to_owned(), |seen| seen.to_string_lossy().into_owned());
        Finding::problem(
            "config",
            format!("{name} is {seen}, but hsm.module_config is {}", path.display()),
            "set Environment= in the units of signer and ceremony to the same file (hsm.module_env says which variable)",
        )
    } else if let Err(error) = std::fs::File::open(path) {
        Finding::problem(
            "config",
            format!("{} can't be read: {error}", path.display()),
            "make it readable by the signer's user",
        )
    } else {
        Finding::good("config", path.display().to_string())
    })
}
