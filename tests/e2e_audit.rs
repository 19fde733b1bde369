//! The ledger and its checkpoints, end to end: what an auditor is given, and what it proves.
#![cfg(test)]

#[path = "audit/checkpoints.rs"]
mod checkpoints;
#[path = "audit/document.rs"]
mod document;
#[expect(dead_code, reason = "shared by several tests")]
mod support;
#[path = "audit/tool.rs"]
mod tool;
