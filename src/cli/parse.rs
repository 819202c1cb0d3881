//! Parses the arguments of the program and the lines of the prompt.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};

use super::tree::{Arguments, Command, Line};
use super::{help, words};

/// Why a line was not parsed into a command.
#[derive(Debug, PartialEq, Eq)]
pub enum NoCommand {
    /// It is empty or a comment.
    Blank,
    /// It asks for help, which this is.
    Help(String),
    /// It is invalid; the reason, as one sentence.
    Wrong(String),
}

/// Options before the command whose value is a separate word.
const VALUE_OPTIONS: [&str; 6] = ["--runtime-dir", "--log-dir", "--line", "-H", "--hosts", "--host-timeout"];

/// Parses the arguments of the program.
pub fn arguments(mut words: Vec<OsString>) -> Result<Arguments, NoCommand> {
    // The first word that is neither an option nor the value of one begins a command.
    let mut command = 1;
    while let Some(word) =
        words.get(command).and_then(|word| word.to_str()).filter(|word| word.starts_with('-'))
    {
        command += if VALUE_OPTIONS.contains(&word) { 2 } else { 1 };
    }
    // (An argument that is not UTF-8 cannot be a command.)
    let typed: Option<Vec<String>> =
        words.iter().skip(command).map(|word| word.to_str().map(str::to_owned)).collect();
    let mut translated = Vec::new();
    if let Some(typed) = typed {
        words.truncate(command);
        translated = words::translate(typed).map_err(NoCommand::Wrong)?;
        words.extend(translated.iter().map(OsString::from));
    }
    let tree = help::with_examples(Arguments::command()).override_help(format!(
        "Use and administer the serial consoles of this machine.\n\n\
         Usage: consolectl [--runtime-dir DIR] [--log-dir DIR] [COMMAND [ARGUMENT]...]\n\
         \x20      consolectl -H HOSTS [--host-timeout SECONDS] COMMAND [ARGUMENT]...\n\n\
         Without a command, prompt for commands or read them from standard input.\n\n{}\n\n\
         See consolectl(1).",
        help::all()
    ));
    tree.try_get_matches_from(words)
        .and_then(|matches| Arguments::from_arg_matches(&matches))
        .map(|arguments| Arguments { words: translated, ..arguments })
        .map_err(|error| no_command(&error))
}

/// Parses a line of the prompt. Words are split as in a shell.
pub fn line(text: &str) -> Result<Command, NoCommand> {
    let words = shlex::split(text).ok_or_else(|| {
        let why = match text.ends_with('\\') {
            true => "the line ends with a backslash: a command is one line",
            false => "missing closing quote",
        };
        NoCommand::Wrong(why.to_owned())
    })?;
    if words.is_empty() {
        return Err(NoCommand::Blank);
    }
    let words = words::translate(words).map_err(NoCommand::Wrong)?;
    let command = help::tree()
        .try_get_matches_from(words)
        .and_then(|matches| Line::from_arg_matches(&matches))
        .map_err(|error| no_command(&error))?
        .command;
    match command {
        Command::Help { command } => Err(NoCommand::Help(help::explain(command.as_deref()))),
        command => Ok(command),
    }
}

fn no_command(error: &clap::Error) -> NoCommand {
    match error.use_stderr() {
        false => NoCommand::Help(error.to_string()),
        true => NoCommand::Wrong(sentence(error)),
    }
}

/// clap's message of several lines as one sentence: the error, then a similar word or the usage.
pub fn sentence(error: &clap::Error) -> String {
    let message = error.to_string();
    let command = command_of(&message);
    let takes_text = command.is_some_and(|command| words::TAKES_TEXT.contains(&command));
    let is_option = error.kind() == ErrorKind::UnknownArgument && message.contains("argument '-");
    let mut parts: Vec<String> = Vec::new();
    for paragraph in message.split("\n\n") {
        // The usage of a command with subcommands has two lines.
        let between = if paragraph.starts_with("Usage: ") { " or " } else { " " };
        let lines = paragraph.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        let words = lines.collect::<Vec<_>>().join(between);
        let words = words.trim_start_matches("error: ").trim_start_matches("tip: ");
        match words.strip_prefix("Usage: ") {
            _ if words.is_empty() || words.starts_with("For more information") => {}
            // "to pass '--x' as a value, use '-- --x'"
            _ if is_option && !takes_text && words.starts_with("to pass ") => {}
            Some(usage) if is_option => {
                parts.push(format!("usage: {usage}"));
                parts.extend(command.and_then(options_of));
            }
            // The usage of the whole program would not help here.
            Some(_) if error.kind() == ErrorKind::InvalidSubcommand => parts.push("see help".to_owned()),
            Some(usage) => {
                parts.push(format!("usage: {usage}"));
                if takes_text && error.kind() == ErrorKind::UnknownArgument {
                    parts.push("a text of several words must be quoted".to_owned());
                }
            }
            None => parts.push(words.to_owned()),
        }
    }
    parts.join("; ")
}

/// The command whose usage clap's message has.
fn command_of(message: &str) -> Option<&str> {
    let (_, usage) = message.split_once("Usage: ")?;
    usage.split_whitespace().find(|word| *word != "consolectl")
}

/// The options of a command, which clap's usage leaves out; `None` if it has none.
fn options_of(command: &str) -> Option<String> {
    let tree = help::tree();
    let options = tree.find_subcommand(command)?.get_arguments().filter(|argument| {
        !argument.is_hide_set() && !argument.is_positional() && argument.get_id().as_str() != "help"
    });
    let names: Vec<String> = options
        .filter_map(|option| match option.get_long() {
            Some(long) => Some(format!("--{long}")),
            None => option.get_short().map(|short| format!("-{short}")),
        })
        .collect();
    (!names.is_empty()).then(|| format!("options: {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Named, Output, Ports};
    use crate::cli::commands::at_port::AtPort;
    use crate::cli::commands::autobaud::Autobaud;
    use crate::cli::commands::change::{Creation, Setting, Unset};
    use crate::cli::commands::check::Check;
    use crate::cli::commands::commit::{Commit, MineOnTrial, Trial};
    use crate::cli::commands::connect::{Connect, Connection};
    use crate::cli::commands::diff::Diff;
    use crate::cli::commands::drive::Reload;
    use crate::cli::commands::learn::Learn;
    use crate::cli::commands::list::List;
    use crate::cli::commands::rename::{Copy, Rename};
    use crate::cli::commands::sessions::{Break, Disconnect};
    use crate::cli::commands::shorthand::Shorthand;
    use crate::cli::commands::show::Show;
    use crate::cli::commands::ssh_config::SshConfigOptions;
    use crate::cli::doctor::Doctor;
    use crate::cli::import::ImportOptions;
    use crate::cli::target::{Target, Targets};
    use crate::exec::Lines;
    use crate::port::{BreakArgument, PortPattern};
    use clap::Parser;

    fn p(word: &str) -> PortPattern {
        word.parse().unwrap()
    }

    fn named(words: &[&str]) -> Named {
        Named { ports: words.iter().map(|word| p(word)).collect() }
    }

    fn create(port: &str) -> Creation {
        Creation { ports: p(port), like: None, first_port: None, words: Vec::new() }
    }

    fn set(of: &str, key: &str, words: &[&str]) -> Command {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        Command::Set(Setting { of: of.parse().unwrap(), key: key.to_owned(), words })
    }

    /// A shorthand is compared as the `set` that it stands for.
    fn parsed(text: &str) -> Command {
        match line(text).unwrap_or_else(|error| panic!("{text:?}: {error:?}")) {
            Command::Shorthand(Shorthand(setting)) => Command::Set(setting),
            command => command,
        }
    }

    fn import(file: &str) -> ImportOptions {
        ImportOptions { file: file.into(), from: None, first_port: None, dry_run: false }
    }

    const PLAIN: Output = Output { json: false };
    const JSON: Output = Output { json: true };

    #[test]
    fn every_command_is_parsed_as_arguments_and_as_a_line() {
        let usb = || p("ttyUSB0");
        let all = |output| Ports { ports: Vec::new(), output };
        let log = |follow, lines: Option<u32>| {
            let lines = lines.map(|count| Lines(Some(count)));
            let (since, until, raw) = (None, None, false);
            Command::AtPort(AtPort::Log { port: usb(), follow, lines, since, until, raw, cast: None })
        };
        let whole_log = Command::AtPort(AtPort::Log {
            port: usb(),
            follow: false,
            lines: Some(Lines(None)),
            since: None,
            until: None,
            raw: true,
            cast: None,
        });
        let grep = |ignore_case, pattern: &str, ports: &[PortPattern]| {
            let (pattern, ports) = (pattern.parse().unwrap(), ports.to_vec());
            Command::AtPort(AtPort::Grep {
                ignore_case,
                since: None,
                until: None,
                raw: false,
                pattern,
                ports,
            })
        };
        let send = |timeout, text: &str, expect: Option<&str>| {
            let (text, expect) = (text.to_owned(), expect.map(|pattern| pattern.parse().unwrap()));
            Command::AtPort(AtPort::Send {
                force: false,
                expect,
                timeout,
                output_delay: None,
                output_line_delay: None,
                raw: false,
                port: usb(),
                text,
            })
        };
        let expect = |timeout, pattern: &str| {
            Command::AtPort(AtPort::Expect { timeout, port: usb(), pattern: pattern.parse().unwrap() })
        };
        for (text, wanted) in [
            ("log -n all --raw ttyUSB0", whole_log),
            ("list", Command::List(List { unconfigured: false, ports: vec![], output: PLAIN })),
            ("list --json", Command::List(List { unconfigured: false, ports: vec![], output: JSON })),
            ("list --unconfigured", Command::List(List { unconfigured: true, ports: vec![], output: PLAIN })),
            ("status", Command::Status(all(PLAIN))),
            ("status --json", Command::Status(all(JSON))),
            ("status ttyUSB0", Command::Status(Ports { ports: vec![usb()], output: PLAIN })),
            ("version", Command::Version),
            ("exit", Command::Exit),
            ("create ttyUSB0", Command::Create(create("ttyUSB0"))),
            (
                "create p[01-48] --like cisco --first-port 8100 baud=115200",
                Command::Create(Creation {
                    like: Some("cisco".to_owned()),
                    first_port: Some(8100),
                    words: vec!["baud=115200".to_owned()],
                    ..create("p[01-48]")
                }),
            ),
            ("remove /dev/ttyUSB0", Command::Remove(named(&["ttyUSB0"]))),
            ("remove a,b c", Command::Remove(named(&["a,b", "c"]))),
            ("show ttyUSB0", Command::Show(Show { of: vec![Targets::Ports(usb())], output: PLAIN })),
            ("show server --json", Command::Show(Show { of: vec![Target::Server.into()], output: JSON })),
            (
                "show /dev/server",
                Command::Show(Show { of: vec![Targets::Ports(p("server"))], output: PLAIN }),
            ),
            ("start ttyUSB0", Command::Start(named(&["ttyUSB0"]))),
            ("stop ttyUSB0", Command::Stop(named(&["ttyUSB0"]))),
            ("reload ttyUSB0", Command::Reload(Reload { ports: vec![usb()] })),
            ("reload", Command::Reload(Reload { ports: vec![] })),
            (
                "rename ttyUSB0 core",
                Command::Rename(Rename { port: "ttyUSB0".parse().unwrap(), to: "core".parse().unwrap() }),
            ),
            (
                "copy ttyUSB0 core",
                Command::Copy(Copy { port: "ttyUSB0".parse().unwrap(), to: "core".parse().unwrap() }),
            ),
            ("enable ttyUSB0 1", set("ttyUSB0", "enabled", &["1"])),
            ("enable /dev/ttyUSB0 0", set("ttyUSB0", "enabled", &["0"])),
            ("baud ttyUSB0 115200", set("ttyUSB0", "baud", &["115200"])),
            ("bytesize ttyUSB0 8", set("ttyUSB0", "bytesize", &["8"])),
            ("stopbits ttyUSB0 2", set("ttyUSB0", "stopbits", &["2"])),
            ("parity ttyUSB0 N", set("ttyUSB0", "parity", &["N"])),
            ("rtscts ttyUSB0 0", set("ttyUSB0", "rtscts", &["0"])),
            ("xonxoff ttyUSB0 1", set("ttyUSB0", "xonxoff", &["1"])),
            ("sshport ttyUSB0 8023", set("ttyUSB0", "ssh_port", &["8023"])),
            ("logfile ttyUSB0 switch.log", set("ttyUSB0", "log.file", &["switch.log"])),
            ("logtype ttyUSB0 raw", set("ttyUSB0", "log.type", &["raw"])),
            ("timeout ttyUSB0 600", set("ttyUSB0", "timeout", &["600"])),
            ("device core /dev/serial/by-id/x", set("core", "device", &["/dev/serial/by-id/x"])),
            ("describe core core switch", set("core", "description", &["core", "switch"])),
            ("describe core 'rack 4: - top'", set("core", "description", &["rack 4: - top"])),
            ("portmonitor /dev", set("server", "monitor", &["/dev"])),
            ("cliport 8022", set("server", "ssh_port", &["8022"])),
            ("listen 127.0.0.1 ::1", set("server", "listen", &["127.0.0.1", "::1"])),
            ("access dialout sudo", set("access", "groups", &["dialout", "sudo"])),
            ("set ttyUSB0 log.sync 10s", set("ttyUSB0", "log.sync", &["10s"])),
            ("set server listen '[\"[::]\"]'", set("server", "listen", &["[\"[::]\"]"])),
            ("set templates.cisco baud 9600", set("templates.cisco", "baud", &["9600"])),
            ("set groups core p01 'p[02-04]'", set("groups", "core", &["p01", "p[02-04]"])),
            ("show templates", Command::Show(Show { of: vec![Target::Templates.into()], output: PLAIN })),
            (
                "show /dev/templates.cisco",
                Command::Show(Show { of: vec![Targets::Ports(p("templates.cisco"))], output: PLAIN }),
            ),
            (
                "unset templates cisco",
                Command::Unset(Unset { of: Target::Templates.into(), keys: vec!["cisco".to_owned()] }),
            ),
            ("set defaults baud -1", set("defaults", "baud", &["-1"])),
            ("set p[01-48] baud=9600 parity=E", set("p[01-48]", "baud=9600", &["parity=E"])),
            ("baud p[01-48],core 9600", set("p[01-48],core", "baud", &["9600"])),
            (
                "unset ttyUSB0 baud",
                Command::Unset(Unset { of: Targets::Ports(usb()), keys: vec!["baud".to_owned()] }),
            ),
            (
                "unset access root",
                Command::Unset(Unset { of: Target::Access.into(), keys: vec!["root".to_owned()] }),
            ),
            ("connect ttyUSB0", Command::Connect(Connect { how: Connection::default(), port: usb() })),
            ("commit", Command::Commit(Commit { trial: None })),
            ("commit confirm 5min", Command::Commit(Commit { trial: Some(Trial::Confirm { minutes: 5 }) })),
            ("commit confirm 5", Command::Commit(Commit { trial: Some(Trial::Confirm { minutes: 5 }) })),
            ("commit mine", Command::Commit(Commit { trial: Some(Trial::Mine { trial: None }) })),
            (
                "commit mine confirm 5",
                Command::Commit(Commit {
                    trial: Some(Trial::Mine { trial: Some(MineOnTrial::Confirm { minutes: 5 }) }),
                }),
            ),
            ("confirm", Command::Confirm),
            ("ssh-config", Command::SshConfig(SshConfigOptions { host: None, prefix: None, user: None })),
            ("diff", Command::Diff(Diff { of: vec![], full: false, output: PLAIN })),
            ("diff --json", Command::Diff(Diff { of: vec![], full: false, output: JSON })),
            ("revert", Command::Revert),
            ("break ttyUSB0", Command::Break(Break { port: usb(), which: None })),
            (
                "break ttyUSB0 250",
                Command::Break(Break { port: usb(), which: Some(BreakArgument::Length(250)) }),
            ),
            ("autobaud ttyUSB0", Command::Autobaud(Autobaud { port: usb(), set: false })),
            ("autobaud --set ttyUSB0", Command::Autobaud(Autobaud { port: usb(), set: true })),
            ("learn ttyUSB0", Command::Learn(Learn { port: "ttyUSB0".parse().unwrap(), timeout: 60 })),
            ("import x.cf", Command::Import(import("x.cf"))),
            ("log ttyUSB0", log(false, None)),
            ("log ttyUSB0 -f -n 5", log(true, Some(5))),
            ("log -n5 ttyUSB0", log(false, Some(5))),
            ("grep -i 'kernel panic' ttyUSB0", grep(true, "kernel panic", &[usb()])),
            ("grep -x", grep(false, "-x", &[])),
            ("send ttyUSB0 'ls\\r' --timeout 3", send(3, "ls\\r", None)),
            ("expect --timeout 2m ttyUSB0 x", expect(120, "x")),
            ("send --expect '[$#] $' ttyUSB0 ls", send(10, "ls", Some("[$#] $"))),
            ("expect ttyUSB0 login:", expect(10, "login:")),
            ("doctor", Command::Doctor(Doctor { ports: vec![], output: PLAIN })),
            ("check", Command::Check(Check { file: None })),
            ("check /tmp/new.toml", Command::Check(Check { file: Some("/tmp/new.toml".into()) })),
            ("doctor ttyUSB0 --json", Command::Doctor(Doctor { ports: vec![usb()], output: JSON })),
            ("who", Command::Who(all(PLAIN))),
            ("who --json", Command::Who(all(JSON))),
            ("who ttyUSB0", Command::Who(Ports { ports: vec![usb()], output: PLAIN })),
            (
                "disconnect ttyUSB0 bob",
                Command::Disconnect(Disconnect { port: usb(), user: "bob".to_owned() }),
            ),
        ] {
            assert_eq!(parsed(text), wanted, "{text:?}");
            let words = shlex::split(text).unwrap();
            let arguments = Arguments::try_parse_from(["consolectl".to_owned()].into_iter().chain(words));
            assert_eq!(arguments.unwrap().command, line(text).ok(), "as arguments: {text:?}");
        }
    }

    #[test]
    fn a_blank_line_and_a_comment_are_ignored() {
        for text in ["", "  ", "# baud ttyUSB0 9600"] {
            assert_eq!(line(text), Err(NoCommand::Blank), "{text:?}");
        }
    }

    #[test]
    fn help_lists_the_commands_and_explains_one() {
        let Err(NoCommand::Help(all)) = line("help") else { panic!("no help") };
        for word in ["list", "baud", "commit", "disconnect", "exit", "help"] {
            assert!(all.lines().any(|line| line.split_whitespace().next() == Some(word)), "{word}: {all}");
        }
        assert!(!all.contains("completions"), "{all}");
        let Err(NoCommand::Help(one)) = line("help sshport") else { panic!("no help") };
        assert!(one.contains("0 = none"), "{one}");
    }

    #[test]
    fn a_usage_error_is_one_line() {
        for (text, wanted) in [
            ("buad ttyUSB0 9600", "unknown command buad: did you mean baud?"),
            ("show 'ttyUSB0", "missing closing quote"),
            ("baud ttyUSB0 \\", "the line ends with a backslash: a command is one line"),
            ("send ttyUSB0 show version", "a text of several words must be quoted"),
            ("commit confirm 0", "expected minutes from 1 to 1440, or a time such as 5m or 1h"),
            ("commit confirm soon", "expected minutes from 1 to 1440"),
            (
                "send --timeout 1h30 ttyUSB0 x",
                "expected seconds from 1 to 86400, or a time such as 30s or 2m",
            ),
            ("list | grep x", "| is for a shell: one command a line here"),
            ("send ttyUSB0 a\\\\q", "invalid escape sequence"),
            ("break ttyUSB0 0", "expected milliseconds from 10 to 10000, or the name of a break of the port"),
            ("commit confirm", "<MINUTES>"),
            ("commit ttyUSB0", "ttyUSB0"),
            ("commit --dry-run", "usage: commit or commit <COMMAND>"),
            ("baud ttyUSB0", "<N>"),
            ("parity ttyUSB0 N N", "unexpected argument 'N'"),
            ("reload a%b", "use 1 to 32 characters of A-Z a-z 0-9 . _ -"),
            ("reload -x", "'-x'"),
        ] {
            let Err(NoCommand::Wrong(why)) = line(text) else { panic!("{text:?} was parsed") };
            assert!(why.contains(wanted) && why.lines().count() == 1, "{text:?}: {why}");
        }
    }
}
