//! Seal, unseal, reseal: small secrets from files and pipes. They are held in locked memory, and never as text.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde_json::json;

use super::args::{Ends, Place, Reseal, Seal, Unseal};
use super::context::Context;
use super::error::{CliError, Exit};
use super::progress::Extent;
use super::text::plain;
use crate::client::Client;
use crate::log::durable::{create, replace};
use crate::secret::{LockedBuf, SecretError};
use crate::wire::sealed::{MAX_PLAIN, MAX_SEALED, Sealed};

/// Sealed or not, the files are for their owner.
const MODE: u32 = 0o600;
/// What the names of sealed files end in.
const EXTENSION: &str = "sealed";

pub(super) async fn seal(context: &mut Context<'_>, seal: Seal) -> Result<Exit, CliError> {
    let Seal { place, ends } = seal;
    let name = name(&place, ends.out.as_deref())?;
    if ends.out.is_none() && context.out.is_terminal() && !context.out.is_json() {
        return Err(CliError::Usage("a sealed secret is no text: use --out, a pipe, or --output json".to_owned()));
    }
    let secret = read(context, &ends.input, MAX_PLAIN, "a secret is small: seal a key, and encrypt with that")?;
    let client = context.client().await?;
    let blob = client.seal(&place.namespace, &name, secret.expose()).await?;
    let kid = sealed("the answer", &blob)?;
    if context.out.is_json() && ends.out.is_none() {
        let blob = Base64UrlUnpadded::encode_string(&blob);
        return context.out.json(&json!({"kid": kid, "blob_b64": blob})).map(|()| Exit::Ok);
    }
    give(context, &ends, &blob, ("sealed", &kid))
}

pub(super) async fn unseal(context: &mut Context<'_>, unseal: Unseal) -> Result<Exit, CliError> {
    let Unseal { place, ends } = unseal;
    let name = name(&place, Some(&ends.input))?;
    let blob = read(context, &ends.input, MAX_SEALED, "no sealed secret is as long")?;
    let kid = sealed(&ends.input.display().to_string(), blob.expose())?;
    let client = context.client().await?;
    let secret = client.unseal(&place.namespace, &name, blob.expose()).await?;
    if context.out.is_json() && ends.out.is_none() {
        return as_json(context, &kid, &secret).map(|()| Exit::Ok);
    }
    give(context, &ends, &secret, ("unsealed", &kid))
}

/// `{"kid": …, "plain_b64": …}`, made of pieces: a writer of JSON would leave the secret in texts that nobody wipes.
fn as_json(context: &mut Context<'_>, kid: &str, secret: &[u8]) -> Result<(), CliError> {
    // A kid has no character that JSON escapes.
    let (begins, ends) = if context.out.is_terminal() {
        (format!("{{\n  \"kid\": \"{kid}\",\n  \"plain_b64\": \""), "\"\n}\n")
    } else {
        (format!("{{\"kid\":\"{kid}\",\"plain_b64\":\""), "\"}\n")
    };
    let base64 = Base64UrlUnpadded::encoded_len(secret);
    let no_memory = |error: SecretError| CliError::Failed(error.to_string());
    let mut whole = LockedBuf::new(begins.len() + base64 + ends.len());
    whole.append(begins.as_bytes()).map_err(no_memory)?;
    let room = whole.room(base64).map_err(no_memory)?.get_mut(..base64).unwrap_or_default();
    Base64UrlUnpadded::encode(secret, room).map_err(|error| CliError::Failed(error.to_string()))?;
    whole.filled(base64);
    whole.append(ends.as_bytes()).map_err(no_memory)?;
    context.out.bytes(whole.expose())
}

/// Writes the answer where it is wanted.
fn give(context: &mut Context<'_>, ends: &Ends, bytes: &[u8], (what, kid): (&str, &str)) -> Result<Exit, CliError> {
    let Some(file) = &ends.out else {
        return context.out.bytes(bytes).map(|()| Exit::Ok);
    };
    create(file, bytes, MODE).map_err(|why| CliError::File { path: file.clone(), why })?;
    let path = file.display().to_string();
    if context.out.is_json() {
        context.out.json(&json!({(what): path, "kid": kid}))?;
    } else {
        context.out.line(&format!("{what} {}: {}", plain(&path), plain(kid)))?;
    }
    Ok(Exit::Ok)
}

pub(super) async fn reseal(context: &mut Context<'_>, reseal: Reseal) -> Result<Exit, CliError> {
    let Reseal { place, dry_run, files } = reseal;
    if place.name.is_some() && files.len() > 1 {
        return Err(CliError::Usage("--name goes with one file".to_owned()));
    }
    // All are read first, so that a file that is none changes nothing.
    let mut old = Vec::with_capacity(files.len());
    for file in files {
        let blob = read(context, &file, MAX_SEALED, "no sealed secret is as long")?;
        let kid = sealed(&file.display().to_string(), blob.expose())?;
        let name = name(&place, Some(&file))?;
        old.push(Old { file, name, blob, kid });
    }
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut moved = 0;
    if dry_run {
        old.iter().for_each(|one| *counts.entry(one.kid.clone()).or_default() += 1);
    } else {
        let client = context.client().await?;
        let progress = context.out.progress("resealing", Extent::Items(old.len()));
        let mut newest: Option<String> = None;
        for one in &old {
            let kid = match &newest {
                Some(newest) if *newest == one.kid => newest.clone(),
                _ => again(&client, &place.namespace, one).await?,
            };
            moved += u64::from(kid != one.kid);
            *counts.entry(kid.clone()).or_default() += 1;
            newest = Some(kid);
            progress.advance(1);
        }
    }
    if context.out.is_json() {
        return context.out.json(&json!({"resealed": moved, "files": counts})).map(|()| Exit::Ok);
    }
    context.out.table(&["key", "files"], counts.iter().map(|(kid, files)| vec![plain(kid), files.to_string()]))?;
    if !dry_run {
        context.out.line(&format!("{moved} resealed"))?;
    }
    Ok(Exit::Ok)
}

/// A file that is to be sealed afresh.
struct Old {
    file: PathBuf,
    name: String,
    blob: LockedBuf,
    kid: String,
}

/// Opens and seals; the file is replaced if that was with another key. The key that it is sealed with then.
async fn again(client: &Client, namespace: &str, old: &Old) -> Result<String, CliError> {
    let secret = client.unseal(namespace, &old.name, old.blob.expose()).await?;
    let blob = client.seal(namespace, &old.name, &secret).await?;
    let kid = sealed("the answer", &blob)?;
    if kid != old.kid {
        let unusable = |why| CliError::File { path: old.file.clone(), why };
        let mode = std::fs::metadata(&old.file).map_err(unusable)?.permissions().mode() & 0o777;
        replace(&old.file, &blob, mode).map_err(unusable)?;
    }
    Ok(kid)
}

/// The name that was given, or the file's own.
fn name(place: &Place, file: Option<&Path>) -> Result<String, CliError> {
    if let Some(name) = &place.name {
        return Ok(name.clone());
    }
    let own = file.and_then(|file| if file.extension()? == EXTENSION { file.file_stem()?.to_str() } else { None });
    let missing = "--name says which secret it is; without it, a file called <name>.sealed does";
    own.map(str::to_owned).ok_or_else(|| CliError::Usage(missing.to_owned()))
}

/// The key that a sealed secret names.
fn sealed(from: &str, blob: &[u8]) -> Result<String, CliError> {
    let sealed = Sealed::parse(blob).ok_or_else(|| CliError::input(from, "it is no sealed secret"))?;
    Ok(sealed.kid.as_str().to_owned())
}

/// A file, or stdin for `-`, into locked memory.
fn read(context: &mut Context<'_>, path: &Path, limit: usize, hint: &str) -> Result<LockedBuf, CliError> {
    let unreadable = |why| CliError::File { path: path.to_owned(), why };
    let (name, read) = if path == Path::new("-") {
        ("stdin".to_owned(), fill(&mut *context.stdin, limit))
    } else {
        (path.display().to_string(), std::fs::File::open(path).and_then(|file| fill(file, limit)))
    };
    match read {
        Ok(buffer) if buffer.len() <= limit => Ok(buffer),
        Ok(_) => Err(CliError::input(&name, format!("more than {limit} bytes; {hint}"))),
        Err(why) => Err(unreadable(why)),
    }
}

/// All there is, but no more than one byte beyond the bound.
fn fill(mut from: impl Read, limit: usize) -> io::Result<LockedBuf> {
    let no_memory = |error: SecretError| io::Error::new(io::ErrorKind::OutOfMemory, error.to_string());
    let mut buffer = LockedBuf::new(limit + 1);
    while buffer.len() <= limit {
        let least = (limit + 1 - buffer.len()).min(4096);
        match from.read(buffer.room(least).map_err(no_memory)?) {
            Ok(0) => break,
            Ok(n) => buffer.filled(n),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_whole_up_to_the_bound() {
        for (length, read) in [(0, 0), (1, 1), (5000, 5000), (10_000, 10_000), (10_001, 10_001), (50_000, 10_001)] {
            let bytes = vec![7; length];
            assert_eq!(fill(bytes.as_slice(), 10_000).unwrap().expose(), &bytes[..read], "{length}");
        }
    }

    #[test]
    fn a_file_may_say_the_name() {
        let place = |name: Option<&str>| Place { namespace: String::new(), name: name.map(str::to_owned) };
        assert_eq!(name(&place(Some("a")), Some(Path::new("/x/b.sealed"))).unwrap(), "a");
        assert_eq!(name(&place(None), Some(Path::new("/x/b.c.sealed"))).unwrap(), "b.c");
        for other in [None, Some(Path::new("-")), Some(Path::new("/x/b")), Some(Path::new("/x/sealed"))] {
            assert!(name(&place(None), other).is_err(), "{other:?}");
        }
    }
}
