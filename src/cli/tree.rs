//! The command tree: what can be said, in a shell's arguments and at the prompt alike.

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

/// Use and administer the serial consoles of this machine. Without a command: a prompt, or the commands of standard input.
#[derive(Debug, Parser)]
#[command(name = "consolectl", version, max_term_width = 80, disable_help_subcommand = true)]
pub struct Arguments {
    /// Where the sockets are of a consoleserver that runs in a terminal.
    #[arg(long, value_name = "DIR")]
    pub runtime_dir: Option<PathBuf>,
    /// Where the logs are of ports that nothing serves any more.
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
    /// Started for a login on the admin port: refuses whoever may not administer.
    #[arg(long, hide = true)]
    pub admin_session: bool,
    /// The one command of that login.
    #[arg(long, hide = true, requires = "admin_session", value_name = "LINE")]
    pub line: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// A line of the prompt.
#[derive(Debug, Parser)]
#[command(name = "", no_binary_name = true, max_term_width = 80, disable_help_subcommand = true)]
pub struct Line {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// List the configured ports: plugged in or not, settings, SSH port, state
    List {
        /// The adapters that are plugged in and that no port has for its `device`: maker, product, serial number, path
        #[arg(long)]
        unconfigured: bool,
        /// The ports; all without
        #[arg(id = "port", value_name = "PORT", conflicts_with = "unconfigured")]
        ports: Vec<PortPattern>,
        #[command(flatten)]
        output: Output,
    },
    /// Show the ports that are open, or these ports: who uses them, and what went over them
    Status(Ports),
    /// Show the configuration of a port, what runs otherwise, and what is not committed
    Show {
        /// The ports; or server, access, defaults, groups, templates or templates.NAME
        #[arg(value_name = "PORT", required = true)]
        of: Vec<Targets>,
        #[command(flatten)]
        output: Output,
    },
    /// Make new ports: 9600 8N1, enabled, without a listener, or as the keys say
    Create(Creation),
    /// Wait for the next adapter to be plugged in, and bind a port to the USB socket it is in
    Learn {
        /// What it is to be called; made if there is none of that name
        port: PortName,
        /// How long to wait
        #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
        timeout: u32,
    },
    /// Give a port another name: its sessions, scrollback, log and listener stay
    Rename {
        /// The port
        port: PortName,
        /// What it is to be called
        #[arg(value_name = "NEW")]
        to: PortName,
    },
    /// Make a new port with the settings of another one, but its TCP port and device
    Copy {
        /// The port
        port: PortName,
        /// The new one
        #[arg(value_name = "NEW")]
        to: PortName,
    },
    /// Take ports out of the configuration
    Remove(Named),
    /// Open ports now, enabled or not, and their listeners
    Start(Named),
    /// Close ports, and their listeners
    Stop(Named),
    /// Apply what was changed of these ports; without a port, what was changed of the server
    Reload {
        /// The ports
        #[arg(id = "port", value_name = "PORT")]
        ports: Vec<PortPattern>,
    },
    #[command(flatten)]
    Shorthand(Shorthand),
    /// Set any keys of the configuration (see consoleserver.toml(5))
    Set(Setting),
    /// Take keys out of the configuration, so that their defaults hold
    Unset {
        /// The ports; or server, access, defaults or templates.NAME; or groups or templates, with names as KEY
        #[arg(value_name = "PORT")]
        of: Targets,
        /// The keys: log.sync
        #[arg(id = "key", value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
    /// Become the console of a port; ^Ec. leaves
    Connect {
        /// How
        #[command(flatten)]
        how: Connection,
        /// The port; exactly one
        port: PortPattern,
    },
    /// Show what is not committed, the same change of several ports in one row
    Diff {
        /// Only of these ports; or server, access or defaults
        #[arg(value_name = "PORT")]
        of: Vec<Targets>,
        /// A row for each key of each port
        #[arg(long)]
        full: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Write every change to the disk; what was not reloaded is reloaded first
    #[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
    Commit {
        /// On trial
        #[command(subcommand)]
        trial: Option<Trial>,
    },
    /// Keep what `commit confirm` has committed
    Confirm,
    /// Forget every change that is not committed
    Revert,
    /// Send a break, of half a second or of so many milliseconds
    Break {
        /// The ports
        port: PortPattern,
        /// Milliseconds
        #[arg(value_name = "MS", value_parser = clap::value_parser!(u32).range(1..=LONGEST_BREAK))]
        milliseconds: Option<u32>,
    },
    /// Listen at the usual line rates until the device reads as text; nothing is sent to it
    Autobaud {
        /// The ports, one after the other
        port: PortPattern,
        /// Set the rate that was found
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
    /// Show who is at which port, or at these ports
    Who(Ports),
    /// Say why a port does not work, and what would mend it
    Doctor {
        /// The ports; all without
        #[arg(id = "port", value_name = "PORT")]
        ports: Vec<PortPattern>,
        #[command(flatten)]
        output: Output,
    },
    /// Say what is wrong with a configuration file, or what it would change
    Check {
        /// The file; the one of this machine without it
        #[arg(value_hint = clap::ValueHint::FilePath)]
        file: Option<PathBuf>,
    },
    /// End the sessions of a user at ports
    Disconnect {
        /// The ports
        port: PortPattern,
        /// Login name
        user: String,
    },
    /// Make ports of another console server's configuration: conserver.cf, ser2net.yaml or config.ini
    Import(super::import::ImportOptions),
    /// Print entries for ~/.ssh/config: each console by its name
    SshConfig(SshConfigOptions),
    /// Print a summary of the commands, or how one is used
    Help {
        /// The command
        command: Option<String>,
    },
    /// Print the version
    Version,
    /// Leave
    Exit,
    /// Print what makes a shell complete these commands
    #[command(hide = true)]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// How to say it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Args)]
pub struct Output {
    /// As JSON, for scripts
    #[arg(long)]
    pub json: bool,
}

/// Ports to look at, and how to say it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Ports {
    /// The ports; all without
    #[arg(id = "port", value_name = "PORT")]
    pub ports: Vec<PortPattern>,
    #[command(flatten)]
    /// How to say it.
    pub output: Output,
}

/// Ports to act on.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Named {
    /// The ports: names, p[01-48], 'rack1-*', a,b or @group
    #[arg(id = "port", value_name = "PORT", required = true)]
    pub ports: Vec<PortPattern>,
}

/// `create PORT… [KEY=VALUE…]`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Creation {
    /// What to call them: core, p[01-48], or a,b. ttyUSB0 is /dev/ttyUSB0; of any other name it wants `device`
    #[arg(id = "new", value_name = "PORT")]
    pub ports: PortPattern,
    /// A template of the configuration
    #[arg(long, value_name = "TEMPLATE")]
    pub like: Option<String>,
    /// TCP ports for SSH, from this one up, but none that is taken
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub first_port: Option<u16>,
    /// Keys with their values: baud=115200 device=/dev/ttyS[0-47]
    #[arg(id = "words", value_name = "KEY=VALUE")]
    pub words: Vec<String>,
}

/// `set PORT KEY VALUE…` or `set PORT KEY=VALUE…`, or a shorthand of it.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Setting {
    /// The ports; or server, access, defaults or templates.NAME; or groups, with a name as KEY
    #[arg(value_name = "PORT")]
    pub of: Targets,
    /// The key: log.sync; or keys with their values: baud=115200 parity=E
    #[arg(value_name = "KEY[=VALUE]")]
    pub key: String,
    /// The value, as a word or as TOML; a list as words
    #[arg(value_name = "VALUE", trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

/// `commit confirm MINUTES`, `commit mine`, `commit mine confirm MINUTES`
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Trial {
    /// Back to what was before, unless `confirm` follows within so many minutes
    Confirm {
        /// Minutes
        #[arg(value_parser = clap::value_parser!(u32).range(1..=MAX_MINUTES))]
        minutes: u32,
    },
    /// Your own changes alone; those of others stay uncommitted
    #[command(disable_help_subcommand = true)]
    Mine {
        /// On trial
        #[command(subcommand)]
        trial: Option<MineOnTrial>,
    },
}

/// `commit mine confirm MINUTES`
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum MineOnTrial {
    /// Back to what was before, unless `confirm` follows within so many minutes
    Confirm {
        /// Minutes
        #[arg(value_parser = clap::value_parser!(u32).range(1..=MAX_MINUTES))]
        minutes: u32,
    },
}

/// As long as the service lets a commit wait.
const MAX_MINUTES: i64 = MAX_CONFIRM_SECONDS as i64 / 60;

/// As long as a port holds a break.
const LONGEST_BREAK: i64 = 10_000;

/// A shell whose completion we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// What a key belongs to. A port that has the name of a table is written `/dev/server`.
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
    /// Every template.
    Templates,
    /// `[templates.NAME]`
    Template(TemplateName),
    /// `[ports.NAME]`
    Port(PortName),
}

/// Neither a table nor a port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// A port's name.
    #[error("{0}")]
    Port(#[from] PortError),
    /// Several ports.
    #[error("{0}")]
    Pattern(#[from] PatternError),
    /// A template's.
    #[error("{0}")]
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

/// Why a line is no command.
#[derive(Debug, PartialEq, Eq)]
pub enum NoCommand {
    /// There is nothing on it, or a comment.
    Blank,
    /// It asks for help: here it is.
    Help(String),
    /// What is wrong, in a sentence.
    Wrong(String),
}

/// The commands, with examples in their help.
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

/// Understands the arguments of the program.
pub fn arguments(mut words: Vec<OsString>) -> Result<Arguments, NoCommand> {
    // The first word that is neither an option nor the value of one begins a command.
    let mut command = 1;
    while let Some(word) =
        words.get(command).and_then(|word| word.to_str()).filter(|word| word.starts_with('-'))
    {
        command += if ["--runtime-dir", "--log-dir", "--line"].contains(&word) { 2 } else { 1 };
    }
    // (What is not UTF-8 is no command.)
    let typed: Option<Vec<String>> =
        words.iter().skip(command).map(|word| word.to_str().map(str::to_owned)).collect();
    if let Some(typed) = typed {
        words.truncate(command);
        words.extend(words::understand(typed).map_err(NoCommand::Wrong)?.into_iter().map(OsString::from));
    }
    let tree = with_examples(Arguments::command()).override_help(format!(
        "Use and administer the serial consoles of this machine.\n\n\
         Usage: consolectl [--runtime-dir DIR] [--log-dir DIR] [COMMAND [ARGUMENT]...]\n\n\
         Without a command: a prompt, or the commands of standard input.\n\n{}\n\n\
         See consolectl(1).",
        help::all()
    ));
    tree.try_get_matches_from(words)
        .and_then(|matches| Arguments::from_arg_matches(&matches))
        .map_err(|error| no_command(&error))
}

/// Understands a line of the prompt. Words are cut as a shell cuts them.
pub fn line(text: &str) -> Result<Command, NoCommand> {
    let words = shlex::split(text).ok_or_else(|| NoCommand::Wrong("a quote is not closed".to_owned()))?;
    if words.is_empty() {
        return Err(NoCommand::Blank);
    }
    let words = words::understand(words).map_err(NoCommand::Wrong)?;
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

/// What clap says over several lines, as one: what is wrong, and what is similar or how it is used.
pub fn sentence(error: &clap::Error) -> String {
    let said = error.to_string();
    let mut parts: Vec<String> = Vec::new();
    for paragraph in said.split("\n\n") {
        let words = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        let words = words.trim_start_matches("error: ").trim_start_matches("tip: ");
        match words.strip_prefix("Usage: ") {
            _ if words.is_empty() || words.starts_with("For more information") => {}
            // How everything is used does not help.
            Some(_) if error.kind() == ErrorKind::InvalidSubcommand => parts.push("see help".to_owned()),
            Some(usage) => parts.push(format!("usage: {usage}")),
            None => parts.push(words.to_owned()),
        }
    }
    parts.join("; ")
}

/// Options of `connect`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Connection {
    /// Escape keys of this session, such as ^Xc, or none
    #[arg(long, value_name = "KEYS")]
    escape: Option<Escape>,
    /// End with an error when the device goes away, or if it is not there
    #[arg(long)]
    no_reconnect: bool,
    /// Take over from who writes there
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

    /// A shorthand is what it stands for.
    fn understood(text: &str) -> Command {
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
    fn every_command_of_the_original_and_of_ours_is_understood() {
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
            assert_eq!(understood(text), wanted, "{text:?}");
            let words = shlex::split(text).unwrap();
            let arguments = Arguments::try_parse_from(["consolectl".to_owned()].into_iter().chain(words));
            assert_eq!(arguments.unwrap().command, line(text).ok(), "as arguments: {text:?}");
        }
    }

    #[test]
    fn a_blank_line_and_a_comment_are_nothing() {
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
    fn what_is_no_command_is_told_in_one_line() {
        for (text, wanted) in [
            ("buad ttyUSB0 9600", "there is no command buad: did you mean baud?"),
            ("show 'ttyUSB0", "a quote is not closed"),
            ("commit confirm 0", "0 is not in 1..=1440"),
            ("break ttyUSB0 0", "0 is not in 1..=10000"),
            ("commit confirm", "<MINUTES>"),
            ("commit ttyUSB0", "ttyUSB0"),
            ("baud ttyUSB0", "<N>"),
            ("parity ttyUSB0 N N", "unexpected argument 'N'"),
            ("reload a%b", "use 1 to 32 of A-Z a-z 0-9 . _ -"),
            ("reload -x", "'-x'"),
        ] {
            let Err(NoCommand::Wrong(why)) = line(text) else { panic!("{text:?} is understood") };
            assert!(why.contains(wanted) && why.lines().count() == 1, "{text:?}: {why}");
        }
    }
}
