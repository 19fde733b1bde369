//! How soon a fault is answered, and over: a line of each test's for `make soak`, which puts them into docs/SOAK.md.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::support::{House, Hsm};

/// Where the lines are, in a file each: every test is a process of its own.
const DIR: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/custody");

/// Keeps what this test has seen of a fault: when the first who asked was told so (none: nobody had to be), and when
/// passports were issued again after it was over (none: it never is, unaided).
pub(crate) fn keep(house: &House, fault: &str, answered: Option<Duration>, recovered: impl Into<Option<Duration>>) {
    let thread = std::thread::current();
    // The harness names a test's thread by its path.
    let test = thread.name().and_then(|path| path.rsplit("::").next()).expect("a test's thread");
    let hsm = match house.hsm().hsm() {
        Hsm::SoftHsm => "SoftHSM",
        Hsm::Kryoptic => "kryoptic",
    };
    let millis = |time: Option<Duration>| time.map_or_else(String::new, |time| time.as_millis().to_string());
    let (answered, recovered) = (millis(answered), millis(recovered.into()));
    let fault = fault.trim().replace('\n', "; ");
    let line = format!("| `{test}` | {hsm} | {fault} | {answered} | {recovered} |\n");
    print!("{line}");
    fs::create_dir_all(DIR).unwrap();
    fs::write(Path::new(DIR).join(format!("{test}.{hsm}")), line).unwrap();
}
