//! How often was signed with each passport key: `signer/signatures`, in the signer's own directory.
//!
//! Checkpoints carry the counts, so that passports that were issued without a record show. A signature is counted before it is
//! released, by one write in place: what a kill of the process can take away was not released. A power loss takes what was not
//! yet on the disk, so that the count is then too low, never too high; what each checkpoint says has reached the disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};

use super::HsmError;
use super::pin_note::failed;
use crate::passport::{KidRef, MAX_KEYS};
use crate::wire::link::{LinkCount, MAX_COUNTED};

/// The file's name in the signer's own directory.
pub const FILE: &str = "signatures";

/// Bytes of one key: its id, filled up with zeros, and its count, little endian. Slots never cross a sector of a disk.
const SLOT: usize = 256;
const COUNT_AT: usize = SLOT - 8;

/// One slot.
#[derive(Clone, Copy, Debug)]
struct Slot {
    at: u64,
    count: u64,
    /// What the last checkpoint said.
    told: u64,
}

/// The counts of all keys. Without a file they live as long as the process.
#[derive(Debug)]
pub struct Tally {
    file: Option<File>,
    by_kid: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    slots: BTreeMap<String, Slot>,
    /// The newest answer to `Counts`, by its number.
    frozen: (u64, BTreeMap<String, u64>),
}

impl Tally {
    /// Counts that nobody keeps.
    pub fn volatile() -> Self {
        Self { file: None, by_kid: Mutex::default() }
    }

    /// The counts of the signer's own directory `dir`.
    ///
    /// # Errors
    /// [`HsmError::OwnDir`] or [`HsmError::File`]; also for what is no file of counts: to begin anew would be to forget.
    pub fn open(dir: &Path) -> Result<Self, HsmError> {
        let path = dir.join(FILE);
        let fails = |what| {
            let path = path.clone();
            move |source| failed(what, &path, source)
        };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened =
            rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(|errno| fails("open")(errno.into()))?;
        let mut file = File::from(opened);
        let mut bytes = Vec::new();
        let most = u64::try_from(SLOT * (MAX_KEYS + 1)).unwrap_or(u64::MAX);
        (&mut file).take(most).read_to_end(&mut bytes).map_err(fails("read"))?;
        // The bytes of a slot that a power loss cut short were of a key that had not signed.
        let (whole, _torn) = bytes.as_chunks::<SLOT>();
        let mut slots = BTreeMap::new();
        for (slot, at) in whole.iter().zip((0_u64..).step_by(SLOT)) {
            let Some((kid, count)) = read(slot) else {
                let what = std::io::Error::other("it is no file of counts; move it away, and say so to the auditors");
                return Err(fails("read")(what));
            };
            slots.insert(kid, Slot { at, count, told: 0 });
        }
        Ok(Self { file: Some(file), by_kid: Mutex::new(Kept { slots, ..Kept::default() }) })
    }

    /// Counts one signature by `kid`. Only what was counted may be released.
    ///
    /// # Errors
    /// The disk does not take it; it counts all the same.
    pub fn add(&self, kid: &str) -> std::io::Result<()> {
        let mut kept = self.by_kid.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = kept.slots.get_mut(kid) {
            slot.count = slot.count.saturating_add(1);
            return self.write(slot.at + u64::try_from(COUNT_AT).unwrap_or(0), &slot.count.to_le_bytes());
        }
        let at = u64::try_from(kept.slots.len() * SLOT).unwrap_or(u64::MAX);
        kept.slots.insert(kid.to_owned(), Slot { at, count: 1, told: 0 });
        // Under the lock: another one of this key comes after it.
        let mut bytes = [0; SLOT];
        bytes.iter_mut().zip(kid.bytes()).for_each(|(to, from)| *to = from);
        if let Some(count) = bytes.last_chunk_mut() {
            *count = 1_u64.to_le_bytes();
        }
        self.write(at, &bytes)
    }

    fn write(&self, at: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.file.as_ref().map_or(Ok(()), |file| file.write_all_at(bytes, at))
    }

    /// The counts as they are now, under a number by which [`Tally::frozen`] gives them: of all keys that have ever signed or, where
    /// those are more than a checkpoint counts, of those first that have since the last.
    ///
    /// # Errors
    /// They can't be made durable.
    pub fn freeze(&self) -> std::io::Result<(u64, Vec<LinkCount>)> {
        let (number, counts) = {
            let mut kept = self.by_kid.lock().unwrap_or_else(PoisonError::into_inner);
            let (changed, same): (Vec<_>, Vec<_>) = kept.slots.iter().partition(|(_, slot)| slot.count != slot.told);
            let all = changed.into_iter().chain(same).take(MAX_COUNTED);
            let counts: BTreeMap<_, _> = all.map(|(kid, slot)| (kid.clone(), slot.count)).collect();
            kept.frozen = (kept.frozen.0.wrapping_add(1), counts);
            kept.frozen.clone()
        };
        if let Some(file) = &self.file {
            file.sync_data()?;
        }
        Ok((number, counts.into_iter().map(|(kid, count)| LinkCount { kid, count }).collect()))
    }

    /// What was frozen last, if it has this number. None has the number 0.
    pub fn frozen(&self, number: u64) -> Option<BTreeMap<String, u64>> {
        let kept = self.by_kid.lock().unwrap_or_else(PoisonError::into_inner);
        (number > 0 && kept.frozen.0 == number).then(|| kept.frozen.1.clone())
    }

    /// A checkpoint said these counts.
    pub fn told(&self, counts: &BTreeMap<String, u64>) {
        let mut kept = self.by_kid.lock().unwrap_or_else(PoisonError::into_inner);
        for (kid, count) in counts {
            if let Some(slot) = kept.slots.get_mut(kid) {
                slot.told = slot.told.max(*count);
            }
        }
    }
}

fn read(slot: &[u8; SLOT]) -> Option<(String, u64)> {
    let (name, count) = slot.split_at_checked(COUNT_AT)?;
    let end = name.iter().position(|byte| *byte == 0)?;
    let (kid, zeros) = name.split_at_checked(end)?;
    let kid = std::str::from_utf8(kid).ok().filter(|kid| KidRef::parse(kid).is_ok())?;
    let filled = zeros.iter().all(|byte| *byte == 0);
    filled.then(|| (kid.to_owned(), u64::from_le_bytes(count.try_into().unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "ed25519/t1/auth/v1";
    const TWO: &str = "ed25519/t1/auth/v2";

    fn counts(tally: &Tally) -> Vec<(String, u64)> {
        tally.freeze().unwrap().1.into_iter().map(|one| (one.kid, one.count)).collect()
    }

    #[test]
    fn what_was_counted_is_there_after_a_kill() {
        let dir = tempfile::tempdir().unwrap();
        let tally = Tally::open(dir.path()).unwrap();
        [TWO, ONE, TWO].iter().for_each(|kid| tally.add(kid).unwrap());
        let all = [(ONE.to_owned(), 1), (TWO.to_owned(), 2)];
        assert_eq!(counts(&tally), all);
        // No word of an end.
        drop(tally);
        let tally = Tally::open(dir.path()).unwrap();
        assert_eq!(counts(&tally), all);
        tally.add(ONE).unwrap();
        assert_eq!(counts(&Tally::open(dir.path()).unwrap())[0].1, 2);
    }

    #[test]
    fn a_checkpoint_says_what_was_frozen_for_it() {
        let tally = Tally::volatile();
        assert_eq!(tally.frozen(0), None, "nothing is frozen yet");
        [ONE, TWO].iter().for_each(|kid| tally.add(kid).unwrap());
        let (number, _) = tally.freeze().unwrap();
        tally.add(ONE).unwrap();
        let frozen = tally.frozen(number).unwrap();
        assert_eq!(frozen[ONE], 1, "not what was signed since");
        tally.told(&frozen);
        assert_eq!(counts(&tally), [(ONE.to_owned(), 2), (TWO.to_owned(), 1)]);
        assert_eq!(tally.frozen(number), None, "a newer one is there");
    }

    #[test]
    fn so_many_keys_are_counted_at_once_and_the_others_next() {
        let tally = Tally::volatile();
        (1..=MAX_COUNTED + 1).for_each(|n| tally.add(&format!("ed25519/t1/auth/v{n}")).unwrap());
        let (number, first) = tally.freeze().unwrap();
        assert_eq!(first.len(), MAX_COUNTED);
        tally.told(&tally.frozen(number).unwrap());
        assert_eq!(counts(&tally).len(), MAX_COUNTED);
        let last = format!("ed25519/t1/auth/v{}", MAX_COUNTED + 1);
        let told = |kid: &str| first.iter().any(|one| one.kid == kid);
        let left =
            (1..=MAX_COUNTED + 1).map(|n| format!("ed25519/t1/auth/v{n}")).find(|kid| !told(kid)).unwrap_or(last);
        assert!(counts(&tally).iter().any(|(kid, _)| *kid == left), "{left} has its turn");
    }

    #[test]
    fn what_is_no_file_of_counts_is_not_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        std::fs::write(&path, [b'x'; SLOT]).unwrap();
        let refused = Tally::open(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("no file of counts"), "{refused}");
        // A new key's slot that a power loss cut short.
        Tally::open(dir.path()).unwrap_err();
        std::fs::write(&path, &ONE.as_bytes()[..7]).unwrap();
        let tally = Tally::open(dir.path()).unwrap();
        tally.add(TWO).unwrap();
        assert_eq!(counts(&Tally::open(dir.path()).unwrap()), [(TWO.to_owned(), 1)]);
    }
}
