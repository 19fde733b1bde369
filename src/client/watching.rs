//! What changes, and all that is in force.

use std::time::Duration;

use super::{Client, ClientError};
use crate::wire::{Cursor, RevocationPage, ServiceOk, ServiceOp, Topic, Watched};

impl Client {
    /// What has happened after `after`, once there is something to tell, or after `wait`. No topics: all.
    ///
    /// # Errors
    /// Any [`ClientError`]; [`ClientError::Timeout`] if `wait` is longer than the timeout of a request.
    pub async fn watch(&self, topics: &[Topic], after: Option<Cursor>, wait: Duration) -> Result<Watched, ClientError> {
        let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        match self.ask([0; 16], ServiceOp::Watch { topics: topics.to_vec(), after, wait_ms }).await? {
            ServiceOk::Watched(watched) => Ok(watched),
            _ => Err(ClientError::WrongAnswer),
        }
    }

    /// A page of the revocations in force, of the tenants that this peer may watch; `after` is the `next` of the page before.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn revocations(&self, after: Option<&[u8]>) -> Result<RevocationPage, ClientError> {
        match self.ask([0; 16], ServiceOp::Revocations { after }).await? {
            ServiceOk::Revocations(page) => Ok(page),
            _ => Err(ClientError::WrongAnswer),
        }
    }
}
