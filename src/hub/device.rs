//! The device of a line, as it is opened and while it is open: accounts for output ([`super::intake`]) and input, applies settings, and
//! reports its state to the log, the journal and the sessions.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::breaks::Sender;
use super::checks::Checks;
use super::coalesce::Coalescing;
use super::identity::{Identity, Still, Verdict};
use super::input_log::InputLog;
use super::intake::{Intake, ReadStatus};
use super::line_config::{Change, LineConfig};
use super::stream::{Contact, Stream};
use super::trial::Trial;
use super::writing::{Gap, Writing};
use super::{Condition, Control, Hub, LineState};
use crate::event::Event;
use crate::port::{LineSettings, PortName, Sequence};
use crate::serial::{OpenError, RejectedSetting, Tty, WriteOutcome};
use crate::system::systemd;

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
    pub(super) input_log: InputLog,
    pub(super) checks: Checks,
    pub(super) intake: Intake,
    coalescing: Coalescing,
    /// A lease has set the line to another rate, so its data rate proves nothing.
    leased: bool,
    /// Whether a connection to a source is reported.
    pub(super) trial: Trial,
    /// Why the connection to a source is about to end.
    pub(super) end_reason: Option<String>,
    /// Why the last attempt to connect again has failed before that.
    pub(super) attempt_failed: Option<String>,
    /// When a byte has come or gone, or a keepalive was sent.
    traffic_at: Instant,
}

impl Device {
    pub(super) fn new(name: PortName, hub: Arc<Hub>, wanted: LineConfig) -> Self {
        Self {
            identity: Identity::new(name.clone()),
            name,
            wanted,
            asking: None,
            gone: false,
            denied_since: None,
            input_log: InputLog::new(hub.clone()),
            checks: Checks::new(hub.clone()),
            intake: Intake::new(hub.clone()),
            hub,
            coalescing: Coalescing::default(),
            leased: false,
            trial: Trial::new(),
            end_reason: None,
            attempt_failed: None,
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
            // The owner of the tty is not known yet.
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
                self.checks.opened(&tty);
                self.coalescing.restart();
                self.denied_since = None;
                if std::mem::take(&mut self.gone) {
                    tracing::info!(message_id = Event::Plugged.id(), "{} plugged in", self.name);
                    self.hub.note(format!("{} plugged in", self.name));
                }
                if let Some(remark) = remark {
                    self.hub.report(remark);
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
                self.checks.adopted(&tty);
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

    /// Reads the output of the device, watched or not.
    pub(super) fn read(&mut self, tty: &Stream, contact: Option<&Contact<'_>>) -> Result<ReadStatus, ()> {
        self.check_line(tty);
        // Before the first byte, so that the notice and the mark in the log are.
        if self.trial.is_ended_by_output() && tty.unread() > 0 {
            self.reconnected();
            // The sessions run first.
            return Ok(ReadStatus::NotAll);
        }
        let mut count = 0;
        let status = self.intake.read(tty, contact, &mut count);
        if count > 0 && self.wanted.keepalive.is_some() {
            self.traffic_at = Instant::now();
        }
        if count > 0 && !self.leased {
            self.coalescing.received(count, self.wanted.settings.baud, Instant::now());
        }
        match status {
            Ok(ReadStatus::HungUp) => Err(()),
            Ok(status) => Ok(status),
            Err(error) => {
                tracing::error!("cannot read {}: {error}", self.wanted.path.display());
                Err(())
            }
        }
    }

    /// Reports line errors and other programs at the device.
    pub(super) fn check_line(&mut self, tty: &Stream) {
        self.checks.run(tty, &self.wanted.path, self.wanted.settings.xonxoff);
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
                if self.wanted.log_input && !current.is_secret() {
                    self.input_log.sent(&bytes[..count]);
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
                // DTR and RTS are also set if the driver controlled RTS until now.
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
                self.checks.set_refused(vec![failed.clone()]);
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

    /// The sender of a sequence to the line; input before it is logged first.
    pub(super) fn sender<'tty>(
        &mut self,
        tty: &'tty Stream,
        sequence: Sequence,
        length: Duration,
    ) -> Sender<'tty> {
        self.input_log.flush();
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
        self.checks.set_refused(refused.clone());
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
