//! Starts that must not be made.

use nix::sys::signal::Signal;
use passportd::boot::EXIT_CONFIG;

use super::beside::{Baseline, Beside, recovers};
use super::support::house::FIRST_KEY;
use super::support::{House, Options, Roles, root_or_skip};
use super::times::keep;

#[test]
fn a_wrong_public_key_stops_the_start_until_it_is_right_again() {
    if !root_or_skip("a_wrong_public_key_stops_the_start_until_it_is_right_again") {
        return;
    }
    let mut house = House::start(Options::default().fault().roles(Roles::Apart));
    let (signer, beside) = (Baseline::of(&house, "signer"), Beside::start(&house));
    assert_eq!(house.end("signer", Signal::SIGTERM).code(), Some(0));
    house.fault(&format!("C_GetAttributeValue point=other label={FIRST_KEY}\nC_Login log"));
    house.start_role("signer");
    // systemd and `run` start it again after any other code.
    assert_eq!(house.ended_role("signer").code(), Some(i32::from(EXIT_CONFIG)), "{}", house.log());
    assert!(house.log().contains(&format!("the public key of {FIRST_KEY} in the HSM is not the pinned one")));
    assert_eq!(house.calls("C_Login"), 1);
    house.no_fault();
    house.start_role("signer");
    keep(&house, "another public key at the start", None, recovers(&house));
    beside.end(&house);
    signer.again(&house);
}
