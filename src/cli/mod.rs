//! `passportctl`: the tool for services, operators and HSM admins.
//!
//! | part | what it does |
//! |---|---|
//! | [`args`] | the command line and its help |
//! | [`context`], [`out`], [`input`], [`text`] | sockets, output, JSON that comes in, cells of tables |
//! | [`service`], [`passports`] | commands on the services' socket |
//! | [`admin`], [`status`] | commands on the admins' socket |
//! | [`hsm`], [`ceremony`] | key ceremonies over the ceremony's socket |
//! | [`policy`], [`config`] | what needs no daemon: checking and explaining files |
//! | [`smoke`], [`scrape`], [`mod@bench`] | trying and measuring a running daemon |
//!
//! Answers go to stdout, everything else to stderr; the exit code is [`Exit`].

mod admin;
mod args;
mod bench;
mod ceremony;
mod config;
mod context;
mod error;
mod hsm;
mod input;
mod out;
mod passports;
mod policy;
mod scrape;
mod service;
mod smoke;
mod status;
mod text;

use std::ffi::OsString;
use std::io;

use clap::{CommandFactory as _, Parser as _};

use args::{Arguments, Command};
use context::Context;
pub use error::{CliError, Exit};
use out::{Out, Screen};

/// Runs the command that `arguments` (the program's name first) spell, on the process's own stdin, stdout and stderr.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to stdout and is no error; a reader that has left has seen enough.
            drop(error.print());
            return if error.use_stderr() { Exit::Usage } else { Exit::Ok };
        }
    };
    let Arguments { global, command } = arguments;
    let (mut stdin, mut stdout, mut stderr) = (io::stdin().lock(), io::stdout().lock(), io::stderr().lock());
    let out = Out::new(&mut stdout, &mut stderr, Screen::stdout(), global.output);
    let mut context = Context { global, environment: std::env::vars_os().collect(), stdin: &mut stdin, out };
    match execute(&mut context, command) {
        Ok(exit) => exit,
        Err(error) => {
            context.out.note(&error.to_string());
            error.exit()
        }
    }
}

fn execute(context: &mut Context<'_>, command: Command) -> Result<Exit, CliError> {
    // One thread: the tool shares its two processors with the daemon that it asks.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::Failed(format!("can't start: {error}")))?;
    runtime.block_on(dispatch(context, command))
}

async fn dispatch(context: &mut Context<'_>, command: Command) -> Result<Exit, CliError> {
    match command {
        Command::Ping => service::ping(context).await,
        Command::Version => service::version(context).await,
        Command::Whoami(from) => service::whoami(context, from).await,
        Command::Health(from) => service::health(context, from).await,
        Command::Keys(keys) => service::keys(context, keys).await,
        Command::Issue(issue) => passports::issue(context, issue).await,
        Command::Verify(verify) => passports::verify(context, verify).await,
        Command::Introspect(verify) => passports::introspect(context, verify).await,
        Command::Status => admin::status(context).await,
        Command::Attest => admin::attest(context).await,
        Command::Key(command) => admin::key(context, command).await,
        Command::Pause { reason } => admin::pause(context, &reason).await,
        Command::Resume => admin::resume(context).await,
        Command::Reload => admin::reload(context).await,
        Command::Drain => admin::drain(context).await,
        Command::Undrain => admin::undrain(context).await,
        Command::Hsm(command) => hsm::run(context, command).await,
        Command::Policy(command) => policy::run(context, command),
        Command::Config(command) => config::run(context, &command),
        Command::Smoke(smoke) => smoke::run(context, smoke).await,
        Command::Bench(bench) => bench::run(context, bench).await,
        Command::Completions(args::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "passportctl", &mut script);
            context.out.bytes(&script).map(|()| Exit::Ok)
        }
    }
}
