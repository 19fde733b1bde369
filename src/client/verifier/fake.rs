//! A daemon that says what a test has it say.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use crate::wire::{
    Code, Cursor, Event, Greeting, HEADER, KeySet, Limits, Problem, Reply, Request, RevocationPage, ServiceOk,
    ServiceOp, WIRE_VERSION, Watched, Welcome, What, decode, encode_frame,
};

/// What it would say.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) keys: Option<KeySet>,
    pub(super) pages: Vec<RevocationPage>,
    pub(super) events: Vec<Event>,
    /// Events of a smaller number are no longer there.
    pub(super) lost: u64,
    /// The life that it is in.
    pub(super) life: u8,
    /// It answers nothing at all.
    pub(super) mute: bool,
    /// It lets nobody watch.
    pub(super) denies: bool,
    /// How often its pages were looked at, from the first on.
    pub(super) looks: usize,
    /// Connections at present.
    pub(super) connections: usize,
}

pub(super) struct Fake {
    dir: tempfile::TempDir,
    script: Arc<Mutex<Script>>,
    serving: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Fake {
    pub(super) fn start(script: Script) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let script = Arc::new(Mutex::new(script));
        let serving = serve(dir.path().join("s"), Arc::clone(&script));
        Self { dir, script, serving }
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    pub(super) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It happens now.
    pub(super) fn happens(&self, tenant: &str, what: What) {
        let mut script = self.script();
        let seq = u64::try_from(script.events.len()).unwrap() + 1;
        let at_ms = crate::clock::Moment::now().micros() / 1000;
        script.events.push(Event { seq, at_ms, tenant: Some(tenant.to_owned()), what });
    }

    /// Every connection ends, and nobody listens.
    pub(super) async fn stop(&mut self) {
        self.serving.abort();
        drop((&mut self.serving).await);
        std::fs::remove_file(self.socket()).unwrap();
    }

    pub(super) fn start_again(&mut self) {
        self.serving = serve(self.socket(), Arc::clone(&self.script));
    }
}

fn serve(socket: PathBuf, script: Arc<Mutex<Script>>) -> JoinHandle<()> {
    let listener = UnixListener::bind(socket).unwrap();
    tokio::spawn(async move {
        let mut all = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            all.spawn(connection(stream, Arc::clone(&script)));
        }
    })
}

/// Counts a connection for as long as it is there.
struct Counted(Arc<Mutex<Script>>);

impl Counted {
    fn new(script: &Arc<Mutex<Script>>) -> Self {
        script.lock().unwrap().connections += 1;
        Self(Arc::clone(script))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.lock().unwrap().connections -= 1;
    }
}

async fn body(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).await.ok()?;
    let mut body = vec![0; usize::try_from(u32::from_be_bytes(header)).unwrap()];
    stream.read_exact(&mut body).await.ok()?;
    Some(body)
}

async fn connection(mut stream: UnixStream, script: Arc<Mutex<Script>>) {
    let _counted = Counted::new(&script);
    let limits = Limits { max_frame: 1 << 20, max_msg_bytes: 4096, max_batch: 512, max_in_flight: 256 };
    let welcome = Welcome { wire: WIRE_VERSION, server: "fake".to_owned(), issuer: "test".to_owned(), limits };
    let mut frame = Vec::new();
    encode_frame(&Greeting::Welcome(welcome), &mut frame).unwrap();
    if body(&mut stream).await.is_none() || stream.write_all(&frame).await.is_err() {
        return;
    }
    while let Some(body) = body(&mut stream).await {
        let Request { id, op, .. } = decode::<Request<'_>>(&body).unwrap();
        let result = answer(&script, op).await;
        let mut frame = Vec::new();
        encode_frame(&Reply { id, result }, &mut frame).unwrap();
        if stream.write_all(&frame).await.is_err() {
            return;
        }
    }
}

async fn answer(script: &Mutex<Script>, op: ServiceOp<'_>) -> Result<ServiceOk, Problem> {
    while script.lock().unwrap().mute {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    match op {
        ServiceOp::Keys { if_etag } => {
            let set = script.lock().unwrap().keys.clone().unwrap();
            let same = if_etag == Some(set.etag);
            Ok(if same { ServiceOk::KeysNotModified { max_age_s: 1 } } else { ServiceOk::Keys(set) })
        }
        ServiceOp::Revocations { after } => {
            let mut script = script.lock().unwrap();
            let at = after.map_or(0, |after| usize::from(after[0]));
            script.looks += usize::from(at == 0);
            let next = (at + 1 < script.pages.len()).then(|| vec![u8::try_from(at).unwrap() + 1]);
            Ok(ServiceOk::Revocations(RevocationPage { next, ..script.pages[at].clone() }))
        }
        ServiceOp::Watch { after, wait_ms, .. } => {
            let until = tokio::time::Instant::now() + Duration::from_millis(wait_ms.into());
            loop {
                let (told, late) = (told(&script.lock().unwrap(), after), tokio::time::Instant::now() >= until);
                match told? {
                    Watched::Events { events, .. } if events.is_empty() && !late => {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                    told => return Ok(ServiceOk::Watched(told)),
                }
            }
        }
        other => panic!("{other:?}"),
    }
}

fn told(script: &Script, after: Option<Cursor>) -> Result<Watched, Problem> {
    if script.denies {
        return Err(Problem::new(Code::OpDenied));
    }
    let head = u64::try_from(script.events.len()).unwrap();
    let life = [script.life; 16];
    let cursor = Cursor { life, wants: [0; 32], seq: head };
    Ok(match after.filter(|after| after.life == life) {
        None => Watched::Begin { cursor },
        Some(after) if after.seq < script.lost => Watched::Lagged { missed: script.lost - after.seq, cursor },
        Some(after) => {
            let events = script.events.iter().filter(|event| event.seq > after.seq).cloned().collect();
            Watched::Events { events, cursor }
        }
    })
}
