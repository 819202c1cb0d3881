//! Messages of a program: to the journal if stderr leads there, with their fields, and otherwise to stderr,
//! a line each. The message is a whole sentence, because it is all that `journalctl` shows; fields are for `journalctl
//! CONSOLE_USER=…` and named here as there, in lower case (`console_user`). The kinds of events are in `event`.
//!
//! No message waits for its reader: what the journal or stderr does not accept immediately is dropped and counted, and the count is
//! reported with the next message that is accepted, or by [`report_dropped`].

mod native;
mod stderr;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::port::PortName;
use native::Journal;
use stderr::Stderr;

/// The target of messages with the priority notice, which tracing has not: of services whose starts are too frequent to be logged
/// (LogLevelMax=notice).
pub const NOTICE: &str = "notice";

/// Sends this process's messages to the right place, under the name `program`, all with the field
/// `CONSOLE_PORT` if the process serves one port. Call it once.
pub fn init(program: &'static str, port: Option<&PortName>) {
    let journal = stderr_is_journal().then(|| Journal::new(program, port.map(PortName::as_str)));
    match journal.and_then(Result::ok).map(|journal| JOURNAL.get_or_init(|| journal)) {
        Some(journal) => {
            // What libraries write to stderr goes to journald by a stream, which fills up when journald is stopped.
            let _ = fcntl(std::io::stderr(), FcntlArg::F_SETFL(OFlag::O_WRONLY | OFlag::O_NONBLOCK));
            start(Log::Journal(journal));
        }
        None => start(Log::Stderr(Stderr::default(), format!(" {program}:"))),
    }
}

/// As [`init`], for a program at a terminal, which needs no name.
pub fn init_at_terminal() {
    start(Log::Stderr(Stderr::default(), String::new()));
}

fn start(log: Log) {
    // This fails only if it is called twice.
    let _ = tracing::subscriber::set_global_default(log);
    report_panics();
}

/// The exit code of a service that has ended. Its error is logged; one of its usage is 2, as of a wrong argument.
pub fn exit_code<E: fmt::Display>(ended: Result<(), E>, is_of_usage: impl FnOnce(&E) -> bool) -> ExitCode {
    let Err(error) = ended else { return ExitCode::SUCCESS };
    tracing::error!("{error}");
    if is_of_usage(&error) { ExitCode::from(2) } else { ExitCode::FAILURE }
}

/// Renames the port that this process serves.
pub fn set_port(port: &PortName) {
    if let Some(journal) = JOURNAL.get() {
        journal.set_port(port.as_str());
    }
}

/// Logs panics like everything else: the standard hook writes to stderr, and waits there.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = Backtrace::capture();
        match backtrace.status() {
            BacktraceStatus::Captured => tracing::error!("{panic}\n{backtrace}"),
            _ => tracing::error!("{panic}"),
        }
    }));
}

/// The connection to the journal, if there is one.
static JOURNAL: OnceLock<Journal> = OnceLock::new();

/// Time for the journal to accept the count of dropped messages, when a program that runs for one login ends.
const LAST_REPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// Reports how many messages were dropped, as soon as the journal accepts messages again: called now and then by programs that may
/// have nothing else to log for a long time. False if the journal does not accept the report.
pub fn report_dropped() -> bool {
    JOURNAL.get().is_none_or(Journal::report_dropped)
}

/// [`report_dropped`] at the end of a program: waits a moment if anything was dropped.
pub fn report_dropped_at_exit() {
    let deadline = std::time::Instant::now() + LAST_REPORT_TIMEOUT;
    while !report_dropped() && std::time::Instant::now() < deadline {
        std::thread::sleep(LAST_REPORT_TIMEOUT / 20);
    }
}

fn dropped(count: u64, by: &str) -> String {
    match count {
        1 => format!("1 message was dropped: {by} did not accept it"),
        _ => format!("{count} messages were dropped: {by} did not accept them"),
    }
}

/// Where events go, without tracing-subscriber: its registry of spans, which are not used here, takes 32 KiB in each process.
enum Log {
    Journal(&'static Journal),
    /// With the name of the program before each message.
    Stderr(Stderr, String),
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= LevelFilter::INFO
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }

    fn event(&self, event: &Event<'_>) {
        match self {
            Self::Journal(journal) => journal.log(event),
            Self::Stderr(stderr, program) => {
                let mut message = Message(String::new());
                event.record(&mut message);
                let (time, level) = (jiff::Zoned::now().strftime("%H:%M:%S"), event.metadata().level());
                stderr.print(&format!("{time}{program} {level:>5} {}\n", message.0));
            }
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// systemd states by `JOURNAL_STREAM=device:inode` which pipe leads to the journal (`man systemd.exec`).
fn stderr_is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else { return false };
    stream == format!("{}:{}", stderr.dev(), stderr.ino())
}

/// The text of an event. Control characters are escaped: text from a client must not control the terminal on which it is read.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() != "message" {
            return;
        }
        for character in format!("{value:?}").chars() {
            // Writing to a String cannot fail.
            let _ = match character.is_control() {
                true => write!(self.0, "{}", character.escape_default()),
                false => self.0.write_char(character),
            };
        }
    }
}
