//! The programs as they are built to be shipped: nothing in them errs on purpose, and no feature could put it there.
#![cfg(test)]

#[path = "support/mark.rs"]
mod mark;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use mark::{FAULT, has_fault};

/// Every feature of a package of this repository. A fault is put in under `cfg(test)`, where no build of a program can ask
/// for it, and never by a feature, which any package of a build can turn on for all.
const FEATURES: [&str; 4] = ["passportd/cli", "passportd/client", "passportd/daemon", "passportd/default"];

#[test]
fn no_program_holds_code_that_errs_on_purpose() {
    for program in [env!("CARGO_BIN_EXE_passportd"), env!("CARGO_BIN_EXE_passportctl")] {
        assert!(!has_fault(&fs::read(program).unwrap()), "{program}");
    }
    // As it would be found. That the library's tests hold it, they assert themselves.
    assert!(has_fault(&[&[0; 100], FAULT.as_bytes(), b"e"].concat()) && !has_fault(&FAULT.as_bytes()[1..]));
    assert!(has_fault(&fs::read(std::env::current_exe().unwrap()).unwrap()), "a program's texts are found");
}

#[test]
fn no_feature_puts_a_fault_in() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["metadata", "--offline", "--locked", "--no-deps", "--format-version", "1"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut features = BTreeSet::new();
    let packages = metadata["packages"].as_array().unwrap();
    for package in packages {
        let name = package["name"].as_str().unwrap();
        features.extend(package["features"].as_object().unwrap().keys().map(|feature| format!("{name}/{feature}")));
    }
    assert!(packages.len() >= 3 && packages.iter().any(|package| package["name"] == "strict25519"));
    assert_eq!(features, FEATURES.map(str::to_owned).into(), "a feature more is to be looked at, and named here");
}
