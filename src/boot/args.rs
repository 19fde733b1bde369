//! The command line of `passportd`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

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

    /// What every role takes.
    pub(super) const fn common(&self) -> &Common {
        match self {
            Self::Front(common) | Self::Signer(common) | Self::Ceremony(common) | Self::Run(common) => common,
        }
    }
}
