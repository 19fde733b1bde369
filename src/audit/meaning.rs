//! What each event means to an auditor, and what to do about it: for `journalctl -x` (systemd/passportd.catalog) and
//! docs/AUDIT.md, which tests write from here. By name: a list of the variants would look as if each was recorded somewhere.

/// An event's entry.
#[derive(Clone, Copy, Debug)]
pub struct Meaning {
    /// Its name in records.
    pub event: &'static str,
    /// In a few words.
    pub subject: &'static str,
    /// What has happened; which members say more.
    pub meaning: &'static str,
    /// What to do, or that nothing is to be done.
    pub remedy: &'static str,
}

const fn row(event: &'static str, subject: &'static str, meaning: &'static str, remedy: &'static str) -> Meaning {
    Meaning { event, subject, meaning, remedy }
}

/// The entry of an event; none if it has none, which a test sees to.
pub fn meaning(event: &str) -> Option<&'static Meaning> {
    MEANINGS.iter().find(|row| row.event == event)
}

/// Every event's entry.
pub(super) const MEANINGS: &[Meaning] = &[
    row(
        "daemon_started",
        "passportd is ready",
        "The front takes connections. `detail` has its version.",
        "Nothing, if a start was expected. Every start without a daemon_stopping before it followed a crash or a kill.",
    ),
    row(
        "daemon_stopping",
        "passportd stops",
        "It was told to end, and takes no new work.",
        "Nothing, if that was wanted.",
    ),
    row(
        "self_test_passed",
        "The keys sign",
        "Each key that signs passports gave a probe signature that verifies, for the first time since the start.",
        "Nothing.",
    ),
    row(
        "self_test_failed",
        "A key does not sign as it must",
        "A probe signature of `kid` does not verify, or the signer destroyed one that did not.",
        "Stop issuing (`passportctl pause`) and have the HSM examined: a faulty signature can give the key away.",
    ),
    row(
        "passport_issued",
        "A passport was issued",
        "A passport for `sub` with the id `jti` was signed by `kid`, from `template`, until `exp`. With the outcome failed it was \
         recorded and then not released.",
        "Nothing.",
    ),
    row(
        "issue_refused",
        "A passport was not issued",
        "`uid` asked for a passport for `sub`, and did not get it for `reason`.",
        "`passportctl policy explain` says which rule would grant it. Many of one uid: find out what runs as that user.",
    ),
    row(
        "request_refused",
        "A request was refused",
        "`uid` asked for `action` and was not allowed, or it could not be done, for `reason`.",
        "As issue_refused.",
    ),
    row(
        "peer_refused",
        "A connection was refused",
        "No policy names `uid`, or it has its share of connections already.",
        "If it should be served: a rule in the policy. Else find out what runs as that user.",
    ),
    row(
        "key_staged",
        "A key was staged",
        "`kid` is published and does not sign yet.",
        "Nothing, if a rotation is under way.",
    ),
    row(
        "key_activated",
        "A key signs",
        "`kid` signs for its tenant and purpose from now on.",
        "Compare with the transcript of the ceremony. Without one, find out who did it: `uid`.",
    ),
    row(
        "key_retired",
        "A key signs no more",
        "`kid` still verifies what it signed.",
        "Nothing, if a rotation is under way.",
    ),
    row(
        "attested",
        "A statement was given",
        "An admin was given a statement of what runs, with which configuration, policy and keys.",
        "Nothing.",
    ),
    row(
        "policy_reloaded",
        "A new policy is in force",
        "`detail` has its hash and the one before.",
        "Compare it with the policy you approved.",
    ),
    row(
        "policy_refused",
        "A policy has a mistake",
        "The old policy stays in force.",
        "`passportctl policy check` names the mistake.",
    ),
    row(
        "config_reloaded",
        "New settings are in force",
        "`detail` says which.",
        "Compare them with the configuration you approved.",
    ),
    row(
        "config_refused",
        "A configuration has a mistake",
        "The old one stays in force, or, with the outcome failed, it was not read to its end for `reason`.",
        "`passportctl config check` names the mistake.",
    ),
    row(
        "issue_paused",
        "Issuing was stopped",
        "An admin (`uid`) stopped issuing, for the reason in `detail`.",
        "`passportctl resume`, once the reason is gone.",
    ),
    row("issue_resumed", "Issuing goes on", "An admin let issuing go on.", "Nothing."),
    row(
        "drained",
        "The daemon drains",
        "An admin had it take no new work.",
        "`passportctl undrain`, to have it serve again.",
    ),
    row("undrained", "The daemon serves again", "An admin ended the draining.", "Nothing."),
    row(
        "signer_lost",
        "The signer is gone",
        "Nothing is issued until it is back; what was issued is still verified.",
        "Look at passportd-signer.service and at the HSM: `passportctl doctor`.",
    ),
    row("signer_recovered", "The signer is back", "Issuing goes on.", "Nothing; find out why it was gone."),
    row(
        "signature_rejected",
        "The HSM made a signature that does not verify",
        "It was destroyed and never released. `kid` is the key.",
        "Stop issuing (`passportctl pause`) and have the HSM examined: a faulty signature beside a good one gives the key away.",
    ),
    row(
        "ledger_break",
        "The ledger's writing was interrupted",
        "`reason` says why: torn_tail (the process or the host died while writing) or outage (the disk failed); `torn` names segments \
         and bytes, `refused` how many records an outage has cost. No effect of a lost record left the daemon.",
        "Look at the disk, and at what happened at that time. Without an explanation, treat it as tampering.",
    ),
    row(
        "verify_path_distrusted",
        "A fast way to verify was given up",
        "It gave another verdict than the reference, which decides from now on.",
        "Report it, with the processor's model. `[verify] engine = \"dalek\"` goes on without it.",
    ),
    row("sealed", "A secret was sealed", "`uid` sealed a secret.", "Nothing."),
    row("unsealed", "A secret was opened", "`uid` opened a sealed secret.", "Nothing, if that user should have it."),
    row("seal_refused", "A secret was not sealed", "For `reason`.", "As issue_refused."),
    row(
        "unseal_refused",
        "A secret was not opened",
        "For `reason`.",
        "As issue_refused. A blob that does not open may be altered.",
    ),
    row("passport_revoked", "A passport was revoked", "Nobody accepts `jti` from now on.", "Nothing."),
    row(
        "subject_revoked",
        "A subject was revoked",
        "Nobody accepts what was issued to `sub` until then.",
        "Nothing, if you know of it: `uid` did it.",
    ),
    row(
        "epoch_bumped",
        "A tenant's passports were revoked",
        "All that were issued until then.",
        "Nothing, if you know of it; services ask for new ones.",
    ),
    row(
        "key_compromised",
        "A key was declared compromised",
        "`kid` neither signs nor verifies any more.",
        "Rotate it, and look at what it signed: `passportctl audit show --kid KID`.",
    ),
    row(
        "state_restored",
        "A backup became the state",
        "While no daemon ran; every tenant's epoch has ended.",
        "Ask who did it, and why.",
    ),
    row(
        "clock_reset",
        "The clock was declared right",
        "While no daemon ran; every tenant's epoch has ended.",
        "Ask who did it, and compare the clock with another.",
    ),
    row(
        "passport_accepted",
        "A passport was used",
        "`jti`, which can be used up or wants a proof, was accepted for `uid`; what it takes was taken. With the outcome refused it was revoked meanwhile, and not accepted.",
        "Nothing.",
    ),
    row("ticket_issued", "A ticket was issued", "A ticket, `jti`, was signed by `kid` for a passport.", "Nothing."),
    row(
        "ticket_ttl_allowed",
        "Tickets live otherwise for a while",
        "An admin let tickets live longer, or shorter, until `exp`.",
        "Nothing, if you know of it; `passportctl ticket-ttl --end` ends it.",
    ),
    row("ticket_ttl_ended", "Tickets live as configured", "What ticket_ttl_allowed allowed has ended.", "Nothing."),
    row(
        "signatures_unaccounted",
        "Signatures left no record",
        "`kid` gave `count` more signatures, by the signer's own count, than are on record.",
        "If a crash of the front explains as many, nothing. Else somebody signs past the front: stop issuing and treat the key as \
         compromised.",
    ),
    row(
        "verify_refused",
        "A passport was not accepted",
        "What `uid` showed is revoked, used up, or not authentic, or its proof does not fit: `reason`. It may be stolen or forged.",
        "Find out how `uid` came by it; `jti`, where it is known, says which passport.",
    ),
    row(
        "refusals_suppressed",
        "Refusals were only counted",
        "`count` further refusals of `uid` were not put on record one by one; `detail` says how many of which kind.",
        "Look at the records before it: they are of the same kinds. Find out what runs as that user.",
    ),
    row(
        "key_rolled_back",
        "An older key signs again",
        "`kid` signs in place of its successor, for the reason in `detail`.",
        "Nothing, if you know of it: `uid` did it.",
    ),
    row("key_confirmed", "A new key is confirmed", "There is no way back from `kid` to its predecessor.", "Nothing."),
    row(
        "key_expired",
        "A retired key verifies no more",
        "All that `kid` can have signed is over.",
        "Nothing. Its private half can be destroyed.",
    ),
    row(
        "key_destroyed",
        "A key is gone",
        "The private half of `kid` is no longer in the HSM, as far as the signer can see.",
        "Compare with the transcript of the ceremony. Without one, find out who did it.",
    ),
    row(
        "ledger_pruned",
        "Old records are removed",
        "`detail` says which, and which checkpoint covers them. They are older than `retention_days`.",
        "Nothing, if they are kept elsewhere for as long as your rules want.",
    ),
    row(
        "audit_test",
        "A test of the audit trail",
        "An admin has had it written (`passportctl audit test-append`), to see that records are written and arrive; `detail` is what for.",
        "Nothing, if it was you. If you wait for it and it does not come, look at what forwards the journal.",
    ),
];

#[cfg(test)]
mod tests {
    use super::super::Event;
    use super::*;

    #[test]
    fn every_event_has_one_entry_that_says_something() {
        let names: Vec<_> = Event::ALL.iter().map(|event| event.name()).collect();
        let missing: Vec<_> = names.iter().filter(|name| meaning(name).is_none()).collect();
        assert!(missing.is_empty(), "without an entry in src/audit/meaning.rs: {missing:?}");
        assert_eq!(MEANINGS.len(), names.len(), "an entry of an event that there is not, or two of one");
        for row in MEANINGS {
            let texts = [row.subject, row.meaning, row.remedy];
            assert!(texts.iter().all(|text| !text.is_empty() && !text.contains(['\n', '|'])), "{}", row.event);
            assert!(
                row.subject.len() <= 70 && row.meaning.ends_with('.') && row.remedy.ends_with('.'),
                "{}",
                row.event
            );
        }
    }
}
