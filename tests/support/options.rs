//! How a daemon under test is to be.

use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::{Table, Value};

use super::Hsm;
use super::house::House;
use super::softhsm::LABEL;
use super::softhsm::token::Token;

/// The rule that lets the tests' own user do everything, and a template to issue from.
pub(crate) const POLICY: &str = r#"
[[peer]]
name = "tester"
uid = @UID@
rps = 10000000
allow = ["issue", "verify", "introspect", "keys", "health", "status", "attest", "stage", "activate", "pause_issue",
         "resume_issue", "reload", "drain", "seal", "unseal", "revoke", "revoke_any", "bump_epoch", "compromise", "checkpoint",
         "rollback", "confirm", "destroy", "test_append", "watch"]
templates = ["demo"]
verify_as = ["demo"]
seal_namespaces = ["t1/*"]

[[template]]
name = "demo"
tenant = "t1"
purpose = "auth"
subjects = ["*"]
audiences = ["demo"]
scopes = ["read", "write"]
default_scopes = ["read"]
max_ttl_s = 3600
"#;

/// The signer's bounds.
const BOUNDS: &str =
    "[[tenant]]\nname = \"t1\"\npurposes = [\"auth\", \"other\"]\nmax_ttl_s = 86400\nseal_namespaces = [\"t1/*\"]\n";

/// Whom the roles run as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Users {
    /// As root each role drops to a user of its own where the machine has such users; else all run as the tester.
    Split,
    /// All run as the tester.
    Own,
}

/// Who starts the roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Roles {
    /// `passportd run`, which also starts again what dies.
    Run,
    /// The test, each by itself, as systemd would: what dies stays dead.
    Apart,
}

/// How a daemon under test is to be.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(super) policy: Vec<(String, String)>,
    pub(super) bounds: String,
    pub(super) settings: Vec<(String, Value)>,
    pub(super) users: Users,
    pub(super) roles: Roles,
    pub(super) keys: bool,
    pub(super) audited: bool,
    pub(super) module: Option<Hsm>,
    pub(super) fault: bool,
    pub(super) log: Option<PathBuf>,
    pub(super) environment: Vec<(&'static str, String, String)>,
}

impl Default for Options {
    /// Two sessions, keys for tenant `t1` and purpose `auth`, [`POLICY`], and no journald.
    fn default() -> Self {
        Self {
            policy: Vec::new(),
            bounds: BOUNDS.to_owned(),
            settings: Vec::new(),
            users: Users::Split,
            roles: Roles::Run,
            keys: true,
            audited: false,
            module: None,
            fault: false,
            log: None,
            environment: Vec::new(),
        }
    }
}

impl Options {
    /// A setting, as `section.key`.
    pub(crate) fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.settings.push((key.to_owned(), value.into()));
        self
    }

    /// This policy instead of [`POLICY`]; `@UID@` stands for the tester's uid. It comes into force once keys are there.
    pub(crate) fn policy(self, text: &str) -> Self {
        self.policy_file("10-test.toml", text)
    }

    /// A file of a policy of several.
    pub(crate) fn policy_file(mut self, name: &str, text: &str) -> Self {
        self.policy.push((name.to_owned(), text.to_owned()));
        self
    }

    /// The signer's bounds, as TOML.
    pub(crate) fn bounds(mut self, text: &str) -> Self {
        text.clone_into(&mut self.bounds);
        self
    }

    /// Whom the roles run as.
    pub(crate) fn users(mut self, users: Users) -> Self {
        self.users = users;
        self
    }

    /// Who starts the roles.
    pub(crate) fn roles(mut self, roles: Roles) -> Self {
        self.roles = roles;
        self
    }

    /// A variable in the environment of one role, where the test is who starts it.
    pub(crate) fn environment(mut self, role: &'static str, name: &str, value: &str) -> Self {
        self.environment.push((role, name.to_owned(), value.to_owned()));
        self
    }

    /// Where standard error goes, instead of to [`super::House::log`].
    pub(crate) fn log(mut self, path: &Path) -> Self {
        self.log = Some(path.to_owned());
        self
    }

    /// With this HSM, whatever `PASSPORTD_TEST_HSM` says: what the test is about is this HSM's.
    pub(crate) fn module(mut self, hsm: Hsm) -> Self {
        self.module = Some(hsm);
        self
    }

    /// With the module that fails on demand before the HSM; see [`super::House::fault`]. Root alone may have it: the daemon
    /// loads no module that is not root's.
    pub(crate) fn fault(mut self) -> Self {
        self.fault = true;
        self
    }

    /// In amnesia mode: the signer makes its keys itself.
    pub(crate) fn amnesia(self) -> Self {
        self.set("security.amnesia", true).without_keys()
    }

    /// The audit key is put to use as well, as by `passportctl hsm init`.
    pub(crate) fn audited(mut self) -> Self {
        self.audited = true;
        self
    }

    /// An HSM without keys.
    pub(crate) fn without_keys(mut self) -> Self {
        self.keys = false;
        self
    }
}

/// `text` with the tester's uid in it.
pub(super) fn filled(text: &str) -> String {
    text.replace("@UID@", &nix::unistd::geteuid().to_string())
}

/// Sets `section.key`.
pub(super) fn put(table: &mut Table, key: &str, value: Value) {
    let (section, key) = key.split_once('.').unwrap();
    let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
    section.as_table_mut().unwrap().insert(key.to_owned(), value);
}

impl House {
    /// Whether it is in amnesia mode.
    pub(super) fn forgets(&self) -> bool {
        self.config.get("security").and_then(|section| section.get("amnesia")) == Some(&Value::Boolean(true))
    }

    /// How long it lets one call of the HSM take: `hsm.op_timeout_ms`, or its default.
    pub(crate) fn op_timeout(&self) -> Duration {
        let set = self.config.get("hsm").and_then(|hsm| hsm.get("op_timeout_ms")).and_then(Value::as_integer);
        Duration::from_millis(set.unwrap_or(5_000).unsigned_abs())
    }
}

/// The configuration of a daemon that lives beside its token.
pub(super) fn configuration(token: &Token, metrics: &str, users: Option<&(String, String)>) -> Table {
    let path = |name: &str| Value::from(token.dir().join(name).to_str().unwrap());
    let mut table = Table::new();
    let mut set = |key: &str, value: Value| put(&mut table, key, value);
    for (key, file) in [
        ("server.socket", "passportd.sock"),
        ("server.admin_socket", "admin.sock"),
        ("hsm.pin_file", "pin"),
        ("hsm.socket", "signer.sock"),
        ("hsm.ceremony_socket", "ceremony.sock"),
        ("hsm.bounds", "signer.toml"),
        ("hsm.state_dir", "state"),
        ("hsm.store", "store"),
        ("hsm.module_config", token.hsm().conf()),
        ("state.path", "front/state.redb"),
        ("audit.dir", "ledger"),
        ("policy.dir", "policy.d"),
    ] {
        set(key, path(file));
    }
    // The sockets let everybody in, so that it is the policy that refuses.
    set("server.socket_mode", "0666".into());
    set("server.admin_socket_mode", "0666".into());
    set("server.metrics_addr", metrics.into());
    set("server.graceful_shutdown_timeout_s", 3.into());
    set("passport.issuer", "passportd.test".into());
    set("hsm.uri", format!("pkcs11:token={LABEL}").into());
    set("hsm.module", token.hsm().module().to_str().unwrap().into());
    set("hsm.module_env", token.hsm().variable().into());
    set("hsm.sessions", 2.into());
    set("audit.journald", "off".into());
    // Those that rotate keys would wait for verifiers that a test does not have.
    set("cache.jwks_ttl_s", 0.into());
    if let Some((front, hsm)) = users {
        set("server.user", front.as_str().into());
        set("server.hsm_user", hsm.as_str().into());
    }
    table
}
