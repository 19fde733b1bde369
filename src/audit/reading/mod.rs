//! Reading the ledger without being the daemon: what auditors run, on any copy and with no privileges.
//!
//! | part | what it does |
//! |---|---|
//! | [`source`], [`segments`], [`journal`] | lines from files, a ledger's directory, a journal |
//! | [`mod@line`] | a record, borrowed from its line |
//! | [`mod@chain`] | each record follows the one before it |
//! | [`mod@anchors`] | checkpoints and keys that an auditor holds |
//! | [`proofs`] | what shows one record, or one checkpoint, to somebody without the ledger |
//! | [`filter`] | which records somebody wants to see |
//! | [`checks`] | chain and checkpoints together |
//! | [`tally`] | what the records of a period add up to |

pub mod anchors;
pub mod chain;
pub mod checks;
pub mod filter;
pub mod journal;
pub mod line;
pub mod proofs;
pub mod segments;
pub mod source;
pub mod tally;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
