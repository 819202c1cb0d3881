//! The command tree, which the shell's arguments and the lines of the prompt share.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::OnceLock;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use super::at_port::AtPort;
use super::shorthand::Shorthand;
use super::ssh_config::SshConfigOptions;
use super::targets::Targets;
use super::transfer::{Direction, Protocol};
use super::{help, words};
use crate::admin::confirm::MAX_CONFIRM_SECONDS;
use crate::config::{TemplateName, TemplateNameError};
use crate::port::{PatternError, PortError, PortName, PortPattern};
use crate::session::{Escape, Options};

/// Use and administer the serial consoles of this machine. Without a command, prompt for commands or read them from standard input.
#[derive(Debug, Parser)]
#[command(name = "consolectl", version, max_term_width = 80, disable_help_subcommand = true)]
pub struct Arguments {
    /// Runtime directory of a consoleserver(8) that runs in the foreground
    #[arg(long, value_name = "DIR")]
    pub runtime_dir: Option<PathBuf>,
    /// Directory of the logs of ports that are not served
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
    /// Started for a login on the admin port: reject users who may not administer
    #[arg(long, hide = true)]
    pub admin_session: bool,
    /// The command of that login
    #[arg(long, hide = true, requires = "admin_session", value_name = "LINE")]
    pub line: Option<String>,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// A line of the prompt.
#[derive(Debug, Parser)]
#[command(name = "", no_binary_name = true, max_term_width = 80, disable_help_subcommand = true)]
pub struct Line {
    #[command(subcommand)]
    pub command: Command,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// List the configured ports: device present, line settings, SSH port, state
    List {
        /// List USB adapters that no port names as its `device`: vendor, product, serial number, path
        #[arg(long)]
        unconfigured: bool,
        /// Ports; default: all
        #[arg(id = "port", value_name = "PORT", conflicts_with = "unconfigured")]
        ports: Vec<PortPattern>,
        #[command(flatten)]
        output: Output,
    },
    /// Show open ports, or the given ports: attached users, traffic, line errors, state
    Status(Ports),
    /// Show the configuration of a port, and what differs from the running and the committed one
    Show {
        /// Ports; or server, access, defaults, groups, templates or templates.NAME
        #[arg(value_name = "PORT", required = true)]
        of: Vec<Targets>,
        #[command(flatten)]
        output: Output,
    },
    /// Create ports; without keys: 9600 8N1, enabled, no SSH port
    Create(Creation),
    /// Wait for an adapter to be plugged in, and bind a port to its USB socket
    Learn {
        /// Port; created if it does not exist
        port: PortName,
        /// Timeout in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
        timeout: u32,
    },
    /// Rename a port; its sessions, scrollback, log and listener are kept
    Rename {
        /// Port
        port: PortName,
        /// New name
        #[arg(value_name = "NEW")]
        to: PortName,
    },
    /// Create a port with the settings of another one, except its SSH port and device
    Copy {
        /// Port to copy
        port: PortName,
        /// Name of the new port
        #[arg(value_name = "NEW")]
        to: PortName,
    },
    /// Remove ports from the configuration
    Remove(Named),
    /// Open ports and their listeners now, enabled or not
    Start(Named),
    /// Close ports and their listeners
    Stop(Named),
    /// Apply changes to ports; without a port, changes to the server and edits of the file
    Reload {
        /// Ports
        #[arg(id = "port", value_name = "PORT")]
        ports: Vec<PortPattern>,
    },
    #[command(flatten)]
    Shorthand(Shorthand),
    /// Set keys of the configuration (see consoleserver.toml(5))
    Set(Setting),
    /// Remove keys from the configuration, which restores their defaults
    Unset {
        /// Ports; or server, access, defaults or templates.NAME; or groups or templates, with names as KEY
        #[arg(value_name = "PORT")]
        of: Targets,
        /// Keys, such as log.sync
        #[arg(id = "key", value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
    /// Attach to the console of a port; ^Ec. detaches
    Connect {
        #[command(flatten)]
        how: Connection,
        /// Port; exactly one
        port: PortPattern,
    },
    /// Show uncommitted changes, one row for the same change to several ports
    Diff {
        /// Ports, server, access or defaults; default: everything
        #[arg(value_name = "PORT")]
        of: Vec<Targets>,
        /// Show one row for each key of each port
        #[arg(long)]
        full: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Write all changes to disk, after reloading what was not reloaded yet
    #[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
    Commit {
        #[command(subcommand)]
        trial: Option<Trial>,
    },
    /// Confirm a `commit confirm`, which cancels its rollback
    Confirm,
    /// Discard all uncommitted changes, or roll back a `commit confirm`
    Revert,
    /// Send a break; default: 500 ms
    Break {
        /// Ports
        port: PortPattern,
        /// Duration in milliseconds
        #[arg(value_name = "MS", value_parser = clap::value_parser!(u32).range(1..=MAX_BREAK_MS))]
        milliseconds: Option<u32>,
    },
    /// Detect the line rate of a device: listen at common rates until its output reads as text
    Autobaud {
        /// Ports, tried one after the other
        port: PortPattern,
        /// Set the detected rate
        #[arg(long)]
        set: bool,
    },
    /// Transfer a file to or from the device by XMODEM, YMODEM or ZMODEM (lrzsz)
    Transfer {
        /// The port; exactly one
        port: PortPattern,
        /// Which way
        direction: Direction,
        /// The protocol: xmodem, ymodem or zmodem, or the first letter
        #[arg(long, value_enum, default_value = "zmodem")]
        protocol: Protocol,
        /// Take over from the client that has write access
        #[arg(long)]
        force: bool,
        /// The file; of one that is received, its name here
        #[arg(value_hint = clap::ValueHint::FilePath)]
        file: PathBuf,
    },
    #[command(flatten)]
    AtPort(AtPort),
    /// List attached users
    Who(Ports),
    /// Diagnose why a port does not work, and print what fixes it
    Doctor {
        /// Ports; default: all
        #[arg(id = "port", value_name = "PORT")]
        ports: Vec<PortPattern>,
        #[command(flatten)]
        output: Output,
    },
    /// Check a configuration file: report its errors, or what it would change
    Check {
        /// File; default: the configuration of this machine
        #[arg(value_hint = clap::ValueHint::FilePath)]
        file: Option<PathBuf>,
    },
    /// Disconnect the sessions of a user
    Disconnect {
        /// Ports
        port: PortPattern,
        /// Login name
        user: String,
    },
    /// Import the configuration of another console server: conserver.cf, ser2net.yaml or config.ini
    Import(super::import::ImportOptions),
    /// Print entries for ~/.ssh/config, which name each console
    SshConfig(SshConfigOptions),
    /// Print a summary of the commands, or the help of one
    Help {
        /// Command
        command: Option<String>,
    },
    /// Print the version
    Version,
    /// Leave the prompt
    Exit,
    /// Print the completion script for a shell
    #[command(hide = true)]
    Completions {
        /// Shell
        shell: Shell,
    },
}

/// `--json`, of the commands that list or show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Args)]
pub struct Output {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of commands that report on ports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Ports {
    /// Ports; default: all
    #[arg(id = "port", value_name = "PORT")]
    pub ports: Vec<PortPattern>,
    #[command(flatten)]
    pub output: Output,
}

/// Arguments of commands that act on ports.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Named {
    /// Ports: names, p[01-48], 'rack1-*', a,b or @group
    #[arg(id = "port", value_name = "PORT", required = true)]
    pub ports: Vec<PortPattern>,
}

/// `create PORT… [KEY=VALUE…]`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Creation {
    /// Names: core, p[01-48] or a,b. ttyUSB0 stands for /dev/ttyUSB0; other names need a `device`
    #[arg(id = "new", value_name = "PORT")]
    pub ports: PortPattern,
    /// Template from which the ports inherit keys
    #[arg(long, value_name = "TEMPLATE")]
    pub like: Option<String>,
    /// Assign free SSH ports, starting at N
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub first_port: Option<u16>,
    /// Keys and values: baud=115200 device=/dev/ttyS[0-47]
    #[arg(id = "words", value_name = "KEY=VALUE")]
    pub words: Vec<String>,
}

/// `set PORT KEY VALUE…` or `set PORT KEY=VALUE…`, or a shorthand of it.
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

/// `commit confirm MINUTES`, `commit mine`, `commit mine confirm MINUTES`
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Trial {
    /// Commit, and roll back unless `confirm` follows within MINUTES
    Confirm {
        /// Timeout in minutes
        #[arg(value_parser = clap::value_parser!(u32).range(1..=MAX_MINUTES))]
        minutes: u32,
    },
    /// Commit your own changes only; those of other users stay uncommitted
    #[command(disable_help_subcommand = true)]
    Mine {
        #[command(subcommand)]
        trial: Option<MineOnTrial>,
    },
}

/// `commit mine confirm MINUTES`
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum MineOnTrial {
    /// Commit, and roll back unless `confirm` follows within MINUTES
    Confirm {
        /// Timeout in minutes
        #[arg(value_parser = clap::value_parser!(u32).range(1..=MAX_MINUTES))]
        minutes: u32,
    },
}

/// The limit of console-admin, in minutes.
const MAX_MINUTES: i64 = MAX_CONFIRM_SECONDS as i64 / 60;

/// The limit of a port, in milliseconds.
const MAX_BREAK_MS: i64 = 10_000;

/// Shells for which there is a completion script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// The table or port that a key belongs to. A port with the name of a table is written `/dev/server`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `[server]`
    Server,
    /// `[access]`
    Access,
    /// `[defaults]`
    Defaults,
    /// `[groups]`
    Groups,
    /// All of `[templates]`
    Templates,
    /// `[templates.NAME]`
    Template(TemplateName),
    /// `[ports.NAME]`
    Port(PortName),
}

/// Why a word is neither a table nor a port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// An invalid port name.
    #[error(transparent)]
    Port(#[from] PortError),
    /// An invalid port pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// An invalid template name.
    #[error(transparent)]
    Template(#[from] TemplateNameError),
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(word: &str) -> Result<Self, TargetError> {
        if let Some(template) = word.strip_prefix("templates.") {
            return Ok(Self::Template(template.parse()?));
        }
        Ok(match word {
            "server" => Self::Server,
            "access" => Self::Access,
            "defaults" => Self::Defaults,
            "groups" => Self::Groups,
            "templates" => Self::Templates,
            _ => Self::Port(word.parse()?),
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Access => "access",
            Self::Defaults => "defaults",
            Self::Groups => "groups",
            Self::Templates => "templates",
            Self::Template(name) => return write!(f, "templates.{name}"),
            Self::Port(port) => port.as_str(),
        })
    }
}

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

/// The commands as clap has them, with examples in their help.
pub fn tree() -> clap::Command {
    with_examples(Line::command())
}

fn with_examples(tree: clap::Command) -> clap::Command {
    tree.mut_subcommands(|command| match help::examples(command.get_name()) {
        Some(examples) => command.after_help(examples),
        None => command,
    })
}

/// The names of all commands, in the order of the tree.
pub fn names() -> Vec<&'static str> {
    static NAMES: OnceLock<Vec<String>> = OnceLock::new();
    let names = || Line::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
    NAMES.get_or_init(names).iter().map(String::as_str).collect()
}

/// Parses the arguments of the program.
pub fn arguments(mut words: Vec<OsString>) -> Result<Arguments, NoCommand> {
    // The first word that is neither an option nor the value of one begins a command.
    let mut command = 1;
    while let Some(word) =
        words.get(command).and_then(|word| word.to_str()).filter(|word| word.starts_with('-'))
    {
        command += if ["--runtime-dir", "--log-dir", "--line"].contains(&word) { 2 } else { 1 };
    }
    // (An argument that is not UTF-8 cannot be a command.)
    let typed: Option<Vec<String>> =
        words.iter().skip(command).map(|word| word.to_str().map(str::to_owned)).collect();
    if let Some(typed) = typed {
        words.truncate(command);
        words.extend(words::translate(typed).map_err(NoCommand::Wrong)?.into_iter().map(OsString::from));
    }
    let tree = with_examples(Arguments::command()).override_help(format!(
        "Use and administer the serial consoles of this machine.\n\n\
         Usage: consolectl [--runtime-dir DIR] [--log-dir DIR] [COMMAND [ARGUMENT]...]\n\n\
         Without a command, prompt for commands or read them from standard input.\n\n{}\n\n\
         See consolectl(1).",
        help::all()
    ));
    tree.try_get_matches_from(words)
        .and_then(|matches| Arguments::from_arg_matches(&matches))
        .map_err(|error| no_command(&error))
}

/// Parses a line of the prompt. Words are split as in a shell.
pub fn line(text: &str) -> Result<Command, NoCommand> {
    let words = shlex::split(text).ok_or_else(|| NoCommand::Wrong("missing closing quote".to_owned()))?;
    if words.is_empty() {
        return Err(NoCommand::Blank);
    }
    let words = words::translate(words).map_err(NoCommand::Wrong)?;
    let command = tree()
        .try_get_matches_from(words)
        .and_then(|matches| Line::from_arg_matches(&matches))
        .map_err(|error| no_command(&error))?
        .command;
    match command {
        Command::Help { command } => Err(NoCommand::Help(explain(command.as_deref()))),
        command => Ok(command),
    }
}

/// `help`
pub fn explain(command: Option<&str>) -> String {
    command.and_then(help::one).unwrap_or_else(help::all)
}

fn no_command(error: &clap::Error) -> NoCommand {
    match error.use_stderr() {
        false => NoCommand::Help(error.to_string()),
        true => NoCommand::Wrong(sentence(error)),
    }
}

/// clap's message of several lines as one sentence: the error, then a similar word or the usage.
pub fn sentence(error: &clap::Error) -> String {
    let said = error.to_string();
    let mut parts: Vec<String> = Vec::new();
    for paragraph in said.split("\n\n") {
        let words = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        let words = words.trim_start_matches("error: ").trim_start_matches("tip: ");
        match words.strip_prefix("Usage: ") {
            _ if words.is_empty() || words.starts_with("For more information") => {}
            // The usage of the whole program does not help.
            Some(_) if error.kind() == ErrorKind::InvalidSubcommand => parts.push("see help".to_owned()),
            Some(usage) => parts.push(format!("usage: {usage}")),
            None => parts.push(words.to_owned()),
        }
    }
    parts.join("; ")
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Connection {
    /// Escape keys of this session, such as ^Xc, or none
    #[arg(long, value_name = "KEYS")]
    escape: Option<Escape>,
    /// Exit with an error if the device is absent or unplugged
    #[arg(long)]
    no_reconnect: bool,
    /// Take over write access from another client
    #[arg(long)]
    force: bool,
}

impl From<Connection> for Options {
    fn from(Connection { escape, no_reconnect, force }: Connection) -> Self {
        Self { escape: escape.unwrap_or_default(), no_reconnect, force, watch: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::Lines;

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

    fn import(file: &str) -> super::super::import::ImportOptions {
        super::super::import::ImportOptions {
            file: file.into(),
            from: None,
            first_port: None,
            dry_run: false,
        }
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
            Command::AtPort(AtPort::Log { port: usb(), follow, lines, since, until, raw })
        };
        let whole_log = Command::AtPort(AtPort::Log {
            port: usb(),
            follow: false,
            lines: Some(Lines(None)),
            since: None,
            until: None,
            raw: true,
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
            ("list", Command::List { unconfigured: false, ports: vec![], output: PLAIN }),
            ("list --json", Command::List { unconfigured: false, ports: vec![], output: JSON }),
            ("list --unconfigured", Command::List { unconfigured: true, ports: vec![], output: PLAIN }),
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
            ("show ttyUSB0", Command::Show { of: vec![Targets::Ports(usb())], output: PLAIN }),
            ("show server --json", Command::Show { of: vec![Target::Server.into()], output: JSON }),
            ("show /dev/server", Command::Show { of: vec![Targets::Ports(p("server"))], output: PLAIN }),
            ("start ttyUSB0", Command::Start(named(&["ttyUSB0"]))),
            ("stop ttyUSB0", Command::Stop(named(&["ttyUSB0"]))),
            ("reload ttyUSB0", Command::Reload { ports: vec![usb()] }),
            ("reload", Command::Reload { ports: vec![] }),
            (
                "rename ttyUSB0 core",
                Command::Rename { port: "ttyUSB0".parse().unwrap(), to: "core".parse().unwrap() },
            ),
            (
                "copy ttyUSB0 core",
                Command::Copy { port: "ttyUSB0".parse().unwrap(), to: "core".parse().unwrap() },
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
            ("show templates", Command::Show { of: vec![Target::Templates.into()], output: PLAIN }),
            (
                "show /dev/templates.cisco",
                Command::Show { of: vec![Targets::Ports(p("templates.cisco"))], output: PLAIN },
            ),
            (
                "unset templates cisco",
                Command::Unset { of: Target::Templates.into(), keys: vec!["cisco".to_owned()] },
            ),
            ("set defaults baud -1", set("defaults", "baud", &["-1"])),
            ("set p[01-48] baud=9600 parity=E", set("p[01-48]", "baud=9600", &["parity=E"])),
            ("baud p[01-48],core 9600", set("p[01-48],core", "baud", &["9600"])),
            (
                "unset ttyUSB0 baud",
                Command::Unset { of: Targets::Ports(usb()), keys: vec!["baud".to_owned()] },
            ),
            (
                "unset access root",
                Command::Unset { of: Target::Access.into(), keys: vec!["root".to_owned()] },
            ),
            ("connect ttyUSB0", Command::Connect { how: Connection::default(), port: usb() }),
            ("commit", Command::Commit { trial: None }),
            ("commit confirm 5", Command::Commit { trial: Some(Trial::Confirm { minutes: 5 }) }),
            ("commit mine", Command::Commit { trial: Some(Trial::Mine { trial: None }) }),
            (
                "commit mine confirm 5",
                Command::Commit {
                    trial: Some(Trial::Mine { trial: Some(MineOnTrial::Confirm { minutes: 5 }) }),
                },
            ),
            ("confirm", Command::Confirm),
            ("ssh-config", Command::SshConfig(SshConfigOptions { host: None, prefix: None, user: None })),
            ("diff", Command::Diff { of: vec![], full: false, output: PLAIN }),
            ("diff --json", Command::Diff { of: vec![], full: false, output: JSON }),
            ("revert", Command::Revert),
            ("break ttyUSB0", Command::Break { port: usb(), milliseconds: None }),
            ("break ttyUSB0 250", Command::Break { port: usb(), milliseconds: Some(250) }),
            ("autobaud ttyUSB0", Command::Autobaud { port: usb(), set: false }),
            ("autobaud --set ttyUSB0", Command::Autobaud { port: usb(), set: true }),
            ("learn ttyUSB0", Command::Learn { port: "ttyUSB0".parse().unwrap(), timeout: 60 }),
            ("import x.cf", Command::Import(import("x.cf"))),
            ("log ttyUSB0", log(false, None)),
            ("log ttyUSB0 -f -n 5", log(true, Some(5))),
            ("log -n5 ttyUSB0", log(false, Some(5))),
            ("grep -i 'kernel panic' ttyUSB0", grep(true, "kernel panic", &[usb()])),
            ("grep -x", grep(false, "-x", &[])),
            ("send ttyUSB0 'ls\\r' --timeout 3", send(3, "ls\\r", None)),
            ("send --expect '[$#] $' ttyUSB0 ls", send(10, "ls", Some("[$#] $"))),
            ("expect ttyUSB0 login:", expect(10, "login:")),
            ("doctor", Command::Doctor { ports: vec![], output: PLAIN }),
            ("check", Command::Check { file: None }),
            ("check /tmp/new.toml", Command::Check { file: Some("/tmp/new.toml".into()) }),
            ("doctor ttyUSB0 --json", Command::Doctor { ports: vec![usb()], output: JSON }),
            ("who", Command::Who(all(PLAIN))),
            ("who --json", Command::Who(all(JSON))),
            ("who ttyUSB0", Command::Who(Ports { ports: vec![usb()], output: PLAIN })),
            ("disconnect ttyUSB0 bob", Command::Disconnect { port: usb(), user: "bob".to_owned() }),
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
            ("commit confirm 0", "0 is not in 1..=1440"),
            ("break ttyUSB0 0", "0 is not in 1..=10000"),
            ("commit confirm", "<MINUTES>"),
            ("commit ttyUSB0", "ttyUSB0"),
            ("baud ttyUSB0", "<N>"),
            ("parity ttyUSB0 N N", "unexpected argument 'N'"),
            ("reload a%b", "use 1 to 32 of A-Z a-z 0-9 . _ -"),
            ("reload -x", "'-x'"),
        ] {
            let Err(NoCommand::Wrong(why)) = line(text) else { panic!("{text:?} was parsed") };
            assert!(why.contains(wanted) && why.lines().count() == 1, "{text:?}: {why}");
        }
    }
}
