//! Plaintext on the wire: the same bytes as `bytes`, but never printed, and the owned form is zeroised when it is dropped.

use std::fmt;

use bincode::de::{BorrowDecoder, Decoder};
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{BorrowDecode, Decode, Encode};
use zeroize::Zeroizing;

/// Plaintext in somebody else's buffer, who zeroises it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Plain<'a>(pub &'a [u8]);

/// Plaintext of one's own.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PlainBuf(pub Zeroizing<Vec<u8>>);

impl From<Vec<u8>> for PlainBuf {
    fn from(plain: Vec<u8>) -> Self {
        Self(Zeroizing::new(plain))
    }
}

impl Encode for Plain<'_> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.encode(encoder)
    }
}

impl<'a, C> BorrowDecode<'a, C> for Plain<'a> {
    fn borrow_decode<D: BorrowDecoder<'a, Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        BorrowDecode::borrow_decode(decoder).map(Self)
    }
}

impl Encode for PlainBuf {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.as_slice().encode(encoder)
    }
}

impl<C> Decode<C> for PlainBuf {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        // One allocation, of the announced length: nothing is left behind by growing.
        Vec::<u8>::decode(decoder).map(Self::from)
    }
}

impl<'a, C> BorrowDecode<'a, C> for PlainBuf {
    fn borrow_decode<D: BorrowDecoder<'a, Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

impl fmt::Debug for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plain(withheld)")
    }
}

impl fmt::Debug for PlainBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plain(withheld)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{HEADER, decode, encode_frame};

    #[test]
    fn it_is_bytes_on_the_wire_and_nothing_in_words() {
        let (mut as_bytes, mut as_plain) = (Vec::new(), Vec::new());
        encode_frame(&b"hunter2".as_slice(), &mut as_bytes).unwrap();
        encode_frame(&Plain(b"hunter2"), &mut as_plain).unwrap();
        assert_eq!(as_plain, as_bytes);
        let borrowed: Plain<'_> = decode(&as_plain[HEADER..]).unwrap();
        let owned: PlainBuf = decode(&as_plain[HEADER..]).unwrap();
        assert_eq!((borrowed.0, owned.0.as_slice()), (b"hunter2".as_slice(), b"hunter2".as_slice()));
        assert_eq!(format!("{borrowed:?}{owned:?}"), "Plain(withheld)Plain(withheld)");
    }
}
