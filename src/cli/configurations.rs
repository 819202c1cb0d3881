//! The three configurations of a port or table, and how `show` prints them.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::summary::counted;
use super::table::table;
use super::target::Target;
use super::value::{self, Keys};
use crate::config::Value;
use crate::port::PortName;
use crate::port::pattern::fold;

/// The three configurations of a port or table.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Configurations {
    /// The candidate; empty for a removed port.
    pub candidate: Keys,
    /// The running configuration; empty for a port that was never reloaded.
    pub running: Keys,
    /// The configuration on disk; empty for a port that is not in it.
    pub committed: Keys,
    /// The table that each key of a port's candidate is from: `port`, `template cisco`, `defaults`, `built-in`.
    pub origins: BTreeMap<String, String>,
    /// The ports of each group, or its error.
    pub selected: BTreeMap<String, Result<Vec<PortName>, String>>,
}

/// The key that lists the ports of a template, among the keys of the template.
pub(super) const PORTS: &str = "ports";

/// Origins that are not shown: the port's own table, and the built-in default.
const HIDDEN_ORIGINS: [&str; 2] = ["port", "built-in"];

const UNCOMMITTED: &str = "*";
const UNLOADED: &str = "!";

impl Configurations {
    pub fn is_empty(&self) -> bool {
        [&self.candidate, &self.running, &self.committed].iter().all(|keys| keys.is_empty())
    }

    /// Prints the keys, with marks and a legend.
    pub fn show(&self, of: &Target, to: &mut impl Write) -> io::Result<()> {
        // A table always exists, even if it is empty.
        let is_port = matches!(of, Target::Port(_));
        let [created, unloaded, removed] =
            [&self.committed, &self.running, &self.candidate].map(|keys| is_port && keys.is_empty());
        let shown = match (removed, unloaded) {
            (false, _) => &self.candidate,
            (true, false) => &self.running,
            (true, true) => &self.committed,
        };
        let mut marks = String::new();
        let mut rows = Vec::new();
        for name in self.names(of) {
            let now = shown.get(name);
            let origin = self
                .origins
                .get(name)
                .filter(|origin| !removed && !HIDDEN_ORIGINS.contains(&origin.as_str()));
            let mut note: Vec<String> = origin.map(|origin| format!("from {origin}")).into_iter().collect();
            note.extend(self.selected.get(name).map(|ports| match ports {
                Ok(ports) => counted(ports),
                Err(why) => why.clone(),
            }));
            let mut mark = String::new();
            if !removed && !created && self.committed.get(name) != now {
                mark.push_str(UNCOMMITTED);
                note.push(format!("committed {}", cell(of, name, self.committed.get(name))));
            }
            if !removed && !unloaded && self.running.get(name) != now {
                mark.push_str(UNLOADED);
                note.push(format!("running {}", cell(of, name, self.running.get(name))));
            }
            marks.push_str(&mark);
            rows.push([name.to_owned(), cell(of, name, now), mark, note.join(", ")]);
        }
        table(&rows, to)?;
        for (mark, meaning) in
            [(UNCOMMITTED, "not committed"), (UNLOADED, "not running until the next reload")]
        {
            if marks.contains(mark) {
                writeln!(to, "{mark} {meaning}")?;
            }
        }
        match (removed, unloaded, created) {
            (true, false, _) => writeln!(to, "{of} will be removed by the next `reload {of}` or `commit`"),
            (true, true, _) => writeln!(to, "{of} is removed; `commit` makes it permanent"),
            (false, true, _) => writeln!(to, "{of} is new: `reload {of}` or `commit` opens it"),
            (false, false, true) => writeln!(to, "{of} is new and not committed"),
            (false, false, false) => Ok(()),
        }
    }

    pub fn json(&self, of: &Target) -> serde_json::Value {
        let mut shown = serde_json::json!({
            "name": of.to_string(),
            "candidate": value::json(&self.candidate),
            "running": value::json(&self.running),
            "committed": value::json(&self.committed),
        });
        let ports: BTreeMap<_, _> =
            self.selected.iter().filter_map(|(name, ports)| Some((name, ports.as_ref().ok()?))).collect();
        match of {
            Target::Port(_) => shown["origins"] = serde_json::json!(self.origins),
            Target::Groups => shown["ports"] = serde_json::json!(ports),
            _ => {}
        }
        shown
    }

    /// The keys of all three, in the order of the key table; unknown ones last.
    fn names(&self, of: &Target) -> Vec<&str> {
        let known = value::names(of);
        let all = [&self.candidate, &self.running, &self.committed];
        let stands = |name: &&str| all.iter().any(|keys| keys.contains_key(*name));
        let mut names: Vec<&str> = known.iter().copied().filter(stands).collect();
        for name in all.iter().flat_map(|keys| keys.keys()) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }
}

fn cell(of: &Target, name: &str, value: Option<&Value>) -> String {
    // The list of a template's ports.
    let is_ports = match of {
        Target::Templates => !name.contains('.'),
        Target::Template(_) => name == PORTS,
        _ => false,
    };
    if let (true, Some(list)) = (is_ports, value.and_then(Value::as_array)) {
        let ports: Vec<PortName> = list.iter().filter_map(|port| port.as_str()?.parse().ok()).collect();
        return if ports.is_empty() { "no ports".to_owned() } else { fold(&ports) };
    }
    match value.map(value::text) {
        None => "-".to_owned(),
        Some(text) if text.is_empty() => "\"\"".to_owned(),
        Some(text) => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(pairs: &[(&str, i64)]) -> Keys {
        pairs.iter().map(|(name, number)| ((*name).to_owned(), (*number).into())).collect()
    }

    fn shown(three: &Configurations) -> String {
        let mut out = Vec::new();
        three.show(&"ttyUSB0".parse().unwrap(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn uncommitted_and_not_running_values_are_marked() {
        let three = Configurations {
            candidate: keys(&[("baud", 115200), ("bytesize", 7), ("stopbits", 1)]),
            running: keys(&[("baud", 9600), ("bytesize", 7), ("stopbits", 1), ("timeout", 5)]),
            committed: keys(&[("baud", 9600), ("bytesize", 8), ("stopbits", 1), ("timeout", 5)]),
            ..Configurations::default()
        };
        let wanted = "\
            timeout   -       *!  committed 5, running 5\n\
            baud      115200  *!  committed 9600, running 9600\n\
            bytesize  7       *   committed 8\n\
            stopbits  1\n\
            * not committed\n\
            ! not running until the next reload\n";
        assert_eq!(shown(&three), wanted);
    }

    #[test]
    fn committed_values_have_no_marks_and_no_legend() {
        let same = keys(&[("baud", 9600)]);
        let three = Configurations {
            candidate: same.clone(),
            running: same.clone(),
            committed: same,
            ..Configurations::default()
        };
        assert_eq!(shown(&three), "baud  9600\n");
    }

    #[test]
    fn an_inherited_value_is_shown_with_its_origin() {
        let origins = [
            ("baud", "template cisco"),
            ("bytesize", "defaults"),
            ("stopbits", "built-in"),
            ("timeout", "port"),
        ];
        let running = keys(&[("baud", 9600), ("bytesize", 8), ("stopbits", 1), ("timeout", 5)]);
        let three = Configurations {
            candidate: keys(&[("baud", 115200), ("bytesize", 8), ("stopbits", 1), ("timeout", 5)]),
            committed: running.clone(),
            running,
            origins: origins.map(|(key, table)| (key.to_owned(), table.to_owned())).into(),
            ..Configurations::default()
        };
        let wanted = "\
            timeout   5\n\
            baud      115200  *!  from template cisco, committed 9600, running 9600\n\
            bytesize  8           from defaults\n\
            stopbits  1\n\
            * not committed\n\
            ! not running until the next reload\n";
        assert_eq!(shown(&three), wanted);
    }

    #[test]
    fn a_table_is_never_new_or_removed() {
        let shown = |three: Configurations| {
            let mut out = Vec::new();
            three.show(&Target::Defaults, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(shown(Configurations::default()), "");
        let wanted = "baud  115200  *!  committed -, running -\n* not committed\n! not running until the next reload\n";
        assert_eq!(
            shown(Configurations { candidate: keys(&[("baud", 115200)]), ..Configurations::default() }),
            wanted
        );
    }

    #[test]
    fn a_new_or_removed_port_is_reported_in_a_sentence() {
        let some = keys(&[("baud", 9600)]);
        let new = Configurations { candidate: some.clone(), ..Configurations::default() };
        assert_eq!(shown(&new), "baud  9600\nttyUSB0 is new: `reload ttyUSB0` or `commit` opens it\n");
        let reloaded =
            Configurations { candidate: some.clone(), running: some.clone(), ..Configurations::default() };
        assert_eq!(shown(&reloaded), "baud  9600\nttyUSB0 is new and not committed\n");
        let removed =
            Configurations { running: some.clone(), committed: some.clone(), ..Configurations::default() };
        assert_eq!(
            shown(&removed),
            "baud  9600\nttyUSB0 will be removed by the next `reload ttyUSB0` or `commit`\n"
        );
        let gone = Configurations { committed: some, ..Configurations::default() };
        assert_eq!(shown(&gone), "baud  9600\nttyUSB0 is removed; `commit` makes it permanent\n");
    }
}
