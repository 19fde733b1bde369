//! A signature that is remembered spares nothing else; nor does one that took long to verify.

use std::time::Instant;

use ed25519_dalek::{Signer as _, SigningKey};

use super::*;
use crate::clock::Moment;
use crate::metrics::Counter;
use crate::passport::{Cap, Claims, Jwk, Kid, Presenter, jws};
use crate::state::{Change, Entry, Owner, Store, What};
use crate::verify::{Budget, Verdicts, Verifier};

pub(super) const NOW: i64 = 1_767_225_600;

pub(super) fn claims(kid: &Kid) -> Claims {
    Claims {
        iss: "test".to_owned(),
        sub: "x".to_owned(),
        aud: vec!["orders".to_owned()],
        iat: NOW,
        exp: NOW + 1,
        nbf: None,
        jti: "019b76da-a800-7000-8000-000000000001".to_owned(),
        scopes: vec!["read".to_owned()],
        nonce: None,
        ctx: None,
        kid: kid.clone(),
        epoch: 0,
        cap: Cap { template: "orders".to_owned(), action: None, limit: None },
        cnf_jkt: None,
        cnf_uid: None,
        par: None,
    }
}

pub(super) fn expect<'a>(now: i64, audiences: &'a [&'a str], scopes: &'a [&'a str]) -> Terms<'a> {
    let now = Moment::from_unix(now);
    let expect = Expect { issuer: "test", now, skew_s: 0, audiences, require_aud: true, scopes };
    Terms { expect, max_msg_bytes: 4096, presenter: Presenter::Unsaid }
}

#[test]
fn what_is_remembered_is_judged_each_time_as_if_it_were_new() {
    let signer = |seed| SigningKey::from_bytes(&[seed; 32]);
    let public = |seed| signer(seed).verifying_key().to_bytes();
    let kid = Kid::new("t1", "auth", 1).unwrap();
    let keyring = |key: [u8; 32]| Keyring::new(&[Jwk::new(kid.clone(), key)]).unwrap();
    let (mine, other, none) = (keyring(public(1)), keyring(public(2)), Keyring::new(&[]).unwrap());
    let msg = claims(&kid).canonical(4096).unwrap();
    let (sig, name) = (signer(1).sign(&msg).to_bytes(), kid.to_string());
    let passport = [(); 2].map(|()| Passport::Envelope { alg: "Ed25519", kid: &name, msg: &msg, sig: &sig });

    let counter = |name| Counter::new(name, "-").unwrap();
    let known = Verdicts::new(64, counter("hits"), counter("misses")).unwrap();
    let (verifier, confirmations, instant) = (Verifier::reference(), Budget::default(), Instant::now());
    let state = Store::memory(Moment::from_unix(NOW)).unwrap();
    let ask = |keyring, terms: Terms<'_>, remembered| {
        check(
            &passport,
            Means { keyring, verifier: &verifier, confirmations: &confirmations, remembered, state: &state },
            &terms,
        )
    };
    let (good, remembered) = (expect(NOW, &["orders"], &["read"]), Some((&known, instant)));
    let accepted = Verdict::Accepted(Accepted { exp: NOW + 1 });
    for hits in [0, 2, 2] {
        let checked = ask(&mine, good, remembered);
        assert_eq!((&checked.verdicts[..], checked.hits), (&[accepted.clone(), accepted.clone()][..], hits));
    }
    let cases = [
        (&mine, expect(NOW + 1, &["orders"], &["read"]), Code::Expired),
        (&mine, expect(NOW, &["payments"], &["read"]), Code::BadAud),
        (&mine, expect(NOW, &["orders"], &["write"]), Code::ScopeDenied),
        (&none, good, Code::UnknownKid),
        (&other, good, Code::VerifyFailed),
    ];
    for (keyring, terms, code) in cases {
        let checked = ask(keyring, terms, remembered);
        assert_eq!((checked.verdicts, checked.hits), (vec![Verdict::Refused(code); 2], 0));
        // It did no harm, and the same is said where nothing is remembered.
        assert_eq!(ask(&mine, good, remembered).hits, 2);
        assert_eq!(ask(keyring, terms, None).verdicts, vec![Verdict::Refused(code); 2]);
    }
    // One bit of the payload on the way: it is not what was remembered.
    let mut bent = msg.clone();
    let at = bent.windows(6).position(|part| part == b"orders").unwrap();
    bent[at] ^= 1;
    let passport = [Passport::Envelope { alg: "Ed25519", kid: &name, msg: &bent, sig: &sig }];
    let (keyring, confirmations) = (&mine, &confirmations);
    let means = Means { keyring, verifier: &verifier, confirmations, remembered, state: &state };
    let checked = check(&passport, means, &expect(NOW, &["nrders", "orders"], &["read"]));
    assert_eq!((checked.verdicts, checked.hits), (vec![Verdict::Refused(Code::VerifyFailed)], 0));
}

/// A worker may stand still anywhere between its look at what is revoked and its answer.
#[test]
fn what_is_revoked_while_a_worker_stands_still_is_refused() {
    let signer = SigningKey::from_bytes(&[1; 32]);
    let kid = Kid::new("t1", "auth", 1).unwrap();
    let keyring = Keyring::new(&[Jwk::new(kid.clone(), signer.verifying_key().to_bytes())]).unwrap();
    let said = claims(&kid);
    let (msg, name, terms) = (said.canonical(4096).unwrap(), kid.to_string(), expect(NOW, &["orders"], &["read"]));
    let (sig, input) = (signer.sign(&msg).to_bytes(), jws::signing_input(kid.borrowed(), &msg));
    let text = jws::compact(input.clone(), &signer.sign(input.as_bytes()).to_bytes());
    let passports =
        [Passport::Envelope { alg: "Ed25519", kid: &name, msg: &msg, sig: &sig }, Passport::Jws { text: &text }];
    let row = |what| Entry { until: NOW + 100, owner: Owner::Admin, tenant: "t1".into(), what };
    let id = |jti: &str| Change::revoked(vec![row(What::RevokedId { jti: jti.into() })]);
    let subject = |before| Change::revoked(vec![row(What::RevokedSubject { sub: "x".into(), before })]);
    let accepted = Verdict::Accepted(Accepted { exp: NOW + 1 });
    for (meanwhile, revoked) in [
        (None, false),
        (Some(id(&said.jti)), true),
        (Some(subject(NOW)), true),
        (Some(Change::bumped("t1", NOW)), true),
        (Some(id("another")), false),
        (Some(subject(NOW - 1)), false),
        (Some(Change::bumped("t2", NOW)), false),
    ] {
        let state = Store::memory(Moment::from_unix(NOW)).unwrap();
        let (revision, mut verdicts) = (state.revision(), Vec::new());
        let judged: Vec<_> = {
            let kept = state.kept();
            passports.iter().map(|passport| judge(passport, &keyring, &terms, &kept)).collect()
        };
        // Here it stands still; whoever revoked has the answer.
        if let Some(change) = meanwhile.clone() {
            state.commit_blocking(change, 1).unwrap();
        }
        settle(judged.iter(), &Verifier::reference(), None, || true, &mut verdicts);
        assert_eq!(verdicts, vec![accepted.clone(); 2], "the signatures are good");
        revise(passports.iter(), &mut verdicts, &state, revision);
        let due = if revoked { Verdict::Refused(Code::Revoked) } else { accepted.clone() };
        assert_eq!(verdicts, vec![due; 2], "{meanwhile:?}");
    }
}
