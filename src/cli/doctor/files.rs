//! Sockets, the module, the PIN's file, and the directories of state and ledger.

use super::facts::{Directory, Files, Found, Kind, Knock, Module, Pin, Read, Socket, Stat};
use super::{Check, START, kept};

/// Write permission for group or others.
pub(super) const OTHERS_WRITE: u32 = 0o022;
/// Every permission for the owner.
const OWNER_ALL: u32 = 0o700;
/// Any permission for group or others.
pub(super) const OTHERS_ALL: u32 = 0o077;
/// Below this the next segment of the ledger may not fit soon.
const LOW_MIB: u64 = 256;
/// Below this the store can't grow by its next step, and issuing is about to stop.
const NO_MIB: u64 = 16;

pub(super) fn judge(files: &Files, uid: u32, now: i64) -> Vec<Check> {
    let mut checks = kept::readable(files.unread.as_ref());
    checks.push(module(&files.module));
    checks.extend(kept::module_config(files.module_config.as_ref()));
    checks.push(pin(&files.pin));
    checks.extend(kept::pin_note(&files.pin_note));
    checks.extend(files.directories.iter().map(directory));
    checks.push(kept::key_list(&files.key_list));
    checks.extend(state_file(files));
    checks.extend([kept::state(files), kept::ledger(&files.ledger), clock(now, &files.newest_record)]);
    // Where one thing is hidden from a user, more are: the way out is the same.
    if uid != 0 {
        for check in checks.iter_mut().filter(|check| check.status == super::Status::Skipped) {
            if check.remedy.is_empty() {
                "call doctor as root to have it looked at".clone_into(&mut check.remedy);
            }
        }
    }
    checks
}

pub(super) fn octal(mode: u32) -> String {
    format!("mode {mode:04o}")
}

/// One of the daemon's sockets: there, of the right kind, mode and owner, and answering.
pub(super) fn socket(socket: &Socket, uid: u32) -> Check {
    let Socket { name, key, path, found, knock, .. } = socket;
    let path = path.display();
    let stat = match found {
        Found::There(stat) => stat,
        Found::Missing if name == "ceremony" => {
            let remedy = "to make keys: systemctl start passportd-ceremony.socket";
            return Check::warn(name, format!("{path} ({key}) is not there"), remedy);
        }
        Found::Missing if !socket.sure => {
            let why = format!("{path} is not there, and the configuration, which may name another, can't be used");
            return Check::skipped(name, why, format!("give --{}", name.replace(' ', "-")));
        }
        Found::Missing if !socket.parent => {
            let remedy = format!(
                "make the directory where systemd does not (RuntimeDirectory=), or correct {key}; then {START}"
            );
            return Check::fail(name, format!("{path} ({key}) is not there, nor is the directory for it"), remedy);
        }
        Found::Missing => return Check::fail(name, format!("{path} ({key}) is not there"), START),
        Found::Hidden(why) => return Check::skipped(name, why, "call doctor as root to have it looked at"),
    };
    if let Some(wrong) = wrong_socket(socket, stat) {
        return wrong;
    }
    match knock {
        Knock::Refused => Check::fail(name, format!("nobody listens at {path} ({key}): its process is gone"), START),
        Knock::Failed(why) => {
            let remedy = "is it stopped or overloaded? see systemctl status passportd, and /proc/PID/status";
            Check::fail(name, format!("{path} ({key}) takes no connection: {why}"), remedy)
        }
        Knock::Denied => {
            let group = socket.group_name.clone().unwrap_or_else(|| format!("gid {}", stat.gid));
            let why = format!("uid {uid} may not connect to {path} ({}, group {group})", octal(stat.mode));
            Check::skipped(name, why, format!("add the user to the group {group}, and log in again"))
        }
        Knock::Answers { pid, .. } => Check::ok(name, format!("{path}, {}, served by pid {pid}", octal(stat.mode))),
        Knock::NotTried => Check::ok(name, format!("{path}, {}", octal(stat.mode))),
    }
}

/// What is wrong with the file of a socket.
fn wrong_socket(socket: &Socket, stat: &Stat) -> Option<Check> {
    let Socket { name, key, path, mode, group, owners, .. } = socket;
    let path = path.display();
    let again = "start the daemon again: it sets owner and mode when it binds";
    if stat.kind != Kind::Socket {
        let remedy = format!("move it away, or configure another {key}; then start the daemon");
        return Some(Check::fail(name, format!("{path} is not a socket"), remedy));
    }
    if let Some(owners) = owners
        && !owners.contains(&stat.uid)
    {
        let detail = format!("{path} belongs to uid {}, which is not the daemon's: a stranger may serve it", stat.uid);
        return Some(Check::fail(name, detail, "find out who made it, remove it, and start the daemon again"));
    }
    match mode {
        Some(mode) if *mode != stat.mode => {
            let detail = format!("{path} has {}, but {key}_mode is {mode:04o}", octal(stat.mode));
            return Some(Check::fail(name, detail, again));
        }
        None if stat.mode & 0o007 != 0 => {
            let detail = format!("{path} has {}: everybody may connect", octal(stat.mode));
            return Some(Check::fail(name, detail, again));
        }
        _ => {}
    }
    match group {
        Some((wanted, Some(gid))) if *gid != stat.gid => {
            let detail = format!("{path} belongs to gid {}, but {key}_group is {wanted} (gid {gid})", stat.gid);
            Some(Check::fail(name, detail, again))
        }
        _ => None,
    }
}

/// Only root may have put there what is loaded into the process that knows the PIN.
fn module(module: &Module) -> Check {
    let chain = match module {
        Module::Chain(chain) => chain,
        Module::Broken { path, why } => {
            let remedy = "install the module, or correct hsm.module (SoftHSM: /usr/lib/softhsm/libsofthsm2.so)";
            return Check::fail("module", format!("{}: {why}", path.display()), remedy);
        }
    };
    match chain.iter().find(|(_, uid, mode)| *uid != 0 || mode & OTHERS_WRITE != 0) {
        None => {
            let file = chain.first().map(|(path, ..)| path.display().to_string()).unwrap_or_default();
            Check::ok("module", format!("{file}, root's alone to change"))
        }
        Some((path, uid, mode)) => {
            let path = path.display();
            let detail =
                format!("{path} belongs to uid {uid} and has {}: others than root may change it", octal(*mode));
            Check::fail(
                "module",
                detail,
                format!("chown root {path} && chmod go-w {path}, or install it under /usr/lib"),
            )
        }
    }
}

fn pin(pin: &Pin) -> Check {
    let there = pin.places.iter().find(|(_, found)| *found != Found::Missing);
    let Some((path, found)) = there.or_else(|| pin.places.first().filter(|_| pin.configured)) else {
        let places: Vec<_> = pin.places.iter().map(|(path, _)| path.display().to_string()).collect();
        let detail = format!("hsm.pin_file is not set, and the credential hsm-pin has none of {}", places.join(", "));
        return Check::warn("pin", detail, "set hsm.pin_file, or give the signer's unit LoadCredential=hsm-pin:FILE");
    };
    let file = path.display();
    let stat = match found {
        Found::There(stat) => stat,
        Found::Missing => {
            let remedy = format!("write the user PIN there: install -m 0400 /dev/stdin {file}");
            return Check::fail("pin", format!("{file} is not there"), remedy);
        }
        Found::Hidden(why) => return Check::skipped("pin", why, ""),
    };
    let encrypted = file.to_string().contains("credstore.encrypted");
    if stat.kind == Kind::Link {
        return Check::fail("pin", format!("{file} is a symbolic link"), "name the PIN's file itself");
    }
    if stat.kind != Kind::File {
        return Check::fail("pin", format!("{file} is not a regular file"), "put the PIN into a file of mode 0400");
    }
    if stat.uid != 0 && stat.uid != pin.owner {
        let remedy = format!("chown {} {file}", pin.owner);
        return Check::fail("pin", format!("{file} belongs to uid {}, who could change it", stat.uid), remedy);
    }
    if !encrypted && stat.mode != 0o400 && stat.mode != 0o600 {
        let detail = format!("{file} has {}, so others may use it", octal(stat.mode));
        return Check::fail("pin", detail, format!("chmod 0400 {file}"));
    }
    if stat.len == 0 {
        return Check::fail("pin", format!("{file} is empty"), "write the user PIN of the HSM there");
    }
    if let Some(unfit) = &pin.unfit {
        return Check::fail(
            "pin",
            format!("{file}: {unfit}"),
            "write the user PIN of the HSM there, alone, on one line",
        );
    }
    let source = if pin.configured { "" } else { ", for the credential hsm-pin" };
    Check::ok("pin", format!("{file}, uid {}, {}{source}", stat.uid, octal(stat.mode)))
}

fn directory(directory: &Directory) -> Check {
    let Directory { name, key, path, found, made, owner, written, free_mib } = directory;
    let path = path.display();
    let stat = match found {
        Found::There(stat) => stat,
        Found::Missing if *made => {
            return Check::ok(name, format!("{path} is not there yet; it is made when it is needed"));
        }
        Found::Missing => {
            let remedy = format!("mkdir -p {path} && chown {owner} {path} && chmod 0700 {path}");
            return Check::fail(name, format!("{path} ({key}) is not there"), remedy);
        }
        Found::Hidden(why) => return Check::skipped(name, why, ""),
    };
    if stat.kind != Kind::Directory {
        return Check::fail(name, format!("{path} ({key}) is not a directory"), "move it away");
    }
    if stat.uid != *owner {
        let remedy = format!("chown -R {owner} {path}");
        return Check::fail(name, format!("{path} belongs to uid {}, must belong to uid {owner}", stat.uid), remedy);
    }
    if stat.mode & OTHERS_WRITE != 0 {
        let detail = format!("{path} has {}: others may replace what is in it", octal(stat.mode));
        return Check::fail(name, detail, format!("chmod 0700 {path}"));
    }
    if *written && *owner != 0 && stat.mode & OWNER_ALL != OWNER_ALL {
        let detail = format!("{path} has {}: uid {owner} may not read and write there", octal(stat.mode));
        return Check::fail(name, detail, format!("chmod 0700 {path}"));
    }
    let room = "make room: old segments of a ledger may go once they are kept elsewhere";
    match free_mib {
        Some(free) if *free < NO_MIB => Check::fail(name, format!("{path}: {free} MiB are free"), room),
        Some(free) if *free < LOW_MIB => Check::warn(name, format!("{path}: {free} MiB are free"), room),
        Some(free) => Check::ok(name, format!("{path}, {}, {free} MiB free", octal(stat.mode))),
        None => Check::ok(name, format!("{path}, {}", octal(stat.mode))),
    }
}

/// Nothing is said of a store that is not there, unless there must be one; `state` says it of its directory.
fn state_file(files: &Files) -> Option<Check> {
    let (path, found) = &files.state;
    let path = path.display();
    if let (Found::Missing, Read::Good(1..)) = (found, &files.ledger) {
        let detail = format!("{path} is not there, but has been: the ledger has records");
        return Some(Check::fail(
            "state file",
            detail,
            "restore the newest backup; without it keys would be forgotten",
        ));
    }
    let Found::There(stat) = found else { return None };
    let owner = files.directories.iter().find(|directory| directory.name == "state")?.owner;
    Some(if stat.kind != Kind::File {
        Check::fail("state file", format!("{path} is not a regular file"), "move it away, and restore a backup")
    } else if stat.uid != owner {
        let remedy = format!("chown {owner} {path}");
        Check::fail("state file", format!("{path} belongs to uid {}, must belong to uid {owner}", stat.uid), remedy)
    } else if stat.mode & OTHERS_ALL != 0 {
        let detail = format!("{path} has {}, must be at most 0600", octal(stat.mode));
        Check::fail("state file", detail, format!("chmod 0600 {path}"))
    } else {
        Check::ok("state file", format!("{path}, {}, {} KiB", octal(stat.mode), stat.len.div_ceil(1024)))
    })
}

/// The clock against the newest record: one of them is wrong if the record is from the future. Whether anything is issued is
/// the daemon's to say, which goes by the newest key: its condition `clock`, among those that it is ready by.
fn clock(now: i64, newest: &Result<Option<i64>, String>) -> Check {
    match newest {
        Err(why) => Check::skipped("clock", why, ""),
        Ok(None) => Check::ok("clock", "nothing is on record yet"),
        Ok(Some(newest)) => {
            let behind = newest - now;
            let detail = format!("the clock is {behind} s behind the newest audit record");
            let remedy = "set the clock right (timedatectl, chronyc tracking); nothing is issued while it is behind the \
                          newest key";
            if behind > 1 {
                Check::warn("clock", detail, remedy)
            } else {
                Check::ok("clock", format!("{} s after the newest audit record", (now - newest).max(0)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(check: &Check) -> String {
        format!("{} {}", check.status.word(), check.line(0))
    }

    #[test]
    fn the_clock_may_stand_still_but_not_go_back() {
        assert_eq!(said(&clock(1000, &Ok(Some(990)))), "ok clock 10 s after the newest audit record");
        assert_eq!(said(&clock(1000, &Ok(Some(1001)))), "ok clock 0 s after the newest audit record");
        assert!(said(&clock(1000, &Ok(Some(1002)))).starts_with("warn clock the clock is 2 s behind"));
        assert!(said(&clock(1000, &Ok(Some(90_000)))).starts_with("warn clock the clock is 89000 s behind"));
        assert_eq!(said(&clock(1000, &Ok(None))), "ok clock nothing is on record yet");
        assert_eq!(said(&clock(1000, &Err("no".to_owned()))), "skip clock skipped: no");
    }
}
