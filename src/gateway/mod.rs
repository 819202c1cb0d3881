//! The admin CLI over SSH (`console-cli`): holds the connections, has `console-auth` authenticate users and run `consolectl` as them, and
//! copies bytes between client and program. It has no access to consoles or their configuration itself: `console-admin` decides who may
//! administer, and each port who may attach.

mod admin_cli;
mod relay;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::ssh;
use crate::system::clock::reached;
use crate::system::exit_signals::ExitSignals;
use crate::system::outbound;
use crate::system::systemd::{self, Handed, HandedError, Watchdog};
use admin_cli::AdminCli;

/// The process exits after this time without a connection; the next connection starts it again.
const IDLE_EXIT_DELAY: Duration = Duration::from_secs(10);
/// Time for the sessions to print why they end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the admin CLI cannot be served.
#[derive(Debug, Error)]
pub enum GatewayError {
    #[error("{0}")]
    Handed(#[from] HandedError),
    #[error(
        "no listener: systemd passes them with the name ssh (console-cli.socket); do not start this program by hand"
    )]
    NoListener,
    #[error("{0}: {1}")]
    System(&'static str, std::io::Error),
}

/// Runs the process until SIGTERM or SIGINT, or until no client is connected. `root` is the directory with /etc and /usr.
pub fn run(root: PathBuf) -> Result<(), GatewayError> {
    let system = |what| move |error| GatewayError::System(what, error);
    outbound::forbid();
    let handed = Handed::take()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(system("no runtime"))?.block_on(async {
        let signals = ExitSignals::new().map_err(system("signals"))?;
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

async fn serve(admin_cli: AdminCli, listeners: Vec<TcpListener>, mut signals: ExitSignals) {
    let admin_cli = Arc::new(admin_cli);
    let server = ssh::Server::new(admin_cli.clone(), AdminCli::auth_socket(), "console-cli");
    let mut accepting = JoinSet::new();
    let loading = server.clone();
    tokio::spawn(async move { loading.load_host_keys().await });
    for listener in listeners {
        accepting.spawn(server.clone().accept(listener));
    }
    let mut connections = server.connections();
    let mut host_keys = server.host_keys();
    let mut watchdog = Watchdog::default();
    let mut idle_since = Some(Instant::now());
    loop {
        let count = *connections.borrow_and_update();
        let status = status(count, server.host_keys().borrow().missing.as_deref());
        systemd::notify(&[NotifyState::Status(&status)]);
        idle_since = (count == 0).then(|| idle_since.unwrap_or_else(Instant::now));
        tokio::select! {
            () = signals.next() => break,
            () = watchdog.tick() => {}
            _ = connections.changed() => {}
            _ = host_keys.changed() => {}
            () = reached(idle_since.map(|since| since + IDLE_EXIT_DELAY)) => break,
        }
    }
    systemd::notify(&[NotifyState::Stopping]);
    // Later connections are for the next process.
    drop(accepting);
    let why = match *connections.borrow() {
        0 => "console-cli is stopping".to_owned(),
        _ => systemd::farewell("console-cli").await,
    };
    admin_cli.close(&why);
    let _ = timeout(DRAIN_TIMEOUT, connections.wait_for(|count| *count == 0)).await;
}

/// The STATUS: the number of connections, and why there are none.
fn status(connections: usize, missing_host_keys: Option<&str>) -> String {
    match missing_host_keys {
        Some(why) => format!("{connections} connected; SSH is not available: {why}"),
        None => format!("{connections} connected"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_reads_as_in_the_golden_file() {
        let lines =
            [status(0, None), status(2, None), status(0, Some("no usable host key in /run/credentials"))];
        let golden = snapbox::file!["../../tests/golden/gateway/status.txt"];
        snapbox::assert_data_eq!(lines.join("\n"), golden.raw());
    }
}
