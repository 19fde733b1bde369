//! What does not start, and why.

use std::fs::File;
use std::process::Stdio;

use super::{PATIENCE, options};
use crate::support::process::{PIPED, command};
use crate::support::{House, Options, Roles, eventually};

/// The exit code of a start that only a person can mend.
const EX_CONFIG: i32 = 78;

/// Starts a role in the directory of a house that runs, and waits for its end: its exit code and what it said.
fn start(house: &House, role: &str, piped: bool, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = command(role, house.dir());
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    if piped {
        let output = command.stderr(Stdio::piped()).output().unwrap();
        return (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let path = house.dir().join(PIPED);
    let status = command.stderr(File::create(&path).unwrap()).status().unwrap();
    (status.code(), std::fs::read_to_string(path).unwrap())
}

#[test]
fn a_role_whose_log_is_a_file_does_not_start() {
    let mut house = House::start(Options::default().without_keys().roles(Roles::Apart));
    house.stop();
    for role in ["front", "signer"] {
        let (code, said) = start(&house, role, false, &["--amnesia"]);
        assert_eq!(code, Some(EX_CONFIG), "{said}");
        assert!(said.contains("descriptor 2") && said.contains("pipe"), "{said}");
    }
}

#[test]
fn a_file_of_the_key_set_can_not_be_had() {
    let mut house = House::start(Options::default().without_keys().roles(Roles::Apart));
    house.stop();
    let jwks = house.dir().join("jwks.json");
    house.set("passport.jwks_file", jwks.to_str().unwrap());
    for arguments in [&["--amnesia"][..], &[]] {
        let (code, said) = start(&house, "front", true, arguments);
        assert_eq!(code, Some(EX_CONFIG), "{said}");
        assert!(said.contains("passport.jwks_file") && said.contains("amnesia"), "{said}");
        house.set("security.amnesia", true);
    }
    assert!(!jwks.exists());
}

/// A front that keeps and a signer that does not, and the other way round.
#[test]
fn front_and_signer_are_in_the_same_mode() {
    for forgets in ["the signer", "the front"] {
        let mut house = House::start(options().roles(Roles::Apart));
        let role = if forgets == "the signer" { "front" } else { "signer" };
        house.kill(role);
        house.set("security.amnesia", false);
        house.start_role(role);
        let why = format!("{forgets} is in amnesia mode");
        eventually("it says why", PATIENCE, || house.log().contains(&why).then_some(()));
        assert_eq!(house.get("/readyz").0, 503);
        // So that the end of the test looks for no ledger of a front that was told nothing.
        house.set("security.amnesia", true);
    }
}
