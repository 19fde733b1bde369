//! The front's two executors.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// Threads of an executor for what blocks: the reading at a reload alone, of which there is one at a time, whichever
/// socket asked for it. tokio would start 512.
const BLOCKING_THREADS: usize = 1;

/// For services: a thread for each processor.
pub(super) fn of_services() -> io::Result<Runtime> {
    bounded(Builder::new_multi_thread().thread_name("services"))
}

/// For admins: the thread that runs it.
pub(super) fn of_admins() -> io::Result<Runtime> {
    bounded(&mut Builder::new_current_thread())
}

fn bounded(builder: &mut Builder) -> io::Result<Runtime> {
    builder.enable_all().max_blocking_threads(BLOCKING_THREADS).build()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn so_many_threads_block_and_further_work_waits_for_them() {
        for runtime in [of_services().unwrap(), of_admins().unwrap()] {
            let (said, hears) = mpsc::channel();
            let holds: Vec<mpsc::Sender<()>> = (0..=BLOCKING_THREADS)
                .map(|_| {
                    let (said, (hold, held)) = (said.clone(), mpsc::channel());
                    drop(runtime.spawn_blocking(move || {
                        said.send(()).unwrap();
                        held.recv().unwrap_or_default();
                    }));
                    hold
                })
                .collect();
            for _ in 0..BLOCKING_THREADS {
                hears.recv_timeout(Duration::from_secs(20)).unwrap();
            }
            assert!(hears.recv_timeout(Duration::from_millis(100)).is_err(), "one more runs beside them");
            drop(holds);
            hears.recv_timeout(Duration::from_secs(20)).unwrap();
        }
    }
}
