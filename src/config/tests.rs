use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

const MINIMAL: &str =
    "[passport]\nissuer = \"test\"\n[hsm]\nuri = \"pkcs11:token=main\"\nmodule = \"/usr/lib/libp11.so\"\n";

fn vars(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn inline(text: &str, more: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let mut environment = vars(&[("PASSPORT_CONFIG", text)]);
    environment.extend(vars(more));
    Config::load(&Sources::new(None, environment))
}

/// MINIMAL with further lines in front (top-level tables may come in any order).
fn with(text: &str) -> Result<Loaded, ConfigError> {
    inline(&format!("{MINIMAL}{text}"), &[])
}

fn refused(result: Result<Loaded, ConfigError>) -> String {
    result.unwrap_err().to_string()
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        path
    }
}

fn issuer(name: &str) -> String {
    MINIMAL.replace("\"test\"", &format!("\"{name}\""))
}

#[test]
fn the_defaults_of_the_design() {
    let loaded = inline(MINIMAL, &[]).unwrap();
    let config = &loaded.config;
    assert_eq!(config.server.metrics_addr.unwrap().to_string(), "127.0.0.1:9909");
    assert_eq!((config.server.socket_mode, config.server.admin_socket_mode), (0o660, 0o660));
    assert_eq!(
        (config.passport.default_ttl_s, config.passport.max_ttl_s, config.passport.clock_skew_s),
        (3600, 86_400, 120)
    );
    assert_eq!((config.verify.target_batch, config.verify.max_batch, config.verify.max_wait_us), (64, 256, 500));
    assert_eq!((config.limits.max_msg_bytes, config.limits.max_batch, config.limits.max_in_flight), (4096, 512, 256));
    assert!(config.security.require_aud);
    assert!((1..=64).contains(&config.hsm.sessions));
    assert_eq!(config.hsm.module_path().unwrap().to_str(), Some("/usr/lib/libp11.so"));
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn the_first_source_wins() {
    let files = Files::new();
    let argument = files.write("a.toml", &issuer("argument"));
    let named = files.write("b.toml", &issuer("named"));
    let default = files.write("c.toml", &issuer("default"));
    let inline = ("PASSPORT_CONFIG", &*issuer("inline"));
    let file = ("PASSPORT_CONFIG_FILE", named.to_str().unwrap());
    let cases = [
        (Some(&argument), vec![inline, file], "argument", 2),
        (None, vec![inline, file], "inline", 1),
        (None, vec![file], "named", 0),
        (None, vec![], "default", 0),
    ];
    for (argument, variables, winner, warnings) in cases {
        let sources = Sources { default_file: default.clone(), ..Sources::new(argument.cloned(), vars(&variables)) };
        let loaded = Config::load(&sources).unwrap();
        assert_eq!(loaded.config.passport.issuer, winner);
        assert_eq!(loaded.warnings.len(), warnings, "{:?}", loaded.warnings);
    }
}

#[test]
fn single_settings_come_from_the_environment_last() {
    let loaded = inline(
        &format!("{MINIMAL}[limits]\nmax_batch = 100\nrps = 7\n[server]\nmetrics_addr = \"off\"\n"),
        &[
            ("PASSPORT__LIMITS__MAX_BATCH", "256"),
            ("PASSPORT_VERIFY_CONCURRENCY", "9"),
            ("PASSPORT__SERVER__SOCKET_MODE", "0666"),
            ("PASSPORT__CACHE__VK_TTL_S", "0"),
            ("PASSPORTD_SOCKET", "/elsewhere"),
            ("PASSPORTCTL_SOCKET", "/elsewhere"),
        ],
    )
    .unwrap();
    let config = &loaded.config;
    assert_eq!((config.limits.max_batch, config.limits.rps, config.limits.verify_concurrency), (256, 7, 9));
    assert_eq!((config.server.socket_mode, config.server.metrics_addr, config.cache.vk_ttl_s), (0o666, None, 0));
    let env = |name: &str| Origin::Env { name: name.into() };
    assert_eq!(loaded.origins["limits.max_batch"], env("PASSPORT__LIMITS__MAX_BATCH"));
    assert_eq!(loaded.origins["limits.verify_concurrency"], env("PASSPORT_VERIFY_CONCURRENCY"));
    assert_eq!(loaded.origins["limits.rps"], env("PASSPORT_CONFIG"));
    assert_eq!(loaded.origins["limits.max_bytes"], Origin::Default);
}

#[test]
fn variables_that_are_refused() {
    let cases = [
        (("PASSPORT__HSM__MODULE", "/tmp/evil.so"), "root-owned"),
        (("PASSPORT__SECURITY__REQUIRE_AUD", "false"), "root-owned"),
        (("PASSPORT_MAX_BACTH", "1"), "did you mean `PASSPORT_MAX_BATCH`?"),
        (("PASSPORT_PIN", "1234"), "not known"),
        (("PASSPORT__LIMITS__MAX_BACH", "1"), "did you mean `max_batch`?"),
        (("PASSPORT__LIMIT__MAX_BATCH", "1"), "did you mean `limits`?"),
        (("PASSPORT__SERVER__MAX_BATCH", "1"), "belongs in [verify] or [limits]"),
        (("PASSPORT__limits__max_batch", "1"), "not known"),
        (("PASSPORT__LIMITS__MAX_BATCH", "many"), "from 1 to 8192"),
        (("PASSPORT__LIMITS__MAX_BATCH", "0"), "from 1 to 8192"),
        (("PASSPORT__SERVER__LISTENER", "x"), "cannot come from the environment"),
        (("AUTH_DEV_BYPASS", ""), "no way to bypass"),
        (("SVC_AUTH_DEV_BYPASS", "0"), "no way to bypass"),
    ];
    for (variable, words) in cases {
        let message = refused(inline(MINIMAL, &[variable]));
        assert!(message.contains(words) && message.contains(variable.0), "{variable:?}: {message}");
    }
    let both = [("PASSPORT_MAX_BATCH", "1"), ("PASSPORT__LIMITS__MAX_BATCH", "1")];
    assert!(refused(inline(MINIMAL, &both)).contains("unset one"));
    assert!(!refused(inline(MINIMAL, &[("PASSPORT_PIN", "1234")])).contains("1234"), "values may be secret");
}

#[test]
fn a_value_that_is_not_utf8_is_refused_only_where_it_matters() {
    let odd = || OsString::from_vec(vec![0xff]);
    let load = |name: &str| {
        let mut environment = vars(&[("PASSPORT_CONFIG", MINIMAL)]);
        environment.extend([(name.into(), odd()), (odd(), odd())]);
        Config::load(&Sources::new(None, environment))
    };
    assert!(load("PASSPORT_MAX_BATCH").unwrap_err().to_string().contains("UTF-8"));
    assert!(load("LS_COLORS").is_ok());
}

#[test]
fn faults_name_line_and_column_and_come_all_at_once() {
    let files = Files::new();
    let text = "\
[passport]
issuer = \"é\"
  default_tll_s = 60
[limits]
max_batch = \"many\"
socket = \"/x\"
[cach]
vk_ttl_s = 1
";
    let path = files.write("p.toml", text);
    let error = Config::load(&Sources::new(Some(path.clone()), [])).unwrap_err();
    let lines: Vec<String> = error.to_string().lines().map(ToOwned::to_owned).collect();
    let at = |place: &str| format!("{}:{place}: ", path.display());
    let expected = [
        at("3:3") + "unknown key `passport.default_tll_s` (did you mean `default_ttl_s`?)",
        at("5:13") + "`limits.max_batch`: expected a whole number from 1 to 8192",
        at("6:1") + "unknown key `limits.socket` (it belongs in [server] or [hsm])",
        at("7:2") + "unknown key `cach` (did you mean `cache`?)",
    ];
    assert_eq!(lines, expected);
    assert!(refused(inline("a = ", &[])).starts_with("PASSPORT_CONFIG:1:"));
    assert!(refused(inline("limits = 3", &[])).contains("write [limits]"));
}

#[test]
fn wrong_types_and_ranges() {
    let cases = [
        ("[limits]\nrps = 1.5", "whole number"),
        ("[limits]\nrps = -1", "whole number"),
        ("[limits]\nrps = 99999999999999999999", "whole number"),
        ("[server]\nsocket = \"run/x\"", "absolute"),
        ("[server]\nsocket = \"/run/../x\"", "absolute"),
        ("[server]\nsocket = 7", "found integer"),
        ("[server]\nsocket_mode = 660", "octal"),
        ("[server]\nsocket_mode = \"0999\"", "octal"),
        ("[server]\nsocket_mode = \"7777\"", "octal"),
        ("[server]\nmetrics_addr = \"localhost:1\"", "numeric address"),
        ("[server]\nuser = \"-x\"", "user or group name"),
        ("[server]\nlistener = []\nlistener2 = 1", "did you mean `listener`?"),
        ("[security]\nrequire_aud = \"yes\"", "true or false"),
        ("[security]\npq_mode = \"mirror\"", "not yet available"),
        ("[verify]\nengine = \"fast\"", "expected \"auto\" or \"portable\" or \"dalek\""),
        ("[audit]\njournald = true", "found boolean"),
    ];
    for (text, words) in cases {
        let message = refused(with(text));
        assert!(message.contains(words), "{text}: {message}");
    }
    let long = format!("[server]\nsocket = \"/{}\"", "x".repeat(99));
    assert!(refused(with(&long)).contains("99 bytes"));
    assert!(with("[server]\nsocket_mode = 0o600").unwrap().config.server.socket_mode == 0o600);
}

#[test]
fn the_token_must_be_named_and_the_pin_must_not() {
    let uri = |uri: &str| inline(&MINIMAL.replace("pkcs11:token=main", uri), &[]);
    for (text, words) in [
        ("pkcs11:", "which token"),
        ("pkcs11:slot-id=3", "slots are renumbered"),
        ("pkcs11:token=a;vendor-x=1", "vendor-x"),
        ("pkcs11:token=a?pin-value=1234", "pin-value"),
        ("pkcs11:token=a?module-path=/x.so", "keep one"),
        ("pkcs11:token=a?pin-source=|/bin/cat", "file:"),
    ] {
        let message = refused(uri(text));
        assert!(message.contains(words) && !message.contains("1234"), "{text}: {message}");
    }
    let loaded = uri("pkcs11:token=a?pin-source=file:/run/pin").unwrap();
    assert_eq!(loaded.config.hsm.pin_path(), Some("/run/pin".into()));
}

/// RFC 7512 §2.3 in full: an attribute chooses the token, says where something is, or is refused by name.
#[test]
fn no_attribute_of_the_uri_is_taken_and_then_ignored() {
    let uri = |uri: &str| inline(&MINIMAL.replace("pkcs11:token=main", uri), &[]);
    let all = "pkcs11:token=a;manufacturer=c;serial=b;model=d";
    assert_eq!(uri(all).unwrap().config.hsm.uri.to_string(), all);
    for attribute in [
        "slot-id=3",
        "slot-description=x",
        "slot-manufacturer=x",
        "library-manufacturer=x",
        "library-description=x",
        "library-version=3.0",
        "object=x",
        "type=private",
        "id=%01",
    ] {
        let name = attribute.split_once('=').unwrap().0;
        let message = refused(uri(&format!("pkcs11:token=a;{attribute}")));
        assert!(message.contains(&format!("`{name}` is not used")), "{attribute}: {message}");
        let alone = refused(uri(&format!("pkcs11:{attribute}")));
        assert!(alone.contains(&format!("`{name}` is not used")), "{attribute}: {alone}");
    }
    assert!(refused(uri("pkcs11:token=a?module-name=x")).contains("`module-name` is not used"));
    assert!(refused(uri("pkcs11:manufacturer=x;model=y")).contains("which token"), "many tokens share both");
}

#[test]
fn settings_that_cannot_hold_together() {
    let cases = [
        ("[verify]\ntarget_batch = 300", "verify.target_batch is more"),
        ("[server]\nmax_connections = 10", "max_connections_per_uid is more"),
        ("[limits]\nmax_bytes = 4194304", "max_bytes_per_uid is more"),
        ("[server]\nuser = \"a\"\nhsm_user = \"a\"", "are the same"),
        ("[server]\nsocket = \"/run/passportd/admin.sock\"", "same socket"),
        ("[[server.listener]]\nname = \"a\"\nsocket = \"/run/passportd/admin.sock\"", "same socket"),
    ];
    for (text, words) in cases {
        let message = refused(with(text));
        assert!(message.contains(words), "{text}: {message}");
    }
    let message = refused(inline("[passport]\nmax_ttl_s = 60\n", &[]));
    assert_eq!(message.lines().count(), 4, "issuer, uri, module and the lifetimes: {message}");
    assert!(message.contains("(passport.default_ttl_s: default, passport.max_ttl_s: PASSPORT_CONFIG)"));
}

#[test]
fn listeners() {
    let one = "[[server.listener]]\nname = \"web\"\nsocket = \"/run/web.sock\"\nmode = \"0600\"\ngroup = \"www\"\nuser = \"web\"\n";
    let listener = with(one).unwrap().config.server.listeners[0].clone();
    assert_eq!((listener.name.as_str(), listener.mode, listener.group.as_deref()), ("web", 0o600, Some("www")));
    assert_eq!(listener.user.as_deref(), Some("web"));
    let cases = [
        (one.replace("web\"\ns", "admin\"\ns"), "7:8", "none of"),
        (one.replace("mode", "mod"), "9:1", "did you mean `mode`?"),
        (one.replace("socket = \"/run/web.sock\"\n", ""), "6:1", "needs a socket"),
        (format!("{one}{one}"), "12:1", "same name or socket"),
    ];
    for (text, place, words) in cases {
        let message = refused(with(&text));
        assert!(message.contains(words) && message.contains(&format!(":{place}: ")), "{text}: {message}");
    }
}

#[test]
fn warnings_for_what_is_allowed_but_odd() {
    let cases = [
        ("[server]\nmetrics_addr = \"0.0.0.0:9909\"", "loopback"),
        ("[server]\nmax_connections = 256", "every connection"),
        ("[limits]\nmax_bytes = 16777216", "all the memory"),
        ("[server]\nadmin_socket_mode = \"0666\"", "everybody"),
        ("[limits]\nmax_batch = 8192", "split by bytes"),
        ("[security]\nrequire_aud = false", "audience"),
    ];
    for (text, words) in cases {
        let warnings = with(text).unwrap().warnings;
        assert!(warnings.len() == 1 && warnings[0].contains(words), "{text}: {warnings:?}");
    }
}

#[test]
fn the_hash_is_over_meaning() {
    let plain = inline(MINIMAL, &[]).unwrap().hash;
    assert_eq!(plain, with("# words\n[limits]\nmax_batch = 512\n").unwrap().hash);
    assert_eq!(plain, inline(MINIMAL, &[("PASSPORT_MAX_BATCH", "512")]).unwrap().hash);
    assert_ne!(plain, with("[limits]\nmax_batch = 511\n").unwrap().hash);
}

#[test]
fn a_reload_changes_what_may_change_and_names_the_rest() {
    let old = inline(MINIMAL, &[]).unwrap().config;
    let text = "[limits]\nrps = 1\n[cache]\nvk_ttl_s = 1\n[policy]\ndir = \"/p\"\n[state]\npath = \"/s\"\n[server]\nmax_connections = 500\n";
    let new = with(text).unwrap().config;
    let diff = reload_diff(&old, &new);
    assert_eq!(diff.changed, ["server.max_connections", "cache.vk_ttl_s", "limits.rps", "state.path", "policy.dir"]);
    assert_eq!(diff.needs_restart, ["server.max_connections", "state.path"]);
    assert_eq!(reload_diff(&old, &old), ReloadDiff::default());
}

/// `with_live_settings` is written by section; the table says by setting. They must agree for every key.
#[test]
fn live_settings_are_those_that_the_table_calls_live() {
    let mut old = Config::default();
    let mut new = Config::default();
    for (section, fields) in Config::default().fields() {
        for field in fields {
            for (config, candidates) in
                [(&mut old, ["5", "/a", "0600", "127.0.0.1:1"]), (&mut new, ["6", "/b", "0640", "127.0.0.1:2"])]
            {
                for text in candidates {
                    drop(config.section_mut(section).unwrap().set(field.key, codec::Raw::Env(text)));
                }
            }
        }
    }
    let before = reload_diff(&old, &new);
    assert!(before.changed.len() > 35, "the test must reach most settings: {}", before.changed.len());
    let left = reload_diff(&old.with_live_settings(&new), &new);
    assert_eq!(left.changed, before.needs_restart);
    assert_eq!(left.needs_restart, before.needs_restart);
}

#[test]
fn print_names_origins_and_explains_the_two_max_batch() {
    let files = Files::new();
    let path = files.write("p.toml", MINIMAL);
    let loaded = Config::load(&Sources::new(Some(path.clone()), [])).unwrap();
    let rows = print(&loaded);
    let row = |key: &str| rows.iter().find(|row| row.key == key).unwrap();
    assert_eq!(row("passport.issuer").origin, Origin::File { path: path.clone(), line: 2 });
    assert_eq!(row("hsm.uri").value, "\"pkcs11:token=main\"");
    assert_eq!(row("server.user").value, "(not set)");
    assert!(row("verify.max_batch").note.unwrap().contains("slice"));
    assert!(row("limits.max_batch").note.unwrap().contains("one request"));
    assert_eq!(rows.len(), loaded.origins.len());
    assert_eq!(rows.len(), reference().len());
    assert!(reference_markdown().contains("| `limits.max_batch` | `512` | a whole number from 1 to 8192 | reload |"));
    assert!(reference().iter().all(|r| r.doc.ends_with('.') && !r.accepts.is_empty()));
}

#[test]
fn every_default_is_in_its_own_range() {
    for (section, fields) in Config::default().fields() {
        for Field { key, value, .. } in fields {
            let required = ["passport.issuer", "hsm.uri"].contains(&&*format!("{section}.{key}"));
            // Arrays can't come from the environment.
            if value == "(not set)" || value == "[]" || required {
                continue;
            }
            let text = value.trim_matches('"');
            let result = Config::default().section_mut(section).unwrap().set(key, codec::Raw::Env(text));
            assert!(matches!(result, Some(Ok(()))), "{section}.{key} = {value}");
        }
    }
}

#[test]
fn control_characters_are_refused_everywhere() {
    assert!(refused(inline(&MINIMAL.replace("\"test\"", "\"a\\nb\""), &[])).contains("control"));
}

proptest! {
    #[test]
    fn random_text_never_panics(text in any::<String>(), name in any::<String>(), value in any::<String>()) {
        drop(inline(&text, &[(&format!("PASSPORT_{name}"), &value)]));
        drop(with(&text));
    }

    #[test]
    fn random_keys_and_values_never_panic(section in "[a-z]{1,8}", key in "[a-z_]{1,12}", value in "[\\[\\]{}\"a-z0-9.=, \n]{0,30}") {
        drop(with(&format!("[{section}]\n{key} = {value}\n")));
    }
}
