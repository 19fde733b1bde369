//! What loading refuses, and where it says the fault is.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use super::*;
use crate::policy::build::MAX_TABLES;

const TEMPLATE: &str = "[[template]]\nname = 't'\ntenant = 't1'\npurpose = 'p'\nsubjects = ['*']\nmax_ttl_s = 60\n";

/// Asserts that the text is refused at a place, with words.
fn refused(text: &str, place: &str, words: &str) {
    let message = files(&[("10-a.toml", text)]).expect_err(text).to_string();
    let start = format!("/etc/passportd/policy.d/10-a.toml:{place}: ");
    assert!(message.starts_with(&start), "{message:?} should start with {start:?}");
    assert!(message.contains(words), "{message:?} should contain {words:?}");
}

#[test]
fn a_wrong_rule_is_refused_with_its_place() {
    let rule = |lines: &str| format!("\n[[peer]]\nname = 'r'\n{lines}\n");
    for (lines, place, words) in [
        ("", "3:8", "a rule needs a condition"),
        ("allow = ['issue']", "3:8", "a rule needs a condition"),
        ("uid = 1\nallow = ['ping', 'sudo']", "5:18", "there is no operation \"sudo\""),
        ("uid = 1\nalow = ['ping']", "5:1", "unknown field `alow`"),
        ("uid = -1", "4:7", "invalid value"),
        ("uid = 4294967295", "4:7", "matches nothing"),
        ("uid = 65534", "4:7", "matches nothing"),
        ("user = 'nobody'", "4:8", "matches nothing"),
        ("groups = ['nogroup']", "4:11", "matches nothing"),
        ("gid = 65534", "4:7", "matches nothing"),
        ("user = 'bob'", "4:8", "there is no user \"bob\""),
        ("user = 'broken'", "4:8", "the server is away"),
        ("group = 'bobs'", "4:9", "there is no group \"bobs\""),
        ("groups = ['web', 'bobs']", "4:18", "there is no group \"bobs\""),
        ("groups = []", "4:10", "`groups` is empty"),
        ("listener = ''", "4:12", "1 to 64 bytes"),
        ("uid = 1\ntemplates = ['x']", "5:14", "there is no [[template]] named \"x\""),
        ("uid = 1\nrps = 0", "5:7", "at least 1"),
        ("uid = 1\nverify_as = [\"a\\nb\"]", "5:14", "control characters"),
        ("uid = 1\nseal_namespaces = [\"t1\"]", "5:20", "a namespace reads"),
        ("uid = 1\nseal_namespaces = [\"passportd/*\"]", "5:20", "its own"),
        ("uid = 1\nwatch_tenants = [\"t9\"]", "5:18", "no [[template]] is of a tenant \"t9\""),
        ("uid = 1\n[[peer]]\nname = 'r'\nuid = 2", "6:8", "the name \"r\" is taken in 10-a.toml"),
        ("uid = 'é' x", "4:11", ""),
    ] {
        refused(&rule(lines), place, words);
    }
    refused("[[peer]]\nuid = 1\n", "1:1", "missing field `name`");
    refused("[[pear]]\n", "1:3", "unknown field `pear`");
    let many = |count| format!("[[peer]]\nname = 'r'\nuid = 1\nverify_as = [{}]", vec!["'a'"; count].join(","));
    assert!(files(&[("10-a.toml", &many(256))]).is_ok());
    refused(&many(257), "4:1038", "at most 256 entries");
}

#[test]
fn a_wrong_template_is_refused_with_its_place() {
    for (old, new, place, words) in [
        ("'t1'", "'T1'", "3:10", "a tenant is"),
        ("'p'", "'p.q'", "4:11", "a purpose is"),
        ("['*']", "[]", "5:12", "can issue nothing"),
        ("['*']", "['a*b']", "5:13", "one `*`, at its end"),
        ("['*']", "['{user}*']", "5:13", "put a separator"),
        ("= 60", "= 0", "6:13", "from 1 to"),
        ("= 60", "= 31622401", "6:13", "from 1 to"),
        ("= 60", "= 60\ndefault_ttl_s = 61", "7:17", "from 1 to `max_ttl_s`"),
        ("= 60", "= 60\nscopes = ['a']\ndefault_scopes = ['b']", "8:19", "one of `scopes`"),
        ("= 60", "= 60\nforms = ['xml']", "7:10", "must be \"envelope\" or \"jws\""),
        ("= 60", "= 60\nforms = []", "7:9", "can issue nothing"),
        ("= 60", "= 60\nlimit = 1\nforms = ['envelope', 'jws']", "8:22", "`offline_risk = true`"),
        ("= 60", "= 60\nnonce = 'optional'\nforms = ['jws']", "8:10", "`offline_risk = true`"),
        ("= 60", "= 60\nproof = 'required'\noffline_risk = false\nforms = ['jws']", "9:10", "`offline_risk = true`"),
        ("= 60", "= 60\nlimit = 0", "7:9", "`limit` must be at least 1"),
        ("= 60", "= 60\nnonce = 'maybe'", "7:9", "\"none\", \"optional\" or \"required\""),
        ("= 60", "= 60\nproof = 'pop'", "7:9", "\"none\", \"optional\" or \"required\""),
        ("= 60", "= 60\nbinding = 'uid'", "7:11", "`binding` is not yet available"),
        (
            "= 60",
            "= 60\n[[template]]\nname = 't'\ntenant = 'a'\npurpose = 'b'\nsubjects = ['*']\nmax_ttl_s = 1",
            "8:8",
            "is taken",
        ),
    ] {
        assert!(TEMPLATE.contains(old));
        refused(&TEMPLATE.replacen(old, new, 1), place, words);
    }
    for good in [
        "forms = ['envelope']",
        "forms = ['jws', 'envelope']\nnonce = 'none'",
        "limit = 1\nproof = 'required'\nforms = ['jws']\noffline_risk = true",
        "limit = 1\nnonce = 'none'\nproof = 'optional'",
        "nonce = 'required'",
    ] {
        assert!(files(&[("a.toml", &TEMPLATE.replace("= 60", &format!("= 60\n{good}")))]).is_ok(), "{good}");
    }
}

#[test]
fn so_many_rules_and_as_many_templates_over_all_files_and_no_more() {
    let rules = |numbers: std::ops::Range<usize>| -> String {
        numbers.map(|n| format!("[[peer]]\nname = 'r{n}'\nuid = 1\n")).collect()
    };
    let templates = |numbers: std::ops::Range<usize>| -> String {
        numbers.map(|n| TEMPLATE.replace("name = 't'", &format!("name = 't{n}'"))).collect()
    };
    let half = MAX_TABLES / 2;
    let full = [
        ("10.toml", rules(0..half) + &templates(0..half)),
        ("20.toml", templates(half..MAX_TABLES) + &rules(half..MAX_TABLES)),
    ];
    let with = |more: &str| {
        let all: Vec<_> = full.iter().map(|(name, text)| (*name, text.as_str())).chain([("30.toml", more)]).collect();
        files(&all)
    };
    let policy = with("").unwrap();
    assert_eq!((policy.rules().count(), policy.templates().count()), (MAX_TABLES, MAX_TABLES));
    for (more, what) in
        [(rules(MAX_TABLES..MAX_TABLES + 1), "peer"), (templates(MAX_TABLES..MAX_TABLES + 1), "template")]
    {
        let refused = with(&more).unwrap_err().to_string();
        assert!(refused.contains(&format!("the number of [[{what}]] exceeds the limit of 1024")), "{refused}");
    }
}

#[test]
fn names_are_unique_over_files_and_rules_may_look_ahead() {
    let rule = "[[peer]]\nname = 'r'\nuid = 1\nallow = ['issue']\ntemplates = ['t']";
    let policy = files(&[("20-t.toml", TEMPLATE), ("10-r.toml", rule)]).unwrap();
    assert_eq!(policy.rights(&uid(1)).templates().len(), 1);
    let error = files(&[("10-r.toml", rule), ("20-t.toml", TEMPLATE), ("30-r.toml", rule)]).unwrap_err().to_string();
    assert!(error.contains("30-r.toml:2:8: the name \"r\" is taken in 10-r.toml"), "{error}");
}

#[test]
fn the_hash_is_of_names_and_bytes_in_order() {
    let hash = |list: &[(&str, &str)]| files(list).unwrap().hash();
    let base = hash(&[("a.toml", "# 1"), ("b.toml", "# 2")]);
    assert_eq!(hash(&[("b.toml", "# 2"), ("a.toml", "# 1")]), base);
    for other in [
        &[("a.toml", "# 1"), ("b.toml", "# 3")][..],
        &[("a.toml", "# 1"), ("c.toml", "# 2")],
        &[("a.toml", "# 1")],
        &[("a.toml", "# 1b.toml# 2")],
        &[],
    ] {
        assert_ne!(hash(other), base, "{other:?}");
    }
}

#[test]
fn a_directory_is_read_by_name_and_without_drafts() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("10-t.toml", TEMPLATE);
    write("20-r.toml", "[[peer]]\nname = 'r'\nuid = 1\ntemplates = ['t']");
    write(".30.toml", "broken");
    write("README", "broken");
    let policy = Policy::load(dir.path(), &Town, OVERFLOW).unwrap();
    assert_eq!((policy.rules().count(), policy.templates().count()), (1, 1));
    write("30-x.toml", "broken");
    let error = Policy::load(dir.path(), &Town, OVERFLOW).unwrap_err().to_string();
    assert!(error.contains("30-x.toml:1:7: "), "{error}");
    write("30-x.toml", "a = '\u{e9}\n");
    fs::write(dir.path().join("30-x.toml"), b"# \xc3\xa9\n# \xff").unwrap();
    let error = Policy::load(dir.path(), &Town, OVERFLOW).unwrap_err().to_string();
    assert!(error.contains("30-x.toml:2:3: the file is not UTF-8"), "{error}");
    assert!(Policy::load(&dir.path().join("none"), &Town, OVERFLOW).is_err());
}

#[test]
fn what_others_could_change_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.toml");
    let load = || Policy::load(dir.path(), &Town, OVERFLOW).map(drop).map_err(|error| error.to_string());
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    fs::write(&file, "").unwrap();
    mode(&file, 0o644);
    assert_eq!(load(), Ok(()));
    for wide in [0o664, 0o646] {
        mode(&file, wide);
        assert!(load().unwrap_err().ends_with("a.toml: group or others may write to it; mend it with chmod go-w"));
    }
    mode(&file, 0o600);
    mode(dir.path(), 0o777);
    assert!(load().unwrap_err().contains("may write to it"));
    mode(dir.path(), 0o700);
    assert_eq!(load(), Ok(()));
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&file, Some(1), None).unwrap();
        assert!(load().unwrap_err().contains("the owner must be root or the daemon's user"));
        std::os::unix::fs::chown(&file, Some(0), None).unwrap();
    }
}

#[test]
fn what_is_too_large_or_no_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let load = || Policy::load(dir.path(), &Town, OVERFLOW).map(drop).map_err(|error| error.to_string());
    let file = dir.path().join("a.toml");
    fs::write(&file, vec![b'\n'; MAX_FILE_BYTES]).unwrap();
    assert_eq!(load(), Ok(()));
    fs::write(&file, vec![b'\n'; MAX_FILE_BYTES + 1]).unwrap();
    assert!(load().unwrap_err().contains("the size in bytes exceeds the limit of 262144"));
    fs::remove_file(&file).unwrap();
    symlink("/dev/zero", &file).unwrap();
    assert!(load().unwrap_err().contains("not a regular file"));
    fs::remove_file(&file).unwrap();
    // Opening a FIFO would wait for its writer for ever.
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(load().unwrap_err().contains("not a regular file"));
    fs::remove_file(&file).unwrap();
    for number in 0..MAX_FILES {
        fs::write(dir.path().join(format!("{number}.toml")), "").unwrap();
    }
    assert_eq!(load(), Ok(()));
    fs::write(dir.path().join("more.toml"), "").unwrap();
    assert!(load().unwrap_err().contains("the number of files exceeds the limit of 256"));
}

#[test]
fn the_difference_names_what_is_new_changed_or_gone_and_nothing_else() {
    let rule = |name: &str, uid: u32| format!("[[peer]]\nname = \"{name}\"\nuid = {uid}\nallow = [\"verify\"]\n");
    let template = |name: &str, ttl: u32| {
        let head = format!("[[template]]\nname = \"{name}\"\ntenant = \"t1\"\npurpose = \"auth\"\n");
        format!("{head}subjects = [\"*\"]\nmax_ttl_s = {ttl}\n")
    };
    let old =
        policy(&[rule("web", 1), rule("ops", 2), rule("old", 3), template("demo", 60), template("gone", 60)].concat());
    let moved = files(&[
        ("00-templates.toml", &["# A comment.\n".to_owned(), template("gone", 60), template("demo", 60)].concat()),
        ("10-rules.toml", &[rule("old", 3), rule("web", 1), rule("ops", 2)].concat()),
    ]);
    let moved = moved.unwrap();
    assert_ne!(old.hash(), moved.hash());
    assert!(old.difference(&moved).is_empty(), "where a table stands is no difference: {:?}", old.difference(&moved));
    let new =
        policy(&[rule("new", 4), rule("web", 1), rule("ops", 7), template("demo", 61), template("more", 1)].concat());
    assert_eq!(
        old.difference(&new),
        [
            "rule new added",
            "rule ops changed",
            "rule old removed",
            "template demo changed",
            "template more added",
            "template gone removed"
        ]
    );
    // Each member of a rule counts: what it allows, whom it means, its shares.
    for more in [
        "rps = 1",
        "verify_as = [\"demo\"]",
        "seal_namespaces = [\"t1/*\"]",
        "watch_tenants = [\"*\"]",
        "max_connections = 2",
        "listener = \"web\"",
        "templates = [\"demo\"]",
    ] {
        let longer = policy(&format!("{}{more}\n{}", rule("web", 1), template("demo", 60)));
        let plain = policy(&[rule("web", 1), template("demo", 60)].concat());
        assert_eq!(plain.difference(&longer), ["rule web changed"], "{more}");
    }
    let plain = policy(&template("demo", 60));
    let both = policy(&format!("{}forms = [\"envelope\", \"jws\"]\n", template("demo", 60)));
    let said = policy(&format!("{}forms = [\"envelope\"]\n", template("demo", 60)));
    assert_eq!((plain.difference(&both), plain.difference(&said)), (vec!["template demo changed".to_owned()], vec![]));
}
