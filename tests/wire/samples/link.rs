//! The messages of the link between front and signer.

use passportd::wire::link::{
    KeyRole, LinkAmnesia, LinkCount, LinkFront, LinkGreeting, LinkHealth, LinkHello, LinkKey, LinkOp, LinkRefusal,
    LinkReply, LinkRequest, LinkResult, LinkStats, LinkWelcome,
};
use passportd::wire::{HEADER, Plain, WIRE_VERSION, encode_frame};

use super::{KID, Sample, count, revealed, shown, signature};

pub(super) fn all(out: &mut Vec<Sample>) {
    link_greetings(out);
    link_requests(out);
    link_replies(out);
}

fn link_greetings(out: &mut Vec<Sample>) {
    sample!(out, "LinkHello", "usual", LinkHello { wire: 1, issuer: "passportd.example" });
    let (hello, newest) = (LinkHello { wire: 1, issuer: "passportd.example" }, 1_900_000_000);
    let front = LinkFront { id: 0x0123_4567_89ab_cdef, newest };
    sample!(out, "LinkAmnesia", "usual", LinkAmnesia { hello, front });
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
        ("health", LinkOp::Health),
        ("seal", LinkOp::Seal { namespace: "t1/billing", name: "database", plain: Plain(b"hunter2") }),
        ("unseal", LinkOp::Unseal { namespace: "t1/billing", name: "database", blob: b"PSB1\x01" }),
        ("counts", LinkOp::Counts),
        (
            "checkpoint",
            LinkOp::Checkpoint {
                kid: AUDIT_KID,
                snapshot: 3,
                size: 42,
                root: [1; 32],
                head: [2; 32],
                recorded: counted(),
            },
        ),
        ("attest", LinkOp::Attest { kid: AUDIT_KID, document: b"{\"at\":1}" }),
    ];
    for (name, op) in ops {
        sample!(out, "LinkRequest", name, LinkRequest { id: 1, op });
    }
}

/// Every reason for which the signer refuses; `pinned` makes sure that none is missing.
pub(crate) const REFUSALS: [LinkRefusal; 19] = LinkRefusal::ALL;

const AUDIT_KID: &str = "ed25519/t1/audit/v1";

fn counted() -> Vec<LinkCount> {
    vec![LinkCount { kid: KID.to_owned(), count: 7 }]
}

const SEAL_KID: &str = "hmac-sha256/t1/seal/v1";

fn health() -> LinkHealth {
    LinkHealth {
        boot_id: 0x0123_4567_89ab_cdef,
        sessions: 2,
        limit: 3,
        stuck: 1,
        max_stuck: 4,
        down: true,
        rung: "module".into(),
        ladder: vec![5, 0, 300, 0],
        refused: (0..18).collect(),
        bad_signatures: 1,
        rss_kib: 90_000,
        rss_base_kib: 20_000,
        recycles_at_kib: 282_144,
    }
}

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
        ("health", LinkResult::Health(health())),
        ("leaving", LinkResult::Leaving),
        ("sealed", LinkResult::Sealed { kid: SEAL_KID.into(), blob: b"PSB1\x01".to_vec() }),
        ("unsealed", LinkResult::Unsealed { kid: SEAL_KID.into(), plain: b"hunter2".to_vec().into() }),
        ("counts", LinkResult::Counts { snapshot: 3, signed: counted() }),
        ("checkpointed", LinkResult::Checkpointed { text: "passportd/checkpoint/v1/x\n".into(), sig: signature() }),
        ("attested", LinkResult::Attested { sig: signature() }),
    ];
    for (name, result) in results {
        sample!(out, "LinkReply", name, LinkReply { id: 1, result });
    }
    for refusal in REFUSALS {
        let result = LinkResult::Refused(refusal);
        sample!(out, "LinkReply", format!("refused-{refusal:?}"), LinkReply { id: 1, result });
    }
}
