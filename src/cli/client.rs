//! The connection of commands to console-admin: queries, and the resolution of patterns to configured ports.

use std::cell::Cell;
use std::io::{self, Write};
use std::path::Path;

use futures_util::StreamExt;
use tokio::sync::OnceCell;

use super::configurations::Configurations;
use super::endpoint::Endpoint;
use super::error::{CommandError, Done};
use super::select::{groups_of, have_groups, literal};
use super::service::{Service, ServiceError, plain_lines, sentence, unknown_port};
use super::target::{Target, Targets};
use super::value;
use crate::config::Config;
use crate::port::pattern::select_all;
use crate::port::{PortGroups, PortName, PortPattern};

/// Uncommitted changes, and the pending `commit confirm`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pending {
    pub uncommitted: u32,
    /// Seconds until the last commit is rolled back; 0 if none waits for confirmation.
    pub confirm_within: u32,
}

/// The connection of commands to console-admin, and the ports.
#[derive(Debug)]
pub struct Client {
    pub(super) endpoint: Endpoint,
    service: OnceCell<Service>,
    /// Whether changes are rejected if another user made one since the configuration was last shown.
    checks: bool,
    /// The revision that was last shown.
    seen: Cell<u64>,
}

impl Client {
    /// `checks`: reject changes if another user made one since the configuration was last shown.
    pub fn new(endpoint: Endpoint, checks: bool) -> Self {
        Self { endpoint, service: OnceCell::new(), checks, seen: Cell::new(0) }
    }

    pub(super) async fn service(&self) -> Done<&Service> {
        if self.endpoint.foreground {
            return Err(CommandError::Foreground(self.endpoint.runtime.clone()));
        }
        Ok(self.service.get_or_try_init(Service::connect).await?)
    }

    /// The bus name of this process, once it is connected.
    pub fn bus_name(&self) -> Option<String> {
        self.service.get()?.connection().unique_name().map(ToString::to_string)
    }

    /// Whether the caller may change anything.
    pub async fn may_administer(&self) -> Done<bool> {
        Ok(self.service().await?.manager.may_administer().await.map_err(sentence)?)
    }

    pub async fn pending(&self) -> Done<Pending> {
        let manager = &self.service().await?.manager;
        let (uncommitted, confirm_within) =
            tokio::try_join!(manager.uncommitted(), manager.confirm_within()).map_err(sentence)?;
        if self.seen.get() == 0 {
            self.mark_shown().await?;
        }
        Ok(Pending { uncommitted, confirm_within })
    }

    pub async fn names(&self) -> Done<Vec<PortName>> {
        Ok(self.service().await?.names().await?)
    }

    /// The current revision counts as shown.
    pub(super) async fn mark_shown(&self) -> Done {
        if self.checks {
            self.seen.set(self.service().await?.manager.revision().await.map_err(sentence)?);
        }
        Ok(())
    }

    /// Our own change counts as shown; a change of another user in between does not.
    pub(super) async fn changed(&self) -> Done {
        let before = self.seen.get();
        self.mark_shown().await?;
        if before > 0 {
            self.seen.set(self.seen.get().min(before + 1));
        }
        Ok(())
    }

    /// The revision that was last shown.
    pub(super) fn shown(&self) -> u64 {
        self.seen.get()
    }

    pub(super) fn set_shown(&self, revision: u64) {
        self.seen.set(revision);
    }

    /// The revision that a change is based on; 0 = any.
    pub(super) fn revision(&self) -> u64 {
        if self.checks { self.seen.get() } else { 0 }
    }

    /// The names of all ports, from the configuration file if console-admin is not available.
    async fn existing(&self) -> Done<Vec<PortName>> {
        match self.names().await {
            Err(CommandError::Service(error)) if error.is_absence() => {
                Ok(Config::load_or_last_good(Path::new("/"))?.config.ports.into_keys().collect())
            }
            names => names,
        }
    }

    /// The groups that these patterns refer to, from the configuration file if console-admin is not available.
    pub(super) async fn groups(&self, patterns: &[PortPattern]) -> Done<PortGroups> {
        if !have_groups(patterns) {
            return Ok(PortGroups::new());
        }
        let asked = async { Ok(self.service().await?.keys(&Target::Groups).await?) };
        match asked.await {
            Err(CommandError::Foreground(_)) => self.endpoint.groups(patterns),
            Err(CommandError::Service(error)) if error.is_absence() => self.endpoint.groups(patterns),
            keys => Ok(groups_of(&keys?.candidate)),
        }
    }

    /// Resolves the ports of a command that changes, starts or stops them. A single name is left to console-admin to check.
    pub(super) async fn select(&self, patterns: &[PortPattern]) -> Done<Vec<PortName>> {
        match literal(patterns).as_deref() {
            Some([only]) => Ok(vec![only.clone()]),
            _ => Ok(select_all(patterns, &self.existing().await?, &self.groups(patterns).await?)?),
        }
    }

    /// Resolves the tables and ports of a command that changes nothing: names can be abbreviated.
    pub(super) async fn targets(&self, of: &[Targets]) -> Done<Vec<Target>> {
        let mut targets = Vec::new();
        let mut existing = None;
        for of in of {
            let found = match of {
                Targets::Table(table) => vec![table.clone()],
                Targets::Ports(pattern) => {
                    let existing = match &mut existing {
                        Some(existing) => existing,
                        none => none.insert(self.names().await?),
                    };
                    let groups = self.groups(std::slice::from_ref(pattern)).await?;
                    let ports = pattern.select_abbreviated(existing, &groups)?;
                    ports.into_iter().map(Target::Port).collect()
                }
            };
            for target in found {
                if !targets.contains(&target) {
                    targets.push(target);
                }
            }
        }
        Ok(targets)
    }

    /// The keys of several ports or tables, in few D-Bus calls.
    pub(super) async fn keys_of(&self, targets: Vec<Target>) -> Done<Vec<(Target, Configurations)>> {
        let service = self.service().await?;
        if let [only] = targets.as_slice() {
            return Ok(vec![(only.clone(), service.keys(only).await?)]);
        }
        let mut ports = service.ports().await?;
        let names: Vec<PortName> = ports.keys().cloned().collect();
        let mut all = Vec::with_capacity(targets.len());
        for target in targets {
            let keys = match &target {
                Target::Port(port) => ports.remove(port).ok_or_else(|| unknown_port(port, &names))?.keys,
                table => service.keys(table).await?,
            };
            all.push((target, keys));
        }
        Ok(all)
    }

    /// The result of a call; the error of an unknown port names the nearest ones.
    pub(super) async fn of<T>(&self, of: &[Target], result: zbus::Result<T>) -> Done<T> {
        let error = match result.map_err(sentence) {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        if let ServiceError::Failed(words) = &error {
            for target in of {
                if let Target::Port(port) = target
                    && words.starts_with(&format!("there is no port {port}:"))
                {
                    return Err(unknown_port(port, &self.service().await?.names().await?).into());
                }
            }
        }
        Err(error.into())
    }

    /// The candidate's ports and `[server]`, typed.
    pub(super) async fn candidate(&self) -> Done<Config> {
        let service = self.service().await?;
        let (ports, server) = tokio::try_join!(service.ports(), service.keys(&Target::Server))?;
        let ports = ports.into_iter().filter(|(_, view)| !view.keys.candidate.is_empty());
        Ok(Config {
            server: value::server(&server.candidate),
            ports: ports.map(|(name, view)| (name, value::port(&view.keys.candidate))).collect(),
            ..Config::default()
        })
    }
}

/// Concurrent D-Bus calls: console-admin and systemd process them one after the other, and the bus queues the rest.
const AT_ONCE: usize = 16;

/// Runs a call for each port, several concurrently. All failures are reported.
pub(super) async fn each<T, F: Future<Output = Done<T>>>(
    ports: Vec<PortName>,
    call: impl Fn(PortName) -> F,
) -> Done<Vec<T>> {
    let single = ports.len() == 1;
    let doing = ports.into_iter().map(|port| {
        let done = call(port.clone());
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

/// Prints warnings about replaced changes of other users.
pub(super) fn print_warnings(warnings: Vec<String>) -> Done {
    print_remarks(warnings, &mut io::stderr().lock())
}

pub(super) fn print_remarks(remarks: Vec<String>, to: &mut impl Write) -> Done {
    for remark in remarks {
        writeln!(to, "{}", plain_lines(&remark))?;
    }
    Ok(())
}
