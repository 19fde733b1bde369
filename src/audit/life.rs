//! What may be told of a record where nothing of anybody is to be kept (amnesia mode).

use super::entry::Entry;
use super::event::Event;

/// Whose words the detail of an event is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// The daemon's own.
    Ours,
    /// An admin's, at least in part.
    Theirs,
}

/// Of an event in the life of the daemon, its signer and its keys: whose words its detail is. None of all others, which are
/// about what somebody asked for: an event that nobody has looked at is one of those.
const fn life(event: Event) -> Option<Detail> {
    match event {
        Event::DaemonStarted
        | Event::DaemonStopping
        | Event::SelfTestPassed
        | Event::SelfTestFailed
        | Event::KeyStaged
        | Event::KeyActivated
        | Event::KeyRetired
        | Event::SignerLost
        | Event::SignerRecovered
        | Event::LedgerBreak
        | Event::VerifyPathDistrusted => Some(Detail::Ours),
        // Of a ticket's it says which passport the ticket was made from.
        Event::SignatureRejected
        | Event::PolicyReloaded
        | Event::PolicyRefused
        | Event::ConfigReloaded
        | Event::ConfigRefused
        | Event::IssuePaused
        | Event::IssueResumed
        | Event::Drained
        | Event::Undrained
        | Event::KeyCompromised => Some(Detail::Theirs),
        _ => None,
    }
}

impl Entry {
    /// That the daemon, its signer or a key began or ended, when, and what we ourselves say of it; none of any other event.
    /// Neither peers nor any text of theirs.
    pub(super) fn of_life(self) -> Option<Self> {
        let whose = life(self.event)?;
        let Self { event, outcome, at, texts, .. } = self;
        let mut told = Self::new(event, outcome, at);
        // The key's id is the signer's, and a reason one of our codes.
        (told.texts.kid, told.texts.reason) = (texts.kid, texts.reason);
        told.texts.detail = texts.detail.filter(|_| whose == Detail::Ours);
        Some(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Outcome, Peer};
    use crate::clock::Moment;

    /// With strangers' words wherever there is room for them.
    fn entry(event: Event) -> Entry {
        let peer = Peer { uid: 7, gid: 7, pid: 7, listener: "canary".to_owned() };
        let entry = Entry::new(event, Outcome::Ok, Moment::from_unix(9)).corr_id([1; 16]).peer(peer).exp(3);
        let entry = entry.subject("canary").jti("canary").template("canary").action("canary").aud("canary");
        entry.kid("ed25519/t1/auth/v1").reason("code").detail("in words")
    }

    #[test]
    fn of_a_life_it_is_told_what_the_daemon_says_itself() {
        for event in Event::ALL {
            let Some(told) = entry(*event).of_life() else { continue };
            assert_eq!((told.event, told.outcome, told.at), (*event, Outcome::Ok, Moment::from_unix(9)));
            assert!(told.peer.is_none() && told.corr_id.is_none() && told.exp.is_none());
            assert!(!format!("{told:?}").contains("canary"), "{told:?}");
            assert_eq!(told.texts.kid.as_deref(), Some("ed25519/t1/auth/v1"));
        }
        let told = |event| entry(event).of_life().map(|told| told.texts.detail);
        assert_eq!(told(Event::SignerLost), Some(Some("in words".to_owned())));
        assert_eq!(told(Event::KeyCompromised), Some(None), "the reason is an admin's");
        assert_eq!(told(Event::SignatureRejected), Some(None), "it may name a passport");
        for event in [Event::PassportIssued, Event::PassportRevoked, Event::PeerRefused, Event::Sealed, Event::Attested]
        {
            assert_eq!(told(event), None);
        }
    }
}
