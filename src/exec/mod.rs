//! What is asked of a port in one line: `ssh -p 8023 host log -n 50`, and the same by `consolectl` over the local socket. [`parse`](parse())
//! understands it, and a [`Task`] does it over an [`Outlet`], with the rights of whoever asks.

mod expect;
mod foreign;
mod log;
mod parse;
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
use crate::port::Pause;
use crate::printable::{Visible, visible};
use crate::session::{AttachedUser, Console, Event, Gone, Outlet, Typed, closed, status_rows};

pub use foreign::{ForeignCommand, foreign};
pub use parse::{ParseError, Request, parse};
pub use pattern::{Pattern, PatternError};
pub use text::unescape;
pub use words::{Lines, lines, since, until};

/// Lines of a log, if nothing is said.
pub const DEFAULT_LINES: u32 = 20;
/// Seconds that one may wait for what a device says: a day.
pub const TIMEOUT_RANGE: RangeInclusive<u32> = 1..=86_400;
/// If nothing is said.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// It is done, was found, has come.
pub const EXIT_DONE: u8 = 0;
/// It is not, or failed.
pub const EXIT_FAILED: u8 = 1;
/// It was not understood.
pub const EXIT_USAGE: u8 = 2;
/// A Control-C.
const EXIT_INTERRUPTED: u8 = 130;

/// What a `send` wants instead of the port's settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendOptions {
    /// The pause after each character.
    #[serde(default)]
    pub output_delay: Option<Pause>,
    /// The pause after each line.
    #[serde(default)]
    pub output_line_delay: Option<Pause>,
    /// No mapping (`omap`).
    #[serde(default)]
    pub raw: bool,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The capture log.
    Log {
        /// Its last lines; `None`: all that is there.
        lines: Option<u32>,
        /// Only what was logged since then.
        since: Option<Timestamp>,
        /// Only what was logged until then.
        #[serde(default)]
        until: Option<Timestamp>,
        /// Whether to go on with what is added.
        follow: bool,
        /// As it stands in the file, with its control sequences.
        #[serde(default)]
        raw: bool,
    },
    /// The lines of the log that match, those of rotated files too.
    Grep {
        /// What they match.
        pattern: Pattern,
        /// Only what was logged since then.
        since: Option<Timestamp>,
        /// Only what was logged until then.
        #[serde(default)]
        until: Option<Timestamp>,
        /// As it stands in the file, with its control sequences.
        #[serde(default)]
        raw: bool,
    },
    /// How the port does.
    Status,
    /// A break.
    Break {
        /// So long.
        milliseconds: u32,
        /// Whether to take over from who writes.
        force: bool,
    },
    /// Types something.
    Send {
        /// These bytes.
        bytes: Vec<u8>,
        /// Whether to take over from who writes.
        force: bool,
        /// What to wait for then.
        expected: Option<Pattern>,
        /// For the line to take it, and for that to come.
        timeout: Duration,
        /// How.
        #[serde(flatten)]
        typing: SendOptions,
    },
    /// Waits for what the device says.
    Expect {
        /// This.
        pattern: Pattern,
        /// So long.
        timeout: Duration,
    },
    /// What there is.
    Help,
}

/// Why a command has come to nothing.
#[derive(Debug)]
enum ExecError {
    /// Nobody is left to tell.
    Gone,
    /// What the user is to read.
    Failed(String),
}

impl From<Gone> for ExecError {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

type ExecResult<T = u8> = Result<T, ExecError>;

/// A command for somebody at a port.
#[derive(Debug)]
pub struct Task {
    console: Arc<Console>,
    user: AttachedUser,
}

impl Task {
    /// For this visitor.
    pub fn new(console: Arc<Console>, visitor: AttachedUser) -> Self {
        Self { console, user: visitor }
    }

    /// Does it: the exit code, or `None` if nobody is left to tell.
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
                self.log(lines, TimeRange { since, until }, follow, raw, outlet).await
            }
            Command::Grep { pattern, since, until, raw } => {
                self.grep(pattern, TimeRange { since, until }, raw, outlet).await
            }
            Command::Status => self.status(outlet).await,
            Command::Break { milliseconds, force } => self.send_break(milliseconds, force).await,
            Command::Send { bytes, force, expected, timeout, typing } => {
                self.send((bytes, typing), force, expected, timeout, outlet).await
            }
            Command::Expect { pattern, timeout } => self.expect(pattern, timeout, outlet).await,
            Command::Help => {
                outlet.send(help().into_bytes()).await?;
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

fn help() -> String {
    let mut text = String::new();
    for (_, usage, what) in parse::COMMANDS {
        text.push_str(&format!("{usage}\n    {what}\n"));
    }
    text.push_str("exit code: 0 done, found or come; 1 not; 2 not understood\n");
    text
}

/// Does the command that a line says, if it is one, for an SSH client: until it is done, or the client is gone, or has typed Control-C on its
/// `terminal`.
pub async fn run_line<O: Outlet>(
    task: Task,
    command: Result<Command, ParseError>,
    terminal: bool,
    typed: Typed,
    outlet: O,
) -> Option<u8> {
    let mut outlet = TextOutlet { outlet, terminal: terminal.then(Visible::default) };
    let command = match command {
        Ok(command) => command,
        Err(error) => {
            // Whatever comes on its standard input is for nobody, and must not stop us from reading.
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

/// Whatever is typed beside a command is for nobody, but for a terminal's Control-C.
async fn interrupted(mut typed: Typed, terminal: bool) -> Option<u8> {
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

/// What a command says. A terminal is given nothing of it that it would obey, and wants a CR before each LF, because its client
/// has set it raw.
struct TextOutlet<O> {
    outlet: O,
    /// Of a terminal.
    terminal: Option<Visible>,
}

impl<O: Outlet> TextOutlet<O> {
    /// What was kept of the end.
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
