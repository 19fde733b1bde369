//! `passportctl watch`: it goes on by itself, whatever becomes of its connection or of the daemon.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use passportd::wire::{ServiceOk, ServiceOp, What};
use serde_json::Value;

use super::{options, revoke_ids};
use crate::support::{House, Roles, eventually};

const PATIENCE: Duration = Duration::from_secs(20);

/// A tool that watches revocations. It ends with this value.
struct Watching {
    child: Child,
    lines: Receiver<String>,
    said: Receiver<String>,
}

fn lines_of(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (tell, hear) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            if tell.send(line.unwrap()).is_err() {
                return;
            }
        }
    });
    hear
}

impl Watching {
    fn start(socket: &Path, more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_passportctl"));
        command.args(["watch", "--topics", "revocations", "--output", "json"]).args(more).arg("--socket").arg(socket);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (lines, said) = (lines_of(child.stdout.take().unwrap()), lines_of(child.stderr.take().unwrap()));
        Self { child, lines, said }
    }

    /// The next line.
    fn next(&self) -> Value {
        let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            panic!("nothing comes; it says {:?}", self.said.try_iter().collect::<Vec<_>>());
        });
        serde_json::from_str(&line).unwrap()
    }

    /// The cursor that it begins with.
    fn begins(&self) -> String {
        let line = self.next();
        line["begin"]["cursor"].as_str().unwrap_or_else(|| panic!("it does not begin: {line}")).to_owned()
    }

    /// The next lines are of these passports; the cursor of the last.
    fn hears(&self, ids: &[&str]) -> String {
        let lines: Vec<_> = ids.iter().map(|_| self.next()).collect();
        let heard: Vec<_> = lines.iter().map(|line| line["what"]["jti"].as_str().unwrap_or("no event")).collect();
        assert_eq!(heard, ids, "{lines:?}");
        lines.last().unwrap()["cursor"].as_str().unwrap().to_owned()
    }

    /// Waits for it to say that it tries on.
    fn notices(&self) {
        let said = self.said.recv_timeout(PATIENCE).expect("it says what is the matter");
        assert!(said.ends_with("; trying on"), "{said}");
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A socket that hands on to the daemon's, until it is cut.
struct Line {
    socket: PathBuf,
    _dir: tempfile::TempDir,
    whole: Arc<AtomicBool>,
    /// What the daemon answers gets lost.
    losing: Arc<AtomicBool>,
    ends: Arc<Mutex<Vec<UnixStream>>>,
}

impl Line {
    fn to(daemon: PathBuf) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("line.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (whole, losing) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let ends: Arc<Mutex<Vec<UnixStream>>> = Arc::default();
        let line = Self { socket, _dir: dir, whole, losing, ends };
        let (whole, losing, ends) = (Arc::clone(&line.whole), Arc::clone(&line.losing), Arc::clone(&line.ends));
        // It ends with the test's process.
        thread::spawn(move || {
            for near in listener.incoming() {
                let (near, far) = (near.unwrap(), UnixStream::connect(&daemon));
                let (true, Ok(far)) = (whole.load(Ordering::SeqCst), far) else { continue };
                let both = || (near.try_clone().unwrap(), far.try_clone().unwrap());
                let ((near_in, far_out), (near_out, far_in)) = (both(), both());
                ends.lock().unwrap().extend([near, far]);
                thread::spawn(move || pass_on(near_in, far_out, &AtomicBool::new(false)));
                let losing = Arc::clone(&losing);
                thread::spawn(move || pass_on(far_in, near_out, &losing));
            }
        });
        line
    }

    fn cut(&self) {
        self.whole.store(false, Ordering::SeqCst);
        for end in self.ends.lock().unwrap().drain(..) {
            drop(end.shutdown(Shutdown::Both));
        }
        self.losing.store(false, Ordering::SeqCst);
    }

    fn mend(&self) {
        self.whole.store(true, Ordering::SeqCst);
    }
}

fn pass_on(mut from: UnixStream, mut to: UnixStream, losing: &AtomicBool) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if !losing.load(Ordering::SeqCst) && to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Both));
}

/// Every answer of a connection that breaks may be lost, and what happens while there is none is heard later: all of it once.
#[test]
fn it_goes_on_after_a_lost_connection_and_says_each_event_once() {
    let house = House::start(options());
    let line = Line::to(house.socket());
    let mut admin = house.admin_raw();
    let mut revoke = |id: &str| revoke_ids(&mut admin, "t1", &[id.to_owned()]);
    let watching = Watching::start(&line.socket, &[]);
    let waits = |count: f64| {
        eventually("so many wait", PATIENCE, || (house.metric("passport_watchers") == count).then_some(()));
    };
    watching.begins();
    revoke("r-0");
    watching.hears(&["r-0"]);
    // The answer that says so is lost.
    waits(1.0);
    line.losing.store(true, Ordering::SeqCst);
    revoke("r-1");
    waits(0.0);
    line.cut();
    watching.notices();
    revoke("r-2");
    revoke("r-3");
    line.mend();
    let after = watching.hears(&["r-1", "r-2", "r-3"]);
    // Cut while nothing is under way but the question.
    waits(1.0);
    line.cut();
    revoke("r-4");
    line.mend();
    revoke("r-5");
    watching.hears(&["r-4", "r-5"]);
    revoke("r-6");
    watching.hears(&["r-6"]);
    assert!(watching.lines.try_recv().is_err(), "nothing comes twice");
    // Who starts it anew from a cursor hears the rest, and no more.
    let once = Watching::start(&house.socket(), &["--once", "--after", &after]);
    once.hears(&["r-4", "r-5", "r-6"]);
    assert!(once.lines.recv_timeout(PATIENCE).is_err(), "it is over");
}

/// A cursor of another life begins anew (0053): nothing of before comes again, and all of it is on the pages; nothing is lost after.
#[test]
fn it_begins_anew_after_a_restart_of_the_daemon_and_loses_nothing_after() {
    let mut house = House::start(options().roles(Roles::Apart));
    let watching = Watching::start(&house.socket(), &[]);
    let mut cursors = vec![watching.begins()];
    let mut all = Vec::new();
    for (killed, life) in [(false, "a"), (true, "b")] {
        let ids = |numbers: &[u8]| numbers.iter().map(|number| format!("{life}-{number}")).collect::<Vec<_>>();
        let revoke = |house: &House, ids: &[String]| {
            let mut admin = house.admin_raw();
            ids.iter().for_each(|id| revoke_ids(&mut admin, "t1", std::slice::from_ref(id)));
        };
        let hears = |ids: &[String]| watching.hears(&ids.iter().map(String::as_str).collect::<Vec<_>>());
        let before = ids(&[0, 1]);
        revoke(&house, &before);
        let after = hears(&before);
        if killed {
            house.kill("front");
        } else {
            house.end("front", Signal::SIGTERM);
        }
        watching.notices();
        house.start_role("front");
        house.wait_ready();
        // From here on it is told everything.
        cursors.push(watching.begins());
        let later = ids(&[2, 3]);
        revoke(&house, &later);
        let newest = hears(&later);
        // Whoever begins looks at all that is in force.
        all.extend([before, later].concat());
        let on_page: Vec<_> = match house.ask(ServiceOp::Revocations { after: None }).unwrap() {
            ServiceOk::Revocations(page) => page.revoked.into_iter().map(|one| one.what).collect(),
            other => panic!("{other:?}"),
        };
        let is_there =
            |id: &String| on_page.iter().any(|what| matches!(what, What::RevokedId { jti, .. } if jti == id));
        assert!(all.iter().all(is_there), "{on_page:?}");
        // By hand, too.
        let anew = Watching::start(&house.socket(), &["--once", "--after", &after]);
        assert_ne!(anew.begins(), after);
        let on = Watching::start(&house.socket(), &["--once", "--timeout", "2", "--after", &newest]);
        assert!(on.lines.recv_timeout(PATIENCE).is_err(), "nothing is told twice");
    }
    assert!(watching.lines.try_recv().is_err(), "nothing comes twice");
    let lives: std::collections::BTreeSet<_> = cursors.iter().map(|cursor| cursor.split('-').next()).collect();
    assert_eq!(lives.len(), 3, "each life has cursors of its own: {cursors:?}");
}
