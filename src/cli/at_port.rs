//! What ports do themselves, asked by their own sockets: `log`, `grep`, `send` and `expect`, as `ssh -p 8023 host` takes them.

use std::io::{self, Write};
use std::time::Duration;

use clap::Subcommand;
use jiff::Timestamp;

use super::client::{CommandError, Place};
use super::local;
use crate::attach::client::{self, AttachError};
use crate::exec::{self, DONE, FAILED, LINES, Pattern, TIMEOUT, TIMEOUTS};
use crate::port::PortName;

/// For something to come, if nothing is said.
const SECONDS: u32 = TIMEOUT.as_secs() as u32;
/// The longest time that may be waited for something: a day.
const MOST_SECONDS: i64 = *TIMEOUTS.end() as i64;

/// A command that a port does.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum AtPort {
    /// Show the last lines of a port's log, or those since a time
    Log {
        /// The port
        port: PortName,
        /// Go on with what is added
        #[arg(short, long)]
        follow: bool,
        /// How many lines: 20, or all since the time
        #[arg(short = 'n', long, value_name = "N")]
        lines: Option<u32>,
        /// From when on: how long ago (10m, 2h, 1d) or a time (2026-11-24T03:00)
        #[arg(long, value_name = "TIME", value_parser = exec::since)]
        since: Option<Timestamp>,
    },
    /// Search the logs, rotated ones too: of all ports that you may use, or of these
    Grep {
        /// Whatever the case
        #[arg(short, long)]
        ignore_case: bool,
        /// From when on: how long ago (10m, 2h, 1d) or a time (2026-11-24T03:00)
        #[arg(long, value_name = "TIME", value_parser = exec::since)]
        since: Option<Timestamp>,
        /// A regular expression
        #[arg(allow_hyphen_values = true)]
        pattern: Pattern,
        /// The ports
        #[arg(id = "port", value_name = "PORT")]
        ports: Vec<PortName>,
    },
    /// Type a text at a port, in which \r is Return; and wait for what it says then
    Send {
        /// Take over from who writes there
        #[arg(long)]
        force: bool,
        /// A regular expression to wait for
        #[arg(long, value_name = "PATTERN")]
        expect: Option<Pattern>,
        /// For the line to take the text, and for the answer
        #[arg(long, value_name = "SECONDS", default_value_t = SECONDS, value_parser = clap::value_parser!(u32).range(1..=MOST_SECONDS))]
        timeout: u32,
        /// The port
        port: PortName,
        /// The text, in quotes: \r \n \t \e \a \b \\ \xHH \OOO
        #[arg(allow_hyphen_values = true)]
        text: String,
    },
    /// Show what a port says until it has said something; fails if that does not come
    Expect {
        /// So long
        #[arg(long, value_name = "SECONDS", default_value_t = SECONDS, value_parser = clap::value_parser!(u32).range(1..=MOST_SECONDS))]
        timeout: u32,
        /// The port
        port: PortName,
        /// A regular expression
        #[arg(allow_hyphen_values = true)]
        pattern: Pattern,
    },
}

impl AtPort {
    /// Does it: the exit code.
    pub fn run(self, place: &Place) -> Result<u8, CommandError> {
        let runtime = &place.runtime;
        let seconds = |count: u32| Duration::from_secs(count.into());
        let (port, command) = match self {
            Self::Grep { ignore_case, since, pattern, ports } => {
                let pattern = if ignore_case { pattern.ignoring_case()? } else { pattern };
                return grep(place, exec::Command::Grep { pattern, since }, ports);
            }
            Self::Log { port, follow, lines, since } => {
                let lines = lines.or(since.is_none().then_some(LINES));
                (port, exec::Command::Log { lines, since, follow })
            }
            Self::Send { force, expect, timeout, port, text } => {
                let bytes = exec::unescape(&text)?;
                let timeout = seconds(timeout);
                (port, exec::Command::Send { bytes, force, expected: expect, timeout })
            }
            Self::Expect { timeout, port, pattern } => {
                (port, exec::Command::Expect { pattern, timeout: seconds(timeout) })
            }
        };
        Ok(client::run(runtime, &port, command, &mut io::stdout())?)
    }
}

/// Standard output, with a label before each line. What is written are whole lines.
struct Labelled(String);

impl Write for Labelled {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let mut out = Vec::with_capacity(lines.len());
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            out.extend_from_slice(self.0.as_bytes());
            out.extend_from_slice(line);
        }
        io::stdout().write_all(&out)?;
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

/// In the logs of these ports, or of all that there is a log of. A port that does not run is started for it, but one at a time: it reads
/// its log, and leaves.
fn grep(place: &Place, command: exec::Command, ports: Vec<PortName>) -> Result<u8, CommandError> {
    let all = ports.is_empty();
    let ports = if all { local::logged(&place.runtime)? } else { ports };
    let (mut found, mut failure) = (false, None);
    for port in ports {
        let mut shown = Labelled(format!("{port}: "));
        match client::run(&place.runtime, &port, command.clone(), &mut shown) {
            Ok(status) => found |= status == DONE,
            // Of all ports, those that one may use.
            Err(AttachError::Refused(_)) if all => {}
            Err(error) => {
                if let Some(before) = failure.replace(error) {
                    eprintln!("consolectl: {before}");
                }
            }
        }
    }
    match failure {
        Some(error) => Err(error.into()),
        None => Ok(if found { DONE } else { FAILED }),
    }
}
