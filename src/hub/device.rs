//! The device of a line, as it is opened and while it is open: reads output into the ring, writes input, applies settings, checks its
//! error counters, and reports its state to the log, the journal and the sessions.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::breaks::Sender;
use super::coalesce::Coalescing;
use super::identity::{Identity, Still, Verdict};
use super::line::{Change, LineConfig};
use super::quality::{self, Quality};
use super::sharing::{Seen, Sharing};
use super::stream::{Contact, Stream};
use super::trial::Trial;
use super::writing::{Gap, Writing};
use super::{Condition, Control, Hub, LineState, Noted, State};
use crate::event::Event;
use crate::port::{LineSettings, PortName, Sequence};
use crate::ring::READ_MAX;
use crate::serial::{Counters, OpenError, ReadOutcome, RejectedSetting, Splice, Tty, WriteOutcome};
use crate::system::failpoint;
use crate::system::systemd;

/// Reads in a row before the sessions run.
const BURST: usize = 8;

/// A read of this many bytes counts as a flood, and more may be read before another task runs: no line
/// delivers as many within a coalescing window (`WINDOW_BYTES`).
const FLOOD: usize = 2048;

/// Bytes that are read from a tty that is closed: what the kernel buffers, with a limit, since the device may go on sending.
const DRAIN_LIMIT: usize = 64 * 1024;

/// Input is logged a line at a time, or this long after its first character: a record for each key would be unreadable.
const INPUT_NOTE_DELAY: Duration = Duration::from_secs(2);
/// Bytes of such a record.
const INPUT_NOTE_BYTES: usize = 1024;

/// A device that has just appeared belongs to root until udev has changed its group.
const UDEV_CHOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// The device, its state, and what is reported about it.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) name: PortName,
    pub(super) hub: Arc<Hub>,
    pub(super) wanted: LineConfig,
    /// Receives the result of the last change.
    asking: Option<oneshot::Sender<Vec<String>>>,
    identity: Identity,
    /// It was unplugged; the log is notified when it is plugged in.
    pub(super) gone: bool,
    /// Since when it is plugged in but cannot be opened.
    pub(super) denied_since: Option<Instant>,
    /// Input that was sent to the device and is not logged yet, and when it is due.
    typed: Vec<u8>,
    pub(super) typed_due: Option<Instant>,
    quality: Quality,
    refused: Vec<String>,
    sharing: Sharing,
    /// What another program does with the device, if one uses it.
    meddled: Option<String>,
    /// When the driver's counters may be read next.
    look_at: Instant,
    /// When they must be read, because output has come since.
    pub(super) look_due: Option<Instant>,
    coalescing: Coalescing,
    /// A lease has set the line to another rate, so its data rate proves nothing.
    leased: bool,
    /// Whether a connection to a source is reported.
    pub(super) trial: Trial,
    /// Why the connection to a source is about to end.
    pub(super) end_reason: Option<String>,
    /// When a byte has come or gone, or a keepalive was sent.
    traffic_at: Instant,
}

/// Result of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadStatus {
    Nothing,
    /// All output that the kernel had.
    All,
    /// Not all output: there is more than one turn may read, or the hub must wait for a reader first.
    NotAll,
}

impl Device {
    pub(super) fn new(name: PortName, hub: Arc<Hub>, wanted: LineConfig) -> Self {
        Self {
            identity: Identity::new(name.clone()),
            name,
            hub,
            wanted,
            asking: None,
            gone: false,
            denied_since: None,
            typed: Vec::new(),
            typed_due: None,
            quality: Quality::default(),
            refused: Vec::new(),
            sharing: Sharing::default(),
            meddled: None,
            look_at: Instant::now(),
            look_due: None,
            coalescing: Coalescing::default(),
            leased: false,
            trial: Trial::new(),
            end_reason: None,
            traffic_at: Instant::now(),
        }
    }

    /// Changes the configuration and returns the previous one.
    pub(super) fn take(&mut self, Change { name, wanted, told }: Change) -> LineConfig {
        self.identity.rename(name.clone());
        self.name = name;
        self.asking = Some(told);
        if wanted.settings != self.wanted.settings {
            // A device that was too fast for the previous rate may not be for this one.
            self.coalescing = Coalescing::default();
        }
        if wanted.path != self.wanted.path {
            self.identity.forget();
        }
        std::mem::replace(&mut self.wanted, wanted)
    }

    /// Handles a request of a session. Returns whether the line must be reopened.
    pub(super) fn control(&mut self, control: Control, tty: Option<&Stream>) -> bool {
        match control {
            Control::Reopen => return true,
            Control::Examine(told) => {
                let modem = tty.map(Stream::modem_lines);
                let condition = Condition {
                    path: self.wanted.path.clone(),
                    counters: tty.and_then(Stream::counters),
                    modem_error: modem.as_ref().and_then(|lines| Some(lines.as_ref().err()?.to_string())),
                    modem: modem.and_then(Result::ok).flatten(),
                };
                // A session that has ended needs no reply, here and below.
                let _ = told.send(condition);
            }
            // Handled by the line, if one is open.
            Control::Lease { told, .. } => drop(told.send(Err(format!("{} is not open", self.name)))),
            Control::Set(line, on, told) => {
                let name = &self.name;
                let set = match tty {
                    Some(tty) => tty.set_modem_line(line, on).map_err(|error| match error.raw_os_error() {
                        Some(nix::libc::ENOTTY) => format!("{name} has no modem lines"),
                        _ => format!("{line} of {name} cannot be set: {error}"),
                    }),
                    None => Err(format!("{name} is not open")),
                };
                let _ = told.send(set);
            }
        }
        false
    }

    /// Replies to the requester of the last change.
    pub(super) fn answer(&mut self, remarks: Vec<String>) {
        if let Some(told) = self.asking.take() {
            // A requester that no longer waits finds it in the journal.
            let _ = told.send(remarks);
        }
    }

    /// Opens the tty that the path leads to, if it belongs to this port; the links may change at any time.
    pub(super) fn try_open(&mut self) -> Option<Stream> {
        let watched = self.hub.state().cursors.is_watched();
        let LineConfig { path, claims, settings, low_latency, modem, .. } = &self.wanted;
        let found = match self.identity.judge(path, claims, watched) {
            Verdict::Ours(found) => Some(found),
            Verdict::Absent => None,
            // Not known yet.
            Verdict::Pending => return None,
            Verdict::NotOurs(why) => {
                self.not_ours(why);
                return None;
            }
            Verdict::Rejected(why) => {
                self.failed(why);
                return None;
            }
        };
        match Tty::open(path, settings, *low_latency) {
            Ok((tty, mut refused)) => {
                let found = found.filter(|found| {
                    let is_it = tty.number().is_ok_and(|tty| tty == found.tty);
                    is_it && self.identity.check(path, claims, found.tty) == Still::Ours
                });
                let Some(mut found) = found else {
                    // A link has changed in between; the watch reports that.
                    tty.close();
                    return None;
                };
                refused.extend(tty.set_modem_levels(*modem, settings.rtscts));
                systemd::store("tty", tty.as_fd());
                let remark = found.remark.take();
                self.identity.opened(found);
                self.quality = Quality::since(tty.counters());
                (self.sharing, self.meddled) = (Sharing::default(), None);
                self.coalescing.restart();
                self.denied_since = None;
                if std::mem::take(&mut self.gone) {
                    tracing::info!(message_id = Event::Plugged.id(), "{} plugged in", self.name);
                    self.hub.note(format!("{} plugged in", self.name));
                }
                if let Some(remark) = remark {
                    tracing::warn!("{remark}");
                    self.hub.note(remark);
                }
                tracing::info!(message_id = Event::Opened.id(), "{} opened, {settings}", self.name);
                self.report(refused);
                self.just_opened();
                return Some(Stream::Tty(tty));
            }
            Err(OpenError::Absent { .. }) => {
                self.denied_since = None;
                self.absent();
            }
            Err(OpenError::Denied { .. }) if self.gone && self.just_appeared() => {}
            // The port that had it may be about to close it.
            Err(OpenError::Busy { .. }) if !watched && self.just_appeared() => {}
            Err(error) => self.failed(error.to_string()),
        }
        None
    }

    /// Whether another attempt is due soon although nothing has changed.
    pub(super) fn is_expected(&self) -> bool {
        self.denied_since.is_some() || self.identity.awaits_udev()
    }

    /// Paths whose change can change which port the device belongs to.
    pub(super) fn watched(&self) -> Vec<PathBuf> {
        self.identity.watched(&self.wanted.path, &self.wanted.claims)
    }

    /// Whether an open tty still belongs to this port.
    pub(super) fn check(&self, stream: &Stream) -> Still {
        let Some(tty) = stream.tty() else { return Still::Ours };
        match tty.number() {
            Ok(number) => self.identity.check(&self.wanted.path, &self.wanted.claims, number),
            Err(error) => Still::Moved(error.to_string()),
        }
    }

    /// A user has requested that it is opened.
    pub(super) fn confirm(&mut self) {
        self.identity.confirm();
    }

    /// The tty is about to be closed; `alive`: its device still works.
    pub(super) fn closed(&mut self, alive: bool) {
        self.identity.closed(alive);
    }

    /// Why a tty whose path no longer exists is closed.
    pub(super) fn nowhere(&self) -> String {
        format!("{} no longer exists, but its device does", self.wanted.path.display())
    }

    /// It was closed because it no longer belongs to this port.
    pub(super) fn displaced(&mut self, why: String) {
        let said = format!("{} closed: {why}", self.name);
        tracing::warn!(message_id = Event::Unplugged.id(), "{said}");
        self.hub.note(said);
        self.not_ours(why);
    }

    fn not_ours(&mut self, why: String) {
        self.gone = true;
        self.denied_since = None;
        self.answer(vec![why.clone()]);
        let state = LineState::NotOurs(why);
        if *self.hub.line.borrow() != state {
            tracing::info!("{} is {state}", self.name);
            self.hub.set_line(state);
        }
    }

    fn just_appeared(&mut self) -> bool {
        self.denied_since.get_or_insert_with(Instant::now).elapsed() < UDEV_CHOWN_TIMEOUT
    }

    pub(super) fn adopt(&mut self, fd: OwnedFd) -> Option<Stream> {
        match Tty::adopt(fd, &self.wanted.path) {
            Ok(tty) => {
                let LineConfig { path, claims, .. } = &self.wanted;
                let adopted = match tty.number() {
                    Ok(number) => self.identity.adopted(path, claims, number),
                    Err(error) => Err(error.to_string()),
                };
                if let Err(why) = adopted {
                    tty.close();
                    systemd::forget("tty");
                    self.displaced(why);
                    return None;
                }
                self.quality = Quality::since(tty.counters());
                // The configuration may have changed while no process was running. DTR and RTS stay as they are: a new process must not
                // reset the device.
                let tty = Stream::Tty(tty);
                self.set(&tty, None);
                Some(tty)
            }
            Err(error) => {
                tracing::warn!("{error}; reopening it");
                systemd::forget("tty");
                None
            }
        }
    }

    /// The coalescing window after a read; `None`: the next read is immediate.
    pub(super) fn window(&self, tty: &Stream) -> Option<Duration> {
        // The rate of a source is not known.
        if tty.is_the_device_itself() || tty.source().is_some() {
            return None;
        }
        self.coalescing.window(self.wanted.settings.baud, Instant::now())
    }

    /// Waits for the slowest reader that is not stalled, then for the device. Cancel safe.
    pub(super) async fn room_then_readable(&self, contact: &Contact<'_>) -> io::Result<()> {
        loop {
            let moved = self.hub.room.notified();
            let Some(until) = self.hub.must_wait() else { break };
            let _ = tokio::time::timeout_at(until, moved).await;
        }
        contact.readable().await
    }

    /// Reads the output of the device, watched or not.
    pub(super) fn read(&mut self, tty: &Stream, contact: Option<&Contact<'_>>) -> Result<ReadStatus, ()> {
        self.judge(tty);
        // Before the first byte, so that the notice and the mark in the log are.
        if self.trial.is_ended_by_output() && tty.unread() > 0 {
            self.reconnected();
            // The sessions run first.
            return Ok(ReadStatus::NotAll);
        }
        let mut count = 0;
        let heard = self.read_all(tty, contact, &mut count);
        if count > 0 && self.wanted.keepalive.is_some() {
            self.traffic_at = Instant::now();
        }
        if count > 0 && !self.leased {
            self.coalescing.received(count, self.wanted.settings.baud, Instant::now());
        }
        heard
    }

    fn read_all(
        &self,
        tty: &Stream,
        contact: Option<&Contact<'_>>,
        count: &mut usize,
    ) -> Result<ReadStatus, ()> {
        for _ in 0..BURST {
            if self.hub.must_wait().is_some() {
                break;
            }
            match self.hub.take_in(tty, contact) {
                Ok(Taken { outcome: ReadOutcome::Bytes(more), all }) => {
                    *count += more;
                    if all {
                        return Ok(ReadStatus::All);
                    }
                }
                Ok(Taken { outcome: ReadOutcome::Empty, .. }) => {
                    return Ok(if *count == 0 { ReadStatus::Nothing } else { ReadStatus::All });
                }
                Ok(Taken { outcome: ReadOutcome::HungUp, .. }) => return Err(()),
                Err(error) => {
                    tracing::error!("cannot read {}: {error}", self.wanted.path.display());
                    return Err(());
                }
            }
        }
        Ok(ReadStatus::NotAll)
    }

    /// Reads what the kernel holds and would discard with the tty. No reader is waited for: it is told how many bytes it missed, whereas
    /// unread output would be lost without a trace.
    pub(super) fn read_last_words(&self, tty: &Stream) {
        let mut left = DRAIN_LIMIT;
        while left > 0
            && let Ok(Taken { outcome: ReadOutcome::Bytes(count), .. }) = self.hub.take_in(tty, None)
        {
            left = left.saturating_sub(count);
        }
    }

    /// Reports line errors that the driver has counted.
    pub(super) fn judge(&mut self, stream: &Stream) {
        let Some(tty) = stream.tty() else {
            self.look_due = None;
            return;
        };
        let now = Instant::now();
        if now < self.look_at {
            // Even if the device sends nothing more, errors of its last output are found.
            self.look_due = Some(self.look_at);
            return;
        }
        self.look_at = now + quality::CHECK_INTERVAL;
        self.look_due = None;
        let counters = tty.counters();
        self.check_sharing(tty, now, counters);
        let Some(counters) = counters else { return };
        for said in self.quality.update(now.into_std(), counters) {
            tracing::warn!("{said}");
            self.hub.note(said);
        }
    }

    /// Reports if another program also reads the device, or has taken it: a login prompt, a terminal program of root.
    fn check_sharing(&mut self, tty: &Tty, now: Instant, counters: Option<Counters>) {
        if !self.sharing.is_due(now.into_std()) {
            return;
        }
        let path = self.wanted.path.display();
        // A driver without counters has received 0 bytes, of which none are missing.
        let Counters { rx, overrun, buffer_overrun, .. } = counters.unwrap_or_default();
        let lost = overrun.wrapping_add(buffer_overrun);
        let here = self.hub.traffic().0 + tty.unread() as u64;
        let taken = self.sharing.update(now.into_std(), Seen { received: rx, lost, here });
        // With XON/XOFF the driver consumes some bytes itself.
        let taken = taken.filter(|_| !self.wanted.settings.xonxoff).map(|bytes| {
            format!(
                "another program also reads {path} and has taken {bytes} bytes: run `fuser -v {path}` as root to find it"
            )
        });
        let meddled =
            Tty::denied(&self.wanted.path).map(|why| format!("{why} (the port still has it open)")).or(taken);
        if let Some(meddled) = meddled.as_ref().filter(|_| self.meddled.is_none()) {
            self.report_message(meddled.clone());
        }
        if meddled != self.meddled {
            self.meddled = meddled;
            self.publish_rejected_settings();
        }
    }

    fn publish_rejected_settings(&self) {
        self.hub.refused.send_replace(self.refused.iter().chain(&self.meddled).cloned().collect());
    }

    /// Collects input that was sent, for the log.
    fn was_sent(&mut self, bytes: &[u8]) {
        if !self.wanted.log_input || bytes.is_empty() {
            return;
        }
        self.typed.extend_from_slice(bytes);
        self.typed_due.get_or_insert_with(|| Instant::now() + INPUT_NOTE_DELAY);
        if self.typed.len() >= INPUT_NOTE_BYTES || bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
            self.note_typed();
        }
    }

    pub(super) fn note_typed(&mut self) {
        self.typed_due = None;
        if !self.typed.is_empty() {
            self.hub.note_that(Noted::Input(std::mem::take(&mut self.typed)));
        }
    }

    /// Accounts for what was written; `gap` begins if a pause follows. Returns how many bytes that were.
    pub(super) fn written(
        &mut self,
        written: io::Result<WriteOutcome>,
        writing: &mut Option<Writing>,
        gap: &mut Gap,
    ) -> Result<usize, ()> {
        let Some(current) = writing else { return Ok(0) };
        self.coalescing.typed(Instant::now());
        let (bytes, pause) = current.step();
        match written {
            Ok(WriteOutcome::Wrote(count)) => {
                self.hub.state().ring.count_sent(count);
                if !current.is_secret() {
                    self.was_sent(&bytes[..count]);
                }
                self.traffic_at = Instant::now();
                if count == bytes.len() {
                    gap.begin(Instant::now(), count, pause, &self.wanted.settings);
                }
                if current.advance(count) {
                    *writing = None;
                }
                Ok(count)
            }
            Ok(WriteOutcome::HungUp) => Err(()),
            Err(error) => {
                tracing::error!("cannot write {}: {error}", self.wanted.path.display());
                Err(())
            }
        }
    }

    /// Applies the line settings, and DTR and RTS if they differ from those `before`.
    pub(super) fn set(&mut self, tty: &Stream, before: Option<&LineConfig>) {
        let LineConfig { settings, low_latency, modem, .. } = self.wanted;
        match tty.apply(&settings) {
            Ok(mut refused) => {
                let asked = before.is_some_and(|before| before.low_latency != low_latency);
                refused.extend(tty.set_low_latency(low_latency, asked));
                // Also if the driver controlled RTS until now.
                let differ =
                    |before: &LineConfig| before.modem != modem || before.settings.rtscts != settings.rtscts;
                if before.is_some_and(differ) {
                    refused.extend(tty.set_modem_levels(modem, settings.rtscts));
                }
                self.report(refused);
            }
            Err(error) => {
                let failed = format!("cannot set {settings}: {error}");
                tracing::error!("{failed}");
                self.refused = vec![failed.clone()];
                self.publish_rejected_settings();
                self.answer(vec![failed]);
            }
        }
        self.opened();
    }

    /// Sets the line for a lease. Returns the keys of the settings that the driver refused.
    pub(super) fn try_settings(
        &mut self,
        tty: &Stream,
        settings: &LineSettings,
    ) -> Result<Vec<&'static str>, String> {
        self.leased = true;
        match tty.apply(settings) {
            Ok(refused) => {
                // How long a reader may be waited for depends on the rate that the line has.
                self.hub.state().cursors.set_baud(settings.baud);
                Ok(refused.iter().map(|refused| refused.key).collect())
            }
            Err(error) => Err(format!("cannot set {settings}: {error}")),
        }
    }

    /// Restores the configured settings. What the driver refuses of them was reported before.
    pub(super) fn set_back(&mut self, tty: &Stream) {
        self.leased = false;
        self.hub.state().cursors.set_baud(self.wanted.settings.baud);
        self.coalescing.restart();
        if let Err(error) = tty.apply(&self.wanted.settings) {
            let failed = format!("cannot set {} again: {error}", self.wanted.settings);
            tracing::error!("{failed}");
            self.hub.note(failed);
        }
    }

    /// Reports to the journal and to the log.
    pub(super) fn report_message(&self, what: String) {
        tracing::warn!("{what}");
        self.hub.note(what);
    }

    /// What sends a sequence to the line; the input before it is logged first.
    pub(super) fn sender<'tty>(
        &mut self,
        tty: &'tty Stream,
        sequence: Sequence,
        length: Duration,
    ) -> Sender<'tty> {
        self.note_typed();
        Sender { tty, hub: self.hub.clone(), sequence, length, log_input: self.wanted.log_input }
    }

    pub(super) fn keeps_alive(&self) -> bool {
        self.wanted.keepalive.is_some()
    }

    /// When a keepalive is due, unless a byte comes or goes before.
    pub(super) fn keepalive_due(&self) -> Option<Instant> {
        self.wanted.keepalive.as_ref().map(|(interval, _)| self.traffic_at + *interval)
    }

    /// The keepalive, if it is due. Bytes may have come since the wait for it began.
    pub(super) fn keepalive(&mut self, now: Instant) -> Option<Sequence> {
        self.keepalive_due().filter(|due| *due <= now)?;
        self.traffic_at = now;
        self.wanted.keepalive.as_ref().map(|(_, sequence)| sequence.clone())
    }

    /// Opened or connected, not kept from the process before.
    pub(super) fn just_opened(&mut self) {
        self.traffic_at = Instant::now();
        self.opened();
        self.hub.has_opened();
    }

    pub(super) fn opened(&mut self) {
        self.leased = false;
        self.hub.state().cursors.set_baud(self.wanted.settings.baud);
        let settings = self.wanted.settings;
        let before = self.hub.line.borrow().clone();
        self.hub.set_line(match before {
            LineState::Disconnected(since, why) | LineState::OnTrial(since, why, _)
                if self.trial.due().is_some() =>
            {
                LineState::OnTrial(since, why, settings)
            }
            // After a rejected login, or a dialer that could not be started.
            LineState::Failed(why) if self.trial.due().is_some() => {
                LineState::OnTrial(Timestamp::now(), why, settings)
            }
            _ => LineState::Open(settings),
        });
    }

    /// Reports what the driver refused to the journal, STATUS and the requester.
    fn report(&mut self, refused: Vec<RejectedSetting>) {
        let refused: Vec<String> = refused.iter().map(RejectedSetting::to_string).collect();
        for refused in &refused {
            tracing::warn!("{refused}");
        }
        self.refused.clone_from(&refused);
        self.publish_rejected_settings();
        self.answer(refused);
    }

    pub(super) fn unplugged(&mut self) {
        self.gone = true;
        tracing::info!(message_id = Event::Unplugged.id(), "{} unplugged", self.name);
        self.hub.note(format!("{} unplugged", self.name));
        self.hub.set_line(LineState::Away(Timestamp::now()));
    }

    fn absent(&mut self) {
        self.gone = true;
        let already = matches!(*self.hub.line.borrow(), LineState::Away(_));
        if !already {
            self.hub.set_line(LineState::Away(Timestamp::now()));
        }
        self.answer(vec![format!("{} is not plugged in: the settings take effect when it is", self.name)]);
    }

    pub(super) fn failed(&mut self, why: String) {
        self.answer(vec![why.clone()]);
        let state = LineState::Failed(why);
        let news = *self.hub.line.borrow() != state;
        if news && let LineState::Failed(why) = &state {
            tracing::error!(message_id = Event::NotOpened.id(), "{why}");
            self.hub.set_line(state);
        }
    }
}

/// Result of one read.
struct Taken {
    outcome: ReadOutcome,
    /// Whether that was all output, as far as this is known without another read.
    all: bool,
}

impl Hub {
    /// Reads from the device into the ring once.
    fn take_in(&self, tty: &Stream, contact: Option<&Contact<'_>>) -> io::Result<Taken> {
        let state = self.state();
        let Some(contact) = contact else {
            // One read returns all that waits; what comes after it is for the next window.
            let outcome = tty.try_splice(state.ring.intake(), READ_MAX)?;
            return self.publish(state, outcome, 0);
        };
        let unread = tty.unread();
        let outcome = contact.try_splice(state.ring.intake(), unread.clamp(1, READ_MAX))?;
        let taken = self.publish(state, outcome, unread)?;
        if let Taken { outcome: ReadOutcome::Bytes(count), all: true } = taken
            && count == unread
            // A stream socket may have been closed in between, which only the next read reports.
            && tty.tty().is_some()
        {
            contact.emptied();
        }
        Ok(taken)
    }

    /// Publishes what was spliced into the pipe. Fewer than `unread` bytes are not all that waited.
    fn publish(
        &self,
        mut state: MutexGuard<'_, State>,
        outcome: ReadOutcome,
        unread: usize,
    ) -> io::Result<Taken> {
        let ReadOutcome::Bytes(count) = outcome else { return Ok(Taken { outcome, all: true }) };
        failpoint::point("spliced");
        state.ring.take_in(count)?;
        failpoint::point("published");
        drop(state);
        self.heard.send_replace(());
        Ok(Taken { outcome, all: count >= unread && count < FLOOD })
    }

    /// Until when the hub must wait for a reader before the next read.
    fn must_wait(&self) -> Option<Instant> {
        let mut state = self.state();
        let next_head = state.ring.head() + READ_MAX as u64;
        let next_tail = next_head.saturating_sub(state.ring.window() as u64);
        state.cursors.wait_before_tail(next_tail, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use nix::pty::openpty;
    use nix::unistd::{ttyname, write};

    use super::*;
    use crate::ownership::Claims;
    use crate::port::ModemLevels;
    use crate::ring::Ring;

    #[tokio::test]
    async fn a_read_that_ends_where_the_ring_wraps_is_one() {
        let pty = openpty(None, None).unwrap();
        let settings = LineSettings::default();
        let path = ttyname(&pty.slave).unwrap();
        let tty = Stream::Tty(Tty::open(&path, &settings, false).unwrap().0);
        let (hub, _inbox) = Hub::new(Ring::create(2 * READ_MAX).unwrap());
        let wanted = LineConfig {
            path,
            claims: Claims::default(),
            settings,
            low_latency: false,
            modem: ModemLevels::default(),
            log_input: false,
            break_sequence: Sequence::default(),
            keepalive: None,
            source: None,
        };
        let mut device = Device::new("demo".parse().unwrap(), hub.clone(), wanted);
        // The third read reaches the end of the ring with 1192 bytes.
        for (count, all) in [(3500, 3500), (3500, 7000), (3000, 10_000)] {
            write(&pty.master, &vec![b'x'; count]).unwrap();
            while tty.unread() < count {
                tokio::task::yield_now().await;
            }
            assert_eq!(device.read(&tty, None), Ok(ReadStatus::All));
            assert_eq!((tty.unread(), hub.traffic().0), (0, all));
        }
    }
}
