//! Passports, as tests ask for them and look at them.

use std::time::Duration;

use passportd::passport::{OwnedEnvelope, OwnedPassport};
use passportd::wire::link::{LinkGreeting, LinkHello, LinkOp, LinkReply, LinkRequest, LinkResult};
use passportd::wire::{
    IssueSpec, Issued, Passport, Problem, ServiceOk, ServiceOp, Verdict, WIRE_VERSION, Want, decode, encode_frame,
};
use serde_json::Value;

use super::eventually;
use super::house::{FIRST_KEY, House};
use super::people;
use super::raw::Raw;

/// A wish that [`super::options::POLICY`] grants.
pub(crate) fn demo(sub: &str) -> IssueSpec<'_> {
    IssueSpec { template: "demo", sub, ..IssueSpec::default() }
}

/// What such a passport is good for.
pub(crate) fn for_demo() -> Want<'static> {
    Want { aud: Some("demo"), ..Want::default() }
}

/// A passport, as it goes to the daemon.
pub(crate) fn on_wire(passport: &OwnedEnvelope) -> Passport<'_> {
    passport.into()
}

/// A passport, as it came from the daemon.
pub(crate) fn owned(issued: Issued) -> OwnedEnvelope {
    OwnedPassport::from(issued).into_envelope().unwrap()
}

/// What a passport says.
pub(crate) fn claims(passport: &OwnedEnvelope) -> Value {
    serde_json::from_slice(&passport.msg).unwrap()
}

impl Raw {
    /// A passport, or why not.
    pub(crate) fn issue(&mut self, spec: IssueSpec<'_>) -> Result<OwnedEnvelope, Problem> {
        match self.ask(ServiceOp::Issue(spec))? {
            ServiceOk::Issued(issued) => Ok(owned(issued)),
            other => panic!("to Issue: {other:?}"),
        }
    }

    /// A verdict, or why there is none.
    pub(crate) fn verify(&mut self, want: Want<'_>, passport: &OwnedEnvelope) -> Result<Verdict, Problem> {
        match self.ask(ServiceOp::Verify { want, passport: on_wire(passport) })? {
            ServiceOk::Verdict(verdict) => Ok(verdict),
            other => panic!("to Verify: {other:?}"),
        }
    }

    /// The verdicts of a batch, or why there is none.
    pub(crate) fn verify_batch(&mut self, want: Want<'_>, all: &[OwnedEnvelope]) -> Result<Vec<Verdict>, Problem> {
        match self.ask(ServiceOp::VerifyBatch { want, items: all.iter().map(on_wire).collect() })? {
            ServiceOk::Verdicts(verdicts) => Ok(verdicts),
            other => panic!("to VerifyBatch: {other:?}"),
        }
    }
}

impl House {
    /// Has the signer itself sign a passport that the front would not ask for: `change` is made to the claims of one that
    /// the front did issue. The test speaks to the signer as the front does.
    pub(crate) fn forge(&self, change: impl FnOnce(&mut Value)) -> OwnedEnvelope {
        let mut claims = claims(&self.raw().issue(demo("forged")).unwrap());
        change(&mut claims);
        let payload = serde_json_canonicalizer::to_vec(&claims).unwrap();
        match self.ask_signer(LinkOp::Sign { payload: &payload }) {
            LinkResult::Signed { sig } => {
                OwnedEnvelope { alg: "Ed25519".into(), kid: FIRST_KEY.into(), msg: payload, sig: sig.to_vec() }
            }
            other => panic!("the signer says {other:?}"),
        }
    }

    /// One question to the signer, over a connection made as the front's user. The signer takes few connections, and
    /// closes one too many without a word: then it is asked again.
    pub(crate) fn ask_signer(&self, op: LinkOp<'_>) -> LinkResult {
        let mut frames = Vec::new();
        encode_frame(&LinkHello { wire: WIRE_VERSION, issuer: "passportd.test" }, &mut frames).unwrap();
        encode_frame(&LinkRequest { id: 1, op }, &mut frames).unwrap();
        let socket = self.dir().join("signer.sock");
        eventually("the signer has a place", Duration::from_secs(10), || {
            let mut link = match self.front_ids() {
                Some((uid, gid)) => Raw::over(people::connect_as(&socket, uid, gid, &[])),
                None => Raw::connect(&socket),
            }
            .ok()?;
            link.send(&frames).ok()?;
            let greeting = link.body().ok()??;
            assert!(matches!(decode(&greeting).unwrap(), LinkGreeting::Welcome(_)));
            let reply = link.body().unwrap().unwrap();
            Some(decode::<LinkReply>(&reply).unwrap().result)
        })
    }
}
