//! What is in the files that the daemon keeps: the list of keys, state and ledger; and the module's own configuration.

use std::path::PathBuf;

use super::Check;
use super::facts::{Files, Found, KeyList, Kind, Read, Unread};
use super::files::{OTHERS_ALL, OTHERS_WRITE, octal};

/// What helps against damage that nothing repairs by itself.
const RESTORE: &str = "keep a copy to look into, then restore state and ledger from one backup; a format that is not known \
                       belongs to the passportd that wrote it";

/// To read, for the owner: it is replaced as a whole.
const OWNER_READ: u32 = 0o400;

/// Whom to ask while the daemon has it open.
const NOW: &str = "passportctl status tells how it is now";

/// The file that tells the module where its token is. None is named where the module needs none.
pub(super) fn module_config(named: Option<&(PathBuf, Found)>) -> Option<Check> {
    const NAME: &str = "module config";
    let (path, found) = named?;
    let path = path.display();
    Some(match found {
        Found::Missing => {
            let remedy = "create it, or correct hsm.module_config";
            Check::fail(NAME, format!("{path} (hsm.module_config) is not there"), remedy)
        }
        Found::Hidden(why) => Check::skipped(NAME, why, ""),
        Found::There(stat) if stat.kind != Kind::Link && stat.mode & OTHERS_WRITE != 0 => {
            let detail = format!("{path} has {}: others may lead the module to another token", octal(stat.mode));
            Check::fail(NAME, detail, format!("chmod go-w {path}"))
        }
        Found::There(_) => Check::ok(NAME, path.to_string()),
    })
}

/// What is remembered of a refused PIN: nothing is said of it unless the signer can't go by it, and so does not start.
pub(super) fn pin_note((path, found, owner): &(PathBuf, Found, u32)) -> Option<Check> {
    const NAME: &str = "pin note";
    let Found::There(stat) = found else { return None };
    let (shown, uid) = (path.display(), stat.uid);
    if stat.kind != Kind::File {
        let remedy = "move it away, then passportctl hsm retry-pin";
        return Some(Check::fail(NAME, format!("{shown} is not a regular file"), remedy));
    }
    if uid != *owner {
        let detail =
            format!("{shown} belongs to uid {uid}, must belong to uid {owner}: the signer can't remember a PIN");
        return Some(Check::fail(NAME, detail, format!("chown {owner} {shown}")));
    }
    (stat.mode & OWNER_READ == 0).then(|| {
        let detail = format!("{shown} has {}: uid {owner} may not read it", octal(stat.mode));
        Check::fail(NAME, detail, format!("chmod 0600 {shown}"))
    })
}

/// Configuration and policy, in the eyes of the front's user.
pub(super) fn readable(unread: Option<&Unread>) -> Vec<Check> {
    const NAME: &str = "readable";
    let Some(Unread { user, refused }) = unread else {
        return vec![Check::ok(NAME, "no user of its own reads configuration and policy")];
    };
    if refused.is_empty() {
        return vec![Check::ok(NAME, format!("{user} may read configuration and policy"))];
    }
    let one = |(path, at): &(PathBuf, PathBuf)| {
        let (path, at) = (path.display(), at.display());
        let detail = format!("{user}, the front's user, may not read {path}: {at} does not let it");
        Check::fail(NAME, detail, format!("let it read there: chgrp {user} {at} && chmod g+rX {at}"))
    };
    refused.iter().map(one).collect()
}

/// Without it no ceremony was held yet.
pub(super) fn key_list(list: &KeyList) -> Check {
    const NAME: &str = "key list";
    let path = list.path.display();
    let stat = match &list.found {
        Found::Missing => return Check::ok(NAME, format!("{path} is not there yet; passportctl hsm init writes it")),
        Found::Hidden(why) => return Check::skipped(NAME, why, ""),
        Found::There(stat) => stat,
    };
    if stat.kind != Kind::File {
        return Check::fail(
            NAME,
            format!("{path} is not a regular file"),
            "move it away, and restore it from backups/",
        );
    }
    if (stat.uid != 0 && stat.uid != list.owner) || stat.mode & OTHERS_ALL != 0 {
        let detail = format!("{path} belongs to uid {} and has {}: others may change it", stat.uid, octal(stat.mode));
        let remedy = format!("see that nobody has, then chown {} {path} && chmod 0600 {path}", list.owner);
        return Check::fail(NAME, detail, remedy);
    }
    match &list.keys {
        Read::Good(keys) => Check::ok(NAME, format!("{path}: keys {keys}")),
        Read::Hidden(why) | Read::Left(why) => Check::skipped(NAME, why, ""),
        Read::Bad(faults) => {
            let remedy = "restore it from backups/ beside it, or use the passportd that wrote it; never edit it";
            Check::fail(NAME, faults.join("; "), remedy)
        }
    }
}

/// Each row of the state, and whether the ledger that it belongs to is the one that is there.
pub(super) fn state(files: &Files) -> Check {
    const NAME: &str = "state rows";
    match (&files.rows, &files.ledger) {
        (Read::Bad(faults), _) => Check::fail(NAME, faults.join("; "), RESTORE),
        (Read::Hidden(why), _) => Check::skipped(NAME, why, ""),
        (Read::Left(why), _) => Check::skipped(NAME, why, NOW),
        (Read::Good(known), Read::Good(newest)) if known > newest => {
            let detail = format!("the state knows of record {known}, and the ledger ends at record {newest}");
            Check::fail(NAME, detail, "restore the ledger that belongs to this state")
        }
        (Read::Good(known), _) => Check::ok(NAME, format!("every row is as it was written; newest record {known}")),
    }
}

/// The end of the ledger, as a start looks at it.
pub(super) fn ledger(ledger: &Read<u64>) -> Check {
    const NAME: &str = "ledger chain";
    match ledger {
        Read::Bad(faults) => Check::fail(NAME, faults.join("; "), RESTORE),
        Read::Hidden(why) => Check::skipped(NAME, why, ""),
        Read::Left(why) => Check::skipped(NAME, why, NOW),
        Read::Good(newest) => Check::ok(NAME, format!("its newest segment is unbroken; newest record {newest}")),
    }
}
