//! The operations of the admin socket.

use std::sync::Arc;

use super::connection::Shared;
use super::{ClientError, Options};
use crate::wire::{AdminOk, AdminOp, AdminReply, AdminRequest, Welcome, encode_frame};

/// A client of the admin socket. Clones share one connection.
#[derive(Clone)]
pub struct AdminClient {
    shared: Arc<Shared<AdminReply>>,
}

impl std::fmt::Debug for AdminClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminClient").finish_non_exhaustive()
    }
}

impl AdminClient {
    /// Connects, so that a wrong socket is known now.
    ///
    /// # Errors
    /// [`ClientError::Connect`], or the daemon's refusal.
    pub async fn connect(options: Options) -> Result<Self, ClientError> {
        let client = Self { shared: Arc::new(Shared::new(options)) };
        client.shared.welcome().await?;
        Ok(client)
    }

    /// What the daemon said of itself; connects if need be.
    ///
    /// # Errors
    /// [`ClientError::Connect`], or the daemon's refusal.
    pub async fn welcome(&self) -> Result<Welcome, ClientError> {
        self.shared.welcome().await
    }

    /// Sends one operation; the answer is of the kind that [`AdminOk`] names for it.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn ask(&self, op: AdminOp<'_>) -> Result<AdminOk, ClientError> {
        let encode = |id, out: &mut Vec<u8>| encode_frame(&AdminRequest { id, corr_id: [0; 16], op }, out);
        self.shared.ask(encode).await
    }
}
