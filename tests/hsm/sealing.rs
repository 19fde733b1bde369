//! Sealing, over the signer's socket.

use super::*;

const SEAL_V2: &str = "hmac-sha256/t1/seal/v2";
const HERE: (&str, &str) = ("t1/billing", "database");

fn seal(link: &mut Link, (namespace, name): (&str, &str), plain: &[u8]) -> Result<(String, Vec<u8>), LinkRefusal> {
    match link.ask(LinkOp::Seal { namespace, name, plain: Plain(plain) }) {
        LinkResult::Sealed { kid, blob } => Ok((kid, blob)),
        LinkResult::Refused(refusal) => Err(refusal),
        other => panic!("{other:?}"),
    }
}

fn unseal(link: &mut Link, (namespace, name): (&str, &str), blob: &[u8]) -> Result<(String, Vec<u8>), LinkRefusal> {
    match link.ask(LinkOp::Unseal { namespace, name, blob }) {
        LinkResult::Unsealed { kid, plain } => Ok((kid, plain.0.to_vec())),
        LinkResult::Refused(refusal) => Err(refusal),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_sealed_opens_here_and_nowhere_else() {
    let Some(hsm) = initialised() else { return };
    let process = signer(&hsm);
    let (mut link, _) = Link::open(&process);
    let (kid, blob) = seal(&mut link, HERE, b"hunter2").unwrap();
    assert_eq!(kid, SEAL);
    assert_eq!(unseal(&mut link, HERE, &blob).unwrap(), (SEAL.to_owned(), b"hunter2".to_vec()));
    for elsewhere in [("t1/billing", "databas"), ("t1/mail", "database"), ("t1/billing/database", "database")] {
        assert_eq!(unseal(&mut link, elsewhere, &blob), Err(LinkRefusal::Unopenable), "{elsewhere:?}");
    }
    for bit in (0..blob.len() * 8).step_by(7) {
        let mut turned = blob.clone();
        turned[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(unseal(&mut link, HERE, &turned), Err(LinkRefusal::Unopenable), "bit {bit}");
    }
    // After a restart, another signer opens it: nothing is kept but the key in the HSM. One of another issuer does not.
    drop(link);
    drop(process);
    let process = signer(&hsm);
    let (mut link, _) = Link::open(&process);
    assert_eq!(unseal(&mut link, HERE, &blob).unwrap().1, b"hunter2");
    let other = start(&hsm, "signer", &[("ISSUER", "https://other.test")]).ready();
    let mut link = Link::raw(&other);
    assert!(matches!(link.hello(WIRE_VERSION, "https://other.test"), LinkGreeting::Welcome(_)));
    assert_eq!(unseal(&mut link, HERE, &blob), Err(LinkRefusal::Unopenable));
}

#[test]
fn the_front_seals_where_the_bounds_say_and_with_no_key_of_its_choice() {
    let Some(hsm) = initialised() else { return };
    let process = signer(&hsm);
    let (mut link, _) = Link::open(&process);
    let (_, blob) = seal(&mut link, HERE, b"x").unwrap();
    let foreign = [
        ("t2/billing", "database", LinkRefusal::TenantDenied),
        ("passportd/shared", "database", LinkRefusal::TenantDenied),
        ("slow/billing", "database", LinkRefusal::NamespaceDenied),
        ("t1", "database", LinkRefusal::Malformed),
        ("t1/a/b/c", "database", LinkRefusal::Malformed),
        ("t1/billing", "", LinkRefusal::Malformed),
        ("t1/billing", "a\nb", LinkRefusal::Malformed),
    ];
    for (namespace, name, refusal) in foreign {
        assert_eq!(seal(&mut link, (namespace, name), b"x"), Err(refusal), "{namespace}");
        assert_eq!(unseal(&mut link, (namespace, name), &blob), Err(refusal), "{namespace}");
    }
    // A blob may name any key: only one of this tenant's that is there opens anything.
    for kid in ["hmac-sha256/t2/seal/v1", "hmac-sha256/t1/seal/v9", "ed25519/t1/auth/v1"] {
        let named = [b"PSB1\x01", [u8::try_from(kid.len()).unwrap()].as_slice(), kid.as_bytes()].concat();
        let blob = [&named, &blob[6 + SEAL.len()..]].concat();
        assert_eq!(unseal(&mut link, HERE, &blob), Err(LinkRefusal::Unopenable), "{kid}");
    }
    for garbage in [b"".as_slice(), b"PSB1", &[0; 200], &vec![7; MAX_PLAIN]] {
        assert_eq!(unseal(&mut link, HERE, garbage), Err(LinkRefusal::Unopenable));
    }
    assert_eq!(link.stats().refused, 14 + 3 + 4);
}

#[test]
fn the_largest_secret_and_one_byte_more() {
    let Some(hsm) = initialised() else { return };
    let process = signer(&hsm);
    let (mut link, _) = Link::open(&process);
    for length in [0, MAX_PLAIN] {
        let plain = vec![0xa5; length];
        let (_, blob) = seal(&mut link, HERE, &plain).unwrap();
        assert_eq!(unseal(&mut link, HERE, &blob).unwrap().1, plain, "{length}");
    }
    assert_eq!(seal(&mut link, HERE, &vec![0xa5; MAX_PLAIN + 1]), Err(LinkRefusal::Malformed));
}

#[test]
fn a_new_key_seals_and_the_old_one_opens() {
    let Some(hsm) = initialised() else { return };
    let process = signer(&hsm);
    let (mut link, _) = Link::open(&process);
    let (_, old) = seal(&mut link, HERE, b"of old").unwrap();
    assert!(done(&hsm, PlanKind::Generate, "seal").keys.iter().any(|key| key.kid == SEAL_V2 && key.made_now));
    assert_eq!(seal(&mut link, HERE, b"x").unwrap().0, SEAL, "not seen before the module is started afresh");
    assert!(matches!(link.ask(LinkOp::Reinitialise), LinkResult::Reinitialised(keys) if keys.len() == 4));
    let (kid, new) = seal(&mut link, HERE, b"of now").unwrap();
    assert_eq!(kid, SEAL_V2);
    assert_eq!(unseal(&mut link, HERE, &old).unwrap(), (SEAL.to_owned(), b"of old".to_vec()));
    assert_eq!(unseal(&mut link, HERE, &new).unwrap(), (SEAL_V2.to_owned(), b"of now".to_vec()));
    // The header names one key, which alone is tried.
    let crossed = [&old[..6 + SEAL.len()], &new[6 + SEAL.len()..]].concat();
    assert_eq!(unseal(&mut link, HERE, &crossed), Err(LinkRefusal::Unopenable));
}

/// Pipelined, before the key is derived: each is answered, and each with its own.
#[test]
fn requests_that_wait_for_a_key_are_all_answered() {
    let Some(hsm) = initialised() else { return };
    let process = signer(&hsm);
    let (mut link, _) = Link::open(&process);
    let mut sent = BTreeMap::new();
    for n in 0..200 {
        let namespace = format!("t1/n{}", n % 10);
        let plain = format!("secret {n}");
        let id = link.send(LinkOp::Seal { namespace: &namespace, name: "x", plain: Plain(plain.as_bytes()) });
        sent.insert(id, (namespace, plain));
    }
    let mut sealed = Vec::new();
    for _ in 0..200 {
        let reply = link.reply().unwrap();
        let (namespace, plain) = sent.remove(&reply.id).expect("one answer an id");
        match reply.result {
            LinkResult::Sealed { blob, .. } => sealed.push((namespace, plain, blob)),
            other => panic!("{other:?}"),
        }
    }
    for (namespace, plain, blob) in sealed {
        assert_eq!(unseal(&mut link, (&namespace, "x"), &blob).unwrap().1, plain.as_bytes());
    }
}

/// The nonces of so many blobs.
fn nonces(link: &mut Link, count: usize) -> Vec<[u8; NONCE]> {
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let round = (count - all.len()).min(500);
        for _ in 0..round {
            link.send(LinkOp::Seal { namespace: "t1/n", name: "x", plain: Plain(b"") });
        }
        for _ in 0..round {
            match link.reply().unwrap().result {
                LinkResult::Sealed { blob, .. } => all.push(*Sealed::parse(&blob).unwrap().nonce),
                other => panic!("{other:?}"),
            }
        }
    }
    all
}

/// Nothing about nonces is remembered, so nothing can be rolled back: two signers beside each other, and one whose state and
/// store are those of before.
#[test]
fn nonces_are_distinct_over_two_signers_and_a_restored_one() {
    const EACH: usize = 34_000;
    let Some(hsm) = initialised() else { return };
    let copy = tempfile::tempdir().unwrap();
    let sh = |script: &str| {
        let done = Command::new("sh").args(["-ec", script, "sh"]).arg(hsm.dir()).arg(copy.path()).status().unwrap();
        assert!(done.success(), "{script}");
    };
    sh("cp -a \"$1/store\" \"$1/state\" \"$2\"");
    let mut all = {
        let (one, other) = (signer(&hsm), signer(&hsm));
        let (mut one, mut other) = (Link::open(&one).0, Link::open(&other).0);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| nonces(&mut other, EACH));
            let one = nonces(&mut one, EACH);
            [one, other.join().unwrap()].concat()
        })
    };
    sh("rm -r \"$1/store\" \"$1/state\"; cp -a \"$2/store\" \"$2/state\" \"$1\"");
    let restored = signer(&hsm);
    all.extend(nonces(&mut Link::open(&restored).0, EACH));
    let distinct: BTreeSet<_> = all.iter().collect();
    assert_eq!((distinct.len(), all.len()), (3 * EACH, 3 * EACH));
}
