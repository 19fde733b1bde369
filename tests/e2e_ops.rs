//! Every operation of both sockets over a real SoftHSM, what passports say, every code, and the stream of bytes.
#![cfg(test)]

#[path = "e2e/bent.rs"]
mod bent;
#[path = "e2e/codes.rs"]
mod codes;
#[path = "e2e/counted.rs"]
mod counted;
#[path = "e2e/defaults.rs"]
mod defaults;
#[path = "e2e/every_code.rs"]
mod every_code;
#[path = "e2e/ops.rs"]
mod ops;
#[path = "e2e/remembered.rs"]
mod remembered;
#[path = "e2e/stream.rs"]
mod stream;
#[expect(dead_code, reason = "shared by several tests")]
mod support;
#[path = "e2e/time.rs"]
mod time;
#[path = "e2e/together.rs"]
mod together;
#[path = "e2e/trouble.rs"]
mod trouble;
#[path = "e2e/verdicts.rs"]
mod verdicts;
