//! What a revocation means: durable, and in effect at once, on every connection and in every batch.
#![cfg(test)]

#[path = "revoke/effect.rs"]
mod effect;
#[path = "revoke/late.rs"]
mod late;
#[path = "revoke/refused.rs"]
mod refused;
#[path = "revoke/stalled.rs"]
mod stalled;
#[expect(dead_code, reason = "shared by several tests")]
mod support;
#[path = "revoke/tool.rs"]
mod tool;
