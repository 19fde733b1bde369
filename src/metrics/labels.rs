//! The words that may stand in a label. Each set is closed, so that no stranger's text ever becomes a series.

use crate::wire::Code;
use crate::wire::problem::Use;

/// A closed set of label values.
pub trait Label: Copy + PartialEq + 'static {
    /// How many values there are.
    const COUNT: usize;
    /// Every value.
    fn all() -> Vec<Self>;
    /// Where this value stands in [`Label::all`], found without allocating.
    fn place(self) -> usize;
    /// Its text.
    fn name(self) -> &'static str;
}

/// The place of a value in a list that holds it. These lists are a few bytes long; a search beats any table.
fn place_in<L: PartialEq>(list: impl IntoIterator<Item = L>, value: &L) -> usize {
    list.into_iter().position(|other| other == *value).unwrap_or(usize::MAX)
}

macro_rules! labels {
    ($( $(#[$meta:meta])* $name:ident { $( $(#[$doc:meta])+ $value:ident = $text:literal, )+ } )+) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $( $(#[$doc])+ $value, )+ }

        impl Label for $name {
            const COUNT: usize = [$( $text, )+].len();
            fn all() -> Vec<Self> {
                vec![$( Self::$value, )+]
            }
            fn place(self) -> usize {
                place_in([$( Self::$value, )+], &self)
            }
            fn name(self) -> &'static str {
                match self { $( Self::$value => $text, )+ }
            }
        }
    )+};
}

labels! {
    /// What a request asks; `op` of requests and latencies.
    Op {
        /// A request that could not be read.
        Unreadable = "unreadable",
        /// Ping.
        Ping = "ping",
        /// Version.
        Version = "version",
        /// WhoAmI, on either socket.
        WhoAmI = "whoami",
        /// Health, on either socket.
        Health = "health",
        /// Issue.
        Issue = "issue",
        /// IssueBatch.
        IssueBatch = "issue_batch",
        /// Verify.
        Verify = "verify",
        /// VerifyBatch.
        VerifyBatch = "verify_batch",
        /// VerifyWith.
        VerifyWith = "verify_with",
        /// Challenge.
        Challenge = "challenge",
        /// Introspect.
        Introspect = "introspect",
        /// Keys.
        Keys = "keys",
        /// Seal.
        Seal = "seal",
        /// Unseal.
        Unseal = "unseal",
        /// Watch.
        Watch = "watch",
        /// Revocations.
        Revocations = "revocations",
        /// Exchange.
        Exchange = "exchange",
        /// Status.
        Status = "status",
        /// Attest.
        Attest = "attest",
        /// Stage.
        Stage = "stage",
        /// Activate.
        Activate = "activate",
        /// PauseIssue.
        PauseIssue = "pause_issue",
        /// ResumeIssue.
        ResumeIssue = "resume_issue",
        /// Reload.
        Reload = "reload",
        /// Revoke, on either socket.
        Revoke = "revoke",
        /// BumpEpoch.
        BumpEpoch = "bump_epoch",
        /// Compromise.
        Compromise = "compromise",
        /// Drain.
        Drain = "drain",
        /// Undrain.
        Undrain = "undrain",
        /// TicketTtl.
        TicketTtl = "ticket_ttl",
        /// Checkpoint.
        Checkpoint = "checkpoint",
        /// Rollback.
        Rollback = "rollback",
        /// Confirm.
        Confirm = "confirm",
        /// Destroyed.
        Destroyed = "destroyed",
        /// ActivateNow.
        ActivateNow = "activate_now",
        /// TestAppend.
        TestAppend = "test_append",
    }

    /// What is done to one item, alone or in a batch.
    Act {
        /// A passport is issued.
        Issue = "issue",
        /// A passport is judged.
        Verify = "verify",
        /// A passport is looked at.
        Introspect = "introspect",
        /// A secret is sealed.
        Seal = "seal",
        /// A secret is unsealed.
        Unseal = "unseal",
    }

    /// How that ended.
    Outcome {
        /// Issued, accepted, sealed or unsealed.
        Ok = "ok",
        /// Refused for a reason that lies in the request, the passport or the sealed secret.
        Refused = "refused",
        /// There is no verdict, no passport, no secret.
        Error = "error",
    }

    /// The algorithm of an item. `EdDSA` and `Ed25519` name the same one (RFC 9864).
    Alg {
        /// Ed25519.
        Ed25519 = "Ed25519",
        /// XChaCha20-Poly1305, of what is sealed.
        XChaCha20Poly1305 = "XChaCha20-Poly1305",
        /// Any other, which is refused.
        Other = "other",
    }

    /// What is kept in memory.
    Cache {
        /// Verifying keys that are ready for use.
        VerifyingKeys = "vk",
        /// Tables of verifying keys, for the fast ways to verify.
        Tables = "tables",
        /// Signatures that were found authentic a moment ago.
        Verdicts = "verdicts",
        /// Key sets that are ready to be sent.
        Jwks = "jwks",
        /// Passports that are revoked by their id.
        RevokedIds = "revoked_ids",
        /// Subjects that are revoked.
        RevokedSubjects = "revoked_subjects",
        /// Rows of the state: revocations, uses, nonces, proofs and answers to be repeated.
        Kept = "kept",
    }

    /// Something outside the process that it needs.
    Dependency {
        /// The HSM through the signer.
        Kms = "kms",
        /// The store.
        State = "state",
        /// The ledger.
        Audit = "audit",
        /// journald.
        Journald = "journald",
    }

    /// A way to verify.
    Path {
        /// `verify_strict`.
        Dalek = "dalek",
        /// The comb in safe Rust.
        Portable = "portable",
        /// The comb in AVX-512 lanes.
        Ifma = "ifma",
    }

    /// What noticed that a way to verify differs from the reference.
    Net {
        /// Known answers, at the start.
        SelfTest = "self_test",
        /// A sample of what was accepted.
        Sample = "sample",
        /// A refusal that was not confirmed.
        Refusal = "refusal",
    }

    /// Why nothing could be issued.
    Blocked {
        /// An operator paused issuing.
        Paused = "paused",
        /// The daemon is about to stop.
        Draining = "draining",
        /// There is no active key, or no probe has succeeded yet.
        NotReady = "not_ready",
        /// The HSM or the signer is away.
        HsmUnavailable = "hsm_unavailable",
        /// The HSM took too long.
        HsmTimeout = "hsm_timeout",
        /// The ledger can't be written.
        AuditUnavailable = "audit_unavailable",
        /// The clock went back.
        ClockSuspect = "clock_suspect",
    }

    /// Where too much was going on.
    Endpoint {
        /// Accepting a connection.
        Connect = "connect",
        /// Issue and IssueBatch.
        Issue = "issue",
        /// Verify and Introspect.
        Verify = "verify",
        /// VerifyBatch.
        VerifyBatch = "verify_batch",
        /// Seal and Unseal.
        Seal = "seal",
        /// Watch and Revocations.
        Watch = "watch",
        /// The admin socket.
        Admin = "admin",
        /// The signer's queue.
        Signer = "signer",
    }

    /// A kind of socket.
    Socket {
        /// Services, on any listener.
        Service = "service",
        /// Administrators.
        Admin = "admin",
    }

    /// A step of the signer's recovery, from the cheapest.
    Rung {
        /// Another session.
        Session = "session",
        /// Another login.
        Login = "login",
        /// The module is started afresh.
        Module = "module",
        /// The process is.
        Process = "process",
    }

    /// What was presented and accepted.
    Opening {
        /// A ticket.
        Ticket = "ticket",
        /// Any other passport.
        Passport = "passport",
    }

    /// How the breaker of a key stands that is not closed.
    Breaker {
        /// It is not asked for.
        Open = "open",
        /// Nor now, but a probe is under way.
        HalfOpen = "half_open",
    }

    /// Where the keys are.
    Mode {
        /// In a PKCS#11 device.
        Hsm = "hsm",
        /// In a device, but as session objects that end with the process.
        Amnesia = "amnesia",
    }
}

impl Blocked {
    /// The reason that a code stands for, if it is one of the daemon's condition rather than the request's fault.
    pub const fn of(code: Code) -> Option<Self> {
        Some(match code {
            Code::Paused => Self::Paused,
            Code::Draining => Self::Draining,
            Code::NotReady => Self::NotReady,
            Code::HsmUnavailable => Self::HsmUnavailable,
            Code::HsmTimeout => Self::HsmTimeout,
            Code::AuditUnavailable => Self::AuditUnavailable,
            Code::ClockSuspect => Self::ClockSuspect,
            _ => return None,
        })
    }
}

impl Label for Code {
    const COUNT: usize = Self::ALL.len();
    fn all() -> Vec<Self> {
        Self::ALL.to_vec()
    }
    fn place(self) -> usize {
        place_in(Self::ALL, &self)
    }
    fn name(self) -> &'static str {
        Self::name(self)
    }
}

/// The `code` of a request: `ok`, or the code of its problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer(Option<Code>);

impl Answer {
    /// The request was answered; a refused verdict is an answer too.
    pub const OK: Self = Self(None);

    /// The request was answered with a problem. A code that is only ever a verdict's reason has no place here: that
    /// would be a defect of ours, and counts as one.
    pub fn problem(code: Code) -> Self {
        Self(Some(if code.used_as() == Use::Verdict { Code::Internal } else { code }))
    }
}

/// The codes that can stand in a problem.
fn problems() -> impl Iterator<Item = Code> {
    Code::ALL.into_iter().filter(|code| code.used_as() != Use::Verdict)
}

impl Label for Answer {
    const COUNT: usize = {
        let mut count = 1;
        let mut rest = Code::ALL.as_slice();
        while let Some((code, tail)) = rest.split_first() {
            if !matches!(code.used_as(), Use::Verdict) {
                count += 1;
            }
            rest = tail;
        }
        count
    };
    fn all() -> Vec<Self> {
        std::iter::once(Self::OK).chain(problems().map(|code| Self(Some(code)))).collect()
    }
    fn place(self) -> usize {
        self.0.map_or(0, |code| place_in(problems(), &code).saturating_add(1))
    }
    fn name(self) -> &'static str {
        self.0.map_or("ok", Code::name)
    }
}
