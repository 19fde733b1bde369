//! The cases of small secrets.

use crate::fake::{Fake, NEWEST, OLDER, sealed};
use crate::offline::write;
use crate::page::Page;

/// Each against a daemon of its own.
pub(crate) fn all() -> Vec<Page> {
    vec![seal(), unseal(), reseal()]
}

const HERE: [&str; 4] = ["--namespace", "t1/billing", "--name", "database"];

fn text(blob: Vec<u8>) -> String {
    String::from_utf8(blob).unwrap()
}

fn seal() -> Page {
    let fake = Fake::frozen();
    let mut page = Page::new("seal");
    page.both(&fake, &HERE, "hunter2");
    for format in ["table", "json"] {
        let file = fake.path(&format!("{format}.sealed")).to_str().unwrap().to_owned();
        let out = [&HERE[..2], &["--out", &file, "--name", "database", "--output", format]].concat();
        page.case(&fake, &out, "hunter2");
        // It is there now.
        page.case(&fake, &out, "hunter2");
    }
    page.both(&fake, &HERE, &"x".repeat(65_537));
    page.troubles(&fake, &HERE, "hunter2");
    page.case(&fake, &HERE[..2], "hunter2");
    page.misused(&fake)
}

fn unseal() -> Page {
    let fake = Fake::frozen();
    let mut page = Page::new("unseal");
    let blob = text(sealed(NEWEST, b"hunter2"));
    page.both(&fake, &HERE, &blob);
    page.both(&fake, &["--namespace", "t1/billing", "--name", "mail"], &blob);
    page.both(&fake, &HERE, "hunter2");
    page.troubles(&fake, &HERE, &blob);
    page.misused(&fake)
}

fn reseal() -> Page {
    let fake = Fake::frozen();
    let mut page = Page::new("reseal");
    for format in ["table", "json"] {
        let file = write(&fake, &format!("{format}/database.sealed"), &text(sealed(OLDER, b"hunter2")));
        let arguments = ["--namespace", "t1/billing", &file, "--output", format];
        page.case(&fake, &[&arguments[..], &["--dry-run"]].concat(), "");
        page.case(&fake, &arguments, "");
        page.case(&fake, &arguments, "");
    }
    let file = write(&fake, "database.sealed", "no secret");
    page.both(&fake, &["--namespace", "t1/billing", &file], "");
    let file = write(&fake, "database.sealed", &text(sealed(OLDER, b"hunter2")));
    page.troubles(&fake, &["--namespace", "t1/billing", &file], "");
    page.both(&fake, &["--namespace", "t1/billing", "--name", "x", &file, &file], "");
    page.misused(&fake)
}
