//! Unix sockets with exact owner and mode from their first moment.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind as bind_address, connect, listen, socket,
};
use nix::sys::stat::{Mode, fchmod};

/// How often a turn is tried for whose file was removed between opening and locking it: each time, another's has ended.
const TURNS: usize = 100;

/// Why a socket can't be offered. The operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Something else lives at the path.
    #[error("{0} exists and is not a socket; move it away or configure another path")]
    Occupied(PathBuf),
    /// Somebody serves the path already, or is about to.
    #[error("{0} is served by another process; stop it, or configure another path")]
    Served(PathBuf),
    /// The socket belongs to somebody else.
    #[error("{path} belongs to uid {uid}, not to us; remove it if nobody needs it")]
    Foreign {
        /// The path.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// The system refused.
    #[error("{path}: can't {what}: {error}")]
    System {
        /// The path.
        path: PathBuf,
        /// The step that failed.
        what: &'static str,
        /// The system's word.
        error: io::Error,
    },
}

/// Owner and mode of a socket, and whose dead one it replaces.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Permission bits, e.g. `0o660`.
    pub mode: u32,
    /// Group that owns it; none: the process's own.
    pub group: Option<u32>,
    /// User that owns it; none: the process's own.
    pub user: Option<u32>,
    /// User whose dead socket is ours to replace, beside those of the process and of `user`: what the role becomes after a
    /// start as root.
    pub heir_of: Option<u32>,
}

/// Binds `path`. The socket gets its owner and mode under another name and is then renamed into place, so there is no
/// moment at which it could be reached with other rights. A dead socket of ours is replaced; anything else is refused. Of
/// several who bind one path at the same time one gets it, and the others are told that it is served.
///
/// # Errors
/// [`ListenError`] names the path and what to do.
pub fn bind(path: &Path, access: Access) -> Result<UnixListener, ListenError> {
    let fail = |what: &'static str| {
        let path = path.to_owned();
        move |error| ListenError::System { path, what, error }
    };
    const BIND: &str = "bind (does its directory exist, and may we write to it?)";
    refuse_unless_free(path, access)?;
    let turn = Turn::take(with_end(path, "lock")).map_err(fail(BIND))?;
    let _turn = turn.ok_or_else(|| ListenError::Served(path.to_owned()))?;
    // Somebody else's turn may have come before ours. From here on it stays as it is.
    refuse_unless_free(path, access)?;
    let fresh = with_end(path, &std::process::id().to_string());
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(fail("remove the leftover beside it")(error));
        }
        _ => {}
    }
    let listener = private(&fresh).map_err(fail(BIND))?;
    furnish(&fresh, access).map_err(fail("give it its owner, group and mode"))?;
    fs::rename(&fresh, path).map_err(fail("move it into place"))?;
    listener.set_nonblocking(true).map_err(fail("make it non-blocking"))?;
    Ok(listener)
}

/// A listener to which nobody else can connect until its mode is set, even under its passing name. Linux gives the file of
/// a socket the mode of the socket, less the umask; the umask itself belongs to all threads, so it is left alone.
fn private(path: &Path) -> io::Result<UnixListener> {
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind_address(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&socket, Backlog::MAXCONN)?;
    Ok(UnixListener::from(socket))
}

/// Gives the socket that was just made its owner, group and mode. The directory may be another user's, who can put a link
/// in its place while we are still root: what is changed is what was opened, and that must be a socket of ours.
fn furnish(path: &Path, access: Access) -> io::Result<()> {
    use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, chownat, open};
    let file = open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let file = File::from(file);
    let found = file.metadata()?;
    if !found.file_type().is_socket() || found.uid() != nix::unistd::geteuid().as_raw() {
        return Err(io::Error::other("somebody put something else in its place"));
    }
    chownat(&file, "", access.user.map(Uid::from_raw), access.group.map(Gid::from_raw), AtFlags::EMPTY_PATH)?;
    // fchmod refuses such a descriptor; its link in /proc leads to the file itself.
    fs::set_permissions(format!("/proc/self/fd/{}", file.as_raw_fd()), Permissions::from_mode(access.mode))
}

/// The turn to look whether a path is free and to move a socket there. Two at once would both find it free, and the later
/// would take the path of what the earlier serves already.
///
/// It is a lock (flock(2)) on a file beside the socket, which goes again with the turn. One that a kill has left is locked
/// by the next.
struct Turn {
    file: PathBuf,
    _locked: File,
}

impl Turn {
    /// `None` while another has it.
    fn take(file: PathBuf) -> io::Result<Option<Self>> {
        // The directory may be another user's: what lies there is neither followed nor written to nor waited for.
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
        for _ in 0..TURNS {
            let mut options = OpenOptions::new();
            let locked =
                options.write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(&file)?;
            match locked.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // Who had it before has removed the file, perhaps after we opened it: our lock then keeps nobody away.
            if is_at(&locked, &file)? {
                return Ok(Some(Self { file, _locked: locked }));
            }
        }
        Ok(None)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // While it is still locked. One that can't be removed is locked by the next.
        drop(fs::remove_file(&self.file));
    }
}

/// Whether what was opened is what is at the path now.
fn is_at(opened: &File, path: &Path) -> io::Result<bool> {
    let opened = opened.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (opened.dev(), opened.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A path beside this one: its name, a dot, and `end`.
fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{end}"));
    path.with_file_name(name)
}

fn refuse_unless_free(path: &Path, access: Access) -> Result<(), ListenError> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(ListenError::Occupied(path.to_owned()));
    }
    // Root, too, replaces nobody else's.
    let ours = [Some(nix::unistd::geteuid().as_raw()), access.user, access.heir_of];
    if !ours.contains(&Some(found.uid())) {
        return Err(ListenError::Foreign { path: path.to_owned(), uid: found.uid() });
    }
    match knock(path) {
        // Nobody listens: what is left of a process that was killed.
        Err(Errno::ECONNREFUSED) => Ok(()),
        // EAGAIN: somebody listens, and does not come to accept. Anything else is no reason to take the path away.
        Ok(()) | Err(_) => Err(ListenError::Served(path.to_owned())),
    }
}

/// Connects without waiting: a process that is stopped may have a full queue, and a blocking connect would hang on it.
fn knock(path: &Path) -> nix::Result<()> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Access = Access { mode: 0o620, group: None, user: None, heir_of: None };

    #[test]
    fn the_socket_has_its_mode_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let _listener = bind(&path, OPEN).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o620);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn until_its_mode_is_set_it_is_ours_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let _listener = private(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o177, 0);
    }

    #[test]
    fn what_somebody_put_in_its_place_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("precious"), dir.path().join("s.sock"));
        let _socket = private(&target).unwrap();
        let before = fs::metadata(&target).unwrap().mode();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let open = Access { mode: 0o666, ..OPEN };
        assert!(furnish(&link, open).is_err(), "a link, even to a socket of ours");
        assert_eq!(fs::metadata(&target).unwrap().mode(), before);
        let file = dir.path().join("file");
        fs::write(&file, b"precious").unwrap();
        let before = fs::metadata(&file).unwrap().mode();
        assert!(furnish(&file, open).is_err());
        assert_eq!(fs::metadata(&file).unwrap().mode(), before);
        furnish(&target, open).unwrap();
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o7777, 0o666);
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        drop(bind(&path, OPEN).unwrap());
        let live = bind(&path, OPEN).unwrap();
        assert!(matches!(bind(&path, OPEN), Err(ListenError::Served(_))));
        drop(live);
    }

    #[test]
    fn of_those_who_start_at_one_time_one_serves_and_is_reached() {
        const STARTERS: usize = 3;
        let dir = tempfile::tempdir().unwrap();
        for round in 0..300 {
            let path = dir.path().join("s.sock");
            if round % 2 == 0 {
                drop(bind(&path, OPEN).unwrap());
            }
            let line = std::sync::Barrier::new(STARTERS);
            let start = || {
                line.wait();
                bind(&path, OPEN)
            };
            let outcomes: Vec<_> = std::thread::scope(|scope| {
                let starters: Vec<_> = (0..STARTERS).map(|_| scope.spawn(start)).collect();
                starters.into_iter().map(|starter| starter.join().unwrap()).collect()
            });
            let (served, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
            assert_eq!(served.len(), 1, "round {round}: {refused:?}");
            assert!(refused.iter().all(|one| matches!(one, Err(ListenError::Served(_)))), "round {round}: {refused:?}");
            let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
            served[0].as_ref().unwrap().accept().expect("the connection is at the one that serves");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_turn_is_one_starters_and_what_a_kill_left_of_one_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let (path, lock) = (dir.path().join("s.sock"), dir.path().join("s.sock.lock"));
        // Between its look and its socket's coming into place.
        let turn = Turn::take(lock.clone()).unwrap().unwrap();
        assert!(matches!(bind(&path, OPEN), Err(ListenError::Served(_))));
        assert!(lock.exists(), "it is not the other's to remove");
        drop(turn);
        fs::write(&lock, b"").unwrap();
        let _live = bind(&path, OPEN).unwrap();
        assert!(!lock.exists());
        // Nor is somebody else's file written to or followed.
        let (precious, link) = (dir.path().join("precious"), dir.path().join("t.sock.lock"));
        fs::write(&precious, b"precious").unwrap();
        std::os::unix::fs::symlink(&precious, &link).unwrap();
        assert!(matches!(bind(&dir.path().join("t.sock"), OPEN), Err(ListenError::System { .. })));
        assert_eq!(fs::read(&precious).unwrap(), b"precious");
    }

    #[test]
    fn a_lock_on_a_file_whose_name_has_gone_is_no_turn() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lock");
        let opened = File::create(&file).unwrap();
        assert!(is_at(&opened, &file).unwrap());
        fs::remove_file(&file).unwrap();
        assert!(!is_at(&opened, &file).unwrap());
        let _another = File::create(&file).unwrap();
        assert!(!is_at(&opened, &file).unwrap());
    }

    #[test]
    fn root_replaces_its_own_dead_socket_and_that_of_its_heir_alone() {
        if !nix::unistd::geteuid().is_root() {
            return crate::skipped::skipped("a dead socket of somebody else's takes root");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let dead_of = |uid| {
            drop(fs::remove_file(&path));
            drop(bind(&path, Access { user: Some(uid), ..OPEN }).unwrap());
        };
        for (owner, heir_of, user) in [(0, None, None), (71, Some(71), None), (71, None, Some(71))] {
            dead_of(owner);
            drop(bind(&path, Access { heir_of, user, ..OPEN }).unwrap());
        }
        for heir_of in [None, Some(72)] {
            dead_of(71);
            let refused = bind(&path, Access { heir_of, ..OPEN });
            assert!(matches!(refused, Err(ListenError::Foreign { uid: 71, .. })), "{refused:?}");
        }
    }

    #[test]
    fn a_live_socket_that_nobody_accepts_on_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let live = bind(&path, OPEN).unwrap();
        rustix::net::listen(&live, 1).unwrap();
        // Fills the queue, as of a process that has stopped.
        let queued: Vec<_> = std::iter::from_fn(|| {
            let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
            let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
            connect(socket.as_raw_fd(), &UnixAddr::new(&path).unwrap()).is_ok().then_some(socket)
        })
        .take(100)
        .collect();
        let (said, hears) = std::sync::mpsc::channel();
        std::thread::spawn({
            let path = path.clone();
            move || said.send(matches!(bind(&path, OPEN), Err(ListenError::Served(_))))
        });
        let refused = hears.recv_timeout(std::time::Duration::from_secs(5));
        assert_eq!(refused, Ok(true), "{} connections wait", queued.len());
        drop(live);
    }

    #[test]
    fn a_file_at_the_path_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        fs::write(&path, b"precious").unwrap();
        let error = bind(&path, OPEN).unwrap_err().to_string();
        assert!(error.contains("not a socket"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = bind(Path::new("/nonexistent/s.sock"), OPEN).unwrap_err().to_string();
        assert!(error.starts_with("/nonexistent/s.sock: can't bind"), "{error}");
    }
}
