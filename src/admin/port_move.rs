//! The order in which listeners move: ports that release a TCP port are reloaded before ports that claim it. Pure.

use std::net::SocketAddr;

use super::apply::{Present, Step, at, server};
use crate::config::{Config, overlap};
use crate::port::PortName;

/// The steps of one port, or of the admin CLI, which are done together.
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

    /// Whether this one must wait until the other one has released its address.
    fn waits_for(&self, other: &Self) -> bool {
        let meet = |a: &SocketAddr, b: &SocketAddr| {
            a.port() == b.port() && overlap(&[a.ip().into()], &[b.ip().into()])
        };
        let begins = self.steps.iter().any(|step| !matches!(step, Step::Stop(_)));
        begins && self.wants.iter().any(|want| other.holds.iter().any(|held| meet(want, held)))
    }

    fn socket(&self, unit: impl Fn(&PortName) -> PortName) -> String {
        self.port.as_ref().map_or("console-cli.socket".to_owned(), |port| unit(port).ssh_socket())
    }
}

/// The steps, those of one port together and in their order. If TCP ports are exchanged in a cycle, one
/// listener is stopped first, together with its port.
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
    let mut moves: Vec<PortMove> = Vec::new();
    for step in steps {
        let port = PortName::of_unit(step.unit()).map(|unit| named(&unit));
        let port_move = match moves.iter().position(|known| known.port == port) {
            Some(index) => &mut moves[index],
            None => {
                moves.push(PortMove::new(now, new, port));
                moves.last_mut().expect("was pushed")
            }
        };
        port_move.steps.push(step);
    }
    let mut ordered = Vec::new();
    while !moves.is_empty() {
        let free = |one: &PortMove| moves.iter().all(|other| other.port == one.port || !one.waits_for(other));
        match moves.iter().position(free) {
            Some(index) => ordered.append(&mut moves.remove(index).steps),
            None => {
                let first = member_of_cycle(&moves);
                let first = &mut moves[first];
                ordered.push(Step::Stop(first.socket(unit)));
                first.holds.clear();
                if let Some(port) = first.port.clone() {
                    if now.active.contains(&port) {
                        first.steps.push(Step::Start(unit(&port).service()));
                    }
                    remarks.push(format!(
                        "{port} released its TCP port before it got the new one: its device was closed for a moment"
                    ));
                }
            }
        }
    }
    ordered
}

/// A member of a cycle, if each waits for another one. The first one may only wait for members of the cycle,
/// so the search follows the waits until it repeats.
fn member_of_cycle(moves: &[PortMove]) -> usize {
    let before = |index: usize| {
        let waits = |other: &PortMove| other.port != moves[index].port && moves[index].waits_for(other);
        moves.iter().position(waits).unwrap_or(index)
    };
    (0..moves.len()).fold(0, |index, _| before(index))
}
