//! A configuration: read, written back, what it means for systemd, and what is saved of it once it is broken. Input: where
//! it is broken and how, then the text.

use std::path::{Component, Path};

use consoleserver::config::{Config, Port, changes, without_broken_tables};
use consoleserver::generator::{Entry, Machine, plan};
use consoleserver::port::PortName;
use toml::{Table, Value};

/// Lines of a sentence about a file.
const LINES_MAX: usize = 200;
/// Slips of the pen, on a line of their own.
const SLIPS: [&str; 8] = ["=", "x = \"", "x = [", "x = '", "[", "x = {", "a b = 1", "x = 08"];
/// What a unit may say.
const DIRECTIVES: [&str; 13] = [
    "ListenStream=",
    "SourcePath=/etc/consoleserver/config.toml",
    "Requires=console",
    "After=console",
    "BindIPv6Only=",
    "Description=Device of serial console ",
    "PartOf=console",
    "Wants=console",
    "StartLimitIntervalSec=0",
    "TriggerLimitIntervalSec=0",
    "DeviceAllow=char-",
    "PathExists=/",
    "# Made by console-generator",
];

/// See the module.
pub fn run(data: &[u8]) {
    let Some(([place, slip], text)) = data.split_first_chunk::<2>() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let read = Config::parse(text, Path::new("c"));
    assert_eq!(changes::candidate(text).is_ok(), read.is_ok(), "one reader");
    salvaged(text);
    match read {
        Ok(config) => {
            let written = config.to_toml();
            let again = Config::parse(&written, Path::new("w")).expect("ours");
            // It states each key at the port.
            assert_eq!(Config { own: config.own.clone(), ..again }, config, "{written}");
            units(&config);
            let saved = without_broken_tables(text);
            assert_eq!(saved.ports, config.ports, "of a right one everything is saved");
            assert_eq!(saved.server, config.server);
            broken(text, &config, *place, SLIPS[usize::from(*slip) % SLIPS.len()]);
        }
        Err(error) => {
            let error = error.to_string();
            assert!(error.lines().count() <= LINES_MAX && !error.is_empty());
            assert!(!error.contains(|c: char| c.is_control() && c != '\n'), "{error:?}");
        }
    }
}

/// No word of it gets anywhere but where it belongs.
fn units(config: &Config) {
    let plan = plan(
        config,
        Some(Path::new("/etc/consoleserver/config.toml")),
        &Machine::at(Path::new("/nonexistent")),
    );
    for (path, entry) in &plan.entries {
        assert!(
            path.components().all(|part| matches!(part, Component::Normal(name) if name.len() < 256)),
            "{path:?}"
        );
        assert!(path.components().count() <= 2);
        match entry {
            Entry::File(text) => {
                for line in text.lines() {
                    let known = line.is_empty()
                        || ["[Unit]", "[Socket]", "[Path]", "[Service]"].contains(&line)
                        || DIRECTIVES.iter().any(|directive| line.starts_with(directive));
                    assert!(known, "{line:?}");
                    assert!(
                        !line.contains(char::is_control) && !line.ends_with('\\') && line.trim_end() == line
                    );
                    assert!(!line.replace("%%", "").contains('%'), "{line:?}");
                }
            }
            Entry::Link(to) => {
                let to = to.to_str().expect("text");
                let unit = to.strip_prefix("/usr/lib/systemd/system/").or_else(|| to.strip_prefix("../"));
                assert!(unit.is_some_and(|unit| unit.starts_with("console") && !unit.contains('/')), "{to}");
            }
        }
    }
}

/// What opens a port.
fn listening<'c>(
    config: &'c Config,
    name: &PortName,
) -> Option<(bool, Option<u16>, &'c [consoleserver::config::Address])> {
    let port = config.ports.get(name)?;
    Some((port.enabled, port.ssh_port, config.listen(port)))
}

/// Fewer ports, never other ones, and those that are plainly said stay as they were.
fn broken(text: &str, config: &Config, place: u8, slip: &str) {
    // A slip could end or begin a text of many lines, and so make it say something else.
    if text.contains("\"\"\"") || text.contains("'''") {
        return;
    }
    let starts: Vec<usize> =
        std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let (before, after) = text.split_at(starts[usize::from(place) % starts.len()]);
    let text = format!("{before}{slip}\n{after}");
    if text.parse::<Table>().is_ok() {
        return;
    }
    let saved = without_broken_tables(&text);
    for name in saved.ports.keys() {
        assert_eq!(listening(&saved, name), listening(config, name), "{name} of\n{text}");
    }
    if let Some(tcp) = saved.server.ssh_port {
        assert_eq!((Some(tcp), &saved.server.listen), (config.server.ssh_port, &config.server.listen));
    }
}

/// Of what is TOML nothing is saved that does not listen just where its own words say.
fn salvaged(text: &str) {
    let Ok(tree) = text.parse::<Table>() else { return };
    let saved = without_broken_tables(text);
    let stated = |table: &str, key: &str| tree.get(table)?.get(key).cloned();
    for (name, port) in &saved.ports {
        let own = |key: &str| tree["ports"][name.as_str()].get(key).cloned();
        let template = |key: &str| tree.get("templates")?.get(own("like")?.as_str()?)?.get(key).cloned();
        let above = |key: &str| own(key).or_else(|| template(key)).or_else(|| stated("defaults", key));
        let enabled = above("enabled");
        assert_eq!(Value::Boolean(port.enabled), enabled.unwrap_or(Value::Boolean(true)), "{name}");
        match own("ssh_port") {
            Some(Value::Integer(number)) => assert_eq!(port.ssh_port.map(i64::from), Some(number)),
            Some(other) => assert_eq!((port.ssh_port, other), (None, Value::String("none".to_owned()))),
            None => assert_eq!(port.ssh_port, None),
        }
        let listen = above("listen").or_else(|| stated("server", "listen"));
        if let Some(listen) = listen {
            let mut wanted = Port::default();
            let key = consoleserver::config::keys::find(consoleserver::config::keys::PORT, "listen")
                .expect("a key");
            key.put(&mut wanted, &listen).expect("it is plain where it listens");
            assert_eq!(Some(saved.listen(port)), wanted.listen.as_deref(), "{name}");
        }
    }
}
