//! Waiting that ends: a disk that hangs in `fdatasync` answers nobody, and no thread may wait on it for ever.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// Between looks at whether a thread has ended. The standard library's `join` has no time limit.
const LOOK: Duration = Duration::from_millis(2);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Blocks the thread until `future` is done, but not beyond `until`. For threads outside a runtime.
pub(super) fn block_until<T>(future: impl Future<Output = T>, until: Instant) -> Option<T> {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(done);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(left);
    }
}

/// Tells a thread to end (`tell` is called again while it returns `false`), and waits for it, but not beyond `until`.
/// Whether it has ended; if not, it is left to the end of the process.
pub fn end_thread(thread: JoinHandle<()>, mut tell: impl FnMut() -> bool, until: Instant) -> bool {
    let mut told = false;
    while !thread.is_finished() {
        told = told || tell();
        if Instant::now() >= until {
            return false;
        }
        thread::sleep(LOOK);
    }
    // An error says that it panicked: it has ended all the same.
    drop(thread.join());
    true
}
