//! A buffer for bytes on their way, among which may be secrets: what leaves it is zeroised at once.

use super::SecretError;
use memmap2::{Advice, MmapMut};
use std::fmt;
use zeroize::Zeroize;

/// What an empty buffer keeps; more is given back.
const KEPT: usize = 128 << 10;
/// The smallest mapping: one page.
const LEAST: usize = 4 << 10;

/// Bytes in locked pages that are left out of cores and forks, growing up to a bound. Bytes go in at the end and out at
/// the start.
pub struct LockedBuf {
    pages: Option<MmapMut>,
    start: usize,
    end: usize,
    limit: usize,
}

impl LockedBuf {
    /// An empty buffer that holds `limit` bytes at most. It takes no memory until something is put in.
    pub const fn new(limit: usize) -> Self {
        Self { pages: None, start: 0, end: 0, limit }
    }

    /// A buffer that holds just these bytes.
    ///
    /// # Errors
    /// [`SecretError::Memory`].
    pub fn holding(bytes: &[u8]) -> Result<Self, SecretError> {
        let mut made = Self::new(bytes.len());
        made.append(bytes)?;
        Ok(made)
    }

    /// How many bytes are in it.
    pub const fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        self.pages.as_deref().and_then(|pages| pages.get(self.start..self.end)).unwrap_or_default()
    }

    /// The bytes, to be changed.
    pub fn expose_mut(&mut self) -> &mut [u8] {
        let (start, end) = (self.start, self.end);
        self.pages.as_deref_mut().and_then(|pages| pages.get_mut(start..end)).unwrap_or_default()
    }

    /// Puts bytes in at the end.
    ///
    /// # Errors
    /// [`SecretError::TooLong`] beyond the bound, and [`SecretError::Memory`]; nothing was put in then.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), SecretError> {
        if let Some(room) = self.room(bytes.len())?.get_mut(..bytes.len()) {
            room.copy_from_slice(bytes);
            self.end += bytes.len();
        }
        Ok(())
    }

    /// Room for `least` bytes and, where the mapping has it, more; [`LockedBuf::filled`] says how many were put there.
    ///
    /// # Errors
    /// As [`LockedBuf::append`].
    pub fn room(&mut self, least: usize) -> Result<&mut [u8], SecretError> {
        let wanted = self.len().saturating_add(least);
        if wanted > self.limit {
            return Err(SecretError::TooLong { found: wanted, limit: self.limit });
        }
        let size = self.pages.as_deref().map_or(0, <[u8]>::len);
        if wanted > size {
            self.grow(wanted.max(size.saturating_mul(2)).max(LEAST).min(self.limit.max(LEAST)))?;
        } else if self.end.saturating_add(least) > size {
            self.compact();
        }
        let (end, limit) = (self.end, self.start.saturating_add(self.limit));
        let pages = self.pages.as_deref_mut().unwrap_or_default();
        let last = pages.len().min(limit);
        Ok(pages.get_mut(end..last).unwrap_or_default())
    }

    /// Counts in what was put into [`LockedBuf::room`].
    pub fn filled(&mut self, bytes: usize) {
        let size = self.pages.as_deref().map_or(0, <[u8]>::len);
        self.end = self.end.saturating_add(bytes).min(size);
    }

    /// Takes bytes out at the start; they are zeroised.
    pub fn consume(&mut self, bytes: usize) {
        let until = self.start.saturating_add(bytes).min(self.end);
        self.wipe(self.start, until);
        self.start = until;
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
            if self.pages.as_deref().is_some_and(|pages| pages.len() > KEPT) {
                // Everything in it has been zeroised.
                self.pages = None;
            }
        }
    }

    /// Keeps the first `len` bytes and zeroises the rest.
    pub fn truncate(&mut self, len: usize) {
        let until = self.start.saturating_add(len).min(self.end);
        self.wipe(until, self.end);
        self.end = until;
    }

    fn wipe(&mut self, from: usize, to: usize) {
        if let Some(bytes) = self.pages.as_deref_mut().and_then(|pages| pages.get_mut(from..to)) {
            bytes.zeroize();
        }
    }

    /// Moves the bytes to the front, and zeroises where they were.
    fn compact(&mut self) {
        let (len, end) = (self.len(), self.end);
        if let Some(pages) = self.pages.as_deref_mut() {
            pages.copy_within(self.start..end, 0);
        }
        self.wipe(len, end);
        (self.start, self.end) = (0, len);
    }

    fn grow(&mut self, size: usize) -> Result<(), SecretError> {
        let mut pages = MmapMut::map_anon(size).map_err(SecretError::Memory)?;
        // As for `SecretBytes`: where the limit on locked memory is spent, the bytes are no worse off than in any heap.
        let _locked = pages.lock().is_ok();
        let _hidden = pages.advise(Advice::DontDump).is_ok() && pages.advise(Advice::DontFork).is_ok();
        let len = self.len();
        if let Some(to) = pages.get_mut(..len) {
            to.copy_from_slice(self.expose());
        }
        self.wipe(self.start, self.end);
        self.pages = Some(pages);
        (self.start, self.end) = (0, len);
        Ok(())
    }
}

impl Drop for LockedBuf {
    fn drop(&mut self) {
        self.wipe(self.start, self.end);
    }
}

impl fmt::Debug for LockedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockedBuf({} bytes withheld)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything in the mapping but the bytes themselves is zero.
    fn clean(buffer: &LockedBuf) -> bool {
        let pages = buffer.pages.as_deref().unwrap_or_default();
        let (before, after) = (&pages[..buffer.start], &pages[buffer.end..]);
        before.iter().chain(after).all(|byte| *byte == 0)
    }

    #[test]
    fn bytes_leave_in_the_order_in_which_they_came_and_leave_nothing_behind() {
        let mut buffer = LockedBuf::new(1 << 20);
        let mut model: Vec<u8> = Vec::new();
        let sizes = [1, 4000, 100, 5000, 0, 70_000, 3, 9000, 130_000, 2];
        for (n, size) in sizes.into_iter().cycle().take(100).enumerate() {
            let bytes = vec![u8::try_from(n % 255).unwrap() + 1; size];
            if model.len() + size <= 1 << 20 {
                buffer.append(&bytes).unwrap();
                model.extend_from_slice(&bytes);
            }
            let out = (n * 7919) % (model.len() + 1);
            buffer.consume(out);
            model.drain(..out);
            assert_eq!((buffer.expose(), buffer.len()), (model.as_slice(), model.len()), "{n}");
            assert!(clean(&buffer), "{n}");
        }
        buffer.consume(usize::MAX);
        assert!(buffer.is_empty() && buffer.pages.as_deref().is_none_or(|pages| pages.len() <= KEPT));
    }

    #[test]
    fn so_many_bytes_and_one_more() {
        let mut buffer = LockedBuf::new(5000);
        buffer.append(&[1; 5000]).unwrap();
        assert!(matches!(buffer.append(&[2]), Err(SecretError::TooLong { found: 5001, limit: 5000 })));
        buffer.consume(1);
        buffer.append(&[2]).unwrap();
        assert_eq!((buffer.len(), buffer.expose().last()), (5000, Some(&2)));
        assert!(buffer.room(0).unwrap().is_empty());
    }

    #[test]
    fn what_is_filled_in_or_cut_off_counts() {
        let mut buffer = LockedBuf::new(8192);
        let room = buffer.room(10).unwrap();
        assert!(room.len() >= 10);
        room[..4].copy_from_slice(b"abcd");
        buffer.filled(4);
        assert_eq!(buffer.expose(), b"abcd");
        buffer.truncate(2);
        assert_eq!(buffer.expose(), b"ab");
        assert!(clean(&buffer));
        assert_eq!(format!("{buffer:?}"), "LockedBuf(2 bytes withheld)");
        assert_eq!(LockedBuf::holding(b"xyz").unwrap().expose(), b"xyz");
        assert!(LockedBuf::holding(b"").unwrap().is_empty());
    }
}
