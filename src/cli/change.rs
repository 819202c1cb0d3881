//! `set`, `unset`, `create` and `remove` for one or several ports: a command changes everything or nothing, and prints what it changed.

use std::collections::BTreeMap;
use std::io::Write;

use super::assign::{self, Assignment};
use super::client::{Client, Done, warn};
use super::heirs::{heirs, is_inherited};
use super::select::counted;
use super::service::{ServiceError, sentence, unknown_port};
use super::show::Three;
use super::targets::Targets;
use super::tree::{Creation, Named, Setting, Target};
use super::value::{self, ValueError};
use crate::admin::wire;
use crate::config::Value;
use crate::port::PortName;
use crate::port::pattern::fold;

/// Lines printed for the changes of one key; more are summarized.
const MAX_LINES_PER_KEY: usize = 4;

/// A key before and after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Effect {
    port: Option<PortName>,
    /// The ports that inherit it.
    heirs: Vec<PortName>,
    key: String,
    old: String,
    new: String,
    /// Whether a reload is needed to apply it.
    pending: bool,
}

impl Client {
    /// The ports or tables of a command, with their keys before the change.
    async fn before(&self, of: &Targets) -> Done<Vec<(Target, Three)>> {
        let Targets::Ports(pattern) = of else {
            let target = of.kind();
            let keys = self.service().await?.keys(&target).await?;
            return Ok(vec![(target, keys)]);
        };
        let ports = self.select(std::slice::from_ref(pattern)).await?;
        self.keys_of(ports.into_iter().map(Target::Port).collect()).await
    }

    /// The keys of several ports or tables, in few D-Bus calls.
    pub(super) async fn keys_of(&self, targets: Vec<Target>) -> Done<Vec<(Target, Three)>> {
        let service = self.service().await?;
        if let [only] = targets.as_slice() {
            return Ok(vec![(only.clone(), service.keys(only).await?)]);
        }
        let mut ports = service.ports().await?;
        let names: Vec<PortName> = ports.keys().cloned().collect();
        let mut all = Vec::with_capacity(targets.len());
        for target in targets {
            let keys = match &target {
                Target::Port(port) => ports.remove(port).ok_or_else(|| unknown_port(port, &names))?.keys,
                table => service.keys(table).await?,
            };
            all.push((target, keys));
        }
        Ok(all)
    }

    /// `set`, and the shorthands of it.
    pub(super) async fn set(&self, Setting { of, key, words }: Setting, to: &mut impl Write) -> Done {
        let assignments = assign::of_set(&key, &words)?;
        // An invalid key or value is reported even without console-admin.
        check(&of.kind(), &assignments)?;
        let before = self.before(&of).await?;
        let targets: Vec<Target> = before.iter().map(|(target, _)| target.clone()).collect();
        let values = values(&targets, &assignments)?;
        self.put(&[], &values, &targets).await?;
        let keys: Vec<&str> = assignments.iter().map(|assignment| assignment.key.as_str()).collect();
        self.print_effects(before, &keys, to).await?;
        match (&of, keys.contains(&"authorized_keys_command")) {
            (Targets::Table(Target::Access), true) => self.confirm_command(to).await,
            _ => Ok(()),
        }
    }

    /// `unset`
    pub(super) async fn unset(&self, of: &Targets, keys: &[String], to: &mut impl Write) -> Done {
        for key in keys {
            value::check_key(&of.kind(), key)?;
        }
        let before = self.before(of).await?;
        for (target, keys) in &before {
            self.service().await?.check_exists(target, keys).await?;
        }
        let paths: Vec<(String, String)> =
            before.iter().flat_map(|(target, _)| keys.iter().map(move |key| address(target, key))).collect();
        let paths: Vec<(&str, &str)> =
            paths.iter().map(|(port, key)| (port.as_str(), key.as_str())).collect();
        let unset = self.service().await?.manager.unset_many(&paths, self.revision()).await;
        let targets: Vec<Target> = before.iter().map(|(target, _)| target.clone()).collect();
        warn(self.of(&targets, unset).await?)?;
        self.print_effects(before, &keys.iter().map(String::as_str).collect::<Vec<_>>(), to).await
    }

    /// `create`
    pub(super) async fn create(&self, creation: &Creation, to: &mut impl Write) -> Done {
        let Creation { ports, like, first_port, words } = creation;
        let names = ports.names().ok_or_else(|| ValueError::NotNames(ports.to_string()))?;
        let mut assignments = assign::of_words(words.iter().map(String::as_str))?;
        if let Some(template) = like {
            assignments.insert(0, Assignment { key: "like".to_owned(), words: vec![template.clone()] });
        }
        let targets: Vec<Target> = names.iter().cloned().map(Target::Port).collect();
        check(&targets[0], &assignments)?;
        let mut values = values(&targets, &assignments)?;
        if let Some(first) = first_port {
            if assignments.iter().any(|assignment| assignment.key == "ssh_port") {
                return Err(ValueError::Twice("ssh_port".to_owned()).into());
            }
            let free = self.free_ports(*first, names.len()).await?;
            assignments.push(Assignment { key: "ssh_port".to_owned(), words: Vec::new() });
            values.extend(targets.iter().zip(free).map(|(target, tcp)| {
                let (port, key) = address(target, "ssh_port");
                (port, key, Value::Integer(tcp.into()))
            }));
        }
        let made: Vec<&str> = names.iter().map(PortName::as_str).collect();
        self.put(&made, &values, &[]).await?;
        self.changed().await?;
        let with: Vec<String> = assignments
            .iter()
            .map(|Assignment { key, .. }| {
                let own =
                    |(_, path, value): &(String, String, Value)| (path == key).then(|| value::text(value));
                format!("{key} {}", span(&values.iter().filter_map(own).collect::<Vec<_>>()))
            })
            .collect();
        let with = if with.is_empty() { String::new() } else { format!(" ({})", with.join(", ")) };
        match names.as_slice() {
            [port] => writeln!(to, "{port} created{with}: `reload {port}` or `commit` opens it"),
            ports => writeln!(
                to,
                "{} created{with}: `reload {}` or `commit` opens them",
                counted(ports),
                fold(ports)
            ),
        }?;
        Ok(())
    }

    /// `count` TCP ports, from `first` up, that neither a port nor the server uses.
    async fn free_ports(&self, first: u16, count: usize) -> Done<Vec<u16>> {
        let service = self.service().await?;
        let (ports, server) = tokio::try_join!(service.ports(), service.keys(&Target::Server))?;
        let all = ports.values().map(|view| &view.keys).chain([&server]);
        let taken: Vec<i64> = all
            .flat_map(|three| [&three.candidate, &three.running, &three.committed])
            .filter_map(|keys| keys.get("ssh_port")?.as_integer())
            .collect();
        let free: Vec<u16> =
            (first..=u16::MAX).filter(|port| !taken.contains(&i64::from(*port))).take(count).collect();
        match free.len() == count {
            true => Ok(free),
            false => Err(ValueError::NoMorePorts { first, count }.into()),
        }
    }

    /// `remove`
    pub(super) async fn remove(&self, Named { ports }: &Named, to: &mut impl Write) -> Done {
        let ports = self.select(ports).await?;
        let names: Vec<&str> = ports.iter().map(PortName::as_str).collect();
        let removed = self.service().await?.manager.remove_ports(&names, self.revision()).await;
        warn(self.of(&ports.iter().cloned().map(Target::Port).collect::<Vec<_>>(), removed).await?)?;
        self.changed().await?;
        match ports.as_slice() {
            [port] => writeln!(to, "{port} will be removed by the next `reload {port}` or `commit`"),
            ports => writeln!(
                to,
                "{} will be removed by the next `reload {}` or `commit`",
                counted(ports),
                fold(ports)
            ),
        }?;
        Ok(())
    }

    async fn put(&self, made: &[&str], values: &[(String, String, Value)], targets: &[Target]) -> Done {
        let sent: Vec<_> = values
            .iter()
            .map(|(port, key, value)| {
                let sent = wire::to_bus(value).ok_or_else(|| ValueError::NotSent(value::text(value)))?;
                Ok((port.as_str(), key.as_str(), sent))
            })
            .collect::<Result<_, ValueError>>()?;
        let sent: Vec<_> = sent.iter().map(|(port, key, value)| (*port, *key, &**value)).collect();
        let put = self.service().await?.manager.set_many(made, &sent, self.revision()).await;
        warn(self.of(targets, put).await?)
    }

    /// The result of a call; the error of an unknown port names the nearest ones.
    pub(super) async fn of<T>(&self, of: &[Target], result: zbus::Result<T>) -> Done<T> {
        let error = match result.map_err(sentence) {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        if let ServiceError::Failed(words) = &error {
            for target in of {
                if let Target::Port(port) = target
                    && words.starts_with(&format!("there is no port {port}:"))
                {
                    return Err(unknown_port(port, &self.service().await?.names().await?).into());
                }
            }
        }
        Err(error.into())
    }

    /// Prints what the change did to these keys.
    async fn print_effects(&self, before: Vec<(Target, Three)>, keys: &[&str], to: &mut impl Write) -> Done {
        self.changed().await?;
        let after = self.keys_of(before.iter().map(|(target, _)| target.clone()).collect()).await?;
        let ports = match before.iter().any(|(target, _)| is_inherited(&format!("{target}."))) {
            true => self.service().await?.ports().await?,
            false => BTreeMap::new(),
        };
        let mut effects = Vec::new();
        for ((target, before), (_, after)) in before.iter().zip(&after) {
            for key in keys {
                let text = |keys: &value::Keys| keys.get(*key).map_or("-".to_owned(), shown);
                effects.push(match target {
                    Target::Port(port) => Effect {
                        heirs: Vec::new(),
                        port: Some(port.clone()),
                        key: (*key).to_owned(),
                        old: text(&before.candidate),
                        new: text(&after.candidate),
                        pending: after.running.get(*key) != after.candidate.get(*key),
                    },
                    table => Effect {
                        heirs: heirs(&format!("{table}.{key}"), &ports).unwrap_or_default(),
                        port: None,
                        key: format!("{table}.{key}"),
                        old: text(&before.candidate),
                        new: text(&after.candidate),
                        pending: after.running.get(*key) != after.candidate.get(*key),
                    },
                });
            }
        }
        for line in summary(&effects) {
            writeln!(to, "{}", crate::session::plain(&line))?;
        }
        Ok(())
    }
}

fn shown(value: &Value) -> String {
    match value::text(value) {
        text if text.is_empty() => "\"\"".to_owned(),
        text => text,
    }
}

/// The address of a key in the D-Bus calls `SetMany` and `UnsetMany`.
pub(super) fn address(of: &Target, key: &str) -> (String, String) {
    match of {
        Target::Port(port) => (port.to_string(), key.to_owned()),
        table => (String::new(), format!("{table}.{key}")),
    }
}

/// Checks each key, and its value unless that has brackets, which are expanded per port.
fn check(of: &Target, assignments: &[Assignment]) -> Result<(), ValueError> {
    for Assignment { key, words } in assignments {
        match words.iter().any(|word| word.contains('[')) {
            true => value::check_key(of, key)?,
            false => value::parse(of, key, words).map(drop)?,
        }
    }
    Ok(())
}

/// The values of each port or table, with their D-Bus addresses.
fn values(
    targets: &[Target],
    assignments: &[Assignment],
) -> Result<Vec<(String, String, Value)>, ValueError> {
    let ports: Vec<PortName> = targets
        .iter()
        .filter_map(|target| match target {
            Target::Port(port) => Some(port.clone()),
            _ => None,
        })
        .collect();
    let mut values = Vec::with_capacity(targets.len() * assignments.len());
    for assignment in assignments {
        let words = match ports.is_empty() {
            true => vec![assignment.words.clone(); targets.len()],
            false => assignment.for_ports(&ports)?,
        };
        for (target, words) in targets.iter().zip(words) {
            let value = value::parse(target, &assignment.key, &words)?;
            let (port, key) = address(target, &assignment.key);
            values.push((port, key, value));
        }
    }
    Ok(values)
}

/// One value, or the first and the last of different ones.
pub(super) fn span(values: &[String]) -> String {
    match values {
        [] => "-".to_owned(),
        [first, rest @ ..] => match rest.last() {
            Some(last) if rest.iter().any(|value| value != first) => format!("{first} … {last}"),
            _ => first.clone(),
        },
    }
}

/// `baud: 9600 → 115200 at 48 ports (p01 … p48)`: one line per key, or a few if the ports differ.
fn summary(effects: &[Effect]) -> Vec<String> {
    let mut keys: Vec<&str> = Vec::new();
    let mut changes: BTreeMap<&str, Vec<(&Effect, Vec<PortName>)>> = BTreeMap::new();
    for effect in effects {
        if !keys.contains(&effect.key.as_str()) {
            keys.push(&effect.key);
        }
        let of_key = changes.entry(&effect.key).or_default();
        let same = |(other, _): &&mut (&Effect, Vec<PortName>)| {
            (&other.old, &other.new) == (&effect.old, &effect.new)
        };
        match of_key.iter_mut().find(same) {
            Some((_, ports)) => ports.extend(effect.port.clone()),
            None => of_key.push((effect, effect.port.iter().chain(&effect.heirs).cloned().collect())),
        }
    }
    let at =
        |ports: &[PortName]| if ports.is_empty() { String::new() } else { format!(" at {}", counted(ports)) };
    let mut lines = Vec::new();
    for key in keys {
        let of_key = &changes[key];
        if of_key.len() > MAX_LINES_PER_KEY {
            let all = |part: fn(&Effect) -> &String| {
                span(&of_key.iter().map(|(effect, _)| part(effect).clone()).collect::<Vec<_>>())
            };
            let ports: Vec<PortName> = of_key.iter().flat_map(|(_, ports)| ports.clone()).collect();
            let (old, new) = (all(|effect| &effect.old), all(|effect| &effect.new));
            lines.push(format!("{key}: {old} → {new}{}", at(&ports)));
            continue;
        }
        for (effect, ports) in of_key {
            lines.push(match effect.old == effect.new {
                true => format!("{key}: already {}{}", effect.new, at(ports)),
                false => format!("{key}: {} → {}{}", effect.old, effect.new, at(ports)),
            });
        }
    }
    if let (true, Some(last)) = (effects.iter().any(|effect| effect.pending), lines.last_mut()) {
        last.push_str("; `reload` or `commit` applies it");
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::PortPattern;

    fn effects(
        key: &str,
        ports: &str,
        old: impl Fn(usize) -> String,
        new: impl Fn(usize) -> String,
    ) -> Vec<Effect> {
        let names = ports.parse::<PortPattern>().unwrap().names().unwrap();
        let effect = |(index, port)| Effect {
            heirs: Vec::new(),
            port: Some(port),
            key: key.to_owned(),
            old: old(index),
            new: new(index),
            pending: false,
        };
        names.into_iter().enumerate().map(effect).collect()
    }

    #[test]
    fn a_change_of_several_ports_is_summarized() {
        let text = |text: &'static str| move |_: usize| text.to_owned();
        let said = |effects: &[Effect]| summary(effects).join("\n");
        assert_eq!(
            said(&effects("baud", "p[01-48]", text("9600"), text("115200"))),
            "baud: 9600 → 115200 at 48 ports (p01 … p48)"
        );
        assert_eq!(said(&effects("baud", "p1", text("9600"), text("115200"))), "baud: 9600 → 115200 at p1");
        let differing = effects("baud", "p[1-3]", |n| ["1", "2", "3"][n].to_owned(), text("2"));
        assert_eq!(said(&differing), "baud: 1 → 2 at p1\nbaud: already 2 at p2\nbaud: 3 → 2 at p3");
        let own = effects("ssh_port", "p[01-48]", text("none"), |n| (8100 + n).to_string());
        assert_eq!(said(&own), "ssh_port: none → 8100 … 8147 at 48 ports (p01 … p48)");
        let mut unapplied = effects("baud", "p[1-2]", text("1"), text("2"));
        unapplied[0].pending = true;
        assert_eq!(said(&unapplied), "baud: 1 → 2 at 2 ports (p1, p2); `reload` or `commit` applies it");
    }
}
