//! A front that has been taken over, and speaks the link: what it asks for beyond its right is refused and counted, and the
//! HSM is as it was.

use super::*;

/// The objects in the token, as another program sees them.
fn objects(hsm: &Token) -> String {
    let mut command = Command::new("pkcs11-tool");
    command.args(["--token-label", LABEL, "--login", "--pin", PIN, "--list-objects"]);
    command.arg("--module").arg(Hsm::chosen().module());
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

/// What the signer has refused, by reason; last, what it could not read.
fn counted(link: &mut Link) -> Vec<u64> {
    match link.ask(LinkOp::Health) {
        LinkResult::Health(health) => health.refused,
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
        // A checkpoint of the ledger that is smaller than the one before: no key signs the text of one.
        (b"https://issuer.test\n1\nAAAA\n".to_vec(), LinkRefusal::Malformed),
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
    let mut expected = vec![0; LinkRefusal::ALL.len() + 1];
    let sealing = [
        LinkRefusal::TenantDenied,
        LinkRefusal::TenantDenied,
        LinkRefusal::NamespaceDenied,
        LinkRefusal::Unopenable,
        LinkRefusal::PurposeDenied,
    ];
    for refusal in payloads.iter().map(|(_, refusal)| *refusal).chain(sealing) {
        expected[LinkRefusal::ALL.iter().position(|one| *one == refusal).unwrap()] += 1;
    }
    assert_eq!(counted(&mut link), expected, "each is counted, by its reason");
    assert_eq!(link.stats().refused, expected.iter().sum::<u64>());

    // There is no operation that makes a key or destroys one: whatever tag it is asked by, and whatever follows, the connection
    // is closed. (8 to 10 are of statements, see `statements.rs`.)
    let unknown: [&[u8]; 4] = [b"\x0b\x15ed25519/t1/audit/v1\x00\x04body", b"\x0b", b"\x64", b"\xfa"];
    for op in unknown {
        let (mut other, _) = Link::open(&process);
        let body = [&[WIRE_VERSION, 1], op].concat();
        other.socket.write_all(&[&u32::try_from(body.len()).unwrap().to_be_bytes(), body.as_slice()].concat()).unwrap();
        assert_eq!(other.frame(), None, "{op:?}");
    }
    *expected.last_mut().unwrap() += 4;
    assert_eq!(counted(&mut link), expected, "as unreadable");
    let bytes = payload(V1, |_| {});
    let keys_now = link.keys();
    assert!(public(&keys_now, V1).verify(&bytes, &signature(link.sign(&bytes))), "it goes on");
    drop(process);
    assert_eq!(std::fs::read(hsm.dir().join("state/keys.json")).unwrap(), keys);
    // Two halves of the passport key and of the audit key, and the seal key.
    assert_eq!(objects(&hsm).matches(" Object").count(), 5, "{}", objects(&hsm));
}
