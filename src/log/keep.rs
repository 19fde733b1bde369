//! What becomes of closed segments: they are compressed, and the oldest are removed. A crash at any point leaves a log that
//! opens: each step is durable before the next one destroys what it replaces.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::marker::PhantomData;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use flate2::read::MultiGzDecoder;
use flate2::{Compression, GzBuilder};
use nix::fcntl::OFlag;

use super::base::Base;
use super::names::{BASE_NEW, Name, PACKING, list};
use super::packed::{Ends, Source, packed_path, remove, same, sync_dir};
use super::scan::{Cuts, survey};
use super::segment::{Piece, Segment};
use super::segments::MODE;
use super::{Fault, LogError, Seal};
use crate::statement::merkle::leaf;

/// How much is done in one piece; then others have their turn.
const CHUNK: usize = 256 * 1024;

/// How many times as long as the piece took the pause after it is: a quarter of a processor and of the disk at most.
const REST: u32 = 3;

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(1);

/// The oldest records, that may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Old {
    /// The first of them.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// When that was written, in seconds since 1970.
    pub written: i64,
}

/// What is about to be removed, and where the log begins then.
#[derive(Debug)]
pub struct Removal {
    run: Vec<Name>,
    base: Base,
}

/// What a test does at a step.
type Step = Box<dyn FnMut(&'static str) -> io::Result<()> + Send>;

/// Whoever compresses and removes. One for a log that is open.
pub struct Keeper<S> {
    dir: PathBuf,
    changes: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    pub(super) step: Step,
    seal: PhantomData<fn() -> S>,
}

/// The segments of one first sequence number; more than one after torn beginnings.
struct Run {
    names: Vec<Name>,
    first: u64,
    last: u64,
}

impl<S: Seal> Keeper<S> {
    /// Of the log in `dir`; `changes` are [`super::Segments::changes`]. Ends with an error soon after `stop` is set.
    pub fn new(dir: &Path, changes: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> Self {
        Self { dir: dir.to_owned(), changes, stop, step: Box::new(|_| Ok(())), seal: PhantomData }
    }

    /// Compresses the oldest segment that is closed, not compressed yet and covered by a checkpoint of the size `covered`.
    /// `durable`: the newest durable line. Its name; none if there is none.
    ///
    /// # Errors
    /// When that fails. The segment is as it was.
    pub fn compress_one(&mut self, covered: u64, durable: u64) -> Result<Option<String>, LogError> {
        let (runs, all) = self.closed(covered, durable)?;
        for run in runs {
            let [name] = run.names[..] else { continue };
            if !self.dir.join(name.to_string()).exists() {
                continue;
            }
            // One that a break record cuts stays as it is, with what is behind the cut.
            if cuts::<S>(&self.dir, &all, run.last)?.contains_key(&name.to_string()) {
                continue;
            }
            self.compress(name, run.last)?;
            return Ok(Some(name.to_string()));
        }
        Ok(None)
    }

    /// The oldest segment, if a checkpoint of the size `covered` covers it. Where its end says a time after `now` (seconds
    /// since 1970), or none, that of the next one which does not counts: what stands before a line is older than it.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn oldest(&self, covered: u64, durable: u64, now: i64) -> Result<Option<Old>, LogError> {
        let (runs, all) = self.closed(covered, durable)?;
        let Some(first) = runs.first() else { return Ok(None) };
        for run in &runs {
            if let Some(written) = self.written(run, &all)?.filter(|written| *written <= now) {
                return Ok(Some(Old { first: first.first, last: first.last, written }));
            }
        }
        Ok(None)
    }

    /// Reads what [`Keeper::oldest`] has found once more, to the end: only what is sound is removed. Nothing has changed then.
    ///
    /// # Errors
    /// When that fails; damage is named.
    pub fn prepare(&self, old: &Old, covered: u64) -> Result<Removal, LogError> {
        let (names, base) = Base::of(&self.dir, &list(&self.dir)?)?;
        let run: Vec<Name> = names.iter().filter(|name| name.first <= old.last).copied().collect();
        let base = self.base_behind(&names, &run, base, old.last, covered)?;
        Ok(Removal { run, base })
    }

    /// Removes what was prepared. Before anything goes it is on the disk where the log begins now.
    ///
    /// # Errors
    /// Of the system.
    pub fn remove(&mut self, Removal { run, base }: Removal) -> Result<(), LogError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| LogError::Io { path, doing: "remove", source }
        };
        base.write(&self.dir, &mut self.step).map_err(failed(&self.dir))?;
        for name in run {
            self.gone(name).map_err(failed(&self.dir.join(name.to_string())))?;
        }
        self.tell("sync the removal").and_then(|()| sync_dir(&self.dir)).map_err(failed(&self.dir))
    }

    fn gone(&mut self, name: Name) -> io::Result<()> {
        self.tell("remove a segment")?;
        remove(&self.dir.join(name.to_string()))?;
        remove(&packed_path(&self.dir, &name))?;
        self.changes.fetch_add(1, Ordering::Release);
        Ok(())
    }

    fn tell(&mut self, next: &'static str) -> io::Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        (self.step)(next)
    }

    /// The closed segments that are covered, and all of them. Behind each stands a durable line, in the next one: so it is
    /// never again the newest.
    fn closed(&self, covered: u64, durable: u64) -> Result<(Vec<Run>, Vec<Name>), LogError> {
        let (names, _) = Base::of(&self.dir, &list(&self.dir)?)?;
        let mut runs: Vec<Run> = Vec::new();
        for name in &names {
            match runs.last_mut().filter(|run| run.first == name.first) {
                Some(run) => run.names.push(*name),
                None => runs.push(Run { names: vec![*name], first: name.first, last: u64::MAX }),
            }
        }
        let nexts: Vec<u64> = runs.iter().skip(1).map(|run| run.first).collect();
        for (run, next) in runs.iter_mut().zip(nexts) {
            run.last = if next <= durable { next - 1 } else { u64::MAX };
        }
        let covered = runs.iter().take_while(|run| run.last <= covered).count();
        runs.truncate(covered);
        Ok((runs, names))
    }

    /// When the last line of these segments was written.
    fn written(&self, run: &Run, all: &[Name]) -> Result<Option<i64>, LogError> {
        let near = cuts::<S>(&self.dir, all, run.last)?;
        for name in &run.names {
            if let (false, Ok(source)) = (self.dir.join(name.to_string()).exists(), Source::packed(&self.dir, name))
                && let Some(ends) = source.ends.filter(|ends| ends.head.seq == run.last)
            {
                return Ok(ends.written);
            }
            let line = Segment::open(&self.dir, name, &near)?.last_line()?;
            if let Some(line) = line.filter(|line| S::read(line).is_ok_and(|link| link.head.seq == run.last)) {
                return Ok(S::written(&line));
            }
        }
        Ok(None)
    }

    fn compress(&mut self, name: Name, last: u64) -> Result<(), LogError> {
        let plain = self.dir.join(name.to_string());
        let mut segment = Segment::open(&self.dir, &name, &Cuts::new())?;
        let line = segment.last_line()?.unwrap_or_default();
        let link = S::read(&line).map_err(|why| segment.damaged(1, last, Fault::Altered(why)))?;
        if link.head.seq != last {
            return Err(segment.damaged(1, last, Fault::Missing { found: link.head.seq }));
        }
        let ends = Ends { head: link.head, mark: link.mark, written: S::written(&line) };
        self.pack(name, &plain, &ends).map_err(|source| LogError::Io { path: plain, doing: "compress", source })
    }

    fn pack(&mut self, name: Name, plain: &Path, ends: &Ends) -> io::Result<()> {
        let new = self.dir.join(format!("{name}{PACKING}"));
        self.tell("make the compressed file")?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(MODE)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&new)?;
        file.set_permissions(Permissions::from_mode(MODE))?;
        let mut encoder = GzBuilder::new().comment(ends.comment()).write(file, Compression::default());
        let (mut source, mut chunk) = (File::open(plain)?, vec![0; CHUNK]);
        loop {
            let begun = Instant::now();
            let count = source.read(&mut chunk)?;
            if count == 0 {
                break;
            }
            encoder.write_all(chunk.get(..count).unwrap_or_default())?;
            self.rest(begun)?;
        }
        let file = encoder.finish()?;
        self.tell("sync the compressed file")?;
        file.sync_all()?;
        let mut begun = Instant::now();
        let mut pause = || {
            let rested = rest(&self.stop, begun);
            begun = Instant::now();
            rested
        };
        // Read back: what is not the same is not put in the place of anything.
        if !same(&mut MultiGzDecoder::new(File::open(&new)?), &mut File::open(plain)?, &mut pause)? {
            remove(&new)?;
            return Err(io::Error::other("what was written reads back as something else"));
        }
        self.tell("rename the compressed file")?;
        fs::rename(&new, packed_path(&self.dir, &name))?;
        self.tell("sync its name")?;
        sync_dir(&self.dir)?;
        self.tell("remove the plain file")?;
        remove(plain)?;
        self.changes.fetch_add(1, Ordering::Release);
        self.tell("sync the removal")?;
        sync_dir(&self.dir)
    }

    fn rest(&self, begun: Instant) -> io::Result<()> {
        rest(&self.stop, begun)
    }

    /// Reads what is to go, once more.
    fn base_behind(&self, names: &[Name], run: &[Name], base: Base, last: u64, covered: u64) -> Result<Base, LogError> {
        let cuts = cuts::<S>(&self.dir, names, last)?;
        let (mut head, mut mark, mut tree, mut recorded) = (base.head(), base.mark, base.tree, base.recorded);
        for name in run {
            let mut segment = Segment::open(&self.dir, name, &cuts)?;
            let (mut line, mut begun, mut bytes) = (Vec::new(), Instant::now(), 0);
            let mut lines = 0;
            while let Piece::Line = segment.next(&mut line)? {
                lines += 1;
                let link = S::read(&line).map_err(|why| segment.damaged(lines, head.seq + 1, Fault::Altered(why)))?;
                segment.follow::<S>(&link, &head, lines)?;
                (head, mark) = (link.head, mark.max(link.mark));
                tree.push(leaf(&line));
                if let (Some(recorded), Some((name, count))) = (&mut recorded, S::accounts(&line)) {
                    let so_far: &mut u64 = recorded.entry(name).or_default();
                    *so_far = so_far.saturating_add(count);
                }
                bytes += line.len();
                if bytes >= CHUNK {
                    let stopped = |source| LogError::Io { path: self.dir.clone(), doing: "read", source };
                    self.rest(begun).map_err(stopped)?;
                    (begun, bytes) = (Instant::now(), 0);
                }
            }
        }
        if head.seq != last {
            let name = self.dir.join(run.last().map(ToString::to_string).unwrap_or_default());
            let fault = Fault::Missing { found: last };
            return Err(LogError::Damaged { file: name.display().to_string(), line: 1, seq: head.seq + 1, fault });
        }
        Ok(Base { first: last + 1, prev: head.hash, mark, tree, checkpoint: covered, recorded })
    }
}

/// Where the segments up to the line `last` are cut: the one behind them says it.
fn cuts<S: Seal>(dir: &Path, all: &[Name], last: u64) -> Result<Cuts, LogError> {
    let next = all.iter().map(|name| name.first).find(|first| *first > last);
    let near: Vec<Name> = all.iter().filter(|name| Some(name.first) <= next).copied().collect();
    let few = near.len().saturating_sub(2 * super::MAX_TORN);
    Ok(survey::<S>(dir, near.get(few..).unwrap_or_default())?.1)
}

/// Rests after a piece of work, unless it is all to end.
fn rest(stop: &AtomicBool, begun: Instant) -> io::Result<()> {
    if stop.load(Ordering::Relaxed) {
        return Err(io::ErrorKind::Interrupted.into());
    }
    thread::sleep(begun.elapsed().saturating_mul(REST).min(LONGEST));
    Ok(())
}

/// Segments that are there plain and compressed, of which a crash left both.
///
/// # Errors
/// [`LogError::Twice`] if the two differ.
pub(super) fn twins(dir: &Path, names: &[Name]) -> Result<Vec<Name>, LogError> {
    let mut both = Vec::new();
    for name in names {
        let plain = dir.join(name.to_string());
        let (Ok(mut one), true) = (File::open(&plain), packed_path(dir, name).exists()) else { continue };
        let mut other = match Source::packed(dir, name) {
            Ok(source) => source.reader,
            // Somebody is just compressing or removing it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(LogError::Io { path: plain, doing: "read", source }),
        };
        if !same(&mut one, &mut other, &mut || Ok(())).unwrap_or(false) {
            return Err(LogError::Twice { path: plain });
        }
        both.push(*name);
    }
    Ok(both)
}

/// Ends what a crash has interrupted, in a log that was found sound: of a segment that is there twice the compressed file goes
/// (it is made again), and so does what is before the base.
pub(super) fn tidy(dir: &Path, names: &[Name]) -> Result<(), LogError> {
    let failed = |source| LogError::Io { path: dir.to_owned(), doing: "end an interrupted removal", source };
    let (kept, base) = Base::of(dir, names)?;
    for name in twins(dir, &kept)? {
        remove(&packed_path(dir, &name)).map_err(failed)?;
    }
    for name in names.iter().filter(|name| name.first < base.first) {
        remove(&dir.join(name.to_string())).map_err(failed)?;
        remove(&packed_path(dir, name)).map_err(failed)?;
    }
    remove(&dir.join(BASE_NEW)).map_err(failed)?;
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.to_str().is_some_and(|path| path.ends_with(PACKING)) {
            remove(&path).map_err(failed)?;
        }
    }
    Ok(())
}
