//! `consolectl -H HOSTS COMMAND`: one command on many servers, each over an SSH connection to its admin CLI.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;
use tokio::runtime::Runtime;

use super::args::Output;
use super::commands::at_port::AtPort;
use super::commands::list::List;
use super::listing::{self, Listed, PortStatus};
use super::program::{failed, wrong};
use super::stdout::{Stdout, print_error};
use super::table;
use super::tree::{Arguments, Command};
use crate::admin::bus::Session;
use crate::auth::protocol::{Line, WordError};
use crate::fleet::{self, Failure, FleetFile, FleetFileError, Host, HostError, HostPattern, Limits, Reply};
use crate::port::PortName;
use crate::port::pattern::fold_words;
use crate::printable::Visible;

/// Concurrent connections: each is a process of ssh's with 10 MB, and some of them wait for a server that is down.
const AT_ONCE: usize = 64;

/// Bytes of a server's output. `status` of 48 ports is 15 KiB.
const OUTPUT_LIMIT: usize = 1024 * 1024;

/// Bytes of the rows of all servers, which are kept until the columns' widths are known.
const ROWS_LIMIT: usize = 64 * 1024 * 1024;

/// Why a command cannot be run on other servers.
#[derive(Debug, Error)]
enum FanOutError {
    #[error(transparent)]
    File(#[from] FleetFileError),
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Line(#[from] WordError),
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

/// How the output of the servers is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// Each line with its host before it, as servers answer.
    Text,
    /// A line of JSON for each element, as servers answer.
    Json,
    /// One table of all servers, in the order of the hosts.
    Table(Table),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    List,
    Status,
    Who,
}

/// Runs the command of the arguments on their hosts.
pub(super) fn main(runtime: &Runtime, arguments: Arguments) -> ExitCode {
    let Arguments { hosts, host_timeout, command, words, .. } = arguments;
    let Some(command) = command else { return wrong("-H needs a command: consolectl -H HOST status") };
    let (style, own_timeout) = match style_of(&command) {
        Ok(style) => style,
        Err(why) => return wrong(&format!("-H: {why}")),
    };
    // Without a match, grep exits with 1 and prints nothing.
    let is_grep = matches!(command, Command::AtPort(AtPort::Grep { .. }));
    let timeout = Duration::from_secs(u64::from(host_timeout) + u64::from(own_timeout));
    match fan_out(runtime, &hosts, words, style, is_grep, timeout) {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

/// How to print the output of a command, and the seconds that it may wait by itself.
fn style_of(command: &Command) -> Result<(Style, u32), &'static str> {
    let table = |output: &Output, table| if output.json { Style::Json } else { Style::Table(table) };
    let text = |output: &Output| if output.json { Style::Json } else { Style::Text };
    let style = match command {
        Command::List(List { unconfigured: true, output, .. }) => text(output),
        Command::List(List { output, .. }) => table(output, Table::List),
        Command::Status(ports) => table(&ports.output, Table::Status),
        Command::Who(ports) => table(&ports.output, Table::Who),
        Command::Show(show) => text(&show.output),
        Command::Diff(diff) => text(&diff.output),
        Command::Doctor(doctor) => text(&doctor.output),
        Command::AtPort(AtPort::Send { timeout, .. } | AtPort::Expect { timeout, .. }) => {
            return Ok((Style::Text, *timeout));
        }
        Command::AtPort(AtPort::Log { follow: true, .. } | AtPort::Watch { .. }) => {
            return Err("output without an end is for one host: ssh -p 8022 HOST 'log PORT -f'");
        }
        Command::Connect(_) => return Err("a console is at one host: ssh -t -p 8022 HOST connect PORT"),
        Command::Transfer(_) | Command::Import(_) | Command::Check(_) => {
            return Err("this command needs files of the machine on which it runs");
        }
        Command::Learn(_) => {
            return Err("adapters are plugged in one at a time: ssh -p 8022 HOST learn PORT");
        }
        Command::Dial(_) | Command::Exit | Command::Help { .. } | Command::Completions { .. } => {
            return Err("this command needs no other host");
        }
        _ => Style::Text,
    };
    Ok((style, 0))
}

fn fan_out(
    runtime: &Runtime,
    patterns: &[HostPattern],
    mut words: Vec<String>,
    style: Style,
    is_grep: bool,
    timeout: Duration,
) -> Result<ExitCode, FanOutError> {
    let hosts = HostPattern::select_all(patterns, &FleetFile::load(Path::new("/"))?.groups)?;
    if let Style::Table(_) = style {
        words.push("--json".to_owned());
    }
    let line = shlex::try_join(words.iter().map(String::as_str)).map_err(|_| WordError::Line)?;
    // The server's limit.
    Line::try_from(line.clone())?;
    let limits = Limits { timeout, output: OUTPUT_LIMIT };
    let may_ask = hosts.len() == 1;
    let mut results = Results::new(style, is_grep);
    runtime.block_on(async {
        let line = line.as_str();
        let ask = |(index, host)| async move { (index, fleet::run(host, line, may_ask, limits).await) };
        let mut replies =
            futures_util::stream::iter(hosts.iter().enumerate()).map(ask).buffer_unordered(AT_ONCE);
        while let Some((index, reply)) = replies.next().await {
            results.add(index, &hosts[index], reply)?;
        }
        Ok::<_, io::Error>(())
    })?;
    Ok(results.end(&hosts)?)
}

struct Results {
    style: Style,
    is_grep: bool,
    stdout: Stdout,
    /// Rows of a table, without the host, by its index.
    rows: BTreeMap<usize, Vec<Vec<String>>>,
    rows_bytes: usize,
    /// Indices of hosts without an exit status.
    unreached: Vec<usize>,
    /// Indices of hosts by exit status, without 0.
    exits: BTreeMap<u8, Vec<usize>>,
    /// Whether any host exited with 0.
    any_done: bool,
}

#[derive(Debug, Deserialize)]
struct SessionAt {
    port: PortName,
    #[serde(flatten)]
    session: Session,
}

impl Results {
    fn new(style: Style, is_grep: bool) -> Self {
        Self {
            style,
            is_grep,
            stdout: Stdout::new(),
            rows: BTreeMap::new(),
            rows_bytes: 0,
            unreached: Vec::new(),
            exits: BTreeMap::new(),
            any_done: false,
        }
    }

    fn add(&mut self, index: usize, host: &Host, reply: Reply) -> io::Result<()> {
        let Reply { stdout, stderr, exit } = reply;
        for line in lines(&stderr) {
            print_error(&format_args!("{host}: {line}"));
        }
        let printed = match (self.style, &exit) {
            (Style::Text, _) => {
                for line in lines(&stdout) {
                    writeln!(self.stdout, "{host}: {line}")?;
                }
                Ok(())
            }
            // An incomplete document has no rows.
            (_, Err(_)) => Ok(()),
            // Commands that fail print nothing but their error, except `doctor`.
            (_, Ok(code)) if *code != 0 && stdout.is_empty() => Ok(()),
            (Style::Json, Ok(_)) => match serde_json::from_slice(&stdout) {
                Ok(document) => {
                    self.stdout.write_all(&json_lines(host, document))?;
                    Ok(())
                }
                Err(error) => Err(error),
            },
            (Style::Table(table), Ok(_)) => self.keep_rows(index, table, &stdout),
        };
        self.stdout.flush()?;
        match (exit, printed) {
            (Ok(_), Err(error)) => {
                print_error(&format_args!("{host}: unexpected output: {error}"));
                self.unreached.push(index);
            }
            (Ok(0), Ok(())) => self.any_done = true,
            (Ok(1), Ok(())) if self.is_grep && stderr.is_empty() => {}
            (Ok(code), Ok(())) => self.exits.entry(code).or_default().push(index),
            (Err(failure), _) => {
                // ssh has printed the reason.
                if !matches!(failure, Failure::Connection) || stderr.is_empty() {
                    print_error(&format_args!("{host}: {failure}"));
                }
                self.unreached.push(index);
            }
        }
        Ok(())
    }

    fn keep_rows(&mut self, index: usize, table: Table, document: &[u8]) -> serde_json::Result<()> {
        use serde::de::Error;
        self.rows_bytes += document.len();
        if self.rows_bytes > ROWS_LIMIT {
            let limit = ROWS_LIMIT / 1024 / 1024;
            return Err(serde_json::Error::custom(format!(
                "all hosts have more than {limit} MiB; use --json"
            )));
        }
        let rows = match table {
            Table::List => {
                let listed: Vec<Listed> = serde_json::from_slice(document)?;
                listed.iter().map(|row| row.whole_row().to_vec()).collect()
            }
            Table::Status => {
                let states: Vec<PortStatus> = serde_json::from_slice(document)?;
                states.iter().map(|row| row.row().to_vec()).collect()
            }
            Table::Who => {
                let sessions: Vec<SessionAt> = serde_json::from_slice(document)?;
                sessions.iter().map(|at| listing::who_row(&at.port, &at.session).to_vec()).collect()
            }
        };
        self.rows.insert(index, rows);
        Ok(())
    }

    fn end(mut self, hosts: &[Host]) -> io::Result<ExitCode> {
        if let Style::Table(table) = self.style {
            self.print_table(hosts, table)?;
        }
        self.stdout.end()?;
        let names =
            |indices: &[usize]| fold_words(indices.iter().map(|index| hosts[*index].as_str())).join(",");
        let report = |what: &str, indices: &[usize]| {
            print_error(&format_args!(
                "consolectl: {what} {} of {} hosts: {}",
                indices.len(),
                hosts.len(),
                names(indices)
            ));
        };
        if !self.unreached.is_empty() {
            report("no result from", &self.unreached);
        }
        for (code, indices) in &self.exits {
            report(&format!("exit status {code} at"), indices);
        }
        let is_done = self.unreached.is_empty() && self.exits.is_empty() && (self.any_done || !self.is_grep);
        Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// One table in the order of the hosts; a server without rows has one of dashes.
    fn print_table(&mut self, hosts: &[Host], table: Table) -> io::Result<()> {
        let heading: &[&str] = match table {
            Table::List => &listing::LIST_HEADING,
            Table::Status => &listing::STATUS_HEADING,
            Table::Who => &listing::WHO_HEADING,
        };
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let mut all = vec![[owned(&["HOST"]), owned(heading)].concat()];
        for (index, rows) in &self.rows {
            let none = [owned(&vec!["-"; heading.len()])];
            let rows = if rows.is_empty() { none.as_slice() } else { rows };
            all.extend(rows.iter().map(|row| [owned(&[hosts[*index].as_str()]), row.clone()].concat()));
        }
        table::fitted(&all, table::width_of_rows(), &mut self.stdout)
    }
}

/// The lines of a stranger's bytes, with their control characters escaped, whether a terminal reads them or a file does.
fn lines(bytes: &[u8]) -> Vec<String> {
    let (mut visible, mut text) = (Visible::default(), Vec::new());
    visible.show(bytes, &mut text);
    visible.end(&mut text);
    String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
}

/// A line for each element, with the host as the first member.
fn json_lines(host: &Host, document: Value) -> Vec<u8> {
    let elements = match document {
        Value::Array(elements) => elements,
        element => vec![element],
    };
    let mut text = String::new();
    for element in elements {
        text.push_str(&format!("{{\"host\":{}", Value::from(host.as_str())));
        let members = match element {
            Value::Object(members) => members,
            value => [("value".to_owned(), value)].into_iter().collect(),
        };
        // A server cannot report as another one.
        for (name, value) in members.into_iter().filter(|(name, _)| name != "host") {
            text.push_str(&format!(",{}:{value}", Value::from(name)));
        }
        text.push_str("}\n");
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parse;

    fn style(line: &str) -> Result<(Style, u32), &'static str> {
        style_of(&parse::line(line).unwrap())
    }

    #[test]
    fn commands_without_an_end_or_with_local_files_are_rejected() {
        for line in [
            "connect p1",
            "watch",
            "log p1 -f",
            "transfer p1 send x",
            "import x",
            "learn p1",
            "check",
            "exit",
        ] {
            assert!(style(line).is_err(), "{line}");
        }
        assert_eq!(style("log p1"), Ok((Style::Text, 0)));
        assert_eq!(style("send p1 x --timeout 120"), Ok((Style::Text, 120)));
        assert_eq!(style("status"), Ok((Style::Table(Table::Status), 0)));
        assert_eq!(style("status --json"), Ok((Style::Json, 0)));
        assert_eq!(style("list --unconfigured"), Ok((Style::Text, 0)));
        assert_eq!(style("commit confirm 5"), Ok((Style::Text, 0)));
    }

    #[test]
    fn a_server_cannot_report_as_another_one_nor_start_a_line() {
        let host: Host = "rack1".parse().unwrap();
        let printed =
            |text: &str| String::from_utf8(json_lines(&host, serde_json::from_str(text).unwrap())).unwrap();
        assert_eq!(
            printed(r#"[{"port":"a","host":"rack2"},{"x":"\n\u001b[2J"}]"#),
            "{\"host\":\"rack1\",\"port\":\"a\"}\n{\"host\":\"rack1\",\"x\":\"\\n\\u001b[2J\"}\n"
        );
        assert_eq!(printed("[]"), "");
        assert_eq!(printed("7"), "{\"host\":\"rack1\",\"value\":7}\n");
        assert_eq!(lines(b"a\x1b[2J\rrack2: b\r\nc\xff\n"), ["a\\x1b[2J\\rrack2: b", "c\\xff"]);
        assert_eq!(lines("a\u{2028}b\u{85}c\u{202e}".as_bytes()), ["a\\u{2028}b\\u{85}c\\u{202e}"]);
    }
}
