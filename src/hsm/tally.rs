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
use crate::passport::KidRef;
use crate::wire::link::{LinkCount, MAX_COUNTED};

/// The file's name in the signer's own directory.
pub const FILE: &str = "signatures";

/// How many keys the file has at most, those that are long destroyed included: 16 MiB.
const MAX_SLOTS: usize = 1 << 16;

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
    /// Which freeze that was: whoever waits longest is told first.
    told_at: u64,
    /// Whether the key's name is on the disk. A count in a slot without a name would be nobody's.
    named: bool,
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
    /// Slots without a name, of which a power loss left the place and not the bytes.
    free: Vec<u64>,
    /// Where the next new slot begins.
    end: u64,
    /// The newest answer to `Counts`, by its number.
    frozen: (u64, BTreeMap<String, u64>),
}

impl Kept {
    /// The slot of a key that has none yet.
    fn place(&mut self, kid: &str) -> std::io::Result<()> {
        if self.slots.contains_key(kid) {
            return Ok(());
        }
        if self.slots.len() >= MAX_SLOTS {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        let at = self.free.pop().unwrap_or(self.end);
        self.end = self.end.max(at + u64::try_from(SLOT).unwrap_or(0));
        self.slots.insert(kid.to_owned(), Slot { at, count: 0, told: 0, told_at: 0, named: false });
        Ok(())
    }
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
        let most = u64::try_from(SLOT * MAX_SLOTS + 1).unwrap_or(u64::MAX);
        (&mut file).take(most).read_to_end(&mut bytes).map_err(fails("read"))?;
        let foreign = || {
            let what = std::io::Error::other("it is no file of counts; move it away, and say so to the auditors");
            fails("read")(what)
        };
        if bytes.len() > SLOT * MAX_SLOTS {
            return Err(foreign());
        }
        if bytes.is_empty() {
            // The file itself must outlive a power loss that its first slot outlives.
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(fails("sync"))?;
        }
        // The bytes of a slot that a power loss cut short were of a key that had not signed.
        let (whole, _torn) = bytes.as_chunks::<SLOT>();
        let mut kept = Kept::default();
        for (slot, at) in whole.iter().zip((0_u64..).step_by(SLOT)) {
            kept.end = at + u64::try_from(SLOT).unwrap_or(0);
            match read(slot) {
                Some(Read::Key(kid, count)) => {
                    let slot = Slot { at, count, told: 0, told_at: 0, named: true };
                    if kept.slots.insert(kid, slot).is_some() {
                        return Err(foreign());
                    }
                }
                Some(Read::Nameless) => kept.free.push(at),
                None => return Err(foreign()),
            }
        }
        kept.free.reverse();
        Ok(Self { file: Some(file), by_kid: Mutex::new(kept) })
    }

    /// Counts one signature by `kid`. Only what was counted may be released.
    ///
    /// The first one of a key waits for the disk: a slot's name and its count could else reach it apart, and a power loss leave
    /// a slot of nobody. All others are one write of eight bytes.
    ///
    /// # Errors
    /// The disk does not take it; it counts all the same.
    pub fn add(&self, kid: &str) -> std::io::Result<()> {
        let mut kept = self.by_kid.lock().unwrap_or_else(PoisonError::into_inner);
        kept.place(kid)?;
        let Some(slot) = kept.slots.get_mut(kid) else { return Ok(()) };
        slot.count = slot.count.saturating_add(1);
        let Some(file) = &self.file else { return Ok(()) };
        if slot.named {
            return file.write_all_at(&slot.count.to_le_bytes(), slot.at + u64::try_from(COUNT_AT).unwrap_or(0));
        }
        // Under the lock: another one of this key comes after it.
        let mut bytes = [0; SLOT];
        bytes.iter_mut().zip(kid.bytes()).for_each(|(to, from)| *to = from);
        if let Some(count) = bytes.last_chunk_mut() {
            *count = slot.count.to_le_bytes();
        }
        file.write_all_at(&bytes, slot.at)?;
        file.sync_data()?;
        slot.named = true;
        Ok(())
    }

    /// The counts as they are now, under a number by which [`Tally::frozen`] gives them: of all keys that have ever signed or, where
    /// those are more than a checkpoint counts, of those first that have since they were told, whoever waits longest before the others.
    ///
    /// # Errors
    /// They can't be made durable.
    pub fn freeze(&self) -> std::io::Result<(u64, Vec<LinkCount>)> {
        let (number, counts) = {
            let mut kept = self.by_kid.lock().unwrap_or_else(PoisonError::into_inner);
            let mut all: Vec<_> = kept.slots.iter().collect();
            all.sort_by_key(|(_, slot)| (slot.count == slot.told, slot.told_at));
            let counts: BTreeMap<_, _> =
                all.into_iter().take(MAX_COUNTED).map(|(kid, slot)| (kid.clone(), slot.count)).collect();
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
        let now = kept.frozen.0;
        for (kid, count) in counts {
            if let Some(slot) = kept.slots.get_mut(kid) {
                (slot.told, slot.told_at) = (slot.told.max(*count), now);
            }
        }
    }
}

/// What stands in a slot.
enum Read {
    Key(String, u64),
    Nameless,
}

fn read(slot: &[u8; SLOT]) -> Option<Read> {
    let (name, count) = slot.split_at_checked(COUNT_AT)?;
    if name.iter().all(|byte| *byte == 0) {
        return Some(Read::Nameless);
    }
    let end = name.iter().position(|byte| *byte == 0)?;
    let (kid, zeros) = name.split_at_checked(end)?;
    let kid = std::str::from_utf8(kid).ok().filter(|kid| KidRef::parse(kid).is_ok())?;
    let filled = zeros.iter().all(|byte| *byte == 0);
    filled.then(|| Read::Key(kid.to_owned(), u64::from_le_bytes(count.try_into().unwrap_or_default())))
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

    /// With the keys all in use, none is passed over for ever.
    #[test]
    fn of_many_keys_that_all_sign_each_has_its_turn() {
        let tally = Tally::volatile();
        let all: Vec<_> = (1..=MAX_COUNTED * 2 + 3).map(|n| format!("ed25519/t1/auth/v{n}")).collect();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..3 {
            all.iter().for_each(|kid| tally.add(kid).unwrap());
            let (number, some) = tally.freeze().unwrap();
            tally.told(&tally.frozen(number).unwrap());
            seen.extend(some.into_iter().map(|one| one.kid));
        }
        assert_eq!(seen.len(), all.len());
    }

    /// What a power loss leaves of a slot whose place was made and whose bytes were not, and what a disk leaves that took a count and
    /// not the name before it: a signer that starts, and uses the place.
    #[test]
    fn a_slot_without_a_name_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let tally = Tally::open(dir.path()).unwrap();
        [ONE, TWO].iter().for_each(|kid| tally.add(kid).unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[..COUNT_AT].fill(0);
        bytes.resize(3 * SLOT, 0);
        std::fs::write(&path, &bytes).unwrap();
        let tally = Tally::open(dir.path()).unwrap();
        assert_eq!(counts(&tally), [(TWO.to_owned(), 1)]);
        let (three, four) = ("ed25519/t1/auth/v3", "ed25519/t1/auth/v4");
        [ONE, three, four].iter().for_each(|kid| tally.add(kid).unwrap());
        let all = [ONE, TWO, three, four].map(|kid| (kid.to_owned(), 1));
        assert_eq!(counts(&Tally::open(dir.path()).unwrap()), all);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 4 * u64::try_from(SLOT).unwrap());
    }

    /// A disk that does not take the name takes it with the next count.
    #[test]
    fn a_name_that_was_not_taken_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let mut tally = Tally::open(dir.path()).unwrap();
        let writable = tally.file.replace(File::open(&path).unwrap());
        assert!(tally.add(ONE).is_err(), "a file that is open for reading alone");
        tally.file = writable;
        tally.add(ONE).unwrap();
        assert_eq!(counts(&Tally::open(dir.path()).unwrap()), [(ONE.to_owned(), 2)]);
    }

    #[test]
    fn what_is_no_file_of_counts_is_not_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        std::fs::write(&path, [b'x'; SLOT]).unwrap();
        let refused = Tally::open(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("no file of counts"), "{refused}");
        let twice = [ONE, ONE].map(|kid| {
            let mut slot = [0; SLOT];
            slot[..kid.len()].copy_from_slice(kid.as_bytes());
            slot
        });
        std::fs::write(&path, twice.as_flattened()).unwrap();
        Tally::open(dir.path()).unwrap_err();
        let full = File::create(&path).unwrap();
        full.set_len(u64::try_from(SLOT * MAX_SLOTS + 1).unwrap()).unwrap();
        Tally::open(dir.path()).unwrap_err();
        // A new key's slot that a power loss cut short.
        std::fs::write(&path, &ONE.as_bytes()[..7]).unwrap();
        let tally = Tally::open(dir.path()).unwrap();
        tally.add(TWO).unwrap();
        assert_eq!(counts(&Tally::open(dir.path()).unwrap()), [(TWO.to_owned(), 1)]);
    }
}
