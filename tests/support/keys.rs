//! Key ceremonies, and what follows them.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use passportd::clock::Moment;
use passportd::state::{Change, Mode, NewKey, Role, Store};
use passportd::wire::ceremony::{PlanKind, Report, Request, Response, call};
use passportd::wire::{AdminOk, AdminOp, Problem};

use super::house::{House, PATIENCE};
use super::softhsm::PIN;
use super::{Roles, eventually, process};

impl House {
    /// Makes the keys of tenant `t1` and purpose `auth` and puts all of them to use, as `passportctl hsm init` does.
    pub(crate) fn init(&self) -> Report {
        let report = self.ceremony(PlanKind::Init, "t1", "auth");
        for key in &report.keys {
            self.stage(&key.kid).unwrap();
            self.activate(&key.kid).unwrap();
        }
        self.wait_ready();
        report
    }

    /// Holds a ceremony over the real socket (or, where the test starts the roles, in a process that it starts).
    ///
    /// # Panics
    /// When the ceremony fails.
    pub(crate) fn ceremony(&self, plan: PlanKind, tenant: &str, purpose: &str) -> Report {
        let request =
            Request { plan, tenant: Some(tenant.to_owned()), purpose: Some(purpose.to_owned()), ..Request::default() };
        match self.try_ceremony(&request, PIN) {
            Response::Done(report) => report,
            Response::Failed { code, message } => panic!("{code}: {message}"),
        }
    }

    /// Holds a ceremony that may fail.
    pub(crate) fn try_ceremony(&self, request: &Request, pin: &str) -> Response {
        if self.options.roles == Roles::Run {
            let stream = UnixStream::connect(self.dir().join("ceremony.sock")).unwrap();
            return call(stream, request, pin.as_bytes()).unwrap();
        }
        let (here, there) = UnixStream::pair().unwrap();
        let log = fs::File::options().create(true).append(true).open(self.dir().join("log")).unwrap();
        let mut command = process::command("ceremony", self.dir());
        command.envs(self.fault_environment());
        command.stdin(OwnedFd::from(there)).stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().unwrap();
        drop(command);
        let response = call(here, request, pin.as_bytes()).unwrap();
        child.wait().unwrap();
        response
    }

    /// Starts anew with a key of a quarter of an hour later, staged: what a clock that was put back makes of a key of now. The state must be
    /// the tester's own.
    pub(crate) fn restart_with_a_key_of_later(&mut self) {
        self.stop();
        let (now, path) = (Moment::now(), self.dir().join("front/state.redb"));
        let store = Store::open(&path, Mode::Existing, now).unwrap();
        let public = ed25519_dalek::SigningKey::from_bytes(&[9; 32]).verifying_key().to_bytes();
        let (kid, tenant, purpose) = ("ed25519/t1/auth/v2".to_owned(), "t1".to_owned(), "auth".to_owned());
        let (role, public, created) = (Role::Passport, Some(public), now.unix());
        let key = NewKey { kid, tenant, purpose, version: 2, role, public, created };
        let staged = store.keys().stage(key, now.unix() + 1_000).unwrap();
        tokio::runtime::Runtime::new().unwrap().block_on(store.commit(Change::keys(staged), 1)).unwrap();
        store.close();
        self.boot();
    }

    /// Stages a key; what may be tried again is.
    pub(crate) fn stage(&self, kid: &str) -> Result<AdminOk, Problem> {
        self.patiently(&AdminOp::Stage { kid })
    }

    /// Activates a key; what may be tried again is.
    pub(crate) fn activate(&self, kid: &str) -> Result<AdminOk, Problem> {
        self.patiently(&AdminOp::Activate { kid })
    }

    fn patiently(&self, op: &AdminOp<'_>) -> Result<AdminOk, Problem> {
        let mut admin = self.admin_raw();
        eventually("an admin operation", PATIENCE, || match admin.admin(op.clone()) {
            Err(problem) if problem.retryable => None,
            answer => Some(answer),
        })
    }
}
