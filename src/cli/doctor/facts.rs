//! What was found, before anybody judges it.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::Value;

use crate::client::ClientError;
use crate::config::{Loaded, SignerBounds};
use crate::policy::Policy;
use crate::wire::{Identity, Welcome};

/// Everything that the doctor knows of a host.
#[derive(Debug)]
pub(super) struct Facts {
    /// The time, in seconds since 1970.
    pub(super) now: i64,
    /// The effective uid that looked.
    pub(super) uid: u32,
    pub(super) settings: Settings,
    /// The daemon's sockets. Without a configuration only those of services and admins.
    pub(super) sockets: Vec<Socket>,
    /// Files and directories; none without a configuration.
    pub(super) files: Option<Files>,
    pub(super) daemon: Daemon,
    pub(super) host: Host,
}

/// A file that was to be read.
#[derive(Debug)]
pub(super) enum Read<T> {
    /// It is good.
    Good(T),
    /// What is wrong with it, at least one thing.
    Bad(Vec<String>),
    /// This user may not read it; the daemon's may.
    Hidden(String),
    /// It is not looked at now: why.
    Left(String),
}

/// Configuration, policy and bounds, as the daemon would read them.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) config: Read<Loaded>,
    /// None without a configuration, which says where it is.
    pub(super) policy: Option<Read<Policy>>,
    /// The signer's bounds; none without a configuration.
    pub(super) bounds: Option<Read<SignerBounds>>,
    pub(super) accounts: Vec<Account>,
}

/// A user or group that the configuration names.
#[derive(Clone, Debug)]
pub(super) struct Account {
    /// The setting.
    pub(super) key: String,
    /// `user` or `group`.
    pub(super) kind: &'static str,
    pub(super) name: String,
    /// Its uid or gid; none: there is no such account. An error of the database is its text.
    pub(super) id: Result<Option<u32>, String>,
}

/// What lstat(2) says of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    There(Stat),
    Missing,
    /// This user may not look: why.
    Hidden(String),
}

/// Kind, owner and mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) kind: Kind,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Permission bits.
    pub(super) mode: u32,
    /// Bytes.
    pub(super) len: u64,
}

/// What lives at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Socket,
    Link,
    Other,
}

/// One of the daemon's sockets.
#[derive(Clone, Debug)]
pub(super) struct Socket {
    /// The check's name.
    pub(super) name: String,
    /// The setting that names it.
    pub(super) key: String,
    pub(super) path: PathBuf,
    /// Whether the directory that it is in is there.
    pub(super) parent: bool,
    /// Whether it was given or configured; otherwise it is where sockets are by default.
    pub(super) sure: bool,
    pub(super) found: Found,
    /// The name of the group that the file has, where there is one.
    pub(super) group_name: Option<String>,
    pub(super) knock: Knock,
    /// The mode that is configured; none: nobody else may connect.
    pub(super) mode: Option<u32>,
    /// The group that is configured, and its gid if it exists.
    pub(super) group: Option<(String, Option<u32>)>,
    /// Who may own it; none: anybody.
    pub(super) owners: Option<Vec<u32>>,
}

/// What came of connecting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Knock {
    /// Not tried: it is for the daemon's own processes, or would start a ceremony.
    NotTried,
    /// Somebody listens; whoever called listen(2), by the kernel's word.
    Answers { uid: u32, pid: i32 },
    /// Nobody listens.
    Refused,
    /// This user may not.
    Denied,
    /// Neither yes nor no in time, or another error.
    Failed(String),
}

/// Files and directories that the configuration names.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) module: Module,
    pub(super) pin: Pin,
    /// The signer's note of a refused PIN, which is there only after one, and who must own it.
    pub(super) pin_note: (PathBuf, Found, u32),
    pub(super) directories: Vec<Directory>,
    /// The state's file.
    pub(super) state: (PathBuf, Found),
    /// When the ledger's newest record was made, in seconds since 1970; none: there is no record. Or why that can't be
    /// said.
    pub(super) newest_record: Result<Option<i64>, String>,
    /// The module's own configuration file, where one is named.
    pub(super) module_config: Option<(PathBuf, Found)>,
    /// Of configuration and policy, by the front's user; none where no such user is configured.
    pub(super) unread: Option<Unread>,
    pub(super) key_list: KeyList,
    /// The sequence number of the ledger's newest record; 0: there is none.
    pub(super) ledger: Read<u64>,
    /// The newest record that the state knows; 0 without a state.
    pub(super) rows: Read<u64>,
}

/// What a user of the daemon may not read, and should.
#[derive(Debug, Default)]
pub(super) struct Unread {
    pub(super) user: String,
    /// The file or directory, and what does not let the user go on: itself, or one above it.
    pub(super) refused: Vec<(PathBuf, PathBuf)>,
}

/// `keys.json`, the signer's list of keys.
#[derive(Debug)]
pub(super) struct KeyList {
    pub(super) path: PathBuf,
    pub(super) found: Found,
    /// How many keys it lists.
    pub(super) keys: Read<usize>,
    /// Who must own it, if not root.
    pub(super) owner: u32,
}

/// The PKCS#11 library.
#[derive(Debug)]
pub(super) enum Module {
    /// The setting is not an absolute path, or there is no file.
    Broken { path: PathBuf, why: String },
    /// The file and the directories above it, from the file upwards; each with owner and mode.
    Chain(Vec<(PathBuf, u32, u32)>),
}

/// Where the PIN comes from.
#[derive(Debug)]
pub(super) struct Pin {
    /// Whether the configuration names a file; otherwise these are the usual sources of the credential `hsm-pin`.
    pub(super) configured: bool,
    pub(super) places: Vec<(PathBuf, Found)>,
    /// Why the content of the first that is there is no PIN, if that could be seen.
    pub(super) unfit: Option<String>,
    /// Who may own it, beside root.
    pub(super) owner: u32,
}

/// A directory that must be one user's alone.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    /// The check's name.
    pub(super) name: &'static str,
    /// The setting that names it.
    pub(super) key: &'static str,
    pub(super) path: PathBuf,
    pub(super) found: Found,
    /// Whether the daemon makes it: it may write to the directory above, which is there.
    pub(super) made: bool,
    /// Who must own it.
    pub(super) owner: u32,
    /// Whether its owner writes there.
    pub(super) written: bool,
    /// MiB that are free; none where that is not asked or can't be told.
    pub(super) free_mib: Option<u64>,
}

/// What the daemon says of itself.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) service: Result<Said, ClientError>,
    pub(super) admin: Result<Said, ClientError>,
    /// The answer to Status.
    pub(super) status: Result<Value, ClientError>,
    pub(super) port: Port,
    /// The front's process, where it is known which that is.
    pub(super) process: Option<Process>,
}

/// Hello and WhoAmI on one socket.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) welcome: Welcome,
    pub(super) identity: Identity,
}

/// The metrics port.
#[derive(Debug)]
pub(super) enum Port {
    /// `"off"`.
    Off,
    /// Without a configuration nobody knows the address.
    Unknown,
    /// This host does not have the address.
    Elsewhere { address: SocketAddr },
    /// GET /readyz.
    Asked { address: SocketAddr, answer: Result<(u16, String), String> },
}

/// A process of the daemon.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: i32,
    /// Where `/proc/PID/exe` leads, or why that can't be read.
    pub(super) program: Result<String, String>,
    /// The soft limit of open files.
    pub(super) descriptors: Option<u64>,
}

/// The kernel and systemd.
#[derive(Clone, Debug)]
pub(super) struct Host {
    /// `uname -r`.
    pub(super) kernel: String,
    /// The Landlock ABI; 0 without Landlock.
    pub(super) landlock: i32,
    pub(super) peer_pidfd: bool,
    /// None: systemd is not what runs this host.
    pub(super) systemd: Option<Option<u32>>,
}
