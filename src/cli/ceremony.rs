//! The ceremony's socket, from the admin's side: finding it, waiting for it, and what to say where that fails.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::error::CliError;
use crate::secret::Pin;
use crate::wire::ceremony::{MessageError, Report, Request, Response, call};

/// A ceremony copies the store and makes keys; some HSMs take long over each.
const PATIENCE: Duration = Duration::from_secs(120);

/// Holds a ceremony over its socket.
pub(super) fn hold(socket: &Path, request: &Request, pin: Option<&Pin>) -> Result<Report, CliError> {
    let stream = UnixStream::connect(socket).map_err(|why| no_socket(socket, &why))?;
    over(&stream, &socket.display().to_string(), request, pin)
}

/// What to do when nobody serves the socket.
fn no_socket(socket: &Path, why: &io::Error) -> CliError {
    CliError::Ceremony(format!(
        "can't connect to {}: {why}; start it with `systemctl start passportd-ceremony.socket`, and call as a user who \
         may hold ceremonies",
        socket.display()
    ))
}

/// How `passportd ceremony` is started where nobody listens.
#[derive(Debug)]
pub(super) struct Starting {
    pub(super) config: Option<PathBuf>,
    /// The module's own configuration, and the variable that names it: `SOFTHSM2_CONF`, `KRYOPTIC_CONF`.
    pub(super) module_config: Option<(String, PathBuf)>,
}

/// Holds a ceremony over its socket or, where nobody serves that, with a ceremony process of our own.
pub(super) fn hold_anyway(
    socket: &Path,
    starting: &Starting,
    request: &Request,
    pin: Option<&Pin>,
) -> Result<Report, CliError> {
    match UnixStream::connect(socket) {
        Ok(stream) => over(&stream, &socket.display().to_string(), request, pin),
        Err(why) => with_child(starting, request, pin).map_err(|error| match error {
            CliError::File { path, why: unstarted } => CliError::Ceremony(format!(
                "{}; nor can {} be started: {unstarted}",
                no_socket(socket, &why),
                path.display()
            )),
            other => other,
        }),
    }
}

fn with_child(starting: &Starting, request: &Request, pin: Option<&Pin>) -> Result<Report, CliError> {
    let beside =
        std::env::current_exe().ok().map(|tool| tool.with_file_name("passportd")).filter(|path| path.is_file());
    let program = beside.unwrap_or_else(|| PathBuf::from("passportd"));
    let unstarted = |why| CliError::File { path: program.clone(), why };
    let (ours, theirs) = UnixStream::pair().map_err(unstarted)?;
    let mut command = Command::new(&program);
    command.arg("ceremony").stdin(OwnedFd::from(theirs));
    if let Some(config) = &starting.config {
        command.arg("--config").arg(config);
    }
    if let Some((name, file)) = &starting.module_config {
        command.env(name, file);
    }
    let mut child = command.spawn().map_err(unstarted)?;
    // It holds the other end of the pair too; without this, its death would not end our reading.
    drop(command);
    let report = over(&ours, "passportd ceremony", request, pin);
    drop(ours);
    child.wait().map_err(unstarted)?;
    report
}

fn over(stream: &UnixStream, at: &str, request: &Request, pin: Option<&Pin>) -> Result<Report, CliError> {
    let patient = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
    // The PIN goes from its locked page to the kernel, through no buffer of ours.
    let answer = patient.map_err(MessageError::Link).and_then(|()| call(stream, request, pin.map_or(&[], Pin::expose)));
    match answer {
        Ok(Response::Done(report)) => Ok(report),
        Ok(Response::Failed { code, message }) => Err(CliError::Ceremony(format!("{code}: {message}"))),
        Err(MessageError::Link(why)) => {
            Err(CliError::Ceremony(format!("{at}: {}; see `journalctl -u 'passportd-ceremony*'`", said(&why))))
        }
        Err(error) => Err(CliError::Answer(format!("{at}: {error}"))),
    }
}

fn said(why: &io::Error) -> String {
    match why.kind() {
        io::ErrorKind::UnexpectedEof => "the ceremony ended without an answer".to_owned(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => format!("no answer in {} s", PATIENCE.as_secs()),
        _ => why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ceremony::PlanKind;
    use std::io::{Read, Write};

    /// Serves one ceremony: returns the request and the PIN that arrived.
    fn ceremony(answer: &'static str) -> (tempfile::TempDir, PathBuf, std::thread::JoinHandle<[Vec<u8>; 2]>) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("ceremony.sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let frames = [(); 2].map(|()| {
                let mut header = [0; 4];
                stream.read_exact(&mut header).unwrap();
                let mut body = vec![0; u32::from_be_bytes(header) as usize];
                stream.read_exact(&mut body).unwrap();
                body
            });
            stream.write_all(&u32::try_from(answer.len()).unwrap().to_be_bytes()).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            frames
        });
        (dir, socket, server)
    }

    fn request() -> Request {
        Request {
            plan: PlanKind::Init,
            tenant: Some("t1".to_owned()),
            purpose: Some("auth".to_owned()),
            ..Request::default()
        }
    }

    #[test]
    fn request_and_pin_travel_apart() {
        let (_dir, socket, server) = ceremony(
            r#"{"done":{"keys":[{"kid":"ed25519/t1/auth/v1","role":"passport","public":"00","cka_id":"01",
            "made_now":true,"usable":true,"problem":"","mechanisms_bound":false}],"orphans":[],"findings":[],
            "backup":null,"module":"m","token":"t","warnings":[]}}"#,
        );
        let pin = Pin::take(&mut b"12\"34".to_vec()).unwrap();
        let report = hold(&socket, &request(), Some(&pin)).unwrap();
        assert!(report.keys[0].made_now);
        let [request, pin] = server.join().unwrap();
        assert_eq!(request, br#"{"plan":"init","tenant":"t1","purpose":"auth"}"#);
        assert_eq!(pin, b"12\"34");
    }

    #[test]
    fn a_refusal_keeps_its_code_and_words() {
        let (_dir, socket, server) = ceremony(r#"{"failed":{"code":"pin","message":"the HSM refused the PIN"}}"#);
        let request = Request { plan: PlanKind::List, ..Request::default() };
        assert_eq!(hold(&socket, &request, None).unwrap_err().to_string(), "pin: the HSM refused the PIN");
        assert_eq!(server.join().unwrap(), [br#"{"plan":"list"}"#.to_vec(), vec![]]);
    }

    #[test]
    fn no_socket_and_no_answer_say_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let missing = hold(&dir.path().join("none.sock"), &request(), None).unwrap_err().to_string();
        assert!(missing.contains("systemctl start passportd-ceremony.socket"), "{missing}");
        let (_dir, socket, server) = ceremony("not json");
        assert!(matches!(hold(&socket, &request(), None), Err(CliError::Answer(_))));
        server.join().unwrap();
    }
}
