//! How long the end of a role may take: what it announces to the service manager, and what `run` waits before it kills.

use std::time::Duration;

use crate::config::Config;

/// What the front's end may take beyond the graceful time: records, state and ledger are closed.
const FRONT_MARGIN: Duration = Duration::from_secs(10);
/// What the signer's end may take beyond the longest call into the module.
const SIGNER_MARGIN: Duration = Duration::from_secs(5);
/// What a ceremony's end may take: longer than a peer may take over its request.
pub(super) const CEREMONY: Duration = Duration::from_secs(12);

/// What the front gives connections to finish what is under way.
pub(super) const fn graceful(config: &Config) -> Duration {
    Duration::from_secs(config.server.graceful_shutdown_timeout_s)
}

/// The front's end.
pub(super) fn front(config: &Config) -> Duration {
    graceful(config) + FRONT_MARGIN
}

/// The signer's end: calls into the module are waited for as long as they may take.
pub(super) fn signer(config: &Config) -> Duration {
    Duration::from_millis(config.hsm.op_timeout_ms) + SIGNER_MARGIN
}
