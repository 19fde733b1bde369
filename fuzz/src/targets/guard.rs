//! The signer's side of the link: what the front may ask, and what the guard lets a passport key sign.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use passportd::clock::Moment;
use passportd::hsm::guard::{MAX_PAYLOAD, judge};
use passportd::hsm::inventory::{Found, Inventory};
use passportd::hsm::label::Label;
use passportd::hsm::pins::{PinnedKey, Pins};
use passportd::hsm::ring::Ring;
use passportd::hsm::{Bounds, TenantBounds};
use passportd::passport::jws::signing_input;
use passportd::passport::{KidRef, hex, scan};
use passportd::statement::transcript::Attributes;
use passportd::wire::link::{KeyRole, LinkHello, LinkOp, LinkRequest};
use passportd::wire::{HEADER, WIRE_VERSION, WireError, decode, encode_frame, peek_id};

use super::jws::headers;
use super::messages::recoded;
use super::passports::canonical_tree;

const NOW: i64 = 1_700_000_000;
const DRIFT: i64 = 60;
const MAX_TTL: i64 = 3600;
const ISSUER: &str = "https://issuer.example";

/// Valid Ed25519 public keys: those of RFC 8032 §7.1, tests 1 to 3, and of the 1023-byte one.
const PUBLIC: [&str; 4] = [
    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
    "278117fc144c72340f67d0f2316e8386ceffbf2b2428c9c51fef7c597f1d426e",
];

static BOUNDS: LazyLock<Bounds> = LazyLock::new(|| {
    // `audit` stands there by mistake; the guard must know better.
    let purposes = ["auth", "audit", "seal"].map(str::to_owned);
    let tenant = TenantBounds {
        purposes: BTreeSet::from(purposes),
        max_ttl_s: MAX_TTL,
        rate_per_s: None,
        namespaces: Vec::new(),
    };
    let tenants = BTreeMap::from([("t1".to_owned(), tenant.clone()), ("t1.host7".to_owned(), tenant)]);
    Bounds { issuer: ISSUER.to_owned(), tenants, max_iat_drift_s: DRIFT }
});

/// Usable: auth v1 of t1 and of t1.host7, audit v1. Not: auth v2.
static RING: LazyLock<Ring> = LazyLock::new(|| {
    let kids = ["ed25519/t1/auth/v1", "ed25519/t1.host7/auth/v1", "ed25519/t1/audit/v1", "ed25519/t1/auth/v2"];
    let made = kids.iter().zip(PUBLIC).enumerate().map(|(n, (kid, public))| {
        let role = Label::parse(kid).unwrap().role;
        let problems = if n == 3 { vec!["CKA_EXTRACTABLE is set".to_owned()] } else { Vec::new() };
        let id = vec![u8::try_from(n).unwrap()];
        let pin = PinnedKey {
            kid: (*kid).to_owned(),
            label: None,
            role,
            cka_id: hex::encode(&id),
            public: Some(public.to_owned()),
            created: 0,
            module: String::new(),
            token_serial: String::new(),
            mechanisms_bound: true,
            retired: None,
            compromised: None,
            destroyed: None,
        };
        let public = hex::decode_exactly(public);
        let (label, attributes) = ((*kid).to_owned(), Attributes::default());
        (Found { label, role, id, public, mechanisms_bound: true, unsaid: vec![], attributes, problems }, pin)
    });
    let (keys, pins) = made.unzip();
    let ring = Ring::new(Inventory { keys, ..Inventory::default() }, &Pins::of(pins), "");
    assert_eq!(ring.keys().iter().filter(|key| key.usable()).count(), 3);
    ring
});

/// A body that the front sends, and its bytes as a payload or the JWS input of one: what the guard admits is canonical and
/// inside the bounds, by the word of a JSON tree. What it says of a payload, it says of its JWS input.
pub fn link_signer(bytes: &[u8]) {
    if bytes.first() == Some(&WIRE_VERSION) {
        recoded!(LinkHello<'_>, bytes);
        if let Some(LinkRequest { id, op }) = recoded!(LinkRequest<'_>, bytes) {
            assert_eq!(peek_id(bytes), id);
            if let LinkOp::Sign { payload } = op {
                admitted(payload);
            }
        }
    }
    admitted(bytes);
    if let Some(kid) = scan(bytes).ok().and_then(|view| KidRef::parse(view.kid).ok()) {
        let input = signing_input(kid, bytes);
        let both = [bytes, input.as_bytes()].map(|one| judge(one, &RING, &BOUNDS, Moment::from_unix(NOW)));
        assert_eq!(both[0], both[1], "{input}");
        admitted(input.as_bytes());
    }
    // No text panics the reader of labels, and a label that is read has one spelling.
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Some(label) = Label::parse(text)
    {
        assert!(Label::claims(text), "{text}");
        let written = passportd::hsm::label::label(label.role, label.tenant, label.purpose, label.version).unwrap();
        assert_eq!(written, text);
    }
}

/// The payload in a JWS input, whose header is the one of its key and whose algorithm is the one that is written.
fn inside(input: &[u8]) -> Vec<u8> {
    let (header, payload) = std::str::from_utf8(input).unwrap().split_once('.').unwrap();
    let [header, payload] = [header, payload].map(|part| Base64UrlUnpadded::decode_vec(part).unwrap());
    let kid = canonical_tree(&payload).unwrap()["kid"].as_str().unwrap().to_owned();
    assert_eq!(header, headers(&kid)[0].as_bytes());
    payload
}

fn admitted(message: &[u8]) {
    let Ok(position) = judge(message, &RING, &BOUNDS, Moment::from_unix(NOW)) else { return };
    let payload = if message.starts_with(b"eyJ") { &*inside(message) } else { message };
    assert!(payload.len() <= MAX_PAYLOAD);
    let tree = canonical_tree(payload).expect("only canonical payloads are signed");
    assert_eq!(tree["iss"].as_str(), Some(ISSUER));
    let key = RING.get(position).unwrap();
    assert_eq!(tree["kid"].as_str(), Some(key.kid.as_str()), "the key is the one that the payload names");
    assert!(key.usable() && key.role == KeyRole::Passport, "{}", key.kid);
    let time = |member: &str| tree[member].as_i64();
    let (iat, exp) = (time("iat").unwrap(), time("exp").unwrap());
    assert!((1..=MAX_TTL).contains(&(exp - iat)) && (iat - NOW).abs() <= DRIFT, "iat {iat}, exp {exp}");
    assert!(time("nbf").is_none_or(|nbf| nbf < exp && nbf >= iat - DRIFT), "{tree}");
    // What is signed is what verifiers read, and it travels.
    assert!(scan(payload).is_ok());
    let mut frame = Vec::new();
    encode_frame(&LinkRequest { id: 1, op: LinkOp::Sign { payload: message } }, &mut frame).unwrap();
    assert!(decode::<LinkRequest<'_>>(&frame[HEADER..]).is_ok());
}
