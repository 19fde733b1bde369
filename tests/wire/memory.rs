//! How much memory a decode takes, counted by an allocator of this test binary's own, per thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;

struct Counting;

thread_local! {
    /// Bytes in use since `peak` began, and the most there were. Constant, so that reading them allocates nothing.
    static USED: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

fn count(more: usize, less: usize) {
    // A thread that is ending has no counter any more, and nobody asks it.
    let counted = USED.try_with(|used| {
        let (now, peak) = used.get();
        let now = now.saturating_add(more);
        used.set((now.saturating_sub(less), peak.max(now)));
    });
    counted.unwrap_or_default();
}

// SAFETY: every call is handed on to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What `work` returns, and the most memory that this thread took for it beyond what it had.
pub(crate) fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    USED.with(|used| used.set((0, 0)));
    let value = work();
    (value, USED.with(|used| used.get().1))
}

#[test]
fn the_counter_counts() {
    assert_eq!(peak(|| drop(vec![0_u8; 10_000])).1, 10_000);
    assert_eq!(peak(|| ()).1, 0);
}

/// The bodies that make the most memory of their bytes: lists of empty strings (16 bytes of memory for one on the wire)
/// and of items whose every part is empty.
fn hungry() -> Vec<(&'static str, Vec<u8>)> {
    use super::generate::varint;
    use passportd::wire::MAX_FRAME;
    let start = |tag: u8| [&[1_u8, 1][..], &[0; 16], &[tag]].concat();
    let fill = |mut body: Vec<u8>, count: usize, item: &[u8]| {
        varint(u64::try_from(count).unwrap(), &mut body);
        for _ in 0..count {
            body.extend_from_slice(item);
        }
        body
    };
    let mut bodies = Vec::new();
    for count in [65_536, 87_381, 100_000, 131_072, 150_000] {
        // Verify { want { aud none, scopes […] }, … }: one list.
        bodies.push(("Request", fill([start(6), vec![0]].concat(), count, &[0])));
        bodies.push(("Reply", fill(vec![1, 1, 0, 2, 0, 0, 0], count, &[0])));
    }
    // IssueBatch of empty items, and of items with long lists of empty strings.
    for count in [7_489, 15_000, 40_000] {
        bodies.push(("Request", fill(start(5), count, &[0; 13])));
    }
    for per_item in [10, 100, 1_000, 10_000, 60_000] {
        let mut item = vec![0, 0];
        item = fill(item, per_item, &[0]);
        item.extend_from_slice(&[0; 10]);
        bodies.push(("Request", fill(start(5), MAX_FRAME / item.len(), &item)));
        // No more than the weight allows, so that it is read to its end: 8 for each string.
        bodies.push(("Request", fill(start(5), 250_000 / (per_item + 6), &item)));
    }
    // VerifyBatch of empty passports; WhoAmI with five lists.
    bodies.push(("Request", fill([start(7), vec![0, 0, 0]].concat(), 32_000, &[0; 5])));
    let mut identity = vec![1, 1, 0, 2, 0, 0, 0, 0, 0];
    for count in [80_000, 55_000, 35_000, 25_000] {
        identity = fill(identity, count, &[0]);
    }
    bodies.push(("Reply", identity));
    bodies
}

#[test]
fn no_body_takes_more_memory_than_documented() {
    let mut most = BTreeMap::new();
    for (kind, body) in hungry() {
        assert!(body.len() <= passportd::wire::MAX_FRAME + 64, "{}", body.len());
        // Only the decoding side: a value that is encoded again is paid for by its buffer.
        let (_, peak) = peak(|| match kind {
            "Request" => drop(passportd::wire::decode::<passportd::wire::Request<'_>>(&body)),
            _ => drop(passportd::wire::decode::<passportd::wire::Reply>(&body)),
        });
        most.entry(kind).and_modify(|most: &mut usize| *most = peak.max(*most)).or_insert(peak);
    }
    println!("the hungriest bodies take, in bytes: {most:?}");
    for (kind, most) in most {
        // The number that `wire::MAX_WEIGHT` documents, and no less, or the search is blunt.
        assert!((4_000_000..=4_700_000).contains(&most), "{kind}: {most} bytes");
    }
}
