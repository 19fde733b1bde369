use ed25519_dalek::{Signature, Signer as _, SigningKey};

use super::{
    super::{
        bounds::{MAX_INTEGER, MAX_PAYLOAD},
        claims::{Claims, tests as samples},
        kid::{Kid, MAX_PART},
        scan::is_canonical,
    },
    *,
};

const HEADER: &str = r#"{"alg":"EdDSA","kid":"ed25519/t1.host7/auth/v3","typ":"passport+jwt"}"#;

fn base64(bytes: impl AsRef<[u8]>) -> String {
    Base64UrlUnpadded::encode_string(bytes.as_ref())
}

fn payload() -> Vec<u8> {
    samples::full().canonical(4096).unwrap()
}

/// A passport as JWS. The signature is none.
fn text() -> String {
    compact(signing_input(samples::full().kid.borrowed(), &payload()), &[7; 64])
}

/// The same under another header.
fn under(header: impl AsRef<[u8]>) -> String {
    [base64(header), base64(payload()), base64([7; 64])].join(".")
}

/// Why a text is no passport, if it is none.
fn refusal(text: &str) -> Option<Refusal> {
    let mut buffer = Vec::new();
    Jws::parse(text).and_then(|jws| jws.open(&mut Room::new(&mut buffer, [text])).map(drop)).err()
}

#[test]
fn the_text_is_exactly_this() {
    let text = text();
    let parts: Vec<_> = text.split('.').map(|part| Base64UrlUnpadded::decode_vec(part).unwrap()).collect();
    assert_eq!(parts, [HEADER.as_bytes(), &payload(), &[7; 64]]);
    assert_eq!(is_canonical(HEADER.as_bytes()), Ok(()));
    assert!(text.starts_with(OPENING));
}

#[test]
fn a_jws_opens_to_what_was_put_in() {
    for header in [HEADER, &HEADER.replace("EdDSA", "Ed25519")] {
        let (text, payload, mut buffer) = (under(header), payload(), Vec::new());
        let jws = Jws::parse(&text).unwrap();
        assert_eq!(jws.payload_len(), payload.len());
        let opened = jws.open(&mut Room::new(&mut buffer, [&*text])).unwrap();
        assert_eq!(opened.view.to_claims().unwrap(), samples::full());
        assert_eq!((opened.kid, opened.payload, opened.sig), (samples::full().kid.borrowed(), &*payload, &[7; 64]));
        assert_eq!(opened.msg, text.rsplit_once('.').unwrap().0.as_bytes());
    }
}

#[test]
fn exactly_two_algorithms_are_accepted() {
    for alg in ["", "none", "None", "eddsa", "ed25519", "EdDSA ", "Ed448", "ES256", "HS256", "RS256", "Ed25519ph"] {
        assert_eq!(refusal(&under(HEADER.replace("EdDSA", alg))), Some(Refusal::BadAlg), "{alg:?}");
    }
    // Whatever else such a header says.
    for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS256","typ":"JWT"}"#, r#"{"alg":"ES256","crit":["exp"]}"#] {
        assert_eq!(refusal(&under(header)), Some(Refusal::BadAlg), "{header}");
    }
}

#[test]
fn the_kid_of_the_header_must_be_the_kid_inside() {
    for kid in ["", "ed25519/t1.host7/auth/v4", "ed25519/t1.host7/auth/v30", "ed25519/t1.host7/auth/v03", r"\u0065"] {
        let header = HEADER.replace("ed25519/t1.host7/auth/v3", kid);
        assert_eq!(refusal(&under(&header)), Some(Refusal::BadKid), "{kid:?}");
    }
    // The same on both sides, and still not a kid.
    let both = |text: &str| text.replace("/v3", "/v03");
    let other = both(std::str::from_utf8(&payload()).unwrap());
    let text = [base64(both(HEADER)), base64(other), base64([7; 64])].join(".");
    assert_eq!(refusal(&text), Some(Refusal::BadKid));
}

#[test]
fn every_other_header_is_malformed() {
    let cases = [
        // Explicit typing (RFC 8725 §3.11): what is signed for another purpose is no passport.
        ("passport+jwt", "JWT"),
        ("passport+jwt", "jwt"),
        ("passport+jwt", "passport-pop+jwt"),
        ("passport+jwt", "dpop+jwt"),
        ("passport+jwt", "application/passport+jwt"),
        ("passport+jwt", "Passport+jwt"),
        ("passport+jwt", ""),
        (r#","typ":"passport+jwt""#, ""),
        (r#""passport+jwt""#, "null"),
        (r#","kid":"ed25519/t1.host7/auth/v3""#, ""),
        (r#""alg":"EdDSA","#, ""),
        (r#""EdDSA""#, "null"),
        (r#""EdDSA""#, r#"["EdDSA"]"#),
        // Members that other libraries act on.
        (r#""}"#, r#"","crit":["exp"]}"#),
        (r#""}"#, r#"","b64":false,"crit":["b64"]}"#),
        (r#""}"#, r#"","x5c":[]}"#),
        (r#""}"#, r#"","x5u":"https://x.example"}"#),
        (r#""}"#, r#"","x":1}"#),
        (r#""kid""#, r#""jku":"https://x.example","kid""#),
        (r#""kid""#, r#""jwk":{"crv":"Ed25519","kty":"OKP","x":""},"kid""#),
        (r#""kid""#, r#""cty":"JWT","kid""#),
        (r#""kid""#, r#""enc":"A256GCM","kid""#),
        // The same members, twice or otherwise written.
        (r#""kid""#, r#""alg":"EdDSA","kid""#),
        (r#""kid""#, r#""kid":"ed25519/t1.host7/auth/v3","kid""#),
        (r#""}"#, r#"","typ":"passport+jwt"}"#),
        (r#""alg":"EdDSA","kid":"ed25519/t1.host7/auth/v3""#, r#""kid":"ed25519/t1.host7/auth/v3","alg":"EdDSA""#),
        (r#""alg""#, r#""al\u0067""#),
        (r#""typ""#, r#""Typ""#),
        (":", ": "),
        (",", ",\n"),
        ("{", " {"),
        ("}", "} "),
        ("}", "}{}"),
        ("}", "}\0"),
        ("}", ""),
        (HEADER, "{}"),
        (HEADER, ""),
        (HEADER, "[]"),
        (HEADER, "null"),
        ("{", "\u{feff}{"),
    ];
    for (old, new) in cases {
        assert!(HEADER.contains(old), "{old}");
        let header = HEADER.replacen(old, new, 1);
        assert_eq!(refusal(&under(&header)), Some(Refusal::Malformed), "{header}");
    }
    assert_eq!(refusal(&under([b"{\"alg\":\"EdDSA\xff".as_slice()].concat())), Some(Refusal::Malformed));
}

#[test]
fn every_other_text_is_malformed() {
    let good = text();
    assert_eq!(refusal(&good), None);
    let [header, payload, sig] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let cases = [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        // One part, two, four, five as in JWE.
        header.to_owned(),
        format!("{header}.{payload}"),
        format!("{header}.{payload}."),
        format!("{header}.{payload}.{sig}."),
        format!(".{header}.{payload}.{sig}"),
        format!("{header}.{payload}..{sig}"),
        format!("{header}.{payload}.{sig}.{sig}.{sig}"),
        // Detached (RFC 7515 appendix F).
        format!("{header}..{sig}"),
        format!(".{payload}.{sig}"),
        // White space.
        format!("{good}\n"),
        format!(" {good}"),
        format!("{header}. {payload}.{sig}"),
        format!("{header}.{payload}\r\n.{sig}"),
        // Padding, and the other alphabet.
        format!("{header}=.{payload}.{sig}"),
        format!("{header}.{payload}=.{sig}"),
        format!("{header}.{payload}==.{sig}"),
        format!("{good}=="),
        format!("{header}.{payload}.{}", sig.replace('H', "+")),
        format!("{header}.{payload}.{}", sig.replace('H', "/")),
        // A signature that is shorter or longer, and no base64url.
        format!("{header}.{payload}.{}", base64([7; 63])),
        format!("{header}.{payload}.{}", base64([7; 65])),
        format!("{header}.{payload}.{}é", sig.split_at(2).1),
        // A payload that is none.
        format!("{header}.{}.{sig}", base64("{}")),
        format!("{header}.{}.{sig}", base64(HEADER)),
        format!("{header}.A.{sig}"),
        format!("{header}.{}.{sig}", std::str::from_utf8(&self::payload()).unwrap()),
        // JSON serialisation (RFC 7515 §7.2), flattened and general.
        format!(r#"{{"protected":"{header}","payload":"{payload}","signature":"{sig}"}}"#),
        format!(r#"{{"payload":"{payload}","signatures":[{{"protected":"{header}","signature":"{sig}"}}]}}"#),
        format!("\"{good}\""),
        format!("Bearer {good}"),
    ];
    for text in cases {
        assert_eq!(refusal(&text), Some(Refusal::Malformed), "{text}");
    }
    // Bits that encode nothing: 64 bytes leave four of them.
    let spare = |last: char| format!("{}{last}", good.strip_suffix('w').unwrap());
    assert_eq!(refusal(&spare('w')), None);
    for last in "xyz0123456789-_".chars() {
        assert_eq!(refusal(&spare(last)), Some(Refusal::Malformed), "{last}");
    }
}

/// Every character of a text, changed to every other of base64url and to some that are none.
#[test]
fn a_text_that_was_changed_is_refused_or_does_not_verify() {
    let key = SigningKey::from_bytes(&[7; 32]);
    let input = signing_input(samples::full().kid.borrowed(), &payload());
    let sig = key.sign(input.as_bytes()).to_bytes();
    let good = compact(input, &sig);
    let verifies = |text: &str, buffer: &mut Vec<u8>| {
        let Ok(opened) = Jws::parse(text).and_then(|jws| jws.open(&mut Room::new(buffer, [text]))) else { return None };
        let same = (opened.payload, opened.sig) == (&payload(), &sig);
        Some((same, key.verifying_key().verify_strict(opened.msg, &Signature::from_bytes(opened.sig)).is_ok()))
    };
    let mut buffer = Vec::new();
    assert_eq!(verifies(&good, &mut buffer), Some((true, true)));
    let characters = (b'0'..=b'9').chain(b'A'..=b'Z').chain(b'a'..=b'z').chain(*b"-_.+/= \n\0");
    let mut opened = 0;
    for (at, new) in (0..good.len()).flat_map(|at| characters.clone().map(move |new| (at, char::from(new)))) {
        let (before, rest) = good.split_at(at);
        if rest.starts_with(new) {
            continue;
        }
        let changed = format!("{before}{new}{}", rest.split_at(1).1);
        if let Some(result) = verifies(&changed, &mut buffer) {
            assert_eq!(result, (false, false), "{changed}");
            opened += 1;
        }
    }
    // At the least each other signature.
    assert!(opened > 85 * 63, "{opened}");
}

/// The longest of everything.
fn longest(payload: usize) -> String {
    let part = "a".repeat(MAX_PART);
    let kid = Kid::new(&format!("{part}.{part}"), &part, MAX_INTEGER.unsigned_abs()).unwrap();
    let with = |fill: usize| {
        let ctx = serde_json::json!({"fill": "x".repeat(fill)});
        let claims = Claims { kid: kid.clone(), ctx: ctx.as_object().cloned(), ..samples::full() };
        claims.canonical(2 * MAX_PAYLOAD).unwrap()
    };
    let payload = with(payload - with(0).len());
    let header = format!("{BEFORE_ALG}{ALG}\"{BEFORE_KID}{kid}\"{AFTER_KID}");
    assert_eq!(header.len(), MAX_HEADER);
    [base64(header), base64(payload), base64([7; 64])].join(".")
}

#[test]
fn the_longest_is_read_and_nothing_longer() {
    let longest_text = longest(MAX_PAYLOAD);
    assert_eq!((longest_text.len(), refusal(&longest_text)), (MAX_JWS, None));
    assert_eq!(Jws::parse(&longest_text).unwrap().payload_len(), MAX_PAYLOAD);
    assert_eq!(Jws::parse(&longest(MAX_PAYLOAD + 1)), Err(Refusal::Malformed));
    // Within the whole, the header has its own bound.
    let header = format!("{HEADER}{}", " ".repeat(MAX_HEADER + 1 - HEADER.len()));
    assert_eq!(Jws::parse(&under(header)), Err(Refusal::Malformed));
    let half = |text: &str| [base64(""), base64("x".repeat(MAX_PAYLOAD + 1)), text.to_owned()].join(".");
    assert_eq!(Jws::parse(&half(&base64([7; 64]))), Err(Refusal::Malformed));
}

#[test]
fn many_are_opened_in_one_room_which_is_used_again() {
    let texts: Vec<String> = (0..100)
        .map(|number| {
            let claims = Claims { sub: format!("service-{number}"), ..samples::full() };
            compact(signing_input(claims.kid.borrowed(), &claims.canonical(4096).unwrap()), &[number; 64])
        })
        .collect();
    let mut buffer = Vec::new();
    let mut grown = 0;
    for _ in 0..3 {
        let mut room = Room::new(&mut buffer, texts.iter().map(String::as_str));
        let opened: Vec<_> = texts.iter().map(|text| Jws::parse(text).unwrap().open(&mut room).unwrap()).collect();
        for (number, one) in opened.iter().enumerate() {
            assert_eq!(one.view.sub.decode(), format!("service-{number}"));
            assert_eq!(usize::from(one.sig[0]), number);
        }
        assert!(grown == 0 || grown == buffer.capacity(), "it grows once");
        grown = buffer.capacity();
    }
    // What does not fit is refused, and never read in part.
    for short in 0..text().len() / 2 {
        let (text, mut buffer) = (text(), vec![0; short]);
        assert_eq!(Jws::parse(&text).unwrap().open(&mut Room::new(&mut buffer, [])).err(), Some(Refusal::Malformed));
    }
}

#[test]
fn the_payload_of_an_input_is_what_follows_its_point() {
    let input = signing_input(samples::full().kid.borrowed(), &payload());
    assert_eq!(payload_of(input.as_bytes()), Some(payload()));
    let largest = vec![b'x'; MAX_PAYLOAD];
    assert_eq!(payload_of(format!("a.{}", base64(&largest)).as_bytes()), Some(largest));
    let larger = format!("a.{}", base64(vec![b'x'; MAX_PAYLOAD + 1]));
    for none in ["", "a", "a.b.c", "a.A", "a.AB", "a.AAA=", "a.A A", "a.é", &larger] {
        assert_eq!(payload_of(none.as_bytes()), None, "{none:.40}");
    }
    assert_eq!(payload_of(b"a.\xff"), None);
}

#[test]
fn a_text_is_a_jws_or_an_envelope_by_how_it_begins() {
    let jws = text();
    assert_eq!(Form::of(format!("\n {jws}\r\n").as_bytes()), Some(Form::Jws(&jws)));
    assert_eq!(Form::of(b" {\"alg\":1}\n"), Some(Form::Envelope(b"{\"alg\":1}")));
    for neither in ["", " ", "[]", "\"eyJ\"", "ey", "Bearer eyJ", "\u{feff}{}"] {
        assert_eq!(Form::of(neither.as_bytes()), None, "{neither}");
    }
    assert_eq!(Form::of(b"eyJ\xff"), None);
}
