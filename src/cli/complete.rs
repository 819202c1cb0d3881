//! Completion in shells and at the prompt: commands, ports, keys, and the values that a key accepts.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;

use clap::builder::StyledStr;
use clap::{Arg, CommandFactory};
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter, CompletionCandidate, complete};
use clap_complete::env::{Bash, CompleteEnv, EnvCompleter, Fish, Zsh};

use super::adapters::{Adapter, unbound};
use super::args::Shell;
use super::commands::shorthand::ROWS;
use super::target::{Target, Targets};
use super::tree::{Arguments, Line, names};
use super::value;
use super::words::command;
use crate::config::Config;
use crate::port::pattern::fold_items;
use crate::port::power::PowerVerb;
use crate::port::{PortName, PortPattern};

const PROGRAM: &str = "consolectl";
/// The variable that clap_complete's shell scripts set.
const VARIABLE: &str = "COMPLETE";
/// In which some of them pass the index of the word to complete.
const INDEX: &str = "_CLAP_COMPLETE_INDEX";
const TABLES: [&str; 5] = ["server", "access", "defaults", "groups", "templates"];

/// Answers a completion request of a shell and exits; otherwise returns. Ports are read from the configuration file.
pub fn answer_shell() {
    if std::env::var_os(VARIABLE).is_none() {
        return;
    }
    let mut words: Vec<OsString> = std::env::args_os().collect();
    // The program's name follows the `--`; the word to complete is the last one, or that of the script's index.
    let first = words.iter().position(|word| word == "--").map_or(words.len(), |at| at + 2);
    let index = std::env::var(INDEX).ok().and_then(|index| index.parse::<usize>().ok());
    let index = index.map_or(words.len() - 1, |index| (first + index).saturating_sub(1));
    // `ls tty` is completed as `list tty`.
    if first < index
        && let Some(word) = words.get_mut(first)
        && let Some(Ok(name)) = word.to_str().filter(|word| !word.starts_with('-')).map(command)
    {
        *word = name.into();
    }
    let is_option = words.get(index).and_then(|word| word.to_str()).is_some_and(|word| word.starts_with('-'));
    let typed: Vec<String> =
        words.iter().skip(first).map(|word| word.to_string_lossy().into_owned()).collect();
    let completed = CompleteEnv::with_factory(|| {
        let tree = tree(Arguments::command(), &typed, &configured());
        // Options only after a hyphen, as at the prompt.
        if is_option { tree } else { without_options(tree).disable_version_flag(true) }
    })
    .var(VARIABLE)
    .bin(PROGRAM)
    .completer(PROGRAM)
    .try_complete(words, None);
    if completed.unwrap_or_else(|error| error.exit()) {
        std::process::exit(0);
    }
}

/// A command tree that completes no options, which it accepts still.
fn without_options(command: clap::Command) -> clap::Command {
    let hidden = |arg: Arg| if arg.is_positional() { arg } else { arg.hide(true) };
    command.disable_help_flag(true).mut_args(hidden).mut_subcommands(without_options)
}

/// Prints the completion script of a shell.
pub fn script(shell: Shell, to: &mut impl Write) -> io::Result<()> {
    let mut script = Vec::new();
    let shell: &dyn EnvCompleter = match shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    shell.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, &mut script)?;
    to.write_all(&script)
}

/// Empty if the configuration cannot be read: a shell cannot show the reason.
fn configured() -> Vec<String> {
    let loaded = Config::load(Path::new("/"));
    loaded.map(|loaded| loaded.config.ports.keys().map(ToString::to_string).collect()).unwrap_or_default()
}

/// Empty for the same reason.
fn adapters() -> Vec<Adapter> {
    Config::load(Path::new("/")).map(|loaded| unbound(&loaded.config)).unwrap_or_default()
}

/// Candidates for the last word of a line; `words` precede it.
pub fn at_prompt(mut words: Vec<String>, last: &str, ports: &[String]) -> Vec<String> {
    // `sh t` is completed as `show t`.
    if let Some(word) = words.first_mut()
        && let Ok(command) = command(word)
    {
        *word = command.to_owned();
    }
    let mut tree = tree(Line::command(), &words, ports);
    if words.first().is_some_and(|word| tree.find_subcommand(word).is_none()) {
        return Vec::new();
    }
    let index = words.len();
    let words: Vec<OsString> = words.into_iter().map(OsString::from).chain([last.into()]).collect();
    let found = complete(&mut tree, words, index, None).unwrap_or_default();
    let text = |candidate: CompletionCandidate| candidate.get_value().to_str().map(ToOwned::to_owned);
    // Options only after a hyphen: every command has `--help`.
    let wanted = |word: &String| last.starts_with('-') || !word.starts_with('-');
    found.into_iter().filter_map(text).filter(wanted).collect()
}

/// The command tree with candidates. Those of a key and its value depend on the preceding words.
fn tree(command: clap::Command, words: &[String], ports: &[String]) -> clap::Command {
    let rest = words.iter().position(|word| ["set", "unset", "create"].contains(&word.as_str()));
    let after = |n: usize| rest.and_then(|at| words.get(at + n));
    let of: Option<Target> = after(1).and_then(|word| word.parse::<Targets>().ok()).map(|of| of.kind());
    let first = after(2).cloned().unwrap_or_default();
    let assigned = rest.and_then(|at| words.get(at + 2..)).unwrap_or_default();
    let (groups, templates) = groups_and_templates();
    let tables: Vec<String> =
        TABLES.map(str::to_owned).into_iter().chain(templates.iter().cloned()).collect();
    // (Only these commands need them.)
    let needed = words.iter().any(|word| ["create", "learn", "device"].contains(&word.as_str()));
    let adapters = if needed { adapters() } else { Vec::new() };
    let unserved =
        || adapters.iter().filter(|adapter| adapter.port.is_none()).map(|adapter| adapter.tty.clone());
    command.mut_subcommands(|command| {
        let row = ROWS.iter().find(|row| row.name == command.get_name());
        let name = command.get_name().to_owned();
        command.mut_args(|arg| match (arg.get_id().as_str(), &of, row) {
            ("new", ..) => candidates(arg, unserved().collect()),
            ("port", ..) if name == "learn" => {
                candidates(arg, ports.iter().cloned().chain(unserved()).collect())
            }
            ("value", _, Some(row)) if row.key == "device" => {
                let paths = adapters.iter().filter_map(|adapter| adapter.path.as_ref());
                candidates(arg, paths.map(|path| path.display().to_string()).collect())
            }
            ("verb", ..) if name == "power" => {
                candidates(arg, owned(PowerVerb::ALL.map(PowerVerb::as_str).to_vec()))
            }
            ("command", ..) => candidates(arg, owned(names())),
            ("port", ..) if name == "connect" => candidates(arg, ports.to_vec()),
            ("port", ..) => patterns(arg, ports, &groups, &[]),
            ("of", ..) => patterns(arg, ports, &groups, &tables),
            ("like", ..) => candidates(arg, templates.iter().filter_map(|name| bare(name)).collect()),
            ("key", Some(Target::Groups), _) => {
                candidates(arg, groups.iter().filter_map(|name| bare(name)).collect())
            }
            ("key", Some(Target::Templates), _) => {
                candidates(arg, templates.iter().filter_map(|name| bare(name)).collect())
            }
            ("words", Some(Target::Groups), _) => patterns(arg, ports, &groups, &[]),
            ("words", ..) if name == "create" => {
                assignments(arg, Target::Port("ports".parse().expect("a port name")), assigned)
            }
            ("key", Some(of), _) if name == "unset" => candidates(arg, owned(value::names(of))),
            ("key", Some(of), _) => set_key(arg, of.clone()),
            // `set PORT KEY=VALUE` is followed by another key. (bash splits words at the equals sign.)
            ("words", Some(of), _) if assigned.iter().any(|word| word.contains('=')) => {
                assignments(arg, of.clone(), assigned)
            }
            ("words", Some(of), _) => candidates(arg, owned(value::fixed(of, &first))),
            ("value", _, Some(row)) => {
                let words = value::fixed(&row.target(), row.key);
                if words.is_empty() { arg } else { candidates(arg, owned(words)) }
            }
            _ => arg,
        })
    })
}

/// `@GROUP` for each group and `templates.NAME` for each template; empty if the configuration cannot be read.
fn groups_and_templates() -> (Vec<String>, Vec<String>) {
    let Ok(loaded) = Config::load(Path::new("/")) else { return (Vec::new(), Vec::new()) };
    let groups = loaded.config.port_groups.keys().map(|group| format!("@{group}"));
    let templates = loaded.config.templates.keys().map(|template| format!("templates.{template}"));
    (groups.collect(), templates.collect())
}

/// The name in `@core` or `templates.cisco`.
fn bare(name: &str) -> Option<String> {
    name.strip_prefix('@').or_else(|| name.strip_prefix("templates.")).map(str::to_owned)
}

/// Names, ranges and groups of ports, for the last item of a list.
fn patterns(arg: Arg, ports: &[String], groups: &[String], tables: &[String]) -> Arg {
    /// A range of fewer ports is not offered.
    const MIN_RANGE: usize = 3;
    let names: Vec<PortName> = ports.iter().filter_map(|port| port.parse().ok()).collect();
    let ranges = fold_items(&names).into_iter().filter(|item| {
        let pattern = item.parse::<PortPattern>().ok();
        pattern.and_then(|pattern| pattern.names()).is_some_and(|names| names.len() >= MIN_RANGE)
    });
    let all: Vec<String> = ports.iter().cloned().chain(ranges).chain(groups.iter().cloned()).collect();
    let tables = tables.to_vec();
    completer(arg, move |current| {
        let start = list_start(current);
        let before = &current[..start];
        let tables = if before.is_empty() { tables.as_slice() } else { &[] };
        let new = |item: &&String| start == 0 || !before.split(',').any(|other| other == item.as_str());
        let items = all.iter().filter(new).map(|item| format!("{before}{item}"));
        items.chain(tables.iter().cloned()).collect()
    })
}

/// The offset of the last item of a list. A comma in brackets belongs to a range.
fn list_start(word: &str) -> usize {
    let (mut start, mut inside) = (0, false);
    for (index, byte) in word.bytes().enumerate() {
        match byte {
            b'[' => inside = true,
            b']' => inside = false,
            b',' if !inside => start = index + 1,
            _ => {}
        }
    }
    start
}

/// The first key of `set`, or after an equals sign its values.
fn set_key(arg: Arg, of: Target) -> Arg {
    completer(arg, move |current| match current.split_once('=') {
        None => owned(value::names(&of)),
        Some((key, _)) => value::fixed(&of, key).iter().map(|word| format!("{key}={word}")).collect(),
    })
}

/// `KEY=VALUE`, for the keys that are not set yet.
fn assignments(arg: Arg, of: Target, before: &[String]) -> Arg {
    // bash passes `baud=96` as `baud`, `=`, `96`.
    let cut = match before {
        [.., key, equals] if equals == "=" => Some(key.clone()),
        [.., key, equals, _] if equals == "=" => Some(key.clone()),
        _ => None,
    };
    let given: Vec<String> =
        before.iter().map(|word| word.split('=').next().unwrap_or(word).to_owned()).collect();
    completer(arg, move |current| match (current.split_once('='), &cut) {
        (Some((key, _)), _) => value::fixed(&of, key).iter().map(|word| format!("{key}={word}")).collect(),
        (None, Some(key)) if current != key => owned(value::fixed(&of, key)),
        _ => {
            let free = |name: &&str| !given.iter().any(|key| key == name) || current == *name;
            value::names(&of).into_iter().filter(free).map(|name| format!("{name}=")).collect()
        }
    })
}

/// Candidates that depend on the beginning of the word.
fn completer(arg: Arg, words: impl Fn(&str) -> Vec<String> + Send + Sync + 'static) -> Arg {
    arg.add(ArgValueCompleter::new(move |current: &OsStr| {
        let Some(current) = current.to_str() else { return Vec::new() };
        let fitting = words(current).into_iter().filter(|word| word.starts_with(current));
        fitting
            .enumerate()
            .map(|(index, word)| CompletionCandidate::new(word).display_order(Some(index)))
            .collect()
    }))
}

fn owned(words: Vec<&'static str>) -> Vec<String> {
    words.into_iter().map(str::to_owned).collect()
}

fn candidates(arg: Arg, words: Vec<String>) -> Arg {
    // Keeps the order: clap_complete sorts by this number.
    let candidate = |(index, word): (usize, &String)| {
        CompletionCandidate::new(word).display_order(Some(index)).help(None::<StyledStr>)
    };
    arg.add(ArgValueCandidates::new(move || words.iter().enumerate().map(candidate).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(line: &str) -> Vec<String> {
        let (words, last) = line.rsplit_once(' ').unwrap_or(("", line));
        let words = words.split_whitespace().map(str::to_owned).collect();
        at_prompt(words, last, &["core-switch".to_owned(), "ttyUSB0".to_owned()])
    }

    #[test]
    fn lists_and_ranges_of_ports_and_several_keys_are_completed() {
        let ports: Vec<String> =
            std::iter::once("core".to_owned()).chain((1..=48).map(|n| format!("p{n:02}"))).collect();
        let completed = |line: &str| {
            let (words, last) = line.rsplit_once(' ').unwrap();
            at_prompt(words.split_whitespace().map(str::to_owned).collect(), last, &ports)
        };
        for (line, wanted) in [
            ("baud p[", &["p[01-48]"][..]),
            (
                "baud core,p4",
                &[
                    "core,p40", "core,p41", "core,p42", "core,p43", "core,p44", "core,p45", "core,p46",
                    "core,p47", "core,p48",
                ],
            ),
            ("show p[01,03],c", &["p[01,03],core"]),
            ("remove core,c", &[]),
            ("connect p[", &[]),
            ("baud p[01-48] 1152", &["115200"]),
            ("set p[01-48] par", &["parity"]),
            (
                "set p[01-48] parity=",
                &["parity=none", "parity=even", "parity=odd", "parity=mark", "parity=space"],
            ),
            ("set p[01-48] parity=even bau", &["baud="]),
            ("set p[01-48] parity=even par", &[]),
            ("set p[01-48] parity=even baud=9", &["baud=9600", "baud=921600"]),
            ("set core parity = e", &["even"]),
            ("create p[01-48] bau", &["baud="]),
            ("create p[01-48] baud=1152", &["baud=115200"]),
        ] {
            assert_eq!(completed(line), wanted, "{line:?}");
        }
        assert_eq!(completed("reload ").len(), 50);
    }

    #[test]
    fn commands_ports_keys_and_words_are_completed() {
        for (line, wanted) in [
            ("ba", &["baud"][..]),
            ("sho", &["show"]),
            ("show t", &["ttyUSB0", "templates"]),
            ("show ", &["core-switch", "ttyUSB0", "server", "access", "defaults", "groups", "templates"]),
            ("set templates.cisco baud 9", &["9600", "921600"]),
            ("set groups core tty", &["ttyUSB0"]),
            ("reload c", &["core-switch"]),
            ("baud ", &["core-switch", "ttyUSB0"]),
            ("baud ttyUSB0 115", &["115200"]),
            ("set defaults baud 9", &["9600", "921600"]),
            ("parity ttyUSB0 ", &["none", "even", "odd", "mark", "space"]),
            ("stopbits ttyUSB0 ", &["1", "2"]),
            ("bytesize ttyUSB0 ", &["5", "6", "7", "8"]),
            ("rtscts ttyUSB0 ", &["on", "off"]),
            ("sshport ttyUSB0 ", &["none"]),
            ("timeout ttyUSB0 ", &["none", "never"]),
            ("set ttyUSB0 dtr ", &["leave", "on", "off"]),
            ("logtype ttyUSB0 ", &["none", "raw", "text", "hex", "both"]),
            ("set ttyUSB0 write ", &["one", "shared"]),
            ("grep panic ", &["core-switch", "ttyUSB0"]),
            ("set server ", &["ssh_port", "listen", "monitor", "ssh_algorithms", "banner"]),
            ("set server ssh_algorithms ", &["default", "compatible", "strict"]),
            ("set ttyUSB0 log.s", &["log.sync"]),
            ("set ttyUSB0 parity ", &["none", "even", "odd", "mark", "space"]),
            ("set access root ", &["key", "yes", "no"]),
            ("set ttyUSB0 description ", &[]),
            ("unset ttyUSB0 xon", &["xonxoff"]),
            ("commit ", &["confirm", "mine"]),
            ("list --", &["--unconfigured", "--json", "--help"]),
            ("create t", &[]),
            ("who t", &["ttyUSB0"]),
            ("help bau", &["baud"]),
            ("nonsense ", &[]),
            ("sh t", &["ttyUSB0", "templates"]),
            ("logs c", &["core-switch"]),
        ] {
            assert_eq!(completed(line), wanted, "{line:?}");
        }
    }
}
