//! `keys --publish`: what becomes of the file.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::fake::Fake;
use crate::tool::{Ran, run};

fn publish(fake: &Fake, file: &Path) -> Ran {
    fake.run(&["keys", "--publish", file.to_str().unwrap()])
}

fn only_file(dir: &Path, name: &str) {
    let names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names, [name], "nothing is left beside it");
}

#[test]
fn the_file_is_the_exact_set_for_everybody_to_read() {
    let fake = Fake::start();
    let dir = fake.path("www");
    fs::create_dir(&dir).unwrap();
    let file = dir.join("jwks.json");
    // A umask that would keep web servers out.
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask 077 && exec \"$0\" keys --publish \"$1\" --socket \"$2\""]);
    shell.args([env!("CARGO_BIN_EXE_passportctl").as_ref(), file.as_os_str(), fake.path("s.sock").as_os_str()]);
    let ran = run(&mut shell, "");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    let set = fake.run(&["keys"]).stdout;
    assert_eq!(fs::read_to_string(&file).unwrap(), set);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o644);
    let etag: String = passportd::passport::etag(set.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(ran.stdout.contains(&format!("etag {etag}")), "{ran:?}");
    only_file(&dir, "jwks.json");
}

#[test]
fn what_is_current_is_left_alone_and_what_is_not_is_replaced() {
    let fake = Fake::start();
    let dir = fake.path("www");
    fs::create_dir(&dir).unwrap();
    let file = dir.join("jwks.json");
    assert!(publish(&fake, &file).stdout.starts_with("published "));
    let old = SystemTime::now() - Duration::from_secs(86_400);
    File::options().write(true).open(&file).unwrap().set_modified(old).unwrap();
    let before = fs::metadata(&file).unwrap();
    assert!(publish(&fake, &file).stdout.starts_with("unchanged "));
    let after = fs::metadata(&file).unwrap();
    assert_eq!((before.ino(), before.modified().unwrap()), (after.ino(), after.modified().unwrap()));

    // A reader that has the old file open keeps the old set.
    let mut reader = File::open(&file).unwrap();
    fs::write(&file, "old").unwrap();
    assert!(publish(&fake, &file).stdout.starts_with("published "));
    assert_eq!(std::io::read_to_string(&mut reader).unwrap(), "old");
    assert_eq!(fs::read_to_string(&file).unwrap(), fake.run(&["keys"]).stdout);
    only_file(&dir, "jwks.json");
}

#[test]
fn links_sockets_and_directories_stay_what_they_are() {
    let fake = Fake::start();
    let (target, link) = (fake.path("target"), fake.path("link"));
    fs::write(&target, "kept").unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    // No device: as root, a tool that is broken would replace it for the whole machine.
    let dir = fake.path("dir");
    fs::create_dir(&dir).unwrap();
    for other in [link.as_path(), &dir, &fake.path("s.sock")] {
        publish(&fake, other).says(1, "it is no regular file, so it is not replaced");
    }
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&target).unwrap(), "kept");
    // Without a daemon, what is there stays.
    let mut gone = fake.tool(&["keys", "--publish", target.to_str().unwrap()]);
    run(gone.env("PASSPORTCTL_SOCKET", fake.path("none.sock")), "").says(1, "can't connect");
    assert_eq!(fs::read_to_string(&target).unwrap(), "kept");
}
