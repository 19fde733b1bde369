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
    if let Some(every) = watchdog_every() {
        watched(&daemon, &services, every).await;
    }
}

async fn watched(daemon: &Daemon, services: &Handle, every: Duration) {
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
    use crate::audit::{Audit, AuditConfig, Entry, Event, Outcome};
    use crate::clock::Moment;
    use crate::lifecycle::Manager;
    use crate::lifecycle::tests::{Ear, daemon};
    use crate::log::{Media, Pace, SegmentConfig, Shelf};
    use std::ffi::OsStr;
    use std::io;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use tokio::runtime::Builder;

    const EVERY: Duration = Duration::from_millis(10);
    const PATIENCE: Duration = Duration::from_secs(20);

    /// A disk that does not answer while a test holds it.
    #[derive(Clone, Default)]
    struct Held(Arc<AtomicBool>);

    impl Shelf for Held {
        fn create(&mut self, first: u64) -> io::Result<(String, Box<dyn Media>)> {
            Ok((first.to_string(), Box::new(self.clone())))
        }
        fn discard(&mut self, _name: &str) -> io::Result<()> {
            Ok(())
        }
    }

    impl Media for Held {
        fn append(&mut self, _bytes: &[u8]) -> io::Result<()> {
            while self.0.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        }
        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }
        fn truncate(&mut self, _len: u64) -> io::Result<()> {
            Ok(())
        }
    }

    /// A front whose ledger's disk can be held, and what its manager hears.
    fn front() -> (Daemon, Ear, Held) {
        let (ear, address) = Ear::abstract_name();
        let disk = Held::default();
        // Nobody waits so long that the disk is known to hang.
        let pace = Pace { patience: Duration::from_secs(3600), ..Pace::default() };
        let config =
            AuditConfig { segment: SegmentConfig::default(), pace, journald: None, now: Moment::now, metrics: None };
        let mut daemon = daemon();
        daemon.manager = Manager::at(OsStr::new(&address)).unwrap();
        daemon.audit = Audit::over(Box::new(disk.clone()), &config).unwrap();
        (daemon, ear, disk)
    }

    /// Waits for three signs.
    async fn three_signs(ear: &Ear) {
        let heard = async {
            let mut signs = 0;
            while signs < 3 {
                signs += ear.heard().iter().filter(|message| *message == "WATCHDOG=1\n").count();
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, heard).await.expect("three signs of life");
    }

    #[tokio::test(start_paused = true)]
    async fn services_whose_loop_stands_still_are_no_sign_of_life() {
        let (daemon, ear, _disk) = front();
        // Nobody drives it.
        let services = Builder::new_current_thread().enable_all().build().unwrap();
        let watched = watched(&daemon, services.handle(), EVERY);
        assert!(tokio::time::timeout(Duration::from_secs(100), watched).await.is_err());
        assert!(ear.heard().is_empty());
        services.shutdown_background();
    }

    #[tokio::test]
    async fn a_ledger_that_settles_nothing_is_no_sign_of_life() {
        let (daemon, ear, disk) = front();
        let services = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let daemon = Arc::new(daemon);
        let watching = {
            let (daemon, services) = (Arc::clone(&daemon), services.handle().clone());
            tokio::spawn(async move { watched(&daemon, &services, EVERY).await })
        };
        three_signs(&ear).await;
        disk.0.store(true, Ordering::Relaxed);
        let recording = {
            let audit = daemon.audit.clone();
            let entry = Entry::new(Event::DaemonStarted, Outcome::Ok, Moment::now());
            services.spawn(async move { audit.record(entry).await })
        };
        while daemon.audit.lag().is_zero() {
            tokio::task::yield_now().await;
        }
        // One that was asked for before may still be on its way.
        tokio::time::sleep(EVERY * 3).await;
        ear.heard();
        tokio::time::sleep(EVERY * 30).await;
        assert!(ear.heard().is_empty(), "the ledger's thread has not come by");
        disk.0.store(false, Ordering::Relaxed);
        three_signs(&ear).await;
        assert!(recording.await.unwrap().is_ok());
        watching.abort();
        services.shutdown_background();
    }

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
