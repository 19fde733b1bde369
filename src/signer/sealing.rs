//! Sealing and opening secrets, through the signer.

use std::fmt;
use std::time::Instant;

use zeroize::Zeroizing;

use super::{Ask, Signer, SignerError};
use crate::wire::PlainBuf;
use crate::wire::link::LinkResult;

/// What is to be sealed or opened, and where it belongs. What it holds of a secret is zeroised with it.
pub struct SealAsk {
    /// The namespace.
    pub namespace: String,
    /// The secret's name in it.
    pub name: String,
    /// Which of both.
    pub what: SealWhat,
}

/// The one or the other.
pub enum SealWhat {
    /// Seal this secret.
    Seal(Zeroizing<Vec<u8>>),
    /// Open this sealed one.
    Unseal(Vec<u8>),
}

/// The signer's answer.
#[derive(Debug)]
pub struct SealAnswer {
    /// The seal key that did it.
    pub kid: String,
    /// What was asked for.
    pub given: SealGiven,
}

/// The one or the other.
#[derive(Debug)]
pub enum SealGiven {
    /// The sealed secret.
    Sealed(Vec<u8>),
    /// The secret.
    Unsealed(PlainBuf),
}

impl fmt::Debug for SealAsk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealAsk({}/{}, withheld)", self.namespace, self.name)
    }
}

impl Signer {
    /// Has the signer seal or open a secret, for the peer `who`.
    ///
    /// # Errors
    /// Any [`SignerError`].
    pub async fn seal(&self, who: u32, ask: SealAsk) -> Result<SealAnswer, SignerError> {
        let seals = matches!(ask.what, SealWhat::Seal(_));
        let until = Instant::now() + self.timeout;
        match self.call(who, Ask::Seal(ask), until).await?.settle().await? {
            LinkResult::Sealed { kid, blob } if seals => Ok(SealAnswer { kid, given: SealGiven::Sealed(blob) }),
            LinkResult::Unsealed { kid, plain } if !seals => Ok(SealAnswer { kid, given: SealGiven::Unsealed(plain) }),
            _ => Err(SignerError::WrongAnswer),
        }
    }
}
