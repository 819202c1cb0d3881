//! The login helper's socket: a `console-auth` for each connection, as systemd's `Accept=yes` would start it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::{UnixListener, UnixStream};
use tokio::process::Child;
use tokio::sync::Semaphore;

use super::children;
use super::sockets::UnixSocket;
use crate::system::accepting::Failing;

/// Logins at once. Each is a process; ports limit their own unauthenticated connections below this, so that more is a flood, and further
/// clients may retry.
const MAX_LOGINS: usize = 64;

/// How `console-auth` is started.
#[derive(Debug)]
pub struct Logins {
    /// `console-auth`.
    pub path: PathBuf,
    /// The public key of the demonstration port.
    pub demo_key: Option<PathBuf>,
    pub host_keys: PathBuf,
    pub config: PathBuf,
}

impl Logins {
    /// Serves the socket without end. Returns why it could not start.
    pub async fn serve(self, socket: UnixSocket) -> io::Error {
        let listener = match listen(&socket) {
            Ok(listener) => listener,
            Err(error) => return error,
        };
        let slots = Arc::new(Semaphore::new(MAX_LOGINS));
        let mut failing = Failing::default();
        loop {
            let (connection, _) = failing.accept("login", || listener.accept()).await;
            let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                tracing::warn!(
                    "login helper: limit of {MAX_LOGINS} logins at once reached, connection closed"
                );
                continue;
            };
            match self.start(connection) {
                Ok(mut child) => drop(tokio::spawn(async move {
                    match child.wait().await {
                        Ok(status) if status.success() => {}
                        Ok(status) => tracing::error!("login helper: console-auth ended with {status}"),
                        Err(error) => tracing::error!("login helper: cannot wait for console-auth: {error}"),
                    }
                    drop(slot);
                })),
                Err(error) => tracing::error!("login helper: cannot run {}: {error}", self.path.display()),
            }
        }
    }

    fn start(&self, connection: UnixStream) -> io::Result<Child> {
        let connection = connection.into_std()?;
        // systemd passes blocking sockets.
        connection.set_nonblocking(false)?;
        let mut command = children::passing(&self.path, None, vec![connection.into()], None)?;
        command.kill_on_drop(true);
        command.arg("--host-keys").arg(&self.host_keys).arg("--config").arg(&self.config);
        if let Some(key) = &self.demo_key {
            command.arg("--demo-key").arg(key);
        }
        command.spawn()
    }
}

fn listen(socket: &UnixSocket) -> io::Result<UnixListener> {
    let listener = socket.listener.try_clone()?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}
