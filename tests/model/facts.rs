//! What is known of the events, by what it is about.

use std::collections::HashMap;

use passportd::wire::Code;

use super::events::{Came, Change, Event, Got, Look, Pass, Said, Span, What};

/// Something that happened, or may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fact<T = ()> {
    /// Which event.
    pub(crate) at: usize,
    pub(crate) span: Span,
    /// It was acknowledged.
    pub(crate) sure: bool,
    pub(crate) of: T,
}

impl<T> Fact<T> {
    /// Whether it was acknowledged before that began.
    pub(crate) const fn is_before(&self, span: &Span) -> bool {
        self.sure && self.span.before(span)
    }
}

/// A passport, and the event that issued it.
pub(crate) struct Known<'a> {
    pub(crate) at: usize,
    pub(crate) span: Span,
    pub(crate) pass: &'a Pass,
}

#[derive(Default)]
pub(crate) struct Facts<'a> {
    /// By step.
    pub(crate) passports: HashMap<usize, Known<'a>>,
    /// By event.
    pub(crate) looks: HashMap<usize, &'a Look>,
    /// Revocations by the step of the passport, and by subject.
    pub(crate) revoked: HashMap<usize, Vec<Fact>>,
    subjects: HashMap<u32, Vec<Fact>>,
    pub(crate) compromised: Vec<Fact<u32>>,
    pub(crate) epochs: Vec<Fact<Option<u64>>>,
    pub(crate) activated: Vec<Fact<u32>>,
    pub(crate) pauses: Vec<Fact>,
    /// What ends a pause.
    resumed: Vec<Fact>,
    /// What takes, or may have taken, something, by event; and which these are, by passport and nonce. The passport is `of`.
    taking: HashMap<usize, Fact<usize>>,
    taken: HashMap<usize, Vec<usize>>,
    pub(crate) nonces: HashMap<u32, Vec<Fact<usize>>>,
    /// Looks by their retry key.
    pub(crate) keys: HashMap<usize, Vec<usize>>,
}

impl<'a> Facts<'a> {
    pub(crate) fn of(events: &'a [Event]) -> Self {
        let mut facts = Self::default();
        for (at, event) in events.iter().enumerate() {
            if let What::Issue(Got::Passport(pass)) = &event.what {
                facts.passports.insert(event.step, Known { at, span: event.span, pass });
            }
        }
        for (at, Event { span, what, .. }) in events.iter().enumerate() {
            match what {
                What::Issue(_) => {}
                What::Kill { .. } => facts.resumed.push(Fact { at, span: *span, sure: true, of: () }),
                What::Look(look) => facts.look(at, *span, look),
                What::Change { came: Came::Nothing, .. } => {}
                What::Change { change, came } => facts.change(at, *span, *change, matches!(came, Came::Done { .. })),
            }
        }
        facts
    }

    fn change(&mut self, at: usize, span: Span, change: Change, sure: bool) {
        let fact = Fact { at, span, sure, of: () };
        match change {
            Change::Passport(of) => self.revoked.entry(of).or_default().push(fact),
            Change::Subject(of) => self.subjects.entry(of).or_default().push(fact),
            Change::Compromise(of) => self.compromised.push(Fact { at, span, sure, of }),
            Change::Epoch(of) => self.epochs.push(Fact { at, span, sure, of }),
            Change::Activate(of) => self.activated.push(Fact { at, span, sure, of }),
            Change::Pause => self.pauses.push(fact),
            Change::Resume => self.resumed.push(fact),
        }
    }

    fn look(&mut self, at: usize, span: Span, look: &'a Look) {
        self.looks.insert(at, look);
        if let Some(key) = look.key {
            self.keys.entry(key).or_default().push(at);
        }
        let Some(known) = self.passports.get(&look.passport) else { return };
        if !look.how.accepts() || !known.pass.takes() {
            return;
        }
        let sure = match look.said {
            Said::Taken { .. } => true,
            // Taken, and revoked before that was said.
            Said::Lost | Said::Refused(Code::Revoked) => false,
            Said::Problem(code) if !look.how.took_nothing(code) => false,
            Said::Free | Said::Again { .. } | Said::Refused(_) | Said::Problem(_) => return,
        };
        let fact = Fact { at, span, sure, of: look.passport };
        self.taking.insert(at, fact);
        self.taken.entry(look.passport).or_default().push(at);
        if let Some(nonce) = known.pass.nonce {
            self.nonces.entry(nonce).or_default().push(fact);
        }
    }

    /// What this event took, or may have.
    pub(crate) fn taking(&self, at: usize) -> Option<Fact<usize>> {
        self.taking.get(&at).copied()
    }

    /// All that took, or may have taken, a use of a passport.
    pub(crate) fn takings(&self, passport: usize) -> impl Iterator<Item = Fact<usize>> {
        self.taken.get(&passport).into_iter().flatten().map(|at| self.taking[at])
    }

    /// All that took, or may have taken, a nonce.
    pub(crate) fn by_nonce(&self, nonce: u32) -> impl Iterator<Item = &Fact<usize>> {
        self.nonces.get(&nonce).into_iter().flatten()
    }

    /// How many uses an acceptance says to be left.
    pub(crate) fn left(&self, at: usize) -> Option<u64> {
        match self.looks[&at].said {
            Said::Taken { left } => left,
            _ => None,
        }
    }

    /// An event by which a passport is revoked, or may be. `counts` is told whether the event, if it happened, covers it for sure.
    pub(crate) fn revoking(
        &self,
        passport: usize,
        known: &Known<'_>,
        counts: &dyn Fn(&Fact, bool) -> bool,
    ) -> Option<usize> {
        let pass = known.pass;
        let own = self.revoked.get(&passport).into_iter().flatten().map(|one| (*one, true));
        // One that was issued after the answer is none of those that are revoked, and one that was issued before the question is.
        let subject = self.subjects.get(&pass.sub).into_iter().flatten();
        let subject =
            subject.filter(|one| !one.span.before(&known.span)).map(|one| (*one, known.span.before(&one.span)));
        let plain = |one: &Fact<u32>| Fact { at: one.at, span: one.span, sure: one.sure, of: () };
        let key = self.compromised.iter().filter(|one| one.of == pass.kid).map(|one| (plain(one), true));
        let epoch = self
            .epochs
            .iter()
            .filter(|one| one.of.is_none_or(|epoch| epoch > pass.epoch))
            .map(|one| (Fact { at: one.at, span: one.span, sure: one.sure, of: () }, one.of.is_some()));
        let found = own.chain(subject).chain(key).chain(epoch).find(|(fact, covers)| counts(fact, *covers));
        let parent = || pass.parent.and_then(|of| self.revoking(of, self.passports.get(&of)?, counts));
        found.map(|(fact, _)| fact.at).or_else(parent)
    }

    /// Whether a pause has ended for sure before that began.
    pub(crate) fn is_over(&self, pause: &Fact, span: &Span) -> bool {
        self.resumed.iter().any(|one| one.sure && pause.span.before(&one.span) && one.span.before(span))
    }

    /// Whether a pause may have ended before that ended.
    pub(crate) fn may_be_over(&self, pause: &Fact, span: &Span) -> bool {
        self.resumed.iter().any(|one| !one.span.before(&pause.span) && one.span.may_show_in(span))
    }
}
