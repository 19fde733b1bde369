//! The unit files: that systemd understands them, that they fit the daemon and each other, and how exposed they leave it.
#![cfg(test)]

#[path = "units/files.rs"]
mod files;
#[path = "units/own_users.rs"]
mod own_users;
#[expect(dead_code, unused_imports, reason = "shared by several tests")]
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use passportd::boot::EXIT_CONFIG;
use passportd::config::{Config, DEFAULT_FILE, Sources};

use files::{UNITS, Unit, folder, sysusers, tmpfiles};

/// What `systemd-analyze security --offline=true` of systemd 252 says, in tenths: as measured, so that it can only fall.
const EXPOSURE: [(&str, u32); 3] =
    [("passportd.service", 5), ("passportd-signer.service", 5), ("passportd-ceremony@.service", 5)];

/// What an operator or a package puts there; everything else that a unit names must come from `tmpfiles.d`.
const PROVIDED: [&str; 9] = [
    DEFAULT_FILE,
    "/etc/passportd/hsm-pin",
    "/etc/passportd/softhsm2.conf",
    "/usr/bin/passportd",
    "/usr/bin/passportctl",
    "/usr/lib",
    "/lib",
    "/lib64",
    "/",
];

/// What the command line's parser ends with where it does not understand the arguments.
const EXIT_USAGE: i32 = 2;

/// Most connections that [server] max_connections can be set to, and what the front wants beside them.
const MOST_FILES: u64 = 16_384 + 96;

fn analyze(arguments: &[&str]) -> Option<Output> {
    match Command::new("systemd-analyze").args(arguments).env("SYSTEMD_COLORS", "0").output() {
        Ok(output) => Some(output),
        Err(error) => {
            support::softhsm::skipped::skipped(&format!(
                "systemd-analyze does not run ({error}); it is in the package systemd"
            ));
            None
        }
    }
}

/// A root directory with the units and with programs where they look for them, one unit changed.
fn root(changed: &str, from: &str, to: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let (units, programs) = (root.path().join("etc/systemd/system"), root.path().join("usr/bin"));
    fs::create_dir_all(&units).unwrap();
    fs::create_dir_all(&programs).unwrap();
    for unit in UNITS {
        let text = fs::read_to_string(folder().join(unit)).unwrap();
        let text = if unit == changed { text.replacen(from, to, 1) } else { text };
        fs::write(units.join(unit), text).unwrap();
    }
    for program in ["passportd", "passportctl"] {
        fs::write(programs.join(program), "#!/bin/sh\n").unwrap();
        fs::set_permissions(programs.join(program), fs::Permissions::from_mode(0o755)).unwrap();
    }
    root
}

/// Whether systemd finds nothing to say about the units in a root directory; what it says.
fn verified(root: &Path) -> Option<(bool, String)> {
    let root_argument = format!("--root={}", root.display());
    let paths = UNITS.map(|unit| root.join("etc/systemd/system").join(unit).to_str().unwrap().to_owned());
    let mut arguments = vec!["verify", "--man=no", "--recursive-errors=no", &root_argument];
    arguments.extend(paths.iter().map(String::as_str));
    let output = analyze(&arguments)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // An assignment that systemd does not know is only a warning to it.
    Some((output.status.success() && said.is_empty(), said))
}

#[test]
fn systemd_has_nothing_to_say_about_the_units() {
    let Some((good, said)) = verified(root("", "", "").path()) else { return };
    assert!(good, "{said}");
    for (unit, from, to) in [
        ("passportd.service", "ProtectHome=", "ProtectHouse="),
        ("passportd.service", "/usr/bin/passportd front", "/usr/bin/passporta front"),
        ("passportd-signer.service", "WatchdogSec=10s", "WatchdogSec=soon"),
        ("passportd-ceremony.socket", "ListenStream=", "# "),
    ] {
        let (good, said) = verified(root(unit, from, to).path()).unwrap();
        assert!(!good && !said.is_empty(), "{unit} with {to:?} passes");
    }
}

#[test]
fn systemd_has_nothing_to_say_about_the_drop_ins_for_other_hsms() {
    for (name, from, to) in [
        ("hsm-device.conf", "DeviceAllow=/dev/hsm0 rw", "DeviceAllow=hsm0 of mine"),
        ("hsm-network.conf", "IPAddressAllow=192", "IPAddressAllow=hsm-192"),
    ] {
        let text = fs::read_to_string(folder().join("drop-ins").join(name)).unwrap();
        assert!(text.contains(from), "{name}");
        let remark =
            |line: &str| line.strip_prefix('#').filter(|rest| rest.starts_with(char::is_uppercase)).map(str::to_owned);
        let all: Vec<_> = text.lines().map(|line| remark(line).unwrap_or_else(|| line.to_owned())).collect();
        // As shipped, with everything that is offered in a remark, and with a mistake.
        for (text, good) in [(text.clone(), true), (all.join("\n"), true), (text.replace(from, to), false)] {
            let root = root("", "", "");
            for unit in ["passportd-signer.service", "passportd-ceremony@.service"] {
                let folder = root.path().join(format!("etc/systemd/system/{unit}.d"));
                fs::create_dir(&folder).unwrap();
                fs::write(folder.join("hsm.conf"), &text).unwrap();
            }
            let Some((found, said)) = verified(root.path()) else { return };
            assert_eq!(found, good, "{name}: {said}\n{text}");
        }
    }
}

#[test]
fn systemd_has_nothing_to_say_about_the_drop_ins_for_control_groups_and_amnesia() {
    let front = &["passportd.service"][..];
    let both = &["passportd.service", "passportd-signer.service"][..];
    for (name, units, from, to, good) in [
        ("cgroups.conf", front, "", "", true),
        ("cgroups.conf", front, "=default", "=defaults", false),
        ("amnesia.conf", both, "", "", true),
        ("amnesia.conf", both, "LimitFSIZE=0", "LimitFSIZE=none of it", false),
        ("amnesia.conf", both, "MemorySwapMax=0", "MemorySwapMax=no", false),
    ] {
        let text = fs::read_to_string(folder().join("drop-ins").join(name)).unwrap();
        assert!(text.contains(from), "{name}");
        let text = text.replace(from, to);
        let root = root("", "", "");
        for unit in units {
            let folder = root.path().join(format!("etc/systemd/system/{unit}.d"));
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join(name), &text).unwrap();
        }
        let Some((found, said)) = verified(root.path()) else { return };
        assert_eq!(found, good, "{said}\n{text}");
    }
}

#[test]
fn the_exposure_only_falls() {
    for (unit, most) in EXPOSURE {
        let path = folder().join(unit);
        let threshold = format!("--threshold={most}");
        let arguments = ["security", "--offline=true", "--no-pager", &threshold, path.to_str().unwrap()];
        let Some(output) = analyze(&arguments) else { return };
        let said = String::from_utf8_lossy(&output.stdout);
        let line = said.lines().find(|line| line.contains("Overall exposure level")).unwrap_or(&said);
        println!("{line} (at most {}.{})", most / 10, most % 10);
        assert!(output.status.success() && line.contains("exposure"), "{said}");
    }
}

#[test]
fn every_user_group_and_path_of_a_unit_exists() {
    let ((users, groups), directories) = (sysusers(), tmpfiles());
    for (path, directory) in &directories {
        assert!(users.contains(&directory.user) && groups.contains(&directory.group), "{}", path.display());
    }
    for unit in UNITS.map(Unit::read) {
        let user = unit.words("User").chain(unit.words("SocketUser").filter(|user| *user != "root"));
        user.for_each(|user| assert!(users.contains(user), "{}: {user}", unit.name));
        let group = unit.words("Group").chain(unit.words("SupplementaryGroups"));
        let group = group.chain(unit.words("SocketGroup").filter(|group| *group != "root"));
        group.for_each(|group| assert!(groups.contains(group), "{}: {group}", unit.name));
        let names = ["ReadWritePaths", "InaccessiblePaths", "NoExecPaths", "ExecPaths", "ExecStart", "ExecReload"];
        let named = names.iter().flat_map(|key| unit.words(key)).map(str::to_owned);
        let credentials = unit.words("LoadCredential").filter_map(|word| Some(word.split_once(':')?.1.to_owned()));
        let variables = unit.words("Environment").filter_map(|word| Some(word.split_once('=')?.1.to_owned()));
        let sockets = unit.words("ListenStream").map(|path| parent(path).to_str().unwrap().to_owned());
        for path in named.chain(credentials).chain(variables).chain(sockets) {
            let path = path.trim_start_matches('-');
            // Names of roles and options are no paths, and sockets are made by those who listen.
            if !path.starts_with('/') || path.ends_with(".sock") {
                continue;
            }
            let known = directories.contains_key(Path::new(path)) || PROVIDED.contains(&path);
            assert!(known, "{}: nobody makes {path}", unit.name);
        }
    }
}

fn parent(path: impl AsRef<Path>) -> PathBuf {
    path.as_ref().parent().unwrap().to_owned()
}

/// The shipped configuration, from a copy with the mode that it must have.
fn shipped() -> Config {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("passportd.toml");
    fs::copy(folder().join("passportd.toml"), &file).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let loaded = Config::load(&Sources::new(Some(file), [])).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    Config::clone(&loaded.config)
}

#[test]
fn the_shipped_configuration_fits_the_units() {
    let (config, directories) = (shipped(), tmpfiles());
    let [_, front, signer, socket, ceremony, ..] = UNITS.map(Unit::read);
    let (server, hsm) = (&config.server, &config.hsm);
    let user = |unit: &Unit| Some(unit.one("User").to_owned());
    assert_eq!((&server.user, &server.hsm_user), (&user(&front), &user(&signer)));
    assert_eq!(user(&ceremony), server.hsm_user);
    for group in [&server.socket_group, &server.admin_socket_group] {
        let group = group.as_deref().unwrap();
        assert!(
            front.words("SupplementaryGroups").any(|known| known == group),
            "the front can't give a socket to {group}"
        );
    }
    // Whoever writes has the right to, by unit and by owner.
    let state = parent(&config.state.path);
    let audit = parent(&config.audit.dir);
    let writes = [
        (&front, "passportd", vec![parent(&server.socket), parent(&server.admin_socket), state, audit]),
        (&signer, "passportd-hsm", vec![parent(&hsm.socket)]),
        (&ceremony, "passportd-hsm", vec![hsm.state_dir.clone(), parent(hsm.store.as_ref().unwrap())]),
    ];
    for (unit, user, paths) in writes {
        for path in paths {
            assert!(
                unit.words("ReadWritePaths").any(|open| Path::new(open) == path),
                "{}: {}",
                unit.name,
                path.display()
            );
            assert_eq!(directories[&path].user, user, "{}", path.display());
        }
    }
    // The signer gives its socket to the front's group by the directory, and nobody else gets through it.
    let link = &directories[&parent(&hsm.socket)];
    assert_eq!((link.mode, link.group.as_str()), (0o2750, server.user.as_deref().unwrap()));
    assert_eq!(Path::new(socket.one("ListenStream")), hsm.ceremony_socket);
    let variable = format!("SOFTHSM2_CONF={}", hsm.module_config.as_ref().unwrap().display());
    assert_eq!((signer.one("Environment"), ceremony.one("Environment")), (variable.as_str(), variable.as_str()));
    assert!(hsm.pin_path().is_none() && signer.one("LoadCredential").starts_with("hsm-pin:"));
    assert!(front.seconds("TimeoutStopSec") > server.graceful_shutdown_timeout_s);
}

#[test]
fn the_sockets_are_those_of_the_configuration_and_go_to_the_front() {
    let (config, [target, front, .., main, admin, metrics]) = (shipped(), UNITS.map(Unit::read));
    let server = &config.server;
    for (unit, name, path, mode, group) in [
        (&main, "main", &server.socket, server.socket_mode, &server.socket_group),
        (&admin, "admin", &server.admin_socket, server.admin_socket_mode, &server.admin_socket_group),
    ] {
        assert_eq!((unit.one("FileDescriptorName"), unit.one("SocketUser")), (name, "root"));
        assert_eq!(
            (Path::new(unit.one("ListenStream")), unit.one("SocketGroup")),
            (&**path, group.as_deref().unwrap())
        );
        assert_eq!(u32::from_str_radix(unit.one("SocketMode"), 8).unwrap(), mode, "{name}");
        assert!(front.words("Requires").any(|one| one == unit.name), "{name}");
    }
    assert_eq!(metrics.one("FileDescriptorName"), "metrics");
    assert_eq!(metrics.one("ListenStream").parse().ok(), server.metrics_addr);
    assert_eq!((metrics.one("IPAddressDeny"), metrics.one("IPAddressAllow")), ("any", "localhost"));
    for unit in [&main, &admin, &metrics] {
        assert_eq!(unit.one("PartOf"), target.name, "a client must not start again what an operator stopped");
        // A socket's service is that of its own name, unless it says another.
        assert!(unit.name == "passportd.socket" || unit.one("Service") == front.name);
        assert!(unit.seconds("TriggerLimitIntervalSec") > 2, "{}: starts that fail would go on for ever", unit.name);
        for key in ["Sockets", "After"] {
            assert!(front.words(key).any(|one| one == unit.name), "{}: {key}", unit.name);
        }
        assert!(target.words("Wants").any(|one| one == unit.name), "{}", unit.name);
    }
    // So the front itself needs no network.
    assert_eq!((front.one("RestrictAddressFamilies"), front.one("PrivateNetwork")), ("AF_UNIX", "yes"));
}

#[test]
fn the_units_know_the_daemon_and_its_traps() {
    let [_, front, signer, _, ceremony, ..] = UNITS.map(Unit::read);
    for unit in [&front, &signer] {
        assert_eq!(unit.one("RestartPreventExitStatus"), format!("{EXIT_CONFIG} {EXIT_USAGE}"));
        assert_eq!((unit.one("Type"), unit.one("Restart")), ("notify", "always"));
        assert_eq!(unit.one("NotifyAccess"), "main", "a PIN prompt or passportctl says nothing in their names");
    }
    // Longer than anything that may take its time: a call into the module, a commit that is tried again.
    assert!(signer.seconds("WatchdogSec") > 2 * Config::default().hsm.op_timeout_ms / 1000 - 1);
    assert!(front.seconds("WatchdogSec") > 10);
    let hard: u64 = front.one("LimitNOFILE").split_once(':').unwrap().1.parse().unwrap();
    assert!(hard >= MOST_FILES, "{hard}");
    for unit in [&front, &signer, &ceremony] {
        // Every peer would look like uid 65534, and state would belong to nobody that an auditor knows (DESIGN §13).
        for key in ["PrivateUsers", "DynamicUser"] {
            assert_eq!(unit.all(key).count(), 0, "{}: {key}", unit.name);
        }
        assert_eq!((unit.one("CapabilityBoundingSet"), unit.one("NoNewPrivileges")), ("", "yes"), "{}", unit.name);
    }
    assert_eq!(front.all("ProcSubset").count(), 0, "the front reads /proc/sys/kernel/overflowuid");
    assert_eq!(
        front.all("LoadCredential").count() + ceremony.all("LoadCredential").count(),
        0,
        "the signer has the PIN"
    );
}

/// The seconds of a constant in the sources.
fn seconds_of(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let begin = format!("const {name}: Duration = Duration::from_secs(");
    let (_, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{file}: {name}"));
    rest.split(')').next().unwrap().parse().unwrap()
}

/// Each waits longer than whom it asks: else a reload is reported as failed, and takes effect afterwards.
#[test]
fn a_reload_is_waited_for_from_the_unit_to_the_daemon() {
    let reload = |name| seconds_of("src/lifecycle/reload.rs", name);
    let daemon = reload("TURN") + reload("PATIENCE") + passportd::log::Pace::default().patience.as_secs();
    let tool = seconds_of("src/cli/args/mod.rs", "RELOAD");
    let front = Unit::read("passportd.service");
    assert!(!front.one("ExecReload").contains("--timeout"), "the tool's own is long enough");
    // systemd.service(5): TimeoutStartSec= bounds ExecReload=, too.
    assert!(daemon < tool && tool < front.seconds("TimeoutStartSec"), "{daemon} {tool}");
}

#[test]
fn the_programs_take_the_arguments_of_the_units() {
    let programs = [
        ("/usr/bin/passportd", env!("CARGO_BIN_EXE_passportd")),
        ("/usr/bin/passportctl", env!("CARGO_BIN_EXE_passportctl")),
    ];
    let mut lines = 0;
    for unit in UNITS.map(Unit::read) {
        for line in unit.all("ExecStart").chain(unit.all("ExecReload")) {
            lines += 1;
            let words: Vec<_> = line.split_whitespace().collect();
            let program = programs.iter().find(|(path, _)| *path == words[0]).unwrap().1;
            // Help comes at the end: what stands before it must have been understood.
            let help =
                |words: &[&str]| Command::new(program).args(words).arg("--help").output().unwrap().status.success();
            assert!(help(&words[1..]), "{line}");
            assert!(!help(&[&words[1..], &["--unheard-of"]].concat()), "any argument passes");
            let wrong = Command::new(program).args(&words[1..]).arg("--unheard-of").output().unwrap();
            assert_eq!(wrong.status.code(), Some(EXIT_USAGE), "{line}: it is not to be started again");
            if let Some(at) = words.iter().position(|word| *word == "--config") {
                assert_eq!(words[at + 1], DEFAULT_FILE, "passportctl looks there");
            }
        }
    }
    assert_eq!(lines, 4);
}
