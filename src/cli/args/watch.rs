//! Options of `watch`.

use clap::Args;

use crate::cli::watch::topic;
use crate::wire::{Cursor, Topic};

const WATCH: &str = "\
A line for each event of the tenants that policy lets this user watch (`watch`, `watch_tenants`), once it is in effect. The first line
says from where it begins, and so does one after a restart of the daemon. It goes on by itself when the connection is lost, and misses
nothing; if the daemon no longer has what came meanwhile, a line says how much is lost.

Examples:
  passportctl watch
  passportctl watch --topics revocations,epochs --output json | jq -c .what
  passportctl watch --once --topics drain --timeout 60";

/// `watch`.
#[derive(Debug, Args)]
#[command(after_help = WATCH)]
pub(crate) struct Watch {
    /// About what: keys, revocations, epochs, policy, drain [default: everything]
    #[arg(long, value_delimiter = ',', value_parser = topic, value_name = "TOPICS")]
    pub(crate) topics: Vec<Topic>,
    /// What comes after this cursor, which an earlier `watch` said for the same topics
    #[arg(long, value_name = "CURSOR")]
    pub(crate) after: Option<At>,
    /// One answer: what there is, or what comes first within three quarters of --timeout, and 30 s at most
    #[arg(long)]
    pub(crate) once: bool,
}

/// A cursor as it is typed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At(pub(crate) Cursor);
