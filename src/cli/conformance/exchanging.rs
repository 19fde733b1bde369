//! Exchange in JSON. The names are those of `docs/WIRE.md`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::replies::issued;
use crate::wire::{Exchanged, PassportForm, Ticket, TicketSpec};

/// `TicketSpec`, owned.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Spec {
    aud: String,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    ttl_s: Option<u32>,
    #[serde(default)]
    form: PassportForm,
    #[serde(default)]
    peer_uid: Option<u32>,
}

impl Spec {
    pub(super) fn on_wire(&self) -> TicketSpec<'_> {
        let scopes = self.scopes.iter().map(String::as_str).collect();
        TicketSpec { aud: &self.aud, scopes, ttl_s: self.ttl_s, form: self.form, peer_uid: self.peer_uid }
    }
}

pub(super) fn exchanged(exchanged: Exchanged) -> Value {
    match exchanged {
        Exchanged::Ticket(Ticket { ticket, exp, left, repeated }) => {
            json!({"Ticket": {"ticket": issued(ticket), "exp": exp, "left": left, "repeated": repeated}})
        }
        Exchanged::Refused(code) => json!({"Refused": code.name()}),
        Exchanged::Unproven { why } => json!({"Unproven": {"why": why}}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Code;

    #[test]
    fn a_ticket_is_shown_like_any_passport() {
        let ticket = crate::wire::Issued::Envelope { kid: "k".into(), msg: b"{\"a\":1}".to_vec(), sig: [0; 64] };
        let shown = exchanged(Exchanged::Ticket(Ticket { ticket, exp: 7, left: Some(2), repeated: false }));
        assert_eq!(shown.pointer("/Ticket/ticket/claims/a"), Some(&json!(1)));
        assert_eq!(shown.pointer("/Ticket/left"), Some(&json!(2)));
        assert_eq!(exchanged(Exchanged::Refused(Code::Revoked)), json!({"Refused": "revoked"}));
    }
}
