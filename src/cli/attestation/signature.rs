//! Whether an audit key signed a statement: over its canonical form (RFC 8785) without the member `signature`.

use serde_json::Value;

use super::check::{Check, Outcome};
use crate::statement::{ATTESTATION_PREFIX, Signed, VerifierKey};

/// The line's name.
const NAME: &str = "signature";

/// Checks it with the keys that were given.
pub(super) fn check(statement: &Value, keys: &[VerifierKey]) -> Check {
    let line = |outcome, detail: String| Check { name: NAME, outcome, detail };
    let signed: Option<Signed> = statement.get(NAME).and_then(|signed| serde_json::from_value(signed.clone()).ok());
    let (Some(signed), Some(Value::Bool(true))) = (signed, statement.get("signed")) else {
        return match statement.get("signed") {
            Some(Value::Bool(false)) if statement.get(NAME).is_none() => {
                line(Outcome::NotChecked, "there is none, and the statement says so".to_owned())
            }
            _ => line(Outcome::Contradicted, "the statement and its signature contradict each other".to_owned()),
        };
    };
    let document = without(statement);
    match document.and_then(|document| signed.verify(ATTESTATION_PREFIX, &document, keys)) {
        Some(true) => line(Outcome::Holds, format!("by {}", signed.kid)),
        Some(false) => {
            line(Outcome::Contradicted, format!("it is not by {}: the statement was altered, or is forged", signed.kid))
        }
        None if keys.is_empty() => line(
            Outcome::NotChecked,
            format!("it names {}; give its public key: --keys FILE (`passportctl audit keys`)", signed.kid),
        ),
        None => {
            line(Outcome::NotChecked, format!("it names {}, which is not among the keys that were given", signed.kid))
        }
    }
}

/// What is signed.
fn without(statement: &Value) -> Option<Vec<u8>> {
    let mut document = statement.clone();
    document.as_object_mut()?.remove(NAME);
    serde_json_canonicalizer::to_vec(&document).ok()
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey};
    use serde_json::json;

    use super::*;
    use crate::passport::hex;
    use crate::statement::document::message;

    #[test]
    fn what_was_altered_after_it_was_signed_is_noticed() {
        let signing = SigningKey::from_bytes(&[5; 32]);
        let key = VerifierKey { name: "ed25519/t1/audit/v1".to_owned(), public: signing.verifying_key().to_bytes() };
        let mut statement = json!({"signed": true, "b": 1, "a": "x"});
        let bytes = message(ATTESTATION_PREFIX, br#"{"a":"x","b":1,"signed":true}"#);
        let sig = hex::encode(&signing.sign(&bytes).to_bytes());
        statement["signature"] = json!({"kid": key.name, "sig": sig});
        let outcome = |statement: &Value, keys: &[VerifierKey]| check(statement, keys).outcome;
        let keys = std::slice::from_ref(&key);
        assert_eq!(outcome(&statement, keys), Outcome::Holds);
        assert_eq!(outcome(&statement, &[]), Outcome::NotChecked);
        for (member, value) in [("b", json!(2)), ("signed", json!(false)), ("c", json!(1)), ("signature", json!({}))] {
            let mut altered = statement.clone();
            altered[member] = value;
            assert_eq!(outcome(&altered, keys), Outcome::Contradicted, "{member}");
        }
        let other = VerifierKey { public: [1; 32], ..key.clone() };
        assert_eq!(outcome(&statement, &[other]), Outcome::Contradicted);
        assert_eq!(outcome(&json!({"signed": false}), keys), Outcome::NotChecked);
        assert_eq!(outcome(&json!({"signed": true}), keys), Outcome::Contradicted);
    }
}
