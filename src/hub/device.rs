//! The device of a line, while it is open and as it is opened: reads into the ring, writes what is typed, sets it, judges its
//! errors, and tells log, journal and sessions what becomes of it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::coalesce::Rests;
use super::identity::{Identity, Still, Verdict};
use super::line::{Change, LineConfig};
use super::quality::{self, Quality};
use super::sharing::{Seen, Sharing};
use super::writing::{Gap, Writing};
use super::{Condition, Control, Hub, LineState, Noted};
use crate::event::Event;
use crate::port::{LineSettings, PortName};
use crate::ring::READ_MAX;
use crate::serial::{Contact, Counters, OpenError, ReadOutcome, RejectedSetting, Tty, WriteOutcome};
use crate::system::failpoint;
use crate::system::systemd;

/// Reads in a row before the sessions get their turn.
const BURST: usize = 8;

/// Bytes in one read from which on it is a flood, where more may come before anybody else has his turn: no line brings so many during a
/// rest (`UNHEARD`).
const FLOOD: usize = 2048;

/// Bytes that are read from a tty that is closed: what the kernel keeps of one, and not for ever, since a device may go on talking.
const LAST_WORDS: usize = 64 * 1024;

/// Typed input is noted a line at a time, or so long after its first character: a record for each key would be no line to read.
const INPUT_NOTE_DELAY: Duration = Duration::from_secs(2);
/// Bytes of such a line.
const INPUT_NOTE_BYTES: usize = 1024;

/// A device that has just appeared is root's until udev has given it to its group.
const UDEV_CHOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// What the line does to the device and tells about it.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) name: PortName,
    pub(super) hub: Arc<Hub>,
    pub(super) wanted: LineConfig,
    /// Who waits to hear what came of the last change.
    asking: Option<oneshot::Sender<Vec<String>>>,
    identity: Identity,
    /// It was not there; what the log is told when it comes.
    gone: bool,
    /// Since when it is there but not to be opened.
    pub(super) denied_since: Option<Instant>,
    /// What the device was sent and the log has not got yet, and when it gets it.
    typed: Vec<u8>,
    pub(super) typed_due: Option<Instant>,
    quality: Quality,
    /// What the driver has refused of the settings.
    refused: Vec<String>,
    sharing: Sharing,
    /// What another program does with the device, while it does.
    meddled: Option<String>,
    /// When the driver's counters may be looked at next.
    look_at: Instant,
    /// When they are to be, because something has come since.
    pub(super) look_due: Option<Instant>,
    rests: Rests,
    /// It is set as a lease wants it, and says nothing about its own rate.
    leased: bool,
}

/// What a look at the device has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    Nothing,
    /// All that it has said.
    All,
    /// Not all: it says more than one turn may take, or somebody has to be waited for first.
    NotAll,
}

impl Device {
    /// Not tried yet.
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
            rests: Rests::default(),
            leased: false,
        }
    }

    /// Wants something else from now on; what was wanted before.
    pub(super) fn take(&mut self, Change { name, wanted, told }: Change) -> LineConfig {
        self.identity.rename(name.clone());
        self.name = name;
        self.asking = Some(told);
        if wanted.settings != self.wanted.settings {
            // What was too fast for the rate of before may not be for this one.
            self.rests = Rests::default();
        }
        if wanted.path != self.wanted.path {
            self.identity.forget();
        }
        std::mem::replace(&mut self.wanted, wanted)
    }

    /// Does what a session wants of the line; whether it is to be opened anew.
    pub(super) fn control(&mut self, control: Control, tty: Option<&Tty>) -> bool {
        match control {
            Control::Reopen => return true,
            Control::Examine(told) => {
                let modem = tty.map(Tty::modem_lines);
                let condition = Condition {
                    path: self.wanted.path.clone(),
                    counters: tty.and_then(Tty::counters),
                    modem_error: modem.as_ref().and_then(|lines| Some(lines.as_ref().err()?.to_string())),
                    modem: modem.and_then(Result::ok).flatten(),
                };
                // A session that has ended needs no answer, here and below.
                let _ = told.send(condition);
            }
            // Taken by the line, if one is open.
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

    /// Tells who asked for the last change.
    fn answer(&mut self, remarks: Vec<String>) {
        if let Some(told) = self.asking.take() {
            // Whoever waits no longer has read it in the journal.
            let _ = told.send(remarks);
        }
    }

    /// Opens what the path leads to, if that is this port's, and nothing else: the links may change at any time.
    pub(super) fn try_open(&mut self) -> Option<Tty> {
        let watched = self.hub.state().cursors.is_watched();
        let LineConfig { path, claims, settings, low_latency, modem, .. } = &self.wanted;
        let found = match self.identity.judge(path, claims, watched) {
            Verdict::Ours(found) => Some(found),
            Verdict::Absent => None,
            // How it is, is not known yet.
            Verdict::Pending => return None,
            Verdict::NotOurs(why) => {
                self.not_ours(why);
                return None;
            }
            Verdict::Refused(why) => {
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
                    // A link has changed in between, which the watch has seen.
                    tty.close();
                    return None;
                };
                refused.extend(tty.set_modem_levels(*modem, settings.rtscts));
                systemd::store("tty", tty.as_fd());
                let remark = found.remark.take();
                self.identity.opened(found);
                self.quality = Quality::since(tty.counters());
                (self.sharing, self.meddled) = (Sharing::default(), None);
                self.rests.begin_account();
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
                self.opened();
                return Some(tty);
            }
            Err(OpenError::Absent { .. }) => {
                self.denied_since = None;
                self.absent();
            }
            Err(OpenError::Denied { .. }) if self.gone && self.just_appeared() => {}
            // The port that had it until now may be about to close it.
            Err(OpenError::Busy { .. }) if !watched && self.just_appeared() => {}
            Err(error) => self.failed(error.to_string()),
        }
        None
    }

    /// Whether it is worth trying again soon, although nothing has changed.
    pub(super) fn is_expected(&self) -> bool {
        self.denied_since.is_some() || self.identity.awaits_udev()
    }

    /// Paths whose change can change whose device it is.
    pub(super) fn watched(&self) -> Vec<PathBuf> {
        self.identity.watched(&self.wanted.path, &self.wanted.claims)
    }

    /// Whether an open tty is this port's still.
    pub(super) fn check(&self, tty: &Tty) -> Still {
        match tty.number() {
            Ok(number) => self.identity.check(&self.wanted.path, &self.wanted.claims, number),
            Err(error) => Still::Moved(error.to_string()),
        }
    }

    /// Somebody has asked for it to be opened.
    pub(super) fn confirm(&mut self) {
        self.identity.confirm();
    }

    /// The tty is about to be closed; whether its device is `alive`.
    pub(super) fn closed(&mut self, alive: bool) {
        self.identity.closed(alive);
    }

    /// Why it is closed whose path leads nowhere.
    pub(super) fn nowhere(&self) -> String {
        format!("{} is gone, and the device behind it is not", self.wanted.path.display())
    }

    /// It was closed because it is not this port's any more.
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
            self.hub.line.send_replace(state);
        }
    }

    fn just_appeared(&mut self) -> bool {
        self.denied_since.get_or_insert_with(Instant::now).elapsed() < UDEV_CHOWN_TIMEOUT
    }

    pub(super) fn adopt(&mut self, fd: OwnedFd) -> Option<Tty> {
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
                // The configuration may have changed while no process was there. DTR and RTS stay as they are: a process that
                // comes back must not reset the device.
                self.set(&tty, None);
                Some(tty)
            }
            Err(error) => {
                tracing::warn!("{error}; opening it anew");
                systemd::forget("tty");
                None
            }
        }
    }

    /// How long it may talk unheard after a read, if nobody is to wait for what it says, and if it does not go with its last words.
    pub(super) fn rest(&self, tty: &Tty) -> Option<Duration> {
        if tty.is_the_device_itself() {
            return None;
        }
        let watched = self.hub.state().cursors.is_watched();
        self.rests.next(self.wanted.settings.baud, watched, Instant::now())
    }

    /// Waits for the slowest cursor that is worth it, then for the device. Cancel safe.
    pub(super) async fn room_then_readable(&self, contact: &Contact<'_>) -> io::Result<()> {
        loop {
            let moved = self.hub.room.notified();
            let Some(until) = self.hub.must_wait() else { break };
            let _ = tokio::time::timeout_at(until, moved).await;
        }
        contact.readable().await
    }

    /// Reads what it has said, whether it is listened to or not.
    pub(super) fn read(&mut self, tty: &Tty, contact: Option<&Contact<'_>>) -> Result<Heard, ()> {
        self.judge(tty);
        let mut count = 0;
        let heard = self.read_all(tty, contact, &mut count);
        if count > 0 && !self.leased {
            self.rests.heard(count, self.wanted.settings.baud, Instant::now());
        }
        heard
    }

    fn read_all(&self, tty: &Tty, contact: Option<&Contact<'_>>, count: &mut usize) -> Result<Heard, ()> {
        for _ in 0..BURST {
            if self.hub.must_wait().is_some() {
                break;
            }
            match self.hub.take_in(tty, contact) {
                Ok(Taken { outcome: ReadOutcome::Bytes(more), all }) => {
                    *count += more;
                    if all {
                        return Ok(Heard::All);
                    }
                }
                Ok(Taken { outcome: ReadOutcome::Empty, .. }) => {
                    return Ok(if *count == 0 { Heard::Nothing } else { Heard::All });
                }
                Ok(Taken { outcome: ReadOutcome::HungUp, .. }) => return Err(()),
                Err(error) => {
                    tracing::error!("cannot read {}: {error}", self.wanted.path.display());
                    return Err(());
                }
            }
        }
        Ok(Heard::NotAll)
    }

    /// Reads what waits in the kernel and would go with the tty. Nobody is waited for: who is behind is told what was missed, and what
    /// is not read nobody would be told of.
    pub(super) fn read_last_words(&self, tty: &Tty) {
        let mut left = LAST_WORDS;
        while left > 0
            && let Ok(Taken { outcome: ReadOutcome::Bytes(count), .. }) = self.hub.take_in(tty, None)
        {
            left = left.saturating_sub(count);
        }
    }

    /// Says what is wrong with the line, as far as its driver counts that.
    pub(super) fn judge(&mut self, tty: &Tty) {
        let now = Instant::now();
        if now < self.look_at {
            // The device may say nothing more: what it did last is seen all the same.
            self.look_due = Some(self.look_at);
            return;
        }
        self.look_at = now + quality::CHECK_INTERVAL;
        self.look_due = None;
        let counters = tty.counters();
        self.look_for_others(tty, now, counters);
        let Some(counters) = counters else { return };
        for said in self.quality.look(now.into_std(), counters) {
            tracing::warn!("{said}");
            self.hub.note(said);
        }
    }

    /// Says so if another program reads the device too, or has taken it: a login prompt, root's terminal program.
    fn look_for_others(&mut self, tty: &Tty, now: Instant, counters: Option<Counters>) {
        if !self.sharing.is_due(now.into_std()) {
            return;
        }
        let path = self.wanted.path.display();
        // A driver that counts nothing has received nothing, of which nothing is missing.
        let Counters { rx, overrun, buffer_overrun, .. } = counters.unwrap_or_default();
        let lost = overrun.wrapping_add(buffer_overrun);
        let here = self.hub.traffic().0 + tty.unread() as u64;
        let taken = self.sharing.look(now.into_std(), Seen { received: rx, lost, here });
        // With XON/XOFF the driver takes some bytes itself.
        let taken = taken.filter(|_| !self.wanted.settings.xonxoff).map(|bytes| {
            format!(
                "another program reads {path} too and has taken {bytes} bytes: as root, `fuser -v {path}` names it"
            )
        });
        let meddled =
            Tty::denied(&self.wanted.path).map(|why| format!("{why} (it is still open here)")).or(taken);
        if let Some(meddled) = meddled.as_ref().filter(|_| self.meddled.is_none()) {
            self.say(meddled.clone());
        }
        if meddled != self.meddled {
            self.meddled = meddled;
            self.tell_trouble();
        }
    }

    fn tell_trouble(&self) {
        self.hub.refused.send_replace(self.refused.iter().chain(&self.meddled).cloned().collect());
    }

    /// Remembers what the device was sent, for the log.
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
            self.hub.note_that(Noted::Typed(std::mem::take(&mut self.typed)));
        }
    }

    /// Writes what can be written at once; `gap` begins if a pause follows.
    pub(super) fn write(
        &mut self,
        contact: &Contact<'_>,
        writing: &mut Option<Writing>,
        gap: &mut Gap,
    ) -> Result<(), ()> {
        let Some(current) = writing else { return Ok(()) };
        self.rests.typed(Instant::now());
        let (bytes, pause) = current.step();
        match contact.try_write(bytes) {
            Ok(WriteOutcome::Wrote(count)) => {
                self.hub.state().ring.count_sent(count);
                self.was_sent(&bytes[..count]);
                if count == bytes.len() {
                    gap.begin(Instant::now(), count, pause, &self.wanted.settings);
                }
                if current.advance(count) {
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

    /// Sets the line as wanted now, and DTR and RTS if they were wanted otherwise `before`.
    pub(super) fn set(&mut self, tty: &Tty, before: Option<&LineConfig>) {
        let LineConfig { settings, low_latency, modem, .. } = self.wanted;
        match tty.apply(&settings) {
            Ok(mut refused) => {
                let asked = before.is_some_and(|before| before.low_latency != low_latency);
                refused.extend(tty.set_low_latency(low_latency, asked));
                // Also if RTS was the driver's own until now.
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
                self.tell_trouble();
                self.answer(vec![failed]);
            }
        }
        self.opened();
    }

    /// Sets the line for a lease: the keys of what the driver has refused.
    pub(super) fn try_settings(
        &mut self,
        tty: &Tty,
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

    /// Sets it back. What the driver refuses of it has been said before.
    pub(super) fn set_back(&mut self, tty: &Tty) {
        self.leased = false;
        self.hub.state().cursors.set_baud(self.wanted.settings.baud);
        self.rests.begin_account();
        if let Err(error) = tty.apply(&self.wanted.settings) {
            let failed = format!("cannot set {} again: {error}", self.wanted.settings);
            tracing::error!("{failed}");
            self.hub.note(failed);
        }
    }

    /// Says something in the journal and in the log.
    pub(super) fn say(&self, what: String) {
        tracing::warn!("{what}");
        self.hub.note(what);
    }

    fn opened(&mut self) {
        self.leased = false;
        self.hub.state().cursors.set_baud(self.wanted.settings.baud);
        self.hub.line.send_replace(LineState::Open(self.wanted.settings));
    }

    /// Tells the journal, STATUS and the user who asked what the driver has refused.
    fn report(&mut self, refused: Vec<RejectedSetting>) {
        let refused: Vec<String> = refused.iter().map(RejectedSetting::to_string).collect();
        for refused in &refused {
            tracing::warn!("{refused}");
        }
        self.refused.clone_from(&refused);
        self.tell_trouble();
        self.answer(refused);
    }

    pub(super) fn unplugged(&mut self) {
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

/// What one read came to.
struct Taken {
    outcome: ReadOutcome,
    /// Whether that was all that waited, as far as can be told without another read.
    all: bool,
}

impl Hub {
    /// Reads the device into the ring once.
    fn take_in(&self, tty: &Tty, contact: Option<&Contact<'_>>) -> io::Result<Taken> {
        let mut state = self.state();
        let unread = tty.unread();
        if unread == 0 && contact.is_none() {
            return Ok(Taken { outcome: ReadOutcome::Empty, all: true });
        }
        let most = unread.clamp(1, READ_MAX);
        let outcome = match contact {
            Some(contact) => contact.try_splice(state.ring.intake(), most)?,
            None => tty.try_splice(state.ring.intake(), most)?,
        };
        if let ReadOutcome::Bytes(count) = outcome {
            failpoint::point("spliced");
            while state.ring.take_in()? > 0 {}
            failpoint::point("published");
            drop(state);
            self.heard.send_replace(());
            if let Some(contact) = contact.filter(|_| count == unread && count < FLOOD) {
                contact.emptied();
            }
            return Ok(Taken { outcome, all: count >= unread && count < FLOOD });
        }
        Ok(Taken { outcome, all: true })
    }

    /// Until when somebody has to be waited for before the next read.
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
    async fn a_read_that_ends_where_the_ring_begins_anew_is_one() {
        let pty = openpty(None, None).unwrap();
        let settings = LineSettings::default();
        let path = ttyname(&pty.slave).unwrap();
        let (tty, _) = Tty::open(&path, &settings, false).unwrap();
        let (hub, _inbox) = Hub::new(Ring::create(2 * READ_MAX).unwrap());
        let wanted = LineConfig {
            path,
            claims: Claims::default(),
            settings,
            low_latency: false,
            modem: ModemLevels::default(),
            log_input: false,
        };
        let mut device = Device::new("demo".parse().unwrap(), hub.clone(), wanted);
        // The third read meets the end of the ring with 1192 bytes.
        for (count, all) in [(3500, 3500), (3500, 7000), (3000, 10_000)] {
            write(&pty.master, &vec![b'x'; count]).unwrap();
            while tty.unread() < count {
                tokio::task::yield_now().await;
            }
            assert_eq!(device.read(&tty, None), Ok(Heard::All));
            assert_eq!((tty.unread(), hub.traffic().0), (0, all));
        }
    }
}
