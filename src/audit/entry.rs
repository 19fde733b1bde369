//! What a producer knows about a decision.

use serde::Serialize;

use super::event::Event;
use crate::clock::Moment;
use crate::log::{Break, BreakCause};

/// The longest text of a member in bytes; longer ones are cut and end in `…`.
pub const MAX_TEXT: usize = 256;

/// The same for `detail`.
pub const MAX_DETAIL: usize = 512;

/// The largest `count`: the canonical form has numbers as a double does (RFC 8785 §3.2.2.3), and larger ones would not be exact.
pub const MAX_COUNT: u64 = (1 << 53) - 1;

/// How a decision ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was done.
    Ok,
    /// It was not allowed.
    Refused,
    /// It was allowed and went wrong.
    Failed,
}

impl Outcome {
    /// As in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// Who asked: what the kernel said at connect, and the socket they came by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Process id, as of connect; it may have been given to another process since.
    pub pid: i32,
    /// The listener's name.
    pub listener: String,
}

/// One record to be. Texts are bounded when they are set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub(super) event: Event,
    pub(super) outcome: Outcome,
    pub(super) at: Moment,
    pub(super) corr_id: Option<[u8; 16]>,
    pub(super) peer: Option<Peer>,
    pub(super) exp: Option<i64>,
    pub(super) count: Option<u64>,
    pub(super) texts: Texts,
}

/// The optional texts of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Texts {
    pub(super) sub: Option<String>,
    pub(super) jti: Option<String>,
    pub(super) kid: Option<String>,
    pub(super) template: Option<String>,
    pub(super) action: Option<String>,
    pub(super) aud: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) detail: Option<String>,
}

impl Entry {
    /// An entry with nothing but what every entry has. `at` is when the decision was made.
    pub fn new(event: Event, outcome: Outcome, at: Moment) -> Self {
        Self { event, outcome, at, corr_id: None, peer: None, exp: None, count: None, texts: Texts::default() }
    }

    /// The same under another event and outcome: for what was recorded and then came to nothing.
    #[must_use]
    pub fn revised(self, event: Event, outcome: Outcome, at: Moment) -> Self {
        Self { event, outcome, at, ..self }
    }

    /// The same, of what went wrong after its record.
    #[must_use]
    pub fn failed(self, at: Moment) -> Self {
        Self { outcome: Outcome::Failed, at, ..self }
    }

    /// The same, of what had seemed to go wrong.
    #[must_use]
    pub fn came(self, at: Moment) -> Self {
        Self { outcome: Outcome::Ok, at, ..self }
    }

    /// The correlation id of the request.
    #[must_use]
    pub fn corr_id(mut self, id: [u8; 16]) -> Self {
        self.corr_id = Some(id);
        self
    }

    /// Who asked.
    #[must_use]
    pub fn peer(mut self, mut peer: Peer) -> Self {
        if peer.listener.len() > MAX_TEXT {
            peer.listener = bounded(&peer.listener, MAX_TEXT);
        }
        self.peer = Some(peer);
        self
    }

    /// The passport's subject.
    #[must_use]
    pub fn subject(mut self, sub: &str) -> Self {
        self.texts.sub = Some(bounded(sub, MAX_TEXT));
        self
    }

    /// The passport's id, which is also its trace.
    #[must_use]
    pub fn jti(mut self, jti: &str) -> Self {
        self.texts.jti = Some(bounded(jti, MAX_TEXT));
        self
    }

    /// The key.
    #[must_use]
    pub fn kid(mut self, kid: &str) -> Self {
        self.texts.kid = Some(bounded(kid, MAX_TEXT));
        self
    }

    /// The template used.
    #[must_use]
    pub fn template(mut self, template: &str) -> Self {
        self.texts.template = Some(bounded(template, MAX_TEXT));
        self
    }

    /// The operation asked for.
    #[must_use]
    pub fn action(mut self, action: &str) -> Self {
        self.texts.action = Some(bounded(action, MAX_TEXT));
        self
    }

    /// The passport's audience; several are joined with spaces by the caller.
    #[must_use]
    pub fn aud(mut self, aud: &str) -> Self {
        self.texts.aud = Some(bounded(aud, MAX_TEXT));
        self
    }

    /// The passport's expiry, in seconds since 1970.
    #[must_use]
    pub fn exp(mut self, exp: i64) -> Self {
        self.exp = Some(exp);
        self
    }

    /// Of how many the record is, where it stands for more than one.
    #[must_use]
    pub fn count(mut self, count: u64) -> Self {
        self.count = Some(count.min(MAX_COUNT));
        self
    }

    /// Why it was refused or failed: a stable code.
    #[must_use]
    pub fn reason(mut self, reason: &str) -> Self {
        self.texts.reason = Some(bounded(reason, MAX_TEXT));
        self
    }

    /// Anything else a reader should know, in words.
    #[must_use]
    pub fn detail(mut self, detail: &str) -> Self {
        self.texts.detail = Some(bounded(detail, MAX_DETAIL));
        self
    }

    /// The entry for a break in the ledger.
    pub(super) fn for_break(gap: &Break, at: Moment) -> Self {
        let reason = match gap.cause {
            BreakCause::TornTail => "torn_tail",
            BreakCause::Outage => "outage",
        };
        let entry = Self::new(Event::LedgerBreak, Outcome::Failed, at).reason(reason);
        if gap.error.is_empty() { entry } else { entry.detail(&gap.error) }
    }
}

/// `text`, cut at a character's boundary if it is longer than `max` bytes.
fn bounded(text: &str, max: usize) -> String {
    const MARK: &str = "…";
    if text.len() <= max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(max.saturating_sub(MARK.len()));
    let mut cut = text.get(..end).unwrap_or_default().to_owned();
    cut.push_str(MARK);
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_where_a_character_ends() {
        let entry = Entry::new(Event::PassportIssued, Outcome::Ok, Moment::from_unix(0)).subject(&"é".repeat(MAX_TEXT));
        let sub = entry.texts.sub.unwrap();
        assert!(sub.len() <= MAX_TEXT && sub.ends_with("é…"), "{sub}");
    }
}
