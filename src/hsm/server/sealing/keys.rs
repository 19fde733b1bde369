//! The keys that the HSM derived, in one locked page, and those who wait for one.

use super::Parked;
use crate::hsm::ring::Ring;
use crate::hsm::sealer::KEY;
use crate::secret::{MAX_SECRET_BYTES, SecretBytes};
use crate::wire::link::LinkRefusal;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zeroize::{Zeroize, Zeroizing};

/// Keys that are kept: what fits a page. With one more, the one that has not been used for longest goes.
pub(super) const MAX_DERIVED: usize = MAX_SECRET_BYTES / KEY;
/// How long a key is kept that nobody asks for.
const KEPT: Duration = Duration::from_secs(60);
/// Bytes of secrets that wait for keys, all together, in whole pages each; those that wait for one key have half of it.
const MAX_PARKED: usize = 8 << 20;

/// What became of a request for a key.
pub(super) enum Taken {
    /// Here it is.
    Key(Zeroizing<[u8; KEY]>),
    /// Others have asked for it already; it waits with them.
    Parked,
    /// It waits, too, and the HSM has to be asked.
    First,
}

struct Kept {
    slot: usize,
    used: Instant,
}

/// A key by its id and namespace.
type Name = (String, String);

/// Everything about derived keys.
#[derive(Default)]
pub(super) struct Keys {
    /// The keys of the HSM that these are derived from. With others, none of them is used any more.
    ring: Option<Arc<Ring>>,
    page: Option<SecretBytes>,
    kept: HashMap<Name, Kept>,
    free: Vec<usize>,
    waiting: HashMap<Name, Vec<Parked>>,
    parked: usize,
}

impl Keys {
    /// The key, or a place to wait for it. One key may have half of the room for those who wait, so that none keeps others
    /// from theirs.
    pub(super) fn take(
        &mut self,
        ring: &Arc<Ring>,
        kid: &str,
        namespace: &str,
        now: Instant,
        park: impl FnOnce() -> Result<Parked, LinkRefusal>,
    ) -> Result<Taken, LinkRefusal> {
        self.belong_to(ring);
        let name = (kid.to_owned(), namespace.to_owned());
        if let Some(kept) = self.kept.get_mut(&name) {
            kept.used = now;
            let slot = kept.slot;
            return Ok(Taken::Key(self.key(slot)));
        }
        let parked = park()?;
        let first = !self.waiting.contains_key(&name);
        let before = self.waiting.get(&name).map(Vec::as_slice).unwrap_or_default();
        let own: usize = before.iter().map(Parked::weight).sum();
        let weight = parked.weight();
        if self.parked + weight > MAX_PARKED || own + weight > MAX_PARKED / 2 {
            return Err(LinkRefusal::Busy);
        }
        self.parked += weight;
        self.waiting.entry(name).or_default().push(parked);
        Ok(if first { Taken::First } else { Taken::Parked })
    }

    /// Keeps the key, if there is one, and hands out those who waited for it.
    pub(super) fn settle(&mut self, kid: &str, namespace: &str, key: Option<&[u8; KEY]>, now: Instant) -> Vec<Parked> {
        let name = (kid.to_owned(), namespace.to_owned());
        let waiting = self.waiting.remove(&name).unwrap_or_default();
        self.parked -= waiting.iter().map(Parked::weight).sum::<usize>();
        if let Some(key) = key {
            self.keep(name, key, now);
        }
        waiting
    }

    /// Forgets keys that nobody has asked for lately.
    pub(super) fn tidy(&mut self, now: Instant) {
        let old = |kept: &Kept| now.saturating_duration_since(kept.used) >= KEPT;
        let names: Vec<Name> = self.kept.iter().filter(|(_, kept)| old(kept)).map(|(name, _)| name.clone()).collect();
        names.iter().for_each(|name| self.forget(name));
    }

    fn belong_to(&mut self, ring: &Arc<Ring>) {
        if self.ring.as_ref().is_some_and(|own| Arc::ptr_eq(own, ring)) {
            return;
        }
        let names: Vec<Name> = self.kept.keys().cloned().collect();
        names.iter().for_each(|name| self.forget(name));
        self.ring = Some(Arc::clone(ring));
    }

    fn key(&self, slot: usize) -> Zeroizing<[u8; KEY]> {
        let mut key = Zeroizing::new([0; KEY]);
        let bytes = self.page.as_ref().and_then(|page| page.expose().get(slot * KEY..)?.first_chunk::<KEY>());
        if let Some(bytes) = bytes {
            key.copy_from_slice(bytes);
        }
        key
    }

    fn keep(&mut self, name: Name, key: &[u8; KEY], now: Instant) {
        if self.page.is_none() {
            // Without a page each request has the HSM derive its key: slower, and no less right.
            let Ok(page) = SecretBytes::zeroed(MAX_DERIVED * KEY) else { return };
            self.page = Some(page);
            self.free = (0..MAX_DERIVED).rev().collect();
        }
        self.forget(&name);
        if self.free.is_empty()
            && let Some(oldest) = self.kept.iter().min_by_key(|(_, kept)| kept.used).map(|(name, _)| name.clone())
        {
            self.forget(&oldest);
        }
        let Some(slot) = self.free.pop() else { return };
        if let Some(room) = self.room(slot) {
            room.copy_from_slice(key);
            self.kept.insert(name, Kept { slot, used: now });
        }
    }

    fn forget(&mut self, name: &Name) {
        if let Some(Kept { slot, .. }) = self.kept.remove(name) {
            if let Some(room) = self.room(slot) {
                room.zeroize();
            }
            self.free.push(slot);
        }
    }

    fn room(&mut self, slot: usize) -> Option<&mut [u8; KEY]> {
        self.page.as_mut()?.expose_mut().get_mut(slot * KEY..)?.first_chunk_mut()
    }
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
