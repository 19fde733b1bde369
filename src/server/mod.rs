//! Accepting connections: who is there, whether there is a place, and the metrics port.

#[cfg(test)]
mod allocations;
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
use std::sync::Arc;
use std::time::Duration;

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

/// What the accept loop needs to know of the daemon.
pub trait House: Send + Sync + 'static {
    /// What speaks on connections of this socket.
    type Speaker: Speaker;

    /// Makes the speaker for one peer that has a place.
    fn speaker(&self, peer: Peer, place: Arc<Place>) -> Self::Speaker;

    /// What policy gives this peer, if a rule says so.
    fn bounds_of(&self, peer: &Peer) -> OwnBounds;

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
        match accepted {
            Ok((stream, _)) => welcome(stream, &name, &house, &shares, &stop),
            Err(error) => {
                warn!(name: "accept_failed", listener = %name, %error, "can't accept; pausing (raise LimitNOFILE= if this repeats)");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn welcome<H: House>(
    stream: UnixStream,
    listener: &str,
    house: &Arc<H>,
    shares: &Arc<Shares>,
    stop: &watch::Receiver<bool>,
) {
    let peer = match peer::identify(&stream, listener) {
        Ok(peer) => peer,
        Err(error) => return warn!(name: "peer_unidentified", %listener, %error, "a peer without credentials"),
    };
    let place = match shares.admit(peer.uid, house.bounds_of(&peer)) {
        Ok(place) => Arc::new(place),
        Err(full) => {
            let (peer_uid, peer_pid, reason) = (peer.uid, peer.pid, full.text());
            debug!(name: "peer_turned_away", reason, peer_uid, peer_pid, listener, "turned away");
            house.turned_away(&peer, full.text(), shares.refusal_on_record(peer.uid));
            return turn_away(&stream, full);
        }
    };
    let patience = house.patience();
    let speaker = Arc::new(house.speaker(peer, Arc::clone(&place)));
    let stop = stop.clone();
    tokio::spawn(async move {
        let end = connection::serve(stream, speaker, place, patience, stop).await;
        debug!(name: "connection_ended", %end, "connection ended");
    });
}

/// Says why, if the socket takes it at once; a peer that is turned away is not waited for.
fn turn_away(stream: &UnixStream, full: Full) {
    let mut frame = Vec::new();
    let refused = Greeting::Refused(Problem::saying(Code::Busy, full.text()));
    if encode_frame(&refused, &mut frame).is_ok() {
        drop::<io::Result<usize>>(stream.try_write(&frame));
    }
}
