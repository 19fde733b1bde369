//! Reading a daemon's ledger, while it runs or after.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use passportd::audit::verify_chain;
use serde_json::Value;

use super::eventually;

/// Every record, oldest first. A line that is being written is left out.
pub(crate) fn records(dir: &Path) -> Vec<Value> {
    let mut segments: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    segments.sort();
    let text = segments.iter().map(|path| std::fs::read(path).unwrap()).collect::<Vec<_>>().concat();
    text.split_inclusive(|byte| *byte == b'\n')
        .filter(|line| line.ends_with(b"\n"))
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect()
}

/// Where [`recently_issued`] looks first: some hundred records.
const TAIL: i64 = 256 << 10;

/// Whether a jti is among the newest records: in the tail of the ledger, or, if others have overtaken it or a segment was
/// just begun, anywhere in the newest two segments. For use under load, when to read the whole ledger each time would be
/// most of the load.
pub(crate) fn recently_issued(dir: &Path, jti: &str) -> bool {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|ending| ending == "jsonl")).collect();
    segments.sort();
    let member = format!("\"jti\":\"{jti}\"");
    let holds = |bytes: &[u8]| {
        String::from_utf8_lossy(bytes)
            .lines()
            .any(|line| line.contains("\"passport_issued\"") && line.contains(&member))
    };
    let mut newest = File::open(segments.last().unwrap()).unwrap();
    if newest.seek(SeekFrom::End(-TAIL)).is_err() {
        newest.rewind().unwrap();
    }
    let mut tail = Vec::new();
    newest.read_to_end(&mut tail).unwrap();
    holds(&tail) || segments.iter().rev().take(2).any(|path| holds(&std::fs::read(path).unwrap()))
}

/// How many `passport_issued` records there are for each jti.
pub(crate) fn issued(dir: &Path) -> HashMap<String, usize> {
    let mut found = HashMap::new();
    for record in records(dir).iter().filter(|record| record["event"] == "passport_issued") {
        *found.entry(record["jti"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    found
}

/// Asserts that the chain holds from end to end. A torn end may be a write in progress, so it is looked at again.
pub(crate) fn assert_chain(dir: &Path) {
    let mut last = String::new();
    eventually("the ledger verifies", Duration::from_secs(5), || match verify_chain(dir) {
        Ok(report) => Some(report),
        Err(error) => {
            if error.to_string() != last {
                eprintln!("ledger: {error}");
                last = error.to_string();
            }
            None
        }
    });
}

/// The jti of a payload.
pub(crate) fn jti(msg: &[u8]) -> String {
    let claims: Value = serde_json::from_slice(msg).unwrap();
    claims["jti"].as_str().unwrap().to_owned()
}
