//! Accepting connections: who is there, whether there is a place, and the metrics port.

#[cfg(test)]
mod allocation_tests;
mod connection;
/// For `cargo fuzz` and the replay of its corpora; no product is built with it.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod inherit;
mod input;
pub mod listen;
pub mod metrics_port;
pub mod peer;

use std::io;
use std::os::unix::net as unix;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SendFlags, SocketFlags, accept_with, send};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tracing::{debug, warn};

pub use connection::{End, Patience};

use crate::policy::Peer;
use crate::service::Speaker;
use crate::service::shares::{Full, OwnBounds, Place, Shares};
use crate::wire::{Code, Greeting, Problem, encode_frame};

/// The pause after a failed `accept`. Out of descriptors, it fails again at once: without a pause that is a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that are accepted in a row before others have their turn: of those that are turned away, some 250 us.
const IN_A_ROW: usize = 32;
/// The pause after a row that came too often, all of it. Behind it they wait in the listener's queue, and no longer take the
/// processor, theirs and ours, from everybody else: at some 20,000 a second, not 90,000.
const STORM_PAUSE: Duration = Duration::from_millis(1);

/// What the accept loop needs to know of the daemon.
pub trait House: Send + Sync + 'static {
    /// What speaks on connections of this socket.
    type Speaker: Speaker;

    /// Makes the speaker for one peer that has a place.
    fn speaker(&self, peer: Peer, place: Arc<Place>) -> Self::Speaker;

    /// What policy gives this peer, if a rule says so.
    fn bounds_of(&self, peer: &Peer) -> OwnBounds;

    /// Whether a policy asks for the control groups of peers.
    fn asks_cgroups(&self) -> bool;

    /// How long peers may take.
    fn patience(&self) -> Patience;

    /// A peer was turned away; `on_record` as often as its share of the ledger allows.
    fn turned_away(&self, peer: &Peer, why: &'static str, on_record: bool);
}

/// Accepts on `listener` until `stop` turns true; connections see `stop` too, and finish what is under way.
pub async fn accept<H: House>(
    listener: UnixListener,
    name: Arc<str>,
    house: Arc<H>,
    shares: Arc<Shares>,
    mut stop: watch::Receiver<bool>,
) {
    while !*stop.borrow_and_update() {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => continue,
        };
        let welcome = |stream| welcome(stream, &name, &house, &shares, &stop);
        let first = accepted.and_then(|(stream, _)| welcome(stream.into_std()?));
        match first.and_then(|first| Ok(usize::from(first == Came::Often) + those_behind(&listener, welcome)?)) {
            Ok(IN_A_ROW) => tokio::time::sleep(STORM_PAUSE).await,
            Ok(_) => {}
            Err(error) => {
                warn!(
                    name: "accept_failed", listener = %name, %error,
                    "can't accept; pausing (raise LimitNOFILE= if this repeats)"
                );
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        tokio::task::yield_now().await;
    }
}

/// How somebody came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    /// As one may, whether there was a place or not.
    Well,
    /// Too often, and was turned away before anything was looked up.
    Often,
}

/// Accepts those who have come meanwhile, up to a full row; how many of them came too often. Unlike the first, they are
/// registered with the executor only once they may stay.
fn those_behind(
    listener: &UnixListener,
    mut welcome: impl FnMut(unix::UnixStream) -> io::Result<Came>,
) -> io::Result<usize> {
    let mut often = 0;
    for _ in 1..IN_A_ROW {
        match accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(stream) => often += usize::from(welcome(stream.into())? == Came::Often),
            Err(Errno::AGAIN) => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(often)
}

/// From cheap to dear, so that a uid that connects without end costs little.
fn welcome<H: House>(
    stream: unix::UnixStream,
    listener: &str,
    house: &Arc<H>,
    shares: &Arc<Shares>,
    stop: &watch::Receiver<bool>,
) -> io::Result<Came> {
    let peer = match peer::credentials(&stream, listener) {
        Ok(peer) => peer,
        Err(error) => {
            warn!(name: "peer_unidentified", %listener, %error, "a peer without credentials");
            return Ok(Came::Well);
        }
    };
    let turn_away = |peer: &Peer, stream: &unix::UnixStream, full: Full| {
        let (peer_uid, peer_pid, reason) = (peer.uid, peer.pid, full.text());
        debug!(name: "peer_turned_away", reason, peer_uid, peer_pid, listener, "turned away");
        house.turned_away(peer, full.text(), shares.refusal_on_record(peer.uid));
        say_why(stream, full);
    };
    if let Err(full) = shares.arrive(peer.uid) {
        turn_away(&peer, &stream, full);
        return Ok(Came::Often);
    }
    let peer = peer::with_groups(peer, &stream);
    let peer = if house.asks_cgroups() { peer::with_cgroup(peer, &stream) } else { peer };
    let place = match shares.admit(peer.uid, house.bounds_of(&peer)) {
        Ok(place) => Arc::new(place),
        Err(full) => {
            turn_away(&peer, &stream, full);
            return Ok(Came::Well);
        }
    };
    let stream = UnixStream::from_std(stream)?;
    let patience = house.patience();
    let speaker = Arc::new(house.speaker(peer, Arc::clone(&place)));
    let stop = stop.clone();
    tokio::spawn(async move {
        let end = connection::serve(stream, speaker, place, patience, stop).await;
        debug!(name: "connection_ended", %end, "connection ended");
    });
    Ok(Came::Well)
}

/// Says why, if the socket takes it at once; a peer that is turned away is not waited for.
fn say_why(stream: &unix::UnixStream, full: Full) {
    let mut frame = Vec::new();
    let refused = Greeting::Refused(Problem::saying(Code::Busy, full.text()));
    if encode_frame(&refused, &mut frame).is_ok() {
        let sent = send(stream, &frame, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        drop::<io::Result<usize>>(sent.map_err(io::Error::from));
    }
}

#[cfg(test)]
#[path = "accept_tests.rs"]
mod tests;
