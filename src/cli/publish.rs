//! `keys --publish FILE`: the key set as a file that web servers serve.
//!
//! Readers see the old set or the new one, never a part: the new one is written beside the old under another name, made
//! durable, and renamed over it.

use std::path::Path;

use serde_json::json;

use super::context::Context;
use super::error::{CliError, Exit};
use super::service::checked;
use crate::client::Keys;
use crate::log::durable::{current, replace};
use crate::passport::jwk::{JWKS_FILE_MODE, MAX_JWKS_BYTES};
use crate::passport::{etag, hex};

pub(super) async fn run(context: &mut Context<'_>, file: &Path) -> Result<Exit, CliError> {
    let unusable = |why| CliError::File { path: file.to_owned(), why };
    let old = current(file, MAX_JWKS_BYTES).map_err(unusable)?;
    let known = old.as_deref().map(etag);
    let (changed, tag, max_age_s) = match (context.client().await?.keys(known).await?, known) {
        (Keys::NotModified { max_age_s }, Some(tag)) => (false, tag, max_age_s),
        (Keys::NotModified { .. }, None) => {
            return Err(CliError::Answer("`not modified` without an ETag".to_owned()));
        }
        (Keys::Set(set), _) => {
            checked(&set)?;
            // A daemon that sends what is there already is no reason to touch the file.
            let changed = old.as_deref() != Some(set.jwks.as_slice());
            if changed {
                replace(file, &set.jwks, JWKS_FILE_MODE).map_err(unusable)?;
            }
            (changed, set.etag, set.max_age_s)
        }
    };
    let (tag, path) = (hex::encode(&tag), file.display().to_string());
    if context.out.is_json() {
        let document = json!({"published": path, "changed": changed, "etag": tag, "max_age_s": max_age_s});
        return context.out.json(&document).map(|()| Exit::Ok);
    }
    let what = if changed { "published" } else { "unchanged" };
    context.out.line(&format!("{what} {}: etag {tag}, good for {max_age_s} s", super::text::plain(&path)))?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn readers_see_one_set_or_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("jwks.json");
        let sets = [vec![b'a'; 200_000], vec![b'b'; 100_000]];
        replace(&file, &sets[0], JWKS_FILE_MODE).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut reads = 0;
                while !done.load(Ordering::SeqCst) || reads == 0 {
                    let read = fs::read(&file).unwrap();
                    assert!(sets.contains(&read), "{} bytes of both sets, or of none", read.len());
                    reads += 1;
                }
            });
            for round in 1..40 {
                replace(&file, &sets[round % 2], JWKS_FILE_MODE).unwrap();
            }
            done.store(true, Ordering::SeqCst);
            reader.join().unwrap();
        });
        assert_eq!(names(dir.path()), ["jwks.json"]);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, JWKS_FILE_MODE);
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        // A directory can't be renamed over.
        let file = dir.path().join("taken");
        fs::create_dir(&file).unwrap();
        assert!(replace(&file, b"x", JWKS_FILE_MODE).is_err());
        assert_eq!(names(dir.path()), ["taken"]);
        assert!(replace(&dir.path().join("none/jwks.json"), b"x", JWKS_FILE_MODE).is_err());
        // The longest name that a file can have.
        replace(&dir.path().join("n".repeat(255)), b"x", JWKS_FILE_MODE).unwrap();
        assert_eq!(names(dir.path()).len(), 2);
    }
}
