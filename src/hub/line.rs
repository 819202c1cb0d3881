//! The line: the device's end of the hub. Opens the device when it is there, reads it into the ring, writes what is typed,
//! and when it goes away closes it at once and watches for its return.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::quality::{self, Quality};
use super::{Condition, Control, Hub, Inbox, Input, LineState, Noted};
use crate::clock::reached;
use crate::event::Event;
use crate::failpoint;
use crate::port::{LineSettings, PortName};
use crate::ring::READ_MAX;
use crate::serial::{DeviceWatch, OpenError, ReadOutcome, Refused, Tty, WatchError, WriteOutcome};
use crate::systemd;

/// Reads in a row before the sessions get their turn.
const BURST: usize = 8;
/// Between two tries at a device that is there but cannot be opened (busy, no permission): at first, and at most. The watch
/// tells when it changes, but not when another program lets go of it.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Typed input is noted a line at a time, or so long after its first character: a record for each key would be no line to read.
const TYPED: Duration = Duration::from_secs(2);
/// Bytes of such a line.
const TYPED_MAX: usize = 1024;

/// A device that has just appeared is root's until udev has given it to its group.
const CHOWN: Duration = Duration::from_secs(2);

/// What a line is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// The device.
    pub path: PathBuf,
    /// How to set it.
    pub settings: LineSettings,
    /// Whether to ask the driver for low latency.
    pub low_latency: bool,
    /// Whether the log is to have what is typed.
    pub log_input: bool,
}

/// Another wish than before.
#[derive(Debug)]
pub struct Change {
    /// What the line is to be from now on.
    pub wanted: Wanted,
    /// Who is told what came of it: what the driver refused, or why the device cannot be opened; nothing if all is as
    /// wanted. Dropped if a later change came before this one could be tried.
    pub told: oneshot::Sender<Vec<String>>,
}

/// The device's end of a hub.
#[derive(Debug)]
pub struct Line {
    device: Device,
    inbox: Inbox,
    changes: mpsc::Receiver<Change>,
}

/// What the line does to the device and tells about it.
#[derive(Debug)]
struct Device {
    name: PortName,
    hub: Arc<Hub>,
    wanted: Wanted,
    /// Who waits to hear what came of the last change.
    asking: Option<oneshot::Sender<Vec<String>>>,
    /// It was not there; what the log is told when it comes.
    gone: bool,
    /// Since when it is there but not to be opened.
    denied_since: Option<Instant>,
    /// What the device was sent and the log has not got yet, and when it gets it.
    typed: Vec<u8>,
    typed_due: Option<Instant>,
    quality: Quality,
    /// When the driver's counters are looked at next.
    look_at: std::time::Instant,
}

/// Why a line is not served any more.
enum Lost {
    HungUp,
    Moved,
}

/// A break on its way.
type Breaking<'tty> = Pin<Box<dyn Future<Output = io::Result<usize>> + Send + 'tty>>;

impl Line {
    /// The line of `hub`, which takes its input from `inbox` and other wishes from `changes`.
    pub fn new(
        name: PortName,
        hub: Arc<Hub>,
        inbox: Inbox,
        wanted: Wanted,
        changes: mpsc::Receiver<Change>,
    ) -> Self {
        let device = Device {
            name,
            hub,
            wanted,
            asking: None,
            gone: false,
            denied_since: None,
            typed: Vec::new(),
            typed_due: None,
            quality: Quality::default(),
            look_at: std::time::Instant::now(),
        };
        Self { device, inbox, changes }
    }

    /// Serves the device for ever; `stored` is its tty, if systemd has kept it open for us.
    pub async fn run(mut self, stored: Option<OwnedFd>) {
        let mut kept = stored.and_then(|fd| self.device.adopt(fd));
        loop {
            let tty = match kept.take() {
                Some(tty) => tty,
                None => self.open().await,
            };
            let mut writing = None;
            let lost = self.serve(&tty, &mut writing).await;
            self.device.note_typed();
            self.discard_input(writing);
            // Closed before anything else, here and in the store: while any descriptor of it is open, the kernel gives a
            // returning adapter another name.
            let _ = tty.discard_output();
            drop(tty);
            systemd::forget("tty");
            if let Lost::HungUp = lost {
                self.device.unplugged();
            }
        }
    }

    /// Opens the device, as soon as it can be.
    async fn open(&mut self) -> Tty {
        let mut retry_after = RETRY.0;
        loop {
            // Armed before the try, so that nothing is missed in between.
            let watch = DeviceWatch::new(&self.device.wanted.path);
            if let Some(tty) = self.device.try_open() {
                return tty;
            }
            self.wait_for_change(watch, &mut retry_after).await;
        }
    }

    /// Waits until it is worth trying again. What is typed meanwhile has nowhere to go: sessions say so themselves.
    async fn wait_for_change(&mut self, watch: Result<DeviceWatch, WatchError>, retry_after: &mut Duration) {
        let failed = matches!(*self.device.hub.line.borrow(), LineState::Failed(_));
        let retry_at = Instant::now() + *retry_after;
        let mut watch = match watch {
            Ok(watch) => Some(watch),
            Err(error) => {
                tracing::warn!("{error}; trying every {} s", RETRY.1.as_secs());
                None
            }
        };
        let retries = failed || watch.is_none() || self.device.denied_since.is_some();
        loop {
            tokio::select! {
                _ = appeared(&mut watch) => return,
                () = tokio::time::sleep_until(retry_at), if retries => {
                    *retry_after = (*retry_after * 2).min(RETRY.1);
                    return;
                }
                Some(change) = self.changes.recv() => {
                    self.device.take(change);
                    return;
                }
                Some(_) = self.inbox.input.recv() => {}
                Some(control) = self.inbox.control.recv() => {
                    if self.device.control(control, None) {
                        return;
                    }
                }
            }
        }
    }

    /// Forgets what was on its way to a device that is gone: a paste must not go on in the next one with a hole in it.
    fn discard_input(&mut self, writing: Option<(Vec<u8>, usize)>) {
        let mut unsent = writing.map_or(0, |(bytes, done)| bytes.len() - done);
        while let Ok(input) = self.inbox.input.try_recv() {
            if let Input::Bytes(bytes) = input {
                unsent += bytes.len();
            }
        }
        if unsent > 0 {
            tracing::warn!("{unsent} bytes that were typed were not sent");
            self.device.hub.note(format!("{unsent} bytes that were typed were not sent"));
        }
    }

    async fn serve(&mut self, tty: &Tty, writing: &mut Option<(Vec<u8>, usize)>) -> Lost {
        let Self { device, inbox: Inbox { input: inbox, control }, changes } = self;
        let mut breaking: Option<Breaking<'_>> = None;
        loop {
            tokio::select! {
                Some(change) = changes.recv() => {
                    let before = device.take(change);
                    if before.path != device.wanted.path {
                        device.hub.note(format!("the device is {} from now on", device.wanted.path.display()));
                        return Lost::Moved;
                    }
                    if before.low_latency != device.wanted.low_latency {
                        device.set_latency(tty);
                    }
                    device.set(tty);
                }
                Some(control) = control.recv() => {
                    if device.control(control, Some(tty)) {
                        return Lost::Moved;
                    }
                }
                () = reached(device.typed_due) => device.note_typed(),
                Some(input) = inbox.recv(), if writing.is_none() && breaking.is_none() => match input {
                    Input::Bytes(bytes) => *writing = Some((bytes, 0)),
                    Input::Break { length, user } => {
                        tracing::info!(
                            message_id = Event::Break.id(),
                            console_user = user,
                            "{user} sends a break of {} ms",
                            length.as_millis()
                        );
                        breaking = Some(Box::pin(tty.send_break(length)));
                    }
                },
                sent = finished(&mut breaking), if breaking.is_some() => {
                    breaking = None;
                    match sent {
                        Ok(0) => {}
                        Ok(discarded) => tracing::warn!(
                            "{discarded} bytes that flow control held back were dropped for a break"
                        ),
                        Err(error) => tracing::warn!("no break: {error}"),
                    }
                }
                ready = tty.writable(), if writing.is_some() => {
                    if ready.is_err() || device.write(tty, writing).is_err() {
                        return Lost::HungUp;
                    }
                }
                ready = device.room_then_readable(tty) => {
                    if ready.is_err() || device.read(tty).is_err() {
                        return Lost::HungUp;
                    }
                    // A flood must not keep the sessions from their turn.
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

impl Device {
    /// Wants something else from now on; what was wanted before.
    fn take(&mut self, Change { wanted, told }: Change) -> Wanted {
        self.asking = Some(told);
        std::mem::replace(&mut self.wanted, wanted)
    }

    /// Does what a session wants of the line; whether it is to be opened anew.
    fn control(&mut self, control: Control, tty: Option<&Tty>) -> bool {
        match control {
            Control::Reopen => return true,
            Control::Examine(told) => {
                let condition = Condition {
                    path: self.wanted.path.clone(),
                    counters: tty.and_then(Tty::counters),
                    modem: tty.and_then(Tty::modem_lines),
                };
                // A session that has ended needs no answer, here and below.
                let _ = told.send(condition);
            }
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

    /// Tells who asked for the last change.
    fn answer(&mut self, remarks: Vec<String>) {
        if let Some(told) = self.asking.take() {
            // Whoever waits no longer has read it in the journal.
            let _ = told.send(remarks);
        }
    }

    fn try_open(&mut self) -> Option<Tty> {
        let Wanted { path, settings, low_latency, .. } = &self.wanted;
        match Tty::open(path, settings, *low_latency) {
            Ok((tty, refused)) => {
                systemd::store("tty", tty.as_fd());
                self.quality.forget();
                self.denied_since = None;
                if std::mem::take(&mut self.gone) {
                    tracing::info!(message_id = Event::Plugged.id(), "{} plugged in", self.name);
                    self.hub.note(format!("{} plugged in", self.name));
                }
                tracing::info!(message_id = Event::Opened.id(), "{} opened, {settings}", self.name);
                self.report(&refused);
                self.opened();
                return Some(tty);
            }
            Err(OpenError::Absent { .. }) => {
                self.denied_since = None;
                self.absent();
            }
            Err(OpenError::Denied { .. }) if self.gone && self.just_appeared() => {}
            Err(error) => self.failed(error.to_string()),
        }
        None
    }

    fn just_appeared(&mut self) -> bool {
        self.denied_since.get_or_insert_with(Instant::now).elapsed() < CHOWN
    }

    fn adopt(&mut self, fd: OwnedFd) -> Option<Tty> {
        match Tty::adopt(fd, &self.wanted.path) {
            Ok(tty) => {
                self.set(&tty);
                Some(tty)
            }
            Err(error) => {
                tracing::warn!("{error}; opening it anew");
                systemd::forget("tty");
                None
            }
        }
    }

    /// Waits for the slowest cursor that is worth it, then for the device. Cancel safe.
    async fn room_then_readable(&self, tty: &Tty) -> io::Result<()> {
        loop {
            let moved = self.hub.room.notified();
            let Some(until) = self.hub.must_wait() else { break };
            let _ = tokio::time::timeout_at(until, moved).await;
        }
        tty.readable().await
    }

    fn read(&mut self, tty: &Tty) -> Result<(), ()> {
        self.judge(tty);
        for _ in 0..BURST {
            if self.hub.must_wait().is_some() {
                break;
            }
            match self.hub.take_in(tty) {
                Ok(ReadOutcome::Bytes(_)) => {}
                Ok(ReadOutcome::Empty) => break,
                Ok(ReadOutcome::HungUp) => return Err(()),
                Err(error) => {
                    tracing::error!("cannot read {}: {error}", self.wanted.path.display());
                    return Err(());
                }
            }
        }
        Ok(())
    }

    /// Says what is wrong with the line, as far as its driver counts that.
    fn judge(&mut self, tty: &Tty) {
        let now = std::time::Instant::now();
        if now < self.look_at {
            return;
        }
        self.look_at = now + quality::LOOK;
        let Some(counters) = tty.counters() else { return };
        for said in self.quality.look(now, counters) {
            tracing::warn!("{said}");
            self.hub.note(said);
        }
    }

    /// Remembers what the device was sent, for the log.
    fn was_sent(&mut self, bytes: &[u8]) {
        if !self.wanted.log_input || bytes.is_empty() {
            return;
        }
        self.typed.extend_from_slice(bytes);
        self.typed_due.get_or_insert_with(|| Instant::now() + TYPED);
        if self.typed.len() >= TYPED_MAX || bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
            self.note_typed();
        }
    }

    fn note_typed(&mut self) {
        self.typed_due = None;
        if !self.typed.is_empty() {
            self.hub.note_that(Noted::Typed(std::mem::take(&mut self.typed)));
        }
    }

    fn write(&mut self, tty: &Tty, writing: &mut Option<(Vec<u8>, usize)>) -> Result<(), ()> {
        let Some((bytes, done)) = writing else { return Ok(()) };
        match tty.try_write(&bytes[*done..]) {
            Ok(WriteOutcome::Wrote(count)) => {
                self.hub.state().ring.count_sent(count);
                self.was_sent(&bytes[*done..*done + count]);
                *done += count;
                if *done == bytes.len() {
                    *writing = None;
                }
                Ok(())
            }
            Ok(WriteOutcome::Full) => Ok(()),
            Ok(WriteOutcome::HungUp) => Err(()),
            Err(error) => {
                tracing::error!("cannot write {}: {error}", self.wanted.path.display());
                Err(())
            }
        }
    }

    fn set(&mut self, tty: &Tty) {
        match tty.apply(&self.wanted.settings) {
            Ok(refused) => self.report(&refused),
            Err(error) => {
                let failed = format!("cannot set {}: {error}", self.wanted.settings);
                tracing::error!("{failed}");
                self.answer(vec![failed]);
            }
        }
        self.opened();
    }

    fn set_latency(&self, tty: &Tty) {
        if let Err(error) = tty.set_low_latency(self.wanted.low_latency) {
            tracing::error!("cannot set low_latency = {}: {error}", self.wanted.low_latency);
        }
    }

    fn opened(&self) {
        self.hub.state().cursors.set_baud(self.wanted.settings.baud);
        self.hub.line.send_replace(LineState::Open(self.wanted.settings));
    }

    fn report(&mut self, refused: &[Refused]) {
        for refused in refused {
            tracing::warn!("{refused}");
        }
        self.answer(refused.iter().map(Refused::to_string).collect());
    }

    fn unplugged(&mut self) {
        self.gone = true;
        tracing::info!(message_id = Event::Unplugged.id(), "{} unplugged", self.name);
        self.hub.note(format!("{} unplugged", self.name));
        self.hub.line.send_replace(LineState::Away(Timestamp::now()));
    }

    fn absent(&mut self) {
        self.gone = true;
        let already = matches!(*self.hub.line.borrow(), LineState::Away(_));
        if !already {
            self.hub.line.send_replace(LineState::Away(Timestamp::now()));
        }
        self.answer(vec![format!("{} is not plugged in: the settings are used when it is", self.name)]);
    }

    fn failed(&mut self, why: String) {
        self.answer(vec![why.clone()]);
        let state = LineState::Failed(why);
        let news = *self.hub.line.borrow() != state;
        if news && let LineState::Failed(why) = &state {
            tracing::error!(message_id = Event::NotOpened.id(), "{why}");
            self.hub.line.send_replace(state);
        }
    }
}

impl Hub {
    /// Reads the device into the ring once.
    fn take_in(&self, tty: &Tty) -> io::Result<ReadOutcome> {
        let mut state = self.state();
        let outcome = tty.try_read(state.ring.space(tty.unread()))?;
        if let ReadOutcome::Bytes(count) = outcome {
            failpoint::point("read");
            state.ring.publish(count);
            failpoint::point("published");
            drop(state);
            self.heard.send_replace(());
        }
        Ok(outcome)
    }

    /// Until when somebody has to be waited for before the next read.
    fn must_wait(&self) -> Option<Instant> {
        let mut state = self.state();
        let next_head = state.ring.head() + READ_MAX as u64;
        let next_tail = next_head.saturating_sub(state.ring.window() as u64);
        state.cursors.wait_before_tail(next_tail, Instant::now())
    }
}

async fn finished(breaking: &mut Option<Breaking<'_>>) -> io::Result<usize> {
    match breaking {
        Some(sending) => sending.await,
        None => std::future::pending().await,
    }
}

async fn appeared(watch: &mut Option<DeviceWatch>) {
    match watch {
        Some(watch) => {
            if let Err(error) = watch.appeared().await {
                tracing::warn!("{error}");
            }
        }
        None => std::future::pending().await,
    }
}
