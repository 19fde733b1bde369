//! Requests that arrive in one read: each gets its own answer, whatever it was answered together with, by every engine.

use std::collections::BTreeMap;

use passportd::passport::OwnedEnvelope;
use passportd::wire::{Code, Problem, ServiceOk, ServiceOp, Verdict, Want};

use crate::support::passports::{demo, for_demo, on_wire};
use crate::support::raw::{frame, request};
use crate::support::{House, Options};

/// Requests of one round: more than a read of 64 KiB holds.
const REQUESTS: u64 = 400;

/// What a request is to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Due {
    Accepted,
    Refused(Code),
    Pong,
    /// Of a batch: the first is good, the second bent.
    Both,
    Problem(Code),
}

fn due(answer: &Result<ServiceOk, Problem>) -> Due {
    match answer {
        Ok(ServiceOk::Verdict(Verdict::Accepted(_))) => Due::Accepted,
        Ok(ServiceOk::Verdict(Verdict::Refused(code))) => Due::Refused(*code),
        Ok(ServiceOk::Verdicts(verdicts)) => {
            assert!(
                matches!(verdicts[..], [Verdict::Accepted(_), Verdict::Refused(Code::VerifyFailed)]),
                "{verdicts:?}"
            );
            Due::Both
        }
        Ok(ServiceOk::Pong) => Due::Pong,
        Err(problem) => Due::Problem(problem.code),
        other => panic!("{other:?}"),
    }
}

fn bent(passport: &OwnedEnvelope) -> OwnedEnvelope {
    let mut bent = passport.clone();
    bent.sig[7] ^= 0x10;
    bent
}

#[test]
fn each_gets_its_own_answer() {
    for engine in ["dalek", "portable", "auto"] {
        let house = House::start(Options::default().set("verify.engine", engine));
        let mut raw = house.raw();
        let good: Vec<_> = (0..5).map(|n| raw.issue(demo(&format!("user-{n}"))).unwrap()).collect();
        let bad: Vec<_> = good.iter().map(bent).collect();
        let mut stranger = good[0].clone();
        stranger.kid = "ed25519/t1/auth/v99".to_owned();
        let verify = |passport| ServiceOp::Verify { want: for_demo(), passport };
        let (mut bytes, mut expected) = (Vec::new(), BTreeMap::new());
        for n in 0..REQUESTS {
            let (id, at) = (10_000 + n, usize::try_from(n * 7 % 5).unwrap());
            let (op, answer) = match n % 17 {
                3 | 11 => (verify(on_wire(&bad[at])), Due::Refused(Code::VerifyFailed)),
                5 => (ServiceOp::Ping, Due::Pong),
                7 => {
                    let items = vec![on_wire(&good[at]), on_wire(&bad[at])];
                    (ServiceOp::VerifyBatch { want: for_demo(), items }, Due::Both)
                }
                9 => (verify(on_wire(&stranger)), Due::Refused(Code::BadKid)),
                13 => {
                    let want = Want { aud: Some("nobody-verifies-as-this"), ..Want::default() };
                    (ServiceOp::Verify { want, passport: on_wire(&good[at]) }, Due::Problem(Code::BadAud))
                }
                _ => (verify(on_wire(&good[at])), Due::Accepted),
            };
            let bytes_of_it = request(id, op);
            bytes.extend(&bytes_of_it);
            expected.insert(id, answer);
            if n % 17 == 15 {
                // A body that can't be read: the right id, and then nonsense.
                let broken = 20_000 + n;
                let mut body = request(broken, ServiceOp::Ping)[4..].to_vec();
                *body.last_mut().unwrap() = 0xf0;
                bytes.extend(frame(&body));
                expected.insert(broken, Due::Problem(Code::Malformed));
            }
        }
        raw.send(&bytes).unwrap();
        let answers: BTreeMap<_, _> =
            (0..expected.len()).map(|_| raw.reply()).map(|reply| (reply.id, due(&reply.result))).collect();
        assert_eq!(answers, expected, "{engine}");
        // Nothing is left under way.
        assert_eq!(due(&raw.ask(verify(on_wire(&good[0])))), Due::Accepted);
        let accepted = expected.values().filter(|due| matches!(due, Due::Accepted | Due::Both)).count() + 1;
        assert_eq!(house.metric("ekey_verify_success_total"), f64::from(u32::try_from(accepted).unwrap()), "{engine}");
    }
}

/// The path in force is exported, and no difference was found.
#[test]
fn the_path_in_force_is_the_one_that_was_asked_for() {
    let fastest = strict25519::Way::fastest().name();
    for (engine, path) in [("dalek", "dalek"), ("portable", "portable"), ("auto", fastest)] {
        let house = House::start(Options::default().set("verify.engine", engine));
        for known in ["dalek", "portable", "ifma"] {
            let value = house.metric(&format!("passport_verify_path{{path=\"{known}\"}}"));
            assert!((value - f64::from(u8::from(known == path))).abs() < 0.1, "{engine}: {known} is {value}");
        }
        let tables = house.metric("passport_cache_items{kind=\"tables\"}");
        assert!((tables - f64::from(u8::from(path != "dalek"))).abs() < 0.1, "{engine}: {tables} tables");
        assert!(house.log().contains(&format!("signatures are verified by the path {path}")), "{}", house.log());
        for net in ["self_test", "sample", "refusal"] {
            assert!(house.metric(&format!("passport_verify_differences_total{{net=\"{net}\"}}")) < 0.5);
        }
    }
}
