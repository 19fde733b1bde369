//! What of a statement can be checked, and what can't.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::signature;
use crate::cli::inspect::span;
use crate::cli::text;
use crate::clock::Moment;
use crate::passport::{Jwk, Kid, etag, hex, jwks};
use crate::statement::VerifierKey;

/// The kind of statement that is known here.
pub(super) const TYPE: &str = "passportd/attestation/v1";
/// A clock that differs by less is not worth a line.
const SKEW_S: i64 = 60;
/// Roles and states of keys, and which states are published.
const ROLES: [&str; 3] = ["passport", "audit", "seal"];
const STATES: [&str; 6] = ["staged", "active", "retired", "expired", "compromised", "destroyed"];
const PUBLISHED: [&str; 3] = ["staged", "active", "retired"];

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The two agree.
    Holds,
    /// They don't.
    Contradicted,
    /// There is nothing to compare with.
    NotChecked,
}

impl Outcome {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Contradicted => "contradicted",
            Self::NotChecked => "not_checked",
        }
    }
}

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) outcome: Outcome,
    pub(super) detail: String,
}

/// A key set, and whose it is.
pub(super) struct KeySet {
    pub(super) from: String,
    pub(super) jwks: Vec<u8>,
    pub(super) keys: Vec<Jwk>,
}

/// The daemon's configuration as it is read here.
pub(super) struct Configured {
    pub(super) file: String,
    pub(super) hash: [u8; 32],
    pub(super) issuer: String,
    pub(super) dir: String,
    /// The policy's hash, or why it can't be read.
    pub(super) policy: Result<[u8; 32], String>,
}

/// Everything that a statement is compared with.
pub(super) struct Against {
    pub(super) keys: KeySet,
    /// The running daemon's own, where it was asked.
    pub(super) issuer: Option<String>,
    pub(super) configured: Option<Configured>,
    /// Audit keys that may have signed it.
    pub(super) audit_keys: Vec<VerifierKey>,
}

fn check(name: &'static str, holds: Result<String, String>) -> Check {
    match holds {
        Ok(detail) => Check { name, outcome: Outcome::Holds, detail },
        Err(detail) => Check { name, outcome: Outcome::Contradicted, detail },
    }
}

fn unchecked(name: &'static str, detail: impl Into<String>) -> Check {
    Check { name, outcome: Outcome::NotChecked, detail: detail.into() }
}

/// Every check, in the order in which they are read.
pub(super) fn all(statement: &Value, against: &Against, now: Moment) -> Vec<Check> {
    let mut checks = vec![check("form", form(statement)), check("time", time(statement, now))];
    checks.push(signature::check(statement, &against.audit_keys));
    checks.push(check("keys", own_keys(statement)));
    checks.push(check("key set", against_set(statement, &against.keys)));
    checks.push(issuer(statement, against));
    checks.extend(configuration(statement, against.configured.as_ref()));
    checks
}

/// Whether a known key's signature fits it.
pub(super) fn is_signed(checks: &[Check]) -> bool {
    checks.iter().any(|check| check.name == "signature" && check.outcome == Outcome::Holds)
}

/// What stays open, whatever the checks say.
pub(super) fn unproven(checks: &[Check]) -> Vec<String> {
    let mut open = vec![
        "what runs: version, mode and sandbox are its own words".to_owned(),
        "the audit head: it was not compared with the ledger".to_owned(),
    ];
    if !is_signed(checks) {
        open.insert(0, "who made it: anybody could have written it".to_owned());
        open.insert(1, "when it was made: `at` is its own word".to_owned());
    }
    let not = checks.iter().filter(|check| check.outcome == Outcome::NotChecked && check.name != "signature");
    open.extend(not.map(|check| format!("{}: {}", check.name, check.detail)));
    open
}

fn text_at<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str()
}

fn is_hash(value: Option<&Value>) -> bool {
    value.and_then(Value::as_str).and_then(hex::decode_exactly::<32>).is_some()
}

/// Members and their kinds.
fn form(statement: &Value) -> Result<String, String> {
    let at = |pointer: &str| statement.pointer(pointer);
    let is_text = |pointer: &str| text_at(statement, pointer).is_some_and(|text| !text.is_empty());
    let is_count = |pointer: &str| at(pointer).is_some_and(Value::is_u64);
    let members = [
        ("signed", at("/signed").is_some_and(Value::is_boolean), "true or false"),
        ("at", at("/at").is_some_and(Value::is_i64), "seconds since 1970"),
        ("version", is_text("/version"), "text"),
        ("wire", is_count("/wire"), "a number"),
        ("issuer", is_text("/issuer"), "text"),
        ("mode", is_text("/mode"), "text"),
        ("config_hash", is_hash(at("/config_hash")), "64 hexadecimal digits"),
        ("policy_hash", is_hash(at("/policy_hash")), "64 hexadecimal digits"),
        ("jwks_etag", is_hash(at("/jwks_etag")), "64 hexadecimal digits"),
        ("keys", at("/keys").is_some_and(Value::is_array), "a list"),
        ("audit_head.seq", is_count("/audit_head/seq"), "a number"),
        ("audit_head.hash", is_hash(at("/audit_head/hash")), "64 hexadecimal digits"),
        ("sandbox", at("/sandbox").is_some_and(Value::is_object), "an object"),
    ];
    let wrong: Vec<_> =
        members.iter().filter(|(_, good, _)| !good).map(|(name, _, kind)| format!("{name} is not {kind}")).collect();
    if wrong.is_empty() { Ok(TYPE.to_owned()) } else { Err(wrong.join("; ")) }
}

fn time(statement: &Value, now: Moment) -> Result<String, String> {
    let at = statement.get("at").and_then(Value::as_i64).ok_or("at is no time")?;
    let age = now.unix().saturating_sub(at);
    let said = text::time(at);
    if age < -SKEW_S {
        return Err(format!("{said} is in the future, by {}", span(age.unsigned_abs())));
    }
    Ok(format!("it says {said}, {} ago", span(age.max(0).unsigned_abs())))
}

/// Keys that the statement calls published, as a key set has them.
fn published(statement: &Value) -> Result<Vec<Jwk>, String> {
    let mut keys = Vec::new();
    let mut kids = BTreeSet::new();
    for key in statement.get("keys").and_then(Value::as_array).into_iter().flatten() {
        let member = |name: &str| key.get(name).and_then(Value::as_str).unwrap_or_default();
        let (kid, role, state) = (member("kid"), member("role"), member("state"));
        if !ROLES.contains(&role) || !STATES.contains(&state) {
            return Err(format!("{kid}: role \"{role}\" or state \"{state}\" is unknown"));
        }
        if !kids.insert(kid) {
            return Err(format!("{kid} stands twice"));
        }
        if role == "passport" && PUBLISHED.contains(&state) {
            let public = hex::decode_exactly(member("public")).ok_or_else(|| format!("{kid} has no public key"))?;
            let name = kid.parse().map_err(|error| format!("{kid}: {error}"))?;
            let created = key.get("created").and_then(Value::as_i64);
            keys.push(Jwk { current: Some(state == "active"), created, ..Jwk::new(name, public) });
        }
    }
    Ok(keys)
}

/// Whether the keys in it give the ETag in it.
fn own_keys(statement: &Value) -> Result<String, String> {
    let keys = published(statement)?;
    let tag_of = |keys: &[Jwk]| hex::encode(&etag(&jwks(keys)));
    let (tag, said) = (tag_of(&keys), text_at(statement, "/jwks_etag").unwrap_or_default());
    // A daemon of before said nothing of its keys beside the standard members.
    let bare = || keys.iter().map(|key| Jwk::new(key.kid.clone(), key.public)).collect::<Vec<_>>();
    if tag == said || tag_of(&bare()) == said {
        Ok(format!("the {} published keys give its jwks_etag {said}", keys.len()))
    } else {
        Err(format!("its keys give the ETag {tag}, but its jwks_etag is {said}"))
    }
}

/// Whether a key set from elsewhere is the one that the statement speaks of.
fn against_set(statement: &Value, set: &KeySet) -> Result<String, String> {
    let tag = hex::encode(&etag(&set.jwks));
    let said = text_at(statement, "/jwks_etag").unwrap_or_default();
    if tag == said {
        return Ok(format!("jwks_etag is that of {}", set.from));
    }
    let stated = published(statement).unwrap_or_default();
    let by_kid = |keys: &[Jwk]| keys.iter().map(|key| (key.kid.clone(), key.public)).collect::<BTreeMap<_, _>>();
    let (ours, theirs) = (by_kid(&stated), by_kid(&set.keys));
    let missing = |from: &BTreeMap<Kid, [u8; 32]>, other: &BTreeMap<Kid, [u8; 32]>| {
        from.keys().filter(|kid| !other.contains_key(*kid)).map(ToString::to_string).collect::<Vec<_>>()
    };
    let changed = ours.iter().filter(|(kid, public)| theirs.get(*kid).is_some_and(|other| other != *public));
    let lists = [
        ("only in the statement", missing(&ours, &theirs)),
        ("only there", missing(&theirs, &ours)),
        ("with another public key", changed.map(|(kid, _)| kid.to_string()).collect()),
    ];
    let differ: Vec<_> = lists
        .into_iter()
        .filter(|(_, kids)| !kids.is_empty())
        .map(|(what, kids)| format!("{what}: {}", kids.join(" ")))
        .collect();
    let differ =
        if differ.is_empty() { "the same keys, of which something else is said".to_owned() } else { differ.join("; ") };
    Err(format!("jwks_etag is {said}, but {} has {tag} ({differ})", set.from))
}

fn issuer(statement: &Value, against: &Against) -> Check {
    let said = text_at(statement, "/issuer").unwrap_or_default();
    let known = against.issuer.as_ref().or(against.configured.as_ref().map(|configured| &configured.issuer));
    match known {
        None => unchecked("issuer", "no daemon was asked, and no --config FILE given"),
        Some(known) if known == said => check("issuer", Ok(said.to_owned())),
        Some(known) => check("issuer", Err(format!("it says {said}, but here it is {known}"))),
    }
}

fn configuration(statement: &Value, configured: Option<&Configured>) -> [Check; 2] {
    let Some(configured) = configured else {
        return ["config", "policy"].map(|name| unchecked(name, "no --config FILE was given to compare with"));
    };
    let compare = |pointer: &str, hash: &[u8; 32], from: &str| {
        let (said, hash) = (text_at(statement, pointer).unwrap_or_default(), hex::encode(hash));
        if said == hash {
            Ok(format!("{hash}, as {from}"))
        } else {
            Err(format!(
                "it says {said}, but {from} gives {hash} (changed since, not reloaded, or overridden by PASSPORT_ variables)"
            ))
        }
    };
    let policy = match &configured.policy {
        Ok(hash) => check("policy", compare("/policy_hash", hash, &configured.dir)),
        Err(why) => unchecked("policy", format!("it can't be read here: {why}")),
    };
    [check("config", compare("/config_hash", &configured.hash, &configured.file)), policy]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Moment = Moment::from_unix(1_700_000_090);

    fn key(version: u64, byte: u8) -> Jwk {
        let kid = Kid::new("t1", "auth", version).unwrap();
        Jwk { current: Some(version == 1), created: Some(1), ..Jwk::new(kid, [byte; 32]) }
    }

    fn keys() -> Vec<Jwk> {
        vec![key(1, 1), key(2, 2)]
    }

    fn set(keys: Vec<Jwk>) -> KeySet {
        KeySet { from: "jwks.json".into(), jwks: jwks(&keys), keys }
    }

    fn against() -> Against {
        let configured = Configured {
            file: "p.toml".into(),
            hash: [3; 32],
            issuer: "host.example".into(),
            dir: "policy.d".into(),
            policy: Ok([4; 32]),
        };
        Against { keys: set(keys()), issuer: None, configured: Some(configured), audit_keys: Vec::new() }
    }

    fn statement() -> Value {
        let key = |kid: &str, role: &str, state: &str, public: Value| json!({"kid": kid, "role": role, "state": state, "public": public, "created": 1});
        json!({
            "type": TYPE, "signed": false, "at": 1_700_000_000, "version": "0.1.0", "wire": 1, "issuer": "host.example",
            "mode": "hsm", "config_hash": "03".repeat(32), "policy_hash": "04".repeat(32),
            "jwks_etag": hex::encode(&etag(&set(keys()).jwks)),
            "keys": [
                key("ed25519/t1/auth/v1", "passport", "active", json!("01".repeat(32))),
                key("ed25519/t1/auth/v2", "passport", "staged", json!("02".repeat(32))),
                key("ed25519/t1/auth/v0", "passport", "destroyed", json!("05".repeat(32))),
                key("ed25519/t1/seal/v1", "seal", "active", Value::Null),
            ],
            "audit_head": {"seq": 7, "hash": "06".repeat(32)}, "sandbox": {"landlock": "full"},
        })
    }

    fn outcomes(statement: &Value, against: &Against) -> Vec<(&'static str, Outcome)> {
        all(statement, against, NOW).iter().map(|check| (check.name, check.outcome)).collect()
    }

    #[test]
    fn a_statement_that_fits_is_not_contradicted_and_not_proven() {
        let checks = all(&statement(), &against(), NOW);
        let open: Vec<_> = checks.iter().filter(|check| check.outcome != Outcome::Holds).collect();
        assert!(open.len() == 1 && open[0].name == "signature", "{open:?}");
        assert_eq!(checks[1].detail, "it says 2023-11-14T22:13:20Z (1700000000), 1 min 30 s ago");
        let unproven = unproven(&checks);
        assert!(unproven.len() == 4 && unproven[0].contains("anybody could have written it"), "{unproven:?}");
        let alone = Against { configured: None, ..against() };
        let not: Vec<_> =
            outcomes(&statement(), &alone).into_iter().filter(|one| one.1 == Outcome::NotChecked).collect();
        assert_eq!(not.len(), 4, "{not:?}");
    }

    #[test]
    fn whatever_is_changed_is_contradicted() {
        let changed = |pointer: &str, value: Value| {
            let mut one = statement();
            *one.pointer_mut(pointer).unwrap() = value;
            let all = outcomes(&one, &against()).into_iter();
            all.filter(|(_, outcome)| *outcome == Outcome::Contradicted).map(|(name, _)| name).collect::<Vec<_>>()
        };
        for (pointer, value, names) in [
            ("/signed", json!("no"), &["form", "signature"][..]),
            ("/wire", json!("1"), &["form"]),
            ("/at", json!(1_800_000_000), &["time"]),
            ("/config_hash", json!("00".repeat(32)), &["config"]),
            ("/policy_hash", json!("00".repeat(32)), &["policy"]),
            ("/jwks_etag", json!("00".repeat(32)), &["keys", "key set"]),
            ("/jwks_etag", json!("xy"), &["form", "keys", "key set"]),
            ("/issuer", json!("other.example"), &["issuer"]),
            ("/keys/0/public", json!("09".repeat(32)), &["keys"]),
            ("/keys/0/state", json!("destroyed"), &["keys"]),
            ("/keys/0/state", json!("retired"), &["keys"]),
            ("/keys/0/created", json!(2), &["keys"]),
            ("/keys/0/state", json!("glorious"), &["keys"]),
            ("/keys/1/kid", json!("ed25519/t1/auth/v1"), &["keys"]),
            ("/keys/2/state", json!("active"), &["keys"]),
            ("/audit_head/hash", json!(null), &["form"]),
        ] {
            assert_eq!(changed(pointer, value), names, "{pointer}");
        }
    }

    #[test]
    fn other_keys_are_named() {
        let why = against_set(&statement(), &set(vec![key(1, 9), key(3, 3)])).unwrap_err();
        for words in [
            "only in the statement: ed25519/t1/auth/v2",
            "only there: ed25519/t1/auth/v3",
            "with another public key: ed25519/t1/auth/v1",
        ] {
            assert!(why.contains(words), "{why}");
        }
        let rotated = set(vec![key(1, 1), Jwk { current: Some(true), ..key(2, 2) }]);
        let why = against_set(&statement(), &rotated).unwrap_err();
        assert!(why.contains("the same keys, of which something else is said"), "{why}");
    }
}
