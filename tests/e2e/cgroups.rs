//! Rules by control group: of a process that really is in one, and of the same process before and after.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use passportd::wire::{AdminOp, Identity, ServiceOk, ServiceOp};

use super::support::raw::Raw;
use super::support::{House, Options, eventually, root_or_skip, skipped};

/// What the log says where such rules match nobody.
const UNKNOWN: &str = "rules by cgroup match nobody";

/// A control group as a service's, of this test alone; removed at the end, when nobody is in it any more.
struct Unit {
    mount: PathBuf,
    name: String,
    /// Where this process was.
    home: PathBuf,
    made_slice: bool,
}

impl Unit {
    fn make(test: &str) -> Option<Self> {
        if !root_or_skip(test) {
            return None;
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        // proc(5): the fifth field is the mount point; the type follows a hyphen.
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
        let Some(mount) = mount.map(PathBuf::from) else {
            skipped(&format!("{test}: no cgroup2 file system: control groups can't be made"));
            return None;
        };
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
        let (home, slice) = (mount.join(own), mount.join("system.slice"));
        let made_slice = fs::create_dir(&slice).is_ok();
        let name = format!("system.slice/passportd-test-{}.service", std::process::id());
        if let Err(error) = fs::create_dir(mount.join(&name)) {
            skipped(&format!("{test}: {error}: control groups can't be made"));
            return None;
        }
        Some(Self { mount, name, home, made_slice })
    }

    fn dir(&self) -> PathBuf {
        self.mount.join(&self.name)
    }

    fn enter(&self) {
        put(&self.dir());
    }

    fn leave(&self) {
        put(&self.home);
    }

    fn rule(&self) -> String {
        let uid = nix::unistd::geteuid();
        format!("[[peer]]\nname = \"unit\"\nuid = {uid}\ncgroup = \"/{}\"\nallow = [\"health\"]\n", self.name)
    }
}

/// Moves this process, all of its threads.
fn put(dir: &Path) {
    fs::write(dir.join("cgroup.procs"), std::process::id().to_string()).unwrap();
}

impl Drop for Unit {
    fn drop(&mut self) {
        put(&self.home);
        drop(fs::remove_dir(self.dir()));
        if self.made_slice {
            drop(fs::remove_dir(self.mount.join("system.slice")));
        }
    }
}

fn has_rule(raw: &mut Raw) -> bool {
    match raw.ask(ServiceOp::WhoAmI).unwrap() {
        ServiceOk::WhoAmI(Identity { rules, .. }) => rules.contains(&"unit".to_owned()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_rule_by_control_group_means_who_was_in_it_when_it_connected() {
    let Some(unit) = Unit::make("a_rule_by_control_group_means_who_was_in_it_when_it_connected") else { return };
    let mut house = House::start(Options::default());
    house.write_policy("20-unit.toml", &unit.rule());
    assert!(house.stop().success());
    house.boot();
    house.wait_ready();
    if house.log().contains(UNKNOWN) {
        return skipped("rules by control group: of peers of this kernel, control groups can't be told");
    }
    let mut outside = house.raw();
    assert!(!has_rule(&mut outside));
    unit.enter();
    let mut inside = house.raw();
    assert!(has_rule(&mut inside));
    assert!(!has_rule(&mut outside), "it connected before");
    assert!(!has_rule(&mut house.raw_as(41_002, 41_002, &[])), "another user in the same unit");
    unit.leave();
    assert!(has_rule(&mut inside), "it was in it when it connected");
    assert!(!has_rule(&mut house.raw()));
}

/// Where Landlock keeps the front from the processes of others, since nobody asked for them when it started.
#[test]
fn the_first_rule_by_control_group_works_or_says_why_it_does_not() {
    if !root_or_skip("the_first_rule_by_control_group_works_or_says_why_it_does_not") {
        return;
    }
    // Nobody has to be in it: what is told is told before anybody comes.
    let uid = nix::unistd::geteuid();
    let rule = format!(
        "[[peer]]\nname = \"unit\"\nuid = {uid}\ncgroup = \"/system.slice/no.service\"\nallow = [\"health\"]\n"
    );
    let house = House::start(Options::default());
    house.write_policy("20-unit.toml", &rule);
    house.admin_raw().admin(AdminOp::Reload).unwrap();
    assert!(!has_rule(&mut house.raw()));
    if house.log().contains("Landlock is not enforced") {
        return skipped("a first rule by control group: no Landlock");
    }
    let told = || house.log().contains(UNKNOWN).then_some(());
    eventually("the log says that the rule matches nobody", Duration::from_secs(10), told);
}
