//! Secrets that are sealed and opened while the HSM fails: each answer is right, or says that it is worth trying again, and none
//! is waited for for ever.

use std::time::{Duration, Instant};

use passportd::wire::{Code, Plain, Problem, ServiceOk, ServiceOp};

use super::beside::{Baseline, Beside};
use super::support::{House, Options, eventually, root_or_skip};

const SECRET: &[u8] = b"correct horse battery staple";
const OP_TIMEOUT: Duration = Duration::from_secs(1);
/// In the queue, in the module, and a machine that has pauses.
const LONGEST: Duration = Duration::from_secs(4);
/// How long a fault lasts.
const LASTS: Duration = Duration::from_secs(2);
/// How soon secrets are sealed again after it.
const RECOVERS: Duration = Duration::from_secs(2);

fn seal(house: &House, namespace: &str) -> Result<Vec<u8>, Problem> {
    match house.ask(ServiceOp::Seal { namespace, name: "n", plain: Plain(SECRET) })? {
        ServiceOk::Sealed { blob } => Ok(blob),
        other => panic!("to Seal: {other:?}"),
    }
}

fn unseal(house: &House, namespace: &str, blob: &[u8]) -> Result<(), Problem> {
    match house.ask(ServiceOp::Unseal { namespace, name: "n", blob })? {
        ServiceOk::Unsealed { plain } => {
            assert_eq!(plain.0.as_slice(), SECRET, "what is opened is what was sealed");
            Ok(())
        }
        other => panic!("to Unseal: {other:?}"),
    }
}

/// `told`: what may be said instead of an answer.
fn run(name: &str, control: &str, told: &[Code]) {
    if !root_or_skip(name) {
        return;
    }
    let timeout = i64::try_from(OP_TIMEOUT.as_millis()).unwrap();
    let house = House::start(Options::default().fault().set("hsm.op_timeout_ms", timeout).set("hsm.sessions", 2));
    // A key of each namespace is asked of the HSM: those below have not been asked for yet.
    let kept = seal(&house, "t1/kept").unwrap();
    unseal(&house, "t1/kept", &kept).unwrap();
    let beside = Beside::start(&house);
    let baseline = Baseline::of(&house, "signer");

    house.fault(control);
    let (begun, mut sealed, mut failed, mut count) = (Instant::now(), Vec::new(), Vec::new(), 0);
    while begun.elapsed() < LASTS || failed.is_empty() {
        count += 1;
        let (namespace, asked) = (format!("t1/n{count}"), Instant::now());
        assert!(begun.elapsed() < LASTS + LONGEST, "the fault was never noticed");
        match seal(&house, &namespace) {
            Ok(blob) => sealed.push((namespace, blob)),
            Err(problem) => failed.push(problem),
        }
        failed.extend(unseal(&house, "t1/kept", &kept).err());
        // Two answers.
        assert!(asked.elapsed() < LONGEST * 2, "{:?}", asked.elapsed());
        std::thread::sleep(Duration::from_millis(5));
    }
    house.no_fault();
    let over = Instant::now();
    eventually("secrets are sealed again", RECOVERS, || seal(&house, "t1/after").ok());
    println!("{} sealed and {} refused meanwhile; again after {:?}", sealed.len(), failed.len(), over.elapsed());
    assert!(failed.iter().all(|problem| problem.retryable && told.contains(&problem.code)), "{failed:?}");
    unseal(&house, "t1/kept", &kept).unwrap();
    for (namespace, blob) in sealed {
        unseal(&house, &namespace, &blob).unwrap_or_else(|problem| panic!("{namespace} was sealed: {problem:?}"));
    }
    beside.end(&house);
    baseline.again(&house);
}

macro_rules! rows {
    ($($name:ident $control:literal $told:expr;)*) => {$(
        #[test]
        fn $name() {
            run(concat!("sealed::", stringify!($name)), $control, $told);
        }
    )*};
}

const DOWN: &[Code] = &[Code::HsmUnavailable];
const SLOW: &[Code] = &[Code::HsmUnavailable, Code::HsmTimeout];

rows! {
    by_an_hsm_that_fails "C_Sign rv=0x30" DOWN;
    by_an_hsm_that_was_removed "C_Sign rv=0x32" DOWN;
    by_an_hsm_whose_sessions_are_lost "C_Sign rv=0xB3\nC_OpenSession rv=0xB1" DOWN;
    by_an_hsm_that_does_not_come_back "C_Sign rv=0x190\nC_Initialize rv=0x05" DOWN;
    by_an_hsm_that_hangs "C_SignInit hang" SLOW;
    by_an_hsm_that_is_slow "C_Sign delay=3000" SLOW;
}
