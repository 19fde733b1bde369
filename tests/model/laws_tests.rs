//! The model finds what is wrong, and only that.

use passportd::wire::Code;

use super::events::{Came, Change, Event, Got, How, Look, Pass, Said, Span, Tick, What};
use super::laws::broken;

/// Events of a test, one after the other unless it says otherwise.
#[derive(Default)]
struct Story {
    events: Vec<Event>,
    now: Tick,
}

const DONE: Came = Came::Done { new: None };

impl Story {
    /// Something from one tick to another.
    fn between(mut self, step: usize, begun: Tick, ended: Tick, what: What) -> Self {
        let ms = |tick: Tick| i64::try_from(tick).unwrap() * 10;
        self.events.push(Event { step, span: Span { begun, ended, from_ms: ms(begun), to_ms: ms(ended) }, what });
        self
    }

    /// Something after all that was before.
    fn then(mut self, step: usize, what: What) -> Self {
        self.now += 10;
        let now = self.now;
        self.between(step, now, now + 1, what)
    }

    fn issued(self, step: usize, change: impl FnOnce(&mut Pass)) -> Self {
        let mut pass = Pass {
            jti: step.to_string(),
            sub: 7,
            kid: 1,
            epoch: 0,
            exp: 1_000_000,
            limit: None,
            nonce: None,
            parent: None,
        };
        change(&mut pass);
        self.then(step, What::Issue(Got::Passport(pass)))
    }

    /// A free one at step 0.
    fn free() -> Self {
        Self::default().issued(0, |_| {})
    }

    fn limited(limit: u64) -> Self {
        Self::default().issued(0, |pass| pass.limit = Some(limit))
    }

    fn changed(self, change: Change, came: Came) -> Self {
        self.then(90, What::Change { change, came })
    }

    fn said(self, said: Said) -> Self {
        self.then(1, look(How::Take, None, said))
    }

    fn keyed(self, said: Said) -> Self {
        self.then(1, look(How::Take, Some(1), said))
    }

    fn left(self, left: u64) -> Self {
        self.said(Said::Taken { left: Some(left) })
    }

    #[track_caller]
    fn good(self) {
        assert_eq!(broken(&self.events), []);
    }

    /// Exactly this is wrong, with the last event.
    #[track_caller]
    fn bad(self, law: &str) {
        let found = broken(&self.events);
        assert!(!found.is_empty() && found.iter().all(|one| one.law.contains(law)), "{found:?}");
        let last = self.events.len() - 1;
        assert!(found.iter().any(|one| one.events.contains(&last)), "{found:?}");
    }
}

fn look(how: How, key: Option<usize>, said: Said) -> What {
    What::Look(Look { passport: 0, how, key, said })
}

fn refused(code: Code) -> Said {
    Said::Refused(code)
}

#[test]
fn what_is_good_is_accepted_and_nothing_is_refused_for_no_reason() {
    Story::free().said(Said::Free).good();
    Story::free().said(Said::Problem(Code::Busy)).said(Said::Lost).good();
    for code in
        [Code::Revoked, Code::UnknownKid, Code::Expired, Code::VerifyFailed, Code::LimitExceeded, Code::Replayed]
    {
        Story::free().said(refused(code)).bad("for no reason");
    }
    Story::free().said(Said::Problem(Code::Internal)).bad("a verdict is refused with internal");
    Story::free().said(Said::Problem(Code::Malformed)).bad("a good request is malformed");
    Story::free().said(Said::Taken { left: None }).bad("as if it took something else");
    Story::limited(2).said(Said::Free).bad("as if it took something else");
    for (how, code) in [(How::Forged, Code::VerifyFailed), (How::Elsewhere, Code::ScopeDenied)] {
        Story::free().then(1, look(how, None, refused(code))).good();
        Story::free().then(1, look(how, None, Said::Free)).bad("accepted though");
    }
    // Its end is at 50 ms.
    let short = |pass: &mut Pass| pass.exp = 0;
    Story::default().issued(0, short).said(Said::Free).bad("accepted after its end");
    Story::default().issued(0, short).said(refused(Code::Expired)).good();
}

#[test]
fn after_the_answer_to_a_revocation_nobody_accepts() {
    let passport = Change::Passport(0);
    for change in [passport, Change::Subject(7), Change::Compromise(1), Change::Epoch(Some(1))] {
        Story::free().changed(change, DONE).said(refused(Code::Revoked)).good();
        Story::free().changed(change, DONE).said(Said::Free).bad("accepted after it was revoked");
        Story::free()
            .changed(change, DONE)
            .then(1, look(How::Peek, None, Said::Free))
            .bad("accepted after it was revoked");
        // What may have happened allows both.
        for said in [Said::Free, refused(Code::Revoked)] {
            Story::free().changed(change, Came::Maybe).said(said).good();
        }
        Story::free().changed(change, Came::Nothing).said(refused(Code::Revoked)).bad("for no reason");
    }
    Story::free().changed(Change::Compromise(1), DONE).said(refused(Code::UnknownKid)).good();
    for other in [Change::Passport(5), Change::Subject(8), Change::Compromise(2), Change::Epoch(Some(0))] {
        Story::free().changed(other, DONE).said(Said::Free).good();
        Story::free().changed(other, DONE).said(refused(Code::Revoked)).bad("for no reason");
    }
    // While the answer is under way both are right; before the question nothing is refused.
    let revoked = |begun, ended| {
        move |story: Story| story.between(9, begun, ended, What::Change { change: passport, came: DONE })
    };
    for said in [Said::Free, refused(Code::Revoked)] {
        revoked(15, 25)(Story::free()).between(1, 20, 30, look(How::Take, None, said)).good();
        revoked(20, 30)(Story::free()).between(1, 15, 25, look(How::Take, None, said)).good();
    }
    revoked(26, 30)(Story::free()).between(1, 15, 25, look(How::Take, None, refused(Code::Revoked))).bad("no reason");
    // Used up is no reason to be accepted.
    Story::limited(2).changed(passport, DONE).left(1).bad("accepted after it was revoked");
    let again = Said::Again { left: Some(1) };
    let used = || Story::limited(2).keyed(Said::Taken { left: Some(1) }).changed(passport, DONE);
    used().keyed(again).bad("accepted after it was revoked");
}

#[test]
fn a_subject_that_was_revoked_gets_new_ones() {
    let revoked = || Story::default().changed(Change::Subject(7), DONE);
    revoked().issued(0, |_| {}).said(Said::Free).good();
    revoked().issued(0, |_| {}).said(refused(Code::Revoked)).bad("for no reason");
    // One that was issued meanwhile may be either.
    for said in [Said::Free, refused(Code::Revoked)] {
        let change = What::Change { change: Change::Subject(7), came: DONE };
        Story::free().between(9, 5, 50, change).between(1, 60, 61, look(How::Take, None, said)).good();
    }
}

#[test]
fn revoking_says_whether_it_is_new() {
    let revoked = |story: Story, new| story.changed(Change::Passport(0), Came::Done { new: Some(new) });
    revoked(revoked(Story::free(), true), false).good();
    revoked(revoked(Story::free(), true), true).bad("revoked anew");
    revoked(Story::free(), false).bad("by nobody");
}

#[test]
fn no_more_is_accepted_than_there_is() {
    Story::limited(2).left(1).left(0).said(refused(Code::LimitExceeded)).good();
    Story::limited(2).left(1).said(refused(Code::LimitExceeded)).bad("for no reason");
    Story::limited(1).left(0).left(0).bad("");
    Story::limited(3).left(2).left(2).bad("");
    Story::limited(3).left(1).bad("are said to be left");
    Story::limited(3).left(2).left(0).bad("are said to be left");
    Story::limited(3).said(Said::Taken { left: None }).bad("are said to be left");
    // One whose answer never came may have taken one.
    Story::limited(2).said(Said::Lost).left(0).said(refused(Code::LimitExceeded)).good();
    Story::limited(2).said(Said::Problem(Code::AuditUnavailable)).left(1).left(0).good();
    Story::limited(2).said(Said::Problem(Code::Busy)).left(0).bad("are said to be left");
    // Looking takes nothing, and sees what is taken.
    let peek = |said| look(How::Peek, None, said);
    Story::limited(1).then(1, peek(Said::Free)).left(0).then(1, peek(refused(Code::LimitExceeded))).good();
    Story::limited(1).left(0).then(1, peek(Said::Free)).bad("nothing is left");
    Story::limited(1).then(1, peek(Said::Free)).said(refused(Code::LimitExceeded)).bad("for no reason");
    let forged = |said| look(How::Forged, None, said);
    Story::limited(1).then(1, forged(refused(Code::VerifyFailed))).said(refused(Code::LimitExceeded)).bad("no reason");
}

#[test]
fn a_nonce_is_accepted_once() {
    let taken = Said::Taken { left: None };
    let one = || Story::default().issued(0, |pass| pass.nonce = Some(3));
    let both = || one().issued(5, |pass| pass.nonce = Some(3));
    let other = |said| What::Look(Look { passport: 5, how: How::Take, key: None, said });
    one().said(taken).said(refused(Code::Replayed)).good();
    one().said(taken).said(taken).bad("one nonce");
    both().said(taken).then(1, other(refused(Code::Replayed))).good();
    both().said(taken).then(1, other(taken)).bad("one nonce");
    one().said(refused(Code::Replayed)).bad("for no reason");
    one().said(Said::Lost).said(taken).said(refused(Code::Replayed)).good();
    one().said(taken).then(1, look(How::Peek, None, Said::Free)).bad("nothing is left");
}

#[test]
fn the_same_request_is_said_once_more() {
    let taken = Said::Taken { left: Some(1) };
    let again = |left| Said::Again { left: Some(left) };
    Story::limited(2).keyed(taken).keyed(again(1)).left(0).keyed(again(1)).good();
    Story::limited(2).keyed(again(1)).bad("never said before");
    Story::limited(2).keyed(taken).keyed(again(0)).bad("and otherwise");
    Story::limited(2).keyed(taken).keyed(Said::Taken { left: Some(0) }).bad("takes twice");
    Story::limited(2).keyed(Said::Lost).keyed(taken).keyed(again(1)).good();
    Story::limited(2).keyed(Said::Lost).keyed(again(1)).good();
    Story::limited(1)
        .keyed(Said::Taken { left: Some(0) })
        .keyed(refused(Code::LimitExceeded))
        .bad("under the same key");
    // Of another passport.
    let other = |said| What::Look(Look { passport: 5, how: How::Take, key: Some(1), said });
    let both = || Story::limited(2).issued(5, |pass| pass.limit = Some(1)).keyed(taken);
    both().then(2, other(Said::Problem(Code::Malformed))).good();
    both().then(2, other(Said::Taken { left: Some(0) })).bad("takes twice");
}

/// A ticket at step 2 of the passport at step 0.
fn with_ticket(story: Story, exp: i64) -> Story {
    story.then(2, look(How::Exchange, None, Said::Free)).issued(2, |pass| {
        (pass.parent, pass.limit, pass.kid, pass.exp) = (Some(0), Some(1), 1, exp);
    })
}

fn of_ticket(how: How, said: Said) -> What {
    What::Look(Look { passport: 2, how, key: None, said })
}

#[track_caller]
fn too_often(story: &Story) {
    let found = broken(&story.events);
    assert!(found.iter().any(|one| one.law.contains("more often than its limit")), "{found:?}");
}

#[test]
fn a_ticket_goes_with_its_passport_and_is_no_passport_to_make_tickets_from() {
    let (taken, ended) = (|| of_ticket(How::Take, Said::Taken { left: Some(0) }), 500_000);
    let ticket = || with_ticket(Story::free(), ended);
    ticket().then(3, taken()).good();
    too_often(&ticket().then(3, taken()).then(3, taken()));
    ticket().then(3, of_ticket(How::Take, Said::Free)).bad("something else");
    for change in [Change::Passport(0), Change::Passport(2), Change::Subject(7), Change::Epoch(Some(1))] {
        ticket().changed(change, DONE).then(3, taken()).bad("after it was revoked");
        ticket().changed(change, DONE).then(3, of_ticket(How::Take, refused(Code::Revoked))).good();
    }
    ticket().changed(Change::Passport(9), DONE).then(3, of_ticket(How::Take, refused(Code::Revoked))).bad("no reason");
    ticket().then(3, of_ticket(How::Exchange, refused(Code::ScopeDenied))).good();
    ticket().then(3, of_ticket(How::Exchange, Said::Taken { left: Some(0) })).bad("from a ticket");
    with_ticket(Story::free(), 1_000_001).bad("does not");
    // Its passport's use, which a busy daemon may have taken.
    too_often(&Story::limited(1).then(3, look(How::Exchange, None, Said::Taken { left: Some(0) })).left(0));
    let busy = |how| Story::limited(1).then(3, look(how, None, Said::Problem(Code::Busy)));
    busy(How::Exchange).said(refused(Code::LimitExceeded)).good();
    busy(How::Take).said(refused(Code::LimitExceeded)).bad("no reason");
}

#[test]
fn keys_and_epochs_go_forward() {
    let next = |kid| move |pass: &mut Pass| pass.kid = kid;
    let active = || Story::default().changed(Change::Activate(2), DONE);
    active().issued(0, next(2)).said(Said::Free).good();
    active().issued(0, next(1)).bad("had retired");
    Story::default().issued(0, next(2)).bad("not active yet");
    Story::free().changed(Change::Activate(2), DONE).said(Said::Free).good();
    Story::default().changed(Change::Compromise(1), DONE).issued(0, next(1)).bad("compromised key");
    let later = |epoch| move |pass: &mut Pass| pass.epoch = epoch;
    let bumped = |story: Story, epoch| story.changed(Change::Epoch(Some(epoch)), DONE);
    bumped(Story::default(), 1).issued(0, later(1)).said(Said::Free).good();
    bumped(Story::default(), 1).issued(0, later(0)).bad("had ended");
    bumped(Story::default(), 1).issued(0, later(2)).bad("had not begun");
    bumped(bumped(Story::default(), 1), 2).good();
    bumped(bumped(Story::default(), 1), 1).bad("no later");
    bumped(bumped(Story::default(), 2), 1).bad("no later");
    let kill = |generation| What::Kill { generation };
    Story::default().then(1, kill(5)).then(2, kill(5)).good();
    Story::default().then(1, kill(5)).then(2, kill(4)).bad("generation went back");
    Story::free().issued(5, |pass| pass.jti = "0".into()).bad("one id");
}

#[test]
fn nothing_is_issued_while_issuing_is_paused() {
    let paused = || Story::default().changed(Change::Pause, DONE);
    let problem = || What::Issue(Got::Problem(Code::Paused));
    paused().then(0, problem()).good();
    paused().issued(0, |_| {}).bad("while issuing was paused");
    paused().changed(Change::Resume, DONE).issued(0, |_| {}).good();
    paused().changed(Change::Resume, DONE).then(0, problem()).bad("nobody has paused");
    paused().changed(Change::Resume, Came::Maybe).then(0, problem()).issued(1, |_| {}).good();
    paused().then(8, What::Kill { generation: 1 }).issued(0, |_| {}).good();
    paused().then(8, What::Kill { generation: 1 }).then(0, problem()).bad("nobody has paused");
    Story::default().then(0, problem()).bad("nobody has paused");
    Story::default().then(0, What::Issue(Got::Problem(Code::NotReady))).good();
    Story::default().then(0, What::Issue(Got::Problem(Code::OpDenied))).bad("issuing is refused with");
    // One that came before the pause does not end it.
    Story::default().changed(Change::Resume, DONE).changed(Change::Pause, DONE).issued(0, |_| {}).bad("was paused");
}
