//! `audit …`: what auditors do with records, on the host or far from it.

mod checkpoint;
mod page;
mod prove;
mod report;
mod show;
mod test_append;
mod verify;
pub(super) mod when;

use std::path::{Path, PathBuf};

use super::args::{AuditCommand, AuditKeys, Records};
use super::context::Context;
use super::error::{CliError, Exit};
use crate::audit::reading::anchors;
use crate::audit::reading::journal::Journal;
use crate::audit::reading::segments::Directory;
use crate::audit::reading::source::{Input, Lines, Piece, Place, ReadError, Streams};
use crate::clock::Moment;
use crate::log::Base;
use crate::statement::VerifierKey;

pub(super) async fn run(context: &mut Context<'_>, command: AuditCommand, now: Moment) -> Result<Exit, CliError> {
    match command {
        AuditCommand::Verify(verify) => verify::run(context, &verify),
        AuditCommand::Show(show) => show::show(context, &show, now),
        AuditCommand::Export(export) => show::export(context, &export),
        AuditCommand::Report(report) => report::run(context, report, now),
        AuditCommand::Prove(prove) => prove::prove(context, &prove),
        AuditCommand::VerifyProof { proof, believe } => prove::verify(context, &proof, &believe),
        AuditCommand::Checkpoint => checkpoint::run(context).await,
        AuditCommand::TestAppend { reason } => test_append::run(context, &reason).await,
        AuditCommand::Keys { file } => prove::keys(context, file.as_deref()).await,
    }
}

impl From<ReadError> for CliError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io { path, why } => Self::File { path, why },
            ReadError::Format { from, what } => Self::Input { from, what },
        }
    }
}

/// Records that are being read, and where from.
enum Opened<'a> {
    Directory(Directory),
    Streams(Streams<'a>),
    Journal(Journal<'a>),
}

impl Opened<'_> {
    /// Where the ledger begins, if it is one.
    const fn base(&self) -> Option<&Base> {
        match self {
            Self::Directory(directory) => Some(directory.base()),
            _ => None,
        }
    }

    /// How many MiB there are to read, where that is known.
    fn mib(&self) -> Option<usize> {
        let Self::Directory(directory) = self else { return None };
        usize::try_from(directory.size()?.div_ceil(MIB)).ok()
    }
}

const MIB: u64 = 1 << 20;

impl Lines for Opened<'_> {
    fn next(&mut self, line: &mut Vec<u8>) -> Result<Piece, ReadError> {
        match self {
            Self::Directory(directory) => directory.next(line),
            Self::Streams(streams) => streams.next(line),
            Self::Journal(journal) => journal.next(line),
        }
    }

    fn place(&self) -> Place {
        match self {
            Self::Directory(directory) => directory.place(),
            Self::Streams(streams) => streams.place(),
            Self::Journal(journal) => journal.place(),
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Directory(directory) => directory.bytes(),
            Self::Streams(streams) => streams.bytes(),
            Self::Journal(journal) => journal.bytes(),
        }
    }
}

/// The ledger that was named, or the configuration's.
fn ledger(context: &Context<'_>, named: Option<&Path>) -> Result<PathBuf, CliError> {
    named.map_or_else(|| Ok(context.configuration()?.config.audit.dir.clone()), |dir| Ok(dir.to_owned()))
}

/// What was named, from the record `from` on where that can be told. `stdin` is the context's own.
fn open<'a>(
    stdin: &'a mut dyn std::io::Read,
    dir: &Path,
    records: &Records,
    from: u64,
) -> Result<Opened<'a>, CliError> {
    if records.files.is_empty() {
        return Ok(Opened::Directory(Directory::open(dir, from)?));
    }
    let (mut inputs, mut stdin) = (Vec::new(), Some(stdin));
    for path in &records.files {
        let mut input = if path == Path::new("-") {
            let stdin = stdin.take().ok_or_else(|| CliError::Usage("stdin can be read once".to_owned()))?;
            Input::new("stdin", stdin)?
        } else {
            Input::open(path)?
        };
        if input.is_journal() {
            if records.files.len() > 1 {
                return Err(CliError::Usage("a journal is read alone: it may have more than one order".to_owned()));
            }
            return Ok(Opened::Journal(Journal::new(input)));
        }
        inputs.push(input);
    }
    Ok(Opened::Streams(Streams::new(inputs)))
}

/// The keys that were given.
fn keys(believe: &AuditKeys) -> Result<Vec<VerifierKey>, CliError> {
    let mut keys = Vec::new();
    for path in &believe.keys {
        keys.extend(anchors::keys(path)?);
    }
    for text in &believe.key {
        keys.push(VerifierKey::parse(text).map_err(|error| CliError::Usage(format!("--key: {error}")))?);
    }
    Ok(keys)
}

/// Where the daemon of the configuration keeps its checkpoints, and the keys beside them; none if this user can't see any.
fn own_checkpoints(context: &Context<'_>) -> Result<Option<(PathBuf, Vec<VerifierKey>)>, CliError> {
    let dir = context.configuration()?.config.audit.checkpoint_dir();
    if std::fs::read_dir(&dir).is_err() {
        return Ok(None);
    }
    let keys = anchors::keys(&dir.join("keys")).unwrap_or_default();
    Ok(Some((dir, keys)))
}
