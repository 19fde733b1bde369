//! Bytes read as instructions, so that what libFuzzer mutates is the shape of a file or a stream and not its checksums.

/// What is left of the input. Past its end everything is zero.
pub(super) struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    /// From the first byte.
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether nothing is left.
    pub(super) const fn done(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub(super) fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().map_or((0, self.0), |(first, rest)| (*first, rest));
        self.0 = rest;
        first
    }

    /// The next two bytes as a number.
    pub(super) fn short(&mut self) -> usize {
        usize::from(u16::from_be_bytes([self.byte(), self.byte()]))
    }

    /// The next four bytes as a number.
    pub(super) fn word(&mut self) -> u32 {
        u32::from_be_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    /// The next `count` bytes, or as many as are left.
    pub(super) fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Up to 31 bytes as text; what is not UTF-8 is replaced.
    pub(super) fn text(&mut self) -> String {
        let length = usize::from(self.byte() % 32);
        String::from_utf8_lossy(self.bytes(length)).into_owned()
    }
}
