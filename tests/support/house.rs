//! A daemon of a test's own: front, signer and ceremonies over a real HSM, in a directory that goes with it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use passportd::client::{AdminClient, Client};
use passportd::wire::ceremony::PlanKind;
use passportd::wire::{AdminOk, AdminOp, Health, Problem, ServiceOk, ServiceOp};
use toml::{Table, Value};

use super::options::{POLICY, configuration, filled, put};
use super::process::{self, Started};
use super::raw::Raw;
use super::softhsm::token::Token;
use super::{Hsm, Options, Roles, Users, eventually, fault, fault_module, ledger, people};

/// How long a start, or an end, may take on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// The first audit key of the same tenant.
pub(crate) const AUDIT_KEY: &str = "ed25519/t1/audit/v1";
/// The key that signs at first.
pub(crate) const FIRST_KEY: &str = "ed25519/t1/auth/v1";

/// A daemon of a test's own. It ends with this value.
pub(crate) struct House {
    hsm: Token,
    pub(super) options: Options,
    pub(super) config: Table,
    metrics: String,
    users: Option<(String, String)>,
    processes: Vec<Started>,
}

impl House {
    /// Starts a daemon and waits until it issues (or, without keys, until it answers).
    ///
    /// # Panics
    /// When it does not start; its log is in the panic's output.
    pub(crate) fn start(options: Options) -> Self {
        let hsm = Token::new(options.module.unwrap_or_else(Hsm::chosen)).expect("these tests need their HSM");
        let users = (options.users == Users::Split).then(people::unprivileged_users).flatten();
        let metrics = metrics_addr();
        let mut config = configuration(&hsm, &metrics, users.as_ref());
        if options.fault {
            put(&mut config, "hsm.module", fault_module::path().to_str().unwrap().into());
            // What it wraps is loaded by it, in a process that is confined already.
            put(&mut config, "hsm.module_paths", vec![hsm.hsm().module().to_str().unwrap()].into());
        }
        for (key, value) in options.settings.clone() {
            put(&mut config, &key, value);
        }
        let mut house = Self { hsm, options, config, metrics, users, processes: Vec::new() };
        let ready_made = house.options.keys && house.hsm.take_keys();
        house.furnish();
        house.boot();
        if house.options.keys {
            if !ready_made {
                house.ceremony(PlanKind::Init, "t1", "auth");
                house.hsm.keep_keys();
            }
            let audit = house.options.audited.then_some(AUDIT_KEY);
            for key in [FIRST_KEY].into_iter().chain(audit) {
                house.stage(key).unwrap();
                house.activate(key).unwrap();
            }
            house.wait_ready();
        }
        if !house.options.policy.is_empty() {
            house.replace_policy();
        }
        house
    }

    /// Files and directories, with the owners and modes that an installation gives them.
    fn furnish(&self) {
        let dir = self.dir();
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["front", "ledger", "policy.d"] {
            fs::create_dir(dir.join(name)).unwrap();
        }
        for name in ["front", "ledger"] {
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o700)).unwrap();
        }
        if let Some((front, hsm)) = &self.users {
            for (name, user) in [("store", hsm), ("state", hsm), ("front", front), ("ledger", front)] {
                give(&dir.join(name), people::ids(user).0);
            }
        }
        fs::write(dir.join("signer.toml"), &self.options.bounds).unwrap();
        self.write_policy("00-start.toml", POLICY);
        self.write_config();
    }

    /// Starts the processes and waits until the admin socket answers.
    pub(crate) fn boot(&mut self) {
        let roles: &[_] = if self.options.roles == Roles::Run { &["run"] } else { &["signer", "front"] };
        for role in roles {
            self.start_role(role);
        }
        let ceremonies = self.options.roles == Roles::Apart;
        eventually("the daemon answers", PATIENCE, || {
            self.assert_alive();
            let greeted = Raw::connect(&self.admin_socket()).ok()?.greet().is_ok();
            (greeted && (ceremonies || self.dir().join("ceremony.sock").exists())).then_some(())
        });
    }

    /// Starts one role, where the test is who starts them.
    pub(crate) fn start_role(&mut self, role: &'static str) {
        self.processes.retain_mut(|process| process.role != role || process.ended().is_none());
        let own = self.options.environment.iter().filter(|(whose, ..)| *whose == role);
        let mut own: Vec<_> = own.map(|(_, name, value)| (name.as_str(), value.as_str())).collect();
        let fault = self.fault_environment();
        own.extend(fault.iter().map(|(name, value)| (*name, value.as_str())));
        own.extend(self.forgets().then_some((process::PIPED, "")));
        let log = self.options.log.clone().unwrap_or_else(|| self.hsm.dir().join("log"));
        self.processes.push(Started::new(role, self.hsm.dir(), &log, &own));
    }

    /// Starts one role that ends by itself, and waits for that.
    pub(crate) fn start_to_the_end(&mut self, role: &'static str) -> ExitStatus {
        self.start_role(role);
        let pid = self.processes.last().expect("it was started just now").pid();
        self.ended(pid)
    }

    /// What the module that fails on demand needs to know, if it is there.
    pub(super) fn fault_environment(&self) -> Vec<(&'static str, String)> {
        if self.options.fault { fault::environment(&self.hsm).to_vec() } else { Vec::new() }
    }

    /// Panics with the log if a process that the test has started is gone.
    fn assert_alive(&mut self) {
        for process in &mut self.processes {
            if let Some(status) = process.ended() {
                let log = fs::read_to_string(self.hsm.dir().join("log")).unwrap_or_default();
                panic!("{} ended with {status}:\n{log}", process.role);
            }
        }
    }

    /// Puts the policy of the options in the place of the one that it was started with.
    fn replace_policy(&self) {
        for (name, text) in &self.options.policy {
            self.write_policy(name, text);
        }
        fs::remove_file(self.dir().join("policy.d/00-start.toml")).unwrap();
        self.admin_raw().admin(AdminOp::Reload).unwrap();
    }

    /// Waits until passports are issued and verified.
    pub(crate) fn wait_ready(&self) {
        eventually("readyz says 200", PATIENCE, || (self.get("/readyz").0 == 200).then_some(()));
    }

    /// What Health says on the admin socket.
    pub(crate) fn health(&self) -> Health {
        match self.admin_raw().admin(AdminOp::Health) {
            Ok(AdminOk::Health(health)) => health,
            other => panic!("{other:?}"),
        }
    }

    /// Where everything is.
    pub(crate) fn dir(&self) -> &Path {
        self.hsm.dir()
    }

    /// The HSM; its store is the tester's where all roles are.
    pub(crate) const fn hsm(&self) -> &Token {
        &self.hsm
    }

    /// Uid and gid of the front, if they are not the tester's.
    pub(crate) fn front_ids(&self) -> Option<(u32, u32)> {
        self.users.as_ref().map(|(front, _)| people::ids(front))
    }

    /// The signer's user, if it is not the tester.
    pub(crate) fn hsm_user(&self) -> Option<String> {
        self.users.as_ref().map(|(_, hsm)| hsm.clone())
    }

    /// The socket of the services.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir().join("passportd.sock")
    }

    /// The socket of the administrators.
    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.dir().join("admin.sock")
    }

    /// The ledger's directory.
    pub(crate) fn ledger(&self) -> PathBuf {
        self.dir().join("ledger")
    }

    /// A connection to the service socket, greeted.
    pub(crate) fn raw(&self) -> Raw {
        Raw::connect(&self.socket()).unwrap().welcomed().0
    }

    /// A connection to the service socket by somebody else, greeted.
    pub(crate) fn raw_as(&self, uid: u32, gid: u32, groups: &[u32]) -> Raw {
        Raw::over(people::connect_as(&self.socket(), uid, gid, groups)).unwrap().welcomed().0
    }

    /// A connection to the admin socket, greeted.
    pub(crate) fn admin_raw(&self) -> Raw {
        Raw::connect(&self.admin_socket()).unwrap().welcomed().0
    }

    /// A connection to the admin socket by somebody else, greeted.
    pub(crate) fn admin_raw_as(&self, uid: u32, gid: u32, groups: &[u32]) -> Raw {
        Raw::over(people::connect_as(&self.admin_socket(), uid, gid, groups)).unwrap().welcomed().0
    }

    /// One question, over a connection of its own.
    pub(crate) fn ask(&self, op: ServiceOp<'_>) -> Result<ServiceOk, Problem> {
        self.raw().ask(op)
    }

    /// The library's client.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(passportd::client::Options::service(self.socket())).await.unwrap()
    }

    /// The library's client of the admin socket.
    pub(crate) async fn admin(&self) -> AdminClient {
        AdminClient::connect(passportd::client::Options::service(self.admin_socket())).await.unwrap()
    }

    /// GET of the metrics port: status and body.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let Ok(mut stream) = TcpStream::connect(&self.metrics) else { return (0, String::new()) };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        if stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_string(&mut answer)).is_err() {
            return (0, answer);
        }
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
        (status, body)
    }

    /// The value of one series, e.g. `passport_ops_total{alg="Ed25519",op="issue",result="ok"}`; 0 when it is not there.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics").1;
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.trim().parse().unwrap())
    }

    /// The process id of `run`, `front` or `signer`.
    ///
    /// # Panics
    /// When there is none within some seconds.
    pub(crate) fn pid(&self, role: &str) -> i32 {
        eventually(role, PATIENCE, || {
            let own: Vec<_> = self.processes.iter().map(Started::pid).collect();
            let all = own.iter().flat_map(|pid| process::children(*pid)).chain(own.clone());
            all.into_iter().find(|pid| process::role_of(*pid).as_deref() == Some(role))
        })
    }

    /// Sends a signal to a role.
    pub(crate) fn signal(&self, role: &str, signal: Signal) {
        process::signal(self.pid(role), signal);
    }

    /// Stops a role, every thread of it, until SIGCONT. The signal alone returns before they stand still.
    pub(crate) fn freeze(&self, role: &str) {
        let pid = self.pid(role);
        process::signal(pid, Signal::SIGSTOP);
        eventually("it stands still", PATIENCE, || process::stands_still(pid).then_some(()));
    }

    /// Kills a role with SIGKILL and waits until that process is gone.
    pub(crate) fn kill(&mut self, role: &str) {
        let pid = self.pid(role);
        process::signal(pid, Signal::SIGKILL);
        eventually("the process is gone", PATIENCE, || {
            // What nobody waits for stays in the process table.
            let _gone = self.processes.iter_mut().filter_map(Started::ended).count();
            process::gone(pid).then_some(())
        });
    }

    /// Sends a signal to a role that the test has started, and waits for its end.
    pub(crate) fn end(&mut self, role: &str, signal: Signal) -> ExitStatus {
        let pid = self.pid(role);
        process::signal(pid, signal);
        self.ended(pid)
    }

    /// Waits for the end of a process that the test has started.
    pub(crate) fn ended(&mut self, pid: i32) -> ExitStatus {
        let at = self.processes.iter().position(|process| process.pid() == pid).expect("the test has started it");
        let status = eventually("it ends", PATIENCE, || self.processes[at].ended());
        self.processes.remove(at);
        status
    }

    /// Waits for the end of a role that the test has started.
    pub(crate) fn ended_role(&mut self, role: &str) -> ExitStatus {
        let pid = self.processes.iter().find(|process| process.role == role).expect("the test has started it").pid();
        self.ended(pid)
    }

    /// Has all end with SIGTERM; how the first that was started ended.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        // The front first, as systemd would have it by its ordering.
        let statuses: Vec<_> = self.processes.iter_mut().rev().map(|process| process.stop(PATIENCE)).collect();
        self.processes.clear();
        statuses[0]
    }

    /// Changes a setting in the file; nothing takes notice before a reload.
    pub(crate) fn set(&mut self, key: &str, value: impl Into<Value>) {
        put(&mut self.config, key, value.into());
        self.write_config();
    }

    /// Writes the configuration back as it was.
    pub(crate) fn restore_config(&mut self, text: &str) {
        self.config = text.parse().unwrap();
        self.write_config();
    }

    /// Writes a file of the policy; nothing takes notice before a reload.
    pub(crate) fn write_policy(&self, name: &str, text: &str) {
        replace(&self.dir().join("policy.d").join(name), &filled(text));
    }

    fn write_config(&self) {
        replace(&self.dir().join("passportd.toml"), &toml::to_string(&self.config).unwrap());
    }

    /// What the processes have said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir().join("log")).unwrap_or_default()
    }

    /// Asserts that the ledger verifies and that each of these payloads has exactly one record.
    pub(crate) fn assert_on_record<'a>(&self, payloads: impl IntoIterator<Item = &'a [u8]>) {
        let issued = ledger::issued(&self.ledger());
        for msg in payloads {
            let jti = ledger::jti(msg);
            assert_eq!(issued.get(&jti), Some(&1), "records of {jti}");
        }
        ledger::assert_chain(&self.ledger());
    }
}

impl Drop for House {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            process.stop(PATIENCE);
        }
        if !std::thread::panicking() {
            // Whatever a test was about, this holds at its end (L11).
            ledger::assert_chain(&self.ledger());
        } else {
            eprintln!("--- log of the daemon in {}\n{}---", self.dir().display(), self.log());
        }
    }
}

/// An address for the metrics of its own, without asking anybody which are free: every process has 127.x.y.z by its
/// pid (at most 2^22, see proc(5)), and counts ports.
fn metrics_addr() -> String {
    static PORT: AtomicU16 = AtomicU16::new(20_000);
    let [_, a, b, c] = std::process::id().to_be_bytes();
    format!("127.{}.{b}.{c}:{}", 64 | a, PORT.fetch_add(1, Ordering::Relaxed))
}

/// Gives a directory and all in it to somebody.
fn give(path: &Path, uid: u32) {
    chown(path, Some(uid), None).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path(), uid));
    }
}

/// Replaces a file in one step, as an operator's editor would.
pub(super) fn replace(path: &Path, text: &str) {
    let fresh = path.with_extension("new");
    fs::write(&fresh, text).unwrap();
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o644)).unwrap();
    fs::rename(&fresh, path).unwrap();
}
