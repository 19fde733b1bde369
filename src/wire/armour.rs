//! bincode, made fit for bytes from strangers.
//!
//! Measured on bincode 2.0.1: without a limit a nine-byte length aborts the process; it accepts trailing bytes and
//! varints longer than needed; recursive types overflow the stack; a vector of empty elements burns seconds. Hence: a
//! limit on every decode, no recursive type and no vector of empty elements in this room, and a value counts as decoded
//! only if it encodes to exactly the bytes that it came from. That last rule refuses trailing bytes, overlong varints
//! and every other second spelling at once, whatever types are added later.

use bincode::config::{Configuration, Limit, standard};
use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use bincode::{BorrowDecode, Encode};
use zeroize::Zeroizing;

use super::{HEADER, MAX_FRAME, WIRE_VERSION};
#[cfg(feature = "daemon")]
use crate::secret::LockedBuf;

/// What is wrong with bytes on the wire. All but `Reply` are the peer's fault.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum WireError {
    /// The header announces a body over [`MAX_FRAME`].
    #[error("the frame announces {announced} bytes; the limit max_frame is {MAX_FRAME}")]
    Oversize {
        /// The size in the header.
        announced: u32,
    },
    /// A frame without a body.
    #[error("the frame is empty; a body starts with the wire version {WIRE_VERSION}")]
    Empty,
    /// A body of another wire version.
    #[error("wire version {0} is not spoken here; this is version {WIRE_VERSION}")]
    Version(u8),
    /// The body is not a message of this socket.
    #[error("the body is not a message of this socket")]
    Malformed,
    /// The body decodes, but not every byte of it is in its shortest, only form.
    #[error("the body has trailing bytes or an overlong number")]
    NotCanonical,
    /// A message of ours does not fit a frame.
    #[error("the message takes {size} bytes; the limit max_frame is {MAX_FRAME}")]
    Reply {
        /// Its size.
        size: usize,
    },
}

/// The first bytes of a buffer that is zeroised.
const LEAST: usize = 256;

/// What the parts of one message may weigh together while it is decoded.
///
/// bincode counts a number by the width of its type, not by its bytes on the wire (8 for each length), and a list by
/// the memory of its items until they are read. A body of `MAX_FRAME` therefore weighs more than `MAX_FRAME`; with twice
/// that, every message within the limits of a `Welcome` passes. It bounds memory too: the hungriest bodies found, lists
/// of empty strings, take 3.9 MiB as a request and 4.5 MiB as a reply (`tests/wire/memory.rs`).
pub const MAX_WEIGHT: usize = 2 * MAX_FRAME;

type Config = Configuration<bincode::config::LittleEndian, bincode::config::Varint, Limit<MAX_WEIGHT>>;

const fn config() -> Config {
    standard().with_limit::<MAX_WEIGHT>()
}

/// Decodes a body: wire version, then exactly one `T`, borrowing text and bytes from the body.
///
/// # Errors
/// A [`WireError`] that is the peer's fault; [`MAX_WEIGHT`] bounds what was allocated.
pub fn decode<'a, T>(body: &'a [u8]) -> Result<T, WireError>
where
    T: BorrowDecode<'a, ()> + Encode,
{
    let message = message(body)?;
    let (value, used) =
        bincode::borrow_decode_from_slice::<T, _>(message, config()).map_err(|_| WireError::Malformed)?;
    if used != message.len() {
        return Err(WireError::NotCanonical);
    }
    bincode::encode_into_writer(&value, Same { rest: message }, config()).map_err(|_| WireError::NotCanonical)?;
    Ok(value)
}

fn message(body: &[u8]) -> Result<&[u8], WireError> {
    match body.split_first() {
        None => Err(WireError::Empty),
        Some((&WIRE_VERSION, message)) => Ok(message),
        Some((&other, _)) => Err(WireError::Version(other)),
    }
}

/// Appends `value` to `out` as one frame. On error `out` is as it was.
///
/// # Errors
/// [`WireError::Reply`] when the body would be larger than [`MAX_FRAME`].
pub fn encode_frame<T: Encode>(value: &T, out: &mut impl Frames) -> Result<(), WireError> {
    let start = out.size();
    // Encoding itself can't fail: no type of this room refuses to be encoded. The buffer may have its bound.
    let encoded = out
        .put(&[0, 0, 0, 0, WIRE_VERSION])
        .and_then(|()| bincode::encode_into_writer(value, Append { out: &mut *out }, standard()));
    let size = out.size().saturating_sub(start + HEADER);
    match (encoded, u32::try_from(size), out.header(start)) {
        (Ok(()), Ok(length), Some(header)) if size <= MAX_FRAME => {
            *header = length.to_be_bytes();
            Ok(())
        }
        _ => {
            out.cut(start);
            Err(WireError::Reply { size })
        }
    }
}

/// What frames are written into.
pub trait Frames {
    /// How many bytes are in it.
    fn size(&self) -> usize;
    /// Puts bytes behind them.
    ///
    /// # Errors
    /// Where the buffer takes no more.
    fn put(&mut self, bytes: &[u8]) -> Result<(), EncodeError>;
    /// Takes away all but the first so many.
    fn cut(&mut self, size: usize);
    /// The header of the frame that begins there.
    fn header(&mut self, at: usize) -> Option<&mut [u8; HEADER]>;
}

impl Frames for Vec<u8> {
    fn size(&self) -> usize {
        self.len()
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn cut(&mut self, size: usize) {
        self.truncate(size);
    }

    fn header(&mut self, at: usize) -> Option<&mut [u8; HEADER]> {
        self.get_mut(at..)?.first_chunk_mut()
    }
}

impl Frames for Zeroizing<Vec<u8>> {
    fn size(&self) -> usize {
        self.len()
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        if self.capacity() - self.len() < bytes.len() {
            // By hand: a Vec that grows by itself leaves its bytes behind.
            let room = self.capacity().saturating_mul(2).max(self.len() + bytes.len()).max(LEAST);
            let mut larger = Self::new(Vec::with_capacity(room));
            larger.extend_from_slice(self);
            *self = larger;
        }
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn cut(&mut self, size: usize) {
        self.truncate(size);
    }

    fn header(&mut self, at: usize) -> Option<&mut [u8; HEADER]> {
        self.get_mut(at..)?.first_chunk_mut()
    }
}

#[cfg(feature = "daemon")]
impl Frames for LockedBuf {
    fn size(&self) -> usize {
        self.len()
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.append(bytes).map_err(|_| EncodeError::Other("the buffer is full"))
    }

    fn cut(&mut self, size: usize) {
        self.truncate(size);
    }

    fn header(&mut self, at: usize) -> Option<&mut [u8; HEADER]> {
        self.expose_mut().get_mut(at..)?.first_chunk_mut()
    }
}

/// The id of a request whose body need not be complete or well-formed, so that a refusal can carry it; 0 if even the id
/// can't be read. Every request starts with its id, a varint.
pub fn peek_id(body: &[u8]) -> u64 {
    let Ok(message) = message(body) else { return 0 };
    bincode::decode_from_slice::<u64, _>(message, config()).map_or(0, |(id, _)| id)
}

/// Compares what is encoded with what was received, instead of storing it.
struct Same<'a> {
    rest: &'a [u8],
}

impl Writer for Same<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.rest = self.rest.strip_prefix(bytes).ok_or(EncodeError::Other("differs"))?;
        Ok(())
    }
}

struct Append<'a, F> {
    out: &'a mut F,
}

impl<F: Frames> Writer for Append<'_, F> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.out.put(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Request, ServiceOp};

    fn body(value: &impl Encode) -> Vec<u8> {
        let mut out = Vec::new();
        encode_frame(value, &mut out).unwrap();
        out.split_off(HEADER)
    }

    fn keys(etag: Option<[u8; 32]>) -> Request<'static> {
        Request { id: 7, corr_id: [3; 16], op: ServiceOp::Keys { if_etag: etag } }
    }

    #[test]
    fn a_message_comes_back_as_it_went() {
        let sent = keys(Some([9; 32]));
        assert_eq!(decode::<Request<'_>>(&body(&sent)).unwrap(), sent);
    }

    #[test]
    fn every_cut_and_every_extra_byte_is_refused() {
        let whole = body(&keys(Some([9; 32])));
        for n in 1..whole.len() {
            assert_eq!(decode::<Request<'_>>(&whole[..n]).unwrap_err(), WireError::Malformed, "cut at {n}");
        }
        let mut longer = whole;
        longer.push(0);
        assert_eq!(decode::<Request<'_>>(&longer).unwrap_err(), WireError::NotCanonical);
    }

    #[test]
    fn a_number_has_one_spelling() {
        let mut overlong = vec![WIRE_VERSION, 251, 7, 0];
        overlong.extend_from_slice(body(&keys(None)).get(2..).unwrap());
        assert_eq!(decode::<Request<'_>>(&overlong).unwrap_err(), WireError::NotCanonical);
        assert_eq!(peek_id(&overlong), 7);
    }

    #[test]
    fn a_length_bomb_allocates_nothing() {
        // VerifyBatch with 2^64 - 1 items: version, id, corr_id, tag, no aud, no scopes, count.
        let mut bomb = vec![WIRE_VERSION, 1];
        bomb.extend_from_slice(&[0; 16]);
        bomb.extend_from_slice(&[7, 0, 0, 253]);
        bomb.extend_from_slice(&[0xff; 8]);
        assert_eq!(decode::<Request<'_>>(&bomb).unwrap_err(), WireError::Malformed);
    }

    #[test]
    fn other_versions_and_empty_bodies_are_named() {
        assert_eq!(decode::<Request<'_>>(&[]).unwrap_err(), WireError::Empty);
        assert_eq!(decode::<Request<'_>>(&[2, 0]).unwrap_err(), WireError::Version(2));
    }

    #[test]
    fn a_reply_that_does_not_fit_leaves_the_buffer_alone() {
        let mut out = vec![1, 2, 3];
        let too_long = vec![0_u8; MAX_FRAME];
        assert!(matches!(encode_frame(&too_long, &mut out), Err(WireError::Reply { .. })));
        assert_eq!(out, [1, 2, 3]);
    }

    #[cfg(feature = "daemon")]
    #[test]
    fn every_buffer_gets_the_same_frames() {
        let (mut plain, mut zeroised, mut locked) = (Vec::new(), Zeroizing::new(Vec::new()), LockedBuf::new(1 << 20));
        for length in [0, 1, 300, 5000, 70_000] {
            let value = vec![7_u8; length];
            encode_frame(&value, &mut plain).unwrap();
            encode_frame(&value, &mut zeroised).unwrap();
            encode_frame(&value, &mut locked).unwrap();
        }
        assert_eq!((zeroised.as_slice(), locked.expose()), (plain.as_slice(), plain.as_slice()));
        let mut small = LockedBuf::new(20);
        encode_frame(&[1_u8; 3], &mut small).unwrap();
        let before = small.expose().to_vec();
        assert!(encode_frame(&[1_u8; 30], &mut small).is_err());
        assert_eq!(small.expose(), before);
    }
}
