//! Messages of the service socket. Append only: the order of variants and fields is the wire.

use bincode::{BorrowDecode, Decode, Encode};
use serde::{Deserialize, Serialize};

use super::{
    Cursor, Exchanged, Introspection, KeySet, Plain, PlainBuf, Problem, RevocationPage, TicketSpec, Topic, Verdict,
    Watched,
};

/// One request. The id is the client's; the reply carries it, and replies come in any order.
#[derive(Clone, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Request<'a> {
    /// Chosen by the client; unique among its requests under way.
    pub id: u64,
    /// Joins this request with the caller's own records: 16 bytes, the size of a W3C trace-id. Zeros mean none.
    pub corr_id: [u8; 16],
    /// What is asked.
    pub op: ServiceOp<'a>,
}

/// What a service may ask.
#[derive(Clone, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub enum ServiceOp<'a> {
    /// Is somebody there?
    Ping,
    /// What is running?
    Version,
    /// Who does the daemon take this peer for, and what may it do? Answered for every peer.
    WhoAmI,
    /// Which conditions hold?
    Health,
    /// A passport.
    Issue(IssueSpec<'a>),
    /// Several passports; each has its own answer.
    IssueBatch(Vec<IssueSpec<'a>>),
    /// A verdict on one passport.
    Verify {
        /// What it must be good for.
        want: Want<'a>,
        /// The passport.
        passport: Passport<'a>,
    },
    /// Verdicts on several passports, each as if it were asked alone.
    VerifyBatch {
        /// What each must be good for.
        want: Want<'a>,
        /// The passports.
        items: Vec<Passport<'a>>,
    },
    /// The claims of a passport and whether it would be accepted, without accepting it.
    Introspect {
        /// What it would have to be good for.
        want: Want<'a>,
        /// The passport.
        passport: Passport<'a>,
    },
    /// The public keys as a JSON Web Key Set.
    Keys {
        /// The ETag of the set that the client has.
        if_etag: Option<[u8; 32]>,
    },
    /// Encrypt a small secret, so that only this daemon opens it, and only under the same namespace and name.
    Seal {
        /// `<tenant>/<part>` or `<tenant>/<part>/<part>`, as far as policy grants.
        namespace: &'a str,
        /// The secret's name in it.
        name: &'a str,
        /// The secret, 64 KiB at most.
        plain: Plain<'a>,
    },
    /// Decrypt what was sealed.
    Unseal {
        /// The namespace.
        namespace: &'a str,
        /// The name.
        name: &'a str,
        /// What `Seal` gave.
        blob: &'a [u8],
    },
    /// From now on nobody accepts this passport. It must be authentic, and of a template that the peer may issue from.
    Revoke {
        /// The passport.
        passport: Passport<'a>,
    },
    /// As `Verify`, with what makes an acceptance repeatable or proven.
    VerifyWith {
        /// What it must be good for.
        want: Want<'a>,
        /// The passport.
        passport: Passport<'a>,
        /// Random and new for each request: the same one again, by the same uid, within 120 s, takes nothing more.
        retry: Option<[u8; 16]>,
        /// That whoever presented the passport has its key.
        proof: Option<Possession<'a>>,
    },
    /// A value for a proof of possession, good for one proof, on this connection, for a short time.
    Challenge,
    /// What changes. Answered once there is something to tell, or after the wait.
    Watch {
        /// About what; empty: everything.
        topics: Vec<Topic>,
        /// The cursor of the answer before; none: to begin.
        after: Option<Cursor>,
        /// How long to wait at most, in milliseconds: 60,000 at most; 0: not at all.
        wait_ms: u32,
    },
    /// A page of the revocations in force, of the tenants that the peer may watch.
    Revocations {
        /// The `next` of the page before; none: the first page.
        after: Option<&'a [u8]>,
    },
    /// A ticket for a passport, which is accepted thereby: a use of it is taken, if it has a limit.
    Exchange {
        /// The passport; no ticket.
        passport: Passport<'a>,
        /// What the ticket is to say.
        spec: TicketSpec<'a>,
        /// As in `VerifyWith`, where something is taken: the same one again gets the same ticket's id and end, and takes no more.
        retry: Option<[u8; 16]>,
        /// That whoever presented the passport has its key.
        proof: Option<Possession<'a>>,
    },
}

/// A proof of possession, and what it must have been made for.
#[derive(Clone, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub enum Possession<'a> {
    /// A `passport-pop+jwt` with a nonce of `Challenge`.
    Pop {
        /// The compact JWS.
        proof: &'a str,
    },
    /// A `dpop+jwt` (RFC 9449), out of an HTTP request that the peer had.
    Dpop {
        /// The compact JWS.
        proof: &'a str,
        /// The request's method.
        htm: &'a str,
        /// The request's target, as its client meant it.
        htu: &'a str,
        /// The nonce that the peer gave its client, if it gives any.
        nonce: Option<&'a str>,
    },
}

/// What a passport is to say, within its template.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, BorrowDecode)]
pub struct IssueSpec<'a> {
    /// The template's name.
    pub template: &'a str,
    /// Whom it is about.
    pub sub: &'a str,
    /// For whom it is; empty: the template's only audience.
    pub aud: Vec<&'a str>,
    /// What it allows; empty: what the template gives by default.
    pub scopes: Vec<&'a str>,
    /// Its lifetime in seconds; none: the configured default, within the template.
    pub ttl_s: Option<u32>,
    /// Not valid before this time (seconds since 1970).
    pub nbf: Option<i64>,
    /// The action it is for, where the template lists actions.
    pub action: Option<&'a str>,
    /// A JSON object of the caller's own, signed along with the rest.
    pub ctx: Option<&'a str>,
    /// How often it may be accepted; none: as often as the template allows.
    pub limit: Option<u32>,
    /// A value of the caller's own: of all passports of the tenant that say it, one is accepted, once.
    pub nonce: Option<&'a str>,
    /// The RFC 7638 thumbprint of the holder's Ed25519 key, who must then prove to have it.
    pub jkt: Option<&'a str>,
    /// In which form it is wanted.
    pub form: PassportForm,
    /// The user who alone may present it, where the template binds passports to their peer; none: the asking peer's own.
    pub uid: Option<u32>,
}

/// In which form a passport is issued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PassportForm {
    /// The envelope.
    #[default]
    Envelope,
    /// The compact JWS (RFC 7515), for whoever verifies with a JOSE library.
    Jws,
}

/// What a passport must be good for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Want<'a> {
    /// The audience as which the peer verifies; none: the only one it may verify as.
    pub aud: Option<&'a str>,
    /// Scopes that must all be there.
    pub scopes: Vec<&'a str>,
    /// The user who presented it, as the peer knows from the kernel. One that is bound to a user is for that user alone.
    pub peer_uid: Option<u32>,
}

/// A passport as it travels to the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub enum Passport<'a> {
    /// The envelope.
    Envelope {
        /// `Ed25519` or `EdDSA`.
        alg: &'a str,
        /// The key id; the same as in `msg`.
        kid: &'a str,
        /// The exact bytes that were signed.
        msg: &'a [u8],
        /// 64 bytes.
        sig: &'a [u8],
    },
    /// The compact JWS.
    Jws {
        /// The whole text, without white space.
        text: &'a str,
    },
}

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Reply {
    /// The id of the request; 0 when the request was too broken to tell.
    pub id: u64,
    /// The answer, or why there is none.
    pub result: Result<ServiceOk, Problem>,
}

/// Answers.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ServiceOk {
    /// To `Ping`.
    Pong,
    /// To `Version`.
    Version(VersionInfo),
    /// To `WhoAmI`.
    WhoAmI(Identity),
    /// To `Health`.
    Health(Health),
    /// To `Issue`.
    Issued(Issued),
    /// To `IssueBatch`, by index.
    IssuedBatch(Vec<Result<Issued, Problem>>),
    /// To `Verify`.
    Verdict(Verdict),
    /// To `VerifyBatch`, by index.
    Verdicts(Vec<Verdict>),
    /// To `Introspect`.
    Introspection(Introspection),
    /// To `Keys`.
    Keys(KeySet),
    /// To `Keys`, when the client's set is current.
    KeysNotModified {
        /// For how long it may be used before asking again.
        max_age_s: u32,
    },
    /// To `Seal`.
    Sealed {
        /// The sealed secret.
        blob: Vec<u8>,
    },
    /// To `Unseal`.
    Unsealed {
        /// The secret.
        plain: PlainBuf,
    },
    /// To `Revoke`: durable, and in effect on every connection.
    Revoked {
        /// Whether it was accepted until now; false if it was revoked before, or has expired.
        new: bool,
    },
    /// To `Challenge`.
    Challenge {
        /// What the proof must say.
        nonce: String,
        /// For how long it is good.
        expires_in_s: u32,
    },
    /// To `Watch`.
    Watched(Watched),
    /// To `Revocations`.
    Revocations(RevocationPage),
    /// To `Exchange`.
    Exchanged(Exchanged),
}

/// What is running.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct VersionInfo {
    /// `passportd/<version>`.
    pub server: String,
    /// The wire version.
    pub wire: u8,
    /// The issuer.
    pub issuer: String,
}

/// Whom the daemon takes the peer for, read from the kernel at connect (`SO_PEERCRED`, `SO_PEERGROUPS`).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Identity {
    /// Its user id.
    pub uid: u32,
    /// Its group id.
    pub gid: u32,
    /// Its process id.
    pub pid: i32,
    /// Its supplementary groups.
    pub groups: Vec<u32>,
    /// The listener it came through.
    pub listener: String,
    /// The rules that name it; none: it may do nothing.
    pub rules: Vec<String>,
    /// The operations that they grant.
    pub operations: Vec<String>,
    /// The templates that they grant.
    pub templates: Vec<String>,
    /// The audiences as which it may verify.
    pub audiences: Vec<String>,
}

/// Which conditions hold.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Health {
    /// Whether passports can be issued.
    pub issue_ready: bool,
    /// Whether passports can be verified.
    pub verify_ready: bool,
    /// Each condition by name.
    pub conditions: Vec<Condition>,
}

/// One condition of [`Health`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Condition {
    /// `hsm`, `policy`, `audit`, `state`, `clock`, `keys`, `issuing`, `serving`; perhaps `published`, `journald`.
    pub name: String,
    /// Whether it holds.
    pub ok: bool,
    /// Why not; empty on the service socket.
    pub detail: String,
}

/// Bytes of an [`Issued`] beside the payload, at most, with its place in a batch, for whoever judges what fits a frame.
pub const ISSUED_OVERHEAD: usize = 208;

/// A passport as it leaves the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Issued {
    /// The envelope; its algorithm is `Ed25519`.
    Envelope {
        /// The key id.
        kid: String,
        /// The exact bytes that were signed.
        msg: Vec<u8>,
        /// The signature.
        sig: [u8; 64],
    },
    /// The compact JWS.
    Jws {
        /// The whole text.
        text: String,
    },
}
