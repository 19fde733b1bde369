//! A verification that takes long, and a revocation that comes and is acknowledged meanwhile.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use passportd::wire::{Code, ServiceOk, ServiceOp, Verdict};

use crate::support::passports::{demo, for_demo, on_wire};
use crate::support::{House, Options, rounds};

/// Items of a batch: by the slowest engine some 20 ms of work, in slices.
const ITEMS: usize = 512;

/// Whether all of a batch of one passport was accepted, or all of it refused. One that is revoked while it is looked at is not good any
/// more when the answer is given, whichever slice its items were in.
fn accepted(verdicts: &[Verdict]) -> bool {
    assert_eq!(verdicts.len(), ITEMS);
    let good = verdicts.iter().filter(|one| one.is_accepted()).count();
    let revoked = verdicts.iter().filter(|one| **one == Verdict::Refused(Code::Revoked)).count();
    assert!(good == ITEMS || revoked == ITEMS, "{good} accepted and {revoked} revoked, in one answer");
    good == ITEMS
}

#[test]
fn a_batch_that_is_looked_at_while_it_is_revoked_is_accepted_as_a_whole_or_not_at_all() {
    let house = House::start(Options::default().set("verify.engine", "dalek"));
    let (mut raw, mut other) = (house.raw(), house.raw());
    let (mut before, mut meanwhile) = (0, 0);
    for round in 0..rounds(40) {
        let passport = raw.issue(demo("stalled")).unwrap();
        let items = vec![passport.clone(); ITEMS];
        let start = Barrier::new(2);
        let (batch, revoked) = thread::scope(|scope| {
            let asked = scope.spawn(|| {
                start.wait();
                let sent = Instant::now();
                let verdicts = raw.verify_batch(for_demo(), &items).unwrap();
                (sent, accepted(&verdicts), Instant::now())
            });
            start.wait();
            // From before it is read to after it is answered.
            thread::sleep(Duration::from_millis(u64::from(round % 25)));
            let answer = other.ask(ServiceOp::Revoke { passport: on_wire(&passport) });
            assert_eq!(answer, Ok(ServiceOk::Revoked { new: true }));
            let revoked = Instant::now();
            (asked.join().unwrap(), revoked)
        });
        let (sent, good, answered) = batch;
        before += u32::from(good);
        meanwhile += u32::from(!good && sent < revoked && revoked < answered);
        // What is asked from now on is refused, on any connection.
        for raw in [&mut raw, &mut other, &mut house.raw()] {
            assert!(!accepted(&raw.verify_batch(for_demo(), &items).unwrap()));
            assert_eq!(raw.verify(for_demo(), &passport), Ok(Verdict::Refused(Code::Revoked)));
        }
    }
    // Else nothing was shown.
    assert!(meanwhile > 0 && before > 0, "{meanwhile} revoked under way, {before} answered before");
}
