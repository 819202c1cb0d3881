//! The line: the device's end of the hub. Opens the [`super::device`] when it is there, serves it, and when it goes away closes it at
//! once and watches for its return.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::breaks::{self, Patience, Pause};
use super::device::{Device, Heard};
use super::identity::Still;
use super::lease::{self, Lease};
use super::wake::Hearing;
use super::writing::{Gap, Writing};
use super::{Control, Hub, Inbox, Input, LineState};
use crate::ownership::Claims;
use crate::port::{LineSettings, ModemLevels, PortName};
use crate::serial::{DeviceWatch, Tty, WatchError};
use crate::system::clock::reached;
use crate::system::systemd;

/// Between two tries at a device that is there but cannot be opened (busy, no permission): at first, and at most. The watch
/// tells when it changes, but not when another program lets go of it.
const RETRY_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// For a link that has gone from an open tty to come again, or for the tty to hear that its device has gone.
const VANISHED_TIMEOUT: Duration = Duration::from_secs(1);

/// Between two looks at the links of an open tty where they cannot be watched.
const RECHECK_INTERVAL: Duration = Duration::from_secs(60);

/// For a device to take what was written last, before its tty is closed for good.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// What a line is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct LineConfig {
    /// The device.
    pub path: PathBuf,
    /// Whose ttys are.
    pub claims: Claims,
    /// How to set it.
    pub settings: LineSettings,
    /// Whether to ask the driver for low latency.
    pub low_latency: bool,
    /// What DTR and RTS are from the open on.
    pub modem: ModemLevels,
    /// Whether the log is to have what is typed.
    pub log_input: bool,
}

/// Another wish than before.
#[derive(Debug)]
pub struct Change {
    /// What the port is called from now on.
    pub name: PortName,
    /// What the line is to be from now on.
    pub wanted: LineConfig,
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
    patience: Patience,
    /// Resolves when the line is to end.
    end: oneshot::Receiver<()>,
}

/// Why a line is not served any more.
enum Lost {
    HungUp,
    /// Another device from now on, or this one, but not all that was written has reached it.
    Moved,
    /// The tty is not this port's any more: why.
    Displaced(String),
    /// This one again, from which nothing is missing.
    Reopened,
    Ended,
}

impl Line {
    /// The line of `hub`, which takes its input from `inbox` and other wishes from `changes`, until told to `end`.
    pub fn new(
        name: PortName,
        hub: Arc<Hub>,
        inbox: Inbox,
        wanted: LineConfig,
        changes: mpsc::Receiver<Change>,
        end: oneshot::Receiver<()>,
    ) -> Self {
        let patience = Patience::new(&hub);
        let device = Device::new(name, hub, wanted);
        Self { device, inbox, changes, patience, end }
    }

    /// Serves the device; `stored` is its tty, if systemd has kept it open for us.
    pub async fn run(mut self, stored: Option<OwnedFd>) {
        let mut kept = stored.and_then(|fd| self.device.adopt(fd));
        let mut writing: Option<Writing> = None;
        loop {
            let tty = match kept.take() {
                Some(tty) => tty,
                None => match self.open().await {
                    Some(tty) => tty,
                    None => return,
                },
            };
            let lost = self.serve(&tty, &mut writing).await;
            self.device.note_typed();
            if let Lost::Ended = lost {
                self.discard_input(writing.take());
                return self.leave(tty).await;
            }
            if !matches!(lost, Lost::Reopened) {
                self.discard_input(writing.take());
            }
            match &lost {
                // What it says from now on is another port's to log.
                Lost::Displaced(_) => {}
                _ => self.device.read_last_words(&tty),
            }
            self.device.closed(matches!(lost, Lost::Displaced(_)));
            // Closed before anything else, here and in the store: while any descriptor of it is open, the kernel gives a
            // returning adapter another name.
            if !matches!(lost, Lost::Reopened) {
                let _ = tty.discard_output();
            }
            tty.close();
            systemd::forget("tty");
            match lost {
                Lost::HungUp => self.device.unplugged(),
                Lost::Displaced(why) => self.device.displaced(why),
                Lost::Reopened => {
                    kept = self.device.try_open();
                    if kept.is_none() {
                        self.discard_input(writing.take());
                    }
                }
                Lost::Moved | Lost::Ended => {}
            }
        }
    }

    /// Reads what the device has said last. Unless somebody keeps its tty open, this closes it for good, which waits for what flow
    /// control holds back: in the kernel, where nothing can be done meanwhile.
    async fn leave(&mut self, tty: Tty) {
        if systemd::keeps() {
            // What is more than that, the next process hears; a device that has gone, it sees for itself.
            let _ = self.device.read(&tty, None);
            return;
        }
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, tty.drain()).await;
        let _ = tty.discard_output();
        self.device.read_last_words(&tty);
    }

    /// Opens the device, as soon as it can be; `None` if the line is to end before that.
    async fn open(&mut self) -> Option<Tty> {
        let mut retry_after = RETRY_BACKOFF.0;
        loop {
            // Armed before the try, so that nothing is missed in between.
            let watch = DeviceWatch::new(&self.device.watched());
            if let Some(tty) = self.device.try_open() {
                return Some(tty);
            }
            self.wait_for_change(watch, &mut retry_after).await?;
        }
    }

    /// Waits until it is worth trying again; `None` if it is not any more. What is typed meanwhile has nowhere to go: sessions say so
    /// themselves.
    async fn wait_for_change(
        &mut self,
        watch: Result<DeviceWatch, WatchError>,
        retry_after: &mut Duration,
    ) -> Option<()> {
        let failed = matches!(*self.device.hub.line.borrow(), LineState::Failed(_) | LineState::NotOurs(_));
        let retry_at = Instant::now() + *retry_after;
        let mut watch = match watch {
            Ok(watch) => Some(watch),
            Err(error) => {
                tracing::warn!("{error}; trying every {} s", RETRY_BACKOFF.1.as_secs());
                None
            }
        };
        let retries = failed || watch.is_none() || self.device.is_expected();
        loop {
            tokio::select! {
                _ = &mut self.end => return None,
                _ = appeared(&mut watch) => return Some(()),
                () = tokio::time::sleep_until(retry_at), if retries => {
                    *retry_after = (*retry_after * 2).min(RETRY_BACKOFF.1);
                    return Some(());
                }
                Some(change) = self.changes.recv() => {
                    self.device.take(change);
                    self.device.confirm();
                    return Some(());
                }
                Some(_) = self.inbox.input.recv() => {}
                Some(control) = self.inbox.control.recv() => {
                    if self.device.control(control, None) {
                        self.device.confirm();
                        return Some(());
                    }
                }
            }
        }
    }

    /// Forgets what was on its way to a device that is gone: a paste must not go on in the next one with a hole in it.
    fn discard_input(&mut self, writing: Option<Writing>) {
        let mut unsent = self.patience.over() + left_of(writing);
        while let Ok(input) = self.inbox.input.try_recv() {
            if let Input::Bytes(bytes) | Input::Paced { bytes, .. } = input {
                unsent += bytes.len();
            }
        }
        if unsent > 0 {
            self.device.hub.torn.fetch_add(1, Ordering::Relaxed);
            tracing::warn!("{unsent} bytes that were typed were not sent");
            self.device.hub.note(format!("{unsent} bytes that were typed were not sent"));
        }
    }

    async fn serve(&mut self, tty: &Tty, writing: &mut Option<Writing>) -> Lost {
        let Self { device, inbox: Inbox { input: inbox, control }, changes, patience, end } = self;
        let mut pause: Option<Pause<'_>> = None;
        let mut lease: Option<Lease> = None;
        let mut gap = Gap::default();
        // It could be listened to when it was opened: what opens it anew says why it cannot be now, and tries again.
        let Ok(mut hearing) = Hearing::new(tty) else { return Lost::Moved };
        // Armed before the look, so that nothing is missed in between.
        let mut watch = DeviceWatch::new(&device.watched())
            .inspect_err(|error| tracing::warn!("{error}; looking every {} s", RECHECK_INTERVAL.as_secs()))
            .ok();
        let mut links_due = Some(Instant::now());
        let mut vanished = false;
        loop {
            let stuck_at = patience.ends();
            tokio::select! {
                _ = &mut *end => return Lost::Ended,
                Some(change) = changes.recv() => {
                    if let Some(lease) = lease.take() {
                        lease.give_back(tty, &device.wanted);
                    }
                    let before = device.take(change);
                    if before.path != device.wanted.path {
                        device.hub.note(format!("the device is {} from now on", device.wanted.path.display()));
                        return Lost::Moved;
                    }
                    device.set(tty, Some(&before));
                    links_due = Some(Instant::now());
                }
                changed = appeared(&mut watch), if watch.is_some() => {
                    if changed.is_err() {
                        watch = None;
                    }
                    links_due = Some(Instant::now());
                }
                () = reached(links_due) => match device.check(tty) {
                    Still::Ours => {
                        vanished = false;
                        links_due = watch.is_none().then(|| Instant::now() + RECHECK_INTERVAL);
                    }
                    Still::Vanished if !vanished => {
                        vanished = true;
                        links_due = Some(Instant::now() + VANISHED_TIMEOUT);
                    }
                    Still::Vanished => return Lost::Displaced(device.nowhere()),
                    Still::Moved(why) => return Lost::Displaced(why),
                },
                // Before anything is sent again.
                () = lease::over(&mut lease), if lease.is_some() => {
                    device.set_back(tty);
                    if let Some(lease) = lease.take() {
                        lease.give_back(tty, &device.wanted);
                    }
                }
                Some(control) = control.recv() => match control {
                    Control::Lease { settings, lease: None, told, .. } => {
                        let set = match &lease {
                            Some(_) => device.try_settings(tty, &settings),
                            None => Err(format!("{}: the line was set or unplugged meanwhile", device.name)),
                        };
                        let _ = told.send(set);
                    }
                    Control::Lease { told, .. } if lease.is_some() => {
                        let _ = told.send(Err(format!("another user is testing line rates at {}", device.name)));
                    }
                    Control::Lease { told, sends: false, .. } if writing.is_some() || pause.is_some() => {
                        let name = &device.name;
                        let _ = told.send(Err(format!("{name} is just being sent something: try again")));
                    }
                    Control::Lease { settings, lease: Some(ends), sends, told } => {
                        lease = Some(Lease::begin(ends, sends, tty));
                        let set = device.try_settings(tty, &settings);
                        let _ = told.send(set);
                    }
                    control => {
                        if device.control(control, Some(tty)) {
                            // A break that is under way ends with the line.
                            pause = Some(Pause::before_reopening(tty.drain()));
                        }
                    }
                },
                () = reached(device.typed_due) => device.note_typed(),
                () = reached(device.look_due) => device.judge(tty),
                Some(input) = inbox.recv(), if writing.is_none() && pause.is_none() && lease.as_ref().is_none_or(|lease| lease.sends) => match input {
                    Input::Bytes(bytes) | Input::Paced { bytes, .. } if patience.has_given_up() => {
                        patience.give_up(bytes.len());
                    }
                    Input::Bytes(bytes) => {
                        patience.moved();
                        *writing = Some(Writing::plain(bytes));
                        if hearing.wake().is_err() {
                            return Lost::Moved;
                        }
                    }
                    Input::Paced { bytes, pacing, written } => {
                        *writing = Some(Writing::paced(bytes, pacing, written));
                        if hearing.wake().is_err() {
                            return Lost::Moved;
                        }
                    }
                    Input::Break { awaited, .. } if awaited.is_given_up() => {}
                    Input::Break { length, user, mut awaited } => {
                        awaited.taken();
                        say_dropped(patience.over());
                        pause = Some(Pause::of_break(breaks::send(tty, length, user, awaited)));
                    }
                    // Dropped, so that nobody believes that what was before it is sent.
                    Input::Mark(_) if patience.has_given_up() => {}
                    // Whoever asked may have given up.
                    Input::Mark(told) => drop(told.send(())),
                },
                () = patience.changed() => say_dropped(patience.look()),
                () = reached(stuck_at), if writing.is_some() && pause.is_none() => {
                    patience.give_up(left_of(writing.take()));
                }
                over = breaks::over(&mut pause), if pause.is_some() => {
                    let reopens = pause.take().is_some_and(|pause| pause.reopens);
                    match (over, reopens) {
                        (Ok(0), true) => return Lost::Reopened,
                        (Ok(held_back), true) => {
                            device.say(format!("{held_back} bytes that flow control held back were dropped"));
                            return Lost::Moved;
                        }
                        (Err(error), true) => {
                            device.say(format!("what was written last may be lost: it cannot be drained ({error})"));
                            return Lost::Moved;
                        }
                        (Ok(held_back), false) => say_dropped(held_back),
                        // `breaks::send` has told it.
                        (Err(_), false) => {}
                    }
                }
                () = reached(gap.due()), if writing.is_some() => gap.look(Instant::now(), tty.unsent()),
                ready = hearing.writable(), if writing.is_some() && pause.is_none() && gap.due().is_none() => {
                    let before = writing.as_ref().map(Writing::left);
                    // A break waits for no more of a paste with pauses than of one that the line does not take.
                    let is_paced = writing.as_ref().is_some_and(Writing::is_paced);
                    if ready.is_err() || ready.is_ok_and(|contact| device.write(contact, writing, &mut gap).is_err()) {
                        return Lost::HungUp;
                    }
                    if !is_paced && before != writing.as_ref().map(Writing::left) {
                        patience.moved();
                    }
                }
                ready = hearing.readable(device) => {
                    if ready.is_err() {
                        return Lost::HungUp;
                    }
                    let Ok(heard) = device.read(tty, hearing.contact()) else { return Lost::HungUp };
                    // A lease's rate is not the one that a rest is reckoned by.
                    let may_rest = heard == Heard::All && writing.is_none() && lease.is_none();
                    match may_rest.then(|| device.rest(tty)).flatten() {
                        Some(rest) => {
                            device.look_due = None;
                            hearing.rest(rest);
                        }
                        None if hearing.wake().is_err() => return Lost::Moved,
                        None => {}
                    }
                    if heard == Heard::NotAll {
                        // A flood must not keep the sessions from their turn.
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
    }
}

fn left_of(writing: Option<Writing>) -> usize {
    writing.map_or(0, |writing| writing.left())
}

fn say_dropped(bytes: usize) {
    if bytes > 0 {
        tracing::warn!("{bytes} bytes that the line did not take were dropped for a break");
    }
}

async fn appeared(watch: &mut Option<DeviceWatch>) -> Result<(), WatchError> {
    match watch {
        Some(watch) => watch.appeared().await.inspect_err(|error| tracing::warn!("{error}")),
        None => std::future::pending().await,
    }
}
