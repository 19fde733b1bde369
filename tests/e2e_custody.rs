//! An HSM that hangs, lies, vanishes and comes back: nothing is lost, nothing bad is released, nobody waits for ever, and
//! whoever verifies meanwhile notices nothing (DESIGN §8).
#![cfg(test)]

#[path = "custody/beside.rs"]
mod beside;
#[path = "custody/blows.rs"]
mod blows;
#[path = "custody/canaries.rs"]
mod canaries;
#[path = "custody/doctor.rs"]
mod doctor;
#[path = "custody/ends.rs"]
mod ends;
#[path = "custody/faults.rs"]
mod faults;
#[path = "custody/front.rs"]
mod front;
#[path = "custody/holder.rs"]
mod holder;
#[path = "custody/idle.rs"]
mod idle;
#[path = "custody/kills.rs"]
mod kills;
#[path = "faults/load.rs"]
mod load;
#[path = "custody/memory.rs"]
mod memory;
#[path = "custody/pin.rs"]
mod pin;
#[expect(dead_code, reason = "shared by several tests")]
#[path = "abuse/proc.rs"]
mod proc;
#[path = "custody/real.rs"]
mod real;
#[path = "custody/sealed.rs"]
mod sealed;
#[path = "custody/start.rs"]
mod start;
#[expect(dead_code, reason = "shared by several tests")]
mod support;
#[path = "custody/times.rs"]
mod times;
#[path = "custody/turns.rs"]
mod turns;
