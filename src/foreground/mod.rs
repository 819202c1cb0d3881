//! `consoleserver`: serves the console ports in the foreground of a terminal, without systemd. It does for the ports what systemd does for
//! the units: binds the sockets, starts `console-port` when a device is plugged in or a client connects and `console-auth` for each login,
//! logs that to the terminal, and stops everything on Ctrl-C.

mod children;
mod demo;
mod error;
mod line;
mod logins;
mod paths;
mod port;
mod sockets;
mod sources;

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal as UnixSignal};
use nix::sys::stat::{Mode, umask};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::{Config, Port};
use crate::ownership::Claims;
use crate::port::PortName;
use crate::system::persist;
use demo::Demo;
use logins::Logins;
use paths::{Paths, in_file, program};
use port::{PortProgram, ServedPort};
use sockets::{PortSockets, UnixSocket, listen_ssh, listen_unix};
use sources::ServedSource;

pub use error::ForegroundError;

/// Signals within this time are one.
const ONE_KEY_PRESS: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Every enabled port of the configuration; a TCP port in use is an error.
    Configured,
    /// Ports whose device is present and whose TCP port is free, for a demonstration on a machine without a configuration.
    Present,
}

/// Serves the ports of `config` until SIGINT, SIGTERM or SIGHUP; `demonstrate` adds the demonstration port.
pub async fn run(mut config: Config, scope: Scope, demonstrate: bool) -> Result<(), ForegroundError> {
    // Sockets get their modes after bind; until then other users must not be able to connect.
    umask(Mode::from_bits_retain(0o022));
    let mut signals = Signals::listen()?;
    let paths = Paths::of_caller()?;
    let port_program = program("console-port")?;
    let auth_program = program("console-auth")?;
    let _claim = paths.claim()?;
    let _cleanup = Cleanup(&paths);
    let credentials = paths.credentials()?;
    log_users(&paths);

    config.ports.retain(|_, port| port.enabled);
    let mut listeners = Vec::new();
    let mut skipped = Vec::new();
    for (name, port) in &config.ports {
        if scope == Scope::Present && !device(&config, name, port).exists() {
            skipped.push(name.clone());
            continue;
        }
        match listen(&config, name, port) {
            Ok(ssh) => listeners.push((name.clone(), ssh, None)),
            Err(error) if scope == Scope::Present => {
                tracing::warn!("{error}: port not served in this demonstration");
                skipped.push(name.clone());
            }
            Err(error) => return Err(error),
        }
    }
    config.ports.retain(|name, _| !skipped.contains(name));

    let mut demo_key = None;
    let mut shells = None;
    let mut instructions = None;
    if demonstrate {
        let demo = Demo::prepare(&paths, &mut config)?;
        instructions = Some(demo.instructions(&paths)?);
        demo_key = Some(demo.public_key.clone());
        let (name, line, ssh, far_end) = demo.split();
        listeners.push((name, ssh, Some(line)));
        shells = Some(far_end);
    }
    if config.ports.is_empty() {
        return Err(ForegroundError::NothingToServe);
    }

    let auth_port = listen_unix(&paths.auth_port(), 0o600, paths.port_user)?;
    let opened = paths.opened(&port_program)?;
    let dial_program = match config.ports.values().any(|port| port.source.is_some()) {
        true => {
            let path = program("console-dial")?;
            let opened = paths.opened(&path)?;
            Some((path, opened))
        }
        false => None,
    };
    let mut ports = Vec::new();
    let mut sources = Vec::new();
    for (name, ssh, line) in listeners {
        let source = config.ports[&name].source.clone();
        if let (Some(source), Some((dial, opened))) = (&source, &dial_program) {
            let (dial, opened, user) = (dial.clone(), opened.clone(), paths.port_user);
            sources.push(ServedSource::listen(&paths.runtime, &name, source.clone(), dial, opened, user)?);
        }
        let attach = listen_unix(&paths.attach().join(name.as_str()), 0o666, None)?;
        let program = PortProgram {
            path: port_program.clone(),
            opened: opened.clone(),
            config: paths.config(),
            runtime: paths.runtime.clone(),
            logs: paths.log_directory(&name)?,
            credentials: credentials.clone(),
            user: paths.port_user,
        };
        let device = device(&config, &name, &config.ports[&name]);
        let claims = Claims::concerning(&config, &name);
        let sockets = PortSockets { ssh, attach };
        ports.push(ServedPort { name, sockets, device, source, claims, program, line });
    }
    persist::write(&paths.config(), config.to_toml().as_bytes(), 0o644, None)
        .map_err(in_file(&paths.config()))?;
    log_ports(&config, &ports);
    if let Some(instructions) = instructions {
        let mut stdout = io::stdout();
        stdout
            .write_all(instructions.as_bytes())
            .and_then(|()| stdout.flush())
            .map_err(ForegroundError::Stdout)?;
    }

    let logins =
        Logins { path: auth_program, demo_key, host_keys: paths.hostkeys.clone(), config: paths.config() };
    paths.clone().make_more_host_keys(credentials);
    serve(ports, sources, auth_port, logins, shells, &mut signals).await
}

/// Runs everything until a signal, then stops the ports; a second signal ends that at once.
async fn serve(
    ports: Vec<ServedPort>,
    sources: Vec<ServedSource>,
    auth_port: UnixSocket,
    logins: Logins,
    shells: Option<impl Future<Output = ()> + Send + 'static>,
    signals: &mut Signals,
) -> Result<(), ForegroundError> {
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    for port in ports {
        tasks.spawn(port.serve(stopped.clone()));
    }
    let mut helpers = JoinSet::new();
    for source in sources {
        helpers.spawn(source.serve());
    }
    if let Some(shells) = shells {
        helpers.spawn(shells);
    }

    let logins = logins.serve(auth_port);
    tokio::pin!(logins);
    let end = tokio::select! {
        name = signals.next() => {
            tracing::info!("{name}: shutting down");
            Ok(())
        }
        error = &mut logins => Err(ForegroundError::Logins(error)),
        Some(task) = tasks.join_next() => Err(ForegroundError::PortTask(task.err())),
    };
    stop.send_replace(true);
    tokio::select! {
        () = async { while tasks.join_next().await.is_some() {} } => {}
        // A login may still be in progress.
        error = &mut logins => return Err(ForegroundError::Logins(error)),
        name = signals.second() => tracing::warn!("{name} again: exiting without waiting for the ports"),
    }
    end
}

fn listen(
    config: &Config,
    name: &PortName,
    port: &Port,
) -> Result<Vec<std::net::TcpListener>, ForegroundError> {
    let mut listeners = Vec::new();
    for (addresses, number) in config.tcp_listeners(port) {
        listeners.extend(listen_ssh(name, addresses, number)?);
    }
    Ok(listeners)
}

fn device(config: &Config, name: &PortName, port: &Port) -> PathBuf {
    port.device.clone().unwrap_or_else(|| config.server.monitor.join(name.as_str()))
}

fn log_users(paths: &Paths) {
    let (user, logs) = (&paths.port_user_name, paths.logs.display());
    if paths.port_user.is_some() {
        tracing::info!("ports run as {user}; all users of this machine may log in; logs are in {logs}");
    } else {
        tracing::info!(
            "not root: only {user} may log in, and ports can open only devices that {user} can open; logs are in {logs}"
        );
    }
}

fn log_ports(config: &Config, ports: &[ServedPort]) {
    let listed = ports.iter().map(|port| match config.ports[&port.name].ssh_port {
        Some(number) => format!("{} on {number}", port.name),
        None => format!("{} local only", port.name),
    });
    tracing::info!("serving {}", listed.collect::<Vec<_>>().join(", "));
}

/// Removes files when the program ends; sockets remove themselves.
struct Cleanup<'a>(&'a Paths);

impl Drop for Cleanup<'_> {
    fn drop(&mut self) {
        let Self(paths) = self;
        demo::clear(paths);
        let directories = [paths.runtime.join("credentials"), paths.running(), paths.runtime.join("source")]
            .map(fs::remove_dir_all);
        for removed in [fs::remove_file(paths.config())].into_iter().chain(directories) {
            if let Err(error) = persist::gone(removed) {
                tracing::warn!("{}: cannot remove files: {error}", paths.runtime.display());
            }
        }
    }
}

/// The signals that end the program.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    quit: Signal,
    /// Signals that were ignored when this process started. They are caught nevertheless, because ports and shells would inherit an ignored
    /// signal, but not a caught one (execve(2)).
    ignored: SigSet,
}

impl Signals {
    fn listen() -> Result<Self, ForegroundError> {
        let ignored = ignored_signals().map_err(ForegroundError::Signals)?;
        let listen = |kind| signal(kind).map_err(ForegroundError::Signals);
        Ok(Self {
            ignored,
            quit: listen(SignalKind::quit())?,
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// A second signal from the user: one key press may arrive twice through sudo, make or timeout.
    async fn second(&mut self) -> &'static str {
        let first = Instant::now();
        loop {
            let name = self.next().await;
            if first.elapsed() > ONE_KEY_PRESS {
                return name;
            }
        }
    }

    async fn next(&mut self) -> &'static str {
        loop {
            let (signal, name) = tokio::select! {
                _ = self.interrupt.recv() => (UnixSignal::SIGINT, "Ctrl-C"),
                _ = self.terminate.recv() => (UnixSignal::SIGTERM, "SIGTERM"),
                _ = self.hangup.recv() => (UnixSignal::SIGHUP, "SIGHUP"),
                _ = self.quit.recv() => (UnixSignal::SIGQUIT, "SIGQUIT"),
            };
            // nohup ignores SIGHUP so that a program survives its terminal. A script's background job ignores SIGINT too, but a SIGINT sent
            // to it is intended.
            let survives =
                matches!(signal, UnixSignal::SIGHUP | UnixSignal::SIGQUIT) && self.ignored.contains(signal);
            if !survives {
                return name;
            }
        }
    }
}

/// The signals that this process ignores (proc_pid_status(5)).
fn ignored_signals() -> io::Result<SigSet> {
    let status = fs::read_to_string("/proc/self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    Ok(UnixSignal::iterator().filter(|signal| mask >> (*signal as i32 - 1) & 1 == 1).collect())
}
