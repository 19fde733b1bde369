//! A plain chain for the tests of this room: `seq prev hash text`.

use sha2::{Digest, Sha256};

use super::{Break, Hash, Head, Link, Seal, Torn};
use crate::passport::hex;

pub(super) struct Plain;

fn digest(seq: u64, prev: &str, text: &str) -> Hash {
    Sha256::digest(format!("{seq} {prev} {text}")).into()
}

impl Plain {
    fn line(text: &str, prev: &Head, out: &mut Vec<u8>) -> Result<Hash, String> {
        if text.contains('\n') {
            return Err("no newlines".to_owned());
        }
        let (seq, prev) = (prev.seq + 1, hex::encode(&prev.hash));
        let hash = digest(seq, &prev, text);
        out.extend_from_slice(format!("{seq} {prev} {} {text}", hex::encode(&hash)).as_bytes());
        Ok(hash)
    }
}

impl Seal for Plain {
    type Entry = String;

    fn seal(&mut self, entry: &String, prev: &Head, out: &mut Vec<u8>) -> Result<Hash, String> {
        Self::line(entry, prev, out)
    }

    fn seal_break(&mut self, gap: &Break, prev: &Head, out: &mut Vec<u8>) -> Result<Hash, String> {
        let torn: Vec<String> = gap.torn.iter().map(|t| format!("{},{},{}", t.segment, t.offset, t.bytes)).collect();
        Self::line(&format!("BREAK refused={} {}", gap.refused, torn.join(" ")), prev, out)
    }

    fn durable(&mut self, _entry: String, _at: Head) {}

    fn durable_break(&mut self, _gap: &Break, _at: Head) {}

    /// Line n is of second n.
    fn written(line: &[u8]) -> Option<i64> {
        Self::read(line).ok().and_then(|link| i64::try_from(link.head.seq).ok())
    }

    fn read(line: &[u8]) -> Result<Link, String> {
        let text = std::str::from_utf8(line).map_err(|e| e.to_string())?;
        let parts: Vec<&str> = text.splitn(4, ' ').collect();
        let [seq, prev, hash, text] = parts[..] else { return Err("four parts".to_owned()) };
        let seq: u64 = seq.parse().map_err(|_| "seq")?;
        let found: Hash = hex::decode_exactly(hash).ok_or("hash")?;
        if found != digest(seq, prev, text) {
            return Err("its hash differs".to_owned());
        }
        let gap = text.strip_prefix("BREAK ").map(|rest| rest.split(' ').skip(1).filter(|t| !t.is_empty()));
        let torn = gap.clone().into_iter().flatten().map(|torn| {
            let mut parts = torn.split(',');
            let segment = parts.next().unwrap().to_owned();
            Torn {
                segment,
                offset: parts.next().unwrap().parse().unwrap(),
                bytes: parts.next().unwrap().parse().unwrap(),
            }
        });
        Ok(Link {
            head: Head { seq, hash: found },
            prev: hex::decode_exactly(prev).ok_or("prev")?,
            is_break: gap.is_some(),
            mark: text.strip_prefix("MARK ").map_or(0, |mark| mark.parse().unwrap()),
            torn: torn.collect(),
        })
    }
}
