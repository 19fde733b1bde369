//! The messages of the link between front and signer.

use passportd::wire::link::{
    KeyRole, LinkGreeting, LinkHello, LinkKey, LinkOp, LinkRefusal, LinkReply, LinkRequest, LinkResult, LinkStats,
    LinkWelcome,
};
use passportd::wire::{HEADER, WIRE_VERSION, encode_frame};

use super::{KID, Sample, count, shown, signature};

pub(super) fn all(out: &mut Vec<Sample>) {
    link_greetings(out);
    link_requests(out);
    link_replies(out);
}

fn link_greetings(out: &mut Vec<Sample>) {
    sample!(out, "LinkHello", "usual", LinkHello { wire: 1, issuer: "passportd.example" });
    let welcome = LinkWelcome {
        wire: 1,
        sessions: 2,
        module: "SoftHSM 2.6".into(),
        token: "passportd 0123456789abcdef".into(),
        boot_id: 0x0123_4567_89ab_cdef,
    };
    sample!(out, "LinkGreeting", "welcome", LinkGreeting::Welcome(welcome));
    sample!(out, "LinkGreeting", "refused", LinkGreeting::Refused("another issuer".into()));
}

fn link_requests(out: &mut Vec<Sample>) {
    let ops = [
        ("sign", LinkOp::Sign { payload: b"{\"iss\":\"x\"}" }),
        ("probe", LinkOp::Probe { kid: KID }),
        ("keys", LinkOp::Keys),
        ("reinitialise", LinkOp::Reinitialise),
        ("stats", LinkOp::Stats),
    ];
    for (name, op) in ops {
        sample!(out, "LinkRequest", name, LinkRequest { id: 1, op });
    }
}

/// Every reason for which the signer refuses; `pinned` makes sure that none is missing.
pub(crate) const REFUSALS: [LinkRefusal; 15] = [
    LinkRefusal::Malformed,
    LinkRefusal::NotCanonical,
    LinkRefusal::UnknownKid,
    LinkRefusal::ForeignIssuer,
    LinkRefusal::TenantDenied,
    LinkRefusal::PurposeDenied,
    LinkRefusal::LifetimeDenied,
    LinkRefusal::ClockDenied,
    LinkRefusal::RateLimited,
    LinkRefusal::Busy,
    LinkRefusal::Timeout,
    LinkRefusal::HsmUnavailable,
    LinkRefusal::BadSignature,
    LinkRefusal::Internal,
    LinkRefusal::TooLong,
];

fn link_replies(out: &mut Vec<Sample>) {
    let key = |kid: &str, role, public, usable, problem: &str| LinkKey {
        kid: kid.into(),
        role,
        public,
        usable,
        problem: problem.into(),
    };
    let keys = vec![
        key(KID, KeyRole::Passport, count(1), true, ""),
        key("ed25519/t1/audit/v1", KeyRole::Audit, count(2), true, ""),
        key("seal/t1/v1", KeyRole::Seal, [0; 32], false, "not found"),
    ];
    let stats =
        LinkStats { signatures: 1_000_000, refused: 3, queued: 0, stuck: 1, rss_kib: 20_000, cpu_us: 5_000_000_000 };
    let results = [
        ("signed", LinkResult::Signed { sig: signature() }),
        ("probed", LinkResult::Probed { challenge: count(7), sig: signature() }),
        ("keys", LinkResult::Keys(keys)),
        ("reinitialised", LinkResult::Reinitialised(vec![])),
        ("stats", LinkResult::Stats(stats)),
    ];
    for (name, result) in results {
        sample!(out, "LinkReply", name, LinkReply { id: 1, result });
    }
    for refusal in REFUSALS {
        let result = LinkResult::Refused(refusal);
        sample!(out, "LinkReply", format!("refused-{refusal:?}"), LinkReply { id: 1, result });
    }
}
