//! The ceremony socket: one request and a PIN in, one answer out. JSON, since an admin's tool is its only client and a
//! ceremony is no hot path; `docs/WIRE.md` §15 specifies it.
//!
//! A frame is a 4-byte big-endian length and so many bytes. The request is one frame. The PIN is a frame of its own, so
//! that it goes from one locked page to the other and never through a JSON parser's buffers; it is empty where no PIN
//! is given. This room knows no secrets: the caller lends the PIN's bytes, and the ceremony reads them itself, after
//! [`read_length`].

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::HEADER;
use super::link::KeyRole;
use crate::statement::Signed;
use crate::statement::approval::Rule;
use crate::statement::transcript::{Daemon, StepDone};

/// The largest request, in bytes: a plan and all its approvals, as JSON strings, or what the daemon did after it.
pub const MAX_REQUEST: usize = 256 << 10;

/// The largest response, in bytes: a list of some thousand keys.
pub const MAX_RESPONSE: usize = 4 << 20;

/// What is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlanKind {
    /// Make what a tenant lacks of: a passport key, an audit key, a seal key.
    Init,
    /// Make the next version of one key; purpose `audit` or `seal` means those.
    Generate,
    /// List the keys.
    #[default]
    List,
    /// Check everything.
    Doctor,
    /// Take over a key that another program made, found by its `CKA_ID`.
    Adopt,
    /// Take a seal key out of service, once nothing is left that it sealed.
    RetireSeal,
    /// Let the signer try a PIN again that was refused.
    RetryPin,
    /// Say what the signer's own files say: the rule, the keys, the runs. Without a PIN; the HSM is not asked.
    Standing,
    /// Carry out a plan, or go on with it.
    Run,
    /// Sign what was done.
    Seal,
}

/// A request. A member that is not known may be one that matters, so it is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What is to be done.
    pub plan: PlanKind,
    /// For whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// For what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// Which object, for `adopt`: its `CKA_ID` in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cka_id: Option<String>,
    /// Which key, for `retire-seal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// For `retry-pin`: also if the token says that it is the last try before it locks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub final_try: bool,
    /// For `run` and `seal`: the plan, byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// For `run`: who has approved it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<String>,
    /// For `seal`: what the daemon did then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<Daemon>,
    /// For `adopt` and `retire-seal`: look, and change nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// The answer. Members of later versions are passed over: what was done is done, and the admin needs to see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// It was done.
    Done(Report),
    /// It was not, or not to its end.
    Failed {
        /// `denied`, `request`, `approval`, `spent`, `pin`, `busy`, `backup`, `unfit`, `hsm` or `link`: stable, for scripts.
        code: String,
        /// What is wrong and what to do.
        message: String,
    },
}

/// What a ceremony found and made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// All keys, pinned ones first.
    pub keys: Vec<KeyReport>,
    /// Objects in the HSM that belong to no key.
    pub orphans: Vec<String>,
    /// What the doctor found.
    pub findings: Vec<Finding>,
    /// Where the store was copied to first.
    pub backup: Option<String>,
    /// The module's description and version.
    pub module: String,
    /// The token's label and serial number.
    pub token: String,
    /// What works, but not as one would expect.
    pub warnings: Vec<String>,
    /// For `standing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standing: Option<Box<Standing>>,
    /// For `run`: what became of each step.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepDone>,
    /// For `seal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transcript: Option<Box<SealedTranscript>>,
}

/// What the signer's own files say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Standing {
    /// The issuer.
    pub issuer: String,
    /// Who approves plans; none if nobody has to.
    pub rule: Option<Rule>,
    /// Every key that was ever pinned.
    pub keys: Vec<StandingKey>,
    /// The ids of plans that were begun and have no transcript yet.
    pub under_way: Vec<String>,
    /// Of how many records the last checkpoint is that the signer has signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ledger: Option<u64>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandingKey {
    /// Its kid, or its label where it seals.
    pub kid: String,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// Its public key, hex; absent for seal keys.
    pub public: Option<String>,
    /// Why it is out of service for good.
    pub out_of_service: Option<String>,
}

/// A transcript and its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedTranscript {
    /// Its text.
    pub document: String,
    /// The signature beside it.
    pub signed: Signed,
}

/// One key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyReport {
    /// Its label: for signing keys the kid.
    pub kid: String,
    /// What it is for.
    pub role: KeyRole,
    /// Its public key, hex; absent for seal keys.
    pub public: Option<String>,
    /// `CKA_ID`, hex.
    pub cka_id: String,
    /// Whether this ceremony made it.
    pub made_now: bool,
    /// Whether the signer uses it.
    pub usable: bool,
    /// Why not.
    pub problem: String,
    /// Whether the token holds `CKA_ALLOWED_MECHANISMS` for it. SoftHSM 2.6 does not for Edwards keys.
    pub mechanisms_bound: bool,
}

/// One check of the doctor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at: `module`, `initialise`, `token`, `mechanisms`, `store`, `config`, `pin`, `pins`, a kid.
    pub name: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What to do; empty if nothing.
    pub remedy: String,
}

/// Why a message did not arrive, or was none.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// It is announced as longer than what is read (the other side).
    #[error("the {what} is longer than {limit} bytes")]
    TooLong {
        /// `request`, `PIN` or `response`.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// It is not the JSON that it should be (the other side).
    #[error("the {what} is not understood: {error}")]
    NotUnderstood {
        /// `request` or `response`.
        what: &'static str,
        /// Where and why not.
        error: serde_json::Error,
    },
    /// The connection failed, or its time was up.
    #[error("the connection failed: {0}")]
    Link(#[from] io::Error),
}

/// Reads a frame's header, and judges it before a byte of the frame is waited for.
///
/// # Errors
/// [`MessageError::TooLong`] over `limit` bytes, and [`MessageError::Link`].
pub fn read_length(mut stream: impl Read, limit: usize, what: &'static str) -> Result<usize, MessageError> {
    let mut header = [0; HEADER];
    stream.read_exact(&mut header)?;
    let length = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    if length > limit { Err(MessageError::TooLong { what, limit }) } else { Ok(length) }
}

fn read<T: DeserializeOwned>(mut stream: impl Read, limit: usize, what: &'static str) -> Result<T, MessageError> {
    let mut body = vec![0; read_length(&mut stream, limit, what)?];
    stream.read_exact(&mut body)?;
    serde_json::from_slice(&body).map_err(|error| MessageError::NotUnderstood { what, error })
}

/// Writes one frame, the bytes straight from where they lie: they may be a PIN in its locked page.
fn write(mut stream: impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(bytes)
}

/// The ceremony's side: reads the request. The PIN's frame follows it.
///
/// # Errors
/// [`MessageError`]; nothing is allocated for a request over [`MAX_REQUEST`].
pub fn read_request(stream: impl Read) -> Result<Request, MessageError> {
    read(stream, MAX_REQUEST, "request")
}

/// The ceremony's side: writes the response.
///
/// # Errors
/// What the stream says.
pub fn write_response(mut stream: impl Write, response: &Response) -> io::Result<()> {
    write(&mut stream, &serde_json::to_vec(response)?)?;
    stream.flush()
}

/// The admin's side: asks for a ceremony, with the PIN's bytes (none where no PIN is given), and waits for its end.
///
/// # Errors
/// [`MessageError`]; a ceremony that failed is a [`Response::Failed`].
pub fn call(mut stream: impl Read + Write, request: &Request, pin: &[u8]) -> Result<Response, MessageError> {
    let request = serde_json::to_vec(request).map_err(io::Error::other)?;
    let sent = write(&mut stream, &request).and_then(|()| write(&mut stream, pin)).and_then(|()| stream.flush());
    match sent {
        // Who may not hold ceremonies is told so before anything is read; the answer is there all the same.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => read(stream, MAX_RESPONSE, "response"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::io::Cursor;

    /// What is read, and what was written.
    struct Both(Cursor<Vec<u8>>, Vec<u8>);

    impl Read for Both {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.0.read(out)
        }
    }

    impl Write for Both {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn answered(response: &[u8], pin: &[u8]) -> (Result<Response, MessageError>, Vec<u8>) {
        let mut frame = Vec::new();
        write(&mut frame, response).unwrap();
        let mut stream = Both(Cursor::new(frame), Vec::new());
        let request =
            Request { plan: PlanKind::Init, tenant: Some("t1".to_owned()), purpose: None, ..Request::default() };
        (call(&mut stream, &request, pin), stream.1)
    }

    #[test]
    fn both_sides_understand_each_other() {
        let key = KeyReport {
            kid: "ed25519/t1/auth/v1".to_owned(),
            role: KeyRole::Passport,
            public: None,
            cka_id: "01".to_owned(),
            made_now: true,
            usable: true,
            problem: String::new(),
            mechanisms_bound: false,
        };
        let response = Response::Done(Report { keys: vec![key], ..Report::default() });
        let mut frame = Vec::new();
        write_response(&mut frame, &response).unwrap();
        let (answer, sent) = answered(&frame[HEADER..], b"12\"34");
        assert_eq!(answer.unwrap(), response);

        let mut sent = Cursor::new(sent);
        let request = read_request(&mut sent).unwrap();
        assert_eq!((request.plan, request.tenant.as_deref(), request.purpose), (PlanKind::Init, Some("t1"), None));
        assert_eq!(read_length(&mut sent, 64, "PIN").unwrap(), 5);
        let mut pin = Vec::new();
        sent.read_to_end(&mut pin).unwrap();
        assert_eq!(pin, b"12\"34");
    }

    #[test]
    fn an_answer_of_another_version_is_read() {
        let key = json!({"kid": "k", "role": "seal", "public": null, "cka_id": "01", "made_now": false, "usable": true,
                         "problem": "", "mechanisms_bound": true, "later": 1});
        let (answer, _) = answered(json!({"done": {"keys": [key], "later": []}}).to_string().as_bytes(), b"");
        assert!(matches!(answer.unwrap(), Response::Done(report) if report.keys[0].role == KeyRole::Seal));
    }

    #[test]
    fn what_is_not_an_answer_is_refused() {
        assert!(matches!(answered(b"not json", b"").0, Err(MessageError::NotUnderstood { what: "response", .. })));
        let mut endless = Both(Cursor::new(vec![0xff; 4]), Vec::new());
        let request = Request { plan: PlanKind::List, ..Request::default() };
        assert!(matches!(call(&mut endless, &request, b""), Err(MessageError::TooLong { limit: MAX_RESPONSE, .. })));
        let mut silent = Both(Cursor::new(Vec::new()), Vec::new());
        assert!(matches!(call(&mut silent, &request, b""), Err(MessageError::Link(_))));
    }
}
