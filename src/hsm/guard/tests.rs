use base64ct::{Base64UrlUnpadded, Encoding as _};

use super::*;
use crate::hsm::inventory::{Found, Inventory};
use crate::hsm::label::Label;
use crate::hsm::pins::{PinnedKey, Pins};
use crate::passport::{Cap, Claims, hex};

const NOW: i64 = 1_700_000_000;

fn bounds() -> Bounds {
    let tenant = TenantBounds {
        purposes: BTreeSet::from(["auth".to_owned(), "audit".to_owned()]),
        max_ttl_s: 3600,
        rate_per_s: NonZeroU32::new(3),
        namespaces: vec![NamespacePattern::parse("t1/billing/*").unwrap()],
    };
    Bounds {
        issuer: "https://issuer.example".to_owned(),
        tenants: BTreeMap::from([("t1".to_owned(), tenant)]),
        max_iat_drift_s: 60,
    }
}

/// Usable: auth v1 and v2, audit v1. Unusable: auth v3.
fn ring() -> Ring {
    let made = |kid: &str, n: u8, problems: Vec<String>| {
        let public = ed25519_dalek::SigningKey::from_bytes(&[n; 32]).verifying_key().to_bytes();
        let role = Label::parse(kid).unwrap().role;
        let found = Found {
            label: kid.to_owned(),
            role,
            id: vec![n],
            public: Some(public),
            mechanisms_bound: true,
            unsaid: vec![],
            attributes: crate::statement::transcript::Attributes::default(),
            problems,
        };
        let pin = PinnedKey {
            kid: kid.to_owned(),
            label: None,
            role,
            cka_id: hex::encode(&[n]),
            public: Some(hex::encode(&public)),
            created: 0,
            module: String::new(),
            token_serial: String::new(),
            mechanisms_bound: true,
            retired: None,
            compromised: None,
            destroyed: None,
        };
        (found, pin)
    };
    let (keys, pinned) = [
        made("ed25519/t1/auth/v1", 1, vec![]),
        made("ed25519/t1/auth/v2", 2, vec![]),
        made("ed25519/t1/audit/v1", 3, vec![]),
        made("ed25519/t1/auth/v3", 4, vec!["CKA_EXTRACTABLE is set".to_owned()]),
    ]
    .into_iter()
    .unzip();
    Ring::new(Inventory { keys, ..Inventory::default() }, &Pins::of(pinned), "")
}

fn claims() -> Claims {
    Claims {
        iss: "https://issuer.example".to_owned(),
        sub: "alice".to_owned(),
        aud: vec!["api".to_owned()],
        iat: NOW,
        exp: NOW + 3600,
        nbf: None,
        jti: "0190-j".to_owned(),
        scopes: vec![],
        nonce: None,
        ctx: None,
        kid: "ed25519/t1/auth/v1".parse().unwrap(),
        epoch: 0,
        cap: Cap { template: "demo".to_owned(), action: None, limit: None },
        cnf_jkt: None,
        cnf_uid: None,
        par: None,
    }
}

fn judged(message: &[u8]) -> Result<usize, LinkRefusal> {
    judge(message, &ring(), &bounds(), Moment::from_unix(NOW))
}

/// What is said of a payload, which is also what is said of its JWS input.
fn in_both_forms(kid: &str, payload: &[u8]) -> Result<usize, LinkRefusal> {
    let verdict = judged(payload);
    let input = jws::signing_input(KidRef::parse(kid).unwrap(), payload);
    assert_eq!(judged(input.as_bytes()), verdict, "{input}");
    verdict
}

fn verdict(change: impl FnOnce(&mut Claims)) -> Result<usize, LinkRefusal> {
    let mut changed = claims();
    change(&mut changed);
    in_both_forms(&changed.kid.to_string(), &changed.canonical(4096).unwrap())
}

#[test]
fn the_key_is_the_one_that_the_payload_names() {
    assert_eq!(verdict(|_| {}), Ok(0));
    assert_eq!(verdict(|claims| claims.kid = "ed25519/t1/auth/v2".parse().unwrap()), Ok(1));
}

#[test]
fn each_bound_has_its_refusal() {
    let kid = |kid: &'static str| verdict(move |claims| claims.kid = kid.parse().unwrap());
    assert_eq!(kid("ed25519/t1/auth/v3"), Err(LinkRefusal::UnknownKid));
    assert_eq!(kid("ed25519/t1/auth/v9"), Err(LinkRefusal::UnknownKid));
    assert_eq!(kid("ed25519/t2/auth/v1"), Err(LinkRefusal::TenantDenied));
    assert_eq!(kid("ed25519/t1.host7/auth/v1"), Err(LinkRefusal::TenantDenied));
    assert_eq!(kid("ed25519/t1/other/v1"), Err(LinkRefusal::PurposeDenied));
    // Even where the bounds name it by mistake.
    assert_eq!(kid("ed25519/t1/audit/v1"), Err(LinkRefusal::PurposeDenied));
    assert_eq!(kid("ed25519/t1/seal/v1"), Err(LinkRefusal::PurposeDenied));
    assert_eq!(verdict(|claims| claims.iss.push('/')), Err(LinkRefusal::ForeignIssuer));
}

#[test]
fn lifetimes_and_clocks_at_their_edges() {
    let times = |iat: i64, exp: i64, nbf: Option<i64>| {
        verdict(move |claims| {
            claims.iat = NOW + iat;
            claims.exp = NOW + exp;
            claims.nbf = nbf.map(|nbf| NOW + nbf);
        })
    };
    let (lifetime, clock) = (Err(LinkRefusal::LifetimeDenied), Err(LinkRefusal::ClockDenied));
    for (iat, exp, nbf, wanted) in [
        (0, 1, None, Ok(0)),
        (0, 3600, None, Ok(0)),
        (0, 3601, None, lifetime),
        (60, 3660, None, Ok(0)),
        (61, 3600, None, clock),
        (-60, 3540, None, Ok(0)),
        (-61, 3500, None, clock),
        (0, 3600, Some(3599), Ok(0)),
        (0, 3600, Some(-60), Ok(0)),
        (0, 3600, Some(-61), clock),
    ] {
        assert_eq!(times(iat, exp, nbf), wanted, "{iat} {exp} {nbf:?}");
    }
}

/// What the writer would not write.
#[test]
fn payloads_that_end_before_they_begin_are_refused() {
    let good = String::from_utf8(claims().canonical(4096).unwrap()).unwrap();
    let with_exp = |exp: i64| good.replace(&format!("\"exp\":{}", NOW + 3600), &format!("\"exp\":{exp}"));
    let judged = |text: &str| in_both_forms("ed25519/t1/auth/v1", text.as_bytes());
    assert_eq!(judged(&with_exp(NOW)), Err(LinkRefusal::LifetimeDenied));
    assert_eq!(judged(&with_exp(0)), Err(LinkRefusal::LifetimeDenied));
    let late = good.replace("\"scopes\"", &format!("\"nbf\":{},\"scopes\"", NOW + 3600));
    assert_eq!(judged(&late), Err(LinkRefusal::ClockDenied));
}

#[test]
fn only_canonical_passports_are_signed() {
    let good = String::from_utf8(claims().canonical(4096).unwrap()).unwrap();
    assert_eq!(judged(good.as_bytes()), Ok(0));
    for (bytes, wanted) in [
        (good.replacen(':', ": ", 1).into_bytes(), LinkRefusal::NotCanonical),
        (
            good.replace("\"sub\":\"alice\"", "\"sub\":\"alice\",\"sub\":\"bob\"").into_bytes(),
            LinkRefusal::NotCanonical,
        ),
        (format!(" {good}").into_bytes(), LinkRefusal::Malformed),
        (format!("{good} ").into_bytes(), LinkRefusal::Malformed),
        (b"".to_vec(), LinkRefusal::Malformed),
        (b"{}".to_vec(), LinkRefusal::Malformed),
        (good.as_bytes()[..good.len() - 1].to_vec(), LinkRefusal::Malformed),
        // Another protocol's bytes: a JWS input, a probe, a TLS handshake.
        (b"eyJhbGciOiJFZERTQSJ9.e30".to_vec(), LinkRefusal::Malformed),
        (crate::wire::link::PROBE_PREFIX.to_vec(), LinkRefusal::Malformed),
        (vec![0x20; 64], LinkRefusal::Malformed),
        (format!("{{{}", "x".repeat(MAX_PAYLOAD)).into_bytes(), LinkRefusal::Malformed),
    ] {
        assert_eq!(judged(&bytes), Err(wanted), "{}", String::from_utf8_lossy(&bytes));
        assert_eq!(in_both_forms("ed25519/t1/auth/v1", &bytes), Err(wanted));
    }
}

/// Header and payload in base64url, with a point between them.
fn joined(header: &str, payload: &[u8]) -> String {
    [header.as_bytes(), payload].map(Base64UrlUnpadded::encode_string).join(".")
}

#[test]
fn no_header_is_signed_but_the_one_of_the_key() {
    let payload = claims().canonical(4096).unwrap();
    let ours = r#"{"alg":"EdDSA","kid":"ed25519/t1/auth/v1","typ":"passport+jwt"}"#;
    assert_eq!(judged(joined(ours, &payload).as_bytes()), Ok(0));
    for (old, new) in [
        ("EdDSA", "Ed25519"),
        ("EdDSA", "none"),
        ("EdDSA", "HS256"),
        // The other usable key's name, and names of none.
        ("/v1", "/v2"),
        ("/v1", "/v9"),
        ("/v1", "/v01"),
        (r#","kid":"ed25519/t1/auth/v1""#, ""),
        ("passport+jwt", "JWT"),
        ("passport+jwt", "passport-pop+jwt"),
        ("passport+jwt", "dpop+jwt"),
        ("passport+jwt", "PASSPORT+JWT"),
        (r#","typ":"passport+jwt""#, ""),
        (r#""}"#, r#"","x":1}"#),
        (r#""}"#, r#"","b64":false,"crit":["b64"]}"#),
        (r#""kid""#, r#""jwk":{},"kid""#),
        (r#""kid""#, r#""kid":"ed25519/t1/auth/v1","kid""#),
        (r#""alg":"EdDSA","kid":"ed25519/t1/auth/v1""#, r#""kid":"ed25519/t1/auth/v1","alg":"EdDSA""#),
        (",", ", "),
        ("EdDSA", r"Ed\u0044SA"),
        (ours, "{}"),
        (ours, ""),
        (ours, r#""EdDSA""#),
    ] {
        assert!(ours.contains(old));
        let header = ours.replacen(old, new, 1);
        assert_eq!(judged(joined(&header, &payload).as_bytes()), Err(LinkRefusal::Malformed), "{header}");
    }
}

#[test]
fn nothing_is_both_a_payload_and_a_jws_input_and_nothing_is_neither() {
    let payload = claims().canonical(4096).unwrap();
    let input = jws::signing_input(claims().kid.borrowed(), &payload);
    let (header, encoded) = input.split_once('.').unwrap();
    let text = std::str::from_utf8(&payload).unwrap();
    assert_eq!(judged(input.as_bytes()), Ok(0));
    for other in [
        header.to_owned(),
        format!("{header}."),
        format!("{header}.{text}"),
        format!("{header}{encoded}"),
        format!("{header}..{encoded}"),
        format!(".{encoded}"),
        format!("{input}."),
        format!("{input}.{}", Base64UrlUnpadded::encode_string(&[7; 64])),
        format!("{input}{text}"),
        format!("{input}\n"),
        format!("{input}="),
        format!("{input}\0"),
        format!(" {input}"),
        format!("{text}{input}"),
        format!("{text}.{encoded}"),
        format!("{encoded}.{header}"),
        format!("{encoded}.{encoded}"),
        format!("\"{input}\""),
        input.replace('.', ","),
        jws::OPENING.to_owned(),
        format!("{}.", jws::OPENING),
    ] {
        assert_eq!(judged(other.as_bytes()), Err(LinkRefusal::Malformed), "{other}");
    }
    // Inside it is judged as it is outside.
    let spaced = text.replacen(':', ": ", 1);
    assert_eq!(in_both_forms("ed25519/t1/auth/v1", spaced.as_bytes()), Err(LinkRefusal::NotCanonical));
}

/// Every byte of an input, changed to every character of base64url and to some that are none.
#[test]
fn an_input_that_was_changed_is_the_input_of_another_good_payload_or_not_signed() {
    let (ring, bounds, now) = (ring(), bounds(), Moment::from_unix(NOW));
    let judged = |message: &[u8]| judge(message, &ring, &bounds, now);
    let payload = claims().canonical(4096).unwrap();
    let input = jws::signing_input(claims().kid.borrowed(), &payload);
    let (header, _) = input.split_once('.').unwrap();
    let characters = (b'0'..=b'9').chain(b'A'..=b'Z').chain(b'a'..=b'z').chain(*b"-_.+/=~ \n\0\x80\xff");
    let (mut signed, mut tried) = (0, 0);
    for (at, byte) in (0..input.len()).flat_map(|at| characters.clone().map(move |byte| (at, byte))) {
        let mut changed = input.clone().into_bytes();
        if std::mem::replace(&mut changed[at], byte) == byte {
            continue;
        }
        tried += 1;
        let Ok(position) = judged(&changed) else { continue };
        signed += 1;
        let (same, other) = std::str::from_utf8(&changed).unwrap().split_once('.').unwrap();
        let other = Base64UrlUnpadded::decode_vec(other).unwrap();
        assert!(same == header && other != payload && judged(&other) == Ok(position), "byte {at}");
    }
    println!("{signed} of {tried} are inputs of other payloads");
    assert!(signed > 100 && signed < tried / 10, "{signed} of {tried}");
}

#[test]
fn the_largest_payload_is_signed_in_either_form_and_no_larger_one() {
    let filled = |bytes: usize| {
        let with = |fill: usize| {
            let ctx = serde_json::json!({"fill": "x".repeat(fill)});
            Claims { ctx: ctx.as_object().cloned(), ..claims() }.canonical(2 * MAX_PAYLOAD).unwrap()
        };
        with(bytes - with(0).len())
    };
    for (bytes, verdict) in [(MAX_PAYLOAD, Ok(0)), (MAX_PAYLOAD + 1, Err(LinkRefusal::Malformed))] {
        let payload = filled(bytes);
        assert_eq!(payload.len(), bytes);
        assert_eq!(in_both_forms("ed25519/t1/auth/v1", &payload), verdict, "{bytes}");
    }
}

#[test]
fn each_key_has_its_own_rate() {
    let (rates, bounds) = (Rates::default(), bounds());
    let spend = |kid: &str| rates.spend(kid, &bounds);
    for _ in 0..3 {
        assert_eq!(spend("ed25519/t1/auth/v1"), Ok(()));
    }
    assert_eq!(spend("ed25519/t1/auth/v1"), Err(LinkRefusal::RateLimited));
    assert_eq!(spend("ed25519/t1/auth/v2"), Ok(()));
}
