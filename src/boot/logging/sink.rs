//! Where the log goes: standard error or journald.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::log::journal::{SOCKET, Sender};

/// The choice.
#[derive(Debug)]
pub(super) enum Destination {
    Stderr,
    Journal(Sender),
}

/// What was asked for, by whoever started this process.
#[derive(Debug, PartialEq, Eq)]
enum Wish<'a> {
    Stderr,
    Journal(&'a Path),
}

impl Destination {
    /// By `to` ([`super::TO`]), else as systemd.exec(5) describes for `JOURNAL_STREAM`: a process whose standard error is
    /// a stream to the journal may speak journald's own protocol instead. Second, why a wish could not be met.
    pub(super) fn choose(to: Option<&str>, stream: Option<&str>) -> (Self, Option<String>) {
        let wish = match wish(to, stream, stderr_is().as_deref()) {
            Ok(Wish::Journal(path)) if !path.exists() => Err(format!("{} is not there", path.display())),
            Ok(wish) => Ok(wish),
            Err(why) => Err(why),
        };
        match wish {
            Ok(Wish::Stderr) => (Self::Stderr, None),
            Ok(Wish::Journal(path)) => match Sender::new(path) {
                Ok(sender) => (Self::Journal(sender), None),
                Err(error) => (Self::Stderr, Some(format!("can't make a socket: {error}"))),
            },
            Err(why) => (Self::Stderr, Some(why)),
        }
    }
}

fn wish<'a>(to: Option<&'a str>, stream: Option<&str>, stderr: Option<&str>) -> Result<Wish<'a>, String> {
    match to.unwrap_or("auto") {
        // The variable is inherited by processes whose standard error goes elsewhere; the numbers tell.
        "auto" if stream.is_some() && stream == stderr => Ok(Wish::Journal(Path::new(SOCKET))),
        "auto" | "stderr" => Ok(Wish::Stderr),
        "journald" => Ok(Wish::Journal(Path::new(SOCKET))),
        path if path.starts_with('/') => Ok(Wish::Journal(Path::new(path))),
        other => Err(format!("{other:?} is not auto, stderr, journald or the path of a socket")),
    }
}

/// What standard error is, as `JOURNAL_STREAM` spells it: device and inode.
fn stderr_is() -> Option<String> {
    rustix::fs::fstat(io::stderr()).ok().map(|stat| format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// What takes entries.
#[derive(Debug)]
pub(super) enum Sink {
    Stderr,
    Journal(Sender),
    #[cfg(test)]
    Test(super::tests::Slow),
}

impl Sink {
    /// Whether an entry can be written without waiting for longer than `patience`. Other processes may write to the same
    /// pipe and take its last room in between; only `run` and the first moments of a role depend on this.
    pub(super) fn ready(&self, patience: Duration) -> bool {
        match self {
            Self::Stderr => {
                let stderr = io::stderr();
                let mut polled = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
                let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
                // Where nobody reads any more, writing fails at once.
                !matches!(poll(&mut polled, timeout), Ok(0) | Err(Errno::EINTR))
            }
            Self::Journal(_) => true,
            #[cfg(test)]
            Self::Test(slow) => slow.ready(),
        }
    }

    /// Writes one entry. `false`: it is lost. `may_pause`: a thread of its own may wait a little for journald.
    pub(super) fn write(&mut self, entry: &[u8], may_pause: bool) -> bool {
        match self {
            // Where standard error is closed there is nobody to tell.
            Self::Stderr => {
                drop(io::stderr().write_all(entry));
                true
            }
            Self::Journal(sender) if may_pause => sender.send(entry),
            Self::Journal(sender) => sender.send_now(entry),
            #[cfg(test)]
            Self::Test(slow) => slow.take(entry),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn the_journal_is_used_where_standard_error_is_a_stream_to_it() {
        let journal = || Ok(Wish::Journal(Path::new(SOCKET)));
        let this = || Some("8:4711");
        assert_eq!(wish(None, Some("8:4711"), this()), journal());
        assert_eq!(wish(Some("auto"), Some("8:4711"), this()), journal());
        assert_eq!(wish(None, Some("8:4712"), this()), Ok(Wish::Stderr), "redirected since");
        assert_eq!(wish(None, None, None), Ok(Wish::Stderr));
        assert_eq!(wish(None, Some(""), this()), Ok(Wish::Stderr));
        assert_eq!(wish(Some("stderr"), Some("8:4711"), this()), Ok(Wish::Stderr));
        assert_eq!(wish(Some("journald"), None, this()), journal());
        assert_eq!(wish(Some("/run/x"), None, this()), Ok(Wish::Journal(Path::new("/run/x"))));
        assert!(wish(Some("syslog"), None, this()).is_err_and(|why| why.contains("\"syslog\" is not auto, stderr")));
    }

    #[test]
    fn a_wish_that_cannot_be_met_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let to = path.to_str().unwrap();
        let (destination, why) = Destination::choose(Some(to), None);
        assert!(matches!(destination, Destination::Stderr));
        assert_eq!(why, Some(format!("{to} is not there")));
        let _server = UnixDatagram::bind(&path).unwrap();
        let (destination, why) = Destination::choose(Some(to), None);
        assert!(matches!(destination, Destination::Journal(_)) && why.is_none());
    }

    #[test]
    fn standard_error_is_spelt_as_systemd_spells_it() {
        let (device, inode) = stderr_is().unwrap().split_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        assert!(device.parse::<u64>().is_ok() && inode.parse::<u64>().is_ok());
    }
}
