//! `console-metrics`: figures of all ports for Prometheus. systemd starts it with the first scrape; it asks systemd which ports run,
//! and these over their local sockets, so that a scrape activates no idle port.

mod collect;
mod http;
mod listener;
mod text;

use std::future::poll_fn;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use sd_notify::NotifyState;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::system::accepting::Failing;
use crate::system::clock::reached;
use crate::system::exit_signals::ExitSignals;
use crate::system::outbound;
use crate::system::persist;
use crate::system::systemd::{self, Watchdog};
pub use collect::CollectError;
use collect::Collector;
use listener::Listeners;
pub use text::Format;

/// The process exits after this time without a scrape. Longer than the default `scrape_interval` of Prometheus (1 min), so that it
/// is not started for each scrape.
const IDLE_EXIT_DELAY: Duration = Duration::from_secs(90);
/// Connections at a time: some Prometheus servers, and people with a browser. Further ones wait in the queue of the socket.
const MAX_CONNECTIONS: usize = 16;
/// Mode of a file for node_exporter, which runs as another user.
const OUTPUT_MODE: u32 = 0o644;

/// Why the figures cannot be served.
#[derive(Debug, Error)]
pub enum MetricsError {
    #[error(
        "no listener: systemd passes it (console-metrics.socket); to print the figures once, use --print or --output FILE"
    )]
    NoListener,
    #[error("{0}")]
    Collect(#[from] CollectError),
    #[error("{0}: {1}")]
    System(String, io::Error),
}

fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> MetricsError {
    let what = what.into();
    move |error| MetricsError::System(what, error)
}

/// Where figures are written that are collected once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    Stdout,
    /// A file, which is replaced as a whole.
    File(PathBuf),
}

fn runtime() -> Result<tokio::runtime::Runtime, MetricsError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system("no runtime"))
}

/// Collects the figures once, in the format of `node_exporter --collector.textfile.directory`.
pub fn once(output: &Output) -> Result<(), MetricsError> {
    let snapshot = runtime()?.block_on(async { Collector::default().collect().await })?;
    let text = text::render(&snapshot, Format::Prometheus);
    match output {
        Output::Stdout => io::stdout().write_all(text.as_bytes()).map_err(system("standard output")),
        Output::File(path) => persist::write(path, text.as_bytes(), OUTPUT_MODE, None)
            .map_err(system(path.display().to_string())),
    }
}

/// Serves the listeners passed by systemd until SIGTERM or SIGINT, or until there was no scrape for a while.
pub fn run() -> Result<(), MetricsError> {
    outbound::forbid();
    let Listeners { tcp, unix } = Listeners::take().map_err(system("a listener passed by systemd"))?;
    if tcp.is_empty() && unix.is_empty() {
        return Err(MetricsError::NoListener);
    }
    runtime()?.block_on(async {
        let mut signals = ExitSignals::new().map_err(system("signals"))?;
        let server = Arc::new(Server::default());
        let mut accepting = JoinSet::new();
        for listener in tcp {
            let listener = TcpListener::from_std(listener).map_err(system("sockets"))?;
            accepting.spawn(
                server
                    .clone()
                    .accept(move |context| listener.poll_accept(context).map_ok(|(stream, _)| stream)),
            );
        }
        for listener in unix {
            let listener = UnixListener::from_std(listener).map_err(system("sockets"))?;
            accepting.spawn(
                server
                    .clone()
                    .accept(move |context| listener.poll_accept(context).map_ok(|(stream, _)| stream)),
            );
        }
        systemd::notify(&[NotifyState::Ready]);
        let mut watchdog = Watchdog::default();
        let mut idle_since = Instant::now();
        loop {
            tokio::select! {
                () = signals.next() => break,
                () = watchdog.tick() => {}
                () = server.used.notified() => idle_since = Instant::now(),
                () = reached(Some(idle_since + IDLE_EXIT_DELAY)) => break,
            }
        }
        systemd::notify(&[NotifyState::Stopping]);
        Ok(())
    })
}

struct Server {
    collector: Collector,
    connections: Arc<Semaphore>,
    /// Notified with each connection.
    used: tokio::sync::Notify,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            collector: Collector::default(),
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            used: tokio::sync::Notify::new(),
        }
    }
}

impl Server {
    async fn accept<S>(self: Arc<Self>, poll: impl Fn(&mut Context<'_>) -> Poll<io::Result<S>>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut failing = Failing::default();
        loop {
            let permit = self.connections.clone().acquire_owned().await;
            let stream = failing.accept("scrape", || poll_fn(&poll)).await;
            let server = self.clone();
            tokio::spawn(async move {
                server.serve(stream).await;
                drop(permit);
            });
        }
    }

    async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        self.used.notify_one();
        let figures = async |format| {
            let snapshot = self.collector.collect().await?;
            Ok::<_, CollectError>(text::render(&snapshot, format))
        };
        if let Err(error) = http::serve(stream, figures).await {
            tracing::debug!("scrape: {error}");
        }
    }
}
