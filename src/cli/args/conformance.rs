//! Options of `conformance`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::seconds;

const EXAMPLES: &str = "\
Runs every case of docs/WIRE.md that the daemon's policy lets this user run; what it does not is skipped, and the line says
why. Exits 1 if any case fails. A daemon in use is not disturbed unless --disruptive is given: that pauses, drains and
reloads it for a moment.

Examples:
  passportctl conformance
  passportctl conformance --only verify-one --output json
  passportctl conformance --disruptive --door stranger=/run/passportd/stranger.sock";

/// `conformance`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Conformance {
    /// A directory of cases, instead of those in this program
    #[arg(long, value_name = "DIR")]
    pub(crate) cases: Option<PathBuf>,
    /// Only the case of this name; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Vec<String>,
    /// Run what disturbs others, too: pause, drain, reload
    #[arg(long)]
    pub(crate) disruptive: bool,
    /// How plain requests are sent: as frames of our own making, or by the client library
    #[arg(long, value_enum, default_value = "frames")]
    pub(crate) via: Via,
    /// A further socket that cases ask for by name, such as `stranger` or `narrow`; may be repeated
    #[arg(long, value_name = "NAME=PATH", value_parser = door)]
    pub(crate) door: Vec<(String, PathBuf)>,
    /// The template to issue by [default: the first that this user may use]
    #[arg(long)]
    pub(crate) template: Option<String>,
    /// The subject of the passports
    #[arg(long, default_value = "conformance")]
    pub(crate) sub: String,
    /// The daemon's passport.clock_skew_s [default: the configuration's]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) clock_skew: Option<u32>,
    /// The longest that a case may wait for time to pass; longer ones are skipped
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) max_wait: Duration,
}

/// How plain requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Via {
    /// Frames written and read byte by byte.
    Frames,
    /// The library that services link.
    Client,
}

fn door(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.to_owned(), path.into())),
        _ => Err("expected NAME=PATH, such as stranger=/run/passportd/stranger.sock".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::door;

    #[test]
    fn a_door_has_a_name_and_a_path() {
        assert_eq!(door("a=/b=c"), Ok(("a".to_owned(), "/b=c".into())));
        for bad in ["", "a", "=b", "a="] {
            assert!(door(bad).is_err(), "{bad}");
        }
    }
}
