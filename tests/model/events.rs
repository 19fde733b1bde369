//! What was asked, when, and what came.

use passportd::wire::Code;

/// A count of moments: of two events, one whose end is less than the other's begin was over before.
pub(crate) type Tick = u64;

/// From before something was asked until after it was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) begun: Tick,
    pub(crate) ended: Tick,
    /// By the clock, in milliseconds since 1970.
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
}

impl Span {
    /// Whether it was over when the other began.
    pub(crate) const fn before(&self, other: &Self) -> bool {
        self.ended < other.begun
    }

    /// Whether it may have had an effect on the other.
    pub(crate) const fn may_show_in(&self, other: &Self) -> bool {
        self.begun < other.ended
    }
}

/// What a passport says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    pub(crate) jti: String,
    pub(crate) sub: u32,
    /// The version of the key.
    pub(crate) kid: u32,
    pub(crate) epoch: u64,
    pub(crate) exp: i64,
    pub(crate) limit: Option<u64>,
    pub(crate) nonce: Option<u32>,
    /// Of a ticket: the step of the passport that it was made from.
    pub(crate) parent: Option<usize>,
}

impl Pass {
    /// Whether accepting it takes something.
    pub(crate) const fn takes(&self) -> bool {
        self.limit.is_some() || self.nonce.is_some()
    }
}

/// One event, of a step of the plan.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) step: usize,
    pub(crate) span: Span,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Issue(Got),
    Look(Look),
    Change {
        change: Change,
        came: Came,
    },
    /// The front was killed, and started again; the state said then that it was at this generation.
    Kill {
        generation: u64,
    },
}

/// What came of asking for a passport.
#[derive(Clone, Debug)]
pub(crate) enum Got {
    Passport(Pass),
    Problem(Code),
    Lost,
}

/// A look at the passport of a step.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub(crate) passport: usize,
    pub(crate) how: How,
    /// The step that made the retry key.
    pub(crate) key: Option<usize>,
    pub(crate) said: Said,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// To accept it.
    Take,
    /// To have a ticket for it, which accepts it, too.
    Exchange,
    /// By introspection.
    Peek,
    /// With another signature.
    Forged,
    /// For what it is no good for.
    Elsewhere,
}

/// What was said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Accepted, and nothing was taken; of a [`How::Peek`]: it would be.
    Free,
    Taken {
        left: Option<u64>,
    },
    /// As it was said before.
    Again {
        left: Option<u64>,
    },
    Refused(Code),
    Problem(Code),
    Lost,
}

/// What an admin or a service may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The passport of this step is revoked.
    Passport(usize),
    /// All of a subject are.
    Subject(u32),
    /// The key of this version is compromised.
    Compromise(u32),
    /// The epoch ends; the answer names the next.
    Epoch(Option<u64>),
    /// The key of this version signs.
    Activate(u32),
    Pause,
    Resume,
}

/// What came of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// Acknowledged; whether that was new, where the answer says so.
    Done {
        new: Option<bool>,
    },
    /// Refused before anything was done.
    Nothing,
    Maybe,
}

impl How {
    /// Whether it is accepted by this, with what that takes.
    pub(crate) const fn accepts(self) -> bool {
        matches!(self, Self::Take | Self::Exchange)
    }

    /// Whether a problem says that nothing was taken. What has a ticket is signed after that, and so may be told that much is busy.
    pub(crate) const fn took_nothing(self, code: Code) -> bool {
        harmless(code) && !matches!((self, code), (Self::Exchange, Code::Busy))
    }
}

/// Whether a problem says that nothing was done.
pub(crate) const fn harmless(code: Code) -> bool {
    use Code::{Busy, Malformed, NotReady, OpDenied, RateLimited, TooLarge, UnknownKid};
    matches!(code, Busy | Malformed | NotReady | OpDenied | RateLimited | TooLarge | UnknownKid)
}
