//! The operations of the service socket.

use std::sync::Arc;

use super::connection::Shared;
use super::parts::{fitting, issues_in_a_frame};
use super::{ClientError, IssueRequest, Options};
use crate::passport::OwnedPassport;
use crate::wire::{
    Code, Health, Identity, Introspection, KeySet, Limits, Passport, Problem, Reply, Request, ServiceOk, ServiceOp,
    Verdict, VersionInfo, Welcome,
};

/// What a passport must be good for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// The audience as which the caller verifies; none: the only one it may verify as.
    pub aud: Option<String>,
    /// Scopes that must all be there.
    pub scopes: Vec<String>,
    /// The user of the process that presented it, out of `SO_PEERCRED`; a passport that is bound to a user needs it.
    pub peer_uid: Option<u32>,
}

impl Want {
    pub(super) fn on_wire(&self) -> crate::wire::Want<'_> {
        let scopes = self.scopes.iter().map(String::as_str).collect();
        crate::wire::Want { aud: self.aud.as_deref(), scopes, peer_uid: self.peer_uid }
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

    /// The next request goes by a new connection.
    pub(super) async fn forget(&self) {
        self.shared.forget().await;
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
    pub async fn issue(&self, request: &IssueRequest) -> Result<OwnedPassport, ClientError> {
        let ctx = request.context()?;
        match self.ask([0; 16], ServiceOp::Issue(request.on_wire(ctx.as_deref()))).await? {
            ServiceOk::Issued(issued) => Ok(issued.into()),
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
    ) -> Result<Vec<Result<OwnedPassport, Problem>>, ClientError> {
        let mut limits = self.limits().await?;
        let contexts = requests.iter().map(IssueRequest::context).collect::<Result<Vec<_>, _>>()?;
        let specs: Vec<_> = requests.iter().zip(&contexts).map(|(one, ctx)| one.on_wire(ctx.as_deref())).collect();
        let mut answers = Vec::with_capacity(requests.len());
        let mut rest = specs.as_slice();
        while !rest.is_empty() {
            let (part, after) = rest.split_at(issues_in_a_frame(rest, limits));
            match self.ask([0; 16], ServiceOp::IssueBatch(part.to_vec())).await {
                Ok(ServiceOk::IssuedBatch(batch)) if batch.len() == part.len() => {
                    answers.extend(batch.into_iter().map(|one| one.map(Into::into)));
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

    /// A verdict on one passport: a reference to an [`OwnedPassport`], or to an envelope.
    ///
    /// # Errors
    /// Any [`ClientError`]; a refused passport is no error but a [`Verdict`].
    pub async fn verify<'p>(&self, passport: impl Into<Passport<'p>>, want: &Want) -> Result<Verdict, ClientError> {
        let op = ServiceOp::Verify { want: want.on_wire(), passport: passport.into() };
        match self.ask([0; 16], op).await? {
            ServiceOk::Verdict(verdict) => Ok(verdict),
            _ => Err(ClientError::WrongAnswer),
        }
    }

    /// Verdicts on several passports, by index. Split by the daemon's limit of items and by bytes.
    ///
    /// # Errors
    /// Any [`ClientError`], for all.
    pub async fn verify_batch<P>(&self, passports: &[P], want: &Want) -> Result<Vec<Verdict>, ClientError>
    where
        for<'p> &'p P: Into<Passport<'p>>,
    {
        let passports: Vec<Passport<'_>> = passports.iter().map(Into::into).collect();
        let mut limits = self.limits().await?;
        let mut verdicts = Vec::with_capacity(passports.len());
        let mut rest = passports.as_slice();
        while !rest.is_empty() {
            let (part, after) = rest.split_at(fitting(rest, limits));
            let items = part.to_vec();
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
    pub async fn introspect<'p>(
        &self,
        passport: impl Into<Passport<'p>>,
        want: &Want,
    ) -> Result<Introspection, ClientError> {
        let op = ServiceOp::Introspect { want: want.on_wire(), passport: passport.into() };
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
    pub async fn revoke<'p>(&self, passport: impl Into<Passport<'p>>) -> Result<bool, ClientError> {
        match self.ask([0; 16], ServiceOp::Revoke { passport: passport.into() }).await? {
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
