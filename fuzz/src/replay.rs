//! The committed corpora, input by input, in the unit tests of passportd.

mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn names(dir: &str, suffix: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(package().join(dir)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(suffix).map(str::to_owned)).collect()
}

/// Runs a target over its corpus and says how many inputs there are.
fn replay(name: &str) -> usize {
    let (_, target) = targets::ALL.into_iter().find(|(known, _)| *known == name).unwrap();
    let mut count = 0;
    for entry in fs::read_dir(package().join("corpus").join(name)).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        assert!(catch_unwind(|| target(&bytes)).is_ok(), "{} fails on {}", name, path.display());
        count += 1;
    }
    count
}

#[test]
fn each_target_has_its_binary_and_its_corpus() {
    let known: BTreeSet<String> = targets::ALL.into_iter().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(names("fuzz_targets", ".rs"), known);
    assert_eq!(names("corpus", ""), known);
    let manifest = fs::read_to_string(package().join("Cargo.toml")).unwrap();
    for name in &known {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "fuzz/Cargo.toml lacks {name}");
    }
}

/// The corpora stay small enough to be read at every run.
#[test]
fn the_corpora_are_small() {
    let mut total = 0;
    for (name, _) in targets::ALL {
        for entry in fs::read_dir(package().join("corpus").join(name)).unwrap() {
            total += entry.unwrap().metadata().unwrap().len();
        }
    }
    assert!(total <= 1 << 20, "the corpora hold {total} bytes: minimise them (scripts/fuzz --minimise)");
}

/// A test for each target, so that they run side by side and a failure has a name.
macro_rules! replayed {
    ($($name:ident)*) => {
        #[test]
        fn no_target_is_left_out() {
            let listed = [$(stringify!($name)),*];
            assert_eq!(listed, targets::ALL.map(|(name, _)| name));
        }

        $(#[test]
        fn $name() {
            assert!(replay(stringify!($name)) > 0, "its corpus is empty");
        })*
    };
}

replayed! { admin ceremony claims config envelope frames input jws ledger link_front link_signer policy proof sealed service state uri verdicts }
