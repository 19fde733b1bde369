//! The files of `systemd/`, read as systemd reads them, as far as the tests need it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The unit files, by their roles.
pub(crate) const UNITS: [&str; 8] = [
    "passportd.target",
    "passportd.service",
    "passportd-signer.service",
    "passportd-ceremony.socket",
    "passportd-ceremony@.service",
    "passportd.socket",
    "passportd-admin.socket",
    "passportd-metrics.socket",
];

/// Where they are.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")
}

fn lines(file: &str) -> Vec<String> {
    let text = fs::read_to_string(folder().join(file)).unwrap();
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// A unit's assignments, in their order; a key may be there several times.
pub(crate) struct Unit {
    pub(crate) name: &'static str,
    assignments: Vec<(String, String)>,
}

impl Unit {
    pub(crate) fn read(name: &'static str) -> Self {
        let lines = lines(name).into_iter().filter(|line| !line.starts_with('['));
        let assignments = lines.map(|line| line.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).unwrap());
        Self { name, assignments: assignments.collect() }
    }

    /// Every value of a key.
    pub(crate) fn all<'u>(&'u self, key: &str) -> impl Iterator<Item = &'u str> {
        self.assignments.iter().filter(move |(known, _)| *known == key).map(|(_, value)| value.as_str())
    }

    /// The one value of a key.
    pub(crate) fn one(&self, key: &str) -> &str {
        let values: Vec<_> = self.all(key).collect();
        assert_eq!(values.len(), 1, "{}: {key}= is there {} times", self.name, values.len());
        values[0]
    }

    /// The words of all values of a key.
    pub(crate) fn words<'u>(&'u self, key: &str) -> impl Iterator<Item = &'u str> {
        self.all(key).flat_map(str::split_whitespace)
    }

    /// A time in seconds.
    pub(crate) fn seconds(&self, key: &str) -> u64 {
        self.one(key).strip_suffix('s').unwrap().parse().unwrap()
    }
}

/// Users and groups of `sysusers.d/passportd.conf`. A user has a group of its own name.
pub(crate) fn sysusers() -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut users, mut groups) = (BTreeSet::new(), BTreeSet::new());
    for line in lines("sysusers.d/passportd.conf") {
        let mut words = line.split_whitespace();
        let (kind, name) = (words.next().unwrap(), words.next().unwrap().to_owned());
        match kind {
            "u" => assert!(users.insert(name.clone())),
            "g" => {}
            other => panic!("{other:?} in sysusers.d"),
        }
        assert!(groups.insert(name));
    }
    (users, groups)
}

/// A directory of `tmpfiles.d/passportd.conf`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directory {
    pub(crate) mode: u32,
    pub(crate) user: String,
    pub(crate) group: String,
}

/// The directories of `tmpfiles.d/passportd.conf`.
pub(crate) fn tmpfiles() -> BTreeMap<PathBuf, Directory> {
    let directory = |line: String| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [kind, path, mode, user, group] = words[..] else { panic!("{line:?}") };
        assert_eq!(kind, "d", "{line}");
        let mode = u32::from_str_radix(mode, 8).unwrap();
        (PathBuf::from(path), Directory { mode, user: user.to_owned(), group: group.to_owned() })
    };
    lines("tmpfiles.d/passportd.conf").into_iter().map(directory).collect()
}
