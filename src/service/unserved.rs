//! A port whose configuration is wrong: everybody who comes is told so in one line, and the sockets stay open.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::{Asked, Listeners, ServiceError, Signals};
use crate::attach::Reply;
use crate::message::send_async;
use crate::port::PortName;
use crate::{ssh, systemd};

/// Clients being told at once; a further one waits in the backlog.
const AT_ONCE: usize = 32;
/// Pause after a failed accept: others need the time to give descriptors back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// How it goes on.
pub(super) enum Next {
    /// SIGHUP: the configuration may be mended.
    TryAgain,
    /// SIGTERM.
    Leave,
}

/// Tells everybody why, until a signal says otherwise.
pub(super) async fn explain(
    port: &PortName,
    error: &ServiceError,
    listeners: &Listeners,
    signals: &mut Signals,
) -> Next {
    tracing::error!(console_port = %port, "{port} cannot be served: {error}");
    systemd::notify(&[NotifyState::Status(&format!("cannot be served: {error}"))]);
    // A stranger is not told what the configuration says.
    let stranger =
        format!("{port} cannot be served: its configuration is wrong; see journalctl -u console@{port}");
    let local = format!("{port} cannot be served: {error}");
    let mut telling = tokio::task::JoinSet::new();
    let mut watchdog = systemd::Watchdog::new();
    loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Apply => return Next::TryAgain,
                Asked::ReopenLog => {}
                Asked::Leave => return Next::Leave,
            },
            () = watchdog.tick() => {}
            Some(_) = telling.join_next(), if !telling.is_empty() => {}
            accepted = accept_ssh(&listeners.ssh), if telling.len() < AT_ONCE => match accepted {
                Ok(client) => {
                    let why = stranger.clone();
                    telling.spawn(async move { ssh::refuse(client, &why).await });
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            accepted = accept_local(&listeners.attach), if telling.len() < AT_ONCE => match accepted {
                Ok(mut client) => {
                    let reply = Reply::Refused(local.clone());
                    telling.spawn(async move {
                        // A client that is gone has missed it.
                        let _ = send_async(&mut client, &reply).await;
                    });
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
        }
    }
}

/// The next client of any listener. Cancel safe.
async fn accept_ssh(listeners: &[TcpListener]) -> io::Result<TcpStream> {
    poll_fn(|context| {
        for listener in listeners {
            if let Poll::Ready(accepted) = listener.poll_accept(context) {
                return Poll::Ready(accepted.map(|(client, _)| client));
            }
        }
        Poll::Pending
    })
    .await
}

/// The next client of any listener. Cancel safe.
async fn accept_local(listeners: &[UnixListener]) -> io::Result<UnixStream> {
    poll_fn(|context| {
        for listener in listeners {
            if let Poll::Ready(accepted) = listener.poll_accept(context) {
                return Poll::Ready(accepted.map(|(client, _)| client));
            }
        }
        Poll::Pending
    })
    .await
}
