//! Messages of a program: to the journal if stderr leads there, with their fields, and otherwise to stderr,
//! a line each. The message is a whole sentence, because it is all that `journalctl` shows; fields are for `journalctl
//! CONSOLE_USER=…` and named here as there, in lower case (`console_user`). The kinds of events are in `event`.
//!
//! No message waits for its reader: what the journal or stderr does not accept immediately is dropped and counted, and the count is
//! reported with the next message that is accepted, or by [`report_dropped`].

mod native;
mod stderr;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tracing::field::Field;
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::{Extensions, ExtensionsMut, LookupSpan, SpanData};

use crate::port::PortName;
use native::Journal;
pub use stderr::Stderr;

/// The target of messages with the priority notice, which tracing has not: of services whose starts are too frequent to be logged
/// (LogLevelMax=notice).
pub const NOTICE: &str = "notice";

/// Sends this process's messages to the right place, under the name `program`, all with the field
/// `CONSOLE_PORT` if the process serves one port. Call it once.
pub fn init(program: &'static str, port: Option<&PortName>) {
    let journal = stderr_is_journal().then(|| Journal::new(program, port.map(PortName::as_str)));
    let journal = journal.and_then(Result::ok).map(|journal| JOURNAL.get_or_init(|| journal));
    let stderr = journal.is_none().then(|| {
        tracing_subscriber::fmt::layer()
            .with_writer(Stderr::default())
            .with_target(false)
            .with_timer(Stamp(program))
            .fmt_fields(debug_fn(message_only))
    });
    if journal.is_some() {
        // What libraries write to stderr goes to journald by a stream, which fills up when journald is stopped.
        let _ = fcntl(std::io::stderr(), FcntlArg::F_SETFL(OFlag::O_WRONLY | OFlag::O_NONBLOCK));
    }
    NoSpans.with(LevelFilter::INFO).with(journal).with(stderr).init();
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
pub fn report_panics() {
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

/// For the journal to accept the count of dropped messages, when a program that runs for one login ends.
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

/// The subscriber under the layers. There are only events; tracing-subscriber's registry of spans takes 32 KiB in each process.
struct NoSpans;

/// Spans are not used.
enum Span {}

impl Subscriber for NoSpans {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &tracing::Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl<'a> LookupSpan<'a> for NoSpans {
    type Data = Span;

    fn span_data(&'a self, _: &Id) -> Option<Span> {
        None
    }
}

impl SpanData<'_> for Span {
    fn id(&self) -> Id {
        match *self {}
    }

    fn metadata(&self) -> &'static Metadata<'static> {
        match *self {}
    }

    fn parent(&self) -> Option<&Id> {
        match *self {}
    }

    fn extensions(&self) -> Extensions<'_> {
        match *self {}
    }

    fn extensions_mut(&self) -> ExtensionsMut<'_> {
        match *self {}
    }
}

/// systemd states by `JOURNAL_STREAM=device:inode` which pipe leads to the journal (`man systemd.exec`).
fn stderr_is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else { return false };
    stream == format!("{}:{}", stderr.dev(), stderr.ino())
}

/// Control characters are escaped: text from a client must not control the terminal on which it is read.
fn message_only(to: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    if field.name() != "message" {
        return Ok(());
    }
    for character in format!("{value:?}").chars() {
        match character.is_control() {
            true => write!(to, "{}", character.escape_default())?,
            false => to.write_char(character)?,
        }
    }
    Ok(())
}

/// `21:42:12 console-auth:` before each line.
struct Stamp(&'static str);

impl FormatTime for Stamp {
    fn format_time(&self, to: &mut Writer<'_>) -> fmt::Result {
        write!(to, "{} {}:", jiff::Zoned::now().strftime("%H:%M:%S"), self.0)
    }
}
