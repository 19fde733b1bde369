//! What this binary does when it is started again: a ceremony, a signer, another program, or the raw
//! measurement.

use super::*;

pub(crate) fn var(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

pub(crate) fn config() -> ModuleConfig {
    let millis = |name, usual| Duration::from_millis(var(name).map_or(usual, |n| n.parse().unwrap()));
    let (hsm, dir) = (Hsm::chosen(), PathBuf::from(var("HSM_DIR").unwrap()));
    ModuleConfig {
        fleeting: None,
        module: PathBuf::from(var("HSM_MODULE").unwrap()),
        token: TokenChoice {
            label: Some(var("HSM_LABEL").unwrap_or_else(|| LABEL.to_owned())),
            ..TokenChoice::default()
        },
        sessions: var("HSM_SESSIONS").map_or(2, |n| n.parse().unwrap()),
        op_timeout: millis("HSM_OP_TIMEOUT_MS", 5_000),
        login_timeout: millis("HSM_LOGIN_TIMEOUT_MS", 60_000),
        max_stuck: 4,
        keepalive: None,
        recycle_kib: var("HSM_RECYCLE_KIB").map(|kib| kib.parse().unwrap()),
        queue: 256,
        state_dir: dir.join("state"),
        store: Some(dir.join("store")),
        module_config: Some(dir.join(hsm.conf())),
        module_env: hsm.variable().to_owned(),
    }
}

pub(crate) fn bounds() -> Bounds {
    let tenant = |rate: Option<u32>| TenantBounds {
        purposes: BTreeSet::from(["auth".to_owned()]),
        max_ttl_s: 3600,
        rate_per_s: rate.map(|rate| rate.try_into().unwrap()),
        namespaces: vec![NamespacePattern::parse("t1/*").unwrap()],
    };
    Bounds {
        issuer: var("ISSUER").unwrap_or_else(|| ISSUER.to_owned()),
        tenants: BTreeMap::from([("t1".to_owned(), tenant(None)), ("slow".to_owned(), tenant(Some(2)))]),
        max_iat_drift_s: 60,
    }
}

/// A line that the parent waits for.
pub(crate) fn say(line: &str) {
    println!("\n@{line}");
    std::io::stdout().flush().unwrap();
}

/// The parent as the service manager: it wants to know when it can go on.
struct Parent;

impl Manager for Parent {
    fn starting(&self, _within: Duration) {}

    fn ready(&self, _usable_keys: usize) {
        say("ready");
    }

    fn watches(&self) -> Option<Duration> {
        None
    }

    fn alive(&self) {}

    fn stopping(&self) {}
}

pub(crate) fn run_role(role: &str) {
    let pin = || match var("HSM_PIN") {
        Some(pin) => Pin::take(&mut pin.into_bytes()).unwrap(),
        None => Pin::from_file(&PathBuf::from(var("PIN_FILE").unwrap())).unwrap(),
    };
    let listen = || UnixListener::bind(var("SOCKET").unwrap()).unwrap();
    match role {
        "ceremony" => {
            let listener = listen();
            say("ready");
            let (stream, _) = listener.accept().unwrap();
            let allowed_uids = vec![var("ALLOWED").unwrap().parse().unwrap()];
            let plan = CeremonyPlan { stream, module: config(), allowed_uids, amnesia: false, bounds: Some(bounds()) };
            if let Err(error) = run_ceremony(&plan) {
                say(&format!("error {error}"));
            }
        }
        "signer" => {
            let plan = SignerPlan {
                ways: &[Way::Portable],
                module: config(),
                bounds: bounds(),
                sealer: Box::new(XChaCha),
                pin: pin(),
                listener: listen(),
                front_uid: var("ALLOWED").unwrap().parse().unwrap(),
                manager: Box::new(Parent),
            };
            match run_signer(plan) {
                Ok(reason) => say(&format!("ended {reason:?}")),
                Err(error) => say(&format!("error {} {error}", error.refused_pin())),
            }
            leave(0);
        }
        "maker" => adopt::make(),
        "raw-rate" => {
            let sessions = config().sessions;
            let rate = raw_sign_rate(&config(), &pin(), sessions, Duration::from_secs(2), RawKey::Session).unwrap();
            say(&format!("rate {rate:.0}"));
        }
        other => panic!("no role {other}"),
    }
}
