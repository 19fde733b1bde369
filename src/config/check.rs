//! What no single setting can know: whether they hold together.

use std::collections::BTreeMap;

use super::load::Origin;
use super::{Config, Fault};

/// The maximum of a frame (DESIGN §5): a batch that does not fit is split by the client.
const FRAME_BYTES: usize = 1 << 20;
/// About the smallest passport there is, with its signature and lengths.
const SMALLEST_ITEM_BYTES: usize = 256;

/// Settings that are missing or contradict each other.
pub(super) fn faults(config: &Config, origins: &BTreeMap<String, Origin>) -> Vec<Fault> {
    let mut faults = missing(config);
    let mut against = |wrong: bool, keys: [&str; 2], message: &str| {
        if wrong {
            let origin = |key: &&str| origins.get(*key).map(|origin| format!("{key}: {origin}"));
            let origins = keys.iter().filter_map(origin).collect::<Vec<_>>().join(", ");
            faults.push(Fault::Contradiction { message: message.to_owned(), origins });
        }
    };
    let Config { server, passport, verify, limits, hsm, .. } = config;
    against(
        passport.default_ttl_s > passport.max_ttl_s,
        ["passport.default_ttl_s", "passport.max_ttl_s"],
        "passport.default_ttl_s is more than passport.max_ttl_s",
    );
    against(
        verify.target_batch > verify.max_batch,
        ["verify.target_batch", "verify.max_batch"],
        "verify.target_batch is more than verify.max_batch",
    );
    against(
        server.max_connections_per_uid > server.max_connections,
        ["server.max_connections_per_uid", "server.max_connections"],
        "server.max_connections_per_uid is more than server.max_connections",
    );
    against(
        limits.max_bytes_per_uid > limits.max_bytes,
        ["limits.max_bytes_per_uid", "limits.max_bytes"],
        "limits.max_bytes_per_uid is more than limits.max_bytes",
    );
    against(
        server.user.is_some() && server.user == server.hsm_user,
        ["server.user", "server.hsm_user"],
        "server.user and server.hsm_user are the same: the front must not run as the user that can read the PIN",
    );
    against(
        hsm.module.is_some() && hsm.uri.module_path.is_some(),
        ["hsm.module", "hsm.uri"],
        "hsm.module and the URI's module-path both name the library: keep one",
    );
    against(
        hsm.pin_file.is_some() && hsm.uri.pin_source.is_some(),
        ["hsm.pin_file", "hsm.uri"],
        "hsm.pin_file and the URI's pin-source both name the PIN's file: keep one",
    );
    against(
        config.security.amnesia && passport.jwks_file.is_some(),
        ["security.amnesia", "passport.jwks_file"],
        "passport.jwks_file is a file, and amnesia mode writes none: take one of the two away, and have the key set fetched \
         by Keys or Watch",
    );
    for (left, right) in shared_sockets(config) {
        against(true, [left, right], &format!("{left} and {right} are the same socket"));
    }
    faults
}

fn missing(config: &Config) -> Vec<Fault> {
    let wanted = [
        (
            config.passport.issuer.is_empty(),
            "passport.issuer",
            "write the name of this issuer under [passport], such as issuer = \"host7.example.org\"",
        ),
        (
            !config.hsm.uri.names_a_token(),
            "hsm.uri",
            "write which token to use under [hsm], such as uri = \"pkcs11:token=passportd\"",
        ),
        (
            config.hsm.module_path().is_none(),
            "hsm.module",
            "write the absolute path of the PKCS#11 library under [hsm], or a module-path in hsm.uri",
        ),
    ];
    wanted.into_iter().filter(|(missing, ..)| *missing).map(|(_, key, help)| Fault::Missing { key, help }).collect()
}

fn shared_sockets(config: &Config) -> Vec<(&'static str, &'static str)> {
    let mut all = vec![
        ("server.socket", &config.server.socket),
        ("server.admin_socket", &config.server.admin_socket),
        ("hsm.socket", &config.hsm.socket),
        ("hsm.ceremony_socket", &config.hsm.ceremony_socket),
    ];
    // Listeners are unique among themselves already.
    all.extend(config.server.listeners.iter().map(|listener| ("server.listener", &listener.socket)));
    let mut shared = Vec::new();
    for (index, (left, path)) in all.iter().enumerate() {
        let rest = all.iter().skip(index.saturating_add(1));
        shared.extend(rest.filter(|(_, other)| other == path).map(|(right, _)| (*left, *right)));
    }
    shared
}

/// What somebody has set, and amnesia mode does without.
pub(super) fn unused(config: &Config, origins: &BTreeMap<String, Origin>) -> Vec<String> {
    let idle = ["state.path", "audit.dir", "audit.segment_bytes", "audit.checkpoints"];
    let set = |key: &&str| origins.get(*key).is_some_and(|origin| *origin != Origin::Default);
    let idle = idle.into_iter().filter(|key| config.security.amnesia && set(key));
    idle.map(|key| format!("{key} is not used in amnesia mode: state and log are kept in memory")).collect()
}

/// What is allowed, but worth a second look.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let Config { server, limits, security, hsm, .. } = config;
    let open = server.metrics_addr.filter(|addr| !addr.ip().is_loopback());
    let items = FRAME_BYTES.div_euclid(SMALLEST_ITEM_BYTES);
    let all = [
        (
            open.is_some(),
            "server.metrics_addr is not a loopback address: anybody who reaches it can read the metrics".to_owned(),
        ),
        (
            server.max_connections_per_uid == server.max_connections,
            "server.max_connections_per_uid equals server.max_connections: one user can take every connection"
                .to_owned(),
        ),
        (
            limits.max_bytes_per_uid == limits.max_bytes,
            "limits.max_bytes_per_uid equals limits.max_bytes: one user can take all the memory".to_owned(),
        ),
        (
            server.admin_socket_mode & 0o007 != 0,
            "server.admin_socket_mode lets everybody connect: only policy stands between them and administration"
                .to_owned(),
        ),
        (
            limits.max_batch > items,
            format!(
                "limits.max_batch is more than {items}: so many items never fit a frame of 1 MiB; clients split by bytes"
            ),
        ),
        (
            !security.require_aud,
            "security.require_aud is off: a passport without audience is good everywhere".to_owned(),
        ),
        (
            !hsm.uri.unknown_query.is_empty(),
            "hsm.uri has query attributes that RFC 7512 does not define: they are ignored".to_owned(),
        ),
    ];
    all.into_iter().filter(|(warn, _)| *warn).map(|(_, message)| message).collect()
}
