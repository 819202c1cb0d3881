//! Commands that set one key: `baud PORT N` is `set PORT baud N`. clap's subcommands are generated from one table.

use clap::{Arg, ArgMatches, Command, Error, FromArgMatches, Subcommand, ValueHint};

use super::change::Setting;
use crate::cli::target::{Target, Targets};
use crate::port::PortPattern;

/// A `set` by the command of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shorthand(pub Setting);

pub(in crate::cli) struct Row {
    pub name: &'static str,
    /// The table that the key belongs to; `None` = a port, which is the first word.
    table: Option<&'static str>,
    pub key: &'static str,
    /// The name of the value in help.
    value: &'static str,
    /// Whether the value may be several words.
    many: bool,
    about: &'static str,
}

impl Row {
    fn table(&self) -> Option<Target> {
        self.table.and_then(|table| table.parse().ok())
    }

    /// The target whose keys include this one; `[defaults]` for a key of ports.
    pub(in crate::cli) fn target(&self) -> Target {
        self.table().unwrap_or(Target::Defaults)
    }
}

const fn port(name: &'static str, key: &'static str, value: &'static str, about: &'static str) -> Row {
    Row { name, table: None, key, value, many: false, about }
}

pub(in crate::cli) static ROWS: &[Row] = &[
    port("enable", "enabled", "on|off", "Open a port automatically when its device appears: on or off"),
    port("baud", "baud", "N", "Set the line rate in bits per second"),
    port("bytesize", "bytesize", "5-8", "Set the data bits"),
    port("stopbits", "stopbits", "1|2", "Set the stop bits"),
    port("parity", "parity", "none|even|odd|mark|space", "Set the parity; the first letter is enough"),
    port("rtscts", "rtscts", "on|off", "Set hardware flow control (RTS/CTS)"),
    port("xonxoff", "xonxoff", "on|off", "Set software flow control (XON/XOFF)"),
    port(
        "outputdelay",
        "output_delay",
        "TIME",
        "Set a delay after each character sent, such as 20ms; 0 = none",
    ),
    port(
        "outputlinedelay",
        "output_line_delay",
        "TIME",
        "Set a delay after each line sent, such as 1s; 0 = none",
    ),
    Row {
        many: true,
        ..port("imap", "imap", "MAP", "Map characters received from the device, such as lfcrlf; none = off")
    },
    Row {
        many: true,
        ..port("omap", "omap", "MAP", "Map characters sent to the device, such as crcrlf; none = off")
    },
    port("sshport", "ssh_port", "N", "Set the TCP port of the console's SSH server; 0 = none"),
    port("logfile", "log.file", "FILE", "Set the name of the log file in the port's log directory"),
    port("logtype", "log.type", "none|raw|text|hex|both", "Set the log format"),
    port("timeout", "timeout", "SECONDS", "Set the idle timeout of sessions; 0 = none"),
    port("device", "device", "PATH", "Set the path of the device, such as /dev/serial/by-id/..."),
    Row { many: true, ..port("describe", "description", "TEXT", "Set the description of a port") },
    Row {
        table: Some("server"),
        ..port("portmonitor", "monitor", "DIR", "Set the directory in which devices appear; default: /dev")
    },
    Row {
        table: Some("server"),
        ..port("cliport", "ssh_port", "N", "Set the TCP port of the admin CLI; 0 = none")
    },
    Row {
        table: Some("server"),
        many: true,
        ..port("listen", "listen", "ADDR", "Set the addresses on which ports listen")
    },
    Row {
        table: Some("access"),
        many: true,
        ..port("access", "groups", "GROUP", "Set the groups that may use a console; * = every user")
    },
];

impl Subcommand for Shorthand {
    fn augment_subcommands(command: Command) -> Command {
        command.subcommands(ROWS.iter().map(subcommand))
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        ROWS.iter().any(|row| row.name == name)
    }
}

fn subcommand(row: &Row) -> Command {
    let mut value = Arg::new("value").value_name(row.value).required(true).allow_hyphen_values(true);
    if row.many {
        value = value.num_args(1..).trailing_var_arg(true);
    }
    if ["device", "monitor"].contains(&row.key) {
        value = value.value_hint(ValueHint::AnyPath);
    }
    let command = Command::new(row.name).about(row.about);
    match row.table {
        None => command.arg(
            Arg::new("port")
                .value_name("PORT")
                .help("Ports")
                .required(true)
                .value_parser(clap::value_parser!(PortPattern)),
        ),
        Some(_) => command,
    }
    .arg(value)
}

impl FromArgMatches for Shorthand {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let missing = || Error::new(clap::error::ErrorKind::MissingSubcommand);
        let (name, matches) = matches.subcommand().ok_or_else(missing)?;
        let row = ROWS.iter().find(|row| row.name == name).ok_or_else(missing)?;
        let of = match row.table() {
            Some(table) => table.into(),
            None => Targets::Ports(matches.get_one::<PortPattern>("port").ok_or_else(missing)?.clone()),
        };
        let words = matches.get_many::<String>("value").unwrap_or_default().cloned().collect();
        Ok(Self(Setting { of, key: row.key.to_owned(), words }))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
