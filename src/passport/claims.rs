//! What a passport claims, as an owned value, and the writer of its canonical bytes.

use serde_json::{Map, Value};

use super::{
    bounds::{
        MAX_ACTION, MAX_AUD, MAX_AUD_LEN, MAX_INTEGER, MAX_ISS, MAX_JTI, MAX_NONCE, MAX_SCOPE_LEN, MAX_SCOPES, MAX_SUB,
        MAX_TEMPLATE, NO_UID, is_identifier, is_thumbprint,
    },
    canon::{self, Unwritable},
    kid::Kid,
    parent::Parent,
};

/// Room for the members that each payload has; measured, a usual payload is 250 to 350 bytes long.
const USUAL_LENGTH: usize = 384;

/// The claims of a passport. All times are seconds since 1970 (`NumericDate`, RFC 7519 §2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Issuer (RFC 7519 §4.1.1): the name that the deployment gave itself. 1 to 256 bytes, no control characters.
    pub iss: String,
    /// Subject (§4.1.2): whom the passport speaks of. 1 to 256 bytes, no control characters.
    pub sub: String,
    /// Audiences (§4.1.3): who may accept it. At most 16; always written as an array.
    pub aud: Vec<String>,
    /// Issued at (§4.1.6).
    pub iat: i64,
    /// Expires (§4.1.4); the passport is no longer valid at this very second.
    pub exp: i64,
    /// Not valid before (§4.1.5); without it, `iat` says so.
    pub nbf: Option<i64>,
    /// The passport's own id (§4.1.7), which is also its trace in the audit. 1 to 64 bytes.
    pub jti: String,
    /// What it lets its bearer do. At most 64.
    pub scopes: Vec<String>,
    /// A value to be accepted once.
    pub nonce: Option<String>,
    /// What the issuing service wants to say beside: any JSON object without floats.
    pub ctx: Option<Map<String, Value>>,
    /// The key that signs it.
    pub kid: Kid,
    /// The tenant's epoch at issue; a passport of an earlier epoch is revoked. At most 2^53 − 1.
    pub epoch: u64,
    /// The capability.
    pub cap: Cap,
    /// Confirmation `cnf.jkt` (RFC 7800; RFC 9449 §6.1): the thumbprint of the holder's key.
    pub cnf_jkt: Option<String>,
    /// Confirmation `cnf.uid`, a member of our own: the user who alone may present it, on this host. At most 2^32 − 2.
    pub cnf_uid: Option<u32>,
    /// The passport that this one, a ticket, was made from.
    pub par: Option<Parent>,
}

/// The capability that a passport carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cap {
    /// The template that bounded the issue. 1 to 64 bytes.
    pub template: String,
    /// The one action that it is for.
    pub action: Option<String>,
    /// How many times it may be accepted, 1 to 2^53 − 1.
    pub limit: Option<u64>,
}

/// Why claims can't be written. The one who asked for these claims is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimsError {
    /// A string is empty, too long, or holds control characters.
    #[error("`{claim}` must be 1 to {max} bytes long without control characters")]
    Identifier {
        /// The claim.
        claim: &'static str,
        /// Its bound.
        max: usize,
    },
    /// A list has too many entries.
    #[error("`{claim}` must have at most {max} entries")]
    TooMany {
        /// The claim.
        claim: &'static str,
        /// Its bound.
        max: usize,
    },
    /// A number is outside of what the claim can hold.
    #[error("`{claim}` must be an integer from {min} to 9007199254740991")]
    Range {
        /// The claim.
        claim: &'static str,
        /// Its lower bound.
        min: i64,
    },
    /// `exp` is not after the start of validity.
    #[error("`exp` must be later than `iat` and `nbf`")]
    Lifetime,
    /// `cnf.jkt` is no SHA-256 thumbprint.
    #[error("`cnf.jkt` must be an RFC 7638 SHA-256 thumbprint: 43 characters of base64url")]
    Thumbprint,
    /// `cnf.uid` is nobody's.
    #[error("`cnf.uid` must be a uid that somebody can have, 0 to 4294967294")]
    Uid,
    /// `ctx` holds a number that is not an integer within ±(2^53 − 1).
    #[error("`ctx` must not hold floats or integers beyond ±9007199254740991; write them as strings")]
    Number,
    /// `ctx` is nested too deeply.
    #[error("`ctx` must not be nested deeper than {} levels", super::bounds::MAX_DEPTH - 1)]
    TooDeep,
    /// The payload is too large.
    #[error("the payload is {length} bytes long, but limits.max_msg_bytes is {max}")]
    TooLarge {
        /// Its length in bytes.
        length: usize,
        /// The bound in bytes.
        max: usize,
    },
}

/// Whether a passport can be about this subject, whoever asks for it.
///
/// # Errors
/// [`ClaimsError::Identifier`].
pub fn check_subject(sub: &str) -> Result<(), ClaimsError> {
    identifier("sub", sub, MAX_SUB)
}

/// Whether `text` fits the claim.
pub(super) fn identifier(claim: &'static str, text: &str, max: usize) -> Result<(), ClaimsError> {
    if is_identifier(text, max) { Ok(()) } else { Err(ClaimsError::Identifier { claim, max }) }
}

/// Whether the list fits the claim.
fn identifiers(claim: &'static str, texts: &[String], most: usize, max: usize) -> Result<(), ClaimsError> {
    if texts.len() > most {
        return Err(ClaimsError::TooMany { claim, max: most });
    }
    texts.iter().try_for_each(|text| identifier(claim, text, max))
}

/// Whether the number fits the claim.
pub(super) fn number(claim: &'static str, number: i64, min: i64) -> Result<(), ClaimsError> {
    if (min..=MAX_INTEGER).contains(&number) { Ok(()) } else { Err(ClaimsError::Range { claim, min }) }
}

/// The number as the signed integer that JSON gets, if it fits the claim.
fn unsigned(claim: &'static str, value: u64, min: i64) -> Result<i64, ClaimsError> {
    let value = i64::try_from(value).map_err(|_| ClaimsError::Range { claim, min })?;
    number(claim, value, min).map(|()| value)
}

impl Claims {
    /// The RFC 8785 canonical bytes of the claims, which is what gets signed. Options that are `None` are absent.
    ///
    /// # Errors
    /// Names the claim that is out of bounds and its bound, or says that the whole is longer than `max_bytes`.
    pub fn canonical(&self, max_bytes: usize) -> Result<Vec<u8>, ClaimsError> {
        self.check()?;
        let mut out = String::with_capacity(USUAL_LENGTH);
        self.write(&mut out)?;
        if out.len() > max_bytes {
            return Err(ClaimsError::TooLarge { length: out.len(), max: max_bytes });
        }
        Ok(out.into_bytes())
    }

    /// Whether every claim is within its bounds.
    fn check(&self) -> Result<(), ClaimsError> {
        identifier("iss", &self.iss, MAX_ISS)?;
        check_subject(&self.sub)?;
        identifier("jti", &self.jti, MAX_JTI)?;
        identifier("cap.template", &self.cap.template, MAX_TEMPLATE)?;
        identifiers("aud", &self.aud, MAX_AUD, MAX_AUD_LEN)?;
        identifiers("scopes", &self.scopes, MAX_SCOPES, MAX_SCOPE_LEN)?;
        for (claim, text, max) in [("cap.action", &self.cap.action, MAX_ACTION), ("nonce", &self.nonce, MAX_NONCE)] {
            text.as_deref().map_or(Ok(()), |text| identifier(claim, text, max))?;
        }
        self.par.as_ref().map_or(Ok(()), Parent::check)?;
        if self.cnf_jkt.as_deref().is_some_and(|jkt| !is_thumbprint(jkt)) {
            return Err(ClaimsError::Thumbprint);
        }
        if self.cnf_uid == Some(NO_UID) {
            return Err(ClaimsError::Uid);
        }
        number("iat", self.iat, 0)?;
        number("exp", self.exp, 0)?;
        self.nbf.map_or(Ok(()), |nbf| number("nbf", nbf, 0))?;
        if self.exp <= self.nbf.map_or(self.iat, |nbf| nbf.max(self.iat)) {
            return Err(ClaimsError::Lifetime);
        }
        Ok(())
    }

    /// Appends the members. Their order here is their order in the payload: the names are ASCII, so RFC 8785 §3.2.3
    /// sorts them as bytes.
    fn write(&self, out: &mut String) -> Result<(), ClaimsError> {
        out.push_str("{\"aud\":");
        canon::strings(out, &self.aud);
        self.cap.write(out)?;
        self.write_cnf(out);
        if let Some(ctx) = &self.ctx {
            out.push_str(",\"ctx\":");
            canon::object(out, ctx, 2)?;
        }
        out.push_str(",\"epoch\":");
        canon::integer(out, unsigned("epoch", self.epoch, 0)?);
        out.push_str(",\"exp\":");
        canon::integer(out, self.exp);
        out.push_str(",\"iat\":");
        canon::integer(out, self.iat);
        out.push_str(",\"iss\":");
        canon::string(out, &self.iss);
        out.push_str(",\"jti\":");
        canon::string(out, &self.jti);
        self.write_kid(out);
        if let Some(nbf) = self.nbf {
            out.push_str(",\"nbf\":");
            canon::integer(out, nbf);
        }
        if let Some(nonce) = &self.nonce {
            out.push_str(",\"nonce\":");
            canon::string(out, nonce);
        }
        if let Some(par) = &self.par {
            par.write(out);
        }
        out.push_str(",\"scopes\":");
        canon::strings(out, &self.scopes);
        out.push_str(",\"sub\":");
        canon::string(out, &self.sub);
        out.push('}');
        Ok(())
    }

    /// Appends `"cnf":{…}`, if there is anything to be confirmed.
    fn write_cnf(&self, out: &mut String) {
        if self.cnf_jkt.is_none() && self.cnf_uid.is_none() {
            return;
        }
        out.push_str(",\"cnf\":{");
        if let Some(jkt) = &self.cnf_jkt {
            out.push_str("\"jkt\":");
            canon::string(out, jkt);
        }
        if let Some(uid) = self.cnf_uid {
            out.push_str(if self.cnf_jkt.is_some() { ",\"uid\":" } else { "\"uid\":" });
            canon::integer(out, uid.into());
        }
        out.push('}');
    }

    /// Appends the kid, whose alphabet needs no escapes.
    fn write_kid(&self, out: &mut String) {
        use std::fmt::Write as _;
        // Writing to a String can't fail.
        let _ = write!(out, ",\"kid\":\"{}\"", self.kid);
    }
}

impl Cap {
    /// Appends `"cap":{…}`.
    fn write(&self, out: &mut String) -> Result<(), ClaimsError> {
        out.push_str(",\"cap\":{");
        if let Some(action) = &self.action {
            out.push_str("\"action\":");
            canon::string(out, action);
            out.push(',');
        }
        if let Some(limit) = self.limit {
            out.push_str("\"limit\":");
            canon::integer(out, unsigned("cap.limit", limit, 1)?);
            out.push(',');
        }
        out.push_str("\"template\":");
        canon::string(out, &self.template);
        out.push('}');
        Ok(())
    }
}

impl From<Unwritable> for ClaimsError {
    fn from(why: Unwritable) -> Self {
        match why {
            Unwritable::Number => Self::Number,
            Unwritable::TooDeep => Self::TooDeep,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Claims with every option absent.
    pub(in crate::passport) fn plain() -> Claims {
        Claims {
            iss: "passportd.example".into(),
            sub: "alice".into(),
            aud: vec!["demo".into()],
            iat: 1_700_000_000,
            exp: 1_700_003_600,
            nbf: None,
            jti: "0190c7a2-7b1e-7000-8000-0123456789ab".into(),
            scopes: vec!["read".into(), "write".into()],
            nonce: None,
            ctx: None,
            kid: Kid::new("t1.host7", "auth", 3).unwrap(),
            epoch: 0,
            cap: Cap { template: "demo".into(), action: None, limit: None },
            cnf_jkt: None,
            cnf_uid: None,
            par: None,
        }
    }

    /// Claims with every option present.
    pub(in crate::passport) fn full() -> Claims {
        let ctx = serde_json::json!({"z": [null, true, -5, "ö\n"], "a": {"😂": 1, "！": 2}});
        Claims {
            nbf: Some(1_700_000_010),
            nonce: Some("n\"1\\".into()),
            ctx: ctx.as_object().cloned(),
            epoch: 7,
            cap: Cap { template: "demo".into(), action: Some("open door".into()), limit: Some(3) },
            cnf_jkt: Some("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k".into()),
            cnf_uid: Some(1000),
            par: Some(Parent {
                iat: 1_699_999_990,
                jti: "parent".into(),
                kid: Kid::new("t1.host7", "auth", 2).unwrap(),
            }),
            ..plain()
        }
    }

    #[test]
    fn the_bytes_are_exactly_these() {
        let expected = concat!(
            r#"{"aud":["demo"],"cap":{"action":"open door","limit":3,"template":"demo"},"#,
            r#""cnf":{"jkt":"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k","uid":1000},"#,
            r#""ctx":{"a":{"😂":1,"！":2},"z":[null,true,-5,"ö\n"]},"#,
            r#""epoch":7,"exp":1700003600,"iat":1700000000,"iss":"passportd.example","#,
            r#""jti":"0190c7a2-7b1e-7000-8000-0123456789ab","kid":"ed25519/t1.host7/auth/v3","nbf":1700000010,"#,
            r#""nonce":"n\"1\\","par":{"iat":1699999990,"jti":"parent","kid":"ed25519/t1.host7/auth/v2"},"scopes":["read","write"],"sub":"alice"}"#,
        );
        assert_eq!(String::from_utf8(full().canonical(4096).unwrap()).unwrap(), expected);
        let by_uid = Claims { cnf_jkt: None, ..full() }.canonical(4096).unwrap();
        assert!(String::from_utf8(by_uid).unwrap().contains(r#","cnf":{"uid":1000},"#));
        let bytes = plain().canonical(4096).unwrap();
        assert_eq!(serde_json_canonicalizer::to_vec(&serde_json::from_slice::<Value>(&bytes).unwrap()).unwrap(), bytes);
    }

    /// A change to claims.
    type Change = fn(&mut Claims);

    #[test]
    fn each_bound_is_named() {
        let refused = |change: Change| {
            let mut claims = full();
            change(&mut claims);
            claims.canonical(8192).unwrap_err().to_string()
        };
        let cases: [(&str, Change); 19] = [
            ("`iss` must be 1 to 256", |c| c.iss.clear()),
            ("`sub` must be 1 to 256", |c| c.sub = "a".repeat(257)),
            ("`sub` must be 1 to 256", |c| c.sub = "a\nMESSAGE=b".into()),
            ("`jti` must be 1 to 64", |c| c.jti = "\u{7f}".into()),
            ("`aud` must be 1 to 256", |c| c.aud = vec![String::new()]),
            ("`aud` must have at most 16", |c| c.aud = vec!["a".into(); 17]),
            ("`scopes` must have at most 64", |c| c.scopes = vec!["a".into(); 65]),
            ("`cap.template` must be", |c| c.cap.template = "\u{85}".into()),
            ("`cap.action` must be", |c| c.cap.action = Some("\t".into())),
            ("`cap.limit` must be an integer from 1", |c| c.cap.limit = Some(0)),
            ("`epoch` must be an integer from 0", |c| c.epoch = 1 << 53),
            ("`nonce` must be", |c| c.nonce = Some("a".repeat(129))),
            ("`cnf.jkt` must be", |c| c.cnf_jkt = Some("short".into())),
            ("`cnf.uid` must be a uid", |c| c.cnf_uid = Some(u32::MAX)),
            ("`iat` must be", |c| c.iat = -1),
            ("`exp` must be an integer", |c| c.exp = 1 << 53),
            ("`exp` must be later", |c| c.exp = c.iat),
            ("`exp` must be later", |c| c.nbf = Some(c.exp)),
            ("`ctx` must not hold floats", |c| c.ctx = serde_json::json!({"a": 0.5}).as_object().cloned()),
        ];
        for (text, change) in cases {
            let message = refused(change);
            assert!(message.starts_with(text), "{message:?} should start with {text:?}");
        }
    }

    #[test]
    fn the_size_bound_is_inclusive() {
        let length = full().canonical(4096).unwrap().len();
        assert!(full().canonical(length).is_ok());
        assert_eq!(full().canonical(length - 1), Err(ClaimsError::TooLarge { length, max: length - 1 }));
    }
}
