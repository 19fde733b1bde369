//! The command line of `passportd`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use nix::sys::signal::Signal;

/// Issues and verifies short-lived, signed capability documents for the services on a host.
#[derive(Debug, Parser)]
#[command(name = "passportd", version, about, arg_required_else_help = true)]
pub(super) struct Arguments {
    /// What this process is.
    #[command(subcommand)]
    pub(super) role: Role,
}

/// The roles of DESIGN §3, one process each.
#[derive(Debug, Subcommand)]
pub(super) enum Role {
    /// Serves the sockets; knows no secret.
    Front(Common),
    /// Holds the HSM; serves the front alone.
    Signer(Common),
    /// Carries out one ceremony for the admin at the other end of standard input, a connected Unix socket.
    Ceremony(Common),
    /// Starts the other roles where systemd does not: for development and containers.
    Run(Common),
}

/// What every role takes.
#[derive(Clone, Debug, Args)]
pub(super) struct Common {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Keep nothing: keys in the signer's sessions, state and log in memory, no file written. As `[security] amnesia = true`.
    #[arg(long)]
    pub(super) amnesia: bool,
    /// The process whose end ends this one; given by `run` to its children.
    #[arg(long, value_name = "PID", hide = true)]
    pub(super) parent: Option<u32>,
}

impl Role {
    /// The role's name, as on the command line.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Front(_) => "front",
            Self::Signer(_) => "signer",
            Self::Ceremony(_) => "ceremony",
            Self::Run(_) => "run",
        }
    }

    /// The signals that the role heeds; all others are held back (docs/LIFECYCLE.md).
    pub(super) const fn heeds(&self) -> &'static [Signal] {
        match self {
            // SIGHUP is held until there is somebody to heed it, and so kept over the start.
            Self::Front(_) | Self::Signer(_) => &[Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT],
            // Not to be interrupted by a Ctrl-C at `run` or by its end: SoftHSM lost its token in 106 of 200 kills during a
            // login (DESIGN §8). A ceremony is short, and its waits are bounded.
            Self::Ceremony(_) => &[],
            Self::Run(_) => &[Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP],
        }
    }

    /// What every role takes.
    pub(super) const fn common(&self) -> &Common {
        match self {
            Self::Front(common) | Self::Signer(common) | Self::Ceremony(common) | Self::Run(common) => common,
        }
    }
}
