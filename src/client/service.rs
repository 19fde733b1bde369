//! The operations of the service socket.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::connection::Shared;
use super::{ClientError, Options};
use crate::passport::OwnedEnvelope;
use crate::wire::{
    Code, Health, ISSUED_OVERHEAD, Identity, Introspection, IssueSpec, Issued, KeySet, Limits, Passport, Problem,
    Reply, Request, ServiceOk, ServiceOp, Verdict, VersionInfo, Welcome,
};

/// Room in a frame for everything around the items of a batch.
const FRAME_RESERVE: usize = 4096;

/// What a passport is to say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IssueRequest {
    /// The template's name.
    pub template: String,
    /// Whom it is about.
    pub sub: String,
    /// For whom; empty: the template's only audience.
    pub aud: Vec<String>,
    /// What it allows; empty: the template's default.
    pub scopes: Vec<String>,
    /// Lifetime in seconds.
    pub ttl_s: Option<u32>,
    /// Not valid before (seconds since 1970).
    pub nbf: Option<i64>,
    /// The action.
    pub action: Option<String>,
    /// A JSON object of the caller's own.
    pub ctx: Option<serde_json::Map<String, serde_json::Value>>,
    /// How often it may be accepted; none: as often as the template allows.
    pub limit: Option<u32>,
    /// A value to be accepted once.
    pub nonce: Option<String>,
    /// The RFC 7638 thumbprint of the holder's Ed25519 key.
    pub jkt: Option<String>,
}

/// What a passport must be good for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// The audience as which the caller verifies; none: the only one it may verify as.
    pub aud: Option<String>,
    /// Scopes that must all be there.
    pub scopes: Vec<String>,
}

impl Want {
    pub(super) fn on_wire(&self) -> crate::wire::Want<'_> {
        crate::wire::Want { aud: self.aud.as_deref(), scopes: self.scopes.iter().map(String::as_str).collect() }
    }
}

/// The answer to [`Client::keys`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// A set, new to the caller.
    Set(KeySet),
    /// The caller's set is current.
    NotModified {
        /// For how long, in seconds.
        max_age_s: u32,
    },
}

/// A client of the service socket. Clones share one connection.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared<Reply>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// Connects, so that a wrong socket is known now.
    ///
    /// # Errors
    /// [`ClientError::Connect`], or the daemon's refusal.
    pub async fn connect(options: Options) -> Result<Self, ClientError> {
        let client = Self { shared: Arc::new(Shared::new(options)) };
        client.shared.welcome().await?;
        Ok(client)
    }

    /// What the daemon said of itself when it was connected to last.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn welcome(&self) -> Result<Welcome, ClientError> {
        self.shared.welcome().await
    }

    /// Sends one operation with a correlation id of the caller's (zeros: none).
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn ask(&self, corr_id: [u8; 16], op: ServiceOp<'_>) -> Result<ServiceOk, ClientError> {
        let encode = |id, out: &mut Vec<u8>| crate::wire::encode_frame(&Request { id, corr_id, op }, out);
        self.shared.ask(encode).await
    }

    /// Is somebody there?
    ///
    /// # Errors
    /// Any [`ClientError`]; as do all below.
    pub async fn ping(&self) -> Result<(), ClientError> {
        match self.ask([0; 16], ServiceOp::Ping).await? {
            ServiceOk::Pong => Ok(()),
            _ => Err(ClientError::WrongAnswer),
        }
    }

    /// What is running.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn version(&self) -> Result<VersionInfo, ClientError> {
        match self.ask([0; 16], ServiceOp::Version).await? {
            ServiceOk::Version(version) => Ok(version),
            _ => Err(ClientError::WrongAnswer),
        }
    }

    /// Whom the daemon takes this process for.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn whoami(&self) -> Result<Identity, ClientError> {
        match self.ask([0; 16], ServiceOp::WhoAmI).await? {
            ServiceOk::WhoAmI(identity) => Ok(identity),
            _ => Err(ClientError::WrongAnswer),
        }
    }

    /// Which conditions hold.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn health(&self) -> Result<Health, ClientError> {
        match self.ask([0; 16], ServiceOp::Health).await? {
            ServiceOk::Health(health) => Ok(health),
            _ => Err(ClientError::WrongAnswer),
        }
    }

    /// A passport.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn issue(&self, request: &IssueRequest) -> Result<OwnedEnvelope, ClientError> {
        let ctx = request.context()?;
        match self.ask([0; 16], ServiceOp::Issue(request.on_wire(ctx.as_deref()))).await? {
            ServiceOk::Issued(issued) => Ok(envelope(issued)),
            _ => Err(ClientError::WrongAnswer),
        }
    }

    /// Several passports; each has its own answer. Split by the daemon's limit of items and by bytes.
    ///
    /// # Errors
    /// Any [`ClientError`], for all; what the daemon refuses of single items is in the answer.
    pub async fn issue_batch(
        &self,
        requests: &[IssueRequest],
    ) -> Result<Vec<Result<OwnedEnvelope, Problem>>, ClientError> {
        let mut limits = self.limits().await?;
        let contexts = requests.iter().map(IssueRequest::context).collect::<Result<Vec<_>, _>>()?;
        let specs: Vec<_> = requests.iter().zip(&contexts).map(|(one, ctx)| one.on_wire(ctx.as_deref())).collect();
        let mut answers = Vec::with_capacity(requests.len());
        let mut rest = specs.as_slice();
        while !rest.is_empty() {
            let (part, after) = rest.split_at(issues_in_a_frame(limits).min(rest.len()));
            match self.ask([0; 16], ServiceOp::IssueBatch(part.to_vec())).await {
                Ok(ServiceOk::IssuedBatch(batch)) if batch.len() == part.len() => {
                    answers.extend(batch.into_iter().map(|one| one.map(envelope)));
                }
                Ok(_) => return Err(ClientError::WrongAnswer),
                Err(error) => {
                    limits = self.lower_limits(limits, error).await?;
                    continue;
                }
            }
            rest = after;
        }
        Ok(answers)
    }

    async fn limits(&self) -> Result<Limits, ClientError> {
        Ok(self.welcome().await?.limits)
    }

    /// The limits after a part of a batch was refused with `error`: a reload may have lowered them since the daemon said
    /// them. Any other refusal, or one under limits that are the same, stands.
    async fn lower_limits(&self, before: Limits, error: ClientError) -> Result<Limits, ClientError> {
        if error.code() != Some(Code::TooLarge) {
            return Err(error);
        }
        self.shared.forget().await;
        let now = self.limits().await?;
        if now == before { Err(error) } else { Ok(now) }
    }

    /// A verdict on one passport.
    ///
    /// # Errors
    /// Any [`ClientError`]; a refused passport is no error but a [`Verdict`].
    pub async fn verify(&self, passport: &OwnedEnvelope, want: &Want) -> Result<Verdict, ClientError> {
        let op = ServiceOp::Verify { want: want.on_wire(), passport: on_wire(passport) };
        match self.ask([0; 16], op).await? {
            ServiceOk::Verdict(verdict) => Ok(verdict),
            _ => Err(ClientError::WrongAnswer),
        }
    }

    /// Verdicts on several passports, by index. Split by the daemon's limit of items and by bytes.
    ///
    /// # Errors
    /// Any [`ClientError`], for all.
    pub async fn verify_batch(&self, passports: &[OwnedEnvelope], want: &Want) -> Result<Vec<Verdict>, ClientError> {
        let mut limits = self.limits().await?;
        let mut verdicts = Vec::with_capacity(passports.len());
        let mut rest = passports;
        while !rest.is_empty() {
            let (part, after) = rest.split_at(fitting(rest, limits));
            let items = part.iter().map(on_wire).collect();
            match self.ask([0; 16], ServiceOp::VerifyBatch { want: want.on_wire(), items }).await {
                Ok(ServiceOk::Verdicts(batch)) if batch.len() == part.len() => verdicts.extend(batch),
                Ok(_) => return Err(ClientError::WrongAnswer),
                Err(error) => {
                    limits = self.lower_limits(limits, error).await?;
                    continue;
                }
            }
            rest = after;
        }
        Ok(verdicts)
    }

    /// The claims of a passport and whether it would be accepted, without accepting it.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn introspect(&self, passport: &OwnedEnvelope, want: &Want) -> Result<Introspection, ClientError> {
        let op = ServiceOp::Introspect { want: want.on_wire(), passport: on_wire(passport) };
        match self.ask([0; 16], op).await? {
            ServiceOk::Introspection(introspection) => Ok(introspection),
            _ => Err(ClientError::WrongAnswer),
        }
    }

    /// Has nobody accept the passport any more; durable, and in effect everywhere on this host when it is answered. Whether
    /// that is new: false if it was revoked before, or has expired.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn revoke(&self, passport: &OwnedEnvelope) -> Result<bool, ClientError> {
        match self.ask([0; 16], ServiceOp::Revoke { passport: on_wire(passport) }).await? {
            ServiceOk::Revoked { new } => Ok(new),
            _ => Err(ClientError::WrongAnswer),
        }
    }

    /// The public keys, unless the set with the ETag `if_etag` is current.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn keys(&self, if_etag: Option<[u8; 32]>) -> Result<Keys, ClientError> {
        match self.ask([0; 16], ServiceOp::Keys { if_etag }).await? {
            ServiceOk::Keys(set) => Ok(Keys::Set(set)),
            ServiceOk::KeysNotModified { max_age_s } => Ok(Keys::NotModified { max_age_s }),
            _ => Err(ClientError::WrongAnswer),
        }
    }
}

impl IssueRequest {
    fn context(&self) -> Result<Option<String>, ClientError> {
        self.ctx.as_ref().map(serde_json::to_string).transpose().map_err(|_| ClientError::WrongAnswer)
    }

    fn on_wire<'a>(&'a self, ctx: Option<&'a str>) -> IssueSpec<'a> {
        IssueSpec {
            template: &self.template,
            sub: &self.sub,
            aud: self.aud.iter().map(String::as_str).collect(),
            scopes: self.scopes.iter().map(String::as_str).collect(),
            ttl_s: self.ttl_s,
            nbf: self.nbf,
            action: self.action.as_deref(),
            ctx,
            limit: self.limit,
            nonce: self.nonce.as_deref(),
            jkt: self.jkt.as_deref(),
        }
    }
}

fn room(max_frame: u32) -> usize {
    usize::try_from(max_frame).unwrap_or(usize::MAX).saturating_sub(FRAME_RESERVE)
}

/// The reply is the larger side: each item may come back with a msg of the largest size, and what the daemon counts for the
/// kid, signature and lengths around it.
fn issues_in_a_frame(limits: Limits) -> usize {
    let reply = usize::try_from(limits.max_msg_bytes).unwrap_or(usize::MAX).saturating_add(ISSUED_OVERHEAD);
    (room(limits.max_frame) / reply).clamp(1, most(limits))
}

fn most(limits: Limits) -> usize {
    usize::try_from(limits.max_batch).unwrap_or(1).max(1)
}

/// How many of `passports` fit a request: at least one, so that what is too large is refused by name.
fn fitting(passports: &[OwnedEnvelope], limits: Limits) -> usize {
    let room = room(limits.max_frame);
    let mut size = 0;
    let fits = passports.iter().take(most(limits)).take_while(|one| {
        // Up to five bytes before each of four strings.
        size += one.alg.len() + one.kid.len() + one.msg.len() + one.sig.len() + 20;
        size <= room
    });
    fits.count().max(1)
}

pub(super) fn on_wire(passport: &OwnedEnvelope) -> Passport<'_> {
    Passport::Envelope { alg: &passport.alg, kid: &passport.kid, msg: &passport.msg, sig: &passport.sig }
}

fn envelope(issued: Issued) -> OwnedEnvelope {
    let Issued::Envelope { kid, msg, sig } = issued;
    OwnedEnvelope { alg: "Ed25519".to_owned(), kid, msg, sig: sig.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{HEADER, MAX_FRAME, encode_frame};

    const LIMITS: Limits = Limits { max_frame: 1 << 20, max_msg_bytes: 4096, max_batch: 512, max_in_flight: 256 };

    fn passports(count: usize, bytes: usize) -> Vec<OwnedEnvelope> {
        let kid = format!("ed25519/{}/{}/v4294967295", "t".repeat(32), "p".repeat(32));
        vec![OwnedEnvelope { alg: "Ed25519".to_owned(), kid, msg: vec![b'x'; bytes], sig: vec![0; 64] }; count]
    }

    /// The size of the frame that carries these for a verdict; encoding fails where no frame does.
    fn request_of(passports: &[OwnedEnvelope]) -> usize {
        let op = ServiceOp::VerifyBatch {
            want: crate::wire::Want { aud: Some("demo"), scopes: vec!["read"] },
            items: passports.iter().map(on_wire).collect(),
        };
        let mut frame = Vec::new();
        encode_frame(&Request { id: u64::MAX, corr_id: [255; 16], op }, &mut frame).unwrap();
        frame.len()
    }

    #[test]
    fn a_batch_to_verify_is_split_by_bytes_and_by_items() {
        let large = passports(512, 4096);
        let part = fitting(&large, LIMITS);
        let frame = request_of(&large[..part]);
        assert!(frame > HEADER + MAX_FRAME - FRAME_RESERVE - 2 * 4096, "{part} take {frame} bytes: it is not full");
        assert_eq!(fitting(&passports(600, 100), LIMITS), 512, "max_batch");
        assert_eq!(fitting(&passports(2, 100), LIMITS), 2);
        assert_eq!(fitting(&passports(2, 2 << 20), LIMITS), 1, "the daemon says what is too large");
        let frame_of_64k = Limits { max_frame: 64 << 10, ..LIMITS };
        assert!(request_of(&large[..fitting(&large, frame_of_64k)]) <= HEADER + (64 << 10));
    }

    #[test]
    fn a_batch_to_issue_is_split_so_that_the_largest_reply_fits_a_frame() {
        let part = issues_in_a_frame(LIMITS);
        let largest = passports(part, 4096)
            .into_iter()
            .map(|one| Ok(Issued::Envelope { kid: one.kid, msg: one.msg, sig: [0; 64] }));
        let mut frame = Vec::new();
        encode_frame(&Reply { id: u64::MAX, result: Ok(ServiceOk::IssuedBatch(largest.collect())) }, &mut frame)
            .unwrap();
        assert!(
            frame.len() > HEADER + MAX_FRAME - FRAME_RESERVE - part * ISSUED_OVERHEAD - 4096,
            "{part} waste a frame"
        );
        assert_eq!(issues_in_a_frame(Limits { max_msg_bytes: 256, ..LIMITS }), 512, "max_batch");
        assert_eq!(issues_in_a_frame(Limits { max_msg_bytes: u32::MAX, ..LIMITS }), 1);
        assert_eq!(issues_in_a_frame(Limits { max_batch: 0, ..LIMITS }), 1, "a daemon's mistake stops no progress");
    }
}
