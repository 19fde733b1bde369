//! An entry that has every text, for the tests of this room.

use super::{Entry, Event, Outcome, Peer};
use crate::clock::Moment;

pub(super) fn entry(text: &str) -> Entry {
    let peer = Peer { uid: 1, gid: 2, pid: 3, listener: text.to_owned() };
    let entry = Entry::new(Event::IssueRefused, Outcome::Refused, Moment::from_unix(0)).corr_id([1; 16]).peer(peer);
    let entry = entry.subject(text).jti(text).kid(text).template(text).action(text).aud(text).exp(9).count(5);
    entry.reason(text).detail(text)
}
