//! `docs/WIRE.md` says what the code does: its tables and vectors are made here from the code, and compared.

use passportd::passport::{Kid, bounds, jws};
use passportd::wire::frame::{Split, split};
use passportd::wire::hello::MAX_CLIENT;
use passportd::wire::problem::Use;
use passportd::wire::{
    Code, HEADER, ISSUED_OVERHEAD, Issued, MAX_FRAME, MAX_WEIGHT, PassportForm, Reply, ServiceOk, WIRE_VERSION,
    WireError, encode_frame,
};

use super::schema::{self, Declared, Field, Shape};
use super::{bless, hex, path, samples};

const FILE: &str = "docs/WIRE.md";
const END: &str = "<!-- end of generated -->\n";

fn begin(block: &str) -> String {
    format!("<!-- generated: {block} -->\n")
}

/// Every generated part of the file, by name.
fn blocks() -> Vec<(&'static str, String)> {
    let types = |source| schema::file(source).iter().map(table).collect::<String>();
    let problem = schema::file(schema::PROBLEM);
    let problem = problem.iter().filter(|one| one.name == "Problem").map(table).collect();
    vec![
        ("constants", constants()),
        ("greeting", types(schema::HELLO)),
        ("problem", problem),
        ("codes", codes()),
        (
            "service",
            types(schema::SERVICE) + &types(schema::VERDICT) + &types(schema::EXCHANGE) + &types(schema::WATCH),
        ),
        ("admin", types(schema::ADMIN)),
        ("bounds", claim_bounds()),
        ("link", types(schema::LINK)),
        ("vectors", vectors(false)),
        ("refused", refused()),
        ("link vectors", vectors(true)),
    ]
}

#[test]
fn the_specification_says_what_the_code_does() {
    let written = std::fs::read_to_string(path(FILE)).unwrap();
    let mut generated = written.clone();
    for (name, block) in blocks() {
        let (before, rest) = generated.split_once(&begin(name)).unwrap_or_else(|| panic!("{FILE} has no block {name}"));
        let (_, after) = rest.split_once(END).unwrap_or_else(|| panic!("block {name} has no end"));
        generated = format!("{before}{}\n{}\n\n{END}{after}", begin(name), block.trim_end());
    }
    if bless() {
        std::fs::write(path(FILE), &generated).unwrap();
    } else {
        let differs = written.lines().zip(generated.lines()).find(|(one, other)| one != other);
        assert!(written == generated, "{FILE} is out of date (PASSPORTD_BLESS=1 rewrites it), first at {differs:?}");
    }
}

fn row(cells: &[&str]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

fn head(cells: &[&str]) -> String {
    row(cells) + &row(&vec!["---"; cells.len()])
}

fn constants() -> String {
    let mut out = head(&["name", "value", "meaning"]);
    let mut line = |name: &str, value: usize, meaning: &str| out += &row(&[name, &value.to_string(), meaning]);
    line("wire version", usize::from(WIRE_VERSION), "the first byte of every body");
    line("header", HEADER, "bytes of a frame before its body");
    line("max_frame", MAX_FRAME, "most bytes of a body");
    line("max_client", MAX_CLIENT, "most bytes of `Hello.client`");
    line("max_weight", MAX_WEIGHT, "most that the parts of one body may weigh");
    out
}

fn claim_bounds() -> String {
    let mut out = head(&["field", "most entries", "most bytes each"]);
    let mut line = |name: &str, entries: usize, bytes: usize| {
        out += &row(&[name, &entries.to_string(), &bytes.to_string()]);
    };
    line("`template`", 1, bounds::MAX_TEMPLATE);
    line("`sub`", 1, bounds::MAX_SUB);
    line("`aud`", bounds::MAX_AUD, bounds::MAX_AUD_LEN);
    line("`scopes`", bounds::MAX_SCOPES, bounds::MAX_SCOPE_LEN);
    line("`action`", 1, bounds::MAX_ACTION);
    out
}

fn codes() -> String {
    let mut out = head(&["tag", "name", "use", "retryable", "meaning"]);
    for (tag, code) in Code::ALL.into_iter().enumerate() {
        let used = match code.used_as() {
            Use::Verdict => "verdict",
            Use::Problem => "problem",
            Use::Both => "both",
        };
        let retryable = if code.retryable() { "yes" } else { "no" };
        out += &row(&[&tag.to_string(), &format!("`{code}`"), used, retryable, code.meaning()]);
    }
    out
}

fn table(declared: &Declared) -> String {
    match &declared.shape {
        Shape::Struct(fields) => {
            let mut out = format!("#### {} (struct)\n\n{}\n\n", declared.name, declared.doc);
            out += &head(&["field", "type", "meaning"]);
            fields.iter().for_each(|field| out += &member("", field));
            out + "\n"
        }
        Shape::Enum(variants) => {
            let mut out = format!("#### {} (enum)\n\n{}\n\n", declared.name, declared.doc);
            out += &head(&["tag", "variant, its fields", "type", "meaning"]);
            for (tag, variant) in variants.iter().enumerate() {
                let inner = variant.fields.iter().find(|field| field.name.is_empty());
                let of = inner.map_or(String::new(), |field| format!("`{}`", field.of));
                out += &row(&[&tag.to_string(), &format!("**{}**", variant.name), &of, &variant.doc]);
                let named = variant.fields.iter().filter(|field| !field.name.is_empty());
                named.for_each(|field| out += &member("| ", field));
            }
            out + "\n"
        }
    }
}

fn member(indent: &str, field: &Field) -> String {
    format!("{indent}{}", row(&[&format!("`{}`", field.name), &format!("`{}`", field.of), &field.doc]))
}

fn vectors(internal: bool) -> String {
    let mut out = "```vectors\n".to_owned();
    for sample in samples::all().into_iter().filter(|sample| sample.internal() == internal) {
        out += &format!("{}\n  {}\n  {}\n\n", sample.title(), sample.shown, hex(&sample.frame));
    }
    out.trim_end().to_owned() + "\n```\n"
}

/// A frame that must be refused: kind, name, what comes of it, and its body.
fn bad_bodies() -> Vec<(&'static str, &'static str, &'static str, Vec<u8>)> {
    let request = |id: &[u8], rest: &[u8]| [&[1], id, &[0; 16], rest].concat();
    let all = samples::all();
    let body = |kind: &str, name: &str| {
        all.iter().find(|sample| (sample.kind, sample.name.as_str()) == (kind, name)).unwrap().body().to_vec()
    };
    let cut = |mut body: Vec<u8>| {
        body.pop();
        body
    };
    let verify = |aud: &[u8]| request(&[7], &[&[6][..], aud, &[0, 0, 0, 0, 0]].concat());
    vec![
        ("Request", "empty-body", "malformed, id 0", vec![]),
        ("Request", "version-only", "malformed, id 0", vec![1]),
        ("Request", "other-version", "unsupported_version, id 0", [&[2, 7][..], &[0; 17]].concat()),
        ("Request", "overlong-id-16", "malformed, id 7", request(&[251, 7, 0], &[0])),
        ("Request", "overlong-id-32", "malformed, id 7", request(&[252, 7, 0, 0, 0], &[0])),
        ("Request", "overlong-id-64", "malformed, id 7", request(&[253, 7, 0, 0, 0, 0, 0, 0, 0], &[0])),
        ("Request", "overlong-id-251", "malformed, id 251", request(&[252, 251, 0, 0, 0], &[0])),
        ("Request", "id-of-128-bits", "malformed, id 0", request(&[&[254, 7][..], &[0; 15]].concat(), &[0])),
        ("Request", "id-of-reserved-marker", "malformed, id 0", request(&[255], &[0])),
        ("Request", "overlong-tag", "malformed, id 7", request(&[7], &[251, 0, 0])),
        ("Request", "unknown-op", "malformed, id 7", request(&[7], &[200])),
        ("Request", "trailing-byte", "malformed, id 7", request(&[7], &[0, 0])),
        ("Request", "cut-off", "malformed, id 7", cut(body("Request", "keys-if-etag"))),
        ("Request", "option-2", "malformed, id 7", request(&[7], &[9, 2])),
        ("Request", "overlong-length", "malformed, id 7", verify(&[1, 251, 1, 0, b'a', 0])),
        ("Request", "not-utf-8", "malformed, id 7", verify(&[1, 1, 0xff, 0])),
        ("Request", "length-beyond-the-body", "malformed, id 7", verify(&[1, 250, b'a', 0])),
        (
            "Request",
            "length-bomb-text",
            "malformed, id 7",
            request(&[7], &[4, 253, 255, 255, 255, 255, 255, 255, 255, 255]),
        ),
        (
            "Request",
            "length-bomb-batch",
            "malformed, id 7",
            request(&[7], &[7, 0, 0, 253, 255, 255, 255, 255, 255, 255, 255, 127]),
        ),
        (
            "Request",
            "ttl-of-64-bits",
            "malformed, id 7",
            request(&[7], &[4, 0, 0, 0, 0, 1, 253, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
        ),
        ("AdminRequest", "unknown-op", "malformed, id 7", request(&[7], &[12])),
        ("Reply", "bool-2", "not a reply", vec![1, 7, 1, 0, 0, 2, 0]),
        ("Reply", "result-2", "not a reply", vec![1, 7, 2, 0]),
        ("Reply", "unknown-code", "not a reply", vec![1, 7, 0, 6, 1, 31]),
        ("Reply", "overlong-exp", "not a reply", vec![1, 7, 0, 6, 0, 251, 2, 0]),
        ("Hello", "overlong-length", "malformed, closed", vec![1, 1, 251, 1, 0, b'a']),
    ]
}

fn refused() -> String {
    let mut out = "```refused\n".to_owned();
    for (kind, name, outcome, body) in bad_bodies() {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        out += &format!("{kind} {name}\n  {outcome}\n  {}{}\n\n", hex(&length), hex(&body));
    }
    out + "Request oversize\n  closed\n  00100001\n```\n"
}

#[test]
fn what_must_be_refused_is_refused() {
    for (kind, name, outcome, body) in bad_bodies() {
        let error = samples::recode(kind, &body).expect_err(name);
        let expected = matches!(error, WireError::Version(_));
        assert_eq!(outcome.starts_with("unsupported_version"), expected, "{kind} {name}: {error}");
        if let Some((_, id)) = outcome.split_once("id ") {
            assert_eq!(passportd::wire::peek_id(&body).to_string(), id, "{kind} {name}");
        }
    }
    assert!(matches!(split(&[0, 0x10, 0, 1]), Err(WireError::Oversize { announced: 1_048_577 })));
    assert!(matches!(split(&[0, 0, 0, 0]), Ok(Split::Frame { body: [], used: 4 })));
}

/// The daemon and whoever splits batches count the same for each passport of a reply, and it is enough.
#[test]
fn a_passport_in_a_reply_takes_what_the_specification_says() {
    let msg = vec![b'x'; 16_384];
    let tenant = format!("{0}.{0}", "t".repeat(32));
    let kid = format!("ed25519/{tenant}/{}/v{}", "p".repeat(32), bounds::MAX_INTEGER);
    let envelope = Issued::Envelope { kid: kid.clone(), msg: msg.clone(), sig: [0; 64] };
    let input = jws::signing_input(kid.parse::<Kid>().unwrap().borrowed(), &msg);
    let jws = Issued::Jws { text: jws::compact(input, &[0; 64]) };
    let size = |one: &Issued, items| {
        let items = vec![Ok(one.clone()); items];
        let reply = Reply { id: u64::MAX, result: Ok(ServiceOk::IssuedBatch(items)) };
        let mut frame = Vec::new();
        encode_frame(&reply, &mut frame).unwrap();
        frame.len()
    };
    for (one, form) in [(envelope, PassportForm::Envelope), (jws, PassportForm::Jws)] {
        let (each, most) = (size(&one, 2) - size(&one, 1), form.issued_size(msg.len()));
        assert!(each <= most && each + 40 > most, "{form:?}: {each} of {most}");
    }
    assert_eq!(PassportForm::Envelope.issued_size(1), 1 + ISSUED_OVERHEAD);
    let around_jws = PassportForm::Jws.issued_size(0);
    let count = format!(
        "count `max_msg_bytes` + {ISSUED_OVERHEAD} bytes for each item, and for one that is to be a JWS four bytes for each \
         three of `max_msg_bytes`, rounded up, + {around_jws}"
    );
    assert!(
        std::fs::read_to_string(path(FILE)).unwrap().split_whitespace().collect::<Vec<_>>().join(" ").contains(&count),
        "{FILE} says: {count}"
    );
    let python = std::fs::read_to_string(path("clients/python/passportd.py")).unwrap();
    for line in [format!("_ITEM_RESERVE = {ISSUED_OVERHEAD}\n"), format!("_JWS_RESERVE = {around_jws}\n")] {
        assert!(python.contains(&line), "the Python client counts as much: {line}");
    }
}
