//! The messages of the admin socket.

use passportd::wire::{AdminOk, AdminOp, AdminReply, AdminRequest, HEADER, Revocation, WIRE_VERSION, encode_frame};

use super::{CORR, KID, Sample, count, health, identity, problem, revealed, shown};

pub(super) fn requests(out: &mut Vec<Sample>) {
    let id = Revocation::Id { jti: "01985b2c-0000-7000-8000-000000000001", exp: Some(1_767_226_200) };
    let subject = Revocation::Subject { sub: "svc/orders", before: None };
    let ops = [
        ("whoami", AdminOp::WhoAmI),
        ("status", AdminOp::Status),
        ("health", AdminOp::Health),
        ("attest", AdminOp::Attest),
        ("stage", AdminOp::Stage { kid: "ed25519/t1/auth/v2" }),
        ("activate", AdminOp::Activate { kid: "ed25519/t1/auth/v2" }),
        ("pause-issue", AdminOp::PauseIssue { reason: "incident 42" }),
        ("resume-issue", AdminOp::ResumeIssue),
        ("reload", AdminOp::Reload),
        ("drain", AdminOp::Drain),
        ("undrain", AdminOp::Undrain),
        ("reload-report", AdminOp::ReloadReport),
        ("revoke", AdminOp::Revoke { tenant: "t1", what: vec![id, subject], reason: "incident 42" }),
        ("bump-epoch", AdminOp::BumpEpoch { tenant: "t1", reason: "incident 42" }),
        ("compromise", AdminOp::Compromise { kid: "ed25519/t1/auth/v1", reason: "incident 42" }),
        ("ticket-ttl", AdminOp::TicketTtl { seconds: 120, for_s: 3600, reason: "incident 42" }),
        ("checkpoint", AdminOp::Checkpoint),
    ];
    for (name, op) in ops.into_iter().chain(super::keys::ops()) {
        sample!(out, "AdminRequest", name, AdminRequest { id: 1, corr_id: CORR, op });
    }
}

pub(super) fn replies(out: &mut Vec<Sample>) {
    let reloaded = AdminOk::Reloaded {
        old_policy: count(0),
        new_policy: count(0x80),
        changed: vec!["limits.rps".into()],
        needs_restart: vec!["server.socket".into()],
    };
    let report = AdminOk::ReloadReport {
        old_config: count(0x10),
        new_config: count(0x90),
        changed: vec!["limits.rps".into()],
        needs_restart: vec!["server.socket".into()],
        old_policy: count(0),
        new_policy: count(0x80),
        policy_changed: vec!["rule web added".into(), "template demo changed".into()],
        policy_more: 3,
    };
    let oks = [
        ("whoami", AdminOk::WhoAmI(identity())),
        ("status", AdminOk::Status("{\"mode\":\"hsm\"}".into())),
        ("health", AdminOk::Health(health("no answer in time"))),
        ("attest", AdminOk::Attest("{\"version\":\"0.1.0\"}".into())),
        ("staged", AdminOk::Staged { kid: "ed25519/t1/auth/v2".into(), public: count(0x40) }),
        ("activated", AdminOk::Activated { kid: "ed25519/t1/auth/v2".into(), retired: Some(KID.into()) }),
        ("activated-first", AdminOk::Activated { kid: KID.into(), retired: None }),
        ("reloaded", reloaded),
        ("done", AdminOk::Done),
        ("reload-report", report),
        ("revoked", AdminOk::Revoked { new: 2 }),
        ("epoch-bumped", AdminOk::EpochBumped { epoch: 1 }),
        ("checkpoint", AdminOk::Checkpoint("passportd/checkpoint/v1/passportd.example\n1\n".into())),
        ("recorded", AdminOk::Recorded { seq: 1_000_000 }),
    ];
    for (name, ok) in oks {
        sample!(out, "AdminReply", name, AdminReply { id: 1, result: Ok(ok) });
    }
    sample!(out, "AdminReply", "problem", AdminReply { id: 1, result: Err(problem()) });
}
