//! What each message does: one exhaustive `match` per socket, in `services` and `admins`, readable top to bottom.

mod admins;
mod challenges;
mod consuming;
mod exchanging;
pub mod gate;
mod issuing;
mod outcome;
mod problems;
pub mod rate;
pub mod refusals;
mod revoking;
mod sealing;
mod services;
pub mod shares;
pub mod stints;
pub mod tally;
mod together;
mod verifying;
mod watching;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::error;
use zeroize::Zeroize as _;

pub use admins::Admin;
pub use services::{Gates, Service};

use crate::audit;
use crate::lifecycle::{Daemon, Live};
use crate::metrics::Endpoint;
use crate::policy::{Peer, Rights};
use crate::wire::hello::MAX_CLIENT;
use crate::wire::{
    Code, Greeting, Hello, Identity, Limits, MAX_FRAME, Problem, WIRE_VERSION, Welcome, decode, encode_frame,
};
use shares::{Lease, Place};

/// The daemon's name and version, as clients see it.
pub const SERVER: &str = concat!("passportd/", env!("CARGO_PKG_VERSION"));

/// A reply that is done, already a frame; the lease covers its memory until it is written.
#[derive(Debug)]
pub struct Done {
    /// The frame.
    pub frame: Vec<u8>,
    /// What it holds of the byte budget.
    pub lease: Option<Lease>,
    /// It holds a secret: whoever writes it zeroises what it went through.
    pub sensitive: bool,
}

impl Drop for Done {
    fn drop(&mut self) {
        if self.sensitive {
            self.frame.zeroize();
        }
    }
}

/// Work that outlives its turn.
pub type Later = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What became of a request.
pub enum Turned {
    /// It is answered.
    Done,
    /// The answer comes later.
    Later(Later),
    /// It is answered with `rate_limited`; the peer is left unread for so long, so that asking on costs it time and not us.
    Pause(Duration),
}

/// The greeting was refused.
#[derive(Debug)]
pub struct Refused;

/// What a socket's messages mean. One implementation for services, one for admins.
pub trait Speaker: Send + Sync + 'static {
    /// Answers the first frame into `out`.
    ///
    /// # Errors
    /// The refusal is in `out`; close after it.
    fn greet(&self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Refused>;

    /// Handles the next of `bodies`, and as many of those behind it as are better done together: replies go to `out`, or
    /// come later. There is one at least.
    fn turn<'b>(
        &self,
        bodies: &mut (impl Iterator<Item = &'b [u8]> + Send),
        out: &mut Vec<u8>,
    ) -> impl Future<Output = Turned> + Send;

    /// Appends a reply with a problem to `out`.
    fn refuse(&self, id: u64, problem: Problem, out: &mut Vec<u8>);

    /// The peer asks for nothing more: what waits for something to happen is answered as it is.
    fn ended(&self) {}

    /// Says in `out` that there is no memory for the greeting, where the peer expects the answer to it.
    fn refuse_greeting(&self, out: &mut Vec<u8>);
}

/// The peer of one connection, and what it may do.
struct Client {
    daemon: Arc<Daemon>,
    peer: Arc<Peer>,
    place: Arc<Place>,
    /// Rights under the policy of a generation; looked up again after a reload.
    rights: Mutex<(u64, Arc<Rights>)>,
}

impl Client {
    fn new(daemon: Arc<Daemon>, peer: Peer, place: Arc<Place>) -> Self {
        let live = daemon.live.load();
        let rights = Mutex::new((live.generation, Arc::new(live.policy.rights(&peer))));
        drop(live);
        Self { daemon, peer: Arc::new(peer), place, rights }
    }

    fn rights(&self, live: &Live) -> Arc<Rights> {
        let mut rights = self.rights.lock().unwrap_or_else(PoisonError::into_inner);
        if rights.0 != live.generation {
            *rights = (live.generation, Arc::new(live.policy.rights(&self.peer)));
        }
        Arc::clone(&rights.1)
    }

    fn on_record(&self) -> audit::Peer {
        let Peer { uid, gid, pid, ref listener, .. } = *self.peer;
        audit::Peer { uid, gid, pid, listener: listener.clone() }
    }

    /// The answer to a greeting, the same on either socket.
    fn greeting(&self, body: &[u8], draining: bool) -> Result<Welcome, Problem> {
        let hello: Hello<'_> = decode(body).map_err(problems::of_wire)?;
        if hello.wire < WIRE_VERSION || hello.client.len() > MAX_CLIENT {
            return Err(Problem::new(if hello.wire < WIRE_VERSION {
                Code::UnsupportedVersion
            } else {
                Code::Malformed
            }));
        }
        if draining {
            return Err(Problem::new(Code::Draining));
        }
        outcome::greeted(&self.peer, hello.client);
        let live = self.daemon.live.load();
        let config = &live.loaded.config;
        let clamp = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        Ok(Welcome {
            wire: WIRE_VERSION,
            server: SERVER.to_owned(),
            issuer: config.passport.issuer.clone(),
            limits: Limits {
                max_frame: clamp(MAX_FRAME),
                max_msg_bytes: clamp(config.limits.max_msg_bytes),
                max_batch: clamp(config.limits.max_batch),
                max_in_flight: clamp(config.limits.max_in_flight),
            },
        })
    }

    fn greet(&self, body: &[u8], draining: bool, out: &mut Vec<u8>) -> Result<(), Refused> {
        let greeting = match self.greeting(body, draining) {
            Ok(welcome) => Greeting::Welcome(welcome),
            Err(problem) => {
                outcome::not_greeted(&self.peer, &problem);
                Greeting::Refused(problem)
            }
        };
        let refused = matches!(greeting, Greeting::Refused(_));
        // A greeting is far smaller than a frame may be.
        let encoded = encode_frame(&greeting, out);
        if refused || encoded.is_err() { Err(Refused) } else { Ok(()) }
    }

    fn refuse_greeting(&self, endpoint: Endpoint, out: &mut Vec<u8>) {
        self.daemon.metrics.busy.at(endpoint).inc();
        if let Err(error) = encode_frame(&Greeting::Refused(Problem::new(Code::Busy)), out) {
            error!(name: "reply_not_encoded", %error, "a refusal does not fit a frame");
        }
    }

    fn identity(&self, rights: &Rights) -> Identity {
        let names = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect();
        Identity {
            uid: self.peer.uid,
            gid: self.peer.gid,
            pid: self.peer.pid,
            groups: self.peer.groups.clone(),
            listener: self.peer.listener.clone(),
            rules: rights.rules().map(|rule| rule.name().to_owned()).collect(),
            operations: rights.operations().map(|operation| operation.to_string()).collect(),
            templates: names(rights.templates().into_iter().map(crate::policy::Template::name).collect()),
            audiences: names(rights.verify_as()),
        }
    }
}
