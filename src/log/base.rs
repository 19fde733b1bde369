//! Where a log begins from which old segments were removed.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::names::{BASE, BASE_NEW, Name};
use super::packed::sync_dir;
use super::segments::MODE;
use super::{Hash, Head, LogError};
use crate::passport::hex;
use crate::statement::merkle::Frontier;

/// The longest file: 64 nodes, and a count for every key there can be.
const MAX_BASE: u64 = 8 * 1024 * 1024;

/// What is kept of the records that are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The sequence number of the first record that is there. A segment begins with it.
    pub first: u64,
    /// The hash of the one before it; zeros before the first of all.
    pub prev: Hash,
    /// The greatest [`super::Link::mark`] of those that are gone, as far as was looked.
    pub mark: u64,
    /// The Merkle tree over them.
    pub tree: Frontier,
    /// The size of a checkpoint that covers them.
    pub checkpoint: u64,
    /// Of each name what they account for ([`super::Seal::accounts`]); none if that was not kept.
    pub recorded: Option<BTreeMap<String, u64>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    first: u64,
    prev: String,
    mark: u64,
    nodes: Vec<String>,
    checkpoint: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recorded: Option<BTreeMap<String, u64>>,
}

impl Base {
    /// Of a log from which nothing was removed.
    pub const GENESIS: Self = Self {
        first: 1,
        prev: [0; 32],
        mark: 0,
        tree: Frontier::empty(),
        checkpoint: 0,
        recorded: Some(BTreeMap::new()),
    };

    /// The record before the first.
    pub fn head(&self) -> Head {
        Head { seq: self.first - 1, hash: self.prev }
    }

    /// What is in `dir`; [`Base::GENESIS`] where nothing is.
    ///
    /// # Errors
    /// [`LogError::Base`] if it can't be read.
    pub fn read(dir: &Path) -> Result<Self, LogError> {
        let path = dir.join(BASE);
        let failed = |why: String| LogError::Base { path: path.clone(), why };
        let bytes = match fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::GENESIS),
            Ok(meta) if !meta.is_file() => Err(failed("no regular file".to_owned())),
            Ok(meta) if meta.len() > MAX_BASE => Err(failed(format!("longer than {MAX_BASE} bytes"))),
            _ => fs::read(&path).map_err(|error| failed(error.to_string())),
        }?;
        let stored: Stored = serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?;
        let nodes: Option<Vec<Hash>> = stored.nodes.iter().map(|node| hex::decode_exactly(node)).collect();
        let tree = nodes.zip(stored.first.checked_sub(1)).and_then(|(nodes, size)| Frontier::restored(size, nodes));
        let (prev, tree) = hex::decode_exactly(&stored.prev)
            .zip(tree)
            .ok_or_else(|| failed("its hashes do not fit the number of records".to_owned()))?;
        let Stored { first, mark, checkpoint, recorded, .. } = stored;
        if checkpoint < first - 1 {
            return Err(failed("no checkpoint covers what was removed".to_owned()));
        }
        Ok(Self { first, prev, mark, tree, checkpoint, recorded })
    }

    /// The base of `dir`, and those of its segments that count: those before it were about to be removed.
    pub(super) fn of(dir: &Path, names: &[Name]) -> Result<(Vec<Name>, Self), LogError> {
        let base = Self::read(dir)?;
        Ok((names.iter().filter(|name| name.first >= base.first).copied().collect(), base))
    }

    /// Puts it in the place of the one in `dir`, durably. `step` is told what comes next.
    pub(super) fn write(
        &self,
        dir: &Path,
        step: &mut dyn FnMut(&'static str) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        let stored = Stored {
            first: self.first,
            prev: hex::encode(&self.prev),
            mark: self.mark,
            nodes: self.tree.nodes().iter().map(|node| hex::encode(node)).collect(),
            checkpoint: self.checkpoint,
            recorded: self.recorded.clone(),
        };
        let new = dir.join(BASE_NEW);
        step("write the new base")?;
        let mut file = File::create(&new)?;
        // Whoever may read the segments may read where they begin, whatever the umask.
        file.set_permissions(Permissions::from_mode(MODE))?;
        file.write_all(&serde_json::to_vec(&stored)?)?;
        step("sync the new base")?;
        file.sync_all()?;
        step("rename the new base")?;
        fs::rename(&new, dir.join(BASE))?;
        step("sync the name of the base")?;
        sync_dir(dir)
    }
}
