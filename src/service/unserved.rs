//! A port that cannot be served, because its configuration is invalid: each client gets one line about that, and the sockets stay open.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use sd_notify::NotifyState;
use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::{Listeners, ServiceError, SignalRequest, Signals};
use crate::event::Event;
use crate::port::PortName;
use crate::{attach, ssh, system::accepting, system::systemd};

/// Clients that are answered at the same time; a further one waits in the backlog.
const AT_ONCE: usize = 32;

pub(super) enum Next {
    /// SIGHUP, or an administrator who waits for the result: the configuration may be fixed.
    TryAgain(Option<UnixStream>),
    /// SIGTERM.
    Leave,
}

/// Sends each client the reason, until a signal.
pub(super) async fn explain(
    port: &PortName,
    error: &ServiceError,
    listeners: &Listeners,
    signals: &mut Signals,
) -> Next {
    tracing::error!(message_id = Event::NotServed.id(), "{port} cannot be served: {error}");
    systemd::notify(&[NotifyState::Status(&format!("cannot be served: {error}"))]);
    // An unauthenticated client does not get the content of the configuration.
    let stranger = format!("{port} cannot be served at present: see journalctl -u console@{port}");
    let local = format!("{port} cannot be served: {error}");
    let mut telling = tokio::task::JoinSet::new();
    let mut watchdog = systemd::Watchdog::default();
    loop {
        tokio::select! {
            asked = signals.next() => match asked {
                SignalRequest::Apply => return Next::TryAgain(None),
                SignalRequest::ReopenLog => {}
                SignalRequest::Leave => return Next::Leave,
            },
            () = watchdog.tick() => {}
            Some(told) = telling.join_next(), if !telling.is_empty() => {
                if let Ok(Some(administrator)) = told {
                    return Next::TryAgain(Some(administrator));
                }
            }
            accepted = accept(&listeners.ssh, TcpListener::poll_accept), if telling.len() < AT_ONCE => match accepted {
                Ok(client) => {
                    let why = stranger.clone();
                    telling.spawn(async move {
                        ssh::refuse(client, &why).await;
                        None
                    });
                }
                Err(_) => accepting::pause().await,
            },
            accepted = accept(&listeners.attach, UnixListener::poll_accept), if telling.len() < AT_ONCE => match accepted {
                Ok(client) => {
                    let why = local.clone();
                    telling.spawn(async move { attach::server::refuse(client, &why).await });
                }
                Err(_) => accepting::pause().await,
            },
        }
    }
}

/// The next client of any listener. Cancel safe.
async fn accept<L, C, P>(
    listeners: &[L],
    poll_accept: impl Fn(&L, &mut Context<'_>) -> Poll<io::Result<(C, P)>>,
) -> io::Result<C> {
    let poll_all = |context: &mut Context<'_>| {
        for listener in listeners {
            if let Poll::Ready(accepted) = poll_accept(listener, context) {
                return Poll::Ready(accepted.map(|(client, _)| client));
            }
        }
        Poll::Pending
    };
    poll_fn(poll_all).await
}
