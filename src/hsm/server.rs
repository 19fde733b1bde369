//! The private socket: accepts the front, and nobody else.

mod desk;
mod outbox;
mod reader;
mod refusals;
mod sealing;
mod statements;

pub use desk::{Desk, Token};
pub use statements::Memory;

use super::HsmError;
use super::device::Device;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use outbox::Outbox;
use std::collections::HashMap;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Connections at a time: the front's, its next one while the old is not yet seen to be gone, and a diagnosis beside.
pub const MAX_CONNECTIONS: usize = 4;

/// The pause after a failed `accept`. Out of descriptors, it fails again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The listener and who may use it.
pub struct Door {
    listener: UnixListener,
    front_uid: u32,
    open: Arc<AtomicUsize>,
    links: Arc<Mutex<Links>>,
}

/// The ways out of all connections.
#[derive(Default)]
struct Links {
    outboxes: HashMap<u64, Outbox>,
    next: u64,
    leaving: bool,
}

impl Links {
    /// Its number; none if nobody is served any more.
    fn add(&mut self, outbox: &Outbox) -> Option<u64> {
        if self.leaving {
            return None;
        }
        self.next += 1;
        self.outboxes.insert(self.next, outbox.clone());
        Some(self.next)
    }
}

fn lock(links: &Mutex<Links>) -> MutexGuard<'_, Links> {
    links.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts a connection out when its thread ends.
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Door {
    /// For a listener that is bound already. The socket's directory and mode keep most away; this checks the uid.
    ///
    /// # Errors
    /// [`HsmError::Host`] when the listener can't be made non-blocking.
    pub fn new(listener: UnixListener, front_uid: u32) -> Result<Self, HsmError> {
        listener.set_nonblocking(true).map_err(|error| HsmError::Host("use the signer's socket", error))?;
        Ok(Self { listener, front_uid, open: Arc::new(AtomicUsize::new(0)), links: Arc::default() })
    }

    /// Tells everybody to go elsewhere once they have their replies. Whoever comes later is closed.
    pub fn leave(&self) {
        let outboxes: Vec<Outbox> = {
            let mut links = lock(&self.links);
            links.leaving = true;
            links.outboxes.values().cloned().collect()
        };
        outboxes.iter().for_each(Outbox::leaving);
    }

    /// Whether nobody is connected.
    pub fn is_empty(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0
    }

    /// The listener, to be polled.
    pub const fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Accepts what waits. Whoever is not the front is closed without a word.
    pub fn accept<D: Device>(&self, desk: &Arc<Desk<D>>) {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.admit(desk, stream),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    // EMFILE and the like: the connection stays in the backlog, and a pause keeps us from spinning.
                    tracing::warn!(name: "signer_accept_failed", %error, "could not accept a connection");
                    std::thread::sleep(ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }

    fn admit<D: Device>(&self, desk: &Arc<Desk<D>>, stream: UnixStream) {
        match getsockopt(&stream, PeerCredentials) {
            Ok(peer) if peer.uid() == self.front_uid => {}
            Ok(peer) => {
                let (peer_uid, peer_pid) = (peer.uid(), peer.pid());
                let why = "refused a connection that is not the front's";
                tracing::warn!(name: "signer_peer_refused", peer_uid, peer_pid, "{why}");
                return;
            }
            Err(error) => {
                tracing::warn!(name: "signer_peer_unidentified", %error, "could not read a peer's credentials");
                return;
            }
        }
        if self.open.fetch_add(1, Ordering::AcqRel) >= MAX_CONNECTIONS {
            self.open.fetch_sub(1, Ordering::AcqRel);
            let why = "refused a connection of the front: it has too many";
            tracing::warn!(name: "signer_peer_too_many", limit = MAX_CONNECTIONS, "{why}");
            return;
        }
        let place = Place(Arc::clone(&self.open));
        let (desk, links) = (Arc::clone(desk), Arc::clone(&self.links));
        let started = std::thread::Builder::new().name("link".to_owned()).spawn(move || {
            serve(&desk, &links, stream);
            drop(place);
        });
        if let Err(error) = started {
            tracing::warn!(name: "signer_thread_failed", %error, "could not start a thread for a connection");
        }
    }
}

fn serve<D: Device>(desk: &Desk<D>, links: &Mutex<Links>, stream: UnixStream) {
    let served = stream
        .set_nonblocking(false)
        .and_then(|()| stream.try_clone())
        .and_then(|reading| Ok((Outbox::start(stream)?, reading)))
        .map(|(outbox, reading)| {
            let number = lock(links).add(&outbox);
            let ended = if number.is_some() { reader::run(desk, &outbox, reading) } else { Ok(()) };
            number.and_then(|number| lock(links).outboxes.remove(&number));
            outbox.close();
            ended
        });
    match served {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => tracing::warn!(name: "link_closed", reason, "closed the connection of the front"),
        Err(error) => tracing::warn!(name: "link_failed", %error, "could not serve a connection"),
    }
}
