//! Frames, and the messages of every socket.

use std::io::{self, Cursor, Read, Write};

use passportd::wire::ceremony::{self, MAX_REQUEST, MAX_RESPONSE, MessageError, PlanKind};
use passportd::wire::frame::{Split, split};
use passportd::wire::link::{LinkGreeting, LinkReply, LinkResult};
use passportd::wire::{
    AdminOp, AdminReply, AdminRequest, Greeting, HEADER, Hello, MAX_FRAME, Reply, Request, WireError, decode,
    encode_frame, peek_id,
};

/// Decodes a body as a message. What is admitted has one spelling: encoded again it is the same body.
macro_rules! recoded {
    ($message:ty, $body:expr) => {
        match decode::<$message>($body) {
            Ok(message) => {
                let mut frame = Vec::new();
                encode_frame(&message, &mut frame).unwrap();
                assert_eq!(&frame[HEADER..], $body, "{message:?} has a second spelling");
                Some(message)
            }
            Err(error) => {
                assert!(!matches!(error, WireError::Oversize { .. } | WireError::Reply { .. }), "{error}");
                None
            }
        }
    };
}
pub(super) use recoded;

/// The bodies of every complete frame, and what ends them.
fn bodies(stream: &[u8]) -> (Vec<&[u8]>, Option<WireError>) {
    let (mut found, mut rest) = (Vec::new(), stream);
    loop {
        match split(rest) {
            Ok(Split::Frame { body, used }) => {
                found.push(body);
                rest = &rest[used..];
            }
            Ok(Split::Partial { .. }) => return (found, None),
            Err(error) => return (found, Some(error)),
        }
    }
}

/// The splitter against arithmetic of its own, at every frame of a stream and at each cut of the first.
pub fn frames(stream: &[u8]) {
    let mut rest = stream;
    while let Some(header) = rest.first_chunk::<HEADER>() {
        let length = u32::from_be_bytes(*header) as usize;
        match split(rest) {
            Ok(Split::Frame { body, used }) => {
                assert_eq!((body, used), (&rest[HEADER..HEADER + length], HEADER + length));
                if let Some(request) = recoded!(Request<'_>, body) {
                    assert_eq!(peek_id(body), request.id);
                }
                rest = &rest[used..];
            }
            Ok(Split::Partial { need }) => {
                assert!(length <= MAX_FRAME && need == HEADER + length && need > rest.len());
                break;
            }
            Err(error) => {
                assert!(length > MAX_FRAME);
                assert_eq!(error, WireError::Oversize { announced: u32::try_from(length).unwrap() });
                break;
            }
        }
    }
    if let Ok(Split::Frame { used, .. }) = split(stream) {
        for cut in 0..used {
            let wanted = if cut < HEADER { HEADER } else { used };
            assert_eq!(split(&stream[..cut]), Ok(Split::Partial { need: wanted }), "cut at {cut}");
        }
    }
}

/// A body on the service socket, either way: a hello, a request, a greeting, a reply.
pub fn service(body: &[u8]) {
    if let Some(request) = recoded!(Request<'_>, body) {
        assert_eq!(peek_id(body), request.id, "a refusal would carry another id");
    }
    recoded!(Hello<'_>, body);
    recoded!(Greeting, body);
    if let Some(reply) = recoded!(Reply, body) {
        assert_eq!(peek_id(body), reply.id);
    }
}

/// A body on the admin socket, either way.
pub fn admin(body: &[u8]) {
    if let Some(request) = recoded!(AdminRequest<'_>, body) {
        assert_eq!(peek_id(body), request.id, "a refusal would carry another id");
        // An operation that changes something is never what its neighbour's bytes say.
        if let AdminOp::Stage { kid } | AdminOp::Activate { kid } = request.op {
            assert!(body.windows(kid.len().max(1)).any(|window| window == kid.as_bytes()) || kid.is_empty());
        }
    }
    recoded!(AdminReply, body);
}

/// What the front reads from the signer: a greeting, then replies, as a stream.
pub fn link_front(stream: &[u8]) {
    let (bodies, _) = bodies(stream);
    for body in bodies {
        recoded!(LinkGreeting, body);
        let Some(LinkReply { id, result }) = recoded!(LinkReply, body) else { continue };
        assert_eq!(peek_id(body), id);
        if let LinkResult::Keys(keys) | LinkResult::Reinitialised(keys) = result {
            // Each key takes 35 bytes at least, so a list can't be longer than its frame bears out.
            assert!(keys.len() * 35 <= body.len(), "{} keys of {} bytes", keys.len(), body.len());
        }
    }
}

/// What is read, and what was written.
struct Both<'a>(Cursor<&'a [u8]>, Vec<u8>);

impl Read for Both<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out)
    }
}

impl Write for Both<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The ceremony socket on both sides: a request, and a response.
pub fn ceremony(stream: &[u8]) {
    let announced = stream.first_chunk::<HEADER>().map(|header| u32::from_be_bytes(*header) as usize);
    let mut at = Cursor::new(stream);
    match ceremony::read_request(&mut at) {
        Ok(request) => {
            assert!(announced.is_some_and(|length| length <= MAX_REQUEST));
            let frame_ends = HEADER + announced.unwrap_or(0);
            assert_eq!(at.position(), frame_ends as u64, "the PIN's frame begins where the request's ends");
            // The tool's own writing of the same request means the same.
            let mut call = Both(Cursor::new(&[]), Vec::new());
            assert!(matches!(ceremony::call(&mut call, &request, b"1234"), Err(MessageError::Link(_))));
            let mut sent = Cursor::new(call.1);
            assert_eq!(ceremony::read_request(&mut sent).unwrap(), request);
            assert_eq!(ceremony::read_length(&mut sent, 64, "PIN").unwrap(), 4);
        }
        Err(MessageError::TooLong { limit, .. }) => {
            assert!(announced.is_some_and(|length| length > limit && limit == MAX_REQUEST));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let request = ceremony::Request { plan: PlanKind::List, ..ceremony::Request::default() };
    match ceremony::call(Both(Cursor::new(stream), Vec::new()), &request, b"") {
        Ok(response) => {
            let mut frame = Vec::new();
            ceremony::write_response(&mut frame, &response).unwrap();
            let again = ceremony::call(Both(Cursor::new(&frame), Vec::new()), &request, b"").unwrap();
            assert_eq!(again, response);
        }
        Err(MessageError::TooLong { limit, .. }) => {
            assert!(announced.is_some_and(|length| length > limit && limit == MAX_RESPONSE));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
