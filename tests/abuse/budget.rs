//! Bounds on what one request, one connection and one user may take.

use std::collections::HashSet;
use std::io::Write as _;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use passportd::passport::OwnedEnvelope;
use passportd::wire::{
    AdminOp, AdminReply, AdminRequest, Code, Greeting, MAX_FRAME, ServiceOk, ServiceOp, Verdict, WIRE_VERSION, decode,
    encode_frame,
};

use super::support::options::POLICY;
use super::support::passports::{demo, for_demo, on_wire};
use super::support::raw::{Raw, request};
use super::support::{House, Options, Roles, eventually, people, root_or_skip};

const OTHER: u32 = 41_002;

#[test]
fn without_bytes_left_a_request_is_busy_and_the_connection_lives_on() {
    let house = House::start(Options::default().set("limits.max_bytes_per_uid", 2 << 20));
    let passport = house.raw().issue(demo("alice")).unwrap();
    // Two frames of which only the beginning comes take all that this user may hold; a third, larger than one read, has
    // to ask for its own.
    let header = u32::try_from(MAX_FRAME - 8).unwrap().to_be_bytes();
    let items: Vec<OwnedEnvelope> = vec![passport; 400];
    let op = || ServiceOp::VerifyBatch { want: for_demo(), items: items.iter().map(on_wire).collect() };
    let mut raw = house.raw();
    let held = eventually("the bytes are taken", Duration::from_secs(10), || {
        // Begun anew each time: where the third was read before one of the two, that one got nothing and never will.
        let held = [(); 2].map(|()| {
            let mut raw = house.raw();
            raw.send(&header).unwrap();
            raw
        });
        std::thread::sleep(Duration::from_millis(20));
        let id = raw.request(op());
        let reply = raw.reply();
        assert_eq!(reply.id, id);
        reply.result.is_err_and(|problem| problem.code == Code::Busy).then_some(held)
    });
    let large = request(77, op());
    for cut in [1, 2, 3, 4, 5, 6, 7, 13, 14, 15, 100, large.len() - 1] {
        raw.send(&large[..cut]).unwrap();
        std::thread::sleep(Duration::from_millis(5));
        raw.send(&large[cut..]).unwrap();
        let reply = raw.reply();
        assert_eq!(reply.id, 77, "cut at {cut}");
        let problem = reply.result.unwrap_err();
        assert_eq!((problem.code, problem.retryable), (Code::Busy, true), "cut at {cut}");
        assert!(raw.ask(ServiceOp::Ping).is_ok(), "cut at {cut}");
    }
    drop(held);
    eventually("the bytes are given back", Duration::from_secs(5), || raw.ask(op()).ok());
}

#[test]
fn without_bytes_left_a_greeting_is_refused_as_a_greeting() {
    let house = House::start(Options::default().set("limits.max_bytes_per_uid", 2 << 20));
    let header = u32::try_from(MAX_FRAME - 8).unwrap().to_be_bytes();
    let mut held = [house.raw(), house.raw()];
    held.iter_mut().for_each(|raw| raw.send(&header).unwrap());
    let hello = super::support::raw::hello();
    for cut in [1, 5, hello.len() - 1] {
        let (body, closed) = eventually("the bytes are taken", Duration::from_secs(5), || {
            let mut raw = Raw::connect(&house.socket()).unwrap();
            raw.send(&hello[..cut]).unwrap();
            std::thread::sleep(Duration::from_millis(5));
            // It may have been refused already.
            drop(raw.send(&hello[cut..]));
            let body = raw.body().unwrap().expect("an answer");
            match decode::<Greeting>(&body) {
                // The two beginnings are not read yet, or the Hello came in one piece after all.
                Ok(Greeting::Welcome(_)) => None,
                _ => Some((body, raw.closed())),
            }
        });
        match decode::<Greeting>(&body) {
            Ok(Greeting::Refused(problem)) => {
                assert_eq!((problem.code, problem.retryable, closed), (Code::Busy, true, true), "cut at {cut}");
            }
            other => panic!("cut at {cut}: {other:?}"),
        }
    }
    assert!(house.metric("busy_rejections_total{endpoint=\"connect\"}") >= 3.0);
    drop(held);
    eventually("the bytes are given back", Duration::from_secs(5), || {
        let mut raw = Raw::connect(&house.socket()).ok()?;
        raw.send(&hello[..5]).ok()?;
        std::thread::sleep(Duration::from_millis(5));
        raw.send(&hello[5..]).ok()?;
        let body = raw.body().ok()??;
        matches!(decode(&body), Ok(Greeting::Welcome(_))).then_some(())
    });
}

#[test]
fn giant_batches_name_the_limit_and_only_an_oversize_frame_closes() {
    let house = House::start(Options::default());
    let passport = house.raw().issue(demo("alice")).unwrap();
    let mut raw = house.raw();
    let all = vec![passport.clone(); 513];
    let problem = raw.verify_batch(for_demo(), &all).unwrap_err();
    assert_eq!(problem.code, Code::TooLarge);
    assert!(problem.message.contains("limits.max_batch") && problem.message.contains("512"), "{problem:?}");
    let problem = raw.ask(ServiceOp::IssueBatch(vec![demo("alice"); 513])).unwrap_err();
    assert!(problem.code == Code::TooLarge && problem.message.contains("limits.max_batch"), "{problem:?}");
    let verdicts = raw.verify_batch(for_demo(), &all[..512]).unwrap();
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Accepted(_))) && verdicts.len() == 512);
    assert!(matches!(raw.verify_batch(for_demo(), &[]), Ok(verdicts) if verdicts.is_empty()));
    // The request fits a frame; with its claims around each `ctx`, the answer would not.
    let ctx = format!("{{\"fill\":\"{}\"}}", "x".repeat(3_400));
    let specs = vec![passportd::wire::IssueSpec { ctx: Some(&ctx), ..demo("alice") }; 300];
    assert!(request(1, ServiceOp::IssueBatch(specs.clone())).len() < MAX_FRAME);
    let problem = raw.ask(ServiceOp::IssueBatch(specs)).expect_err("an answer that fits no frame");
    assert!(problem.code == Code::TooLarge && problem.message.contains("max_frame"), "{problem:?}");
    let mut oversize = vec![0; MAX_FRAME + 2];
    oversize[..4].copy_from_slice(&u32::try_from(MAX_FRAME + 1).unwrap().to_be_bytes());
    oversize[4] = WIRE_VERSION;
    drop(raw.send(&oversize));
    assert!(raw.closed());
}

#[test]
fn more_in_flight_than_allowed_are_all_answered_once() {
    let house = House::start(Options::default().set("limits.max_in_flight", 4));
    let mut raw = house.raw();
    let frames: Vec<u8> = (1..=200).flat_map(|id| request(id, ServiceOp::Issue(demo("alice")))).collect();
    let mut writer = raw.stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || writer.write_all(&frames).unwrap());
    let mut seen = HashSet::new();
    for _ in 0..200 {
        let reply = raw.reply();
        assert!(matches!(reply.result, Ok(ServiceOk::Issued(_))), "{reply:?}");
        assert!(seen.insert(reply.id), "{} twice", reply.id);
    }
    writer.join().unwrap();
    assert_eq!(seen, (1..=200).collect());
}

/// The id of the first of so many replies.
fn first_of(raw: &mut Raw, frames: &[u8], replies: u64, id: fn(&[u8]) -> u64) -> u64 {
    raw.send(frames).unwrap();
    let ids: Vec<u64> = (0..replies).map(|_| id(&raw.body().unwrap().unwrap())).collect();
    ids[0]
}

/// Whether the last request is looked at while those before it wait for a signer that stands still.
#[test]
fn so_many_requests_are_under_way_and_the_next_is_not_read() {
    let options = Options::default().set("limits.max_in_flight", 4).set("hsm.op_timeout_ms", 2_000);
    let house = House::start(options.roles(Roles::Apart));
    let (mut raw, mut admin) = (house.raw(), house.admin_raw());
    house.freeze("signer");
    let id = |body: &[u8]| decode::<AdminReply>(body).unwrap().id;
    for (under_way, overtakes) in [(7, true), (8, false)] {
        let mut frames = Vec::new();
        for id in 1..=under_way + 1 {
            // Status waits half a second for the signer's counts.
            let op = if id <= under_way { AdminOp::Status } else { AdminOp::WhoAmI };
            encode_frame(&AdminRequest { id, corr_id: [0; 16], op }, &mut frames).unwrap();
        }
        let first = first_of(&mut admin, &frames, under_way + 1, id);
        assert_eq!(first == under_way + 1, overtakes, "an admin's {under_way}: {first}");
    }
    let id = |body: &[u8]| decode::<passportd::wire::Reply>(body).unwrap().id;
    for (under_way, overtakes) in [(3, true), (4, false)] {
        let mut frames: Vec<u8> = (1..=under_way).flat_map(|id| request(id, ServiceOp::Issue(demo("alice")))).collect();
        frames.extend(request(under_way + 1, ServiceOp::Ping));
        let first = first_of(&mut raw, &frames, under_way + 1, id);
        assert_eq!(first == under_way + 1, overtakes, "a service's {under_way}: {first}");
    }
    house.signal("signer", nix::sys::signal::Signal::SIGCONT);
}

#[test]
fn every_connection_that_is_configured_is_taken_and_one_more_is_turned_away() {
    if !root_or_skip("several users") {
        return;
    }
    let policy = format!("{POLICY}\n[[peer]]\nname = \"others\"\ngid = {OTHER}\nallow = [\"verify\"]\n");
    let options = Options::default().policy(&policy).set("server.max_connections", 4);
    let house = House::start(options.set("server.max_connections_per_uid", 4));
    let mut held: Vec<Raw> = (OTHER..OTHER + 4).map(|uid| house.raw_as(uid, OTHER, &[])).collect();
    let fifth = || Raw::over(people::connect_as(&house.socket(), OTHER + 4, OTHER, &[])).unwrap();
    let greeting = fifth().body().unwrap().expect("a word before it is closed");
    let Greeting::Refused(problem) = decode(&greeting).unwrap() else { panic!("welcomed") };
    assert_eq!((problem.code, problem.message.as_str()), (Code::Busy, "all connections are taken"));
    assert!(held.iter_mut().all(|raw| raw.ask(ServiceOp::WhoAmI).is_ok()));
    held.pop();
    eventually("its place is free", Duration::from_secs(5), || {
        matches!(fifth().greet(), Ok(Greeting::Welcome(_))).then_some(())
    });
}

#[test]
fn a_half_closed_connection_gets_its_answers() {
    let house = House::start(Options::default());
    let mut raw = house.raw();
    let frames: Vec<u8> = (1..=100).flat_map(|id| request(id, ServiceOp::Issue(demo("alice")))).collect();
    raw.send(&frames).unwrap();
    raw.stream.shutdown(Shutdown::Write).unwrap();
    let mut seen = HashSet::new();
    while let Some(body) = raw.body().unwrap() {
        let reply: passportd::wire::Reply = decode(&body).unwrap();
        assert!(reply.result.is_ok(), "{reply:?}");
        seen.insert(reply.id);
    }
    assert_eq!(seen, (1..=100).collect());
}

#[test]
fn beyond_its_share_a_user_is_refused_at_once_and_another_gets_in() {
    // Peers that no rule names would share one share.
    let policy = format!("{POLICY}\n[[peer]]\nname = \"others\"\ngid = {OTHER}\nallow = [\"verify\"]\n");
    let options = Options::default().policy(&policy).set("server.max_connections", 16);
    let house = House::start(options.set("server.max_connections_per_uid", 8));
    let mine: Vec<Raw> = (0..8).map(|_| house.raw()).collect();
    let begun = Instant::now();
    let mut ninth = Raw::connect(&house.socket()).unwrap();
    let greeting = ninth.body().unwrap().expect("a word before it is closed");
    match decode::<Greeting>(&greeting).unwrap() {
        Greeting::Refused(problem) => assert_eq!((problem.code, problem.retryable), (Code::Busy, true)),
        welcome @ Greeting::Welcome(_) => panic!("{welcome:?}"),
    }
    assert!(ninth.closed() && begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    assert!(house.metric("busy_rejections_total{endpoint=\"connect\"}") >= 1.0);
    if root_or_skip("another user gets in") {
        for uid in OTHER..OTHER + 4 {
            assert!(house.raw_as(uid, uid, &[]).ask(ServiceOp::WhoAmI).is_ok(), "uid {uid}");
        }
        let open = "passport_connections{socket=\"service\"}";
        eventually("they are gone", Duration::from_secs(5), || (house.metric(open) == 8.0).then_some(()));
        // One other user can't take what is left: the last places are for those who have none yet.
        let all: Vec<_> =
            (0..8).map(|_| Raw::over(people::connect_as(&house.socket(), OTHER, OTHER, &[])).unwrap()).collect();
        let welcome = |mut raw: Raw| matches!(raw.greet(), Ok(Greeting::Welcome(_))).then_some(raw);
        let held: Vec<_> = all.into_iter().filter_map(welcome).collect();
        assert_eq!(held.len(), 6, "two of 16 are kept");
        assert!(house.raw_as(OTHER + 9, OTHER, &[]).ask(ServiceOp::WhoAmI).is_ok());
    }
    assert!(house.admin_raw().admin(AdminOp::WhoAmI).is_ok(), "admins have places of their own");
    drop(mine);
    eventually("places are given back", Duration::from_secs(5), || {
        let mut raw = Raw::connect(&house.socket()).ok()?;
        matches!(raw.greet(), Ok(Greeting::Welcome(_))).then_some(())
    });
}
