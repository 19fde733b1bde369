//! The same messages for wincode: declared again, by hand, in the same order. Names and fields are those of the real
//! types, so that a value's Debug text must be the same from either codec.

#![expect(clippy::mem_forget, reason = "it is what wincode's derived readers do")]

use wincode::{SchemaRead, SchemaWrite};

macro_rules! mirror {
    ($($item:item)*) => {
        $(#[derive(Clone, Debug, PartialEq, SchemaRead, SchemaWrite)] $item)*
    };
}

/// Plaintext: bytes that are not printed.
#[derive(Clone, PartialEq, SchemaRead, SchemaWrite)]
pub(crate) struct Plain(Vec<u8>);

impl std::fmt::Debug for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Plain(withheld)")
    }
}

mirror! {
    pub(crate) struct Hello { wire: u8, client: String }
    pub(crate) enum Greeting { Welcome(Welcome), Refused(Problem) }
    pub(crate) struct Welcome { wire: u8, server: String, issuer: String, limits: Limits }
    pub(crate) struct Limits { max_frame: u32, max_msg_bytes: u32, max_batch: u32, max_in_flight: u32 }
    pub(crate) struct Problem { code: Code, message: String, retryable: bool, retry_after_ms: Option<u32> }
    pub(crate) enum Code {
        Malformed, TooLarge, UnsupportedVersion, NoPeerPolicy, OpDenied, ScopeDenied, BadAlg, BadKid, UnknownKid, BadAud,
        Expired, Nbf, VerifyFailed, Revoked, Replayed, LimitExceeded, PopRequired, PopInvalid, NeedsDaemon, Busy,
        RateLimited, NotReady, Paused, Draining, HsmUnavailable, HsmTimeout, AuditUnavailable, StoreUnavailable,
        ClockSuspect, ApprovalRequired, Internal,
    }

    pub(crate) struct Request { id: u64, corr_id: [u8; 16], op: ServiceOp }
    pub(crate) enum ServiceOp {
        Ping,
        Version,
        WhoAmI,
        Health,
        Issue(IssueSpec),
        IssueBatch(Vec<IssueSpec>),
        Verify { want: Want, passport: Passport },
        VerifyBatch { want: Want, items: Vec<Passport> },
        Introspect { want: Want, passport: Passport },
        Keys { if_etag: Option<[u8; 32]> },
        Seal { namespace: String, name: String, plain: Plain },
        Unseal { namespace: String, name: String, blob: Vec<u8> },
        Revoke { passport: Passport },
        VerifyWith { want: Want, passport: Passport, retry: Option<[u8; 16]>, proof: Option<Possession> },
        Challenge,
        Watch { topics: Vec<Topic>, after: Option<Cursor>, wait_ms: u32 },
        Revocations { after: Option<Vec<u8>> },
        Exchange { passport: Passport, spec: TicketSpec, retry: Option<[u8; 16]>, proof: Option<Possession> },
    }
    pub(crate) struct TicketSpec {
        aud: String,
        scopes: Vec<String>,
        ttl_s: Option<u32>,
        form: PassportForm,
        peer_uid: Option<u32>,
    }
    pub(crate) enum Possession {
        Pop { proof: String },
        Dpop { proof: String, htm: String, htu: String, nonce: Option<String> },
    }
    pub(crate) struct IssueSpec {
        template: String,
        sub: String,
        aud: Vec<String>,
        scopes: Vec<String>,
        ttl_s: Option<u32>,
        nbf: Option<i64>,
        action: Option<String>,
        ctx: Option<String>,
        limit: Option<u32>,
        nonce: Option<String>,
        jkt: Option<String>,
        form: PassportForm,
        uid: Option<u32>,
    }
    pub(crate) enum PassportForm { Envelope, Jws }
    pub(crate) struct Want { aud: Option<String>, scopes: Vec<String>, peer_uid: Option<u32> }
    pub(crate) enum Passport {
        Envelope { alg: String, kid: String, msg: Vec<u8>, sig: Vec<u8> },
        Jws { text: String },
    }

    pub(crate) struct Reply { id: u64, result: Result<ServiceOk, Problem> }
    pub(crate) enum ServiceOk {
        Pong,
        Version(VersionInfo),
        WhoAmI(Identity),
        Health(Health),
        Issued(Issued),
        IssuedBatch(Vec<Result<Issued, Problem>>),
        Verdict(Verdict),
        Verdicts(Vec<Verdict>),
        Introspection(Introspection),
        Keys(KeySet),
        KeysNotModified { max_age_s: u32 },
        Sealed { blob: Vec<u8> },
        Unsealed { plain: Plain },
        Revoked { new: bool },
        Challenge { nonce: String, expires_in_s: u32 },
        Watched(Watched),
        Revocations(RevocationPage),
        Exchanged(Exchanged),
    }
    pub(crate) enum Exchanged { Ticket(Ticket), Refused(Code), Unproven { why: String } }
    pub(crate) struct Ticket { ticket: Issued, exp: i64, left: Option<u64>, repeated: bool }
    pub(crate) struct VersionInfo { server: String, wire: u8, issuer: String }
    pub(crate) struct Identity {
        uid: u32,
        gid: u32,
        pid: i32,
        groups: Vec<u32>,
        listener: String,
        rules: Vec<String>,
        operations: Vec<String>,
        templates: Vec<String>,
        audiences: Vec<String>,
    }
    pub(crate) struct Health { issue_ready: bool, verify_ready: bool, conditions: Vec<Condition> }
    pub(crate) struct Condition { name: String, ok: bool, detail: String }
    pub(crate) enum Issued { Envelope { kid: String, msg: Vec<u8>, sig: [u8; 64] }, Jws { text: String } }
    pub(crate) enum Verdict { Accepted(Accepted), Refused(Code), Consumed(Consumed), Unproven { why: String } }
    pub(crate) struct Consumed { exp: i64, left: Option<u64>, repeated: bool }
    pub(crate) struct Accepted { exp: i64 }
    pub(crate) struct Introspection { active: bool, reason: Option<Code>, claims: Option<Vec<u8>> }
    pub(crate) struct KeySet { etag: [u8; 32], max_age_s: u32, jwks: Vec<u8> }
    pub(crate) enum Topic { Keys, Revocations, Epochs, Policy, Drain }
    pub(crate) struct Cursor { life: [u8; 16], wants: [u8; 32], seq: u64 }
    pub(crate) enum Watched {
        Events { events: Vec<Event>, cursor: Cursor },
        Lagged { missed: u64, cursor: Cursor },
        Begin { cursor: Cursor },
    }
    pub(crate) struct Event { seq: u64, at_ms: i64, tenant: Option<String>, what: What }
    pub(crate) enum What {
        Key { kid: String, state: String },
        RevokedId { jti: String, until: i64 },
        RevokedSubject { sub: String, before: i64, until: i64 },
        RevokedKey { kid: String },
        Epoch { epoch: u64 },
        Policy { hash: [u8; 32] },
        Draining { on: bool },
    }
    pub(crate) struct RevocationPage {
        tenants: Option<Vec<String>>,
        revoked: Vec<Standing>,
        epochs: Vec<TenantEpoch>,
        floor: u64,
        compromised: Vec<String>,
        next: Option<Vec<u8>>,
    }
    pub(crate) struct Standing { tenant: String, what: What }
    pub(crate) struct TenantEpoch { tenant: String, epoch: u64 }

    pub(crate) struct AdminRequest { id: u64, corr_id: [u8; 16], op: AdminOp }
    pub(crate) enum AdminOp {
        WhoAmI,
        Status,
        Health,
        Attest,
        Stage { kid: String },
        Activate { kid: String },
        PauseIssue { reason: String },
        ResumeIssue,
        Reload,
        Drain,
        Undrain,
        ReloadReport,
        Revoke { tenant: String, what: Vec<Revocation>, reason: String },
        BumpEpoch { tenant: String, reason: String },
        Compromise { kid: String, reason: String },
        TicketTtl { seconds: u32, for_s: u32, reason: String },
        Checkpoint,
        Rollback { tenant: String, purpose: String, reason: String },
        Confirm { kid: String },
        Destroyed { kid: String },
        ActivateNow { kid: String, reason: String },
        TestAppend { reason: String },
    }
    pub(crate) enum Revocation { Id { jti: String, exp: Option<i64> }, Subject { sub: String, before: Option<i64> } }
    pub(crate) struct AdminReply { id: u64, result: Result<AdminOk, Problem> }
    pub(crate) enum AdminOk {
        WhoAmI(Identity),
        Status(String),
        Health(Health),
        Attest(String),
        Staged { kid: String, public: [u8; 32] },
        Activated { kid: String, retired: Option<String> },
        Reloaded { old_policy: [u8; 32], new_policy: [u8; 32], changed: Vec<String>, needs_restart: Vec<String> },
        Done,
        ReloadReport {
            old_config: [u8; 32],
            new_config: [u8; 32],
            changed: Vec<String>,
            needs_restart: Vec<String>,
            old_policy: [u8; 32],
            new_policy: [u8; 32],
            policy_changed: Vec<String>,
            policy_more: u32,
        },
        Revoked { new: u32 },
        EpochBumped { epoch: u64 },
        Checkpoint(String),
        Recorded { seq: u64 },
    }

    pub(crate) struct LinkHello { wire: u8, issuer: String }
    pub(crate) struct LinkAmnesia { hello: LinkHello, front: LinkFront }
    pub(crate) struct LinkFront { id: u64, newest: u64 }
    pub(crate) enum LinkGreeting { Welcome(LinkWelcome), Refused(String) }
    pub(crate) struct LinkWelcome { wire: u8, sessions: u32, module: String, token: String, boot_id: u64 }
    pub(crate) struct LinkRequest { id: u64, op: LinkOp }
    pub(crate) enum LinkOp {
        Sign { payload: Vec<u8> },
        Probe { kid: String },
        Keys,
        Reinitialise,
        Stats,
        Health,
        Seal { namespace: String, name: String, plain: Plain },
        Unseal { namespace: String, name: String, blob: Vec<u8> },
        Counts,
        Checkpoint { kid: String, snapshot: u64, size: u64, root: [u8; 32], head: [u8; 32], recorded: Vec<LinkCount> },
        Attest { kid: String, document: Vec<u8> },
    }
    pub(crate) struct LinkCount { kid: String, count: u64 }
    pub(crate) struct LinkReply { id: u64, result: LinkResult }
    pub(crate) enum LinkResult {
        Signed { sig: [u8; 64] },
        Probed { challenge: [u8; 32], sig: [u8; 64] },
        Keys(Vec<LinkKey>),
        Reinitialised(Vec<LinkKey>),
        Stats(LinkStats),
        Refused(LinkRefusal),
        Health(LinkHealth),
        Leaving,
        Sealed { kid: String, blob: Vec<u8> },
        Unsealed { kid: String, plain: Plain },
        Counts { snapshot: u64, signed: Vec<LinkCount> },
        Checkpointed { text: String, sig: [u8; 64] },
        Attested { sig: [u8; 64] },
    }
    pub(crate) struct LinkHealth {
        boot_id: u64,
        sessions: u32,
        limit: u32,
        stuck: u32,
        max_stuck: u32,
        down: bool,
        rung: String,
        ladder: Vec<u64>,
        refused: Vec<u64>,
        bad_signatures: u64,
        rss_kib: u64,
        rss_base_kib: u64,
        recycles_at_kib: u64,
    }
    pub(crate) struct LinkKey { kid: String, role: KeyRole, public: [u8; 32], usable: bool, problem: String }
    pub(crate) enum KeyRole { Passport, Audit, Seal }
    pub(crate) struct LinkStats {
        signatures: u64,
        refused: u64,
        queued: u32,
        stuck: u32,
        rss_kib: u64,
        cpu_us: u64,
    }
    pub(crate) enum LinkRefusal {
        Malformed, NotCanonical, UnknownKid, ForeignIssuer, TenantDenied, PurposeDenied, LifetimeDenied, ClockDenied,
        RateLimited, Busy, Timeout, HsmUnavailable, BadSignature, Internal, TooLong, NamespaceDenied,
        Unopenable, Stale, Uncounted,
    }
}
