//! What may be accepted so often, or once: over all connections, batches, crashes and retries.
#![cfg(test)]

#[path = "spend/asked.rs"]
mod asked;
#[path = "spend/limits.rs"]
mod limits;
#[path = "spend/proofs.rs"]
mod proofs;
#[path = "spend/quota.rs"]
mod quota;
#[path = "spend/race.rs"]
mod race;
#[path = "spend/refused.rs"]
mod refused;
#[path = "spend/retry.rs"]
mod retry;
#[expect(dead_code, reason = "shared by several tests")]
mod support;
