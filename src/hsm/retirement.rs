//! Keys that an operator takes out of service while the signer serves.
//!
//! A new key is of no use before the front knows it, and then the front asks for it. A retired one must stop without the
//! front's word, so the signer looks at `keys.json` by itself.

use super::pins::{FILE, Pins};
use super::ring::{Ring, RingKey};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What tells one file from the next: inode, and seconds and nanoseconds of its last change. A ceremony replaces the file.
type Stamp = (u64, i64, i64);

/// What `keys.json` says of retired keys.
#[derive(Debug)]
pub struct Retirement {
    state_dir: PathBuf,
    stamp: Option<Stamp>,
    retired: Vec<String>,
}

impl Retirement {
    /// To look at the file of this directory; nothing has been read yet.
    pub fn of(state_dir: &Path) -> Self {
        Self { state_dir: state_dir.to_owned(), stamp: None, retired: Vec::new() }
    }

    /// Whether a key of `ring` is used that is retired now. A file that can't be read says nothing: the next start of the
    /// module names what is wrong with it.
    pub fn outdates(&mut self, ring: &Ring) -> bool {
        let found = std::fs::metadata(self.state_dir.join(FILE)).ok();
        let stamp = found.map(|file| (file.ino(), file.ctime(), file.ctime_nsec()));
        if stamp != self.stamp
            && let Ok(pins) = Pins::read(&self.state_dir)
        {
            self.stamp = stamp;
            self.retired = pins.keys.into_iter().filter(|key| key.retired.is_some()).map(|key| key.kid).collect();
        }
        let used = |kid: &String| ring.position(kid).and_then(|at| ring.get(at)).is_some_and(RingKey::usable);
        self.retired.iter().any(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hsm::inventory::{Found, Inventory};
    use crate::hsm::pins::PinnedKey;
    use crate::wire::link::KeyRole;

    const KID: &str = "hmac-sha256/t1/seal/v1";

    fn pins(retired: Option<i64>) -> Pins {
        Pins::of(vec![PinnedKey {
            kid: KID.to_owned(),
            label: None,
            role: KeyRole::Seal,
            cka_id: "0102".to_owned(),
            public: None,
            created: 0,
            module: String::new(),
            token_serial: "s1".to_owned(),
            mechanisms_bound: true,
            retired,
        }])
    }

    fn ring(pins: &Pins) -> Ring {
        let found = Found {
            label: KID.to_owned(),
            role: KeyRole::Seal,
            id: vec![1, 2],
            public: None,
            mechanisms_bound: true,
            unsaid: vec![],
            problems: vec![],
        };
        Ring::new(Inventory { keys: vec![found], ..Inventory::default() }, pins, "s1")
    }

    #[test]
    fn a_key_that_is_retired_meanwhile_is_seen_until_it_is_no_longer_used() {
        let dir = tempfile::tempdir().unwrap();
        let (serving, retired) = (pins(None), pins(Some(7)));
        let (before, after) = (ring(&serving), ring(&retired));
        let mut watch = Retirement::of(dir.path());
        assert!(!watch.outdates(&before), "no file, no word");
        serving.write(dir.path()).unwrap();
        assert!(!watch.outdates(&before));
        retired.write(dir.path()).unwrap();
        assert!(watch.outdates(&before) && watch.outdates(&before) && !watch.outdates(&after));
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(watch.outdates(&before), "what was said holds");
    }
}
