//! What these tests ask, and how they see what came.

use passportd::passport::OwnedEnvelope;
use passportd::wire::{
    Code, Exchanged, IssueSpec, Possession, Problem, ServiceOk, ServiceOp, TicketSpec, Verdict, Want,
};
use serde_json::Value;

use crate::support::house::House;
use crate::support::options::POLICY;
use crate::support::passports::{on_wire, owned};
use crate::support::raw::Raw;
use crate::support::{Options, Roles};

const TEMPLATES: [&str; 6] = ["demo", "few", "once", "bound", "desk", "web"];

/// The policy of these tests: who may exchange, from every template.
pub(crate) fn policy() -> String {
    let names = format!("{TEMPLATES:?}");
    let template = |(name, keys): (&str, &str)| {
        format!(
            "[[template]]\nname = {name:?}\ntenant = \"t1\"\npurpose = \"auth\"\nsubjects = [\"*\"]\n\
             audiences = [\"demo\", \"api\", \"files\"]\nscopes = [\"read\", \"write\", \"list\"]\nactions = [\"open\"]\n\
             max_ttl_s = 3600\n{keys}\n"
        )
    };
    let more = [
        ("few", "limit = 10"),
        ("once", "nonce = \"required\"\nlimit = 100"),
        ("bound", "proof = \"required\"\nlimit = 3"),
        ("desk", "bind = \"peer\""),
        ("web", "forms = [\"envelope\", \"jws\"]"),
    ];
    POLICY
        .replace("templates = [\"demo\"]", &format!("templates = {names}\nexchange_templates = {names}"))
        .replace("verify_as = [\"demo\"]", "verify_as = [\"demo\", \"api\", \"files\"]")
        .replace("\"watch\"]", "\"watch\", \"exchange\", \"ticket_ttl\"]")
        .replace("audiences = [\"demo\"]", "audiences = [\"demo\", \"api\", \"files\"]")
        + &more.map(template).concat()
}

/// A daemon of which the test starts every role.
pub(crate) fn house() -> House {
    House::start(Options::default().roles(Roles::Apart).policy(&policy()))
}

/// From this template, for two services.
pub(crate) fn from(template: &str) -> IssueSpec<'_> {
    IssueSpec {
        template,
        sub: "alice",
        aud: vec!["api", "demo"],
        scopes: vec!["read", "write"],
        ..IssueSpec::default()
    }
}

/// For `demo`.
pub(crate) fn for_demo() -> Want<'static> {
    Want { aud: Some("demo"), ..Want::default() }
}

/// The smallest wish.
pub(crate) fn plain() -> TicketSpec<'static> {
    TicketSpec { aud: "demo", ..TicketSpec::default() }
}

/// What became of an exchange.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Got {
    Ticket { ticket: OwnedEnvelope, left: Option<u64>, repeated: bool },
    Refused(Code),
    Unproven(String),
    Problem(Code),
}

impl Got {
    /// The ticket.
    pub(crate) fn ticket(self) -> OwnedEnvelope {
        match self {
            Self::Ticket { ticket, .. } => ticket,
            other => panic!("no ticket: {other:?}"),
        }
    }

    /// What is left of the passport.
    pub(crate) fn left(&self) -> Option<u64> {
        match self {
            Self::Ticket { left, .. } => *left,
            other => panic!("no ticket: {other:?}"),
        }
    }
}

impl Raw {
    pub(crate) fn exchange(&mut self, passport: &OwnedEnvelope, spec: TicketSpec<'_>) -> Got {
        self.exchange_with(passport, spec, None, None)
    }

    pub(crate) fn exchange_with(
        &mut self,
        passport: &OwnedEnvelope,
        spec: TicketSpec<'_>,
        retry: Option<[u8; 16]>,
        proof: Option<Possession<'_>>,
    ) -> Got {
        match self.try_exchange(passport, spec, retry, proof) {
            Ok(Exchanged::Ticket(it)) => {
                let ticket = owned(it.ticket);
                assert_eq!(said(&ticket)["exp"], it.exp);
                Got::Ticket { ticket, left: it.left, repeated: it.repeated }
            }
            Ok(Exchanged::Refused(code)) => Got::Refused(code),
            Ok(Exchanged::Unproven { why }) => Got::Unproven(why),
            Err(problem) => Got::Problem(problem.code),
        }
    }

    pub(crate) fn try_exchange(
        &mut self,
        passport: &OwnedEnvelope,
        spec: TicketSpec<'_>,
        retry: Option<[u8; 16]>,
        proof: Option<Possession<'_>>,
    ) -> Result<Exchanged, Problem> {
        match self.ask(ServiceOp::Exchange { passport: on_wire(passport), spec, retry, proof })? {
            ServiceOk::Exchanged(exchanged) => Ok(exchanged),
            other => panic!("{other:?}"),
        }
    }

    /// The verdict for `demo`, in a word.
    pub(crate) fn word(&mut self, passport: &OwnedEnvelope) -> String {
        word(&self.verify(for_demo(), passport).unwrap())
    }
}

/// The verdict in a word, with what is left.
pub(crate) fn word(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accepted(_) => "accepted".to_owned(),
        Verdict::Consumed(it) => format!("left {:?}", it.left),
        Verdict::Refused(code) => code.name().to_owned(),
        Verdict::Unproven { why } => why.clone(),
    }
}

/// How a ticket is accepted, once.
pub(crate) const ONCE: &str = "left Some(0)";

/// What it says.
pub(crate) fn said(passport: &OwnedEnvelope) -> Value {
    serde_json::from_slice(&passport.msg).unwrap()
}

/// Records of this event about this id.
pub(crate) fn records(house: &House, event: &str, jti: &Value) -> Vec<Value> {
    let all = crate::support::ledger::records(&house.ledger());
    all.into_iter().filter(|one| one["event"] == event && one["jti"] == *jti).collect()
}
