//! JSON that comes in: one item, `{"items":[…]}`, or a bare array.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::CliError;
use crate::passport::{Form, OwnedEnvelope, OwnedPassport};

/// One item, or several.
#[derive(Debug, PartialEq)]
pub(super) enum Given<T> {
    /// A document that is no batch.
    One(T),
    /// A batch, in its order.
    Batch(Vec<T>),
}

/// A passport of a batch, or the problem that stands in its place.
#[derive(Debug, PartialEq)]
pub(super) enum Slot {
    /// To be asked about.
    Passport(OwnedPassport),
    /// What `issue --batch` wrote for an item that it did not get.
    Problem(Value),
}

/// Reads a batch; a single object is a batch of one.
pub(super) fn batch<T: DeserializeOwned>(from: &str, bytes: &[u8]) -> Result<Vec<T>, CliError> {
    let items = match split(from, bytes)? {
        Given::One(item) => vec![item],
        Given::Batch(items) => items,
    };
    let read = |(index, item)| {
        serde_json::from_value(item).map_err(|error| CliError::input(from, format!("item {index}: {error}")))
    };
    items.into_iter().enumerate().map(read).collect()
}

/// Reads an envelope, a compact JWS, or a batch of them.
pub(super) fn passports(from: &str, bytes: &[u8]) -> Result<Given<Slot>, CliError> {
    if let Some(Form::Jws(text)) = Form::of(bytes) {
        return Ok(Given::One(Slot::Passport(OwnedPassport::Jws(text.to_owned()))));
    }
    match split(from, bytes)? {
        // Read again from the bytes: the reader of envelopes sees duplicate members, which a Value hides.
        Given::One(Value::Object(members)) if !members.contains_key("passport") => {
            let envelope = OwnedEnvelope::from_json(bytes).map_err(|error| CliError::envelope(from, &error))?;
            Ok(Given::One(Slot::Passport(envelope.into())))
        }
        Given::One(value) => slot(from, value).map(Given::One),
        Given::Batch(items) => {
            let read = |(index, item)| slot(&format!("{from}: item {index}"), item);
            Ok(Given::Batch(items.into_iter().enumerate().map(read).collect::<Result<_, _>>()?))
        }
    }
}

fn slot(from: &str, value: Value) -> Result<Slot, CliError> {
    let value = match value {
        Value::Object(mut members) if members.len() == 1 => match members.remove("passport") {
            Some(passport) => passport,
            None => match members.remove("problem") {
                Some(problem) => return Ok(Slot::Problem(problem)),
                None => Value::Object(members),
            },
        },
        other => other,
    };
    if let Value::String(text) = value {
        return Ok(Slot::Passport(OwnedPassport::Jws(text)));
    }
    serde_json::from_value::<OwnedEnvelope>(value)
        .map(|envelope| Slot::Passport(envelope.into()))
        .map_err(|error| CliError::input(from, format!("not an envelope {{alg, kid, msg_b64, sig_b64}}: {error}")))
}

fn split(from: &str, bytes: &[u8]) -> Result<Given<Value>, CliError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(CliError::input(from, "it is empty; expected JSON"));
    }
    let value: Value =
        serde_json::from_slice(bytes).map_err(|error| CliError::input(from, format!("not JSON: {error}")))?;
    match value {
        Value::Array(items) => Ok(Given::Batch(items)),
        Value::Object(mut members) if members.contains_key("items") => match (members.remove("items"), members.len()) {
            (Some(Value::Array(items)), 0) => Ok(Given::Batch(items)),
            (Some(Value::Array(_)), _) => Err(CliError::input(from, "a batch has the one member `items`")),
            _ => Err(CliError::input(from, "`items` must be an array")),
        },
        Value::Object(members) => Ok(Given::One(Value::Object(members))),
        _ => Err(CliError::input(from, "expected a JSON object or array")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::IssueRequest;

    const ENVELOPE: &str = r#"{"alg":"Ed25519","kid":"k","msg_b64":"AAAA","sig_b64":"AAAA"}"#;

    #[test]
    fn every_way_to_write_passports() {
        let one = OwnedEnvelope::from_json(ENVELOPE.as_bytes()).unwrap();
        let passport = || Slot::Passport(one.clone().into());
        let read = |text: &str| passports("stdin", text.as_bytes()).unwrap();
        assert_eq!(read(ENVELOPE), Given::One(passport()));
        assert_eq!(read(&format!("{{\"passport\":{ENVELOPE}}}")), Given::One(passport()));
        assert_eq!(read(&format!("[{ENVELOPE}]\n")), Given::Batch(vec![passport()]));
        assert_eq!(read(r#"{"items":[]}"#), Given::Batch(vec![]));
        let mixed = format!(r#"{{"items":[{{"problem":{{"code":"busy"}}}},{{"passport":{ENVELOPE}}},{ENVELOPE}]}}"#);
        let problem = Slot::Problem(serde_json::json!({"code": "busy"}));
        assert_eq!(read(&mixed), Given::Batch(vec![problem, passport(), passport()]));
        // A compact JWS, alone as it is and in a batch as a string.
        let jws = || Slot::Passport(OwnedPassport::Jws("eyJ.e30.AA".to_owned()));
        assert_eq!(read("eyJ.e30.AA\n"), Given::One(jws()));
        assert_eq!(read(r#"{"passport":"eyJ.e30.AA"}"#), Given::One(jws()));
        let both = format!(r#"["eyJ.e30.AA",{{"passport":"eyJ.e30.AA"}},{ENVELOPE}]"#);
        assert_eq!(read(&both), Given::Batch(vec![jws(), jws(), passport()]));
    }

    #[test]
    fn wrong_input_is_named() {
        for (text, words) in [
            (" \n", "stdin: it is empty"),
            ("{", "stdin: not JSON: EOF"),
            ("7", "expected a JSON object or array"),
            (r#"{"items":{}}"#, "`items` must be an array"),
            (r#"{"items":[],"more":1}"#, "the one member `items`"),
            ("[1]", "stdin: item 0: not an envelope"),
            (r#"{"alg":"Ed25519"}"#, "missing field `kid`"),
            (r#"{"alg":"a","alg":"b","kid":"k","msg_b64":"","sig_b64":""}"#, "duplicate field `alg`"),
        ] {
            let error = passports("stdin", text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words), "{error:?} should contain {words:?}");
        }
    }

    #[test]
    fn issue_requests_name_the_item_that_is_wrong() {
        let read = |text: &str| batch::<IssueRequest>("file", text.as_bytes());
        assert_eq!(read(r#"{"template":"demo","sub":"a"}"#).unwrap().len(), 1);
        assert_eq!(
            read(r#"[{"template":"demo","sub":"a"},{"template":"demo","sub":"b","ttl_s":5}]"#).unwrap().len(),
            2
        );
        let error = read(r#"{"items":[{"template":"demo"},{"templat":"demo"}]}"#).unwrap_err().to_string();
        assert!(error.starts_with("file: item 1: unknown field `templat`"), "{error}");
    }
}
