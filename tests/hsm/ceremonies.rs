//! Ceremonies, and what is said of a set-up that is wrong.

use super::signer::snapshot;
use super::*;

#[test]
fn init_makes_three_keys_once() {
    let Some(hsm) = Token::new(Hsm::chosen()) else { return };
    let report = done(&hsm, PlanKind::Init, "auth");
    let kids: Vec<&str> = report.keys.iter().map(|key| key.kid.as_str()).collect();
    assert_eq!(kids, [V1, AUDIT, SEAL]);
    assert!(report.keys.iter().all(|key| key.made_now && key.usable && key.problem.is_empty()), "{report:?}");
    assert!(report.keys[2].public.is_none() && report.keys[0].public.as_ref().unwrap().len() == 64);
    assert!(report.orphans.is_empty() && report.warnings.is_empty(), "{report:?}");
    let backup = PathBuf::from(report.backup.unwrap());
    assert!(backup.join("store").is_dir());
    let pins = hsm.state_dir().join("keys.json");
    assert_eq!(std::fs::metadata(&pins).unwrap().mode() & 0o7777, 0o600);

    let before = std::fs::read(&pins).unwrap();
    let again = done(&hsm, PlanKind::Init, "auth");
    assert!(again.keys.iter().all(|key| !key.made_now && key.usable), "{again:?}");
    assert_eq!(std::fs::read(&pins).unwrap(), before);
}

/// Every file below `dir`, by its path there.
fn held(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    snapshot(dir).into_iter().map(|(path, bytes)| (path.strip_prefix(dir).unwrap().to_owned(), bytes)).collect()
}

/// A module that is killed while it changes its store may lose it: SoftHSM, in 104 of 200 kills.
#[test]
fn the_copy_is_that_of_before_the_change_whatever_becomes_of_it() {
    let Some(hsm) = initialised() else { return };
    let (store, backups) = (hsm.dir().join("store"), hsm.state_dir().join("backups"));
    let pins = || std::fs::read(hsm.state_dir().join("keys.json")).unwrap();
    let newest = || std::fs::read_dir(&backups).unwrap().map(|one| one.unwrap().path()).max().unwrap();
    let (before, pinned) = (held(&store), pins());
    let report = done(&hsm, PlanKind::Generate, "auth");
    let copy = PathBuf::from(report.backup.unwrap());
    assert_eq!((newest(), held(&copy.join("store")) == before), (copy.clone(), true), "not as it was before");
    assert_eq!(std::fs::read(copy.join("keys.json")).unwrap(), pinned);
    assert!(held(&store) != before && pins() != pinned, "which is another than now");

    // Of one that comes to nothing, too: it may have got as far as to spoil the store.
    let (before, pinned) = (held(&store), pins());
    failed(hold(&hsm, &[], PlanKind::Generate, "auth", Some("no such pin")));
    let after = newest();
    assert!(after > copy, "{after:?}");
    assert_eq!((held(&after.join("store")) == before, std::fs::read(after.join("keys.json")).unwrap()), (true, pinned));
}

#[test]
fn another_tool_sees_keys_that_can_only_sign() {
    let Some(hsm) = initialised() else { return };
    let mut command = Command::new("pkcs11-tool");
    command.args(["--list-objects", "--login", "--pin", PIN, "--token-label", LABEL, "--module"]);
    command.arg(Hsm::chosen().module());
    let Ok(output) = hsm.apply(&mut command).output() else {
        softhsm::skipped::skipped("pkcs11-tool (package opensc) is not installed");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let objects: Vec<&str> =
        text.split("\nPr").flat_map(|part| part.split("\nPu")).flat_map(|part| part.split("\nSe")).collect();
    let secret: Vec<&&str> = objects.iter().filter(|object| object.contains("never extractable")).collect();
    assert_eq!(secret.len(), 3, "{text}");
    for object in secret {
        // For secret keys this tool does not show CKA_SIGN; the signer's own reading of it is what init reports.
        let usage = object.lines().find(|line| line.trim().starts_with("Usage:")).unwrap();
        let granted: BTreeSet<&str> =
            usage.trim().trim_start_matches("Usage:").split([',', ' ']).filter(|w| !w.is_empty()).collect();
        let wanted = if object.contains(SEAL) { BTreeSet::from(["none"]) } else { BTreeSet::from(["sign"]) };
        assert_eq!(granted, wanted, "{object}");
        assert!(object.contains("always sensitive"), "{object}");
    }
}

#[test]
fn versions_grow_and_are_never_used_again() {
    let Some(hsm) = initialised() else { return };
    assert!(done(&hsm, PlanKind::Generate, "auth").keys.iter().any(|key| key.kid == V2 && key.made_now));
    // As if the ceremony had been killed between making the key and pinning it.
    let pins = hsm.state_dir().join("keys.json");
    let text = std::fs::read_to_string(&pins).unwrap();
    let cut: serde_json::Value = {
        let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
        value["keys"].as_array_mut().unwrap().pop();
        value
    };
    std::fs::write(&pins, cut.to_string()).unwrap();
    let listed = done(&hsm, PlanKind::List, "auth");
    let orphan = listed.keys.iter().find(|key| key.kid == V2).unwrap();
    assert!(!orphan.usable && orphan.problem.contains("not pinned"), "{orphan:?}");
    let made = done(&hsm, PlanKind::Generate, "auth");
    let fresh: Vec<&str> = made.keys.iter().filter(|key| key.made_now).map(|key| key.kid.as_str()).collect();
    assert_eq!(fresh, ["ed25519/t1/auth/v3"]);
}

#[test]
fn a_purpose_outside_the_bounds_is_warned_of() {
    let Some(hsm) = Token::new(Hsm::chosen()) else { return };
    let report = done(&hsm, PlanKind::Generate, "other");
    assert!(report.warnings[0].contains("\"other\"") && report.warnings[0].contains("will not sign"), "{report:?}");
}

#[test]
fn strangers_wrong_pins_and_nonsense_are_refused() {
    let Some(hsm) = Token::new(Hsm::chosen()) else { return };
    let (code, message) = failed(hold(&hsm, &[("ALLOWED", "12345")], PlanKind::Init, "auth", Some(PIN)));
    assert!(code == "denied" && message.contains(&format!("uid {}", uid())), "{message}");
    let (code, message) = failed(hold(&hsm, &[], PlanKind::Init, "auth", Some("wrong")));
    assert!(code == "pin" && message.contains("CKR_PIN_INCORRECT"), "{message}");
    let (code, _) = failed(hold(&hsm, &[], PlanKind::Init, "auth", None));
    assert_eq!(code, "request");
    let (code, message) = failed(hold(&hsm, &[], PlanKind::Init, "audit", Some(PIN)));
    assert!(code == "request" && message.contains("reserved"), "{message}");
    assert!(!hsm.state_dir().join("keys.json").exists());
}

#[test]
fn each_mistake_in_the_set_up_has_its_own_words() {
    let Some(hsm) = Token::new(Hsm::chosen()) else { return };
    let not_a_module =
        if PathBuf::from("/usr/lib/os-release").exists() { "/usr/lib/os-release" } else { "/etc/passwd" };
    let store = hsm.dir().join("store");
    for (vars, refused_pin, text) in [
        (&[("HSM_MODULE", "/nonexistent/module.so")][..], false, "can't be opened"),
        (&[("HSM_MODULE", "softhsm.so")], false, "is not absolute"),
        (&[("HSM_MODULE", not_a_module)], false, "is not a PKCS#11 module"),
        (&[("HSM_LABEL", "other")], false, "no token with label \"other\"; the module shows \"passportd-test\""),
        (&[("HSM_PIN", "wrong")], true, "refused the PIN (CKR_PIN_INCORRECT)"),
    ] {
        let mut process = start(&hsm, "signer", vars);
        let said = process.heard().unwrap();
        assert!(said.starts_with(&format!("error {refused_pin}")) && said.contains(text), "{said}");
    }
    std::fs::rename(&store, hsm.dir().join("moved")).unwrap();
    let said = start(&hsm, "signer", &[]).heard().unwrap();
    assert!(said.contains("the token store") && said.contains("does not exist"), "{said}");
}

#[test]
fn the_doctor_says_one_thing_a_line() {
    let Some(hsm) = initialised() else { return };
    let doctor = |vars: &[(&str, &str)], pin| match hold(&hsm, vars, PlanKind::Doctor, "auth", pin) {
        Response::Done(report) => report.findings,
        Response::Failed { message, .. } => panic!("{message}"),
    };
    let well = doctor(&[], Some(PIN));
    assert!(well.iter().all(|finding| finding.ok && finding.remedy.is_empty()), "{well:?}");
    let names: Vec<&str> = well.iter().map(|finding| finding.name.as_str()).collect();
    assert_eq!(names, ["store", "config", "module", "initialise", "token", "mechanisms", "pin", V1, AUDIT, SEAL]);

    let bad = |findings: Vec<Finding>| {
        let bad: Vec<_> = findings.into_iter().filter(|finding| !finding.ok).collect();
        assert!(bad.len() == 1 && !bad[0].remedy.is_empty() && !bad[0].detail.contains('\n'), "{bad:?}");
        bad[0].name.clone()
    };
    assert_eq!(bad(doctor(&[], Some("wrong"))), "pin");
    assert_eq!(bad(doctor(&[("HSM_LABEL", "other")], Some(PIN))), "token");
    assert_eq!(bad(doctor(&[("HSM_MODULE", "/nonexistent.so")], Some(PIN))), "module");
    std::fs::set_permissions(hsm.store(), PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(bad(doctor(&[], Some(PIN))), "store");
    std::fs::set_permissions(hsm.store(), PermissionsExt::from_mode(0o700)).unwrap();

    if hsm.hsm() != Hsm::SoftHsm {
        return; // The other's configuration withholds no mechanism.
    }
    let conf = std::fs::read_to_string(hsm.conf()).unwrap();
    let both = ["CKM_EDDSA", "CKM_EC_EDWARDS_KEY_PAIR_GEN"];
    for (offered, lacking) in [(both[0], both[1]), (both[1], both[0])] {
        let less = conf.replace("slots.mechanisms = ALL", &format!("slots.mechanisms = {offered},CKM_SHA256_HMAC"));
        assert_ne!(less, conf);
        std::fs::write(hsm.conf(), less).unwrap();
        let findings = doctor(&[], Some(PIN));
        let named = findings.iter().find(|finding| !finding.ok).unwrap().detail.clone();
        assert!(named.contains(lacking), "{lacking}, and not: {named}");
        assert_eq!(bad(findings), "mechanisms");
        let (code, message) = failed(hold(&hsm, &[], PlanKind::List, "auth", Some(PIN)));
        assert!(code == "hsm" && message.contains(lacking), "{code}: {message}");
    }
    let less = format!("slots.mechanisms = {},{}", both[0], both[1]);
    std::fs::write(hsm.conf(), conf.replace("slots.mechanisms = ALL", &less)).unwrap();
    assert_eq!(bad(doctor(&[], Some(PIN))), "seal");
}
