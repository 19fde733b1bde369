//! Records: an [`Entry`] as its producer knows it, and the line it becomes.
//!
//! A line is one JSON object in canonical form (RFC 8785: members sorted, no white space). Its `hash` member is the
//! SHA-256 of the same bytes without that member, and `prev` is the `hash` of the line before, 64 zeros for the first.
//! So a checker needs no schema: cut `,"hash":"…"` out of the line, hash the rest, compare.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::entry::{Entry, Outcome};
use super::event::Event;
use crate::clock::Moment;
use crate::log::{Break, Hash, Head, Link, Torn};
use crate::passport::hex;

/// What stands before the hash. The canonical form escapes quotes inside strings, so that this can only be a member.
const HASH_MEMBER: &[u8] = b",\"hash\":\"";

/// The hex digits of a hash and the closing quote.
const HASH_REST: usize = 64 + 1;

/// The members that sort before `hash`, in order.
#[derive(Serialize)]
struct Before<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    corr_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
}

/// The members that sort after `hash`, in order.
#[derive(Serialize)]
struct After<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    listener: Option<&'a str>,
    outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    prev: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<u64>,
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<&'a str>,
    time: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    torn: Vec<StoredTorn>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
}

/// A torn segment in a break record.
#[derive(Serialize, Deserialize)]
struct StoredTorn {
    bytes: u64,
    offset: u64,
    segment: String,
}

/// What a record says beside its entry.
#[derive(Clone, Copy, Default)]
pub(super) struct Beside<'a> {
    /// For a break record.
    pub(super) gap: Option<&'a Break>,
    /// The newest record on whose strength the state was changed, once that is durable; 0 before the first.
    pub(super) state_seq: u64,
}

/// Appends the line of `entry` behind `prev` to `out` and returns its hash.
pub(super) fn write(entry: &Entry, beside: Beside<'_>, prev: &Head, out: &mut Vec<u8>) -> Result<Hash, String> {
    let Beside { gap, state_seq } = beside;
    let (texts, peer) = (&entry.texts, entry.peer.as_ref());
    let before = Before {
        action: texts.action.as_deref(),
        aud: texts.aud.as_deref(),
        corr_id: entry.corr_id.map(|id| hex::encode(&id)),
        count: entry.count,
        detail: texts.detail.as_deref(),
        event: entry.event.name(),
        exp: entry.exp,
        gid: peer.map(|peer| peer.gid),
    };
    let torn = gap.map_or(&[][..], |gap| &gap.torn).iter();
    let after = After {
        jti: texts.jti.as_deref(),
        kid: texts.kid.as_deref(),
        listener: peer.map(|peer| peer.listener.as_str()),
        outcome: entry.outcome,
        pid: peer.map(|peer| peer.pid),
        prev: hex::encode(&prev.hash),
        reason: texts.reason.as_deref(),
        refused: gap.map(|gap| gap.refused),
        seq: prev.seq + 1,
        state_seq: (state_seq > 0).then_some(state_seq),
        sub: texts.sub.as_deref(),
        template: texts.template.as_deref(),
        time: timestamp(entry.at),
        torn: torn.map(|t| StoredTorn { bytes: t.bytes, offset: t.offset, segment: t.segment.clone() }).collect(),
        uid: peer.map(|peer| peer.uid).or(entry.uid),
    };
    let mut head = serde_json::to_vec(&before).map_err(|e| e.to_string())?;
    let mut tail = serde_json::to_vec(&after).map_err(|e| e.to_string())?;
    // {before} and {after} become one object; both always have members.
    head.pop();
    if let Some(brace) = tail.first_mut() {
        *brace = b',';
    }
    let hash: Hash = Sha256::new().chain_update(&head).chain_update(&tail).finalize().into();
    out.reserve(head.len() + tail.len() + HASH_MEMBER.len() + HASH_REST);
    out.extend_from_slice(&head);
    out.extend_from_slice(HASH_MEMBER);
    out.extend_from_slice(hex::encode(&hash).as_bytes());
    out.push(b'"');
    out.extend_from_slice(&tail);
    Ok(hash)
}

/// What a stored line must have for its place in the chain. Other members are the reader's affair.
#[derive(Deserialize)]
struct Stored {
    event: String,
    prev: String,
    seq: u64,
    #[serde(default)]
    state_seq: u64,
    #[serde(default)]
    torn: Vec<StoredTorn>,
}

/// The hash of a stored line, which is the one that it states.
pub(super) fn hash_of(line: &[u8]) -> Result<Hash, String> {
    let missing = || "it has no hash".to_owned();
    let at = line.windows(HASH_MEMBER.len()).position(|bytes| bytes == HASH_MEMBER).ok_or_else(missing)?;
    let (before, rest) = line.split_at_checked(at).ok_or_else(missing)?;
    let (stated, after) =
        rest.get(HASH_MEMBER.len()..).and_then(|rest| rest.split_at_checked(HASH_REST)).ok_or_else(missing)?;
    let hash: Hash = Sha256::new().chain_update(before).chain_update(after).finalize().into();
    if !states(stated, &hash) {
        return Err("its hash is not that of its content".to_owned());
    }
    Ok(hash)
}

/// Whether this is the hash in hex digits and the closing quote.
fn states(text: &[u8], hash: &Hash) -> bool {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    let written = hash.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).chain([b'"']);
    text.iter().copied().eq(written)
}

/// Checks a line against its own hash and reads its place in the chain.
pub(super) fn read(line: &[u8]) -> Result<Link, String> {
    let hash = hash_of(line)?;
    let stored: Stored = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let prev = hex::decode_exactly(&stored.prev).ok_or("its prev is not a SHA-256 value")?;
    let torn = stored.torn.into_iter().map(|t| Torn { segment: t.segment, offset: t.offset, bytes: t.bytes });
    Ok(Link {
        head: Head { seq: stored.seq, hash },
        prev,
        is_break: stored.event == Event::LedgerBreak.name(),
        mark: stored.state_seq,
        torn: torn.collect(),
    })
}

/// When a line was written, in seconds since 1970.
pub(super) fn written(line: &[u8]) -> Option<i64> {
    #[derive(Deserialize)]
    struct Written {
        time: String,
    }
    let written: Written = serde_json::from_slice(line).ok()?;
    written.time.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

/// RFC 3339 in UTC with microseconds, which sorts as text. Beyond the year 9999 it stays at that end.
fn timestamp(at: Moment) -> String {
    let time = jiff::Timestamp::from_microsecond(at.micros());
    let end = if at.micros() < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    format!("{:.6}", time.unwrap_or(end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::entry::{MAX_COUNT, MAX_DETAIL, Peer};
    use super::*;
    use crate::log::{BreakCause, MAX_LINE};

    fn typical() -> Entry {
        let peer = Peer { uid: 1000, gid: 1000, pid: 4242, listener: "passportd".to_owned() };
        Entry::new(Event::PassportIssued, Outcome::Ok, Moment::from_unix(1_800_000_000))
            .corr_id([7; 16])
            .peer(peer)
            .subject("alice")
            .jti("01890a5d-ac96-774b-bcce-b302099a8057")
            .kid("ed25519/default/passport/v1")
            .template("demo")
            .action("issue")
            .aud("demo")
            .exp(1_800_003_600)
    }

    fn line(entry: &Entry, gap: Option<&Break>) -> Vec<u8> {
        let mut out = Vec::new();
        write(entry, Beside { gap, state_seq: 40 }, &Head { seq: 41, hash: [9; 32] }, &mut out).unwrap();
        out
    }

    #[test]
    fn a_typical_record_is_small_and_reads_back() {
        let bytes = line(&typical(), None);
        assert!(bytes.len() <= 700, "{}", bytes.len());
        let link = read(&bytes).unwrap();
        assert_eq!((link.head.seq, link.prev, link.is_break, link.mark), (42, [9; 32], false, 40));
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains(r#""time":"2027-01-15T08:00:00.000000Z""#), "{text}");
    }

    #[test]
    fn the_largest_record_fits_a_line() {
        let worst = "\u{1}".repeat(4 * MAX_DETAIL);
        let peer = Peer { uid: u32::MAX, gid: u32::MAX, pid: i32::MIN, listener: worst.clone() };
        let entry = typical().peer(peer).subject(&worst).jti(&worst).kid(&worst).template(&worst).action(&worst);
        let entry = entry.aud(&worst).reason(&worst).detail(&worst).exp(i64::MIN).count(u64::MAX);
        assert!(line(&entry, None).len() < MAX_LINE);
        let torn = Torn { segment: "00000000000000000001.r999.jsonl".to_owned(), offset: u64::MAX, bytes: u64::MAX };
        let torn = vec![torn; crate::log::MAX_TORN + 1];
        let gap = Break { cause: BreakCause::Outage, torn, refused: u64::MAX, error: worst };
        let bytes = line(&Entry::for_break(&gap, Moment::from_unix(0)), Some(&gap));
        assert!(bytes.len() < MAX_LINE, "{}", bytes.len());
        let link = read(&bytes).unwrap();
        assert_eq!((link.is_break, link.torn), (true, gap.torn));
    }

    #[test]
    fn every_altered_bit_is_noticed() {
        let bytes = line(&typical(), None);
        for bit in 0..bytes.len() * 8 {
            let mut altered = bytes.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&altered).is_err(), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn lines_are_canonical_and_texts_cannot_forge_members(text in ".{0,80}", other in "[\\x00-\\x7f]{0,80}", exp: i32, count in 0..=MAX_COUNT) {
            let forged = format!("{text}\",\"hash\":\"{}\",\"", "0".repeat(64));
            let entry = typical().subject(&forged).detail(&other).reason(&text).exp(exp.into()).count(count);
            let bytes = line(&entry, None);
            let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            prop_assert_eq!(&serde_json_canonicalizer::to_vec(&value).unwrap(), &bytes);
            prop_assert_eq!(value["detail"].as_str().unwrap(), other);
            prop_assert_eq!(value["count"].as_u64(), Some(count));
            prop_assert_eq!(hex::encode(&read(&bytes).unwrap().head.hash), value["hash"].as_str().unwrap());
            let mut content = value.clone();
            content.as_object_mut().unwrap().remove("hash");
            let hash = Sha256::digest(serde_json_canonicalizer::to_vec(&content).unwrap());
            prop_assert_eq!(hex::encode(&hash), value["hash"].as_str().unwrap());
        }
    }
}
