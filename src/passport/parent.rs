//! The passport that a ticket was made from: what of it must be known to say whether it is revoked.
//!
//! A ticket lives no longer than its parent, and dies with it: by the parent's id, with the parent's key, which need not be the one
//! that signs the ticket, and with its subject, by the second in which the parent was issued. All of that is signed along, so that
//! nothing has to be remembered for it.

use super::{
    bounds::MAX_JTI,
    canon,
    claims::{ClaimsError, identifier, number},
    kid::{Kid, KidError, KidRef},
    scan::Text,
};

/// By how many seconds the clocks of those who judge a ticket may differ, whatever is configured for passports.
pub const MAX_TICKET_SKEW_S: u32 = 2;
/// The longest lifetime of a ticket in seconds, unless an admin allows more for a while.
pub const TICKET_TTL_S: u32 = 60;
/// The longest that an admin may allow, and the signer signs.
pub const MAX_TICKET_TTL_S: u32 = 300;

/// The claim `par`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// When it was issued, in seconds since 1970.
    pub iat: i64,
    /// Its id.
    pub jti: String,
    /// The key that signed it.
    pub kid: Kid,
}

impl Parent {
    /// Whether it is within the bounds.
    pub(super) fn check(&self) -> Result<(), ClaimsError> {
        number("par.iat", self.iat, 0)?;
        identifier("par.jti", &self.jti, MAX_JTI)
    }

    /// Appends `"par":{…}`. The kid's alphabet needs no escapes.
    pub(super) fn write(&self, out: &mut String) {
        use std::fmt::Write as _;
        out.push_str(",\"par\":{\"iat\":");
        canon::integer(out, self.iat);
        out.push_str(",\"jti\":");
        canon::string(out, &self.jti);
        // Writing to a String can't fail.
        let _ = write!(out, ",\"kid\":\"{}\"}}", self.kid);
    }
}

/// The same, borrowed from a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParentView<'a> {
    /// When it was issued, in seconds since 1970.
    pub iat: i64,
    /// Its id.
    pub jti: Text<'a>,
    /// The key that signed it, as it stands: a kid.
    pub kid: &'a str,
}

impl ParentView<'_> {
    /// As an owned value.
    ///
    /// # Errors
    /// If `kid` is not a kid, which the scanner refuses.
    pub fn to_parent(self) -> Result<Parent, KidError> {
        Ok(Parent { iat: self.iat, jti: self.jti.decode().into_owned(), kid: KidRef::parse(self.kid)?.to_kid() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        claims::{Claims, tests as samples},
        scan::scan,
    };
    use super::*;

    #[test]
    fn a_parent_is_written_and_read_and_nothing_less_or_more_is() {
        let bytes = String::from_utf8(samples::full().canonical(4096).unwrap()).unwrap();
        let par = r#""par":{"iat":1699999990,"jti":"parent","kid":"ed25519/t1.host7/auth/v2"}"#;
        assert!(bytes.contains(par), "{bytes}");
        let parent = scan(bytes.as_bytes()).unwrap().par.unwrap().to_parent().unwrap();
        assert_eq!(Some(parent), samples::full().par);
        for other in [
            r#""par":"parent""#,
            r#""par":{}"#,
            r#""par":null"#,
            r#""par":{"iat":1699999990,"jti":"parent"}"#,
            r#""par":{"iat":1699999990,"kid":"ed25519/t1.host7/auth/v2"}"#,
            r#""par":{"jti":"parent","kid":"ed25519/t1.host7/auth/v2"}"#,
            r#""par":{"iat":-1,"jti":"parent","kid":"ed25519/t1.host7/auth/v2"}"#,
            r#""par":{"iat":1699999990,"jti":"","kid":"ed25519/t1.host7/auth/v2"}"#,
            r#""par":{"iat":1699999990,"jti":"parent","kid":"ed25519/t1.host7/auth/v02"}"#,
            r#""par":{"exp":1,"iat":1699999990,"jti":"parent","kid":"ed25519/t1.host7/auth/v2"}"#,
            r#""par":{"iat":1699999990,"kid":"ed25519/t1.host7/auth/v2","jti":"parent"}"#,
        ] {
            assert!(scan(bytes.replace(par, other).as_bytes()).is_err(), "{other}");
        }
    }

    #[test]
    fn its_bounds_are_those_of_the_claims() {
        let with = |change: fn(&mut Parent)| {
            let mut claims = samples::full();
            claims.par.as_mut().map(change);
            Claims { ..claims }.canonical(4096).unwrap_err().to_string()
        };
        assert!(with(|par| par.iat = -1).starts_with("`par.iat` must be an integer from 0"));
        assert!(with(|par| par.jti.clear()).starts_with("`par.jti` must be 1 to 64"));
    }
}
