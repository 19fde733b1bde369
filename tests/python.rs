//! The Python client and its verifier, tested with Python's own means: every vector of `docs/WIRE.md`, the published signatures, and
//! daemons made of a thread.

#[path = "support/skipped.rs"]
mod skipped;

use std::process::Command;

use skipped::skipped;

#[test]
fn the_python_client_speaks_the_specified_wire() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/python");
    let version = "import sys; sys.exit(0 if sys.version_info >= (3, 9) else 1)";
    match Command::new("python3").args(["-c", version]).status() {
        Ok(status) if status.success() => {}
        Ok(_) => return skipped("python3 is older than 3.9"),
        Err(error) => return skipped(&format!("there is no python3 ({error})")),
    }
    // -B leaves no compiled files in the source tree; a warning, such as that of an unclosed socket, fails.
    let run = Command::new("python3")
        .args(["-B", "-W", "error", "-m", "unittest", "test_wire", "test_verifier"])
        .current_dir(folder)
        .output();
    let output = run.expect("python3 ran a moment ago");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    // unittest ends well when it finds no test at all.
    let ran = text.lines().find_map(|line| line.strip_prefix("Ran ")?.split(' ').next()?.parse::<u32>().ok());
    assert!(ran.is_some_and(|count| count >= 48), "{text}");
}
