//! The wire by hand: frames and bytes over a blocking socket, for what a well-behaved client would never send.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use passportd::wire::{
    AdminOk, AdminOp, AdminReply, AdminRequest, Greeting, HEADER, Hello, Problem, Reply, Request, ServiceOk, ServiceOp,
    WIRE_VERSION, Welcome, decode, encode_frame,
};

/// How long an answer may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to either socket.
pub(crate) struct Raw {
    /// The socket.
    pub(crate) stream: UnixStream,
    next_id: u64,
}

impl Raw {
    /// Connects and says nothing.
    pub(crate) fn connect(socket: &Path) -> io::Result<Self> {
        Self::over(UnixStream::connect(socket)?)
    }

    /// Takes a connection that has been made.
    pub(crate) fn over(stream: UnixStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, next_id: 1 })
    }

    /// Says Hello; the daemon's answer.
    pub(crate) fn greet(&mut self) -> io::Result<Greeting> {
        self.send(&hello())?;
        let body = self.body()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        decode(&body).map_err(io::Error::other)
    }

    /// The same connection, welcomed.
    pub(crate) fn welcomed(mut self) -> (Self, Welcome) {
        match self.greet().unwrap() {
            Greeting::Welcome(welcome) => (self, welcome),
            Greeting::Refused(problem) => panic!("refused: {problem:?}"),
        }
    }

    /// Writes bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next body; none when the daemon has closed the connection.
    pub(crate) fn body(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut header = [0; HEADER];
        match self.stream.read_exact(&mut header) {
            // A daemon that closes with bytes of ours unread resets the connection.
            Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
                return Ok(None);
            }
            read => read?,
        }
        let mut body = vec![0; usize::try_from(u32::from_be_bytes(header)).unwrap()];
        self.stream.read_exact(&mut body)?;
        Ok(Some(body))
    }

    /// Whether the daemon has closed the connection; waits for it, and reads away what comes before.
    pub(crate) fn closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    /// The next reply of the service socket.
    pub(crate) fn reply(&mut self) -> Reply {
        let body = self.body().unwrap().expect("the daemon closed the connection");
        decode(&body).unwrap()
    }

    /// Sends a request; its id.
    pub(crate) fn request(&mut self, op: ServiceOp<'_>) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&request(id, op)).unwrap();
        id
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask(&mut self, op: ServiceOp<'_>) -> Result<ServiceOk, Problem> {
        let id = self.request(op);
        let reply = self.reply();
        assert_eq!(reply.id, id, "one request, one reply with its id");
        reply.result
    }

    /// Asks on the admin socket, and waits for the answer.
    pub(crate) fn admin(&mut self, op: AdminOp<'_>) -> Result<AdminOk, Problem> {
        let id = self.next_id;
        self.next_id += 1;
        let mut frame = Vec::new();
        encode_frame(&AdminRequest { id, corr_id: [0; 16], op }, &mut frame).unwrap();
        self.send(&frame).unwrap();
        let body = self.body().unwrap().expect("the daemon closed the connection");
        let reply: AdminReply = decode(&body).unwrap();
        assert_eq!(reply.id, id, "one request, one reply with its id");
        reply.result
    }
}

/// The frame of a Hello.
pub(crate) fn hello() -> Vec<u8> {
    let mut frame = Vec::new();
    encode_frame(&Hello { wire: WIRE_VERSION, client: "passportd-tests" }, &mut frame).unwrap();
    frame
}

/// The frame of a request.
pub(crate) fn request(id: u64, op: ServiceOp<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_frame(&Request { id, corr_id: [0; 16], op }, &mut frame).unwrap();
    frame
}

/// The frame of a body of one's own.
pub(crate) fn frame(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat()
}
