// Saying that a test did not run. The library's own tests include this file.

use std::io::Write;

/// Says why a test, or a part of it, is skipped. The harness holds back what the print macros write in a test that passes,
/// so this goes past it; and to the file `PASSPORTD_SKIPPED`, of which the scripts print a list at their end.
pub(crate) fn skipped(why: &str) {
    let line = format!("SKIPPED: {why}\n");
    drop(std::io::stderr().write_all(line.as_bytes()));
    if let Some(list) = std::env::var_os("PASSPORTD_SKIPPED") {
        let list = std::fs::File::options().create(true).append(true).open(list);
        drop(list.and_then(|mut list| list.write_all(line.as_bytes())));
    }
}
