//! The order in which listeners move, so that a TCP port is free before another one of ours takes it. Pure.

use std::net::SocketAddr;

use super::apply::{Present, Step, at, server};
use crate::config::{Config, overlap};
use crate::port::PortName;

/// What moves together: the steps of one port, or of the admin CLI.
struct PortMove {
    port: Option<PortName>,
    steps: Vec<Step>,
    holds: Vec<SocketAddr>,
    wants: Vec<SocketAddr>,
}

impl PortMove {
    fn new(now: &Present<'_>, new: &Config, port: Option<PortName>) -> Self {
        let listens = |config: &Config| match &port {
            None => server(&config.server),
            Some(name) => config.ports.get(name).map_or_else(Vec::new, |port| {
                config.tcp_listeners(port).flat_map(|(listen, tcp)| at(listen, tcp)).collect()
            }),
        };
        let (holds, wants) = (listens(now.config), listens(new));
        Self { port, steps: Vec::new(), holds, wants }
    }

    /// Whether this one has to wait for that one.
    fn waits_for(&self, other: &Self) -> bool {
        let meet = |a: &SocketAddr, b: &SocketAddr| {
            a.port() == b.port() && overlap(&[a.ip().into()], &[b.ip().into()])
        };
        let begins = self.steps.iter().any(|step| !matches!(step, Step::Stop(_)));
        begins && self.wants.iter().any(|want| other.holds.iter().any(|held| meet(want, held)))
    }

    fn socket(&self, unit: impl Fn(&PortName) -> PortName) -> String {
        self.port
            .as_ref()
            .map_or("console-cli.socket".to_owned(), |port| format!("console@{}.socket", unit(port)))
    }
}

/// The same steps, those of one port together and in their order. Where TCP ports go round in a circle one listener is stopped
/// first, and its port with it.
pub(super) fn in_order(
    now: &Present<'_>,
    new: &Config,
    steps: Vec<Step>,
    remarks: &mut Vec<String>,
) -> Vec<Step> {
    let named = |unit: &PortName| match new.instances.other_in(unit).or(now.config.instances.other_in(unit)) {
        Some(port) => port.clone(),
        None => unit.clone(),
    };
    let unit = |port: &PortName| new.instances.of(port).clone();
    let mut movers: Vec<PortMove> = Vec::new();
    for step in steps {
        let port = instance_of(step.unit()).map(|unit| named(&unit));
        let mover = match movers.iter().position(|mover| mover.port == port) {
            Some(index) => &mut movers[index],
            None => {
                movers.push(PortMove::new(now, new, port));
                movers.last_mut().expect("was pushed")
            }
        };
        mover.steps.push(step);
    }
    let mut ordered = Vec::new();
    while !movers.is_empty() {
        let free =
            |mover: &PortMove| movers.iter().all(|other| other.port == mover.port || !mover.waits_for(other));
        match movers.iter().position(free) {
            Some(index) => ordered.append(&mut movers.remove(index).steps),
            None => {
                let first = in_the_circle(&movers);
                let first = &mut movers[first];
                ordered.push(Step::Stop(first.socket(unit)));
                first.holds.clear();
                if let Some(port) = first.port.clone() {
                    if now.active.contains(&port) {
                        first.steps.push(Step::Start(format!("console@{}.service", unit(&port))));
                    }
                    remarks.push(format!(
                        "{port} gives its TCP port away before it gets its new one: its device was closed for a moment"
                    ));
                }
            }
        }
    }
    ordered
}

/// One that gives way to another, where each of them waits for one. Whoever follows who waits for whom comes round at last: the first of
/// them may only wait for those in the circle.
fn in_the_circle(movers: &[PortMove]) -> usize {
    let before = |mover: usize| {
        let waits = |other: &PortMove| other.port != movers[mover].port && movers[mover].waits_for(other);
        movers.iter().position(waits).unwrap_or(mover)
    };
    (0..movers.len()).fold(0, |mover, _| before(mover))
}

/// The instance of a unit of a port: the name of the port, unless that was renamed while it ran.
pub(super) fn instance_of(unit: &str) -> Option<PortName> {
    let instance = unit.strip_prefix("console@").or_else(|| unit.strip_prefix("console-attach@"))?;
    instance.rsplit_once('.')?.0.parse().ok()
}
