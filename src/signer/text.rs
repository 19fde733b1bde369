//! Texts of the signer's. It may have been taken over by the HSM's module, and its words go to logs, records and the
//! terminals of admins: they are one line, of bounded length.

use crate::wire::link::{LinkHealth, LinkKey, LinkWelcome};

/// The longest text that is taken over, in characters.
const MAX_TEXT: usize = 256;

/// The text without what could end a line, move a cursor or turn the direction of writing.
pub(super) fn plain(text: &str) -> String {
    let fine = |c: char| {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || turns { char::REPLACEMENT_CHARACTER } else { c }
    };
    text.chars().take(MAX_TEXT).map(fine).collect()
}

pub(super) fn plain_welcome(mut welcome: LinkWelcome) -> LinkWelcome {
    welcome.module = plain(&welcome.module);
    welcome.token = plain(&welcome.token);
    welcome
}

pub(super) fn plain_health(mut health: LinkHealth) -> LinkHealth {
    health.rung = plain(&health.rung);
    health
}

/// The kid stays as it is: it is only ever compared with those that are known.
pub(super) fn plain_keys(keys: Vec<LinkKey>) -> Vec<LinkKey> {
    keys.into_iter().map(|key| LinkKey { problem: plain(&key.problem), ..key }).collect()
}
