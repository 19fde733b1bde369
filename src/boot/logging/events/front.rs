//! Events of the front.

use super::table;

table! {
    // start, end and reload
    config_odd WARN - []
        "The configuration works, and something in it is odd."
        "What the message says.";
    ledger_cut WARN "c855d94cc2ae9580461f2371bf1a8a54" [gap]
        "The ledger's end was torn, as by a crash; a break record says where."
        "Nothing after a crash or a power loss. Else look at the disk.";
    journald_missing WARN - []
        "`[audit] journald` is on, and its socket is not there."
        "Start journald, or set it to auto or off.";
    journald_behind WARN "752d5e4147f04aafaa6d8317e4c4f205" [next]
        "journald has taken no audit records for 10 s; they wait in the ledger, from the record `next` on."
        "Look at journald. Nothing is lost, and nobody waits for it.";
    journald_caught_up INFO "5628fb49a0594d4f89cd280cfbc43360" [resent]
        "It has taken all of them now; `resent` were sent again since the start, which it may have twice."
        "Nothing.";
    journald_gap ERROR "5499e9bf735d47caabf780853b860422" [from to why]
        "Records of the ledger can't be given to journald: they are gone from it, or can't be read."
        "Nothing, if they were too old to be kept. Else look at the disk of the ledger, and for who removed them.";
    ledger_unreadable WARN "2f6933631aa84b379b41d8064d99731f" [error]
        "The ledger can't be read for journald; it is tried again."
        "What `error` says: look at the disk.";
    segment_compressed INFO - [segment]
        "A closed segment of the ledger is compressed; zcat reads it."
        "Nothing.";
    ledger_not_kept WARN "260a0ed7b26843448d9387069d5fe409" [error]
        "A segment could not be compressed or removed; it is tried again."
        "What `error` says: room on the disk, the ledger's directory.";
    ledger_damaged ERROR "0abeb200188b451ab9f033a05b7a60af" [dir error]
        "The ledger is damaged, found while a segment was compressed or removed. None is, until the next start, which will refuse."
        "Copy the directory away, find out what changed it, and restore it from a copy kept elsewhere.";
    pid_not_written WARN - [lock error]
        "A lock is held; its file does not say by whom, since the disk takes no more."
        "Make room on the disk.";
    withheld_not_recorded ERROR - [error]
        "Passports were recorded and then withheld, because issuing was paused; the record that says so could not be written."
        "Make room on the disk of the ledger, or mend it. Nobody has got those passports.";
    late_change_not_recorded ERROR - [error]
        "A change of keys, or a revocation, was reported as failed and took effect after all; its record can't be written yet."
        "Make room on the disk of the ledger, or mend it.";
    late_key_unfit ERROR - [error]
        "A key that took effect late can't be verified with."
        "Take it out of service and look for tampering.";
    lifetime_not_kept WARN "cb5ba5d8528b0139403e0f03936a076d" [error]
        "The state does not take for how long passports may live, so that revocations could be forgotten too soon; nothing is issued until it does."
        "Make room on the disk of the state, or mend it.";
    clock_suspect ERROR "7d1c0e5a9b3f4c2e8a6d40f1b25973ce" [reason]
        "The clock can't be right: it stands before a time that has been, absurdly far ahead, or was stepped; nothing is issued or forgotten until it is."
        "Set it right (timedatectl, chronyc). If it is right and was wrong before: `passportctl ceremony clock-reset`.";
    clock_right INFO - []
        "The clock may be right again, or a wrong one was reset."
        "Nothing.";
    epochs_ended WARN "3a9e6c40d71b4f58921ed05cf8b7a462" [done record]
        "While no daemon ran, the state was restored from a backup or its clock was reset; that is on record now, and every passport that was issued before is revoked."
        "Nothing, if it was you; services ask for new passports.";
    compromised_unknown WARN - [kid]
        "A key was declared compromised after the backup was made that was restored, and the backup does not have it."
        "Never stage it again; destroy it in the HSM.";
    jwks_not_published ERROR "5b0f6a1d2c9e47a8b3d1f4e6907c8a25" [error]
        "The file of the key set can't be replaced, so that web servers go on serving the old set."
        "What the error says: room on the disk, a directory that the front's user may write to.";
    jwks_published INFO - []
        "It could be replaced now."
        "Nothing.";
    key_end_not_recorded ERROR - [error]
        "A retired key has verified for as long as it must, and goes on, since its end can't be put on record."
        "Make room on the disk of the ledger, or mend it.";
    rotation_overdue WARN "320951b38be36f2a9f6a0c1800a41b5a" [kid days]
        "A key has signed passports for longer than `passport.rotation_period_days`."
        "`passportctl hsm rotate` makes the next one; docs/KEYS.md.";
    cgroups_unknown WARN - [reason]
        "The policy has rules by cgroup, and nobody can see in which one peers are, so that these rules match nobody."
        "What the reason says; the drop-in cgroups.conf for ProtectProc=. Or a listener for each service.";
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
    tree_unknown WARN - [error]
        "The ledger can't be read as one chain from its beginning, so that no checkpoint of it is made."
        "Look at what was done to the ledger and to its checkpoints.";
    tree_reading INFO - [records]
        "Nothing was kept that the next checkpoint could go on from: so many records are read, beside everything else."
        "Nothing; `passportctl status` says how far it is. Checkpoints begin once it is done.";
    tree_read INFO - [records]
        "It is done."
        "Nothing.";
    ledger_room_low WARN "4c1f7d0e2b9a4f0c8a5d6e3b7c2f1a90" [dir free_mib days_left]
        "The ledger's disk has less than 128 MiB left, or lasts for less than a week as the ledger has grown of late. Said once."
        "A larger disk, a shorter `[audit] retention_days`, `[audit] compress`; docs/LEDGER.md. A full disk stops issuing.";
    tree_not_kept WARN - [error]
        "Where the ledger's tree stands could not be written to the checkpoints' directory, so that the next start reads more. It is \
         tried again every minute; said once."
        "What `error` says: room on the disk, a directory that the front's user may write to.";
    checkpoint_failed WARN "b166d67636484a57022632a04b63e639" [error]
        "The ledger has no new checkpoint; it is tried again. Said once for each reason."
        "What `error` says: an audit key, the signer, room on the disk. Until then nothing proves what was recorded since the last.";
    checkpoint_made INFO - []
        "There is a new one again."
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
    // the HSM
    hsm_up INFO "3fd6336331b1dd254cc36f084db29c0b" []
        "Every key that signs passports gave a good signature."
        "Nothing.";
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
    // connections and requests
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
    secret_given DEBUG - [op result corr_id kid peer_uid peer_pid listener]
        "A secret was sealed or opened. Which one, the ledger says."
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
    keys_followed INFO "5be0417c83d94c5fa2e6d8107f9a3c64" [keys]
        "Amnesia mode: the signer has made so many keys, which sign from now on; those before them retire."
        "Nothing after a restart of the signer or the front. Else look for `ladder_rung`.";
    metrics_not_rendered WARN - [error]
        "A defect: the metrics can't be written."
        "Report it.";
}
