//! Writing proofs, for clients that hold a key: what is written is what is read, within the same bounds.

use base64ct::{Base64UrlUnpadded, Encoding as _};

use super::super::{canon, envelope::ALG};
use super::{MAX_TEXT, ProofClaims, ProofRefusal, Purpose};

/// The length of a signature with the dot before it.
const SIGNATURE: usize = 1 + 86;

impl ProofClaims {
    /// What the holder of `public` signs to make this proof: header and claims of a compact JWS (RFC 7515 §5.1 step 5), each
    /// of them canonical JSON. [`with_signature`] makes it whole.
    ///
    /// # Errors
    /// Names the claim that is out of bounds, or says that the proof is too long.
    pub fn signing_input(&self, public: &[u8; 32]) -> Result<String, ProofRefusal> {
        self.check()?;
        let mut out = Base64UrlUnpadded::encode_string(self.header(public).as_bytes());
        out.push('.');
        out.push_str(&Base64UrlUnpadded::encode_string(self.json().as_bytes()));
        if out.len() + SIGNATURE > MAX_TEXT { Err(ProofRefusal::TooLong) } else { Ok(out) }
    }

    fn header(&self, public: &[u8; 32]) -> String {
        let (typ, x) = (self.kind().typ(), Base64UrlUnpadded::encode_string(public));
        format!(r#"{{"alg":"{ALG}","jwk":{{"crv":"Ed25519","kty":"OKP","x":"{x}"}},"typ":"{typ}"}}"#)
    }

    /// The claims. Their order here is their order in canonical JSON.
    fn json(&self) -> String {
        let ath = Base64UrlUnpadded::encode_string(&self.ath);
        let (iat, jti) = (self.iat, self.jti.as_str());
        match &self.purpose {
            Purpose::Operation { aud, op, nonce } => {
                object(&[("ath", &ath), ("aud", aud)], iat, &[("jti", jti), ("nonce", nonce), ("op", op)])
            }
            Purpose::Http { htm, htu, nonce } => {
                let nonce = nonce.as_deref().map(|nonce| ("nonce", nonce));
                let behind: Vec<_> = [("jti", jti)].into_iter().chain(nonce).collect();
                object(&[("ath", &ath), ("htm", htm), ("htu", htu)], iat, &behind)
            }
        }
    }
}

/// An object of texts, with `iat` between the two lists.
fn object(before: &[(&str, &str)], iat: i64, behind: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, text) in before {
        out.push(if out.is_empty() { '{' } else { ',' });
        member(&mut out, name, text);
    }
    out.push_str(",\"iat\":");
    canon::integer(&mut out, iat);
    for (name, text) in behind {
        out.push(',');
        member(&mut out, name, text);
    }
    out.push('}');
    out
}

fn member(out: &mut String, name: &str, text: &str) {
    canon::string(out, name);
    out.push(':');
    canon::string(out, text);
}

/// The proof: what was signed, and the signature.
pub fn with_signature(signing_input: &str, signature: &[u8; 64]) -> String {
    format!("{signing_input}.{}", Base64UrlUnpadded::encode_string(signature))
}
