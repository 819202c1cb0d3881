//! Plans a reload from the current and the new state, without executing it: addresses to probe, whether a
//! daemon-reload is needed,
//! which units start, stop and restart in which order, and which ports take their settings.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::port_move;
use crate::config::{Address, Config, Server, overlap};
use crate::generator::{self, Entry, Machine};
use crate::ownership::Claims;
use crate::port::PortName;

/// A job for a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// `systemctl start`
    Start(String),
    /// `systemctl stop`
    Stop(String),
    /// `systemctl restart`
    Restart(String),
}

impl Step {
    /// The name of the unit.
    pub fn unit(&self) -> &str {
        match self {
            Self::Start(unit) | Self::Stop(unit) | Self::Restart(unit) => unit,
        }
    }
}

impl std::fmt::Display for Step {
    /// As an administrator would type it.
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
    /// Jobs for units.
    pub steps: Vec<Step>,
    /// Ports that take their settings.
    pub apply: Vec<PortName>,
    /// One sentence each.
    pub remarks: Vec<String>,
}

/// The current state.
pub struct Present<'a> {
    /// The units that systemd has from the generator.
    pub units: &'a generator::Plan,
    /// The running configuration.
    pub config: &'a Config,
    /// Ports with an active service.
    pub active: &'a BTreeSet<PortName>,
    /// Whether a socket of a port is active, that is, the port was not stopped.
    pub open: &'a (dyn Fn(&PortName) -> bool + Sync),
    /// Whether a port that should listen does not: after a daemon-reload, systemd closes an edited socket
    /// until it is restarted.
    pub deaf: &'a (dyn Fn(&PortName) -> bool + Sync),
    /// Ports that the user named.
    pub asked: &'a BTreeSet<PortName>,
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
    plan.probe = taken_anew(now.config, new, &plan.steps);
    plan.steps = port_move::in_order(now, new, std::mem::take(&mut plan.steps), &mut plan.remarks);
    plan
}

impl Plan {
    /// Ports that systemd has from the generator and that an edit of the file has removed. They are stopped
    /// first, since another port
    /// may have their listener or device now.
    fn removed_by_hand(
        &mut self,
        now: &Present<'_>,
        units: &generator::Plan,
        new: &Config,
        ports: &BTreeSet<PortName>,
    ) {
        for name in enabled(now.units).iter().map(|unit| now.config.instances.port(unit).clone()) {
            if !new.ports.contains_key(&name) && !ports.contains(&name) {
                self.port(now, units, new, &name);
                self.remarks.push(format!("{name} stopped: it was removed from the file"));
            }
        }
    }

    fn port(&mut self, now: &Present<'_>, units: &generator::Plan, new: &Config, name: &PortName) {
        let before = now.config.ports.get(name);
        let unit = instance(now, new, name);
        let service = format!("console@{unit}.service");
        let socket = format!("console@{unit}.socket");
        let attach = format!("console-attach@{unit}.socket");
        let path = format!("console@{unit}.path");
        // A port added to the file by an edit is in the running configuration, but systemd does not have it
        // yet.
        let was_enabled = before.is_some_and(|port| port.enabled) && enabled(now.units).contains(unit);
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
        let device = new.device(name, after);
        // A port that was stopped stays stopped, unless the user named it.
        let is_meant = !was_enabled
            || now.asked.contains(name)
            || before.is_some_and(|before| now.config.device(name, before) != device);
        if !now.active.contains(name) && is_meant && (now.leads)(&device).is_some() {
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
                    let start = Step::Start(format!("console@{}.service", instance(now, new, name)));
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
        let socket = format!("console@{unit}.socket");
        let service = format!("console@{unit}.service");
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
            _ if !runs && !open && !now.asked.contains(name) => {}
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

    /// The listener of the admin CLI.
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
fn taken_anew(old: &Config, new: &Config, steps: &[Step]) -> Vec<SocketAddr> {
    let begins = |unit: &str| steps.iter().any(|step| step.unit() == unit && !matches!(step, Step::Stop(_)));
    let ours = addresses(old, |_| true);
    let is_ours = |address: &SocketAddr| {
        ours.iter()
            .any(|own| own.port() == address.port() && overlap(&[own.ip().into()], &[address.ip().into()]))
    };
    let mut wanted = addresses(new, |name| {
        let unit = new.instances.of(name);
        begins(&format!("console@{unit}.socket")) || begins(&format!("console@{unit}.service"))
    });
    if old.server != new.server {
        wanted.extend(server(&new.server));
    }
    wanted.retain(|address| !is_ours(address));
    wanted
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
    listens(units, &format!("console@{unit}.socket"))
}

fn listens(units: &generator::Plan, unit: &str) -> Option<String> {
    match units.entries.get(Path::new(&format!("{unit}.d/10-listen.conf")))? {
        Entry::File(text) => Some(said(text)),
        Entry::Link(_) => None,
    }
}

/// The instances that the target starts.
fn enabled(units: &generator::Plan) -> BTreeSet<PortName> {
    let wanted =
        |path: &Path| path.strip_prefix(generator::STARTER).ok()?.to_str().and_then(port_move::instance_of);
    units.entries.keys().filter_map(|path| wanted(path)).collect()
}

/// The `.path` unit of this instance.
fn watch<'a>(units: &'a generator::Plan, unit: &PortName) -> Option<&'a Entry> {
    units.entries.get(Path::new(&format!("console@{unit}.path")))
}

/// Without the name of the file that it was generated from: only that changes with the first commit.
fn said(text: &str) -> String {
    text.lines()
        .filter(|line| !line.starts_with("SourcePath="))
        .filter(|line| !line.is_empty() && *line != "[Unit]")
        .collect::<Vec<_>>()
        .join("\n")
}

fn differ(old: &generator::Plan, new: &generator::Plan) -> bool {
    let same = |a: &Entry, b: &Entry| match (a, b) {
        (Entry::File(a), Entry::File(b)) => said(a) == said(b),
        _ => a == b,
    };
    old.entries.len() != new.entries.len()
        || old.entries.iter().zip(&new.entries).any(|((a, old), (b, new))| a != b || !same(old, new))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The steps between two files.
    fn story(old: &str, new: &str, ports: &[&str], active: &[&str]) -> String {
        told(old, new, ports, active, ports)
    }

    /// Likewise for a port that inherits a change and was not named by the user.
    fn inherited(old: &str, new: &str, port: &str) -> String {
        told(old, new, &[port], &[], &[])
    }

    fn told(old: &str, new: &str, ports: &[&str], active: &[&str], asked: &[&str]) -> String {
        let parse = |text| Config::parse(text, Path::new("t")).unwrap();
        let (old, new) = (parse(old), parse(new));
        let names =
            |words: &[&str]| words.iter().map(|word| word.parse().unwrap()).collect::<BTreeSet<PortName>>();
        let now = Present {
            units: &generator::plan(
                &old,
                Some(Path::new("/etc/consoleserver/config.toml")),
                &Machine::at(Path::new("/")),
            ),
            config: &old,
            active: &names(active),
            open: &|name| match name.as_str() {
                "stopped" => false,
                "started" => true,
                _ => old.ports.get(name).is_some_and(|port| port.enabled),
            },
            deaf: &|name| name.as_str() == "deaf",
            asked: &names(asked),
            leads: &|path| match path.strip_prefix("/dev").ok()?.to_str()? {
                "there" | "ttyUSB0" | "stopped" => Some(7),
                _ => None,
            },
        };
        let Plan { probe, release, daemon_reload, steps, apply, remarks } = plan(&now, &new, &names(ports));
        let mut lines: Vec<String> = probe.iter().map(|address| format!("probe {address}")).collect();
        lines.extend(release.iter().map(|port| format!("release {port}")));
        lines.extend(daemon_reload.then(|| "daemon-reload".to_owned()));
        lines.extend(steps.iter().map(|step| step.to_string().replace("systemctl ", "")));
        lines.extend(apply.iter().map(|port| format!("apply {port}")));
        lines.extend(remarks);
        lines.join("\n")
    }

    const A: &str = "[ports.a]\nssh_port = 1001\n";

    #[test]
    fn line_settings_are_taken_by_the_running_port() {
        let new = "[ports.a]\nssh_port = 1001\nbaud = 300\n";
        assert_eq!(story(A, new, &["a"], &["a"]), "apply a");
        assert_eq!(story(A, new, &["a"], &[]), "");
    }

    #[test]
    fn a_listener_moves_with_its_socket_after_the_new_address_was_probed() {
        let new = "[ports.a]\nssh_port = 1002\n";
        assert_eq!(story(A, new, &["a"], &["a"]), "probe [::]:1002\ndaemon-reload\nrestart console@a.socket");
        // The same number at another address is in use by this server and cannot be probed.
        let local = "[ports.a]\nssh_port = 1001\nlisten = [\"127.0.0.1\"]\n";
        assert_eq!(story(A, local, &["a"], &[]), "daemon-reload\nrestart console@a.socket");
    }

    #[test]
    fn a_listener_is_added_and_removed() {
        let without = "[ports.a]\n";
        assert_eq!(story(without, A, &["a"], &[]), "probe [::]:1001\ndaemon-reload\nstart console@a.socket");
        assert_eq!(
            story(without, A, &["a"], &["a"]),
            "probe [::]:1001\ndaemon-reload\nrestart console@a.service"
        );
        assert_eq!(
            story(A, without, &["a"], &["a"]),
            "daemon-reload\nstop console@a.socket\nrestart console@a.service"
        );
    }

    #[test]
    fn ports_are_added_removed_enabled_and_disabled() {
        let two = format!("{A}[ports.b]\nssh_port = 1002\ndevice = \"/dev/there\"\n");
        assert_eq!(
            story(A, &two, &["b"], &["a"]),
            "probe [::]:1002\ndaemon-reload\nstart console-attach@b.socket\nstart console@b.socket\nstart console@b.service"
        );
        assert_eq!(
            story(&two, A, &["b"], &["a", "b"]),
            "daemon-reload\nstop console@b.socket\nstop console-attach@b.socket\nstop console@b.service"
        );
        let off = format!("{two}enabled = false\n");
        assert_eq!(
            story(&two, &off, &["b"], &["a", "b"]),
            "daemon-reload\nstop console@b.socket\nstop console-attach@b.socket\nstop console@b.service"
        );
        assert_eq!(
            story(&off, &two, &["b"], &[]),
            "daemon-reload\nstart console-attach@b.socket\nstart console@b.socket\nstart console@b.service"
        );
    }

    #[test]
    fn a_started_port_keeps_running_and_a_stopped_one_stays_stopped() {
        let off = "[ports.started]\nenabled = false\nssh_port = 1001\n";
        let on = "[ports.started]\nssh_port = 1001\nbaud = 300\n";
        let moved = on.replace("1001", "1002");
        assert_eq!(
            story(off, on, &["started"], &["started"]),
            "daemon-reload\nstart console-attach@started.socket\napply started"
        );
        assert_eq!(
            story(off, &moved, &["started"], &["started"]),
            "probe [::]:1002\ndaemon-reload\nstart console-attach@started.socket\nrestart console@started.socket"
        );
        let still_off = off.replace("1001", "1002");
        assert_eq!(
            story(off, &still_off, &["started"], &[]),
            "probe [::]:1002\ndaemon-reload\nrestart console@started.socket"
        );
        assert_eq!(
            story(&off.replace("started", "a"), &still_off.replace("started", "a"), &["a"], &[]),
            "daemon-reload"
        );

        let stopped = "[ports.stopped]\nssh_port = 1001\ndevice = \"/dev/there\"\n";
        let inherits = format!("[defaults]\nlisten = [\"127.0.0.1\"]\n{stopped}");
        assert_eq!(inherited(stopped, &inherits, "stopped"), "daemon-reload");
        assert_eq!(
            inherited(&stopped.replace("stopped", "a"), &inherits.replace("stopped", "a"), "a"),
            "daemon-reload\nrestart console@a.socket"
        );
    }

    #[test]
    fn a_socket_that_systemd_has_closed_is_restarted() {
        let deaf = "[ports.deaf]\nssh_port = 1001\n";
        assert_eq!(story(deaf, deaf, &["deaf"], &["deaf"]), "restart console@deaf.socket");
        assert_eq!(story(deaf, deaf, &["deaf"], &[]), "restart console@deaf.socket");
    }

    #[test]
    fn a_device_changes() {
        let there = format!("{A}device = \"/dev/there\"\n");
        assert_eq!(story(A, &there, &["a"], &["a"]), "daemon-reload\napply a");
        assert_eq!(story(A, &there, &["a"], &[]), "daemon-reload\nstart console@a.service");
        let watched = format!("[server]\nmonitor = \"/srv\"\n{A}");
        assert_eq!(story(A, &watched, &["a"], &[]), "daemon-reload\nstart console@a.path");
        assert_eq!(story(&watched, A, &["a"], &[]), "daemon-reload\nstop console@a.path");
    }

    #[test]
    fn a_port_releases_a_tty_that_another_port_claims_and_gets_it_back() {
        let named = "[ports.ttyUSB0]\n";
        let both = format!("{named}[ports.p1]\ndevice = \"/dev/there\"\n");
        assert_eq!(
            story(named, &both, &["p1"], &["ttyUSB0"]),
            "release ttyUSB0\ndaemon-reload\nstart console-attach@p1.socket\nstart console@p1.service"
        );
        let gone =
            "daemon-reload\nstop console@p1.socket\nstop console-attach@p1.socket\nstop console@p1.service";
        assert_eq!(story(&both, named, &["p1"], &["p1"]), format!("{gone}\nstart console@ttyUSB0.service"));
        assert_eq!(story(&both, named, &["p1"], &["p1", "ttyUSB0"]), format!("{gone}\napply ttyUSB0"));
        // A port that was stopped stays stopped.
        let (both, named) = (both.replace("ttyUSB0", "stopped"), "[ports.stopped]\n");
        assert_eq!(story(&both, named, &["p1"], &["p1"]), gone);
    }

    #[test]
    fn ports_that_release_a_tcp_port_are_reloaded_before_ports_that_claim_it() {
        let two = "[ports.a]\nssh_port = 1001\n[ports.b]\nssh_port = 1002\n";
        let chain = "[ports.a]\nssh_port = 1002\n[ports.b]\nssh_port = 1003\n";
        assert_eq!(
            story(two, chain, &["a", "b"], &["a", "b"]),
            "probe [::]:1003\ndaemon-reload\nrestart console@b.socket\nrestart console@a.socket"
        );
        let cli = "[server]\nssh_port = 1001\n[ports.a]\nssh_port = 1004\n[ports.b]\nssh_port = 1002\n";
        assert_eq!(
            story(two, cli, &["a"], &[]),
            "probe [::]:1004\ndaemon-reload\nrestart console@a.socket\nrestart console-cli.socket"
        );
        let swapped = "[ports.a]\nssh_port = 1002\n[ports.b]\nssh_port = 1001\n";
        assert_eq!(
            story(two, swapped, &["a", "b"], &["a", "b"]),
            "daemon-reload\nstop console@a.socket\nrestart console@b.socket\nrestart console@a.socket\n\
             start console@a.service\na gives its TCP port away before it gets its new one: its device was closed for a moment"
        );
        // The first port waits for a cycle that it is not part of: stopping it would not break the cycle.
        let three = "[ports.a]\nssh_port = 1001\n[ports.b]\nssh_port = 1002\n[ports.c]\nssh_port = 1003\n";
        let behind = "[ports.a]\nssh_port = 1002\nlisten = [\"192.0.2.1\"]\n[ports.b]\nssh_port = 1003\n\
                      [ports.c]\nssh_port = 1002\nlisten = [\"192.0.2.2\"]\n";
        assert_eq!(
            story(three, behind, &["a", "b", "c"], &[]),
            "daemon-reload\nstop console@b.socket\nrestart console@a.socket\nrestart console@c.socket\nrestart console@b.socket\n\
             b gives its TCP port away before it gets its new one: its device was closed for a moment"
        );
    }

    #[test]
    fn a_port_that_was_edited_in_the_file_keeps_listening() {
        let two = format!("{A}[ports.b]\nssh_port = 1002\n");
        let edited = format!("{A}baud = 300\n[ports.b]\nssh_port = 1003\n");
        assert_eq!(
            story(&two, &edited, &["a"], &["a"]),
            "probe [::]:1003\ndaemon-reload\nrestart console@b.socket\napply a\n\
             b: listener moved as configured by an edit of the file that was not reloaded before"
        );
    }

    /// The steps of a reload after the file was edited from `old` to `new`: the running configuration
    /// follows the file.
    fn by_hand(old: &str, new: &str, active: &[&str]) -> String {
        let parse = |text| Config::parse(text, Path::new("t")).unwrap();
        let (old, new) = (parse(old), parse(new));
        let active: BTreeSet<PortName> = active.iter().map(|name| name.parse().unwrap()).collect();
        let now = Present {
            units: &generator::plan(&old, None, &Machine::at(Path::new("/"))),
            config: &new,
            active: &active,
            open: &|name| old.ports.contains_key(name),
            deaf: &|_| false,
            asked: &BTreeSet::new(),
            leads: &|path| (path == Path::new("/dev/there")).then_some(7),
        };
        let all = new.ports.keys().cloned().collect();
        let Plan { daemon_reload, steps, apply, remarks, .. } = plan(&now, &new, &all);
        let mut lines: Vec<String> = daemon_reload.then(|| "daemon-reload".to_owned()).into_iter().collect();
        lines.extend(steps.iter().map(|step| step.to_string().replace("systemctl ", "")));
        lines.extend(apply.iter().map(|port| format!("apply {port}")));
        lines.extend(remarks);
        lines.join("\n")
    }

    #[test]
    fn a_port_added_to_or_removed_from_the_file_is_started_or_stopped() {
        let renamed = "[ports.b]\nssh_port = 1001\ndevice = \"/dev/there\"\n";
        assert_eq!(
            by_hand(A, renamed, &["a"]),
            "daemon-reload\nstop console@a.socket\nstop console-attach@a.socket\nstop console@a.service\n\
             start console-attach@b.socket\nstart console@b.socket\nstart console@b.service\n\
             a stopped: it was removed from the file"
        );
        let local = format!("{A}[ports.b]\n");
        assert_eq!(by_hand(A, &local, &["a"]), "daemon-reload\nstart console-attach@b.socket\napply a");
        let faster = format!("{A}baud = 300\n");
        assert_eq!(by_hand(A, &faster, &["a"]), "apply a");
    }
}
