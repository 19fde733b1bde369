//! Finding frames in bytes that have arrived. Pure: the caller owns the buffer and the socket.

use super::{HEADER, MAX_FRAME, WireError};

/// What the start of a buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split<'a> {
    /// A complete body, and how many bytes of the buffer it used with its header.
    Frame {
        /// The body: one byte of wire version, then the message.
        body: &'a [u8],
        /// Bytes to drop from the front of the buffer.
        used: usize,
    },
    /// The frame is not complete: its full size with the header, or `HEADER` while even that is unknown.
    Partial {
        /// Bytes that the buffer must hold before the frame can be read.
        need: usize,
    },
}

/// Looks at the first frame in `buffer`.
///
/// # Errors
/// [`WireError::Oversize`] when the header announces more than [`MAX_FRAME`]; the stream can't be trusted after it.
pub fn split(buffer: &[u8]) -> Result<Split<'_>, WireError> {
    let Some((header, rest)) = buffer.split_first_chunk::<HEADER>() else {
        return Ok(Split::Partial { need: HEADER });
    };
    let announced = u32::from_be_bytes(*header);
    let length = usize::try_from(announced).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        return Err(WireError::Oversize { announced });
    }
    match rest.get(..length) {
        Some(body) => Ok(Split::Frame { body, used: HEADER + length }),
        None => Ok(Split::Partial { need: HEADER + length }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_found_whole_and_only_whole() {
        let bytes = [0, 0, 0, 2, 1, 9, 0, 0];
        for n in 0..4 {
            assert_eq!(split(&bytes[..n]).unwrap(), Split::Partial { need: 4 });
        }
        for n in 4..6 {
            assert_eq!(split(&bytes[..n]).unwrap(), Split::Partial { need: 6 });
        }
        assert_eq!(split(&bytes).unwrap(), Split::Frame { body: &[1, 9], used: 6 });
    }

    #[test]
    fn the_length_is_judged_before_a_byte_of_the_body_is_there() {
        assert!(matches!(split(&[0, 0x10, 0, 0]), Ok(Split::Partial { need }) if need == MAX_FRAME + HEADER));
        assert!(matches!(split(&[0, 0x10, 0, 1]), Err(WireError::Oversize { announced: 1_048_577 })));
        assert!(matches!(split(&[0xff; 4]), Err(WireError::Oversize { .. })));
    }
}
