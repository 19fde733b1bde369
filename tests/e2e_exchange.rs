//! Tickets: what they say, how often they are good, and what ends them.
#![cfg(test)]

#[path = "exchange/asked.rs"]
mod asked;
#[path = "exchange/bounds.rs"]
mod bounds;
#[path = "exchange/chains.rs"]
mod chains;
#[path = "exchange/ended.rs"]
mod ended;
#[path = "exchange/held.rs"]
mod held;
#[path = "exchange/killed.rs"]
mod killed;
#[path = "exchange/lives.rs"]
mod lives;
#[path = "exchange/retry.rs"]
mod retry;
#[expect(dead_code, reason = "shared by several tests")]
mod support;
