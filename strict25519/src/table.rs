//! The comb table of one point: for each window its multiples, so that a scalar multiplication is additions only.

use std::sync::OnceLock;

use crate::field::Fe;
use crate::point::{Extended, Row, decompress};
use crate::scalar::Cut;

/// How wide the windows of a key's table are: the wider, the fewer additions, and the larger the table.
///
/// | bits | rows | KiB | additions per scalar |
/// |---|---|---|---|
/// | 4 | 575 | 54 | 63 |
/// | 5 | 855 | 80 | 51 |
/// | 6 | 1,418 | 133 | 42 |
/// | 7 | 2,404 | 225 | 36 |
/// | 8 | 4,016 | 377 | 32 |
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window(u8);

impl Window {
    /// 4 bits: half the speed, for thousands of keys.
    pub const NARROWEST: Self = Self(4);
    /// 8 bits: the fastest for a few keys.
    pub const WIDEST: Self = Self(8);

    /// Every width, the narrowest first.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> + Clone {
        (Self::NARROWEST.0..=Self::WIDEST.0).map(Self)
    }

    /// The widest of which `keys` tables fit into `bytes`, if any does.
    #[must_use]
    pub fn for_budget(keys: usize, bytes: usize) -> Option<Self> {
        Self::all().rev().find(|window| keys.checked_mul(window.table_bytes()).is_some_and(|all| all <= bytes))
    }

    /// How many bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0 as u32
    }

    /// Memory of one table, in bytes.
    #[must_use]
    pub fn table_bytes(self) -> usize {
        self.cut().rows() * size_of::<Row>()
    }

    pub(crate) const fn cut(self) -> Cut {
        Cut { bits: self.bits() }
    }
}

impl Cut {
    /// Rows of one full window: the multiples 0 to 2^(bits − 1).
    pub(crate) const fn stride(self) -> usize {
        self.largest() + 1
    }

    fn rows(self) -> usize {
        (self.windows() - 1) * self.stride() + self.largest_last() + 1
    }
}

/// A digit's magnitude as an index: at most 2^8.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a magnitude is at most 256")]
pub(crate) const fn index(magnitude: u64) -> usize {
    magnitude as usize
}

/// Rows of multiples of one point P: row w·stride + m is m·2^(w·bits)·P.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) window: Window,
    pub(crate) cut: Cut,
    pub(crate) rows: Box<[Row]>,
}

/// The encoding of the base point, y = 4/5 (RFC 8032 §5.1).
pub(crate) const BASE_POINT: [u8; 32] = {
    let mut encoding = [0x66; 32];
    encoding[0] = 0x58;
    encoding
};

/// The window of the base point's table.
pub(crate) const BASE_WINDOW: Window = Window(8);

/// The table of the base point; made at the first use, 1.5 ms.
pub(crate) fn base() -> &'static Table {
    static BASE: OnceLock<Table> = OnceLock::new();
    BASE.get_or_init(|| {
        // RFC 8032's own constant decodes; an empty table would make every signature fail.
        let (x, y) = decompress(&BASE_POINT).unwrap_or((Fe::ZERO, Fe::ONE));
        Table::new(x, y, BASE_WINDOW)
    })
}

impl Table {
    /// The table of −A, where A is the point that `key` encodes.
    pub(crate) fn of_negative(key: &[u8; 32], window: Window) -> Option<Self> {
        let (x, y) = decompress(key)?;
        Some(Self::new(x.negate(), y, window))
    }

    fn new(x: Fe, y: Fe, width: Window) -> Self {
        let cut = width.cut();
        let mut rows = Vec::with_capacity(cut.rows());
        let mut unit = Extended::from_affine(x, y);
        for window in 0..cut.windows() {
            let last = window + 1 == cut.windows();
            let largest = if last { cut.largest_last() } else { cut.largest() };
            let mut multiples = Vec::with_capacity(largest);
            let mut multiple = Extended::NEUTRAL;
            for _ in 0..largest {
                multiple = multiple.plus(unit);
                multiples.push(multiple);
            }
            rows.push(*Row::NEUTRAL);
            rows.extend(to_rows(&multiples));
            // Twice the largest multiple, 2^(bits − 1), is the next window's unit.
            unit = multiple.plus(multiple);
        }
        Self { window: width, cut, rows: rows.into_boxed_slice() }
    }
}

/// All points as rows, with one inversion for all of them (Montgomery's trick).
fn to_rows(points: &[Extended]) -> impl Iterator<Item = Row> {
    let mut product = Fe::ONE;
    let mut before = Vec::with_capacity(points.len());
    for point in points {
        before.push(product);
        product = product.times(point.z);
    }
    let mut inverse = product.invert();
    let mut rows: Vec<_> = points
        .iter()
        .zip(before)
        .rev()
        .map(|(point, before)| {
            let inverse_z = inverse.times(before);
            inverse = inverse.times(point.z);
            point.to_row(inverse_z)
        })
        .collect();
    rows.reverse();
    rows.into_iter()
}
