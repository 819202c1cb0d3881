//! The console ports in the foreground of a terminal, where systemd is not PID 1 or one only wants to look: what
//! systemd does for the units, done here for the ports alone. It binds the sockets, starts `console-port` on a plug-in
//! or a first connection and `console-auth` for each login, says so on the screen, and takes all down on Ctrl-C.

mod children;
mod demo;
mod error;
mod line;
mod logins;
mod paths;
mod port;
mod sockets;

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

pub use error::ForegroundError;

/// Signals this close together are one.
const ONE_KEY_PRESS: Duration = Duration::from_secs(1);

/// Which ports are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Every enabled port of the configuration; one whose TCP port is taken is an error.
    Configured,
    /// Those whose adapter is there now and whose TCP port is free: a demonstration on a machine where nobody has
    /// configured anything yet takes no more than it finds.
    Present,
}

/// Serves the ports of `config` until SIGINT, SIGTERM or SIGHUP; `demonstrate` adds the demonstration port.
pub async fn run(mut config: Config, scope: Scope, demonstrate: bool) -> Result<(), ForegroundError> {
    // Sockets get their own modes after they are bound; until then nobody else may connect.
    umask(Mode::from_bits_retain(0o022));
    let mut signals = Signals::listen()?;
    let paths = Paths::of_caller()?;
    let port_program = program("console-port")?;
    let auth_program = program("console-auth")?;
    let _claim = paths.claim()?;
    let _traces = Traces(&paths);
    let credentials = paths.credentials()?;
    say_who(&paths);

    config.ports.retain(|_, port| port.enabled);
    let mut listeners = Vec::new();
    let mut refused = Vec::new();
    for (name, port) in &config.ports {
        if scope == Scope::Present && !device(&config, name, port).exists() {
            refused.push(name.clone());
            continue;
        }
        match listen(&config, name, port) {
            Ok(ssh) => listeners.push((name.clone(), ssh, None)),
            Err(error) if scope == Scope::Present => {
                tracing::warn!("{error}: not served in this demonstration");
                refused.push(name.clone());
            }
            Err(error) => return Err(error),
        }
    }
    config.ports.retain(|name, _| !refused.contains(name));

    let mut demo_key = None;
    let mut shells = None;
    let mut invitation = None;
    if demonstrate {
        let demo = Demo::prepare(&paths, &mut config)?;
        invitation = Some(demo.invitation(&paths)?);
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
    let mut ports = Vec::new();
    for (name, ssh, line) in listeners {
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
        ports.push(ServedPort { name, sockets, device, claims, program, line });
    }
    persist::write(&paths.config(), config.to_toml().as_bytes(), 0o644, None)
        .map_err(in_file(&paths.config()))?;
    say_ports(&config, &ports);
    if let Some(invitation) = invitation {
        let mut screen = io::stdout();
        screen
            .write_all(invitation.as_bytes())
            .and_then(|()| screen.flush())
            .map_err(ForegroundError::Screen)?;
    }

    let logins =
        Logins { path: auth_program, demo_key, host_keys: paths.hostkeys.clone(), config: paths.config() };
    paths.clone().make_more_host_keys(credentials);
    serve(ports, auth_port, logins, shells, &mut signals).await
}

/// Runs everything until a signal, then the ports' orderly end; a second signal cuts that short.
async fn serve(
    ports: Vec<ServedPort>,
    auth_port: UnixSocket,
    logins: Logins,
    shells: Option<impl Future<Output = ()> + Send + 'static>,
    signals: &mut Signals,
) -> Result<(), ForegroundError> {
    let (stop, stopped) = watch::channel(false);
    let mut lives = JoinSet::new();
    for port in ports {
        lives.spawn(port.serve(stopped.clone()));
    }
    let mut helpers = JoinSet::new();
    if let Some(shells) = shells {
        helpers.spawn(shells);
    }

    let logins = logins.serve(auth_port);
    tokio::pin!(logins);
    let end = tokio::select! {
        name = signals.next() => {
            tracing::info!("{name}: ending");
            Ok(())
        }
        error = &mut logins => Err(ForegroundError::Logins(error)),
        Some(life) = lives.join_next() => Err(ForegroundError::PortTask(life.err())),
    };
    stop.send_replace(true);
    tokio::select! {
        () = async { while lives.join_next().await.is_some() {} } => {}
        // Sessions may still be told while they end, and somebody may be halfway through a login.
        error = &mut logins => return Err(ForegroundError::Logins(error)),
        name = signals.insist() => tracing::warn!("{name} again: not waiting for the ports"),
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

fn say_who(paths: &Paths) {
    let (user, logs) = (&paths.port_user_name, paths.logs.display());
    if paths.port_user.is_some() {
        tracing::info!("ports run as {user}; every user of this machine may log in; logs in {logs}");
    } else {
        tracing::info!(
            "not root: only {user} may log in, and ports open what {user} may open; logs in {logs}"
        );
    }
}

fn say_ports(config: &Config, ports: &[ServedPort]) {
    let listed = ports.iter().map(|port| match config.ports[&port.name].ssh_port {
        Some(number) => format!("{} on {number}", port.name),
        None => format!("{} local only", port.name),
    });
    tracing::info!("serving {}", listed.collect::<Vec<_>>().join(", "));
}

/// What is removed when the program ends, however it ends; sockets remove themselves.
struct Traces<'a>(&'a Paths);

impl Drop for Traces<'_> {
    fn drop(&mut self) {
        let Self(paths) = self;
        demo::clear(paths);
        let directories = [paths.runtime.join("credentials"), paths.running()].map(fs::remove_dir_all);
        for removed in [fs::remove_file(paths.config())].into_iter().chain(directories) {
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!("{}: not tidied up: {error}", paths.runtime.display());
                }
                _ => {}
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
    /// Signals that were ignored when this process started. They are caught all the same: ports and shells would inherit an ignored
    /// signal, and do not inherit a caught one (execve(2)).
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

    /// A second signal that is meant: one key press reaches us twice by way of sudo, make or timeout.
    async fn insist(&mut self) -> &'static str {
        let asked = Instant::now();
        loop {
            let name = self.next().await;
            if asked.elapsed() > ONE_KEY_PRESS {
                return name;
            }
        }
    }

    async fn next(&mut self) -> &'static str {
        loop {
            let (signal, name) = tokio::select! {
                _ = self.interrupt.recv() => (UnixSignal::SIGINT, "Ctrl-C"),
                _ = self.terminate.recv() => (UnixSignal::SIGTERM, "SIGTERM"),
                _ = self.hangup.recv() => (UnixSignal::SIGHUP, "the terminal is gone"),
                _ = self.quit.recv() => (UnixSignal::SIGQUIT, "SIGQUIT"),
            };
            // nohup ignores SIGHUP so that a program survives its terminal. A script's background job ignores SIGINT too, and is ended by
            // it all the same: whoever sends it there means it.
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
