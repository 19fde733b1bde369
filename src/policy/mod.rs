//! Who may do what. Pure decisions over rules that were read once; nothing in here asks a socket or a clock.
//!
//! A policy is a directory of `*.toml` files, read in the order of their names. A `[[peer]]` rule has conditions, all
//! of which must hold, and grants. The grants of all rules that match a peer add up; no rule takes away, so their order
//! does not matter. What no rule grants is denied, to root as well. A `[[template]]` is the upper bound of what goes
//! into a passport that is issued from it.
//!
//! ```toml
//! [[peer]]
//! name = "web"                  # unique
//! user = "www-data"             # or uid = 33
//! # group = "web"               # or gid = 33: the primary group, as the kernel saw it at connect
//! # groups = ["web", "admins"]  # a member of any of these, be it primary or supplementary
//! # listener = "web"            # came in by this socket
//! # cgroup = "/system.slice/web.service" # runs in this unit, beside user or uid; where the kernel says so (Linux 6.5)
//! allow = ["issue", "verify", "introspect", "keys"]
//! templates = ["demo"]          # that it may issue from
//! verify_as = ["demo"]          # audiences that it may verify as
//! seal_namespaces = ["t1/web/*"] # where it may seal and unseal secrets
//! exchange_templates = ["demo"] # for whose passports it may have tickets; exchange_rpm = 1000: so many a minute
//! watch_tenants = ["t2"]        # of which it may hear, beside the tenants of its templates; "*": of all
//! rps = 1000                    # items a second; issue_rps = 500: issues among them
//! max_connections = 64          # and max_bytes = 1048576 that may be in flight
//!
//! [[template]]
//! name = "demo"
//! tenant = "t1"
//! purpose = "auth"
//! subjects = ["svc/*", "{user}"]
//! audiences = ["demo", "api"]
//! scopes = ["read", "write"]
//! default_scopes = ["read"]
//! actions = ["open"]
//! max_ttl_s = 3600
//! default_ttl_s = 600
//! forms = ["envelope"]          # the default; "jws" is for verifiers with a JOSE library of their own
//! limit = 10                    # how often a passport may be accepted; nonce = "optional": it may name a value that is
//! proof = "required"            # accepted once; proof: whoever presents it must prove to have the key of its thumbprint
//! bind = "peer"                 # bound to the uid that asks for it, or for which it asks: nobody else may present it
//! # offline_risk = true          # needed for "jws" beside limit, nonce, proof or bind, and of tickets, which only the daemon can honour
//! ```
//!
//! A number that several matching rules name counts as the largest of them; where none names it, the configuration's
//! limit holds.

mod build;
pub mod cgroup;
mod decide;
mod difference;
mod error;
mod exchange;
mod explain;
mod file;
mod issue;
mod load;
mod names;
mod operation;
mod peer;
mod source;
pub mod suggest;
mod template;
mod templates;

#[cfg(test)]
mod tests;

pub use decide::{Decision, Denial, DenyCode, Grant, Policy, Rights, Share};
pub use error::PolicyError;
pub use exchange::ExchangeWish;
pub use explain::{ConditionNote, Explanation, RuleNote};
pub use issue::{Bounds, IssueWish, Terms};
pub use load::{MAX_FILE_BYTES, MAX_FILES, PolicyFile};
pub use names::{Names, Overflow, SystemNames};
pub use operation::Operation;
pub use peer::{Peer, Rule};
pub use template::Template;
