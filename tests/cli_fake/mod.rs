//! A daemon for the tests of `passportctl`: the real wire, real signatures and real verdicts in a few threads, with no
//! HSM, no policy and no state. What it answers can be bent, so that the tool's own checks are tried.

mod documents;
mod issuing;

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use ed25519_dalek::SigningKey;
use passportd::check::{Means, Terms, check, introspect};
use passportd::clock::Moment;
use passportd::passport::{Expect, Jwk, Kid, Presenter};
use passportd::state::Store;
use passportd::verify::{Budget, Keyring, Verifier};
use passportd::wire::frame::{Split, split};
use passportd::wire::sealed::{Sealed, TAG};
use passportd::wire::{
    AdminOk, AdminOp, AdminReply, AdminRequest, Code, Greeting, Hello, Identity, KeySet, Limits, MAX_FRAME, Passport,
    Problem, Reply, Request, ServiceOk, ServiceOp, VersionInfo, WIRE_VERSION, Want, Welcome, decode, encode_frame,
};

pub(crate) use documents::sealed;
use issuing::{exchange, issue};

pub(crate) const ISSUER: &str = "fake.example";
pub(crate) const KID: &str = "ed25519/t1/auth/v1";
const MAX_BATCH: u32 = 64;
const MAX_MSG: usize = 1024;

/// What the daemon is, shared by its threads.
pub(crate) struct Fake {
    dir: tempfile::TempDir,
    state: Arc<State>,
    pub(crate) metrics: std::net::SocketAddr,
}

struct State {
    key: SigningKey,
    keyring: Keyring,
    kept: Store,
    issued: AtomicU64,
    verified: AtomicU64,
    /// Accepts whatever it is shown.
    gullible: AtomicBool,
    unready: AtomicBool,
    /// Refuses every operation.
    closed: AtomicBool,
    /// Knows no rule for anybody.
    nameless: AtomicBool,
    /// Has read again what there is to read.
    reloaded: AtomicBool,
    drained: AtomicBool,
    /// Why issuing is paused.
    paused: Mutex<Option<String>>,
    /// Whoever holds it keeps everybody waiting.
    gate: Mutex<()>,
    /// The time that it goes by; else the present.
    frozen: Option<Moment>,
}

impl State {
    fn now(&self) -> Moment {
        self.frozen.unwrap_or_else(Moment::now)
    }
}

/// The time of a frozen daemon: 2023-11-14T22:13:20Z.
pub(crate) const FROZEN: Moment = Moment::from_unix(1_700_000_000);

impl Fake {
    /// Serves `s.sock`, `a.sock` and a metrics port until the process ends.
    pub(crate) fn start() -> Self {
        Self::at(None)
    }

    /// The same, for which it is always [`FROZEN`], so that all that it says can be foretold.
    pub(crate) fn frozen() -> Self {
        Self::at(Some(FROZEN))
    }

    fn at(frozen: Option<Moment>) -> Self {
        let key = SigningKey::from_bytes(&[7; 32]);
        let kid: Kid = KID.parse().unwrap();
        let public = key.verifying_key().to_bytes();
        let published = Jwk { current: Some(true), created: Some(documents::CREATED), ..Jwk::new(kid, public) };
        let keyring = Keyring::new(&[published]).unwrap();
        let state = State {
            key,
            keyring,
            kept: Store::memory(Moment::now()).unwrap(),
            issued: AtomicU64::new(0),
            verified: AtomicU64::new(0),
            gullible: AtomicBool::new(false),
            unready: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            nameless: AtomicBool::new(false),
            reloaded: AtomicBool::new(false),
            drained: AtomicBool::new(false),
            paused: Mutex::new(None),
            gate: Mutex::new(()),
            frozen,
        };
        let state = Arc::new(state);
        let dir = tempfile::tempdir().unwrap();
        serve(dir.path().join("s.sock"), Arc::clone(&state), service);
        serve(dir.path().join("a.sock"), Arc::clone(&state), admin);
        let metrics = metrics(Arc::clone(&state));
        Self { dir, state, metrics }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// From now on it accepts whatever it is shown.
    pub(crate) fn become_gullible(&self) {
        self.state.gullible.store(true, Ordering::SeqCst);
    }

    pub(crate) fn become_unready(&self) {
        self.state.unready.store(true, Ordering::SeqCst);
    }

    /// From now on no rule names anybody.
    pub(crate) fn become_nameless(&self) {
        self.state.nameless.store(true, Ordering::SeqCst);
    }

    /// Nobody is answered until the guard is dropped.
    pub(crate) fn hold(&self) -> MutexGuard<'_, ()> {
        self.state.gate.lock().unwrap()
    }

    /// From now on every operation is refused, or no longer.
    pub(crate) fn close(&self, closed: bool) {
        self.state.closed.store(closed, Ordering::SeqCst);
    }
}

type Speaker = fn(&State, &[u8]) -> Vec<u8>;

fn serve(path: PathBuf, state: Arc<State>, speak: Speaker) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, state) = (stream.unwrap(), Arc::clone(&state));
            std::thread::spawn(move || drop(connection(stream, &state, speak)));
        }
    });
}

fn connection(mut stream: UnixStream, state: &State, speak: Speaker) -> io::Result<()> {
    let (mut buffer, mut greeted) = (Vec::new(), false);
    let mut chunk = vec![0; 1 << 16];
    loop {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        buffer.extend_from_slice(&chunk[..read]);
        let mut replies = Vec::new();
        while let Split::Frame { body, used } = split(&buffer).unwrap() {
            if greeted {
                replies.extend(speak(state, body));
            } else {
                decode::<Hello<'_>>(body).unwrap();
                greeted = true;
                encode_frame(&Greeting::Welcome(welcome()), &mut replies).unwrap();
            }
            buffer.drain(..used);
        }
        stream.write_all(&replies)?;
    }
}

fn welcome() -> Welcome {
    let limits = Limits {
        max_frame: MAX_FRAME.try_into().unwrap(),
        max_msg_bytes: MAX_MSG.try_into().unwrap(),
        max_batch: MAX_BATCH,
        max_in_flight: 128,
    };
    Welcome { wire: WIRE_VERSION, server: "fake/0".into(), issuer: ISSUER.into(), limits }
}

fn service(state: &State, body: &[u8]) -> Vec<u8> {
    let Request { id, op, .. } = decode(body).unwrap();
    drop(state.gate.lock().unwrap());
    let mut out = Vec::new();
    let result = if state.closed.load(Ordering::SeqCst) { Err(denied()) } else { answer(state, op) };
    encode_frame(&Reply { id, result }, &mut out).unwrap();
    out
}

fn denied() -> Problem {
    Problem::saying(Code::OpDenied, "no rule grants this operation")
}

fn answer(state: &State, op: ServiceOp<'_>) -> Result<ServiceOk, Problem> {
    Ok(match op {
        ServiceOp::Ping => ServiceOk::Pong,
        ServiceOp::Version => {
            ServiceOk::Version(VersionInfo { server: "fake/0".into(), wire: WIRE_VERSION, issuer: ISSUER.into() })
        }
        ServiceOp::WhoAmI => ServiceOk::WhoAmI(identity(state)),
        ServiceOp::Health => ServiceOk::Health(documents::health(state, false)),
        ServiceOp::Issue(spec) => ServiceOk::Issued(issue(state, &spec)?),
        ServiceOp::IssueBatch(specs) => ServiceOk::IssuedBatch(specs.iter().map(|spec| issue(state, spec)).collect()),
        ServiceOp::Verify { want, passport } | ServiceOp::VerifyWith { want, passport, .. } => {
            ServiceOk::Verdict(verdicts(state, &want, &[passport])?.into_iter().next().unwrap())
        }
        ServiceOp::VerifyBatch { want, items } => ServiceOk::Verdicts(verdicts(state, &want, &items)?),
        ServiceOp::Introspect { want, passport } => ServiceOk::Introspection(with_terms(state, &want, |terms| {
            introspect(&passport, &state.keyring, terms, &state.kept)
        })),
        ServiceOp::Keys { if_etag } if if_etag.as_ref() == Some(state.keyring.etag()) => {
            ServiceOk::KeysNotModified { max_age_s: 60 }
        }
        ServiceOp::Keys { .. } => {
            let etag = *state.keyring.etag();
            ServiceOk::Keys(KeySet { etag, max_age_s: 60, jwks: state.keyring.jwks().to_vec() })
        }
        ServiceOp::Revoke { .. } => ServiceOk::Revoked { new: true },
        ServiceOp::Watch { after, .. } => ServiceOk::Watched(documents::watched(after)),
        ServiceOp::Revocations { .. } => return Err(denied()),
        ServiceOp::Exchange { spec, .. } => ServiceOk::Exchanged(exchange(state, &spec)?),
        ServiceOp::Challenge => ServiceOk::Challenge { nonce: "00".repeat(16), expires_in_s: 60 },
        ServiceOp::Seal { plain, .. } => ServiceOk::Sealed { blob: sealed(NEWEST, plain.0) },
        ServiceOp::Unseal { name: "database" | "bench", blob, .. } => {
            let plain = Sealed::parse(blob).unwrap().body.strip_suffix(&[b't'; TAG]).unwrap().to_vec();
            ServiceOk::Unsealed { plain: plain.into() }
        }
        ServiceOp::Unseal { .. } => return Err(Problem::new(Code::Malformed)),
    })
}

/// The seal key that this daemon seals with, and the one before it.
pub(crate) const NEWEST: &str = "hmac-sha256/t1/seal/v2";
pub(crate) const OLDER: &str = "hmac-sha256/t1/seal/v1";

fn identity(state: &State) -> Identity {
    let names = |name: &str| if state.nameless.load(Ordering::SeqCst) { Vec::new() } else { vec![name.into()] };
    let (rules, operations, templates) = (names("web"), names("issue"), names("demo"));
    let (uid, gid, pid, groups, listener) = (1000, 1000, 42, vec![4, 27], "main".into());
    Identity { uid, gid, pid, groups, listener, rules, operations, templates, audiences: Vec::new() }
}

fn with_terms<T>(state: &State, want: &Want<'_>, ask: impl FnOnce(&Terms<'_>) -> T) -> T {
    let audiences: Vec<_> = want.aud.into_iter().collect();
    let (issuer, now) = (ISSUER, state.now());
    let expect = Expect { issuer, now, skew_s: 0, audiences: &audiences, require_aud: true, scopes: &want.scopes };
    let presenter = want.peer_uid.map_or(Presenter::Unsaid, Presenter::Uid);
    ask(&Terms { expect, max_msg_bytes: MAX_MSG, presenter })
}

fn verdicts(state: &State, want: &Want<'_>, items: &[Passport<'_>]) -> Result<Vec<passportd::wire::Verdict>, Problem> {
    if items.len() > MAX_BATCH as usize {
        return Err(Problem::too_large("limits.max_batch", MAX_BATCH as usize));
    }
    state.verified.fetch_add(items.len() as u64, Ordering::SeqCst);
    if state.gullible.load(Ordering::SeqCst) {
        let accepted = passportd::wire::Verdict::Accepted(passportd::wire::Accepted { exp: i64::MAX });
        return Ok(vec![accepted; items.len()]);
    }
    let (verifier, confirmations) = (Verifier::reference(), Budget::default());
    let (keyring, confirmations) = (&state.keyring, &confirmations);
    let means = Means { keyring, verifier: &verifier, confirmations, remembered: None, state: &state.kept };
    Ok(with_terms(state, want, |terms| check(items, means, terms).verdicts))
}

fn admin(state: &State, body: &[u8]) -> Vec<u8> {
    let AdminRequest { id, op, .. } = decode(body).unwrap();
    drop(state.gate.lock().unwrap());
    let result = if state.closed.load(Ordering::SeqCst) { Err(denied()) } else { Ok(administered(state, &op)) };
    let mut out = Vec::new();
    encode_frame(&AdminReply { id, result }, &mut out).unwrap();
    out
}

fn public(state: &State) -> [u8; 32] {
    state.key.verifying_key().to_bytes()
}

fn administered(state: &State, op: &AdminOp<'_>) -> AdminOk {
    match op {
        AdminOp::WhoAmI => AdminOk::WhoAmI(identity(state)),
        AdminOp::Health => AdminOk::Health(documents::health(state, true)),
        AdminOp::Status => AdminOk::Status(documents::status(state)),
        AdminOp::Attest => AdminOk::Attest(documents::attestation(&state.keyring, &public(state), state.now())),
        // As the wire has it, a seal key has no public part.
        AdminOp::Stage { kid } => {
            AdminOk::Staged { kid: (*kid).into(), public: if kid.starts_with("hmac") { [0; 32] } else { [1; 32] } }
        }
        AdminOp::Activate { kid } | AdminOp::ActivateNow { kid, .. } => {
            let before = kid.strip_suffix("/v2").map(|kind| format!("{kind}/v1"));
            AdminOk::Activated { kid: (*kid).into(), retired: before }
        }
        // The first time there is something to take in.
        AdminOp::ReloadReport => reload(state.reloaded.swap(true, Ordering::SeqCst)),
        AdminOp::PauseIssue { reason } => paused(state, Some((*reason).into())),
        AdminOp::ResumeIssue => paused(state, None),
        AdminOp::Drain => drained(state, true),
        AdminOp::Undrain => drained(state, false),
        AdminOp::Reload
        | AdminOp::Compromise { .. }
        | AdminOp::TicketTtl { .. }
        | AdminOp::Confirm { .. }
        | AdminOp::Destroyed { .. } => AdminOk::Done,
        AdminOp::Rollback { .. } => AdminOk::Activated { kid: KID.into(), retired: Some("ed25519/t1/auth/v2".into()) },
        AdminOp::Revoke { what, .. } => AdminOk::Revoked { new: u32::try_from(what.len()).unwrap() },
        AdminOp::BumpEpoch { .. } => AdminOk::EpochBumped { epoch: 1 },
        AdminOp::Checkpoint => AdminOk::Checkpoint(documents::checkpoint()),
        AdminOp::TestAppend { .. } => AdminOk::Recorded { seq: 987_655 },
    }
}

fn paused(state: &State, reason: Option<String>) -> AdminOk {
    *state.paused.lock().unwrap() = reason;
    AdminOk::Done
}

fn drained(state: &State, drained: bool) -> AdminOk {
    state.drained.store(drained, Ordering::SeqCst);
    AdminOk::Done
}

fn reload(again: bool) -> AdminOk {
    let list = |items: &[&str]| if again { Vec::new() } else { items.iter().map(ToString::to_string).collect() };
    let old = |first| if again { first + 1 } else { first };
    AdminOk::ReloadReport {
        old_policy: [old(0); 32],
        new_policy: [1; 32],
        changed: list(&["limits.rps"]),
        needs_restart: list(&["server.socket"]),
        old_config: [old(2); 32],
        new_config: [3; 32],
        policy_changed: list(&["rule web added"]),
        policy_more: if again { 0 } else { 7 },
    }
}

fn metrics(state: Arc<State>) -> std::net::SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            drop(stream.read(&mut [0; 1024]));
            let (issued, verified) = (state.issued.load(Ordering::SeqCst), state.verified.load(Ordering::SeqCst));
            let body = format!(
                "passport_ops_total{{op=\"issue\",result=\"ok\"}} {issued}\npassport_ops_total{{op=\"verify\"}} {verified}\n"
            );
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            drop(stream.write_all((head + &body).as_bytes()));
        }
    });
    address
}

/// Serves one ceremony on `socket`: returns the request and PIN that arrive.
pub(crate) fn ceremony(socket: &Path, answer: String) -> std::thread::JoinHandle<(String, String)> {
    let held = ceremonies(socket, vec![answer]);
    std::thread::spawn(move || held.join().unwrap().remove(0))
}

/// The same for one after the other.
pub(crate) fn ceremonies(socket: &Path, answers: Vec<String>) -> std::thread::JoinHandle<Vec<(String, String)>> {
    let listener = UnixListener::bind(socket).unwrap();
    let serve = move |answer: String| {
        let (mut stream, _) = listener.accept().unwrap();
        let mut frame = || {
            let mut header = [0; 4];
            stream.read_exact(&mut header).unwrap();
            let mut body = vec![0; u32::from_be_bytes(header) as usize];
            stream.read_exact(&mut body).unwrap();
            String::from_utf8(body).unwrap()
        };
        let asked = (frame(), frame());
        stream.write_all(&u32::try_from(answer.len()).unwrap().to_be_bytes()).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        asked
    };
    std::thread::spawn(move || answers.into_iter().map(serve).collect())
}
