//! The input of a connection: whatever the cuts in which a stream arrives, its frames are those of the whole.

use passportd::server::fuzzing::{Found, arrive};
use passportd::service::shares::Bounds;
use passportd::wire::frame::{Split, split};
use passportd::wire::{MAX_FRAME, Request, ServiceOp, WIRE_VERSION, WireError, encode_frame, peek_id};

use super::script::Script;

/// Bytes of one case: a few of the largest frames, and a read takes 64 KiB.
const MAX_STREAM: usize = 3 << 20;

/// Bytes of a body from which the id of its request can be read: the wire version and the longest varint.
const PEEK: usize = 1 + 9;

/// Builds a stream of frames and of raw bytes.
fn stream(script: &mut Script<'_>) -> Vec<u8> {
    let mut stream = Vec::new();
    for _ in 0..script.byte() % 32 {
        if stream.len() > MAX_STREAM - MAX_FRAME {
            break;
        }
        match script.byte() % 5 {
            0 | 1 => {
                let id = u64::from(script.word());
                encode_frame(&Request { id, corr_id: [0; 16], op: ServiceOp::Ping }, &mut stream).unwrap();
            }
            2 => body(script.short(), script, &mut stream),
            3 => match script.byte() % 8 {
                // Large, up to a little more than there may be.
                0 => body((script.short() << 4) | usize::from(script.byte() % 32), script, &mut stream),
                _ => stream.extend_from_slice(&(u32::try_from(MAX_FRAME).unwrap() + script.word() % 3).to_be_bytes()),
            },
            _ => {
                let length = usize::from(script.byte());
                stream.extend_from_slice(script.bytes(length));
            }
        }
    }
    stream
}

/// A frame of a body of `length` bytes, which starts as a request does.
fn body(length: usize, script: &mut Script<'_>, stream: &mut Vec<u8>) {
    stream.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
    let begin = [&[WIRE_VERSION, 252][..], &script.word().to_le_bytes()].concat();
    stream.extend((0..length).map(|at| begin.get(at).copied().unwrap_or_default()));
}

/// Cuts it: the sizes of the parts are numbers of the script, of which the last is used for the rest.
fn cut<'a>(script: &mut Script<'_>, mut stream: &'a [u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    let sizes: Vec<usize> = (0..script.byte() % 16).map(|_| script.short()).collect();
    // Many tiny parts of megabytes would only be slow.
    let rest = sizes.last().copied().unwrap_or(usize::MAX).max(stream.len() / 4096 + 1);
    for size in sizes.into_iter().map(|size| size.max(1)).chain(std::iter::repeat(rest)) {
        if stream.is_empty() {
            break;
        }
        let (part, left) = stream.split_at(size.min(stream.len()));
        parts.push(part);
        stream = left;
    }
    parts
}

/// The bodies of the whole stream, the bytes after them, and what broke the framing.
fn whole(stream: &[u8]) -> (Vec<&[u8]>, usize, Option<WireError>) {
    let (mut bodies, mut rest) = (Vec::new(), stream);
    loop {
        match split(rest) {
            Ok(Split::Frame { body, used }) => {
                bodies.push(body);
                rest = &rest[used..];
            }
            Ok(Split::Partial { .. }) => return (bodies, rest.len(), None),
            Err(error) => return (bodies, rest.len(), Some(error)),
        }
    }
}

/// See the module. With a budget for everything, every frame is found; with little, a frame that does not arrive whole
/// may be skipped instead, under the id of its request. In the end nothing is kept of the budget.
pub fn input(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let budget = match script.byte() % 4 {
        0 => 0,
        1 => script.short(),
        _ => usize::MAX,
    };
    let stream = stream(&mut script);
    let parts = cut(&mut script, &stream);
    let (bodies, left, broken) = whole(&stream);
    let bounds = Bounds { connections: 8, connections_per_uid: 8, bytes: budget, bytes_per_uid: budget };
    let arrived = arrive(&parts, bounds);
    assert_eq!(arrived.broken, broken);
    // A frame that is being skipped is reported before its last byte is there.
    let begun = usize::from(budget < usize::MAX && left > 0 && broken.is_none());
    assert!((bodies.len()..=bodies.len() + begun).contains(&arrived.found.len()), "{} frames", arrived.found.len());
    let tail = &stream[stream.len() - left..];
    let tail = tail.get(4..).unwrap_or_default();
    for (found, body) in arrived.found.iter().zip(bodies.iter().copied().chain([tail])) {
        match found {
            Found::Frame(frame) => assert_eq!(frame, body),
            Found::Skipped(id) => {
                assert!(budget < usize::MAX, "a frame was skipped although there was room");
                assert_eq!(*id, peek_id(&body[..body.len().min(PEEK)]), "skipped under another id");
            }
        }
    }
    assert!(arrived.held <= budget.min(MAX_FRAME + 4), "{} bytes are held", arrived.held);
    if left == 0 {
        assert_eq!((arrived.held, arrived.partial), (0, false), "everything is given back");
    }
}
