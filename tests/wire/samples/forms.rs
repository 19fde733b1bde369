//! Of the compact JWS.

use passportd::wire::{IssueSpec, Issued, Passport, PassportForm, ServiceOk, ServiceOp, Want};

use super::{issued, least, passport, want};

const TEXT: &str = "eyJhbGciOiJFZERTQSJ9.e30.AA";

fn jws() -> Passport<'static> {
    Passport::Jws { text: TEXT }
}

pub(super) fn ops() -> Vec<(&'static str, ServiceOp<'static>)> {
    let spec = || IssueSpec { form: PassportForm::Jws, ..least() };
    vec![
        ("issue-jws", ServiceOp::Issue(spec())),
        ("issue-batch-forms", ServiceOp::IssueBatch(vec![least(), spec()])),
        ("verify-jws", ServiceOp::Verify { want: want(), passport: jws() }),
        ("verify-batch-forms", ServiceOp::VerifyBatch { want: Want::default(), items: vec![jws(), passport()] }),
    ]
}

pub(super) fn oks() -> Vec<(&'static str, ServiceOk)> {
    let jws = || Issued::Jws { text: TEXT.into() };
    vec![
        ("issued-jws", ServiceOk::Issued(jws())),
        ("issued-batch-forms", ServiceOk::IssuedBatch(vec![Ok(jws()), Ok(issued())])),
    ]
}
