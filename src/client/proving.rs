//! Verdicts that can be asked for once more, or that take a proof of possession.

use super::ClientError;
use super::service::{Client, Want};
use crate::wire::{Passport, Possession, ServiceOk, ServiceOp, Verdict};

impl Client {
    /// [`Client::verify`], with a random key that makes the request repeatable, or a proof of possession.
    ///
    /// After an error that leaves open whether the passport was accepted, the same request with the same key is answered as
    /// the first one was, for 120 s, and takes nothing more.
    ///
    /// # Errors
    /// Any [`ClientError`]; a refused passport is no error but a [`Verdict`].
    pub async fn verify_with<'p>(
        &self,
        passport: impl Into<Passport<'p>>,
        want: &Want,
        retry: Option<[u8; 16]>,
        proof: Option<Possession<'_>>,
    ) -> Result<Verdict, ClientError> {
        let op = ServiceOp::VerifyWith { want: want.on_wire(), passport: passport.into(), retry, proof };
        match self.ask([0; 16], op).await? {
            ServiceOk::Verdict(verdict) => Ok(verdict),
            _ => Err(ClientError::WrongAnswer),
        }
    }

    /// A value that a `passport-pop+jwt` must say to be accepted on this connection, and for how many seconds it is good.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn challenge(&self) -> Result<(String, u32), ClientError> {
        match self.ask([0; 16], ServiceOp::Challenge).await? {
            ServiceOk::Challenge { nonce, expires_in_s } => Ok((nonce, expires_in_s)),
            _ => Err(ClientError::WrongAnswer),
        }
    }
}
