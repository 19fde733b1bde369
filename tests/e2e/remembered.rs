//! A signature that was found authentic a moment ago is not verified again; everything else about its passport is.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use passportd::wire::{AdminOk, AdminOp, Code, IssueSpec, Verdict, Want};

use crate::support::passports::{claims, demo, for_demo};
use crate::support::{House, Options, eventually};

const HITS: &str = "passport_verify_cache_hits_total";
const MISSES: &str = "passport_verify_cache_misses_total";
const ITEMS: &str = "passport_cache_items{kind=\"verdicts\"}";

fn counted(house: &House) -> (u64, u64) {
    let count = |name| house.metric(name).to_string().parse().unwrap();
    (count(HITS), count(MISSES))
}

fn is_accepted(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Accepted(_))
}

#[test]
fn only_the_signature_is_remembered() {
    for engine in ["dalek", "auto"] {
        let options = Options::default().set("verify.engine", engine).set("verify.cache_items", 64);
        let house = House::start(options.set("passport.clock_skew_s", 0));
        let mut raw = house.raw();
        // It expires while its signature would still be remembered.
        let passport = raw.issue(IssueSpec { ttl_s: Some(4), ..demo("x") }).unwrap();
        let end = claims(&passport)["exp"].as_i64().unwrap();
        assert!(is_accepted(&raw.verify(for_demo(), &passport).unwrap()));
        assert_eq!(counted(&house), (0, 1), "{engine}");
        assert!(is_accepted(&raw.verify(for_demo(), &passport).unwrap()));
        let batch = raw.verify_batch(for_demo(), &[passport.clone(), passport.clone()]).unwrap();
        assert!(batch.iter().all(is_accepted));
        assert_eq!(counted(&house), (3, 1), "{engine}");
        // Another scope, another bit, on the passport that is remembered.
        let want = Want { scopes: vec!["nobody:has"], ..for_demo() };
        assert_eq!(raw.verify(want, &passport).unwrap(), Verdict::Refused(Code::ScopeDenied));
        assert_eq!(counted(&house), (3, 1), "{engine}: the signature does not matter there");
        let mut bent = passport.clone();
        bent.sig[7] ^= 0x10;
        for misses in [2, 3] {
            assert_eq!(raw.verify(for_demo(), &bent).unwrap(), Verdict::Refused(Code::VerifyFailed));
            assert_eq!(counted(&house), (3, misses), "{engine}: a refusal is not remembered");
        }
        eventually("the gauge says what is remembered", Duration::from_secs(10), || {
            (house.metric(ITEMS).to_string() == "1").then_some(())
        });
        // Asked all the time, so that it is remembered when it ends.
        let begun = Instant::now();
        let (verdict, before) = loop {
            let before = counted(&house).0;
            let verdict = raw.verify(for_demo(), &passport).unwrap();
            if !is_accepted(&verdict) {
                break (verdict, before);
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "it never ends");
        };
        assert_eq!((verdict, counted(&house).0), (Verdict::Refused(Code::Expired), before), "{engine}");
        assert!(before > 3 && end <= passportd::clock::Moment::now().unix());
    }
}

#[test]
fn a_reload_turns_it_on_and_off() {
    let mut house = House::start(Options::default());
    let mut raw = house.raw();
    let passport = raw.issue(demo("x")).unwrap();
    let mut twice = |house: &House| {
        let before = counted(house);
        (0..2).for_each(|_| assert!(is_accepted(&raw.verify(for_demo(), &passport).unwrap())));
        let after = counted(house);
        (after.0 - before.0, after.1 - before.1)
    };
    assert_eq!(twice(&house), (0, 0), "off by default");
    house.set("verify.cache_items", 64);
    assert!(matches!(house.admin_raw().admin(AdminOp::Reload), Ok(AdminOk::Reloaded { .. })));
    assert_eq!(twice(&house), (1, 1));
    assert_eq!(twice(&house), (2, 0));
    house.set("verify.cache_items", 0);
    house.signal("run", Signal::SIGHUP);
    eventually("nothing is remembered any more", Duration::from_secs(10), || (twice(&house) == (0, 0)).then_some(()));
    eventually("and the gauge says so", Duration::from_secs(10), || (house.metric(ITEMS) < 0.5).then_some(()));
}
