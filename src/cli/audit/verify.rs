//! `audit verify`.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::args::VerifyAudit;
use super::super::context::Context;
use super::super::error::{CliError, Exit};
use super::super::progress::Extent;
use super::super::text::plain;
use super::{MIB, Opened, keys, ledger, open, own_checkpoints};
use crate::audit::reading::anchors::{Anchor, AnchorError, Anchors, anchors};
use crate::audit::reading::chain::Start;
use crate::audit::reading::checks::{Bad, Given, Verified, verify_each};
use crate::audit::reading::line::Record;
use crate::log::Head;
use crate::passport::hex;
use crate::statement::Frontier;

/// The longest file of a tree: as long as the daemon keeps one.
const MAX_FRONTIER: u64 = 8 << 20;

pub(super) fn run(context: &mut Context<'_>, asked: &VerifyAudit) -> Result<Exit, CliError> {
    let checked = check(context, asked, &mut |_| {})?;
    match &checked.outcome {
        Ok(verified) => say(context, asked, &checked, verified),
        Err(NotValid { seq, place, what }) => {
            if context.out.is_json() {
                context.out.json(&json!({"ok": false, "seq": seq, "place": place, "what": what}))?;
            } else {
                let loud = context.out.loud("NOT VALID");
                context.out.line(&format!("{loud}: {}", plain(what)))?;
            }
            Ok(Exit::NotValid)
        }
    }
}

/// What is not as it must be.
#[derive(Debug)]
pub(super) struct NotValid {
    seq: u64,
    place: Option<Value>,
    pub(super) what: String,
}

/// What was read, and what came of it.
pub(super) struct Checked {
    pub(super) outcome: Result<Verified, NotValid>,
    /// The checkpoints that were given, sorted by size.
    pub(super) anchors: Vec<Anchor>,
    torn: Vec<String>,
    /// Checkpoints that were left out.
    thinned: usize,
    /// The first record by the ledger's own word, where older ones were removed.
    base: Option<u64>,
    /// Whether the checkpoints lie beside the ledger.
    own: bool,
    repeated: Option<(u64, u64)>,
}

/// Checks what is asked for; `each` is given every record that is as it must be.
pub(super) fn check(
    context: &mut Context<'_>,
    asked: &VerifyAudit,
    each: &mut dyn FnMut(&Record<'_>),
) -> Result<Checked, CliError> {
    let mut believed = keys(&asked.believe)?;
    let mut paths: Vec<_> = asked.begin_at.iter().chain(&asked.checkpoints).cloned().collect();
    let own = if asked.records.files.is_empty() && asked.records.dir.is_none() && paths.is_empty() {
        own_checkpoints(context)?
    } else {
        None
    };
    if let Some((notes, own_keys)) = &own {
        paths.push(notes.clone());
        if believed.is_empty() {
            believed.clone_from(own_keys);
        }
    }
    let mut checked = Checked {
        outcome: Err(NotValid { seq: 0, place: None, what: String::new() }),
        anchors: Vec::new(),
        torn: Vec::new(),
        thinned: 0,
        base: None,
        own: own.is_some(),
        repeated: None,
    };
    // Checkpoints first: of a ledger that grows, those that are read are not newer than it.
    match anchors(&paths, &believed) {
        Ok(Anchors { list, torn, thinned }) => (checked.anchors, checked.torn, checked.thinned) = (list, torn, thinned),
        Err(AnchorError::Read(error)) => return Err(error.into()),
        Err(error) => {
            checked.outcome = Err(NotValid { seq: 0, place: None, what: error.to_string() });
            return Ok(checked);
        }
    }
    let shown = &checked.anchors;
    let beginning = match &asked.begin_at {
        Some(path) => Some(one(path, shown)?),
        None => None,
    };
    let frontier = asked.frontier.as_deref().map(frontier).transpose()?;
    let dir = if asked.records.files.is_empty() { ledger(context, asked.records.dir.as_deref())? } else { "".into() };
    let from = beginning.map_or(0, |anchor| anchor.checkpoint.size.saturating_add(1));
    let mut lines = open(&mut context.stdin, &dir, &asked.records, from)?;
    // Where it begins later, the record of the removal may be among those that are passed over.
    let base = lines.base().map(|base| base.first).filter(|first| *first > 1 && beginning.is_none());
    let start = match (beginning.map(|anchor| &anchor.checkpoint), lines.base()) {
        (Some(checkpoint), _) => Start::SkipTo(Head { seq: checkpoint.size, hash: checkpoint.head }),
        (None, Some(base)) => Start::Behind(base.head()),
        (None, None) => Start::Anywhere,
    };
    // The tree over what was removed; a checkpoint's root shows whether it is the right one.
    let frontier = frontier.or_else(|| lines.base().map(|base| base.tree.clone()));
    let given = Given { start, anchors: shown, frontier, counts: beginning.map(|anchor| &anchor.checkpoint) };
    let extent = lines.mib().map_or(Extent::Unknown, Extent::Items);
    let progress = context.out.progress("checking records, MiB", extent);
    let (mut read, mut told) = (0_u64, 0_u64);
    let mut tick = |bytes| {
        read = read.saturating_add(bytes);
        let whole = read / MIB;
        progress.advance(usize::try_from(whole.saturating_sub(told)).unwrap_or(0));
        told = whole;
    };
    let outcome = verify_each(&mut lines, &given, &mut tick, each);
    drop(progress);
    checked.repeated = if let Opened::Journal(journal) = &lines { Some(journal.repeated()) } else { None };
    drop(lines);
    checked.base = base;
    checked.outcome = match outcome {
        Ok(verified) => Ok(verified),
        Err(Bad::Read(error)) => return Err(error.into()),
        Err(Bad::Damage(damage)) => {
            let place = json!({"source": damage.place.source, "line": damage.place.line});
            Err(NotValid { seq: damage.seq, place: Some(place), what: damage.to_string() })
        }
        Err(Bad::Finding(finding)) => Err(NotValid { seq: finding.seq(), place: None, what: finding.to_string() }),
    };
    Ok(checked)
}

/// The one checkpoint of a file.
fn one<'a>(path: &Path, shown: &'a [Anchor]) -> Result<&'a Anchor, CliError> {
    let name = path.display().to_string();
    let mut own = shown.iter().filter(|anchor| anchor.source == name);
    match (own.next(), own.next()) {
        (Some(anchor), None) => Ok(anchor),
        _ => Err(CliError::input(&name, "expected one checkpoint to begin at")),
    }
}

/// A tree as the front keeps it.
#[derive(Deserialize)]
struct Stored {
    size: u64,
    nodes: Vec<String>,
}

pub(super) fn frontier(path: &Path) -> Result<Frontier, CliError> {
    let unreadable = |why| CliError::File { path: path.to_owned(), why };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_FRONTIER), &mut bytes).map_err(unreadable)?;
    let stored: Option<Stored> = serde_json::from_slice(&bytes).ok();
    let tree = stored.and_then(|stored| {
        let nodes = stored.nodes.iter().map(|node| hex::decode_exactly(node)).collect::<Option<Vec<_>>>()?;
        Frontier::restored(stored.size, nodes)
    });
    tree.ok_or_else(|| CliError::input(&path.display().to_string(), "not a tree: {\"size\":…,\"nodes\":[…]}"))
}

impl Checked {
    /// The newest checkpoint that fits.
    pub(super) fn anchor(&self) -> Option<&Anchor> {
        self.outcome.as_ref().ok()?.anchor.and_then(|at| self.anchors.get(at))
    }

    /// The positions of the checkpoints that were held against the records.
    pub(super) fn compared(&self) -> std::ops::Range<usize> {
        let verified = self.outcome.as_ref().ok();
        verified.and_then(|verified| Some(verified.older..verified.anchor? + 1)).unwrap_or(0..0)
    }

    /// What was not proven, in words.
    pub(super) fn unproven(&self, verified: &Verified) -> Vec<String> {
        let Verified { walked, records, covered, heads, roots, counted, pruned, unaccounted, .. } = verified;
        let (first, last) = (walked.before.seq.saturating_add(1), walked.head.seq);
        let mut out = Vec::new();
        if self.anchor().is_none() {
            out.push(
                "without a checkpoint neither a history that was rewritten as a whole nor an end that was cut off shows: give \
                 --checkpoints"
                    .to_owned(),
            );
            if first > 1 {
                out.push(format!(
                    "records 1-{} are not here, and nothing says that record {first} follows them",
                    first - 1
                ));
            }
        } else if *covered < last {
            out.push(format!(
                "records {}-{last} are newer than every checkpoint: what was changed or cut off there does not show",
                covered.saturating_add(1).max(first)
            ));
        }
        if self.own && self.anchor().is_some() {
            out.push(
                "checkpoints and keys were those beside the ledger: who can replace one can replace the others; give those that are \
                 kept elsewhere"
                    .to_owned(),
            );
        }
        out.extend(
            self.torn.iter().map(|file| format!("{file} ends in the middle of a checkpoint, which was not read")),
        );
        if self.anchors.iter().any(|anchor| anchor.by.is_none()) {
            out.push("the checkpoints' signatures were not checked: give --keys".to_owned());
        }
        if self.thinned > 0 {
            out.push(format!(
                "{} checkpoints, older ones, were held against each other alone: there are more than are compared",
                self.thinned
            ));
        }
        if roots < heads {
            out.push(format!("{} roots were not computed, for want of the records before {first}", heads - roots));
        }
        if counted < heads && *records > 0 {
            out.push(format!(
                "{} counts of signatures were not compared with the records, for want of those before {first}",
                heads - counted
            ));
        }
        if *unaccounted > 0 {
            out.push(format!(
                "{unaccounted} signatures have no record, as records of signatures_unaccounted say: what was signed there does not show"
            ));
        }
        if let Some(base) = self.base.filter(|base| *pruned < base - 1) {
            out.push(format!("no record says that records 1-{} were removed by the rules of retention", base - 1));
        }
        if let Some((_, forgotten @ 1..)) = self.repeated {
            out.push(format!("{forgotten} entries came again too long after the first time to be compared with it"));
        }
        out
    }
}

/// By what, in words.
pub(super) fn anchored(anchor: Option<&Anchor>) -> String {
    let Some(one) = anchor else { return "not anchored".to_owned() };
    let by = one.by.as_ref().map_or_else(String::new, |by| format!(", signed by {}", plain(by)));
    format!("anchored by the checkpoint {one}{by}")
}

/// What there is to tell of a ledger that is as it should be.
fn say(context: &mut Context<'_>, asked: &VerifyAudit, told: &Checked, verified: &Verified) -> Result<Exit, CliError> {
    let Verified { walked, records, breaks, covered, heads, roots, counted, older, unaccounted, .. } = verified;
    let (first, last) = (walked.before.seq.saturating_add(1), walked.head.seq);
    let unproven = told.unproven(verified);
    let anchor = told.anchor();
    if context.out.is_json() {
        let anchored = anchor.map(|one| {
            json!({"size": one.checkpoint.size, "time": one.checkpoint.time, "signed_by": one.by, "source": one.source})
        });
        context.out.json(&json!({
            "ok": true, "first": first, "last": last, "records": records, "head": hex::encode(&walked.head.hash),
            "breaks": breaks, "anchored_by": anchored, "covered": covered,
            "checkpoints": {"shown": told.anchors.len(), "heads": heads, "roots": roots, "counts": counted},
            "older_checkpoints": older, "unaccounted": unaccounted, "skipped": walked.skipped, "not_proven": unproven,
        }))?;
    } else {
        let seq = if *records == 0 { "no records".to_owned() } else { format!("seq {first}-{last}") };
        let anchored = anchored(anchor);
        context.out.line(&format!("{}{seq}, {anchored}", context.out.mark(true)))?;
        if *heads > 0 {
            context.out.line(&format!(
                "    {heads} of {} checkpoints fit; roots computed: {roots}, counts compared: {counted}",
                told.anchors.len()
            ))?;
        }
        context.out.line(&format!("    head {} {}", walked.head.seq, hex::encode(&walked.head.hash)))?;
        if !breaks.is_empty() {
            let list: Vec<_> = breaks.iter().map(u64::to_string).collect();
            context.out.line(&format!("    writing was interrupted, as these records say: {}", list.join(", ")))?;
        }
        if *older > 0 {
            context.out.line(&format!("    {older} checkpoints are older than record {first}, and were not needed"))?;
        }
        for one in &unproven {
            context.out.line(&format!("    not proven: {}", plain(one)))?;
        }
    }
    Ok(if asked.strict && !unproven.is_empty() { Exit::NotValid } else { Exit::Ok })
}
