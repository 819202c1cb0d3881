//! One batch of the log writer: what goes to the blocking thread, and how much of it was written. All blocking calls of the log writer are here.

use std::path::PathBuf;
use std::sync::Arc;

use super::{CaptureError, CaptureLog, Displaced, Mark, Recovered, Times};
use crate::config::{Log, LogType};
use crate::hub::{Hub, Note, Noted};
use crate::logdir::{Current, LogDirectory};
use crate::ring::{LogMark, LogRecord};

/// Why bytes are lost.
const LATE: &str = "the log could not be written in time";

#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    /// Bytes before them that were overwritten.
    pub(super) gap: u64,
    /// Also write an unfinished line.
    pub(super) flush: bool,
    pub(super) note: Option<Note>,
    pub(super) reopen: bool,
    pub(super) sync: bool,
    /// No batch follows: what cannot be synced stays as it is.
    pub(super) last: bool,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        let Self { bytes, gap, flush: _, note, reopen, sync, last: _ } = self;
        bytes.is_empty() && *gap == 0 && note.is_none() && !reopen && !sync
    }

    /// The blocking part. Returns the log, if it could be opened, and what was written.
    pub(super) fn make(
        self,
        log: Option<CaptureLog>,
        directory: Current,
        settings: &Log,
        hub: &Arc<Hub>,
        times: Times,
    ) -> (Option<CaptureLog>, BatchResult, Result<(), CaptureError>) {
        let mut arrived = BatchResult::default();
        let opened = match log {
            Some(log) => Ok(log),
            // This needs no directory.
            None if settings.kind == LogType::None => {
                open(LogDirectory::at(PathBuf::new()), settings, hub, &mut arrived)
            }
            None => directory
                .clone()
                .map_err(CaptureError::from)
                .and_then(|directory| open(directory, settings, hub, &mut arrived)),
        };
        match opened {
            // The bytes were selected for the position before the log was opened.
            Ok(log) if arrived.opened => {
                arrived.position = hub.log_mark().position;
                (Some(log), arrived, Ok(()))
            }
            Ok(mut log) => {
                let last = self.last;
                let done = write(&mut log, self, directory, hub, times, &mut arrived);
                if let Err(CaptureError::Io { what: "sync", .. }) = &done {
                    arrived.failed_sync = Some(roll_back(&mut log, hub, last));
                }
                arrived.position = hub.log_mark().position;
                (Some(log), arrived, done)
            }
            Err(error) => {
                arrived.position = hub.log_mark().position;
                (None, arrived, Err(error))
            }
        }
    }
}

/// Opens the log and resumes where it was left.
fn open(
    directory: LogDirectory,
    settings: &Log,
    hub: &Arc<Hub>,
    arrived: &mut BatchResult,
) -> Result<CaptureLog, CaptureError> {
    let mut log = CaptureLog::open(directory, settings)?;
    let LogRecord { mark, next, synced } = hub.log_record();
    let found = log.resume(mark.file.into(), next.map(|next| next.file.into()))?;
    let now = log.mark();
    let is_in = |mark: LogMark| Mark::from(mark.file).file == now.file;
    let known = is_in(mark);
    let reached = next.filter(|_| found == Recovered::Whole).unwrap_or(mark);
    let reached = LogMark { file: now.into(), ..reached };
    // In one store: the doubt is settled.
    hub.record_log(|record| {
        let synced = if is_in(synced) { synced } else { reached };
        *record = LogRecord { mark: reached, next: None, synced };
    });
    log.keep(hub.clone());
    log.trim_nuls(known)?;
    if let (Some(next), Recovered::Gone) = (next, found) {
        let bytes = next.position - mark.position;
        log.note(&format!(
            "{bytes} bytes may appear twice, here and in the previous file, which was moved away"
        ))?;
    }
    arrived.opened = true;
    Ok(log)
}

/// After a failed sync: returns to the last synced position, if the ring still holds what follows.
fn roll_back(log: &mut CaptureLog, hub: &Hub, last: bool) -> FailedSync {
    let LogRecord { mark, synced, .. } = hub.log_record();
    let bytes = mark.position - synced.position;
    let before = Mark::from(synced.file);
    let is_there = before.file == log.mark().file && before.size <= log.mark().size;
    if !last && is_there && hub.keeps_from(synced.position) {
        // Before the file is truncated, the header records where the log resumes.
        let torn = Mark { size: Mark::TORN, ..before };
        let next = Some(LogMark { file: torn.into(), ..synced });
        hub.record_log(|record| (record.mark, record.next) = (synced, next));
        match log.roll_back(before) {
            Ok(()) => return FailedSync::RolledBack(bytes),
            Err(error) => {
                tracing::error!("bytes that were not synced cannot be rewritten: {error}");
                hub.record_log(|record| (record.mark, record.next) = (mark, None));
            }
        }
    }
    if bytes > 0
        && let Err(error) =
            log.note(&format!("up to {bytes} bytes before this may be missing: the disk did not store them"))
    {
        tracing::error!("{error}");
    }
    hub.record_log(|record| {
        record.mark.lost += bytes;
        record.synced = record.mark;
    });
    FailedSync::Doubtful(bytes)
}

/// How much of a batch is in the log, even if the rest failed: it must not be written twice.
#[derive(Debug, Default)]
pub(super) struct BatchResult {
    /// Lost bytes that are noted in the log.
    pub(super) gap: u64,
    /// Bytes that became records.
    pub(super) consumed: usize,
    pub(super) noted: bool,
    /// The log was only opened; nothing was written yet.
    pub(super) opened: bool,
    /// Position of the log afterwards.
    pub(super) position: u64,
    pub(super) failed_sync: Option<FailedSync>,
    /// A new file was opened, because the name led elsewhere; nothing was written yet.
    pub(super) displaced: Option<Displaced>,
}

/// Bytes that the disk accepted and did not store.
#[derive(Debug, Clone, Copy)]
pub(super) enum FailedSync {
    /// This many bytes of output are removed and written again.
    RolledBack(u64),
    /// This many bytes may be missing: they are no longer in the ring.
    Doubtful(u64),
}

fn write(
    log: &mut CaptureLog,
    batch: Batch,
    directory: Current,
    hub: &Hub,
    times: Times,
    arrived: &mut BatchResult,
) -> Result<(), CaptureError> {
    if let Some(displaced) = log.displaced() {
        directory?;
        let LogRecord { mark, synced, .. } = hub.log_record();
        if !log.replace()? {
            let bytes = mark.position - synced.position;
            hub.record_log(|record| {
                record.mark.lost += bytes;
                record.synced = record.mark;
            });
            arrived.failed_sync = Some(FailedSync::Doubtful(bytes));
        }
        arrived.displaced = Some(displaced);
        return Ok(());
    }
    if batch.gap > 0 {
        log.gap(batch.gap, LATE)?;
        arrived.gap = batch.gap;
    }
    arrived.consumed = log.append(&batch.bytes, times, batch.flush)?;
    if let Some(note) = batch.note.filter(|_| arrived.consumed == batch.bytes.len()) {
        match &note.what {
            Noted::Message(text) => log.note(text)?,
            Noted::Input(bytes) => log.typed(bytes)?,
            Noted::Lost { notes, typed: 0 } => log.note(&format!("{notes} notes lost here: {LATE}"))?,
            Noted::Lost { notes, typed } => {
                log.note(&format!("{notes} notes lost here, with {typed} bytes of input: {LATE}"))?;
            }
        }
        arrived.noted = true;
    }
    if batch.reopen {
        log.reopen()?;
    }
    if batch.sync {
        log.sync()?;
    }
    Ok(())
}
