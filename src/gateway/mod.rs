//! The admin CLI over SSH (`console-cli`): holds the connections, has `console-auth` say who somebody is and run `consolectl`
//! as them, and carries bytes between the two. It has no rights over consoles or their configuration itself. Who may
//! administer, `console-admin` decides; whom a console admits, its port.

mod admin_cli;
mod relay;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::ssh;
use crate::system::clock::reached;
use crate::system::outbound;
use crate::system::systemd::{self, Handed, HandedError, Watchdog};
use admin_cli::AdminCli;

/// Nobody has been connected for so long: the process leaves, and the next who comes starts another.
const IDLE_EXIT_DELAY: Duration = Duration::from_secs(10);
/// For the sessions to hear why they end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

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
        serve(AdminCli::new(root), listeners, signals).await;
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
async fn serve(admin_cli: AdminCli, listeners: Vec<TcpListener>, mut signals: Signals) {
    let admin_cli = Arc::new(admin_cli);
    let server = ssh::Server::new(admin_cli.clone(), AdminCli::auth_socket(), "console-cli");
    let mut doors = JoinSet::new();
    let loading = server.clone();
    tokio::spawn(async move { loading.load_host_keys().await });
    for listener in listeners {
        doors.spawn(server.clone().accept(listener));
    }
    let mut connections = server.connections();
    let mut host_keys = server.host_keys();
    let mut watchdog = Watchdog::new();
    let mut alone_since = Some(Instant::now());
    loop {
        let count = *connections.borrow_and_update();
        let missing = server.host_keys().borrow().missing.clone();
        let missing = missing.map(|why| format!("; SSH is not served: {why}")).unwrap_or_default();
        systemd::notify(&[NotifyState::Status(&format!("{count} connected{missing}"))]);
        alone_since = (count == 0).then(|| alone_since.unwrap_or_else(Instant::now));
        tokio::select! {
            () = signals.next() => break,
            () = watchdog.tick() => {}
            _ = connections.changed() => {}
            _ = host_keys.changed() => {}
            () = reached(alone_since.map(|since| since + IDLE_EXIT_DELAY)) => break,
        }
    }
    systemd::notify(&[NotifyState::Stopping]);
    // Whoever comes from now on is for the next process.
    drop(doors);
    let why = match *connections.borrow() {
        0 => "console-cli is stopping".to_owned(),
        _ => systemd::farewell("console-cli").await,
    };
    admin_cli.close(&why);
    let _ = timeout(DRAIN_TIMEOUT, connections.wait_for(|count| *count == 0)).await;
}
