//! What is kept until it can no longer matter: revocations, uses, nonces, answers to be repeated, and proofs. One row of the
//! store each, under a key that begins with the time at which it goes: the order of the table is that of their going.
//!
//! ```text
//! key     until (8, big endian) ‖ kind (1) ‖ length of the tenant (1) ‖ tenant ‖ id
//! value   BLAKE3(key ‖ value)[..16] ‖ owner (5) ‖ what the kind has beside
//! ```

/// Bytes of BLAKE3 in front of a row.
pub(super) const SUM: usize = 16;
/// The longest tenant, id, subject or nonce of a row, in bytes: those of a payload, with escapes undone.
pub(super) const MAX_ID: usize = 256;
/// The longest tenant, in bytes.
const MAX_TENANT: usize = 255;
/// Where an admin is the owner.
const ADMIN: [u8; 5] = [0; 5];

/// Who had something kept, and so whose share of the room it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// An admin: nobody's share.
    Admin,
    /// The services of this uid.
    Peer(u32),
}

/// Something that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// From this second on (since 1970) it can no longer matter.
    pub until: i64,
    /// Whose share it takes.
    pub owner: Owner,
    /// The tenant that it is of; no answer depends on another tenant's (L6).
    pub tenant: String,
    /// What it is.
    pub what: What,
}

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The passport of this `jti` is revoked.
    RevokedId {
        /// The passport's id.
        jti: String,
    },
    /// Every passport of this subject that was issued at `before` or earlier is revoked.
    RevokedSubject {
        /// The subject.
        sub: String,
        /// Seconds since 1970, inclusive.
        before: i64,
    },
    /// The passport of this `jti` was accepted so often.
    Used {
        /// The passport's id.
        jti: String,
        /// How often.
        count: u64,
    },
    /// A passport with this nonce was accepted.
    Nonce {
        /// The nonce.
        nonce: String,
    },
    /// An acceptance that is answered once more to whoever asks with the same key.
    Answer(Answer),
    /// A proof of possession was accepted.
    Proof {
        /// SHA-256 of the key's thumbprint and the proof's `jti`, each with its length.
        id: [u8; 32],
        /// The subject of the passport that it was for, whose quota it takes.
        sub: String,
    },
}

/// An acceptance that consumed something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The client's key, random.
    pub key: [u8; 16],
    /// The uid that asked.
    pub uid: u32,
    /// SHA-256 of what was asked.
    pub request: [u8; 32],
    /// The passport's id.
    pub jti: String,
    /// Uses that were left after it; none if the passport has no limit.
    pub left: Option<u64>,
}

impl What {
    pub(super) const fn kind(&self) -> u8 {
        match self {
            Self::RevokedId { .. } => 1,
            Self::RevokedSubject { .. } => 2,
            Self::Used { .. } => 3,
            Self::Nonce { .. } => 4,
            Self::Answer(_) => 5,
            Self::Proof { .. } => 6,
        }
    }

    /// What names it among those of its kind and tenant.
    pub(super) fn id(&self) -> Vec<u8> {
        match self {
            Self::RevokedId { jti } | Self::Used { jti, .. } => jti.as_bytes().to_vec(),
            Self::RevokedSubject { sub, .. } => sub.as_bytes().to_vec(),
            Self::Nonce { nonce } => nonce.as_bytes().to_vec(),
            Self::Answer(answer) => [&answer.uid.to_be_bytes()[..], &answer.key].concat(),
            Self::Proof { id, .. } => id.to_vec(),
        }
    }

    /// Until when what is revoked was issued; of an id that does not matter.
    pub(super) const fn before(&self) -> i64 {
        match self {
            Self::RevokedSubject { before, .. } => *before,
            _ => i64::MIN,
        }
    }

    fn beside(&self) -> Vec<u8> {
        match self {
            Self::RevokedId { .. } | Self::Nonce { .. } => Vec::new(),
            Self::Proof { sub, .. } => sub.as_bytes().to_vec(),
            Self::RevokedSubject { before, .. } => before.to_be_bytes().to_vec(),
            Self::Used { count, .. } => count.to_be_bytes().to_vec(),
            Self::Answer(Answer { request, jti, left, .. }) => {
                let left = left.map_or([0; 9], |left| {
                    let mut bytes = [1; 9];
                    bytes.iter_mut().skip(1).zip(left.to_be_bytes()).for_each(|(byte, of)| *byte = of);
                    bytes
                });
                [&request[..], &left, jti.as_bytes()].concat()
            }
        }
    }
}

impl Owner {
    fn bytes(self) -> [u8; 5] {
        match self {
            Self::Admin => ADMIN,
            Self::Peer(uid) => {
                let [a, b, c, d] = uid.to_be_bytes();
                [1, a, b, c, d]
            }
        }
    }

    fn read(bytes: [u8; 5]) -> Option<Self> {
        match bytes {
            ADMIN => Some(Self::Admin),
            [1, a, b, c, d] => Some(Self::Peer(u32::from_be_bytes([a, b, c, d]))),
            _ => None,
        }
    }
}

impl Entry {
    /// Its row. The fields are within their bounds, see [`Entry::fits`].
    pub(super) fn row(&self) -> (Vec<u8>, Vec<u8>) {
        let until = u64::try_from(self.until).unwrap_or(0);
        let tenant = self.tenant.as_bytes();
        let length = u8::try_from(tenant.len()).unwrap_or(u8::MAX);
        let key = [&until.to_be_bytes()[..], &[self.what.kind(), length], tenant, &self.what.id()].concat();
        let value = [&self.owner.bytes()[..], &self.what.beside()].concat();
        let value = [&sum(&key, &value)[..], &value].concat();
        (key, value)
    }

    /// Makes a revocation say as much as another of the same id or subject.
    pub(super) fn extend(&mut self, until: i64, before: i64) {
        self.until = self.until.max(until);
        if let What::RevokedSubject { before: own, .. } = &mut self.what {
            *own = (*own).max(before);
        }
    }

    /// Whether its texts are no longer than a row takes.
    pub(super) fn fits(&self) -> bool {
        let beside = match &self.what {
            What::Answer(answer) => answer.jti.len(),
            What::Proof { sub, .. } => sub.len(),
            _ => 0,
        };
        self.until >= 0 && self.tenant.len() <= MAX_TENANT && self.what.id().len() <= MAX_ID && beside <= MAX_ID
    }

    /// What a row says.
    pub(super) fn read(key: &[u8], value: &[u8]) -> Result<Self, String> {
        let (stated, value) = value.split_first_chunk::<SUM>().ok_or_else(|| wrong(key, "is cut short"))?;
        if *stated != sum(key, value) {
            return Err(wrong(key, "does not match its checksum"));
        }
        parse(key, value).ok_or_else(|| wrong(key, "is of no kind that is known"))
    }

    /// Whether a row with this key is that of a revocation.
    pub(super) fn is_of_revocation(key: &[u8]) -> bool {
        matches!(key.get(8), Some(1 | 2))
    }

    /// The first key that does not go before `now`.
    pub(super) fn horizon(now: i64) -> [u8; 8] {
        // What goes at `now` has gone: until is exclusive.
        u64::try_from(now).map_or([0; 8], |now| now.saturating_add(1).to_be_bytes())
    }
}

fn parse(key: &[u8], value: &[u8]) -> Option<Entry> {
    let (until, key) = key.split_first_chunk::<8>()?;
    let ([kind, length], key) = key.split_first_chunk::<2>()?;
    let (tenant, id) = key.split_at_checked(usize::from(*length))?;
    let (owner, beside) = value.split_first_chunk::<5>()?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let none = |what: What| beside.is_empty().then_some(what);
    let what = match kind {
        1 => none(What::RevokedId { jti: text(id)? })?,
        2 => What::RevokedSubject { sub: text(id)?, before: i64::from_be_bytes(beside.try_into().ok()?) },
        3 => What::Used { jti: text(id)?, count: u64::from_be_bytes(beside.try_into().ok()?) },
        4 => none(What::Nonce { nonce: text(id)? })?,
        5 => {
            let (uid, key) = id.split_first_chunk::<4>()?;
            let (request, beside) = beside.split_first_chunk::<32>()?;
            let ([has, left @ ..], jti) = beside.split_first_chunk::<9>()?;
            let left = (*has == 1).then(|| u64::from_be_bytes(*left));
            let uid = u32::from_be_bytes(*uid);
            What::Answer(Answer { key: key.try_into().ok()?, uid, request: *request, jti: text(jti)?, left })
        }
        6 => What::Proof { id: id.try_into().ok()?, sub: text(beside)? },
        _ => return None,
    };
    let (until, owner) = (i64::try_from(u64::from_be_bytes(*until)).ok()?, Owner::read(*owner)?);
    Some(Entry { until, owner, tenant: text(tenant)?, what })
}

fn wrong(key: &[u8], what: &str) -> String {
    let shown: String = key.iter().take(64).flat_map(|byte| byte.escape_ascii()).map(char::from).collect();
    format!("row {shown} {what}")
}

fn sum(key: &[u8], value: &[u8]) -> [u8; SUM] {
    let mut hasher = blake3::Hasher::new();
    // The key's length: what ends the key can't begin the value.
    hasher.update(&u64::try_from(key.len()).unwrap_or(u64::MAX).to_be_bytes()).update(key).update(value);
    let mut sum = [0; SUM];
    hasher.finalize_xof().fill(&mut sum);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Entry> {
        let answer = |left| What::Answer(Answer { key: [7; 16], uid: 1000, request: [9; 32], jti: "j-1".into(), left });
        let whats = [
            What::RevokedId { jti: "j-1".into() },
            What::RevokedSubject { sub: "svc/ä".into(), before: 1_700_000_000 },
            What::RevokedSubject { sub: "x".repeat(MAX_ID), before: -1 },
            What::Used { jti: "j-1".into(), count: u64::MAX },
            What::Nonce { nonce: "n".into() },
            answer(None),
            answer(Some(0)),
            answer(Some(u64::MAX)),
            What::Proof { id: [3; 32], sub: "svc/ä".into() },
            What::Proof { id: [4; 32], sub: "x".repeat(MAX_ID) },
        ];
        let one = |(at, what): (usize, What)| {
            let owner = if at % 2 == 0 { Owner::Admin } else { Owner::Peer(u32::MAX) };
            Entry { until: i64::MAX >> at, owner, tenant: "t1.host7".into(), what }
        };
        whats.into_iter().enumerate().map(one).collect()
    }

    #[test]
    fn rows_there_and_back() {
        for entry in all() {
            let (key, value) = entry.row();
            assert!(entry.fits());
            assert_eq!(Entry::read(&key, &value).unwrap(), entry);
        }
    }

    #[test]
    fn the_order_of_rows_is_that_of_their_going() {
        let entry = |until| Entry { until, ..all().remove(0) };
        let keys: Vec<_> = [0, 1, 255, 256, 1 << 32, i64::MAX].map(|until| entry(until).row().0).into();
        assert!(keys.is_sorted());
        for (now, gone) in [(-1, 0), (0, 1), (1, 2), (254, 2), (255, 3), (i64::MAX, 6)] {
            let horizon = Entry::horizon(now);
            assert_eq!(keys.iter().filter(|key| key[..] < horizon[..]).count(), gone, "{now}");
        }
    }

    #[test]
    fn any_altered_bit_or_other_place_is_noticed() {
        for entry in all() {
            let (key, value) = entry.row();
            for at in 0..value.len() * 8 {
                let mut bent = value.clone();
                bent[at / 8] ^= 1 << (at % 8);
                assert!(Entry::read(&key, &bent).is_err(), "bit {at} of {entry:?}");
            }
            for at in 0..key.len() * 8 {
                let mut bent = key.clone();
                bent[at / 8] ^= 1 << (at % 8);
                assert!(Entry::read(&bent, &value).is_err(), "bit {at} of the key of {entry:?}");
            }
            (0..value.len()).for_each(|end| assert!(Entry::read(&key, &value[..end]).is_err()));
        }
    }

    #[test]
    fn what_is_too_long_does_not_fit() {
        let entry = |what| Entry { what, ..all().remove(0) };
        let text = "x".repeat(MAX_ID + 1);
        assert!(!entry(What::RevokedId { jti: text.clone() }).fits());
        assert!(!entry(What::Nonce { nonce: text.clone() }).fits());
        let answer = Answer { key: [0; 16], uid: 0, request: [0; 32], jti: text, left: None };
        assert!(!entry(What::Answer(answer)).fits());
        assert!(!entry(What::Proof { id: [0; 32], sub: "x".repeat(MAX_ID + 1) }).fits());
        assert!(!Entry { tenant: "t".repeat(256), ..all().remove(0) }.fits());
        assert!(!Entry { until: -1, ..all().remove(0) }.fits());
    }
}
