//! What a passport says of itself, as far as it may be revoked by it.

use crate::passport::ParentView;

/// Of one passport.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// The key that signed it.
    pub kid: &'a str,
    /// Its tenant.
    pub tenant: &'a str,
    /// Its id.
    pub jti: &'a str,
    /// Its subject.
    pub sub: &'a str,
    /// When it was issued, seconds since 1970.
    pub iat: i64,
    /// The epoch that it was issued in.
    pub epoch: u64,
    /// What a ticket was made from.
    pub par: Option<NamedParent<'a>>,
}

/// Of the passport that a ticket was made from, as far as it is not the ticket's own: tenant, subject and epoch are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedParent<'a> {
    /// The key that signed it.
    pub kid: &'a str,
    /// Its id.
    pub jti: &'a str,
    /// When it was issued, seconds since 1970.
    pub iat: i64,
}

impl Named<'_> {
    /// The passport that a ticket was made from, in its stead.
    pub(super) fn parent(&self) -> Option<Self> {
        self.par.map(|NamedParent { kid, jti, iat }| Self { kid, jti, iat, par: None, ..*self })
    }
}

/// The same, owned.
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
