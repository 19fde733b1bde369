//! What the signer says of itself, as counters of this process.

use super::{Label as _, Metrics, Rung};
use crate::wire::link::{LinkHealth, LinkRefusal};

/// Words of `passport_signer_refused_total{reason}`, in the order in which the signer counts.
pub(super) const REFUSALS: [&str; LinkRefusal::ALL.len() + 1] = {
    let mut words = ["unreadable"; LinkRefusal::ALL.len() + 1];
    let (mut refusals, mut rest) = (LinkRefusal::ALL.as_slice(), words.as_mut_slice());
    while let ([refusal, others @ ..], [word, more @ ..]) = (refusals, rest) {
        *word = refusal.name();
        (refusals, rest) = (others, more);
    }
    words
};

impl Metrics {
    /// Takes over what the signer has counted since `before`, which may be another one's.
    pub fn signer_says(&self, health: &LinkHealth, before: Option<&LinkHealth>) {
        let before = before.filter(|before| before.boot_id == health.boot_id);
        let grown = |counts: &[u64], before: &[u64], place: usize| {
            let [now, before] = [counts, before].map(|counts| counts.get(place).copied().unwrap_or(0));
            now.saturating_sub(before)
        };
        let (ladder, refused) = before.map_or((&[][..], &[][..]), |before| (&before.ladder[..], &before.refused[..]));
        for (place, rung) in Rung::all().into_iter().enumerate() {
            self.signer_ladder.at(rung).inc_by(grown(&health.ladder, ladder, place));
        }
        for (place, reason) in REFUSALS.iter().enumerate() {
            self.signer_refused.at(reason).inc_by(grown(&health.refused, refused, place));
        }
        let bad = before.map_or(0, |before| before.bad_signatures);
        self.signer_bad_signatures.inc_by(health.bad_signatures.saturating_sub(bad));
        self.signer_sessions.set(i64::from(health.sessions));
        self.signer_stuck.set(i64::from(health.stuck));
        self.signer_rss.set(i64::try_from(health.rss_kib.saturating_mul(1024)).unwrap_or(i64::MAX));
    }

    /// There is none, or it does not say.
    pub fn signer_is_silent(&self) {
        [&self.signer_sessions, &self.signer_stuck, &self.signer_rss].into_iter().for_each(|gauge| gauge.set(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Words;

    #[test]
    fn what_grew_is_counted_and_a_new_signer_begins_at_nothing() {
        let metrics = Metrics::new(Words { key_states: &[], ledger_events: &[] }).unwrap();
        let says = |boot_id, session, unreadable| LinkHealth {
            boot_id,
            sessions: 4,
            stuck: 1,
            ladder: vec![session, 0, 2, 0],
            refused: LinkRefusal::ALL.iter().map(|_| 0).chain([unreadable]).collect(),
            bad_signatures: session,
            rss_kib: 3,
            ..LinkHealth::default()
        };
        assert_eq!(REFUSALS.len(), LinkRefusal::ALL.len() + 1);
        let (one, two, other) = (says(1, 5, 7), says(1, 6, 7), says(2, 1, 1));
        metrics.signer_says(&one, None);
        metrics.signer_says(&two, Some(&one));
        metrics.signer_says(&other, Some(&two));
        assert_eq!(metrics.signer_ladder.at(Rung::Session).get(), 5 + 1 + 1);
        assert_eq!(metrics.signer_ladder.at(Rung::Module).get(), 2 + 2);
        assert_eq!(metrics.signer_refused.at("unreadable").get(), 7 + 1);
        assert_eq!(metrics.signer_refused.at("malformed").get(), 0);
        assert_eq!(metrics.signer_bad_signatures.get(), 7);
        assert_eq!((metrics.signer_sessions.get(), metrics.signer_stuck.get()), (4, 1));
        assert_eq!(metrics.signer_rss.get(), 3072);
        metrics.signer_is_silent();
        assert_eq!((metrics.signer_sessions.get(), metrics.signer_rss.get()), (0, 0));
    }
}
