//! Every setting of `passportd.toml`. `docs` take their table from here (see `config::reference`).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::codec::{AbsPath, Account, AddrOrOff, Choice, EnvName, Flag, Int, Maybe, Mode, SocketPath, Text, TokenUri};
use super::listener::{Listener, Listeners};
use super::paths::Paths;
use super::section::section;
use super::uri::Pkcs11Uri;
use crate::passport::TICKET_TTL_S;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Descriptors that the front needs beside one for each of `server.max_connections`: 48 for admins and the metrics port, the
/// rest for files, listeners, the signer's link and the runtimes' own.
pub const OTHER_FILES: u64 = 96;

/// Which implementation verifies. Each agrees with `ed25519-dalek`'s `verify_strict`, verdict by verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// `verify_strict` of `ed25519-dalek`, one by one: the reference.
    Dalek,
    /// The fixed-key comb in safe Rust.
    Portable,
    /// The fastest that the processor has.
    Auto,
}

const ENGINES: &[(&str, Engine)] = &[("auto", Engine::Auto), ("portable", Engine::Portable), ("dalek", Engine::Dalek)];

/// Post-quantum signatures beside Ed25519.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PqMode {
    /// None.
    Off,
}

/// Whether audit records are also sent to journald.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Journald {
    /// As soon as there is one.
    Auto,
    /// The same; `readyz` names it when it is missing.
    On,
    /// Never.
    Off,
}

section! {
    /// `[server]`: sockets, users and connections.
    Server {
        /// The socket of the services.
        socket: PathBuf = "/run/passportd/passportd.sock".into(), SocketPath, Restart;
        /// The socket of the administrators, with slots of its own.
        admin_socket: PathBuf = "/run/passportd/admin.sock".into(), SocketPath, Restart;
        /// Permissions of the services' socket.
        socket_mode: u32 = 0o660, Mode, Restart;
        /// Permissions of the administrators' socket.
        admin_socket_mode: u32 = 0o660, Mode, Restart;
        /// Group that owns the services' socket.
        socket_group: Option<String> = None, Maybe(Account), Restart;
        /// Group that owns the administrators' socket.
        admin_socket_group: Option<String> = None, Maybe(Account), Restart;
        /// Sockets of their own for single services: `[[server.listener]]` with name, socket, user, mode, group.
        listeners "listener": Vec<Listener> = Vec::new(), Listeners, Restart;
        /// Where Prometheus reads.
        metrics_addr: Option<SocketAddr> = Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9909)), AddrOrOff, Restart;
        /// Connections of services at one time. Each takes a descriptor and, once it has sent something, a buffer.
        max_connections: usize = 1024, Int(1, 16_384), Restart;
        /// Connections that one user may hold of them.
        max_connections_per_uid: usize = 256, Int(1, 16_384), Restart;
        /// Seconds that requests in flight get to finish when the daemon stops.
        graceful_shutdown_timeout_s: u64 = 10, Int(0, 300), Restart;
        /// User that the front runs as when it was started as root.
        user: Option<String> = None, Maybe(Account), Restart;
        /// User that the signer and the ceremony run as when they were started as root.
        hsm_user: Option<String> = None, Maybe(Account), Restart;
    }
}

section! {
    /// `[passport]`: what is issued, and how times are judged.
    Passport {
        /// `iss` of every passport. Required: a common default would make the passports of all hosts look alike.
        issuer: String = String::new(), Text(256), Restart;
        /// Lifetime in seconds when a request names none.
        default_ttl_s: u64 = 3600, Int(1, 31_536_000), Reload;
        /// Longest lifetime in seconds that any template may give.
        max_ttl_s: u64 = 86_400, Int(1, 31_536_000), Reload;
        /// Seconds by which another clock may differ; applied once, to `exp`, `nbf` and `iat`.
        clock_skew_s: u64 = 120, Int(0, 600), Reload;
        /// Longest lifetime of a ticket in seconds; `passportctl ticket-ttl` allows more for a while.
        ticket_ttl_s: u32 = TICKET_TTL_S, Int(1, 60), Reload;
        /// Days after which a key that signs should be followed by another; 0: never. Nothing happens then but that the daemon says
        /// so.
        rotation_period_days: u64 = 30, Int(0, 3650), Reload;
        /// File that always has the current key set, for web servers to serve; its directory must be there, and is written to.
        jwks_file: Option<PathBuf> = None, Maybe(AbsPath), Restart;
    }
}

section! {
    /// `[verify]`: the verification engine.
    Verify {
        /// Implementation that verifies: the fastest of this processor, the portable one, or `verify_strict` itself.
        engine: Engine = Engine::Auto, Choice { words: ENGINES, later: &[] }, Restart;
        /// Memory for the tables of the verifying keys, which the engines "auto" and "portable" have: 377 KiB for each key
        /// are the fastest; more keys than fit get narrower ones, down to 54 KiB, or none.
        table_bytes: u64 = 16 * MIB, Int(0, GIB), Restart;
        /// Signatures that are remembered for 2 s as authentic, each in 90 bytes; 0 for none. It pays where the same
        /// passports come again and again and the engine is not "auto" on a processor with AVX-512 IFMA.
        cache_items: usize = 0, Int(0, 1_048_576), Reload;
        /// Items that a slice of the engine aims at.
        target_batch: usize = 64, Int(1, 4096), Restart;
        /// Most items in one slice of the engine, after which other connections get their turn.
        max_batch: usize = 256, Int(1, 4096), Restart;
        /// Accepted for compatibility; nothing waits, since what has arrived is the batch.
        max_wait_us: u64 = 500, Int(0, 1_000_000), Restart;
    }
}

section! {
    /// `[cache]`: how long clients may keep what they were told.
    Cache {
        /// Accepted for compatibility; no verifying key grows stale, since every change of keys replaces the set at once.
        vk_ttl_s: u64 = 60, Int(0, 86_400), Reload;
        /// Seconds that the key set may be kept (`max-age`).
        jwks_ttl_s: u64 = 60, Int(0, 86_400), Reload;
    }
}

section! {
    /// `[limits]`: bounds on what anybody may ask. All of them change by reload.
    Limits {
        /// Longest payload of a passport in bytes.
        max_msg_bytes: usize = 4096, Int(256, 16_384), Reload;
        /// Most items in one IssueBatch or VerifyBatch.
        max_batch: usize = 512, Int(1, 8192), Reload;
        /// Issue and IssueBatch requests under way at one time, each with all its passports; more are answered `busy`.
        issue_concurrency: usize = 256, Int(1, 4096), Reload;
        /// Single verifications and introspections at one time, those that one connection sent together counting as one; more are
        /// answered `busy`. They run in place, never more at once than there are processors, so only a smaller bound is ever met.
        verify_concurrency: usize = 1024, Int(1, 65_536), Reload;
        /// Batch verifications at one time; more are answered `busy`.
        verify_batch_concurrency: usize = 64, Int(1, 4096), Reload;
        /// Items a second for a peer whose rule names no rate; more are answered `rate_limited`.
        rps: u32 = 10_000, Int(1, 10_000_000), Reload;
        /// Tickets a minute for one user.
        exchange_rpm: u32 = 1000, Int(1, 10_000_000), Reload;
        /// Bytes of requests and replies held at one time, over all connections.
        max_bytes: u64 = 64 * MIB, Int(4 * MIB, 4 * GIB), Reload;
        /// Bytes of them that one user may hold.
        max_bytes_per_uid: u64 = 16 * MIB, Int(2 * MIB, 4 * GIB), Reload;
        /// Requests in flight on one connection; further ones are not read until answers have gone out.
        max_in_flight: usize = 256, Int(1, 4096), Reload;
        /// Requests that may wait for events at one time, half of them of one user; more are answered `busy`. One may wait on a
        /// connection.
        watchers: usize = 256, Int(1, 4096), Reload;
        /// Milliseconds in which a frame that has begun must be complete.
        read_timeout_ms: u64 = 10_000, Int(100, 600_000), Reload;
        /// Seconds after which a connection without a request is closed.
        idle_timeout_s: u64 = 300, Int(1, 86_400), Reload;
    }
}

section! {
    /// `[security]`: only from the root-owned file.
    Security {
        /// Whether every passport names an audience and every verification says which it is.
        require_aud: bool = true, Flag, Restart;
        /// Whether nothing is kept: keys live in the signer's sessions, state and log in memory, and nothing is written to any
        /// file (docs/AMNESIA.md). The argument `--amnesia` says so as well.
        amnesia: bool = false, Flag, Restart;
        /// Post-quantum signatures.
        pq_mode: PqMode = PqMode::Off, Choice { words: &[("off", PqMode::Off)], later: &["mirror", "require", "enforce"] }, Restart;
    }
}

section! {
    /// `[hsm]`: the PKCS#11 device and the signer in front of it. Only from the root-owned file.
    Hsm {
        /// Which token. Required.
        uri: Pkcs11Uri = Pkcs11Uri::default(), TokenUri, Restart;
        /// The PKCS#11 library; or the URI's `module-path`.
        module: Option<PathBuf> = None, Maybe(AbsPath), Restart;
        /// Sessions, each with a thread of its own. Default: half the processors, at least one.
        sessions: usize = default_sessions(), Int(1, MAX_SESSIONS), Restart;
        /// Milliseconds after which an operation of the module counts as stuck.
        op_timeout_ms: u64 = 5000, Int(50, 60_000), Restart;
        /// Threads that may be lost in calls of the module that do not come back; with one more the signer ends and is started
        /// afresh.
        max_stuck: u32 = 4, Int(1, 64), Restart;
        /// Milliseconds that a login may take; the signer is not ready before it.
        login_timeout_ms: u64 = 60_000, Int(1000, 600_000), Restart;
        /// Seconds after which an idle session is looked at, so that it does not end unnoticed; 0 for never.
        keepalive_s: u64 = 60, Int(0, 3600), Restart;
        /// MiB by which the signer may grow, by a leak of the module's, before it is started afresh between two requests; 0 for
        /// any.
        recycle_mib: u64 = 256, Int(0, 65_536), Restart;
        /// Operations that may wait for a session; more are answered `busy`.
        queue: usize = 256, Int(1, 1024), Restart;
        /// File with the PIN, mode 0400 or 0600; or the URI's `pin-source=file:/…`.
        pin_file: Option<PathBuf> = None, Maybe(AbsPath), Restart;
        /// The private socket between front and signer.
        socket: PathBuf = "/run/passportd-signer/signer.sock".into(), SocketPath, Restart;
        /// The socket on which admins hold ceremonies.
        ceremony_socket: PathBuf = "/run/passportd-signer/ceremony.sock".into(), SocketPath, Restart;
        /// The signer's own bounds: tenants, purposes, lifetimes, rates.
        bounds: PathBuf = "/etc/passportd/signer.toml".into(), AbsPath, Restart;
        /// `keys.json`, which names the keys of the HSM, and `backups/`, the copies that ceremonies make.
        state_dir: PathBuf = "/var/lib/passportd-hsm".into(), AbsPath, Restart;
        /// Directory of a file-based token (SoftHSM): read-only for the signer, copied by ceremonies.
        store: Option<PathBuf> = None, Maybe(AbsPath), Restart;
        /// The module's own configuration file, such as `softhsm2.conf`.
        module_config: Option<PathBuf> = None, Maybe(AbsPath), Restart;
        /// The environment variable in which the module looks for the path of that file.
        module_env: String = "SOFTHSM2_CONF".to_owned(), EnvName, Restart;
        /// What else the module opens: its libraries and files, which it may read, and its device (under `/dev`), which it
        /// may also write.
        module_paths: Vec<PathBuf> = Vec::new(), Paths, Restart;
        /// Whether the module reaches its HSM by TCP.
        network: bool = false, Flag, Restart;
    }
}

section! {
    /// `[state]`: the embedded store.
    State {
        /// The store's one file.
        path: PathBuf = "/var/lib/passportd/state.redb".into(), AbsPath, Restart;
        /// Revocations, uses, nonces, proofs and answers that are kept at one time, each in a hundred bytes of memory at most; more
        /// are refused (`store_unavailable`).
        entries: usize = 2_000_000, Int(64, 2_000_000), Restart;
    }
}

section! {
    /// `[audit]`: the ledger and journald.
    Audit {
        /// Directory of the ledger.
        dir: PathBuf = "/var/lib/passportd/audit".into(), AbsPath, Restart;
        /// Bytes after which a new segment begins.
        segment_bytes: u64 = 64 * MIB, Int(MIB, GIB), Restart;
        /// Directory of the checkpoints. Default: `checkpoints` beside `audit.dir`.
        checkpoints: Option<PathBuf> = None, Maybe(AbsPath), Restart;
        /// Seconds between checkpoints, as long as something is recorded; another is made at the end.
        checkpoint_interval_s: u64 = 300, Int(1, 86_400), Reload;
        /// Tenant whose audit key signs checkpoints and statements. Default: the first by name.
        tenant: Option<String> = None, Maybe(Text(65)), Restart;
        /// Whether records also go to journald: as soon as there is one, as soon as there is one and `readyz` names it when it is
        /// missing, or never.
        journald: Journald = Journald::Auto, Choice {
            words: &[("auto", Journald::Auto), ("on", Journald::On), ("off", Journald::Off)],
            later: &[],
        }, Restart;
        /// Days after which the oldest segments are removed, once a checkpoint covers them; 0: never.
        retention_days: u32 = 90, Int(0, 36_500), Restart;
        /// Whether closed segments are compressed, once a checkpoint covers them; zcat reads them.
        compress: bool = true, Flag, Restart;
    }
}

section! {
    /// `[policy]`: where the rules are.
    PolicyFiles {
        /// Directory of the policy files. A reload takes another one within its directory at the start, /etc, or the
        /// configuration's; any other takes a restart.
        dir: PathBuf = "/etc/passportd/policy.d".into(), AbsPath, Reload;
    }
}

/// Beyond this a PKCS#11 device gains nothing, and SoftHSM takes a lock for each.
const MAX_SESSIONS: u64 = 64;

fn default_sessions() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    processors.div_euclid(2).clamp(1, usize::try_from(MAX_SESSIONS).unwrap_or(1))
}

impl Audit {
    /// The directory of the checkpoints.
    pub fn checkpoint_dir(&self) -> PathBuf {
        let beside = || self.dir.parent().unwrap_or(Path::new("/")).join("checkpoints");
        self.checkpoints.clone().unwrap_or_else(beside)
    }
}

impl Hsm {
    /// The PKCS#11 library: `hsm.module`, else the URI's `module-path`.
    pub fn module_path(&self) -> Option<&Path> {
        self.module.as_deref().or_else(|| self.uri.module_path.as_deref().map(Path::new))
    }

    /// The file with the PIN: `hsm.pin_file`, else the URI's `pin-source`.
    pub fn pin_path(&self) -> Option<PathBuf> {
        self.pin_file.clone().or_else(|| self.uri.pin_file())
    }
}
