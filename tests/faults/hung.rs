//! A disk that hangs: it neither works nor fails, and answers nobody.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use passportd::wire::{AdminOp, Code, ServiceOk, ServiceOp, Verdict};

use super::support::passports::{demo, for_demo, on_wire};
use super::support::raw::request;
use super::support::{House, Options, Users, eventually, ledger, people, root_or_skip, skipped};

/// A file system in a file of its own, which can be frozen: what would write to it waits, in the kernel.
struct Frozen {
    dir: tempfile::TempDir,
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{program}: {said}")) }
}

impl Frozen {
    /// None, with the reason printed, where that can't be had.
    fn new(test: &str) -> Option<Self> {
        if !root_or_skip(test) {
            return None;
        }
        let dir = tempfile::Builder::new().prefix("passportd-hung-").tempdir().unwrap();
        let disk = Self { dir };
        let (image, mounted) = (disk.dir.path().join("image"), disk.mounted());
        fs::set_permissions(disk.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(&mounted).unwrap();
        fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        let (image, mounted) = (image.to_str().unwrap(), mounted.to_str().unwrap());
        let made = run("mkfs.ext4", &["-q", image])
            .and_then(|()| run("mount", &["-o", "loop", image, mounted]))
            .and_then(|()| run("fsfreeze", &["--freeze", mounted]))
            .and_then(|()| run("fsfreeze", &["--unfreeze", mounted]));
        match made {
            Ok(()) => Some(disk),
            Err(why) => {
                skipped(&format!("{test}: a file system can't be frozen here: {why}"));
                None
            }
        }
    }

    fn mounted(&self) -> std::path::PathBuf {
        self.dir.path().join("disk")
    }

    fn private(&self, name: &str) -> std::path::PathBuf {
        let dir = self.mounted().join(name);
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
        if let Some((front, _)) = people::unprivileged_users() {
            chown(&dir, Some(people::ids(&front).0), None).unwrap();
        }
        dir
    }

    fn freeze(&self) {
        run("fsfreeze", &["--freeze", text(&self.mounted())]).unwrap();
    }

    fn thaw(&self) {
        run("fsfreeze", &["--unfreeze", text(&self.mounted())]).unwrap();
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // It may not be frozen, or not be mounted.
        drop(run("fsfreeze", &["--unfreeze", text(&self.mounted())]));
        drop(run("umount", &["--lazy", text(&self.mounted())]));
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_disk_that_hangs_under_the_ledger_stops_issuing_and_nothing_else() {
    let Some(disk) = Frozen::new("a disk that hangs") else { return };
    let dir = disk.private("ledger");
    let options = Options::default().users(Users::Split).set("audit.dir", text(&dir)).set("limits.max_in_flight", 4);
    let mut house = House::start(options);
    let passport = house.raw().issue(demo("alice")).unwrap();
    let mut raw = house.raw();
    disk.freeze();
    // As many as may be under way, and a verification behind them.
    let mut asked: Vec<u8> = (1..=4).flat_map(|id| request(id, ServiceOp::Issue(demo("bob")))).collect();
    let verify = ServiceOp::Verify { want: for_demo(), passport: on_wire(&passport) };
    asked.extend(request(5, verify));
    let begun = Instant::now();
    raw.send(&asked).unwrap();
    let mut verdicts = 0;
    for _ in 0..5 {
        match raw.reply().result {
            Ok(ServiceOk::Verdict(Verdict::Accepted(_))) => verdicts += 1,
            Err(problem) => assert_eq!((problem.code, problem.retryable), (Code::AuditUnavailable, true)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(verdicts, 1);
    let waited = begun.elapsed();
    assert!((Duration::from_secs(5)..Duration::from_secs(15)).contains(&waited), "answered after {waited:?}");
    let (status, report) = house.get("/readyz");
    let named = "{\"name\":\"audit\",\"ok\":false,\"detail\":\"the ledger can't be written\"}";
    assert!(status == 503 && report.contains(named), "{status} {report}");
    let mut admin = house.admin_raw();
    for op in [AdminOp::PauseIssue { reason: "the disk" }, AdminOp::Drain, AdminOp::Reload] {
        assert_eq!(admin.admin(op).unwrap_err().code, Code::AuditUnavailable);
    }
    assert!(matches!(house.raw().verify(for_demo(), &passport), Ok(Verdict::Accepted(_))), "verification goes on");

    disk.thaw();
    eventually("passports are issued again", Duration::from_secs(10), || house.raw().issue(demo("carol")).ok());
    house.wait_ready();
    house.stop();
    ledger::assert_chain(&dir);
}
