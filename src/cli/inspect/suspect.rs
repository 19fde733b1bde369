//! What is wrong with a passport as far as anybody can see who has no key. Seeing nothing wrong means nothing.

use serde_json::Value;

use super::read::{Form, Found};
use super::relative;
use crate::clock::Moment;
use crate::passport::envelope::{ALG, ALG_EDDSA};
use crate::passport::{KidRef, scan};

/// The claims that are times.
pub(super) const TIMES: [&str; 3] = ["iat", "nbf", "exp"];
/// The `typ` of a passport's JWS.
const TYP: &str = "passport+jwt";
/// Bytes of an Ed25519 signature (RFC 8032 §5.1.6).
const SIGNATURE: usize = 64;

/// The claims that are times, where they are integers; seconds since 1970.
pub(super) struct Times {
    iat: Option<i64>,
    nbf: Option<i64>,
    exp: Option<i64>,
}

impl Times {
    pub(super) fn of(claims: &Value) -> Self {
        let [iat, nbf, exp] = TIMES.map(|name| claims.get(name).and_then(Value::as_i64));
        Self { iat, nbf, exp }
    }

    /// In the order of [`TIMES`].
    pub(super) const fn all(&self) -> [Option<i64>; 3] {
        [self.iat, self.nbf, self.exp]
    }
}

/// Whether only the daemon could accept it; none where the payload is none.
pub(super) fn needs_daemon(payload: &[u8]) -> Option<bool> {
    scan(payload).ok().map(|view| view.needs_daemon())
}

/// Everything that looks wrong.
pub(super) fn all(found: &Found, now: Moment) -> Vec<String> {
    let mut wrong = found.wrong.clone();
    header(found, &mut wrong);
    if found.signature.len() != SIGNATURE {
        wrong.push(format!("the signature has {} bytes; Ed25519 has {SIGNATURE}", found.signature.len()));
    }
    if let Err(refused) = scan(&found.payload) {
        wrong.push(format!("the payload is no canonical payload of a passport: {refused}"));
    }
    kid(found, &mut wrong);
    times(&Times::of(&found.claims), now, &mut wrong);
    wrong
}

fn header(found: &Found, wrong: &mut Vec<String>) {
    match found.header.get("alg") {
        Some(Value::String(alg)) if alg == ALG || alg == ALG_EDDSA => {}
        Some(alg) => wrong.push(format!("alg is {alg}; verifiers take \"{ALG}\" and \"{ALG_EDDSA}\" only")),
        None => wrong.push("alg is missing".to_owned()),
    }
    if found.form == Form::Envelope {
        return;
    }
    match found.header.get("typ") {
        Some(Value::String(typ)) if typ == TYP => {}
        Some(typ) => wrong.push(format!("typ is {typ}; a passport's is \"{TYP}\"")),
        None => wrong.push(format!("typ is missing; a passport's is \"{TYP}\"")),
    }
    let members = found.header.as_object().into_iter().flatten();
    for (name, _) in members.filter(|(name, _)| !["alg", "kid", "typ"].contains(&name.as_str())) {
        wrong.push(format!("the header has the member `{name}`, with which verifiers refuse it"));
    }
}

fn kid(found: &Found, wrong: &mut Vec<String>) {
    let (outside, inside) = (found.header.get("kid"), found.claims.get("kid"));
    if outside != inside {
        let show = |kid: Option<&Value>| kid.map_or_else(|| "missing".to_owned(), ToString::to_string);
        wrong.push(format!("kid is {} beside the payload and {} in it", show(outside), show(inside)));
    }
    if let Some(Value::String(kid)) = inside.or(outside)
        && let Err(error) = KidRef::parse(kid)
    {
        wrong.push(format!("kid \"{kid}\": {error}"));
    }
}

fn times(times: &Times, now: Moment, wrong: &mut Vec<String>) {
    let Times { iat, nbf, exp } = *times;
    let start = iat.max(nbf);
    if let (Some(start), Some(exp)) = (start, exp)
        && exp <= start
    {
        wrong.push("exp is not later than iat and nbf: it is never valid".to_owned());
    }
    if let Some(exp) = exp.filter(|exp| *exp <= now.unix()) {
        wrong.push(format!("it has expired, {}", relative(exp, now)));
    }
    if let Some(start) = start.filter(|start| *start > now.unix()) {
        wrong.push(format!("it is not valid yet, only {}", relative(start, now)));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KID: &str = "ed25519/t1/auth/v1";
    const NOW: Moment = Moment::from_unix(1000);

    fn payload(iat: i64, exp: i64) -> String {
        format!(
            concat!(
                r#"{{"aud":["demo"],"cap":{{"template":"demo"}},"epoch":0,"exp":{exp},"iat":{iat},"iss":"i","jti":"j","#,
                r#""kid":"{kid}","scopes":[],"sub":"s"}}"#
            ),
            exp = exp,
            iat = iat,
            kid = KID
        )
    }

    fn found(form: Form, header: Value, payload: &str) -> Found {
        let claims = serde_json::from_str(payload).unwrap();
        Found { form, header, payload: payload.into(), claims, signature: vec![0; 64], wrong: Vec::new() }
    }

    #[test]
    fn a_good_one_has_nothing_wrong() {
        let good = found(Form::Envelope, json!({"alg": "Ed25519", "kid": KID}), &payload(900, 1100));
        assert_eq!(all(&good, NOW), [""; 0]);
        let header = json!({"alg": "EdDSA", "kid": KID, "typ": "passport+jwt"});
        assert_eq!(all(&found(Form::Jws, header, &payload(900, 1100)), NOW), [""; 0]);
        assert_eq!(needs_daemon(&good.payload), Some(false));
        assert_eq!(needs_daemon(b"{}"), None);
    }

    #[test]
    fn each_fault_has_its_line() {
        let envelope = |header, payload: &str| all(&found(Form::Envelope, header, payload), NOW).join("\n");
        let good = payload(900, 1100);
        for (lines, words) in [
            (envelope(json!({"alg": "none", "kid": KID}), &good), "alg is \"none\"; verifiers take"),
            (envelope(json!({"kid": KID}), &good), "alg is missing"),
            (envelope(json!({"alg": "EdDSA", "kid": "k"}), &good), "kid is \"k\" beside the payload and \"ed25519/"),
            (envelope(json!({"alg": "EdDSA", "kid": KID}), &payload(900, 1000)), "it has expired, now"),
            (envelope(json!({"alg": "EdDSA", "kid": KID}), &payload(900, 940)), "it has expired, 1 min 0 s ago"),
            (envelope(json!({"alg": "EdDSA", "kid": KID}), &payload(1010, 1100)), "it is not valid yet, only in 10 s"),
            (envelope(json!({"alg": "EdDSA", "kid": KID}), &payload(1100, 1100)), "never valid"),
            (envelope(json!({"alg": "EdDSA", "kid": KID}), &good.replace(',', ", ")), "at byte "),
            (
                envelope(json!({"alg": "EdDSA", "kid": KID}), &good.replace("\"aud\"", "\"zud\"")),
                "no canonical payload",
            ),
            (envelope(json!({"alg": "EdDSA", "kid": "x"}), &good.replace(KID, "x")), "a kid reads ed25519/"),
        ] {
            assert!(lines.contains(words) && lines.lines().count() <= 2, "{words}: {lines}");
        }
        let mut short = found(Form::Envelope, json!({"alg": "EdDSA", "kid": KID}), &good);
        short.signature.pop();
        assert_eq!(all(&short, NOW), ["the signature has 63 bytes; Ed25519 has 64"]);
        let header = json!({"alg": "EdDSA", "kid": KID, "typ": "JWT", "jku": "https://x"});
        let lines = all(&found(Form::Jws, header, &good), NOW);
        assert!(lines.len() == 2 && lines[0].contains("typ is \"JWT\"") && lines[1].contains("`jku`"), "{lines:?}");
    }
}
