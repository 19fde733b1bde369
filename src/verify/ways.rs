//! What the configuration and the log call a way.

use super::{Difference, Way};
use crate::config::Engine;

/// The ways that `[verify] engine` asks for, best first; none is the reference.
pub fn ways(engine: Engine) -> &'static [Way] {
    match engine {
        Engine::Dalek => &[],
        Engine::Portable => &[Way::Portable],
        Engine::Auto => &[Way::Ifma, Way::Portable],
    }
}

/// Puts on the log how signatures are verified from the start.
pub fn say_way(way: Way) {
    tracing::info!(name: "verify_path", verify_path = way.name(), "signatures are verified by the path {way}");
}

/// Puts on the log that a way is not used any more, by front and signer alike.
pub fn say_difference(difference: &Difference) {
    let Difference { way, net, about } = difference;
    tracing::error!(
        name: "verify_differs", verify_path = way.name(), net = net.name(), %about,
        "the verification path {way} differs from verify_strict and is not used any more; keep the records, and test the \
         machine's memory and processor"
    );
}
