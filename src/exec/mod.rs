//! Commands at a port: `ssh -p 8023 host log -n 50`, and the same by `consolectl` over the local socket. [`parse`](parse()) parses a
//! command line, and a [`Task`] runs the command with the access of its user and prints to an [`Outlet`].

mod expect;
mod foreign;
mod log;
pub(crate) mod parse;
mod pattern;
mod send;
mod text;
mod words;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::capture::TimeRange;
use crate::hub::LineState;
use crate::port::{BreakName, Pause};
use crate::printable::{Visible, visible};
use crate::session::{AttachedUser, Console, Event, Gone, Outlet, QueuedInput, closed, status_rows};

pub use foreign::{ForeignCommand, foreign};
pub use parse::{ParseError, Request, parse};
pub use pattern::{Pattern, PatternError};
pub use text::unescape;
pub use words::{Lines, in_order, lines, minutes, seconds, since, until};

/// Default number of lines of `log`.
pub const DEFAULT_LINES: u32 = 20;
/// Seconds that `--timeout` may be: up to a day.
pub const TIMEOUT_RANGE: RangeInclusive<u32> = 1..=86_400;
/// Default of `--timeout`.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Success, or a match.
pub const EXIT_DONE: u8 = 0;
/// Failure, or no match.
pub const EXIT_FAILED: u8 = 1;
pub const EXIT_USAGE: u8 = 2;
/// Exit status after Control-C, as in a shell: 128 + SIGINT.
const EXIT_INTERRUPTED: u8 = 130;

/// Options of `send` that override the port's settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendOptions {
    #[serde(default)]
    pub output_delay: Option<Pause>,
    #[serde(default)]
    pub output_line_delay: Option<Pause>,
    /// Without `omap`.
    #[serde(default)]
    pub raw: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    Log {
        /// The number of last lines; `None`: all.
        lines: Option<u32>,
        since: Option<Timestamp>,
        /// Only up to this time.
        #[serde(default)]
        until: Option<Timestamp>,
        follow: bool,
        /// Verbatim, with control sequences.
        #[serde(default)]
        raw: bool,
    },
    /// Print matching lines of the log, rotated files included.
    Grep {
        pattern: Pattern,
        since: Option<Timestamp>,
        /// Only up to this time.
        #[serde(default)]
        until: Option<Timestamp>,
        /// Verbatim, with control sequences.
        #[serde(default)]
        raw: bool,
    },
    /// Send the recording, in frames (`capture::recording`).
    Recording {
        since: Option<Timestamp>,
        /// Only up to this time.
        until: Option<Timestamp>,
    },
    Status,
    Break {
        milliseconds: u32,
        #[serde(default)]
        name: Option<BreakName>,
        force: bool,
    },
    Send {
        bytes: Vec<u8>,
        force: bool,
        /// The pattern to wait for afterwards.
        expected: Option<Pattern>,
        /// Timeout of sending, and of waiting.
        timeout: Duration,
        #[serde(flatten)]
        typing: SendOptions,
    },
    Expect {
        pattern: Pattern,
        timeout: Duration,
    },
    Version,
    /// List the commands, or describe one.
    Help {
        command: Option<String>,
    },
}

/// Why a command ended early.
#[derive(Debug)]
enum ExecError {
    Gone,
    Failed(String),
}

impl From<Gone> for ExecError {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

type ExecResult<T = u8> = Result<T, ExecError>;

/// Runs commands of a user at a port.
#[derive(Debug)]
pub struct Task {
    console: Arc<Console>,
    user: AttachedUser,
}

impl Task {
    /// A task of this user.
    pub fn new(console: Arc<Console>, user: AttachedUser) -> Self {
        Self { console, user }
    }

    /// Runs a command. Returns its exit code, or `None` if the client has disconnected.
    pub async fn run<O: Outlet>(&self, command: Command, outlet: &mut O) -> Option<u8> {
        let mut closing = self.console.closing();
        let stop = tokio::select! {
            done = self.act(command, outlet) => match done {
                Ok(status) => return Some(status),
                Err(stop) => stop,
            },
            why = closed(&mut closing) => ExecError::Failed(why),
        };
        match stop {
            ExecError::Gone => None,
            ExecError::Failed(why) => outlet.notice(format!("{why}\n")).await.ok().map(|()| EXIT_FAILED),
        }
    }

    async fn act<O: Outlet>(&self, command: Command, outlet: &mut O) -> ExecResult {
        match command {
            Command::Log { lines, since, until, follow, raw } => {
                log::log(self, lines, TimeRange { since, until }, follow, raw, outlet).await
            }
            Command::Grep { pattern, since, until, raw } => {
                log::grep(self, pattern, TimeRange { since, until }, raw, outlet).await
            }
            Command::Recording { since, until } => {
                log::recording(self, TimeRange { since, until }, outlet).await
            }
            Command::Status => self.status(outlet).await,
            Command::Break { milliseconds, name, force } => {
                send::send_break(self, milliseconds, name, force).await
            }
            Command::Send { bytes, force, expected, timeout, typing } => {
                send::send(self, (bytes, typing), force, expected, timeout, outlet).await
            }
            Command::Expect { pattern, timeout } => expect::expect(self, pattern, timeout, outlet).await,
            Command::Version => {
                let version = format!("consoleserver {}\n", env!("CARGO_PKG_VERSION"));
                outlet.send(version.into_bytes()).await?;
                Ok(EXIT_DONE)
            }
            Command::Help { command } => {
                outlet.send(help(command.as_deref()).into_bytes()).await?;
                Ok(EXIT_DONE)
            }
        }
    }

    async fn status<O: Outlet>(&self, outlet: &mut O) -> ExecResult {
        let condition = self.console.hub.examine().await;
        let mut text = String::new();
        for (what, value) in status_rows(&self.console, &condition) {
            text.push_str(&format!("{what:<8} {value}\n"));
        }
        outlet.send(text.into_bytes()).await?;
        let open = matches!(*self.console.hub.line().borrow(), LineState::Open(_));
        Ok(if open { EXIT_DONE } else { EXIT_FAILED })
    }

    fn failed<T>(&self, why: impl std::fmt::Display) -> ExecResult<T> {
        Err(ExecError::Failed(format!("{}: {why}", self.console.name())))
    }
}

/// All commands, or one of them.
fn help(command: Option<&str>) -> String {
    let mut text = String::new();
    let asked = |name| command.is_none_or(|command| command == name);
    for (_, usage, what) in parse::COMMANDS.into_iter().filter(|(name, ..)| asked(*name)) {
        text.push_str(&format!("{usage}\n    {what}\n"));
    }
    text.push_str("exit code: 0 success or match; 1 failure or no match; 2 usage error\n");
    text
}

/// Runs a parsed command line for an SSH client, until the command ends, the client disconnects, or its user types Control-C on a
/// `terminal`.
pub async fn run_line<O: Outlet>(
    task: Task,
    command: Result<Command, ParseError>,
    terminal: bool,
    typed: QueuedInput,
    outlet: O,
) -> Option<u8> {
    let mut outlet = TextOutlet { outlet, terminal: terminal.then(Visible::default) };
    let command = match command {
        Ok(command) => command,
        Err(error) => {
            // Discard its standard input, which must not fill the queue.
            drop(typed);
            return outlet.notice(format!("{error}\n")).await.ok().map(|()| EXIT_USAGE);
        }
    };
    tokio::select! {
        status = task.run(command, &mut outlet) => {
            outlet.end().await.ok()?;
            status
        }
        status = interrupted(typed, terminal) => status,
    }
}

/// Discards input during a command, except for Control-C of a terminal.
async fn interrupted(mut typed: QueuedInput, terminal: bool) -> Option<u8> {
    while let Some(event) = typed.next().await {
        typed.settle(event.weight());
        if let Event::Bytes(bytes) = event
            && terminal
            && bytes.contains(&0x03)
        {
            return Some(EXIT_INTERRUPTED);
        }
    }
    None
}

/// Output of a command. For a terminal, control characters are made visible, and each LF gets a CR, because its client has set it to raw
/// mode.
struct TextOutlet<O> {
    outlet: O,
    /// Only for a terminal.
    terminal: Option<Visible>,
}

impl<O: Outlet> TextOutlet<O> {
    /// Sends the incomplete character at the end, if there is one.
    async fn end(&mut self) -> Result<(), Gone> {
        let Some(visible) = &mut self.terminal else { return Ok(()) };
        let mut out = Vec::new();
        visible.end(&mut out);
        if out.is_empty() { Ok(()) } else { self.outlet.send(crlf(&out)).await }
    }
}

impl<O: Outlet> Outlet for TextOutlet<O> {
    async fn send(&mut self, bytes: Vec<u8>) -> Result<(), Gone> {
        let Some(visible) = &mut self.terminal else { return self.outlet.send(bytes).await };
        let mut out = Vec::new();
        visible.show(&bytes, &mut out);
        self.outlet.send(crlf(&out)).await
    }

    async fn notice(&mut self, text: String) -> Result<(), Gone> {
        let text = visible(&text);
        match self.terminal {
            Some(_) => self.outlet.send(crlf(text.as_bytes())).await,
            None => self.outlet.notice(text).await,
        }
    }
}

fn crlf(lines: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(lines.len() + 64);
    for &byte in lines {
        if byte == b'\n' {
            out.push(b'\r');
        }
        out.push(byte);
    }
    out
}
