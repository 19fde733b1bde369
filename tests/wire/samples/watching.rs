//! Of what verifiers of their own live on.

use passportd::wire::{
    Cursor, Event, RevocationPage, ServiceOk, ServiceOp, Standing, TenantEpoch, Topic, Watched, What,
};

use super::{KID, count};

fn cursor(seq: u64) -> Cursor {
    let mut life = [0; 16];
    life.copy_from_slice(&count(0x40)[..16]);
    Cursor { life, wants: count(0x60), seq }
}

fn event(seq: u64, tenant: Option<&str>, what: What) -> Event {
    Event { seq, at_ms: 1_700_000_000_123, tenant: tenant.map(str::to_owned), what }
}

fn revoked_id() -> What {
    What::RevokedId { jti: "01985b2c-0000-7000-8000-000000000001".into(), until: 1_700_004_800 }
}

fn revoked_subject() -> What {
    What::RevokedSubject { sub: "svc/orders".into(), before: 1_700_000_000, until: 1_700_090_000 }
}

pub(super) fn ops() -> Vec<(&'static str, ServiceOp<'static>)> {
    let some = vec![Topic::Keys, Topic::Revocations, Topic::Epochs, Topic::Policy, Topic::Drain];
    vec![
        ("watch", ServiceOp::Watch { topics: some, after: Some(cursor(300)), wait_ms: 60_000 }),
        ("watch-begin", ServiceOp::Watch { topics: vec![], after: None, wait_ms: 0 }),
        ("revocations", ServiceOp::Revocations { after: None }),
        ("revocations-next", ServiceOp::Revocations { after: Some(b"next") }),
    ]
}

pub(super) fn oks() -> Vec<(&'static str, ServiceOk)> {
    let events = vec![
        event(301, Some("t1"), What::Key { kid: KID.into(), state: "active".into() }),
        event(302, Some("t1"), revoked_id()),
        event(303, Some("t1"), revoked_subject()),
        event(304, Some("t1"), What::RevokedKey { kid: KID.into() }),
        event(305, Some("t1"), What::Epoch { epoch: 4 }),
        event(306, None, What::Epoch { epoch: 5 }),
        event(307, None, What::Policy { hash: count(0x10) }),
        event(308, None, What::Draining { on: true }),
    ];
    let standing = |what| Standing { tenant: "t1".into(), what };
    let first = RevocationPage {
        tenants: Some(vec!["t1".into()]),
        revoked: vec![standing(revoked_id()), standing(revoked_subject())],
        epochs: vec![TenantEpoch { tenant: "t1".into(), epoch: 4 }],
        floor: 2,
        compromised: vec![KID.into()],
        next: Some(b"next".to_vec()),
    };
    let last =
        RevocationPage { tenants: None, revoked: vec![], epochs: vec![], floor: 0, compromised: vec![], next: None };
    vec![
        ("watched", ServiceOk::Watched(Watched::Events { events, cursor: cursor(308) })),
        ("watched-nothing", ServiceOk::Watched(Watched::Events { events: vec![], cursor: cursor(308) })),
        ("watched-lagged", ServiceOk::Watched(Watched::Lagged { missed: 7, cursor: cursor(1 << 33) })),
        ("watched-begin", ServiceOk::Watched(Watched::Begin { cursor: cursor(0) })),
        ("revocations", ServiceOk::Revocations(first)),
        ("revocations-last", ServiceOk::Revocations(last)),
    ]
}
