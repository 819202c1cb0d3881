//! What an unknown key or an invalid value was meant to be: words of other programs, and other notations. Pure.

use toml::de::DeValue;

use super::Value;
use super::fault::{clip, segment};
use super::keys::{self, Key, TRIGGERS, is_inherited};

/// Names that other programs, and the commands for a single key, use for the keys.
const SYNONYMS: &[(&str, &str)] = &[
    ("address", "listen"),
    ("allowed_users", "users"),
    ("baudrate", "baud"),
    ("bind", "listen"),
    ("bits", "bytesize"),
    ("bps", "baud"),
    ("cliport", "ssh_port"),
    ("crtscts", "rtscts"),
    ("data_bits", "bytesize"),
    ("databits", "bytesize"),
    ("desc", "description"),
    ("describe", "description"),
    ("dev", "device"),
    ("devicename", "device"),
    ("disabled", "enabled"),
    ("enable", "enabled"),
    ("flow", "rtscts"),
    ("flow_control", "rtscts"),
    ("flowcontrol", "rtscts"),
    ("history", "replay"),
    ("idle_timeout", "timeout"),
    ("idletimeout", "timeout"),
    ("label", "description"),
    ("listenport", "ssh_port"),
    ("log_file", "log.file"),
    ("log_type", "log.type"),
    ("logfile", "log.file"),
    ("logging", "log"),
    ("logtype", "log.type"),
    ("outputdelay", "output_delay"),
    ("outputlinedelay", "output_line_delay"),
    ("path", "device"),
    ("pattern", "match"),
    ("port", "ssh_port"),
    ("portmonitor", "monitor"),
    ("rate", "baud"),
    ("regex", "match"),
    ("speed", "baud"),
    ("sshport", "ssh_port"),
    ("stop", "stopbits"),
    ("stop_bits", "stopbits"),
    ("tcp_port", "ssh_port"),
    ("template", "like"),
    ("tty", "device"),
    ("users_rw", "users"),
];

/// Common line rates (asm-generic/termbits.h), for completion; `baud` accepts any other rate too.
pub const RATES: &[&str] = &[
    "300", "1200", "2400", "4800", "9600", "19200", "38400", "57600", "115200", "230400", "460800", "500000",
    "576000", "921600", "1000000", "1500000", "2000000", "3000000",
];

/// The key that another program calls so.
pub fn synonym(word: &str) -> Option<&'static str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    SYNONYMS.iter().find(|(other, _)| *other == word).map(|(_, key)| *key)
}

/// The tables that have a key, for a key that is in another one.
pub fn tables_of(word: &str) -> Option<&'static str> {
    let of_port = keys::find(keys::PORT, word);
    match (keys::find(keys::SERVER, word), of_port, keys::find(keys::ACCESS, word)) {
        (Some(_), Some(_), _) => Some("[server], or [ports.NAME]"),
        (Some(_), None, _) => Some("[server]"),
        (None, Some(key), _) if key.general => Some("[ports.NAME], or [defaults] for all ports"),
        (None, Some(_), _) => Some("[ports.NAME]"),
        (None, None, Some(_)) => Some("[access]"),
        _ => None,
    }
}

/// The known word that an unknown one was probably meant to be.
pub(super) fn nearest<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    let distance = |name: &&str| strsim::damerau_levenshtein(&clip(word).to_lowercase(), name);
    known.iter().copied().min_by_key(distance).filter(|name| distance(name) <= name.len().div_ceil(3))
}

pub(super) fn unknown<'w>(word: &str, known: impl IntoIterator<Item = &'w str>) -> String {
    let known: Vec<_> = known.into_iter().collect();
    let synonym = synonym(word).filter(|key| known.contains(&key.split('.').next().unwrap_or(key)));
    match synonym.or_else(|| nearest(word, &known)) {
        Some(near) => format!("unknown key: did you mean {near}?"),
        None => format!("unknown key: expected one of {}", known.join(", ")),
    }
}

/// Why a table has no such key. `prefix` is `log.` in the table of `log`.
pub(super) fn unknown_in<T>(
    path: &str,
    prefix: &str,
    word: &str,
    node: &DeValue<'_>,
    known: &[Key<T>],
) -> String {
    const TABLES_OF_PORT: [&str; 3] = [TRIGGERS, "log", "keepalive"];
    /// `[ports.rack.2]` is a nested table in TOML.
    const DOTTED: &str = "unknown table: write a port name with a dot in quotes, [ports.\"rack.2\"]";
    let is_of_port = path.starts_with("ports.");
    if node.is_table() {
        if (is_inherited(path) || is_of_port) && nearest(word, &TABLES_OF_PORT).is_some() {
            return unknown(word, TABLES_OF_PORT);
        }
        if prefix.is_empty() && is_of_port {
            return DOTTED.to_owned();
        }
    }
    // `keepalive = "5m"`
    let below = format!("{prefix}{word}.");
    let keys: Vec<_> = known.iter().map(|key| key.name).filter(|name| name.starts_with(&below)).collect();
    if prefix.is_empty() && !keys.is_empty() {
        return format!("expected a table: its keys are {}", keys.join(", "));
    }
    match tables_of(word).filter(|_| prefix.is_empty()) {
        Some(tables) if path.matches('.').count() < 2 => format!("unknown key: it belongs in {tables}"),
        _ => {
            // Tables by their names: `keepalive` of keepalive.interval.
            let names = known.iter().filter_map(|key| key.name.strip_prefix(prefix));
            let mut names: Vec<&str> = names.map(|name| name.split('.').next().unwrap_or(name)).collect();
            names.dedup();
            if prefix.is_empty() && known.iter().any(|key| key.name == "baud") {
                names.push(TRIGGERS);
            }
            unknown(word, names)
        }
    }
}

/// The hint for a key above all tables that belongs in one, and for a port's table without `ports.`.
pub(super) fn misplaced(word: &str, value: &DeValue<'_>, tables: &[&str]) -> Option<String> {
    match value.as_table() {
        Some(table) => {
            let is_port = table.iter().any(|(key, _)| keys::find(keys::PORT, key.get_ref()).is_some());
            (is_port && nearest(word, tables).is_none())
                .then(|| format!("unknown table: a port is [ports.{}]", segment(word)))
        }
        None => tables_of(word).map(|tables| format!("unknown key: it belongs in {tables}")),
    }
}

/// Values that a text may stand for, most literal first.
pub fn candidates(key: &str, text: &str, words: &[String]) -> Vec<Value> {
    let mut candidates: Vec<Value> = text.parse::<Value>().into_iter().collect();
    candidates.push(text.into());
    // Each key accepts only its own spelling: `off` is false for rtscts, "off" for dtr, "none" for ssh_port, 0 for timeout.
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "0" | "off" | "no" | "false" | "none" | "never" | "disable" | "disabled" => {
            candidates.push(false.into());
            candidates.extend(["off", "no", "none", "never"].map(Value::from));
            candidates.push(Value::Integer(0));
        }
        // "key" and "yes" are both possible: no suggestion.
        "1" | "on" | "true" | "enable" | "enabled" if key == "root" => {}
        "1" | "on" | "yes" | "true" | "enable" | "enabled" => {
            candidates.push(true.into());
            candidates.extend(["on", "yes"].map(Value::from));
        }
        _ => {}
    }
    candidates.extend(rewritten(key, text.trim()));
    candidates.push(lower.into());
    candidates.push(list(words.iter().map(String::as_str)));
    let parted = words.iter().flat_map(|word| word.split(',')).map(str::trim).filter(|word| !word.is_empty());
    candidates.push(list(parted));
    candidates
}

fn list<'w>(words: impl Iterator<Item = &'w str>) -> Value {
    Value::Array(words.map(Value::from).collect())
}

/// The same value in the notation of a key.
fn rewritten(key: &str, text: &str) -> Option<Value> {
    let lower = text.to_ascii_lowercase();
    Some(match key {
        "device" => device(text)?.into(),
        "baud" => Value::Integer(rate(&lower)?),
        "listen" => match lower.as_str() {
            "*" | "any" | "all" => list(["[::]"].into_iter()),
            "localhost" => list(["127.0.0.1", "[::1]"].into_iter()),
            _ => return None,
        },
        // As tio's scripts set them.
        "dtr" | "rts" if lower == "high" => "on".into(),
        "dtr" | "rts" if lower == "low" => "off".into(),
        // systemd.time(7)
        "timeout" if lower == "infinity" => Value::Integer(0),
        "log.sync" | "keepalive.interval" if lower == "infinity" => "never".into(),
        "rfc2217" | "raw" => format!("127.0.0.1:{}", lower.strip_prefix("localhost:")?).into(),
        // sshd_config(5), PermitRootLogin
        "root" if ["prohibit-password", "without-password"].contains(&lower.as_str()) => "key".into(),
        "scrollback" => match text.parse::<u64>() {
            Ok(bytes) => format!("{}K", bytes / 1024).into(),
            Err(_) => {
                let size = text.to_ascii_uppercase().replace(' ', "");
                size.trim_end_matches('B').trim_end_matches('I').into()
            }
        },
        // systemd.time(7) reads a number without a unit as seconds.
        "log.sync" | "keepalive.interval" | "silence" | "cooldown" => {
            format!("{}s", text.parse::<u64>().ok()?).into()
        }
        "escape" => {
            let keys = lower.replace(' ', "");
            let keys = ["ctrl-", "ctrl+", "c-", "^"].iter().find_map(|prefix| keys.strip_prefix(prefix))?;
            let (control, rest) = keys.split_at_checked(1)?;
            format!("^{}{rest}", control.to_ascii_uppercase()).into()
        }
        "source" if text.starts_with('/') => format!("unix:{text}").into(),
        "source" => text.replacen("://", ":", 1).trim_end_matches('/').into(),
        _ => return None,
    })
}

/// A name in /dev, or the name of a link there.
fn device(text: &str) -> Option<String> {
    let begins = |words: &[&str]| words.iter().any(|word| text.starts_with(word));
    Some(match text {
        _ if begins(&["/dev/"]) => text.to_owned(),
        _ if begins(&["tty", "serial/by-"]) => format!("/dev/{text}"),
        _ if begins(&["dev/"]) => format!("/{text}"),
        _ if begins(&["by-id/", "by-path/"]) => format!("/dev/serial/{text}"),
        _ if begins(&["usb-"]) => format!("/dev/serial/by-id/{text}"),
        _ if begins(&["pci-", "platform-"]) => format!("/dev/serial/by-path/{text}"),
        _ => return None,
    })
}

/// `115.2k`, `115k2`, `9600 baud`, `115,200`: only common rates, since 115k may be 115200 as well as 115000.
fn rate(lower: &str) -> Option<i64> {
    let bare = ["bps", "baud", "bd"].iter().find_map(|unit| lower.strip_suffix(unit)).unwrap_or(lower).trim();
    let rate = match bare.split_once(['k', 'm']) {
        Some((whole, "")) => {
            let (whole, part) = whole.split_once('.').unwrap_or((whole, ""));
            thousands(whole, part, bare.ends_with('m'))?
        }
        Some((whole, part)) => thousands(whole, part, bare.contains('m'))?,
        None => bare.replace([',', '_', ' '], "").parse().ok()?,
    };
    RATES.contains(&rate.to_string().as_str()).then_some(rate)
}

fn thousands(whole: &str, part: &str, millions: bool) -> Option<i64> {
    let zeros = if millions { 6 } else { 3 };
    format!("{whole}{part:0<zeros$}").parse().ok().filter(|_| part.len() <= zeros)
}

/// What a rejected value of a key was probably meant to be, as it is written in the file.
pub fn instead<T: Default>(key: &Key<T>, value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Integer(_) | Value::Boolean(_) => value.to_string(),
        _ => return None,
    };
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    let meant = candidates(key.name, &text, &words).into_iter().find(|other| {
        // An empty list is not a list of the words.
        *other != *value && !words.is_empty() && key.put(&mut T::default(), other).is_ok()
    });
    meant.map(|meant| format!("did you mean {meant}?")).or_else(|| advice(key.name, &text))
}

/// What to write for a value that contains several settings.
pub fn advice(key: &str, text: &str) -> Option<String> {
    let text = text.trim();
    match key {
        "baud" | "parity" => {
            let (rate, rest) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
            // (8N1 begins with a digit.)
            let (rate, frame) = if rate.len() < 2 { ("", text) } else { (rate, rest) };
            let frame: String = frame.chars().filter(char::is_ascii_alphanumeric).collect();
            let frame = frame.to_ascii_uppercase();
            let (bits, parity, stop) = match frame.as_bytes() {
                [bits @ b'5'..=b'8', parity @ b'A'..=b'Z', stop @ b'1'..=b'2'] => (bits, parity, stop),
                [parity @ b'A'..=b'Z', bits @ b'5'..=b'8', stop @ b'1'..=b'2'] => (bits, parity, stop),
                _ => return None,
            };
            let [bits, parity, stop] = [bits, parity, stop].map(|byte| char::from(*byte));
            let baud = if rate.is_empty() { String::new() } else { format!("baud = {rate}, ") };
            let keys = format!("{baud}bytesize = {bits}, parity = \"{parity}\", stopbits = {stop}");
            "NEOMS".contains(parity).then(|| format!("these are separate keys: {keys}"))
        }
        "listen" if text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) => {
            Some("an address without a TCP port, which is the key ssh_port".to_owned())
        }
        "log.file" if text.contains('/') => {
            Some("without a directory, which is /var/log/consoleserver/NAME".to_owned())
        }
        "device" if text.get(..3).is_some_and(|com| com.eq_ignore_ascii_case("COM")) => Some(
            "COM ports are Windows'; `consolectl list --unconfigured` lists the adapters here".to_owned(),
        ),
        _ => None,
    }
}

/// What is wrong with a line that is not TOML, for common mistakes. `message` is the parser's.
pub fn syntax(line: &str, message: &str) -> Option<&'static str> {
    let value = line.split_once('=').map(|(_, value)| value.trim());
    let is_key = |word: &str| {
        let word = word.trim_end();
        !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    Some(match line {
        _ if message.starts_with("duplicate key") && line.starts_with('[') => {
            "duplicate table: its keys belong below the first heading of that name"
        }
        _ if line.starts_with("//") || line.starts_with(';') => "a comment begins with #",
        _ if line.contains(['“', '”', '„', '‘', '’']) => "typographic quotes: use \" or '",
        _ if line.contains('\u{a0}') => "no-break space: use an ordinary one",
        _ if message.contains("escape") => {
            "in double quotes a backslash begins an escape sequence: use single quotes"
        }
        _ if line.starts_with("[ports./dev/") => "write the name of the port without /dev/",
        _ if line.starts_with("[ports:") || line.starts_with("[ports ") => "write a dot: [ports.NAME]",
        _ if line.starts_with("[ports.") && line.contains([' ', '*', '/', ':']) && line.ends_with(']') => {
            "invalid port name: use A-Z a-z 0-9 _ -"
        }
        _ if value.is_none() && line.split_once(':').is_some_and(|(key, _)| is_key(key)) => {
            "expected = in place of the colon"
        }
        _ => match value? {
            "" => "missing value",
            word if ["yes", "no", "on", "off", "true", "false"]
                .contains(&word.to_ascii_lowercase().as_str()) =>
            {
                "expected true or false, in lower case, or a word in quotes"
            }
            value if value.contains(" //") || value.contains(" ;") => "a comment begins with #",
            value if value.ends_with(';') => "a line ends without a semicolon",
            value if value.ends_with(',') && !value.starts_with(['[', '{']) => "a line ends without a comma",
            _ => return None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_in_another_notation_is_a_common_one() {
        for (text, wanted) in [
            ("115.2k", Some(115_200)),
            ("115k2", Some(115_200)),
            ("9k6", Some(9600)),
            ("1.5m", Some(1_500_000)),
            ("9600 baud", Some(9600)),
            ("115200bps", Some(115_200)),
            ("115,200", Some(115_200)),
            ("115k", None),
            ("115200,8n1", None),
            ("115200 8n1", None),
            ("k", None),
            ("99999999999999999999k", None),
        ] {
            assert_eq!(rate(text), wanted, "{text}");
        }
    }
}
