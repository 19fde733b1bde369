//! What proofs of possession must say: given on one connection, and good there only, once and for a short time.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::passport::hex;

/// Nonces of one connection that are good at one time; with one more the oldest goes.
pub(super) const MAX_CHALLENGES: usize = 64;

/// For how long a nonce is good.
pub(super) const LIFE: Duration = Duration::from_secs(60);

/// The nonces of one connection.
#[derive(Debug, Default)]
pub(super) struct Challenges {
    given: Mutex<VecDeque<(String, Instant)>>,
}

impl Challenges {
    /// A new one; none if the kernel gives no random bytes.
    pub(super) fn give(&self, now: Instant) -> Option<String> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).ok()?;
        let nonce = hex::encode(&random);
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if given.len() >= MAX_CHALLENGES {
            given.pop_front();
        }
        given.push_back((nonce.clone(), now));
        Some(nonce)
    }

    /// Whether it was given here, and is good.
    pub(super) fn has(&self, nonce: &str, now: Instant) -> bool {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.retain(|(_, at)| now.saturating_duration_since(*at) < LIFE);
        given.iter().any(|(known, _)| known == nonce)
    }

    /// It is good no more.
    pub(super) fn take(&self, nonce: &str) {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).retain(|(known, _)| known != nonce);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_where_it_was_given_once_and_for_a_time() {
        let (here, there, now) = (Challenges::default(), Challenges::default(), Instant::now());
        let nonce = here.give(now).unwrap();
        assert!(here.has(&nonce, now) && !there.has(&nonce, now));
        here.take(&nonce);
        assert!(!here.has(&nonce, now));
        let nonce = here.give(now).unwrap();
        assert!(here.has(&nonce, now + LIFE - Duration::from_millis(1)) && !here.has(&nonce, now + LIFE));
    }

    #[test]
    fn there_are_so_many_and_the_oldest_goes_first() {
        let (here, now) = (Challenges::default(), Instant::now());
        let nonces: Vec<_> = (0..=MAX_CHALLENGES).map(|_| here.give(now).unwrap()).collect();
        assert!(!here.has(&nonces[0], now) && nonces[1..].iter().all(|nonce| here.has(nonce, now)));
    }
}
