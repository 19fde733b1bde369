//! A front that has been taken over, and speaks the link: what it asks for beyond its right is refused and counted, and the
//! HSM is as it was.

use super::*;

/// The objects in the token, as another program sees them.
fn objects(hsm: &SoftHsm) -> String {
    let mut command = Command::new("pkcs11-tool");
    command.args(["--token-label", LABEL, "--login", "--pin", PIN, "--list-objects"]);
    command.arg("--module").arg(softhsm::module().unwrap());
    let output = hsm.apply(&mut command).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refused(link: &mut Link, op: LinkOp<'_>) -> LinkRefusal {
    match link.ask(op) {
        LinkResult::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_front_that_was_taken_over_gets_nothing_beyond_its_right() {
    let Some(hsm) = initialised() else { return };
    let keys = std::fs::read(hsm.dir().join("state/keys.json")).unwrap();
    let process = signer(&hsm);
    let (mut link, _) = Link::open(&process);
    let now = Moment::now().unix();
    let sealed = match link.ask(LinkOp::Seal { namespace: "t1/billing", name: "database", plain: Plain(b"x") }) {
        LinkResult::Sealed { blob, .. } => blob,
        other => panic!("{other:?}"),
    };
    let past = |claims: &mut Claims| {
        claims.iat = now - 300;
        claims.exp = now + 60;
    };
    let long = |claims: &mut Claims| claims.exp = claims.iat + 100 * 86_400;
    let foreign = |claims: &mut Claims| claims.iss = "https://other.test".to_owned();
    let payloads = [
        (payload("ed25519/t2/auth/v1", |_| {}), LinkRefusal::TenantDenied),
        (payload(V1, long), LinkRefusal::LifetimeDenied),
        (payload(V1, foreign), LinkRefusal::ForeignIssuer),
        (payload(V1, past), LinkRefusal::ClockDenied),
        // Raw bytes: whatever it is, it is no passport.
        (vec![0; 64], LinkRefusal::Malformed),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), LinkRefusal::Malformed),
        ([PROBE_PREFIX, &[0; 32]].concat(), LinkRefusal::Malformed),
        // What the seal key would make a key of.
        (b"passportd/seal/v1\0".to_vec(), LinkRefusal::Malformed),
    ];
    for (bytes, wanted) in &payloads {
        assert_eq!(refused(&mut link, LinkOp::Sign { payload: bytes }), *wanted, "{}", String::from_utf8_lossy(bytes));
    }
    let seal = |namespace| LinkOp::Seal { namespace, name: "x", plain: Plain(b"x") };
    assert_eq!(refused(&mut link, seal("t2/billing")), LinkRefusal::TenantDenied);
    assert_eq!(refused(&mut link, seal("passportd/shared")), LinkRefusal::TenantDenied);
    assert_eq!(refused(&mut link, seal("slow/billing")), LinkRefusal::NamespaceDenied);
    let unseal = LinkOp::Unseal { namespace: "t1/mail", name: "database", blob: &sealed };
    assert_eq!(refused(&mut link, unseal), LinkRefusal::Unopenable);
    assert_eq!(refused(&mut link, LinkOp::Probe { kid: SEAL }), LinkRefusal::PurposeDenied);
    let count = u64::try_from(payloads.len()).unwrap() + 5;
    assert_eq!(link.stats().refused, count, "each is counted");

    // There is no operation that destroys or makes a key: whatever tag it is asked by, the connection is closed.
    for tag in [8, 100, 250] {
        let (mut other, _) = Link::open(&process);
        other.socket.write_all(&[0, 0, 0, 3, WIRE_VERSION, 1, tag]).unwrap();
        assert_eq!(other.frame(), None, "tag {tag}");
    }
    let bytes = payload(V1, |_| {});
    let keys_now = link.keys();
    assert!(public(&keys_now, V1).verify(&bytes, &signature(link.sign(&bytes))), "it goes on");
    drop(process);
    assert_eq!(std::fs::read(hsm.dir().join("state/keys.json")).unwrap(), keys);
    // Two halves of the passport key and of the audit key, and the seal key.
    assert_eq!(objects(&hsm).matches(" Object").count(), 5, "{}", objects(&hsm));
}
