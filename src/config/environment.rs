//! What the environment says. The variables are passed in; nothing here reads the process's own.

use std::ffi::OsString;
use std::path::PathBuf;

use super::error::Fault;
use crate::policy::suggest;

const PREFIX: &str = "PASSPORT_";
/// A switch of an older system that let every request through (L13).
const BYPASS: &str = "AUTH_DEV_BYPASS";
/// Variables of older systems that keep working.
const SHORT: [(&str, &str, &str); 4] = [
    ("PASSPORT_MAX_MSG_BYTES", "limits", "max_msg_bytes"),
    ("PASSPORT_MAX_BATCH", "limits", "max_batch"),
    ("PASSPORT_VERIFY_CONCURRENCY", "limits", "verify_concurrency"),
    ("PASSPORT_VERIFY_BATCH_CONCURRENCY", "limits", "verify_batch_concurrency"),
];
const INLINE: &str = "PASSPORT_CONFIG";
const FILE: &str = "PASSPORT_CONFIG_FILE";

/// A setting from a variable. `section` and `key` are in lower case, and need not exist.
pub(super) struct Override {
    pub(super) name: String,
    pub(super) section: String,
    pub(super) key: String,
    pub(super) value: String,
}

/// The variables that concern us, sorted out.
#[derive(Default)]
pub(super) struct Environment {
    pub(super) inline: Option<String>,
    pub(super) file: Option<PathBuf>,
    pub(super) overrides: Vec<Override>,
    pub(super) faults: Vec<Fault>,
}

/// Sorts out the variables. `PASSPORTD_*` and `PASSPORTCTL_*` are other programs' prefixes and do not concern us.
pub(super) fn scan(variables: &[(OsString, OsString)]) -> Environment {
    let mut found = Environment::default();
    for (name, value) in variables {
        let name = name.to_string_lossy();
        if name.contains(BYPASS) {
            found.faults.push(Fault::DevBypass { name: name.into_owned() });
        } else if name == FILE {
            found.file = Some(PathBuf::from(value));
        } else if name.starts_with(PREFIX) {
            match value.to_str() {
                Some(value) => found.variable(&name, value),
                None => found.faults.push(Fault::NotUtf8 { name: name.into_owned() }),
            }
        }
    }
    // A process's environment has no order to rely on; faults and conflicts are named in the same order each time.
    found.overrides.sort_by(|left, right| left.name.cmp(&right.name));
    found.conflicts();
    found
}

impl Environment {
    fn variable(&mut self, name: &str, value: &str) {
        if name == INLINE {
            self.inline = Some(value.to_owned());
            return;
        }
        let short = SHORT.iter().find(|(short, ..)| *short == name);
        let setting = short.map(|(_, section, key)| ((*section).to_owned(), (*key).to_owned())).or_else(|| long(name));
        match setting {
            Some((section, _)) if section == "hsm" || section == "security" => {
                self.faults.push(Fault::NotFromEnvironment { name: name.to_owned() });
            }
            Some((section, key)) => {
                self.overrides.push(Override { name: name.to_owned(), section, key, value: value.to_owned() });
            }
            None => {
                let known = SHORT.iter().map(|(name, ..)| *name).chain([INLINE, FILE]);
                let hint = suggest::hint(name, known);
                self.faults.push(Fault::UnknownVariable { name: name.to_owned(), hint });
            }
        }
    }

    fn conflicts(&mut self) {
        let pairs = self.overrides.iter().enumerate().filter_map(|(index, later)| {
            let mut earlier = self.overrides.iter().take(index);
            let first = earlier.find(|o| (&o.section, &o.key) == (&later.section, &later.key))?;
            let key = format!("{}.{}", later.section, later.key);
            Some(Fault::TwoVariables { key, first: first.name.clone(), second: later.name.clone() })
        });
        let faults: Vec<_> = pairs.collect();
        self.faults.extend(faults);
    }
}

/// `PASSPORT__SECTION__KEY`, in capitals only: names of variables are case sensitive, so two spellings could differ.
fn long(name: &str) -> Option<(String, String)> {
    let rest = name.strip_prefix("PASSPORT__").filter(|rest| !rest.bytes().any(|b| b.is_ascii_lowercase()))?;
    let (section, key) = rest.split_once("__").filter(|(section, key)| !section.is_empty() && !key.is_empty())?;
    Some((section.to_ascii_lowercase(), key.to_ascii_lowercase()))
}
