//! Where a program's own messages go: to the journal if stderr leads there, with their fields, and otherwise to stderr,
//! a line each. The message is a whole sentence, because it is all that `journalctl` shows; fields are for `journalctl
//! CONSOLE_USER=…` and named here as there, in lower case (`console_user`). What kinds of events there are, `event` says.

use std::fmt;
use std::os::unix::fs::MetadataExt;

use tracing::field::Field;
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::{Extensions, ExtensionsMut, LookupSpan, SpanData};

use crate::port::PortName;

/// Sends this process's messages to the right place from now on, under the name `program`, all with the field
/// `CONSOLE_PORT` if the process serves one port. Call it once.
pub fn init(program: &'static str, port: Option<&PortName>) {
    let journal = stderr_is_journal().then(tracing_journald::layer).and_then(Result::ok).map(|layer| {
        let priorities = PriorityMappings {
            info: Priority::Informational,
            debug: Priority::Debug,
            ..PriorityMappings::new()
        };
        layer
            .with_syslog_identifier(program.to_owned())
            .with_field_prefix(None)
            .with_priority_mappings(priorities)
            .with_custom_fields(port.map(|port| ("CONSOLE_PORT", port.as_str())))
    });
    let stderr = journal.is_none().then(|| {
        tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_target(false)
            .with_timer(Stamp(program))
            .fmt_fields(debug_fn(message_only))
    });
    NoSpans.with(LevelFilter::INFO).with(journal).with(stderr).init();
}

/// What the layers stand on. We have events only; tracing-subscriber's registry of spans weighs 32 KiB in each process.
struct NoSpans;

/// There is none.
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

/// systemd tells by `JOURNAL_STREAM=device:inode` which pipe is the journal's (`man systemd.exec`).
fn stderr_is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else { return false };
    stream == format!("{}:{}", stderr.dev(), stderr.ino())
}

/// Control characters are escaped: what a stranger sent must not reach the terminal of whoever reads this.
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
