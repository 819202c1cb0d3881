//! Commands that the port process runs, over its own socket: `log`, `grep`, `send`, `expect` and `watch`, as `ssh -p 8023 host`
//! takes them.

use std::io::{self, Write};
use std::sync::Mutex;
use std::time::Duration;

use clap::Subcommand;
use jiff::Timestamp;

use super::denials::Denials;
use super::many;
use super::replay;
use super::watch;
use crate::attach::client::{self, AttachError};
use crate::cli::endpoint::{Endpoint, Selection};
use crate::cli::error::CommandError;
use crate::cli::former::{Former, FormerError};
use crate::cli::local;
use crate::cli::stdout::{Stdout, end_when_closed, print_error};
use crate::exec::{self, DEFAULT_TIMEOUT, EXIT_DONE, EXIT_FAILED, Lines, Pattern, TIMEOUT_RANGE};
use crate::port::{Pause, PortName, PortPattern};
use crate::system::lock::Lock;

const DEFAULT_TIMEOUT_SECONDS: u32 = DEFAULT_TIMEOUT.as_secs() as u32;

fn seconds(word: &str) -> Result<u32, String> {
    exec::seconds(word, TIMEOUT_RANGE)
}

/// The text of `send`, whose escapes are valid.
fn text(word: &str) -> Result<String, exec::ParseError> {
    exec::unescape(word).map(|_| word.to_owned())
}

/// A command that the port process runs.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum AtPort {
    /// Print the last lines of a port's log, or those of a time range
    Log {
        /// Ports
        port: PortPattern,
        /// Print lines as they are added
        #[arg(short, long)]
        follow: bool,
        /// Number of lines, or all; default: 20, or all of the time range
        #[arg(short = 'n', long, value_name = "N", value_parser = exec::lines)]
        lines: Option<Lines>,
        /// Start of the range: an age (10m, 2h, 1d) or a time (16:30, today, 2026-11-24T03:00)
        #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = exec::since)]
        since: Option<Timestamp>,
        /// End of the range, in the same format
        #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = exec::until, conflicts_with = "follow")]
        until: Option<Timestamp>,
        /// Print the log as it is in the file, with control sequences
        #[arg(long)]
        raw: bool,
        /// Print the recording as an asciicast for asciinema; needs log.record
        #[arg(long, value_name = "VERSION", num_args = 0..=1, require_equals = true, default_missing_value = "3", conflicts_with_all = ["follow", "lines", "raw"])]
        cast: Option<replay::CastVersion>,
    },
    /// Play the recording of a port as it happened; needs log.record
    Play(replay::Play),
    /// Search the logs of all ports that you may use, or of the given ports; includes rotated and former logs
    Grep {
        /// Ignore case
        #[arg(short, long)]
        ignore_case: bool,
        /// Start of the range: an age (10m, 2h, 1d) or a time (16:30, today, 2026-11-24T03:00)
        #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = exec::since)]
        since: Option<Timestamp>,
        /// End of the range, in the same format
        #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = exec::until)]
        until: Option<Timestamp>,
        /// Print lines as they are in the file, with control sequences
        #[arg(long)]
        raw: bool,
        /// Regular expression
        #[arg(allow_hyphen_values = true)]
        pattern: Pattern,
        /// Ports
        #[arg(id = "port", value_name = "PORT")]
        ports: Vec<PortPattern>,
    },
    /// Send text to a port (\r is Return), and optionally wait for a reply
    Send {
        /// Take over write access from another client
        #[arg(long)]
        force: bool,
        /// Wait until the output matches this regular expression
        #[arg(long, value_name = "PATTERN")]
        expect: Option<Pattern>,
        /// Timeout in seconds, for sending and for the reply
        #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_TIMEOUT_SECONDS, value_parser = seconds)]
        timeout: u32,
        /// Delay after each character, such as 20ms, or none; default: the port's
        #[arg(long, value_name = "TIME")]
        output_delay: Option<Pause>,
        /// Delay after each line, such as 1s, or none; default: the port's
        #[arg(long, value_name = "TIME")]
        output_line_delay: Option<Pause>,
        /// Do not apply the port's omap
        #[arg(long)]
        raw: bool,
        /// Ports
        port: PortPattern,
        /// Text, quoted, with escapes: \r \n \t \e \a \b \\ \xHH \OOO
        #[arg(allow_hyphen_values = true, value_parser = text)]
        text: String,
    },
    /// Watch the output of ports, read-only; each line is prefixed with its port; Ctrl-C exits
    Watch {
        /// Print control sequences too, escaped
        #[arg(long)]
        raw: bool,
        /// Ports; default: all that you may use
        #[arg(id = "port", value_name = "PORT")]
        ports: Vec<PortPattern>,
    },
    /// Print the output of a port until it matches a pattern; fail on timeout
    Expect {
        /// Timeout in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_TIMEOUT_SECONDS, value_parser = seconds)]
        timeout: u32,
        /// Ports
        port: PortPattern,
        /// Regular expression
        #[arg(allow_hyphen_values = true)]
        pattern: Pattern,
    },
}

impl AtPort {
    /// Runs the command: the exit code.
    pub fn run(self, endpoint: &Endpoint) -> Result<u8, CommandError> {
        let runtime = &endpoint.runtime;
        let seconds = |count: u32| Duration::from_secs(count.into());
        if let Self::Grep { since, until, .. } | Self::Log { since, until, .. } = &self {
            exec::in_order(*since, *until).map_err(CommandError::of_command)?;
        }
        let (port, command) = match self {
            Self::Grep { ignore_case, since, until, raw, pattern, ports } => {
                let pattern = if ignore_case {
                    pattern.ignoring_case().map_err(CommandError::of_command)?
                } else {
                    pattern
                };
                return grep(endpoint, exec::Command::Grep { pattern, since, until, raw }, &ports);
            }
            Self::Watch { raw, ports } => return watch::run(endpoint, &ports, raw),
            Self::Log { port, since, until, cast: Some(version), .. } => {
                return replay::print_cast(endpoint, &port, since, until, version);
            }
            Self::Play(play) => return replay::play(endpoint, play),
            Self::Log { port, follow, lines, since, until, raw, cast: None } => {
                let Lines(lines) = lines.unwrap_or_else(|| Lines::default_for(since, until));
                (port, exec::Command::Log { lines, since, until, follow, raw })
            }
            Self::Send { force, expect, timeout, output_delay, output_line_delay, raw, port, text } => {
                let bytes = exec::unescape(&text).map_err(CommandError::of_command)?;
                let timeout = seconds(timeout);
                let typing = exec::SendOptions { output_delay, output_line_delay, raw };
                (port, exec::Command::Send { bytes, force, expected: expect, timeout, typing })
            }
            Self::Expect { timeout, port, pattern } => {
                (port, exec::Command::Expect { pattern, timeout: seconds(timeout) })
            }
        };
        let success = match &command {
            exec::Command::Send { expected: Some(pattern), .. } => {
                format!("sent; received {:?}", pattern.to_string())
            }
            exec::Command::Send { .. } => "sent".to_owned(),
            exec::Command::Expect { pattern, .. } => format!("received {:?}", pattern.to_string()),
            _ => return log(endpoint, &port, &command),
        };
        let port = match endpoint.selection(&port)? {
            Selection::One(port) => port,
            Selection::Several(ports) => return many::run(endpoint, &ports, &command, &success),
        };
        let mut stdout = Stdout::new();
        let ran = client::run(runtime, &port, command, &mut stdout, &mut io::stderr())?;
        stdout.end()?;
        Ok(ran.status)
    }
}

/// Prints the logs of ports; each line is prefixed with the port if there are several.
fn log(endpoint: &Endpoint, pattern: &PortPattern, command: &exec::Command) -> Result<u8, CommandError> {
    let follows = matches!(command, exec::Command::Log { follow: true, .. });
    if follows {
        end_when_closed();
    }
    let stdout = Mutex::new(Stdout::new());
    let ports = match endpoint.with_log(pattern)? {
        Selection::One(port) => {
            let status = one_log(endpoint, &port, command, &mut *stdout.locked())?;
            stdout.locked().end()?;
            return Ok(status);
        }
        Selection::Several(ports) => ports,
    };
    let read = |port: &PortName| {
        let mut shown = Labelled::new(format!("{port}: "), &stdout);
        let status = one_log(endpoint, port, command, &mut shown)?;
        shown.end()?;
        Ok::<_, CommandError>(status)
    };
    let mut failed = Vec::new();
    let tell = |port: &PortName, came: Result<u8, CommandError>| {
        if let Err(error) = &came {
            print_error(&format_args!("consolectl: {error}"));
        }
        if !matches!(came, Ok(EXIT_DONE)) {
            failed.push(port.clone());
        }
        Ok(())
    };
    // Followed logs run concurrently, since none of them ends; others one after the other.
    many::each(&ports, if follows { ports.len() } else { 1 }, read, tell)?;
    stdout.locked().end()?;
    Ok(many::summary(&mut failed, ports.len()))
}

/// The log of one port, served or not.
fn one_log(
    endpoint: &Endpoint,
    port: &PortName,
    command: &exec::Command,
    shown: &mut impl Write,
) -> Result<u8, CommandError> {
    let done = client::run(&endpoint.runtime, port, command.clone(), shown, &mut io::stderr());
    let former = endpoint.logs.as_deref().and_then(|logs| Former::find(logs, port));
    let status = match (done, former) {
        (Err(AttachError::NotServed { .. }), Some(former)) => {
            print_error(&format_args!("{} is a {}; this is its last log", former.port, former.what));
            let read = former.run(command.clone(), shown)?;
            if read.whole { EXIT_DONE } else { EXIT_FAILED }
        }
        (done, _) => done?.status,
    };
    shown.flush()?;
    Ok(status)
}

/// Standard output with a label before each line. Only the last write may end without a newline.
struct Labelled<'s> {
    label: String,
    stdout: &'s Mutex<Stdout>,
    /// Whether anything was written.
    any: bool,
    /// Whether the last line is incomplete.
    open: bool,
}

impl<'s> Labelled<'s> {
    fn new(label: String, stdout: &'s Mutex<Stdout>) -> Self {
        Self { label, stdout, any: false, open: false }
    }

    /// Ends an incomplete line, before another label is used.
    fn end(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.open) {
            self.stdout.locked().write_all(b"\n")?;
        }
        self.flush()
    }
}

impl Write for Labelled<'_> {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let mut out = Vec::with_capacity(lines.len());
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            if !std::mem::replace(&mut self.open, !line.ends_with(b"\n")) {
                out.extend_from_slice(self.label.as_bytes());
            }
            out.extend_from_slice(line);
        }
        self.stdout.locked().write_all(&out)?;
        self.any |= !lines.is_empty();
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stdout.locked().flush()
    }
}

/// Searches the logs of the given ports, or of all ports with a log. A port that does not run is started, one at a time, reads its log and
/// exits. The logs of ports that are not served are read by this process.
fn grep(endpoint: &Endpoint, command: exec::Command, patterns: &[PortPattern]) -> Result<u8, CommandError> {
    let all = patterns.is_empty();
    let logs = endpoint.logs.as_deref();
    let ports = match all {
        true => local::logged(&endpoint.runtime)?,
        // A port that is not served may have a log.
        false => endpoint.all_with_log(patterns)?,
    };
    let stdout = Mutex::new(Stdout::new());
    let (mut found, mut whole) = (false, true);
    let mut failure: Option<CommandError> = None;
    let mut failed = |error: CommandError| {
        if let Some(before) = failure.replace(error) {
            print_error(&format_args!("consolectl: {before}"));
        }
    };
    let mut denials = Denials::default();
    let mut former = Vec::new();
    for port in &ports {
        let mut shown = Labelled::new(format!("{port}: "), &stdout);
        match client::run(&endpoint.runtime, port, command.clone(), &mut shown, &mut io::stderr()) {
            Ok(ran) => {
                found |= ran.status == EXIT_DONE || shown.any;
                whole &= !ran.had_notices;
            }
            // `grep` without ports skips those that the user may not use.
            Err(AttachError::Rejected(why)) if all => denials.add(why),
            Err(error @ AttachError::NotServed { .. }) => {
                match logs.and_then(|logs| Former::find(logs, port)) {
                    Some(port) => former.push(port),
                    None => failed(endpoint.whole(port).err().unwrap_or_else(|| error.into())),
                }
            }
            Err(error) => failed(error.into()),
        }
        shown.end()?;
    }
    if let (true, Some(logs)) = (all, logs) {
        former.extend(Former::all(logs, &ports)?);
    }
    let mut denied = Vec::new();
    for port in former {
        let mut shown = Labelled::new(format!("{} ({}): ", port.port, port.what), &stdout);
        match port.run(command.clone(), &mut shown) {
            Ok(read) => {
                found |= shown.any;
                whole &= read.whole;
            }
            Err(FormerError::None(..)) if all => {}
            Err(FormerError::Denied(port, _)) if all => denied.push(port.to_string()),
            Err(error) => failed(error.into()),
        }
        shown.end()?;
    }
    stdout.locked().end()?;
    if let Some(why) = denials.of_all(ports.len()) {
        print_error(&format_args!("consolectl: {why}"));
    }
    if !denied.is_empty() {
        let names = denied.join(", ");
        print_error(&format_args!(
            "consolectl: skipped the logs of ports that are not served, which only root and the group adm may read: {names}"
        ));
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(if found && whole { EXIT_DONE } else { EXIT_FAILED }),
    }
}
