//! Connecting, and how long to wait before it is tried again.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;

/// The longest pause before connecting again; the first is a sixteenth of it.
pub(super) const MAX_PAUSE: Duration = Duration::from_millis(800);

/// Half to all of a doubling pause, so that many clients of a restarted daemon do not come back in step.
pub(super) fn pause(failures: u32) -> Duration {
    let full = (MAX_PAUSE / 16).saturating_mul(1 << failures.min(4)).min(MAX_PAUSE);
    let mut byte = [0];
    let share = if getrandom::fill(&mut byte).is_ok() { u32::from(byte[0]) } else { 128 };
    full / 2 + full.saturating_mul(share) / 512
}

/// Connects, for as long as the caller waits. A daemon whose queue of connections is full is there, and will come to ours:
/// on a Unix socket that is EAGAIN, where the caller does not block (connect(2)).
pub(crate) async fn dial(socket: &Path) -> io::Result<UnixStream> {
    let mut failures = 0;
    loop {
        match UnixStream::connect(socket).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(pause(failures) / 16).await;
                failures += 1;
            }
            connected => return connected,
        }
    }
}
