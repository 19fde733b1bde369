//! The ledger: segments built by a script, altered, and then recovered, verified and continued.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use passportd::audit::{Audit, AuditConfig, ChainError, Entry, Event, Outcome, fuzzing, verify_chain};
use passportd::clock::Moment;
use passportd::log::{Break, BreakCause, Hash, Head, MAX_LINE, Pace, SegmentConfig, Torn};
use passportd::passport::hex;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::script::Script;

/// Records of one case.
const MAX_RECORDS: u8 = 24;

/// Bytes of a segment with repeated lines.
const MAX_BYTES: usize = 4 * MAX_LINE;

/// A segment: its name and its bytes.
#[derive(Clone)]
struct File {
    name: String,
    /// The sequence number in the name.
    first: u64,
    bytes: Vec<u8>,
}

/// A record as an independent reader sees it.
struct Record {
    seq: u64,
    prev: Hash,
    hash: Hash,
    torn: Vec<(String, usize)>,
}

impl Record {
    fn follows(&self, head: &Head) -> bool {
        self.seq == head.seq + 1 && self.prev == head.hash
    }
}

impl File {
    fn new(first: u64, retry: usize) -> Self {
        let name = if retry == 0 { format!("{first:020}.jsonl") } else { format!("{first:020}.r{retry:03}.jsonl") };
        Self { name, first, bytes: Vec::new() }
    }
}

/// Builds a log as the daemon would: records, new segments, torn ends with the break record that names them.
fn build(script: &mut Script<'_>) -> Vec<File> {
    let mut files = vec![File::new(1, 0)];
    let (mut head, mut torn, mut retry): (_, Vec<Torn>, _) = (Head::GENESIS, Vec::new(), 0);
    for _ in 0..script.byte() % MAX_RECORDS {
        let kind = script.byte();
        let last = files.last_mut().unwrap();
        if kind % 8 == 7 {
            // The process dies while it writes: bytes without an end, and a segment after them.
            let rest = script.text().replace('\n', " ");
            let offset = last.bytes.len();
            last.bytes.extend_from_slice(rest.as_bytes());
            if !rest.is_empty() {
                let bytes = rest.len() as u64;
                torn.push(Torn { segment: last.name.clone(), offset: offset as u64, bytes });
                retry = if offset == 0 { retry + 1 } else { 0 };
                files.push(File::new(head.seq + 1, retry));
                continue;
            }
        } else if kind % 8 == 6 && !last.bytes.is_empty() && torn.is_empty() {
            retry = 0;
            files.push(File::new(head.seq + 1, 0));
        }
        let mut line = Vec::new();
        let hash = if torn.is_empty() {
            fuzzing::write(&entry(script, kind), &head, &mut line)
        } else {
            let gap = Break {
                cause: BreakCause::TornTail,
                torn: std::mem::take(&mut torn),
                refused: 0,
                error: String::new(),
            };
            fuzzing::write_break(&gap, Moment::from_unix(script.word().into()), &head, &mut line)
        };
        let hash = hash.unwrap();
        let link = fuzzing::read(&line).expect("what is written can be read");
        assert_eq!((link.head, link.prev), (Head { seq: head.seq + 1, hash }, head.hash));
        assert_eq!(serde_json_canonicalizer::to_vec(&serde_json::from_slice::<Value>(&line).unwrap()).unwrap(), line);
        head = link.head;
        line.push(b'\n');
        files.last_mut().unwrap().bytes.extend_from_slice(&line);
    }
    files
}

fn entry(script: &mut Script<'_>, kind: u8) -> Entry {
    let entry = Entry::new(Event::PassportIssued, Outcome::Ok, Moment::from_unix(script.word().into()));
    match kind % 4 {
        0 => entry,
        1 => entry.subject(&script.text()).jti(&script.text()),
        2 => entry.detail(&script.text()).kid(&script.text()).exp(script.word().into()),
        // Text that looks like the end of a record.
        _ => entry.aud(&format!("{}\",\"hash\":\"{}\"", script.text(), "0".repeat(64))).reason(&script.text()),
    }
}

/// Alters the files; whether anything was.
fn alter(script: &mut Script<'_>, files: &mut Vec<File>) -> bool {
    let before: Vec<Vec<u8>> = files.iter().map(|file| file.bytes.clone()).collect();
    while !script.done() && !files.is_empty() {
        let (kind, at, other) = (script.byte(), script.short(), script.short());
        let which = usize::from(script.byte()) % files.len();
        let bytes = &mut files[which].bytes;
        let lines: Vec<Vec<u8>> = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        let (at_byte, at_line) = (at % bytes.len().max(1), at % lines.len().max(1));
        match kind % 8 {
            _ if bytes.is_empty() => bytes.extend_from_slice(script.bytes(other % 64)),
            0 => bytes[at_byte] ^= u8::try_from(other % 256).unwrap(),
            1 => bytes.truncate(at_byte),
            2 => drop(bytes.drain(at_byte..(at_byte + other % 512).min(bytes.len()))),
            3 => drop(bytes.splice(at_byte..at_byte, script.bytes(other % 64).iter().copied())),
            4 => bytes.resize((bytes.len() + other).min(2 * MAX_LINE), 0),
            5 => {
                *bytes = moved(&lines, at_line, other % lines.len(), kind & 8 == 0);
                // A line can be all there is, and repeated as often as the script is long.
                bytes.truncate(MAX_BYTES);
            }
            6 => drop(files.remove(which)),
            _ => {
                let taken = files[which].bytes.clone();
                let to = other % files.len();
                files[to].bytes = taken;
            }
        }
    }
    files.iter().map(|file| &file.bytes).ne(before.iter())
}

/// The lines with one moved, or repeated, to another place.
fn moved(lines: &[Vec<u8>], from: usize, to: usize, take: bool) -> Vec<u8> {
    let mut lines = lines.to_vec();
    let line = if take { lines.remove(from) } else { lines[from].clone() };
    lines.insert(to.min(lines.len()), line);
    lines.concat()
}

/// A line by its own bytes: its hash is that of the line without the member `hash`.
fn record(line: &[u8]) -> Option<Record> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let hash: Hash = hex::decode_exactly(value["hash"].as_str()?)?;
    let member = format!(",\"hash\":\"{}\"", hex::encode(&hash)).into_bytes();
    let at = line.windows(member.len()).position(|window| window == member)?;
    let digest: Hash =
        Sha256::new().chain_update(&line[..at]).chain_update(&line[at + member.len()..]).finalize().into();
    let list = value["torn"].as_array().cloned().unwrap_or_default();
    let torn = list.iter().filter_map(|torn| {
        Some((torn["segment"].as_str()?.to_owned(), usize::try_from(torn["offset"].as_u64()?).ok()?))
    });
    let prev = hex::decode_exactly(value["prev"].as_str()?)?;
    (digest == hash).then(|| Record { seq: value["seq"].as_u64().unwrap_or(0), prev, hash, torn: torn.collect() })
}

/// The chain as an independent reader walks it.
struct Walked {
    /// The last record that follows all before it.
    head: Head,
    /// Nothing else is there, but for what a break record names.
    whole: bool,
    /// Nothing else is there but one unreadable end for each of the last segments.
    torn_only: bool,
}

fn walk(files: &[File]) -> Walked {
    let firsts = files.iter().filter_map(|file| file.bytes.split(|byte| *byte == b'\n').next().and_then(record));
    let cuts: Vec<(String, usize)> = firsts.flat_map(|first| first.torn).collect();
    let mut walked = Walked { head: Head::GENESIS, whole: true, torn_only: true };
    for file in files {
        let cut = cuts.iter().rev().find(|(name, _)| *name == file.name).map(|(_, at)| *at);
        let good = &file.bytes[..cut.map_or(file.bytes.len(), |at| at.min(file.bytes.len()))];
        // What a break record names may hold nothing; else the name says which record comes next.
        if file.first != walked.head.seq + 1 && !(cut.is_some() && good.is_empty()) {
            (walked.whole, walked.torn_only) = (false, false);
        }
        let mut lines = good.split_inclusive(|byte| *byte == b'\n').peekable();
        while let Some(line) = lines.next() {
            let record = line.strip_suffix(b"\n").filter(|_| line.len() <= MAX_LINE).and_then(record);
            let is_end = record.is_none() && lines.peek().is_none() && cut.is_none();
            match record.filter(|record| walked.whole && record.follows(&walked.head)) {
                Some(record) => walked.head = Head { seq: record.seq, hash: record.hash },
                None => (walked.whole, walked.torn_only) = (false, walked.torn_only && is_end),
            }
        }
    }
    walked
}

/// A directory that goes away, in memory where the host has that.
fn place() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let dir = dir.unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    dir
}

/// Recovery and verification never panic. Neither accepts a record that does not chain, by the word of a reader written
/// apart from them; what was not altered is accepted; and after recovery the log goes on and verifies again.
pub fn ledger(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let mode = script.byte();
    let mut files = build(&mut script);
    let raw = mode % 4 == 3;
    if raw {
        // The rest is a segment as it stands, at the place of the last.
        if let Some(last) = files.last_mut() {
            last.bytes = script.bytes(usize::MAX).to_vec();
        }
    }
    let altered = alter(&mut script, &mut files) || raw;
    let dir = place();
    for file in &files {
        fs::write(dir.path().join(&file.name), &file.bytes).unwrap();
    }
    let walked = walk(&files);
    let verified = verify_chain(dir.path());
    match &verified {
        Ok(report) => {
            assert!(walked.whole, "verified, but the chain is broken after record {}", walked.head.seq);
            assert_eq!((report.head, report.records, report.segments), (walked.head, walked.head.seq, files.len()));
        }
        Err(error) => {
            assert!(matches!(error, ChainError::Damaged { .. }), "{error}");
            assert!(altered || walked.torn_only && !walked.whole, "nothing was altered: {error}");
        }
    }
    let Ok(found) = fuzzing::recover(dir.path()) else {
        assert!(altered, "nothing was altered, and the log is not opened");
        return;
    };
    // Of earlier segments only the ends are looked at, so what recovery finds may lie behind what verification refuses.
    assert!(!walked.torn_only || found.head == walked.head, "recovered to another record than the last good one");
    let mut known = files.iter().flat_map(|file| file.bytes.split(|byte| *byte == b'\n')).filter_map(record);
    assert!(found.head == Head::GENESIS || known.any(|r| (r.seq, r.hash) == (found.head.seq, found.head.hash)));
    // Seldom, since it starts threads.
    if walked.torn_only && mode.is_multiple_of(16) {
        let seq = found.head.seq + u64::from(found.gap.is_some());
        goes_on(dir.path(), seq);
        // What the next start finds is what this one has written.
        goes_on(dir.path(), seq + 1);
    }
}

/// One more record, behind a break if there is a gap: the log verifies from end to end.
fn goes_on(dir: &Path, seq: u64) {
    let (segment, pace) = (SegmentConfig::default(), Pace::default());
    let config = AuditConfig { segment, pace, journald: None, now: || Moment::from_unix(0), metrics: None };
    let (audit, _) = Audit::open(dir, &config).unwrap();
    let entry = Entry::new(Event::DaemonStarted, Outcome::Ok, Moment::from_unix(0));
    assert_eq!(audit.record_blocking(entry).unwrap(), seq + 1);
    audit.close();
    drop(audit);
    let report = verify_chain(dir).unwrap_or_else(|error| panic!("after recovery: {error}"));
    assert_eq!(report.records, seq + 1);
}
