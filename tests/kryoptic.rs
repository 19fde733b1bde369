//! What passportd asks of a PKCS#11 module, of another one than SoftHSM: kryoptic, which differs in how it names things,
//! what it writes, and in that it counts refused PINs. `scripts/kryoptic` builds it.
#![cfg(test)]

#[path = "kryoptic/faults.rs"]
mod faults;
#[path = "kryoptic/keys.rs"]
mod keys;
#[path = "kryoptic/pin.rs"]
mod pin;
#[path = "kryoptic/seal.rs"]
mod seal;
#[expect(dead_code, reason = "shared by several tests")]
mod support;

use std::time::Duration;

use support::{House, Hsm, Options, skipped};

/// How long anything of this may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon over kryoptic; none, with the reason said, where there is none to be had.
fn house(options: impl FnOnce(Options) -> Options) -> Option<House> {
    match Hsm::Kryoptic.missing() {
        None => Some(House::start(options(Options::default().module(Hsm::Kryoptic)))),
        Some(why) => {
            skipped(why);
            None
        }
    }
}
