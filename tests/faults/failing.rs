//! A disk that takes what is written to it, and fails later: only `fsync` says that it came to nothing.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use passportd::passport::OwnedEnvelope;
use passportd::wire::{Code, Verdict};

use super::disk::{Disk, limited, taken};
use super::hung::run;
use super::support::passports::{demo, for_demo};
use super::support::{House, eventually, skipped};

/// A file system without a journal, in a sparse file on a small disk: once that is full, no block that it has not yet can be
/// written. The file system has room, so a write succeeds; the device below it fails when the page is written back, which the
/// next `fsync` tells, once.
struct Failing {
    mounted: tempfile::TempDir,
    below: Disk,
}

impl Failing {
    /// None, with the reason printed, where that can't be had.
    fn new(test: &str) -> Option<Self> {
        let below = Disk::new(24 << 10, test)?;
        let disk = Self { mounted: tempfile::Builder::new().prefix("passportd-eio-").tempdir().unwrap(), below };
        let image = disk.below.path().join("image");
        fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let (image, mounted) = (image.to_str().unwrap(), disk.mounted.path().to_str().unwrap());
        let made = run("mkfs.ext4", &["-q", "-O", "^has_journal", "-E", "lazy_itable_init=0", image])
            .and_then(|()| run("mount", &["-o", "loop,errors=continue", image, mounted]));
        match made {
            Ok(()) => Some(disk),
            Err(why) => {
                skipped(&format!("{test} can't mount: {why}"));
                None
            }
        }
    }

    fn private(&self, name: &str) -> PathBuf {
        let dir = self.mounted.path();
        fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        super::disk::private(dir, name)
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        drop(run("umount", &["--lazy", self.mounted.path().to_str().unwrap()]));
    }
}

#[test]
fn with_a_failing_disk_under_the_state_nothing_is_accepted_that_takes_something() {
    let Some(disk) = Failing::new("a failing disk") else { return };
    let dir = disk.private("state");
    let mut house = House::start(limited().set("state.path", dir.join("state.redb").to_str().unwrap()));
    let few = |sub| passportd::wire::IssueSpec { template: "few", ..demo(sub) };
    let (passport, free) = (house.raw().issue(few("alice")).unwrap(), house.raw().issue(demo("alice")).unwrap());
    assert_eq!(taken(&house, &passport), Ok(2));
    disk.below.fill();
    // What is there already can be written anew; the state grows.
    let mut said: Vec<(OwnedEnvelope, u64)> = Vec::new();
    eventually("the disk fails", Duration::from_secs(30), || {
        let other = house.raw().issue(few("bob")).unwrap();
        match taken(&house, &other) {
            Ok(left) => {
                said.push((other, left));
                None
            }
            Err(code) => {
                assert_eq!(code, Code::StoreUnavailable);
                Some(())
            }
        }
    });
    assert!(matches!(house.raw().verify(for_demo(), &free), Ok(Verdict::Accepted(_))), "verification goes on");
    assert_eq!(taken(&house, &passport), Err(Code::StoreUnavailable));
    eventually("it is said where", Duration::from_secs(20), || {
        let said = house.health().conditions.into_iter().find(|one| one.name == "state" && !one.ok)?;
        said.detail.contains("state.redb: ").then_some(())
    });
    disk.below.make_room();
    let left = eventually("uses are taken again", Duration::from_secs(20), || taken(&house, &passport).ok());
    assert!(left <= 1, "{left}");
    house.kill("front");
    house.wait_ready();
    // What was acknowledged is there: each of them has as much left as was said.
    for (other, left) in said.iter().rev().take(50) {
        assert_eq!(taken(&house, other), Ok(left - 1));
    }
    assert_eq!(taken(&house, &passport).ok(), left.checked_sub(1));
}
