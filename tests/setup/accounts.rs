//! Users and groups of the configuration.

use super::table::{By, CONFIG, Mistake, check, set};

const ACCOUNTS: &[Mistake] = &[
    Mistake {
        what: "the front's user does not exist",
        role: "front",
        by: By::Tester,
        spoil: |shop| set(shop, "server.user", "no-such-user"),
        code: CONFIG,
        finds: "accounts",
        says: &["[server] user: there is no user \"no-such-user\"", "create it", "or configure another"],
    },
    Mistake {
        what: "the signer's user does not exist",
        role: "signer",
        by: By::Tester,
        spoil: |shop| set(shop, "server.hsm_user", "no-such-user"),
        code: CONFIG,
        finds: "accounts",
        says: &["[server] hsm_user: there is no user \"no-such-user\"", "create it"],
    },
    Mistake {
        what: "run finds it before it starts anybody",
        role: "run",
        by: By::Tester,
        spoil: |shop| set(shop, "server.hsm_user", "no-such-user"),
        code: CONFIG,
        finds: "accounts",
        says: &["[server] hsm_user: there is no user \"no-such-user\""],
    },
    Mistake {
        what: "the services' group does not exist",
        role: "front",
        by: By::Tester,
        spoil: |shop| set(shop, "server.socket_group", "no-such-group"),
        code: CONFIG,
        finds: "accounts",
        says: &["[server] socket_group: there is no group \"no-such-group\"", "create it"],
    },
    Mistake {
        what: "the admins' group does not exist",
        role: "front",
        by: By::Tester,
        spoil: |shop| set(shop, "server.admin_socket_group", "no-such-group"),
        code: CONFIG,
        finds: "accounts",
        says: &["[server] admin_socket_group: there is no group \"no-such-group\"", "create it"],
    },
    Mistake {
        what: "front and signer as one user",
        role: "front",
        by: By::Tester,
        spoil: |shop| {
            set(shop, "server.user", "daemon");
            set(shop, "server.hsm_user", "daemon");
        },
        code: CONFIG,
        finds: "config",
        says: &["server.user and server.hsm_user are the same", "must not run as the user that can read the PIN"],
    },
    Mistake {
        what: "the front as root",
        role: "front",
        by: By::Tester,
        spoil: |shop| set(shop, "server.user", "root"),
        code: CONFIG,
        finds: "accounts",
        says: &["user \"root\" has uid 0", "name an unprivileged user in [server]"],
    },
];

#[test]
fn users_and_groups() {
    if super::support::root_or_skip("accounts that do not exist") {
        check(ACCOUNTS);
    }
}
