//! The admin CLI over SSH (`console-cli`): holds the connections, has `console-auth` say who somebody is and run `consolectl`
//! as them, and carries bytes between the two. It has no rights over consoles or their configuration itself. Who may
//! administer, `console-admin` decides; whom a console admits, its port.

mod clerk;
mod relay;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::PrivateKey;
use sd_notify::NotifyState;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::accepting;
use crate::clock::reached;
use crate::hostkeys::{self, HostKeyError};
use crate::outbound;
use crate::ssh;
use crate::systemd::{self, Handed, HandedError, Watchdog};
use clerk::Clerk;

/// Nobody has been connected for so long: the process leaves, and the next who comes starts another.
const LINGER: Duration = Duration::from_secs(10);
/// For the sessions to hear why they end.
const FAREWELL: Duration = Duration::from_secs(2);
/// Clients being told at once, at each listener, that nobody can be served; a further one waits in the backlog.
const TOLD_AT_ONCE: usize = 32;

/// Why the admin CLI cannot be served.
#[derive(Debug, Error)]
pub enum GatewayError {
    /// What systemd handed over.
    #[error("{0}")]
    Handed(#[from] HandedError),
    /// Nothing to listen on.
    #[error(
        "no listener to serve: systemd hands them over by the name ssh (console-cli.socket); this program is not started by hand"
    )]
    NoListener,
    /// The runtime, a signal, a socket.
    #[error("{0}: {1}")]
    System(&'static str, std::io::Error),
}

/// Runs the process until it is told to leave, or until nobody is connected. `root` is where /etc and /usr are.
pub fn run(root: PathBuf) -> Result<(), GatewayError> {
    let system = |what| move |error| GatewayError::System(what, error);
    outbound::forbid();
    let handed = Handed::take()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(system("no runtime"))?.block_on(async {
        let signals = Signals::new().map_err(system("signals"))?;
        let mut listeners = Vec::new();
        for listener in handed.ssh {
            listener.set_nonblocking(true).map_err(system("sockets"))?;
            listeners.push(TcpListener::from_std(listener).map_err(system("sockets"))?);
        }
        if listeners.is_empty() {
            return Err(GatewayError::NoListener);
        }
        systemd::notify(&[NotifyState::Ready]);
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from).unwrap_or_default();
        match hostkeys::load(&credentials) {
            Ok(keys) => serve(keys, Clerk::new(root), listeners, signals).await,
            Err(error) => explain(&error, listeners, signals).await,
        }
        Ok(())
    })
}

/// What ends the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Cancel safe.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Serves whoever comes.
async fn serve(keys: Vec<PrivateKey>, clerk: Clerk, listeners: Vec<TcpListener>, mut signals: Signals) {
    let clerk = Arc::new(clerk);
    let server = ssh::Server::new(keys, clerk.clone());
    let mut doors = JoinSet::new();
    for listener in listeners {
        doors.spawn(server.clone().accept(listener));
    }
    let mut connections = server.connections();
    let mut watchdog = Watchdog::new();
    let mut alone_since = Some(Instant::now());
    loop {
        let count = *connections.borrow_and_update();
        systemd::notify(&[NotifyState::Status(&format!("{count} connected"))]);
        alone_since = (count == 0).then(|| alone_since.unwrap_or_else(Instant::now));
        tokio::select! {
            () = signals.next() => break,
            () = watchdog.tick() => {}
            _ = connections.changed() => {}
            () = reached(alone_since.map(|since| since + LINGER)) => break,
        }
    }
    systemd::notify(&[NotifyState::Stopping]);
    // Whoever comes from now on is for the next process.
    drop(doors);
    clerk.close("console-cli is stopping");
    let _ = timeout(FAREWELL, connections.wait_for(|count| *count == 0)).await;
}

/// Nobody can be served: tells everybody who comes, for a while. Who comes after that begins a process that tries again.
async fn explain(error: &HostKeyError, listeners: Vec<TcpListener>, mut signals: Signals) {
    tracing::error!("the admin CLI cannot be served: {error}");
    systemd::notify(&[NotifyState::Status(&format!("cannot be served: {error}"))]);
    let mut doors = JoinSet::new();
    for listener in listeners {
        doors.spawn(refuse(listener));
    }
    let mut watchdog = Watchdog::new();
    let linger = sleep(LINGER);
    tokio::pin!(linger);
    loop {
        tokio::select! {
            () = signals.next() => return,
            () = &mut linger => return,
            () = watchdog.tick() => {}
        }
    }
}

async fn refuse(listener: TcpListener) {
    // A stranger is not told what is wrong with our keys.
    let why = "the admin CLI cannot be served at present; journalctl -u console-cli says why";
    let mut telling = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = telling.join_next(), if !telling.is_empty() => {}
            accepted = listener.accept(), if telling.len() < TOLD_AT_ONCE => match accepted {
                Ok((client, _)) => {
                    telling.spawn(ssh::refuse(client, why));
                }
                Err(_) => accepting::pause().await,
            },
        }
    }
}
