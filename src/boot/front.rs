//! Starting and ending the front.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use tokio::runtime::{Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};

use super::house::{Admins, Services, admin_shares, service_shares};
use super::sockets::{self, ADMIN, Opened};
use super::watchdog::watchdog;
use super::{BootError, ends, is_root, logging, restored, runtimes, uid_after, uid_of_peer, user_of};
use crate::audit::{Audit, AuditConfig, AuditError, Entry, Event, JOURNALD_SOCKET, Outcome, Retention};
use crate::clock::Moment;
use crate::config::{Config, Journald, Loaded, OTHER_FILES, Sources};
use crate::lifecycle::{self, Author, Daemon, Live, Manager, Parts};
use crate::lifecycle::{watch_kept, watch_published, watch_signer, watch_state, watch_verifier};
use crate::log::{Pace, SegmentConfig, give_dir};
use crate::metrics::{Metrics, Mode, Socket, Words};
use crate::policy::{Overflow, Policy, SystemNames};
use crate::sandbox::{Plan, enter};
use crate::server::inherit::Inherited;
use crate::server::{accept, metrics_port};
use crate::service::Gates;
use crate::signer::{LinkConfig, Signer};
use crate::state::{self, KeyState, Room, Store};
use crate::watch::Stream;

/// Between attempts to put the start on record.
const RECORD_AGAIN: Duration = Duration::from_secs(1);
/// Between looks at whether the last connection has ended.
const DRAIN_LOOK: Duration = Duration::from_millis(5);

/// The front, until it is told to end.
///
/// # Errors
/// [`BootError`].
pub(super) fn front(
    loaded: Loaded,
    sources: Sources,
    parent: Option<u32>,
    inherited: Inherited,
) -> Result<u8, BootError> {
    // Every role reads the configuration; only this one says what is odd about it.
    for warning in &loaded.warnings {
        warn!(name: "config_odd", "{warning}");
    }
    let config = Arc::clone(&loaded.config);
    let overflow = Overflow::read()?;
    let policy = Policy::load(&config.policy.dir, &SystemNames, overflow)?;
    let signer_uid = uid_of_peer(config.server.user.as_ref(), config.server.hsm_user.as_ref())?;
    let most = raise_file_limit(config.server.max_connections);
    let opened = sockets::open(&config, inherited)?;
    let manager = Manager::from_environment();
    make_private(&config)?;
    see_published(&config)?;
    let applied = enter(&plan(&config, &sources, parent, policy.asks_cgroups()))?;
    logging::queue_from_now().map_err(BootError::Log)?;
    info!(name: "confined", uid = applied.identity.uid, landlock = ?applied.landlock.level, notes = ?applied.notes, "confined");

    let metrics = Arc::new(Metrics::new(Words { key_states: &KEY_STATES, ledger_events: &EVENTS })?);
    metrics.set_mode(Mode::Hsm);
    let (audit, store) = records(&config, &metrics)?;
    let services = runtimes::of_services().map_err(BootError::Runtime)?;
    let signer = services.block_on(async { Signer::start(link(&config, signer_uid, &metrics)) });
    let verifier = lifecycle::verifier(&config.verify).map_err(BootError::Runtime)?;
    let verdicts = lifecycle::verdicts(&config.verify, &metrics).map_err(BootError::Runtime)?;
    lifecycle::say_cgroups(&policy);
    let live = Live { loaded, policy, generation: 1 };
    let events = Stream::start().map_err(BootError::Runtime)?;
    let parts =
        Parts { live, sources, overflow, verifier, verdicts, store, audit, signer, metrics, applied, manager, events };
    let daemon = Arc::new(Daemon::new(parts)?);
    let ended = serve(&daemon, opened, &services, most);
    // A reload that reads from a file system that does not answer would hold us up.
    services.shutdown_background();
    ended
}

const KEY_STATES: [&str; 5] = {
    let [a, b, c, d, e] = KeyState::ALL;
    [a.name(), b.name(), c.name(), d.name(), e.name()]
};

static EVENTS: LazyLock<Vec<&str>> = LazyLock::new(|| Event::ALL.iter().map(|event| event.name()).collect());

fn link(config: &Config, signer_uid: u32, metrics: &Metrics) -> LinkConfig {
    LinkConfig {
        socket: config.hsm.socket.clone(),
        issuer: config.passport.issuer.clone(),
        signer_uid,
        op_timeout: Duration::from_millis(config.hsm.op_timeout_ms),
        max_in_flight: config.hsm.queue,
        recycled: metrics.signer_recycled.clone(),
        opened: metrics.breaker_opened.clone(),
    }
}

/// The directories of state and ledger, as ours alone, where they are missing and their parent is there.
fn make_private(config: &Config) -> Result<(), BootError> {
    let uid = uid_after(config.server.user.as_ref())?;
    let state = config.state.path.parent().unwrap_or(Path::new("/"));
    for (key, dir) in [("[state] path", state), ("[audit] dir", &config.audit.dir)] {
        let fail = |what| {
            let path = dir.display().to_string();
            let whose = user_of("front", "user", config.server.user.as_ref());
            move |error| BootError::Place { key, path, whose, what, error }
        };
        match fs::DirBuilder::new().mode(0o700).create(dir) {
            Ok(()) if is_root() => give_dir(dir, uid).map_err(fail("give it to the front's user"))?,
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(fail("create it")(error)),
            _ => {}
        }
    }
    Ok(())
}

/// The directory of the published key set is its web server's as well, so it is not ours to make.
fn see_published(config: &Config) -> Result<(), BootError> {
    let Some(file) = &config.passport.jwks_file else { return Ok(()) };
    let there = file.parent().map_or(Ok(()), |dir| fs::metadata(dir).map(drop));
    there.map_err(|error| {
        let whose = user_of("front", "user", config.server.user.as_ref());
        BootError::Place {
            key: "[passport] jwks_file",
            path: file.display().to_string(),
            whose,
            what: "write it",
            error,
        }
    })
}

fn plan(config: &Config, sources: &Sources, parent: Option<u32>, cgroups: bool) -> Plan {
    // Names are resolved again at reload: /etc holds the user database and our own files, each replaced by renaming.
    let mut read_only: Vec<PathBuf> = ["/etc", "/usr/lib", "/lib", "/proc/self"].iter().map(PathBuf::from).collect();
    // Those of peers are read only if a rule asks for them.
    read_only.extend(cgroups.then(|| PathBuf::from("/proc")));
    read_only.push(config.policy.dir.clone());
    let by_environment = sources.environment.iter().find(|(name, _)| name == "PASSPORT_CONFIG_FILE");
    let by_environment = by_environment.and_then(|(_, file)| std::path::absolute(file).ok());
    let files = sources.argument.iter().chain(&by_environment);
    // The directory, not the file: editors replace files by renaming.
    read_only.extend(files.filter_map(|file| file.parent()).map(Path::to_owned));
    let state = config.state.path.parent().map(Path::to_owned);
    let published = config.passport.jwks_file.as_deref().and_then(Path::parent).map(Path::to_owned);
    Plan {
        role: "front",
        user: config.server.user.clone(),
        read_only: read_only.into_iter().filter(|path| path.exists()).collect(),
        read_write: state.into_iter().chain([config.audit.dir.clone()]).chain(published).collect(),
        parent,
        ..Plan::default()
    }
}

/// Ledger, then state, then each held against the other.
fn records(config: &Config, metrics: &Arc<Metrics>) -> Result<(Audit, Store), BootError> {
    let journald = match config.audit.journald {
        Journald::Off => None,
        Journald::Auto | Journald::On => Some(PathBuf::from(JOURNALD_SOCKET)),
    };
    let segment = SegmentConfig { max_bytes: config.audit.segment_bytes };
    let pace = Pace::default();
    let metrics = Some(Arc::clone(metrics));
    let audit_config = AuditConfig { segment, pace, journald, now: Moment::now, metrics };
    let (audit, opened) = Audit::open(&config.audit.dir, &audit_config)?;
    audit.keep(Retention { days: config.audit.retention_days, compress: config.audit.compress })?;
    if let Some(gap) = &opened.recovered.gap {
        warn!(name: "ledger_cut", ?gap, "the ledger was cut short; a break record says where");
    }
    if config.audit.journald == Journald::On && !opened.journald {
        warn!(name: "journald_missing", "[audit] journald is on, and {JOURNALD_SOCKET} is not there");
    }
    let seq = opened.recovered.head.seq;
    let mode = if seq == 0 { state::Mode::CreateIfMissing } else { state::Mode::Existing };
    let store = Store::open(&config.state.path, mode, Moment::now())?;
    store.set_room(Room::of(config.state.entries));
    store.check_against_ledger(seq, opened.recovered.mark).map_err(|error| {
        let (ledger, state) = (config.audit.dir.display(), config.state.path.display());
        BootError::Apart { places: format!("[audit] dir {ledger}, [state] path {state}"), error }
    })?;
    restored::settle(&audit, &store, &config.audit.dir)?;
    audit.state_is_at(store.snapshot().audit_seq);
    Ok((audit, store))
}

/// Serves until SIGTERM, SIGINT or SIGQUIT, then ends in order.
fn serve(daemon: &Arc<Daemon>, opened: Opened, services: &Runtime, most: usize) -> Result<u8, BootError> {
    // A ledger that can't be written stops issuing, not verification: on a full disk the start is recorded later.
    if let Err(error) = daemon.audit.record_blocking(started(daemon)) {
        services.spawn(record_start(Arc::clone(daemon), error));
    }
    let longest = daemon.live.load().loaded.config.passport.max_ttl_s;
    if let Err(error) = services.block_on(daemon.remember_lifetime(longest)) {
        warn!(name: "lifetime_not_kept", %error, "the state does not take how long passports live; nothing is issued until it does");
    }
    let (drained, until_drained) = watch::channel(false);
    let admins = {
        let daemon = Arc::clone(daemon);
        let (admin, metrics) = (opened.admin, opened.metrics);
        let handle = services.handle().clone();
        let serve = move || administer(&daemon, admin, metrics, until_drained, handle);
        thread::Builder::new().name("admins".to_owned()).spawn(serve)
    };
    let admins = admins.map_err(BootError::Runtime)?;
    let served = services.block_on(receive(daemon, opened.services, most));
    daemon.stop();
    drained.send_replace(true);
    if admins.join().is_err() {
        error!(name: "admins_panicked", "the admins' thread panicked");
    }
    served?;
    if let Some(ends) = daemon.ticket_ttl_ends()
        && let Err(error) = daemon.audit.record_blocking(ends)
    {
        warn!(name: "end_not_recorded", %error, "the end is not on record");
    }
    let ended = Entry::new(Event::DaemonStopping, Outcome::Ok, Moment::now());
    if let Err(error) = daemon.audit.record_blocking(ended) {
        warn!(name: "end_not_recorded", %error, "the end is not on record");
    }
    daemon.audit.close();
    daemon.store.close();
    Ok(0)
}

fn started(daemon: &Daemon) -> Entry {
    Entry::new(Event::DaemonStarted, Outcome::Ok, daemon.started).detail(env!("CARGO_PKG_VERSION"))
}

/// Puts the start on record as soon as the ledger takes it.
async fn record_start(daemon: Arc<Daemon>, mut why: AuditError) {
    warn!(name: "start_not_recorded", error = %why, "the start is not on record yet; nothing is issued");
    loop {
        tokio::time::sleep(RECORD_AGAIN).await;
        match daemon.audit.record(started(&daemon)).await {
            Ok(_) => return info!(name: "start_recorded", was = %why, "the start is on record"),
            Err(error) => why = error,
        }
    }
}

/// Services, on the runtime's threads.
async fn receive(daemon: &Arc<Daemon>, listeners: Vec<(Arc<str>, UnixListener)>, most: usize) -> Result<(), BootError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(BootError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(BootError::Signals)?;
    let mut quit = signal(SignalKind::quit()).map_err(BootError::Signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(BootError::Signals)?;
    // Held until now; one that came during the start arrives here.
    SigSet::from(Signal::SIGHUP).thread_unblock().map_err(|errno| BootError::Signals(errno.into()))?;
    let house = Arc::new(Services { daemon: Arc::clone(daemon), gates: Gates::default() });
    let threads = Handle::current().metrics().num_workers();
    let shares = service_shares(daemon, threads, most);
    for (name, listener) in listeners {
        let listener = tokio::net::UnixListener::from_std(listener).map_err(BootError::Signals)?;
        tokio::spawn(accept(listener, name, Arc::clone(&house), Arc::clone(&shares), daemon.stopping()));
    }
    // On its own: a reload waits for a key change that is under way, and SIGTERM must not. Those that are asked for
    // meanwhile are one more.
    let asked = Arc::new(Notify::new());
    tokio::spawn(reloads(Arc::clone(daemon), Arc::clone(&asked)));
    daemon.manager.ready(&daemon.status_line());
    info!(name: "ready", ready = 1, "serving");
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = quit.recv() => break,
            _ = hangup.recv() => asked.notify_one(),
        }
    }
    daemon.manager.stopping(&ending(daemon), ends::front(&daemon.live.load().loaded.config));
    daemon.stop();
    let open = until_none(daemon, Socket::Service).await;
    info!(name: "connections_drained", open, "drained");
    Ok(())
}

/// Waits until no connection is left, or the graceful time is over; how many are left then.
async fn until_none(daemon: &Daemon, socket: Socket) -> i64 {
    let patience = ends::graceful(&daemon.live.load().loaded.config);
    let begun = Instant::now();
    let open = daemon.metrics.connections.at(socket);
    while open.get() > 0 && begun.elapsed() < patience {
        tokio::time::sleep(DRAIN_LOOK).await;
    }
    open.get()
}

fn ending(daemon: &Daemon) -> String {
    let open = |socket| daemon.metrics.connections.at(socket).get();
    format!("ending; connections {} services, {} admins", open(Socket::Service), open(Socket::Admin))
}

/// Reloads as often as it is asked to.
async fn reloads(daemon: Arc<Daemon>, asked: Arc<Notify>) {
    loop {
        asked.notified().await;
        match daemon.reload(&Author::NOBODY).await {
            Ok(reloaded) => {
                info!(name: "reloaded", config = reloaded.config_line(), policy = reloaded.policy_line(), "reloaded");
            }
            Err(error) => error!(name: "reload_refused", %error, "not reloaded; what was in force stays so"),
        }
    }
}

/// Admins, the metrics port and the watch over the signer: one thread of their own, that services can't take up. Once the
/// daemon stops, admins finish what is under way; the metrics port answers until the services have drained.
fn administer(
    daemon: &Arc<Daemon>,
    listener: UnixListener,
    metrics: Option<TcpListener>,
    mut drained: watch::Receiver<bool>,
    services: Handle,
) {
    let runtime = match runtimes::of_admins() {
        Ok(runtime) => runtime,
        Err(error) => return error!(name: "admins_not_served", %error, "no admins are served"),
    };
    runtime.block_on(async {
        let listener = match tokio::net::UnixListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return error!(name: "admins_not_served", %error, "no admins are served"),
        };
        let house = Arc::new(Admins { daemon: Arc::clone(daemon) });
        tokio::spawn(watch_signer(Arc::clone(daemon)));
        tokio::spawn(watchdog(Arc::clone(daemon), services));
        tokio::spawn(watch_state(Arc::clone(daemon)));
        tokio::spawn(watch_kept(Arc::clone(daemon)));
        tokio::spawn(watch_verifier(Arc::clone(daemon)));
        tokio::spawn(watch_published(Arc::clone(daemon)));
        if let Some(metrics) = metrics {
            let reporter = Arc::clone(daemon);
            let ready: metrics_port::Ready = Arc::new(move || reporter.report());
            tokio::spawn(metrics_port::serve(metrics, Arc::clone(&daemon.metrics), ready, drained.clone()));
        }
        accept(listener, Arc::from(ADMIN), house, admin_shares(), daemon.stopping()).await;
        until_none(daemon, Socket::Admin).await;
        // An error says that the sender is gone, which it is only after the end.
        drop(drained.wait_for(|drained| *drained).await);
    });
    // As with that of the services.
    runtime.shutdown_background();
}

/// Every connection takes a descriptor; the soft limit may be lower than the configuration needs. Returns how many
/// connections of services the limit has room for: were they to take the last descriptors, the signer's link, the ledger
/// and admins would go without.
fn raise_file_limit(connections: usize) -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OTHER_FILES);
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return connections };
    let mut limit = soft;
    if soft < wanted {
        match setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard) {
            Ok(()) => limit = wanted.min(hard),
            Err(error) => warn!(name: "file_limit_not_raised", %error, "can't raise the limit of open files"),
        }
    }
    let room = usize::try_from(limit.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX).max(1);
    if room < connections {
        let why = format!("[server] max_connections is {room} here, by the limit of open files; raise LimitNOFILE=");
        warn!(name: "connections_limited", limit, wanted, "{why}");
    }
    room.min(connections)
}
