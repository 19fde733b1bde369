//! The state's file: altered bytes, and rows of any content under a checksum that is right.

use std::sync::LazyLock;

use passportd::state::{KeyState, KeyTable, NewKey, Role, Snapshot, StateError, fuzzing};

use super::script::Script;

const NOW: i64 = 1_800_000_000;

/// redb's header: magic number, layout, two commit slots.
const HEADER: usize = 320;

/// Alterations of one case.
const MAX_EDITS: usize = 64;

/// A state of several keys and commits: its file, and what is in it.
struct Sound {
    /// As a killed process leaves it, and as one that closes it.
    images: [Vec<u8>; 2],
    snapshot: Snapshot,
}

static SOUND: LazyLock<Sound> = LazyLock::new(|| {
    let (mut table, mut commits) = (KeyTable::default(), Vec::new());
    for version in 1..=4_u32 {
        let new = NewKey {
            kid: format!("ed25519/t1/auth/v{version}"),
            tenant: "t1".to_owned(),
            purpose: "auth".to_owned(),
            version,
            role: Role::Passport,
            public: Some([u8::try_from(version).unwrap(); 32]),
            created: NOW,
        };
        let kid = new.kid.clone();
        for change in [table.stage(new, NOW).unwrap(), vec![]] {
            let change = if change.is_empty() { table.activate(&kid, NOW).unwrap() } else { change };
            table = table.apply(&change).unwrap();
            let rows = change.iter().map(|key| (key.kid.clone(), serde_json::to_vec(key).unwrap())).collect();
            commits.push((head(commits.len() as u64 + 1), rows));
        }
    }
    let images = fuzzing::images(&commits).unwrap();
    let [snapshot, closed] = images.clone().map(|image| fuzzing::open(image).unwrap());
    assert_eq!((snapshot.generation, snapshot.keys.len()), (commits.len() as u64, 4));
    assert_eq!(snapshot, closed);
    Sound { images, snapshot }
});

fn head(generation: u64) -> Vec<u8> {
    format!("{{\"created\":{NOW},\"audit_seq\":{generation},\"generation\":{generation}}}").into_bytes()
}

/// An altered file is noticed or read right; rows of any content never make a table that breaks the rules of keys.
pub fn state(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    match script.byte() % 4 {
        which @ (0 | 1) => altered(&SOUND.images[usize::from(which)], &mut script),
        2 => rows(&mut script),
        _ => drop(fuzzing::open(script.bytes(usize::MAX).to_vec())),
    }
}

fn altered(sound: &[u8], script: &mut Script<'_>) {
    // What follows is zeros.
    let used = sound.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let mut image = sound.to_vec();
    for _ in 0..MAX_EDITS {
        if script.done() {
            break;
        }
        let (kind, at, mask) = (script.byte(), script.word() as usize, script.byte());
        match kind % 8 {
            // Half of them in the header, where redb's commit slots are.
            0..=3 => image[at % HEADER] ^= mask,
            4 | 5 => image[at % used] ^= mask,
            6 => {
                let from = at % used;
                let to = (from + usize::from(mask)).min(used);
                image[from..to].fill(0);
            }
            _ => image.truncate(at % (image.len() + 1)),
        }
        if image.len() < used {
            break;
        }
    }
    match fuzzing::open(image) {
        Ok(read) => assert_eq!(read, SOUND.snapshot, "an altered file was read as another state"),
        Err(error) => named(&error),
    }
}

fn named(error: &StateError) {
    assert!(error.to_string().contains(fuzzing::PATH), "{error}");
}

/// Rows parted by zero bytes: the head, then names and records by turns.
fn rows(script: &mut Script<'_>) {
    let mut parts = script.bytes(usize::MAX).split(|byte| *byte == 0);
    let own_head = parts.next().filter(|head| !head.is_empty()).map_or_else(|| head(1), <[u8]>::to_vec);
    let mut keys = Vec::new();
    while let (Some(kid), Some(json)) = (parts.next(), parts.next()) {
        keys.push((String::from_utf8_lossy(kid).into_owned(), json.to_vec()));
    }
    for image in fuzzing::images(&[(own_head, keys)]).unwrap() {
        match fuzzing::open(image) {
            Ok(read) => table(&read.keys),
            Err(error) => named(&error),
        }
    }
}

/// The rules that hold of keys at every moment.
fn table(keys: &KeyTable) {
    for key in keys.iter() {
        assert!(key.version > 0 && (key.role == Role::Seal) == key.public.is_none(), "{key:?}");
        assert!(key.kid.ends_with(&format!("/{}/{}/v{}", key.tenant, key.purpose, key.version)), "{key:?}");
        let same: Vec<_> = keys.of(&key.tenant, &key.purpose).collect();
        assert_eq!(same.iter().filter(|other| other.version == key.version).count(), 1, "{key:?}");
        assert!(same.iter().filter(|other| other.state == KeyState::Active).count() <= 1, "{key:?}");
        let twins = keys.iter().filter(|other| other.public.is_some() && other.public == key.public).count();
        assert_eq!(twins, usize::from(key.public.is_some()), "{key:?}");
    }
}
