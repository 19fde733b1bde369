//! What `passportctl hsm doctor` finds in a token that somebody has meddled with: each thing by name, with its remedy, and
//! nothing repaired.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::process::Command;

use passportd::wire::ceremony::PlanKind;
use serde_json::Value;

use super::holder::grant;
use super::support::house::FIRST_KEY;
use super::support::softhsm::PIN;
use super::support::{House, Hsm, Options, Users, root_or_skip, skipped};

const SECOND_KEY: &str = "ed25519/t1/auth/v2";
const AUDIT_KEY: &str = "ed25519/t1/audit/v1";

/// One way to meddle.
struct Meddling {
    what: &'static str,
    meddle: fn(&House),
    /// Names of the findings that are bad, what is in their details, and in their remedies.
    finds: &'static [(&'static str, &'static str, &'static str)],
}

const ALL: &[Meddling] = &[
    Meddling {
        what: "a ceremony was killed after it had made a key",
        meddle: |house| {
            house.fault("C_GenerateKeyPair kill=KILL late");
            let pin = house.hsm().pin_file();
            let rotate = ["hsm", "rotate", "--tenant", "t1", "--purpose", "auth", "--pin-file", pin.to_str().unwrap()];
            assert_eq!(run(house, &rotate).0, Some(1));
        },
        finds: &[(SECOND_KEY, "not pinned", "passportctl hsm rotate")],
    },
    Meddling {
        what: "a private key was destroyed",
        meddle: |house| {
            let id = cka_id(house, FIRST_KEY);
            other_program(house, &["--delete-object", "--type", "privkey", "--id", &id]);
        },
        finds: &[
            (FIRST_KEY, "pinned but not in the HSM", "bring back the token"),
            ("orphan", "has no private key", "have it destroyed"),
        ],
    },
    Meddling {
        what: "another key of the same label",
        meddle: |house| make(house, FIRST_KEY, "0102", &[]),
        finds: &[(FIRST_KEY, "several keys have its label", "make a new key")],
    },
    Meddling {
        what: "another key of the same CKA_ID",
        meddle: |house| make(house, "somebody else's", &cka_id(house, AUDIT_KEY), &[]),
        finds: &[(AUDIT_KEY, "another key has the same CKA_ID", "make a new key")],
    },
    Meddling {
        what: "a key that may leave the token, under a name of ours",
        meddle: |house| make(house, SECOND_KEY, "0103", &["--extractable"]),
        finds: &[(SECOND_KEY, "CKA_EXTRACTABLE is set", "have this one destroyed")],
    },
    Meddling {
        what: "a key that may do more than it could when it was made",
        meddle: |house| grant(house.hsm(), FIRST_KEY),
        finds: &[(FIRST_KEY, "it may do more than sign: CKA_DECRYPT", "make a new key")],
    },
    Meddling {
        what: "a key that can be read",
        meddle: |house| house.fault(&format!("C_GetAttributeValue lie=0x103:00 label={FIRST_KEY}")),
        finds: &[(FIRST_KEY, "CKA_SENSITIVE is not set", "make a new key")],
    },
];

/// The tool: its exit code, and what it says.
fn run(house: &House, arguments: &[&str]) -> (Option<i32>, Value) {
    let config = house.dir().join("passportd.toml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_passportctl"));
    let ran = command.arg("--config").arg(config).args(["--output", "json"]).args(arguments).output().unwrap();
    (ran.status.code(), serde_json::from_slice(&ran.stdout).unwrap_or_default())
}

fn doctor(house: &House) -> (Option<i32>, Value) {
    let pin = house.hsm().pin_file();
    run(house, &["hsm", "doctor", "--pin-file", pin.to_str().unwrap()])
}

fn cka_id(house: &House, kid: &str) -> String {
    let keys = house.ceremony(PlanKind::List, "t1", "auth").keys;
    keys.into_iter().find(|key| key.kid == kid).unwrap().cka_id
}

fn other_program(house: &House, arguments: &[&str]) {
    let output = house.hsm().tool(Some(PIN)).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn make(house: &House, label: &str, id: &str, more: &[&str]) {
    let kind = ["--keypairgen", "--usage-sign", "--key-type", "EC:edwards25519", "--label", label, "--id", id];
    other_program(house, &[&kind[..], more].concat());
}

/// Every object of the token, and the list of keys. SoftHSM writes the token's own file anew at each login.
fn kept(house: &House) -> BTreeMap<OsString, Vec<u8>> {
    let token = fs::read_dir(house.hsm().store()).unwrap().next().unwrap().unwrap().path();
    let objects = fs::read_dir(token).unwrap().map(|entry| entry.unwrap().path());
    let objects =
        objects.filter(|path| path.extension().is_some_and(|end| end == "object") && !path.ends_with("token.object"));
    let all = objects.chain([house.dir().join("state/keys.json")]);
    all.map(|path| (path.file_name().unwrap().to_owned(), fs::read(&path).unwrap())).collect()
}

#[test]
fn what_was_done_to_a_token_is_named_and_left_as_it_is() {
    if !root_or_skip("a module that lies to the doctor") {
        return;
    }
    if Command::new("pkcs11-tool").arg("--version").output().is_err() {
        return skipped("pkcs11-tool (package opensc) is not installed");
    }
    for Meddling { what, meddle, finds } in ALL {
        // What another program makes is its user's.
        let house = House::start(Options::default().module(Hsm::SoftHsm).users(Users::Own).fault());
        let (code, well) = doctor(&house);
        assert!(code == Some(0) && well["ok"] == true, "{what}: {well}");
        meddle(&house);
        let before = kept(&house);
        assert!(before.len() >= 5, "{what}: {} files", before.len());
        let (code, found) = doctor(&house);
        let bad: Vec<&Value> =
            found["findings"].as_array().unwrap().iter().filter(|finding| finding["ok"] == false).collect();
        assert_eq!((code, bad.len()), (Some(1), finds.len()), "{what}: {bad:?}");
        for (finding, (name, detail, remedy)) in bad.iter().zip(*finds) {
            let says = |member: &str, words: &str| finding[member].as_str().unwrap().contains(words);
            assert!(finding["name"] == *name && says("detail", detail) && says("remedy", remedy), "{what}: {finding}");
        }
        assert!(kept(&house) == before, "{what}: something was repaired");
        assert_eq!(doctor(&house), (code, found), "{what}: asked again");
        house.no_fault();
    }
}
