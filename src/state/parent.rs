//! What a ticket was made from, for whoever waits for the disk.

use super::named::NamedParent;
use crate::passport::ParentView;

/// [`NamedParent`], owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The key that signed it.
    pub kid: String,
    /// Its id.
    pub jti: String,
    /// When it was issued, seconds since 1970.
    pub iat: i64,
}

impl Parent {
    /// As a payload says it.
    pub fn of(par: ParentView<'_>) -> Self {
        Self { kid: par.kid.to_owned(), jti: par.jti.decode().into_owned(), iat: par.iat }
    }

    /// Borrowed.
    pub fn named(&self) -> NamedParent<'_> {
        NamedParent { kid: &self.kid, jti: &self.jti, iat: self.iat }
    }
}
