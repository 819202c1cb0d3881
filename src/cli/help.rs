//! `help`: a summary of the commands in groups, and the help of one command with its examples.

use clap::{Arg, Command, CommandFactory};

use super::table::{width, wrapped};
use super::tree::Line;

const COLUMN: usize = 28;

/// The commands, grouped by task.
pub const GROUPS: &[(&str, &str)] = &[
    ("Show", "list status who show diff log play grep doctor check"),
    ("Use a console", "connect watch send expect break power autobaud transfer disconnect ssh-config dial"),
    ("Manage ports", "create copy rename learn remove import start stop"),
    (
        "Configure a port",
        "enable device describe baud bytesize parity stopbits rtscts xonxoff outputdelay \
         outputlinedelay imap omap sshport timeout logfile logtype set unset",
    ),
    ("Configure the server", "cliport listen access portmonitor"),
    ("Apply changes", "reload commit confirm revert"),
    ("Other", "help version exit"),
];

const EXAMPLES: &[(&str, &[&str])] = &[
    ("list", &["list", "list 'rack1-*'", "list --unconfigured", "list --json"]),
    ("status", &["status", "status ttyUSB0", "status p[01-12]"]),
    ("who", &["who", "who ttyUSB0", "who @core"]),
    ("show", &["show ttyUSB0", "show server", "show p[01-03]", "show templates", "show groups"]),
    ("log", &["log ttyUSB0", "log ttyUSB0 -f", "log ttyUSB0 --since 16:30", "log ttyUSB0 -n all"]),
    ("play", &["play ttyUSB0 --at 03:00 --speed 8", "play ttyUSB0 --at 1h --max-pause 2"]),
    ("grep", &["grep -i 'kernel panic'", "grep --since 1d error ttyUSB0"]),
    ("doctor", &["doctor", "doctor ttyUSB0", "doctor p[01-12]"]),
    ("check", &["check", "check /tmp/new-config.toml"]),
    ("connect", &["connect ttyUSB0"]),
    ("watch", &["watch 'rack1-*'", "watch core edge", "watch"]),
    ("send", &["send ttyUSB0 '\\r'", "send ttyUSB0 'show clock\\r' --expect '[>#] ?$'"]),
    ("expect", &["expect ttyUSB0 'login:' --timeout 120"]),
    ("break", &["break ttyUSB0", "break ttyUSB0 250", "break node17 sysrq"]),
    ("power", &["power core-1 status", "power core-1 cycle", "power core-1,core-2 off --yes"]),
    ("autobaud", &["autobaud ttyUSB0 --set"]),
    (
        "transfer",
        &["transfer ttyUSB0 send --protocol ymodem image.bin", "transfer ttyUSB0 receive config.txt"],
    ),
    ("disconnect", &["disconnect ttyUSB0 bob"]),
    ("dial", &["dial core-switch.console"]),
    ("diff", &["diff", "diff p[01-48]", "diff --full"]),
    (
        "create",
        &[
            "create core-switch device=/dev/serial/by-id/usb-FTDI_A1B2C3-if00-port0",
            "create p[01-48] --first-port 8100 baud=115200 device=/dev/ttyS[0-47]",
            "create p[01-48] --like cisco",
        ],
    ),
    ("copy", &["copy core-1 core-2"]),
    ("rename", &["rename ttyUSB0 core-switch"]),
    ("learn", &["learn core-switch"]),
    ("remove", &["remove core-switch", "remove p[40-48]"]),
    ("start", &["start ttyUSB0", "start p[01-48]"]),
    ("stop", &["stop ttyUSB0", "stop @lab"]),
    ("import", &["import --dry-run /etc/conserver/conserver.cf", "import --first-port 8023 ser2net.yaml"]),
    ("enable", &["enable ttyUSB0", "enable ttyUSB0 off", "disable ttyUSB0,ttyUSB1"]),
    ("device", &["device core-switch /dev/serial/by-id/usb-FTDI_A1B2C3-if00-port0"]),
    ("describe", &["describe core-switch core switch, rack 4"]),
    ("baud", &["baud ttyUSB0 115200", "baud p[01-48] 115200", "baud 'rack1-*' 9600"]),
    ("parity", &["parity ttyUSB0 even", "parity ttyUSB0 N"]),
    ("rtscts", &["rtscts ttyUSB0 on"]),
    ("xonxoff", &["xonxoff ttyUSB0 off"]),
    ("outputdelay", &["outputdelay ttyUSB0 5ms"]),
    ("imap", &["imap ttyUSB0 lfcrlf"]),
    ("omap", &["omap ttyUSB0 crcrlf"]),
    ("sshport", &["sshport core-switch 8100", "sshport core-switch none", "sshport p[01-48] [8100-8147]"]),
    ("logtype", &["logtype ttyUSB0 raw"]),
    (
        "set",
        &[
            "set ttyUSB0 log.sync 10s",
            "set p[01-48] baud=115200 parity=E",
            "set defaults baud 115200",
            "set ttyUSB0 groups netadmin sudo",
            "set templates.cisco baud 115200",
            "set p[01-48] like cisco",
            "set groups core p01 p[02-04] @edge",
        ],
    ),
    ("unset", &["unset ttyUSB0 baud", "unset p[01-48] baud parity", "unset templates cisco"]),
    ("listen", &["listen 127.0.0.1 ::1"]),
    ("access", &["access dialout sudo", "access '*'"]),
    ("reload", &["reload ttyUSB0", "reload p[01-48]", "reload"]),
    ("commit", &["commit", "commit confirm 5", "commit mine"]),
    ("help", &["help", "help baud", "baud ?"]),
];

const PORTS: &str = "PORT is a name, a range p[01-48] or rack-[a-c], a list a,b, a pattern 'rack1-*' or a group @core. If one of them does not \
                     exist, nothing is done. In a shell, quote patterns with * or ?; zsh also needs quotes around brackets.";

/// The commands as clap has them, with examples in their help.
pub(super) fn tree() -> Command {
    with_examples(Line::command())
}

pub(super) fn with_examples(tree: Command) -> Command {
    tree.mut_subcommands(|command| match examples(command.get_name()) {
        Some(examples) => command.after_help(examples),
        None => command,
    })
}

/// The text of `help`.
pub(super) fn explain(command: Option<&str>) -> String {
    command.and_then(one).unwrap_or_else(all)
}

pub fn all() -> String {
    all_within(width())
}

fn all_within(width: usize) -> String {
    let tree = tree();
    let mut text = String::new();
    for (title, names) in GROUPS {
        text.push_str(&format!("{title}:\n"));
        for name in names.split(' ') {
            let Some(command) = tree.find_subcommand(name) else { continue };
            let usage = usage(command);
            let mut lines = wrapped(&brief(command), width.saturating_sub(COLUMN)).into_iter();
            let first = match usage.chars().count() + 4 <= COLUMN {
                true => lines.next().unwrap_or_default(),
                false => String::new(),
            };
            text.push_str(format!("  {usage:<column$}{first}", column = COLUMN - 2).trim_end());
            text.push('\n');
            for line in lines {
                text.push_str(&format!("{:COLUMN$}{line}\n", ""));
            }
        }
        text.push('\n');
    }
    let more = "`help COMMAND` or `COMMAND ?` shows options and examples. Commands can be abbreviated as long as they are unique. Tab completes \
                commands, ports and values.";
    text.push_str(&wrapped(more, width).join("\n"));
    text.push_str("\n\n");
    text.push_str(&wrapped(PORTS, width).join("\n"));
    text
}

/// The help of one command; `None` for an unknown one.
pub fn one(name: &str) -> Option<String> {
    let mut tree = tree();
    tree.build();
    let command = tree.find_subcommand_mut(name)?;
    // (The tree of the prompt has an empty name, followed by a space.)
    Some(command.render_help().to_string().replace("Usage:  ", "Usage: "))
}

/// Examples that follow the help of a command.
pub fn examples(name: &str) -> Option<String> {
    let (_, lines) = EXAMPLES.iter().find(|(command, _)| *command == name)?;
    Some(format!("Examples:\n  {}", lines.join("\n  ")))
}

/// `baud PORT N`
fn usage(command: &Command) -> String {
    let mut words = vec![command.get_name().to_owned()];
    words.extend(command.get_positionals().map(argument));
    // `commit` has subcommands.
    words.extend(command.get_subcommands().filter(|inner| inner.get_name() != "help").map(|inner| {
        let inner: Vec<_> = std::iter::once(inner.get_name().to_owned())
            .chain(inner.get_positionals().map(argument))
            .collect();
        format!("[{}]", inner.join(" "))
    }));
    words.join(" ")
}

fn argument(arg: &Arg) -> String {
    let name = arg
        .get_value_names()
        .and_then(|names| names.first())
        .map_or_else(|| arg.get_id().as_str().to_uppercase(), |name| name.to_string());
    let many = if arg.get_num_args().is_some_and(|count| count.max_values() > 1) { "..." } else { "" };
    if arg.is_required_set() { format!("{name}{many}") } else { format!("[{name}{many}]") }
}

/// The first part of a command's description.
fn brief(command: &Command) -> String {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let end = [": ", "; ", " ("].iter().filter_map(|mark| about.find(mark)).min().unwrap_or(about.len());
    about[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::parse::{NoCommand, arguments, line};
    use super::super::tree::{Arguments, names};
    use super::*;

    #[test]
    fn the_summary_has_each_command_once_and_fits_80_columns() {
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.split(' ')).collect();
        grouped.sort_unstable();
        let mut all: Vec<&str> = names().into_iter().filter(|name| *name != "completions").collect();
        all.sort_unstable();
        assert_eq!(grouped, all);
        let text = all_within(80);
        for wanted in [
            "  baud PORT N",
            "  log PORT ",
            "  commit [confirm MINUTES]",
            "  status [PORT...]",
            "  help [COMMAND]",
        ] {
            assert!(text.lines().any(|line| line.starts_with(wanted)), "{wanted}: {text}");
        }
        let long: Vec<_> = text.lines().filter(|line| line.chars().count() > 80).collect();
        assert_eq!(long, [""; 0]);
    }

    #[test]
    fn examples_are_valid_commands() {
        for (name, lines) in EXAMPLES {
            for example in *lines {
                match line(example) {
                    Ok(_) | Err(NoCommand::Help(_)) => {}
                    wrong => panic!("{name}: {example}: {wrong:?}"),
                }
            }
            assert!(one(name).unwrap().contains(lines[0]), "{name}");
        }
    }

    #[test]
    fn the_help_command_the_option_and_a_question_mark_print_the_same_help() {
        for words in [&["baud", "--help"][..], &["help", "baud"], &["ba", "?"]] {
            let text = match arguments(["consolectl"].iter().chain(words).map(OsString::from).collect()) {
                Err(NoCommand::Help(text)) => text,
                Ok(Arguments { command: Some(super::super::tree::Command::Help { command }), .. }) => {
                    explain(command.as_deref())
                }
                other => panic!("{words:?}: {other:?}"),
            };
            assert!(text.contains("baud ttyUSB0 115200") && !text.contains("Usage:  "), "{words:?}: {text}");
        }
    }
}
