//! What these tests ask, and how they see what came.

use std::sync::Barrier;
use std::thread;

use passportd::passport::OwnedEnvelope;
use passportd::wire::{Code, IssueSpec, Possession, Problem, ServiceOk, ServiceOp, Verdict, Want};

use crate::support::house::House;
use crate::support::options::POLICY;
use crate::support::passports::{for_demo, on_wire};
use crate::support::raw::Raw;
use crate::support::{Options, Roles};

/// Connections of a race.
pub(crate) const CONNECTIONS: usize = 16;

/// The policy of these tests.
pub(crate) fn policy() -> String {
    POLICY.replace("templates = [\"demo\"]", "templates = [\"demo\", \"few\", \"once\", \"bound\"]")
        + &["few:limit = 10", "once:nonce = \"required\"\nlimit = 100", "bound:proof = \"required\"\nlimit = 3"]
            .map(|one| {
                let (name, keys) = one.split_once(':').unwrap();
                format!(
                    "[[template]]\nname = {name:?}\ntenant = \"t1\"\npurpose = \"auth\"\nsubjects = [\"*\"]\n\
                     audiences = [\"demo\"]\nmax_ttl_s = 3600\n{keys}\n"
                )
            })
            .concat()
}

/// A daemon of which the test starts every role.
pub(crate) fn house() -> House {
    House::start(Options::default().roles(Roles::Apart).policy(&policy()))
}

pub(crate) fn few(limit: u32) -> IssueSpec<'static> {
    IssueSpec { template: "few", sub: "alice", limit: Some(limit), ..IssueSpec::default() }
}

pub(crate) fn once(nonce: &str) -> IssueSpec<'_> {
    IssueSpec { template: "once", sub: "alice", nonce: Some(nonce), ..IssueSpec::default() }
}

/// The same passport with another signature.
pub(crate) fn bent(passport: &OwnedEnvelope) -> OwnedEnvelope {
    let mut bent = passport.clone();
    bent.sig[7] ^= 0x10;
    bent
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Accepted, and nothing was taken.
    Free,
    /// Accepted, with what is left.
    Left(Option<u64>),
    /// The same answer once more.
    Again(Option<u64>),
    Refused(Code),
    Unproven(String),
}

pub(crate) fn seen(verdict: Verdict) -> Seen {
    match verdict {
        Verdict::Accepted(_) => Seen::Free,
        Verdict::Consumed(it) if it.repeated => Seen::Again(it.left),
        Verdict::Consumed(it) => Seen::Left(it.left),
        Verdict::Refused(code) => Seen::Refused(code),
        Verdict::Unproven { why } => Seen::Unproven(why),
    }
}

impl Raw {
    pub(crate) fn see(&mut self, passport: &OwnedEnvelope) -> Seen {
        seen(self.verify(for_demo(), passport).unwrap())
    }

    pub(crate) fn with(
        &mut self,
        want: Want<'_>,
        passport: &OwnedEnvelope,
        retry: Option<[u8; 16]>,
        proof: Option<Possession<'_>>,
    ) -> Result<Seen, Problem> {
        match self.ask(ServiceOp::VerifyWith { want, passport: on_wire(passport), retry, proof })? {
            ServiceOk::Verdict(verdict) => Ok(seen(verdict)),
            other => panic!("{other:?}"),
        }
    }
}

/// The same of several passports on as many connections at one moment.
pub(crate) fn race(house: &House, passports: &[OwnedEnvelope]) -> Vec<Seen> {
    let barrier = Barrier::new(passports.len());
    thread::scope(|scope| {
        let ask = |passport| {
            let (house, barrier) = (&house, &barrier);
            scope.spawn(move || {
                let mut raw = house.raw();
                barrier.wait();
                raw.see(passport)
            })
        };
        let asked: Vec<_> = passports.iter().map(ask).collect();
        asked.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

/// How many were accepted.
pub(crate) fn accepted(all: &[Seen]) -> usize {
    all.iter().filter(|one| matches!(one, Seen::Free | Seen::Left(_) | Seen::Again(_))).count()
}

/// Records of acceptances of this passport.
pub(crate) fn records(house: &House, passport: &OwnedEnvelope) -> Vec<serde_json::Value> {
    let jti = crate::support::passports::claims(passport)["jti"].clone();
    let all = crate::support::ledger::records(&house.ledger());
    all.into_iter().filter(|one| one["event"] == "passport_accepted" && one["jti"] == jti).collect()
}
