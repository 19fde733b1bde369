//! Keys that are not what they should be: each is named, refused, and never repaired.

use super::harness::Process;
use super::*;

/// A token with the keys of tenant `t1`, behind the module that fails on demand.
struct Lying {
    hsm: Token,
    vars: Vec<(&'static str, String)>,
}

impl Lying {
    fn new(test: &str) -> Option<Self> {
        if uid() != 0 {
            softhsm::skipped::skipped(&format!("{test} needs root, whose the module must be"));
            return None;
        }
        let hsm = initialised()?;
        let mut vars = vec![("HSM_MODULE", fault::path().to_str().unwrap().to_owned())];
        vars.extend(fault::environment(&Hsm::chosen().module(), &hsm.state_dir().join("control")));
        Some(Self { hsm, vars })
    }

    fn vars(&self) -> Vec<(&str, &str)> {
        self.vars.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    /// What the module does from now on.
    fn control(&self, text: &str) {
        fault_module::Control::parse(text).unwrap();
        std::fs::write(self.hsm.state_dir().join("control"), text).unwrap();
    }

    fn list(&self) -> Vec<KeyReport> {
        match hold(&self.hsm, &self.vars(), PlanKind::List, "auth", Some(PIN)) {
            Response::Done(report) => report.keys,
            Response::Failed { code, message } => panic!("{code}: {message}"),
        }
    }

    /// The first line of a signer.
    fn signer(&self) -> (Process, String) {
        let mut process = start(&self.hsm, "signer", &self.vars());
        let said = process.heard().unwrap();
        (process, said)
    }
}

#[test]
fn a_token_with_a_pad_of_its_own_is_logged_in_without_a_pin() {
    let Some(lying) = Lying::new("a pad") else { return };
    let list = || failed(hold(&lying.hsm, &lying.vars(), PlanKind::List, "auth", None));
    lying.control("");
    let (code, message) = list();
    assert!(code == "request" && message.contains("PIN is missing"), "{code}: {message}");
    lying.control("C_GetTokenInfo flags=own_pad\n");
    // The module behind has no pad, so it misses the PIN; but it was asked to log in.
    let (code, message) = list();
    assert!(code == "hsm" && message.contains("log in"), "{code}: {message}");
    // And a PIN that is given is still used.
    assert_eq!(lying.list().len(), 3);
}

#[test]
fn attributes_weaker_than_asked_are_named_and_the_key_is_refused() {
    let Some(lying) = Lying::new("attributes_weaker_than_asked_are_named_and_the_key_is_refused") else { return };
    for (lie, problem) in [
        ("0x002:00", "CKA_PRIVATE is not set"),
        ("0x103:00", "CKA_SENSITIVE is not set"),
        ("0x162:01", "CKA_EXTRACTABLE is set"),
        ("0x108:00", "CKA_SIGN is not set"),
        ("0x105:01", "more than sign: CKA_DECRYPT"),
        ("0x107:01", "more than sign: CKA_UNWRAP"),
        ("0x10c:01", "more than sign: CKA_DERIVE"),
        ("0x163:00", "CKA_LOCAL is not set"),
        ("0x165:00", "CKA_ALWAYS_SENSITIVE is not set"),
        ("0x164:00", "CKA_NEVER_EXTRACTABLE is not set"),
    ] {
        lying.control(&format!("C_GetAttributeValue lie={lie} label={V1}"));
        let keys = lying.list();
        assert!(!keys[0].usable && keys[0].problem.contains(problem), "{lie}: {:?}", keys[0]);
        assert!(keys[1..].iter().all(|key| key.usable), "the others are as they were: {keys:?}");
    }
    lying.control("");
    assert!(lying.list().iter().all(|key| key.usable), "nothing was changed");
}

#[test]
fn a_signer_whose_only_passport_key_is_another_one_does_not_start() {
    let Some(lying) = Lying::new("a_signer_whose_only_passport_key_is_another_one_does_not_start") else { return };
    let bent = format!("C_GetAttributeValue point=other label={V1}");
    lying.control(&bent);
    let said = lying.signer().1;
    assert!(said.starts_with("error false") && said.contains(V1) && said.contains("not the pinned one"), "{said}");
    match hold(&lying.hsm, &lying.vars(), PlanKind::Doctor, "auth", Some(PIN)) {
        Response::Done(report) => {
            let bad: Vec<_> = report.findings.iter().filter(|finding| !finding.ok).collect();
            assert!(matches!(bad[..], [one] if one.name == V1 && one.detail.contains("not the pinned one")), "{bad:?}");
        }
        Response::Failed { message, .. } => panic!("{message}"),
    }

    // With another key that can be used, that one serves; the altered one is refused alone.
    lying.control("");
    assert!(done(&lying.hsm, PlanKind::Generate, "auth").keys.iter().any(|key| key.kid == V2 && key.usable));
    lying.control(&bent);
    let (process, said) = lying.signer();
    assert_eq!(said, "ready");
    let (mut link, _) = Link::open(&process);
    let keys = link.keys();
    let usable = |kid: &str| keys.iter().any(|key| key.kid == kid && key.usable);
    assert!(!usable(V1) && usable(V2), "{keys:?}");
    assert!(matches!(link.sign(&payload(V1, |_| ())), LinkResult::Refused(LinkRefusal::UnknownKid)));
    assert!(matches!(link.sign(&payload(V2, |_| ())), LinkResult::Signed { .. }));
}

#[test]
fn the_doctor_tells_what_the_token_says_of_itself() {
    let Some(lying) = Lying::new("the_doctor_tells_what_the_token_says_of_itself") else { return };
    for (control, name, detail, logins) in [
        ("", "pin", "accepted", 1),
        ("sessions=2", "sessions", "the token allows 2, one of which holds the login; hsm.sessions asks for 2", 1),
        ("C_GetTokenInfo flags=count_low", "pin", "refused since it was last accepted", 1),
        ("C_GetTokenInfo flags=final_try,count_low", "pin", "not tried: ONE attempt is left", 0),
        ("C_GetTokenInfo flags=locked", "pin", "is locked (CKR_PIN_LOCKED)", 0),
    ] {
        // One login more than there may be would be refused, and that would be told.
        lying.control(&format!("{control}\nC_Login rv=0xA0 after={logins}"));
        match hold(&lying.hsm, &lying.vars(), PlanKind::Doctor, "auth", Some(PIN)) {
            Response::Done(report) => {
                let found = report.findings.iter().find(|one| one.name == name).unwrap();
                assert!(found.detail.contains(detail), "{control}: {:?}", report.findings);
                let refused = report.findings.iter().any(|one| one.detail.contains("CKR_PIN_INCORRECT"));
                assert!(!refused, "{control}: the PIN was tried");
                assert_eq!(report.findings.iter().any(|one| one.name == V1), logins == 1, "{control}");
            }
            Response::Failed { message, .. } => panic!("{message}"),
        }
    }
}

#[test]
fn a_ceremony_killed_at_any_step_leaves_a_key_that_is_named_and_not_used() {
    let Some(lying) = Lying::new("a_ceremony_killed_at_any_step_leaves_a_key_that_is_named_and_not_used") else {
        return;
    };
    let mut next = 2;
    for (step, left) in [
        ("C_Login kill=KILL late", None),
        ("C_GenerateKeyPair kill=KILL", None),
        ("C_GenerateKeyPair kill=KILL late", Some("not pinned")),
        ("C_GenerateKeyPair kill=SEGV late", Some("not pinned")),
        ("C_SignInit kill=KILL", Some("not pinned")),
        ("C_Sign kill=KILL late", Some("not pinned")),
        // It is pinned by then; only the answer is lost.
        ("C_Finalize kill=KILL", Some("")),
    ] {
        lying.control(step);
        let process = start(&lying.hsm, "ceremony", &lying.vars()).ready();
        let request = Request {
            plan: PlanKind::Generate,
            tenant: Some("t1".to_owned()),
            purpose: Some("auth".to_owned()),
            ..Request::default()
        };
        let answer = call(UnixStream::connect(&process.socket).unwrap(), &request, PIN.as_bytes());
        assert!(answer.is_err(), "{step}: {answer:?}");
        lying.control("");
        let keys = lying.list();
        let kid = format!("ed25519/t1/auth/v{next}");
        let found = keys.iter().find(|key| key.kid == kid);
        assert_eq!(found.is_some(), left.is_some(), "{step}: {keys:?}");
        if let (Some(found), Some(left)) = (found, left) {
            assert!(found.usable == left.is_empty() && found.problem.contains(left), "{step}: {found:?}");
            next += 1;
        }
    }
    // Whatever was left, the next is made under a version that nobody has had.
    let made = done(&lying.hsm, PlanKind::Generate, "auth");
    let fresh: Vec<&str> = made.keys.iter().filter(|key| key.made_now).map(|key| key.kid.as_str()).collect();
    assert_eq!(fresh, [format!("ed25519/t1/auth/v{next}")]);
    let (process, said) = lying.signer();
    assert_eq!(said, "ready");
    assert!(
        matches!(Link::open(&process).0.sign(&payload(V1, |_| ())), LinkResult::Signed { .. }),
        "the old one signs on"
    );
}

#[test]
fn keys_that_share_a_label_or_an_id_are_both_refused() {
    let Some(hsm) = initialised() else { return };
    let id =
        |kid: &str| done(&hsm, PlanKind::List, "auth").keys.iter().find(|key| key.kid == kid).unwrap().cka_id.clone();
    let another = |label: &str, id: &str| {
        let mut command = Command::new("pkcs11-tool");
        command.args(["--login", "--pin", PIN, "--token-label", LABEL, "--keypairgen", "--usage-sign"]);
        command.args(["--key-type", "EC:edwards25519", "--label", label, "--id", id, "--module"]);
        let made = hsm.apply(command.arg(Hsm::chosen().module())).output();
        made.inspect(|made| assert!(made.status.success(), "{made:?}"))
    };
    let (first, audit) = (id(V1), id(AUDIT));
    if another(V1, "0102").is_err() {
        softhsm::skipped::skipped("pkcs11-tool (package opensc) is not installed");
        return;
    }
    another("somebody else's", &audit).unwrap();
    let keys = done(&hsm, PlanKind::List, "auth").keys;
    let of = |kid: &str| keys.iter().find(|key| key.kid == kid).unwrap();
    assert!(!of(V1).usable && of(V1).problem.contains("several keys have its label"), "{keys:?}");
    assert!(!of(AUDIT).usable && of(AUDIT).problem.contains("same CKA_ID"), "{keys:?}");
    assert!(of(SEAL).usable && of(V1).cka_id == first, "{keys:?}");
}
