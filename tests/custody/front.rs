//! What a front that was taken over asks for, as its operator sees it: refused, and counted in the metrics by its reason. Each
//! refusal by itself is in tests/hsm/front.rs.

use std::time::Duration;

use passportd::wire::Plain;
use passportd::wire::link::{LinkOp, LinkRefusal, LinkResult};

use super::beside::{Baseline, Beside};
use super::support::passports::{claims, demo};
use super::support::{House, Options, eventually};

/// As often as the front looks after its signer, and some.
const LOOKS: Duration = Duration::from_secs(15);

#[test]
fn what_a_signer_refuses_is_seen_in_the_metrics() {
    let house = House::start(Options::default());
    let (signer, beside) = (Baseline::of(&house, "signer"), Beside::start(&house));
    let fair = claims(&house.raw().issue(demo("fair")).unwrap());
    let payload = |name: &str, value: serde_json::Value| {
        let mut claims = fair.clone();
        claims[name] = value;
        serde_json_canonicalizer::to_vec(&claims).unwrap()
    };
    let now = fair["iat"].as_i64().unwrap();
    let payloads = [
        (payload("kid", "ed25519/t2/auth/v1".into()), LinkRefusal::TenantDenied),
        (payload("exp", (now + 1_000_000).into()), LinkRefusal::LifetimeDenied),
        (payload("iss", "elsewhere.test".into()), LinkRefusal::ForeignIssuer),
        (payload("iat", (now - 3_000).into()), LinkRefusal::ClockDenied),
        (b"raw bytes".to_vec(), LinkRefusal::Malformed),
    ];
    for (payload, wanted) in &payloads {
        let answer = house.ask_signer(LinkOp::Sign { payload });
        assert_eq!(answer, LinkResult::Refused(*wanted), "{}", String::from_utf8_lossy(payload));
    }
    let seal = LinkOp::Seal { namespace: "t2/billing", name: "x", plain: Plain(b"x") };
    assert_eq!(house.ask_signer(seal), LinkResult::Refused(LinkRefusal::TenantDenied));
    for (reason, count) in [
        ("tenant_denied", 2.0),
        ("lifetime_denied", 1.0),
        ("foreign_issuer", 1.0),
        ("clock_denied", 1.0),
        ("malformed", 1.0),
    ] {
        let series = format!("passport_signer_refused_total{{reason=\"{reason}\"}}");
        eventually(&series, LOOKS, || (house.metric(&series) == count).then_some(()));
    }
    house.raw().issue(demo("as before")).unwrap();
    beside.end(&house);
    signer.again(&house);
}
