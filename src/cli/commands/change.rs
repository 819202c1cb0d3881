//! `set`, `unset`, `create` and `remove` for one or several ports: a command changes everything or nothing, and prints what it changed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use clap::Args;
use nix::unistd::geteuid;

use crate::admin::wire;
use crate::auth::sources;
use crate::cli::accounts;
use crate::cli::args::{Named, first_port};
use crate::cli::assign::{self, Assignment};
use crate::cli::client::{Client, print_warnings};
use crate::cli::configurations::Configurations;
use crate::cli::error::Done;
use crate::cli::heirs::{heirs, is_inherited};
use crate::cli::service::plain_lines;
use crate::cli::summary::{counted, span};
use crate::cli::target::{Target, Targets};
use crate::cli::value::{self, ValueError};
use crate::config::Value;
use crate::port::pattern::fold;
use crate::port::{PortName, PortPattern};

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Creation {
    /// Names: core, p[01-48] or a,b. ttyUSB0 stands for /dev/ttyUSB0; other names need a `device`
    #[arg(id = "new", value_name = "PORT")]
    pub ports: PortPattern,
    /// Template from which the ports inherit keys
    #[arg(long, value_name = "TEMPLATE")]
    pub like: Option<String>,
    /// Assign free SSH ports, starting at N
    #[arg(long, value_name = "N", value_parser = first_port)]
    pub first_port: Option<u16>,
    /// Keys and values: baud=115200 device=/dev/ttyS[0-47]
    #[arg(id = "words", value_name = "KEY=VALUE")]
    pub words: Vec<String>,
}

/// Arguments of `set`, and of its shorthands.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Setting {
    /// Ports; or server, access, defaults or templates.NAME; or groups, with a name as KEY
    #[arg(value_name = "PORT")]
    pub of: Targets,
    /// Key, such as log.sync; or keys with values: baud=115200 parity=E
    #[arg(value_name = "KEY[=VALUE]")]
    pub key: String,
    /// Value, as a word or as TOML; a list as several words
    #[arg(value_name = "VALUE", trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Unset {
    /// Ports; or server, access, defaults or templates.NAME; or groups or templates, with names as KEY
    #[arg(value_name = "PORT")]
    pub of: Targets,
    /// Keys, such as log.sync
    #[arg(id = "key", value_name = "KEY", required = true)]
    pub keys: Vec<String>,
}

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

/// The ports or tables of a command, with their keys before the change.
async fn before(client: &Client, of: &Targets) -> Done<Vec<(Target, Configurations)>> {
    let Targets::Ports(pattern) = of else {
        let target = of.kind();
        let keys = client.service().await?.keys(&target).await?;
        return Ok(vec![(target, keys)]);
    };
    let ports = client.select(std::slice::from_ref(pattern)).await?;
    client.keys_of(ports.into_iter().map(Target::Port).collect()).await
}

/// `set`, and the shorthands of it.
pub(in crate::cli) async fn set(
    Setting { of, key, words }: Setting,
    client: &Client,
    to: &mut impl Write,
) -> Done {
    let assignments = assign::of_set(&key, &words)?;
    // An invalid key or value is reported even without console-admin.
    check(&of.kind(), &assignments)?;
    let before = before(client, &of).await?;
    let targets: Vec<Target> = before.iter().map(|(target, _)| target.clone()).collect();
    let values = values(&targets, &assignments)?;
    put(client, &[], &values, &targets).await?;
    let keys: Vec<&str> = assignments.iter().map(|assignment| assignment.key.as_str()).collect();
    print_effects(client, before, &keys, to).await?;
    // (A group of ports may be called `users`.)
    let of_ports = matches!(of.kind(), Target::Groups);
    let remarks: BTreeSet<String> = values
        .iter()
        .filter_map(|(_, key, value)| accounts::remark(last(key), value).filter(|_| !of_ports))
        .collect();
    print_warnings(remarks.into_iter().collect())?;
    match &of {
        Targets::Table(Target::Access) => confirm_by_root(client, &keys, to).await,
        _ => Ok(()),
    }
}

pub(in crate::cli) async fn unset(Unset { of, keys }: Unset, client: &Client, to: &mut impl Write) -> Done {
    for key in &keys {
        value::check_key(&of.kind(), key)?;
    }
    let before = before(client, &of).await?;
    for (target, keys) in &before {
        client.service().await?.check_exists(target, keys).await?;
    }
    let paths: Vec<(String, String)> =
        before.iter().flat_map(|(target, _)| keys.iter().map(move |key| address(target, key))).collect();
    let paths: Vec<(&str, &str)> = paths.iter().map(|(port, key)| (port.as_str(), key.as_str())).collect();
    let unset = client.service().await?.manager.unset_many(&paths, client.revision()).await;
    let targets: Vec<Target> = before.iter().map(|(target, _)| target.clone()).collect();
    print_warnings(client.of(&targets, unset).await?)?;
    print_effects(client, before, &keys.iter().map(String::as_str).collect::<Vec<_>>(), to).await
}

pub(in crate::cli) async fn create(creation: Creation, client: &Client, to: &mut impl Write) -> Done {
    let Creation { ports, like, first_port, words } = creation;
    let names = ports.names().ok_or_else(|| ValueError::NotNames(ports.to_string()))?;
    let mut assignments = assign::of_words(words.iter().map(String::as_str))?;
    if let Some(template) = like {
        assignments.insert(0, Assignment { key: "like".to_owned(), words: vec![template] });
    }
    let targets: Vec<Target> = names.iter().cloned().map(Target::Port).collect();
    check(&targets[0], &assignments)?;
    let mut values = values(&targets, &assignments)?;
    if let Some(first) = first_port {
        if assignments.iter().any(|assignment| assignment.key == "ssh_port") {
            return Err(ValueError::Twice("ssh_port".to_owned()).into());
        }
        let free = free_ports(client, first, names.len()).await?;
        assignments.push(Assignment { key: "ssh_port".to_owned(), words: Vec::new() });
        values.extend(targets.iter().zip(free).map(|(target, tcp)| {
            let (port, key) = address(target, "ssh_port");
            (port, key, Value::Integer(tcp.into()))
        }));
    }
    let made: Vec<&str> = names.iter().map(PortName::as_str).collect();
    put(client, &made, &values, &[]).await?;
    client.changed().await?;
    let with: Vec<String> = assignments
        .iter()
        .map(|Assignment { key, .. }| {
            let own = |(_, path, value): &(String, String, Value)| (path == key).then(|| value::text(value));
            format!("{key} {}", span(&values.iter().filter_map(own).collect::<Vec<_>>()))
        })
        .collect();
    let with = if with.is_empty() { String::new() } else { format!(" ({})", with.join(", ")) };
    match names.as_slice() {
        [port] => writeln!(to, "{port} created{with}: `reload {port}` or `commit` opens it"),
        ports => {
            writeln!(to, "{} created{with}: `reload {}` or `commit` opens them", counted(ports), fold(ports))
        }
    }?;
    Ok(())
}

/// `count` TCP ports, from `first` up, that neither a port nor the server uses.
async fn free_ports(client: &Client, first: u16, count: usize) -> Done<Vec<u16>> {
    let service = client.service().await?;
    let (ports, server) = tokio::try_join!(service.ports(), service.keys(&Target::Server))?;
    let of_server = [&server.candidate, &server.running, &server.committed];
    // (Not by the typed table: one without the key has a default there.)
    let of_server =
        of_server.into_iter().filter_map(|keys| keys.get("ssh_port")?.as_integer()?.try_into().ok());
    let mut taken: BTreeSet<u16> = of_server.collect();
    for view in ports.values() {
        for keys in [&view.keys.candidate, &view.keys.running, &view.keys.committed] {
            taken.extend(value::port(keys).tcp_ports());
        }
    }
    let free: Vec<u16> = (first..=u16::MAX).filter(|port| !taken.contains(port)).take(count).collect();
    match free.len() == count {
        true => Ok(free),
        false => Err(ValueError::NoMorePorts { first, count }.into()),
    }
}

pub(in crate::cli) async fn remove(Named { ports }: Named, client: &Client, to: &mut impl Write) -> Done {
    let ports = client.select(&ports).await?;
    let names: Vec<&str> = ports.iter().map(PortName::as_str).collect();
    let removed = client.service().await?.manager.remove_ports(&names, client.revision()).await;
    print_warnings(client.of(&ports.iter().cloned().map(Target::Port).collect::<Vec<_>>(), removed).await?)?;
    client.changed().await?;
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

async fn put(client: &Client, made: &[&str], values: &[(String, String, Value)], targets: &[Target]) -> Done {
    let sent: Vec<_> = values
        .iter()
        .map(|(port, key, value)| {
            let sent = wire::to_bus(value).ok_or_else(|| ValueError::NotSent(value::text(value)))?;
            Ok((port.as_str(), key.as_str(), sent))
        })
        .collect::<Result<_, ValueError>>()?;
    let sent: Vec<_> = sent.iter().map(|(port, key, value)| (*port, *key, &**value)).collect();
    let put = client.service().await?.manager.set_many(made, &sent, client.revision()).await;
    print_warnings(client.of(targets, put).await?)
}

/// Prints what the change did to these keys.
async fn print_effects(
    client: &Client,
    before: Vec<(Target, Configurations)>,
    keys: &[&str],
    to: &mut impl Write,
) -> Done {
    client.changed().await?;
    let after = client.keys_of(before.iter().map(|(target, _)| target.clone()).collect()).await?;
    let ports = match before.iter().any(|(target, _)| is_inherited(&format!("{target}."))) {
        true => client.service().await?.ports().await?,
        false => BTreeMap::new(),
    };
    let mut effects = Vec::new();
    for ((target, before), (_, after)) in before.iter().zip(&after) {
        for key in keys.iter().flat_map(|key| inside(key, &before.candidate, &after.candidate)) {
            let key = &key.as_str();
            let text = |keys: &value::Keys| keys.get(*key).map_or("-".to_owned(), shown);
            let (port, key_of_table) = match target {
                Target::Port(port) => (Some(port.clone()), None),
                table => (None, Some(format!("{table}.{key}"))),
            };
            effects.push(Effect {
                port,
                heirs: key_of_table.as_ref().and_then(|key| heirs(key, &ports)).unwrap_or_default(),
                key: key_of_table.unwrap_or_else(|| (*key).to_owned()),
                old: text(&before.candidate),
                new: text(&after.candidate),
                pending: after.running.get(*key) != after.candidate.get(*key),
            });
        }
    }
    for line in summary(&effects) {
        writeln!(to, "{}", crate::session::plain(&line))?;
    }
    Ok(())
}

/// The keys that a command has set: `log=raw` sets `log.type`, and a table several.
fn inside(key: &str, before: &value::Keys, after: &value::Keys) -> Vec<String> {
    let table = format!("{key}.");
    let all: BTreeSet<&String> =
        before.keys().chain(after.keys()).filter(|other| other.starts_with(&table)).collect();
    if all.is_empty() || before.contains_key(key) || after.contains_key(key) {
        return vec![key.to_owned()];
    }
    let differs = |key: &&String| before.get(*key) != after.get(*key);
    let differing: Vec<String> = all.into_iter().filter(differs).cloned().collect();
    match key {
        "log" if differing.is_empty() => vec!["log.type".to_owned()],
        _ if differing.is_empty() => vec![key.to_owned()],
        _ => differing,
    }
}

/// A program is run, and an authority trusted, only if root configured it, not console-admin (`auth::sources`): here root
/// confirms it.
async fn confirm_by_root(client: &Client, keys: &[&str], to: &mut impl Write) -> Done {
    let is_set = |some: &[&str]| some.iter().any(|key| keys.contains(key));
    let (command, authorities) = (is_set(&["authorized_keys_command"]), is_set(&["user_ca", "principals"]));
    if !command && !authorities {
        return Ok(());
    }
    let values = client.service().await?.keys(&Target::Access).await?.candidate;
    let text = |key| values.get(key).and_then(Value::as_str);
    let is_root = geteuid().is_root();
    let mut say = |confirmed: String, not: &str| {
        let notice = if is_root { format!("confirmed by root: {confirmed}") } else { not.to_owned() };
        writeln!(to, "{}", plain_lines(&notice))
    };
    let names = (text("authorized_keys_command"), text("authorized_keys_command_user"));
    if let (true, (Some(command), Some(user))) = (command, names) {
        if is_root {
            sources::confirm_command_set_by_root(command, user);
        }
        let not = "(it is not run until root confirms it: root sets it again, or writes it to the file)";
        say(format!("{command} runs as {user}"), not)?;
    }
    if let (true, Some(user_ca)) = (authorities, text("user_ca")) {
        if is_root {
            sources::confirm_authorities_set_by_root(user_ca, text("principals"));
        }
        let not = "(it accepts no certificate until root confirms it: root sets it again, or writes it to the file)";
        say(format!("certificates of {user_ca} are accepted"), not)?;
    }
    Ok(())
}

/// The key of `access.groups`.
fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

fn shown(value: &Value) -> String {
    match value::text(value) {
        text if text.is_empty() => "\"\"".to_owned(),
        text => text,
    }
}

/// The address of a key in the D-Bus calls `SetMany` and `UnsetMany`.
fn address(of: &Target, key: &str) -> (String, String) {
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
    fn a_word_for_a_table_names_the_keys_that_it_sets() {
        let keys = |text: &str| -> value::Keys {
            let pair = |pair: &str| pair.split_once('=').map(|(key, value)| (key.to_owned(), value.into()));
            text.split(' ').filter_map(pair).collect()
        };
        let (text, raw) = (keys("baud=1 log.type=text log.sync=5s"), keys("baud=1 log.type=raw log.sync=5s"));
        assert_eq!(inside("log", &text, &raw), ["log.type"]);
        assert_eq!(inside("log", &raw, &raw), ["log.type"]);
        assert_eq!(inside("log", &text, &keys("log.type=raw log.sync=1s")), ["log.sync", "log.type"]);
        assert_eq!(inside("baud", &text, &raw), ["baud"]);
        assert_eq!(inside("device", &text, &raw), ["device"]);
    }

    #[test]
    fn a_change_of_several_ports_is_summarized() {
        let text = |text: &'static str| move |_: usize| text.to_owned();
        let summarized = |effects: &[Effect]| summary(effects).join("\n");
        assert_eq!(
            summarized(&effects("baud", "p[01-48]", text("9600"), text("115200"))),
            "baud: 9600 → 115200 at 48 ports (p01 … p48)"
        );
        assert_eq!(
            summarized(&effects("baud", "p1", text("9600"), text("115200"))),
            "baud: 9600 → 115200 at p1"
        );
        let differing = effects("baud", "p[1-3]", |n| ["1", "2", "3"][n].to_owned(), text("2"));
        assert_eq!(summarized(&differing), "baud: 1 → 2 at p1\nbaud: already 2 at p2\nbaud: 3 → 2 at p3");
        let own = effects("ssh_port", "p[01-48]", text("none"), |n| (8100 + n).to_string());
        assert_eq!(summarized(&own), "ssh_port: none → 8100 … 8147 at 48 ports (p01 … p48)");
        let mut unapplied = effects("baud", "p[1-2]", text("1"), text("2"));
        unapplied[0].pending = true;
        assert_eq!(
            summarized(&unapplied),
            "baud: 1 → 2 at 2 ports (p1, p2); `reload` or `commit` applies it"
        );
    }
}
