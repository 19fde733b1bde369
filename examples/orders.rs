//! A service that does what a passport allows, and nothing else: one line in, one line out, over a Unix socket of its own.
//!
//! ```text
//! orders SOCKET [PASSPORTD_SOCKET]
//! → {"alg":"Ed25519","kid":…}        a passport with audience "orders" and scope "orders:write"
//! ← ok                                or: refused: expired, or: try again: busy, or: can't judge: bad_aud
//! ```
//!
//! The unit that starts it is `examples/orders.service`. `docs/SERVICES.md` says why each line is there.

use std::process::ExitCode;
use std::time::Duration;

use passportd::client::{Client, ClientError, Options, Want};
use passportd::passport::OwnedEnvelope;
use passportd::wire::Verdict;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// A passport of 4 KiB takes 6 KiB as JSON; whoever sends more is not asking for an order.
const MAX_LINE: u64 = 8 << 10;
/// How long a caller may take for its line.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(own) = arguments.first() else {
        return ended("usage: orders SOCKET [PASSPORTD_SOCKET]");
    };
    let passportd = arguments.get(1).map_or("/run/passportd/passportd.sock", String::as_str);
    // Fails here and now if the socket is not there or policy does not know us; later losses reconnect by themselves.
    let client = match Client::connect(Options::service(passportd)).await {
        Ok(client) => client,
        Err(error) => return ended(&error.to_string()),
    };
    let listener = match UnixListener::bind(own) {
        Ok(listener) => listener,
        Err(error) => return ended(&format!("{own}: {error}")),
    };
    loop {
        match listener.accept().await {
            // All callers share one connection to passportd: their verifications are pipelined.
            Ok((caller, _)) => drop(tokio::spawn(serve(caller, client.clone()))),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn serve(mut caller: UnixStream, client: Client) {
    let mut line = Vec::new();
    let read = async { BufReader::new((&mut caller).take(MAX_LINE)).read_until(b'\n', &mut line).await };
    let answer = match tokio::time::timeout(PATIENCE, read).await {
        Ok(Ok(_)) => order(&line, &client).await,
        _ => return,
    };
    // A caller that has gone needs no answer.
    drop(caller.write_all(format!("{answer}\n").as_bytes()).await);
}

/// What becomes of one order. The verdict is passportd's; a passport that can't be judged now is not an accepted one.
async fn order(line: &[u8], client: &Client) -> String {
    let Ok(passport) = OwnedEnvelope::from_json(line.trim_ascii()) else {
        return "refused: that is no passport".to_owned();
    };
    let want = Want { aud: Some("orders".to_owned()), scopes: vec!["orders:write".to_owned()], ..Want::default() };
    match client.verify(&passport, &want).await {
        Ok(Verdict::Accepted(_) | Verdict::Consumed(_)) => "ok".to_owned(),
        Ok(Verdict::Refused(reason)) => format!("refused: {reason}"),
        Ok(Verdict::Unproven { why }) => format!("refused: {why}"),
        Err(ClientError::Problem(problem)) if problem.retryable => format!("try again: {}", problem.code),
        // Policy does not let us ask this: the operator's to mend, and no use in trying again.
        Err(ClientError::Problem(problem)) => format!("can't judge: {}", problem.code),
        Err(_) => "try again: passportd can't be reached".to_owned(),
    }
}

#[expect(clippy::print_stderr, reason = "a program of its own")]
fn ended(why: &str) -> ExitCode {
    eprintln!("orders: {why}");
    ExitCode::FAILURE
}
