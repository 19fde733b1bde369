//! The tags of wire version 1. A list here may only grow at its end: a client that was built against an older list must
//! read every byte of it as before.

use super::schema::{Shape, all};

const PINNED: &[(&str, &[&str])] = &[
    ("Greeting", &["Welcome", "Refused"]),
    (
        "ServiceOp",
        &[
            "Ping",
            "Version",
            "WhoAmI",
            "Health",
            "Issue",
            "IssueBatch",
            "Verify",
            "VerifyBatch",
            "Introspect",
            "Keys",
            "Seal",
            "Unseal",
            "Revoke",
            "VerifyWith",
            "Challenge",
            "Watch",
            "Revocations",
            "Exchange",
        ],
    ),
    ("Exchanged", &["Ticket", "Refused", "Unproven"]),
    ("Possession", &["Pop", "Dpop"]),
    ("Passport", &["Envelope", "Jws"]),
    ("PassportForm", &["Envelope", "Jws"]),
    (
        "ServiceOk",
        &[
            "Pong",
            "Version",
            "WhoAmI",
            "Health",
            "Issued",
            "IssuedBatch",
            "Verdict",
            "Verdicts",
            "Introspection",
            "Keys",
            "KeysNotModified",
            "Sealed",
            "Unsealed",
            "Revoked",
            "Challenge",
            "Watched",
            "Revocations",
            "Exchanged",
        ],
    ),
    ("Topic", &["Keys", "Revocations", "Epochs", "Policy", "Drain"]),
    ("Watched", &["Events", "Lagged", "Begin"]),
    ("What", &["Key", "RevokedId", "RevokedSubject", "RevokedKey", "Epoch", "Policy", "Draining"]),
    ("Issued", &["Envelope", "Jws"]),
    ("Verdict", &["Accepted", "Refused", "Consumed", "Unproven"]),
    (
        "AdminOp",
        &[
            "WhoAmI",
            "Status",
            "Health",
            "Attest",
            "Stage",
            "Activate",
            "PauseIssue",
            "ResumeIssue",
            "Reload",
            "Drain",
            "Undrain",
            "ReloadReport",
            "Revoke",
            "BumpEpoch",
            "Compromise",
            "TicketTtl",
            "Checkpoint",
            "Rollback",
            "Confirm",
            "Destroyed",
            "ActivateNow",
            "TestAppend",
        ],
    ),
    ("Revocation", &["Id", "Subject"]),
    (
        "AdminOk",
        &[
            "WhoAmI",
            "Status",
            "Health",
            "Attest",
            "Staged",
            "Activated",
            "Reloaded",
            "Done",
            "ReloadReport",
            "Revoked",
            "EpochBumped",
            "Checkpoint",
            "Recorded",
        ],
    ),
    (
        "Code",
        &[
            "Malformed",
            "TooLarge",
            "UnsupportedVersion",
            "NoPeerPolicy",
            "OpDenied",
            "ScopeDenied",
            "BadAlg",
            "BadKid",
            "UnknownKid",
            "BadAud",
            "Expired",
            "Nbf",
            "VerifyFailed",
            "Revoked",
            "Replayed",
            "LimitExceeded",
            "PopRequired",
            "PopInvalid",
            "NeedsDaemon",
            "Busy",
            "RateLimited",
            "NotReady",
            "Paused",
            "Draining",
            "HsmUnavailable",
            "HsmTimeout",
            "AuditUnavailable",
            "StoreUnavailable",
            "ClockSuspect",
            "ApprovalRequired",
            "Internal",
        ],
    ),
    ("LinkGreeting", &["Welcome", "Refused"]),
    (
        "LinkOp",
        &[
            "Sign",
            "Probe",
            "Keys",
            "Reinitialise",
            "Stats",
            "Health",
            "Seal",
            "Unseal",
            "Counts",
            "Checkpoint",
            "Attest",
        ],
    ),
    (
        "LinkResult",
        &[
            "Signed",
            "Probed",
            "Keys",
            "Reinitialised",
            "Stats",
            "Refused",
            "Health",
            "Leaving",
            "Sealed",
            "Unsealed",
            "Counts",
            "Checkpointed",
            "Attested",
        ],
    ),
    ("KeyRole", &["Passport", "Audit", "Seal"]),
    (
        "LinkRefusal",
        &[
            "Malformed",
            "NotCanonical",
            "UnknownKid",
            "ForeignIssuer",
            "TenantDenied",
            "PurposeDenied",
            "LifetimeDenied",
            "ClockDenied",
            "RateLimited",
            "Busy",
            "Timeout",
            "HsmUnavailable",
            "BadSignature",
            "Internal",
            "TooLong",
            "NamespaceDenied",
            "Unopenable",
            "Stale",
            "Uncounted",
        ],
    ),
];

/// That the declared order is the order of the tags in bytes is `samples`' and `golden`'s to show.
#[test]
fn every_enum_keeps_its_tags() {
    let mut declared = all();
    for (name, pinned) in PINNED {
        let Shape::Enum(variants) = declared.remove(*name).unwrap().shape else { panic!("{name} is an enum") };
        let names: Vec<_> = variants.iter().map(|variant| variant.name.as_str()).collect();
        assert_eq!(names, *pinned, "the tags of {name}; new variants go to the end, here too");
    }
    let unpinned: Vec<_> = declared.values().filter(|one| matches!(one.shape, Shape::Enum(_))).collect();
    assert!(unpinned.is_empty(), "pin the tags of {unpinned:?}");
}

/// The bytes agree with the lists: the variant's name in Rust's own words, and the tag that was written.
#[test]
fn tags_on_the_wire_are_the_positions_in_the_lists() {
    use super::samples::REFUSALS;
    use passportd::wire::{Code, HEADER, encode_frame};
    let tag = |encoded: Vec<u8>| u32::from(*encoded.get(HEADER + 1).unwrap());
    let pinned = |name: &str| PINNED.iter().find(|(of, _)| *of == name).unwrap().1;
    for (n, code) in Code::ALL.into_iter().enumerate() {
        let mut frame = Vec::new();
        encode_frame(&code, &mut frame).unwrap();
        assert_eq!((format!("{code:?}").as_str(), tag(frame)), (pinned("Code")[n], u32::try_from(n).unwrap()));
    }
    for (n, refusal) in REFUSALS.into_iter().enumerate() {
        let mut frame = Vec::new();
        encode_frame(&refusal, &mut frame).unwrap();
        assert_eq!(
            (format!("{refusal:?}").as_str(), tag(frame)),
            (pinned("LinkRefusal")[n], u32::try_from(n).unwrap())
        );
    }
}

/// The same for every other enum, through its samples: the words of the value start with the variant's name.
#[test]
fn operations_and_answers_carry_their_pinned_tags() {
    use super::samples;
    use super::schema::{Role, places};
    for sample in samples::all() {
        let tagged = places(sample.kind, sample.body());
        for place in tagged.iter().filter(|place| matches!(place.role, Role::Tag(_))) {
            let Some((_, pinned)) = PINNED.iter().find(|(of, _)| *of == place.of) else { continue };
            let variant = pinned[usize::try_from(place.value).unwrap()];
            assert!(sample.shown.contains(variant), "{}: {} is {variant}?", sample.title(), place.path);
        }
    }
}
