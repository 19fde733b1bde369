//! The key set as a file for web servers to serve (`[passport] jwks_file`): always the set that verifies now.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use super::Daemon;
use crate::log::{durable, remedy};
use crate::passport::jwk::JWKS_FILE_MODE;

/// Between looks at whether the file is still as it should be: it may be replaced or removed by others.
const LOOK: Duration = Duration::from_secs(30);
/// Between attempts.
const AGAIN: Duration = Duration::from_secs(1);

/// How it stands with the file.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// The set is another one.
    pub(super) changed: Notify,
    trouble: ArcSwapOption<String>,
}

impl Published {
    /// Why the file is not the set that verifies now.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.load().as_deref().cloned()
    }
}

/// Has the file follow the keys, if there is to be one.
pub async fn watch_published(daemon: Arc<Daemon>) {
    let Some(file) = daemon.live.load().loaded.config.passport.jwks_file.clone().map(Arc::new) else { return };
    let mut stopping = daemon.stopping();
    while !*stopping.borrow_and_update() {
        let (keyring, path) = (daemon.keyring.load_full(), Arc::clone(&file));
        // A disk that doesn't answer holds up nobody but this.
        let put = tokio::task::spawn_blocking(move || put(&path, keyring.jwks())).await;
        let trouble = match put.unwrap_or_else(|stopped| Err(io::Error::other(stopped))) {
            Ok(_) => None,
            Err(error) => Some(format!("[passport] jwks_file {}: {error}{}", file.display(), remedy(&error))),
        };
        daemon.say_published(trouble);
        tokio::select! {
            () = daemon.published.changed.notified() => {}
            () = tokio::time::sleep(if daemon.published.trouble.load().is_some() { AGAIN } else { LOOK }) => {}
            _ = stopping.changed() => {}
        }
    }
}

/// Whether it had to be replaced. A file that is right already is left alone: web servers tell by its time whether it changed.
fn put(file: &Path, set: &[u8]) -> io::Result<bool> {
    let replaced = durable::current(file, set.len().saturating_add(1))?.as_deref() != Some(set);
    if replaced {
        durable::replace(file, set, JWKS_FILE_MODE)?;
    }
    Ok(replaced)
}

impl Daemon {
    fn say_published(&self, trouble: Option<String>) {
        let before = self.published.trouble.swap(trouble.clone().map(Arc::new));
        match (before.is_some(), trouble) {
            (false, Some(error)) => {
                tracing::error!(name: "jwks_not_published", %error, "the published key set is not the one that verifies");
            }
            (true, None) => {
                tracing::info!(name: "jwks_published", "the published key set is the one that verifies again");
            }
            _ => return,
        }
        self.tell_manager();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_is_right_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("jwks.json");
        assert!(put(&file, b"one").unwrap());
        assert!(!put(&file, b"one").unwrap());
        for other in ["on", "one more", ""] {
            fs::write(&file, other).unwrap();
            assert!(put(&file, b"one").unwrap(), "{other:?}");
            assert_eq!(fs::read(&file).unwrap(), b"one");
        }
        fs::remove_file(&file).unwrap();
        assert!(put(&file, b"one").unwrap());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(put(&link, b"two").is_err(), "what a link leads to is not ours to replace");
        assert_eq!(fs::read(&file).unwrap(), b"one");
    }
}
