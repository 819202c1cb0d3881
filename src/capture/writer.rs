//! The log writer: a cursor in the ring like any other, whose bytes go to the capture log. It lives on the runtime; only the
//! file is touched on a blocking thread, one batch at a time, so that a stalling disk stalls nothing else. What
//! the disk could not take before the ring came round is counted, and said in the log itself.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::batch::{Batch, FailedSync};
use super::{CaptureError, CaptureLog, Displaced, Times};
use crate::config::Log;
use crate::event::Event;
use crate::hub::{Cursor, Hub, Note, Noted};
use crate::logdir::Client;
use crate::system::alarm::Alarm;

/// Bytes per trip to the blocking thread.
const WRITE_BATCH: usize = 64 * 1024;
/// Between two trips while a device talks, so that it costs at most some twenty wake-ups of a thread a second. A backlog is not paced,
/// nor what would soon fill the ring. Shorter than the rest of a port with nobody there (`hub/coalesce.rs`): there, each read is
/// followed by its trip.
const WRITE_INTERVAL: Duration = Duration::from_millis(45);
/// What is due goes with the next read, if one comes within this; so late may a log line be, and its time so wrong.
const WRITE_SLACK: Duration = Duration::from_millis(20);
/// After so much silence an unfinished line (a prompt) is written as it is.
const IDLE_FLUSH_DELAY: Duration = Duration::from_millis(200);
/// A trip that takes longer is said, and what it costs is counted anew each time. SD cards stall for a few seconds.
const HANG_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two tries at a log that cannot be written: at first, and at most.
const RETRY_INTERVALS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Between two tries while the disk is full: room can come at any time, and nothing tells of it.
const DISK_FULL_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Between two messages about what the log has lost: a disk that is slower than the line loses something all the time.
const LOSS_REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Notes that can be written again after a sync that failed. What is said also stands in the journal.
const NOTES_KEPT: usize = 64;

/// What the log is to be. A state and not messages: however long a disk hangs, none is lost and no queue fills.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// The settings in force.
    pub settings: Log,
    /// How often the file was renamed away: it goes on in a new one each time.
    pub reopened: u64,
    /// Everything is to be written and synced, and then it ends.
    pub finished: bool,
}

impl LogConfig {
    /// A log that begins.
    pub fn new(settings: Log) -> Self {
        Self { settings, reopened: 0, finished: false }
    }
}

/// How the log does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Why nothing can be written at present.
    pub trouble: Option<String>,
    /// Bytes that the log had to leave out, ever.
    pub lost: u64,
}

/// The writer of one port's log.
#[derive(Debug)]
pub struct Writer {
    hub: Arc<Hub>,
    cursor: Cursor,
    directory: Client,
    settings: Log,
    reopened: u64,
    log: Option<CaptureLog>,
    /// Nothing follows what it writes now.
    last: bool,
    /// What was written since a sync failed has to be synced before the log is right again.
    must_sync: bool,
    /// Notes that are in the log and may not be on the disk.
    unsynced_notes: Vec<Note>,
    health: watch::Sender<Health>,
    retry_after: Duration,
    /// When the first byte that is not yet in a record arrived, and the last.
    pending: Option<(Timestamp, Instant)>,
    /// How many bytes behind the cursor were seen when the writer last looked.
    seen: usize,
    unsynced_since: Option<Instant>,
    /// Whether there was more than one trip can carry.
    more: bool,
    /// Whether something has come since the writer last looked.
    heard: bool,
    /// When the next trip is due that only carries what a device has said meanwhile.
    rests_until: Instant,
    /// For all that is due some time.
    alarm: Alarm,
    /// Bytes lost that the journal has not been told of, and when it was told last.
    untold: u64,
    told: Option<Instant>,
}

impl Writer {
    /// A writer into this directory; nothing is opened yet.
    pub fn new(hub: Arc<Hub>, directory: Client, LogConfig { settings, reopened, .. }: LogConfig) -> Self {
        let cursor = hub.log_cursor();
        let health = watch::Sender::new(Health { trouble: None, lost: hub.log_mark().lost });
        Self {
            hub,
            cursor,
            directory,
            settings,
            reopened,
            log: None,
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
            rests_until: Instant::now(),
            alarm: Alarm::new(),
            untold: 0,
            told: None,
        }
    }

    /// How the log does, and whenever that changes.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Writes until told to finish, or until nobody is left to tell.
    pub async fn run(mut self, mut wanted: watch::Receiver<LogConfig>) {
        // Most of the time the answer is there at once.
        let _ = tokio::time::timeout(HANG_TIMEOUT, self.directory.answered()).await;
        let mut trip = self.look(false);
        loop {
            // The first one opens the file, and cuts off what a killed process wrote beyond its mark, even if the
            // device is silent.
            if !trip.is_empty() || self.log.is_none() {
                let talking = !trip.bytes.is_empty();
                if let Err(error) = self.go(trip).await {
                    let full = error.is_disk_full();
                    self.report_trouble(error);
                    trip = match self.wait_to_retry(full, &mut wanted).await {
                        Some(trip) => trip,
                        None => return,
                    };
                    continue;
                }
                self.report_recovery();
                if talking && !self.more {
                    self.rests_until = Instant::now() + WRITE_INTERVAL;
                }
            }
            trip = match self.next(&mut wanted).await {
                Some(trip) => trip,
                None => return,
            };
        }
    }

    /// Waits until it is time for a trip, an empty one if there is none to make after all; `None` to end.
    async fn next(&mut self, wanted: &mut watch::Receiver<LogConfig>) -> Option<Batch> {
        let loss_due = self.tell_loss();
        let flush_due = self.pending.map(|(_, last)| last + IDLE_FLUSH_DELAY);
        let sync_due = self.unsynced_since.zip(self.settings.sync).map(|(since, sync)| since + sync);
        let trip_due = self.heard.then_some(self.rests_until + WRITE_SLACK);
        self.alarm.set([loss_due, flush_due, sync_due, trip_due].into_iter().flatten().min());
        tokio::select! {
            biased;
            changed = wanted.changed() => {
                changed.ok()?;
                self.obey(wanted).await
            }
            // A sync meets the other directory even if nothing is to be written: the disk of the old one may be about to go.
            () = self.directory.changed() => Some(Batch { sync: true, ..self.look(false) }),
            // Before the device is heard again: one that never pauses would put these off for ever.
            () = self.alarm.rings() => match Instant::now() {
                now if sync_due.is_some_and(|due| due <= now) => Some(Batch { sync: true, ..Batch::default() }),
                now if loss_due.is_some_and(|due| due <= now) => Some(Batch::default()),
                _ if self.heard => Some(self.look(false)),
                _ => Some(self.look_after_silence()),
            },
            () = std::future::ready(()), if self.more => Some(self.look(false)),
            () = self.cursor.heard_more() => {
                self.heard = true;
                let due = Instant::now() >= self.rests_until || self.cursor.is_a_quarter_behind();
                Some(if due { self.look(false) } else { Batch::default() })
            }
        }
    }

    /// What there is to write now: with what has waited for its end for long enough, unless just now more came.
    fn look_after_silence(&mut self) -> Batch {
        let seen = self.seen;
        let mut trip = self.look(false);
        trip.flush |= self.seen == seen;
        trip
    }

    /// What there is to write now.
    fn look(&mut self, flush: bool) -> Batch {
        self.heard = false;
        let mut bytes = Vec::new();
        let gap = self.cursor.peek(&mut bytes, WRITE_BATCH);
        let note = self.hub.next_note();
        let until_note =
            note.as_ref().map(|note| note.offset.saturating_sub(self.cursor.position() + gap) as usize);
        let mut trip = Batch { gap, flush, ..Batch::default() };
        if let Some(length) = until_note.filter(|length| *length <= bytes.len()) {
            // The note stands between two bytes: what is before it is finished first.
            bytes.truncate(length);
            trip.note = note;
            trip.flush = true;
        }
        self.more = trip.note.is_some() || bytes.len() == WRITE_BATCH;
        if bytes.len() > self.seen || gap > 0 {
            let first = match self.pending {
                Some((first, _)) if self.seen > 0 && gap == 0 => first,
                _ => Timestamp::now(),
            };
            self.pending = Some((first, Instant::now()));
            self.seen = bytes.len();
        }
        trip.bytes = bytes;
        trip
    }

    /// Takes a trip, which records how far the log has come.
    async fn go(&mut self, mut trip: Batch) -> Result<(), CaptureError> {
        let now = Timestamp::now();
        let times = Times { pending_since: self.pending.map_or(now, |(first, _)| first), now };
        trip.sync |= self.must_sync;
        trip.last = self.last;
        let offered = trip.bytes.len();
        let (note, reopen) = (trip.note.clone(), trip.reopen);
        let (flushed, synced) = (trip.flush, trip.sync);
        let log = self.log.take();
        let (directory, settings, hub) = (self.directory.current(), self.settings.clone(), self.hub.clone());
        let errand = move || trip.make(log, directory, &settings, &hub, times);
        let (log, arrived, done) = self.wait_for(tokio::task::spawn_blocking(errand), offered).await;
        // After a re-opening that failed, it is opened by name again at the next try.
        self.log = log.filter(|_| !reopen || done.is_ok());

        let moved = arrived.position != self.cursor.position();
        self.cursor.move_to(arrived.position);
        self.hub.log_has_moved();
        self.count_lost(self.hub.log_mark().lost);
        self.untold += arrived.gap;
        if let Some(note) = note.filter(|_| arrived.noted) {
            self.hub.note_written(&note);
            if self.unsynced_notes.len() == NOTES_KEPT {
                self.unsynced_notes.remove(0);
            }
            self.unsynced_notes.push(note);
        }
        if arrived.displaced == Some(Displaced::Removed) {
            let news = "the log was removed: it goes on in a new file";
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

    /// What was not synced is written again, or counted. Both are said.
    fn handle_failed_sync(&mut self, failed: FailedSync) {
        let again = std::mem::replace(&mut self.must_sync, true);
        match failed {
            FailedSync::RolledBack(bytes) => {
                let mut notes = std::mem::take(&mut self.unsynced_notes);
                if !again {
                    let news = format!("the disk refused {bytes} bytes: they are written again");
                    tracing::error!("{news}");
                    let offset = self.cursor.position();
                    notes.insert(0, Note { offset, at: Timestamp::now(), what: Noted::Said(news) });
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
                        "up to {bytes} bytes may be missing in the log: the disk refused them"
                    );
                }
            }
        }
    }

    /// Waits until a trip with `offered` bytes is back, and says if that takes long.
    async fn wait_for<T>(&mut self, mut errand: JoinHandle<T>, offered: usize) -> T {
        loop {
            self.alarm.set(Some(Instant::now() + HANG_TIMEOUT));
            tokio::select! {
                back = &mut errand => match back {
                    Ok(done) => return done,
                    Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
                },
                () = self.alarm.rings() => {
                    let overrun = self.cursor.overrun().saturating_sub(offered as u64);
                    let lost = self.hub.log_mark().lost + overrun;
                    self.count_lost(lost);
                    self.say_trouble(CaptureError::Hangs(self.shown()));
                }
            }
        }
    }

    fn count_lost(&self, lost: u64) {
        self.health.send_if_modified(|health| {
            let more = lost > health.lost;
            health.lost = health.lost.max(lost);
            more
        });
    }

    /// Remembers what is still pending.
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

    /// Does what is wanted now; the trip that it needs, or `None` to end.
    async fn obey(&mut self, wanted: &mut watch::Receiver<LogConfig>) -> Option<Batch> {
        let LogConfig { settings, reopened, finished } = wanted.borrow_and_update().clone();
        let reopen = reopened != self.reopened;
        self.last = finished;
        if reopen || finished || settings != self.settings {
            // Into the old file, and marked as such, before there is a new one.
            if let Err(error) = self.drain().await {
                self.report_trouble(error);
            }
        }
        if settings != self.settings {
            self.settings = settings;
            self.log = None;
        }
        self.reopened = reopened;
        if finished {
            // However lately the journal was told: there is no later.
            self.told = None;
            self.tell_loss();
            return None;
        }
        Some(Batch { reopen, ..Batch::default() })
    }

    /// Writes everything that is there now, and syncs it. What comes meanwhile is not waited for.
    async fn drain(&mut self) -> Result<(), CaptureError> {
        let (head, _) = self.hub.traffic();
        while self.cursor.position() < head || self.hub.next_note().is_some() {
            let mut trip = self.look(false);
            trip.flush |= !self.more;
            let (before, last) = (self.cursor.position(), trip.note.is_none());
            self.go(trip).await?;
            if last && self.cursor.position() == before && !self.more {
                break;
            }
        }
        self.go(Batch { sync: true, ..Batch::default() }).await?;
        if self.hub.next_note().is_some() {
            // That the log was removed is known only now.
            let trip = self.look(true);
            self.go(trip).await?;
        }
        Ok(())
    }

    /// The log's path, as the machine has it.
    fn shown(&self) -> std::path::PathBuf {
        let directory = self.directory.current();
        directory.map(|directory| directory.shown().join(&self.settings.file)).unwrap_or_default()
    }

    async fn wait_to_retry(&mut self, full: bool, wanted: &mut watch::Receiver<LogConfig>) -> Option<Batch> {
        let after = if full { DISK_FULL_RETRY_INTERVAL } else { self.retry_after };
        self.retry_after = (after * 2).min(RETRY_INTERVALS.1);
        let ask_again = self.directory.clone();
        let retry = async move {
            tokio::time::sleep(after).await;
            // The directory may have been removed, or its mount be one that was made read-only.
            if !full {
                ask_again.ask_again();
            }
        };
        tokio::select! {
            () = self.directory.changed() => Some(self.look(true)),
            changed = wanted.changed() => {
                changed.ok()?;
                self.obey(wanted).await
            }
            () = retry => Some(Batch { sync: self.must_sync, ..self.look(true) }),
        }
    }

    /// Tells the journal what was lost; when to come again, if it is too early for that.
    fn tell_loss(&mut self) -> Option<Instant> {
        if self.untold == 0 {
            return None;
        }
        let due = self.told.map(|told| told + LOSS_REPORT_INTERVAL).filter(|due| *due > Instant::now());
        if due.is_none() {
            let lost = std::mem::take(&mut self.untold);
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
        self.say_trouble(error);
    }

    fn say_trouble(&self, error: CaptureError) {
        let trouble = Some(error.to_string());
        if self.health.borrow().trouble != trouble {
            tracing::error!(
                message_id = Event::LogStuck.id(),
                "{error}; what comes is kept in memory until the log can be written"
            );
            self.health.send_modify(|health| health.trouble = trouble);
        }
    }

    fn report_recovery(&mut self) {
        self.retry_after = RETRY_INTERVALS.0;
        if self.health.borrow().trouble.is_some() {
            tracing::info!("the log is written again");
            self.health.send_modify(|health| health.trouble = None);
        }
    }
}
