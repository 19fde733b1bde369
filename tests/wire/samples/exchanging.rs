//! Of tickets.

use passportd::wire::{Code, Exchanged, PassportForm, Possession, ServiceOk, ServiceOp, Ticket, TicketSpec};

use super::passport;

pub(super) fn ops() -> Vec<(&'static str, ServiceOp<'static>)> {
    let all =
        TicketSpec { aud: "api", scopes: vec!["read"], ttl_s: Some(30), form: PassportForm::Jws, peer_uid: Some(1000) };
    let least = TicketSpec { aud: "api", ..TicketSpec::default() };
    let proof = Some(Possession::Pop { proof: "e30.e30.AA" });
    vec![
        ("exchange", ServiceOp::Exchange { passport: passport(), spec: all, retry: Some([0xa5; 16]), proof }),
        ("exchange-least", ServiceOp::Exchange { passport: passport(), spec: least, retry: None, proof: None }),
    ]
}

pub(super) fn oks() -> Vec<(&'static str, ServiceOk)> {
    let ticket = |left, repeated| {
        let ticket = passportd::wire::Issued::Envelope { kid: super::KID.into(), msg: b"{}".to_vec(), sig: [0x5a; 64] };
        Exchanged::Ticket(Ticket { ticket, exp: 1_700_000_060, left, repeated })
    };
    let answers = [
        ("exchanged", ticket(Some(2), false)),
        ("exchanged-again", ticket(None, true)),
        ("exchange-refused", Exchanged::Refused(Code::Revoked)),
        ("exchange-unproven", Exchanged::Unproven { why: "the proof is too old".into() }),
    ];
    answers.into_iter().map(|(name, answer)| (name, ServiceOk::Exchanged(answer))).collect()
}
