//! Roles that are started as their own users, as systemd's `User=` does, in directories as `tmpfiles.d` makes them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use passportd::wire::{AdminOk, AdminOp};

use crate::files::{folder, tmpfiles};
use crate::support::raw::Raw;
use crate::support::softhsm::skipped::skipped;
use crate::support::softhsm::{self, PIN, SoftHsm};
use crate::support::{eventually, people, process, root_or_skip};

const PATIENCE: Duration = Duration::from_secs(20);
const POLICY: &str = "[[peer]]\nname = \"root\"\nuid = 0\nallow = [\"status\"]\n";
const BOUNDS: &str = "[[tenant]]\nname = \"t1\"\npurposes = [\"auth\"]\nmax_ttl_s = 3600\n";

/// A process that ends with the test.
struct Role(Child);

impl Role {
    fn end(&mut self) -> Option<i32> {
        process::signal(i32::try_from(self.0.id()).unwrap(), Signal::SIGTERM);
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(3));
        }
        None
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        // One that has ended is no failure.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A host in a directory: `/run/…` and `/var/…` of the units below it.
struct Host {
    hsm: SoftHsm,
    front: String,
    signer: String,
}

impl Host {
    fn new(hsm: SoftHsm, front: String, signer: String) -> Self {
        let host = Self { hsm, front, signer };
        host.open(Path::new(""), 0o755);
        for (path, directory) in tmpfiles() {
            let below = host.path(path.to_str().unwrap());
            fs::create_dir_all(&below).unwrap();
            for parent in path.ancestors().skip(1).filter(|one| !tmpfiles().contains_key(*one)) {
                host.open(parent.strip_prefix("/").unwrap(), 0o755);
            }
            chown(&below, Some(host.ids(&directory.user).0), Some(host.ids(&directory.group).1)).unwrap();
            fs::set_permissions(&below, fs::Permissions::from_mode(directory.mode)).unwrap();
        }
        host
    }

    fn path(&self, path: &str) -> PathBuf {
        self.hsm.dir().join(path.trim_start_matches('/'))
    }

    fn open(&self, path: &Path, mode: u32) {
        fs::set_permissions(self.hsm.dir().join(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Ids of a user of the units. Its group has the same name.
    fn ids(&self, user: &str) -> (u32, u32) {
        people::ids(if user == "passportd" { &self.front } else { &self.signer })
    }

    /// The shipped configuration with other names: users and groups that this machine has, paths below this directory.
    fn configure(&self) {
        let text = fs::read_to_string(folder().join("passportd.toml")).unwrap();
        let mut table: toml::Table = text.parse().unwrap();
        let mut set = |section: &str, key: &str, value: &str| {
            let section = table.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            section.as_table_mut().unwrap().insert(key.to_owned(), value.into());
        };
        for (section, key, path) in [
            ("server", "socket", "/run/passportd/passportd.sock"),
            ("server", "admin_socket", "/run/passportd/admin.sock"),
            ("hsm", "socket", "/run/passportd-signer/signer.sock"),
            ("hsm", "bounds", "signer.toml"),
            ("hsm", "state_dir", "/var/lib/passportd-hsm"),
            ("hsm", "store", "store"),
            ("hsm", "module_config", "softhsm2.conf"),
            ("state", "path", "/var/lib/passportd/state.redb"),
            ("audit", "dir", "/var/lib/passportd/audit"),
            ("policy", "dir", "policy.d"),
        ] {
            set(section, key, self.path(path).to_str().unwrap());
        }
        set("server", "user", &self.front);
        set("server", "hsm_user", &self.signer);
        set("server", "metrics_addr", "off");
        set("hsm", "uri", &format!("pkcs11:token={}", softhsm::LABEL));
        set("hsm", "module", softhsm::module().unwrap().to_str().unwrap());
        let server = table["server"].as_table_mut().unwrap();
        // Such groups need not exist here.
        server.remove("socket_group");
        server.remove("admin_socket_group");
        self.write("passportd.toml", &toml::to_string(&table).unwrap());
        self.write("signer.toml", BOUNDS);
        fs::create_dir(self.path("policy.d")).unwrap();
        self.open(Path::new("policy.d"), 0o755);
        self.write("policy.d/root.toml", POLICY);
        self.open(Path::new("softhsm2.conf"), 0o644);
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.path(path), text).unwrap();
        self.open(Path::new(path), 0o644);
    }

    /// The token store and the credential, for the signer alone, as systemd's `LoadCredential=` makes it.
    fn give_to_signer(&self) {
        let (uid, gid) = self.ids("passportd-hsm");
        let credentials = self.path("credentials");
        fs::create_dir(&credentials).unwrap();
        fs::write(credentials.join("hsm-pin"), PIN).unwrap();
        self.open(Path::new("credentials/hsm-pin"), 0o400);
        self.open(Path::new("credentials"), 0o500);
        for top in [credentials, self.path("store")] {
            give(&top, uid, gid);
        }
    }

    fn start(&self, role: &str, user: &str) -> Role {
        // Built where only its builder may look, perhaps; the users must be able to start it.
        let program = self.path("passportd");
        if !program.exists() {
            fs::copy(env!("CARGO_BIN_EXE_passportd"), &program).unwrap();
        }
        let (uid, gid) = self.ids(user);
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = Command::new(program);
        command.arg(role).arg("--config").arg(self.path("passportd.toml"));
        command.env_clear().env("SOFTHSM2_CONF", self.path("softhsm2.conf"));
        command.env("CREDENTIALS_DIRECTORY", self.path("credentials"));
        // With a uid, the standard library gives up all supplementary groups too.
        command.uid(uid).gid(gid).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Role(command.spawn().unwrap())
    }

    /// What Status says.
    fn status(&self) -> Option<serde_json::Value> {
        let mut raw = Raw::connect(&self.path("/run/passportd/admin.sock")).ok()?;
        raw.greet().ok()?;
        match raw.admin(AdminOp::Status) {
            Ok(AdminOk::Status(text)) => serde_json::from_str(&text).ok(),
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.path("log")).unwrap_or_default());
        }
    }
}

fn give(path: &Path, uid: u32, gid: u32) {
    chown(path, Some(uid), Some(gid)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path(), uid, gid));
    }
}

#[test]
fn front_and_signer_started_as_their_own_users_know_each_other() {
    if !root_or_skip("front_and_signer_started_as_their_own_users_know_each_other") {
        return;
    }
    let Some((front, signer)) = people::unprivileged_users() else {
        return skipped("there are no two unprivileged users here");
    };
    let hsm = SoftHsm::new().expect("these tests need SoftHSM: apt-get install softhsm2");
    let host = Host::new(hsm, front, signer);
    host.configure();
    host.give_to_signer();
    let mut signer = host.start("signer", "passportd-hsm");
    let link = host.path("/run/passportd-signer/signer.sock");
    eventually("the signer's socket", PATIENCE, || link.exists().then_some(()));
    let mut front = host.start("front", "passportd");
    let up = || host.status().filter(|status| status["signer"]["token"].is_string());
    let status = eventually("the front has the signer", PATIENCE, up);
    assert_eq!(status["sandbox"]["uid"], host.ids("passportd").0);
    // The signer's to the front's group, though the signer is not in it.
    let socket = fs::metadata(&link).unwrap();
    let expected = (host.ids("passportd-hsm").0, host.ids("passportd").1, 0o660);
    assert_eq!((socket.uid(), socket.gid(), socket.mode() & 0o7777), expected);
    assert_eq!((front.end(), signer.end()), (Some(0), Some(0)));
}
