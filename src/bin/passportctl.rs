//! The tool. Everything but the arguments and the exit code is in `passportd::cli`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    passportd::cli::run(std::env::args_os()).into()
}
