//! An HSM that hangs, lies, vanishes and comes back: nothing is lost, nothing bad is released, nobody waits for ever, and
//! whoever verifies meanwhile notices nothing (DESIGN §8).
#![cfg(test)]

#[path = "custody/beside.rs"]
mod beside;
#[path = "custody/faults.rs"]
mod faults;
#[path = "faults/load.rs"]
mod load;
#[expect(dead_code, reason = "shared by several tests")]
#[path = "abuse/proc.rs"]
mod proc;
#[path = "custody/start.rs"]
mod start;
#[expect(dead_code, reason = "shared by several tests")]
mod support;
