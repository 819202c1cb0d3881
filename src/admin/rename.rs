//! Renames ports while they run: the running configuration by the new names, the units that they stay in, and
//! their logs. `apply` plans the rest of the reload as if a renamed port had always had its new name.

use std::collections::{BTreeMap, BTreeSet};

use super::core::{Core, Error, Remarks};
use super::state::State;
use crate::config::{Config, Instances};
use crate::logdir::{self, Held, Move, RenameError};
use crate::port::PortName;

/// Current and new names of renamed ports.
pub(super) type Renames = BTreeMap<PortName, PortName>;

pub(super) fn renamed<'n>(renames: &'n Renames, name: &'n PortName) -> &'n PortName {
    renames.get(name).unwrap_or(name)
}

pub(super) fn back(renames: &Renames) -> Renames {
    renames.iter().map(|(old, new)| (new.clone(), old.clone())).collect()
}

/// The running configuration by the new names.
pub(super) fn under_new_names(config: &Config, renames: &Renames) -> Config {
    let mut config = config.clone();
    let mut instances = Instances::default();
    for port in config.ports.keys() {
        instances.set(renamed(renames, port).clone(), config.instances.of(port).clone());
    }
    let ports = std::mem::take(&mut config.ports);
    config.ports = ports.into_iter().map(|(name, port)| (renamed(renames, &name).clone(), port)).collect();
    config.take_instances(instances);
    config
}

/// The affected ports by the new names.
pub(super) fn concerned(named: &BTreeSet<PortName>, next: &Config, renames: &Renames) -> BTreeSet<PortName> {
    let mut all: BTreeSet<_> = named.iter().map(|name| renamed(renames, name).clone()).collect();
    // A port that is not in the configuration and was not renamed is removed.
    all.extend(
        named.iter().filter(|name| next.ports.contains_key(name) || !renames.contains_key(name)).cloned(),
    );
    all
}

/// The unit names that ports keep: those of an active port keep their name, an inactive port gets units of
/// its own name. `up` returns whether an instance is active. `now` is the running configuration by the new
/// names.
pub(super) fn instances(
    now: &Config,
    next: &Config,
    up: impl Fn(&PortName) -> bool,
) -> Result<Instances, Error> {
    let mut instances = Instances::default();
    for port in next.ports.keys().filter(|port| now.ports.contains_key(port)) {
        let instance = now.instances.of(port);
        if up(instance) {
            instances.set(port.clone(), instance.clone());
        }
    }
    for port in next.ports.keys() {
        if instances.of(port) == port
            && let Some(other) = instances.other_in(port)
        {
            return Err(Error::Port(format!(
                "the name {port} is not available yet: {other} was renamed from it and runs in console@{port}.service \
                until it is stopped or the machine reboots; nothing was changed"
            )));
        }
    }
    Ok(instances)
}

impl Core {
    /// Moves the logs to the new names. No port opens its log while the result is held.
    pub(super) async fn move_logs(&self, renames: &Renames, link: bool) -> Result<Option<Held>, RenameError> {
        if renames.is_empty() {
            return Ok(None);
        }
        let moves = renames.iter().map(|(from, to)| Move { from: from.clone(), to: to.clone() }).collect();
        let socket = self.files.root.join("run/consoleserver").join(logdir::SOCKET_NAME);
        logdir::rename(&socket, moves, link).await.map(Some)
    }

    /// Gives inactive renamed ports units of their own name, and reloads systemd if that is a change.
    pub(super) async fn forget_old_units(&self) -> Result<Remarks, Error> {
        let state = self.state();
        if state.instances.is_empty() {
            return Ok(Remarks::new());
        }
        let (active, open) = self.units_up().await?;
        let mut instances = state.instances.clone();
        instances.retain(|_, instance| active.contains(instance) || open.contains(instance));
        if instances == state.instances {
            return Ok(Remarks::new());
        }
        let next = State::clone(&state).with_instances(instances);
        self.files.save_running(&next)?;
        self.keep(next);
        match self.units.daemon_reload().await {
            Ok(()) => Ok(Remarks::new()),
            Err(denied) if denied.is_denied() => Ok(vec![denied.to_string()]),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn name(port: &str) -> PortName {
        port.parse().unwrap()
    }

    fn config(text: &str, instances: &[(&str, &str)]) -> Config {
        let mut config = Config::parse(text, Path::new("t")).unwrap();
        let mut all = Instances::default();
        instances.iter().for_each(|(port, instance)| all.set(name(port), name(instance)));
        config.take_instances(all);
        config
    }

    fn renames(all: &[(&str, &str)]) -> Renames {
        all.iter().map(|(old, new)| (name(old), name(new))).collect()
    }

    fn units(now: &Config, next: &str, renames_: &[(&str, &str)], down: &[&str]) -> Vec<(String, String)> {
        let now = under_new_names(now, &renames(renames_));
        let up = |unit: &PortName| !down.contains(&unit.as_str());
        let instances = instances(&now, &config(next, &[]), up).unwrap();
        instances.iter().map(|(port, unit)| (port.to_string(), unit.to_string())).collect()
    }

    #[test]
    fn an_active_port_keeps_its_units_through_all_renames() {
        let pair = |port: &str, unit: &str| (port.to_owned(), unit.to_owned());
        let (a, b) = (config("[ports.a]\n", &[]), config("[ports.b]\n", &[("b", "a")]));
        assert_eq!(units(&a, "[ports.b]\n", &[("a", "b")], &[]), [pair("b", "a")]);
        assert_eq!(units(&b, "[ports.c]\n", &[("b", "c")], &[]), [pair("c", "a")]);
        assert_eq!(units(&b, "[ports.a]\n", &[("b", "a")], &[]), []);
        // Inactive, it starts under its own name.
        assert_eq!(units(&a, "[ports.b]\n", &[("a", "b")], &["a"]), []);
        assert_eq!(units(&b, "[ports.b]\n", &[], &["a"]), []);
        assert_eq!(units(&b, "[ports.b]\n", &[], &[]), [pair("b", "a")]);
        // Two ports swap names.
        let two = config("[ports.a]\n[ports.b]\n", &[]);
        let swapped = units(&two, "[ports.a]\n[ports.b]\n", &[("a", "b"), ("b", "a")], &[]);
        assert_eq!(swapped, [pair("a", "b"), pair("b", "a")]);
    }

    #[test]
    fn the_name_of_active_units_is_not_available_to_another_port() {
        let now = under_new_names(&config("[ports.a]\n", &[]), &renames(&[("a", "b")]));
        let next = config("[ports.a]\n[ports.b]\n", &[]);
        let refused = instances(&now, &next, |_| true).unwrap_err().to_string();
        assert!(
            refused.starts_with("the name a is not available yet: b was renamed from it and runs in"),
            "{refused}"
        );
        assert!(instances(&now, &next, |_| false).unwrap().is_empty());
    }

    #[test]
    fn an_affected_port_is_listed_by_its_new_name() {
        let set = |names: &[&str]| names.iter().map(|port| name(port)).collect::<BTreeSet<_>>();
        let next = config("[ports.b]\n[ports.c]\n", &[]);
        let all = concerned(&set(&["a", "b", "gone"]), &next, &renames(&[("a", "b"), ("b", "c")]));
        assert_eq!(all, set(&["b", "c", "gone"]));
    }
}
