//! A record as journald gets it: fields to search by, and the exact line for whoever checks the chain.

use std::fmt::Write as _;

use serde::Deserialize;

use crate::audit::entry::Entry;
use crate::audit::event::Event;
use crate::log::Head;
use crate::log::journal::Datagram;
use crate::passport::hex;

/// The members of a line that become fields of their own.
#[derive(Deserialize)]
struct Members {
    event: String,
    outcome: String,
    corr_id: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
    pid: Option<i32>,
    listener: Option<String>,
    exp: Option<i64>,
    count: Option<u64>,
    sub: Option<String>,
    jti: Option<String>,
    kid: Option<String>,
    template: Option<String>,
    action: Option<String>,
    aud: Option<String>,
    reason: Option<String>,
    detail: Option<String>,
    time: String,
}

/// What both kinds of records have, those in a ledger and those that are nowhere else.
struct Fields<'a> {
    event: &'a str,
    known: Option<Event>,
    outcome: &'a str,
    corr_id: Option<&'a str>,
    peer: Option<(u32, u32, i32, &'a str)>,
    exp: Option<i64>,
    count: Option<u64>,
    texts: Texts<'a>,
}

struct Texts<'a> {
    sub: Option<&'a str>,
    jti: Option<&'a str>,
    kid: Option<&'a str>,
    template: Option<&'a str>,
    action: Option<&'a str>,
    aud: Option<&'a str>,
    reason: Option<&'a str>,
    detail: Option<&'a str>,
}

/// The datagram of a record whose line is kept nowhere.
pub(super) fn of_entry(entry: &Entry, at: &Head) -> Vec<u8> {
    let (texts, corr_id) = (&entry.texts, entry.corr_id.map(|id| hex::encode(&id)));
    let fields = Fields {
        event: entry.event.name(),
        known: Some(entry.event),
        outcome: entry.outcome.name(),
        corr_id: corr_id.as_deref(),
        peer: entry.peer.as_ref().map(|peer| (peer.uid, peer.gid, peer.pid, peer.listener.as_str())),
        exp: entry.exp,
        count: entry.count,
        texts: Texts {
            sub: texts.sub.as_deref(),
            jti: texts.jti.as_deref(),
            kid: texts.kid.as_deref(),
            template: texts.template.as_deref(),
            action: texts.action.as_deref(),
            aud: texts.aud.as_deref(),
            reason: texts.reason.as_deref(),
            detail: texts.detail.as_deref(),
        },
    };
    fields.datagram(at).into_bytes()
}

/// The datagram of a record in the ledger, and when the record was made, in microseconds since 1970.
///
/// # Errors
/// If the line is none of ours.
pub(super) fn of_line(line: &[u8], at: &Head) -> Result<(Vec<u8>, i64), String> {
    let text = std::str::from_utf8(line).map_err(|error| error.to_string())?;
    let members: Members = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let made: jiff::Timestamp = members.time.parse().map_err(|error: jiff::Error| error.to_string())?;
    let peer = members.uid.zip(members.gid).zip(members.pid).zip(members.listener.as_deref());
    let fields = Fields {
        event: &members.event,
        // A later version may have written events that this one does not know.
        known: Event::ALL.iter().copied().find(|event| event.name() == members.event),
        outcome: &members.outcome,
        corr_id: members.corr_id.as_deref(),
        peer: peer.map(|(((uid, gid), pid), listener)| (uid, gid, pid, listener)),
        exp: members.exp,
        count: members.count,
        texts: Texts {
            sub: members.sub.as_deref(),
            jti: members.jti.as_deref(),
            kid: members.kid.as_deref(),
            template: members.template.as_deref(),
            action: members.action.as_deref(),
            aud: members.aud.as_deref(),
            reason: members.reason.as_deref(),
            detail: members.detail.as_deref(),
        },
    };
    let mut out = fields.datagram(at);
    out.field("PASSPORT_RECORD", text);
    Ok((out.into_bytes(), made.as_microsecond()))
}

impl Fields<'_> {
    fn datagram(&self, at: &Head) -> Datagram {
        let mut out = Datagram::default();
        out.field("MESSAGE", &self.message());
        if let Some(event) = self.known {
            out.field("MESSAGE_ID", event.message_id());
        }
        out.field("PRIORITY", self.known.map_or("6", |event| event.priority().digit()));
        out.field("SYSLOG_IDENTIFIER", "passportd");
        out.field("PASSPORT_SEQ", &at.seq.to_string());
        out.field("PASSPORT_HASH", &hex::encode(&at.hash));
        out.field("PASSPORT_EVENT", self.event);
        out.field("PASSPORT_OUTCOME", self.outcome);
        if let Some(id) = self.corr_id {
            out.field("PASSPORT_CORR_ID", id);
        }
        if let Some((uid, gid, pid, listener)) = self.peer {
            out.field("PASSPORT_PEER_UID", &uid.to_string());
            out.field("PASSPORT_PEER_GID", &gid.to_string());
            out.field("PASSPORT_PEER_PID", &pid.to_string());
            out.field("PASSPORT_LISTENER", listener);
        }
        if let Some(exp) = self.exp {
            out.field("PASSPORT_EXP", &exp.to_string());
        }
        if let Some(count) = self.count {
            out.field("PASSPORT_COUNT", &count.to_string());
        }
        let texts = &self.texts;
        let optional = [
            ("PASSPORT_SUB", texts.sub),
            ("PASSPORT_JTI", texts.jti),
            ("PASSPORT_KID", texts.kid),
            ("PASSPORT_TEMPLATE", texts.template),
            ("PASSPORT_ACTION", texts.action),
            ("PASSPORT_AUD", texts.aud),
            ("PASSPORT_REASON", texts.reason),
            ("PASSPORT_DETAIL", texts.detail),
        ];
        for (name, text) in optional {
            if let Some(text) = text {
                out.field(name, text);
            }
        }
        out
    }

    /// The line that a person reads. Control characters are escaped: it is shown on terminals.
    fn message(&self) -> String {
        let texts = &self.texts;
        let mut line = format!("{}: {}", self.event, self.outcome);
        let shown = [
            ("reason", texts.reason),
            ("action", texts.action),
            ("template", texts.template),
            ("sub", texts.sub),
            ("kid", texts.kid),
            ("jti", texts.jti),
            ("detail", texts.detail),
        ];
        for (name, text) in shown {
            if let Some(text) = text {
                // Into a string nothing fails.
                write!(line, " {name}={}", text.escape_debug()).unwrap_or_default();
            }
        }
        if let Some(count) = self.count {
            write!(line, " count={count}").unwrap_or_default();
        }
        if let Some((uid, _, pid, _)) = self.peer {
            write!(line, " uid={uid} pid={pid}").unwrap_or_default();
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::audit::record::{self, Beside};
    use crate::audit::testing::entry;
    use crate::clock::Moment;
    use crate::log::journal::{MAX_DATAGRAM, decode};
    use crate::log::{Break, BreakCause, MAX_TORN, Torn};

    const BEFORE: Head = Head { seq: 6, hash: [7; 32] };

    fn line(entry: &Entry, gap: Option<&Break>) -> (Vec<u8>, Head) {
        let mut line = Vec::new();
        let hash = record::write(entry, Beside { gap, state_seq: 3 }, &BEFORE, &mut line).unwrap();
        (line, Head { seq: BEFORE.seq + 1, hash })
    }

    proptest! {
        // At most 252 bytes: a longer one than MAX_TEXT would be cut.
        #[test]
        fn no_text_can_forge_a_field(text in "([\\x00-\\x7f]|=|\n|PRIORITY=0\n|\nMESSAGE_ID\n){0,21}") {
            let (line, at) = line(&entry(&text), None);
            let fields = decode(&of_line(&line, &at).unwrap().0);
            let map: BTreeMap<_, _> = fields.iter().cloned().collect();
            prop_assert_eq!((fields.len(), map.len()), (24, 24), "no name twice");
            prop_assert_eq!(&map["PASSPORT_SUB"], text.as_bytes());
            prop_assert_eq!(&map["PASSPORT_LISTENER"], text.as_bytes());
            prop_assert_eq!(&map["PRIORITY"], b"4");
            prop_assert_eq!(&map["MESSAGE_ID"], Event::IssueRefused.message_id().as_bytes());
            prop_assert!(!map["MESSAGE"].iter().any(u8::is_ascii_control));
            prop_assert_eq!(&map["PASSPORT_RECORD"], &line, "what the chain is made of");
            // A record that is in no ledger has the same fields but that one.
            let without: Vec<_> = fields.into_iter().filter(|(name, _)| name != "PASSPORT_RECORD").collect();
            prop_assert_eq!(decode(&of_entry(&entry(&text), &at)), without);
        }
    }

    #[test]
    fn the_longest_records_are_datagrams_that_any_socket_takes() {
        let worst = "\u{1}".repeat(1 << 20);
        let torn = Torn { segment: "00000000000000000001.r999.jsonl".to_owned(), offset: u64::MAX, bytes: u64::MAX };
        let torn = vec![torn; MAX_TORN + 1];
        let gap = Break { cause: BreakCause::Outage, torn, refused: u64::MAX, error: worst.clone() };
        let broken = Entry::for_break(&gap, Moment::from_unix(0));
        for (entry, gap) in [(entry(&worst), None), (broken, Some(&gap))] {
            let (line, at) = line(&entry, gap);
            let (long, _) = of_line(&line, &at).unwrap();
            assert!(long.len() <= MAX_DATAGRAM, "{}", long.len());
        }
    }

    #[test]
    fn an_event_of_a_later_version_is_copied_as_well() {
        let (line, at) = line(&entry("x"), None);
        let later = String::from_utf8(line).unwrap().replace("issue_refused", "of_later");
        let (bytes, made) = of_line(later.as_bytes(), &at).unwrap();
        let fields: BTreeMap<_, _> = decode(&bytes).into_iter().collect();
        assert_eq!((&*fields["PASSPORT_EVENT"], &*fields["PRIORITY"]), (&b"of_later"[..], &b"6"[..]));
        assert_eq!((fields.get("MESSAGE_ID"), made), (None, 0));
        assert!(of_line(b"{}", &at).is_err());
    }
}
