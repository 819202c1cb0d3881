//! The command tree, which the shell's arguments and the lines of the prompt share.

use std::path::PathBuf;
use std::sync::OnceLock;

use clap::{CommandFactory, Parser, Subcommand};

use super::args::{Named, Ports, Shell};
use super::commands::at_port::AtPort;
use super::commands::autobaud::Autobaud;
use super::commands::change::{Creation, Setting, Unset};
use super::commands::check::Check;
use super::commands::commit::Commit;
use super::commands::connect::Connect;
use super::commands::dial::Dial;
use super::commands::diff::Diff;
use super::commands::drive::Reload;
use super::commands::learn::Learn;
use super::commands::list::List;
use super::commands::power::PowerOptions;
use super::commands::rename::{Copy, Rename};
use super::commands::sessions::{Break, Disconnect};
use super::commands::shorthand::Shorthand;
use super::commands::show::Show;
use super::commands::ssh_config::SshConfigOptions;
use super::commands::transfer::Transfer;
use super::doctor::Doctor;
use super::import::ImportOptions;
use crate::exec;
use crate::fleet::HostPattern;

/// The limit of `--host-timeout`: one day, in seconds.
const MAX_HOST_TIMEOUT: u32 = 24 * 3600;

fn host_timeout(word: &str) -> Result<u32, String> {
    exec::seconds(word, 1..=MAX_HOST_TIMEOUT)
}

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
    /// Run the command on these hosts, over SSH: names, rack[1-40], a,b or @group
    #[arg(short = 'H', long, value_name = "HOSTS", conflicts_with_all = ["runtime_dir", "log_dir"])]
    pub hosts: Vec<HostPattern>,
    /// Timeout of each host, in seconds
    #[arg(long, value_name = "SECONDS", requires = "hosts", default_value_t = 60, value_parser = host_timeout)]
    pub host_timeout: u32,
    /// Started for a login on the admin port: reject users who may not administer
    #[arg(long, hide = true)]
    pub admin_session: bool,
    /// The command of that login
    #[arg(long, hide = true, requires = "admin_session", value_name = "LINE")]
    pub line: Option<String>,
    /// The words of the command
    #[arg(skip)]
    pub words: Vec<String>,
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
    List(List),
    /// Show open ports, or the given ports: attached users, traffic, line errors, state
    Status(Ports),
    /// Show the configuration of a port, and what differs from the running and the committed one
    Show(Show),
    /// Create ports; without keys: 9600 8N1, enabled, no SSH port
    Create(Creation),
    /// Wait for an adapter to be plugged in, and bind a port to its USB socket
    Learn(Learn),
    /// Rename a port; its sessions, scrollback, log and listener are kept
    Rename(Rename),
    /// Create a port with the settings of another one, except its SSH port, device and source
    Copy(Copy),
    /// Remove ports from the configuration
    Remove(Named),
    /// Open ports and their listeners now, enabled or not
    Start(Named),
    /// Close ports and their listeners
    Stop(Named),
    /// Apply changes to ports; without a port, changes to the server and edits of the file
    Reload(Reload),
    #[command(flatten)]
    Shorthand(Shorthand),
    /// Set keys of the configuration (see consoleserver.toml(5))
    Set(Setting),
    /// Remove keys from the configuration, which restores their defaults
    Unset(Unset),
    /// Attach to the console of a port; ^Ec. detaches
    Connect(Connect),
    /// Show uncommitted changes, one row for the same change to several ports
    Diff(Diff),
    /// Write all changes to disk, after reloading what was not reloaded yet
    Commit(Commit),
    /// Confirm a `commit confirm`, which cancels its rollback
    Confirm,
    /// Discard all uncommitted changes, or roll back a `commit confirm`
    Revert,
    /// Send a break; default: 500 ms
    Break(Break),
    /// Switch the power of a port's device, or print whether it is on
    Power(PowerOptions),
    /// Detect the line rate of a device: listen at common rates until its output reads as text
    Autobaud(Autobaud),
    /// Transfer a file to or from the device by XMODEM, YMODEM or ZMODEM (lrzsz)
    Transfer(Transfer),
    #[command(flatten)]
    AtPort(AtPort),
    /// List attached users
    Who(Ports),
    /// Diagnose why a port does not work, and print what fixes it
    Doctor(Doctor),
    /// Check a configuration file: report its errors, or what it would change
    Check(Check),
    /// Disconnect the sessions of a user
    Disconnect(Disconnect),
    /// Import the configuration of another console server: conserver.cf, conman.conf, ser2net.yaml or config.ini
    Import(ImportOptions),
    /// Print entries for ~/.ssh/config, which name each console
    SshConfig(SshConfigOptions),
    /// Connect standard input and output to a console, found in DNS by its name: a ProxyCommand for ssh
    Dial(Dial),
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

/// The names of all commands, in the order of the tree.
pub fn names() -> Vec<&'static str> {
    static NAMES: OnceLock<Vec<String>> = OnceLock::new();
    let names = || Line::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
    NAMES.get_or_init(names).iter().map(String::as_str).collect()
}
