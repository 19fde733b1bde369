//! A table of mistakes, and what is asked of the answer to each.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::tool::{run, tool};
use super::workshop::Workshop;

/// `EX_CONFIG`: starting again does not help.
pub(crate) const CONFIG: i32 = 78;
/// It may pass by itself.
pub(crate) const OTHER: i32 = 1;

/// Who starts the role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// The tester; as root, who gives the role to its user.
    Tester,
    /// The tester, who must be root for this mistake.
    Root,
    /// The front's user, as systemd would. Only root can test it.
    Front,
    /// The signer's user, likewise.
    Signer,
}

/// One way to set it up wrong.
pub(crate) struct Mistake {
    /// What the operator did.
    pub(crate) what: &'static str,
    pub(crate) role: &'static str,
    pub(crate) by: By,
    pub(crate) spoil: fn(&Workshop),
    pub(crate) code: i32,
    /// The check by which the doctor finds it; none for what is in [`UNSEEN`].
    pub(crate) finds: &'static str,
    /// All of these must be in the message: what, where, and what to do.
    pub(crate) says: &'static [&'static str],
}

/// What `passportctl doctor` does not find, and why.
const UNSEEN: [(&str, &str); 3] = [
    (
        "no token of that label: it may be an HSM that is not up yet",
        "what is in the module is for passportctl hsm doctor",
    ),
    ("a wrong PIN; that it is not tried again is tests/start/pin.rs's", "only the HSM knows its PIN, and it counts"),
    ("a socket where the front's user may not write", "root, who starts the roles without systemd, may write there"),
];

/// What the doctor finds: names and remedies of checks that fail or warn.
fn findings(shop: &Workshop) -> BTreeSet<(String, String)> {
    let mut command = tool(&["doctor", "--output", "json", "--timeout", "2", "--config"]);
    let ran = run(command.arg(shop.path("passportd.toml")), "");
    let report = ran.json();
    let bad = report["checks"].as_array().unwrap().iter().filter(|check| {
        let bad = check["status"] == "fail" || check["status"] == "warn";
        assert!(!bad || check["remedy"] != "", "a finding without a remedy: {check}");
        bad
    });
    let text = |check: &Value, member: &str| check[member].as_str().unwrap().to_owned();
    bad.map(|check| (text(check, "name"), text(check, "remedy"))).collect()
}

/// Makes each mistake, starts the role, looks at its last words and its exit code, and that it left every file as it was.
/// And calls the doctor, who must find it by the check that is named, where nothing was found before.
pub(crate) fn check(table: &[Mistake]) {
    let shop = Workshop::new();
    // Putting files back leaves out the sockets of the dead, which is a finding, too.
    shop.with(|_| {}, |_| {});
    let usual = findings(&shop);
    let mut wrong = Vec::new();
    for mistake in table {
        if mistake.by != By::Tester && shop.front().is_none() {
            super::support::skipped(&format!("{}: it takes root, and two unprivileged users", mistake.what));
            continue;
        }
        shop.with(mistake.spoil, |shop| {
            let before = shop.files();
            let found = findings(shop);
            let ended = match mistake.by {
                By::Tester | By::Root => shop.start(mistake.role, &[]),
                By::Front => shop.start_as(shop.front(), mistake.role),
                By::Signer => shop.start_as(shop.signer(), mistake.role),
            };
            let after = shop.files();
            let changed: Vec<_> = before.iter().filter(|(path, file)| after.get(*path) != Some(file)).collect();
            let changed: Vec<_> = changed.into_iter().map(|(path, _)| path).collect();
            let code = ended.status.and_then(|status| status.code());
            let unseen = UNSEEN.iter().any(|(what, _)| *what == mistake.what);
            let new: BTreeSet<_> = found.difference(&usual).map(|(name, _)| name.as_str()).collect();
            let as_named =
                if unseen { mistake.finds.is_empty() && new.is_empty() } else { new.contains(mistake.finds) };
            if !as_named {
                wrong.push(format!("{}: the doctor should find {:?}, finds {new:?}", mistake.what, mistake.finds));
            }
            let missing: Vec<_> = mistake.says.iter().filter(|says| !ended.said.contains(**says)).collect();
            if code != Some(mistake.code) || !missing.is_empty() || !changed.is_empty() {
                wrong.push(format!(
                    "{}: code {code:?}, not said: {missing:?}, changed: {changed:?}, said:\n{}",
                    mistake.what, ended.said
                ));
            }
            if std::env::var_os("PASSPORTD_SHOW").is_some() {
                eprintln!("{} [{}]\n{}", mistake.what, mistake.code, ended.said);
            }
        });
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

pub(crate) fn put(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

pub(crate) fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

/// Changes one setting; an empty text removes it.
pub(crate) fn set(shop: &Workshop, key: &str, value: impl Into<toml::Value>) {
    shop.set(&[(key, value.into())]);
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Gives a file to somebody.
pub(crate) fn give(path: &Path, uid: u32) {
    std::os::unix::fs::chown(path, Some(uid), None).unwrap();
}
