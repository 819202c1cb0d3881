//! Plans a reload from the current and the new state, without executing it: addresses to probe, whether a
//! daemon-reload is needed, which units start, stop and restart in which order, and which ports take their
//! settings.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::port_move;
use crate::config::{Address, Config, Server, overlap};
use crate::generator::{self, Entry, Machine};
use crate::ownership::Claims;
use crate::port::PortName;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    Start(String),
    Stop(String),
    Restart(String),
}

impl Step {
    pub fn unit(&self) -> &str {
        match self {
            Self::Start(unit) | Self::Stop(unit) | Self::Restart(unit) => unit,
        }
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verb = match self {
            Self::Start(_) => "start",
            Self::Stop(_) => "stop",
            Self::Restart(_) => "restart",
        };
        write!(f, "systemctl {verb} {}", self.unit())
    }
}

/// The steps of a reload, in this order.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Addresses that must be free; otherwise nothing is done.
    pub probe: Vec<SocketAddr>,
    /// Ports that take their settings first, because their device belongs to another port now.
    #[serde(default)]
    pub release: Vec<PortName>,
    /// Whether systemd has to reload its units.
    pub daemon_reload: bool,
    pub steps: Vec<Step>,
    pub apply: Vec<PortName>,
    pub remarks: Vec<String>,
}

pub struct Present<'a> {
    pub units: &'a generator::Plan,
    pub config: &'a Config,
    pub active: &'a BTreeSet<PortName>,
    /// Ports with an active service or socket.
    pub up: &'a BTreeSet<PortName>,
    /// Whether systemd has the units of a port and has never started them: another daemon-reload came first.
    pub fresh: &'a (dyn Fn(&PortName) -> bool + Sync),
    /// Whether a socket of a port is active, that is, the port was not stopped.
    pub open: &'a (dyn Fn(&PortName) -> bool + Sync),
    /// Whether a port that should listen does not: after a daemon-reload, systemd closes an edited socket
    /// until it is restarted.
    pub deaf: &'a (dyn Fn(&PortName) -> bool + Sync),
    pub requested: &'a BTreeSet<PortName>,
    /// The device number that a path leads to.
    pub leads: &'a (dyn Fn(&Path) -> Option<u64> + Sync),
}

/// The steps that make `new` run for `ports` and the server's own listener.
pub fn plan(now: &Present<'_>, new: &Config, ports: &BTreeSet<PortName>) -> Plan {
    let units = generator::plan(new, None, &Machine::at(Path::new("/")));
    let mut plan = Plan { daemon_reload: differ(now.units, &units), ..Plan::default() };
    plan.removed_by_hand(now, &units, new, ports);
    // The daemon-reload would close the listener of a port whose settings were edited in the file, so it
    // moves now too.
    let mut moved: BTreeSet<PortName> = new
        .ports
        .keys()
        .filter(|name| {
            let unit = new.instances.of(name);
            listener(now.units, unit) != listener(&units, unit)
        })
        .cloned()
        .collect();
    moved
        .extend(enabled(&units).difference(&enabled(now.units)).map(|unit| new.instances.port(unit).clone()));
    moved.retain(|name| now.config.ports.contains_key(name) || ports.contains(name));
    for name in moved.difference(ports) {
        plan.remarks.push(format!(
            "{name}: listener moved as configured by an edit of the file that was not reloaded before"
        ));
    }
    for name in ports.union(&moved) {
        plan.port(now, &units, new, name);
    }
    plan.owners(now, new);
    plan.server(now, &units);
    plan.probe = newly_bound(now.config, new, &plan.steps);
    plan.steps = port_move::in_order(now, new, std::mem::take(&mut plan.steps), &mut plan.remarks);
    plan
}

impl Plan {
    /// Ports that an edit of the file has removed: systemd has them from the generator, or a daemon-reload came first and they still run.
    /// They are stopped first, since another port may have their listener or device now.
    fn removed_by_hand(
        &mut self,
        now: &Present<'_>,
        units: &generator::Plan,
        new: &Config,
        ports: &BTreeSet<PortName>,
    ) {
        let generated =
            enabled(now.units).iter().map(|unit| now.config.instances.port(unit).clone()).collect();
        for name in now.up.union(&generated) {
            if !new.ports.contains_key(name) && !ports.contains(name) {
                self.port(now, units, new, name);
                self.remarks.push(format!("{name} stopped: it was removed from the file"));
            }
        }
    }

    fn port(&mut self, now: &Present<'_>, units: &generator::Plan, new: &Config, name: &PortName) {
        let before = now.config.ports.get(name);
        let unit = instance(now, new, name);
        let (service, socket) = (unit.service(), unit.ssh_socket());
        let (attach, path) = (unit.local_socket(), unit.path_unit());
        let source_socket = unit.source_socket();
        // A port added to the file by an edit is in the running configuration, but systemd does not have it
        // yet.
        let was_enabled = before.is_some_and(|port| port.enabled)
            && enabled(now.units).contains(unit)
            && (now.active.contains(name) || !(now.fresh)(name));
        let (old_path, new_path) = (watch(now.units, unit), watch(units, unit));
        // A port that is not enabled keeps running or listening with its new settings if it was started.
        let is_up = now.active.contains(name) || (now.open)(name);
        let after = match new.ports.get(name) {
            Some(after) if after.enabled => after,
            Some(_) if !was_enabled => {
                if is_up {
                    self.moved(now, units, name, unit);
                }
                return;
            }
            _ => {
                // Sockets first: a socket would start the service again.
                self.stop(old_path.map(|_| path));
                self.steps.extend([socket, attach, service].map(Step::Stop));
                // The service of the source ends with the port.
                self.stop(has_source(now.units, unit).then_some(source_socket));
                return;
            }
        };
        if !was_enabled {
            self.steps.push(Step::Start(attach));
        }
        if was_enabled || is_up {
            self.moved(now, units, name, unit);
        } else if new.tcp_listeners(after).next().is_some() {
            self.steps.push(Step::Start(socket));
        }
        if old_path != new_path {
            self.stop(old_path.map(|_| path.clone()));
            self.steps.extend(new_path.map(|_| Step::Start(path)));
        }
        // (A port that starts has it started.)
        match (has_source(now.units, unit), has_source(units, unit)) {
            (false, true) if now.active.contains(name) => self.steps.push(Step::Start(source_socket)),
            (true, false) => self.steps.push(Step::Stop(source_socket)),
            _ => {}
        }
        let device = new.device(name, after);
        // A port that was stopped stays stopped, unless the user named it.
        let is_meant = !was_enabled
            || now.requested.contains(name)
            || before.is_some_and(|before| now.config.device(name, before) != device);
        let is_there = after.source.is_some() || (now.leads)(&device).is_some();
        if !now.active.contains(name) && is_meant && is_there {
            self.steps.push(Step::Start(service));
        }
    }

    /// Ports whose tty belongs to another port now, or to them again: a running one takes its settings,
    /// another one is started.
    fn owners(&mut self, now: &Present<'_>, new: &Config) {
        let (before, after) = (Claims::of(now.config), Claims::of(new));
        for claim in after.iter() {
            let name = &claim.port;
            let Some(tty) = (now.leads)(&claim.path) else { continue };
            let is_its =
                |claims: &Claims| claims.owner(tty, None, now.leads).is_some_and(|own| own.port == *name);
            let runs = now.active.contains(name);
            match (is_its(&before), is_its(&after)) {
                (true, false) if runs => self.release.push(name.clone()),
                (false, true) if runs && !self.apply.contains(name) => self.apply.push(name.clone()),
                (false, true) if !runs && claim.enabled && (now.open)(name) => {
                    let start = Step::Start(instance(now, new, name).service());
                    if !self.steps.contains(&start) {
                        self.steps.push(start);
                    }
                }
                _ => {}
            }
        }
        self.apply.retain(|name| !self.release.contains(name));
    }

    /// The listener of a port that stays: if it moves, the service restarts with it and keeps the device in
    /// the FD store.
    fn moved(&mut self, now: &Present<'_>, units: &generator::Plan, name: &PortName, unit: &PortName) {
        let (service, socket) = (unit.service(), unit.ssh_socket());
        let (runs, open) = (now.active.contains(name), (now.open)(name));
        match (listener(now.units, unit), listener(units, unit)) {
            (old, new) if old == new => {
                if open && new.is_some() && (now.deaf)(name) {
                    self.steps.push(Step::Restart(socket));
                } else if runs {
                    self.apply.push(name.clone());
                }
            }
            // The port was stopped with its sockets: its addresses matter when it is started.
            _ if !runs && !open && !now.requested.contains(name) => {}
            // The service requires its sockets: its restart includes them.
            (None, _) if runs => self.steps.push(Step::Restart(service)),
            (None, _) => self.steps.push(Step::Start(socket)),
            (Some(_), None) => {
                self.steps.push(Step::Stop(socket));
                if runs {
                    self.steps.push(Step::Restart(service));
                }
            }
            (Some(_), Some(_)) => self.steps.push(Step::Restart(socket)),
        }
    }

    fn server(&mut self, now: &Present<'_>, units: &generator::Plan) {
        let unit = "console-cli.socket".to_owned();
        match (listens(now.units, &unit), listens(units, &unit)) {
            (old, new) if old == new => {}
            (None, _) => self.steps.push(Step::Start(unit)),
            (Some(_), None) => self.steps.push(Step::Stop(unit)),
            (Some(_), Some(_)) => self.steps.push(Step::Restart(unit)),
        }
    }

    fn stop(&mut self, unit: Option<String>) {
        self.steps.extend(unit.map(Step::Stop));
    }
}

/// Addresses of sockets that start or move, and that are not in use by this server.
fn newly_bound(old: &Config, new: &Config, steps: &[Step]) -> Vec<SocketAddr> {
    let begins = |unit: &str| steps.iter().any(|step| step.unit() == unit && !matches!(step, Step::Stop(_)));
    let ours = addresses(old, |_| true);
    let is_ours = |address: &SocketAddr| {
        ours.iter()
            .any(|own| own.port() == address.port() && overlap(&[own.ip().into()], &[address.ip().into()]))
    };
    let mut expected = addresses(new, |name| {
        let unit = new.instances.of(name);
        begins(&unit.ssh_socket()) || begins(&unit.service())
    });
    if old.server != new.server {
        expected.extend(server(&new.server));
    }
    expected.retain(|address| !is_ours(address));
    expected
}

fn addresses(config: &Config, which: impl Fn(&PortName) -> bool) -> Vec<SocketAddr> {
    let ports = config.ports.iter().filter(|(name, _)| which(name));
    let listeners = ports.flat_map(|(_, port)| config.tcp_listeners(port));
    listeners.flat_map(|(listen, tcp)| at(listen, tcp)).chain(server(&config.server)).collect()
}

pub(super) fn server(server: &Server) -> Vec<SocketAddr> {
    server.ssh_port.map_or_else(Vec::new, |tcp| at(&server.listen, tcp).collect())
}

/// Without addresses whose interface does not exist: the generator leaves them out too.
pub(super) fn at(listen: &[Address], tcp: u16) -> impl Iterator<Item = SocketAddr> {
    listen.iter().filter_map(move |address| address.socket_addr(tcp).ok())
}

/// The current instance name of a port's units.
fn instance<'n>(now: &'n Present<'_>, new: &'n Config, name: &'n PortName) -> &'n PortName {
    if new.ports.contains_key(name) { new.instances.of(name) } else { now.config.instances.of(name) }
}

/// Addresses of the SSH socket of this instance, from its drop-in.
fn listener(units: &generator::Plan, unit: &PortName) -> Option<String> {
    listens(units, &unit.ssh_socket())
}

fn listens(units: &generator::Plan, unit: &str) -> Option<String> {
    match units.entries.get(Path::new(&format!("{unit}.d/10-listen.conf")))? {
        Entry::File(text) => Some(printed(text)),
        Entry::Link(_) => None,
    }
}

/// The instances that the target starts.
fn enabled(units: &generator::Plan) -> BTreeSet<PortName> {
    let expected =
        |path: &Path| path.strip_prefix(generator::STARTER).ok()?.to_str().and_then(PortName::of_unit);
    units.entries.keys().filter_map(|path| expected(path)).collect()
}

fn has_source(units: &generator::Plan, unit: &PortName) -> bool {
    units.entries.contains_key(&generator::source_drop_in(unit))
}

/// The `.path` unit of this instance.
fn watch<'a>(units: &'a generator::Plan, unit: &PortName) -> Option<&'a Entry> {
    units.entries.get(Path::new(&unit.path_unit()))
}

/// Without the name of the file that it was generated from: only that changes with the first commit.
fn printed(text: &str) -> String {
    text.lines()
        .filter(|line| !line.starts_with("SourcePath="))
        .filter(|line| !line.is_empty() && *line != "[Unit]")
        .collect::<Vec<_>>()
        .join("\n")
}

fn differ(old: &generator::Plan, new: &generator::Plan) -> bool {
    let same = |a: &Entry, b: &Entry| match (a, b) {
        (Entry::File(a), Entry::File(b)) => printed(a) == printed(b),
        _ => a == b,
    };
    old.entries.len() != new.entries.len()
        || old.entries.iter().zip(&new.entries).any(|((a, old), (b, new))| a != b || !same(old, new))
}

#[cfg(test)]
mod tests;
