//! The private link between front and signer: same frames, same armour, its own messages.
//!
//! The front names no key beside a payload: the signer reads the kid from the payload itself.

use bincode::{BorrowDecode, Decode, Encode};
use serde::{Deserialize, Serialize};

use super::{Plain, PlainBuf};

/// The first frame, front to signer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub struct LinkHello<'a> {
    /// The wire version of the link.
    pub wire: u8,
    /// The issuer that the front serves; it must be the signer's own.
    pub issuer: &'a str,
}

/// The first frame of a front in amnesia mode, in the place of [`LinkHello`]. The signer must be in the same mode.
#[derive(Clone, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub struct LinkAmnesia<'a> {
    /// What any front says.
    pub hello: LinkHello<'a>,
    /// Which one it is.
    pub front: LinkFront,
}

/// A front that keeps nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LinkFront {
    /// Random at every start of the front: what another one signed by its keys is not this one's to accept.
    pub id: u64,
    /// The newest version of any key that it knows; 0 for none.
    pub newest: u64,
}

/// The signer's answer to [`LinkHello`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum LinkGreeting {
    /// Requests may follow.
    Welcome(LinkWelcome),
    /// The connection is closed after this; the text is for the operator.
    Refused(String),
}

/// What the front learns of the signer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LinkWelcome {
    /// The wire version of the link.
    pub wire: u8,
    /// Sessions that sign, one worker each.
    pub sessions: u32,
    /// The module's description and version.
    pub module: String,
    /// The HSM's label and serial number.
    pub token: String,
    /// Random at every start of the signer.
    pub boot_id: u64,
}

/// One request to the signer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub struct LinkRequest<'a> {
    /// Chosen by the front.
    pub id: u64,
    /// What is asked.
    pub op: LinkOp<'a>,
}

/// What the front may ask. There is no operation that signs bytes of the front's choice or touches a key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub enum LinkOp<'a> {
    /// Sign a canonical payload, or the JWS input of one, with the key that it names.
    Sign {
        /// The payload, or `passport::jws::signing_input` of it.
        payload: &'a [u8],
    },
    /// Prove that a key works: sign `passportd/probe/v1\0` and 32 bytes that the signer chooses.
    Probe {
        /// The key's id.
        kid: &'a str,
    },
    /// Which keys are there?
    Keys,
    /// Finalise and initialise the module in a quiet moment, to see keys that a ceremony made.
    Reinitialise,
    /// Counts.
    Stats,
    /// How it stands inside the signer.
    Health,
    /// Encrypt a small secret.
    Seal {
        /// `<tenant>/<part>` or `<tenant>/<part>/<part>`; the tenant's newest seal key is used.
        namespace: &'a str,
        /// The secret's name in it.
        name: &'a str,
        /// The secret.
        plain: Plain<'a>,
    },
    /// Decrypt what was sealed under the same namespace and name.
    Unseal {
        /// The namespace.
        namespace: &'a str,
        /// The name.
        name: &'a str,
        /// What `Seal` gave.
        blob: &'a [u8],
    },
    /// How often was signed with each passport key? The answer is kept for a checkpoint.
    Counts,
    /// Sign a checkpoint of the ledger. The signer writes its text: its own issuer, clock and counts, and what is said here.
    Checkpoint {
        /// The audit key's id.
        kid: &'a str,
        /// Which answer to `Counts`: the newest.
        snapshot: u64,
        /// How many records.
        size: u64,
        /// The root of the Merkle tree over them.
        root: [u8; 32],
        /// The hash of the newest.
        head: [u8; 32],
        /// Of how many signatures of each passport key they have a record: sorted, each key once, at most [`MAX_COUNTED`].
        recorded: Vec<LinkCount>,
    },
    /// Sign an attestation: a JSON document that names the signer's own issuer, and a time near its clock.
    Attest {
        /// The audit key's id.
        kid: &'a str,
        /// The document.
        document: &'a [u8],
    },
}

/// Keys that one checkpoint counts for. Where there are more, those come first that have signed since the last.
pub const MAX_COUNTED: usize = 256;

/// One reply of the signer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LinkReply {
    /// The id of the request.
    pub id: u64,
    /// The answer.
    pub result: LinkResult,
}

/// Answers of the signer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum LinkResult {
    /// To `Sign`; it verifies strictly under the pinned key.
    Signed {
        /// The signature.
        sig: [u8; 64],
    },
    /// To `Probe`.
    Probed {
        /// What the signer chose.
        challenge: [u8; 32],
        /// The signature over the prefix and the challenge.
        sig: [u8; 64],
    },
    /// To `Keys`.
    Keys(Vec<LinkKey>),
    /// To `Reinitialise`: the keys as they are now.
    Reinitialised(Vec<LinkKey>),
    /// To `Stats`.
    Stats(LinkStats),
    /// To anything: no.
    Refused(LinkRefusal),
    /// To `Health`.
    Health(LinkHealth),
    /// Unasked, with the id 0: the signer takes no further requests on this connection and is about to be started afresh.
    /// It answers what it has; the front closes the connection after that.
    Leaving,
    /// To `Seal`.
    Sealed {
        /// The key that it was sealed with.
        kid: String,
        /// The sealed secret.
        blob: Vec<u8>,
    },
    /// To `Unseal`.
    Unsealed {
        /// The key that it had been sealed with.
        kid: String,
        /// The secret.
        plain: PlainBuf,
    },
    /// To `Counts`.
    Counts {
        /// The number of this answer.
        snapshot: u64,
        /// Sorted by key: those with which was ever signed; where they are more than [`MAX_COUNTED`], those first that have signed
        /// since the last checkpoint.
        signed: Vec<LinkCount>,
    },
    /// To `Checkpoint`.
    Checkpointed {
        /// What was signed.
        text: String,
        /// The signature.
        sig: [u8; 64],
    },
    /// To `Attest`.
    Attested {
        /// The signature over the prefix and the document.
        sig: [u8; 64],
    },
}

/// Signatures of one passport key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LinkCount {
    /// The key's id.
    pub kid: String,
    /// How many.
    pub count: u64,
}

/// The bytes before the challenge of a probe.
pub const PROBE_PREFIX: &[u8] = b"passportd/probe/v1\0";

/// A key as the signer sees it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LinkKey {
    /// Its id.
    pub kid: String,
    /// What it may sign.
    pub role: KeyRole,
    /// Its public key; zeros for a seal key, which has none.
    pub public: [u8; 32],
    /// Whether the signer uses it.
    pub usable: bool,
    /// Why not, for the operator.
    pub problem: String,
}

/// The problem of a key that the signer knows and the HSM does not hold. Several are joined by "; ".
pub const NOT_IN_HSM: &str = "it is pinned but not in the HSM";

/// All that is said of a key that a ceremony has destroyed, while the HSM holds none of its id.
pub const DESTROYED: &str = "it was destroyed";

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyRole {
    /// Signs passports.
    Passport,
    /// Signs checkpoints, transcripts and attestations.
    Audit,
    /// Seals; never signs.
    Seal,
}

impl KeyRole {
    /// The role in words, as files and JSON spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passport => "passport",
            Self::Audit => "audit",
            Self::Seal => "seal",
        }
    }
}

/// Counts since the signer started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct LinkStats {
    /// Signatures released.
    pub signatures: u64,
    /// Requests refused by its guard.
    pub refused: u64,
    /// Jobs that wait now.
    pub queued: u32,
    /// Workers given up because a call never came back.
    pub stuck: u32,
    /// Resident memory, KiB.
    pub rss_kib: u64,
    /// CPU time used, microseconds.
    pub cpu_us: u64,
}

/// How it stands inside the signer: what it has had to do to keep the HSM's module going.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct LinkHealth {
    /// That of [`LinkWelcome`].
    pub boot_id: u64,
    /// Sessions that sign.
    pub sessions: u32,
    /// Sessions that the HSM lets sign at once; 0 where it names no limit.
    pub limit: u32,
    /// Workers given up whose call has not come back.
    pub stuck: u32,
    /// How many may be.
    pub max_stuck: u32,
    /// Whether the module has failed and is being started afresh; requests are refused meanwhile.
    pub down: bool,
    /// The rung of the recovery ladder that was trodden last: `session`, `login`, `module` or `process`; empty for none.
    pub rung: String,
    /// How often each rung was trodden, in that order.
    pub ladder: Vec<u64>,
    /// Requests refused, by the tag of the reason; after those, frames that could not be read.
    pub refused: Vec<u64>,
    /// Signatures that did not verify and were destroyed.
    pub bad_signatures: u64,
    /// Resident memory, KiB.
    pub rss_kib: u64,
    /// The same when the signer was ready.
    pub rss_base_kib: u64,
    /// The resident memory at which it is started afresh, KiB; 0 for never.
    pub recycles_at_kib: u64,
}

/// Why the signer says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum LinkRefusal {
    /// Not a message, or a payload that is not one of ours.
    Malformed,
    /// The payload is not its own canonical form.
    NotCanonical,
    /// No usable key of that id.
    UnknownKid,
    /// Another issuer's payload.
    ForeignIssuer,
    /// The tenant is not in the signer's bounds.
    TenantDenied,
    /// The key is not for passports, or not for this purpose.
    PurposeDenied,
    /// The lifetime is outside the bounds.
    LifetimeDenied,
    /// `iat` or `nbf` is too far from the signer's clock.
    ClockDenied,
    /// The key's rate is used up.
    RateLimited,
    /// The queue is full.
    Busy,
    /// The HSM did not answer in time.
    Timeout,
    /// The HSM failed.
    HsmUnavailable,
    /// The HSM returned a signature that does not verify; it was destroyed.
    BadSignature,
    /// A defect of the signer.
    Internal,
    /// The HSM takes no message of this length.
    TooLong,
    /// The namespace is not in the signer's bounds.
    NamespaceDenied,
    /// The blob does not open here under this namespace and name.
    Unopenable,
    /// The ledger of a checkpoint has not grown since the last one, or is another.
    Stale,
    /// What the signer counts can't be kept on its disk.
    Uncounted,
}
