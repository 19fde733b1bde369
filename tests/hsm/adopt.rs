//! Keys that another program made: which are taken over, and which are not.

use super::*;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, KeyType};
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;
use passportd::passport::hex;

/// As another program may name it.
const FOREIGN: &str = "Billing signer (2019)";

/// The other program: makes a key of the kind `MAKE` with the id `MAKE_ID`. Kinds are `fit`, `seal`, and what is wrong.
pub(crate) fn make() {
    let kind = roles::var("MAKE").unwrap();
    let module = Pkcs11::new(Hsm::chosen().module()).unwrap();
    module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    let mut slots = module.get_slots_with_initialized_token().unwrap().into_iter();
    let slot = slots.find(|slot| module.get_token_info(*slot).unwrap().label() == LABEL).unwrap();
    let session = module.open_rw_session(slot).unwrap();
    session.login(UserType::User, Some(&AuthPin::new(PIN.into()))).unwrap();
    let common = || {
        let id = hex::decode(&roles::var("MAKE_ID").unwrap().to_lowercase()).unwrap();
        vec![Attribute::Token(true), Attribute::Label(FOREIGN.into()), Attribute::Id(id)]
    };
    let mut secret = common();
    let on = |other: &str| kind == other;
    secret.extend([Attribute::Private(true), Attribute::Sensitive(true), Attribute::Sign(true)]);
    secret.extend([Attribute::Extractable(on("extractable")), Attribute::Decrypt(on("decrypts"))]);
    secret.extend([Attribute::Unwrap(false), Attribute::Derive(false)]);
    if kind == "seal" {
        secret.extend([Attribute::KeyType(KeyType::GENERIC_SECRET), Attribute::ValueLen(32.into())]);
        secret.extend([Attribute::Encrypt(false), Attribute::Wrap(false), Attribute::Verify(false)]);
        session.generate_key(&Mechanism::GenericSecretKeyGen, &secret).unwrap();
    } else {
        secret.push(Attribute::SignRecover(false));
        let mut public = common();
        public.extend([Attribute::KeyType(KeyType::EC_EDWARDS), Attribute::Verify(true)]);
        public.push(Attribute::EcParams(b"\x13\x0cedwards25519".to_vec()));
        let (public, _) = session.generate_key_pair(&Mechanism::EccEdwardsKeyPairGen, &public, &secret).unwrap();
        if kind == "no public" {
            session.destroy_object(public).unwrap();
        }
    }
    session.close().unwrap();
    module.finalize().unwrap();
    roles::say("made");
}

fn other_program(hsm: &Token, kind: &str, id: &str) {
    assert_eq!(start(hsm, "maker", &[("MAKE", kind), ("MAKE_ID", id)]).heard().as_deref(), Some("made"));
}

fn adopt(hsm: &Token, purpose: &str, id: &str, dry_run: bool) -> Response {
    let request = Request {
        plan: PlanKind::Adopt,
        tenant: Some("t1".to_owned()),
        purpose: Some(purpose.to_owned()),
        cka_id: Some(id.to_owned()),
        dry_run,
        ..Request::default()
    };
    let process = start(hsm, "ceremony", &[]).ready();
    call(UnixStream::connect(&process.socket).unwrap(), &request, PIN.as_bytes()).unwrap()
}

fn pins(hsm: &Token) -> Vec<u8> {
    std::fs::read(hsm.state_dir().join("keys.json")).unwrap()
}

#[test]
fn a_fit_key_is_adopted_as_the_next_version_and_signs() {
    let Some(hsm) = initialised() else { return };
    other_program(&hsm, "fit", "0A0B");
    let before = pins(&hsm);
    let Response::Done(tried) = adopt(&hsm, "auth", "0A0B", true) else { panic!() };
    assert!(tried.keys.iter().any(|key| key.kid == V2 && key.made_now && key.usable) && tried.backup.is_none());
    assert_eq!(pins(&hsm), before, "only tried");

    let store = signer::snapshot(&hsm.store());
    let Response::Done(report) = adopt(&hsm, "auth", "0A0B", false) else { panic!() };
    let key = report.keys.iter().find(|key| key.made_now).unwrap();
    assert!((key.kid.as_str(), key.cka_id.as_str(), key.usable) == (V2, "0a0b", true), "{key:?}");
    assert!(report.backup.is_some());
    let objects = |all: BTreeMap<PathBuf, Vec<u8>>| -> BTreeMap<_, _> {
        all.into_iter().filter(|(path, _)| !path.ends_with("token.object")).collect()
    };
    assert!(objects(signer::snapshot(&hsm.store())) == objects(store), "no object was touched");

    let process = signer(&hsm);
    let (mut link, _) = Link::open(&process);
    let key = link.keys().into_iter().find(|key| key.kid == V2).unwrap();
    let (payload, public) = (payload(V2, |_| ()), PreparedKey::new(&key.public).unwrap());
    assert!(public.verify(&payload, &signature(link.sign(&payload))));
    // Its version is never given again, and it is not adopted twice.
    assert!(done(&hsm, PlanKind::Generate, "auth").keys.iter().any(|key| key.kid == "ed25519/t1/auth/v3"));
    let (code, message) = failed(adopt(&hsm, "other", "0a0b", false));
    assert!(code == "unfit" && message.contains(&format!("in use already, as {V2}")), "{message}");
}

#[test]
fn a_secret_key_is_adopted_to_seal_and_the_one_before_is_retired() {
    let Some(hsm) = initialised() else { return };
    let retire = |kid: &str| {
        let request = Request { plan: PlanKind::RetireSeal, kid: Some(kid.to_owned()), ..Request::default() };
        let process = start(&hsm, "ceremony", &[]).ready();
        call(UnixStream::connect(&process.socket).unwrap(), &request, PIN.as_bytes()).unwrap()
    };
    let (code, message) = failed(retire(SEAL));
    assert!(code == "request" && message.contains("no newer seal key"), "{message}");
    other_program(&hsm, "seal", "0c");
    let Response::Done(report) = adopt(&hsm, "seal", "0c", false) else { panic!() };
    assert!(report.keys.iter().any(|key| key.kid == "hmac-sha256/t1/seal/v2" && key.usable), "{report:?}");
    for (kid, why) in
        [(V1, "no seal key"), ("hmac-sha256/t1/seal/v2", "no newer"), ("hmac-sha256/t2/seal/v1", "no newer")]
    {
        let (code, message) = failed(retire(kid));
        assert!(code == "request" && message.contains(why), "{kid}: {message}");
    }
    let Response::Done(report) = retire(SEAL) else { panic!() };
    let old = report.keys.iter().find(|key| key.kid == SEAL).unwrap();
    assert!(!old.usable && old.problem == "it is retired", "{old:?}");
    let seen = pins(&hsm);
    assert!(matches!(retire(SEAL), Response::Done(_)) && pins(&hsm) == seen, "once is enough");
}

#[test]
fn a_key_that_is_not_fit_is_refused_by_name_and_nothing_changes() {
    let Some(hsm) = initialised() else { return };
    let own = done(&hsm, PlanKind::List, "auth").keys[0].cka_id.clone();
    for (kind, id) in [("extractable", "01"), ("decrypts", "02"), ("no public", "03"), ("seal", "04"), ("fit", "05")] {
        other_program(&hsm, kind, id);
    }
    (0..2).for_each(|_| other_program(&hsm, "fit", "06"));
    let before = pins(&hsm);
    for (purpose, id, code, why) in [
        ("auth", "01", "unfit", "CKA_EXTRACTABLE is set"),
        ("auth", "02", "unfit", "more than sign: CKA_DECRYPT"),
        ("auth", "03", "unfit", "no public key with the same CKA_ID"),
        ("auth", "04", "unfit", "only purpose `seal` takes one"),
        ("seal", "05", "unfit", "takes a secret one"),
        ("auth", "06", "unfit", "several keys have it"),
        ("auth", "07", "unfit", "there is no private or secret key with it"),
        ("auth", &own, "unfit", &format!("in use already, as {V1}")),
        ("auth", "0", "request", "no CKA_ID in hex"),
        ("auth", "", "request", "no CKA_ID in hex"),
        ("A", "05", "request", "reserved"),
    ] {
        let (got, message) = failed(adopt(&hsm, purpose, id, false));
        assert!(got == code && message.contains(why), "{purpose} {id}: {got}: {message}");
    }
    // A key of a ceremony that was cut short has a label of ours: it is not repaired by the back door.
    let cut = done(&hsm, PlanKind::Generate, "auth").keys.into_iter().find(|key| key.made_now).unwrap();
    std::fs::write(hsm.state_dir().join("keys.json"), &before).unwrap();
    let (_, message) = failed(adopt(&hsm, "auth", &cut.cka_id, false));
    assert!(message.contains("never pinned"), "{message}");
    assert_eq!(pins(&hsm), before);
}
