//! The log writer: a reader of the ring whose bytes go to the capture log. It runs on the runtime; only the file is
//! accessed on a blocking thread, one batch at a time, so that a slow disk blocks nothing else. What the disk could not
//! accept before the ring was overwritten is counted and noted in the log itself.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::batch::{Batch, FailedSync};
use super::recording::{Progress, Recorder};
use super::{CaptureError, CaptureLog, Displaced, Times};
use crate::config::{Log, LogType};
use crate::event::Event;
use crate::hub::{Cursor, Hub, Note, Noted};
use crate::logdir::{Client, LOOKUP_TIME};
use crate::system::alarm::Alarm;

/// Bytes of a batch.
const WRITE_BATCH: usize = 64 * 1024;
/// Time between two batches while a device sends, so that a device that is read immediately costs at most 40 wake-ups of a thread a second.
/// A backlog is not paced, nor output that would soon fill the ring. Shorter than the coalescing window (`hub/coalesce.rs`): with it,
/// each read is followed by its batch.
const WRITE_INTERVAL: Duration = Duration::from_millis(25);
/// After this silence an unfinished line (a prompt) is written.
const IDLE_FLUSH_DELAY: Duration = Duration::from_millis(200);
/// A batch that takes longer is reported, and the lost bytes are counted again each time. SD cards stall for a few seconds.
const HANG_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two attempts at a log that cannot be written: first, and longest.
const RETRY_INTERVALS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Time between two attempts while the disk is full: space can become free at any time, without a notification.
const DISK_FULL_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Time between two messages about lost bytes: a disk that is slower than the line loses bytes all the time.
const LOSS_REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Notes that can be written again after a failed sync. Messages of the port are also in the journal.
const NOTES_KEPT: usize = 64;

/// The requested state of the log. A state and not messages: however long a disk hangs, none is lost and no queue fills.
#[derive(Debug, Clone)]
pub struct LogConfig {
    pub settings: Log,
    /// Number of times that the file was renamed by a rotation: each time the log continues in a new file.
    pub reopened: u64,
    /// Everything must be written and synced; then the writer ends.
    pub finished: bool,
}

impl LogConfig {
    pub fn new(settings: Log) -> Self {
        Self { settings, reopened: 0, finished: false }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Why the log cannot be written at present.
    pub trouble: Option<String>,
    /// Bytes that are missing in the log, in total.
    pub lost: u64,
}

/// The log writer of one port.
#[derive(Debug)]
pub struct Writer {
    hub: Arc<Hub>,
    cursor: Cursor,
    directory: Client,
    settings: Log,
    reopened: u64,
    log: Option<CaptureLog>,
    /// With `log.record`.
    recorder: Option<Recorder>,
    progress: Progress,
    /// When the first output since the last check was read.
    heard_at: Option<Timestamp>,
    /// No batch follows.
    last: bool,
    /// A sync has failed, and what was written since must be synced.
    must_sync: bool,
    /// Notes that are in the log but may not be on the disk.
    unsynced_notes: Vec<Note>,
    health: watch::Sender<Health>,
    retry_after: Duration,
    /// When the first byte that is not in a record yet arrived, and the last.
    pending: Option<(Timestamp, Instant)>,
    /// Number of bytes after the cursor at the last check.
    seen: usize,
    unsynced_since: Option<Instant>,
    /// Whether there was more than one batch can carry.
    more: bool,
    /// Whether output has arrived since the last check.
    heard: bool,
    /// Before that, no batch is made that carries only output of the device.
    paced_until: Instant,
    /// One timer for everything that is due at some time.
    alarm: Alarm,
    /// Lost bytes that are not in the journal yet, and when it was last notified.
    unreported: u64,
    told: Option<Instant>,
}

fn recorder(settings: &Log) -> Option<Recorder> {
    (settings.record && settings.kind != LogType::None).then(|| Recorder::new(&settings.file))
}

impl Writer {
    /// A writer into this directory; nothing is opened yet.
    pub fn new(hub: Arc<Hub>, directory: Client, LogConfig { settings, reopened, .. }: LogConfig) -> Self {
        let cursor = hub.log_cursor();
        let health = watch::Sender::new(Health { trouble: None, lost: hub.log_mark().lost });
        let position = cursor.position();
        let before = if settings.record { hub.bytes_before(position, WRITE_BATCH) } else { Vec::new() };
        let progress = Progress::new(hub.ring_id(), position, before);
        Self {
            hub,
            cursor,
            directory,
            reopened,
            log: None,
            recorder: recorder(&settings),
            settings,
            progress,
            heard_at: None,
            last: false,
            must_sync: false,
            unsynced_notes: Vec::new(),
            health,
            retry_after: RETRY_INTERVALS.0,
            pending: None,
            seen: 0,
            unsynced_since: None,
            more: false,
            heard: false,
            paced_until: Instant::now(),
            alarm: Alarm::default(),
            unreported: 0,
            told: None,
        }
    }

    /// State of the log, and its changes.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Writes until it is stopped, or until the sender of its configuration is dropped.
    pub async fn run(mut self, mut wanted: watch::Receiver<LogConfig>) {
        // Usually the reply arrives immediately.
        let _ = tokio::time::timeout(HANG_TIMEOUT, self.directory.answered()).await;
        let mut batch = self.next_batch(false);
        loop {
            // The first batch opens the file, and removes what a killed process wrote beyond its mark, even if the
            // device is silent.
            if !batch.is_empty() || self.log.is_none() {
                let talking = !batch.bytes.is_empty();
                if let Err(error) = self.write_batch(batch).await {
                    let full = error.is_disk_full();
                    self.report_trouble(error);
                    batch = match self.wait_to_retry(full, &mut wanted).await {
                        Some(batch) => batch,
                        None => return,
                    };
                    continue;
                }
                self.report_recovery();
                if talking && !self.more {
                    self.paced_until = Instant::now() + WRITE_INTERVAL;
                }
            }
            batch = match self.next(&mut wanted).await {
                Some(batch) => batch,
                None => return,
            };
        }
    }

    /// Waits until a batch is due, possibly an empty one; `None` to end.
    async fn next(&mut self, wanted: &mut watch::Receiver<LogConfig>) -> Option<Batch> {
        let loss_due = self.report_loss();
        let flush_due = self.pending.map(|(_, last)| last + IDLE_FLUSH_DELAY);
        let sync_due = self.unsynced_since.zip(self.settings.sync).map(|(since, sync)| since + sync);
        let batch_due = self.heard.then_some(self.paced_until);
        self.alarm.set([loss_due, flush_due, sync_due, batch_due].into_iter().flatten().min());
        tokio::select! {
            biased;
            changed = wanted.changed() => {
                changed.ok()?;
                self.obey(wanted).await
            }
            // A sync finds out about the new directory even if there is nothing to write: the old disk may be
            // about to be unmounted.
            () = self.directory.changed() => Some(Batch { sync: true, ..self.next_batch(false) }),
            // Before output of the device: one that never pauses would delay these without limit.
            () = self.alarm.rings() => match Instant::now() {
                now if sync_due.is_some_and(|due| due <= now) => Some(Batch { sync: true, ..Batch::default() }),
                now if loss_due.is_some_and(|due| due <= now) => Some(Batch::default()),
                _ if self.heard => Some(self.next_batch(false)),
                _ => Some(self.next_batch_after_silence()),
            },
            () = std::future::ready(()), if self.more => Some(self.next_batch(false)),
            () = self.cursor.heard_more() => {
                self.heard = true;
                if self.recorder.is_some() {
                    self.heard_at.get_or_insert_with(Timestamp::now);
                }
                let due = Instant::now() >= self.paced_until || self.cursor.is_a_quarter_behind();
                Some(if due { self.next_batch(false) } else { Batch::default() })
            }
        }
    }

    /// The batch to write now, with an unfinished line if no output came since.
    fn next_batch_after_silence(&mut self) -> Batch {
        let seen = self.seen;
        let mut batch = self.next_batch(false);
        batch.flush |= self.seen == seen;
        batch
    }

    /// The batch to write now.
    fn next_batch(&mut self, flush: bool) -> Batch {
        self.heard = false;
        let mut bytes = Vec::new();
        let gap = self.cursor.peek(&mut bytes, WRITE_BATCH);
        let note = self.hub.next_note();
        let until_note =
            note.as_ref().map(|note| note.offset.saturating_sub(self.cursor.position() + gap) as usize);
        let mut batch = Batch { gap, flush, ..Batch::default() };
        if let Some(length) = until_note.filter(|length| *length <= bytes.len()) {
            // The note belongs between two bytes: the output before it is written first.
            bytes.truncate(length);
            batch.note = note;
            batch.flush = true;
        }
        self.more = batch.note.is_some() || bytes.len() == WRITE_BATCH;
        if bytes.len() > self.seen || gap > 0 {
            let first = match self.pending {
                Some((first, _)) if self.seen > 0 && gap == 0 => first,
                _ => Timestamp::now(),
            };
            self.pending = Some((first, Instant::now()));
            self.seen = bytes.len();
        }
        batch.bytes = bytes;
        batch
    }

    /// Writes a batch, which records the position of the log.
    async fn write_batch(&mut self, mut batch: Batch) -> Result<(), CaptureError> {
        let now = Timestamp::now();
        let times = Times { pending_since: self.pending.map_or(now, |(first, _)| first), now };
        batch.sync |= self.must_sync;
        batch.last = self.last;
        let offered = batch.bytes.len();
        let (note, reopen) = (batch.note.clone(), batch.reopen);
        let (flushed, synced) = (batch.flush, batch.sync);
        let log = self.log.take();
        let mut recorder = self.recorder.take();
        let heard_at = self.heard_at.take();
        let piece = match recorder {
            Some(_) => self.progress.piece(self.cursor.position() + batch.gap, &batch.bytes, heard_at),
            None => None,
        };
        let (directory, settings, hub) = (self.directory.current(), self.settings.clone(), self.hub.clone());
        let task = move || {
            let recorded_in = directory
                .as_ref()
                .ok()
                .filter(|_| piece.is_some())
                .map(|directory| directory.path().to_owned());
            let (log, arrived, done) = batch.make(log, directory, &settings, &hub, times);
            // After the log. Not while that cannot be written: the disk is full, or broken.
            if let (Some(recorder), Some(piece), Some(directory), Ok(())) =
                (&mut recorder, &piece, recorded_in, &done)
            {
                recorder.record(&directory, piece);
            }
            (log, recorder, piece, arrived, done)
        };
        let (log, recorder, piece, arrived, done) =
            self.wait_for(tokio::task::spawn_blocking(task), offered).await;
        self.recorder = recorder;
        if let (Some(piece), Err(_)) = (piece, &done) {
            self.progress.again(piece);
        }
        // If reopening failed, the next attempt opens the file by name.
        self.log = log.filter(|_| !reopen || done.is_ok());

        let moved = arrived.position != self.cursor.position();
        self.cursor.move_to(arrived.position);
        self.hub.log_has_moved();
        self.count_lost(0);
        self.unreported += arrived.gap;
        if let Some(note) = note.filter(|_| arrived.noted) {
            self.hub.note_written(&note);
            if self.unsynced_notes.len() == NOTES_KEPT {
                self.unsynced_notes.remove(0);
            }
            self.unsynced_notes.push(note);
        }
        if arrived.displaced == Some(Displaced::Removed) {
            let news = "the log was removed: logging continues in a new file";
            tracing::warn!("{news}");
            self.hub.note(news.to_owned());
        }
        self.more |= arrived.displaced.is_some() || arrived.opened;
        let whole = done.is_ok() && arrived.displaced.is_none() && !arrived.opened;
        self.settle(arrived.consumed, offered, flushed && whole, synced && whole);
        if let Some(failed) = arrived.failed_sync {
            self.handle_failed_sync(failed);
        } else if arrived.opened && moved {
            (self.seen, self.pending) = (0, None);
        }
        done
    }

    /// Writes data again that was not synced, or counts it as lost. Both are reported.
    fn handle_failed_sync(&mut self, failed: FailedSync) {
        let again = std::mem::replace(&mut self.must_sync, true);
        match failed {
            FailedSync::RolledBack(bytes) => {
                let mut notes = std::mem::take(&mut self.unsynced_notes);
                if !again {
                    let news = format!("the disk did not store {bytes} bytes: they are written again");
                    tracing::error!("{news}");
                    let offset = self.cursor.position();
                    notes.insert(0, Note { offset, at: Timestamp::now(), what: Noted::Message(news) });
                }
                self.hub.note_again(notes);
                (self.seen, self.pending) = (0, None);
            }
            FailedSync::Doubtful(bytes) => {
                self.unsynced_notes.clear();
                if bytes > 0 {
                    tracing::error!(
                        message_id = Event::LogLost.id(),
                        console_bytes = bytes,
                        "up to {bytes} bytes may be missing in the log: the disk did not store them"
                    );
                }
            }
        }
    }

    /// Waits until a batch with `offered` bytes is written, and reports if that takes long.
    async fn wait_for<T>(&mut self, mut task: JoinHandle<T>, offered: usize) -> T {
        loop {
            self.alarm.set(Some(Instant::now() + HANG_TIMEOUT));
            tokio::select! {
                back = &mut task => match back {
                    Ok(done) => return done,
                    Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
                },
                () = self.alarm.rings() => {
                    self.count_lost(offered);
                    self.set_trouble(CaptureError::Hangs(self.shown()));
                }
            }
        }
    }

    /// Counts what the log has recorded as lost, and what was overwritten behind it while it cannot be written. `offered` bytes are out of
    /// the ring already.
    fn count_lost(&self, offered: usize) {
        let overrun = self.cursor.overrun().saturating_sub(offered as u64);
        let lost = self.hub.log_mark().lost + overrun;
        self.health.send_if_modified(|health| {
            let more = lost > health.lost;
            health.lost = health.lost.max(lost);
            more
        });
    }

    fn settle(&mut self, consumed: usize, offered: usize, flushed: bool, synced: bool) {
        if flushed {
            self.pending = None;
        }
        if consumed > 0 {
            self.unsynced_since.get_or_insert_with(Instant::now);
            let left = offered - consumed;
            self.seen = left;
            self.pending = (left > 0).then(|| (Timestamp::now(), Instant::now()));
        }
        if synced {
            self.unsynced_since = None;
            self.must_sync = false;
            self.unsynced_notes.clear();
        }
    }

    /// Applies the configuration. Returns the batch that this needs, or `None` to end.
    async fn obey(&mut self, wanted: &mut watch::Receiver<LogConfig>) -> Option<Batch> {
        let LogConfig { settings, reopened, finished } = wanted.borrow_and_update().clone();
        let reopen = reopened != self.reopened;
        self.last = finished;
        if reopen || finished || settings != self.settings {
            // Into the old file, marked as such, before there is a new one.
            if let Err(error) = self.drain().await {
                self.report_trouble(error);
            }
        }
        if settings != self.settings {
            if (settings.record, &settings.file) != (self.settings.record, &self.settings.file) {
                self.recorder = recorder(&settings);
                self.progress = Progress::new(self.hub.ring_id(), self.cursor.position(), Vec::new());
            }
            self.settings = settings;
            self.log = None;
        }
        self.reopened = reopened;
        if finished {
            // No later message will report it.
            self.told = None;
            self.report_loss();
            return None;
        }
        Some(Batch { reopen, ..Batch::default() })
    }

    /// Writes everything that is there now, and syncs it, without waiting for further output.
    async fn drain(&mut self) -> Result<(), CaptureError> {
        let (head, _) = self.hub.traffic();
        while self.cursor.position() < head || self.hub.next_note().is_some() {
            let mut batch = self.next_batch(false);
            batch.flush |= !self.more;
            let (before, last) = (self.cursor.position(), batch.note.is_none());
            self.write_batch(batch).await?;
            if last && self.cursor.position() == before && !self.more {
                break;
            }
        }
        self.write_batch(Batch { sync: true, ..Batch::default() }).await?;
        if self.hub.next_note().is_some() {
            // Only now it is known that the log was removed.
            let batch = self.next_batch(true);
            self.write_batch(batch).await?;
        }
        Ok(())
    }

    /// Path of the log on the machine.
    fn shown(&self) -> std::path::PathBuf {
        let directory = self.directory.current();
        directory.map(|directory| directory.shown().join(&self.settings.file)).unwrap_or_default()
    }

    async fn wait_to_retry(&mut self, full: bool, wanted: &mut watch::Receiver<LogConfig>) -> Option<Batch> {
        let after = if full { DISK_FULL_RETRY_INTERVAL } else { self.retry_after };
        self.retry_after = (after * 2).min(RETRY_INTERVALS.1);
        let ask_again = self.directory.clone();
        let retry = async move {
            tokio::time::sleep(after - LOOKUP_TIME).await;
            // The directory may have been removed, or its mount been made read-only, or the files belong to another user.
            if !full {
                ask_again.ask_again();
            }
            tokio::time::sleep(LOOKUP_TIME).await;
        };
        tokio::select! {
            () = self.directory.changed() => Some(self.next_batch(true)),
            changed = wanted.changed() => {
                changed.ok()?;
                self.obey(wanted).await
            }
            () = retry => Some(Batch { sync: self.must_sync, ..self.next_batch(true) }),
        }
    }

    /// Reports lost bytes to the journal. Returns when to call it again, if it is too early.
    fn report_loss(&mut self) -> Option<Instant> {
        if self.unreported == 0 {
            return None;
        }
        let due = self.told.map(|told| told + LOSS_REPORT_INTERVAL).filter(|due| *due > Instant::now());
        if due.is_none() {
            let lost = std::mem::take(&mut self.unreported);
            self.told = Some(Instant::now());
            tracing::error!(
                message_id = Event::LogLost.id(),
                console_bytes = lost,
                "{lost} bytes are not in the log: it could not be written in time"
            );
        }
        due
    }

    fn report_trouble(&mut self, error: CaptureError) {
        self.cursor.give_up();
        self.set_trouble(error);
    }

    fn set_trouble(&self, error: CaptureError) {
        let trouble = Some(error.to_string());
        if self.health.borrow().trouble != trouble {
            tracing::error!(
                message_id = Event::LogStuck.id(),
                "{error}; output is kept in memory until the log can be written"
            );
            self.health.send_modify(|health| health.trouble = trouble);
        }
    }

    fn report_recovery(&mut self) {
        self.retry_after = RETRY_INTERVALS.0;
        if self.health.borrow().trouble.is_some() {
            tracing::info!("logging resumed");
            self.health.send_modify(|health| health.trouble = None);
        }
    }
}
