//! The cases of the lives of keys.

use crate::fake::Fake;
use crate::page::Page;

/// Each against a daemon of its own.
pub(crate) fn all() -> Vec<Page> {
    let cases: [(&'static str, &[&[&str]]); 6] = [
        // A seal key has no public part.
        ("key stage", &[&["ed25519/t1/auth/v2"], &["hmac-sha256/t1/seal/v2"]]),
        // The first of its kind has none before it; an old seal key still opens.
        (
            "key activate",
            &[
                &["ed25519/t1/auth/v2"],
                &["ed25519/t1/auth/v1"],
                &["hmac-sha256/t1/seal/v2"],
                &["ed25519/t1/auth/v2", "--wait"],
                &["ed25519/t1/auth/v2", "--now", "--reason", "incident 42"],
                &["ed25519/t1/auth/v2", "--now"],
            ],
        ),
        ("key list", &[&[]]),
        (
            "key rollback",
            &[
                &["--tenant", "t1", "--purpose", "auth", "--reason", "incident 42", "--yes"],
                &["--tenant", "t1", "--purpose", "auth", "--reason", "incident 42", "--dry-run"],
                &["--tenant", "t1", "--purpose", "auth", "--reason", "incident 42"],
            ],
        ),
        ("key confirm", &[&["ed25519/t1/auth/v1"]]),
        (
            "key destroyed",
            &[&["ed25519/t1/auth/v0", "--yes"], &["ed25519/t1/auth/v0", "--dry-run"], &["ed25519/t1/auth/v0"]],
        ),
    ];
    let page = |(leaf, cases): (&'static str, &[&[&str]])| {
        let fake = Fake::frozen();
        let mut page = Page::new(leaf);
        cases.iter().for_each(|arguments| page.both(&fake, arguments, ""));
        page.troubles(&fake, cases[0], "");
        page.misused(&fake)
    };
    cases.into_iter().map(page).collect()
}
