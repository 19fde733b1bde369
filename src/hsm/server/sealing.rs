//! Seal and Unseal: in whose namespace, with which key, and the keys that the HSM derived.
//!
//! A derived key is kept for a while, so that most requests are answered right where they are read. The first request for
//! a key has the HSM derive it; that one, and those that come meanwhile, wait for it, within bounds.

mod keys;

use super::desk::Desk;
use super::outbox::Outbox;
use super::refusals::Refusals;
use crate::hsm::device::Device;
use crate::hsm::guard::{self, Bounds};
use crate::hsm::sealer::{KEY, SealPlace, Sealer};
use crate::secret::LockedBuf;
use crate::wire::link::{LinkRefusal, LinkReply, LinkResult};
use crate::wire::sealed::{MAX_PLAIN, Namespace, SealKid, Sealed};
use crate::wire::{Plain, PlainBuf};
use keys::{Keys, Taken};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use zeroize::Zeroizing;

const PAGE: usize = 4096;

/// What lasts from one request to the next.
pub(super) struct Sealing {
    sealer: Box<dyn Sealer>,
    issuer: String,
    keys: Mutex<Keys>,
    refusals: Arc<Refusals>,
}

/// What is to be done with the key.
#[derive(Clone, Copy)]
pub(super) enum Ask<'a> {
    Seal(&'a [u8]),
    Unseal(&'a [u8]),
}

/// A request that waits for its key.
pub(super) struct Parked {
    id: u64,
    name: String,
    unseals: bool,
    /// The secret, or the sealed one.
    bytes: LockedBuf,
    outbox: Outbox,
}

impl Parked {
    /// What it takes of memory: whole pages.
    fn weight(&self) -> usize {
        self.bytes.len().max(1).next_multiple_of(PAGE)
    }
}

impl Sealing {
    pub(super) fn new(sealer: Box<dyn Sealer>, bounds: &Bounds, refusals: Arc<Refusals>) -> Self {
        Self { sealer, issuer: bounds.issuer.clone(), keys: Mutex::new(Keys::default()), refusals }
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets keys that nobody has asked for lately.
    pub(super) fn tidy(&self, now: Instant) {
        self.keys().tidy(now);
    }

    fn place<'a>(&'a self, namespace: Namespace<'a>, name: &'a str, kid: SealKid<'a>) -> SealPlace<'a> {
        SealPlace { issuer: &self.issuer, namespace, name, kid }
    }

    fn perform(&self, key: &[u8; KEY], place: &SealPlace<'_>, ask: Ask<'_>) -> Result<LinkResult, LinkRefusal> {
        let kid = place.kid.as_str().to_owned();
        match ask {
            Ask::Seal(plain) => {
                let blob = self.sealer.seal(key, place, plain).ok_or(LinkRefusal::Internal)?;
                Ok(LinkResult::Sealed { kid, blob })
            }
            Ask::Unseal(blob) => {
                let sealed = Sealed::parse(blob).ok_or(LinkRefusal::Unopenable)?;
                let plain = self.sealer.open(key, place, &sealed).map_err(|_| LinkRefusal::Unopenable)?;
                Ok(LinkResult::Unsealed { kid, plain: PlainBuf(plain) })
            }
        }
    }

    /// The HSM has answered for those who wait.
    fn settle(&self, kid: &str, namespace: &str, derived: Result<Zeroizing<[u8; KEY]>, LinkRefusal>) {
        let key = derived.map(|derived| self.sealer.key(&derived));
        let waiting = self.keys().settle(kid, namespace, key.as_deref().ok(), Instant::now());
        for Parked { id, name, unseals, bytes, outbox } in waiting {
            let ask = if unseals { Ask::Unseal(bytes.expose()) } else { Ask::Seal(bytes.expose()) };
            let done = match (&key, Namespace::parse(namespace), SealKid::parse(kid)) {
                (Ok(key), Some(namespace), Some(kid)) => self.perform(key, &self.place(namespace, &name, kid), ask),
                (Err(refusal), ..) => Err(*refusal),
                _ => Err(LinkRefusal::Internal),
            };
            let result = done.unwrap_or_else(|refusal| {
                self.refusals.count(refusal);
                LinkResult::Refused(refusal)
            });
            outbox.reply(&LinkReply { id, result });
        }
    }
}

impl<D: Device> Desk<D> {
    /// Seals with the newest key of the namespace's tenant.
    pub(super) fn seal(
        &self,
        id: u64,
        (namespace, name): (&str, &str),
        plain: Plain<'_>,
        outbox: &Outbox,
    ) -> Result<Option<LinkResult>, LinkRefusal> {
        if plain.0.len() > MAX_PLAIN {
            return Err(LinkRefusal::Malformed);
        }
        let namespace = guard::judge_place(namespace, name, &self.bounds)?;
        let ring = self.pool.ring();
        let (position, kid) = guard::newest_seal_key(&ring, namespace).ok_or(LinkRefusal::UnknownKid)?;
        self.rates.spend(kid.as_str(), &self.bounds)?;
        let place = self.sealing.place(namespace, name, kid);
        self.with_key(id, (&ring, position), &place, Ask::Seal(plain.0), outbox)
    }

    /// Opens with the key that the blob names, and no other.
    pub(super) fn unseal(
        &self,
        id: u64,
        (namespace, name): (&str, &str),
        blob: &[u8],
        outbox: &Outbox,
    ) -> Result<Option<LinkResult>, LinkRefusal> {
        let namespace = guard::judge_place(namespace, name, &self.bounds)?;
        let sealed = Sealed::parse(blob).ok_or(LinkRefusal::Unopenable)?;
        let ring = self.pool.ring();
        let position = guard::seal_key_of(&ring, namespace, sealed.kid)?;
        self.rates.spend(sealed.kid.as_str(), &self.bounds)?;
        let place = self.sealing.place(namespace, name, sealed.kid);
        self.with_key(id, (&ring, position), &place, Ask::Unseal(blob), outbox)
    }

    /// Does it with the key that is at hand, or has the HSM derive it and does it then.
    fn with_key(
        &self,
        id: u64,
        (ring, position): (&Arc<crate::hsm::ring::Ring>, usize),
        place: &SealPlace<'_>,
        ask: Ask<'_>,
        outbox: &Outbox,
    ) -> Result<Option<LinkResult>, LinkRefusal> {
        let (kid, namespace) = (place.kid.as_str(), place.namespace.as_str());
        let park = || {
            let (unseals, bytes) = match ask {
                Ask::Seal(bytes) => (false, bytes),
                Ask::Unseal(bytes) => (true, bytes),
            };
            let bytes = LockedBuf::holding(bytes).map_err(|_| LinkRefusal::Busy)?;
            Ok(Parked { id, name: place.name.to_owned(), unseals, bytes, outbox: outbox.clone() })
        };
        let taken = self.sealing.keys().take(ring, kid, namespace, Instant::now(), park)?;
        match taken {
            Taken::Key(key) => self.sealing.perform(&key, place, ask).map(Some),
            Taken::Parked => Ok(None),
            Taken::First => {
                let (sealing, kid, namespace) = (Arc::clone(&self.sealing), kid.to_owned(), namespace.to_owned());
                let answer = move |derived: Result<_, _>| sealing.settle(&kid, &namespace, derived);
                let input = self.sealing.sealer.derivation(place);
                self.pool.derive(Arc::clone(ring), position, input, Box::new(answer));
                Ok(None)
            }
        }
    }
}
