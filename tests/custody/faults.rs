//! Fault → outcome, over the module that fails on demand. Each row says what goes wrong and what clients may see of it; one
//! function runs them all, beside issuers at full speed and a client that verifies a thousand passports a second.

use std::time::{Duration, Instant};

use passportd::passport::OwnedEnvelope;
use passportd::wire::Code;
use passportd::wire::link::{LinkOp, LinkRefusal, LinkResult};

use super::beside::{Baseline, Beside, longest, recovers};
use super::load::{Load, keys_of, on_record, only, verifies};
use super::support::passports::demo;
use super::support::{House, Options, eventually, root_or_skip};
use super::times::keep;

/// How long a fault lasts that is not over by itself.
const LASTS: Duration = Duration::from_secs(3);
/// And one that outlasts the time of an operation.
const LONG: Duration = Duration::from_secs(12);
/// How soon a rule must have had its turn under load.
const SOON: Duration = Duration::from_secs(5);

/// A fault, and its outcome.
pub(crate) struct Row {
    /// The control file.
    pub(crate) control: &'static str,
    /// How long it lasts; none: over by itself once the call that says `log` was made.
    pub(crate) lasts: Option<Duration>,
    /// `hsm.op_timeout_ms` and `hsm.sessions`.
    pub(crate) op_timeout_ms: i64,
    pub(crate) sessions: i64,
    /// Clients that issue, each with 8 requests under way.
    pub(crate) issuers: usize,
    /// What they may be told beside passports.
    pub(crate) told: &'static [&'static str],
    /// When the first must be told so, if any must.
    pub(crate) within: Option<Duration>,
    /// What the slowest answer takes at least.
    pub(crate) slowest: Duration,
    /// What else holds while it lasts.
    pub(crate) during: fn(&House),
}

/// Nobody notices.
pub(crate) const UNNOTICED: Row = Row {
    control: "",
    lasts: None,
    op_timeout_ms: 2_000,
    sessions: 2,
    issuers: 4,
    told: &[],
    within: None,
    slowest: Duration::ZERO,
    during: |_| (),
};

/// Nothing is issued, and everybody is told so at once.
const DOWN: Row =
    Row { told: &["hsm_unavailable"], within: Some(Duration::from_secs(1)), during: breaker_is_open, ..UNNOTICED };

/// No call comes back: the first that wait are told so by their deadline, and who comes later at once.
const HANGS: Row = Row {
    told: &["hsm_timeout", "hsm_unavailable"],
    // The time of an operation, an eighth of it until the watchdog looks, and a machine that has pauses.
    within: Some(Duration::from_millis(3_000)),
    op_timeout_ms: 2_000,
    ..DOWN
};

/// One call of C_Sign in each row goes wrong, and is made good.
macro_rules! once {
    ($($name:ident $control:literal)*) => {$(
        #[test]
        fn $name() {
            run(stringify!($name), &Row { control: concat!("C_Sign log for=1 ", $control), ..UNNOTICED });
        }
    )*};
}

once! {
    once_device_error "rv=0x30"
    once_device_removed "rv=0x32"
    once_device_memory "rv=0x31"
    once_host_memory "rv=0x02"
    once_session_handle_invalid "rv=0xB3"
    once_session_closed "rv=0xB0"
    once_object_handle_invalid "rv=0x82"
    once_key_handle_invalid "rv=0x60"
    once_user_not_logged_in "rv=0x101"
    once_operation_active "rv=0x90"
    once_operation_not_initialized "rv=0x91"
    once_cryptoki_not_initialized "rv=0x190"
    once_general_error "rv=0x05"
    once_vendor_defined "rv=0x80000001"
    // What the module did is done, and its answer lost.
    once_device_error_after_the_signature "rv=0x30 late"
}

/// Each row lasts for a while.
macro_rules! for_a_while {
    ($($name:ident $row:expr;)*) => {$(
        #[test]
        fn $name() {
            run(stringify!($name), &Row { lasts: Some(LASTS), ..$row });
        }
    )*};
}

for_a_while! {
    latency_of_10_ms Row { control: "C_Sign log delay=10", slowest: Duration::from_millis(10), ..UNNOTICED };
    latency_of_100_ms Row { control: "C_Sign log delay=100", slowest: Duration::from_millis(100), op_timeout_ms: 5_000, ..UNNOTICED };
    latency_of_1000_ms Row { control: "C_Sign log delay=1000", slowest: Duration::from_secs(1), op_timeout_ms: 5_000, sessions: 8, issuers: 2, ..UNNOTICED };
    one_call_hangs Row {
        control: "C_Sign hang for=1",
        op_timeout_ms: 500,
        told: &["hsm_timeout"],
        ..UNNOTICED
    };
    device_error Row { control: "C_Sign rv=0x30", ..DOWN };
    device_removed Row { control: "C_Sign rv=0x32", ..DOWN };
    device_memory Row { control: "C_Sign rv=0x31", ..DOWN };
    vendor_defined Row { control: "C_Sign rv=0x80000001", ..DOWN };
    session_handle_invalid Row { control: "C_Sign rv=0xB3", ..DOWN };
    session_closed Row { control: "C_Sign rv=0xB0", ..DOWN };
    object_handle_invalid Row { control: "C_Sign rv=0x82", ..DOWN };
    user_not_logged_in Row { control: "C_Sign rv=0x101", ..DOWN };
    operation_active Row { control: "C_Sign rv=0x90", ..DOWN };
    cryptoki_not_initialized Row { control: "C_Sign rv=0x190", ..DOWN };
    no_session_is_to_be_had Row { control: "C_Sign rv=0xB3\nC_OpenSession rv=0xB1", ..DOWN };
    initialising_fails Row { control: "C_Sign rv=0x30\nC_Initialize rv=0x05", ..DOWN };
    logging_in_fails Row { control: "C_Sign rv=0x101\nC_Login rv=0x30", ..DOWN };
    signing_hangs_before_it_begins Row { control: "C_SignInit hang", ..HANGS };
    opening_a_session_hangs Row { control: "C_Sign rv=0xB3\nC_OpenSession hang", ..HANGS };
    looking_for_a_key_hangs Row { control: "C_Sign rv=0xB3\nC_FindObjectsInit hang", ..HANGS };
    initialising_hangs Row { control: "C_Sign rv=0x190\nC_Initialize hang", ..HANGS };
    logging_in_hangs Row { control: "C_Sign rv=0x101\nC_Login hang", ..HANGS };
    leaving_the_module_hangs Row { control: "C_Sign rv=0x30\nC_Finalize hang", ..HANGS };
    one_signature_in_ten_has_a_wrong_bit Row {
        control: "C_Sign flip=17 every=10",
        told: &["hsm_unavailable"],
        // One answer in ten, of one client.
        within: Some(SOON),
        during: no_bad_signature_on_the_link,
        ..UNNOTICED
    };
}

/// Longer than an operation may take: the breaker opens, so that few threads are in the module, and those that come back late
/// are not taken for lost.
#[test]
fn latency_of_5000_ms() {
    let told: &[&str] = &["hsm_timeout", "hsm_unavailable"];
    let within = Some(Duration::from_secs(4));
    run("latency_of_5000_ms", &Row { control: "C_Sign delay=5000", lasts: Some(LONG), told, within, ..DOWN });
}

/// As long as an operation may take by default. Some come in time and some do not; nobody waits for ever.
#[test]
fn latency_of_5000_ms_where_5000_are_allowed() {
    let told: &[&str] = &["hsm_timeout", "hsm_unavailable"];
    let row = Row { control: "C_Sign delay=5000", op_timeout_ms: 5_000, told, ..UNNOTICED };
    run("latency_of_5000_ms_where_5000_are_allowed", &Row { lasts: Some(LONG), ..row });
}

pub(crate) fn run(name: &str, row: &Row) {
    if !root_or_skip(name) {
        return;
    }
    let options = Options::default().fault().set("hsm.op_timeout_ms", row.op_timeout_ms);
    let house = House::start(options.set("hsm.sessions", row.sessions));
    let signer = house.pid("signer");
    let baseline = Baseline::of(&house, "signer");
    let (beside, load) = (Beside::start(&house), Load::start(&house, row.issuers, 0));
    let issued = "passport_ops_total{alg=\"Ed25519\",op=\"issue\",result=\"ok\"}";
    eventually("everybody is at work", SOON, || (house.metric(issued) > 100.0).then_some(()));

    house.fault(row.control);
    let begun = Instant::now();
    let answered = row.within.map(|within| {
        eventually("the fault shows", within, || house.raw().issue(demo("first")).err());
        begun.elapsed()
    });
    (row.during)(&house);
    match row.lasts {
        Some(lasts) => std::thread::sleep(lasts.saturating_sub(begun.elapsed())),
        None => eventually("the call was made", SOON, || (house.calls("C_Sign") > 0).then_some(())),
    }
    assert!(!row.control.contains("log") || house.calls("C_Sign") > 0, "the module was in the way of the calls");
    house.no_fault();
    let recovered = recovers(&house);

    let (told, _) = load.end();
    let verdicts = beside.end(&house);
    let jtis = told.jtis.len();
    println!("issued {jtis}, verdicts {verdicts}, {:?}, the slowest {:?}", told.problems, told.slowest);
    keep(&house, &format!("`{}`", row.control), answered, recovered);
    only(&told, row.told);
    assert!(row.told.iter().all(|code| told.problems.contains_key(*code)), "the fault was there: {:?}", told.problems);
    assert!(told.slowest >= row.slowest, "so was the delay: {:?}", told.slowest);
    assert_eq!(told.broken, 0, "connections outlive it");
    assert!(told.slowest < longest(&house), "nobody waits for ever: {:?}", told.slowest);
    on_record(&house, &told);
    assert_eq!(house.pid("signer"), signer, "the same signer");
    assert!(!house.log().contains("signature_refused"), "no bad signature has left the signer");
    baseline.again(&house);
}

/// What everybody sees while the breaker is open: readyz and the gauge, and an answer at once that says when to come back.
fn breaker_is_open(house: &House) {
    let away = || {
        let (status, body) = house.get("/readyz");
        (status == 503 && body.contains("hsm")).then_some(())
    };
    eventually("readyz says so", SOON, away);
    assert_eq!(house.metric("svc_passport_dependency_up{dep=\"kms\"}"), 0.0);
    assert!(!keys_of(house).is_empty(), "keys are given out all the same");
    let mut raw = house.raw();
    // It may be known that nothing is signed before the first who waits has been told.
    eventually("who comes is told at once", SOON, || {
        raw.issue(demo("wait")).is_err_and(|problem| problem.code == Code::HsmUnavailable).then_some(())
    });
    let mut answer = || {
        let begun = Instant::now();
        let problem = raw.issue(demo("open")).unwrap_err();
        assert!(problem.code == Code::HsmUnavailable && problem.retryable, "{problem:?}");
        assert!(problem.retry_after_ms.is_some_and(|ms| ms <= 500), "{problem:?}");
        begun.elapsed()
    };
    let mut took: Vec<Duration> = (0..20).map(|_| answer()).collect();
    took.sort_unstable();
    assert!(took[took.len() / 2] < Duration::from_millis(50), "answers took {took:?}");
    // It may be said a moment after the first was told.
    let said = || house.log().matches("front: the HSM does not sign").count();
    eventually("it is said", SOON, || (said() > 0).then_some(()));
    assert_eq!(said(), 1, "one line for each change");
}

/// The test speaks to the signer as the front does: of what it is given, nothing is bad.
fn no_bad_signature_on_the_link(house: &House) {
    let keys = keys_of(house);
    let payload = eventually("a passport", SOON, || house.raw().issue(demo("asked for again")).ok());
    let mut released = 0;
    for _ in 0..50 {
        match house.ask_signer(LinkOp::Sign { payload: &payload.msg }) {
            LinkResult::Signed { sig } => {
                assert!(verifies(&OwnedEnvelope { sig: sig.to_vec(), ..payload.clone() }, &keys));
                released += 1;
            }
            LinkResult::Refused(LinkRefusal::BadSignature) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(released > 0, "nine of ten are good");
}
