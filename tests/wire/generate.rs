//! Arbitrary well-formed bodies, written by an encoder of its own from the declared types: a third opinion beside
//! bincode and wincode.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::schema::{Declared, Shape, Type, all};

/// A body of message type `kind`, as the bytes of `entropy` will have it; with none left, everything is 0 or empty, so
/// that shorter entropy means simpler messages and proptest can shrink.
pub(crate) struct Generator {
    types: BTreeMap<String, Declared>,
}

struct Draw<'a> {
    entropy: &'a [u8],
    out: Vec<u8>,
}

const EDGES: [u64; 11] =
    [0, 1, 250, 251, 255, 65_535, 65_536, 0x7fff_ffff, 0xffff_ffff, 0x1_0000_0000, 0x7fff_ffff_ffff_ffff];
const LETTERS: [char; 6] = ['a', '/', '\0', 'é', '€', '😀'];

impl Generator {
    pub(crate) fn new() -> Self {
        Self { types: all() }
    }

    pub(crate) fn body(&self, kind: &str, entropy: &[u8]) -> Vec<u8> {
        let mut draw = Draw { entropy, out: vec![1] };
        self.named(kind, &mut draw);
        draw.out
    }

    fn named(&self, name: &str, draw: &mut Draw<'_>) {
        let fields = match &self.types[name].shape {
            Shape::Struct(fields) => fields,
            Shape::Enum(variants) => {
                let tag = usize::from(draw.byte()) % variants.len();
                varint(u64::try_from(tag).unwrap(), &mut draw.out);
                &variants[tag].fields
            }
        };
        fields.iter().for_each(|field| self.value(&field.of, draw));
    }

    fn value(&self, of: &Type, draw: &mut Draw<'_>) {
        match of {
            Type::U8 => draw.raw(1),
            Type::Bool => {
                let bit = draw.byte() & 1;
                draw.out.push(bit);
            }
            Type::Number(_, width) => {
                let number = draw.number() & (u64::MAX >> (64 - 8 * width));
                varint(number, &mut draw.out);
            }
            Type::Str => {
                let n = draw.length(300);
                let text: String = (0..n).map(|_| LETTERS[usize::from(draw.byte()) % LETTERS.len()]).collect();
                varint(u64::try_from(text.len()).unwrap(), &mut draw.out);
                draw.out.extend_from_slice(text.as_bytes());
            }
            Type::Bytes => {
                let n = draw.length(300);
                varint(u64::try_from(n).unwrap(), &mut draw.out);
                draw.raw(n);
            }
            Type::Array(n) => draw.raw(*n),
            Type::Option(inner) => {
                let present = draw.byte() & 1;
                draw.out.push(present);
                if present == 1 {
                    self.value(inner, draw);
                }
            }
            Type::List(inner) => {
                let n = draw.length(4);
                varint(u64::try_from(n).unwrap(), &mut draw.out);
                (0..n).for_each(|_| self.value(inner, draw));
            }
            Type::Result(ok, err) => {
                let tag = draw.byte() & 1;
                draw.out.push(tag);
                self.value(if tag == 0 { ok } else { err }, draw);
            }
            Type::Named(name) => self.named(name, draw),
        }
    }
}

impl Draw<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.entropy.split_first() else { return 0 };
        self.entropy = rest;
        *first
    }

    fn raw(&mut self, n: usize) {
        for _ in 0..n {
            let byte = self.byte();
            self.out.push(byte);
        }
    }

    /// An edge in two cases of three, anything in the third.
    fn number(&mut self) -> u64 {
        let choice = usize::from(self.byte());
        match EDGES.get(choice / 15) {
            Some(edge) if choice % 3 != 2 => *edge,
            _ => u64::from_le_bytes(std::array::from_fn(|_| self.byte())),
        }
    }

    /// Mostly short; now and then `long`, which needs more than one byte of length.
    fn length(&mut self, long: usize) -> usize {
        let choice = usize::from(self.byte());
        if choice >= 250 { long } else { choice % 5 }
    }
}

/// The one spelling of `number`.
pub(crate) fn varint(number: u64, out: &mut Vec<u8>) {
    let bytes = number.to_le_bytes();
    let (marker, width) = match number {
        0..=250 => return out.push(bytes[0]),
        251..=0xffff => (251, 2),
        0x1_0000..=0xffff_ffff => (252, 4),
        _ => (253, 8),
    };
    out.push(marker);
    out.extend_from_slice(&bytes[..width]);
}

/// A kind of message, and a well-formed body of it.
pub(crate) fn messages() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    let generator = Generator::new();
    (prop::sample::select(&super::samples::KINDS[..]), prop::collection::vec(any::<u8>(), 0..512))
        .prop_map(move |(kind, entropy)| (kind, generator.body(kind, &entropy)))
}
