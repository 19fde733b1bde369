//! Every event of the operational log. `docs/LOGS.md` is written from this table, and a test holds it against the sources:
//! an event that is not here, or has other fields, fails it.

mod front;
mod shared;
mod signer;

/// An event of the operational log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The name: `PASSPORT_EVENT`. Names are never given away: operators search for them. None is that of an audit record.
    pub name: &'static str,
    /// The level, as `PASSPORTD_LOG` spells it but in capitals.
    pub level: &'static str,
    /// journald's `MESSAGE_ID` (systemd.journal-fields(7)): 128 random bits as 32 lower-case hex digits. None for events
    /// of no interest by themselves.
    pub message_id: Option<&'static str>,
    /// What it may carry: `x` is the field `PASSPORT_X`.
    pub fields: &'static str,
    /// What has happened.
    pub meaning: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

/// Said by the log itself.
pub(super) const STORM: &str = "log_storm";
/// Said by the log itself.
pub(super) const DROPPED: &str = "log_dropped";

/// Every event: those of every role and of `run`, of the front, of the signer and the ceremony.
pub fn events() -> impl Iterator<Item = &'static Event> {
    [shared::EVENTS, front::EVENTS, signer::EVENTS].into_iter().flatten()
}

/// The `MESSAGE_ID` of an event.
pub(super) fn message_id(name: &str) -> Option<&'static str> {
    events().find(|event| event.name == name)?.message_id
}

macro_rules! table {
    ($( $name:ident $level:ident $id:tt [$($field:ident)*] $meaning:literal $remedy:literal; )+) => {
        /// Events of these roles.
        pub(super) const EVENTS: &[$crate::boot::logging::events::Event] = &[$( $crate::boot::logging::events::Event {
            name: stringify!($name),
            level: stringify!($level),
            message_id: $crate::boot::logging::events::table!(@id $id),
            fields: concat!($(stringify!($field), " ",)* ""),
            meaning: $meaning,
            remedy: $remedy,
        }, )+];
    };
    (@id -) => { None };
    (@id $id:literal) => { Some($id) };
}
use table;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::audit;

    #[test]
    fn names_and_ids_are_unique_and_none_is_that_of_an_audit_record() {
        let records = audit::Event::ALL.iter();
        let names: Vec<_> = events().map(|event| event.name).chain(records.clone().map(|r| r.name())).collect();
        let ids: Vec<_> = events().filter_map(|event| event.message_id).collect();
        let ids: Vec<_> = ids.into_iter().chain(records.map(|record| record.message_id())).collect();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))));
    }

    #[test]
    fn fields_are_names_that_journald_takes() {
        for field in events().flat_map(|event| event.fields.split_whitespace()) {
            // systemd.journal-fields(7): at most 64 characters, of which the prefix takes 9.
            assert!(field.len() <= 55 && field.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{field}");
        }
    }

    /// Ids are in the filters of operators.
    #[test]
    fn ids_do_not_change() {
        assert_eq!(message_id("ready"), Some("cac86ada6880c73102ef67733b57a661"));
        assert_eq!(message_id("service_crashed"), Some("88da85f4e8936c784d402c07f8a476d2"));
        assert_eq!(message_id("greeted"), None);
    }
}
