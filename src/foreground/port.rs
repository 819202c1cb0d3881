//! One port in the foreground: holds its sockets, starts `console-port` with them when a client connects or the device is present, and
//! restarts it when it exits.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::process::Child;
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};

use super::children;
use super::line::Line;
use super::sockets::PortSockets;
use crate::ownership::{Claims, Machine, leads};
use crate::port::{PortName, Source};
use crate::serial::{DeviceWatch, WatchError};
use crate::system::persist::Owner;
use crate::system::reactor::Watched;

/// Time for a port to notify its sessions and flush its log after SIGTERM.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// A shorter run is a failure, regardless of the exit status.
const MIN_RUN_TIME: Duration = Duration::from_secs(10);
/// First delay after a short run; it doubles with each.
const MIN_RESTART_DELAY: Duration = Duration::from_millis(200);
/// Longest delay if only the device is present: a tty that is busy becomes free at some time.
const MAX_RESTART_DELAY: Duration = Duration::from_secs(30);
/// Longest delay while a client waits.
const LISTENER_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A port, with all that is needed to serve it.
#[derive(Debug)]
pub struct ServedPort {
    pub name: PortName,
    pub sockets: PortSockets,
    pub device: PathBuf,
    /// What the port is connected to in place of a device: it counts as present at all times.
    pub source: Option<Source>,
    pub claims: Claims,
    /// How `console-port` is started.
    pub program: PortProgram,
    /// The pty of the demonstration port.
    pub line: Option<Line>,
}

/// Program, directories and user of a `console-port`.
#[derive(Debug, Clone)]
pub struct PortProgram {
    /// `console-port`.
    pub path: PathBuf,
    /// The opened program, if its user cannot search a directory above it, such as /root.
    pub opened: Option<Arc<File>>,
    pub config: PathBuf,
    /// `RUNTIME_DIRECTORY`.
    pub runtime: PathBuf,
    /// `LOGS_DIRECTORY`: the port's own.
    pub logs: PathBuf,
    /// `CREDENTIALS_DIRECTORY`.
    pub credentials: PathBuf,
    /// Its user; `None` = the caller.
    pub user: Option<Owner>,
}

#[derive(Debug, Clone, Copy)]
enum StartReason {
    Device,
    Connection,
}

impl ServedPort {
    /// Serves the port until `stop` is true and `console-port` has exited.
    pub async fn serve(self, mut stop: watch::Receiver<bool>) {
        let name = &self.name;
        let mut backoff = Backoff::default();
        loop {
            let reason = tokio::select! {
                reason = self.start_reason(&backoff) => reason,
                () = stopped(&mut stop) => return,
            };
            let started = Instant::now();
            let ended = match reason.and_then(|reason| Ok((reason, self.start()?))) {
                Ok((reason, mut child)) => {
                    let _mark = RunningMark::set(&self.program.runtime, name);
                    let why = match reason {
                        StartReason::Device => match &self.source {
                            Some(source) => format!("source {source}"),
                            None => format!("{} present", self.device.display()),
                        },
                        StartReason::Connection => "client connected".to_owned(),
                    };
                    tracing::info!("{name}: {why}: console-port started{}", children::pid(&child));
                    tokio::select! {
                        status = child.wait() => status,
                        () = stopped(&mut stop) => return end(name, child).await,
                    }
                }
                Err(error) => Err(error),
            };
            let healthy = matches!(&ended, Ok(status) if status.success());
            backoff.ran(started.elapsed(), healthy);
            self.log_end(ended, &backoff);
        }
    }

    fn log_end(&self, ended: io::Result<ExitStatus>, backoff: &Backoff) {
        let name = &self.name;
        let next = format!("restart in {:.1} s at the earliest", backoff.delay().as_secs_f32());
        match ended {
            Ok(status) if status.success() => tracing::info!("{name}: console-port exited"),
            Ok(status) => tracing::error!("{name}: console-port exited unexpectedly ({status}); {next}"),
            Err(error) => tracing::error!("{name}: cannot run console-port: {error}; {next}"),
        }
    }

    /// Waits until there is a reason to start the port.
    async fn start_reason(&self, backoff: &Backoff) -> io::Result<StartReason> {
        sleep_until(backoff.next_for_connection().into()).await;
        let device = async {
            sleep_until(backoff.next_for_device().into()).await;
            if let Err(error) = self.device_present().await {
                tracing::error!("{}: {error}; only a connection will start it", self.name);
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            ready = connection_waits(self.sockets.fds()) => ready.map(|()| StartReason::Connection),
            () = device => Ok(StartReason::Device),
        }
    }

    async fn device_present(&self) -> Result<(), WatchError> {
        if self.source.is_some() {
            return Ok(());
        }
        let others = self.claims.iter().filter(|claim| claim.by_device && claim.port != self.name);
        let mut paths: Vec<PathBuf> = others.map(|claim| claim.path.clone()).collect();
        paths.push(self.device.clone());
        let mut watch = DeviceWatch::new(&paths)?;
        while !self.device.exists() || self.belongs_to_other_port() {
            watch.appeared().await?;
        }
        Ok(())
    }

    /// Whether the device belongs to another port: otherwise this one would be restarted again and again.
    fn belongs_to_other_port(&self) -> bool {
        let Some(tty) = leads(&self.device) else { return false };
        let clash = Machine::default().record(tty).and_then(|record| record.clash);
        let owner = self.claims.owner(tty, clash.as_deref(), leads);
        owner.is_some_and(|owner| owner.port != self.name)
    }

    /// Starts `console-port` as systemd does, with the sockets by number and name.
    fn start(&self) -> io::Result<Child> {
        if let Some(line) = &self.line {
            line.release()?;
        }
        let PortProgram { path, opened, config, runtime, logs, credentials, user } = &self.program;
        let mut names = vec!["ssh"; self.sockets.ssh.len()];
        names.push("attach");
        let fds: Vec<OwnedFd> =
            self.sockets.fds().map(|fd| fd.try_clone_to_owned()).collect::<Result<_, _>>()?;
        let mut command = children::passing(path, opened.as_deref(), fds, *user)?;
        command
            .arg("--config")
            .arg(config)
            .arg(self.name.as_str())
            .env("LISTEN_FDNAMES", names.join(":"))
            .env("RUNTIME_DIRECTORY", runtime)
            .env("LOGS_DIRECTORY", logs)
            .env("CREDENTIALS_DIRECTORY", credentials);
        command.spawn()
    }
}

/// `$RUNTIME_DIRECTORY/running/NAME` while a port runs, so that `consolectl status` does not start idle ports.
struct RunningMark(PathBuf);

impl RunningMark {
    fn set(runtime: &Path, name: &PortName) -> Self {
        let mark = Self(runtime.join("running").join(name.as_str()));
        if let Err(error) = std::fs::write(&mark.0, "") {
            tracing::warn!("{name}: consolectl status will not show it: {}: {error}", mark.0.display());
        }
        mark
    }
}

impl Drop for RunningMark {
    fn drop(&mut self) {
        // Fails if it could not be created.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Waits until the program is to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Sends SIGTERM, and SIGKILL after a timeout.
async fn end(name: &PortName, mut child: Child) {
    let Some(pid) = child.id() else { return };
    if let Err(error) = kill(Pid::from_raw(pid as i32), Signal::SIGTERM) {
        tracing::warn!("{name}: cannot terminate console-port: {error}");
    }
    match timeout(DRAIN_TIMEOUT, child.wait()).await {
        Ok(Ok(status)) if status.success() => tracing::info!("{name}: console-port exited"),
        Ok(Ok(status)) => tracing::warn!("{name}: console-port exited ({status})"),
        Ok(Err(error)) => tracing::error!("{name}: cannot wait for console-port: {error}"),
        Err(_) => {
            tracing::error!(
                "{name}: console-port did not exit within {} s; killing it",
                DRAIN_TIMEOUT.as_secs()
            );
            if let Err(error) = child.kill().await {
                tracing::error!("{name}: cannot kill console-port: {error}");
            }
        }
    }
}

/// Waits until a connection is pending on one of the listeners, without accepting it.
pub(super) async fn connection_waits<'a>(listeners: impl Iterator<Item = BorrowedFd<'a>>) -> io::Result<()> {
    let watched: Vec<Watched<OwnedFd>> = listeners
        .map(|listener| Watched::new(listener.try_clone_to_owned()?, Interest::READABLE))
        .collect::<Result<_, _>>()?;
    poll_fn(|context| {
        for listener in &watched {
            if let Poll::Ready(ready) = listener.poll_read_ready(context) {
                return Poll::Ready(ready.map(drop));
            }
        }
        Poll::Pending
    })
    .await
}

/// When a port may be restarted: at once after a successful run, with growing delays after short ones.
#[derive(Debug)]
struct Backoff {
    ended: Instant,
    short_runs: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { ended: Instant::now(), short_runs: 0 }
    }
}

impl Backoff {
    fn ran(&mut self, time: Duration, healthy: bool) {
        self.ended = Instant::now();
        self.short_runs = match (time < MIN_RUN_TIME, healthy) {
            (true, _) => self.short_runs.saturating_add(1),
            (false, true) => 0,
            (false, false) => 1,
        };
    }

    fn delay(&self) -> Duration {
        match self.short_runs {
            0 => Duration::ZERO,
            runs => MIN_RESTART_DELAY.saturating_mul(1 << (runs - 1).min(16)).min(MAX_RESTART_DELAY),
        }
    }

    /// When a connection may start the port.
    fn next_for_connection(&self) -> Instant {
        self.ended + self.delay().min(LISTENER_POLL_INTERVAL)
    }

    /// When the device may start the port.
    fn next_for_device(&self) -> Instant {
        self.ended + self.delay()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn delays_grow_to_a_limit_and_are_reset_by_a_successful_run() {
        let mut backoff = Backoff::default();
        let mut delays = Vec::new();
        for _ in 0..40 {
            backoff.ran(Duration::ZERO, true);
            delays.push(backoff.delay());
        }
        assert_eq!(delays[..3], [200, 400, 800].map(Duration::from_millis));
        assert_eq!(delays[39], MAX_RESTART_DELAY);
        assert!(backoff.next_for_connection() - backoff.ended <= LISTENER_POLL_INTERVAL);
        backoff.ran(MIN_RUN_TIME, true);
        assert_eq!(backoff.delay(), Duration::ZERO);
        backoff.ran(MIN_RUN_TIME, false);
        assert_eq!(backoff.delay(), MIN_RESTART_DELAY);
    }

    #[tokio::test]
    async fn a_pending_connection_is_detected_and_left_for_the_port_to_accept() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let quiet =
            timeout(Duration::from_millis(20), connection_waits([listener.as_fd()].into_iter())).await;
        assert!(quiet.is_err());
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        for _ in 0..2 {
            timeout(Duration::from_secs(10), connection_waits([listener.as_fd()].into_iter()))
                .await
                .unwrap()
                .unwrap();
        }
        assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
    }
}
