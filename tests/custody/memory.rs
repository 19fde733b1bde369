//! What lies in the memory of a process. Root alone may look: the roles are not dumpable.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

const PAGE: usize = 4096;

/// Bytes that are looked for, and what to call them.
#[derive(Clone, Debug)]
pub(crate) struct Needle {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
}

impl Needle {
    pub(crate) fn new(name: &'static str, bytes: &[u8]) -> Self {
        Self { name, bytes: bytes.to_vec() }
    }

    /// Whether it lies in these bytes.
    pub(crate) fn lies_in(&self, bytes: &[u8]) -> bool {
        !self.places(bytes).is_empty()
    }

    fn places(&self, bytes: &[u8]) -> Vec<usize> {
        let first = self.bytes[0];
        let starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == first).map(|(at, _)| at);
        starts.filter(|at| bytes[*at..].starts_with(&self.bytes)).collect()
    }
}

/// A mapping of a process (proc_pid_smaps(5)).
#[derive(Clone, Debug, Default)]
struct Mapping {
    from: u64,
    to: u64,
    readable: bool,
    name: String,
    flags: String,
}

/// Where something was found.
#[derive(Clone)]
pub(crate) struct Found {
    pub(crate) needle: &'static str,
    address: u64,
    /// From where to where it is mapped: a stack is told by its size.
    range: (u64, u64),
    /// The file, `[heap]`, `[stack]`, or nothing for other anonymous memory.
    pub(crate) mapping: String,
    /// Locked against swapping (`lo`) and left out of dumps (`dd`).
    pub(crate) guarded: bool,
}

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let guarded = if self.guarded { " locked, not dumped" } else { "" };
        let Self { needle, address, range: (from, to), mapping, .. } = self;
        write!(f, "{needle} at {address:x} of {from:x}-{to:x} {mapping}{guarded}")
    }
}

fn mappings(pid: i32) -> Vec<Mapping> {
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut all: Vec<Mapping> = Vec::new();
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap();
        if let Some((from, to)) = first.split_once('-') {
            let address = |text| u64::from_str_radix(text, 16).unwrap();
            let readable = words.next().unwrap().starts_with('r');
            let name = words.skip(3).collect::<Vec<_>>().join(" ");
            all.push(Mapping { from: address(from), to: address(to), readable, name, flags: String::new() });
        } else if first == "VmFlags:" {
            all.last_mut().unwrap().flags = line.to_owned();
        }
    }
    all
}

/// Looks for them in all that the process could read itself.
pub(crate) fn search(pid: i32, needles: &[Needle]) -> Vec<Found> {
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let longest = needles.iter().map(|needle| needle.bytes.len()).max().unwrap();
    let mut found = Vec::new();
    for mapping in mappings(pid).iter().filter(|mapping| mapping.readable) {
        // What is written on, from one page to the next, as one piece.
        let (mut run, mut begins, mut at) = (Vec::new(), mapping.from, mapping.from);
        let mut block = vec![0; 64 * PAGE];
        while at < mapping.to {
            let size = block.len().min(usize::try_from(mapping.to - at).unwrap());
            // [vvar] and what went meanwhile can't be read.
            let read = memory.read_at(&mut block[..size], at).unwrap_or(0);
            for page in block[..read].chunks(PAGE) {
                let blank = page.iter().take(8).all(|byte| *byte == 0) && page == &[0; PAGE][..page.len()];
                if blank {
                    look(&run, begins, mapping, needles, &mut found);
                    run.clear();
                } else {
                    if run.is_empty() {
                        begins = at;
                    }
                    run.extend_from_slice(page);
                }
                at += u64::try_from(page.len()).unwrap();
            }
            if read == 0 {
                break;
            }
            if run.len() > 1 << 20 {
                look(&run, begins, mapping, needles, &mut found);
                // What may go on behind is looked at again.
                let rest = run.len() - longest;
                begins += u64::try_from(rest).unwrap();
                run.drain(..rest);
            }
        }
        look(&run, begins, mapping, needles, &mut found);
    }
    found
}

fn look(run: &[u8], begins: u64, mapping: &Mapping, needles: &[Needle], found: &mut Vec<Found>) {
    let has = |flag: &str| mapping.flags.split(' ').any(|one| one == flag);
    for needle in needles {
        for place in needle.places(run) {
            found.push(Found {
                needle: needle.name,
                address: begins + u64::try_from(place).unwrap(),
                range: (mapping.from, mapping.to),
                mapping: mapping.name.clone(),
                guarded: has("lo") && has("dd"),
            });
        }
    }
}
