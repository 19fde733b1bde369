//! From the sources to a checked configuration.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::codec::Raw;
use super::environment::{self, Environment, Override};
use super::error::{ConfigError, Fault, Place};
use super::{Config, check, trusted};
use crate::policy::suggest;

/// Where the configuration is when nobody says otherwise.
pub const DEFAULT_FILE: &str = "/etc/passportd/passportd.toml";

/// Where a configuration is looked for.
#[derive(Debug, Clone)]
pub struct Sources {
    /// `--config FILE`.
    pub argument: Option<PathBuf>,
    /// The environment, as pairs of name and value.
    pub environment: Vec<(OsString, OsString)>,
    /// The file when neither argument nor environment names one.
    pub default_file: PathBuf,
    /// The uid that reads: the file must be root's, or this one's when it is not root.
    pub reader: u32,
    /// `--amnesia`: as `security.amnesia = true`, whatever the file says.
    pub amnesia: bool,
}

impl Sources {
    /// The usual sources, for the effective uid of this process. Pass `std::env::vars_os()` as `environment`.
    pub fn new(argument: Option<PathBuf>, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self {
            argument,
            environment: environment.into_iter().collect(),
            default_file: PathBuf::from(DEFAULT_FILE),
            reader: nix::unistd::geteuid().as_raw(),
            amnesia: false,
        }
    }
}

/// Where a setting's value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of a file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable; `PASSPORT_CONFIG` for anything in the inline text.
    Env {
        /// Its name.
        name: String,
    },
    /// An argument.
    Argument {
        /// Its name.
        name: &'static str,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Env { name } => f.write_str(name),
            Self::Argument { name } => f.write_str(name),
        }
    }
}

/// A configuration that passed every check.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub config: Arc<Config>,
    /// For every `section.key`: where its value comes from.
    pub origins: BTreeMap<String, Origin>,
    /// What is allowed but worth a second look.
    pub warnings: Vec<String>,
    /// BLAKE3 over the values in force, whatever their source, comments and order.
    pub hash: [u8; 32],
}

/// The TOML text and where it came from.
struct Document {
    text: String,
    file: Option<PathBuf>,
}

/// A configuration being put together.
struct Draft {
    config: Config,
    origins: BTreeMap<String, Origin>,
    /// With the offset in the text, by which they are sorted.
    faults: Vec<(usize, Fault)>,
}

impl Config {
    /// Reads, merges and checks the configuration.
    ///
    /// # Errors
    /// Everything that is wrong at once, so that an operator does not mend one line per attempt.
    pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
        let mut environment = environment::scan(&sources.environment);
        let document = match document(sources, &environment) {
            Ok(document) => document,
            Err(fault) => {
                environment.faults.push(fault);
                return Err(ConfigError { faults: environment.faults });
            }
        };
        let mut draft = Draft { config: Self::default(), origins: BTreeMap::new(), faults: Vec::new() };
        for (section, fields) in draft.config.fields() {
            draft.origins.extend(fields.iter().map(|field| (format!("{section}.{}", field.key), Origin::Default)));
        }
        draft.document(&document);
        for setting in &environment.overrides {
            draft.variable(setting);
        }
        if sources.amnesia {
            draft.config.security.amnesia = true;
            draft.origins.insert("security.amnesia".to_owned(), Origin::Argument { name: "--amnesia" });
        }
        draft.faults.sort_by_key(|(at, _)| *at);
        let mut faults = environment.faults;
        faults.extend(draft.faults.into_iter().map(|(_, fault)| fault));
        // A missing or contradicting setting is often only the shadow of a mistyped one.
        if faults.is_empty() {
            faults = check::faults(&draft.config, &draft.origins);
        }
        if !faults.is_empty() {
            return Err(ConfigError { faults });
        }
        let mut warnings = ignored(sources, environment.inline.is_some(), environment.file.as_deref());
        warnings.extend(check::warnings(&draft.config));
        warnings.extend(check::unused(&draft.config, &draft.origins));
        let hash = draft.config.hash();
        Ok(Loaded { config: Arc::new(draft.config), origins: draft.origins, warnings, hash })
    }
}

fn document(sources: &Sources, environment: &Environment) -> Result<Document, Fault> {
    let path = match (&sources.argument, &environment.inline, &environment.file) {
        (Some(path), _, _) => path,
        (None, Some(text), _) => return Ok(Document { text: text.clone(), file: None }),
        (None, None, Some(path)) => path,
        (None, None, None) => &sources.default_file,
    };
    Ok(Document { text: trusted::read(path, sources.reader)?, file: Some(path.clone()) })
}

fn ignored(sources: &Sources, inline: bool, file: Option<&Path>) -> Vec<String> {
    let by_argument = sources.argument.is_some();
    let warning =
        |name: &str, winner: &str| format!("environment variable {name} is ignored, since {winner} comes first");
    let mut warnings = Vec::new();
    if inline && by_argument {
        warnings.push(warning("PASSPORT_CONFIG", "--config"));
    }
    if file.is_some() && (by_argument || inline) {
        warnings.push(warning("PASSPORT_CONFIG_FILE", if by_argument { "--config" } else { "PASSPORT_CONFIG" }));
    }
    warnings
}

impl Config {
    /// BLAKE3 over every setting and its value, whatever the source, comments and order.
    pub fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for (section, fields) in self.fields() {
            for field in fields {
                // Values hold no control characters, so the line end separates.
                hasher.update(format!("{section}.{}={}\n", field.key, field.value).as_bytes());
            }
        }
        *hasher.finalize().as_bytes()
    }
}

impl Document {
    fn place(&self, at: usize) -> Place {
        let (line, column) = position(&self.text, at);
        match &self.file {
            Some(path) => Place::File { path: path.clone(), line, column },
            None => Place::Inline { line, column },
        }
    }

    fn origin(&self, at: usize) -> Origin {
        match &self.file {
            Some(path) => Origin::File { path: path.clone(), line: position(&self.text, at).0 },
            None => Origin::Env { name: "PASSPORT_CONFIG".to_owned() },
        }
    }
}

/// Line and column of a byte offset, both from 1.
pub(super) fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count().saturating_add(1);
    let column = before.chars().rev().take_while(|c| *c != '\n').count().saturating_add(1);
    (line, column)
}

impl Draft {
    fn document(&mut self, document: &Document) {
        match DeTable::parse(&document.text) {
            Ok(table) => {
                for (name, value) in table.get_ref() {
                    self.section(document, name.get_ref(), name.span(), value.get_ref());
                }
            }
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start);
                let message = format!("not valid TOML: {}; mend it there: text stands in quotes", error.message());
                self.faults.push((at, Fault::Syntax { place: document.place(at), message }));
            }
        }
    }

    fn section(&mut self, document: &Document, name: &str, span: Range<usize>, value: &DeValue<'_>) {
        let place = document.place(span.start);
        let key = name.escape_debug().to_string();
        if self.config.section_mut(name).is_none() {
            let hint = self.section_hint(name);
            self.faults.push((span.start, Fault::UnknownKey { place, key, hint }));
            return;
        }
        let DeValue::Table(table) = value else {
            let message = format!("expected a section: write [{key}]");
            self.faults.push((span.start, Fault::Value { place, key, message }));
            return;
        };
        for (key, value) in table {
            let full = format!("{name}.{}", key.get_ref().escape_debug());
            let (fault_at, fault) = match self.set(name, key.get_ref(), Raw::Toml(value.get_ref())) {
                None => {
                    let at = key.span().start;
                    let hint = self.key_hint(name, key.get_ref());
                    (at, Fault::UnknownKey { place: document.place(at), key: full, hint })
                }
                Some(Ok(())) => {
                    self.origins.insert(full, document.origin(key.span().start));
                    continue;
                }
                Some(Err(wrong)) => {
                    let at = wrong.span.unwrap_or_else(|| value.span()).start;
                    (at, Fault::Value { place: document.place(at), key: full, message: wrong.message })
                }
            };
            self.faults.push((fault_at, fault));
        }
    }

    fn variable(&mut self, setting: &Override) {
        let Override { name, section, key, value } = setting;
        let full = format!("{section}.{key}");
        let fault = match self.set(section, key, Raw::Env(value)) {
            Some(Ok(())) => {
                self.origins.insert(full, Origin::Env { name: name.clone() });
                return;
            }
            Some(Err(wrong)) => {
                Fault::Value { place: Place::Variable { name: name.clone() }, key: full, message: wrong.message }
            }
            None => Fault::UnknownVariable { name: name.clone(), hint: self.key_hint(section, key) },
        };
        self.faults.push((usize::MAX, fault));
    }

    fn set(&mut self, section: &str, key: &str, raw: Raw<'_>) -> Option<Result<(), super::codec::Wrong>> {
        self.config.section_mut(section)?.set(key, raw)
    }

    fn section_hint(&self, name: &str) -> String {
        let homes = self.homes_of(name);
        if homes.is_empty() {
            suggest::hint(name, self.config.fields().iter().map(|(section, _)| *section))
        } else {
            homes
        }
    }

    fn key_hint(&self, section: &str, key: &str) -> String {
        let all = self.config.fields();
        let Some((_, own)) = all.iter().find(|(name, _)| *name == section) else {
            return suggest::hint(section, all.iter().map(|(name, _)| *name));
        };
        let homes = self.homes_of(key);
        if homes.is_empty() { suggest::hint(key, own.iter().map(|field| field.key)) } else { homes }
    }

    /// ` (it belongs in …)` with the sections that have exactly this key, or nothing.
    fn homes_of(&self, key: &str) -> String {
        let all = self.config.fields();
        let homes = all.iter().filter(|(_, fields)| fields.iter().any(|field| field.key == key));
        let homes: Vec<String> = homes.map(|(section, _)| format!("[{section}]")).collect();
        if homes.is_empty() { String::new() } else { format!(" (it belongs in {})", homes.join(" or ")) }
    }
}
