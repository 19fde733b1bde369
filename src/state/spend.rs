//! What an acceptance takes: a use, a nonce, a proof. Decided against the tables as they are, all or nothing. Pure.

use super::entry::{Answer, Entry, Owner, What};
use super::kept::{Full, Kept, Room};
use super::named::Named;
use super::parent::Parent;

/// For how long an acceptance is answered once more to whoever asks with the same key, in seconds: several times the longest
/// that a client waits for an answer.
pub const REPEAT_S: i64 = 120;

/// What is to be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spend {
    /// The uid that asks.
    pub uid: u32,
    /// The key that signed the passport.
    pub kid: String,
    /// Its tenant.
    pub tenant: String,
    /// Its id.
    pub jti: String,
    /// Its subject.
    pub sub: String,
    /// When it was issued.
    pub iat: i64,
    /// Its epoch.
    pub epoch: u64,
    /// What a ticket was made from.
    pub par: Option<Box<Parent>>,
    /// When nothing of it can matter any more: past its `exp` and the skew.
    pub until: i64,
    /// How many times it may be accepted.
    pub limit: Option<u64>,
    /// What must not have been accepted before.
    pub nonce: Option<String>,
    /// A proof, and until when it must be remembered.
    pub proof: Option<([u8; 32], i64)>,
    /// The client's key for this request, and the request's SHA-256.
    pub retry: Option<([u8; 16], [u8; 32])>,
    /// The present, in seconds since 1970.
    pub now: i64,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spending {
    /// Taken; so many uses are left, if there is a limit.
    Spent {
        /// Uses that are left.
        left: Option<u64>,
    },
    /// The same request was answered before, and nothing was taken now.
    Repeated {
        /// Uses that were left then.
        left: Option<u64>,
        /// When, in seconds since 1970.
        at: i64,
    },
    /// Its nonce was accepted before.
    Replayed,
    /// It was accepted as often as it may be.
    UsedUp,
    /// It is revoked.
    Revoked,
    /// The proof was accepted before.
    ProofReplayed,
    /// The key belongs to another request.
    OtherRequest,
}

/// What becomes of it, with the rows that make it so.
///
/// # Errors
/// Whose room is full.
pub(super) fn decide(spend: &Spend, kept: &Kept, room: &Room) -> Result<(Spending, Vec<Entry>), Full> {
    let Spend { uid, kid, tenant, jti, sub, iat, epoch, limit, .. } = spend;
    let none = |spending| Ok((spending, Vec::new()));
    let par = spend.par.as_deref().map(Parent::named);
    if kept.is_revoked(&Named { kid, tenant, jti, sub, iat: *iat, epoch: *epoch, par }) {
        return none(Spending::Revoked);
    }
    if let Some((key, request)) = &spend.retry
        && let Some((answer, until)) = kept.answer(tenant, *uid, key)
    {
        let same = answer.request == *request && answer.jti == *jti;
        return none(if same {
            Spending::Repeated { left: answer.left, at: until.saturating_sub(REPEAT_S) }
        } else {
            Spending::OtherRequest
        });
    }
    if spend.nonce.as_ref().is_some_and(|nonce| kept.nonce_is_spent(tenant, nonce)) {
        return none(Spending::Replayed);
    }
    let (used, owner) = kept.uses(tenant, jti).unwrap_or((0, Owner::Peer(*uid)));
    if limit.is_some_and(|limit| used >= limit) {
        return none(Spending::UsedUp);
    }
    if spend.proof.as_ref().is_some_and(|(id, _)| kept.proof_is_spent(tenant, id)) {
        return none(Spending::ProofReplayed);
    }
    if spend.proof.is_some() {
        kept.admits_proof(room, tenant, sub)?;
    }
    let left = limit.map(|limit| limit.saturating_sub(used).saturating_sub(1));
    let rows = spend.rows((used, owner), left);
    let new = rows.iter().filter(|row| !kept.is_there(row)).count();
    kept.admits(room, Owner::Peer(*uid), tenant, new)?;
    Ok((Spending::Spent { left }, rows))
}

impl Spend {
    /// Everything that the acceptance leaves behind.
    fn rows(&self, (used, owner): (u64, Owner), left: Option<u64>) -> Vec<Entry> {
        let row = |until, what| Entry { until, owner: Owner::Peer(self.uid), tenant: self.tenant.clone(), what };
        let jti = || self.jti.clone();
        let mut rows = Vec::with_capacity(4);
        if self.limit.is_some() {
            let count = used.saturating_add(1);
            rows.push(Entry { owner, ..row(self.until, What::Used { jti: jti(), count }) });
        }
        if let Some(nonce) = self.nonce.clone() {
            rows.push(row(self.until, What::Nonce { nonce }));
        }
        if let Some((id, until)) = self.proof {
            rows.push(row(until, What::Proof { id, sub: self.sub.clone() }));
        }
        if let Some((key, request)) = self.retry {
            let answer = Answer { key, uid: self.uid, request, jti: jti(), left };
            rows.push(row(self.now.saturating_add(REPEAT_S), What::Answer(answer)));
        }
        rows
    }

    /// Whether every text is no longer than a row takes.
    pub(super) fn fits(&self) -> bool {
        self.rows((0, Owner::Admin), None).iter().all(Entry::fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room::of(1000);

    fn spend() -> Spend {
        Spend {
            uid: 1000,
            kid: "ed25519/t1/auth/v1".into(),
            tenant: "t1".into(),
            jti: "j".into(),
            sub: "svc".into(),
            iat: 100,
            epoch: 0,
            par: None,
            until: 1000,
            limit: None,
            nonce: None,
            proof: None,
            retry: None,
            now: 200,
        }
    }

    /// Decides, and takes what there is to take.
    fn take(kept: &mut Kept, spend: &Spend) -> Spending {
        let (spending, rows) = decide(spend, kept, &ROOM).unwrap();
        rows.iter().for_each(|row| kept.put(row));
        spending
    }

    #[test]
    fn a_limit_is_counted_down_to_the_last_use() {
        for limit in [1, 2, 10] {
            let (mut kept, spend) = (Kept::default(), Spend { limit: Some(limit), ..spend() });
            for left in (0..limit).rev() {
                assert_eq!(take(&mut kept, &spend), Spending::Spent { left: Some(left) });
            }
            assert_eq!(take(&mut kept, &spend), Spending::UsedUp);
            assert_eq!(kept.len(), 1);
            // Another tenant's passport of the same id is another passport.
            let other = Spend { tenant: "t2".into(), ..spend };
            assert_eq!(take(&mut kept, &other), Spending::Spent { left: Some(limit - 1) });
        }
    }

    #[test]
    fn a_nonce_and_a_proof_are_taken_once_and_with_them_nothing_else() {
        let mut kept = Kept::default();
        let with = |nonce: &str, proof: u8| Spend {
            limit: Some(9),
            nonce: Some(nonce.into()),
            proof: Some(([proof; 32], 500)),
            ..spend()
        };
        assert_eq!(take(&mut kept, &with("n1", 1)), Spending::Spent { left: Some(8) });
        assert_eq!(take(&mut kept, &with("n1", 2)), Spending::Replayed);
        assert_eq!(take(&mut kept, &with("n2", 1)), Spending::ProofReplayed);
        assert_eq!(take(&mut kept, &with("n2", 2)), Spending::Spent { left: Some(7) }, "what was refused took no use");
        let other = Spend { tenant: "t2".into(), ..with("n1", 1) };
        assert_eq!(take(&mut kept, &other), Spending::Spent { left: Some(8) }, "tenants share no nonces");
    }

    #[test]
    fn the_same_request_is_answered_once_more_and_no_other_is() {
        let mut kept = Kept::default();
        let with = |key: u8, request: u8| Spend { limit: Some(2), retry: Some(([key; 16], [request; 32])), ..spend() };
        assert_eq!(take(&mut kept, &with(1, 1)), Spending::Spent { left: Some(1) });
        assert_eq!(take(&mut kept, &with(1, 1)), Spending::Repeated { left: Some(1), at: 200 });
        assert_eq!(take(&mut kept, &with(1, 2)), Spending::OtherRequest);
        assert_eq!(take(&mut kept, &Spend { jti: "k".into(), ..with(1, 1) }), Spending::OtherRequest);
        assert_eq!(take(&mut kept, &Spend { uid: 1001, ..with(1, 1) }), Spending::Spent { left: Some(0) }, "another's");
        assert_eq!(take(&mut kept, &with(1, 1)), Spending::Repeated { left: Some(1), at: 200 }, "as it was answered");
        assert_eq!(take(&mut kept, &with(2, 1)), Spending::UsedUp);
    }

    #[test]
    fn what_is_revoked_is_not_even_repeated() {
        let mut kept = Kept::default();
        let spend = Spend { retry: Some(([1; 16], [1; 32])), nonce: Some("n".into()), ..spend() };
        assert_eq!(take(&mut kept, &spend), Spending::Spent { left: None });
        let revoked = What::RevokedId { jti: "j".into() };
        kept.put(&Entry { until: 1000, owner: Owner::Admin, tenant: "t1".into(), what: revoked });
        assert_eq!(take(&mut kept, &spend), Spending::Revoked);
    }

    #[test]
    fn a_ticket_goes_with_the_passport_that_it_was_made_from() {
        let parent = Parent { kid: "ed25519/t1/auth/v0".into(), jti: "p".into(), iat: 50 };
        let ticket = Spend { jti: "t".into(), limit: Some(1), par: Some(Box::new(parent)), ..spend() };
        let revoked = |what| {
            let mut kept = Kept::default();
            kept.put(&Entry { until: 1000, owner: Owner::Admin, tenant: "t1".into(), what });
            take(&mut kept, &ticket)
        };
        let taken = Spending::Spent { left: Some(0) };
        assert_eq!(revoked(What::RevokedId { jti: "p".into() }), Spending::Revoked, "its passport");
        assert_eq!(revoked(What::RevokedId { jti: "t".into() }), Spending::Revoked, "itself");
        assert_eq!(revoked(What::RevokedId { jti: "other".into() }), taken);
        // The subject's passports up to a second in which the passport had been issued, and the ticket had not.
        let subject = |before| What::RevokedSubject { sub: "svc".into(), before };
        assert_eq!(revoked(subject(50)), Spending::Revoked);
        assert_eq!(revoked(subject(49)), taken);
        let with_key = |kid: &str| {
            let mut kept = Kept::default();
            kept.compromise(kid);
            take(&mut kept, &ticket)
        };
        assert_eq!(with_key("ed25519/t1/auth/v0"), Spending::Revoked, "the passport's key");
        assert_eq!(with_key("ed25519/t1/auth/v1"), Spending::Revoked, "the ticket's");
        assert_eq!(with_key("ed25519/t1/auth/v2"), taken);
    }

    #[test]
    fn without_room_nothing_is_taken() {
        let kept = Kept::default();
        let spend = Spend { limit: Some(1), nonce: Some("n".into()), ..spend() };
        let room = |total| Room { total, reserved: 1 };
        // A row of two kinds each: as many must stay free of the tenant's, and the tenant must leave as many.
        assert_eq!(decide(&spend, &kept, &room(6)), Err(Full::Peer));
        assert!(decide(&spend, &kept, &room(7)).is_ok());
    }

    /// Others who fill the room take nothing from what somebody has in it.
    #[test]
    fn a_use_that_has_its_row_finds_its_place_when_all_is_full() {
        let (mut kept, room) = (Kept::default(), Room { total: 8, reserved: 0 });
        let spend = Spend { limit: Some(3), ..spend() };
        take(&mut kept, &spend);
        for n in 0..7 {
            take(&mut kept, &Spend { uid: 2000 + n, tenant: "t2".into(), jti: format!("x{n}"), ..spend.clone() });
        }
        assert_eq!(decide(&Spend { jti: "k".into(), ..spend.clone() }, &kept, &room), Err(Full::All));
        let (spending, rows) = decide(&spend, &kept, &room).unwrap();
        assert_eq!((spending, rows.len()), (Spending::Spent { left: Some(1) }, 1));
        let keyed = Spend { retry: Some(([1; 16], [1; 32])), ..spend };
        assert_eq!(decide(&keyed, &kept, &room), Err(Full::All), "a row more is a row more");
    }

    #[test]
    fn a_subject_with_many_proofs_is_refused_and_others_are_not() {
        let (mut kept, room) = (Kept::default(), Room { total: 320, reserved: 0 });
        let most = u8::try_from(room.proofs_of_a_subject()).unwrap();
        assert_eq!(most, 10);
        let with = |sub: &str, proof: u8| Spend { sub: sub.into(), proof: Some(([proof; 32], 500)), ..spend() };
        for proof in 0..most {
            assert_eq!(take(&mut kept, &with("a", proof)), Spending::Spent { left: None });
        }
        assert_eq!(decide(&with("a", most), &kept, &room), Err(Full::Subject));
        assert_eq!(decide(&Spend { uid: 1001, ..with("a", most) }, &kept, &room), Err(Full::Subject), "whoever asks");
        // What was accepted is known as such; what takes no proof is nobody's business.
        assert_eq!(take(&mut kept, &with("a", 0)), Spending::ProofReplayed);
        assert!(decide(&Spend { proof: None, nonce: Some("n".into()), ..with("a", 0) }, &kept, &room).is_ok());
        // Nobody else: other subjects, and the same one of another tenant.
        assert!(decide(&with("b", most), &kept, &room).is_ok());
        assert!(decide(&Spend { tenant: "t2".into(), ..with("a", most) }, &kept, &room).is_ok());
        // When one goes, there is room for one.
        let what = What::Proof { id: [0; 32], sub: "a".into() };
        kept.remove(&Entry { until: 500, owner: Owner::Peer(1000), tenant: "t1".into(), what });
        assert_eq!(take(&mut kept, &with("a", most)), Spending::Spent { left: None });
        assert_eq!(decide(&with("a", most + 1), &kept, &room), Err(Full::Subject));
    }

    #[test]
    fn a_row_stays_in_the_share_of_who_had_it_made() {
        let mut kept = Kept::default();
        let spend = Spend { limit: Some(9), ..spend() };
        take(&mut kept, &spend);
        take(&mut kept, &Spend { uid: 1001, ..spend.clone() });
        let (count, owner) = kept.uses("t1", "j").unwrap();
        assert_eq!((count, owner), (2, Owner::Peer(1000)));
        kept.remove(&Entry { until: 1000, owner, tenant: "t1".into(), what: What::Used { jti: "j".into(), count } });
        // All of the room is there again for the first.
        assert_eq!(kept.admits(&Room { total: 3, reserved: 0 }, Owner::Peer(1000), "t1", 1), Ok(()));
    }
}
