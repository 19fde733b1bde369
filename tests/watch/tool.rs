//! `passportctl watch` over a connection that is lost, and over a daemon that is.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use passportd::wire::AdminOp;
use serde_json::Value;

use crate::support::{House, Options, Roles};

/// What the tool is told of: one line each.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between the tool and the daemon; its connections can be cut.
struct Wire(Arc<Mutex<Vec<UnixStream>>>);

impl Wire {
    fn to(daemon: &Path, at: &Path) -> Self {
        let (listener, daemon) = (UnixListener::bind(at).unwrap(), daemon.to_owned());
        let open = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&open);
        thread::spawn(move || {
            for here in listener.incoming() {
                let Ok(here) = here else { return };
                // Nobody is there while the daemon is not: the tool sees that its connection ends.
                let Ok(there) = UnixStream::connect(&daemon) else { continue };
                for (from, to) in [(&here, &there), (&there, &here)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    thread::spawn(move || copy(from, to));
                }
                all.lock().unwrap().extend([here, there]);
            }
        });
        Self(open)
    }

    fn cut(&self) -> usize {
        let open = std::mem::take(&mut *self.0.lock().unwrap());
        open.iter().for_each(|one| drop(one.shutdown(Shutdown::Both)));
        open.len()
    }
}

fn copy(mut from: UnixStream, mut to: UnixStream) {
    let mut part = [0; 4096];
    while let Ok(n) = from.read(&mut part) {
        if n == 0 || to.write_all(&part[..n]).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Both));
}

/// The tool, until this value goes.
struct Tool(Child, Receiver<Value>);

impl Tool {
    fn watching(socket: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_passportctl"))
            .args(["watch", "--topics", "drain", "--output", "json", "--timeout", "4", "--socket"])
            .arg(socket)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (said, heard) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if said.send(serde_json::from_str(&line).unwrap()).is_err() {
                    return;
                }
            }
        });
        Self(child, heard)
    }

    fn next(&self) -> Value {
        self.1.recv_timeout(PATIENCE).unwrap()
    }

    /// Whether it drains, by the next event.
    fn draining(&self) -> bool {
        let event = self.next();
        event["what"]["draining"].as_bool().unwrap_or_else(|| panic!("{event}"))
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn the_tool_goes_on_after_a_lost_connection_without_a_gap_and_begins_anew_with_a_new_daemon() {
    let mut house = House::start(Options::default().roles(Roles::Apart));
    let socket = house.dir().join("wire.sock");
    let wire = Wire::to(&house.socket(), &socket);
    let tool = Tool::watching(&socket);
    let drained = |house: &House, on: bool| {
        house.admin_raw().admin(if on { AdminOp::Drain } else { AdminOp::Undrain }).unwrap();
    };
    assert!(tool.next().get("begin").is_some());
    drained(&house, true);
    assert!(tool.draining());
    // While the daemon drains nobody new gets in, so it ends before the connection does.
    drained(&house, false);
    assert!(!tool.draining());
    for _ in 0..2 {
        assert!(wire.cut() > 0);
        // What happens while it is away is told when it is back: each once, in order.
        drained(&house, true);
        drained(&house, false);
        assert!(tool.draining());
        assert!(!tool.draining());
    }
    // What the daemon before told nobody nobody knows.
    house.kill("front");
    house.start_role("front");
    house.wait_ready();
    let begun = tool.next();
    assert!(begun.get("begin").is_some(), "{begun}");
    drained(&house, true);
    assert!(tool.draining());
    assert!(tool.1.try_recv().is_err(), "nothing else was said");
}
