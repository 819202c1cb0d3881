//! The line of a port without a tty, whose far end is connected by `console-dial`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::device::Device;
use super::lease::{LEVELS_STORED_AS, Levels};
use super::line::Line;
use super::line_config::LineConfig;
use super::stream::Stream;
use super::{Input, LineState};
use crate::event::Event;
use crate::port::{LineSettings, Source};
use crate::source::{
    Connection, DIALER_STORED_AS, Dialer, DialerError, DialerEvent, FromDialer, RemoteLine, Request,
    STREAM_STORED_AS,
};
use crate::system::clock::reached;
use crate::system::systemd::{self, StoredLine};

/// First and longest delay between two attempts to start the dialer, for a unit that cannot be started. The
/// dialer has its own back-off for the far end.
const RETRY_BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// With `on_demand`, how long the connection is kept after the last session has ended, for a client that reconnects.
const LINGER: Duration = Duration::from_secs(10);

/// Time for a far end to reply to the settings of a lease. Shorter than the 3 s that pyserial waits for the reply to its own command.
const LEASE_TIMEOUT: Duration = Duration::from_millis(2500);

#[derive(Debug, Clone, PartialEq)]
pub struct SourceConfig {
    pub source: Source,
    pub socket: PathBuf,
    /// Instance name of the units.
    pub unit: String,
    /// Connect only while a session is attached.
    pub on_demand: bool,
}

/// The dialer of a line, while there is one.
#[derive(Debug)]
pub(super) struct SourceLink {
    dialer: Option<Arc<Dialer>>,
    attached: watch::Receiver<usize>,
    /// The number at the last request.
    users: usize,
    /// Time of the next attempt, and the delay after it.
    retry: Option<Instant>,
    retry_after: Duration,
    /// With `on_demand`: when the connection is closed.
    linger_until: Option<Instant>,
    /// Whether a connection was requested last.
    connects: bool,
    /// Connect without waiting for the back-off.
    at_once: bool,
    leased: Option<LineSettings>,
    /// Number of the last report that was asked for, which is the current one during a lease.
    last_report: u32,
    /// The request that waits for the report.
    asking: Option<Asking>,
}

/// A lease whose settings the far end has not replied to yet.
#[derive(Debug)]
struct Asking {
    told: oneshot::Sender<LeaseReply>,
    until: Instant,
}

/// The reply to [`super::Control::Lease`].
pub(super) type LeaseReply = Result<Vec<&'static str>, String>;

impl SourceLink {
    pub(super) fn new(attached: watch::Receiver<usize>) -> Self {
        Self {
            dialer: None,
            attached,
            users: 0,
            retry: None,
            retry_after: RETRY_BACKOFF.0,
            linger_until: None,
            connects: true,
            at_once: false,
            leased: None,
            last_report: 0,
            asking: None,
        }
    }

    /// Has the far end set its line for a lease, and replies once it has.
    pub(super) fn lease(
        &mut self,
        settings: LineSettings,
        told: oneshot::Sender<LeaseReply>,
        wanted: &LineConfig,
    ) {
        self.last_report = self.last_report.wrapping_add(1);
        self.leased = Some(settings);
        // The client of an earlier request has disconnected.
        self.asking = Some(Asking { told, until: Instant::now() + LEASE_TIMEOUT });
        self.request(wanted);
    }

    /// Has the far end set its line as it is configured.
    pub(super) fn end_lease(&mut self, wanted: &LineConfig) {
        self.asking = None;
        if self.leased.take().is_some() {
            self.request(wanted);
        }
    }

    /// The connection that had the lease is gone.
    pub(super) fn forget_lease(&mut self) {
        (self.leased, self.asking) = (None, None);
    }

    /// When [`Self::not_confirmed`] is due.
    pub(super) fn lease_due(&self) -> Option<Instant> {
        self.asking.as_ref().map(|asking| asking.until)
    }

    /// The far end has not replied in time.
    pub(super) fn not_confirmed(&mut self) {
        if let Some(Asking { told, .. }) = self.asking.take() {
            let seconds = LEASE_TIMEOUT.as_secs_f32();
            // A client that no longer waits needs no reply, here and below.
            let _ = told.send(Err(format!("the far end has not replied to its settings within {seconds} s")));
        }
    }

    fn confirmed(&mut self, number: u32, line: Option<RemoteLine>) {
        let Some(leased) = self.leased.filter(|_| number == self.last_report) else { return };
        let Some(Asking { told, .. }) = self.asking.take() else { return };
        let reply = match line.and_then(|line| line.settings()) {
            Some(set) => Ok(differences(&leased, &set)),
            None => {
                Err("the far end has no line that could be set: it refuses the COM port option".to_owned())
            }
        };
        let _ = told.send(reply);
    }

    /// Ends the connection to the dialer, which then ends its own to the far end.
    pub(super) fn close(&mut self) {
        if self.dialer.take().is_some() {
            systemd::forget(DIALER_STORED_AS);
        }
    }

    /// A user has requested an immediate reconnect.
    pub(super) fn reconnect(&mut self) {
        (self.at_once, self.retry) = (true, None);
    }

    /// Sends the dialer the requested state of the connection, if it has changed. A dialer that does not
    /// accept it is closed.
    pub(super) fn request(&mut self, wanted: &LineConfig) {
        let (Some(dialer), Some(config)) = (&self.dialer, &wanted.source) else { return };
        let users = *self.attached.borrow_and_update();
        let before = std::mem::replace(&mut self.users, users);
        self.linger_until = match (config.on_demand, users) {
            (true, 0) if before > 0 => Some(Instant::now() + LINGER),
            (true, 0) => self.linger_until,
            _ => None,
        };
        let lingers = self.linger_until.is_some_and(|until| Instant::now() < until);
        let settings = self.leased.unwrap_or(wanted.settings);
        let line = config.source.has_line().then(|| RemoteLine::from(&settings));
        self.connects = !config.on_demand || users > 0 || lingers;
        let request = Request {
            connect: self.connects,
            at_once: std::mem::take(&mut self.at_once),
            line,
            dtr: wanted.modem.dtr.wanted(),
            rts: wanted.modem.rts.wanted(),
            report: self.leased.map(|_| self.last_report),
        };
        if let Err(error) = dialer.request(request) {
            tracing::warn!("{error}");
            self.close();
        }
    }

    /// Waits for an event of the dialer; `None` if a session has attached or detached, or an unused
    /// connection must be closed. Cancel safe.
    pub(super) async fn event(&mut self) -> Option<Result<DialerEvent, DialerError>> {
        let Self { dialer, attached, linger_until, .. } = self;
        let event = async {
            match dialer {
                Some(dialer) => dialer.event().await,
                None => std::future::pending().await,
            }
        };
        // A deadline that has passed has had its event.
        let lingered = reached(linger_until.filter(|until| Instant::now() < *until));
        tokio::select! {
            event = event => Some(event),
            () = lingered => None,
            Ok(()) = attached.changed() => None,
        }
    }

    /// Handles an event while the far end is connected. The stream reports the end of the connection, after
    /// the last byte.
    pub(super) fn served(
        &mut self,
        event: Option<Result<DialerEvent, DialerError>>,
        connection: &Connection,
        device: &mut Device,
    ) {
        match event {
            None => self.request(&device.wanted),
            Some(Ok(DialerEvent::Other(FromDialer::Modem(modem)))) => connection.set_modem(modem),
            Some(Ok(DialerEvent::Other(FromDialer::Line { report, line }))) => self.confirmed(report, line),
            Some(Ok(DialerEvent::Other(FromDialer::Remark(remark)))) => device.hub.report(remark),
            Some(Ok(DialerEvent::Disconnected { why, .. })) => device.disconnected_because(why),
            Some(Ok(DialerEvent::Connected(_) | DialerEvent::Other(_))) => {}
            Some(Err(error)) => {
                device.disconnected_because(error.to_string());
                self.close();
            }
        }
    }
}

/// Keys of the settings that differ.
fn differences(asked: &LineSettings, set: &LineSettings) -> Vec<&'static str> {
    let same = [
        ("baud", asked.baud == set.baud),
        ("bytesize", asked.bytesize == set.bytesize),
        ("parity", asked.parity == set.parity),
        ("stopbits", asked.stopbits == set.stopbits),
        ("rtscts", asked.rtscts == set.rtscts),
        ("xonxoff", asked.xonxoff == set.xonxoff),
    ];
    same.into_iter().filter_map(|(key, same)| (!same).then_some(key)).collect()
}

impl Line {
    /// Resumes with the descriptors of the previous process.
    pub(super) fn adopt(&mut self, mut stored: StoredLine) -> Option<Stream> {
        let Some(config) = self.device.wanted.source.clone() else {
            let (tty, levels) = (stored.tty.take(), stored.levels.take());
            stored.forget();
            let tty = tty.and_then(|tty| self.device.adopt(tty));
            self.restore_levels(levels, tty.as_ref());
            return tty;
        };
        if stored.tty.take().is_some() {
            systemd::forget("tty");
        }
        let adopted = stored.dialer.take().map(|socket| Dialer::adopt(socket, &config.unit, &config.source));
        let dialer = match adopted {
            Some(Ok(dialer)) => Arc::new(dialer),
            Some(Err(error)) => {
                tracing::warn!("the kept connection to the dialer cannot be used: {error}");
                systemd::forget(DIALER_STORED_AS);
                stored.forget();
                return None;
            }
            None => {
                stored.forget();
                return None;
            }
        };
        self.link.dialer = Some(dialer.clone());
        // Clients of the previous process reconnect.
        self.link.linger_until = Some(Instant::now() + LINGER);
        self.link.request(&self.device.wanted);
        match Connection::new(stored.stream.take()?, dialer) {
            Ok(connection) => {
                // The previous process may have been killed before it reported this.
                if let Err(error) = connection.dialer().stored() {
                    tracing::warn!("{error}");
                }
                self.device.opened();
                let stream = Stream::Source(connection);
                self.restore_levels(stored.levels.take(), Some(&stream));
                Some(stream)
            }
            Err(error) => {
                tracing::warn!("the kept stream cannot be used: {error}");
                systemd::forget(STREAM_STORED_AS);
                stored.forget();
                None
            }
        }
    }

    /// Ends the lease of a client of the previous process.
    fn restore_levels(&self, stored: Option<OwnedFd>, stream: Option<&Stream>) {
        let Some(stored) = stored else { return };
        match (Levels::read(stored), stream) {
            (Ok(levels), Some(stream)) => levels.restore(stream, &self.device.wanted),
            (Ok(_), None) => {}
            (Err(error), _) => tracing::warn!("DTR and RTS cannot be restored: {error}"),
        }
        systemd::forget(LEVELS_STORED_AS);
    }

    /// Waits for the far end. `None` if the line must end; `Some(None)` if the configuration has changed.
    pub(super) async fn connect(&mut self, config: &SourceConfig) -> Option<Option<Stream>> {
        loop {
            self.reach_dialer(config);
            self.link.request(&self.device.wanted);
            let retry = self.link.retry.filter(|_| self.link.dialer.is_none());
            tokio::select! {
                _ = &mut self.end => return None,
                event = self.link.event() => {
                    if let Some(event) = event
                        && let Some(stream) = self.connecting(event)
                    {
                        return Some(Some(stream));
                    }
                }
                () = reached(retry), if retry.is_some() => self.link.retry = None,
                Some(change) = self.changes.recv() => {
                    // A dialer of another source is closed before the next attempt.
                    self.device.take(change);
                    self.link.reconnect();
                    return Some(None);
                }
                Some(input) = self.inbox.input.recv() => drop::<Input>(input),
                Some(control) = self.inbox.control.recv() => {
                    if self.device.control(control, None) {
                        self.link.reconnect();
                    }
                }
            }
        }
    }

    /// Connects to the dialer, unless it is connected or the delay has not passed.
    fn reach_dialer(&mut self, config: &SourceConfig) {
        let link = &mut self.link;
        if link.dialer.as_ref().is_some_and(|dialer| *dialer.source() != config.source) {
            link.close();
            link.retry = None;
        }
        if link.dialer.is_some() || link.retry.is_some() {
            return;
        }
        match Dialer::connect(&config.socket, &config.unit, &config.source) {
            Ok(dialer) => {
                systemd::store_unpolled(DIALER_STORED_AS, dialer.as_fd());
                link.dialer = Some(Arc::new(dialer));
            }
            Err(error) => self.lost_dialer(&error),
        }
    }

    fn lost_dialer(&mut self, error: &DialerError) {
        let link = &mut self.link;
        link.close();
        link.retry = Some(Instant::now() + link.retry_after);
        link.retry_after = (link.retry_after * 2).min(RETRY_BACKOFF.1);
        self.device.gone = true;
        self.device.failed(error.to_string());
    }

    /// Handles an event while the far end is not connected.
    fn connecting(&mut self, event: Result<DialerEvent, DialerError>) -> Option<Stream> {
        match event {
            Ok(DialerEvent::Connected(connection)) => return self.connected(connection),
            Ok(DialerEvent::Disconnected { why, refused: true }) => {
                self.device.gone = true;
                self.device.failed(why);
            }
            Ok(DialerEvent::Disconnected { why, refused: false }) => self.device.not_connected(why),
            Ok(DialerEvent::Other(_)) => {}
            Err(error) => self.lost_dialer(&error),
        }
        None
    }

    /// Stores the stream in the FD store before the dialer may send, so that a kill loses none of its bytes.
    fn connected(&mut self, connection: Connection) -> Option<Stream> {
        systemd::store_unpolled(STREAM_STORED_AS, connection.as_fd());
        if let Err(error) = connection.dialer().stored() {
            systemd::forget(STREAM_STORED_AS);
            self.lost_dialer(&error);
            return None;
        }
        self.link.retry_after = RETRY_BACKOFF.0;
        self.device.connected(connection.dialer().source());
        Some(Stream::Source(connection))
    }

    pub(super) fn disconnected(&mut self) {
        let reported = self.device.end_reason.take();
        let reported = reported.or_else(|| self.link.dialer.as_ref().and_then(Dialer::reason));
        // A dialer that was killed reports nothing about the far end.
        let by_far_end = self.link.connects && self.link.dialer.is_some() && reported.is_some();
        self.device.disconnected(reported, by_far_end);
        if let Some(why) = self.device.attempt_failed.take() {
            self.device.not_connected(why);
        }
    }
}

impl Device {
    fn connected(&mut self, source: &Source) {
        let (received, _) = self.hub.traffic();
        self.trial.begin(self.gone, received, source, Instant::now());
        if !self.gone {
            tracing::info!(message_id = Event::Opened.id(), "{} connected to {source}", self.name);
        }
        self.answer(Vec::new());
        self.just_opened();
    }

    /// A connection that was made again counts.
    pub(super) fn reconnected(&mut self) {
        self.trial.succeed();
        self.gone = false;
        tracing::info!(message_id = Event::Plugged.id(), "{} reconnected", self.name);
        self.hub.note(format!("{} reconnected", self.name));
        if let Some(SourceConfig { source, .. }) = &self.wanted.source {
            tracing::info!(message_id = Event::Opened.id(), "{} connected to {source}", self.name);
        }
        self.opened();
    }

    /// The reason for the end of a connection whose stream has not ended yet. A later one is that of an attempt to connect again.
    fn disconnected_because(&mut self, why: String) {
        match &self.end_reason {
            None => self.end_reason = Some(why),
            Some(_) => self.attempt_failed = Some(why),
        }
    }

    /// `by_far_end`: not because the port has requested it or the dialer has ended.
    fn disconnected(&mut self, reported: Option<String>, by_far_end: bool) {
        let why = reported.unwrap_or_else(|| "console-dial has ended".to_owned());
        let (received, _) = self.hub.traffic();
        if !self.trial.end(by_far_end, received, Instant::now()) {
            return self.not_connected(why);
        }
        self.gone = true;
        tracing::info!(message_id = Event::Unplugged.id(), "{} disconnected: {why}", self.name);
        self.hub.note(format!("{} disconnected: {why}", self.name));
        self.hub.set_line(LineState::Disconnected(Timestamp::now(), why));
    }

    /// An attempt has failed. The log contains the first reason already.
    fn not_connected(&mut self, why: String) {
        self.gone = true;
        self.answer(vec![why.clone()]);
        let before = self.hub.line.borrow().clone();
        let (since, known) = match before {
            LineState::Disconnected(since, known) | LineState::OnTrial(since, known, _) => {
                (since, Some(known))
            }
            _ => (Timestamp::now(), None),
        };
        if known.as_ref() != Some(&why) {
            tracing::info!("{} is not connected: {why}", self.name);
        }
        let state = LineState::Disconnected(since, why);
        if *self.hub.line.borrow() != state {
            self.hub.set_line(state);
        }
    }
}
