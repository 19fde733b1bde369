//! Looking: files, accounts, kernel. Nothing is changed, and nothing is judged.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use landlock::{AccessFs, LandlockStatus, Ruleset, RulesetAttr as _};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Group, User};
use serde_json::Value;

use super::super::context::Context;
use super::facts::{Account, Directory, Facts, Files, Found, Host, Kind, Module, Pin, Read, Settings, Stat, Unread};
use super::{ask, inside, reader};
use crate::cli::CliError;
use crate::clock::Moment;
use crate::config::{Config, ConfigError, Fault, Loaded, Origin, SignerBounds};
use crate::hsm::pin_note::{self, OWN_DIR};
use crate::policy::{Overflow, Policy, PolicyError, SystemNames};

/// Where the credential of the shipped unit comes from, and where systemd looks by itself (systemd.exec(5)).
const CREDENTIALS: [&str; 3] = ["/etc/passportd/hsm-pin", "/etc/credstore/hsm-pin", "/etc/credstore.encrypted/hsm-pin"];
/// Of the end of a segment: room for the longest record (16 KiB) and the end of the one before.
const TAIL: u64 = 32 << 10;

/// Looks at everything.
pub(super) async fn all(context: &Context<'_>) -> Facts {
    let uid = nix::unistd::geteuid().as_raw();
    let settings = settings(context, uid);
    let loaded = match &settings.config {
        Read::Good(loaded) => Some(loaded),
        _ => None,
    };
    let asked = ask::all(context, loaded).await;
    // What the front says that it is; else whom it would become.
    let front =
        asked.daemon.status.as_ref().ok().and_then(|status| status.pointer("/sandbox/uid")).and_then(Value::as_u64);
    let front = front.and_then(|uid| u32::try_from(uid).ok());
    let runs = asked.daemon.service.is_ok() || asked.daemon.admin.is_ok();
    let files =
        loaded.map(|loaded| Files { unread: unread_by_front(loaded), ..files(&loaded.config, uid, front, runs) });
    Facts {
        now: Moment::now().unix(),
        uid,
        files,
        sockets: asked.sockets,
        daemon: asked.daemon,
        host: host(),
        settings,
    }
}

fn settings(context: &Context<'_>, uid: u32) -> Settings {
    let config = match context.configuration() {
        Ok(loaded) => Read::Good(loaded),
        Err(CliError::Config(error)) => unread(uid, &error),
        Err(other) => Read::Bad(vec![other.to_string()]),
    };
    let Read::Good(loaded) = &config else {
        return Settings { config, policy: None, bounds: None, accounts: Vec::new() };
    };
    let settings = &loaded.config;
    let policy = Overflow::read().and_then(|overflow| Policy::load(&settings.policy.dir, &SystemNames, overflow));
    let policy = match policy {
        Ok(policy) => Read::Good(policy),
        Err(PolicyError::Read { path, source }) if is_hidden(uid, &source) => Read::Hidden(unreadable(uid, &path)),
        Err(error) => Read::Bad(vec![error.to_string()]),
    };
    let bounds = SignerBounds::load(&settings.hsm.bounds).map_or_else(|error| unread(uid, &error), Read::Good);
    let accounts = accounts(settings);
    Settings { policy: Some(policy), bounds: Some(bounds), accounts, config }
}

/// A user who may not read a file learns nothing of whether it is good.
pub(super) fn is_hidden(uid: u32, error: &io::Error) -> bool {
    uid != 0 && error.kind() == io::ErrorKind::PermissionDenied
}

pub(super) fn unreadable(uid: u32, path: &Path) -> String {
    format!("uid {uid} may not look at {}", path.display())
}

fn unread<T>(uid: u32, error: &ConfigError) -> Read<T> {
    let hidden = error.faults.iter().find_map(|fault| match fault {
        Fault::Unreadable { path, reason } if is_hidden(uid, reason) => Some(unreadable(uid, path)),
        _ => None,
    });
    hidden.map_or_else(|| Read::Bad(error.faults.iter().map(ToString::to_string).collect()), Read::Hidden)
}

/// Users and groups that the configuration names. Those of the policy are looked up as it is read.
fn accounts(config: &Config) -> Vec<Account> {
    let server = &config.server;
    let named = |key: &str, kind, name: Option<&String>| name.map(|name| account(key.to_owned(), kind, name));
    let mut all: Vec<_> = [
        named("server.user", "user", server.user.as_ref()),
        named("server.hsm_user", "user", server.hsm_user.as_ref()),
        named("server.socket_group", "group", server.socket_group.as_ref()),
        named("server.admin_socket_group", "group", server.admin_socket_group.as_ref()),
    ]
    .into_iter()
    .flatten()
    .collect();
    for listener in &server.listeners {
        all.extend(named(&format!("user of listener {}", listener.name), "user", listener.user.as_ref()));
        all.extend(named(&format!("group of listener {}", listener.name), "group", listener.group.as_ref()));
    }
    all
}

fn account(key: String, kind: &'static str, name: &str) -> Account {
    let id = if kind == "user" { uid_of(name) } else { gid_of(name) };
    Account { key, kind, name: name.to_owned(), id: id.map_err(|errno| errno.to_string()) }
}

pub(super) fn uid_of(name: &str) -> nix::Result<Option<u32>> {
    Ok(User::from_name(name)?.map(|user| user.uid.as_raw()))
}

pub(super) fn gid_of(name: &str) -> nix::Result<Option<u32>> {
    Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
}

/// lstat(2).
pub(super) fn found(path: &Path) -> Found {
    match fs::symlink_metadata(path) {
        Ok(meta) => {
            let of = meta.file_type();
            let kind = match () {
                () if of.is_file() => Kind::File,
                () if of.is_dir() => Kind::Directory,
                () if of.is_symlink() => Kind::Link,
                () if of.is_socket() => Kind::Socket,
                () => Kind::Other,
            };
            let (uid, gid, mode) = (meta.uid(), meta.gid(), meta.mode() & 0o7777);
            Found::There(Stat { kind, uid, gid, mode, len: meta.len() })
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Found::Missing,
        Err(error) => Found::Hidden(format!("{}: {error}", path.display())),
    }
}

/// What the front's user reads: under systemd as it starts, and in any case as it reloads.
fn unread_by_front(loaded: &Loaded) -> Option<Unread> {
    let user = loaded.config.server.user.as_ref()?;
    // The issuer has no default, so it tells where the whole came from.
    let file = match loaded.origins.get("passport.issuer") {
        Some(Origin::File { path, .. }) => Some(path.as_path()),
        _ => None,
    };
    reader::unread(user, file.as_slice(), &[&loaded.config.policy.dir])
}

/// `uid` looks; `front` is what a front that runs says of its own uid.
fn files(config: &Config, uid: u32, front: Option<u32>, runs: bool) -> Files {
    let named = |name: Option<&String>| name.and_then(|name| uid_of(name).ok().flatten());
    let front = front.or_else(|| named(config.server.user.as_ref())).unwrap_or(uid);
    let signer = named(config.server.hsm_user.as_ref()).unwrap_or(uid);
    let state = config.state.path.parent().unwrap_or(Path::new("/"));
    let directory = |name, key, path: &Path, owner, space: bool| Directory {
        name,
        key,
        path: path.to_owned(),
        found: found(path),
        made: space && path.parent().is_some_and(Path::is_dir),
        owner,
        written: space,
        free_mib: space.then(|| free_mib(path)).flatten(),
    };
    let mut directories = vec![
        directory("state", "state.path", state, front, true),
        directory("ledger", "audit.dir", &config.audit.dir, front, true),
        directory("hsm state", "hsm.state_dir", &config.hsm.state_dir, signer, false),
    ];
    directories.extend(signer_dir(&config.hsm.state_dir, signer));
    directories.extend(config.hsm.store.as_deref().map(|store| directory("store", "hsm.store", store, signer, false)));
    Files {
        module: module(config),
        pin: pin(config, signer),
        pin_note: refused_pin(&config.hsm.state_dir, signer),
        directories,
        state: (config.state.path.clone(), found(&config.state.path)),
        newest_record: newest_record(&config.audit.dir, uid),
        module_config: config.hsm.module_config.as_ref().map(|path| (path.clone(), found(path))),
        unread: None,
        key_list: inside::key_list(&config.hsm.state_dir, signer, uid),
        ledger: inside::ledger(&config.audit.dir, uid, runs),
        rows: inside::state(&config.state.path, uid, runs),
    }
}

/// The one directory that the signer writes to; nothing is said of it where the one above is not there.
fn signer_dir(state: &Path, owner: u32) -> Option<Directory> {
    let Found::There(above) = found(state) else { return None };
    let path = state.join(OWN_DIR);
    // Root, who starts the signer without systemd, may make it anywhere; the signer's user, whom systemd starts, may not.
    let made = above.uid == owner && (owner == 0 || above.mode & 0o300 == 0o300);
    let (name, key) = ("signer dir", "below hsm.state_dir");
    Some(Directory { name, key, found: found(&path), path, made, owner, written: true, free_mib: None })
}

fn free_mib(path: &Path) -> Option<u64> {
    let space = nix::sys::statvfs::statvfs(path).ok()?;
    space.blocks_available().checked_mul(space.fragment_size()).map(|bytes| bytes >> 20)
}

/// The file with every directory above it, and those above the path as it was given, where a link could be replaced.
fn module(config: &Config) -> Module {
    let Some(path) = config.hsm.module_path().map(Path::to_owned) else {
        return Module::Broken { path: "hsm.module".into(), why: "it is not set".to_owned() };
    };
    let real = match path.canonicalize() {
        Ok(real) if real.is_dir() => return Module::Broken { path, why: "it is a directory".to_owned() },
        Ok(real) if inside::is_no_library(&real) => {
            return Module::Broken { path, why: "it is no library: it does not begin as an ELF file".to_owned() };
        }
        Ok(real) => real,
        Err(error) => return Module::Broken { path, why: error.to_string() },
    };
    let all = real.ancestors().chain(path.ancestors().skip(1));
    let stat = |path: &Path| fs::metadata(path).map(|meta| (path.to_owned(), meta.uid(), meta.mode() & 0o7777));
    match all.map(stat).collect() {
        Ok(chain) => Module::Chain(chain),
        Err(error) => Module::Broken { path, why: error.to_string() },
    }
}

fn pin(config: &Config, owner: u32) -> Pin {
    let file = config.hsm.pin_path();
    let configured = file.is_some();
    let places = file.map_or_else(|| CREDENTIALS.iter().map(PathBuf::from).collect(), |file| vec![file]);
    let places: Vec<_> = places.into_iter().map(|path| (path.clone(), found(&path))).collect();
    let unfit = places.iter().find(|(_, found)| *found != Found::Missing).and_then(|(path, _)| inside::unfit(path));
    Pin { configured, places, unfit, owner }
}

fn refused_pin(state_dir: &Path, owner: u32) -> (PathBuf, Found, u32) {
    let path = state_dir.join(OWN_DIR).join(pin_note::FILE);
    (path.clone(), found(&path), owner)
}

/// When the newest record was made: the last whole line of the newest segment.
fn newest_record(dir: &Path, uid: u32) -> Result<Option<i64>, String> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if is_hidden(uid, &error) => return Err(unreadable(uid, dir)),
        Err(error) => return Err(format!("{}: {error}", dir.display())),
    };
    let segments = entries.flatten().map(|entry| entry.path());
    let newest = segments.filter(|path| path.extension().is_some_and(|end| end == "jsonl")).max();
    let Some(newest) = newest else { return Ok(None) };
    let text = tail(&newest).map_err(|error| format!("{}: {error}", newest.display()))?;
    last_time(&text).map_err(|why| format!("{}: {why}", newest.display()))
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The `time` of the last line that has an end; what comes after it was cut off in writing.
fn last_time(text: &str) -> Result<Option<i64>, String> {
    let Some((whole, _)) = text.rsplit_once('\n') else { return Ok(None) };
    let line = whole.rsplit('\n').next().unwrap_or_default();
    let record: Value = serde_json::from_str(line).map_err(|error| format!("the last record is not JSON: {error}"))?;
    let time = record.get("time").and_then(Value::as_str).ok_or("the last record has no time")?;
    time.parse::<jiff::Timestamp>().map(|time| Some(time.as_second())).map_err(|error| error.to_string())
}

fn host() -> Host {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    let peer_pidfd = UnixStream::pair().is_ok_and(|(here, _there)| getsockopt(&here, sockopt::PeerPidfd).is_ok());
    // sd_booted(3).
    let systemd = Path::new("/run/systemd/system").is_dir().then(systemd_version);
    Host { kernel, landlock: landlock_abi(), peer_pidfd, systemd }
}

/// Landlock tells its version to whoever enforces something. It binds one thread, so a thread that then ends does it.
fn landlock_abi() -> i32 {
    let probe = || {
        let ruleset = Ruleset::default().handle_access(AccessFs::Execute).and_then(Ruleset::create);
        match ruleset.and_then(landlock::RulesetCreated::restrict_self).map(|status| status.landlock) {
            Ok(LandlockStatus::Available { effective_abi, kernel_abi }) => {
                kernel_abi.unwrap_or_else(|| effective_abi.to_string().parse().unwrap_or(0))
            }
            _ => 0,
        }
    };
    thread::spawn(probe).join().unwrap_or(0)
}

/// `systemd 252 (252.39-1~deb12u2)`.
fn systemd_version() -> Option<u32> {
    let output = Command::new("systemctl").arg("--version").output().ok()?;
    String::from_utf8_lossy(&output.stdout).split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_record_is_the_last_whole_line() {
        let line = |time: &str| format!("{{\"seq\":1,\"time\":\"{time}\"}}\n");
        let text = format!("{}{}{{\"torn", line("2026-01-01T00:00:00.5Z"), line("2026-01-01T00:01:00.25Z"));
        assert_eq!(last_time(&text), Ok(Some(1_767_225_660)));
        assert_eq!(last_time("no end"), Ok(None));
        assert!(last_time("{}\n").is_err() && last_time("x\n").is_err());
    }

    #[test]
    fn a_ledger_without_records_and_one_without_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(newest_record(dir.path(), 0), Ok(None));
        assert_eq!(newest_record(&dir.path().join("none"), 0), Ok(None));
        fs::write(dir.path().join("00000000000000000001.jsonl"), "{\"time\":\"1970-01-01T00:00:07Z\"}\n").unwrap();
        assert_eq!(newest_record(dir.path(), 0), Ok(Some(7)));
    }

    #[test]
    fn kinds_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let kind = |path: &Path| match found(path) {
            Found::There(stat) => Some(stat.kind),
            _ => None,
        };
        let socket = dir.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        fs::write(dir.path().join("f"), "x").unwrap();
        std::os::unix::fs::symlink("f", dir.path().join("l")).unwrap();
        assert_eq!(kind(dir.path()), Some(Kind::Directory));
        assert_eq!(kind(&socket), Some(Kind::Socket));
        assert_eq!(kind(&dir.path().join("f")), Some(Kind::File));
        assert_eq!(kind(&dir.path().join("l")), Some(Kind::Link));
        assert_eq!(found(&dir.path().join("none")), Found::Missing);
        assert_eq!(found(&dir.path().join("f/below")), Found::Missing);
    }

    #[test]
    fn this_host_can_be_looked_at() {
        let host = host();
        assert!(!host.kernel.is_empty() && host.landlock >= 0);
        // The probe bound only its own thread.
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        assert!(status.lines().any(|line| line == "NoNewPrivs:\t0") || host.landlock == 0);
    }
}
