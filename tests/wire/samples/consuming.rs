//! Of acceptances that take something.

use passportd::wire::{Code, Consumed, IssueSpec, Possession, ServiceOk, ServiceOp, Verdict, Want};

use super::{least, passport, want};

fn with(retry: Option<[u8; 16]>, proof: Option<Possession<'static>>) -> ServiceOp<'static> {
    ServiceOp::VerifyWith { want: want(), passport: passport(), retry, proof }
}

fn dpop(nonce: Option<&'static str>) -> Possession<'static> {
    Possession::Dpop { proof: "e30.e30.AA", htm: "GET", htu: "https://api.example/orders", nonce }
}

fn consumed(left: Option<u64>, repeated: bool) -> Consumed {
    Consumed { exp: 1_700_003_600, left, repeated }
}

pub(super) fn ops() -> Vec<(&'static str, ServiceOp<'static>)> {
    let presented = Want { peer_uid: Some(1000), ..Want::default() };
    vec![
        ("verify-with", with(Some([0xa5; 16]), None)),
        ("verify-with-pop", with(None, Some(Possession::Pop { proof: "e30.e30.AA" }))),
        ("verify-with-dpop", with(Some([0; 16]), Some(dpop(Some("n-1"))))),
        ("verify-with-dpop-least", with(None, Some(dpop(None)))),
        ("challenge", ServiceOp::Challenge),
        ("issue-bound", ServiceOp::Issue(IssueSpec { uid: Some(1000), ..least() })),
        ("verify-presented", ServiceOp::Verify { want: presented, passport: passport() }),
    ]
}

pub(super) fn oks() -> Vec<(&'static str, ServiceOk)> {
    vec![
        ("consumed", ServiceOk::Verdict(Verdict::Consumed(consumed(Some(2), false)))),
        ("consumed-unlimited", ServiceOk::Verdict(Verdict::Consumed(consumed(None, true)))),
        ("unproven", ServiceOk::Verdict(Verdict::Unproven { why: "the proof is too old".into() })),
        (
            "verdicts-consumed",
            ServiceOk::Verdicts(vec![
                Verdict::Consumed(consumed(Some((1 << 53) - 2), false)),
                Verdict::Refused(Code::LimitExceeded),
            ]),
        ),
        ("challenge", ServiceOk::Challenge { nonce: "4bf92f3577b34da6a3ce929d0e0e4736".into(), expires_in_s: 60 }),
    ]
}
