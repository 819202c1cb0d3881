//! Output of `list`, `status` and `who`, as a table or as JSON.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::adapters::Adapter;
use super::service::PortView;
use super::summary::counted;
use super::table::{fitted, width, width_of_rows, wrapped};
use super::value;
use crate::admin::bus::Session;
use crate::port::PortName;
use crate::session::plain;
use crate::system::clock::{clock, date_and_clock};

/// A row of `list`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Listed {
    port: PortName,
    plugged: bool,
    /// `9600 8N1`
    settings: String,
    ssh_port: Option<u16>,
    enabled: bool,
    state: String,
    description: String,
}

impl Listed {
    /// `monitor` is the directory in which ports without a `device` appear.
    pub fn new(port: PortName, view: &PortView, monitor: &std::path::Path) -> Self {
        let keys = value::port(view.effective());
        let device = keys.device.clone().unwrap_or_else(|| monitor.join(port.as_str()));
        // Only the port knows whether the far end is connected.
        let plugged = match &keys.source {
            Some(_) => view.state == "open",
            None => device.exists(),
        };
        let settings = keys.source.as_ref().map_or_else(|| keys.line.to_string(), ToString::to_string);
        let state = match (view.keys.running.is_empty(), view.keys.candidate.is_empty()) {
            (true, true) => "removed, not committed".to_owned(),
            (true, false) => "new, not reloaded".to_owned(),
            (false, _) if !keys.enabled && view.state == NOT_RUNNING => "not enabled".to_owned(),
            (false, _) => view.state.clone(),
        };
        Self {
            port,
            plugged,
            settings,
            ssh_port: keys.ssh_port,
            enabled: keys.enabled,
            state,
            description: keys.description,
        }
    }

    fn row(&self) -> [String; 6] {
        let ssh_port = self.ssh_port.map_or("-".to_owned(), |port| port.to_string());
        let plugged = if self.plugged { "yes" } else { "no" }.to_owned();
        let Self { port, settings, description, .. } = self;
        [port.to_string(), plugged, settings.clone(), ssh_port, self.state().0, description.clone()]
    }

    /// The row for a table without sentences below it.
    pub fn whole_row(&self) -> [String; 6] {
        let mut row = self.row();
        row[4].clone_from(&self.state);
        row
    }

    /// The state in a word or two, and the sentence below the table if there is one.
    fn state(&self) -> (String, Option<&str>) {
        /// `unplugged since 2026-11-28 12:01`
        const SHORT: usize = 32;
        let (first, more) = self
            .state
            .split_once("; ")
            .map_or((self.state.as_str(), None), |(first, more)| (first, Some(more)));
        match (first.chars().count() <= SHORT, more) {
            (true, None) => (first.to_owned(), None),
            (true, Some(more)) => (format!("{first} *"), Some(more)),
            (false, _) => ("error *".to_owned(), Some(self.state.as_str())),
        }
    }
}

/// The columns of `list`.
pub const LIST_HEADING: [&str; 6] = ["PORT", "PLUGGED", "SETTINGS", "SSH", "STATE", "DESCRIPTION"];
/// The columns of `status`.
pub const STATUS_HEADING: [&str; 7] = ["PORT", "SETTINGS", "IN", "OUT", "ERRORS", "USERS", "STATE"];
/// The columns of `who`.
pub const WHO_HEADING: [&str; 5] = ["PORT", "USER", "FROM", "SINCE", "ROLE"];

/// The state of a closed port.
pub const NOT_RUNNING: &str = "not running";

pub fn list(ports: &[Listed], as_json: bool, to: &mut impl Write) -> io::Result<()> {
    if as_json {
        return json(&ports, to);
    }
    let heading = LIST_HEADING.map(str::to_owned);
    let rows: Vec<_> = std::iter::once(heading).chain(ports.iter().map(Listed::row)).collect();
    fitted(&rows, width(), to)?;
    // One fault often has many ports: it is printed once.
    let mut reasons: Vec<(&str, Vec<PortName>)> = Vec::new();
    for port in ports {
        if let (_, Some(reason)) = port.state() {
            match reasons.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, affected)) => affected.push(port.port.clone()),
                None => reasons.push((reason, vec![port.port.clone()])),
            }
        }
    }
    for (reason, affected) in reasons {
        let text = plain(&format!("{}: {reason}", counted(&affected)));
        for (number, line) in wrapped(&text, width() - 2).iter().enumerate() {
            writeln!(to, "{} {line}", if number == 0 { "*" } else { " " })?;
        }
    }
    Ok(())
}

/// `list --unconfigured`
pub fn adapters(adapters: &[Adapter], as_json: bool, to: &mut impl Write) -> io::Result<()> {
    if as_json {
        return json(&adapters, to);
    }
    for adapter in adapters {
        for line in adapter.lines() {
            writeln!(to, "{}", plain(&line))?;
        }
    }
    match adapters.is_empty() {
        true => writeln!(to, "no unconfigured adapters"),
        false => {
            writeln!(
                to,
                "next: `create NAME`, `device NAME PATH`, `commit`; or `learn NAME`, then plug it in"
            )
        }
    }
}

/// A row of `status`.
#[derive(Debug, Serialize, Deserialize)]
pub struct PortStatus {
    pub port: PortName,
    /// `9600 8N1`; `None` if the port did not answer.
    pub settings: Option<String>,
    /// Bytes received from the device.
    pub received: Option<u64>,
    pub sent: Option<u64>,
    /// Line errors; `None` if the driver does not count them.
    pub errors: Option<u64>,
    pub users: Vec<Session>,
    /// `open`, or a sentence.
    pub state: String,
}

impl PortStatus {
    /// A port of which only the state is known.
    pub fn blank(port: PortName, state: String) -> Self {
        Self { port, settings: None, received: None, sent: None, errors: None, users: Vec::new(), state }
    }

    /// Whether the port runs and did not answer the caller.
    pub fn is_unknown(&self) -> bool {
        self.settings.is_none() && self.state != NOT_RUNNING
    }

    /// The status that console-admin reports.
    pub fn new(port: PortName, view: &PortView, users: Vec<Session>) -> Self {
        let settings = Some(value::port(view.effective()).line.to_string());
        let state = view.state.clone();
        Self {
            port,
            settings,
            received: Some(view.received),
            sent: Some(view.sent),
            errors: view.errors,
            users,
            state,
        }
    }

    pub fn row(&self) -> [String; 7] {
        let number = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
        let users: Vec<String> = self.users.iter().map(user).collect();
        [
            self.port.to_string(),
            self.settings.clone().unwrap_or_else(|| "-".to_owned()),
            number(self.received),
            number(self.sent),
            number(self.errors),
            if users.is_empty() { "-".to_owned() } else { users.join(", ") },
            self.state.clone(),
        ]
    }
}

fn user(Session { user, from, since, writes }: &Session) -> String {
    format!("{user} ({from}, {} since {})", role(*writes), formatted_time(since, clock))
}

fn role(writes: bool) -> &'static str {
    if writes { "writing" } else { "watching" }
}

/// A timestamp in RFC 3339, formatted; anything else unchanged.
pub(super) fn formatted_time(since: &str, show: fn(jiff::Timestamp) -> String) -> String {
    since.parse().map_or_else(|_| since.to_owned(), show)
}

pub fn status(ports: &[PortStatus], as_json: bool, to: &mut impl Write) -> io::Result<()> {
    if as_json {
        return json(&ports, to);
    }
    let heading = STATUS_HEADING.map(str::to_owned);
    let rows: Vec<_> = std::iter::once(heading).chain(ports.iter().map(PortStatus::row)).collect();
    fitted(&rows, width_of_rows(), to)
}

pub fn who(ports: &[PortStatus], as_json: bool, to: &mut impl Write) -> io::Result<()> {
    #[derive(Serialize)]
    struct AtPort<'a> {
        port: &'a PortName,
        #[serde(flatten)]
        session: &'a Session,
    }
    let at = |port| {
        let PortStatus { port, users, .. }: &PortStatus = port;
        users.iter().map(move |session| AtPort { port, session })
    };
    let all: Vec<_> = ports.iter().flat_map(at).collect();
    if as_json {
        return json(&all, to);
    }
    let row = |AtPort { port, session }: &AtPort<'_>| who_row(port, session);
    let heading = WHO_HEADING.map(str::to_owned);
    let rows: Vec<_> = std::iter::once(heading).chain(all.iter().map(row)).collect();
    fitted(&rows, width_of_rows(), to)
}

pub fn who_row(port: &PortName, session: &Session) -> [String; 5] {
    let since = formatted_time(&session.since, date_and_clock);
    [port.to_string(), session.user.clone(), session.from.clone(), since, role(session.writes).to_owned()]
}

/// Prints one line of JSON.
pub fn json(value: &impl Serialize, to: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *to, value)?;
    writeln!(to)
}

#[cfg(test)]
mod tests {
    use super::super::commands::diff;
    use super::*;
    use crate::admin::bus::Change;

    fn at_port(user: &str) -> PortStatus {
        let since = "1970-01-01T00:00:00Z".to_owned();
        let users = vec![Session { user: user.to_owned(), from: "local".to_owned(), since, writes: true }];
        PortStatus { users, ..PortStatus::blank("demo".parse().unwrap(), "open; two\nlines".to_owned()) }
    }

    fn printed(say: impl Fn(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        say(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn control_characters_are_replaced_in_every_table() {
        let ports = [at_port("a\x1b[2Jb\n")];
        let table = printed(|out| status(&ports, false, out));
        assert!(table.contains("a?[2Jb? (local, writing since "), "{table:?}");
        assert!(table.ends_with("open; two?lines\n"), "{table:?}");
        assert_eq!(table.lines().count(), 2);
        let table = printed(|out| who(&ports, false, out));
        assert!(table.contains("demo  a?[2Jb?  local  "), "{table:?}");
        let change = Change {
            key: "ports.demo.description".to_owned(),
            old: String::new(),
            new: "\"\x1b]0;x\x07\"".to_owned(),
            who: "eve\x1b".to_owned(),
            when: "later\r".to_owned(),
        };
        let table = printed(|out| diff::table(&diff::each(std::slice::from_ref(&change), |_| None), out));
        assert!(table.contains("ports.demo.description  -          \"?]0;x?\"  eve?  later?\n"), "{table:?}");
    }

    #[test]
    fn list_fits_80_columns_and_prints_reasons_below() {
        let listed = |name: &str, state: &str, description: &str| Listed {
            port: name.parse().unwrap(),
            plugged: true,
            settings: "115200 8N1 RTS/CTS XON/XOFF".to_owned(),
            ssh_port: Some(8023),
            enabled: true,
            state: state.to_owned(),
            description: description.to_owned(),
        };
        let held = "/dev/ttyUSB1 is in use by another program: `fuser /dev/ttyUSB1` shows which";
        let ports = [
            listed("core", "open", "x y z"),
            listed("edge", held, &"label ".repeat(13)),
            listed(&"p".repeat(32), "open; cannot write the log: No space left on device", ""),
        ];
        let table = printed(|out| list(&ports, false, out));
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
        let flat = table.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(&format!("* edge: {held} ")), "{table}");
        assert!(flat.ends_with("pppp: cannot write the log: No space left on device"), "{table}");
        assert!(table.contains("error *") && table.contains("open *"), "{table}");
        let same = [listed("p1", held, ""), listed("p2", held, ""), listed("p3", held, "")];
        let once = printed(|out| list(&same, false, out)).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(once.ends_with(&format!("* 3 ports (p1 … p3): {held}")), "{once}");
        let quiet = printed(|out| list(&ports[..1], false, out));
        assert_eq!(quiet.lines().count(), 2, "{quiet}");
    }

    #[test]
    fn json_is_one_line_and_parses() {
        let ports = [at_port("a\x1bb")];
        let line = printed(|out| who(&ports, true, out));
        assert_eq!(line.lines().count(), 1);
        let back: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(back[0]["port"], "demo");
        assert_eq!(back[0]["user"], "a\x1bb");
        assert_eq!(back[0]["writes"], true);
        let line = printed(|out| status(&ports, true, out));
        let back: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(back[0]["received"].is_null());
        assert_eq!(back[0]["users"][0]["from"], "local");
    }
}
