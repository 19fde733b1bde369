//! JOSE libraries of other hands, asked.

use std::collections::BTreeMap;
use std::process::Command;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};
use serde_json::{Value, json};

/// Those that `scripts/interop` asks.
const OTHERS: [&str; 5] = ["PyJWT", "fast-jwt", "jose", "joserfc", "jwcrypto"];
/// `scripts/interop` says so when it can't download them.
const OFFLINE: i32 = 75;
/// And so where there is nothing to run them.
const NO_TOOLS: i32 = 69;

/// Which of the texts a library accepts, by name.
pub(crate) type Said = BTreeMap<String, bool>;

/// Texts by name.
pub(crate) type Cases = BTreeMap<&'static str, String>;

/// Nothing but `ours` is to be accepted; `alg_ed25519` may be, which `docs/INTEROP.md` says of each.
pub(crate) fn holds(library: &str, said: &Said) {
    let page = include_str!("../../docs/INTEROP.md");
    let row = page.lines().find(|line| line.starts_with(&format!("| {library} "))).expect(library);
    let newer = row.ends_with("| yes | yes |");
    assert!(newer || row.ends_with("| yes | no |"), "{row}");
    assert!(said.contains_key("ours"), "{said:?}");
    for (case, accepted) in said {
        let expected = case == "ours" || (case == "alg_ed25519" && newer);
        assert_eq!(*accepted, expected, "{library}: {case}");
    }
}

/// What jsonwebtoken says, in this process.
pub(crate) fn by_jsonwebtoken(keys: &[u8], (issuer, audience): (&str, &str), cases: &Cases) -> Said {
    let keys: JwkSet = serde_json::from_slice(keys).unwrap();
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[audience]);
    let accepts = |text: &str| {
        let kid = jsonwebtoken::decode_header(text).ok()?.kid?;
        let key = DecodingKey::from_jwk(keys.find(&kid)?).ok()?;
        jsonwebtoken::decode::<Value>(text, &key, &validation).ok()
    };
    cases.iter().map(|(name, text)| ((*name).to_owned(), accepts(text).is_some())).collect()
}

/// What the libraries of Python and node say, by their names; or why they can't be had.
pub(crate) fn by_others(
    keys: &[u8],
    (issuer, audience): (&str, &str),
    sub: &str,
    cases: &Cases,
) -> Result<BTreeMap<String, Said>, String> {
    let keys: Value = serde_json::from_slice(keys).unwrap();
    let input = json!({"jwks": keys, "issuer": issuer, "audience": audience, "sub": sub, "cases": cases});
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cases.json");
    std::fs::write(&file, input.to_string()).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/interop");
    let run = Command::new(script).arg(&file).output().unwrap();
    let (text, errors) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    let why = match run.status.code() {
        Some(OFFLINE) => Some("JOSE libraries of others can't be downloaded"),
        Some(NO_TOOLS) => Some("there is no python3, node or npm"),
        _ => None,
    };
    if let Some(why) = why {
        return Err(format!("{why}: {}", errors.lines().last().unwrap_or_default()));
    }
    assert!(run.status.success(), "{text}{errors}");
    let mut said: BTreeMap<String, Said> = BTreeMap::new();
    for line in text.lines() {
        let [library, case, verdict] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        said.entry(library.to_owned()).or_default().insert(case.to_owned(), verdict == "accepted");
    }
    assert!(said.keys().eq(OTHERS.iter()), "{text}{errors}");
    assert!(said.values().all(|said| said.keys().eq(cases.keys())), "{text}{errors}");
    Ok(said)
}
