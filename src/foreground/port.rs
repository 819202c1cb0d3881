//! One port in the foreground: its sockets wait here while nobody serves them, `console-port` gets them when
//! somebody knocks or the device is there, and gets another life when it ends.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};

use super::children;
use super::line::Line;
use super::sockets::PortSockets;
use crate::ownership::{Claims, Machine, leads};
use crate::port::PortName;
use crate::serial::{DeviceWatch, WatchError};
use crate::system::persist::Owner;
use crate::system::reactor::Watched;

/// How long an ending port may tell its sessions and flush its log.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// A life shorter than this is a failure to serve, whatever the exit status.
const MIN_RUN_TIME: Duration = Duration::from_secs(10);
/// The first pause after a short life; it doubles with each.
const MIN_RESTART_DELAY: Duration = Duration::from_millis(200);
/// The longest pause while only the device asks: a tty that is busy becomes free some time.
const MAX_RESTART_DELAY: Duration = Duration::from_secs(30);
/// The longest pause while somebody waits at the door.
const LISTENER_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// First descriptor handed over (`man sd_listen_fds`).
const LISTEN_FDS_START: i32 = 3;

/// A port and what serves it.
#[derive(Debug)]
pub struct ServedPort {
    /// Its name.
    pub name: PortName,
    /// Its sockets.
    pub sockets: PortSockets,
    /// Where its device appears.
    pub device: PathBuf,
    /// Whose ttys are.
    pub claims: Claims,
    /// How `console-port` is started.
    pub program: PortProgram,
    /// The demonstration line behind it, if it is that port.
    pub line: Option<Line>,
}

/// What every `console-port` is started with.
#[derive(Debug, Clone)]
pub struct PortProgram {
    /// `console-port`.
    pub path: PathBuf,
    /// The same program, opened, if its user may not search a directory above it, such as /root.
    pub opened: Option<Arc<File>>,
    /// The effective configuration.
    pub config: PathBuf,
    /// `RUNTIME_DIRECTORY`.
    pub runtime: PathBuf,
    /// `LOGS_DIRECTORY`: the port's own.
    pub logs: PathBuf,
    /// `CREDENTIALS_DIRECTORY`.
    pub credentials: PathBuf,
    /// As whom; `None` = the caller.
    pub user: Option<Owner>,
}

/// Why a port is started.
#[derive(Debug, Clone, Copy)]
enum StartReason {
    Device,
    Connection,
}

impl ServedPort {
    /// Serves the port until `stop` is true and its last `console-port` has left.
    pub async fn serve(self, mut stop: watch::Receiver<bool>) {
        let name = &self.name;
        let mut pace = Pace::default();
        loop {
            let wanted = tokio::select! {
                wanted = self.wanted(&pace) => wanted,
                () = asked(&mut stop) => return,
            };
            let started = Instant::now();
            let ended = match wanted.and_then(|wanted| Ok((wanted, self.start()?))) {
                Ok((wanted, mut child)) => {
                    let _mark = RunningMark::set(&self.program.runtime, name);
                    let why = match wanted {
                        StartReason::Device => format!("{} is there", self.device.display()),
                        StartReason::Connection => "somebody connects".to_owned(),
                    };
                    tracing::info!("{name}: {why}: console-port started{}", children::pid(&child));
                    tokio::select! {
                        status = child.wait() => status,
                        () = asked(&mut stop) => return end(name, child).await,
                    }
                }
                Err(error) => Err(error),
            };
            let healthy = matches!(&ended, Ok(status) if status.success());
            pace.lived(started.elapsed(), healthy);
            self.say_end(ended, &pace);
        }
    }

    fn say_end(&self, ended: io::Result<ExitStatus>, pace: &Pace) {
        let name = &self.name;
        let next = format!("next try in {:.1} s at the earliest", pace.pause().as_secs_f32());
        match ended {
            Ok(status) if status.success() => tracing::info!("{name}: console-port has left"),
            Ok(status) => tracing::error!("{name}: console-port ended unasked ({status}); {next}"),
            Err(error) => tracing::error!("{name}: cannot run console-port: {error}; {next}"),
        }
    }

    /// Waits until the port is worth starting.
    async fn wanted(&self, pace: &Pace) -> io::Result<StartReason> {
        sleep_until(pace.door_opens().into()).await;
        let device = async {
            sleep_until(pace.device_counts().into()).await;
            if let Err(error) = self.device_is_there().await {
                tracing::error!("{}: {error}; only a connection starts it", self.name);
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            ready = knock(self.sockets.fds()) => ready.map(|()| StartReason::Connection),
            () = device => Ok(StartReason::Device),
        }
    }

    async fn device_is_there(&self) -> Result<(), WatchError> {
        let others = self.claims.iter().filter(|claim| claim.by_device && claim.port != self.name);
        let mut paths: Vec<PathBuf> = others.map(|claim| claim.path.clone()).collect();
        paths.push(self.device.clone());
        let mut watch = DeviceWatch::new(&paths)?;
        while !self.device.exists() || self.is_anothers() {
            watch.appeared().await?;
        }
        Ok(())
    }

    /// Whether the device that is there is another port's: this one would be started to find out, again and again.
    fn is_anothers(&self) -> bool {
        let Some(tty) = leads(&self.device) else { return false };
        let clash = Machine::default().record(tty).and_then(|record| record.clash);
        let owner = self.claims.owner(tty, clash.as_deref(), leads);
        owner.is_some_and(|owner| owner.port != self.name)
    }

    /// Starts `console-port` as systemd would: the sockets by number and name, nothing else of ours.
    fn start(&self) -> io::Result<Child> {
        if let Some(line) = &self.line {
            line.release()?;
        }
        let PortProgram { path, opened, config, runtime, logs, credentials, user } = &self.program;
        let mut names = vec!["ssh"; self.sockets.ssh.len()];
        names.push("attach");
        let listening = names.len();
        let mut fds: Vec<OwnedFd> =
            self.sockets.fds().map(|fd| fd.try_clone_to_owned()).collect::<Result<_, _>>()?;
        // After the sockets, which LISTEN_FDS counts. Executing a descriptor needs no search permission on its path (proc_pid_fd(5)).
        let program = match opened {
            Some(file) => {
                fds.push(file.try_clone()?.into());
                format!("/proc/self/fd/{}", LISTEN_FDS_START as usize + listening).into()
            }
            None => path.clone(),
        };
        let mut command: Command = children::command(&program);
        command
            .arg("--config")
            .arg(config)
            .arg(self.name.as_str())
            .env("LISTEN_FDS", listening.to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            .env("RUNTIME_DIRECTORY", runtime)
            .env("LOGS_DIRECTORY", logs)
            .env("CREDENTIALS_DIRECTORY", credentials)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if let Some(Owner { uid, gid }) = *user {
            command.uid(uid).gid(gid);
        }
        let mappings =
            (LISTEN_FDS_START..).zip(fds).map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd });
        command.fd_mappings(mappings.collect()).map_err(io::Error::other)?;
        command.spawn()
    }
}

/// `$RUNTIME_DIRECTORY/running/NAME` while a port runs, so that `consolectl status` can look without starting every port.
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
        // If it could not be made, it is not there.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Waits until everything is to end, or nobody is left to ask for it.
async fn asked(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// SIGTERM, a while for last words, SIGKILL.
async fn end(name: &PortName, mut child: Child) {
    let Some(pid) = child.id() else { return };
    if let Err(error) = kill(Pid::from_raw(pid as i32), Signal::SIGTERM) {
        tracing::warn!("{name}: console-port cannot be told to end: {error}");
    }
    match timeout(DRAIN_TIMEOUT, child.wait()).await {
        Ok(Ok(status)) if status.success() => tracing::info!("{name}: console-port has left"),
        Ok(Ok(status)) => tracing::warn!("{name}: console-port has left ({status})"),
        Ok(Err(error)) => tracing::error!("{name}: cannot wait for console-port: {error}"),
        Err(_) => {
            tracing::error!(
                "{name}: console-port does not end within {} s and is killed",
                DRAIN_TIMEOUT.as_secs()
            );
            if let Err(error) = child.kill().await {
                tracing::error!("{name}: console-port cannot be killed: {error}");
            }
        }
    }
}

/// Waits until a connection waits on one of the listeners, and takes none.
async fn knock<'a>(listeners: impl Iterator<Item = BorrowedFd<'a>>) -> io::Result<()> {
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

/// How soon a port may be started again: at once after an honest life, later and later after short ones.
#[derive(Debug)]
struct Pace {
    ended: Instant,
    short_lives: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { ended: Instant::now(), short_lives: 0 }
    }
}

impl Pace {
    fn lived(&mut self, life: Duration, healthy: bool) {
        self.ended = Instant::now();
        self.short_lives = match (life < MIN_RUN_TIME, healthy) {
            (true, _) => self.short_lives.saturating_add(1),
            (false, true) => 0,
            (false, false) => 1,
        };
    }

    fn pause(&self) -> Duration {
        match self.short_lives {
            0 => Duration::ZERO,
            lives => MIN_RESTART_DELAY.saturating_mul(1 << (lives - 1).min(16)).min(MAX_RESTART_DELAY),
        }
    }

    /// From when on a connection starts the port.
    fn door_opens(&self) -> Instant {
        self.ended + self.pause().min(LISTENER_POLL_INTERVAL)
    }

    /// From when on the device's presence starts the port.
    fn device_counts(&self) -> Instant {
        self.ended + self.pause()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn pauses_grow_to_a_bound_and_an_honest_life_forgets_them() {
        let mut pace = Pace::default();
        let mut pauses = Vec::new();
        for _ in 0..40 {
            pace.lived(Duration::ZERO, true);
            pauses.push(pace.pause());
        }
        assert_eq!(pauses[..3], [200, 400, 800].map(Duration::from_millis));
        assert_eq!(pauses[39], MAX_RESTART_DELAY);
        assert!(pace.door_opens() - pace.ended <= LISTENER_POLL_INTERVAL);
        pace.lived(MIN_RUN_TIME, true);
        assert_eq!(pace.pause(), Duration::ZERO);
        pace.lived(MIN_RUN_TIME, false);
        assert_eq!(pace.pause(), MIN_RESTART_DELAY);
    }

    #[tokio::test]
    async fn a_connection_is_noticed_and_left_for_the_port_to_accept() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let quiet = timeout(Duration::from_millis(20), knock([listener.as_fd()].into_iter())).await;
        assert!(quiet.is_err());
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        for _ in 0..2 {
            timeout(Duration::from_secs(10), knock([listener.as_fd()].into_iter())).await.unwrap().unwrap();
        }
        assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
    }
}
