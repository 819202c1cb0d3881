//! The state that all sessions of a port share: hub, name, settings, attached sessions, and whether the port is shutting down.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};

use super::roster::{AttachedUser, Notifications, Roster, SessionId};
use crate::capture::reader::Reader;
use crate::config;
use crate::event::Event;
use crate::hub::{BreakRequest, Hub};
use crate::port::{BreakName, PortName};
use crate::system::lock::Lock;

/// Time for a client to receive the last notice of its session.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Console {
    /// It may change while sessions are attached.
    name: watch::Sender<PortName>,
    /// `console@INSTANCE`, which a rename does not change.
    unit: OnceLock<String>,
    /// The system bus is that of console-admin.
    bus: OnceLock<()>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) log: Reader,
    /// One search of the output for a user's pattern at a time, since a costly pattern takes long.
    pub searches: Arc<Semaphore>,
    settings: watch::Sender<config::Port>,
    roster: Mutex<Roster>,
    /// Number of sessions, for the service's idle exit and STATUS.
    attached: watch::Sender<usize>,
    closing: watch::Sender<Option<String>>,
    ports: watch::Sender<PackedPorts>,
    directory: OnceLock<Directory>,
    /// When this process continued the port of another one that ended, possibly killed without a notice to its sessions.
    took_over: OnceLock<Instant>,
    /// Why older settings are in effect than those in the configuration file.
    stale: watch::Sender<Option<String>>,
}

/// For this long after a restart, new sessions are notified of it: a client that was cut off reconnects at once.
const RESTART_NOTICE_PERIOD: Duration = Duration::from_secs(60);

/// The ports of this machine, with their TCP ports.
pub type PortList = Vec<(PortName, Option<u16>)>;

/// A list of ports in one allocation. Of a list, each name would keep a page of the heap in which the configuration was read: 0.8 MB in
/// each process of 200 ports.
#[derive(Debug, Default)]
pub(crate) struct PackedPorts(Box<str>);

impl PackedPorts {
    pub(crate) fn pack(ports: &PortList) -> Self {
        let line = |(name, tcp): &(PortName, Option<u16>)| match tcp {
            Some(tcp) => format!("{name} {tcp}\n"),
            None => format!("{name}\n"),
        };
        Self(ports.iter().map(line).collect::<String>().into())
    }

    fn unpack(&self) -> PortList {
        let port = |line: &str| {
            let (name, tcp) = line.split_once(' ').unwrap_or((line, ""));
            Some((name.parse().ok()?, tcp.parse().ok()))
        };
        self.0.lines().filter_map(port).collect()
    }
}

/// Timeout of reading the configuration. If it expires, the list of the last reload is used.
const DIRECTORY_TIMEOUT: Duration = Duration::from_secs(2);

type PortListFuture = Pin<Box<dyn Future<Output = Option<PortList>> + Send>>;

/// Reads the list of ports; `None` if that fails. (A port is reloaded for its own settings, not for those of others.)
pub struct Directory(Box<dyn Fn() -> PortListFuture + Send + Sync>);

impl Directory {
    /// A directory that calls `look`.
    pub fn new<F>(look: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Option<PortList>> + Send + 'static,
    {
        Self(Box::new(move || Box::pin(look())))
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Directory")
    }
}

impl Console {
    pub(crate) fn new(name: PortName, hub: Arc<Hub>, log: Reader, settings: config::Port) -> Arc<Self> {
        let mut roster = Roster::default();
        roster.set_writers(settings.write);
        Arc::new(Self {
            name: watch::Sender::new(name),
            unit: OnceLock::new(),
            bus: OnceLock::new(),
            hub,
            log,
            searches: Arc::new(Semaphore::new(1)),
            roster: Mutex::new(roster),
            settings: watch::Sender::new(settings),
            attached: watch::Sender::new(0),
            closing: watch::Sender::new(None),
            ports: watch::Sender::default(),
            directory: OnceLock::new(),
            took_over: OnceLock::new(),
            stale: watch::Sender::new(None),
        })
    }

    pub(crate) fn name(&self) -> PortName {
        self.name.borrow().clone()
    }

    /// The port's name, and its later ones.
    pub fn watch_name(&self) -> watch::Receiver<PortName> {
        self.name.subscribe()
    }

    /// Sets the unit that the port runs in, if it is not named after the port. Only the first call counts.
    pub fn set_unit(&self, unit: String) {
        self.unit.get_or_init(|| unit);
    }

    /// The unit, for journalctl.
    fn unit(&self) -> String {
        self.unit.get().cloned().unwrap_or_else(|| format!("console@{}", self.name()))
    }

    /// Renames the port. Sessions stay; they are notified, and the log gets a note.
    pub fn rename(&self, name: PortName) {
        let before = self.name.send_replace(name.clone());
        let notice = format!("{before} was renamed to {name}");
        tracing::info!(message_id = Event::Applied.id(), "{notice}");
        self.hub.note(notice.clone());
        self.roster().notify_all(None, &notice);
    }

    /// This process continues the port of another one that ended.
    pub fn set_took_over(&self) {
        self.took_over.get_or_init(Instant::now);
    }

    /// Sets why older settings are in effect than those in the configuration file, in one line for STATUS, `consolectl status` and new
    /// sessions.
    pub fn set_stale(&self, warning: Option<String>) {
        self.stale.send_replace(warning);
    }

    pub(crate) fn stale(&self) -> watch::Receiver<Option<String>> {
        self.stale.subscribe()
    }

    /// The notice that the port was restarted less than a minute ago.
    pub(super) fn restart_notice(&self) -> Option<String> {
        let ago = self.took_over.get()?.elapsed();
        (ago < RESTART_NOTICE_PERIOD).then(|| {
            let unit = self.unit();
            format!(
                "this port was restarted {} s ago; for the reason see journalctl -u {unit}",
                ago.as_secs()
            )
        })
    }

    pub(crate) fn roster(&self) -> MutexGuard<'_, Roster> {
        // As in the hub: one panicking session must not end the others.
        self.roster.locked()
    }

    pub(crate) fn settings(&self) -> config::Port {
        self.settings.borrow().clone()
    }

    /// A break of this length, or the one of this name; otherwise the reason why there is none.
    pub(crate) fn break_request(
        &self,
        length: Duration,
        name: Option<&BreakName>,
    ) -> Result<(BreakRequest, String), String> {
        let settings = self.settings();
        match name {
            Some(name) => match settings.breaks.by_name(name) {
                Some(sequence) => {
                    Ok((BreakRequest { length, sequence: Some(sequence.clone()) }, format!("break {name}")))
                }
                None => Err(match settings.breaks.names().as_str() {
                    "" => format!("{} has no break {name}: its key `breaks` is empty", self.name()),
                    names => format!("{} has no break {name}: its breaks are {names}", self.name()),
                }),
            },
            None if settings.break_sequence.is_serial_break() => {
                Ok((length.into(), format!("break of {} ms", length.as_millis())))
            }
            None => Ok((length.into(), format!("break {}", settings.break_sequence))),
        }
    }

    pub(crate) fn watch_settings(&self) -> watch::Receiver<config::Port> {
        self.settings.subscribe()
    }

    pub(crate) fn set_settings(&self, settings: config::Port) {
        self.roster().set_writers(settings.write);
        self.settings.send_replace(settings);
    }

    /// The port may call console-admin.
    pub fn set_bus(&self) {
        self.bus.get_or_init(|| ());
    }

    /// Whether it may.
    pub(super) fn has_bus(&self) -> bool {
        self.bus.get().is_some()
    }

    /// Sets how to read the list of ports. Only the first call counts.
    pub fn set_directory(&self, directory: Directory) {
        self.directory.get_or_init(|| directory);
    }

    pub async fn ports(&self) -> PortList {
        if let Some(Directory(look)) = self.directory.get()
            && let Ok(Some(now)) = tokio::time::timeout(DIRECTORY_TIMEOUT, look()).await
        {
            self.ports.send_replace(PackedPorts::pack(&now));
        }
        self.ports.borrow().unpack()
    }

    pub(crate) fn set_ports(&self, neighbours: PackedPorts) {
        self.ports.send_replace(neighbours);
    }

    pub fn attached(&self) -> watch::Receiver<usize> {
        self.attached.subscribe()
    }

    /// Ends all sessions with this notice.
    pub fn close(&self, why: &str) {
        self.closing.send_replace(Some(why.to_owned()));
    }

    /// The reason, once sessions are to end.
    pub fn closing(&self) -> watch::Receiver<Option<String>> {
        self.closing.subscribe()
    }

    /// Attaches a session until the guard is dropped.
    pub fn attach(self: &Arc<Self>, client: AttachedUser) -> (SessionGuard, Notifications) {
        tracing::info!(message_id = Event::Attach.id(), console_user = client.user, "{client} attached");
        let user = client.to_string();
        let mut roster = self.roster();
        let (id, notifications) = roster.attach(client);
        let role = if roster.writes(id) { "read-write" } else { "read-only" };
        drop(roster);
        self.hub.note(format!("{user} attached, {role}"));
        self.attached.send_modify(|count| *count += 1);
        (SessionGuard { console: self.clone(), id }, notifications)
    }

    fn detach(&self, id: SessionId) {
        let left = self.roster().detach(id);
        if let Some(client) = left {
            tracing::info!(message_id = Event::Detach.id(), console_user = client.user, "{client} detached");
            self.hub.note(format!("{client} detached"));
        }
        self.attached.send_modify(|count| *count -= 1);
    }
}

/// Waits until the port closes its sessions. Returns the reason.
pub async fn closed(closing: &mut watch::Receiver<Option<String>>) -> String {
    match closing.wait_for(Option::is_some).await {
        Ok(why) => why.clone().unwrap_or_default(),
        Err(_) => "the port is shutting down".to_owned(),
    }
}

/// Detaches the session when dropped, however it ends: a lost connection or a panic must not leave write access taken.
#[derive(Debug)]
pub struct SessionGuard {
    console: Arc<Console>,
    pub(crate) id: SessionId,
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.console.detach(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_list_of_ports_is_the_list() {
        for ports in
            [vec![], vec![("ttyUSB0".parse().unwrap(), Some(8023)), ("rack1-02_b".parse().unwrap(), None)]]
        {
            assert_eq!(PackedPorts::pack(&ports).unpack(), ports);
        }
    }
}
