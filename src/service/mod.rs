//! The port process: what systemd handed over, the rooms put together, and the signals that it obeys. SIGHUP applies the
//! settings, SIGUSR1 re-opens the log, SIGTERM tells the sessions, flushes and leaves.

mod port;
mod prepare;
mod unserved;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::attach::{self, Reply};
use crate::config::{Config, ConfigError};
use crate::port::PortName;
use crate::ring::RingError;
use crate::system::memory;
use crate::system::outbound;
use crate::system::systemd::{self, Handed, HandedError};
use port::PortService;
use prepare::Prepared;
use sd_notify::NotifyState;

/// Stack of the few blocking threads: file writes, account look-ups, and reading the configuration, which goes deepest.
const BLOCKING_STACK: usize = 1024 * 1024;
/// The log's trip, a look into the log, an account look-up, a break, the configuration; more at once wait for each other.
const BLOCKING_THREADS: usize = 5;
/// An idle blocking thread is given up after this.
const BLOCKING_IDLE: Duration = Duration::from_secs(1);
/// Descriptors that are told ready at once; more wait for the next turn. tokio's 1024 would be 12 KiB in each port.
const MAX_EVENTS_PER_TICK: usize = 64;

/// Does something on a thread whose stack goes with it. On the main one, what reads the configuration once would leave 40 KiB of stack in
/// each port; and files may be slow.
async fn aside<T: Send + 'static>(task: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(task).await {
        Ok(done) => done,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Options {
    /// The port, by the name of its unit. It may have been renamed since that was started.
    pub port: PortName,
    /// The one configuration file, instead of those below `root`.
    pub config: Option<PathBuf>,
    /// Where /etc and /usr are.
    pub root: PathBuf,
    /// Whether the system bus is this machine's systemd's and console-admin's: console-admin is told of triggers, and systemd is
    /// asked whether it restarts the port.
    pub bus: bool,
}

impl Options {
    /// The configuration, what the port is called in it, and what is wrong with the file if it is the last good one.
    async fn load(&self) -> Result<(Config, PortName, Option<ConfigError>), ServiceError> {
        let Self { config, root, .. } = self.clone();
        let loaded = aside(move || match config {
            Some(path) => Config::load_file(&path),
            None => Config::load_or_last_good(&root),
        });
        let loaded = loaded.await?;
        let port = loaded.config.instances.port(&self.port).clone();
        if !loaded.config.ports.contains_key(&port) {
            // A port that is new in the file that is wrong is not served, for that reason.
            return Err(match loaded.fault {
                Some(fault) => ServiceError::Config(fault),
                None => ServiceError::NotConfigured(port, loaded.path),
            });
        }
        if let Some(why) = &loaded.left_out {
            tracing::warn!(console_port = %port, "{why}");
        }
        Ok((loaded.config, port, loaded.fault))
    }
}

/// Why a port cannot be served.
#[derive(Debug, Error)]
pub enum ServiceError {
    /// The configuration's own words.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// No such port.
    #[error("{0} is not configured: {1} has no [ports.{0}]")]
    NotConfigured(PortName, PathBuf),
    /// What systemd handed over.
    #[error("{0}")]
    Handed(#[from] HandedError),
    /// No memory.
    #[error("{0}")]
    Ring(#[from] RingError),
    /// The runtime, a signal, a socket.
    #[error("{0}: {1}")]
    System(&'static str, std::io::Error),
}

/// Runs the process until it is told to leave, or until it has nothing more to do.
pub fn run(options: &Options) -> Result<(), ServiceError> {
    // All ports have one uid; without this, a taken-over one could read its siblings' memory and descriptors by /proc.
    nix::sys::prctl::set_dumpable(false)
        .map_err(|errno| ServiceError::System("other ports cannot be kept out of this one", errno.into()))?;
    outbound::forbid();
    memory::one_heap();
    let handed = Handed::take()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_io_events_per_tick(MAX_EVENTS_PER_TICK)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_stack_size(BLOCKING_STACK)
        .thread_keep_alive(BLOCKING_IDLE)
        .build()
        .map_err(|error| ServiceError::System("no runtime", error))?;
    let done = runtime.block_on(serve(options, handed));
    // A log that hangs on its disk must not keep us from leaving.
    runtime.shutdown_background();
    done
}

async fn serve(options: &Options, handed: Handed) -> Result<(), ServiceError> {
    let mut signals = Signals::new().map_err(|error| ServiceError::System("signals", error))?;
    let (listeners, mut stored) =
        listeners(handed).map_err(|error| ServiceError::System("sockets", error))?;
    systemd::notify(&[NotifyState::Ready]);

    // A port that cannot be served must not leave its sockets deaf: whoever comes is told why, until that is mended.
    let mut administrator = None;
    let prepared = loop {
        let prepared = Prepared::new(options, &mut stored.ring).await;
        if let Some(waiting) = administrator.take() {
            let reply = match &prepared {
                Ok(_) => Reply::Applied(Vec::new()),
                Err(error) => Reply::Refused(format!("{} cannot be served: {error}", options.port)),
            };
            tokio::spawn(attach::server::answer(waiting, reply));
        }
        match prepared {
            Ok(prepared) => break prepared,
            Err(error) => {
                if let ServiceError::NotConfigured(..) = &error {
                    // Taken out of the configuration: its tty is another port's, or nobody's.
                    if stored.tty.take().is_some() {
                        systemd::forget("tty");
                    }
                    if listeners.ssh.is_empty() && listeners.attach.is_empty() {
                        tracing::warn!("{error}");
                        return Ok(());
                    }
                }
                match unserved::explain(&options.port, &error, &listeners, &mut signals).await {
                    unserved::Next::TryAgain(asked) => administrator = asked,
                    unserved::Next::Leave => return Ok(()),
                }
            }
        }
    };
    PortService::start(options.clone(), prepared, listeners, stored.tty).run(signals).await
}

/// The sockets that people reach the port by.
#[derive(Debug)]
pub(crate) struct Listeners {
    ssh: Vec<tokio::net::TcpListener>,
    attach: Vec<tokio::net::UnixListener>,
}

/// What an earlier process left in the FD store.
#[derive(Debug)]
pub(crate) struct Stored {
    tty: Option<OwnedFd>,
    ring: StoredRing,
}

/// Of that, the ring: more than one if the process was killed within a resize, and the pipe in front of it.
#[derive(Debug, Default)]
pub(crate) struct StoredRing {
    memfds: Vec<OwnedFd>,
    intake: Option<OwnedFd>,
}

fn listeners(handed: Handed) -> std::io::Result<(Listeners, Stored)> {
    let mut listeners = Listeners { ssh: Vec::new(), attach: Vec::new() };
    for socket in handed.ssh {
        socket.set_nonblocking(true)?;
        listeners.ssh.push(tokio::net::TcpListener::from_std(socket)?);
    }
    for socket in handed.attach {
        socket.set_nonblocking(true)?;
        listeners.attach.push(tokio::net::UnixListener::from_std(socket)?);
    }
    Ok((
        listeners,
        Stored { tty: handed.tty, ring: StoredRing { memfds: handed.rings, intake: handed.intake } },
    ))
}

/// The signals that this process obeys.
pub(crate) struct Signals {
    apply: Signal,
    reopen: Signal,
    terminate: Signal,
    interrupt: Signal,
}

/// What a signal asks for.
pub(crate) enum SignalRequest {
    Apply,
    ReopenLog,
    Leave,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            apply: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next one. Cancel safe.
    async fn next(&mut self) -> SignalRequest {
        tokio::select! {
            _ = self.apply.recv() => SignalRequest::Apply,
            _ = self.reopen.recv() => SignalRequest::ReopenLog,
            _ = self.terminate.recv() => SignalRequest::Leave,
            _ = self.interrupt.recv() => SignalRequest::Leave,
        }
    }
}
