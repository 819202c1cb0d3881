//! The table of configuration keys: name, description of valid values, parser and printer. The reader, `set`
//! and `unset`, the bus and the manual page are based on it.

use thiserror::Error;

use super::value::{self, Parsed, Rejected, Value};
use super::{
    Access, KeysFile, LogType, Members, Port, RootLogin, Server, SshAlgorithms, TemplateName, Trigger,
    Writers,
};
use crate::port::{Baud, ByteSize, LineLevel, Parity, Pause, StopBits};

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
    /// The sentence about valid values.
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

pub fn find<T>(table: &'static [Key<T>], name: &str) -> Option<&'static Key<T>> {
    table.iter().find(|key| key.name == name)
}

fn store<T, P: Into<T>>(slot: &mut T, parsed: Parsed<P>) -> Parsed<()> {
    *slot = parsed?.into();
    Ok(())
}

fn integer(number: impl Into<i64>) -> Option<Value> {
    Some(Value::Integer(number.into()))
}

/// The table of a port's trigger rules; its keys are rule names.
pub(super) const TRIGGERS: &str = "triggers";

/// Whether several ports inherit from a table.
pub(super) fn is_inherited(path: &str) -> bool {
    path == "defaults" || path.starts_with("templates.")
}

const FLAG: &str = "true or false";
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

/// Keys of a table: whether a key is general, its name and its valid values; then its field, parser and printer.
macro_rules! table {
    ($($scope:ident $name:literal: $expects:expr; $table:ident$(.$field:ident)+ = $parse:expr, $show:expr;)+) => {
        &[$(Key {
            name: $name,
            expects: $expects,
            general: table!(@$scope),
            put: |$table, value| store(&mut $table$(.$field)+, $parse(value)),
            get: |$table| $show,
        }),+]
    };
    (@general) => { true };
    (@single) => { false };
}

/// `[server]`
pub static SERVER: &[Key<Server>] = table! {
    single "ssh_port": TCP_PORT;
        server.ssh_port = value::tcp_port, Some(value::show_or("none", server.ssh_port.and_then(integer)));
    single "listen": ADDRESSES;
        server.listen = value::addresses, Some(value::show_list(&server.listen));
    single "monitor": "the absolute path of a directory, such as \"/dev\"";
        server.monitor = value::path, Some(value::show_path(&server.monitor));
    single "ssh_algorithms": "\"default\", \"compatible\" or \"strict\"";
        server.ssh_algorithms = value::word::<SshAlgorithms>, Some(server.ssh_algorithms.word().into());
    single "banner": BANNER;
        server.banner = value::banner,
        Some(value::show_or("none", server.banner.as_deref().map(value::show_path)));
};

/// `[access]`
pub static ACCESS: &[Key<Access>] = table! {
    single "groups": GROUPS;
        access.groups = value::groups, Some(value::show_groups(&access.groups));
    single "root": "\"key\", \"yes\" or \"no\"";
        access.root = value::one_of::<RootLogin>, Some(value::show_word(access.root));
    single "authorized_keys_files":
        "a list of at most 32 paths such as [\".ssh/authorized_keys\", \"/etc/ssh/keys/%u\"], or \"none\"";
        access.authorized_keys_files = value::keys_files,
        Some(value::show_list(access.authorized_keys_files.iter().map(KeysFile::as_str)));
    single "authorized_keys_command":
        "the absolute path of a program and its arguments, such as \"/usr/bin/sss_ssh_authorizedkeys %u\", or \"none\"";
        access.authorized_keys_command = value::keys_command,
        access.authorized_keys_command.as_ref().map(|command| command.as_str().into());
    single "authorized_keys_command_user": "the user that runs authorized_keys_command, such as \"nobody\"";
        access.authorized_keys_command_user = value::keys_command_user,
        access.authorized_keys_command_user.as_ref().map(|user| user.as_str().into());
    single "user_ca": "the absolute path of a file with CA keys, such as \"/etc/ssh/ca.pub\", or \"none\"";
        access.user_ca = value::optional_path, access.user_ca.as_deref().map(value::show_path);
    single "principals":
        "the path of a file with a user's principals, such as \"/etc/ssh/principals/%u\", or \"none\"";
        access.principals = value::principals, access.principals.as_ref().map(|file| file.as_str().into());
    single "revoked":
        "the absolute path of a key revocation list, such as \"/etc/ssh/revoked_keys\", or \"none\"";
        access.revoked = value::optional_path, access.revoked.as_deref().map(value::show_path);
};

/// `[ports.NAME]`, and unless they apply to a single port, `[defaults]` and `[templates.NAME]`.
pub static PORT: &[Key<Port>] = table! {
    general "enabled": FLAG;
        port.enabled = value::flag, Some(port.enabled.into());
    single "like": "the name of a template, such as \"cisco\" for [templates.cisco]";
        port.like = value::word::<TemplateName>, port.like.as_ref().map(|template| template.as_str().into());
    single "description": "a text of at most 80 characters, without control characters";
        port.description = value::description, Some(port.description.as_str().into());
    single "device":
        "an absolute path without \"..\", such as \"/dev/serial/by-id/usb-FTDI_A1B2C3-if00-port0\"";
        port.device = value::path, port.device.as_deref().map(value::show_path);
    single "source":
        "\"unix:/PATH\", \"tcp:HOST:PORT\", \"telnet:HOST:PORT\", \"rfc2217:HOST:PORT\" or \"unit\"";
        port.source = value::source, port.source.as_ref().map(|source| source.to_string().into());
    general "on_demand": FLAG;
        port.on_demand = value::flag, Some(port.on_demand.into());
    general "initial": "a list of at most 16 steps such as [{ expect = \"login: $\", send = \"root\\\\r\" }]";
        port.initial = value::initial, Some(value::show_initial(&port.initial));
    general "keepalive.interval": "a time from \"1s\" to \"24h\", or \"never\"";
        port.keepalive.interval = value::keepalive, Some(value::show_or("never", port.keepalive.interval.map(value::show_time)));
    general "keepalive.text": SEQUENCE;
        port.keepalive.text = value::sequence, Some(port.keepalive.text.to_string().into());
    general "break": SEQUENCE;
        port.break_sequence = value::sequence, Some(port.break_sequence.to_string().into());
    general "breaks": "a list of at most 32 breaks NAME=TEXT, such as ['sysrq=\\z\\dh']";
        port.breaks = value::breaks, Some(value::show_list(port.breaks.iter().map(|(name, text)| format!("{name}={text}"))));
    single "ssh_port": TCP_PORT;
        port.ssh_port = value::tcp_port, Some(value::show_or("none", port.ssh_port.and_then(integer)));
    general "listen": ADDRESSES;
        port.listen = value::addresses, port.listen.as_ref().map(value::show_list);
    general "banner": BANNER;
        port.banner = value::banner, port.banner.as_ref().map(|banner| value::show_or("none", banner.as_deref().map(value::show_path)));
    general "groups": GROUPS;
        port.groups = value::groups, port.groups.as_ref().map(value::show_groups);
    general "users": "a list of at most 32 login names such as [\"alice\"]";
        port.users = value::users, Some(value::show_list(&port.users));
    general "read_only_groups": GROUPS;
        port.read_only_groups = value::groups, Some(value::show_groups(&port.read_only_groups));
    general "write": "\"one\" or \"shared\"";
        port.write = value::one_of::<Writers>, Some(value::show_word(port.write));
    general "timeout": "a number of seconds from 1 to 31536000, a time such as \"10m\", or 0 for no timeout";
        port.timeout = value::timeout, Some(value::show_timeout(port.timeout));
    general "baud": "a number from 1 to 4294967295";
        port.line.baud = value::numeric::<Baud>, integer(port.line.baud.get());
    general "bytesize": "5, 6, 7 or 8";
        port.line.bytesize = value::numeric::<ByteSize>, integer(port.line.bytesize.bits());
    general "parity": "\"none\", \"even\", \"odd\", \"mark\" or \"space\", or the first letter";
        port.line.parity = value::word::<Parity>, Some(port.line.parity.letter().to_string().into());
    general "stopbits": "1 or 2";
        port.line.stopbits = value::numeric::<StopBits>, integer(port.line.stopbits.count());
    general "rtscts": FLAG;
        port.line.rtscts = value::flag, Some(port.line.rtscts.into());
    general "xonxoff": FLAG;
        port.line.xonxoff = value::flag, Some(port.line.xonxoff.into());
    general "low_latency": FLAG;
        port.low_latency = value::flag, Some(port.low_latency.into());
    general "dtr": LEVEL;
        port.modem.dtr = value::word::<LineLevel>, Some(port.modem.dtr.word().into());
    general "rts": LEVEL;
        port.modem.rts = value::word::<LineLevel>, Some(port.modem.rts.word().into());
    general "remote_settings": FLAG;
        port.remote_settings = value::flag, Some(port.remote_settings.into());
    single "rfc2217": ENDPOINT;
        port.rfc2217 = value::endpoint, port.rfc2217.as_ref().map(|endpoint| endpoint.to_string().into());
    single "raw": ENDPOINT;
        port.raw = value::endpoint, port.raw.as_ref().map(|endpoint| endpoint.to_string().into());
    general "plaintext_beyond_loopback": FLAG;
        port.plaintext_beyond_loopback = value::flag, Some(port.plaintext_beyond_loopback.into());
    general "output_delay": PAUSE;
        port.pacing.character = value::word::<Pause>, Some(port.pacing.character.to_string().into());
    general "output_line_delay": PAUSE;
        port.pacing.line = value::word::<Pause>, Some(port.pacing.line.to_string().into());
    general "imap": MAPPING;
        port.imap = value::mapping, Some(value::show_list(port.imap.words()));
    general "omap": MAPPING;
        port.omap = value::mapping, Some(value::show_list(port.omap.words()));
    general "escape": "a control character and one more in caret notation, such as \"^Ec\", or \"none\"";
        port.escape = value::escape, Some(value::show_or("none", port.escape.map(|prefix| prefix.to_string().into())));
    general "reconnect": FLAG;
        port.reconnect = value::flag, Some(port.reconnect.into());
    general "replay": "a number of lines from 0 to 10000";
        port.replay = value::replay, integer(port.replay as i64);
    general "scrollback": "a size from \"64K\" to \"16M\"";
        port.scrollback = value::scrollback, Some(value::show_scrollback(port.scrollback));
    general "log":
        "\"none\", \"raw\", \"text\", \"hex\", \"both\" or a table such as { type = \"text\", sync = \"5s\" }";
        _port.log.kind = value::one_of::<LogType>, None;
    general "log.type": "\"none\", \"raw\", \"text\", \"hex\" or \"both\"";
        port.log.kind = value::one_of::<LogType>, Some(value::show_word(port.log.kind));
    general "log.file":
        "a file name of 1 to 64 characters of A-Z a-z 0-9 . _ - that does not begin with a dot";
        port.log.file = value::file_name, Some(port.log.file.as_str().into());
    general "log.input": FLAG;
        port.log.input = value::flag, Some(port.log.input.into());
    general "log.journal": FLAG;
        port.log.journal = value::flag, Some(port.log.journal.into());
    general "log.record": FLAG;
        port.log.record = value::flag, Some(port.log.record.into());
    general "log.sync": "a time from \"10ms\" to \"60m\", or \"never\"";
        port.log.sync = value::sync, Some(value::show_or("never", port.log.sync.map(value::show_time)));
};

/// The only key of a group of ports, written as the group itself: `core = ["p01", "p02"]`.
pub static GROUP: &[Key<Members>] = &[Key {
    name: "members",
    expects: "a list of ports such as [\"p01\", \"p[02-48]\", \"rack1-*\", \"@edge\"]",
    general: false,
    put: |members, v| store(members, value::patterns(v)),
    get: |members| Some(value::show_list(members)),
}];

/// `[ports.NAME.triggers.RULE]`, and the same of `[defaults]` and templates.
pub static TRIGGER: &[Key<Trigger>] = table! {
    general "match": "a regular expression of at most 256 bytes";
        rule.pattern = value::pattern, rule.pattern.as_ref().map(|pattern| pattern.as_str().into());
    general "silence": "a time from \"1s\" to \"168h\"";
        rule.silence = value::silence, rule.silence.map(value::show_time);
    general "cooldown": "a time from \"5s\" to \"24h\"";
        rule.cooldown = value::cooldown, Some(value::show_time(rule.cooldown));
    general "start": FLAG;
        rule.start = value::flag, Some(rule.start.into());
};
