//! Runs the commands: by console-admin, or over a port's own socket.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt;
use nix::unistd::geteuid;
use thiserror::Error;
use tokio::sync::OnceCell;
use zbus::fdo;
use zbus::proxy::CacheProperties;

use super::adapters;
use super::at_port::AtPort;
use super::check::CheckError;
use super::diff;
use super::doctor;
use super::former::{Former, FormerError};
use super::heirs::{heirs, is_inherited};
use super::import::ImportError;
use super::learn::LearnError;
use super::local::{self, LocalError};
use super::look::{self, Listed, NOT_RUNNING, PortStatus};
use super::select::{counted, groups_of, selected};
use super::service::{Service, ServiceError, plain_lines, sentence, unknown_port};
use super::ssh_config::{self, Host, SshConfigOptions};
use super::targets::Targets;
use super::transfer::{Transfer, TransferError};
use super::tree::{Command, MineOnTrial, Named, Output, Ports, Target, Trial};
use super::units::{self, Verb};
use super::value::ValueError;
use crate::admin::bus::Change;
use crate::attach;
use crate::attach::client::AttachError;
use crate::auth::sources;
use crate::config::{Config, ConfigError, Value};
use crate::exec;
use crate::hub::DEFAULT_BREAK_MS;
use crate::port::{self, PortName, PortPattern};
use crate::session::Options;

/// How long `status` waits for console-admin before it queries the ports themselves.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);
/// How long it then waits for console-admin if a port did not answer either.
const STATUS_RETRY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a command failed.
#[derive(Debug, Error)]
pub enum CommandError {
    /// A port's own words.
    #[error("{0}")]
    Attach(#[from] AttachError),
    /// The log of a port that nothing serves.
    #[error("{0}")]
    Former(#[from] FormerError),
    /// The ports cannot be looked at.
    #[error("{0}")]
    Local(#[from] LocalError),
    /// The service's words.
    #[error("{0}")]
    Service(#[from] ServiceError),
    /// A configuration file that is wrong.
    #[error("{0}")]
    Check(#[from] CheckError),
    /// A value that no key takes.
    #[error("{0}")]
    Value(#[from] ValueError),
    /// A file to or from a device.
    #[error("{0}")]
    Transfer(#[from] TransferError),
    /// A text to type.
    #[error("{0}")]
    Text(#[from] exec::ParseError),
    /// A pattern to look for.
    #[error("{0}")]
    Pattern(#[from] exec::PatternError),
    /// A file that cannot be imported.
    #[error("{0}")]
    Import(#[from] ImportError),
    /// Units, by root.
    #[error("{0}")]
    Units(String),
    /// The sockets are of a program in a terminal.
    #[error(
        "{0} belongs to a consoleserver that runs in the foreground: it is configured by its file, and only connect, watch, status, who, log, grep, send, expect, transfer and autobaud are available"
    )]
    Foreground(PathBuf),
    /// Nobody to disconnect.
    #[error("{user} has no session at {ports}")]
    NotThere {
        /// Login name.
        user: String,
        /// Where.
        ports: String,
    },
    /// The ports of a command.
    #[error("{0}")]
    Ports(#[from] port::PatternError),
    /// More than one.
    #[error("{command} takes one port, and {pattern} stands for {ports}")]
    OnePort {
        /// The command.
        command: &'static str,
        /// What was given.
        pattern: String,
        /// What it stands for.
        ports: String,
    },
    /// At several ports, a sentence each.
    #[error("{}", .0.join("\n"))]
    Several(Vec<String>),
    /// It is configured, and closed.
    #[error("{0} is configured but closed: `start {0}` opens it, `doctor {0}` explains why it is closed")]
    NotServed(PortName),
    /// The configuration cannot be read.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// No rate is right.
    #[error(
        "the output of {0} does not read as text at any of these rates: the device may use another rate, or another parity or bytesize than the port"
    )]
    NoText(PortName),
    /// No adapter.
    #[error("{0}")]
    Learn(#[from] LearnError),
    /// Its place has a port.
    #[error("{path} is already the device of port {port}; nothing was changed", path = path.display())]
    Bound {
        /// The place.
        path: PathBuf,
        /// Whose it is.
        port: PortName,
    },
    /// What this machine is called cannot be told.
    #[error("{0}; use --host to set the name in the entries")]
    NoName(String),
    /// Control-C.
    #[error("interrupted; the request may still complete")]
    Interrupted,
    /// The output is closed.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

pub(super) type Done<T = ()> = Result<T, CommandError>;

/// Whose ports are meant.
#[derive(Debug)]
pub struct Endpoint {
    /// Where their sockets are.
    pub runtime: PathBuf,
    /// Where their logs are, if that is known.
    pub logs: Option<PathBuf>,
    /// Whether a program in a terminal serves them.
    pub(super) foreground: bool,
}

impl Endpoint {
    /// Those of systemd, unless a directory is given or `consoleserver` has left its marks.
    pub fn new(given: Option<PathBuf>, logs: Option<PathBuf>) -> Self {
        // systemd gives each service with a directory of its own this variable: that of another program is not meant.
        let ours = std::env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from);
        let given = given.or(ours.filter(|directory| local::marks(directory).exists()));
        let foreground = given.is_some();
        let runtime = given.unwrap_or_else(|| crate::system::systemd::RUNTIME_DIRECTORY.into());
        // A program in a user's terminal has its logs elsewhere.
        let logs = logs.or((runtime.as_path() == crate::system::systemd::RUNTIME_DIRECTORY)
            .then(|| local::LOG_DIRECTORY.into()));
        Self { foreground: foreground || local::marks(&runtime).exists(), runtime, logs }
    }
}

impl Endpoint {
    /// The port that is served here and is meant: of this name, or the only one that begins so.
    pub(super) fn whole(&self, port: &PortName) -> Done<PortName> {
        // Where the directory cannot be read, its socket may be reached all the same.
        let Ok(served) = local::served(&self.runtime) else { return Ok(port.clone()) };
        if served.contains(port) {
            return Ok(port.clone());
        }
        let renamed = self.logs.as_deref().and_then(|logs| Former::renamed(logs, port));
        if let Some(now) = renamed.filter(|now| served.contains(now)) {
            // Nothing to do about a standard error that is closed.
            let _ = writeln!(io::stderr(), "{port} was renamed to {now}");
            return Ok(now);
        }
        let unknown = unknown_port(port, &served);
        if let ServiceError::UnknownPort { whole: Some(whole), .. } = unknown {
            return Ok(whole);
        }
        // (The foreground program has its own configuration file.)
        let configured = || {
            let loaded = Config::load_or_last_good(std::path::Path::new("/"));
            loaded.is_ok_and(|loaded| loaded.config.ports.contains_key(port))
        };
        match !self.foreground && configured() {
            true => Err(CommandError::NotServed(port.clone())),
            false => Err(unknown.into()),
        }
    }
}

/// How uncommitted changes stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pending {
    /// How many there are.
    pub uncommitted: u32,
    /// Seconds until the last commit is rolled back; 0 = it is not on trial.
    pub confirm_within: u32,
}

/// Does commands.
#[derive(Debug)]
pub struct Client {
    pub(super) place: Endpoint,
    service: OnceCell<Service>,
    /// Whether one looks and then changes, and so wants to be told of what others change meanwhile.
    checks: bool,
    /// The revision that was last looked at.
    seen: Cell<u64>,
}

impl Client {
    /// `checks`: changes are refused if somebody has changed something since the last look.
    pub fn new(place: Endpoint, checks: bool) -> Self {
        Self { place, service: OnceCell::new(), checks, seen: Cell::new(0) }
    }

    /// Where the ports' sockets are.
    pub fn runtime(&self) -> &std::path::Path {
        &self.place.runtime
    }

    pub(super) fn whole(&self, port: &PortName) -> Done<PortName> {
        self.place.whole(port)
    }

    /// Where the logs are of ports that nothing serves.
    pub fn logs(&self) -> Option<&std::path::Path> {
        self.place.logs.as_deref()
    }

    pub(super) async fn service(&self) -> Done<&Service> {
        if self.place.foreground {
            return Err(CommandError::Foreground(self.place.runtime.clone()));
        }
        Ok(self.service.get_or_try_init(Service::connect).await?)
    }

    /// Our name on the bus, once there is a connection.
    pub fn bus_name(&self) -> Option<String> {
        self.service.get()?.connection().unique_name().map(ToString::to_string)
    }

    /// Whether the caller may change anything.
    pub async fn may_administer(&self) -> Done<bool> {
        Ok(self.service().await?.manager.may_administer().await.map_err(sentence)?)
    }

    /// How uncommitted changes stand.
    pub async fn pending(&self) -> Done<Pending> {
        let manager = &self.service().await?.manager;
        let (uncommitted, confirm_within) =
            tokio::try_join!(manager.uncommitted(), manager.confirm_within()).map_err(sentence)?;
        if self.seen.get() == 0 {
            self.looked().await?;
        }
        Ok(Pending { uncommitted, confirm_within })
    }

    /// The names of all ports, for completion.
    pub async fn names(&self) -> Done<Vec<PortName>> {
        Ok(self.service().await?.names().await?)
    }

    /// From here on, changes of others count.
    async fn looked(&self) -> Done {
        if self.checks {
            self.seen.set(self.service().await?.manager.revision().await.map_err(sentence)?);
        }
        Ok(())
    }

    /// Our own change counts as seen; one of somebody else that came in between does not.
    pub(super) async fn changed(&self) -> Done {
        let before = self.seen.get();
        self.looked().await?;
        if before > 0 {
            self.seen.set(self.seen.get().min(before + 1));
        }
        Ok(())
    }

    pub(super) fn revision(&self) -> u64 {
        if self.checks { self.seen.get() } else { 0 }
    }

    /// Does a command. `connect`, what a port does itself and what concerns the program itself are not among them.
    pub async fn run(&self, command: Command, to: &mut impl Write) -> Done {
        match command {
            Command::List { unconfigured: true, output: Output { json }, .. } => {
                let loaded = Config::load(std::path::Path::new("/"))?;
                Ok(look::adapters(&adapters::unbound(&loaded.config), json, to)?)
            }
            Command::List { unconfigured: false, ports, output } => self.list(&ports, output, to).await,
            Command::Status(Ports { ports, output: Output { json } }) => {
                Ok(look::status(&self.statuses(&ports).await?, json, to)?)
            }
            Command::Who(Ports { ports, output: Output { json } }) => {
                Ok(look::who(&self.statuses(&ports).await?, json, to)?)
            }
            Command::Show { of, output } => self.show(&of, output, to).await,
            Command::Diff { of, full, output } => self.diff(&of, full, output, to).await,
            Command::Set(setting) | Command::Shorthand(super::shorthand::Shorthand(setting)) => {
                self.set(setting, to).await
            }
            Command::Unset { of, keys } => self.unset(&of, &keys, to).await,
            Command::Create(creation) => self.create(&creation, to).await,
            Command::Rename { port, to: new } => {
                let manager = &self.service().await?.manager;
                let renamed = manager.rename_port(port.as_str(), new.as_str(), self.revision()).await;
                self.of(&[Target::Port(port.clone())], renamed).await?;
                self.changed().await?;
                Ok(writeln!(
                    to,
                    "{port} will be renamed to {new} by the next `reload {new}` or `commit`; its sessions and its log are kept"
                )?)
            }
            Command::Copy { port, to: new } => {
                let manager = &self.service().await?.manager;
                let copied = manager.copy_port(port.as_str(), new.as_str(), self.revision()).await;
                self.of(&[Target::Port(port)], copied).await?;
                self.changed().await?;
                self.show(&[Target::Port(new).into()], Output::default(), to).await
            }
            Command::Remove(named) => self.remove(&named, to).await,
            Command::Start(Named { ports }) => self.drive(Verb::Start, &ports, to).await,
            Command::Stop(Named { ports }) => self.drive(Verb::Stop, &ports, to).await,
            Command::Reload { ports } if ports.is_empty() => {
                remarks(self.service().await?.manager.reload().await.map_err(sentence)?, to)
            }
            Command::Reload { ports } => self.drive(Verb::Reload, &ports, to).await,
            Command::Commit { trial } => self.commit(trial, to).await,
            Command::Confirm => {
                self.service().await?.manager.confirm().await.map_err(sentence)?;
                Ok(writeln!(to, "confirmed")?)
            }
            Command::Revert => {
                remarks(self.service().await?.manager.revert().await.map_err(sentence)?, to)?;
                self.looked().await
            }
            Command::Break { port, milliseconds } => {
                let ports = self.select(&[port]).await?;
                let service = self.service().await?;
                let send = |port: PortName| async move {
                    let sent =
                        service.port(&port).await?.send_break(milliseconds.unwrap_or(DEFAULT_BREAK_MS)).await;
                    Ok(service.of_port(&port, sent).await?)
                };
                each(ports, send).await.map(drop)
            }
            Command::Disconnect { port, user } => {
                let ports = self.select(&[port]).await?;
                let service = self.service().await?;
                let user = &user;
                let end = |port: PortName| async move {
                    let ended = service.port(&port).await?.disconnect(user).await;
                    Ok(service.of_port(&port, ended).await?)
                };
                match each(ports.clone(), end).await?.into_iter().sum::<u32>() {
                    0 => Err(CommandError::NotThere { user: user.clone(), ports: counted(&ports) }),
                    1 => Ok(writeln!(to, "1 session ended")?),
                    count => Ok(writeln!(to, "{count} sessions ended")?),
                }
            }
            Command::Autobaud { port, set } => {
                for port in self.place.select(&[port])? {
                    self.autobaud(&port, set, to).await?;
                }
                Ok(())
            }
            Command::Transfer { port, direction, protocol, force, file } => {
                let port = self.place.one("transfer", &port)?;
                self.transfer(&port, &Transfer { direction, protocol, file, force }, to).await
            }
            Command::Learn { port, timeout } => self.learn(&port, timeout, to).await,
            Command::Import(wish) => self.import(&wish, to).await,
            Command::SshConfig(wish) => self.ssh_config(&wish, to).await,
            Command::Connect { .. }
            | Command::AtPort(_)
            | Command::Doctor { .. }
            | Command::Check { .. }
            | Command::Exit
            | Command::Help { .. }
            | Command::Version
            | Command::Completions { .. } => Ok(()),
        }
    }

    /// `connect PORT`: until its user leaves. The beginning of the port's name is enough.
    pub fn connect(&self, port: &PortPattern, options: Options) -> Done {
        let port = self.place.one("connect", port)?;
        Ok(attach::client::connect(&self.place.runtime, &port, options)?)
    }

    /// `doctor PORT`: whether nothing is wrong.
    pub fn doctor(&self, ports: &[PortPattern], json: bool, to: &mut impl Write) -> Done<bool> {
        match self.place.foreground {
            true => Err(CommandError::Foreground(self.place.runtime.clone())),
            false => Ok(doctor::run(&self.place.runtime, &configured(ports)?, json, to)?),
        }
    }

    /// What a port does itself: the exit code.
    pub fn at_port(&self, command: AtPort) -> Result<u8, CommandError> {
        command.run(&self.place)
    }

    async fn list(&self, patterns: &[PortPattern], Output { json }: Output, to: &mut impl Write) -> Done {
        let service = self.service().await?;
        let mut ports = service.ports().await?;
        if !patterns.is_empty() {
            let names: Vec<PortName> = ports.keys().cloned().collect();
            let groups = self.groups(patterns).await?;
            let mut wanted = BTreeSet::new();
            for pattern in patterns {
                wanted.extend(pattern.select_abbreviated(&names, &groups)?);
            }
            ports.retain(|port, _| wanted.contains(port));
        }
        let monitor: PathBuf = service.manager.monitor_path().await.map_err(sentence)?.into();
        self.looked().await?;
        // What is wrong with the configuration file, beside the table.
        if !json {
            remarks(service.conflicts().await?, &mut io::stderr().lock())?;
        }
        let listed: Vec<_> =
            ports.into_iter().map(|(port, view)| Listed::new(port, &view, &monitor)).collect();
        Ok(look::list(&listed, json, to)?)
    }

    /// The ports that are open, or those that are named; without a service to ask, all that are served.
    async fn statuses(&self, named: &[PortPattern]) -> Done<Vec<PortStatus>> {
        let mut all = self.all_statuses(!named.is_empty()).await?;
        if named.is_empty() {
            return Ok(all);
        }
        let names: Vec<PortName> = all.iter().map(|status| status.port.clone()).collect();
        let groups = self.groups(named).await?;
        let mut wanted = BTreeSet::new();
        for pattern in named {
            wanted.extend(pattern.select_abbreviated(&names, &groups)?);
        }
        all.retain(|status| wanted.contains(&status.port));
        Ok(all)
    }

    async fn all_statuses(&self, closed: bool) -> Done<Vec<PortStatus>> {
        if self.place.foreground {
            return Ok(local::status(&self.place.runtime)?);
        }
        let asked = async { self.told(self.service().await?, closed).await };
        tokio::pin!(asked);
        let told = match tokio::time::timeout(STATUS_TIMEOUT, &mut asked).await {
            Ok(told) => told,
            // The bus or the service hangs, or the machine is slow. The ports answer those who may use them.
            Err(_) => {
                let local = local::status(&self.place.runtime).map_err(CommandError::from);
                match &local {
                    Ok(statuses) if !statuses.iter().any(PortStatus::is_unknown) => return local,
                    _ => tokio::time::timeout(STATUS_RETRY_TIMEOUT, asked).await.unwrap_or(local),
                }
            }
        };
        match told {
            Err(CommandError::Service(error)) if error.is_absence() => {
                Ok(local::status(&self.place.runtime)?)
            }
            told => told,
        }
    }

    async fn told(&self, service: &Service, closed: bool) -> Done<Vec<PortStatus>> {
        let mut statuses = Vec::new();
        for (port, view) in service.ports().await? {
            if !closed && (view.state == NOT_RUNNING || view.keys.running.is_empty()) {
                continue;
            }
            let users = if view.users > 0 { service.sessions(&port).await? } else { Vec::new() };
            statuses.push(PortStatus::new(port, &view, users));
        }
        Ok(statuses)
    }

    async fn ssh_config(&self, wish: &SshConfigOptions, to: &mut impl Write) -> Done {
        let host = match &wish.host {
            Some(host) => host.clone(),
            None => Host::of_this_machine().map_err(CommandError::NoName)?,
        };
        let service = self.service().await?;
        let (ports, server) = tokio::try_join!(service.ports(), service.keys(&Target::Server))?;
        Ok(to.write_all(ssh_config::entries(&ports, &server.running, &host, wish).as_bytes())?)
    }

    /// `show`: one after the other, each under its name if there are several; as JSON one object a line.
    async fn show(&self, of: &[Targets], Output { json }: Output, to: &mut impl Write) -> Done {
        let targets = match of {
            // A single name is for the service to judge, which knows the ports that are asked for by most.
            [Targets::Ports(pattern)] => match pattern.literal() {
                Some(port) => vec![Target::Port(port.clone())],
                None => self.targets(of).await?,
            },
            of => self.targets(of).await?,
        };
        let shown = match self.keys_of(targets).await {
            // The beginning of its name is enough to look at a port.
            Err(CommandError::Service(ServiceError::UnknownPort { whole: Some(port), .. })) => {
                self.keys_of(vec![Target::Port(port)]).await?
            }
            shown => shown?,
        };
        self.looked().await?;
        let several = shown.len() > 1;
        for (index, (of, mut keys)) in shown.into_iter().enumerate() {
            let of = &of;
            self.service().await?.check_exists(of, &keys).await?;
            if *of == Target::Groups {
                keys.selected = selected(&groups_of(&keys.candidate), &self.names().await?);
            }
            match (json, several) {
                (true, _) => look::json(&keys.json(of), to)?,
                (false, several) => {
                    if several {
                        writeln!(to, "{}{of}:", if index > 0 { "\n" } else { "" })?;
                    }
                    keys.show(of, to)?;
                }
            }
        }
        Ok(())
    }

    /// `diff`
    async fn diff(&self, of: &[Targets], full: bool, Output { json }: Output, to: &mut impl Write) -> Done {
        let service = self.service().await?;
        let (mut changes, conflicts) = (service.changes().await?, service.conflicts().await?);
        if !of.is_empty() {
            let targets = self.targets(of).await?;
            changes.retain(|change| targets.iter().any(|target| diff::is_of(change, target)));
        }
        self.looked().await?;
        // (All ports are asked for only where one of the changes is of several.)
        let ports = match changes.iter().any(|change| is_inherited(&change.key)) {
            true => service.ports().await?,
            false => BTreeMap::new(),
        };
        let of = |change: &Change| heirs(&change.key, &ports);
        match (json, full) {
            (true, _) => look::json(&diff::with_heirs(&changes, of), to)?,
            (false, true) => diff::table(&diff::each(&changes, of), to)?,
            (false, false) => diff::table(&diff::grouped(&changes, of), to)?,
        }
        if json { Ok(()) } else { remarks(conflicts, to) }
    }

    /// A program is started on root's word only, and not on the administration service's (`auth::sources`): here root gives it.
    pub(super) async fn confirm_command(&self, to: &mut impl Write) -> Done {
        let keys = self.service().await?.keys(&Target::Access).await?.candidate;
        let text = |key| keys.get(key).and_then(Value::as_str);
        let (Some(command), Some(user)) =
            (text("authorized_keys_command"), text("authorized_keys_command_user"))
        else {
            return Ok(());
        };
        let said = if geteuid().is_root() {
            sources::confirm_set_by_root(command, user);
            format!("confirmed by root: {command} runs as {user}")
        } else {
            "(it is not run until root confirms it: root sets it again, or writes it to the file)".to_owned()
        };
        Ok(writeln!(to, "{}", plain_lines(&said))?)
    }

    /// Shows what we have changed. A change of somebody else that stands there too does not count as seen by that.
    pub(super) async fn show_changed(&self, of: &Target, to: &mut impl Write) -> Done {
        self.changed().await?;
        let seen = self.seen.get();
        self.show(&[of.clone().into()], Output::default(), to).await?;
        self.seen.set(seen);
        Ok(())
    }

    /// Starts, stops or reloads ports. All of them exist, or nothing is done; one that fails holds up no other.
    async fn drive(&self, verb: Verb, ports: &[PortPattern], to: &mut impl Write) -> Done {
        let ports = self.select(ports).await?;
        if let (Verb::Reload, [_, _, ..]) = (verb, ports.as_slice()) {
            let names: Vec<&str> = ports.iter().map(PortName::as_str).collect();
            return remarks(self.service().await?.manager.reload_ports(&names).await.map_err(sentence)?, to);
        }
        for said in each(ports, |port| async move { self.drive_one(verb, &port).await }).await? {
            remarks(said, to)?;
        }
        Ok(())
    }

    async fn drive_one(&self, verb: Verb, port: &PortName) -> Done<Vec<String>> {
        let driven = self.drive_by_service(verb, port).await;
        match driven {
            Err(CommandError::Service(error))
                if geteuid().is_root() && self.only_root_may(verb, &error).await =>
            {
                units::systemctl(verb, port).map_err(CommandError::Units).map(|()| Vec::new())
            }
            driven => driven,
        }
    }

    async fn drive_by_service(&self, verb: Verb, port: &PortName) -> Done<Vec<String>> {
        let service = self.service().await?;
        let proxy = service.port(port).await?;
        match verb {
            Verb::Start => service.of_port(port, proxy.start().await).await?,
            Verb::Stop => service.of_port(port, proxy.stop().await).await?,
            Verb::Reload => return Ok(service.of_port(port, proxy.reload().await).await?),
        }
        Ok(Vec::new())
    }

    /// Without console-admin; or without polkit, where systemd takes no orders from console-admin.
    async fn only_root_may(&self, verb: Verb, error: &ServiceError) -> bool {
        match error {
            error if error.is_absence() => true,
            ServiceError::Failed(_) if verb != Verb::Reload => !self.polkit().await,
            _ => false,
        }
    }

    /// Whether polkit answers; it is started for this if it can be.
    async fn polkit(&self) -> bool {
        let Ok(service) = self.service().await else { return false };
        let peer = fdo::PeerProxy::builder(service.connection())
            .destination("org.freedesktop.PolicyKit1")
            .path("/org/freedesktop/PolicyKit1/Authority")
            .cache_properties(CacheProperties::No);
        match peer.build().await {
            Ok(peer) => peer.ping().await.is_ok(),
            Err(_) => false,
        }
    }

    async fn commit(&self, trial: Option<Trial>, to: &mut impl Write) -> Done {
        let manager = &self.service().await?.manager;
        let before = manager.uncommitted().await.map_err(sentence)?;
        let (minutes, is_mine) = match trial {
            None => (None, false),
            Some(Trial::Confirm { minutes }) => (Some(minutes), false),
            Some(Trial::Mine { trial: None }) => (None, true),
            Some(Trial::Mine { trial: Some(MineOnTrial::Confirm { minutes }) }) => (Some(minutes), true),
        };
        let committed = match (minutes, is_mine) {
            // What others have changed since is not committed: nobody has to have looked at it.
            (minutes, true) => manager.commit_mine(0, 60 * minutes.unwrap_or(0)).await,
            (None, false) => manager.commit(self.revision()).await,
            (Some(minutes), false) => manager.commit_confirmed(self.revision(), 60 * minutes).await,
        };
        remarks(committed.map_err(sentence)?, to)?;
        self.looked().await?;
        let count = match is_mine {
            true => before.saturating_sub(manager.uncommitted().await.map_err(sentence)?),
            false => before,
        };
        let changes = match count {
            // Said by the service.
            0 => return Ok(()),
            1 => "1 change".to_owned(),
            _ => format!("{count} changes"),
        };
        match minutes {
            None => writeln!(to, "{changes} committed"),
            Some(1) => writeln!(to, "{changes} committed; rolled back unless you `confirm` within 1 minute"),
            Some(n) => {
                writeln!(to, "{changes} committed; rolled back unless you `confirm` within {n} minutes")
            }
        }?;
        Ok(())
    }
}

/// The ports of a command that reads the configuration file.
fn configured(patterns: &[PortPattern]) -> Done<Vec<PortName>> {
    let mut ports = Vec::new();
    for pattern in patterns {
        ports.extend(match pattern.literal() {
            Some(port) => vec![port.clone()],
            None => {
                let config = Config::load_or_last_good(std::path::Path::new("/"))?.config;
                let names: Vec<PortName> = config.ports.into_keys().collect();
                pattern.select(&names, &config.port_groups)?
            }
        });
    }
    Ok(ports)
}

/// Calls about ports that are under way at once: the service and systemd do each in its turn, and the bus holds the others.
const AT_ONCE: usize = 16;

/// Does the same at each port, several at once. Those that fail are all reported.
async fn each<T, F: Future<Output = Done<T>>>(
    ports: Vec<PortName>,
    what: impl Fn(PortName) -> F,
) -> Done<Vec<T>> {
    let single = ports.len() == 1;
    let doing = ports.into_iter().map(|port| {
        let done = what(port.clone());
        async move { (port, done.await) }
    });
    let done: Vec<_> = futures_util::stream::iter(doing).buffered(AT_ONCE).collect().await;
    let (mut all, mut failed) = (Vec::new(), Vec::new());
    for (port, done) in done {
        match done {
            Ok(done) => all.push(done),
            Err(error) if single => return Err(error),
            Err(error) => failed.push(format!("{port}: {error}")),
        }
    }
    if failed.is_empty() { Ok(all) } else { Err(CommandError::Several(failed)) }
}

/// What a change has replaced of other people's, beside what is asked for.
pub(super) fn warn(said: Vec<String>) -> Done {
    remarks(said, &mut io::stderr().lock())
}

fn remarks(remarks: Vec<String>, to: &mut impl Write) -> Done {
    for remark in remarks {
        writeln!(to, "{}", plain_lines(&remark))?;
    }
    Ok(())
}
