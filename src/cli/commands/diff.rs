//! `diff`: uncommitted changes, with one row for the same change to several ports.

use std::collections::BTreeMap;
use std::io::{self, Write};

use clap::Args;
use serde::Serialize;

use crate::admin::bus::Change;
use crate::cli::args::Output;
use crate::cli::client::{Client, print_remarks};
use crate::cli::error::Done;
use crate::cli::heirs::{heirs, is_inherited};
use crate::cli::listing::{self, formatted_time};
use crate::cli::summary::{counted, span};
use crate::cli::table::{fitted, width_of_rows};
use crate::cli::target::{Target, Targets};
use crate::port::PortName;
use crate::port::pattern::fold;
use crate::system::clock::date_and_clock;

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Diff {
    /// Ports, server, access or defaults; default: everything
    #[arg(value_name = "PORT")]
    pub of: Vec<Targets>,
    /// Show one row for each key of each port
    #[arg(long)]
    pub full: bool,
    #[command(flatten)]
    pub output: Output,
}

pub(in crate::cli) async fn run(
    Diff { of, full, output }: Diff,
    client: &Client,
    to: &mut impl Write,
) -> Done {
    let service = client.service().await?;
    let (mut changes, conflicts) = (service.changes().await?, service.conflicts().await?);
    if !of.is_empty() {
        let targets = client.targets(&of).await?;
        changes.retain(|change| targets.iter().any(|target| is_of(change, target)));
    }
    client.mark_shown().await?;
    // (All ports are needed only for a change that ports inherit.)
    let ports = match changes.iter().any(|change| is_inherited(&change.key)) {
        true => service.ports().await?,
        false => BTreeMap::new(),
    };
    let heirs = |change: &Change| heirs(&change.key, &ports);
    if output.json {
        return Ok(listing::json(&with_heirs(&changes, heirs), to)?);
    }
    table(&if full { each(&changes, heirs) } else { grouped(&changes, heirs) }, to)?;
    print_remarks(conflicts, to)
}

/// With more different values of a key, ports share a row with the first and the last value.
const MAX_ROWS_PER_KEY: usize = 4;
/// Characters of a folded list of names; a longer list is shown as its first and last name.
const MAX_NAMES_LENGTH: usize = 40;

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    key: String,
    old: String,
    new: String,
    who: String,
    when: String,
}

/// The port of a change and its key, such as `baud`; the key of a created or removed port is empty.
fn of_port(change: &Change) -> Option<(PortName, &str)> {
    let rest = change.key.strip_prefix("ports.")?;
    // TOML quotes a name with a full stop.
    let (name, key) = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"')?,
        None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
    };
    Some((name.parse().ok()?, key.strip_prefix('.').unwrap_or(key)))
}

/// Whether a change belongs to a port or table.
pub fn is_of(change: &Change, target: &Target) -> bool {
    match target {
        Target::Port(port) => of_port(change).is_some_and(|(of, _)| of == *port),
        table => change.key.strip_prefix(&table.to_string()).is_some_and(|rest| rest.starts_with('.')),
    }
}

fn row(change: &Change, heirs: &impl Heirs) -> Row {
    let cell = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let Change { key, old, new, who, when } = change;
    let at = match heirs(change) {
        Some(ports) if !ports.is_empty() => format!(" at {}", counted(&ports)),
        _ => String::new(),
    };
    let new = format!("{}{at}", cell(new));
    Row { key: key.clone(), old: cell(old), new, who: who.clone(), when: when.clone() }
}

/// The ports that inherit a change of `[defaults]` or of a template.
pub trait Heirs: Fn(&Change) -> Option<Vec<PortName>> {}

impl<F: Fn(&Change) -> Option<Vec<PortName>>> Heirs for F {}

#[derive(Debug, Serialize)]
pub struct WithHeirs<'c> {
    #[serde(flatten)]
    change: &'c Change,
    /// The ports that inherit it.
    #[serde(skip_serializing_if = "Option::is_none")]
    ports: Option<Vec<PortName>>,
}

/// The changes for JSON.
pub fn with_heirs(changes: &[Change], heirs: impl Heirs) -> Vec<WithHeirs<'_>> {
    changes.iter().map(|change| WithHeirs { change, ports: heirs(change) }).collect()
}

pub fn each(changes: &[Change], heirs: impl Heirs) -> Vec<Row> {
    changes.iter().map(|change| row(change, &heirs)).collect()
}

/// Changes of one key that differ in the port only.
struct Group<'c> {
    key: &'c str,
    ports: Vec<PortName>,
    rows: Vec<Row>,
}

impl Group<'_> {
    fn row(&self) -> Row {
        let first = &self.rows[0];
        let [_] = self.ports.as_slice() else {
            let folded = fold(&self.ports);
            let key = match self.key {
                "" => String::new(),
                key => format!(".{key}"),
            };
            let key = match (folded.chars().count() <= MAX_NAMES_LENGTH, self.ports.as_slice()) {
                (false, [first, .., last]) => {
                    format!("ports.({first} … {last}){key}, {} ports", self.ports.len())
                }
                _ => format!("ports.{folded}{key}"),
            };
            let all = |part: fn(&Row) -> &String| {
                span(&self.rows.iter().map(|row| part(row).clone()).collect::<Vec<_>>())
            };
            let when = self.rows.iter().map(|row| &row.when).max().unwrap_or(&first.when).clone();
            return Row {
                key,
                old: all(|row| &row.old),
                new: all(|row| &row.new),
                who: first.who.clone(),
                when,
            };
        };
        first.clone()
    }
}

/// One row for the same change to several ports, and one for a key that many ports change to different values.
pub fn grouped(changes: &[Change], heirs: impl Heirs) -> Vec<Row> {
    let mut groups: Vec<Result<Group<'_>, Row>> = Vec::new();
    for change in changes {
        let new = row(change, &heirs);
        let Some((port, key)) = of_port(change) else {
            groups.push(Err(new));
            continue;
        };
        let same = |group: &&mut Group<'_>| {
            let first = &group.rows[0];
            group.key == key && (&first.old, &first.new, &first.who) == (&new.old, &new.new, &new.who)
        };
        match groups.iter_mut().filter_map(|group| group.as_mut().ok()).find(same) {
            Some(group) => {
                group.ports.push(port);
                group.rows.push(new);
            }
            None => groups.push(Ok(Group { key, ports: vec![port], rows: vec![new] })),
        }
    }
    // Many different values of one key, such as `ssh_port`, share a row too.
    let mut merged: Vec<Result<Group<'_>, Row>> = Vec::new();
    let alike = |one: &Group<'_>, other: &Group<'_>| {
        one.key == other.key && !one.key.is_empty() && one.rows[0].who == other.rows[0].who
    };
    let counts: Vec<usize> = groups
        .iter()
        .map(|group| {
            let Ok(group) = group else { return 0 };
            groups.iter().filter(|other| other.as_ref().is_ok_and(|other| alike(group, other))).count()
        })
        .collect();
    for (group, count) in groups.into_iter().zip(counts) {
        match group {
            Ok(group) if count > MAX_ROWS_PER_KEY => {
                let first = merged
                    .iter_mut()
                    .filter_map(|before| before.as_mut().ok())
                    .find(|before| alike(before, &group));
                match first {
                    Some(first) => {
                        first.ports.extend(group.ports);
                        first.rows.extend(group.rows);
                    }
                    None => merged.push(Ok(group)),
                }
            }
            other => merged.push(other),
        }
    }
    merged.into_iter().map(|group| group.map_or_else(|row| row, |group| group.row())).collect()
}

/// Prints the rows under a heading; nothing without rows.
pub fn table(rows: &[Row], to: &mut impl Write) -> io::Result<()> {
    let heading = ["KEY", "COMMITTED", "NEW", "BY", "AT"].map(str::to_owned);
    let cells = |row: &Row| {
        let Row { key, old, new, who, when } = row.clone();
        [key, old, new, who, formatted_time(&when, date_and_clock)]
    };
    let all: Vec<_> = std::iter::once(heading).chain(rows.iter().map(cells)).collect();
    if rows.is_empty() { Ok(()) } else { fitted(&all, width_of_rows(), to) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: &str, old: &str, new: &str, who: &str) -> Change {
        let when = "2026-11-29T02:00:00Z".to_owned();
        Change { key: key.to_owned(), old: old.to_owned(), new: new.to_owned(), who: who.to_owned(), when }
    }

    fn rows(changes: &[Change]) -> Vec<String> {
        grouped(changes, |_| None)
            .iter()
            .map(|row| format!("{} {} → {} {}", row.key, row.old, row.new, row.who))
            .collect()
    }

    #[test]
    fn the_same_change_to_many_ports_is_one_row() {
        let mut changes = vec![change("defaults.baud", "", "9600", "root")];
        for n in 1..=48 {
            changes.push(change(&format!("ports.p{n:02}"), "", "new", "root"));
            changes.push(change(&format!("ports.p{n:02}.baud"), "9600", "115200", "root"));
            changes.push(change(&format!("ports.p{n:02}.ssh_port"), "", &format!("{}", 8099 + n), "root"));
        }
        changes.push(change("ports.p07.log.type", "text", "raw", "carol"));
        changes.push(change("ports.\"rack.1\".baud", "9600", "115200", "carol"));
        assert_eq!(
            rows(&changes),
            [
                "defaults.baud - → 9600 root",
                "ports.p[01-48] - → new root",
                "ports.p[01-48].baud 9600 → 115200 root",
                "ports.p[01-48].ssh_port - → 8100 … 8147 root",
                "ports.p07.log.type text → raw carol",
                "ports.\"rack.1\".baud 9600 → 115200 carol",
            ]
        );
        assert_eq!(each(&changes, |_| None).len(), changes.len());
        let p07 = Target::Port("p07".parse().unwrap());
        assert_eq!(changes.iter().filter(|change| is_of(change, &p07)).count(), 4);
        assert_eq!(changes.iter().filter(|change| is_of(change, &Target::Defaults)).count(), 1);
    }

    #[test]
    fn few_values_have_a_row_each_and_a_long_list_of_names_is_abbreviated() {
        let few: Vec<_> =
            (1..=3).map(|n| change(&format!("ports.p{n}.baud"), "9600", &n.to_string(), "root")).collect();
        assert_eq!(rows(&few).len(), 3);
        let many: Vec<_> =
            (1..=40).map(|n| change(&format!("ports.p{}.baud", 2 * n), "9600", "300", "root")).collect();
        assert_eq!(rows(&many), ["ports.(p2 … p80).baud, 40 ports 9600 → 300 root"]);
    }
}
