//! The laws in plain code: what was asked, when, and what came, held against what may come.
//!
//! What is asked at one time may take effect in any order, so nothing here guesses an order. Every event has the tick before which
//! it was not asked and the tick after which its answer was there. What was acknowledged before a question was asked must
//! show in the answer; what was not asked yet when the answer came must not; all else may. A change whose answer never came,
//! or that was refused by a daemon in trouble, may have happened.
//!
//! A further operation gets a [`What`], a line in [`super::facts`] where it changes something, and its law here.

use passportd::wire::Code;

use super::events::{Came, Change, Event, Got, How, Look, Pass, Said, Span, What};
use super::facts::{Fact, Facts, Known};

/// For how long a retry key is certain to be known, in milliseconds: less than `REPEAT_S`.
const RETRY_MS: i64 = 110_000;

/// A law that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) law: String,
    /// The events that show it.
    pub(crate) events: Vec<usize>,
}

/// Whether a daemon that is well, but busy, killed or without a key for a moment, may have this problem.
const fn may_be(code: Code) -> bool {
    use Code::{AuditUnavailable, Busy, HsmTimeout, HsmUnavailable, NotReady, RateLimited, StoreUnavailable};
    matches!(code, AuditUnavailable | Busy | HsmTimeout | HsmUnavailable | NotReady | RateLimited | StoreUnavailable)
}

/// Every law that does not hold of these events.
pub(crate) fn broken(events: &[Event]) -> Vec<Broken> {
    let facts = Facts::of(events);
    let mut court = Court { facts: &facts, events, broken: Vec::new() };
    for (at, event) in events.iter().enumerate() {
        match &event.what {
            What::Issue(got) => court.issue(at, event, got),
            What::Look(look) => match facts.passports.get(&look.passport) {
                Some(known) => court.look(at, event, look, known),
                None => court.breaks("what was never issued is looked at", &[at]),
            },
            What::Change { change: Change::Passport(of), came: Came::Done { new: Some(new) } } => {
                court.revoked(at, event, *of, *new);
            }
            What::Change { .. } | What::Kill { .. } => {}
        }
    }
    court.order();
    court.spent();
    court.broken
}

struct Court<'a> {
    facts: &'a Facts<'a>,
    events: &'a [Event],
    broken: Vec<Broken>,
}

impl Court<'_> {
    fn breaks(&mut self, law: impl Into<String>, events: &[usize]) {
        self.broken.push(Broken { law: law.into(), events: events.to_vec() });
    }

    fn issue(&mut self, at: usize, event: &Event, got: &Got) {
        let Facts { epochs, compromised, activated, pauses, .. } = self.facts;
        let span = &event.span;
        match got {
            Got::Lost => {}
            Got::Problem(Code::Paused) => {
                let explains = |pause: &&Fact| pause.span.may_show_in(span) && !self.facts.is_over(pause, span);
                if !pauses.iter().any(|pause| explains(&pause)) {
                    self.breaks("issuing is refused as paused, and nobody has paused it", &[at]);
                }
            }
            Got::Problem(code) if may_be(*code) => {}
            Got::Problem(code) => self.breaks(format!("issuing is refused with {code}"), &[at]),
            Got::Passport(pass) => {
                if let Some(of) = pass.parent {
                    self.ticket(at, pass, of);
                }
                if let Some(pause) =
                    pauses.iter().find(|one| one.sure && one.span.before(span) && !self.facts.may_be_over(one, span))
                {
                    self.breaks("issued while issuing was paused", &[pause.at, at]);
                }
                if let Some(late) = compromised.iter().find(|one| one.of == pass.kid && one.is_before(span)) {
                    self.breaks("issued with a compromised key", &[late.at, at]);
                }
                if let Some(newer) = activated.iter().find(|one| one.of > pass.kid && one.is_before(span)) {
                    self.breaks("issued with a key that had retired", &[newer.at, at]);
                }
                if pass.kid > 1 && !activated.iter().any(|one| one.of == pass.kid && one.span.may_show_in(span)) {
                    self.breaks("issued with a key that was not active yet", &[at]);
                }
                if let Some(newer) = epochs.iter().find(|one| one.of > Some(pass.epoch) && one.is_before(span)) {
                    self.breaks("issued in an epoch that had ended", &[newer.at, at]);
                }
                let begun = |one: &Fact<Option<u64>>| {
                    one.span.may_show_in(span) && one.of.is_none_or(|epoch| epoch == pass.epoch)
                };
                if pass.epoch > 0 && !epochs.iter().any(begun) {
                    self.breaks("issued in an epoch that had not begun", &[at]);
                }
            }
        }
    }

    /// What a ticket has of the passport that it was made from.
    fn ticket(&mut self, at: usize, ticket: &Pass, of: usize) {
        let Some(known) = self.facts.passports.get(&of) else {
            return self.breaks("a ticket is made from what was never issued", &[at]);
        };
        let Pass { sub, epoch, exp, .. } = known.pass;
        if (ticket.sub, ticket.epoch, ticket.limit, ticket.nonce) != (*sub, *epoch, Some(1), None) || ticket.exp > *exp
        {
            self.breaks("a ticket says what its passport does not", &[known.at, at]);
        }
    }

    fn look(&mut self, at: usize, event: &Event, look: &Look, known: &Known<'_>) {
        match look.said {
            Said::Lost => {}
            Said::Problem(Code::Malformed) => {
                let own = |other: &usize| self.facts.looks[other].passport == look.passport;
                let key = look.key.and_then(|key| self.facts.keys.get(&key));
                if key.is_none_or(|key| key.iter().all(own)) {
                    self.breaks("a good request is malformed", &[at]);
                }
            }
            Said::Problem(code) if may_be(code) => {}
            // As for what is issued, the pauses say so.
            Said::Problem(Code::Paused) if look.how == How::Exchange => {
                self.issue(at, event, &Got::Problem(Code::Paused));
            }
            Said::Problem(code) => self.breaks(format!("a verdict is refused with {code}"), &[at]),
            Said::Refused(code) => {
                if !self.may_refuse(at, event, look, known, code) {
                    self.breaks(format!("refused with {code} for no reason"), &[known.at, at]);
                }
            }
            Said::Free | Said::Taken { .. } | Said::Again { .. } => self.accepted(at, event, look, known),
        }
    }

    fn accepted(&mut self, at: usize, event: &Event, look: &Look, known: &Known<'_>) {
        let span = &event.span;
        if let Some(late) = self.facts.revoking(look.passport, known, &|fact, sure| sure && fact.is_before(span)) {
            self.breaks("accepted after it was revoked", &[known.at, late, at]);
        }
        if span.from_ms >= known.pass.exp * 1000 {
            self.breaks("accepted after its end", &[known.at, at]);
        }
        if look.how == How::Exchange && known.pass.parent.is_some() {
            self.breaks("a ticket is made from a ticket", &[known.at, at]);
        }
        if matches!(look.how, How::Forged | How::Elsewhere) {
            self.breaks(format!("accepted though {:?}", look.how).to_lowercase(), &[at]);
        }
        if look.how.accepts() && (look.said == Said::Free) == known.pass.takes() {
            self.breaks("accepted as if it took something else than it does", &[known.at, at]);
        }
        if look.how == How::Peek {
            let sure = self.facts.takings(look.passport).filter(|one| one.is_before(span)).count();
            if known.pass.limit.is_some_and(|limit| sure >= usize::try_from(limit).unwrap())
                || known.pass.nonce.is_some_and(|nonce| self.facts.by_nonce(nonce).any(|one| one.is_before(span)))
            {
                self.breaks("active, and nothing is left of it", &[known.at, at]);
            }
        }
    }

    /// Whether something that was asked before the answer came may be why.
    fn may_refuse(&self, at: usize, event: &Event, look: &Look, known: &Known<'_>, code: Code) -> bool {
        let span = &event.span;
        let others = |one: &Fact<usize>| one.at != at && one.span.may_show_in(span);
        match code {
            Code::Revoked => {
                self.facts.revoking(look.passport, known, &|fact, _| fact.span.may_show_in(span)).is_some()
            }
            Code::UnknownKid => {
                let ours = |one: &&Fact<u32>| one.of == known.pass.kid && one.span.may_show_in(span);
                self.facts.compromised.iter().any(|one| ours(&one))
            }
            Code::Expired => span.to_ms >= known.pass.exp * 1000,
            Code::VerifyFailed => look.how == How::Forged,
            Code::ScopeDenied => look.how == How::Elsewhere || look.how == How::Exchange && known.pass.parent.is_some(),
            Code::LimitExceeded => {
                let taken = self.facts.takings(look.passport).filter(|one| others(one)).count();
                known.pass.limit.is_some_and(|limit| taken >= usize::try_from(limit).unwrap())
            }
            Code::Replayed => known.pass.nonce.is_some_and(|nonce| self.facts.by_nonce(nonce).any(others)),
            _ => false,
        }
    }

    fn revoked(&mut self, at: usize, event: &Event, of: usize, new: bool) {
        let all = self.facts.revoked.get(&of).map(Vec::as_slice).unwrap_or_default();
        let before = all.iter().find(|one| one.at != at && one.is_before(&event.span));
        if let (true, Some(before)) = (new, before) {
            self.breaks("revoked anew", &[before.at, at]);
        }
        let other = all.iter().any(|one| one.at != at && one.span.may_show_in(&event.span));
        let over = self.facts.passports.get(&of).is_some_and(|one| event.span.to_ms >= one.pass.exp * 1000);
        if !new && !other && !over {
            self.breaks("revoked before, and by nobody", &[at]);
        }
    }

    /// Epochs, generations and ids.
    fn order(&mut self) {
        let epochs: Vec<_> = self.facts.epochs.iter().filter(|one| one.of.is_some()).collect();
        for (n, one) in epochs.iter().enumerate() {
            for other in &epochs[n + 1..] {
                let (first, second) = if one.span.before(&other.span) { (one, other) } else { (other, one) };
                if one.of == other.of || first.span.before(&second.span) && first.of > second.of {
                    self.breaks("an epoch is no later than the one before", &[first.at, second.at]);
                }
            }
        }
        let mut last = (0, 0);
        for (at, event) in self.events.iter().enumerate() {
            if let What::Kill { generation } = event.what {
                if generation < last.0 {
                    self.breaks("the generation went back", &[last.1, at]);
                }
                last = (generation, at);
            }
        }
        let mut ids = std::collections::HashMap::new();
        for known in self.facts.passports.values() {
            if let Some(other) = ids.insert(known.pass.jti.as_str(), known.at) {
                self.breaks("two passports have one id", &[other, known.at]);
            }
        }
    }

    /// What was taken: not more than there was, and each time less is left.
    fn spent(&mut self) {
        for (passport, known) in &self.facts.passports {
            let Some(limit) = known.pass.limit else { continue };
            let all: Vec<_> = self.facts.takings(*passport).collect();
            let sure: Vec<_> = all.iter().copied().filter(|one| one.sure).collect();
            if sure.len() > usize::try_from(limit).unwrap() {
                self.breaks("accepted more often than its limit", &sure.iter().map(|one| one.at).collect::<Vec<_>>());
            }
            for one in &sure {
                let left = self.facts.left(one.at);
                let others = || all.iter().filter(|other| other.at != one.at);
                let after = others().filter(|other| other.is_before(&one.span)).count();
                let most = others().filter(|other| other.span.may_show_in(&one.span)).count();
                let may = |used: usize| limit.checked_sub(1 + u64::try_from(used).unwrap());
                if left.is_none() || left > may(after) || left < may(most).or(Some(0)) {
                    self.breaks(format!("{left:?} are said to be left of {limit}"), &[known.at, one.at]);
                }
                let same = sure.iter().find(|other| other.at > one.at && self.facts.left(other.at) == left);
                if let Some(same) = same {
                    self.breaks("one use is taken twice", &[one.at, same.at]);
                }
            }
        }
        for all in self.facts.nonces.values() {
            self.once("one nonce is accepted twice", all, |_, _| true);
        }
        for (key, looks) in &self.facts.keys {
            let taken: Vec<_> = looks.iter().filter_map(|at| self.facts.taking(*at)).collect();
            let known =
                |one: &Span, other: &Span| one.to_ms.max(other.to_ms) - one.from_ms.min(other.from_ms) < RETRY_MS;
            self.once("one retry key takes twice", &taken, known);
            for at in looks {
                self.repeated(*key, *at, &taken);
            }
        }
    }

    fn once(&mut self, law: &str, all: &[Fact<usize>], counts: impl Fn(&Span, &Span) -> bool) {
        let sure: Vec<_> = all.iter().filter(|one| one.sure).collect();
        for pair in sure.windows(2) {
            if counts(&pair[0].span, &pair[1].span) {
                self.breaks(law, &[pair[0].at, pair[1].at]);
            }
        }
    }

    /// A request under a key that was used.
    fn repeated(&mut self, key: usize, at: usize, taken: &[Fact<usize>]) {
        let (look, span) = (self.facts.looks[&at], self.events[at].span);
        let own = || taken.iter().filter(|one| one.at != at && one.of == look.passport);
        let first = own().find(|one| one.sure);
        match look.said {
            Said::Again { left } => {
                if !own().any(|one| one.span.may_show_in(&span)) {
                    self.breaks(format!("said once more of key {key}, and never said before"), &[at]);
                }
                if let Some(first) = first.filter(|one| self.facts.left(one.at) != left) {
                    self.breaks("said once more, and otherwise", &[first.at, at]);
                }
            }
            Said::Refused(Code::LimitExceeded | Code::Replayed) => {
                let known = |one: &&Fact<usize>| one.is_before(&span) && span.to_ms - one.span.from_ms < RETRY_MS;
                if let Some(first) = first.filter(known) {
                    self.breaks("refused though it was accepted under the same key", &[first.at, at]);
                }
            }
            _ => {}
        }
    }
}
