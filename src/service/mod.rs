//! The port process: receives what systemd hands over, connects the rooms, and handles signals. SIGHUP applies the
//! settings, SIGUSR1 reopens the log, SIGTERM notifies the sessions, flushes the log and exits.

mod port;
mod prepare;
mod unserved;

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::attach::{self, Reply};
use crate::config::{Config, ConfigError};
use crate::port::PortName;
use crate::ring::RingError;
use crate::system::exit_signals::ExitSignals;
use crate::system::memory;
use crate::system::outbound;
use crate::system::systemd::{self, Handed, HandedError};
use port::PortService;
use prepare::Prepared;
use sd_notify::NotifyState;

/// Stack of the few blocking threads: file writes, account lookups, and reading the configuration, which needs most.
const BLOCKING_STACK: usize = 1024 * 1024;
/// Log writes, reads of the log, an account lookup, a break, the configuration; further calls wait.
const BLOCKING_THREADS: usize = 5;
/// An idle blocking thread ends after this time.
const BLOCKING_IDLE: Duration = Duration::from_secs(1);
/// Descriptors that are reported ready at a time; more wait for the next round. tokio's default of 1024 would be 12 KiB in each port.
const MAX_EVENTS_PER_TICK: usize = 64;

/// Runs a function on a thread of its own. On the main thread, reading the configuration once would leave 40 KiB of stack in
/// each port; and files may be slow.
async fn aside<T: Send + 'static>(task: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(task).await {
        Ok(done) => done,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

#[derive(Debug, Clone)]
pub struct Options {
    /// The port, by the name of its unit. It may have been renamed since the unit was started.
    pub port: PortName,
    /// The one configuration file, instead of those below `root`.
    pub config: Option<PathBuf>,
    /// The root of /etc and /usr.
    pub root: PathBuf,
    /// Whether the system bus is that of this machine's systemd and console-admin: console-admin is notified of triggers, and systemd is
    /// asked whether it restarts the port.
    pub bus: bool,
}

impl Options {
    /// The configuration, the name of the port in it, and the fault of the file if this is the last valid configuration.
    async fn load(&self) -> Result<(Config, PortName, Option<ConfigError>), ServiceError> {
        let Self { config, root, .. } = self.clone();
        let loaded = aside(move || match config {
            Some(path) => Config::load_file(&path),
            None => Config::load_or_last_good(&root),
        });
        let loaded = loaded.await?;
        let port = loaded.config.instances.port(&self.port).clone();
        if !loaded.config.ports.contains_key(&port) {
            // A port that is new in an invalid file is not served, for that reason.
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
    #[error("{0}")]
    Config(#[from] ConfigError),
    #[error("{0} is not configured: {1} has no [ports.{0}]")]
    NotConfigured(PortName, PathBuf),
    #[error("{0}")]
    Handed(#[from] HandedError),
    #[error("{0}")]
    Ring(#[from] RingError),
    #[error("{0}: {1}")]
    System(&'static str, std::io::Error),
}

impl ServiceError {
    /// Whether another attempt would fail as well, until the configuration is changed.
    pub fn is_of_configuration(&self) -> bool {
        matches!(self, Self::Config(_) | Self::NotConfigured(..))
    }
}

/// Why the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It has neither a device nor a client.
    Idle,
    /// It received SIGTERM or SIGINT.
    Stopped,
}

/// Runs the process until it is stopped, or until it has nothing left to do.
pub fn run(options: &Options) -> Result<Ended, ServiceError> {
    // All ports have one user id; without this, a compromised port could read the memory and descriptors of the others by /proc.
    nix::sys::prctl::set_dumpable(false).map_err(|errno| {
        ServiceError::System("this port cannot be isolated from other ports", errno.into())
    })?;
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
    // A log that hangs on its disk must not keep the process from exiting.
    runtime.shutdown_background();
    done
}

async fn serve(options: &Options, handed: Handed) -> Result<Ended, ServiceError> {
    let mut signals = Signals::new().map_err(|error| ServiceError::System("signals", error))?;
    let Handed { ssh, attach, mut line, mut ring } = handed;
    let listeners = Listeners::new(ssh, attach).map_err(|error| ServiceError::System("sockets", error))?;
    // Without a socket no client could be told: `systemctl start console@` with a wrong name must fail, and a port that has no sockets yet
    // must not run, because systemd starts no socket whose service runs.
    let is_alone = listeners.ssh.is_empty() && listeners.attach.is_empty();
    if !is_alone {
        systemd::notify(&[NotifyState::Ready]);
    }

    // Clients of a port that cannot be served still get an answer: each gets the reason, until that is fixed.
    let mut administrator = None;
    let prepared = loop {
        let prepared = Prepared::new(options, &mut ring).await;
        if let Some(waiting) = administrator.take() {
            let reply = match &prepared {
                Ok(_) => Reply::Applied(Vec::new()),
                Err(error) => Reply::Rejected(format!("{} cannot be served: {error}", options.port)),
            };
            tokio::spawn(attach::server::answer(waiting, reply));
        }
        match prepared {
            Ok(prepared) => break prepared,
            Err(error) => {
                if let ServiceError::NotConfigured(..) = &error {
                    // Removed from the configuration: its tty belongs to another port, or to none.
                    line.forget();
                }
                if is_alone {
                    return Err(error);
                }
                match unserved::explain(&options.port, &error, &listeners, &mut signals).await {
                    unserved::Next::TryAgain(asked) => administrator = asked,
                    unserved::Next::Leave => return Ok(Ended::Stopped),
                }
            }
        }
    };
    if is_alone {
        systemd::notify(&[NotifyState::Ready]);
    }
    PortService::start(options.clone(), prepared, listeners, line).run(signals).await
}

#[derive(Debug)]
pub(crate) struct Listeners {
    ssh: Vec<tokio::net::TcpListener>,
    attach: Vec<tokio::net::UnixListener>,
}

impl Listeners {
    fn new(ssh: Vec<TcpListener>, attach: Vec<UnixListener>) -> std::io::Result<Self> {
        let mut listeners = Self { ssh: Vec::new(), attach: Vec::new() };
        for socket in ssh {
            socket.set_nonblocking(true)?;
            listeners.ssh.push(tokio::net::TcpListener::from_std(socket)?);
        }
        for socket in attach {
            socket.set_nonblocking(true)?;
            listeners.attach.push(tokio::net::UnixListener::from_std(socket)?);
        }
        Ok(listeners)
    }
}

/// The signals that this process handles.
pub(crate) struct Signals {
    apply: Signal,
    reopen: Signal,
    exit: ExitSignals,
}

pub(crate) enum SignalRequest {
    Apply,
    ReopenLog,
    Leave,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        // LimitFSIZE=, `ulimit -f`: a log that may not grow is an error of its write, EFBIG, and must not end the console (setrlimit(2)). (The
        // handler stays when this value is dropped.)
        drop(signal(SignalKind::from_raw(nix::libc::SIGXFSZ))?);
        Ok(Self {
            apply: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
            exit: ExitSignals::new()?,
        })
    }

    /// The next request. Cancel safe.
    async fn next(&mut self) -> SignalRequest {
        tokio::select! {
            _ = self.apply.recv() => SignalRequest::Apply,
            _ = self.reopen.recv() => SignalRequest::ReopenLog,
            () = self.exit.next() => SignalRequest::Leave,
        }
    }
}
