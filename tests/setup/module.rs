//! The PKCS#11 module, its token and the PIN.

use std::fs;

use super::table::{By, CONFIG, Mistake, OTHER, check, give, mode, put, set, text};
use super::workshop::Workshop;

const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// A copy of the module that is about to be spoilt.
fn own_copy(shop: &Workshop) -> std::path::PathBuf {
    let copy = shop.path("module.so");
    fs::copy(SOFTHSM, &copy).unwrap();
    set(shop, "hsm.module", text(&copy));
    copy
}

/// Replaces the PIN's file.
fn pin(shop: &Workshop, content: &str, bits: u32) {
    fs::remove_file(shop.path("pin")).unwrap();
    put(&shop.path("pin"), content);
    mode(&shop.path("pin"), bits);
}

const MODULE: &[Mistake] = &[
    Mistake {
        what: "the module is not there",
        role: "signer",
        by: By::Tester,
        spoil: |shop| set(shop, "hsm.module", "/usr/lib/no-such-module.so"),
        code: CONFIG,
        finds: "module",
        says: &[
            "the module /usr/lib/no-such-module.so can't be opened: No such file",
            "install the module or set hsm.module",
        ],
    },
    Mistake {
        what: "the module's path is not absolute",
        role: "signer",
        by: By::Tester,
        spoil: |shop| set(shop, "hsm.module", "libsofthsm2.so"),
        code: CONFIG,
        finds: "config",
        says: &["/passportd.toml:", "`hsm.module`: expected an absolute path"],
    },
    Mistake {
        what: "others may change the module",
        role: "signer",
        by: By::Tester,
        spoil: |shop| mode(&own_copy(shop), 0o777),
        code: CONFIG,
        finds: "module",
        says: &["/module.so belongs to uid ", "has mode 0777, so others than root may change it", "chmod go-w"],
    },
    Mistake {
        what: "the module is not root's",
        role: "signer",
        by: By::Root,
        spoil: |shop| give(&own_copy(shop), shop.signer().unwrap().0),
        code: CONFIG,
        finds: "module",
        says: &["/module.so belongs to uid ", "so others than root may change it", "run: chown root"],
    },
    Mistake {
        what: "the module is no library",
        role: "signer",
        by: By::Tester,
        spoil: |shop| set(shop, "hsm.module", "/etc/passwd"),
        code: CONFIG,
        finds: "module",
        says: &["/etc/passwd is not a PKCS#11 module", "set hsm.module to the vendor's PKCS#11 library"],
    },
    Mistake {
        what: "the module is a directory",
        role: "signer",
        by: By::Tester,
        spoil: |shop| set(shop, "hsm.module", "/usr/lib"),
        code: CONFIG,
        finds: "module",
        says: &["/usr/lib is not a PKCS#11 module: it is a directory", "set hsm.module"],
    },
    Mistake {
        what: "no module",
        role: "signer",
        by: By::Tester,
        spoil: |shop| set(shop, "hsm.module", ""),
        code: CONFIG,
        finds: "config",
        says: &["`hsm.module` is not set: write the absolute path of the PKCS#11 library under [hsm]"],
    },
    Mistake {
        what: "the module's own configuration is not there",
        role: "signer",
        by: By::Tester,
        spoil: |shop| set(shop, "hsm.module_config", "/etc/no-such-softhsm2.conf"),
        code: CONFIG,
        finds: "module config",
        says: &[
            "/etc/no-such-softhsm2.conf: No such file",
            "the signer role needs it: create it, or correct the setting that names it",
        ],
    },
];

const TOKEN: &[Mistake] = &[
    Mistake {
        what: "no token of that label: it may be an HSM that is not up yet",
        role: "signer",
        by: By::Tester,
        spoil: |shop| set(shop, "hsm.uri", "pkcs11:token=wrong-label"),
        code: OTHER,
        finds: "",
        says: &[
            "no token with label \"wrong-label\"; the module shows \"passportd-test\"",
            "correct hsm.uri, or make the token",
        ],
    },
    Mistake {
        what: "a slot, whose number changes",
        role: "signer",
        by: By::Tester,
        spoil: |shop| set(shop, "hsm.uri", "pkcs11:slot-id=1"),
        code: CONFIG,
        finds: "config",
        says: &[
            "/passportd.toml:",
            "`hsm.uri`: `slot-id` is not used: a token is chosen by `token` and `serial`",
            "slots are renumbered when tokens are made",
        ],
    },
    Mistake {
        what: "not a URI",
        role: "signer",
        by: By::Tester,
        spoil: |shop| set(shop, "hsm.uri", "token=x"),
        code: CONFIG,
        finds: "config",
        says: &["/passportd.toml:", "`hsm.uri`: a PKCS#11 URI starts with `pkcs11:`"],
    },
    Mistake {
        what: "a URI that does not say which token",
        role: "signer",
        by: By::Tester,
        spoil: |shop| set(shop, "hsm.uri", "pkcs11:model=SoftHSM%20v2"),
        code: CONFIG,
        finds: "config",
        says: &["/passportd.toml:", "`hsm.uri`: the URI must say which token: `token=` or `serial=`"],
    },
    Mistake {
        what: "an attribute that RFC 7512 does not know",
        role: "signer",
        by: By::Tester,
        spoil: |shop| set(shop, "hsm.uri", "pkcs11:tokn=x"),
        code: CONFIG,
        finds: "config",
        says: &["/passportd.toml:", "`hsm.uri`: `tokn` is not an attribute of RFC 7512"],
    },
    Mistake {
        what: "the PIN in the URI",
        role: "signer",
        by: By::Tester,
        spoil: |shop| set(shop, "hsm.uri", "pkcs11:token=passportd-test?pin-value=0815"),
        code: CONFIG,
        finds: "config",
        says: &["/passportd.toml:", "`hsm.uri`: `pin-value` is refused", "Use `pin-source=file:/…` or hsm.pin_file"],
    },
    Mistake {
        what: "a command that would give the PIN",
        role: "signer",
        by: By::Tester,
        spoil: |shop| set(shop, "hsm.uri", "pkcs11:token=passportd-test?pin-source=%7Ccat%20/etc/pin"),
        code: CONFIG,
        finds: "config",
        says: &["/passportd.toml:", "`pin-source` must be a file", "no command is run"],
    },
];

const PIN: &[Mistake] = &[
    Mistake {
        what: "everybody may read the PIN",
        role: "signer",
        by: By::Tester,
        spoil: |shop| mode(&shop.path("pin"), 0o644),
        code: CONFIG,
        finds: "pin",
        says: &["[hsm] pin_file: ", "/pin has mode 0644, so others may use it; run: chmod 0400 "],
    },
    Mistake {
        what: "the PIN's file is not there",
        role: "signer",
        by: By::Tester,
        spoil: |shop| fs::remove_file(shop.path("pin")).unwrap(),
        code: CONFIG,
        finds: "pin",
        says: &["[hsm] pin_file: ", "/pin: No such file", "the PIN file must exist and be readable by uid "],
    },
    Mistake {
        what: "a link to the PIN",
        role: "signer",
        by: By::Tester,
        spoil: |shop| {
            fs::rename(shop.path("pin"), shop.path("pin.real")).unwrap();
            std::os::unix::fs::symlink("pin.real", shop.path("pin")).unwrap();
        },
        code: CONFIG,
        finds: "pin",
        says: &["/pin is a symbolic link; name the PIN file itself"],
    },
    Mistake {
        what: "somebody else's PIN file",
        role: "signer",
        by: By::Root,
        spoil: |shop| give(&shop.path("pin"), shop.front().unwrap().0),
        code: CONFIG,
        finds: "pin",
        says: &["/pin belongs to uid ", "run: chown 0 "],
    },
    Mistake {
        what: "no PIN is configured",
        role: "signer",
        by: By::Tester,
        spoil: |shop| set(shop, "hsm.pin_file", ""),
        code: CONFIG,
        finds: "pin",
        says: &["no PIN is configured: set [hsm] pin_file, or give the unit the credential hsm-pin"],
    },
    Mistake {
        what: "the PIN's file is empty",
        role: "signer",
        by: By::Tester,
        spoil: |shop| pin(shop, "\n", 0o400),
        code: CONFIG,
        finds: "pin",
        says: &["/pin is empty; write the user PIN of the HSM there"],
    },
    Mistake {
        what: "two lines in the PIN's file",
        role: "signer",
        by: By::Tester,
        spoil: |shop| pin(shop, "4711\n0815\n", 0o400),
        code: CONFIG,
        finds: "pin",
        says: &["/pin holds a line break or control character; write the PIN alone, on one line"],
    },
    Mistake {
        what: "a wrong PIN; that it is not tried again is tests/start/pin.rs's",
        role: "signer",
        by: By::Tester,
        spoil: |shop| pin(shop, "0000-wrong\n", 0o400),
        code: CONFIG,
        finds: "",
        says: &[
            "the token \"passportd-test\" refused the PIN (CKR_PIN_INCORRECT)",
            "correct the PIN file, then start again",
        ],
    },
];

#[test]
fn the_module() {
    check(MODULE);
}

#[test]
fn the_token() {
    check(TOKEN);
}

#[test]
fn the_pin() {
    check(PIN);
}

#[test]
fn a_credential_is_called_what_it_is() {
    let shop = Workshop::new();
    let dir = shop.path("credentials");
    fs::create_dir(&dir).unwrap();
    mode(&dir, 0o700);
    set(&shop, "hsm.pin_file", "");
    let start = || shop.start("signer", &[("CREDENTIALS_DIRECTORY", dir.to_str().unwrap())]);
    let missing = start();
    fs::write(dir.join("hsm-pin"), "").unwrap();
    mode(&dir.join("hsm-pin"), 0o400);
    let empty = start();
    for (ended, says) in [(missing, "/credentials/hsm-pin: No such file"), (empty, "/credentials/hsm-pin is empty")] {
        assert_eq!(ended.status.and_then(|status| status.code()), Some(CONFIG), "{}", ended.said);
        let named = "the credential hsm-pin, which LoadCredential= of the signer's unit names: ";
        assert!(ended.said.contains(named) && ended.said.contains(says), "{}", ended.said);
        assert!(!ended.said.contains("[hsm] pin_file"), "{}", ended.said);
    }
}
