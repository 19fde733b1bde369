//! What a passport says of itself, as far as it may be revoked by it.

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
