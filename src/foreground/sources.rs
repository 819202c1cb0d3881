//! The dialer of a port with a `source`: a `console-dial` when the port connects, as `console-source@PORT.socket` would start it. It runs as
//! the ports do, without the sandbox of its unit.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, listen, socket_with};
use tokio::process::Child;

use super::ForegroundError;
use super::children;
use super::paths::in_file;
use super::port::connection_waits;
use crate::port::{PortName, Source};
use crate::source::socket_path;
use crate::system::persist::{self, Owner};

/// Connections that wait: a port has one.
const BACKLOG: i32 = 8;
/// After a dialer that failed: the `RestartSec=` of its unit.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The listening socket of a dialer, and how it is started.
#[derive(Debug)]
pub struct ServedSource {
    name: PortName,
    source: Source,
    listener: OwnedFd,
    program: PathBuf,
    /// See `PortProgram`.
    opened: Option<Arc<File>>,
    user: Option<Owner>,
}

impl ServedSource {
    /// Binds the socket of a port's dialer, which only the port's user may connect to.
    pub fn listen(
        runtime: &Path,
        name: &PortName,
        source: Source,
        program: PathBuf,
        opened: Option<Arc<File>>,
        user: Option<Owner>,
    ) -> Result<Self, ForegroundError> {
        let path = socket_path(runtime, name.as_str());
        let listener = bind(&path, user).map_err(in_file(&path))?;
        Ok(Self { name: name.clone(), source, listener, program, opened, user })
    }

    /// Serves one process of the port after the other, without end.
    pub async fn serve(self) {
        loop {
            let served = async {
                connection_waits([self.listener.as_fd()].into_iter()).await?;
                let mut child = self.start()?;
                let pid = children::pid(&child);
                tracing::info!("{}: console-dial started for {}{pid}", self.name, self.source);
                match child.wait().await? {
                    status if status.success() => Ok(()),
                    status => Err(io::Error::other(format!("ended with {status}"))),
                }
            };
            if let Err(error) = served.await {
                tracing::error!("{}: console-dial: {error}", self.name);
                tokio::time::sleep(RETRY_DELAY).await;
            }
        }
    }

    fn start(&self) -> io::Result<Child> {
        let fds = vec![self.listener.try_clone()?];
        let mut command = children::passing(&self.program, self.opened.as_deref(), fds, self.user)?;
        command.arg("--").arg(self.name.as_str()).arg(self.source.to_string()).kill_on_drop(true);
        command.spawn()
    }
}

fn bind(path: &Path, user: Option<Owner>) -> io::Result<OwnedFd> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    // The socket of a run that was killed: only one program uses this directory at a time (`Paths::claim`).
    persist::gone(fs::remove_file(path))?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    if let Some(Owner { uid, gid }) = user {
        chown(path, Some(uid), Some(gid))?;
    }
    listen(&socket, BACKLOG)?;
    Ok(socket)
}
