//! The second sink: journald, from a thread of its own. What it does not take is dropped and counted.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use super::entry::Entry;
use crate::log::Head;
use crate::log::journal::{Datagram, Sender};
use crate::passport::hex;

/// Records that may wait for journald; more are dropped (the ledger has them).
const MAX_QUEUED: usize = 4096;

/// What became of the records.
#[derive(Debug, Default)]
pub struct JournaldStats {
    sent: AtomicU64,
    dropped: AtomicU64,
    down: AtomicBool,
}

impl JournaldStats {
    /// Records handed to journald; a sent datagram is no receipt.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Records that journald did not get.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Whether the newest record could be sent.
    pub fn up(&self) -> bool {
        !self.down.load(Relaxed)
    }
}

/// The sending end. The thread ends when it is dropped and everything queued was tried.
#[derive(Debug)]
pub(super) struct Journald {
    queue: SyncSender<(Entry, Head)>,
    stats: Arc<JournaldStats>,
}

impl Journald {
    /// Starts the thread; none if nothing is at `path`: the host has no journald.
    pub(super) fn start(path: &Path) -> io::Result<Option<(Self, JoinHandle<()>)>> {
        if !path.exists() {
            return Ok(None);
        }
        let sender = Sender::new(path)?;
        let (journald, inbox) = Self::queue();
        let counted = journald.stats();
        let thread = thread::Builder::new().name("journald".to_owned()).spawn(move || run(sender, &inbox, &counted))?;
        Ok(Some((journald, thread)))
    }

    fn queue() -> (Self, Receiver<(Entry, Head)>) {
        let (queue, inbox) = sync_channel(MAX_QUEUED);
        (Self { queue, stats: Arc::default() }, inbox)
    }

    pub(super) fn stats(&self) -> Arc<JournaldStats> {
        Arc::clone(&self.stats)
    }

    /// Queues a record, or drops it if the queue is full.
    pub(super) fn send(&self, entry: Entry, at: Head) {
        if self.queue.try_send((entry, at)).is_err() {
            self.stats.dropped.fetch_add(1, Relaxed);
        }
    }
}

fn run(mut sender: Sender, inbox: &Receiver<(Entry, Head)>, stats: &JournaldStats) {
    while let Ok((entry, at)) = inbox.recv() {
        let sent = sender.send(&encode(&entry, &at));
        stats.down.store(!sent, Relaxed);
        let counter = if sent { &stats.sent } else { &stats.dropped };
        counter.fetch_add(1, Relaxed);
    }
}

/// One datagram.
fn encode(entry: &Entry, at: &Head) -> Vec<u8> {
    let texts = &entry.texts;
    let mut out = Datagram::default();
    out.field("MESSAGE", &message(entry));
    out.field("MESSAGE_ID", entry.event.message_id());
    out.field("PRIORITY", entry.event.priority().digit());
    out.field("SYSLOG_IDENTIFIER", "passportd");
    out.field("PASSPORT_SEQ", &at.seq.to_string());
    out.field("PASSPORT_HASH", &hex::encode(&at.hash));
    out.field("PASSPORT_EVENT", entry.event.name());
    out.field("PASSPORT_OUTCOME", entry.outcome.name());
    if let Some(id) = &entry.corr_id {
        out.field("PASSPORT_CORR_ID", &hex::encode(id));
    }
    if let Some(peer) = &entry.peer {
        out.field("PASSPORT_PEER_UID", &peer.uid.to_string());
        out.field("PASSPORT_PEER_GID", &peer.gid.to_string());
        out.field("PASSPORT_PEER_PID", &peer.pid.to_string());
        out.field("PASSPORT_LISTENER", &peer.listener);
    }
    if let Some(exp) = entry.exp {
        out.field("PASSPORT_EXP", &exp.to_string());
    }
    if let Some(count) = entry.count {
        out.field("PASSPORT_COUNT", &count.to_string());
    }
    let optional = [
        ("PASSPORT_SUB", &texts.sub),
        ("PASSPORT_JTI", &texts.jti),
        ("PASSPORT_KID", &texts.kid),
        ("PASSPORT_TEMPLATE", &texts.template),
        ("PASSPORT_ACTION", &texts.action),
        ("PASSPORT_AUD", &texts.aud),
        ("PASSPORT_REASON", &texts.reason),
        ("PASSPORT_DETAIL", &texts.detail),
    ];
    for (name, text) in optional {
        if let Some(text) = text {
            out.field(name, text);
        }
    }
    out.into_bytes()
}

/// The line that a person reads. Control characters are escaped: it is shown on terminals.
fn message(entry: &Entry) -> String {
    let texts = &entry.texts;
    let mut line = format!("{}: {}", entry.event.name(), entry.outcome.name());
    let shown = [
        ("reason", &texts.reason),
        ("action", &texts.action),
        ("template", &texts.template),
        ("sub", &texts.sub),
        ("kid", &texts.kid),
        ("jti", &texts.jti),
        ("detail", &texts.detail),
    ];
    for (name, text) in shown {
        if let Some(text) = text {
            line.push_str(&format!(" {name}={}", text.escape_debug()));
        }
    }
    if let Some(count) = entry.count {
        line.push_str(&format!(" count={count}"));
    }
    if let Some(peer) = &entry.peer {
        line.push_str(&format!(" uid={} pid={}", peer.uid, peer.pid));
    }
    line
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::net::UnixDatagram;
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::audit::{Event, Outcome, Peer};
    use crate::clock::Moment;
    use crate::log::journal::{MAX_DATAGRAM, decode};

    fn entry(text: &str) -> Entry {
        let peer = Peer { uid: 1, gid: 2, pid: 3, listener: text.to_owned() };
        let entry = Entry::new(Event::IssueRefused, Outcome::Refused, Moment::from_unix(0)).corr_id([1; 16]).peer(peer);
        let entry = entry.subject(text).jti(text).kid(text).template(text).action(text).aud(text).exp(9).count(5);
        entry.reason(text).detail(text)
    }

    proptest! {
        // At most 252 bytes: a longer one than MAX_TEXT would be cut.
        #[test]
        fn no_text_can_forge_a_field(text in "([\\x00-\\x7f]|=|\n|PRIORITY=0\n|\nMESSAGE_ID\n){0,21}") {
            let fields = decode(&encode(&entry(&text), &Head { seq: 7, hash: [0; 32] }));
            let map: BTreeMap<_, _> = fields.iter().cloned().collect();
            prop_assert_eq!(fields.len(), 23);
            prop_assert_eq!(map.len(), 23, "no name twice");
            prop_assert_eq!(&map["PASSPORT_SUB"], text.as_bytes());
            prop_assert_eq!(&map["PASSPORT_LISTENER"], text.as_bytes());
            prop_assert_eq!(&map["PRIORITY"], b"4");
            prop_assert_eq!(&map["MESSAGE_ID"], Event::IssueRefused.message_id().as_bytes());
            prop_assert!(!map["MESSAGE"].iter().any(u8::is_ascii_control));
        }
    }

    #[test]
    fn the_longest_record_is_a_datagram_that_any_socket_takes() {
        let long = encode(&entry(&"\u{1}".repeat(1 << 20)), &Head { seq: u64::MAX, hash: [0xff; 32] });
        assert!(long.len() <= MAX_DATAGRAM, "{}", long.len());
    }

    fn wait_until(what: &str, done: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !done() {
            assert!(Instant::now() < end, "{what}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn a_journald_that_comes_back_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        assert!(Journald::start(&path).unwrap().is_none(), "absent is off");
        let server = UnixDatagram::bind(&path).unwrap();
        let (journald, thread) = Journald::start(&path).unwrap().unwrap();
        let stats = journald.stats();
        journald.send(entry("one"), Head::GENESIS);
        let mut buffer = vec![0; 65536];
        let len = server.recv(&mut buffer).unwrap();
        assert_eq!(decode(&buffer[..len]).len(), 23);
        drop(server);
        std::fs::remove_file(&path).unwrap();
        journald.send(entry("two"), Head::GENESIS);
        wait_until("dropped", || stats.dropped() == 1 && !stats.up());
        let server = UnixDatagram::bind(&path).unwrap();
        journald.send(entry("three"), Head::GENESIS);
        server.recv(&mut buffer).unwrap();
        wait_until("sent", || stats.sent() == 2 && stats.up());
        drop(journald);
        thread.join().unwrap();
    }

    #[test]
    fn so_many_records_wait_and_further_ones_are_dropped_and_counted() {
        let (journald, inbox) = Journald::queue();
        let stats = journald.stats();
        (0..MAX_QUEUED).for_each(|_| journald.send(entry("x"), Head::GENESIS));
        assert_eq!(stats.dropped(), 0);
        (1..=3).for_each(|n| {
            journald.send(entry("y"), Head::GENESIS);
            assert_eq!(stats.dropped(), n);
        });
        drop(journald);
        assert_eq!(inbox.into_iter().count(), MAX_QUEUED);
    }

    #[test]
    fn a_stopped_journald_blocks_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let _never_read = UnixDatagram::bind(&path).unwrap();
        let (journald, thread) = Journald::start(&path).unwrap().unwrap();
        let stats = journald.stats();
        let start = Instant::now();
        let total = 2 * MAX_QUEUED as u64;
        for _ in 0..total {
            journald.send(entry("x"), Head::GENESIS);
        }
        assert!(start.elapsed() < Duration::from_secs(10));
        drop(journald);
        thread.join().unwrap();
        assert_eq!(stats.sent() + stats.dropped(), total);
        assert!(stats.dropped() > 0 && !stats.up());
    }
}
