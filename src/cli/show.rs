//! `show`: one `key value` a line, what runs otherwise and what is not committed marked.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::select::counted;
use super::service::PORTS;
use super::table::table;
use super::tree::Target;
use super::value::{self, Keys};
use crate::config::Value;
use crate::port::PortName;
use crate::port::pattern::fold;

/// The three states of a port or table.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Three {
    /// As the next reload would have it; empty if a port is to be removed.
    pub candidate: Keys,
    /// As it runs; empty if a port was never reloaded.
    pub running: Keys,
    /// As it is on the disk; empty if a port is not there.
    pub committed: Keys,
    /// Which table each key of a port's candidate is from: `port`, `template cisco`, `defaults`, `built-in`.
    pub origins: BTreeMap<String, String>,
    /// The ports of each group, or why none can be selected.
    pub selected: BTreeMap<String, Result<Vec<PortName>, String>>,
}

/// What needs no word in `show`: a key of the port itself, and one that no table has.
const OWN: [&str; 2] = ["port", "built-in"];

const UNCOMMITTED: &str = "*";
const UNLOADED: &str = "!";

impl Three {
    /// Whether nothing stands anywhere.
    pub fn is_empty(&self) -> bool {
        [&self.candidate, &self.running, &self.committed].iter().all(|keys| keys.is_empty())
    }

    /// For people.
    pub fn show(&self, of: &Target, to: &mut impl Write) -> io::Result<()> {
        // A table of the whole is always there, even if nothing stands in it.
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
            let origin = self.origins.get(name).filter(|origin| !removed && !OWN.contains(&origin.as_str()));
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
                note.push(format!("runs with {}", cell(of, name, self.running.get(name))));
            }
            marks.push_str(&mark);
            rows.push([name.to_owned(), cell(of, name, now), mark, note.join(", ")]);
        }
        table(&rows, to)?;
        for (mark, meaning) in
            [(UNCOMMITTED, "not committed"), (UNLOADED, "runs otherwise until the next reload")]
        {
            if marks.contains(mark) {
                writeln!(to, "{mark} {meaning}")?;
            }
        }
        match (removed, unloaded, created) {
            (true, false, _) => writeln!(to, "{of} is removed at the next `reload {of}` or `commit`"),
            (true, true, _) => writeln!(to, "{of} is removed; `commit` makes it so for good"),
            (false, true, _) => writeln!(to, "{of} is new: `reload {of}` or `commit` makes it run"),
            (false, false, true) => writeln!(to, "{of} is new, and not committed"),
            (false, false, false) => Ok(()),
        }
    }

    /// As JSON.
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

    /// Those that stand anywhere, in the order of the table of keys; ones of a later version last.
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
    // The ports that are like a template.
    let is_ports = match of {
        Target::Templates => !name.contains('.'),
        Target::Template(_) => name == PORTS,
        _ => false,
    };
    if let (true, Some(list)) = (is_ports, value.and_then(Value::as_array)) {
        let ports: Vec<PortName> = list.iter().filter_map(|port| port.as_str()?.parse().ok()).collect();
        return if ports.is_empty() { "no port is like it".to_owned() } else { fold(&ports) };
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

    fn shown(three: &Three) -> String {
        let mut out = Vec::new();
        three.show(&"ttyUSB0".parse().unwrap(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_runs_otherwise_and_what_is_not_committed_is_marked() {
        let three = Three {
            candidate: keys(&[("baud", 115200), ("bytesize", 7), ("stopbits", 1)]),
            running: keys(&[("baud", 9600), ("bytesize", 7), ("stopbits", 1), ("timeout", 5)]),
            committed: keys(&[("baud", 9600), ("bytesize", 8), ("stopbits", 1), ("timeout", 5)]),
            ..Three::default()
        };
        let wanted = "\
            timeout   -       *!  committed 5, runs with 5\n\
            baud      115200  *!  committed 9600, runs with 9600\n\
            bytesize  7       *   committed 8\n\
            stopbits  1\n\
            * not committed\n\
            ! runs otherwise until the next reload\n";
        assert_eq!(shown(&three), wanted);
    }

    #[test]
    fn what_is_as_committed_has_no_marks_and_no_legend() {
        let same = keys(&[("baud", 9600)]);
        let three =
            Three { candidate: same.clone(), running: same.clone(), committed: same, ..Three::default() };
        assert_eq!(shown(&three), "baud  9600\n");
    }

    #[test]
    fn a_value_that_is_inherited_has_the_table_that_it_is_from_beside_it() {
        let origins = [
            ("baud", "template cisco"),
            ("bytesize", "defaults"),
            ("stopbits", "built-in"),
            ("timeout", "port"),
        ];
        let running = keys(&[("baud", 9600), ("bytesize", 8), ("stopbits", 1), ("timeout", 5)]);
        let three = Three {
            candidate: keys(&[("baud", 115200), ("bytesize", 8), ("stopbits", 1), ("timeout", 5)]),
            committed: running.clone(),
            running,
            origins: origins.map(|(key, table)| (key.to_owned(), table.to_owned())).into(),
            ..Three::default()
        };
        let wanted = "\
            timeout   5\n\
            baud      115200  *!  from template cisco, committed 9600, runs with 9600\n\
            bytesize  8           from defaults\n\
            stopbits  1\n\
            * not committed\n\
            ! runs otherwise until the next reload\n";
        assert_eq!(shown(&three), wanted);
    }

    #[test]
    fn a_table_of_the_whole_neither_comes_nor_goes() {
        let shown = |three: Three| {
            let mut out = Vec::new();
            three.show(&Target::Defaults, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(shown(Three::default()), "");
        let wanted = "baud  115200  *!  committed -, runs with -\n* not committed\n! runs otherwise until the next reload\n";
        assert_eq!(shown(Three { candidate: keys(&[("baud", 115200)]), ..Three::default() }), wanted);
    }

    #[test]
    fn a_new_port_and_a_removed_one_say_so_in_a_sentence() {
        let some = keys(&[("baud", 9600)]);
        let new = Three { candidate: some.clone(), ..Three::default() };
        assert_eq!(shown(&new), "baud  9600\nttyUSB0 is new: `reload ttyUSB0` or `commit` makes it run\n");
        let reloaded = Three { candidate: some.clone(), running: some.clone(), ..Three::default() };
        assert_eq!(shown(&reloaded), "baud  9600\nttyUSB0 is new, and not committed\n");
        let removed = Three { running: some.clone(), committed: some.clone(), ..Three::default() };
        assert_eq!(
            shown(&removed),
            "baud  9600\nttyUSB0 is removed at the next `reload ttyUSB0` or `commit`\n"
        );
        let gone = Three { committed: some, ..Three::default() };
        assert_eq!(shown(&gone), "baud  9600\nttyUSB0 is removed; `commit` makes it so for good\n");
    }
}
