//! What operators write: policy, configuration, the PKCS#11 URI.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use passportd::config::{self, Config, Loaded, Pkcs11Uri, Sources, reload_diff};
use passportd::passport::kid::{is_purpose, is_tenant};
use passportd::policy::{Bounds, Decision, DenyCode, IssueWish, Names, Operation, Overflow, Peer, Policy, PolicyFile};

const NOBODY: u32 = 65_534;
const OVERFLOW: Overflow = Overflow { uid: NOBODY, gid: NOBODY };
const ISSUER: &str = "host7.example.org";

/// A user and group database of a few names.
struct Town;

impl Names for Town {
    fn uid(&self, user: &str) -> io::Result<Option<u32>> {
        Ok(match user {
            "root" => Some(0),
            "www-data" => Some(33),
            "alice" => Some(1000),
            "nobody" => Some(NOBODY),
            "broken" => return Err(io::Error::other("the server is away")),
            _ => None,
        })
    }

    fn gid(&self, group: &str) -> io::Result<Option<u32>> {
        Ok(match group {
            "root" => Some(0),
            "web" => Some(33),
            "passportd-admin" => Some(900),
            "nogroup" => Some(NOBODY),
            _ => None,
        })
    }
}

/// Peers on either side of every condition.
fn peers() -> impl Iterator<Item = Peer> {
    let peer = |uid, gid, groups: &[u32], listener: &str| Peer {
        uid,
        gid,
        pid: 1,
        groups: groups.to_vec(),
        listener: listener.to_owned(),
        cgroup: None,
    };
    [
        peer(0, 0, &[], "passportd"),
        peer(33, 33, &[], "passportd"),
        peer(1000, 1000, &[33, 900], "passportd"),
        peer(1000, 1000, &[], "web"),
        peer(7, 7, &[NOBODY], "web"),
        peer(NOBODY, 0, &[33, 900], "web"),
        peer(u32::MAX, u32::MAX, &[u32::MAX], ""),
    ]
    .into_iter()
}

/// One or two files, parted by a line `#---`.
fn parts(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    const MARK: &[u8] = b"\n#---\n";
    match bytes.windows(MARK.len()).position(|window| window == MARK) {
        Some(at) => (&bytes[..at], Some(&bytes[at + MARK.len()..])),
        None => (bytes, None),
    }
}

/// A policy of one or two files is loaded or refused with its place; one that is loaded explains what it decides,
/// grants nothing to strangers, and no terms go beyond their template.
pub fn policy(bytes: &[u8]) {
    let (first, second) = parts(bytes);
    let files: Vec<PolicyFile> = [("10-a.toml", Some(first)), ("20-b.toml", second)]
        .into_iter()
        .filter_map(|(name, bytes)| Some(PolicyFile { name: name.to_owned(), bytes: bytes?.to_vec() }))
        .collect();
    let load = |files: Vec<PolicyFile>| Policy::from_files(Path::new("/policy.d"), files, &Town, OVERFLOW);
    let policy = match load(files.clone()) {
        Ok(policy) => policy,
        Err(error) => {
            assert!(error.to_string().starts_with("/policy.d"), "{error}");
            return;
        }
    };
    let swapped = load(files.into_iter().rev().collect()).expect("the order in which files are found does not matter");
    assert_eq!(swapped.hash(), policy.hash());
    let names: Vec<String> = policy.templates().map(|template| template.name().to_owned()).collect();
    for template in policy.templates() {
        assert!(is_tenant(template.tenant()) && is_purpose(template.purpose()) && template.max_ttl_s() > 0);
    }
    for peer in peers() {
        decided(&policy, &peer);
        for name in names.iter().take(4) {
            issued(&policy, &peer, name);
        }
    }
}

/// Every way to ask whether a peer may do an operation gives the same answer.
fn decided(policy: &Policy, peer: &Peer) {
    let rights = policy.rights(peer);
    for operation in Operation::ALL {
        let explained = policy.explain(peer, operation, None);
        assert!(!explained.to_string().is_empty() && !explained.reason.is_empty());
        let allowed = match policy.decide(peer, operation) {
            Decision::Allow(grant) => {
                assert_eq!((explained.code, grant.operation), (None, operation));
                let by = grant.rule.as_deref();
                assert!(by.is_none_or(|by| explained.rules.iter().any(|rule| &*rule.rule == by && rule.matches)));
                true
            }
            Decision::Deny(denial) => {
                assert_eq!((explained.code, &explained.reason), (Some(denial.code.code()), &denial.rule));
                false
            }
        };
        assert_eq!(explained.allowed, allowed);
        assert_eq!(rights.operations().any(|granted| granted == operation), allowed);
        // From the notes of the rules alone, as a reader would: default deny (L12), and rules only add.
        let matching = explained.rules.iter().any(|rule| rule.matches);
        let granted = explained.rules.iter().any(|rule| rule.matches && rule.allows_operation);
        let by_notes = match operation {
            Operation::WhoAmI => true,
            Operation::Ping | Operation::Version => matching,
            _ => granted,
        };
        assert_eq!(by_notes, allowed, "{explained}");
        assert!(peer.uid != NOBODY || !matching, "a stranger is matched: {explained}");
        for rule in &explained.rules {
            assert_eq!(rule.matches, rule.conditions.iter().all(|condition| condition.holds));
        }
    }
    let audiences = rights.verify_as();
    for aud in [None, Some("demo"), audiences.first().copied()] {
        match policy.decide_verify(peer, aud, true) {
            Decision::Allow(as_whom) => {
                let as_whom = as_whom.expect("an audience is demanded");
                assert!(audiences.contains(&&*as_whom) && aud.is_none_or(|aud| aud == as_whom));
            }
            Decision::Deny(denial) => {
                assert!(aud.is_none_or(|aud| !audiences.contains(&aud)) || denial.code != DenyCode::BadAud);
            }
        }
    }
}

/// Wishes around a template: whatever terms are given, they are inside it and inside the configuration's bounds.
fn issued(policy: &Policy, peer: &Peer, name: &str) {
    let rights = policy.rights(peer);
    let template = policy.templates().find(|template| template.name() == name).unwrap();
    let explained = policy.explain(peer, Operation::Issue, Some(name));
    let first = template.audiences().first().map(String::as_str);
    let own: Vec<&str> = first.into_iter().collect();
    let bounds = Bounds { issuer: ISSUER, default_ttl_s: 3600, max_ttl_s: 86_400, require_aud: true };
    for (sub, aud, ttl_s, nbf_offset_s) in [
        ("alice", &own[..], None, None),
        ("svc/x", &[][..], Some(u64::MAX), Some(0)),
        ("{user}", &["elsewhere"][..], Some(0), None),
        ("alice", &own[..], Some(1), Some(1)),
        ("", &own[..], Some(600), Some(599)),
    ] {
        let (limit, nonce, jkt) = (None, None, None);
        let wish = IssueWish {
            template: name,
            sub,
            aud,
            scopes: &[],
            action: None,
            ttl_s,
            nbf_offset_s,
            limit,
            nonce,
            jkt,
            form: passportd::wire::PassportForm::Envelope,
            uid: None,
        };
        match policy.decide_issue(peer, &wish, &bounds) {
            Decision::Allow(terms) => {
                assert!(explained.allowed, "{explained}");
                assert!(rights.templates().iter().any(|granted| granted.name() == name));
                assert_eq!(
                    (&*terms.tenant, &*terms.purpose, &*terms.sub),
                    (template.tenant(), template.purpose(), sub)
                );
                assert!(terms.ttl_s >= 1 && terms.ttl_s <= template.max_ttl_s().min(bounds.max_ttl_s));
                assert!(terms.nbf_offset_s.is_none_or(|offset| offset < terms.ttl_s));
                assert!(!terms.aud.is_empty() && terms.aud.iter().all(|aud| template.audiences().contains(aud)));
            }
            Decision::Deny(denial) => assert!(!denial.rule.is_empty()),
        }
    }
    if !explained.allowed {
        assert!(explained.code.is_some());
    }
}

/// The configuration as text and, before a line `#---`, variables of the environment, one a line.
pub fn config(bytes: &[u8]) {
    let (first, second) = parts(bytes);
    let (variables, text) = second.map_or((&[][..], first), |text| (first, text));
    let (Ok(variables), Ok(text)) = (std::str::from_utf8(variables), std::str::from_utf8(text)) else { return };
    let bounds = config::fuzzing::bounds(text);
    if let Ok(bounds) = bounds {
        for tenant in &bounds.tenants {
            assert!(is_tenant(&tenant.name) && tenant.max_ttl_s > 0 && tenant.rate_per_s > 0);
            assert!(!tenant.allows("audit") && !tenant.allows("seal") && bounds.tenant(&tenant.name) == Some(tenant));
        }
        assert!(!bounds.tenants.is_empty());
    }
    let pairs = variables.lines().filter_map(|line| line.split_once('='));
    let mut environment: Vec<(OsString, OsString)> =
        pairs.map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
    environment.push(("PASSPORT_CONFIG".into(), text.into()));
    let bypass = environment.iter().any(|(name, _)| name.to_string_lossy().contains("AUTH_DEV_BYPASS"));
    match load(environment) {
        Ok(loaded) => {
            assert!(!bypass, "a switch that lets everything through is refused (L13)");
            checked(&loaded);
        }
        Err(error) => {
            assert!(!error.faults.is_empty());
            for fault in &error.faults {
                let line = fault.to_string();
                assert!(!line.is_empty() && !line.contains('\n'), "{line:?} is not one line");
            }
        }
    }
}

fn load(environment: Vec<(OsString, OsString)>) -> Result<Loaded, config::ConfigError> {
    let sources =
        Sources { argument: None, environment, default_file: PathBuf::from("/nowhere"), reader: 0, amnesia: false };
    Config::load(&sources)
}

/// What is shown is what is in force: read again it is the same configuration.
fn checked(loaded: &Loaded) {
    let config = &loaded.config;
    assert!(!config.passport.issuer.is_empty() && config.hsm.uri.names_a_token());
    assert!(config.passport.default_ttl_s <= config.passport.max_ttl_s);
    assert!(config.server.user.is_none() || config.server.user != config.server.hsm_user);
    assert_eq!(reload_diff(config, config), config::ReloadDiff::default());
    assert_eq!(config.with_live_settings(config), **config);
    let mut text = String::new();
    for row in config::print(loaded) {
        // Listeners are tables and are shown in short; what is not set has no line.
        if row.key != "server.listener" && row.value != "(not set)" {
            let (section, key) = row.key.split_once('.').unwrap();
            writeln!(text, "[{section}]\n{key} = {}", row.value).unwrap();
        }
    }
    let mut merged = String::new();
    let mut sections: Vec<&str> = Vec::new();
    for pair in text.lines().collect::<Vec<_>>().chunks(2) {
        if sections.last() != Some(&pair[0]) {
            sections.push(pair[0]);
            writeln!(merged, "{}", pair[0]).unwrap();
        }
        writeln!(merged, "{}", pair[1]).unwrap();
    }
    let again = load(vec![("PASSPORT_CONFIG".into(), merged.clone().into())]);
    let again = again.unwrap_or_else(|error| panic!("what is printed is refused: {error}\n{merged}"));
    let mut expected = Config::clone(config);
    expected.server.listeners.clear();
    // A query attribute that nobody knows is ignored, so it is not shown.
    expected.hsm.uri.unknown_query.clear();
    assert_eq!(*again.config, expected, "{merged}");
    let twice = load(vec![("PASSPORT_CONFIG".into(), merged.into())]).unwrap();
    assert_eq!((twice.hash, Arc::strong_count(&twice.config)), (again.hash, 1));
}

/// A URI that is read is written and read again the same, and no message repeats what may be a PIN.
pub fn uri(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match text.parse::<Pkcs11Uri>() {
        Ok(uri) => {
            let written = uri.to_string();
            let mut expected = uri.clone();
            expected.unknown_path.clear();
            expected.unknown_query.clear();
            assert_eq!(written.parse::<Pkcs11Uri>().as_ref(), Ok(&expected), "{written}");
            assert_eq!(expected.to_string(), written);
            let mut queries = written.split_once('?').map_or("", |(_, query)| query).split('&');
            assert!(!queries.any(|query| query.starts_with("pin-value")), "{written}");
            if let Some(file) = uri.pin_file() {
                assert!(file.is_absolute() && uri.pin_source.as_deref().is_some_and(|source| !source.starts_with('|')));
            }
        }
        Err(error) => {
            let message = error.to_string();
            // Digits like those of a PIN, more of them than any message has of its own.
            let value = text.split_once("pin-value=").map_or("", |(_, rest)| rest);
            let value = value.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
            assert!(value.len() < 5 || text.matches(value).count() > 1 || !message.contains(value), "{message}");
        }
    }
}
