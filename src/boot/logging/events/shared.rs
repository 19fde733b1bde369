//! Events of every role, and of `run`.

use super::table;

table! {
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
    // front and signer
    verify_path INFO - [verify_path]
        "How the front verifies signatures, and the signer what it signed, from now on."
        "Nothing, unless it is `dalek` where `[verify] engine` says otherwise: see `verify_differs`.";
    verify_differs ERROR "947cd68c038aafb832bd923595d6e6ab" [verify_path net about]
        "The verification path gave another verdict than `verify_strict`, and is not used any more: `net` says what noticed \
         it. Verification goes on by the reference, slower."
        "Keep ledger and journal. Test the machine's memory and processor; if they are sound it is a defect: report it.";
    // run
    service_given_up ERROR "b7e1de6fd4af72b0e64efc8421fbc5d2" [service]
        "The role `service` ended with exit code 78 and is not started again."
        "The role's own last event says what to mend; then start passportd again.";
    service_recycled INFO - [service]
        "The role `service` ended in order to be started afresh: the signer does so when its module has grown too large."
        "Nothing. If it is often: `[hsm] recycle_mib`, and the module's vendor.";
    service_revived INFO - [service]
        "The role `service` had been given up, and is started once more because of a SIGHUP."
        "Nothing.";
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
}
