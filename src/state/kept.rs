//! What is kept for a while, as readers and the writer look it up. Pure.
//!
//! A verification asks for one `jti`, among a million or none, so what it asks is small: 128-bit tags under two keys that this
//! process alone knows. Two things with one tag would take 2^64 of them, and nobody can look for such two.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::Arc;

use super::entry::{Answer, Entry, Owner, What};
use super::named::Named;

/// How much is kept.
///
/// Nobody has a fixed share, since nobody knows how many will come: whoever has much must leave as much free. A tenant may
/// have as many rows as it leaves free, alone half of all; of what its tenant could still have, a uid must leave free as much
/// as it has, alone a third of all. However many have taken what they may, the next one finds room. (Dynamic thresholds, as in
/// the buffers of switches: Choudhury and Hahne, 1998.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Rows in all.
    pub total: usize,
    /// Of these, so many are left to admins.
    pub reserved: usize,
}

/// Of this many parts of all rows, the proofs of one subject may be one: with two million rows some 260 proofs a second, each of
/// which is kept for four minutes. Whoever holds a key makes as many proofs as they like, and their service, which forwards
/// them, is not to pay for it with its own share.
const SUBJECT_SHARE: usize = 32;

impl Room {
    /// So many rows, of which a tenth is left to admins.
    pub const fn of(total: usize) -> Self {
        Self { total, reserved: total / 10 }
    }

    /// How many proofs of one subject are kept.
    pub const fn proofs_of_a_subject(&self) -> usize {
        self.total.div_ceil(SUBJECT_SHARE)
    }
}

/// Whose room is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Everybody's.
    All,
    /// The tenant's.
    Tenant,
    /// The peer's.
    Peer,
    /// What a subject may have of proofs.
    Subject,
}

impl Full {
    pub(super) const fn says(self) -> &'static str {
        match self {
            Self::All => {
                "no more revocations, uses and nonces can be kept; those that are there go with what they concern"
            }
            Self::Tenant => "the tenant has as many revocations, uses and nonces as one tenant may have",
            Self::Peer => "this user has as many revocations, uses and nonces as one user may have",
            Self::Subject => "as many proofs of this subject are kept as one subject may have",
        }
    }
}

/// 128 bits that stand for a kind, a tenant and an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Tag(u64, u64);

/// A tag is as good as a hash already.
#[derive(Clone, Copy, Default)]
struct First(u64);

impl Hasher for First {
    fn write(&mut self, bytes: &[u8]) {
        // Only tags are hashed, which are two numbers.
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 ^= number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type Tags = HashSet<Tag, BuildHasherDefault<First>>;
type ByTag<T> = HashMap<Tag, T, BuildHasherDefault<First>>;

/// The tables.
#[derive(Debug, Default)]
pub struct Kept {
    keys: [RandomState; 2],
    epochs: BTreeMap<Arc<str>, u64>,
    /// The epoch that every tenant is in at least.
    floor: u64,
    /// Keys that verify nothing any more.
    compromised: BTreeSet<Box<str>>,
    /// Until when.
    revoked: ByTag<i64>,
    /// The newest time, and when that goes.
    subjects: ByTag<(i64, i64)>,
    /// How often, and whose row that is.
    used: ByTag<(u64, Owner)>,
    /// Nonces and proofs.
    once: Tags,
    /// And when each goes.
    answers: ByTag<(Answer, i64)>,
    rows: usize,
    tenants: HashMap<Box<str>, usize>,
    peers: HashMap<u32, usize>,
    /// Proofs of each subject.
    proofs: ByTag<usize>,
    admins: usize,
}

impl Kept {
    /// Whether a passport is revoked: by its id, by its subject, with its key, or with all of its tenant's of an earlier
    /// epoch; a ticket, with the passport that it was made from.
    pub fn is_revoked(&self, named: &Named<'_>) -> bool {
        self.is_revoked_itself(named) || named.parent().is_some_and(|parent| self.is_revoked_itself(&parent))
    }

    fn is_revoked_itself(&self, named: &Named<'_>) -> bool {
        let Named { kid, tenant, jti, sub, iat, epoch, par: _ } = *named;
        // Most tenants have no epoch but the first, and most hosts no revoked subject.
        epoch < self.epoch(tenant)
            || (!self.compromised.is_empty() && self.compromised.contains(kid))
            || (!self.revoked.is_empty() && self.revoked.contains_key(&self.tag(1, tenant, jti.as_bytes())))
            || (!self.subjects.is_empty()
                && self.subjects.get(&self.tag(2, tenant, sub.as_bytes())).is_some_and(|(before, _)| iat <= *before))
    }

    /// Whether the key verifies nothing any more.
    pub(super) fn is_compromised(&self, kid: &str) -> bool {
        self.compromised.contains(kid)
    }

    /// The tenant's epoch; 0 until it is bumped, or all are.
    pub fn epoch(&self, tenant: &str) -> u64 {
        if self.epochs.is_empty() { self.floor } else { self.epochs.get(tenant).copied().unwrap_or(0).max(self.floor) }
    }

    /// Every tenant whose epoch was bumped.
    pub fn epochs(&self) -> impl Iterator<Item = (&str, u64)> {
        self.epochs.iter().map(|(tenant, epoch)| (&**tenant, *epoch))
    }

    /// Up to which second passports of this subject are revoked.
    pub fn subject_revoked(&self, tenant: &str, sub: &str) -> Option<i64> {
        self.subject(tenant, sub).map(|(before, _)| before)
    }

    /// The same, and when that goes.
    pub(super) fn subject(&self, tenant: &str, sub: &str) -> Option<(i64, i64)> {
        self.subjects.get(&self.tag(2, tenant, sub.as_bytes())).copied()
    }

    /// Whether a passport is revoked by its id until then at least. It may not be durable yet.
    pub fn id_revoked_until(&self, tenant: &str, jti: &str, until: i64) -> bool {
        self.id_revoked(tenant, jti).is_some_and(|known| known >= until)
    }

    /// Until when a passport is revoked by its id.
    pub(super) fn id_revoked(&self, tenant: &str, jti: &str) -> Option<i64> {
        self.revoked.get(&self.tag(1, tenant, jti.as_bytes())).copied()
    }

    /// How often the passport was accepted.
    pub fn used(&self, tenant: &str, jti: &str) -> u64 {
        self.uses(tenant, jti).map_or(0, |(count, _)| count)
    }

    /// The same, and whose share that takes: the first's who accepted it.
    pub(super) fn uses(&self, tenant: &str, jti: &str) -> Option<(u64, Owner)> {
        self.used.get(&self.tag(3, tenant, jti.as_bytes())).copied()
    }

    /// Whether a passport with this nonce was accepted.
    pub fn nonce_is_spent(&self, tenant: &str, nonce: &str) -> bool {
        self.once.contains(&self.tag(4, tenant, nonce.as_bytes()))
    }

    /// Whether the proof was accepted.
    pub fn proof_is_spent(&self, tenant: &str, id: &[u8; 32]) -> bool {
        self.once.contains(&self.tag(6, tenant, id))
    }

    /// What this uid was answered under this key, and until when it is.
    pub fn answer(&self, tenant: &str, uid: u32, key: &[u8; 16]) -> Option<(&Answer, i64)> {
        let found = self.answers.get(&self.tag(5, tenant, &[&uid.to_be_bytes()[..], key].concat()));
        found.map(|(answer, until)| (answer, *until))
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// How many tenants have an epoch of their own.
    pub fn tenants_in_epochs(&self) -> usize {
        self.epochs.len()
    }

    /// How many keys are compromised.
    pub fn compromised_keys(&self) -> usize {
        self.compromised.len()
    }

    /// How many passports are revoked by their id.
    pub fn revoked_ids(&self) -> usize {
        self.revoked.len()
    }

    /// How many subjects are revoked.
    pub fn revoked_subjects(&self) -> usize {
        self.subjects.len()
    }

    /// A copy of what is revoked and can still matter at `now`, and of nothing else: for whoever only hears what comes, and not
    /// what goes. Epochs and keys stay.
    #[cfg(feature = "client")]
    pub(crate) fn revocations(&self, now: i64) -> Self {
        let Self { keys, epochs, floor, compromised, .. } = self;
        let revoked: ByTag<i64> =
            self.revoked.iter().map(|(tag, until)| (*tag, *until)).filter(|(_, until)| *until > now).collect();
        let subjects: ByTag<(i64, i64)> =
            self.subjects.iter().map(|(tag, one)| (*tag, *one)).filter(|(_, (_, until))| *until > now).collect();
        let rows = revoked.len() + subjects.len();
        let (keys, epochs, compromised) = (keys.clone(), epochs.clone(), compromised.clone());
        Self { keys, epochs, floor: *floor, compromised, revoked, subjects, rows, admins: rows, ..Self::default() }
    }

    /// Whether `owner` may have `more` rows more of the tenant. Whoever takes no more is refused by nobody's share: what is left of
    /// one shrinks with what others take.
    ///
    /// # Errors
    /// Whose room is full.
    pub fn admits(&self, room: &Room, owner: Owner, tenant: &str, more: usize) -> Result<(), Full> {
        if more == 0 {
            return Ok(());
        }
        let after = |taken: usize| taken.saturating_add(more);
        let free = room.total.checked_sub(after(self.rows)).ok_or(Full::All)?;
        let Owner::Peer(uid) = owner else { return Ok(()) };
        // What admins have taken of their own is not taken from others.
        let free = free.checked_sub(room.reserved.saturating_sub(self.admins)).ok_or(Full::All)?;
        let of_tenant = after(self.tenants.get(tenant).copied().unwrap_or(0));
        let free = free.checked_sub(of_tenant).ok_or(Full::Tenant)?;
        if after(self.peers.get(&uid).copied().unwrap_or(0)) <= free { Ok(()) } else { Err(Full::Peer) }
    }

    /// Whether one proof more of this subject may be kept.
    ///
    /// # Errors
    /// [`Full::Subject`].
    pub(super) fn admits_proof(&self, room: &Room, tenant: &str, sub: &str) -> Result<(), Full> {
        let there = self.proofs.get(&self.tag(7, tenant, sub.as_bytes())).copied().unwrap_or(0);
        if there < room.proofs_of_a_subject() { Ok(()) } else { Err(Full::Subject) }
    }

    /// Whether the row adds one, or takes the place of one that is there.
    pub(super) fn is_there(&self, entry: &Entry) -> bool {
        let tag = self.tag_of(entry);
        match &entry.what {
            // One that goes at another time is another row.
            What::RevokedId { .. } => self.revoked.get(&tag) == Some(&entry.until),
            What::RevokedSubject { .. } => self.subjects.get(&tag).is_some_and(|(_, until)| *until == entry.until),
            What::Used { .. } => self.used.contains_key(&tag),
            What::Nonce { .. } | What::Proof { .. } => self.once.contains(&tag),
            What::Answer(_) => self.answers.contains_key(&tag),
        }
    }

    /// A row has come, or replaces one of the same key.
    pub(crate) fn put(&mut self, entry: &Entry) {
        if !self.is_there(entry) {
            self.count(entry, true);
        }
        let tag = self.tag_of(entry);
        match &entry.what {
            What::RevokedId { .. } => {
                let longest = self.revoked.entry(tag).or_insert(entry.until);
                *longest = (*longest).max(entry.until);
            }
            What::RevokedSubject { before, .. } => {
                let newest = self.subjects.entry(tag).or_insert((*before, entry.until));
                *newest = (newest.0.max(*before), newest.1.max(entry.until));
            }
            What::Used { count, .. } => {
                self.used.insert(tag, (*count, entry.owner));
            }
            What::Nonce { .. } | What::Proof { .. } => {
                self.once.insert(tag);
            }
            What::Answer(answer) => {
                self.answers.insert(tag, (answer.clone(), entry.until));
            }
        }
    }

    /// A row has gone.
    pub(super) fn remove(&mut self, entry: &Entry) {
        let tag = self.tag_of(entry);
        let gone = match &entry.what {
            What::RevokedId { .. } => {
                // One that goes later holds on.
                if self.revoked.get(&tag).is_some_and(|until| *until <= entry.until) {
                    self.revoked.remove(&tag);
                }
                true
            }
            What::RevokedSubject { .. } => {
                // One that goes later says at least as much.
                if self.subjects.get(&tag).is_some_and(|(_, until)| *until <= entry.until) {
                    self.subjects.remove(&tag);
                }
                true
            }
            What::Used { .. } => self.used.remove(&tag).is_some(),
            What::Nonce { .. } | What::Proof { .. } => self.once.remove(&tag),
            What::Answer(_) => self.answers.remove(&tag).is_some(),
        };
        if gone {
            self.count(entry, false);
        }
    }

    /// The tenant is in this epoch, whatever it was in before.
    pub(crate) fn set_epoch(&mut self, tenant: &str, epoch: u64) {
        self.epochs.insert(tenant.into(), epoch);
    }

    /// The epoch that every tenant is in at least.
    pub const fn floor(&self) -> u64 {
        self.floor
    }

    /// Every tenant is in this epoch at least.
    pub(crate) fn raise_floor(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
    }

    /// Nothing that this key signed counts any more.
    pub(crate) fn compromise(&mut self, kid: &str) {
        self.compromised.insert(kid.into());
    }

    fn count(&mut self, entry: &Entry, more: bool) {
        let step = |number: &mut usize| *number = if more { *number + 1 } else { number.saturating_sub(1) };
        step(&mut self.rows);
        if let What::Proof { sub, .. } = &entry.what {
            let tag = self.tag(7, &entry.tenant, sub.as_bytes());
            let there = self.proofs.entry(tag).or_default();
            step(there);
            if *there == 0 {
                self.proofs.remove(&tag);
            }
        }
        let Owner::Peer(uid) = entry.owner else { return step(&mut self.admins) };
        step(self.tenants.entry(entry.tenant.as_str().into()).or_default());
        step(self.peers.entry(uid).or_default());
        if !more {
            self.tenants.retain(|_, rows| *rows > 0);
            self.peers.retain(|_, rows| *rows > 0);
        }
    }

    fn tag_of(&self, entry: &Entry) -> Tag {
        self.tag(entry.what.kind(), &entry.tenant, &entry.what.id())
    }

    fn tag(&self, kind: u8, tenant: &str, id: &[u8]) -> Tag {
        let [first, second] = &self.keys;
        let hash = |state: &RandomState| {
            let mut hasher = state.build_hasher();
            hasher.write_u8(kind);
            tenant.hash(&mut hasher);
            hasher.write(id);
            hasher.finish()
        };
        Tag(hash(first), hash(second))
    }
}
