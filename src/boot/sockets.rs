//! The front's sockets: those that systemd hands over, and those that are bound here.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use tracing::info;

use super::{BootError, gid_after, gid_of, uid_after, uid_of};
use crate::config::Config;
use crate::server::inherit::{Expected, Inherited};
use crate::server::listen::{Access, bind};

/// The listener that is not one of a single service, as systemd and policy name it.
const MAIN: &str = "main";
/// The admins' listener.
pub(super) const ADMIN: &str = "admin";
/// The metrics port.
const METRICS: &str = "metrics";

/// What had to be opened before the sandbox.
pub(super) struct Opened {
    pub(super) services: Vec<(Arc<str>, UnixListener)>,
    pub(super) admin: UnixListener,
    pub(super) metrics: Option<TcpListener>,
}

/// One Unix socket of the configuration.
struct Wanted<'a> {
    name: &'a str,
    settings: [&'a str; 4],
    path: &'a Path,
    user: Option<&'a String>,
    mode: u32,
    group: Option<&'a String>,
}

/// One that is about to be had.
struct Held<'a> {
    name: &'a str,
    path: &'a Path,
    access: Access,
    inherited: Option<UnixListener>,
}

/// Takes what came, holds it against the configuration, and binds the rest. Nothing is bound before all that came was
/// found right: a start that stops leaves nothing behind.
///
/// # Errors
/// [`BootError`] of the first socket that is not to be had as configured.
pub(super) fn open(config: &Config, mut inherited: Inherited) -> Result<Opened, BootError> {
    let server = &config.server;
    let names = [MAIN, ADMIN, METRICS].into_iter().chain(server.listeners.iter().map(|one| one.name.as_str()));
    inherited.only(&names.map(str::to_owned).collect::<Vec<_>>())?;
    let user = server.user.as_ref();
    let own = (uid_after(user)?, gid_after(user)?);
    let admin = admin(config).hold(own, &mut inherited)?;
    let services = services(config).into_iter().map(|one| one.hold(own, &mut inherited));
    let services = services.collect::<Result<Vec<_>, _>>()?;
    let metrics = inherited.tcp(METRICS, "metrics_addr", server.metrics_addr)?;

    let services = services.into_iter().map(|one| Ok((Arc::from(one.name), one.open()?)));
    let services = services.collect::<Result<_, BootError>>()?;
    let admin = admin.open()?;
    let bind_metrics = |addr| TcpListener::bind(addr).map_err(|error| BootError::Metrics { addr, error });
    let metrics = match (metrics, server.metrics_addr) {
        (None, Some(addr)) => Some(bind_metrics(addr)?),
        (metrics, _) => metrics,
    };
    Ok(Opened { services, admin, metrics })
}

fn admin(config: &Config) -> Wanted<'_> {
    Wanted {
        name: ADMIN,
        settings: ["admin_socket", "admin_socket_mode", "admin_socket_group", "user"],
        path: &config.server.admin_socket,
        user: None,
        mode: config.server.admin_socket_mode,
        group: config.server.admin_socket_group.as_ref(),
    }
}

fn services(config: &Config) -> Vec<Wanted<'_>> {
    let server = &config.server;
    let main = Wanted {
        name: MAIN,
        settings: ["socket", "socket_mode", "socket_group", "user"],
        path: &server.socket,
        user: None,
        mode: server.socket_mode,
        group: server.socket_group.as_ref(),
    };
    let own = server.listeners.iter().map(|listener| Wanted {
        name: &listener.name,
        settings: ["listener.socket", "listener.mode", "listener.group", "listener.user"],
        path: &listener.socket,
        user: listener.user.as_ref(),
        mode: listener.mode,
        group: listener.group.as_ref(),
    });
    std::iter::once(main).chain(own).collect()
}

impl<'a> Wanted<'a> {
    fn hold(self, own: (u32, u32), inherited: &mut Inherited) -> Result<Held<'a>, BootError> {
        let group = self.group.map(|name| gid_of(name)).transpose()?;
        let user = self.user.map(|name| uid_of(name)).transpose()?;
        let Self { name, settings, path, mode, .. } = self;
        let inherited = inherited.unix(&Expected { name, settings, path, user, mode, group, own })?;
        // As root it may find what a front has left that was started as its own user.
        let access = Access { mode, group, user, heir_of: Some(own.0) };
        Ok(Held { name, path, access, inherited })
    }
}

impl Held<'_> {
    fn open(self) -> Result<UnixListener, BootError> {
        match self.inherited {
            Some(listener) => {
                info!(name: "socket_inherited", listener = self.name, path = %self.path.display(), "inherited");
                Ok(listener)
            }
            None => Ok(bind(self.path, self.access)?),
        }
    }
}
