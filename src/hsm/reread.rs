//! When the keys are read again without anybody's asking for it: pure, but for a look at `keys.json`.
//!
//! A new key is of no use before the front knows it, and then the front asks. Two things must not wait for the front. A key
//! that is retired must stop being used. And a key that has vanished from the token may come back, as when a store is
//! restored file by file; SoftHSM shows it after another initialisation alone.

use super::pins::{FILE, Pins};
use super::ring::{Ring, RingKey};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// From a key's vanishing to the first time that it is looked for; doubled each time.
pub const PAUSE: Duration = Duration::from_millis(250);
/// And no longer than this while no key at all can be used, since then nobody is held up by it.
pub const PAUSE_MAX: Duration = Duration::from_millis(500);
/// How often a key is looked for while others sign, each time longer after the last: some four minutes in all. It may have
/// been destroyed on purpose.
pub const LOOKS: u32 = 10;

/// What tells one file from the next: inode, and seconds and nanoseconds of its last change. A ceremony replaces the file.
type Stamp = (u64, i64, i64);

/// What is known of keys that may change.
#[derive(Debug)]
pub struct Reread {
    state_dir: PathBuf,
    stamp: Option<Stamp>,
    retired: BTreeSet<String>,
    /// Keys that could be used at some time.
    seen: BTreeSet<String>,
    search: Option<Search>,
}

/// For keys that have vanished.
#[derive(Debug)]
struct Search {
    due: Instant,
    pause: Duration,
    looks: u32,
    /// It has been looked for often enough.
    over: bool,
}

impl Reread {
    /// To look at the file of this directory; nothing has been read yet.
    pub fn of(state_dir: &Path) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            stamp: None,
            retired: BTreeSet::new(),
            seen: BTreeSet::new(),
            search: None,
        }
    }

    /// Whether a key of `ring` is used that is retired now. A file that can't be read says nothing: the next start of the
    /// module names what is wrong with it.
    pub fn retired(&mut self, ring: &Ring) -> bool {
        let found = std::fs::metadata(self.state_dir.join(FILE)).ok();
        let stamp = found.map(|file| (file.ino(), file.ctime(), file.ctime_nsec()));
        if stamp != self.stamp
            && let Ok(pins) = Pins::read(&self.state_dir)
        {
            self.stamp = stamp;
            self.retired =
                pins.keys.into_iter().filter(|key| key.out_of_service().is_some()).map(|key| key.kid).collect();
        }
        ring.keys().iter().any(|key| key.usable() && self.retired.contains(&key.kid))
    }

    /// Whether it is time to look for keys that have vanished.
    pub fn searches(&mut self, ring: &Ring, now: Instant) -> bool {
        self.seen.extend(ring.keys().iter().filter(|key| key.usable()).map(|key| key.kid.clone()));
        let none_signs = !ring.keys().iter().any(RingKey::usable);
        let vanished = |key: &RingKey| key.missing && !key.retired && (none_signs || self.seen.contains(&key.kid));
        if !ring.keys().iter().any(vanished) {
            self.search = None;
            return false;
        }
        let search = self.search.get_or_insert(Search { due: now + PAUSE, pause: PAUSE, looks: 0, over: false });
        search.over = !none_signs && search.looks >= LOOKS;
        if now < search.due || search.over {
            return false;
        }
        search.looks = search.looks.saturating_add(1);
        search.pause = search.pause.saturating_mul(2);
        if none_signs {
            search.pause = search.pause.min(PAUSE_MAX);
        }
        search.due = now + search.pause;
        true
    }

    /// When to ask again, if there is something to look for.
    pub fn next(&self) -> Option<Instant> {
        self.search.as_ref().filter(|search| !search.over).map(|search| search.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hsm::inventory::{Found, Inventory};
    use crate::hsm::pins::PinnedKey;
    use crate::statement::transcript::Attributes;
    use crate::wire::link::KeyRole;

    const SEAL: &str = "hmac-sha256/t1/seal/v1";
    const SIGNS: [&str; 2] = ["ed25519/t1/auth/v1", "ed25519/t2/auth/v1"];

    fn public(kid: &str) -> Option<[u8; 32]> {
        let secret = SIGNS.iter().position(|one| *one == kid)?;
        let secret = [u8::try_from(secret).unwrap() + 7; 32];
        Some(ed25519_dalek::SigningKey::from_bytes(&secret).verifying_key().to_bytes())
    }

    fn role(kid: &str) -> KeyRole {
        if public(kid).is_some() { KeyRole::Passport } else { KeyRole::Seal }
    }

    fn id(kid: &str) -> u8 {
        kid.bytes().fold(0, u8::wrapping_add)
    }

    fn pins(retired: Option<i64>) -> Pins {
        let pin = |kid: &str| PinnedKey {
            kid: kid.to_owned(),
            label: None,
            role: role(kid),
            cka_id: format!("{:02x}", id(kid)),
            public: public(kid).map(|public| crate::passport::hex::encode(&public)),
            created: 0,
            module: String::new(),
            token_serial: "s1".to_owned(),
            mechanisms_bound: true,
            retired: retired.filter(|_| kid == SEAL),
            compromised: None,
            destroyed: None,
        };
        Pins::of([SIGNS[0], SIGNS[1], SEAL].map(pin).to_vec())
    }

    fn ring(pins: &Pins, there: &[&str]) -> Ring {
        let found = |kid: &&str| Found {
            label: (*kid).to_owned(),
            role: role(kid),
            id: vec![id(kid)],
            public: public(kid),
            mechanisms_bound: true,
            unsaid: vec![],
            attributes: Attributes::default(),
            problems: vec![],
        };
        Ring::new(Inventory { keys: there.iter().map(found).collect(), ..Inventory::default() }, pins, "s1")
    }

    /// When it looked within so many seconds, in milliseconds.
    fn looks(reread: &mut Reread, ring: &Ring, begun: Instant, seconds: u64) -> Vec<u64> {
        let at = |ms: &u64| begun + Duration::from_millis(*ms);
        (0..seconds * 1_000).step_by(250).filter(|ms| reread.searches(ring, at(ms))).collect()
    }

    #[test]
    fn a_key_that_is_retired_meanwhile_is_seen_until_it_is_no_longer_used() {
        let dir = tempfile::tempdir().unwrap();
        let (serving, retired) = (pins(None), pins(Some(7)));
        let (before, after) = (ring(&serving, &[SEAL]), ring(&retired, &[SEAL]));
        let mut reread = Reread::of(dir.path());
        assert!(!reread.retired(&before), "no file, no word");
        serving.write(dir.path()).unwrap();
        assert!(!reread.retired(&before));
        retired.write(dir.path()).unwrap();
        assert!(reread.retired(&before) && reread.retired(&before) && !reread.retired(&after));
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(reread.retired(&before), "what was said holds");
    }

    #[test]
    fn while_no_key_can_be_used_they_are_looked_for_all_the_time() {
        let (pins, begun) = (pins(None), Instant::now());
        let mut reread = Reread::of(Path::new("/nonexistent"));
        let times = looks(&mut reread, &ring(&pins, &[]), begun, 100);
        assert_eq!(times[..4], [250, 750, 1_250, 1_750]);
        assert!(times.len() > 190 && reread.next().is_some());
        let all = ring(&pins, &[SIGNS[0], SIGNS[1], SEAL]);
        assert!(!reread.searches(&all, begun) && reread.next().is_none(), "they are back");
    }

    #[test]
    fn one_key_of_several_is_looked_for_so_often_and_no_more() {
        let (pins, begun) = (pins(None), Instant::now());
        let mut reread = Reread::of(Path::new("/nonexistent"));
        let one = ring(&pins, &SIGNS[..1]);
        assert!(looks(&mut reread, &one, begun, 100).is_empty(), "it was not there before");
        assert!(!reread.searches(&ring(&pins, &SIGNS), begun));
        let times = looks(&mut reread, &one, begun, 2_000);
        assert_eq!((times.len(), &times[..3]), (usize::try_from(LOOKS).unwrap(), &[250, 750, 1_750][..]));
        assert!(times[9] > 120_000, "{times:?}");
        assert_eq!(reread.next(), None, "nothing is waited for any more");
        assert!(!reread.searches(&ring(&pins, &SIGNS), begun) && reread.next().is_none());
        assert!(!looks(&mut reread, &one, begun, 2).is_empty(), "it came back, and vanished again");
    }
}
