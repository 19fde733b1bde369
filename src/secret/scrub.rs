//! Work with secrets that lie on the stack for a moment.

use std::hint::black_box;

/// How much of the stack is written over. Deriving a key goes some 10 KiB deep, the module included.
const SCRUBBED: usize = 32 << 10;

/// Does the work, and then writes over the stack that it has used. What a function holds by value is moved from frame to
/// frame, and no destructor sees the copies that stay behind; a hash keeps its input in a block of its own.
///
/// What the work returns alone lies outside, so it is one byte at most: the unused parts of a larger value carry along what
/// lay there before (a key did get out so, in those of an enum).
pub fn scrubbed<T>(work: impl FnOnce() -> T) -> T {
    const { assert!(size_of::<T>() <= 1, "it has room for what lay there before") };
    let made = apart(work);
    scrub();
    made
}

/// In a frame of its own, which begins where that of [`scrub`] does.
#[inline(never)]
fn apart<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

#[inline(never)]
fn scrub() {
    let mut stack = [0_u8; SCRUBBED];
    black_box(&mut stack);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    /// Leaves bytes on its stack, and says where.
    #[inline(never)]
    fn careless(value: u8) -> u64 {
        let mut left = [value; 256];
        black_box(&mut left);
        u64::try_from(left.as_ptr().addr()).unwrap()
    }

    #[test]
    fn what_the_work_leaves_on_the_stack_is_gone() {
        // Through the kernel, so that to look is to use little of the stack there.
        let memory = File::open("/proc/self/mem").unwrap();
        let mut seen = [0; 256];
        // In a row: to look is to use the stack all the same, and a byte of an address may be any.
        let mut left_at = |place: u64| {
            memory.read_at(&mut seen, place).unwrap();
            seen.windows(8).filter(|bytes| **bytes == [0xa7; 8]).count()
        };
        let place = careless(0xa7);
        assert!(left_at(place) > 64, "unscrubbed, it stays");
        let mut place = 0;
        scrubbed(|| place = careless(0xa7));
        assert_eq!(left_at(place), 0);
    }
}
