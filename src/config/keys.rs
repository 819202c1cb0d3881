//! The table of configuration keys: name, description of valid values, parser and printer. The reader, `set`
//! and `unset`, the bus and the manual page are based on it.

use thiserror::Error;

use super::value::{self, Parsed, Rejected, Value};
use super::{Access, Members, Port, Server, Trigger};

/// One key of a table `T`.
pub struct Key<T: 'static> {
    /// Path below the table: `baud`, `log.sync`.
    pub name: &'static str,
    /// Description of valid values, printed after "expected".
    pub expects: &'static str,
    /// Whether it may be in `[defaults]` and templates too; other keys apply to a single port.
    pub general: bool,
    put: fn(&mut T, &Value) -> Parsed<()>,
    get: fn(&T) -> Option<Value>,
}

/// Why a key rejects a value. The Display is printed after `KEY = VALUE: `.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct RejectedValue {
    /// What is wrong, and what would be valid.
    pub reason: String,
    /// Index of the invalid element of a list.
    pub element: Option<usize>,
}

impl<T> Key<T> {
    /// Sets the key; `into` is unchanged if the value is rejected.
    pub fn put(&self, into: &mut T, value: &Value) -> Result<(), RejectedValue> {
        (self.put)(into, value).map_err(|rejected| match rejected {
            Rejected::Value => self.expected(None),
            Rejected::Element(index) => self.expected(Some(index)),
            Rejected::Because(why) => {
                RejectedValue { reason: format!("expected {}: {why}", self.expects), element: None }
            }
        })
    }

    /// The error for an invalid value, or for the element of a list.
    pub fn expected(&self, element: Option<usize>) -> RejectedValue {
        RejectedValue { reason: format!("expected {}", self.expects), element }
    }

    /// The value in the form of the file; `None` = the key is absent.
    pub fn get(&self, from: &T) -> Option<Value> {
        (self.get)(from)
    }
}

/// The key of that name.
pub fn find<T>(table: &'static [Key<T>], name: &str) -> Option<&'static Key<T>> {
    table.iter().find(|key| key.name == name)
}

fn store<T>(slot: &mut T, parsed: Parsed<T>) -> Parsed<()> {
    *slot = parsed?;
    Ok(())
}

fn integer(number: impl Into<i64>) -> Option<Value> {
    Some(Value::Integer(number.into()))
}

const PAUSE: &str = "a time from \"1ms\" to \"10s\", or \"none\"";
const MAPPING: &str =
    "a list of mappings (crlf, crcrlf or igncr; lfcr, lfcrlf or ignlf; bsdel; delbs), such as [\"lfcrlf\"]";
const LEVEL: &str = "\"leave\", \"on\" or \"off\"";
const ADDRESSES: &str = "a list of 1 to 32 IP addresses such as [\"[::]\"] or [\"127.0.0.1\", \"[::1]\"]";
const GROUPS: &str = "a list of at most 32 group names such as [\"dialout\"]; [\"*\"] means every user";
const BANNER: &str = "the absolute path of a text file, such as \"/etc/issue.net\", or \"none\"";
const ENDPOINT: &str =
    "an IP address with a TCP port, such as \"[::1]:7001\" or \"127.0.0.1:7002\", or \"none\"";
const SEQUENCE: &str =
    "a text such as '~B', '\\r+++' or '\\z', in which \\d is a delay and \\z a serial break";
const TCP_PORT: &str = "a TCP port from 1 to 65535, or \"none\"";

/// A key that is true or false, and may be in `[defaults]` and templates too: its name, and its field.
macro_rules! flag {
    ($name:literal, $($field:ident).+) => {
        Key {
            name: $name,
            expects: "true or false",
            general: true,
            put: |table, v| store(&mut table.$($field).+, value::flag(v)),
            get: |table| Some(table.$($field).+.into()),
        }
    };
}

/// `[server]`
pub static SERVER: &[Key<Server>] = &[
    Key {
        name: "ssh_port",
        expects: TCP_PORT,
        general: false,
        put: |server, v| store(&mut server.ssh_port, value::tcp_port(v)),
        get: |server| Some(value::show_tcp_port(server.ssh_port)),
    },
    Key {
        name: "listen",
        expects: ADDRESSES,
        general: false,
        put: |server, v| store(&mut server.listen, value::addresses(v)),
        get: |server| Some(value::show_addresses(&server.listen)),
    },
    Key {
        name: "monitor",
        expects: "the absolute path of a directory, such as \"/dev\"",
        general: false,
        put: |server, v| store(&mut server.monitor, value::path(v)),
        get: |server| Some(value::show_path(&server.monitor)),
    },
    Key {
        name: "ssh_algorithms",
        expects: "\"default\", \"compatible\" or \"strict\"",
        general: false,
        put: |server, v| store(&mut server.ssh_algorithms, value::word(v)),
        get: |server| Some(server.ssh_algorithms.word().into()),
    },
    Key {
        name: "banner",
        expects: BANNER,
        general: false,
        put: |server, v| store(&mut server.banner, value::banner(v)),
        get: |server| Some(value::show_banner(server.banner.as_deref())),
    },
];

/// `[access]`
pub static ACCESS: &[Key<Access>] = &[
    Key {
        name: "groups",
        expects: GROUPS,
        general: false,
        put: |access, v| store(&mut access.groups, value::groups(v)),
        get: |access| Some(value::show_groups(&access.groups)),
    },
    Key {
        name: "root",
        expects: "\"key\", \"yes\" or \"no\"",
        general: false,
        put: |access, v| store(&mut access.root, value::one_of(v)),
        get: |access| Some(value::show_word(access.root)),
    },
    Key {
        name: "authorized_keys_files",
        expects: "a list of at most 32 paths such as [\".ssh/authorized_keys\", \"/etc/ssh/keys/%u\"], or \"none\"",
        general: false,
        put: |access, v| store(&mut access.authorized_keys_files, value::keys_files(v)),
        get: |access| Some(value::show_keys_files(&access.authorized_keys_files)),
    },
    Key {
        name: "authorized_keys_command",
        expects: "the absolute path of a program and its arguments, such as \"/usr/bin/sss_ssh_authorizedkeys %u\", or \"none\"",
        general: false,
        put: |access, v| store(&mut access.authorized_keys_command, value::keys_command(v)),
        get: |access| access.authorized_keys_command.as_ref().map(|command| command.as_str().into()),
    },
    Key {
        name: "authorized_keys_command_user",
        expects: "the user that runs authorized_keys_command, such as \"nobody\"",
        general: false,
        put: |access, v| store(&mut access.authorized_keys_command_user, value::keys_command_user(v)),
        get: |access| access.authorized_keys_command_user.as_ref().map(|user| user.as_str().into()),
    },
    Key {
        name: "user_ca",
        expects: "the absolute path of a file with CA keys, such as \"/etc/ssh/ca.pub\", or \"none\"",
        general: false,
        put: |access, v| store(&mut access.user_ca, value::optional_path(v)),
        get: |access| access.user_ca.as_deref().map(value::show_path),
    },
    Key {
        name: "principals",
        expects: "the path of a file with a user's principals, such as \"/etc/ssh/principals/%u\", or \"none\"",
        general: false,
        put: |access, v| store(&mut access.principals, value::principals(v)),
        get: |access| access.principals.as_ref().map(|file| file.as_str().into()),
    },
    Key {
        name: "revoked",
        expects: "the absolute path of a key revocation list, such as \"/etc/ssh/revoked_keys\", or \"none\"",
        general: false,
        put: |access, v| store(&mut access.revoked, value::optional_path(v)),
        get: |access| access.revoked.as_deref().map(value::show_path),
    },
];

/// `[ports.NAME]`, and unless they apply to a single port, `[defaults]` and `[templates.NAME]`.
pub static PORT: &[Key<Port>] = &[
    flag!("enabled", enabled),
    Key {
        name: "like",
        expects: "the name of a template, such as \"cisco\" for [templates.cisco]",
        general: false,
        put: |port, v| store(&mut port.like, value::word(v).map(Some)),
        get: |port| port.like.as_ref().map(|template| template.as_str().into()),
    },
    Key {
        name: "description",
        expects: "a text of at most 80 characters, without control characters",
        general: false,
        put: |port, v| store(&mut port.description, value::description(v)),
        get: |port| Some(port.description.as_str().into()),
    },
    Key {
        name: "device",
        expects: "an absolute path without \"..\", such as \"/dev/serial/by-id/usb-FTDI_A1B2C3-if00-port0\"",
        general: false,
        put: |port, v| store(&mut port.device, value::path(v).map(Some)),
        get: |port| port.device.as_deref().map(value::show_path),
    },
    Key {
        name: "source",
        expects: "\"unix:/PATH\", \"tcp:HOST:PORT\", \"telnet:HOST:PORT\", \"rfc2217:HOST:PORT\" or \"unit\"",
        general: false,
        put: |port, v| store(&mut port.source, value::source(v).map(Some)),
        get: |port| port.source.as_ref().map(|source| source.to_string().into()),
    },
    flag!("on_demand", on_demand),
    Key {
        name: "initial",
        expects: "a list of at most 16 steps such as [{ expect = \"login: $\", send = \"root\\\\r\" }]",
        general: true,
        put: |port, v| store(&mut port.initial, value::initial(v)),
        get: |port| Some(value::show_initial(&port.initial)),
    },
    Key {
        name: "keepalive.interval",
        expects: "a time from \"1s\" to \"24h\", or \"never\"",
        general: true,
        put: |port, v| store(&mut port.keepalive.interval, value::keepalive(v)),
        get: |port| Some(value::show_keepalive(port.keepalive.interval)),
    },
    Key {
        name: "keepalive.text",
        expects: SEQUENCE,
        general: true,
        put: |port, v| store(&mut port.keepalive.text, value::sequence(v)),
        get: |port| Some(port.keepalive.text.to_string().into()),
    },
    Key {
        name: "break",
        expects: SEQUENCE,
        general: true,
        put: |port, v| store(&mut port.break_sequence, value::sequence(v)),
        get: |port| Some(port.break_sequence.to_string().into()),
    },
    Key {
        name: "breaks",
        expects: "a list of at most 32 breaks NAME=TEXT, such as ['sysrq=\\z\\dh']",
        general: true,
        put: |port, v| store(&mut port.breaks, value::breaks(v)),
        get: |port| Some(value::show_breaks(&port.breaks)),
    },
    Key {
        name: "ssh_port",
        expects: TCP_PORT,
        general: false,
        put: |port, v| store(&mut port.ssh_port, value::tcp_port(v)),
        get: |port| Some(value::show_tcp_port(port.ssh_port)),
    },
    Key {
        name: "listen",
        expects: ADDRESSES,
        general: true,
        put: |port, v| store(&mut port.listen, value::addresses(v).map(Some)),
        get: |port| port.listen.as_deref().map(value::show_addresses),
    },
    Key {
        name: "banner",
        expects: BANNER,
        general: true,
        put: |port, v| store(&mut port.banner, value::banner(v).map(Some)),
        get: |port| port.banner.as_ref().map(|banner| value::show_banner(banner.as_deref())),
    },
    Key {
        name: "groups",
        expects: GROUPS,
        general: true,
        put: |port, v| store(&mut port.groups, value::groups(v).map(Some)),
        get: |port| port.groups.as_ref().map(value::show_groups),
    },
    Key {
        name: "users",
        expects: "a list of at most 32 login names such as [\"alice\"]",
        general: true,
        put: |port, v| store(&mut port.users, value::users(v)),
        get: |port| Some(value::show_users(&port.users)),
    },
    Key {
        name: "read_only_groups",
        expects: GROUPS,
        general: true,
        put: |port, v| store(&mut port.read_only_groups, value::groups(v)),
        get: |port| Some(value::show_groups(&port.read_only_groups)),
    },
    Key {
        name: "write",
        expects: "\"one\" or \"shared\"",
        general: true,
        put: |port, v| store(&mut port.write, value::one_of(v)),
        get: |port| Some(value::show_word(port.write)),
    },
    Key {
        name: "timeout",
        expects: "a number of seconds from 1 to 31536000, a time such as \"10m\", or 0 for no timeout",
        general: true,
        put: |port, v| store(&mut port.timeout, value::timeout(v)),
        get: |port| Some(value::show_timeout(port.timeout)),
    },
    Key {
        name: "baud",
        expects: "a number from 1 to 4294967295",
        general: true,
        put: |port, v| store(&mut port.line.baud, value::numeric(v)),
        get: |port| integer(port.line.baud.get()),
    },
    Key {
        name: "bytesize",
        expects: "5, 6, 7 or 8",
        general: true,
        put: |port, v| store(&mut port.line.bytesize, value::numeric(v)),
        get: |port| integer(port.line.bytesize.bits()),
    },
    Key {
        name: "parity",
        expects: "\"none\", \"even\", \"odd\", \"mark\" or \"space\", or the first letter",
        general: true,
        put: |port, v| store(&mut port.line.parity, value::word(v)),
        get: |port| Some(port.line.parity.letter().to_string().into()),
    },
    Key {
        name: "stopbits",
        expects: "1 or 2",
        general: true,
        put: |port, v| store(&mut port.line.stopbits, value::numeric(v)),
        get: |port| integer(port.line.stopbits.count()),
    },
    flag!("rtscts", line.rtscts),
    flag!("xonxoff", line.xonxoff),
    flag!("low_latency", low_latency),
    Key {
        name: "dtr",
        expects: LEVEL,
        general: true,
        put: |port, v| store(&mut port.modem.dtr, value::word(v)),
        get: |port| Some(port.modem.dtr.word().into()),
    },
    Key {
        name: "rts",
        expects: LEVEL,
        general: true,
        put: |port, v| store(&mut port.modem.rts, value::word(v)),
        get: |port| Some(port.modem.rts.word().into()),
    },
    flag!("remote_settings", remote_settings),
    Key {
        name: "rfc2217",
        expects: ENDPOINT,
        general: false,
        put: |port, v| store(&mut port.rfc2217, value::endpoint(v)),
        get: |port| port.rfc2217.as_ref().map(|endpoint| endpoint.to_string().into()),
    },
    Key {
        name: "raw",
        expects: ENDPOINT,
        general: false,
        put: |port, v| store(&mut port.raw, value::endpoint(v)),
        get: |port| port.raw.as_ref().map(|endpoint| endpoint.to_string().into()),
    },
    flag!("plaintext_beyond_loopback", plaintext_beyond_loopback),
    Key {
        name: "output_delay",
        expects: PAUSE,
        general: true,
        put: |port, v| store(&mut port.pacing.character, value::word(v)),
        get: |port| Some(port.pacing.character.to_string().into()),
    },
    Key {
        name: "output_line_delay",
        expects: PAUSE,
        general: true,
        put: |port, v| store(&mut port.pacing.line, value::word(v)),
        get: |port| Some(port.pacing.line.to_string().into()),
    },
    Key {
        name: "imap",
        expects: MAPPING,
        general: true,
        put: |port, v| store(&mut port.imap, value::mapping(v)),
        get: |port| Some(value::show_mapping(&port.imap)),
    },
    Key {
        name: "omap",
        expects: MAPPING,
        general: true,
        put: |port, v| store(&mut port.omap, value::mapping(v)),
        get: |port| Some(value::show_mapping(&port.omap)),
    },
    Key {
        name: "escape",
        expects: "a control character and one more in caret notation, such as \"^Ec\", or \"none\"",
        general: true,
        put: |port, v| store(&mut port.escape, value::escape(v)),
        get: |port| Some(value::show_escape(port.escape)),
    },
    flag!("reconnect", reconnect),
    Key {
        name: "replay",
        expects: "a number of lines from 0 to 10000",
        general: true,
        put: |port, v| store(&mut port.replay, value::replay(v)),
        get: |port| integer(port.replay as i64),
    },
    Key {
        name: "scrollback",
        expects: "a size from \"64K\" to \"16M\"",
        general: true,
        put: |port, v| store(&mut port.scrollback, value::scrollback(v)),
        get: |port| Some(value::show_scrollback(port.scrollback)),
    },
    Key {
        name: "log",
        expects: "\"none\", \"raw\", \"text\", \"hex\", \"both\" or a table such as { type = \"text\", sync = \"5s\" }",
        general: true,
        put: |port, v| store(&mut port.log.kind, value::one_of(v)),
        get: |_| None,
    },
    Key {
        name: "log.type",
        expects: "\"none\", \"raw\", \"text\", \"hex\" or \"both\"",
        general: true,
        put: |port, v| store(&mut port.log.kind, value::one_of(v)),
        get: |port| Some(value::show_word(port.log.kind)),
    },
    Key {
        name: "log.file",
        expects: "a file name of 1 to 64 characters of A-Z a-z 0-9 . _ - that does not begin with a dot",
        general: true,
        put: |port, v| store(&mut port.log.file, value::file_name(v)),
        get: |port| Some(port.log.file.as_str().into()),
    },
    flag!("log.input", log.input),
    flag!("log.journal", log.journal),
    flag!("log.record", log.record),
    Key {
        name: "log.sync",
        expects: "a time from \"10ms\" to \"60m\", or \"never\"",
        general: true,
        put: |port, v| store(&mut port.log.sync, value::sync(v)),
        get: |port| Some(value::show_sync(port.log.sync)),
    },
];

/// The only key of a group of ports, written as the group itself: `core = ["p01", "p02"]`.
pub static GROUP: &[Key<Members>] = &[Key {
    name: "members",
    expects: "a list of ports such as [\"p01\", \"p[02-48]\", \"rack1-*\", \"@edge\"]",
    general: false,
    put: |members, v| store(members, value::patterns(v)),
    get: |members| Some(value::show_patterns(members)),
}];

/// `[ports.NAME.triggers.RULE]`, and the same of `[defaults]` and templates.
pub static TRIGGER: &[Key<Trigger>] = &[
    Key {
        name: "match",
        expects: "a regular expression of at most 256 bytes",
        general: true,
        put: |rule, v| store(&mut rule.pattern, value::pattern(v).map(Some)),
        get: |rule| rule.pattern.as_ref().map(|pattern| pattern.as_str().into()),
    },
    Key {
        name: "silence",
        expects: "a time from \"1s\" to \"168h\"",
        general: true,
        put: |rule, v| store(&mut rule.silence, value::silence(v).map(Some)),
        get: |rule| rule.silence.map(value::show_time),
    },
    Key {
        name: "cooldown",
        expects: "a time from \"5s\" to \"24h\"",
        general: true,
        put: |rule, v| store(&mut rule.cooldown, value::cooldown(v)),
        get: |rule| Some(value::show_time(rule.cooldown)),
    },
    flag!("start", start),
];
