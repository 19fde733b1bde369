//! Events of the signer and the ceremony.

use super::table;

table! {
    key_unused WARN "d32240e880dcc03306ded897068e5473" [kid problem]
        "A key in the HSM is not used, because something about it is wrong."
        "What `problem` says; `passportctl hsm doctor`.";
    count_not_kept ERROR "b3d61acec7a6784616317c2eaea4e296" [error]
        "The signer can't keep the count of its signatures, or which checkpoint it has signed last; what would not be counted is not released."
        "Mend the disk of `[hsm] state_dir`.";
    object_orphaned WARN "1cdbdd5a31e57c5ddc9ea4b5ed3d1d7f" [orphan]
        "An object in the HSM belongs to no key that is on record."
        "Find out who made it; `passportctl hsm doctor`.";
    module_restarted INFO "54a1a1835938f97c8cb1b8c153117099" [keys]
        "The module was started afresh and found so many keys."
        "Nothing after a ceremony. Else look for `signing_failed`.";
    front_is_another INFO "a1d0c9f3b57e4f4f8c0a6f1d27b3e985" []
        "Amnesia mode: a front has come that is not the one before, whose state is forgotten; new keys are made for it."
        "Nothing after a restart of the front.";
    retirement_seen INFO "6c1f0b7d2e5a4f0d9b83a4c7e1f25d90" []
        "A key was retired by a ceremony; the module is started afresh without it."
        "Nothing.";
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
    ladder_rung WARN "2ef3ce3b34c1237e30b6440d95dde613" [rung error]
        "The trouble `error` was mended by the rung `rung` of the recovery ladder: another `login`, or the `module` started \
         afresh; or, as the message says, was not mended by a login."
        "Nothing, unless it repeats: then look at the HSM.";
    hsm_down_inside ERROR "f42f859b110094c197815522f13dc7dd" [error]
        "Nothing that the signer can do makes the HSM sign. Requests are refused at once; it goes on trying, and after a \
         minute ends to be started again."
        "What `error` says: the HSM, the way to it, its store.";
    hsm_up_inside INFO "de458bca267dae5fb995d02f83cef984" []
        "It signs again."
        "Nothing.";
    pin_note_failed WARN - [error]
        "What came of a login could not be noted outside of the process."
        "Make `[hsm] state_dir` writable for the signer's user: the directory `signer` in it.";
    signer_recycles INFO "a124cb75b69af45eb3dde4450bdf5bef" [rss_kib limit_kib]
        "The module has grown beyond the bound; the signer lets the front have its replies, and ends to be started afresh."
        "Nothing. If it is often: `[hsm] recycle_mib`, and the module's vendor.";
    sessions_limited WARN - [sessions limit]
        "The token gives fewer sessions than configured; the signer goes on with `limit`."
        "`[hsm] sessions`, or the session limit of the HSM.";
    signer_ends ERROR "ecd1b0735c38786cb0dc0e9ed76ae4a1" [error]
        "The signer can't go on."
        "What `error` says. A refused PIN is not tried again: mend `[hsm] pin_file`, then start the signer.";
    signer_aborts ERROR "c5372b4e2f3c9ad91542fbe3099c65c4" []
        "The signer ends although a thread is still inside the module."
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
    ledger_given_up WARN "7d0a5d6b0c5b4c63a0b2f2f9a9f14c1e" [records]
        "A ceremony has given up the ledger whose last checkpoint is of `records` records: checkpoints go on with another."
        "Nothing, if you know of it; docs/CEREMONIES.md, script 11.";
}
