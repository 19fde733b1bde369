//! A policy file whose places can be named, and what holds for each list and name in it.

use std::{collections::BTreeMap, ops::Range, path::Path, sync::Arc};

use toml::Spanned;

use super::{error::PolicyError, file::Strings};
use crate::passport::bounds::is_identifier;

/// The most entries of a list.
const MAX_LIST: usize = 256;
/// The longest name of a rule or listener, in bytes.
pub(super) const MAX_NAME: usize = 64;

/// A file with what is needed to name places in it.
pub(super) struct Source<'a> {
    pub(super) dir: &'a Path,
    pub(super) name: Arc<str>,
    pub(super) text: &'a str,
}

impl Source<'_> {
    /// The line and column, both from 1, of a byte.
    pub(super) fn place(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        (line, before.rsplit('\n').next().unwrap_or_default().chars().count() + 1)
    }

    /// The error that something is wrong at a place.
    pub(super) fn wrong(&self, span: &Range<usize>, message: impl Into<String>) -> PolicyError {
        let (line, column) = self.place(span.start);
        PolicyError::At { path: self.dir.join(&*self.name), line, column, message: message.into() }
    }

    /// The strings of a list, each of which must be an identifier of at most `max` bytes.
    pub(super) fn strings(&self, list: &Strings, max: usize) -> Result<Vec<String>, PolicyError> {
        self.bounded(list)?;
        list.iter().map(|text| self.identifier(text, max)).collect()
    }

    /// Makes sure that a list is not too long.
    pub(super) fn bounded(&self, list: &Strings) -> Result<(), PolicyError> {
        match list.get(MAX_LIST) {
            Some(first) => Err(self.wrong(&first.span(), format!("a list has at most {MAX_LIST} entries"))),
            None => Ok(()),
        }
    }

    /// An identifier of at most `max` bytes.
    pub(super) fn identifier(&self, text: &Spanned<String>, max: usize) -> Result<String, PolicyError> {
        if is_identifier(text.get_ref(), max) {
            return Ok(text.get_ref().clone());
        }
        Err(self.wrong(&text.span(), format!("this must be 1 to {max} bytes long without control characters")))
    }

    /// A name that stands for itself only: no other table of its kind, in whatever file, may have it.
    pub(super) fn unique(
        &self,
        name: &Spanned<String>,
        seen: &mut BTreeMap<String, Arc<str>>,
    ) -> Result<String, PolicyError> {
        let text = self.identifier(name, MAX_NAME)?;
        match seen.insert(text.clone(), Arc::clone(&self.name)) {
            None => Ok(text),
            Some(file) => {
                Err(self.wrong(&name.span(), format!("the name {text:?} is taken in {file}; choose another")))
            }
        }
    }
}
