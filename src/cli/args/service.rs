//! Options of the commands that speak to the services' socket.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::wire::PassportForm;

/// Most passports that `issue --count` asks for; more is a job for several calls.
const MAX_COUNT: u64 = 100_000;

const ISSUE: &str = "\
A batch is {\"items\":[...]} or a bare array of {template, sub, aud[], scopes[], ttl_s, nbf, action, ctx, limit,
nonce, jkt, form, uid}, as in
[{\"template\":\"demo\",\"sub\":\"alice\"},{\"template\":\"demo\",\"sub\":\"bob\"}].
Its answer is {\"items\":[{\"passport\":{...}} or {\"problem\":{...}}]}, which `passportctl verify` reads.

Examples:
  passportctl issue --template demo --sub alice
  passportctl issue --template demo --sub alice --aud demo --scope read --ttl 300 --ctx '{\"order\":7}'
  passportctl issue --template ticket --sub alice --limit 1 --nonce \"$(uuidgen)\"
  passportctl issue --template web --sub alice --form jws
  passportctl issue --template vault --sub alice --pop-key holder.pem
  passportctl issue --template desk --sub alice --uid 1000
  passportctl issue --batch wanted.json > issued.json";

fn form() -> impl TypedValueParser<Value = PassportForm> {
    let names = [PassportForm::Envelope, PassportForm::Jws].map(PassportForm::name);
    PossibleValuesParser::new(names).map(|name| PassportForm::by_name(&name).unwrap_or_default())
}

/// `issue`.
#[derive(Debug, Args)]
#[command(after_help = ISSUE)]
pub(crate) struct Issue {
    /// The template, which bounds what the passport may say
    #[arg(long, required_unless_present = "batch")]
    pub(crate) template: Option<String>,
    /// Whom the passport is about
    #[arg(long, required_unless_present = "batch")]
    pub(crate) sub: Option<String>,
    /// For whom it is; may be given several times [default: the template's only audience]
    #[arg(long)]
    pub(crate) aud: Vec<String>,
    /// What it allows; may be given several times [default: the template's]
    #[arg(long = "scope")]
    pub(crate) scopes: Vec<String>,
    /// Lifetime in seconds
    #[arg(long, value_name = "SECONDS")]
    pub(crate) ttl: Option<u32>,
    /// Not valid before this time, in seconds since 1970
    #[arg(long, value_name = "SECONDS")]
    pub(crate) nbf: Option<i64>,
    /// The one action that it is for
    #[arg(long)]
    pub(crate) action: Option<String>,
    /// A JSON object of your own, signed along with the rest
    #[arg(long, value_name = "JSON")]
    pub(crate) ctx: Option<String>,
    /// How often it may be accepted [default: as often as the template allows]
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u32>,
    /// A value of your own: of all passports that say it, one is accepted, once
    #[arg(long)]
    pub(crate) nonce: Option<String>,
    /// The RFC 7638 thumbprint of its holder's Ed25519 key, which must then be proven to be there
    #[arg(long, value_name = "THUMBPRINT")]
    pub(crate) jkt: Option<String>,
    /// Its holder's Ed25519 key (PEM, as of `openssl genpkey -algorithm ed25519`), in place of its thumbprint
    #[arg(long, value_name = "FILE", conflicts_with = "jkt")]
    pub(crate) pop_key: Option<PathBuf>,
    /// In which form: a compact JWS is for verifiers with a JOSE library, where the template has it
    #[arg(long, value_name = "FORM", default_value = "envelope", value_parser = form())]
    pub(crate) form: PassportForm,
    /// The user who alone may present it, where the template binds passports to their peer [default: your own]
    #[arg(long, value_name = "UID")]
    pub(crate) uid: Option<u32>,
    /// How many passports of this kind; more than one give a batch
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MAX_COUNT))]
    pub(crate) count: u64,
    /// Issue what the file lists (`-`: stdin)
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["template", "sub", "aud", "scopes", "ttl", "nbf", "action", "ctx", "limit", "nonce", "jkt", "pop_key", "form", "uid", "count"]
    )]
    pub(crate) batch: Option<PathBuf>,
}

pub(super) const VERIFY: &str = "\
Reads one envelope {alg, kid, msg_b64, sig_b64}, a compact JWS, or a batch: {\"items\":[...]} or a bare array of
envelopes, JWS in quotes, or {\"passport\":...}. Exits 3 if any passport is refused. To accept a passport that has a limit or a nonce takes a use of it, durably.
A passport that names a key takes a proof: --pop-key makes one with the holder's key, on the connection on which it verifies;
`passportctl challenge` takes one from elsewhere; --dpop takes one out of an HTTP request (RFC 9449).

Examples:
  passportctl verify --aud demo --scope read passport.json
  passportctl issue --template demo --sub alice | passportctl verify --aud demo
  passportctl issue --template demo --sub alice --count 100 | passportctl verify --aud demo
  passportctl verify --aud demo --peer-uid 1000 passport.json
  passportctl verify --aud demo --pop-key holder.pem passport.json
  passportctl verify --aud demo --dpop proof.jwt --htm GET --htu https://api.example/orders passport.json
  passportctl verify --aud demo --retry-key 4f1c90b6a6d24c0d9f1e55d0c1a7e2b3 ticket.json";

pub(super) const INTROSPECT: &str = "\
Reads what `passportctl verify` reads. Exits 3 if any passport is not active.

Examples:
  passportctl introspect --aud demo passport.json
  passportctl issue --template demo --sub alice | passportctl introspect --output json";

/// `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyWith {
    #[command(flatten)]
    pub(crate) verify: Verify,
    /// 32 random hexadecimal digits: the same question with the same ones is answered once more for 120 s, and takes nothing
    #[arg(long, value_name = "HEX", value_parser = retry_key)]
    pub(crate) retry_key: Option<[u8; 16]>,
    /// The holder's Ed25519 key (PEM, mode 0600 or 0400), to prove that it is there
    #[arg(long, value_name = "FILE", conflicts_with = "dpop")]
    pub(crate) pop_key: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) dpop: Dpop,
}

/// A proof that came with an HTTP request.
#[derive(Debug, Args)]
pub(crate) struct Dpop {
    /// The `dpop+jwt` that came with an HTTP request
    #[arg(long, value_name = "FILE", requires_all = ["htm", "htu"])]
    pub(crate) dpop: Option<PathBuf>,
    /// That request's method
    #[arg(long, value_name = "METHOD", requires = "dpop")]
    pub(crate) htm: Option<String>,
    /// That request's target
    #[arg(long, value_name = "URI", requires = "dpop")]
    pub(crate) htu: Option<String>,
    /// The nonce that the HTTP service gave, if it gives any
    #[arg(long, value_name = "NONCE", requires = "dpop")]
    pub(crate) dpop_nonce: Option<String>,
}

const CHALLENGE: &str = "\
Prints what a `passport-pop+jwt` must say, waits for that proof on stdin, on one line, and verifies the passport with it on
the same connection, since its nonce is good there alone, once, and for a short time. Exits 3 if the passport is refused.
As JSON it prints two lines: the challenge, then the verdict.

Examples:
  passportctl challenge --aud demo passport.json
  passportctl challenge --aud demo --output json passport.json";

/// `challenge`.
#[derive(Debug, Args)]
#[command(after_help = CHALLENGE)]
pub(crate) struct Challenge {
    #[command(flatten)]
    pub(crate) wanted: Wanted,
    /// The file with the passport; stdin is for the proof
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

fn retry_key(text: &str) -> Result<[u8; 16], String> {
    crate::passport::hex::decode_exactly(text).ok_or_else(|| "a retry key is 32 hexadecimal digits".to_owned())
}

/// What a passport must be good for, and who presented it.
#[derive(Debug, Args)]
pub(crate) struct Wanted {
    /// The audience to verify as [default: the only one that policy grants]
    #[arg(long)]
    pub(crate) aud: Option<String>,
    /// A scope that must be there; may be given several times
    #[arg(long = "scope")]
    pub(crate) scopes: Vec<String>,
    /// The user who presented it, for passports that are bound to one
    #[arg(long, value_name = "UID")]
    pub(crate) peer_uid: Option<u32>,
}

/// What `verify` and `introspect` share.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) wanted: Wanted,
    #[command(flatten)]
    pub(crate) passports: Passports,
}

/// Where the passports are.
#[derive(Debug, Args)]
pub(crate) struct Passports {
    /// The file with the passport or the batch
    #[arg(value_name = "FILE", default_value = "-")]
    pub(crate) file: PathBuf,
}

const INSPECT: &str = "\
Reads one envelope {alg, kid, msg_b64, sig_b64}, bare or as {\"passport\":{...}}, or one compact JWS. Whoever wrote the
passport chose every word that is shown. Exits 0 if it could be read, whatever it says: `passportctl verify` judges.

Examples:
  passportctl inspect passport.json
  passportctl issue --template demo --sub alice | passportctl inspect --output json";

/// `inspect`.
#[derive(Debug, Args)]
#[command(after_help = INSPECT)]
pub(crate) struct Inspect {
    /// The file with the passport
    #[arg(value_name = "FILE", default_value = "-")]
    pub(crate) file: PathBuf,
}

const KEYS: &str = "\
Prints the exact bytes of the set, whose BLAKE3 is the ETag; {\"not_modified\":true,...} if the given one is current.
--publish replaces FILE in one step, so that a web server never serves half a set, and leaves it alone if it is current.

Examples:
  passportctl keys > jwks.json
  passportctl keys --output table
  passportctl keys --etag \"$(b3sum --no-names jwks.json)\"
  passportctl keys --publish /var/www/passportd/jwks.json";

/// `keys`.
#[derive(Debug, Args)]
#[command(after_help = KEYS)]
pub(crate) struct Keys {
    /// The ETag of the set that you have
    #[arg(long, value_name = "HEX", value_parser = crate::cli::text::etag)]
    pub(crate) etag: Option<[u8; 32]>,
    /// Write the set to this file, with mode 0644, if it is not there already
    #[arg(long, value_name = "FILE", conflicts_with = "etag")]
    pub(crate) publish: Option<PathBuf>,
}
