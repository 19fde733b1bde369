//! What a command has at hand: its sockets, its input and its output.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::args::Global;
use super::error::CliError;
use super::out::Out;
use crate::client::{AdminClient, Client, Options};
use crate::config::{Config, Loaded, Sources};

/// The largest input, in bytes: some 20,000 passports.
const MAX_INPUT: u64 = 16 << 20;

/// Stdin, stdout, stderr, and what `Global` says.
pub(super) struct Context<'a> {
    pub(super) global: Global,
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) stdin: &'a mut dyn Read,
    pub(super) out: Out<'a>,
}

impl Context<'_> {
    /// A client of the services' socket.
    pub(super) async fn client(&mut self) -> Result<Client, CliError> {
        let socket = self.place(self.global.socket.as_deref(), |config| &config.server.socket)?;
        self.out.asking();
        Ok(Client::connect(self.options(socket)).await?)
    }

    /// The services' socket.
    pub(super) fn socket(&self) -> Result<PathBuf, CliError> {
        self.place(self.global.socket.as_deref(), |config| &config.server.socket)
    }

    /// A client of the admins' socket.
    pub(super) async fn admin(&mut self) -> Result<AdminClient, CliError> {
        let socket = self.admin_socket()?;
        self.out.asking();
        Ok(AdminClient::connect(self.options(socket)).await?)
    }

    /// The same for a reload, which takes longer.
    pub(super) async fn reloader(&mut self) -> Result<AdminClient, CliError> {
        let options = Options { timeout: self.global.reload_patience(), ..self.options(self.admin_socket()?) };
        self.out.asking();
        Ok(AdminClient::connect(options).await?)
    }

    /// The admins' socket.
    pub(super) fn admin_socket(&self) -> Result<PathBuf, CliError> {
        self.place(self.global.admin_socket.as_deref(), |config| &config.server.admin_socket)
    }

    /// The ceremony's socket.
    pub(super) fn ceremony_socket(&self) -> Result<PathBuf, CliError> {
        self.place(self.global.ceremony_socket.as_deref(), |config| &config.hsm.ceremony_socket)
    }

    fn options(&self, socket: PathBuf) -> Options {
        let name = concat!("passportctl/", env!("CARGO_PKG_VERSION")).to_owned();
        Options { socket, timeout: self.global.patience(), name }
    }

    /// The one that was given, else the configuration's if one was named, else the default.
    fn place(&self, given: Option<&Path>, of: impl Fn(&Config) -> &PathBuf) -> Result<PathBuf, CliError> {
        match (given, &self.global.config) {
            (Some(path), _) => Ok(path.to_owned()),
            (None, Some(_)) => Ok(of(&self.configuration()?.config).clone()),
            (None, None) => Ok(of(&Config::default()).clone()),
        }
    }

    /// The configuration as the daemon would read it with the same `--config` and environment.
    pub(super) fn configuration(&self) -> Result<Loaded, CliError> {
        let environment = self.environment.iter().cloned();
        Ok(Config::load(&Sources::new(self.global.config.clone(), environment))?)
    }

    /// All of a file, or of stdin for `-`, with the name to use in messages.
    pub(super) fn read(&mut self, path: &Path) -> Result<(String, Vec<u8>), CliError> {
        let unreadable = |why| CliError::File { path: path.to_owned(), why };
        let mut bytes = Vec::new();
        let name = if path == Path::new("-") {
            self.stdin.take(MAX_INPUT + 1).read_to_end(&mut bytes).map_err(unreadable)?;
            "stdin".to_owned()
        } else {
            let file = File::open(path).map_err(unreadable)?;
            file.take(MAX_INPUT + 1).read_to_end(&mut bytes).map_err(unreadable)?;
            path.display().to_string()
        };
        match u64::try_from(bytes.len()) {
            Ok(length) if length <= MAX_INPUT => Ok((name, bytes)),
            _ => Err(CliError::input(&name, format!("more than {MAX_INPUT} bytes; split the batch"))),
        }
    }
}
