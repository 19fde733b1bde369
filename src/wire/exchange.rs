//! Tickets. Append only, as `service`.

use bincode::{BorrowDecode, Decode, Encode};

use super::{Code, Issued, PassportForm};

/// What a ticket is to say, within the passport that it is made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, BorrowDecode)]
pub struct TicketSpec<'a> {
    /// For whom it is: one for whom the passport is, too.
    pub aud: &'a str,
    /// What it allows, no more than the passport; empty: as much.
    pub scopes: Vec<&'a str>,
    /// Its lifetime in seconds; none: as long as a ticket may live. It ends with the passport's.
    pub ttl_s: Option<u32>,
    /// In which form it is wanted.
    pub form: PassportForm,
    /// The user who presented the passport, as the peer knows from the kernel; none: the asking peer itself.
    pub peer_uid: Option<u32>,
}

/// A ticket, or why the passport is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Exchanged {
    /// The ticket: a passport that is accepted once.
    Ticket(Ticket),
    /// The passport is not good; the code is one that may be a verdict's reason.
    Refused(Code),
    /// The passport is not good: `pop_invalid`, and what is wrong with the proof.
    Unproven {
        /// In words.
        why: String,
    },
}

/// A ticket, and what became of its passport.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Ticket {
    /// The ticket.
    pub ticket: Issued,
    /// When it expires (seconds since 1970, exclusive).
    pub exp: i64,
    /// How many uses of the passport are left; none if it has no limit.
    pub left: Option<u64>,
    /// The same request was answered before, and nothing was taken now: whichever ticket is used first, the other is used up.
    pub repeated: bool,
}
