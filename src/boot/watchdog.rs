//! The front's sign of life, which it gives only for work that gets done.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::lifecycle::{Daemon, watchdog_every};

/// A timer of the services' runtime: it fires only if that runtime's loop looks at its timers.
const TICK: Duration = Duration::from_millis(1);

/// How often a ledger that has not answered is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Tells the service manager that the front makes progress, as often as it asks for; for ever, and at once where nobody
/// watches. To be run by the admins' runtime: then each sign says that the admins' loop turns, that the services' loop does,
/// and that the ledger's thread has settled what was handed to it before, or is known to wait for a disk that can't be
/// written or does not answer: a new front would wait for the same disk, and this one goes on verifying.
pub(super) async fn watchdog(daemon: Arc<Daemon>, services: Handle) {
    let Some(every) = watchdog_every() else { return };
    let turns = || async {
        let turned = services.spawn(tokio::time::sleep(TICK)).await;
        turned.is_ok() && settled(daemon.audit.turn(), || !daemon.audit.healthy()).await
    };
    signs(every, turns, || daemon.manager.alive()).await;
}

/// Whether the ledger's thread came by, or it is known why it does not.
async fn settled(turn: impl Future<Output = bool>, sick: impl Fn() -> bool) -> bool {
    tokio::pin!(turn);
    loop {
        tokio::select! {
            came_by = &mut turn => return came_by,
            () = tokio::time::sleep(LOOK) => if sick() { return true },
        }
    }
}

/// One sign for each turn that was made, and none for one that was not.
async fn signs<T: Future<Output = bool>>(every: Duration, turns: impl Fn() -> T, alive: impl Fn()) {
    loop {
        if turns().await {
            alive();
        }
        tokio::time::sleep(every).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_is_known_to_hang_is_no_reason_to_end() {
        let sick = AtomicU32::new(0);
        let after_three = || sick.fetch_add(1, Ordering::Relaxed) == 3;
        assert!(settled(std::future::pending(), after_three).await);
        assert_eq!(sick.into_inner(), 4);
        assert!(!settled(std::future::ready(false), || true).await, "a thread that is gone is not known to wait");
        let unknown = settled(std::future::pending(), || false);
        assert!(tokio::time::timeout(Duration::from_secs(100), unknown).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_sign_for_each_turn_and_none_once_it_stands_still() {
        let (turns, alive) = (AtomicU32::new(0), AtomicU32::new(0));
        let turn = || async {
            match turns.fetch_add(1, Ordering::Relaxed) {
                0..3 => true,
                3..5 => false,
                _ => std::future::pending().await,
            }
        };
        let signs = signs(Duration::from_secs(1), turn, || {
            alive.fetch_add(1, Ordering::Relaxed);
        });
        assert!(tokio::time::timeout(Duration::from_secs(100), signs).await.is_err());
        assert_eq!((turns.into_inner(), alive.into_inner()), (6, 3));
    }
}
