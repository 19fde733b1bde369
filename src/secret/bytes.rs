//! A bounded buffer in pages of its own.

use super::SecretError;
use memmap2::{Advice, MmapMut};
use std::fmt;
use zeroize::Zeroize;

/// The largest secret that is ever held here: one page. PINs, seal keys and shared keys are far smaller.
pub const MAX_SECRET_BYTES: usize = 4096;

/// Secret bytes in anonymous pages of their own. Zeroised when dropped; never printed.
pub struct SecretBytes {
    pages: MmapMut,
    len: usize,
    locked: bool,
    hidden: bool,
}

impl SecretBytes {
    /// `len` zero bytes, at most [`MAX_SECRET_BYTES`], to be filled through [`SecretBytes::expose_mut`].
    ///
    /// # Errors
    /// [`SecretError::TooLong`], or [`SecretError::Memory`] when the kernel gives no page.
    pub fn zeroed(len: usize) -> Result<Self, SecretError> {
        if len > MAX_SECRET_BYTES {
            return Err(SecretError::TooLong { found: len, limit: MAX_SECRET_BYTES });
        }
        // A mapping of no bytes is an error (EINVAL), and the whole page is ours in any case.
        let pages = MmapMut::map_anon(MAX_SECRET_BYTES).map_err(SecretError::Memory)?;
        let locked = pages.lock().is_ok();
        // Both fail only where the kernel lacks them (before 3.4); the bytes are no worse off than in any heap then.
        let hidden = pages.advise(Advice::DontDump).is_ok() && pages.advise(Advice::DontFork).is_ok();
        Ok(Self { pages, len, locked, hidden })
    }

    /// Moves bytes in: `source` is zeroised, whether this succeeds or not.
    ///
    /// # Errors
    /// As [`SecretBytes::zeroed`].
    pub fn take(source: &mut [u8]) -> Result<Self, SecretError> {
        let made = Self::zeroed(source.len()).map(|mut made| {
            made.expose_mut().copy_from_slice(source);
            made
        });
        source.zeroize();
        made
    }

    /// The bytes, for the one call that needs them.
    pub fn expose(&self) -> &[u8] {
        self.pages.get(..self.len).unwrap_or_default()
    }

    /// The bytes, to be filled.
    pub fn expose_mut(&mut self) -> &mut [u8] {
        self.pages.get_mut(..self.len).unwrap_or_default()
    }

    /// Keeps the first `len` bytes and zeroises the rest. A `len` beyond the end changes nothing.
    pub fn truncate(&mut self, len: usize) {
        if let Some(rest) = self.pages.get_mut(len..self.len) {
            rest.zeroize();
            self.len = len;
        }
    }

    /// Whether the page is locked against being swapped out (`RLIMIT_MEMLOCK` may not allow it).
    pub const fn locked(&self) -> bool {
        self.locked
    }

    /// Whether the page is left out of cores and of forked children.
    pub const fn hidden(&self) -> bool {
        self.hidden
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        self.pages.zeroize();
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The length is withheld too: that of a PIN is a hint.
        f.write_str("SecretBytes(withheld)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_zeroised_and_the_copy_kept() {
        let mut source = *b"1234";
        let secret = SecretBytes::take(&mut source).unwrap();
        assert_eq!(secret.expose(), b"1234");
        assert_eq!(source, [0; 4]);
    }

    #[test]
    fn a_refused_source_is_zeroised_too() {
        let mut source = vec![7; MAX_SECRET_BYTES + 1];
        assert!(matches!(SecretBytes::take(&mut source), Err(SecretError::TooLong { found: 4097, limit: 4096 })));
        assert!(source.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn neither_content_nor_length_is_printed() {
        let shown = format!("{:?}", SecretBytes::take(&mut b"hunter2".to_vec()).unwrap());
        assert_eq!(shown, "SecretBytes(withheld)");
    }

    #[test]
    fn what_is_cut_off_is_zeroised() {
        let mut secret = SecretBytes::take(&mut b"12345678".to_vec()).unwrap();
        secret.truncate(4);
        assert_eq!(secret.expose(), b"1234");
        assert!(secret.pages.get(4..8).unwrap().iter().all(|byte| *byte == 0));
        secret.truncate(9);
        assert_eq!(secret.expose(), b"1234");
    }

    #[test]
    fn an_empty_secret_is_possible() {
        assert!(SecretBytes::zeroed(0).unwrap().expose().is_empty());
    }

    #[test]
    fn the_page_is_locked_and_left_out_of_cores() {
        let secret = SecretBytes::take(&mut b"look for me".to_vec()).unwrap();
        let start = format!("{:x}-", secret.expose().as_ptr().addr());
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let flags = smaps
            .lines()
            .skip_while(|line| !line.starts_with(&start))
            .find(|line| line.starts_with("VmFlags:"))
            .expect("neighbouring mappings have other flags, so the kernel keeps ours apart");
        assert!(secret.hidden() && flags.contains(" dd") && flags.contains(" dc"), "{flags}");
        assert_eq!(flags.contains(" lo"), secret.locked(), "{flags}");
    }
}
