//! What is sent over and over, and what counts as an answer.

use crate::cli::error::CliError;
use crate::client::{ClientError, IssueRequest};
use crate::passport::OwnedPassport;
use crate::wire::{
    IssueSpec, Passport, Plain, Reply, Request, ServiceOk, ServiceOp, Verdict, Want, WireError, decode, encode_frame,
};

/// What one reply says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The request that it answers.
    pub(super) id: u64,
    /// Passports that were issued or accepted.
    pub(super) good: u64,
    /// Passports that were not.
    pub(super) bad: u64,
    /// Why the first of those was not.
    pub(super) why: Option<String>,
}

/// A kind of load.
pub(super) trait Work {
    /// Whether connections begin with a greeting.
    const GREETS: bool;
    /// Appends the request with this id as a frame. It is sent again, byte for byte, whenever it has been answered.
    fn request(&self, id: u64, out: &mut Vec<u8>) -> Result<(), CliError>;
    /// Reads the body of a reply.
    fn answer(&self, body: &[u8]) -> Result<Answer, CliError>;
}

/// Issue and IssueBatch.
pub(super) struct Issuing {
    pub(super) request: IssueRequest,
    pub(super) batch: usize,
}

impl Work for Issuing {
    const GREETS: bool = true;

    fn request(&self, id: u64, out: &mut Vec<u8>) -> Result<(), CliError> {
        let spec = IssueSpec {
            template: &self.request.template,
            sub: &self.request.sub,
            aud: self.request.aud.iter().map(String::as_str).collect(),
            ..IssueSpec::default()
        };
        let op = if self.batch == 1 { ServiceOp::Issue(spec) } else { ServiceOp::IssueBatch(vec![spec; self.batch]) };
        framed(id, op, out)
    }

    fn answer(&self, body: &[u8]) -> Result<Answer, CliError> {
        answered(body, self.batch)
    }
}

/// Verify and VerifyBatch.
pub(super) struct Verifying {
    pub(super) aud: Option<String>,
    pub(super) passports: Vec<OwnedPassport>,
    pub(super) batch: usize,
}

impl Work for Verifying {
    const GREETS: bool = true;

    fn request(&self, id: u64, out: &mut Vec<u8>) -> Result<(), CliError> {
        let want = Want { aud: self.aud.as_deref(), ..Want::default() };
        // Requests start at different passports.
        let skip = usize::try_from(id).unwrap_or_default() % self.passports.len().max(1);
        let mut passports = self.passports.iter().cycle().skip(skip).map(Passport::from);
        let op = if self.batch == 1 {
            let passport = passports.next().ok_or_else(|| CliError::Failed("no passport to verify".to_owned()))?;
            ServiceOp::Verify { want, passport }
        } else {
            ServiceOp::VerifyBatch { want, items: passports.take(self.batch).collect() }
        };
        framed(id, op, out)
    }

    fn answer(&self, body: &[u8]) -> Result<Answer, CliError> {
        answered(body, self.batch)
    }
}

/// Seal and Unseal.
pub(super) struct Secrets {
    pub(super) namespace: String,
    /// What is unsealed; none: it is sealed.
    pub(super) blob: Option<Vec<u8>>,
    /// What is sealed.
    pub(super) plain: Vec<u8>,
}

/// The name of the secret that is measured with.
pub(super) const SECRET: &str = "bench";

impl Work for Secrets {
    const GREETS: bool = true;

    fn request(&self, id: u64, out: &mut Vec<u8>) -> Result<(), CliError> {
        let (namespace, name) = (self.namespace.as_str(), SECRET);
        framed(
            id,
            match &self.blob {
                Some(blob) => ServiceOp::Unseal { namespace, name, blob },
                None => ServiceOp::Seal { namespace, name, plain: Plain(&self.plain) },
            },
            out,
        )
    }

    fn answer(&self, body: &[u8]) -> Result<Answer, CliError> {
        answered(body, 1)
    }
}

fn framed(id: u64, op: ServiceOp<'_>, out: &mut Vec<u8>) -> Result<(), CliError> {
    encode_frame(&Request { id, corr_id: [0; 16], op }, out).map_err(|error| match error {
        WireError::Reply { size } => CliError::Usage(format!("a request of {size} bytes fits no frame; lower --batch")),
        other => ClientError::Wire(other).into(),
    })
}

fn answered(body: &[u8], batch: usize) -> Result<Answer, CliError> {
    let Reply { id, result } = decode(body).map_err(ClientError::Wire)?;
    let all = u64::try_from(batch).unwrap_or(u64::MAX);
    let mut answer = Answer { id, good: 0, bad: 0, why: None };
    match result {
        Ok(
            ServiceOk::Issued(_)
            | ServiceOk::Verdict(Verdict::Accepted(_) | Verdict::Consumed(_))
            | ServiceOk::Sealed { .. }
            | ServiceOk::Unsealed { .. },
        ) => answer.good = 1,
        Ok(ServiceOk::Verdict(verdict)) => answer.verdict(&verdict),
        Ok(ServiceOk::Verdicts(verdicts)) => verdicts.iter().for_each(|verdict| answer.verdict(verdict)),
        Ok(ServiceOk::IssuedBatch(items)) => {
            for item in items {
                match item {
                    Ok(_) => answer.good += 1,
                    Err(problem) => answer.refused(1, format!("{}: {}", problem.code, problem.message)),
                }
            }
        }
        Ok(_) => return Err(ClientError::WrongAnswer.into()),
        Err(problem) => answer.refused(all, format!("{}: {}", problem.code, problem.message)),
    }
    Ok(answer)
}

impl Answer {
    fn verdict(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Accepted(_) | Verdict::Consumed(_) => self.good += 1,
            Verdict::Unproven { why } => self.refused(1, format!("refused: {why}")),
            Verdict::Refused(code) => self.refused(1, format!("refused: {code}")),
        }
    }

    fn refused(&mut self, items: u64, why: String) {
        self.bad += items;
        self.why.get_or_insert(why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Accepted, Code, HEADER, Problem};

    fn body(result: Result<ServiceOk, Problem>) -> Vec<u8> {
        let mut out = Vec::new();
        encode_frame(&Reply { id: 9, result }, &mut out).unwrap();
        out.split_off(HEADER)
    }

    #[test]
    fn every_item_is_counted_once() {
        let good = || Verdict::Accepted(Accepted { exp: 1 });
        let count = |result, batch| {
            let answer = answered(&body(result), batch).unwrap();
            assert_eq!(answer.id, 9);
            (answer.good, answer.bad, answer.why)
        };
        assert_eq!(count(Ok(ServiceOk::Verdict(good())), 1), (1, 0, None));
        let mixed = vec![good(), Verdict::Refused(Code::Expired), Verdict::Refused(Code::Nbf)];
        assert_eq!(count(Ok(ServiceOk::Verdicts(mixed)), 3), (1, 2, Some("refused: expired".into())));
        let problem = Problem::saying(Code::Busy, "full");
        assert_eq!(count(Err(problem.clone()), 64), (0, 64, Some("busy: full".into())));
        assert_eq!(count(Ok(ServiceOk::IssuedBatch(vec![Err(problem)])), 1), (0, 1, Some("busy: full".into())));
        assert!(answered(&body(Ok(ServiceOk::Pong)), 1).is_err());
    }

    #[test]
    fn single_verifications_take_turns() {
        let passport = |n: u8| {
            let (alg, kid) = ("Ed25519".into(), "k".into());
            OwnedPassport::Envelope(crate::passport::OwnedEnvelope { alg, kid, msg: vec![n], sig: vec![n; 64] })
        };
        let work = Verifying { aud: None, passports: vec![passport(1), passport(2)], batch: 1 };
        let frame = |id| {
            let mut out = Vec::new();
            work.request(id, &mut out).unwrap();
            out
        };
        assert_eq!(frame(2).last(), Some(&1));
        assert_eq!(frame(3).last(), Some(&2));
    }
}
