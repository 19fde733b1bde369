//! At least one value of every message, operation, answer and variant. The vectors of `docs/WIRE.md` are these.

use passportd::wire::link::{LinkAmnesia, LinkGreeting, LinkHello, LinkReply, LinkRequest};
use passportd::wire::{
    Accepted, AdminReply, AdminRequest, Code, Condition, Greeting, HEADER, Health, Hello, Identity, Introspection,
    IssueSpec, Issued, KeySet, Limits, Passport, Plain, Problem, Reply, Request, ServiceOk, ServiceOp, Verdict,
    VersionInfo, WIRE_VERSION, Want, Welcome, WireError, decode, encode_frame,
};

macro_rules! sample {
    ($out:expr, $kind:literal, $name:expr, $value:expr) => {{
        let value = $value;
        let mut frame = Vec::new();
        encode_frame(&value, &mut frame).unwrap();
        assert_eq!(frame[HEADER], WIRE_VERSION);
        $out.push(Sample {
            kind: $kind,
            name: $name.to_owned(),
            shown: revealed($kind, shown(&format!("{value:?}")), &frame),
            frame,
        });
    }};
}

mod admin;
mod consuming;
mod exchanging;
mod forms;
mod keys;
mod link;
mod watching;

pub(crate) use link::REFUSALS;

/// One message with its name, its Rust value in words, and its frame.
pub(crate) struct Sample {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) shown: String,
    pub(crate) frame: Vec<u8>,
}

impl Sample {
    pub(crate) fn body(&self) -> &[u8] {
        &self.frame[HEADER..]
    }

    pub(crate) fn title(&self) -> String {
        format!("{} {}", self.kind, self.name)
    }

    pub(crate) fn internal(&self) -> bool {
        self.kind.starts_with("Link")
    }
}

/// Decodes `body` as a message of `kind` and encodes it again as a frame.
pub(crate) fn recode(kind: &str, body: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::new();
    match kind {
        "Hello" => encode_frame(&decode::<Hello<'_>>(body)?, &mut out),
        "Greeting" => encode_frame(&decode::<Greeting>(body)?, &mut out),
        "Request" => encode_frame(&decode::<Request<'_>>(body)?, &mut out),
        "Reply" => encode_frame(&decode::<Reply>(body)?, &mut out),
        "AdminRequest" => encode_frame(&decode::<AdminRequest<'_>>(body)?, &mut out),
        "AdminReply" => encode_frame(&decode::<AdminReply>(body)?, &mut out),
        "LinkHello" => encode_frame(&decode::<LinkHello<'_>>(body)?, &mut out),
        "LinkAmnesia" => encode_frame(&decode::<LinkAmnesia<'_>>(body)?, &mut out),
        "LinkGreeting" => encode_frame(&decode::<LinkGreeting>(body)?, &mut out),
        "LinkRequest" => encode_frame(&decode::<LinkRequest<'_>>(body)?, &mut out),
        "LinkReply" => encode_frame(&decode::<LinkReply>(body)?, &mut out),
        other => panic!("no message is called {other}"),
    }?;
    Ok(out)
}

/// Every kind of message.
pub(crate) const KINDS: [&str; 11] = [
    "Hello",
    "Greeting",
    "Request",
    "Reply",
    "AdminRequest",
    "AdminReply",
    "LinkHello",
    "LinkAmnesia",
    "LinkGreeting",
    "LinkRequest",
    "LinkReply",
];

pub(crate) fn all() -> Vec<Sample> {
    let mut out = Vec::new();
    greetings(&mut out);
    requests(&mut out);
    replies(&mut out);
    admin::requests(&mut out);
    admin::replies(&mut out);
    link::all(&mut out);
    out
}

/// Plaintext is not printed; the specification needs it all the same.
fn revealed(kind: &str, shown: String, frame: &[u8]) -> String {
    use super::schema::{Role, places};
    const WITHHELD: &str = "Plain(withheld)";
    if !shown.contains(WITHHELD) {
        return shown;
    }
    let body = &frame[HEADER..];
    let all = places(kind, body);
    let plain = all.iter().find(|place| place.path.ends_with(".plain") && place.role == Role::Raw).unwrap();
    shown.replace(WITHHELD, &format!("h'{}'", super::hex(&body[plain.at..plain.at + plain.len])))
}

/// Rust's notation with byte strings as `h'…'`: the lists of four or more numbers of which none is above 255.
fn shown(debug: &str) -> String {
    let mut out = String::new();
    let mut rest = debug;
    while let Some(start) = rest.find('[') {
        let (before, after) = rest.split_at(start);
        out.push_str(before);
        let inner = after[1..].split_once(']').map_or("", |(inner, _)| inner);
        let bytes: Result<Vec<u8>, _> = inner.split(", ").map(str::parse).collect();
        match bytes {
            Ok(bytes) if bytes.len() >= 4 => {
                out.push_str(&format!("h'{}'", super::hex(&bytes)));
                rest = &after[inner.len() + 2..];
            }
            _ => {
                out.push('[');
                rest = &after[1..];
            }
        }
    }
    out + rest
}

fn count(first: u8) -> [u8; 32] {
    std::array::from_fn(|n| first.wrapping_add(u8::try_from(n).unwrap()))
}

fn signature() -> [u8; 64] {
    std::array::from_fn(|n| 0xff - u8::try_from(n).unwrap())
}

const CORR: [u8; 16] = [0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36];
const KID: &str = "ed25519/t1/auth/v1";

fn problem() -> Problem {
    Problem { retry_after_ms: None, ..Problem::saying(Code::OpDenied, "no rule allows issue") }
}

fn greetings(out: &mut Vec<Sample>) {
    sample!(out, "Hello", "usual", Hello { wire: 1, client: "example/1.0" });
    sample!(out, "Hello", "empty-name", Hello { wire: 255, client: "" });
    let limits = Limits { max_frame: 1 << 20, max_msg_bytes: 4096, max_batch: 512, max_in_flight: 256 };
    let welcome = Welcome { wire: 1, server: "passportd/0.1.0".into(), issuer: "passportd.example".into(), limits };
    sample!(out, "Greeting", "welcome", Greeting::Welcome(welcome));
    let busy = Problem::saying(Code::Busy, "all connections are taken").after_ms(250);
    sample!(out, "Greeting", "refused", Greeting::Refused(busy));
}

fn issue() -> IssueSpec<'static> {
    IssueSpec {
        template: "demo",
        sub: "alice",
        aud: vec!["api", "mail"],
        scopes: vec!["read"],
        ttl_s: Some(900),
        nbf: Some(1_700_000_000),
        action: Some("open"),
        ctx: Some("{\"city\":\"Århus\"}"),
        limit: Some(3),
        nonce: Some("order-7"),
        jkt: Some("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"),
        ..IssueSpec::default()
    }
}

fn least() -> IssueSpec<'static> {
    IssueSpec { template: "demo", sub: "bob", ..IssueSpec::default() }
}

fn passport() -> Passport<'static> {
    // Not a passport, but as long as need be: what is inside is not the wire's business.
    Passport::Envelope { alg: "Ed25519", kid: KID, msg: b"{\"iss\":\"x\"}", sig: &[0xaa; 64] }
}

fn want() -> Want<'static> {
    Want { aud: Some("api"), scopes: vec!["read", "write"], peer_uid: None }
}

fn requests(out: &mut Vec<Sample>) {
    let ids = [0, 1, 250, 251, 65_535, 65_536, 4_294_967_295, 4_294_967_296, u64::MAX];
    for id in ids {
        sample!(out, "Request", format!("ping-id-{id}"), Request { id, corr_id: [0; 16], op: ServiceOp::Ping });
    }
    let short = Passport::Envelope { alg: "EdDSA", kid: "", msg: b"", sig: b"" };
    let negative = IssueSpec { nbf: Some(-1), ttl_s: Some(0), ..least() };
    let ops = [
        ("version", ServiceOp::Version),
        ("whoami", ServiceOp::WhoAmI),
        ("health", ServiceOp::Health),
        ("issue", ServiceOp::Issue(issue())),
        ("issue-least", ServiceOp::Issue(least())),
        ("issue-negative-nbf", ServiceOp::Issue(negative)),
        ("issue-batch", ServiceOp::IssueBatch(vec![least(), issue()])),
        ("issue-batch-empty", ServiceOp::IssueBatch(vec![])),
        ("verify", ServiceOp::Verify { want: want(), passport: passport() }),
        ("verify-any", ServiceOp::Verify { want: Want::default(), passport: passport() }),
        ("verify-batch", ServiceOp::VerifyBatch { want: want(), items: vec![passport(), short] }),
        ("introspect", ServiceOp::Introspect { want: Want::default(), passport: passport() }),
        ("keys", ServiceOp::Keys { if_etag: None }),
        ("keys-if-etag", ServiceOp::Keys { if_etag: Some(count(0)) }),
        ("seal", ServiceOp::Seal { namespace: "t1/billing", name: "database", plain: Plain(b"hunter2") }),
        ("seal-empty", ServiceOp::Seal { namespace: "t1/billing/eu", name: "x", plain: Plain(b"") }),
        ("unseal", ServiceOp::Unseal { namespace: "t1/billing", name: "database", blob: b"PSB1\x01" }),
        ("revoke", ServiceOp::Revoke { passport: passport() }),
    ];
    let more = [consuming::ops(), forms::ops(), watching::ops(), exchanging::ops()];
    for (name, op) in ops.into_iter().chain(more.concat()) {
        sample!(out, "Request", name, Request { id: 7, corr_id: CORR, op });
    }
}

fn identity() -> Identity {
    Identity {
        uid: 1000,
        gid: 1000,
        pid: 4242,
        groups: vec![27, 1000],
        listener: "service".into(),
        rules: vec!["demo.toml#web".into()],
        operations: vec!["issue".into(), "verify".into()],
        templates: vec!["demo".into()],
        audiences: vec!["api".into()],
    }
}

fn nobody() -> Identity {
    let none = Vec::new;
    Identity {
        uid: 65_534,
        gid: 65_534,
        pid: -1,
        groups: vec![],
        listener: String::new(),
        rules: none(),
        operations: none(),
        templates: none(),
        audiences: none(),
    }
}

fn health(detail: &str) -> Health {
    let condition = |name: &str, ok, detail: &str| Condition { name: name.into(), ok, detail: detail.into() };
    Health {
        issue_ready: false,
        verify_ready: true,
        conditions: vec![condition("hsm", false, detail), condition("policy", true, "")],
    }
}

fn issued() -> Issued {
    Issued::Envelope { kid: KID.into(), msg: b"{\"iss\":\"x\"}".to_vec(), sig: signature() }
}

fn replies(out: &mut Vec<Sample>) {
    let keys = KeySet { etag: count(0x20), max_age_s: 60, jwks: b"{\"keys\":[]}".to_vec() };
    let claims = Some(b"{\"iss\":\"x\"}".to_vec());
    let version = VersionInfo { server: "passportd/0.1.0".into(), wire: 1, issuer: "passportd.example".into() };
    let oks = [
        ("pong", ServiceOk::Pong),
        ("version", ServiceOk::Version(version)),
        ("whoami", ServiceOk::WhoAmI(identity())),
        ("whoami-nobody", ServiceOk::WhoAmI(nobody())),
        ("health", ServiceOk::Health(health(""))),
        ("issued", ServiceOk::Issued(issued())),
        ("issued-batch", ServiceOk::IssuedBatch(vec![Ok(issued()), Err(problem())])),
        ("accepted", ServiceOk::Verdict(Verdict::Accepted(Accepted { exp: 1_700_003_600 }))),
        (
            "verdicts",
            ServiceOk::Verdicts(vec![
                Verdict::Accepted(Accepted { exp: (1 << 53) - 1 }),
                Verdict::Refused(Code::Expired),
                Verdict::Refused(Code::TooLarge),
            ]),
        ),
        ("introspected", ServiceOk::Introspection(Introspection { active: true, reason: None, claims })),
        (
            "introspected-refused",
            ServiceOk::Introspection(Introspection { active: false, reason: Some(Code::BadKid), claims: None }),
        ),
        ("keys", ServiceOk::Keys(keys)),
        ("keys-not-modified", ServiceOk::KeysNotModified { max_age_s: 60 }),
        ("sealed", ServiceOk::Sealed { blob: b"PSB1\x01".to_vec() }),
        ("unsealed", ServiceOk::Unsealed { plain: b"hunter2".to_vec().into() }),
        ("revoked", ServiceOk::Revoked { new: true }),
    ];
    let more = [consuming::oks(), forms::oks(), watching::oks(), exchanging::oks()];
    for (name, ok) in oks.into_iter().chain(more.concat()) {
        sample!(out, "Reply", name, Reply { id: 7, result: Ok(ok) });
    }
    for code in Code::ALL {
        let result = Ok(ServiceOk::Verdict(Verdict::Refused(code)));
        sample!(out, "Reply", format!("refused-{}", code.name()), Reply { id: 7, result });
    }
    let busy = Problem::new(Code::Busy).after_ms(1000);
    sample!(out, "Reply", "problem", Reply { id: 7, result: Err(problem()) });
    sample!(out, "Reply", "problem-retry", Reply { id: 300, result: Err(busy) });
    sample!(out, "Reply", "problem-no-id", Reply { id: 0, result: Err(Problem::new(Code::Malformed)) });
}

#[test]
fn every_sample_comes_back_as_it_went_and_names_are_distinct() {
    let mut titles = std::collections::BTreeSet::new();
    for sample in all() {
        assert_eq!(recode(sample.kind, sample.body()).unwrap(), sample.frame, "{}", sample.title());
        assert!(titles.insert(sample.title()), "{} twice", sample.title());
    }
}

#[test]
fn every_variant_of_every_message_type_is_sampled() {
    use super::schema::{Role, Shape, places};
    let mut seen = std::collections::BTreeSet::new();
    for sample in all() {
        for place in places(sample.kind, sample.body()) {
            if matches!(place.role, Role::Tag(_)) {
                seen.insert((place.of, place.value));
            }
        }
    }
    for declared in super::schema::all().into_values() {
        let Shape::Enum(variants) = &declared.shape else { continue };
        for (tag, variant) in (0_u64..).zip(variants) {
            assert!(seen.contains(&(declared.name.clone(), tag)), "{}::{} has no vector", declared.name, variant.name);
        }
    }
}
