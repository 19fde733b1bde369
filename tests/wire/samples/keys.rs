//! Of the lives of keys.

use passportd::wire::AdminOp;

pub(super) fn ops() -> [(&'static str, AdminOp<'static>); 5] {
    [
        ("rollback", AdminOp::Rollback { tenant: "t1", purpose: "auth", reason: "incident 42" }),
        ("confirm", AdminOp::Confirm { kid: "ed25519/t1/auth/v2" }),
        ("destroyed", AdminOp::Destroyed { kid: "ed25519/t1/auth/v1" }),
        ("activate-now", AdminOp::ActivateNow { kid: "ed25519/t1/auth/v2", reason: "incident 42" }),
        ("test-append", AdminOp::TestAppend { reason: "drill 7" }),
    ]
}
