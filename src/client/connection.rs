//! One connection shared by many requests.

use std::collections::HashMap;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::codec::{Framed, FramedRead, LengthDelimitedCodec};

use super::dial::{dial, pause};
use super::{ClientError, Options};
use crate::wire::{AdminOk, AdminReply, Greeting, HEADER, Hello, MAX_FRAME, Problem, Reply, ServiceOk, WIRE_VERSION};
use crate::wire::{Welcome, decode, encode_frame};

/// Requests handed over and not yet written.
const QUEUE: usize = 1024;
/// Requests are taken from the queue until so many bytes are unwritten.
const OUTPUT_HIGH: usize = 64 << 10;
/// How long answers may still come once nothing can be written any more.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A reply of either socket.
pub(super) trait Answer: Sized + Send + 'static {
    type Ok: Send + 'static;
    fn read(body: &[u8]) -> Result<(u64, Result<Self::Ok, Problem>), ClientError>;
}

impl Answer for Reply {
    type Ok = ServiceOk;
    fn read(body: &[u8]) -> Result<(u64, Result<ServiceOk, Problem>), ClientError> {
        let reply: Self = decode(body)?;
        Ok((reply.id, reply.result))
    }
}

impl Answer for AdminReply {
    type Ok = AdminOk;
    fn read(body: &[u8]) -> Result<(u64, Result<AdminOk, Problem>), ClientError> {
        let reply: Self = decode(body)?;
        Ok((reply.id, reply.result))
    }
}

type Outcome<R> = Result<<R as Answer>::Ok, ClientError>;

struct Call<R: Answer> {
    id: u64,
    frame: Vec<u8>,
    answer: oneshot::Sender<Outcome<R>>,
}

struct Live<R: Answer> {
    calls: mpsc::Sender<Call<R>>,
    welcome: Welcome,
}

/// The shared connection; made when it is needed and made again when it is gone.
pub(super) struct Shared<R: Answer> {
    options: Options,
    next_id: AtomicU64,
    live: Mutex<Slot<R>>,
    _reply: PhantomData<R>,
}

struct Slot<R: Answer> {
    live: Option<Arc<Live<R>>>,
    failures: u32,
}

impl<R: Answer> Shared<R> {
    pub(super) fn new(options: Options) -> Self {
        let live = Mutex::new(Slot { live: None, failures: 0 });
        Self { options, next_id: AtomicU64::new(1), live, _reply: PhantomData }
    }

    /// Sends what `encode` makes of an id, and waits for the reply that carries the id.
    pub(super) async fn ask(
        &self,
        encode: impl FnOnce(u64, &mut Vec<u8>) -> Result<(), crate::wire::WireError>,
    ) -> Outcome<R> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut frame = Vec::new();
        encode(id, &mut frame)?;
        tokio::time::timeout(self.options.timeout, self.exchange(id, frame)).await.unwrap_or(Err(ClientError::Timeout))
    }

    async fn exchange(&self, id: u64, frame: Vec<u8>) -> Outcome<R> {
        let live = self.live().await?;
        let (answer, awaited) = oneshot::channel();
        let lost = |_| ClientError::Lost("it was closed".to_owned());
        live.calls.send(Call { id, frame, answer }).await.map_err(|error| lost(error.to_string()))?;
        awaited.await.map_err(|error| lost(error.to_string()))?
    }

    /// What the daemon said of itself.
    pub(super) async fn welcome(&self) -> Result<Welcome, ClientError> {
        let live =
            tokio::time::timeout(self.options.timeout, self.live()).await.unwrap_or(Err(ClientError::Timeout))?;
        Ok(live.welcome.clone())
    }

    /// The next request connects anew; what is under way on the old connection is still answered.
    pub(super) async fn forget(&self) {
        self.live.lock().await.live = None;
    }

    async fn live(&self) -> Result<Arc<Live<R>>, ClientError> {
        let mut slot = self.live.lock().await;
        if let Some(live) = slot.live.as_ref().filter(|live| !live.calls.is_closed()) {
            return Ok(Arc::clone(live));
        }
        if slot.failures > 0 {
            tokio::time::sleep(pause(slot.failures)).await;
        }
        match connect::<R>(&self.options).await {
            Ok(live) => {
                let live = Arc::new(live);
                slot.failures = 0;
                slot.live = Some(Arc::clone(&live));
                Ok(live)
            }
            Err(error) => {
                slot.failures = slot.failures.saturating_add(1);
                slot.live = None;
                Err(error)
            }
        }
    }
}

fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().length_field_length(HEADER).max_frame_length(MAX_FRAME).new_codec()
}

async fn connect<R: Answer>(options: &Options) -> Result<Live<R>, ClientError> {
    let fail = |error: io::Error| ClientError::Connect {
        socket: options.socket.display().to_string(),
        why: explained(&error),
    };
    let stream = dial(&options.socket).await.map_err(fail)?;
    let mut framed = Framed::new(stream, codec());
    let mut hello = Vec::new();
    encode_frame(&Hello { wire: WIRE_VERSION, client: &options.name }, &mut hello)?;
    // A daemon without a place says so and closes before it reads, so a write that fails is no reason not to listen.
    let sent = framed.send(body(hello)).await;
    let greeting = match (framed.next().await, sent) {
        (Some(Ok(greeting)), _) => greeting,
        (_, Err(error)) | (Some(Err(error)), _) => return Err(fail(error)),
        (None, Ok(())) => return Err(fail(io::Error::new(io::ErrorKind::UnexpectedEof, "closed without a greeting"))),
    };
    match decode::<Greeting>(&greeting)? {
        Greeting::Refused(problem) => Err(ClientError::Problem(problem)),
        Greeting::Welcome(welcome) => {
            let (calls, inbox) = mpsc::channel(QUEUE);
            tokio::spawn(carry::<R>(framed, inbox));
            Ok(Live { calls, welcome })
        }
    }
}

/// The system's word, and what to do about it.
fn explained(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("{error}; is passportd running, and is this its socket?"),
        io::ErrorKind::ConnectionRefused => format!("{error}; nobody listens any more: is passportd running?"),
        io::ErrorKind::PermissionDenied => {
            format!("{error}; this user may not reach the socket: add it to the socket's group, and log in again")
        }
        _ => format!("{error}; is this passportd's socket?"),
    }
}

/// The codec writes the header itself.
fn body(mut frame: Vec<u8>) -> Bytes {
    frame.drain(..HEADER);
    frame.into()
}

type Waiting<R> = HashMap<u64, oneshot::Sender<Outcome<R>>>;
type Input = FramedRead<OwnedReadHalf, LengthDelimitedCodec>;

/// Writes calls and hands out replies until the connection or the last handle is gone. Reading never waits for writing:
/// the daemon reads nothing from a peer that does not take its replies, so each would wait for the other.
async fn carry<R: Answer>(framed: Framed<UnixStream, LengthDelimitedCodec>, mut inbox: mpsc::Receiver<Call<R>>) {
    let mut waiting = Waiting::<R>::new();
    let parts = framed.into_parts();
    let (input, mut output) = parts.io.into_split();
    let mut input = Input::new(input, codec());
    *input.read_buffer_mut() = parts.read_buf;
    let mut unwritten = BytesMut::new();
    let why = loop {
        tokio::select! {
            call = inbox.recv(), if unwritten.len() < OUTPUT_HIGH => {
                let Some(call) = call else { return };
                take(call, &mut inbox, &mut waiting, &mut unwritten);
            }
            written = output.write(&unwritten), if !unwritten.is_empty() => match written {
                Ok(n) => unwritten.advance(n),
                Err(error) => {
                    inbox.close();
                    last_words::<R>(&mut input, &mut waiting).await;
                    break error.to_string();
                }
            },
            frame = input.next() => match frame {
                Some(Ok(frame)) => if let Err(error) = deliver::<R>(&frame, &mut waiting) { break error.to_string() },
                Some(Err(error)) => break error.to_string(),
                None => break "the daemon closed it".to_owned(),
            },
        }
    };
    inbox.close();
    while let Ok(call) = inbox.try_recv() {
        waiting.insert(call.id, call.answer);
    }
    for (_, answer) in waiting {
        drop(answer.send(Err(ClientError::Lost(why.clone()))));
    }
}

/// Takes `call` and those that are queued behind it, so that they leave with one write.
fn take<R: Answer>(call: Call<R>, inbox: &mut mpsc::Receiver<Call<R>>, waiting: &mut Waiting<R>, out: &mut BytesMut) {
    let mut next = Some(call);
    while let Some(call) = next {
        if waiting.len() >= QUEUE {
            // Requests that were given up leave their entry behind.
            waiting.retain(|_, answer| !answer.is_closed());
        }
        out.extend_from_slice(&call.frame);
        waiting.insert(call.id, call.answer);
        next = if out.len() < OUTPUT_HIGH { inbox.try_recv().ok() } else { None };
    }
}

fn deliver<R: Answer>(frame: &[u8], waiting: &mut Waiting<R>) -> Result<(), ClientError> {
    let (id, result) = R::read(frame)?;
    // A reply that nobody waits for belongs to a request that was given up.
    drop(waiting.remove(&id).map(|one| one.send(result.map_err(ClientError::Problem))));
    Ok(())
}

/// A daemon that ends closes what it has not read; the answers that it gave before are still there to be read.
async fn last_words<R: Answer>(input: &mut Input, waiting: &mut Waiting<R>) {
    while let Ok(Some(Ok(frame))) = tokio::time::timeout(LAST_WORDS, input.next()).await {
        if deliver::<R>(&frame, waiting).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::UnixListener;

    use super::*;
    use crate::wire::{Issued, Limits, Request, ServiceOp, VersionInfo};

    const LARGE: usize = 600 << 10;

    fn welcome() -> Vec<u8> {
        let limits = Limits { max_frame: 1 << 20, max_msg_bytes: 4096, max_batch: 512, max_in_flight: 256 };
        let welcome = Welcome { wire: WIRE_VERSION, server: "test".to_owned(), issuer: "test".to_owned(), limits };
        let mut frame = Vec::new();
        encode_frame(&Greeting::Welcome(welcome), &mut frame).unwrap();
        frame
    }

    async fn body_of(stream: &mut UnixStream) -> Option<Vec<u8>> {
        let mut header = [0; HEADER];
        stream.read_exact(&mut header).await.ok()?;
        let mut body = vec![0; usize::try_from(u32::from_be_bytes(header)).unwrap()];
        stream.read_exact(&mut body).await.ok()?;
        Some(body)
    }

    fn reply(id: u64, result: ServiceOk) -> Vec<u8> {
        let mut frame = Vec::new();
        encode_frame(&Reply { id, result: Ok(result) }, &mut frame).unwrap();
        frame
    }

    fn shared(socket: std::path::PathBuf) -> Arc<Shared<Reply>> {
        let timeout = Duration::from_secs(5);
        Arc::new(Shared::new(Options { socket, timeout, name: "test".to_owned() }))
    }

    async fn version(shared: &Shared<Reply>, fill: &str) -> Outcome<Reply> {
        let op = ServiceOp::Keys { if_etag: None };
        let large = ServiceOp::Introspect {
            want: crate::wire::Want::default(),
            passport: crate::wire::Passport::Envelope { alg: "", kid: "", msg: fill.as_bytes(), sig: &[] },
        };
        let op = if fill.is_empty() { op } else { large };
        shared.ask(|id, out| encode_frame(&Request { id, corr_id: [0; 16], op }, out)).await
    }

    /// A daemon reads nothing from a peer that has not taken its replies.
    #[tokio::test]
    async fn large_requests_and_large_replies_pass_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            body_of(&mut stream).await.unwrap();
            stream.write_all(&welcome()).await.unwrap();
            while let Some(body) = body_of(&mut stream).await {
                let msg = vec![b'x'; LARGE];
                let issued = ServiceOk::Issued(Issued::Envelope { kid: String::new(), msg, sig: [0; 64] });
                stream.write_all(&reply(crate::wire::peek_id(&body), issued)).await.unwrap();
            }
        });
        let client = shared(socket);
        let fill = Arc::new("x".repeat(LARGE));
        let asked = (0..8).map(|_| {
            let (client, fill) = (Arc::clone(&client), Arc::clone(&fill));
            tokio::spawn(async move { version(&client, &fill).await })
        });
        for one in asked.collect::<Vec<_>>() {
            assert!(matches!(one.await.unwrap(), Ok(ServiceOk::Issued(_))));
        }
    }

    /// A daemon without a place says so and closes before it reads a byte (WIRE.md §4).
    #[tokio::test]
    async fn a_refusal_is_heard_though_hello_could_not_be_written() {
        // Whether Hello is still written is left to chance.
        for _ in 0..32 {
            let dir = tempfile::tempdir().unwrap();
            let socket = dir.path().join("s");
            let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
            let daemon = std::thread::spawn(move || {
                let mut refusal = Vec::new();
                encode_frame(&Greeting::Refused(Problem::new(crate::wire::Code::Busy)), &mut refusal).unwrap();
                io::Write::write_all(&mut listener.accept().unwrap().0, &refusal).unwrap();
            });
            let refused = shared(socket).welcome().await.unwrap_err();
            assert_eq!(refused.code(), Some(crate::wire::Code::Busy), "{refused:?}");
            daemon.join().unwrap();
        }
    }

    /// What was answered before the end arrives, though more could not be sent.
    #[tokio::test]
    async fn answers_given_before_the_end_are_not_lost() {
        // Which of the two, the answer or the next call, is looked at first is left to chance.
        for _ in 0..32 {
            answered_then_closed().await;
        }
    }

    async fn answered_then_closed() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let (answered, ended) = oneshot::channel();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            body_of(&mut stream).await.unwrap();
            stream.write_all(&welcome()).await.unwrap();
            let first = crate::wire::peek_id(&body_of(&mut stream).await.unwrap());
            let info = VersionInfo { server: "test".to_owned(), wire: 1, issuer: "test".to_owned() };
            stream.write_all(&reply(first, ServiceOk::Version(info))).await.unwrap();
            drop(stream);
            answered.send(()).unwrap();
        });
        let client = shared(socket);
        client.welcome().await.unwrap();
        let fill = "x".repeat(LARGE);
        let (first, second) = tokio::join!(version(&client, ""), async {
            ended.await.unwrap();
            version(&client, &fill).await
        });
        assert!(matches!(first, Ok(ServiceOk::Version(_))), "{first:?}");
        assert!(matches!(second, Err(ClientError::Lost(_) | ClientError::Connect { .. })), "{second:?}");
    }
}
