//! Tickets.

use super::ClientError;
use super::service::Client;
use crate::wire::{Exchanged, Passport, PassportForm, Possession, ServiceOk, ServiceOp, TicketSpec};

/// What a ticket is to say, within its passport.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TicketRequest {
    /// For whom it is: one for whom the passport is, too.
    pub aud: String,
    /// What it allows; empty: all that the passport does.
    pub scopes: Vec<String>,
    /// Its lifetime in seconds; none: as long as a ticket may live.
    pub ttl_s: Option<u32>,
    /// In which form.
    pub form: PassportForm,
    /// The user who presented the passport, out of `SO_PEERCRED`; none: the caller itself.
    pub peer_uid: Option<u32>,
}

impl Client {
    /// A ticket for a passport: a passport of a minute at most, for one audience, that is accepted once. The passport is accepted
    /// thereby, and loses a use if it has a limit.
    ///
    /// After an error that leaves open whether something was taken, the same request with the same random key takes nothing more, for
    /// 120 s, and its ticket has the id and the end of the first: of all of them one is accepted. Where there is nothing to take, each
    /// request gets a ticket of its own.
    ///
    /// # Errors
    /// Any [`ClientError`]; a refused passport is no error but an [`Exchanged`].
    pub async fn exchange<'p>(
        &self,
        passport: impl Into<Passport<'p>>,
        request: &TicketRequest,
        retry: Option<[u8; 16]>,
        proof: Option<Possession<'_>>,
    ) -> Result<Exchanged, ClientError> {
        let TicketRequest { aud, scopes, ttl_s, form, peer_uid } = request;
        let scopes = scopes.iter().map(String::as_str).collect();
        let spec = TicketSpec { aud, scopes, ttl_s: *ttl_s, form: *form, peer_uid: *peer_uid };
        match self.ask([0; 16], ServiceOp::Exchange { passport: passport.into(), spec, retry, proof }).await? {
            ServiceOk::Exchanged(exchanged) => Ok(exchanged),
            _ => Err(ClientError::WrongAnswer),
        }
    }
}
