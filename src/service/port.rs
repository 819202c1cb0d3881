//! A running port: connects its rooms, and handles signals and settings.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::prepare::Prepared;
use super::{Ended, Listeners, Options, ServiceError, SignalRequest, Signals};
use crate::attach::administer::Apply;
use crate::capture::reader::Reader;
use crate::capture::writer::{self, Health, Writer};
use crate::config::{Config, ConfigError, Endpoint, Port, Rules, Triggers};
use crate::event::Event;
use crate::hub::line::Line;
use crate::hub::{Change, Hub, LineConfig, LineState, SourceConfig};
use crate::ownership::Claims;
use crate::plaintext::{self, Protocol};
use crate::port::PortName;
use crate::session::{Console, Directory, PackedPorts, PortList};
use crate::ssh::{Access, ConsoleChannel, Gatekeeping};
use crate::system::clock::{clock, reached};
use crate::system::journal;
use crate::system::memory;
use crate::system::systemd::{StoredLine, Watchdog};
use crate::trigger::{notifier, watcher};
use crate::{attach, initial, ssh, system::systemd};

/// Time for the sessions to report why they end.
const SESSIONS_DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for the line to read and report the rest.
const LINE_DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for the log to be flushed. A disk that takes longer loses nothing if the ring is in the FD store.
const LOG_FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// Without a device and without clients, the process exits after this time; a client that has just connected has been accepted
/// by then.
const UNPLUGGED_EXIT_DELAY: Duration = Duration::from_secs(5);
/// Until the blocking threads that have read the configuration are gone ([`super::BLOCKING_IDLE`]): each keeps freed memory for itself.
const GIVE_BACK_DELAY: Duration = Duration::from_secs(2);
/// Changes on their way to the line.
const MAX_QUEUED_ORDERS: usize = 4;

pub(super) struct PortService {
    options: Options,
    console: Arc<Console>,
    ssh: Arc<ssh::Server<ConsoleChannel>>,
    has_ssh: bool,
    attach: Arc<attach::server::Server>,
    plaintext: Arc<plaintext::Server>,
    access: watch::Sender<Access>,
    rules: watch::Sender<Rules>,
    triggers: watch::Sender<Triggers>,
    watcher: JoinHandle<()>,
    /// Whether a trigger waits for silence.
    silence: watch::Receiver<bool>,
    /// Runs the `initial` steps.
    initial: JoinHandle<()>,
    line_orders: mpsc::Sender<Change>,
    line: JoinHandle<()>,
    end_line: oneshot::Sender<()>,
    wanted_log: watch::Sender<writer::LogConfig>,
    log: JoinHandle<()>,
    health: watch::Receiver<Health>,
    /// Requests of administrators to apply the configuration.
    applies: mpsc::Receiver<Apply>,
    /// Dropped first when the process exits, and with it every accept loop: clients that connect later are for the next process.
    accept_loops: JoinSet<()>,
}

impl PortService {
    pub(super) fn start(
        options: Options,
        Prepared { config, port: name, fault, log_directory, ring }: Prepared,
        listeners: Listeners,
        stored: StoredLine,
    ) -> Self {
        let port = config.ports[&name].clone();

        let (hub, inbox) = Hub::new(ring);
        resize(&hub, port.scrollback);
        let wanted_log = watch::Sender::new(writer::LogConfig::new(port.log.clone()));
        let writer = Writer::new(hub.clone(), log_directory.clone(), wanted_log.borrow().clone());
        let health = writer.health();
        let log = tokio::spawn(writer.run(wanted_log.subscribe()));
        let (line_orders, line_inbox) = mpsc::channel(MAX_QUEUED_ORDERS);
        let (end_line, end) = oneshot::channel();

        let triggers = watch::Sender::new(port.triggers.clone());
        let access = watch::Sender::new(access_to(&config, &name));
        let rules = watch::Sender::new(config.rules(&port));
        // The process does not exit for lack of a device before the watcher permits it.
        let awaits = watch::Sender::new(!port.triggers.is_empty());
        let silence = awaits.subscribe();
        let console = Console::new(name.clone(), hub.clone(), Reader::new(log_directory), port);
        let wanted = wanted(&config, &name, &options.port);
        let line = Line::new(name.clone(), hub.clone(), inbox, wanted, line_inbox, console.attached(), end);
        let initial = tokio::spawn(initial::run(hub.clone(), console.watch_settings()));
        let took_over = stored.is_open();
        let line = tokio::spawn(line.run(stored));
        let notifier = options.bus.then(|| notifier::begin(console.watch_name()));
        let watcher = tokio::spawn(watcher::run(hub, triggers.subscribe(), notifier, awaits));
        if options.bus {
            console.set_bus();
        }
        journal::set_port(&name);
        if took_over {
            console.set_took_over();
        }
        console.set_ports(PackedPorts::pack(&neighbours(&config)));
        if let Some(fault) = fault {
            let warning = stale(&fault);
            tracing::error!(message_id = Event::NotApplied.id(), "{warning}");
            console.set_stale(Some(warning));
        }
        let reader = options.clone();
        console.set_directory(Directory::new(move || {
            let options = reader.clone();
            async move { options.load().await.ok().map(|(config, ..)| neighbours(&config)) }
        }));
        let auth_socket = access.borrow().gatekeeping.auth_socket.clone();
        let channel = Arc::new(ConsoleChannel::new(console.clone(), access.subscribe()));
        let unit = format!("console@{}", options.port);
        console.set_unit(unit.clone());
        let ssh = ssh::Server::new(channel, auth_socket, &unit);
        let mut accept_loops = JoinSet::new();
        let plaintext = plaintext::Server::new(console.clone());
        let mut has_ssh = false;
        for listener in listeners.ssh {
            match plain_protocol(&console.settings(), &listener) {
                Some(protocol) => drop(accept_loops.spawn(plaintext.clone().accept(listener, protocol))),
                None => {
                    has_ssh = true;
                    accept_loops.spawn(ssh.clone().accept(listener));
                }
            }
        }
        if has_ssh {
            load_host_keys(&ssh);
        }
        let (apply, applies) = mpsc::channel(MAX_QUEUED_ORDERS);
        let attach = attach::server::Server::new(console.clone(), rules.subscribe(), health.clone(), apply);
        for listener in listeners.attach {
            accept_loops.spawn(attach.clone().accept(listener));
        }
        Self {
            options,
            console,
            ssh,
            has_ssh,
            attach,
            plaintext,
            access,
            rules,
            triggers,
            watcher,
            silence,
            initial,
            line_orders,
            line,
            end_line,
            wanted_log,
            log,
            health,
            applies,
            accept_loops,
        }
    }

    /// Serves until it is stopped, or until there is neither a device nor a client.
    pub(super) async fn run(mut self, mut signals: Signals) -> Result<Ended, ServiceError> {
        let mut watchdog = Watchdog::default();
        let mut line = self.console.hub.line();
        let mut attached = self.console.attached();
        let mut connections = self.ssh.connections();
        let mut clients = self.attach.clients();
        let mut plain_clients = self.plaintext.clients();
        let mut health = self.health.clone();
        let mut refused = self.console.hub.refused();
        let mut initial = self.console.hub.initial_failure();
        let mut silence = self.silence.clone();
        let mut host_keys = self.ssh.host_keys();
        let mut idle_since = Some(Instant::now());
        let mut visited = true;
        let give_back_later = || Some(Instant::now() + GIVE_BACK_DELAY);
        let mut give_back_at = None;
        loop {
            self.report_status();
            // The configuration has been read, or the last connection has ended.
            if std::mem::replace(&mut visited, self.has_clients()) && !visited {
                memory::give_back();
                give_back_at = give_back_later();
            }
            idle_since = self.idle().then(|| idle_since.unwrap_or_else(Instant::now));
            tokio::select! {
                asked = signals.next() => match asked {
                    SignalRequest::Apply => {
                        self.apply(None).await;
                        give_back_at = give_back_later();
                    }
                    SignalRequest::ReopenLog => self.wanted_log.send_modify(|log| log.reopened += 1),
                    SignalRequest::Leave => {
                        self.stop().await;
                        return Ok(Ended::Stopped);
                    }
                },
                Some(asked) = self.applies.recv() => {
                    self.apply(Some(asked)).await;
                    give_back_at = give_back_later();
                }
                () = watchdog.tick() => {}
                () = reached(give_back_at) => {
                    give_back_at = None;
                    memory::give_back();
                }
                _ = line.changed() => {}
                _ = attached.changed() => {}
                _ = connections.changed() => {}
                _ = clients.changed() => {}
                _ = plain_clients.changed() => {}
                _ = health.changed() => {}
                _ = host_keys.changed() => {}
                _ = refused.changed() => {}
                _ = initial.changed() => {}
                Ok(()) = silence.changed() => {}
                () = reached(idle_since.map(|since| since + UNPLUGGED_EXIT_DELAY)) => {
                    if self.idle() {
                        let why = format!("{} has no device", self.unit());
                        self.exit(&why).await;
                        return Ok(Ended::Idle);
                    }
                }
                ended = &mut self.line => return Err(panicked("the line", ended)),
                ended = &mut self.watcher => return Err(panicked("the watcher of triggers", ended)),
                ended = &mut self.initial => return Err(panicked("the initial steps", ended)),
                ended = &mut self.log => return Err(panicked("the log", ended)),
            }
        }
    }

    /// No device, no client, and nothing that would be lost with this process: output that the log cannot write yet, and the
    /// time of a silence.
    fn idle(&self) -> bool {
        matches!(*self.console.hub.line().borrow(), LineState::Away(_) | LineState::NotOurs(_))
            && self.health.borrow().trouble.is_none()
            && !*self.silence.borrow()
            && !self.has_clients()
    }

    fn has_clients(&self) -> bool {
        *self.ssh.connections().borrow() > 0
            || *self.attach.clients().borrow() > 0
            || *self.plaintext.clients().borrow() > 0
    }

    /// Reads the configuration again and applies what concerns this port; sessions stay. An invalid one changes nothing. `asked`
    /// receives the result.
    async fn apply(&self, asked: Option<Apply>) {
        systemd::notify(&reloading());
        match self.options.load().await {
            Ok((config, name, None)) => {
                self.console.set_stale(None);
                let name = &name;
                if *name != self.console.name() {
                    self.console.rename(name.clone());
                    journal::set_port(name);
                }
                let port = config.ports[name].clone();
                resize(&self.console.hub, port.scrollback);
                self.access.send_replace(access_to(&config, name));
                self.rules.send_replace(config.rules(&port));
                self.triggers.send_if_modified(|triggers| {
                    let differ = *triggers != port.triggers;
                    triggers.clone_from(&port.triggers);
                    differ
                });
                self.wanted_log.send_modify(|log| log.settings.clone_from(&port.log));
                let (told, remarks) = oneshot::channel();
                // Fails only with the line's task, which `run` watches.
                let _ = self
                    .line_orders
                    .send(Change {
                        name: name.clone(),
                        wanted: wanted(&config, name, &self.options.port),
                        told,
                    })
                    .await;
                self.console.set_settings(port);
                self.console.set_ports(PackedPorts::pack(&neighbours(&config)));
                if self.has_ssh {
                    load_host_keys(&self.ssh);
                }
                tracing::info!(message_id = Event::Applied.id(), "settings applied");
                if let Some(asked) = asked {
                    // Not awaited here: a driver may take its time. A change that a later one has replaced has no remarks.
                    tokio::spawn(async move { asked.send(Ok(remarks.await.unwrap_or_default())) });
                }
            }
            Ok((.., Some(fault))) | Err(ServiceError::Config(fault)) => {
                let why = format!("settings unchanged: {fault}");
                tracing::error!(message_id = Event::NotApplied.id(), "{why}");
                self.console.set_stale(Some(stale(&fault)));
                let _ = asked.map(|asked| asked.send(Err(why)));
            }
            Err(error) => {
                let why = format!("settings unchanged: {error}");
                tracing::error!("{why}");
                // The requester may have disconnected.
                let _ = asked.map(|asked| asked.send(Err(why)));
            }
        }
        memory::give_back();
        systemd::notify(&[NotifyState::Ready]);
    }

    fn unit(&self) -> String {
        format!("console@{}", self.options.port)
    }

    /// Exits because of SIGTERM. systemd is asked for the reason only if there is a session that shows it, and never for the
    /// foreground program (`--bus`).
    async fn stop(self) {
        let why = match self.options.bus && self.has_clients() {
            true => systemd::farewell(&self.unit()).await,
            false => format!("{} is stopping", self.unit()),
        };
        self.exit(&why).await;
    }

    /// Notifies the sessions, flushes the log, and ends.
    async fn exit(self, why: &str) {
        systemd::notify(&[NotifyState::Stopping]);
        let Self {
            console, ssh, attach, plaintext, mut line, end_line, wanted_log, log, accept_loops, ..
        } = self;
        drop(accept_loops);
        console.close(why);
        let (mut attached, mut connections, mut clients) =
            (console.attached(), ssh.connections(), attach.clients());
        let mut plain_clients = plaintext.clients();
        let farewell = async {
            let _ = attached.wait_for(|count| *count == 0).await;
            // The last output of a session has left this process only when its connection has ended.
            let _ = connections.wait_for(|count| *count == 0).await;
            let _ = clients.wait_for(|count| *count == 0).await;
            let _ = plain_clients.wait_for(|count| *count == 0).await;
        };
        let _ = tokio::time::timeout(SESSIONS_DRAIN_TIMEOUT, farewell).await;
        // It reports what it knows before the log ends: the last input and output.
        let _ = end_line.send(());
        if tokio::time::timeout(LINE_DRAIN_TIMEOUT, &mut line).await.is_err() {
            tracing::error!("the line did not end within {} s", LINE_DRAIN_TIMEOUT.as_secs());
            line.abort();
        }
        wanted_log.send_modify(|log| log.finished = true);
        match tokio::time::timeout(LOG_FLUSH_TIMEOUT, log).await {
            Ok(Ok(())) => {}
            Ok(Err(panicked)) => tracing::error!("the log: {panicked}"),
            Err(_) => tracing::error!("the log was not flushed within {} s", LOG_FLUSH_TIMEOUT.as_secs()),
        }
    }

    fn report_status(&self) {
        let console = &self.console;
        let (received, sent) = console.hub.traffic();
        let state = match &*console.hub.line().borrow() {
            LineState::Open(settings) => match &console.settings().source {
                Some(source) => format!("connected to {source}"),
                None => settings.to_string(),
            },
            LineState::Disconnected(since, _) | LineState::OnTrial(since, ..) => {
                format!("disconnected since {}", clock(*since))
            }
            closed => closed.to_string(),
        };
        let users = *console.attached().borrow();
        let Health { trouble, lost } = self.health.borrow().clone();
        let mut status = format!("{state}, {users} attached, {received} bytes in, {sent} out");
        let name = console.name();
        if name != self.options.port {
            let unit = &self.options.port;
            status.push_str(&format!(", {name} since it was renamed, in console@{unit} until it is stopped"));
        }
        if lost > 0 {
            status.push_str(&format!(", {lost} lost by the log"));
        }
        let mut add = |problem: &str| {
            // `doctor` divides the status at "; ".
            status.push_str("; ");
            status.push_str(&problem.replace("; ", ", "));
        };
        if matches!(*console.hub.line().borrow(), LineState::Open(_)) {
            console.hub.refused().borrow().iter().for_each(|refused| add(&refused.to_string()));
            if let Some(failure) = &*console.hub.initial_failure().borrow() {
                add(&failure.to_string());
            }
        }
        if let LineState::Disconnected(_, why) | LineState::OnTrial(_, why, _) = &*console.hub.line().borrow()
        {
            add(&why.to_string());
        }
        if let Some(trouble) = trouble {
            add(&trouble);
        }
        if let Some(warning) = &*console.stale().borrow() {
            add(&warning.to_string());
        }
        let host_keys = self.ssh.host_keys();
        let ssh::HostKeyState { missing, ignored } = &*host_keys.borrow();
        if let Some(why) = missing {
            add(&format!("SSH is not available: {why}"));
        }
        if let Some(reason) = ignored.first() {
            add(&format!("host key ignored: {reason}"));
        }
        systemd::notify(&[NotifyState::Status(&status)]);
    }
}

/// Loads the host keys, while the port reads its device.
fn load_host_keys(ssh: &Arc<ssh::Server<ConsoleChannel>>) {
    let ssh = ssh.clone();
    tokio::spawn(async move { ssh.load_host_keys().await });
}

fn resize(hub: &Hub, scrollback: usize) {
    if let Err(error) = hub.resize(scrollback) {
        tracing::error!("{error}; it is unchanged");
    }
}

fn wanted(config: &Config, name: &PortName, unit: &PortName) -> LineConfig {
    let port = &config.ports[name];
    let source = port.source.as_ref().map(|source| SourceConfig {
        source: source.clone(),
        socket: crate::source::socket_path(&systemd::runtime_directory(), unit.as_str()),
        unit: unit.to_string(),
        on_demand: port.on_demand,
    });
    LineConfig {
        path: config.device(name, port),
        claims: Claims::concerning(config, name),
        settings: port.line,
        low_latency: port.low_latency,
        modem: port.modem,
        log_input: port.log.input,
        break_sequence: port.break_sequence.clone(),
        keepalive: port.keepalive.interval.map(|interval| (interval, port.keepalive.text.clone())),
        source,
    }
}

/// The protocol of a plain listener, by its address. Any other listener is SSH: a socket that has not been moved
/// since the configuration changed requires a login.
fn plain_protocol(port: &Port, listener: &TcpListener) -> Option<Protocol> {
    let at = listener.local_addr().ok()?;
    [(Protocol::Rfc2217, &port.rfc2217), (Protocol::Raw, &port.raw)].into_iter().find_map(
        |(protocol, endpoint)| {
            let Endpoint { address, port } = endpoint.as_ref()?;
            (*port == at.port() && address.ip() == at.ip().to_canonical()).then_some(protocol)
        },
    )
}

fn neighbours(config: &Config) -> PortList {
    config.ports.iter().map(|(name, port)| (name.clone(), port.ssh_port)).collect()
}

fn access_to(config: &Config, name: &PortName) -> Access {
    let auth_socket = systemd::runtime_directory().join("auth-port");
    Access {
        gatekeeping: Gatekeeping { auth_socket, root: config.access.root },
        rules: config.rules(&config.ports[name]),
        offer: config.ssh_offer(Some(&config.ports[name])),
    }
}

/// What is reported while a port runs with the last valid configuration.
fn stale(fault: &ConfigError) -> String {
    format!("the configuration is invalid, the last valid one is in effect: {}", fault.first())
}

fn reloading() -> Vec<NotifyState<'static>> {
    let mut state = vec![NotifyState::Reloading];
    // Without a monotonic clock systemd considers the reload done at READY=1, as 252 does anyway.
    state.extend(NotifyState::monotonic_usec_now());
    state
}

fn panicked(what: &'static str, ended: Result<(), tokio::task::JoinError>) -> ServiceError {
    let why = ended.err().map_or_else(|| "ended unexpectedly".to_owned(), |error| error.to_string());
    ServiceError::System(what, std::io::Error::other(why))
}
