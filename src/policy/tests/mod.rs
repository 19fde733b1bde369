//! The decisions by table, and what loading refuses.

mod bind;
mod decisions;
mod exchange;
mod forms;
mod loading;
mod watching;

use std::{io, path::Path};

use super::*;

/// The id of nobody.
const NOBODY: u32 = 65_534;

/// A user and group database for tests.
struct Town;

impl Names for Town {
    fn uid(&self, user: &str) -> io::Result<Option<u32>> {
        match user {
            "www-data" => Ok(Some(33)),
            "alice" => Ok(Some(1000)),
            "nobody" => Ok(Some(NOBODY)),
            "broken" => Err(io::Error::other("the server is away")),
            _ => Ok(None),
        }
    }

    fn gid(&self, group: &str) -> io::Result<Option<u32>> {
        Ok(match group {
            "web" => Some(33),
            "daemon" => Some(1),
            "passportd-admin" => Some(900),
            "nogroup" => Some(NOBODY),
            _ => None,
        })
    }
}

const OVERFLOW: Overflow = Overflow { uid: NOBODY, gid: NOBODY };

/// The policy of these files.
fn files(files: &[(&str, &str)]) -> Result<Policy, PolicyError> {
    let files = files.iter().map(|(name, text)| PolicyFile { name: (*name).into(), bytes: (*text).into() }).collect();
    Policy::from_files(Path::new("/etc/passportd/policy.d"), files, &Town, OVERFLOW)
}

/// The policy of one file.
fn policy(text: &str) -> Policy {
    files(&[("10-test.toml", text)]).unwrap()
}

/// A peer that only has a user.
fn uid(uid: u32) -> Peer {
    Peer { uid, gid: 5000, pid: 1, groups: vec![], listener: "passportd".into(), cgroup: None }
}
