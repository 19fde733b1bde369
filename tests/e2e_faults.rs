//! What breaks under load: processes that are killed, stopped or told to end, and disks that are full or hang. Nothing that was
//! acknowledged is lost, nothing is released without its record, and the daemon recovers by itself (laws L2, L7, L11).
#![cfg(test)]

#[path = "faults/disk.rs"]
mod disk;
#[path = "faults/errors.rs"]
mod errors;
#[path = "faults/failing.rs"]
mod failing;
#[path = "faults/hung.rs"]
mod hung;
#[path = "faults/killed.rs"]
mod killed;
#[path = "faults/ledger.rs"]
mod ledger_disk;
#[path = "faults/load.rs"]
mod load;
#[path = "faults/restart.rs"]
mod restart;
#[expect(dead_code, reason = "shared by several tests")]
mod support;
