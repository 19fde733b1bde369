//! Small secrets, sealed by a key that kryoptic keeps.

use passportd::wire::ceremony::{PlanKind, Request, Response};
use passportd::wire::sealed::{MAX_PLAIN, Sealed};
use passportd::wire::{Code, Plain, Problem, ServiceOk, ServiceOp};

use super::support::softhsm::PIN;
use super::support::{House, eventually};
use super::{PATIENCE, house};

const SPACE: &str = "t1/billing";
const V1: &str = "hmac-sha256/t1/seal/v1";
const V2: &str = "hmac-sha256/t1/seal/v2";
const SECRET: &[u8] = b"correct horse battery staple";

fn seal(house: &House, name: &str, plain: &[u8]) -> Vec<u8> {
    match house.ask(ServiceOp::Seal { namespace: SPACE, name, plain: Plain(plain) }).unwrap() {
        ServiceOk::Sealed { blob } => blob,
        other => panic!("{other:?}"),
    }
}

fn unseal(house: &House, name: &str, blob: &[u8]) -> Result<Vec<u8>, Problem> {
    match house.ask(ServiceOp::Unseal { namespace: SPACE, name, blob })? {
        ServiceOk::Unsealed { plain } => Ok(plain.0.to_vec()),
        other => panic!("{other:?}"),
    }
}

fn kid(blob: &[u8]) -> String {
    Sealed::parse(blob).unwrap().kid.as_str().to_owned()
}

#[test]
fn a_secret_is_sealed_and_opened_again_after_a_restart() {
    let Some(mut house) = house(|options| options) else { return };
    let large = vec![0x5a; MAX_PLAIN];
    let blobs = [b"".as_slice(), SECRET, &large].map(|plain| (seal(&house, "database", plain), plain));
    house.stop();
    house.boot();
    house.wait_ready();
    for (blob, plain) in &blobs {
        assert_eq!(kid(blob), V1);
        assert_eq!(unseal(&house, "database", blob).unwrap(), *plain);
        assert_eq!(unseal(&house, "mail", blob).unwrap_err().code, Code::Malformed);
    }
}

#[test]
fn a_new_key_seals_the_old_one_opens_until_it_is_retired() {
    let Some(house) = house(|options| options) else { return };
    let old = seal(&house, "database", SECRET);
    house.ceremony(PlanKind::Generate, "t1", "seal");
    let fresh = eventually("the new key seals", PATIENCE, || {
        // The signer sees what the ceremony made when a key is staged, or asked for.
        drop(house.stage(V2));
        let blob = seal(&house, "database", SECRET);
        (kid(&blob) == V2).then_some(blob)
    });
    for blob in [&old, &fresh] {
        assert_eq!(unseal(&house, "database", blob).unwrap(), SECRET);
    }
    let request = Request { plan: PlanKind::RetireSeal, kid: Some(V1.to_owned()), ..Request::default() };
    let Response::Done(report) = house.try_ceremony(&request, PIN) else { panic!() };
    assert!(report.keys.iter().any(|key| key.kid == V1 && !key.usable), "{report:?}");
    // The signer that runs sees what the ceremony wrote, unasked.
    let refused = eventually("the old one opens nothing", PATIENCE, || unseal(&house, "database", &old).err());
    assert_eq!(refused.code, Code::Malformed, "{refused:?}");
    assert_eq!(unseal(&house, "database", &fresh).unwrap(), SECRET);
}
