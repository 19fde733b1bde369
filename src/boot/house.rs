//! The two houses that the accept loops serve: services and admins.

use std::sync::Arc;
use std::time::Duration;

use crate::audit::{self, Entry, Event, Outcome};
use crate::clock::Moment;
use crate::lifecycle::Daemon;
use crate::metrics::Endpoint;
use crate::policy::Peer;
use crate::server::{House, Patience};
use crate::service::shares::{Bounds, OwnBounds, Place, Shares};
use crate::service::{Admin, Gates, Service};

/// Admin connections of all, and of one uid. Few are needed; they have slots of their own so that services can't take
/// them.
const ADMINS: usize = 32;
const ADMINS_PER_UID: usize = 16;
/// Their executor is one thread.
const ADMIN_THREADS: usize = 1;
/// Bytes of admin requests and replies.
const ADMIN_BYTES: usize = 8 << 20;
/// Admin requests of one connection under way at once.
const ADMIN_IN_FLIGHT: usize = 8;

/// Services.
pub(super) struct Services {
    pub(super) daemon: Arc<Daemon>,
    pub(super) gates: Gates,
}

/// Admins.
pub(super) struct Admins {
    pub(super) daemon: Arc<Daemon>,
}

/// The shares of services follow the live configuration, as far as `most` connections.
pub(super) fn service_shares(daemon: &Arc<Daemon>, threads: usize, most: usize) -> Arc<Shares> {
    let daemon = Arc::clone(daemon);
    let bounds = Box::new(move || {
        let live = daemon.live.load();
        let (server, limits) = (&live.loaded.config.server, &live.loaded.config.limits);
        let bytes = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        Bounds {
            connections: server.max_connections.min(most),
            connections_per_uid: server.max_connections_per_uid,
            bytes: bytes(limits.max_bytes),
            bytes_per_uid: bytes(limits.max_bytes_per_uid),
        }
    });
    Shares::new(threads, bounds)
}

/// The shares of admins are fixed.
pub(super) fn admin_shares() -> Arc<Shares> {
    let bounds = Bounds {
        connections: ADMINS,
        connections_per_uid: ADMINS_PER_UID,
        bytes: ADMIN_BYTES,
        bytes_per_uid: ADMIN_BYTES,
    };
    Shares::new(ADMIN_THREADS, Box::new(move || bounds))
}

fn patience(daemon: &Daemon) -> Patience {
    let live = daemon.live.load();
    let limits = &live.loaded.config.limits;
    Patience {
        read: Duration::from_millis(limits.read_timeout_ms),
        idle: Duration::from_secs(limits.idle_timeout_s),
        in_flight: limits.max_in_flight,
    }
}

/// Puts a refused connection on record, without waiting: nothing is released that would need it.
fn refused(daemon: &Daemon, peer: &Peer, why: &'static str) {
    let Peer { uid, gid, pid, ref listener, .. } = *peer;
    let entry = Entry::new(Event::PeerRefused, Outcome::Refused, Moment::now())
        .peer(audit::Peer { uid, gid, pid, listener: listener.clone() })
        .reason("busy")
        .detail(why);
    let audit = daemon.audit.clone();
    tokio::spawn(async move { drop(audit.record(entry).await) });
}

impl House for Services {
    type Speaker = Service;

    fn speaker(&self, peer: Peer, place: Arc<Place>) -> Service {
        Service::new(Arc::clone(&self.daemon), peer, place, self.gates.clone())
    }

    fn bounds_of(&self, peer: &Peer) -> OwnBounds {
        let rights = self.daemon.live.load().policy.rights(peer);
        let share = rights.share();
        OwnBounds {
            stranger: rights.rules().next().is_none(),
            connections: share.max_connections.and_then(|most| usize::try_from(most).ok()),
            bytes: share.max_bytes.and_then(|most| usize::try_from(most).ok()),
        }
    }

    fn asks_cgroups(&self) -> bool {
        self.daemon.live.load().policy.asks_cgroups()
    }

    fn patience(&self) -> Patience {
        patience(&self.daemon)
    }

    fn turned_away(&self, peer: &Peer, why: &'static str, on_record: bool) {
        self.daemon.metrics.busy.at(Endpoint::Connect).inc();
        if on_record {
            refused(&self.daemon, peer, why);
        }
    }
}

impl House for Admins {
    type Speaker = Admin;

    fn speaker(&self, peer: Peer, place: Arc<Place>) -> Admin {
        Admin::new(Arc::clone(&self.daemon), peer, place)
    }

    fn bounds_of(&self, _peer: &Peer) -> OwnBounds {
        OwnBounds::default()
    }

    fn asks_cgroups(&self) -> bool {
        self.daemon.live.load().policy.asks_cgroups()
    }

    fn patience(&self) -> Patience {
        Patience { in_flight: ADMIN_IN_FLIGHT, ..patience(&self.daemon) }
    }

    fn turned_away(&self, peer: &Peer, why: &'static str, on_record: bool) {
        self.daemon.metrics.busy.at(Endpoint::Admin).inc();
        if on_record {
            refused(&self.daemon, peer, why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admins_have_so_many_bytes_together() {
        let shares = admin_shares();
        let [one, other] = [1, 2].map(|uid| shares.admit(uid, OwnBounds::default()).unwrap());
        let held = one.lease(ADMIN_BYTES - 1).unwrap();
        let last = other.lease(1).unwrap();
        assert!(one.lease(1).is_none() && other.lease(1).is_none());
        drop((held, last));
        assert!(one.lease(ADMIN_BYTES + 1).is_none() && one.lease(ADMIN_BYTES).is_some());
    }
}
