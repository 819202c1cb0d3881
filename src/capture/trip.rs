//! One trip of the log writer to the blocking thread: what it carries there, and what of it arrived. Whatever blocks of the log is here.

use std::path::Path;

use super::{CaptureError, CaptureLog, Times};
use crate::config::Log;
use crate::hub::{Note, Noted};
use crate::ring::LogMark;

/// Why something is lost.
const LATE: &str = "the log could not be written in time";

/// What it carries.
#[derive(Debug, Default)]
pub(super) struct Trip {
    pub(super) bytes: Vec<u8>,
    /// Bytes before them that are gone for good.
    pub(super) gap: u64,
    /// Also what has no end yet.
    pub(super) flush: bool,
    /// What the log says behind them.
    pub(super) note: Option<Note>,
    pub(super) reopen: bool,
    pub(super) sync: bool,
}

impl Trip {
    pub(super) fn is_empty(&self) -> bool {
        let Self { bytes, gap, flush: _, note, reopen, sync } = self;
        bytes.is_empty() && *gap == 0 && note.is_none() && !reopen && !sync
    }

    /// The part that may block. If the log is yet to be opened, it goes on at `mark`, and is `cut` there if what is behind it may be
    /// ours. Returns the log, if it could be opened, and what it has taken.
    pub(super) fn make(
        self,
        log: Option<CaptureLog>,
        dir: &Path,
        settings: &Log,
        (mark, cut): (LogMark, bool),
        times: Times,
    ) -> (Option<CaptureLog>, Arrived, Result<(), CaptureError>) {
        let opened = match log {
            Some(log) => Ok(log),
            None => CaptureLog::open(dir, settings).and_then(|mut log| {
                match cut {
                    true => log.resume(mark.file.into())?,
                    false => log.go_on(mark.file.into())?,
                }
                Ok(log)
            }),
        };
        let mut arrived = Arrived::default();
        match opened {
            Ok(mut log) => {
                let done = write(&mut log, self, times, &mut arrived);
                (Some(log), arrived, done)
            }
            Err(error) => (None, arrived, Err(error)),
        }
    }
}

/// What of a trip is in the log, even if the rest failed: it must not be written twice.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    /// Bytes that the log says are lost.
    pub(super) gap: u64,
    /// Bytes that became records.
    pub(super) consumed: usize,
    /// Whether the note is there.
    pub(super) noted: bool,
    /// Nothing else arrived, because the file was removed and there is a new one.
    pub(super) anew: bool,
}

fn write(log: &mut CaptureLog, trip: Trip, times: Times, arrived: &mut Arrived) -> Result<(), CaptureError> {
    if log.is_removed() {
        log.reopen()?;
        // Where the new one begins is to be recorded before anything is written to it.
        arrived.anew = true;
        return Ok(());
    }
    if trip.gap > 0 {
        log.note(&format!("{} bytes lost here: {LATE}", trip.gap))?;
        arrived.gap = trip.gap;
    }
    arrived.consumed = log.append(&trip.bytes, times, trip.flush)?;
    if let Some(note) = trip.note.filter(|_| arrived.consumed == trip.bytes.len()) {
        match &note.what {
            Noted::Said(text) => log.note(text)?,
            Noted::Typed(bytes) => log.typed(bytes)?,
            Noted::Lost { notes, typed: 0 } => log.note(&format!("{notes} notes lost here: {LATE}"))?,
            Noted::Lost { notes, typed } => {
                log.note(&format!("{notes} notes lost here, {typed} typed bytes in them: {LATE}"))?;
            }
        }
        arrived.noted = true;
    }
    if trip.reopen {
        log.reopen()?;
    }
    if trip.sync {
        log.sync()?;
    }
    Ok(())
}
