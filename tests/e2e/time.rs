//! When a passport begins and ends to be accepted: exp is exclusive, and the skew counts once.

use std::time::{Duration, Instant};

use passportd::clock::Moment;
use passportd::passport::OwnedEnvelope;
use passportd::wire::{Code, IssueSpec, ServiceOk, ServiceOp, Verdict};

use crate::support::passports::{claims, demo, for_demo, on_wire};
use crate::support::raw::Raw;
use crate::support::{House, Options, eventually};

/// Asks for a verdict until it is no longer `first`. Returns the one after it and the last second, in microseconds,
/// in which the daemon can have given it for the first time. None: the machine stood still for so long that it never was.
fn until_it_changes(
    raw: &mut Raw,
    passport: &OwnedEnvelope,
    first: impl Fn(&Verdict) -> bool,
) -> Option<(Verdict, i64, i64)> {
    let begun = Instant::now();
    let mut last_of_first = None;
    loop {
        let before = Moment::now().micros();
        let verdict = raw.verify(for_demo(), passport).unwrap();
        let after = Moment::now().micros();
        if !first(&verdict) {
            return last_of_first.map(|before| (verdict, before, after));
        }
        last_of_first = Some(before);
        assert!(begun.elapsed() < Duration::from_secs(10), "it never changed from {verdict:?}");
    }
}

const SECOND: i64 = 1_000_000;
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn exp_is_exclusive_and_the_skew_counts_once() {
    for skew in [0, 1] {
        let house = House::start(Options::default().set("passport.clock_skew_s", skew));
        let mut raw = house.raw();
        let (passport, (verdict, accepted_at, refused_at)) = eventually("it was accepted once", PATIENCE, || {
            let passport = raw.issue(IssueSpec { ttl_s: Some(1), ..demo("x") }).unwrap();
            let seen = until_it_changes(&mut raw, &passport, |verdict| matches!(verdict, Verdict::Accepted(_)));
            Some((passport, seen?))
        });
        let end = (claims(&passport)["exp"].as_i64().unwrap() + skew) * SECOND;
        assert_eq!(verdict, Verdict::Refused(Code::Expired));
        assert!(accepted_at < end, "skew {skew}: accepted {} us after its end", accepted_at - end);
        assert!(refused_at >= end, "skew {skew}: refused {} us before its end", end - refused_at);
        // Inclusive, or with the skew twice, it would have been a second later.
        assert!(refused_at < end + SECOND / 2, "skew {skew}: refused {} us after its end", refused_at - end);

        let op = ServiceOp::Introspect { want: for_demo(), passport: on_wire(&passport) };
        let Ok(ServiceOk::Introspection(seen)) = raw.ask(op) else { panic!("no introspection") };
        assert_eq!((seen.active, seen.reason), (false, Some(Code::Expired)));
        assert_eq!(seen.claims, Some(passport.msg), "authentic, so its claims are shown");
    }
}

#[test]
fn a_passport_begins_with_its_nbf_less_the_skew_once() {
    for skew in [0, 1] {
        let house = House::start(Options::default().set("passport.clock_skew_s", skew));
        let mut raw = house.raw();
        let (nbf, (verdict, refused_at, accepted_at)) = eventually("it was refused once", PATIENCE, || {
            let nbf = Moment::now().unix() + 2 + skew;
            let passport = raw.issue(IssueSpec { nbf: Some(nbf), ..demo("x") }).unwrap();
            let seen = until_it_changes(&mut raw, &passport, |verdict| *verdict == Verdict::Refused(Code::Nbf));
            Some((nbf, seen?))
        });
        let begin = (nbf - skew) * SECOND;
        assert!(matches!(verdict, Verdict::Accepted(_)), "{verdict:?}");
        assert!(refused_at < begin && accepted_at >= begin, "{refused_at} {begin} {accepted_at}");
        assert!(accepted_at < begin + SECOND / 2, "accepted {} us after its begin", accepted_at - begin);
    }
}
