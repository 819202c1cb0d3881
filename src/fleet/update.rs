//! Dynamic updates (RFC 2136) by nsupdate(1), which signs them (TSIG) and prints what the DNS server decided.

use std::io::{self, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use thiserror::Error;

use super::directory::Settings;
use crate::printable::plain;

/// Seconds for all messages of one nsupdate, of which a server takes hundreds a second. (nsupdate's own -t does not end the wait for a server that
/// accepts the TCP connection and hangs: BIND 9.18 waited for 600 s.)
const UPDATE_TIMEOUT: &str = "30";
/// The exit status of timeout(1) at the end of that time.
const EXIT_TIMEOUT: i32 = 124;
/// The exit status of timeout(1) without the program.
const EXIT_NOT_FOUND: i32 = 127;
/// Bytes of the lines of one message. The message is shorter, and may have 64 KiB (RFC 1035, 4.2.2).
const MAX_LINES: usize = 32 * 1024;

/// Messages that are sent before one is known to be accepted.
const MAX_UNTRIED: usize = 8;
/// The time for connecting to a DNS server to which nothing was published yet.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the DNS server did not take an update.
#[derive(Debug, Error)]
pub enum UpdateError {
    #[error("cannot run {0} (package bind9-dnsutils): {1}")]
    Start(&'static str, io::Error),
    #[error("the DNS server {server} does not answer: {why}")]
    NoAnswer { server: String, why: String },
    #[error("the DNS server {server} rejected the TSIG key: {answer}")]
    Key { server: String, answer: String },
    #[error(
        "the clocks of the DNS server {server} and of this machine differ by more than TSIG permits: {answer}"
    )]
    Clock { server: String, answer: String },
    #[error("the DNS server {server} rejected the update: {answer}")]
    Rejected { server: String, answer: String },
}

impl UpdateError {
    /// Whether the DNS server has certainly changed nothing. (It may have rejected the update of one name only.)
    pub fn is_nothing_changed(&self) -> bool {
        matches!(self, Self::Start(..) | Self::Key { .. } | Self::Clock { .. })
    }

    /// The remedy for an administrator, as one sentence.
    pub fn fix(&self, zone: &str) -> String {
        match self {
            Self::Start(..) => "apt install bind9-dnsutils".to_owned(),
            Self::NoAnswer { server, .. } => {
                format!("check that it runs and that this machine reaches its TCP port 53: dig +tcp @{server} {zone} SOA")
            }
            Self::Key { .. } => {
                "make name, algorithm and secret of the key in /etc/consoleserver/directory.key those of a key on the DNS server".to_owned()
            }
            Self::Clock { .. } => "check the clock of both machines: timedatectl".to_owned(),
            Self::Rejected { .. } => {
                format!("permit updates of the zone {zone} with this key on the DNS server: update-policy of BIND, acl of Knot")
            }
        }
    }

    /// Parses what nsupdate printed instead of an answer, or the response code of an answer.
    fn new(server: &str, answer: &str) -> Self {
        let (server, answer) = (server.to_owned(), plain(answer));
        let says = |words: &[&str]| words.iter().any(|word| answer.contains(word));
        if says(&["BADTIME", "clock skew"]) {
            Self::Clock { server, answer }
        } else if answer.ends_with(": NOTAUTH") {
            // Without a reason that concerns the key: this server does not have the zone (RFC 2136, 3.1). Knot
            // does not sign that.
            Self::Rejected { server, answer }
        } else if says(&["BADKEY", "BADSIG", "BADTRUNC", "TSIG"]) {
            Self::Key { server, answer }
        } else if answer.bytes().all(|byte| byte.is_ascii_uppercase())
            || says(&["REFUSED", "SERVFAIL", "NOTAUTH"])
        {
            Self::Rejected { server, answer }
        } else {
            Self::NoAnswer { server, why: answer }
        }
    }
}

/// The DNS server of the zone, and the key that signs updates.
pub struct DnsServer<'a> {
    pub settings: &'a Settings,
    /// A file with the TSIG key.
    pub key: &'a Path,
}

impl DnsServer<'_> {
    /// Updates names, several in one message; those whose prerequisites do not hold are returned. All prerequisites of a message must hold
    /// (RFC 2136, 3.2), so the names of a rejected message are sent again, one by one.
    pub fn update_names<'n>(
        &self,
        names: &[NameUpdate<'n>],
        rejected: &[&str],
    ) -> Result<Vec<&'n str>, UpdateError> {
        let batches = batches(names);
        let messages: Vec<String> =
            batches.iter().map(|batch| batch.iter().map(|name| name.lines.as_str()).collect()).collect();
        let (mut lost, mut again) = (Vec::new(), Vec::new());
        for (batch, held) in batches.into_iter().zip(self.accepted(&messages, rejected)?) {
            match batch {
                _ if held => {}
                [one] => lost.push(one.name),
                several => again.extend(several),
            }
        }
        let messages: Vec<String> = again.iter().map(|name| name.lines.clone()).collect();
        let held = self.accepted(&messages, rejected)?;
        lost.extend(again.iter().zip(held).filter(|(_, held)| !held).map(|(name, _)| name.name));
        Ok(lost)
    }

    /// Whether there is a DNS server, before something is sent.
    pub fn connect(&self) -> Result<(), UpdateError> {
        const DNS: u16 = 53;
        let failed = |error: io::Error| UpdateError::NoAnswer {
            server: self.settings.server.clone(),
            why: plain(&error.to_string()),
        };
        let mut error = io::ErrorKind::AddrNotAvailable.into();
        for address in (self.settings.server.as_str(), DNS).to_socket_addrs().map_err(failed)? {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(_) => return Ok(()),
                Err(why) => error = why,
            }
        }
        Err(failed(error))
    }

    /// Returns for each message whether its prerequisites held; `rejected` are the answers if they did not.
    pub fn accepted(&self, messages: &[String], rejected: &[&str]) -> Result<Vec<bool>, UpdateError> {
        // Of many messages, the first one is sent alone: a server that rejects the key would log each. Few are sent by one
        // nsupdate, whose start takes longer than a publication.
        let alone = if messages.len() > MAX_UNTRIED { 1 } else { 0 };
        let (first, rest) = messages.split_at(alone);
        let mut answers = Vec::with_capacity(messages.len());
        for messages in [first, rest].into_iter().filter(|messages| !messages.is_empty()) {
            answers.extend(self.send(messages)?);
        }
        let is_accepted = |answer: String| match answer.as_str() {
            "NOERROR" => Ok(true),
            answer if rejected.contains(&answer) => Ok(false),
            answer => Err(UpdateError::new(&self.settings.server, answer)),
        };
        answers.into_iter().map(is_accepted).collect()
    }

    /// Sends messages in their order: the response code of each.
    fn send(&self, messages: &[String]) -> Result<Vec<String>, UpdateError> {
        let Settings { server, zone, .. } = self.settings;
        let mut script = format!("server {server}\nzone {zone}.\n");
        for lines in messages {
            script.push_str(lines);
            script.push_str("send\nanswer\n");
        }
        // Over TCP: a message of several names is longer than a datagram.
        let mut command = bounded("nsupdate");
        command.args(["-v", "-k"]).arg(self.key);
        let output =
            talk(&mut command, script.as_bytes()).map_err(|error| UpdateError::Start("nsupdate", error))?;
        match output.status.code() {
            Some(EXIT_TIMEOUT) => {
                let why = format!("no answer within {UPDATE_TIMEOUT} s");
                return Err(UpdateError::NoAnswer { server: server.clone(), why });
            }
            Some(EXIT_NOT_FOUND) => {
                return Err(UpdateError::Start("nsupdate", io::ErrorKind::NotFound.into()));
            }
            _ => {}
        }
        let printed = String::from_utf8_lossy(&output.stdout);
        let status =
            |line: &str| Some(line.split_once("opcode: UPDATE, status: ")?.1.split_once(',')?.0.to_owned());
        let answers: Vec<String> = printed.lines().filter_map(status).collect();
        // Which of several reasons NOTAUTH has is on standard error: BADKEY, BADSIG, BADTIME.
        match answers.len() == messages.len() && answers.iter().all(|answer| answer != "NOTAUTH") {
            true => Ok(answers),
            false => {
                let printed = String::from_utf8_lossy(&output.stderr);
                let mut why: Vec<_> = printed.lines().map(|line| line.trim_start_matches("; ")).collect();
                // Each message has the same.
                why.sort_unstable();
                why.dedup();
                let why = why.join("; ");
                Err(UpdateError::new(server, if why.is_empty() { "no answer" } else { &why }))
            }
        }
    }

    /// All TXT records of these names, as dig(1) prints them; `None` if the server did not answer about each.
    pub fn txt_of_all(&self, names: &[String]) -> Option<String> {
        let mut words = vec!["+noall", "+comments", "+answer", "+norecurse"];
        words.extend(names.iter().flat_map(|name| [name, "TXT"]));
        let text = self.dig(bounded("dig"), &words)?;
        let is_answer =
            |line: &&str| ["status: NOERROR,", "status: NXDOMAIN,"].iter().any(|s| line.contains(s));
        (text.lines().filter(is_answer).count() == names.len()).then_some(text)
    }

    /// The strings of a TXT record, as dig(1) prints them: none without such a record, or without an answer.
    pub fn txt_of(&self, name: &str) -> String {
        // One query, which dig itself bounds.
        let text = self.dig(Command::new("dig"), &["+short", name, "TXT"]);
        // (A comment of dig's is that nothing answers.)
        text.unwrap_or_default().lines().find(|line| line.starts_with('"')).unwrap_or_default().to_owned()
    }

    /// Returns what dig(1) prints about these names; `None` if it cannot be started.
    fn dig(&self, mut command: Command, words: &[&str]) -> Option<String> {
        command.arg(format!("@{}", self.settings.server)).args(["+tcp", "+time=5", "+tries=1"]).args(words);
        let output = command.stdin(Stdio::null()).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Runs a program with this input.
fn talk(command: &mut Command, input: &[u8]) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().expect("it is piped");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program that ends early reports why.
            let _ = stdin.write_all(input);
        });
        child.wait_with_output()
    })
}

/// A program that is ended after [`UPDATE_TIMEOUT`] seconds.
fn bounded(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--foreground", UPDATE_TIMEOUT, program]);
    command
}

#[derive(Debug, Clone)]
pub struct NameUpdate<'a> {
    /// The name below the zone.
    pub name: &'a str,
    pub lines: String,
}

/// The names in their order, as many as fit into a message.
fn batches<'a, 'n>(names: &'a [NameUpdate<'n>]) -> Vec<&'a [NameUpdate<'n>]> {
    let (mut batches, mut begin, mut length) = (Vec::new(), 0, 0);
    for (index, name) in names.iter().enumerate() {
        if begin < index && length + name.lines.len() > MAX_LINES {
            batches.push(&names[begin..index]);
            (begin, length) = (index, 0);
        }
        length += name.lines.len();
    }
    if begin < names.len() {
        batches.push(&names[begin..]);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What nsupdate 9.18 printed about Knot 3.2 and BIND 9.18.
    #[test]
    fn the_reason_of_nsupdate_is_recognized() {
        let of = |answer: &str| UpdateError::new("ns1", answer);
        for code in ["BADKEY", "BADSIG"] {
            let printed =
                format!("TSIG error with server: tsig indicates error; update failed: NOTAUTH({code})");
            assert!(matches!(of(&printed), UpdateError::Key { .. }));
        }
        let clock = of("TSIG error with server: clock skew; update failed: NOTAUTH(BADTIME)");
        assert!(matches!(clock, UpdateError::Clock { .. }));
        let no_zone = "TSIG error with server: expected a TSIG or SIG(0); update failed: NOTAUTH";
        for printed in ["REFUSED", "update failed: NOTAUTH", "update failed: REFUSED", no_zone] {
            assert!(matches!(of(printed), UpdateError::Rejected { .. }), "{printed}");
        }
        let dead = of("Communication with 192.0.2.7#53 failed: operation canceled");
        assert!(matches!(dead, UpdateError::NoAnswer { .. }));
    }

    #[test]
    fn a_message_has_as_many_names_as_fit() {
        let of = |lengths: &[usize]| {
            let names: Vec<_> =
                lengths.iter().map(|length| NameUpdate { name: "", lines: "x".repeat(*length) }).collect();
            batches(&names).iter().map(|batch| batch.len()).collect::<Vec<_>>()
        };
        assert_eq!(of(&[]), [0; 0]);
        assert_eq!(of(&[1, 1]), [2]);
        assert_eq!(of(&[MAX_LINES, 1, MAX_LINES - 1, 1]), [1, 2, 1]);
        assert_eq!(of(&[MAX_LINES + 1, 1]), [1, 1]);
    }
}
