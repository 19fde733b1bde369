// Saying that the lanes were not tested. The library's own tests include this file.

use std::cell::Cell;
use std::io::Write;
use std::path::Path;

/// Says, once in each test, that it runs without the lanes, since the processor has none. The harness holds back what the
/// print macros write in a test that passes, so this goes past it; and to the file `PASSPORTD_SKIPPED`, which the
/// repository's scripts print at their end.
pub(crate) fn skipped_lanes() {
    thread_local!(static SAID: Cell<bool> = const { Cell::new(false) });
    if SAID.replace(true) {
        return;
    }
    let (thread, list) = (std::thread::current(), std::env::var_os("PASSPORTD_SKIPPED"));
    skip(thread.name().unwrap_or("a test"), &mut std::io::stderr(), list.as_deref().map(Path::new));
}

pub(crate) fn skip(test: &str, out: &mut impl Write, list: Option<&Path>) {
    let line = format!("SKIPPED: {test}, in lanes: no AVX-512 IFMA\n");
    out.write_all(line.as_bytes()).unwrap();
    if let Some(list) = list {
        let mut list = std::fs::File::options().create(true).append(true).open(list).unwrap();
        list.write_all(line.as_bytes()).unwrap();
    }
}
