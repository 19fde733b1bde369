//! The tool. Everything but the arguments and the exit code is in `passportd::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    passportd::cli::run(std::env::args_os()).into()
}
