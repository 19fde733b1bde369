//! `passportctl`: the tool for services, operators and HSM admins.
//!
//! | part | what it does |
//! |---|---|
//! | [`args`] | the command line and its help |
//! | [`environment`] | variables that stand for options |
//! | [`context`], [`out`], [`progress`], [`input`], [`text`] | sockets, output, JSON that comes in, cells of tables |
//! | [`service`], [`passports`], [`proving`], [`exchanging`], [`holder`], [`seal`], [`publish`] | commands on the services' socket, and files that they make |
//! | [`admin`], [`status`], [`attestation`] | commands on the admins' socket |
//! | [`mod@revoke`] | revoking passports, subjects, keys and epochs, on either socket |
//! | [`inspect`] | what a passport says, without trust |
//! | [`hsm`], [`ceremony`] | key ceremonies over the ceremony's socket |
//! | [`mod@state`] | checking, exporting, importing and restoring the state's file; the clock's reset |
//! | [`mod@audit`] | verifying, showing and exporting audit records |
//! | [`policy`], [`config`] | what needs no daemon: checking and explaining files |
//! | [`doctor`] | everything that can be set up wrong, with and without the daemon |
//! | [`smoke`], [`conformance`], [`scrape`], [`mod@bench`] | trying and measuring a running daemon |
//!
//! Answers go to stdout, everything else to stderr; the exit code is [`Exit`].

mod admin;
mod args;
mod attestation;
mod audit;
mod bench;
mod ceremonies;
mod ceremony;
mod config;
mod conformance;
mod context;
mod doctor;
mod environment;
mod error;
mod exchanging;
mod holder;
mod hsm;
mod html;
mod input;
mod inspect;
mod keys;
mod out;
mod owner;
mod passports;
mod policy;
mod progress;
mod proving;
mod publish;
mod revoke;
mod scrape;
mod seal;
mod service;
mod smoke;
mod state;
mod status;
mod text;
mod watch;

use std::ffi::OsString;
use std::io;

use clap::{CommandFactory as _, Parser as _};

use crate::clock::Moment;
use args::{Arguments, Command};
use context::Context;
pub use error::{CliError, Exit};
use out::{Out, Screen};

/// The command line as clap has it, for completions, manuals, and tests that walk every command.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the command that `arguments` (the program's name first) spell, on the process's own stdin, stdout and stderr.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let environment: Vec<_> = std::env::vars_os().collect();
    // No lock on stderr: progress is drawn there from a thread of its own.
    let (mut stdin, mut stdout, mut stderr) = (io::stdin().lock(), io::stdout().lock(), io::stderr());
    let mut out = Out::new(&mut stdout, &mut stderr, Screen::own(), None);
    let Arguments { global, command } = match Arguments::try_parse_from(&arguments) {
        Ok(arguments) => arguments,
        Err(error) => return unparsed(&mut out, &error, &arguments),
    };
    let out = out.with_format(global.output);
    let mut context = Context { global, environment, stdin: &mut stdin, out };
    for warning in environment::warnings(&context.environment) {
        context.out.note(&warning);
    }
    let outcome = execute(&mut context, command);
    context.out.answered();
    ended(outcome, &mut context.out)
}

/// The exit of what was done, and a line on stderr where it went wrong.
fn ended(outcome: Result<Exit, CliError>, out: &mut Out<'_>) -> Exit {
    outcome.unwrap_or_else(|error| {
        out.note(&error.to_string());
        error.exit()
    })
}

/// Help and version are answers like all others; everything else is for stderr.
fn unparsed(out: &mut Out<'_>, error: &clap::Error, typed: &[OsString]) -> Exit {
    let text = error.render().to_string();
    if !error.use_stderr() {
        return ended(out.bytes(text.as_bytes()).map(|()| Exit::Ok), out);
    }
    out.error(&text);
    if let Some(culprit) = environment::culprit(error, typed) {
        out.note(&culprit);
    }
    Exit::Usage
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
        Command::Verify(verify) => passports::verify(context, verify, Moment::now()).await,
        Command::Challenge(challenge) => proving::challenge(context, challenge).await,
        Command::Exchange(exchange) => exchanging::exchange(context, exchange, Moment::now()).await,
        Command::TicketTtl(wish) => exchanging::ticket_ttl(context, wish).await,
        Command::Introspect(verify) => passports::introspect(context, verify).await,
        Command::Inspect(inspect) => inspect::run(context, &inspect),
        Command::Revoke(revoke) => revoke::revoke(context, revoke).await,
        Command::Epoch(command) => revoke::epoch(context, command).await,
        Command::Watch(watch) => watch::watch(context, watch).await,
        Command::Seal(seal) => seal::seal(context, seal).await,
        Command::Unseal(unseal) => seal::unseal(context, unseal).await,
        Command::Reseal(reseal) => seal::reseal(context, reseal).await,
        Command::Status => admin::status(context).await,
        Command::Attest(attest) => attestation::run(context, &attest).await,
        Command::Key(command) => keys::run(context, command).await,
        Command::Pause { reason } => admin::pause(context, &reason).await,
        Command::Resume => admin::resume(context).await,
        Command::Reload => admin::reload(context).await,
        Command::Drain => admin::drain(context).await,
        Command::Undrain => admin::undrain(context).await,
        Command::Hsm(command) => hsm::run(context, command).await,
        Command::Ceremony(args::CeremonyCommand::ClockReset(reset)) => {
            state::clock_reset(context, &reset, Moment::now())
        }
        Command::Ceremony(command) => ceremonies::run(context, command, Moment::now()).await,
        Command::State(command) => state::run(context, command, Moment::now()),
        Command::Audit(command) => audit::run(context, command, Moment::now()).await,
        Command::Policy(command) => policy::run(context, command),
        Command::Config(command) => config::run(context, &command),
        Command::Doctor => doctor::run(context).await,
        Command::Smoke(smoke) => smoke::run(context, smoke).await,
        Command::Conformance(conformance) => conformance::run(context, conformance).await,
        Command::Bench(bench) => bench::run(context, bench).await,
        Command::Completions(args::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut self::command(), "passportctl", &mut script);
            context.out.bytes(&script).map(|()| Exit::Ok)
        }
    }
}
