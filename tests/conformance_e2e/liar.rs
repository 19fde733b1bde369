//! A daemon that answers wrongly: the real one behind a proxy that changes some of its replies.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use passportd::wire::{Code, Reply, ServiceOk, Verdict, decode, encode_frame};

/// The proxy. Its threads end with the test's process.
pub(crate) struct Liar {
    socket: PathBuf,
}

impl Liar {
    /// Serves `socket` with the answers of the daemon at `daemon`, changed.
    pub(crate) fn before(daemon: &Path, socket: &Path) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let daemon = daemon.to_owned();
        std::thread::spawn(move || {
            for peer in listener.incoming() {
                let (peer, real) = (peer.unwrap(), UnixStream::connect(&daemon).unwrap());
                let (requests, to) = (peer.try_clone().unwrap(), real.try_clone().unwrap());
                std::thread::spawn(move || forward(requests, to));
                std::thread::spawn(move || answer(real, peer));
            }
        });
        Self { socket: socket.to_owned() }
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }
}

/// Requests, as they are.
fn forward(mut from: UnixStream, mut to: UnixStream) {
    drop(std::io::copy(&mut from, &mut to));
    drop(to.shutdown(Shutdown::Write));
}

/// Replies, changed.
fn answer(mut from: UnixStream, mut to: UnixStream) {
    let mut header = [0; 4];
    while from.read_exact(&mut header).is_ok() {
        let mut body = vec![0; u32::from_be_bytes(header) as usize];
        from.read_exact(&mut body).unwrap();
        let frame = match decode(&body).map(told_otherwise) {
            Ok(frame) => frame,
            // A greeting.
            Err(_) => [&header[..], &body].concat(),
        };
        if to.write_all(&frame).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Both));
}

fn told_otherwise(mut reply: Reply) -> Vec<u8> {
    let mut frame = Vec::new();
    match &mut reply.result {
        Ok(ServiceOk::Verdict(verdict)) if *verdict == Verdict::Refused(Code::BadAlg) => {
            *verdict = Verdict::Refused(Code::BadKid);
        }
        Ok(ServiceOk::KeysNotModified { .. }) => encode_frame(&reply, &mut frame).unwrap(),
        Err(problem) if problem.message.starts_with("limits.max_batch") => problem.retryable = true,
        _ => {}
    }
    encode_frame(&reply, &mut frame).unwrap();
    frame
}
