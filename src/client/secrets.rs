//! Small secrets, sealed by the daemon so that only it opens them.

use zeroize::Zeroizing;

use super::{Client, ClientError};
use crate::wire::sealed::SEALED_OVERHEAD;
use crate::wire::{Plain, ServiceOk, ServiceOp};

impl Client {
    /// Seals a secret of 64 KiB at most. What comes back may lie anywhere; it opens only here, under the same namespace and
    /// name.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn seal(&self, namespace: &str, name: &str, plain: &[u8]) -> Result<Vec<u8>, ClientError> {
        match self.ask([0; 16], ServiceOp::Seal { namespace, name, plain: Plain(plain) }).await? {
            ServiceOk::Sealed { blob } if blob.len() <= plain.len() + SEALED_OVERHEAD => Ok(blob),
            _ => Err(ClientError::WrongAnswer),
        }
    }

    /// Opens what was sealed. The secret is zeroised when it is dropped.
    ///
    /// # Errors
    /// Any [`ClientError`]; `malformed` if it does not open here under this namespace and name.
    pub async fn unseal(&self, namespace: &str, name: &str, blob: &[u8]) -> Result<Zeroizing<Vec<u8>>, ClientError> {
        match self.ask([0; 16], ServiceOp::Unseal { namespace, name, blob }).await? {
            ServiceOk::Unsealed { plain } => Ok(plain.0),
            _ => Err(ClientError::WrongAnswer),
        }
    }
}
