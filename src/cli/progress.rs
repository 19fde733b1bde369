//! How far something has come that takes over a second: drawn on stderr where that is a terminal, cleared at the end.

use std::convert::Infallible;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What ends sooner is not announced.
const PATIENCE: Duration = Duration::from_secs(1);
/// From one drawing to the next.
const EVERY: Duration = Duration::from_millis(100);

/// When it will be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// After so many items, which [`Progress::advance`] counts.
    Items(usize),
    /// After this time.
    Time(Duration),
    /// Nobody knows.
    Unknown,
}

/// Something that is under way. Dropping it clears what was drawn.
pub(super) struct Progress {
    bar: ProgressBar,
    ticker: Option<(Sender<Infallible>, JoinHandle<()>)>,
}

impl Progress {
    /// Progress that is never shown.
    pub(super) fn hidden() -> Self {
        Self { bar: ProgressBar::hidden(), ticker: None }
    }

    /// Progress that shows after a second, from a thread of its own: the command's only thread may be busy.
    pub(super) fn start(what: &str, extent: Extent) -> Self {
        let bar = ProgressBar::with_draw_target(length(extent), ProgressDrawTarget::hidden());
        bar.set_style(style(extent));
        bar.set_message(what.to_owned());
        let (stop, stopped) = channel();
        let theirs = bar.clone();
        let thread = Builder::new().name("progress".to_owned()).spawn(move || draw(&stopped, &theirs, extent));
        // Without a thread there is no bar, and the command goes on.
        Self { bar, ticker: thread.ok().map(|thread| (stop, thread)) }
    }

    /// Counts items that are done.
    pub(super) fn advance(&self, items: usize) {
        self.bar.inc(u64::try_from(items).unwrap_or(u64::MAX));
    }

    /// What is drawn, for whoever writes to the same terminal.
    pub(super) fn bar(&self) -> ProgressBar {
        self.bar.clone()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.ticker.take() {
            drop(stop);
            // It ends within one drawing; a panic of it has nothing to tell us.
            drop(thread.join());
        }
        self.bar.finish_and_clear();
    }
}

fn length(extent: Extent) -> Option<u64> {
    match extent {
        Extent::Items(items) => u64::try_from(items).ok(),
        Extent::Time(time) => Some(millis(time)),
        Extent::Unknown => None,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Without colours and in ASCII, which every terminal shows.
fn style(extent: Extent) -> ProgressStyle {
    let template = match extent {
        Extent::Items(_) => "{msg} [{bar:30}] {pos}/{len}, {eta} left",
        Extent::Time(_) => "{msg} [{bar:30}] {percent}%, {eta} left",
        Extent::Unknown => "{spinner} {msg} {elapsed}",
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("#> ").tick_chars("|/-\\ ")
}

fn draw(stopped: &Receiver<Infallible>, bar: &ProgressBar, extent: Extent) {
    let start = Instant::now();
    let mut wait = PATIENCE;
    while matches!(stopped.recv_timeout(wait), Err(RecvTimeoutError::Timeout)) {
        if wait == PATIENCE {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            wait = EVERY;
        }
        if let Extent::Time(_) = extent {
            bar.set_position(millis(start.elapsed()).min(bar.length().unwrap_or_default()));
        }
        bar.tick();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_and_ends_at_once() {
        let progress = Progress::start("trying", Extent::Items(7));
        progress.advance(3);
        progress.advance(4);
        let bar = progress.bar();
        assert_eq!((bar.position(), bar.length(), bar.is_finished()), (7, Some(7), false));
        drop(progress);
        assert!(bar.is_finished());
    }

    #[test]
    fn every_template_can_be_read() {
        for extent in [Extent::Items(1), Extent::Time(PATIENCE), Extent::Unknown] {
            let progress = Progress::start("x", extent);
            assert_eq!(progress.bar().length(), length(extent));
        }
        assert!(Progress::hidden().bar().is_hidden());
    }
}
