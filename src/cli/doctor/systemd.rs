//! The units of this machine, by systemctl.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use crate::cli::bounded;

/// Time for systemctl to list all units.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Units that are not a port's.
pub(super) const COMMON: [&str; 15] = [
    BUS_SOCKET,
    "consoleserver.target",
    "console-admin.service",
    "console-auth-cli.socket",
    "console-auth-port.socket",
    "console-cli.service",
    "console-cli.socket",
    "console-hostkeys.service",
    "console-logrotate.service",
    LOGROTATE_TIMER,
    "console-logs.service",
    "console-logs.socket",
    METRICS_SOCKET,
    "console-open.service",
    "console-rollback.service",
];
/// The system bus, by which `consolectl` reaches console-admin.
pub(super) const BUS_SOCKET: &str = "dbus.socket";
pub(super) const LOGROTATE_TIMER: &str = "console-logrotate.timer";
pub(super) const METRICS_SOCKET: &str = "console-metrics.socket";
/// Units with their properties; empty if systemd does not answer.
#[derive(Debug, Default)]
pub(super) struct Units(pub(super) BTreeMap<String, BTreeMap<String, String>>);

impl Units {
    /// Queries systemd. First the loaded units, in one call: for a unit that is not loaded, `show` would search all unit directories. Then
    /// the properties of units that run or have failed, and those of `described`.
    pub(super) fn query(names: &[String], described: &[String]) -> Self {
        let mut list = Command::new("systemctl");
        list.args(["list-units", "--all", "--full", "--plain", "--no-legend", "--no-pager"]);
        let Ok(listed) = bounded::ask(list.args(["console*", "serial-getty@*", BUS_SOCKET]), TIMEOUT) else {
            return Self::default();
        };
        if !listed.status.success() {
            return Self::default();
        }
        let state = |line: &str| {
            let mut words = line.split_whitespace();
            Some((words.next()?.to_owned(), words.nth(1)?.to_owned()))
        };
        let loaded: BTreeMap<String, String> = listed.stdout.lines().filter_map(state).collect();
        let is_quiet = |unit: &str| {
            // The properties of an active socket or path are not needed.
            let listens = [".socket", ".path"].iter().any(|end| unit.ends_with(end));
            match loaded.get(unit).map(String::as_str) {
                None | Some("inactive") => true,
                Some("active") => listens,
                Some(_) => false,
            }
        };
        let asked: BTreeSet<&String> = names.iter().filter(|unit| !is_quiet(unit)).chain(described).collect();
        let mut units = Self::describe(
            asked
                .into_iter()
                .chain(loaded.keys().filter(|unit| unit.starts_with("console") && !is_quiet(unit))),
        );
        let ports = loaded.keys().filter(|unit| unit.starts_with("console"));
        for unit in names.iter().chain(ports) {
            let state = loaded.get(unit).map_or("inactive", String::as_str);
            let properties = units.0.entry(unit.clone()).or_default();
            properties.entry("ActiveState".to_owned()).or_insert_with(|| state.to_owned());
        }
        for unit in masked() {
            let properties = units.0.entry(unit).or_default();
            properties.insert("UnitFileState".to_owned(), "masked".to_owned());
        }
        units
    }

    fn describe<'n>(names: impl Iterator<Item = &'n String>) -> Self {
        let names: BTreeSet<&String> = names.collect();
        if names.is_empty() {
            return Self::default();
        }
        let properties = "--property=Id,ActiveState,UnitFileState,LoadState,FragmentPath,DropInPaths,StateChangeTimestampMonotonic,ExecMainStatus,TriggeredBy,Result,StatusText,NRestarts,DevicePolicy,DeviceAllow,PrivateDevices,Listen";
        let asked = bounded::ask(Command::new("systemctl").args(["show", properties]).args(names), TIMEOUT);
        let Ok(listed) = asked else { return Self::default() };
        let text = listed.stdout;
        let unit = |block: &str| {
            let lines = block.lines().filter_map(|line| line.split_once('='));
            let mut properties: BTreeMap<String, String> = BTreeMap::new();
            // DeviceAllow and Listen have one line per value.
            for (key, value) in lines {
                let all = properties.entry(key.to_owned()).or_default();
                let space = if all.is_empty() { "" } else { " " };
                all.push_str(&format!("{space}{value}"));
            }
            Some((properties.remove("Id")?, properties))
        };
        Self(text.split("\n\n").filter_map(unit).collect())
    }

    pub(super) fn property(&self, unit: &str, key: &str) -> Option<&str> {
        self.0.get(unit)?.get(key).map(String::as_str)
    }

    pub(super) fn statuses(&self) -> impl Iterator<Item = &str> {
        self.0.values().filter_map(|properties| properties.get("StatusText")).map(String::as_str)
    }

    /// Whether nothing can start it (`systemctl mask`).
    pub(super) fn is_masked(&self, unit: &str) -> bool {
        self.property(unit, "UnitFileState") == Some("masked")
    }

    /// `active`, `failed`, `inactive`…
    pub(super) fn state(&self, unit: &str) -> Option<&str> {
        self.property(unit, "ActiveState")
    }

    /// The unit files and drop-ins of the administrator, which may be the cause.
    pub(super) fn own_settings(&self, unit: &str) -> String {
        let of = |key| self.property(unit, key).unwrap_or_default().split_whitespace();
        let replaced =
            of("FragmentPath").filter(|path| !path.starts_with("/usr/lib/") && !path.starts_with("/lib/"));
        let drop_ins = of("DropInPaths").filter(|path| !path.starts_with("/run/systemd/generator/"));
        // (A masked unit is /dev/null.)
        let own: Vec<&str> = replaced.filter(|path| *path != "/dev/null").chain(drop_ins).collect();
        match own.is_empty() {
            true => String::new(),
            false => format!("\nits settings are changed by {}", own.join(" ")),
        }
    }
}

/// The masked units, also those that are not loaded; none if systemd does not answer.
fn masked() -> Vec<String> {
    let mut list = Command::new("systemctl");
    list.args([
        "list-unit-files",
        "--state=masked,masked-runtime",
        "--no-legend",
        "--no-pager",
        "console*",
        BUS_SOCKET,
    ]);
    let Ok(listed) = bounded::ask(&mut list, TIMEOUT) else { return Vec::new() };
    listed.stdout.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}
