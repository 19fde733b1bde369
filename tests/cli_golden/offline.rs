//! The cases of what needs no daemon: policy and configuration.

use std::os::unix::fs::PermissionsExt;

use crate::fake::Fake;
use crate::page::{Page, between};

pub(crate) fn all() -> Vec<Page> {
    vec![
        policy_check(),
        policy_explain(),
        config_check(),
        config_print(),
        doctor(),
        state_check(),
        state_export(),
        state_import(),
        state_restore(),
        clock_reset(),
    ]
}

pub(crate) fn write(fake: &Fake, name: &str, text: &str) -> String {
    let path = fake.path(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// One blank for several: columns are as wide as what is in them.
pub(crate) fn blanks(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What the doctor says of this machine, and of the files and process of the fake.
const HOST: [&str; 8] =
    ["landlock", "pidfd", "systemd", "program", "descriptors", "socket", "admin socket", "accounts"];

fn without_host(text: &str) -> String {
    let line = |line: &str| {
        if let Ok(mut document) = serde_json::from_str::<serde_json::Value>(line) {
            let checks = document["checks"].as_array_mut()?;
            checks.retain(|check| !HOST.iter().any(|name| check["name"] == *name));
            return Some(document.to_string());
        }
        let of_host = HOST.iter().any(|name| line.get(5..).is_some_and(|rest| rest.starts_with(name)));
        (!of_host && !line.contains(" checks: failed ")).then(|| line.to_owned())
    };
    text.split('\n').filter_map(line).collect::<Vec<_>>().join("\n")
}

/// The first half of a hash, which is over paths, too.
fn hashes(text: &str) -> String {
    let is_hash = |word: &str| word.len() == 16 && word.chars().all(|c| c.is_ascii_hexdigit());
    let words = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()).map(|word| {
        let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        if is_hash(bare) { word.replacen(bare, "HASH", 1) } else { word.to_owned() }
    });
    words.collect()
}

fn doctor() -> Page {
    let fake = Fake::frozen();
    // Whom a directory should belong to is whoever runs the test.
    let mut page = Page::new("doctor").scrubbed(|text| between(&hashes(&without_host(&text)), "chown ", " ", "UID"));
    page.both(&fake, &["--config", fake.path("none.toml").to_str().unwrap()], "");
    page.both(&fake, &["--config", &whole(&fake)], "");
    page.misused(&fake)
}

/// A configuration with all that it names in the fake's own directory. Most of it is not there.
fn whole(fake: &Fake) -> String {
    let at = |name: &str| fake.path(name).to_str().unwrap().to_owned();
    write(fake, "policy/10-web.toml", POLICY);
    let bounds = write(fake, "signer.toml", "[[tenant]]\nname = \"t1\"\npurposes = [\"auth\"]\nmax_ttl_s = 30\n");
    let text = format!(
        "[server]\nsocket = \"{}\"\nadmin_socket = \"{}\"\nmetrics_addr = \"{}\"\n[passport]\nissuer = \"x\"\n[policy]\n\
         dir = \"{}\"\n[state]\npath = \"{}\"\n[audit]\ndir = \"{}\"\n[hsm]\nuri = \"pkcs11:token=t\"\nmodule = \
         \"/bin/true\"\nbounds = \"{bounds}\"\nstate_dir = \"{}\"\nsocket = \"{}\"\nceremony_socket = \"{}\"\npin_file = \
         \"{}\"\nmodule_config = \"{}\"\n",
        at("s.sock"),
        at("a.sock"),
        fake.metrics,
        at("policy"),
        at("state/state.redb"),
        at("ledger"),
        at("keys"),
        at("none/signer.sock"),
        at("c.sock"),
        at("pin"),
        at("softhsm2.conf"),
    );
    write(fake, "whole.toml", &text)
}

const POLICY: &str = r#"
[[peer]]
name = "web"
uid = 33
allow = ["issue"]
templates = ["demo"]

[[template]]
name = "demo"
tenant = "t1"
purpose = "auth"
subjects = ["*"]
audiences = ["demo"]
scopes = []
max_ttl_s = 60
"#;

fn policy_check() -> Page {
    let fake = Fake::frozen();
    let good = write(&fake, "policy/10-web.toml", POLICY);
    let broken = write(&fake, "broken.toml", "[[peer]]\nname = 3\n");
    let empty = write(&fake, "empty.toml", "");
    // The hash is over the names, too, and the files are in another place each time.
    let hash = |text: String| between(&between(&text, ", hash ", "\n", "HASH"), "\"hash\":\"", "\"", "HASH");
    let mut page = Page::new("policy check").scrubbed(hash);
    page.both(&fake, &[&good], "");
    page.both(&fake, &[fake.path("policy").to_str().unwrap()], "");
    page.both(&fake, &[&broken], "");
    page.case(&fake, &[&empty], "");
    page.misused(&fake)
}

fn policy_explain() -> Page {
    let fake = Fake::frozen();
    write(&fake, "policy/10-web.toml", POLICY);
    let dir = fake.path("policy").to_str().unwrap().to_owned();
    let mut page = Page::new("policy explain");
    let ask = ["--op", "issue", "--template", "demo", "--dir", &dir];
    page.both(&fake, &[&["--uid", "33", "--gid", "33", "--groups", "33,44"], &ask[..]].concat(), "");
    // No user of any host.
    page.both(&fake, &[&["--uid", "4200000034"], &ask[..]].concat(), "");
    page.case(&fake, &["--uid", "33", "--op", "fly", "--dir", &dir], "");
    page.misused(&fake)
}

pub(crate) fn configuration(fake: &Fake) -> String {
    let text = "[passport]\nissuer = \"x\"\n[hsm]\nuri = \"pkcs11:token=t\"\nmodule = \"/usr/lib/x.so\"\n";
    write(fake, "p.toml", text)
}

/// Two settings that are allowed, and worth a look.
const ODD: &str = "[server]\nmetrics_addr = \"0.0.0.0:9909\"\n[security]\nrequire_aud = false\n";

fn config_check() -> Page {
    let fake = Fake::frozen();
    let good = configuration(&fake);
    let odd = write(&fake, "odd.toml", &(ODD.to_owned() + &std::fs::read_to_string(&good).unwrap()));
    let bad = write(&fake, "bad.toml", "[limits]\nmax_batsh = 3\n[passport]\nissuer = 7\n");
    let hash = |text: String| between(&between(&text, "is good; hash ", "\n", "HASH"), "\"hash\":\"", "\"", "HASH");
    let mut page = Page::new("config check").scrubbed(hash);
    page.both(&fake, &["--config", &good], "");
    page.both(&fake, &["--config", &odd], "");
    page.both(&fake, &["--config", &bad], "");
    page.case(&fake, &["--config", fake.path("none.toml").to_str().unwrap()], "");
    page.misused(&fake)
}

fn config_print() -> Page {
    let fake = Fake::frozen();
    let good = configuration(&fake);
    // Every setting is in the README's table; here, its form.
    let mut page = Page::new("config print").scrubbed(|text| {
        let shown = |row: &str| row.contains("passport.issuer") || row.contains("limits.max_batch ");
        let lines = text.lines().filter_map(|line| match line.strip_prefix("[{") {
            Some(rows) => {
                rows.split("},{").find(|row| row.contains("passport.issuer")).map(|row| format!("[{{{row}}},…]"))
            }
            None if line.starts_with("KEY ") || shown(line) => Some(blanks(line)),
            None if line.contains("  default") || line.contains("  /run/fake/p.toml:") => None,
            None => Some(line.to_owned()),
        });
        lines.collect::<Vec<String>>().join("\n") + "\n"
    });
    page.both(&fake, &["--config", &good], "");
    page.case(&fake, &["--config", fake.path("none.toml").to_str().unwrap()], "");
    page.misused(&fake)
}

/// A place for a state, and a state of another place.
fn states(fake: &Fake) -> (String, String) {
    use passportd::clock::Moment;
    use passportd::state::{Mode, Store};
    let config = whole(fake);
    for name in ["state", "backup"] {
        let dir = fake.path(name);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o700)).unwrap();
        Store::open(&dir.join("state.redb"), Mode::CreateIfMissing, Moment::from_unix(1_700_000_000)).unwrap().close();
    }
    (config, fake.path("backup/state.redb").to_str().unwrap().to_owned())
}

fn state_check() -> Page {
    let fake = Fake::frozen();
    let (config, _) = states(&fake);
    let mut page = Page::new("state check");
    page.both(&fake, &["--config", &config], "");
    page.both(&fake, &[&write(&fake, "bad.redb", "no state")], "");
    page.misused(&fake)
}

fn state_export() -> Page {
    let fake = Fake::frozen();
    let (config, backup) = states(&fake);
    let out = fake.path("out.jsonl").to_str().unwrap().to_owned();
    let mut page = Page::new("state export");
    let json = out.replace("out", "other");
    page.both(&fake, &["--config", &config, "--out", "-"], "");
    page.case(&fake, &["--from", &backup, "--out", &out], "");
    page.case(&fake, &["--from", &backup, "--out", &json, "--output", "json"], "");
    page.both(&fake, &["--from", &backup, "--out", &out], "");
    page.misused(&fake)
}

fn state_import() -> Page {
    let fake = Fake::frozen();
    let (_, backup) = states(&fake);
    let mut text = Vec::new();
    passportd::state::export(std::path::Path::new(&backup), &mut text).unwrap();
    let good = write(&fake, "good.jsonl", std::str::from_utf8(&text).unwrap());
    let new = fake.path("backup/new.redb").to_str().unwrap().to_owned();
    let mut page = Page::new("state import");
    page.case(&fake, &["--in", &good, "--to", &new], "");
    page.case(&fake, &["--in", &good, "--to", &new.replace("new", "json"), "--output", "json"], "");
    page.both(&fake, &["--in", &good, "--to", &new], "");
    page.both(&fake, &["--in", "-", "--to", &new.replace("new", "other")], "not a line of a state\n");
    page.misused(&fake)
}

fn state_restore() -> Page {
    let fake = Fake::frozen();
    let (config, backup) = states(&fake);
    let mut page = Page::new("state restore")
        .scrubbed(|text| between(&between(&text, ".replaced-", "; ", "TIME"), ".replaced-", "\"", "TIME"));
    let base = ["--config", &config, "--from", &backup];
    page.both(&fake, &[&base[..], &["--dry-run"]].concat(), "");
    page.both(&fake, &base, "");
    page.both(&fake, &[&base[..], &["--yes"]].concat(), "");
    page.misused(&fake)
}

/// Every time and every distance of one.
fn times(text: &str) -> String {
    let long = |word: &&str| word.len() >= 8 && word.bytes().all(|byte| byte.is_ascii_digit());
    let words: Vec<_> = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(long).collect();
    words.iter().fold(text.to_owned(), |text, word| text.replacen(word, "TIME", 1))
}

fn clock_reset() -> Page {
    let fake = Fake::frozen();
    let (config, _) = states(&fake);
    let mut page = Page::new("ceremony clock-reset").scrubbed(|text| times(&text));
    page.both(&fake, &["--config", &config, "--dry-run"], "");
    page.both(&fake, &["--config", &config, "--yes"], "");
    page.misused(&fake)
}
