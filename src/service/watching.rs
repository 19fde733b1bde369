//! What verifiers of their own live on: Keys, Watch and Revocations.
//!
//! A Watch is awaited elsewhere, and holds nothing but its place among the watchers. It ends with something to tell, with its
//! time, with the right to it, with the connection, and with the daemon, which waits for nobody.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;

use super::gate::{Gate, Inside};
use super::refusals::Refusals;
use super::services::{Service, Turn, reply};
use super::shares::Lease;
use super::tally::Kind;
use super::{Done, Later, problems};
use crate::audit::{self, Entry, Event, Outcome};
use crate::clock::Moment;
use crate::lifecycle::Daemon;
use crate::metrics::Endpoint;
use crate::policy::{Denial, Operation, Peer, Rights};
use crate::state::{KeyState, StateError};
use crate::verify::Keyring;
use crate::watch::{Cursor, MAX_PLACE, Tenants, Topic, Wants, Watched, of_entry};
use crate::wire::{Code, KeySet, Problem, RevocationPage, ServiceOk, Standing, TenantEpoch};

/// Pages of revocations that are read at one time, of which half are one uid's at most: each reads the file on a thread.
const PAGES: usize = 4;
/// Bytes of the revocations of one page: a quarter of a frame. The epochs and compromised keys of the first are beside it.
const PAGE_BYTES: usize = 256 << 10;
/// Bytes of a revocation on a page beside its tenant and id, at most: lengths, tags and times.
const STANDING_OVERHEAD: usize = 32;

/// The one watcher of a connection.
#[derive(Debug)]
pub(super) struct Watcher {
    gate: Gate,
    /// The peer says no more, or has gone.
    over: watch::Sender<bool>,
}

impl Default for Watcher {
    fn default() -> Self {
        Self { gate: Gate::default(), over: watch::Sender::new(false) }
    }
}

impl Watcher {
    pub(super) fn end(&self) {
        self.over.send_replace(true);
    }
}

/// What a peer may see, decided again after each reload.
struct Judge {
    daemon: Arc<Daemon>,
    peer: Arc<Peer>,
    topics: BTreeSet<Topic>,
    known: Option<(u64, Arc<Wants>)>,
}

impl Judge {
    fn wants(&mut self) -> Result<Arc<Wants>, Denial> {
        let live = self.daemon.live.load();
        match &self.known {
            Some((generation, wants)) if *generation == live.generation => Ok(Arc::clone(wants)),
            _ => {
                let tenants = tenants(&live.policy.rights(&self.peer))?;
                let wants = Arc::new(Wants::new(self.topics.clone(), tenants));
                self.known = Some((live.generation, Arc::clone(&wants)));
                Ok(wants)
            }
        }
    }
}

fn tenants(rights: &Rights) -> Result<Tenants, Denial> {
    rights.decide_watch().into_result().map(|these| these.map_or(Tenants::All, Tenants::These))
}

/// A place among those that wait.
struct Waiting {
    daemon: Arc<Daemon>,
    _inside: (Inside, Inside, Inside),
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.daemon.metrics.watchers.dec();
    }
}

impl Service {
    pub(super) fn keys(&self, turn: &Turn, keyring: &Keyring, if_etag: Option<[u8; 32]>) -> ServiceOk {
        let metrics = &self.daemon().metrics;
        let max_age_s = u32::try_from(turn.live.loaded.config.cache.jwks_ttl_s).unwrap_or(u32::MAX);
        if if_etag.as_ref() == Some(keyring.etag()) {
            metrics.jwks_hits.inc();
            return ServiceOk::KeysNotModified { max_age_s };
        }
        metrics.jwks_misses.inc();
        ServiceOk::Keys(KeySet { etag: *keyring.etag(), max_age_s, jwks: keyring.jwks().to_vec() })
    }

    pub(super) fn watch(
        &self,
        turn: &Turn,
        topics: &[Topic],
        after: Option<Cursor>,
        wait_ms: u32,
    ) -> Result<Later, Problem> {
        self.allow(turn, Operation::Watch, 1)?;
        let watcher = self.watcher.get_or_init(Watcher::default);
        let alone = watcher.gate.enter(1).ok_or_else(|| self.busy(turn))?;
        let bound = turn.live.loaded.config.limits.watchers;
        let (own, all) = self.enter(turn, &self.gates.watch, &self.client.place.share().watch, bound)?;
        let topics: &[Topic] = if topics.is_empty() { &Topic::ALL } else { topics };
        let (daemon, peer) = (Arc::clone(self.daemon()), Arc::clone(&self.client.peer));
        daemon.metrics.watchers.inc();
        let waiting = Waiting { daemon: Arc::clone(&daemon), _inside: (alone, own, all) };
        let mut judge = Judge {
            daemon: Arc::clone(&daemon),
            peer: Arc::clone(&peer),
            topics: topics.iter().copied().collect(),
            known: None,
        };
        let (mut gone, mut stopping) = (watcher.over.subscribe(), daemon.stopping());
        let (place, refusals, on_record) =
            (Arc::clone(&self.client.place), self.client.refusals(), self.client.on_record());
        let (turn, within) = (turn.owned(), Duration::from_millis(wait_ms.into()));
        Ok(Box::pin(async move {
            let over = async move {
                // An error says that whoever would say it is gone.
                tokio::select! {
                    _ = gone.wait_for(|gone| *gone) => {}
                    _ = stopping.wait_for(|stopping| *stopping) => {}
                }
            };
            let told = daemon.events.wait(after, within, over, || judge.wants()).await;
            drop(waiting);
            if let Ok(Watched::Lagged { .. }) = &told {
                daemon.metrics.watchers_lagged.inc();
            }
            let result = told.map(ServiceOk::Watched).map_err(|denial| {
                put_on_record(&refusals, on_record, &turn, &denial);
                problems::of_denial(&denial)
            });
            let mut frame = Vec::new();
            reply(&daemon, &peer, &turn, result, &mut frame);
            let lease = place.lease(frame.len());
            if lease.is_none() {
                // Nothing is lost: the peer has its cursor still.
                frame.clear();
                daemon.metrics.busy.at(Endpoint::Watch).inc();
                reply(&daemon, &peer, &turn, Err(Problem::new(Code::Busy)), &mut frame);
            }
            Done { frame, lease, sensitive: false }
        }))
    }

    pub(super) fn revocations(&self, turn: &Turn, after: Option<&[u8]>) -> Result<Later, Problem> {
        self.allow(turn, Operation::Watch, 1)?;
        let tenants = tenants(&turn.rights).map_err(|denial| problems::of_denial(&denial))?;
        let after = after.map(|sealed| {
            self.daemon().events.open_place(sealed, &tenants).ok_or_else(|| {
                Problem::saying(Code::Malformed, "there is no such page (any more); begin with the first one")
            })
        });
        let after = after.transpose()?;
        let inside = self.enter(turn, &self.gates.pages, &self.client.place.share().pages, PAGES)?;
        let lease = self.client.place.lease(PAGE_BYTES).ok_or_else(|| self.busy(turn))?;
        let (daemon, peer, place) =
            (Arc::clone(self.daemon()), Arc::clone(&self.client.peer), Arc::clone(&self.client.place));
        let turn = turn.owned();
        Ok(Box::pin(async move {
            let reader = Arc::clone(&daemon);
            let read = tokio::task::spawn_blocking(move || {
                let page = page(&reader, after.as_deref(), &tenants);
                drop(inside);
                page
            });
            let page = read.await.unwrap_or(Err(StateError::Closed));
            let mut frame = Vec::new();
            let result = page.map(ServiceOk::Revocations).map_err(|error| problems::of_state(&error));
            reply(&daemon, &peer, &turn, result, &mut frame);
            let lease = larger(lease, frame.len(), || place.lease(frame.len()));
            if lease.is_none() {
                frame.clear();
                daemon.metrics.busy.at(Endpoint::Watch).inc();
                reply(&daemon, &peer, &turn, Err(Problem::new(Code::Busy)), &mut frame);
            }
            Done { frame, lease, sensitive: false }
        }))
    }
}

/// What a reply of so many bytes needs: what was taken for it, unless there is more beside the revocations.
fn larger(lease: Lease, size: usize, more: impl FnOnce() -> Option<Lease>) -> Option<Lease> {
    if size <= PAGE_BYTES {
        return Some(lease);
    }
    drop(lease);
    more()
}

fn put_on_record(refusals: &Refusals, peer: audit::Peer, turn: &Turn, denial: &Denial) {
    refusals.put(Kind::Request, || {
        let entry = Entry::new(Event::RequestRefused, Outcome::Refused, Moment::now()).corr_id(turn.corr_id).peer(peer);
        entry.action(Operation::Watch.name()).reason(denial.code.code()).detail(&denial.rule)
    });
}

/// A page as the state has it. What is not durable yet is on none: whoever watches is told of it.
fn page(daemon: &Daemon, after: Option<&[u8]>, tenants: &Tenants) -> Result<RevocationPage, StateError> {
    let snapshot = daemon.store.snapshot();
    let (mut epochs, mut compromised) = (Vec::new(), Vec::new());
    if after.is_none() {
        let own = snapshot.epochs.each().filter(|(tenant, _)| tenants.has(tenant));
        epochs = own.map(|(tenant, epoch)| TenantEpoch { tenant: tenant.to_owned(), epoch }).collect();
        let bad = snapshot.keys.iter().filter(|key| key.state == KeyState::Compromised && tenants.has(&key.tenant));
        compromised = bad.map(|key| key.kid.clone()).collect();
    }
    let size = |entry: &crate::state::Entry| {
        let id = match &entry.what {
            crate::state::What::RevokedId { jti } => jti.len(),
            crate::state::What::RevokedSubject { sub, .. } => sub.len(),
            _ => return None,
        };
        tenants.has(&entry.tenant).then_some(entry.tenant.len() + id + STANDING_OVERHEAD)
    };
    let found = daemon.store.page(after, PAGE_BYTES - MAX_PLACE, size)?;
    let standing = |entry: crate::state::Entry| of_entry(&entry).map(|what| Standing { tenant: entry.tenant, what });
    let next = match found.next {
        // It fails for more than 256 GiB.
        Some(place) => Some(daemon.events.seal_place(&place, tenants).ok_or(StateError::Closed)?),
        None => None,
    };
    Ok(RevocationPage {
        tenants: match tenants {
            Tenants::All => None,
            Tenants::These(these) => Some(these.iter().cloned().collect()),
        },
        revoked: found.revoked.into_iter().filter_map(standing).collect(),
        epochs,
        floor: snapshot.epochs.floor(),
        compromised,
        next,
    })
}

/// Made when it is needed first: most connections have no watcher.
pub(super) type OwnWatcher = OnceLock<Watcher>;
