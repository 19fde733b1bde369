//! Unix sockets with exact owner and mode from their first moment.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind as bind_address, connect, listen, socket,
};
use nix::sys::stat::{Mode, fchmod};

/// Why a socket can't be offered. The operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Something else lives at the path.
    #[error("{0} exists and is not a socket; move it away or configure another path")]
    Occupied(PathBuf),
    /// Somebody serves the path already.
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

/// Owner and mode of a socket.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Permission bits, e.g. `0o660`.
    pub mode: u32,
    /// Group that owns it; none: the process's own.
    pub group: Option<u32>,
    /// User that owns it; none: the process's own.
    pub user: Option<u32>,
}

/// Binds `path`. The socket gets its owner and mode under another name and is then renamed into place, so there is no
/// moment at which it could be reached with other rights. A dead socket of ours is replaced; anything else is refused.
///
/// # Errors
/// [`ListenError`] names the path and what to do.
pub fn bind(path: &Path, access: Access) -> Result<UnixListener, ListenError> {
    let fail = |what: &'static str| {
        let path = path.to_owned();
        move |error| ListenError::System { path, what, error }
    };
    refuse_unless_free(path)?;
    let fresh = beside(path);
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(fail("remove the leftover beside it")(error));
        }
        _ => {}
    }
    let listener = private(&fresh).map_err(fail("bind (does its directory exist, and may we write to it?)"))?;
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
    let file = fs::File::from(file);
    let found = file.metadata()?;
    if !found.file_type().is_socket() || found.uid() != nix::unistd::geteuid().as_raw() {
        return Err(io::Error::other("somebody put something else in its place"));
    }
    chownat(&file, "", access.user.map(Uid::from_raw), access.group.map(Gid::from_raw), AtFlags::EMPTY_PATH)?;
    // fchmod refuses such a descriptor; its link in /proc leads to the file itself.
    fs::set_permissions(format!("/proc/self/fd/{}", file.as_raw_fd()), Permissions::from_mode(access.mode))
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    path.with_file_name(name)
}

fn refuse_unless_free(path: &Path) -> Result<(), ListenError> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(ListenError::Occupied(path.to_owned()));
    }
    let own = nix::unistd::geteuid().as_raw();
    if own != 0 && found.uid() != own {
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

    const OPEN: Access = Access { mode: 0o620, group: None, user: None };

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
