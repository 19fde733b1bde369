//! A service manager's end of `NOTIFY_SOCKET`.

use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// How long a message may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// What `so_far` sends itself, behind all that has come.
const MARK: &str = "mark";

/// A bound datagram socket, and all that arrived at it. A thread reads: the kernel's queue may be as short as ten.
pub(crate) struct Ear {
    socket: UnixDatagram,
    messages: Receiver<String>,
    /// What goes into `NOTIFY_SOCKET`.
    pub(crate) address: String,
    heard: Vec<String>,
}

impl Ear {
    /// At a name of the abstract namespace.
    pub(crate) fn abstract_name() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("passportd-ear-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Self::over(socket, format!("@{name}"))
    }

    /// At a path, to which everybody may send.
    pub(crate) fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        Self::over(socket, path.to_str().unwrap().to_owned())
    }

    fn over(socket: UnixDatagram, address: String) -> Self {
        let (tell, messages) = channel();
        let reads = socket.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Nothing is what a socket that was shut down reads.
            while let Ok(len @ 1..) = reads.recv(&mut buffer) {
                if tell.send(String::from_utf8(buffer[..len].to_vec()).unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { socket, messages, address, heard: Vec::new() }
    }

    /// The next message.
    ///
    /// # Panics
    /// When none comes in time.
    #[track_caller]
    pub(crate) fn next(&mut self) -> String {
        let Ok(message) = self.messages.recv_timeout(PATIENCE) else { panic!("nothing came after {:#?}", self.heard) };
        self.heard.push(message.clone());
        message
    }

    /// The next message that has a line that fits.
    #[track_caller]
    pub(crate) fn until(&mut self, fits: impl Fn(&str) -> bool) -> String {
        loop {
            let message = self.next();
            if message.lines().any(&fits) {
                return message;
            }
        }
    }

    /// All that came since the start or the last time that this was asked, without waiting for more.
    pub(crate) fn so_far(&mut self) -> Vec<String> {
        let own = self.socket.local_addr().unwrap();
        UnixDatagram::unbound().unwrap().send_to_addr(MARK.as_bytes(), &own).unwrap();
        self.until(|line| line == MARK);
        self.heard.pop();
        std::mem::take(&mut self.heard)
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        // Ends the thread.
        drop(self.socket.shutdown(Shutdown::Both));
    }
}
