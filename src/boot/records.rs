//! Ledger and state of the front: on disk, or in memory.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tracing::{info, warn};

use super::{BootError, restored};
use crate::audit::{Audit, AuditConfig, JOURNALD_SOCKET, Recovery, Retention};
use crate::clock::Moment;
use crate::config::{Config, Journald};
use crate::log::{Pace, Recovered, SegmentConfig, durable};
use crate::metrics::Metrics;
use crate::state::{self, Room, Store};

/// By which number the signer tells this front from the one before it, whose state is forgotten.
///
/// # Errors
/// [`BootError::Runtime`].
pub(super) fn this_front() -> Result<u64, BootError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| BootError::Runtime(io::Error::other(error.to_string())))?;
    Ok(u64::from_le_bytes(bytes))
}

fn audit_config(config: &Config, metrics: &Arc<Metrics>) -> AuditConfig {
    let journald = match config.audit.journald {
        Journald::Off => None,
        Journald::Auto | Journald::On => Some(PathBuf::from(JOURNALD_SOCKET)),
    };
    let segment = SegmentConfig { max_bytes: config.audit.segment_bytes };
    AuditConfig { segment, pace: Pace::default(), journald, now: Moment::now, metrics: Some(Arc::clone(metrics)) }
}

/// Amnesia mode: both for as long as this process lives.
///
/// # Errors
/// [`BootError`].
pub(super) fn memory(config: &Config, metrics: &Arc<Metrics>) -> Result<(Audit, Store), BootError> {
    let audit = Audit::memory(&audit_config(config, metrics))?;
    if config.audit.journald == Journald::On && audit.journald().is_none() {
        warn!(name: "journald_missing", "[audit] journald is on, and {JOURNALD_SOCKET} is not there");
    }
    let store = Store::memory(Moment::now())?;
    store.set_room(Room::of(config.state.entries));
    Ok((audit, store))
}

/// Ledger, then state, then each held against the other.
///
/// # Errors
/// [`BootError`].
pub(super) fn open(config: &Config, metrics: &Arc<Metrics>) -> Result<(Audit, Store), BootError> {
    let audit_config = audit_config(config, metrics);
    let fits = |recovered: &Recovered| -> Result<Store, BootError> {
        let seq = recovered.head.seq;
        let mode = if seq == 0 { state::Mode::CreateIfMissing } else { state::Mode::Existing };
        let store = Store::open(&config.state.path, mode, Moment::now())?;
        store.set_room(Room::of(config.state.entries));
        store.check_against_ledger(seq, recovered.mark).map_err(|error| {
            let (ledger, state) = (config.audit.dir.display(), config.state.path.display());
            BootError::Apart { places: format!("[audit] dir {ledger}, [state] path {state}"), error }
        })?;
        Ok(store)
    };
    let (audit, opened, store) = Audit::open_if(&config.audit.dir, &audit_config, fits)?;
    if let Some(gap) = &opened.recovered.gap {
        warn!(name: "ledger_cut", ?gap, "the ledger was cut short; a break record says where");
    }
    if config.audit.journald == Journald::On && !opened.journald {
        warn!(name: "journald_missing", "[audit] journald is on, and {JOURNALD_SOCKET} is not there");
    }
    let checkpoints = config.audit.checkpoint_dir();
    // Nobody else writes there.
    durable::sweep(&checkpoints);
    match audit.recover(&config.audit.dir, &checkpoints)? {
        Recovery::Known => {}
        Recovery::Reading(records) => {
            info!(name: "tree_reading", records, "the ledger is read for its next checkpoint, beside everything else");
        }
        Recovery::Unknown => {
            warn!(name: "tree_unknown", error = "it does not read as one chain", "no checkpoint is made of the ledger");
        }
    }
    audit.keep(Retention { days: config.audit.retention_days, compress: config.audit.compress })?;
    restored::settle(&audit, &store, &config.audit.dir)?;
    audit.state_is_at(store.snapshot().audit_seq);
    Ok((audit, store))
}
