//! A signer that goes: because it has grown, because its module does not start. And what it says of itself.

use super::harness::*;
use super::*;

/// As long as it takes until a signer may be started afresh, and some.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_signer_that_has_grown_answers_what_it_has_and_ends() {
    let Some(hsm) = initialised() else { return };
    // Whatever it does, it is then larger than when it was ready.
    let mut process = start(&hsm, "signer", &[("HSM_RECYCLE_KIB", "1")]).ready();
    let (mut link, _) = Link::open(&process);
    let (silent, _) = Link::open(&process);
    let bytes = payload(V1, |_| {});
    let begun = Instant::now();
    let mut signed = 0;
    let left = loop {
        assert!(begun.elapsed() < PATIENCE, "{signed}");
        link.send(LinkOp::Sign { payload: &bytes });
        match link.reply().expect("a reply, or that it leaves") {
            LinkReply { id: 0, result: LinkResult::Leaving } => break begun.elapsed(),
            LinkReply { result: LinkResult::Signed { .. }, .. } => signed += 1,
            other => panic!("{other:?}"),
        }
    };
    // Ten seconds from when it was ready, which was a little before.
    assert!(left >= Duration::from_secs(9), "not at once: {left:?}");
    // The request that crossed it, and one after it.
    link.send(LinkOp::Sign { payload: &bytes });
    for _ in 0..2 {
        signature(link.reply().expect("what is asked on this link is answered").result);
    }
    drop((link, silent));
    assert_eq!(process.heard().as_deref(), Some("ended Recycled"));
}

#[test]
fn its_health_says_what_was_refused_and_how_the_ladder_stands() {
    let Some(hsm) = initialised() else { return };
    let process = signer(&hsm);
    let (mut link, welcome) = Link::open(&process);
    signature(link.sign(&payload(V1, |_| {})));
    for _ in 0..3 {
        assert_eq!(link.sign(b"{}"), LinkResult::Refused(LinkRefusal::Malformed));
    }
    assert_eq!(link.ask(LinkOp::Probe { kid: SEAL }), LinkResult::Refused(LinkRefusal::PurposeDenied));
    let mut broken = Link::open(&process).0;
    broken.socket.write_all(&[0, 0, 0, 2, 1, 255]).unwrap();
    assert_eq!(broken.reply(), None);
    link.ask(LinkOp::Reinitialise);
    let LinkResult::Health(health) = link.ask(LinkOp::Health) else { panic!("no health") };
    assert_eq!((health.boot_id, health.sessions, health.limit), (welcome.boot_id, 2, 0));
    assert_eq!((health.stuck, health.max_stuck, health.down), (0, 4, false));
    assert_eq!((health.rung.as_str(), health.ladder), ("module", vec![0, 0, 1, 0]));
    let mut refused = vec![0; LinkRefusal::ALL.len() + 1];
    (refused[0], refused[5], refused[LinkRefusal::ALL.len()]) = (3, 1, 1);
    assert_eq!(health.refused, refused);
    assert!(health.rss_kib > 1000 && health.rss_base_kib > 1000 && health.recycles_at_kib == 0);
}

/// SoftHSM reads its configuration first; from a pipe that nobody writes to, for ever.
fn module_that_does_not_start() -> Option<Token> {
    let hsm = initialised_with(Hsm::SoftHsm)?;
    std::fs::remove_file(hsm.conf()).unwrap();
    nix::unistd::mkfifo(&hsm.conf(), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    Some(hsm)
}

#[test]
fn a_module_that_does_not_start_has_its_time_and_no_more() {
    let Some(hsm) = module_that_does_not_start() else { return };
    let begun = Instant::now();
    let mut process = start(&hsm, "signer", &[("HSM_OP_TIMEOUT_MS", "200"), ("HSM_LOGIN_TIMEOUT_MS", "1000")]);
    let said = process.heard().unwrap();
    assert!(said.contains("the module does not start within 2.2 s"), "{said}");
    assert!((Duration::from_millis(2200)..PATIENCE).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert_eq!(process.child.wait().unwrap().code(), Some(0), "left with the thread inside, and no SIGSEGV");
}

#[test]
fn who_is_told_to_end_waits_for_a_module_that_starts_as_long_as_for_a_call() {
    let Some(hsm) = module_that_does_not_start() else { return };
    block_termination();
    let mut process = start(&hsm, "signer", &[("HSM_OP_TIMEOUT_MS", "300")]);
    let inside = || {
        let threads = std::fs::read_dir(format!("/proc/{}/task", process.child.id())).unwrap();
        let names = threads.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default());
        names.into_iter().any(|name| name.trim() == "hsm-start")
    };
    let begun = Instant::now();
    while !inside() {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
    let told = Instant::now();
    process.signal("-TERM");
    assert_eq!(process.heard().as_deref(), Some("ended Asked"));
    assert!((Duration::from_millis(250)..PATIENCE).contains(&told.elapsed()), "{:?}", told.elapsed());
    assert_eq!(process.child.wait().unwrap().code(), Some(0));
}
