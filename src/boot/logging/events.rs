//! Every event of the operational log. `docs/LOGS.md` is written from this table, and a test holds it against the sources:
//! an event that is not here, or has other fields, fails it.

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

/// The `MESSAGE_ID` of an event.
pub(super) fn message_id(name: &str) -> Option<&'static str> {
    EVENTS.iter().find(|event| event.name == name)?.message_id
}

macro_rules! events {
    ($( $name:ident $level:ident $id:tt [$($field:ident)*] $meaning:literal $remedy:literal; )+) => {
        /// Every event.
        pub const EVENTS: &[Event] = &[$( Event {
            name: stringify!($name),
            level: stringify!($level),
            message_id: events!(@id $id),
            fields: concat!($(stringify!($field), " ",)* ""),
            meaning: $meaning,
            remedy: $remedy,
        }, )+];
    };
    (@id -) => { None };
    (@id $id:literal) => { Some($id) };
}

events! {
    // every role
    confined INFO - [uid landlock notes]
        "The sandbox is entered; `notes` says what the host does not offer."
        "Nothing, unless a note says what is missing.";
    ready INFO "cac86ada6880c73102ef67733b57a661" [ready]
        "`ready=1`: connections are taken."
        "Nothing.";
    role_failed ERROR "0540cb8cea0fbd805234b367a5119a3d" []
        "The role could not start, or had to end."
        "What the message says. Exit code 78: it is not started again until a person has mended it.";
    service_crashed ERROR "88da85f4e8936c784d402c07f8a476d2" [service reason pause_ms at thread]
        "From `run`: the role `service` ended unexpectedly, as `reason` says, and is started again after a pause; under systemd, systemd says so instead (see the queries). From a role itself, with the reason `panic`: a defect, with the place in the source."
        "A signal: look for who sent it (the OOM killer, an admin). A panic: report it with `at`; nothing of its text is logged, since that may hold anything.";
    manager_unreachable WARN - [address error]
        "NOTIFY_SOCKET names a service manager that can't be reached; the role goes on without it."
        "Look at who starts the role; systemd sets the variable itself.";
    notify_failed DEBUG - [error]
        "systemd could not be told the state."
        "Nothing outside of systemd; else look at `NotifyAccess=`.";
    log_storm AS_THE_EVENTS "b3db62403db377c8b35bedeebe3be646" [of count op reason service]
        "`count` events `of` one kind were not written one by one within a second."
        "Look at the ones that were written: they are of the same kind.";
    log_dropped WARN "e7458c3d957e2ca9f3d63ad491ac417c" [dropped]
        "The reader of the log was too slow, or gone; `dropped` entries are missing here."
        "Look at journald, or whatever reads standard error. The ledger is not concerned.";
    log_setting WARN - [setting]
        "`PASSPORTD_LOG` or `PASSPORTD_LOG_TO` says something that can't be had."
        "Mend the variable in the unit.";
    // run
    service_given_up ERROR "b7e1de6fd4af72b0e64efc8421fbc5d2" [service]
        "The role `service` ended with exit code 78 and is not started again."
        "The role's own last event says what to mend; then start passportd again.";
    service_killed WARN - [service]
        "The role did not end in its time."
        "Look at why: a hung HSM, a full disk.";
    service_not_killed WARN - [service error]
        "The role could not even be killed."
        "End it by hand.";
    signal_not_passed WARN - [service error]
        "A signal for the role did not reach it."
        "Send it to the role itself.";
    ceremony_accept_failed WARN - [error]
        "`run` could not accept a connection for a ceremony; it goes on trying."
        "If it repeats: raise the limit of open files of `run`.";
    ceremony_not_started ERROR "191bb8ea2c7ea08888d524e9ba37fb25" [error]
        "A ceremony process could not be started."
        "What `error` says; then hold the ceremony again.";
    ceremony_ended INFO - [status]
        "A ceremony process has ended with this exit code."
        "Nothing; its peer was told the outcome.";
    ceremony_killed WARN "e9b3a3079d8deb7ed62bb0bdab8d67ae" []
        "A ceremony was under way at the end, and took too long."
        "Check the HSM's keys with `passportctl hsm list`; SoftHSM may have lost its token.";
    // front: start, end and reload
    config_odd WARN - []
        "The configuration works, and something in it is odd."
        "What the message says.";
    ledger_cut WARN "c855d94cc2ae9580461f2371bf1a8a54" [gap]
        "The ledger's end was torn, as by a crash; a break record says where."
        "Nothing after a crash or a power loss. Else look at the disk.";
    journald_missing WARN - []
        "`[audit] journald` is on, and its socket is not there."
        "Start journald, or set it to auto or off.";
    pid_not_written WARN - [lock error]
        "A lock is held; its file does not say by whom, since the disk takes no more."
        "Make room on the disk.";
    withheld_not_recorded ERROR - [error]
        "Passports were recorded and then withheld, because issuing was paused; the record that says so could not be written."
        "Make room on the disk of the ledger, or mend it. Nobody has got those passports.";
    late_change_not_recorded ERROR - [error]
        "A change of keys was reported as failed and took effect after all; its record can't be written yet."
        "Make room on the disk of the ledger, or mend it.";
    late_key_unfit ERROR - [error]
        "A key that took effect late can't be verified with."
        "Take it out of service and look for tampering.";
    start_not_recorded WARN "74096b9f84a0dd2ec4fcd9103bff43ce" [error]
        "The ledger does not take the record of the start; nothing is issued until it does."
        "Make room on the disk of the ledger, or mend it.";
    start_recorded INFO - [was]
        "It took it now."
        "Nothing.";
    end_not_recorded WARN - [error]
        "The ledger did not take the record of the end."
        "Look at the disk before the next start.";
    connections_drained INFO - [open]
        "The end: `open` connections were cut off after the graceful time."
        "If it is not 0 and clients complain, raise `[server] graceful_shutdown_timeout_s`.";
    socket_inherited INFO - [listener path]
        "systemd has handed this socket over."
        "Nothing.";
    reloaded INFO "a0df8ffb075a5faee76b22706ea75cb8" [config policy]
        "A SIGHUP took effect; old and new hashes, and what changed."
        "Restart for what is said to need it.";
    reload_refused ERROR "29b1556553a06b1280586885a252a5f0" [error]
        "A SIGHUP changed nothing: there is a mistake."
        "Mend what the message names, and reload again.";
    reload_not_recorded ERROR - [unrecorded]
        "A mistake in a reload is not in the ledger."
        "Look at the disk of the ledger.";
    admins_not_served ERROR "494285c1186659471bc5ce309950453c" [error]
        "The admin socket and the metrics port do not answer."
        "Restart the front.";
    admins_panicked ERROR "8ae3397c6de6acb7b0f855813cce5230" []
        "The thread that serves admins ended by a defect."
        "Report it, with the `service_crashed` before it.";
    file_limit_not_raised WARN - [error]
        "The soft limit of open files stays as it is."
        "`LimitNOFILE=` in the unit.";
    connections_limited WARN - [limit wanted]
        "The limit of open files has room for fewer connections than are configured."
        "`LimitNOFILE=` in the unit.";
    // front: the HSM
    hsm_up INFO "3fd6336331b1dd254cc36f084db29c0b" []
        "Every key that signs passports gave a good signature."
        "Nothing.";
    verify_path INFO - [verify_path]
        "How signatures are verified from now on."
        "Nothing, unless it is `dalek` where `[verify] engine` says otherwise: see `verify_differs`.";
    verify_differs ERROR "947cd68c038aafb832bd923595d6e6ab" [verify_path net about]
        "The verification path gave another verdict than `verify_strict`, and is not used any more: `net` says what noticed \
         it. Verification goes on by the reference, slower."
        "Keep ledger and journal. Test the machine's memory and processor; if they are sound it is a defect: report it.";
    hsm_down WARN "e1ca1537fb2db360e6c63f6989df8302" [reason]
        "Passports are not issued for now; those that are there are still verified. Said once it is known, at a start \
         after some 3 s, and again when the reason has changed."
        "What `reason` says: the signer's unit, the HSM, its PIN, its keys.";
    hsm_change_not_recorded WARN - [error]
        "The change is not in the ledger."
        "Look at the disk of the ledger.";
    signature_refused ERROR "b60f95fe1745da3082d57715cb17ee4e" [error]
        "The front's own check found a bad signature from the signer. It was not released."
        "Stop issuing (`passportctl pause`), and have the HSM examined: a fault in a signature can give a key away.";
    signer_disagrees ERROR "da7839f8c1fcba312174aebd0ed59cb1" [refusal]
        "The signer's bounds do not allow what the policy grants."
        "Bring `[hsm] bounds` and the policy into line.";
    // front: connections and requests
    accept_failed WARN - [listener error]
        "A connection could not be accepted."
        "If it repeats: `LimitNOFILE=`.";
    peer_unidentified WARN - [listener error]
        "The kernel did not say who a peer is; it was turned away."
        "Report it.";
    peer_turned_away DEBUG - [reason peer_uid peer_pid listener]
        "A peer has its share of connections, or all are taken."
        "`[server] max_connections`, or the peer's `max_connections` in the policy.";
    greeted DEBUG - [client peer_uid peer_pid listener]
        "A connection begins; `client` is what it calls itself."
        "Nothing.";
    greeting_refused DEBUG - [reason peer_uid peer_pid listener]
        "A connection ended at its first frame."
        "`unsupported_version`: renew the client.";
    connection_ended DEBUG - [end]
        "How a connection ended."
        "Nothing.";
    answer_failed INFO - [op result reason corr_id peer_uid peer_pid listener]
        "A request failed by a fault on this side: `reason` is the code that the client was told."
        "Look at what came before: the HSM, the ledger, the store, the clock.";
    answer_refused DEBUG - [op result reason corr_id peer_uid peer_pid listener]
        "A request was refused: by policy, by a bound, or because it was wrong."
        "`passportctl policy explain` for this peer; the ledger has refusals by policy.";
    verified DEBUG - [op result reason corr_id kid batch_len accepted verify_path peer_uid peer_pid listener]
        "A verification was answered: how many of how many were accepted, and by which engine. For a single one, the reason and, where we know the key, its kid."
        "Nothing.";
    issued DEBUG - [op result corr_id kid batch_len accepted peer_uid peer_pid listener]
        "An issue was answered: `accepted` of `batch_len` passports were issued; `kid` is the first one's key."
        "Nothing.";
    refusal_not_recorded ERROR "89b1d8c53992ba91ccd3dd4311ea8492" [error]
        "A refusal is not in the ledger. It stays refused."
        "Look at the disk of the ledger.";
    reply_not_encoded ERROR - [error]
        "A defect: a problem did not fit a frame."
        "Report it.";
    metrics_accept_failed WARN - [error]
        "A scrape could not be accepted."
        "If it repeats: `LimitNOFILE=`.";
    metrics_connection_ended DEBUG - [error]
        "A scrape ended badly."
        "Nothing.";
    metrics_connection_late DEBUG - []
        "A scrape took too long and was cut off."
        "Nothing, unless Prometheus complains.";
    metrics_not_rendered WARN - [error]
        "A defect: the metrics can't be written."
        "Report it.";
    // signer and ceremony
    key_unused WARN "d32240e880dcc03306ded897068e5473" [kid problem]
        "A key in the HSM is not used, because something about it is wrong."
        "What `problem` says; `passportctl hsm doctor`.";
    object_orphaned WARN "1cdbdd5a31e57c5ddc9ea4b5ed3d1d7f" [orphan]
        "An object in the HSM belongs to no key that is on record."
        "Find out who made it; `passportctl hsm doctor`.";
    module_restarted INFO "54a1a1835938f97c8cb1b8c153117099" [keys]
        "The module was started afresh and found so many keys."
        "Nothing after a ceremony. Else look for `signing_failed`.";
    signing_failed WARN - [error kid]
        "The HSM did not sign; it is tried again on a new session."
        "Nothing, unless it repeats.";
    signing_failed_again WARN "575782513cda41825d7a74d5b658b326" [error kid]
        "It did not sign then either."
        "Look at the HSM: `passportctl hsm doctor`.";
    signature_destroyed ERROR "3488099a93dfa1220c198a7d281fc4a2" [kid]
        "The HSM made a signature that does not verify. It was destroyed."
        "As `signature_refused`: a fault in the HSM.";
    module_stuck ERROR "1b51fd595a143cd05923f60ba9eaf2bf" [stuck limit]
        "Calls into the HSM's module do not come back; above the limit the signer ends itself and is started again."
        "Look at the HSM and the way to it.";
    signer_ends ERROR "ecd1b0735c38786cb0dc0e9ed76ae4a1" [error]
        "The signer can't go on."
        "What `error` says. A refused PIN is not tried again: mend `[hsm] pin_file`, then start the signer.";
    signer_aborts ERROR "c5372b4e2f3c9ad91542fbe3099c65c4" [error]
        "The signer ends at once, since a thread is still inside the module."
        "Nothing: it is started again.";
    signer_accept_failed WARN - [error]
        "The front's connection could not be accepted."
        "If it repeats: `LimitNOFILE=` of the signer.";
    signer_peer_refused WARN "127d052bea98ceb5903d83dacae33f7a" [peer_uid peer_pid]
        "Somebody else than the front tried to reach the signer."
        "Find out who runs as that user.";
    signer_peer_unidentified WARN - [error]
        "The kernel did not say who a peer is."
        "Report it.";
    signer_peer_too_many WARN - [limit]
        "The front has too many connections to the signer."
        "Report it.";
    signer_thread_failed WARN - [error]
        "There is no thread for a connection."
        "`TasksMax=` of the signer.";
    link_closed WARN - [reason]
        "The front said something that the signer does not accept."
        "Front and signer of one version?";
    link_failed WARN - [error]
        "A connection of the front could not be served."
        "If it repeats: what `error` says.";
    ceremony_begun INFO "db9575dd9e32c5a924a21ca414538cc1" [peer_uid plan]
        "An admin holds a ceremony."
        "Nothing, if you know of it.";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::audit;

    #[test]
    fn names_and_ids_are_unique_and_none_is_that_of_an_audit_record() {
        let records = audit::Event::ALL.iter();
        let names: Vec<_> = EVENTS.iter().map(|event| event.name).chain(records.clone().map(|r| r.name())).collect();
        let ids: Vec<_> = EVENTS.iter().filter_map(|event| event.message_id).collect();
        let ids: Vec<_> = ids.into_iter().chain(records.map(|record| record.message_id())).collect();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))));
    }

    #[test]
    fn fields_are_names_that_journald_takes() {
        for field in EVENTS.iter().flat_map(|event| event.fields.split_whitespace()) {
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
