//! The line: the device's end of the hub. Opens the [`super::device`] when it is plugged in, serves it, closes it at once when it is
//! unplugged, and watches for its return.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::breaks::{self, BreakDeadline, BreakRequest, Pause};
use super::device::Device;
use super::identity::Still;
use super::intake::ReadStatus;
use super::lease::{self, Lease};
use super::line_config::{Change, LineConfig};
use super::source::SourceLink;
use super::stream::{Output, Stream};
use super::wake::Wakeups;
use super::writing::{Gap, Writing};
use super::{Control, Hub, Inbox, Input, LineState};
use crate::port::PortName;
use crate::serial::{DeviceWatch, WatchError, WriteOutcome};
use crate::system::clock::reached;
use crate::system::systemd::{self, StoredLine};

/// Between two attempts to open a device that is plugged in but cannot be opened (busy, no permission): first, and longest. The watch
/// reports when the device changes, but not when another program closes it.
const RETRY_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Time for a removed link of an open tty to reappear, or for the tty to report a hang-up.
const VANISHED_TIMEOUT: Duration = Duration::from_secs(1);

/// Time between two checks of the links of an open tty if they cannot be watched.
const RECHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Time for a device to accept the last output before its tty is closed.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Length of a serial break in a keepalive that states none.
const KEEPALIVE_BREAK: Duration = Duration::from_millis(super::DEFAULT_BREAK_MS as u64);

/// The device's end of a hub.
#[derive(Debug)]
pub struct Line {
    pub(super) device: Device,
    pub(super) inbox: Inbox,
    pub(super) changes: mpsc::Receiver<Change>,
    break_deadline: BreakDeadline,
    pub(super) link: SourceLink,
    /// Resolves when the line must end.
    pub(super) end: oneshot::Receiver<()>,
}

/// Why a line is no longer served.
enum Lost {
    HungUp,
    /// The device was replaced or reopened, and not all output was sent to it.
    Moved,
    /// The tty no longer belongs to this port, and why.
    Displaced(String),
    /// The same device is reopened; no output was lost.
    Reopened,
    Ended,
}

impl Line {
    /// The line of `hub`, which takes input from `inbox` and configuration from `changes`, until `end`.
    pub fn new(
        name: PortName,
        hub: Arc<Hub>,
        inbox: Inbox,
        wanted: LineConfig,
        changes: mpsc::Receiver<Change>,
        attached: watch::Receiver<usize>,
        end: oneshot::Receiver<()>,
    ) -> Self {
        let break_deadline = BreakDeadline::new(&hub);
        let device = Device::new(name, hub, wanted);
        Self { device, inbox, changes, break_deadline, link: SourceLink::new(attached), end }
    }

    /// Serves the device; `stored` is its tty or connection from the FD store.
    pub async fn run(mut self, stored: StoredLine) {
        let mut kept = self.adopt(stored);
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
            self.link.forget_lease();
            self.device.input_log.flush();
            if let Lost::Ended = lost {
                self.discard_input(writing.take());
                return self.leave(tty).await;
            }
            if !matches!(lost, Lost::Reopened) {
                self.discard_input(writing.take());
            }
            match &lost {
                // The tty's output now belongs to another port.
                Lost::Displaced(_) => {}
                _ => self.device.intake.read_last_words(&tty),
            }
            self.device.closed(matches!(lost, Lost::Displaced(_)));
            // Closed first, here and in the FD store: while a descriptor of it is open, the kernel gives an adapter that is plugged in
            // again another name.
            if !matches!(lost, Lost::Reopened) {
                tty.discard_output();
            }
            tty.close();
            match lost {
                Lost::HungUp if self.device.wanted.source.is_some() => self.disconnected(),
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

    /// Reads the last output of the device. Unless the FD store holds the tty, this is its last close, in which the kernel waits for
    /// output that flow control holds back; hence the drain before.
    async fn leave(&mut self, tty: Stream) {
        if systemd::keeps() {
            // The next process reads the rest, and notices a hang-up.
            let _ = self.device.read(&tty, None);
            return;
        }
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, tty.drain()).await;
        tty.discard_output();
        self.device.intake.read_last_words(&tty);
    }

    /// Opens the device or connects to the source as soon as that is possible; `None` if the line ends before that.
    async fn open(&mut self) -> Option<Stream> {
        let mut retry_after = RETRY_BACKOFF.0;
        loop {
            if let Some(source) = self.device.wanted.source.clone() {
                match self.connect(&source).await? {
                    Some(stream) => return Some(stream),
                    None => continue,
                }
            }
            self.link.close();
            // Armed before the attempt, so that no change is missed in between.
            let watch = DeviceWatch::new(&self.device.watched());
            if let Some(tty) = self.device.try_open() {
                return Some(tty);
            }
            self.wait_for_change(watch, &mut retry_after).await?;
        }
    }

    /// Waits until the next attempt is due; `None` if the line ends. Input is discarded until then, which sessions report
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
                tracing::warn!("{error}; retrying every {} s", RETRY_BACKOFF.1.as_secs());
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

    /// Discards queued input for a device that is gone: the next device must not receive the second half of a paste.
    fn discard_input(&mut self, writing: Option<Writing>) {
        let mut unsent = self.break_deadline.over() + left_of(writing);
        while let Ok(input) = self.inbox.input.try_recv() {
            if let Input::Bytes(bytes) | Input::Paced { bytes, .. } = input {
                unsent += bytes.len();
            }
        }
        if unsent > 0 {
            self.device.hub.torn.fetch_add(1, Ordering::Relaxed);
            tracing::warn!("{unsent} bytes of input were not sent to the device");
            self.device.hub.note(format!("{unsent} bytes of input were not sent to the device"));
        }
    }

    async fn serve(&mut self, tty: &Stream, writing: &mut Option<Writing>) -> Lost {
        let Self { device, inbox: Inbox { input: inbox, control }, changes, break_deadline, link, end } =
            self;
        let mut pause: Option<Pause<'_>> = None;
        let mut lease: Option<Lease> = None;
        let mut gap = Gap::default();
        // This worked when the device was opened. If it fails now, reopening reports why and retries.
        let Ok(mut wakeups) = Wakeups::new(tty) else { return Lost::Moved };
        let mut output = Output::new(tty);
        // Armed before the check, so that no change is missed in between.
        let mut watch = tty.tty().and_then(|_| {
            DeviceWatch::new(&device.watched())
                .inspect_err(|error| {
                    tracing::warn!("{error}; checking every {} s", RECHECK_INTERVAL.as_secs())
                })
                .ok()
        });
        let mut links_due = tty.tty().map(|_| Instant::now());
        let mut vanished = false;
        loop {
            let stuck_at = break_deadline.ends();
            let lease_due = link.lease_due();
            let phase = Phase::of(writing.as_ref(), pause.as_ref(), lease.as_ref(), &gap);
            tokio::select! {
                _ = &mut *end => {
                    lease::end(&mut lease, device, link, tty);
                    return Lost::Ended;
                }
                Some(change) = changes.recv() => {
                    lease::end(&mut lease, device, link, tty);
                    let before = device.take(change);
                    if before.path != device.wanted.path {
                        device.hub.note(format!("the device is now {}", device.wanted.path.display()));
                        return Lost::Moved;
                    }
                    device.set(tty, Some(&before));
                    link.request(&device.wanted);
                    links_due = tty.tty().map(|_| Instant::now());
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
                event = link.event(), if tty.source().is_some() => {
                    if let Some(connection) = tty.source() {
                        link.served(event, connection, device);
                    }
                }
                // Before any further output.
                () = lease::over(&mut lease), if lease.is_some() => lease::end(&mut lease, device, link, tty),
                Some(control) = control.recv() => match control {
                    Control::Lease { lease: None, told, .. } if lease.is_none() => {
                        let _ = told.send(Err(format!("{}: the line was reconfigured or unplugged in the meantime", device.name)));
                    }
                    Control::Lease { settings, lease: None, told, .. } => {
                        lease::set(device, link, tty, settings, told);
                    }
                    Control::Lease { told, .. } if lease.is_some() => {
                        let _ = told.send(Err(format!("another user is testing line rates at {}", device.name)));
                    }
                    Control::Lease { told, sends: false, .. } if phase != Phase::Idle => {
                        let name = &device.name;
                        let _ = told.send(Err(format!("{name}: input is being sent to the device, try again")));
                    }
                    Control::Lease { settings, lease: Some(ends), sends, told } => {
                        lease = Some(Lease::begin(ends, sends, tty));
                        lease::set(device, link, tty, settings, told);
                    }
                    control => {
                        if device.control(control, Some(tty)) {
                            if tty.tty().is_none() {
                                link.reconnect();
                                return Lost::Moved;
                            }
                            // A break in progress ends with the line.
                            pause = Some(Pause::before_reopening(tty.drain()));
                        }
                    }
                },
                () = reached(lease_due) => link.not_confirmed(),
                () = reached(device.keepalive_due()), if phase == Phase::Idle && device.keeps_alive() => {
                    if let Some(sequence) = device.keepalive(Instant::now()) {
                        output.release();
                        let sender = device.sender(tty, sequence, KEEPALIVE_BREAK);
                        pause = Some(Pause::of_break(breaks::send_keepalive(sender)));
                    }
                }
                () = reached(device.trial.due()) => device.reconnected(),
                () = reached(device.input_log.due()) => device.input_log.flush(),
                () = reached(device.checks.due()) => device.check_line(tty),
                Some(input) = inbox.recv(), if phase.takes_input() => match input {
                    Input::Bytes(bytes) | Input::Paced { bytes, .. }
                        if break_deadline.has_given_up() =>
                    {
                        break_deadline.give_up(bytes.len());
                    }
                    Input::Bytes(bytes) => {
                        break_deadline.moved();
                        *writing = Some(Writing::plain(bytes));
                        if wakeups.wake().is_err() {
                            return Lost::Moved;
                        }
                    }
                    Input::Paced { bytes, pacing, written, is_secret } => {
                        *writing = Some(Writing::paced(bytes, pacing, written, is_secret));
                        if wakeups.wake().is_err() {
                            return Lost::Moved;
                        }
                    }
                    Input::Break { awaited, .. } if awaited.is_given_up() => {}
                    Input::Break { what: BreakRequest { length, sequence }, user, mut awaited } => {
                        awaited.taken();
                        report_discarded(break_deadline.over());
                        let sequence = sequence.unwrap_or_else(|| device.wanted.break_sequence.clone());
                        output.release();
                        let sender = device.sender(tty, sequence, length);
                        pause = Some(Pause::of_break(breaks::send(sender, user, awaited)));
                    }
                    // Dropped: the input before it was discarded.
                    Input::Mark(_) if break_deadline.has_given_up() => {}
                    // The requester may have disconnected.
                    Input::Mark(told) => drop(told.send(())),
                },
                () = break_deadline.changed() => report_discarded(break_deadline.check_input()),
                () = reached(stuck_at), if matches!(phase, Phase::Writing | Phase::Pacing) => {
                    break_deadline.give_up(left_of(writing.take()));
                }
                over = breaks::over(&mut pause), if phase == Phase::Paused => {
                    let reopens = pause.take().is_some_and(|pause| pause.reopens);
                    match (over, reopens) {
                        (Ok(0), true) => return Lost::Reopened,
                        (Ok(held_back), true) => {
                            device.hub.report(format!("{held_back} bytes held back by flow control were discarded"));
                            return Lost::Moved;
                        }
                        (Err(error), true) => {
                            device.hub.report(format!("the last output may be lost: it cannot be drained ({error})"));
                            return Lost::Moved;
                        }
                        (Ok(held_back), false) => report_discarded(held_back),
                        // Reported by `breaks::send`.
                        (Err(_), false) => {}
                    }
                }
                () = reached(gap.due()), if phase == Phase::Pacing => gap.update_unsent(Instant::now(), tty.unsent()),
                written = write_next(&mut output, writing.as_ref()), if phase == Phase::Writing => {
                    // Progress of a paced paste does not extend the time that a break waits.
                    let is_paced = writing.as_ref().is_some_and(Writing::is_paced);
                    let Ok(count) = device.written(written, writing, &mut gap) else { return Lost::HungUp };
                    if !is_paced && count > 0 {
                        break_deadline.moved();
                    }
                }
                read = read(&mut wakeups, device, tty, phase) => {
                    let status = match read {
                        Ok(status) => status,
                        Err(lost) => return lost,
                    };
                    if wakeups.contact().is_none() {
                        output.release();
                    }
                    if status == ReadStatus::NotAll {
                        // A flood must not starve the sessions.
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
    }
}

/// What the line is doing with its output, which decides what it may do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing: the next input may be taken.
    Idle,
    Writing,
    /// Input is being written, and a pause of its pacing is not over.
    Pacing,
    /// A break or a drain is in progress.
    Paused,
    /// A client has changed the line settings; until it is done, input is sent only if its lease `sends`.
    Leased {
        sends: bool,
    },
}

impl Phase {
    fn takes_input(self) -> bool {
        matches!(self, Self::Idle | Self::Leased { sends: true })
    }

    fn of(writing: Option<&Writing>, pause: Option<&Pause<'_>>, lease: Option<&Lease>, gap: &Gap) -> Self {
        match (pause, writing, lease) {
            (Some(_), _, _) => Self::Paused,
            (None, Some(_), _) if gap.due().is_some() => Self::Pacing,
            (None, Some(_), _) => Self::Writing,
            (None, None, Some(lease)) => Self::Leased { sends: lease.sends },
            (None, None, None) => Self::Idle,
        }
    }
}

/// Reads the device. While output is coalesced this keeps reading, so that the end of a window needs no new iteration of the line. Cancel safe.
async fn read(
    wakeups: &mut Wakeups<'_>,
    device: &mut Device,
    tty: &Stream,
    phase: Phase,
) -> Result<ReadStatus, Lost> {
    loop {
        let was_coalesced = wakeups.contact().is_none();
        wakeups.readable(device).await.map_err(|_| Lost::HungUp)?;
        let status = device.read(tty, wakeups.contact()).map_err(|()| Lost::HungUp)?;
        // The window depends on the configured rate, not on that of a lease.
        let may_coalesce = status == ReadStatus::All && phase == Phase::Idle;
        let Some(window) = may_coalesce.then(|| device.window(tty)).flatten() else {
            wakeups.wake().map_err(|_| Lost::Moved)?;
            return Ok(status);
        };
        device.checks.wait_for_read();
        wakeups.coalesce(window);
        if !was_coalesced {
            return Ok(status);
        }
    }
}

/// Writes what comes next. Cancel safe.
async fn write_next(output: &mut Output<'_>, writing: Option<&Writing>) -> io::Result<WriteOutcome> {
    match writing {
        Some(writing) => output.write(writing.step().0).await,
        None => std::future::pending().await,
    }
}

fn left_of(writing: Option<Writing>) -> usize {
    writing.map_or(0, |writing| writing.left())
}

fn report_discarded(bytes: usize) {
    if bytes > 0 {
        tracing::warn!("{bytes} bytes of input that the device did not accept were discarded for a break");
    }
}

async fn appeared(watch: &mut Option<DeviceWatch>) -> Result<(), WatchError> {
    match watch {
        Some(watch) => watch.appeared().await.inspect_err(|error| tracing::warn!("{error}")),
        None => std::future::pending().await,
    }
}
