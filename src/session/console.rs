//! What all sessions of a port share: its hub, its name and settings, who is attached, and whether it is closing.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};

use super::roster::{AttachedUser, SessionId, Notifications, Roster};
use crate::capture::reader::Reader;
use crate::config;
use crate::event::Event;
use crate::hub::Hub;
use crate::port::PortName;

/// How long a viewer may take to receive why its session is closed.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// A port as its sessions see it.
#[derive(Debug)]
pub struct Console {
    /// The port, which may get another name while people are here.
    name: watch::Sender<PortName>,
    /// `console@INSTANCE`, which keeps its name.
    unit: OnceLock<String>,
    /// Its hub.
    pub hub: Arc<Hub>,
    /// Its log.
    pub log: Reader,
    /// To search what it says for somebody's pattern: one at a time, as that may be long at it.
    pub searches: Arc<Semaphore>,
    settings: watch::Sender<config::Port>,
    roster: Mutex<Roster>,
    /// How many are attached, for the service's idle exit and STATUS.
    attached: watch::Sender<usize>,
    closing: watch::Sender<Option<String>>,
    ports: watch::Sender<PortList>,
    directory: OnceLock<Directory>,
    /// When this process has taken over from another one, which may have been killed and so has told its sessions nothing.
    took_over: OnceLock<Instant>,
    /// That older settings are in force than the configuration file should have, and why.
    stale: watch::Sender<Option<String>>,
}

/// So long after it, sessions are told: whoever was cut off comes back at once.
const RESTART_NOTICE_PERIOD: Duration = Duration::from_secs(60);

/// The ports of this machine, with their TCP ports.
pub type PortList = Vec<(PortName, Option<u16>)>;

/// For the configuration to be read. A disk that takes longer leaves a list as old as the last reload.
const DIRECTORY_TIMEOUT: Duration = Duration::from_secs(2);

type PortListFuture = Pin<Box<dyn Future<Output = Option<PortList>> + Send>>;

/// Looks which ports there are now; `None` if that cannot be told. (A port is reloaded for its own settings, not for those of others.)
pub struct Directory(Box<dyn Fn() -> PortListFuture + Send + Sync>);

impl Directory {
    /// One that looks so.
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
    /// The console of a port.
    pub fn new(name: PortName, hub: Arc<Hub>, log: Reader, settings: config::Port) -> Arc<Self> {
        let mut roster = Roster::default();
        roster.set_writers(settings.write);
        Arc::new(Self {
            name: watch::Sender::new(name),
            unit: OnceLock::new(),
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

    /// The port.
    pub fn name(&self) -> PortName {
        self.name.borrow().clone()
    }

    /// The port, and what it is called later.
    pub fn watch_name(&self) -> watch::Receiver<PortName> {
        self.name.subscribe()
    }

    /// The unit that the port runs in, where that has not its name. Said once.
    pub fn set_unit(&self, unit: String) {
        self.unit.get_or_init(|| unit);
    }

    /// What the journal knows the port by.
    fn unit(&self) -> String {
        self.unit.get().cloned().unwrap_or_else(|| format!("console@{}", self.name()))
    }

    /// The port is called otherwise from now on. Sessions stay, and are told; so is the log.
    pub fn rename(&self, name: PortName) {
        let before = self.name.send_replace(name.clone());
        let said = format!("{before} is now {name}");
        tracing::info!(message_id = Event::Applied.id(), "{said}");
        self.hub.note(said.clone());
        self.roster().notify_all(None, &said);
    }

    /// This process goes on where another one has ended.
    pub fn set_took_over(&self) {
        self.took_over.get_or_init(Instant::now);
    }

    /// That older settings are in force than the configuration file should have, in one line; STATUS, `consolectl status` and whoever
    /// comes are told.
    pub fn set_stale(&self, warning: Option<String>) {
        self.stale.send_replace(warning);
    }

    /// That, if it is so.
    pub fn stale(&self) -> watch::Receiver<Option<String>> {
        self.stale.subscribe()
    }

    /// What a session is told of a process that has taken over, for a minute.
    pub(super) fn restart_notice(&self) -> Option<String> {
        let ago = self.took_over.get()?.elapsed();
        (ago < RESTART_NOTICE_PERIOD).then(|| {
            let unit = self.unit();
            format!("this port was restarted {} s ago: journalctl -u {unit} says why", ago.as_secs())
        })
    }

    /// Who is attached.
    pub fn roster(&self) -> MutexGuard<'_, Roster> {
        // As in the hub: one panicking session must not end the others.
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The settings in force.
    pub fn settings(&self) -> config::Port {
        self.settings.borrow().clone()
    }

    /// The settings in force, and whenever they change.
    pub(super) fn watch_settings(&self) -> watch::Receiver<config::Port> {
        self.settings.subscribe()
    }

    /// Puts other settings in force.
    pub fn set_settings(&self, settings: config::Port) {
        self.roster().set_writers(settings.write);
        self.settings.send_replace(settings);
    }

    /// Where to look which ports there are. Said once.
    pub fn set_directory(&self, directory: Directory) {
        self.directory.get_or_init(|| directory);
    }

    /// The ports that this machine has now.
    pub async fn ports(&self) -> PortList {
        if let Some(Directory(look)) = self.directory.get()
            && let Ok(Some(now)) = tokio::time::timeout(DIRECTORY_TIMEOUT, look()).await
        {
            self.ports.send_replace(now);
        }
        self.ports.borrow().clone()
    }

    /// Which ports there are from now on.
    pub fn set_ports(&self, neighbours: PortList) {
        self.ports.send_replace(neighbours);
    }

    /// How many are attached.
    pub fn attached(&self) -> watch::Receiver<usize> {
        self.attached.subscribe()
    }

    /// Ends all sessions, saying why.
    pub fn close(&self, why: &str) {
        self.closing.send_replace(Some(why.to_owned()));
    }

    /// Why sessions are to end, once they are.
    pub fn closing(&self) -> watch::Receiver<Option<String>> {
        self.closing.subscribe()
    }

    /// Attaches somebody for as long as the membership is held.
    pub fn attach(self: &Arc<Self>, client: AttachedUser) -> (SessionGuard, Notifications) {
        tracing::info!(message_id = Event::Attach.id(), console_user = client.user, "{client} attached");
        let who = client.to_string();
        let mut roster = self.roster();
        let (id, notifications) = roster.attach(client);
        let role = if roster.writes(id) { "writing" } else { "watching" };
        drop(roster);
        self.hub.note(format!("{who} attached, {role}"));
        self.attached.send_modify(|count| *count += 1);
        (SessionGuard { console: self.clone(), id }, notifications)
    }

    fn detach(&self, id: SessionId) {
        let left = self.roster().detach(id);
        if let Some(client) = left {
            tracing::info!(message_id = Event::Detach.id(), console_user = client.user, "{client} left");
            self.hub.note(format!("{client} left"));
        }
        self.attached.send_modify(|count| *count -= 1);
    }
}

/// Waits until the port closes its sessions: why.
pub async fn closed(closing: &mut watch::Receiver<Option<String>>) -> String {
    match closing.wait_for(Option::is_some).await {
        Ok(why) => why.clone().unwrap_or_default(),
        Err(_) => "the port is gone".to_owned(),
    }
}

/// Somebody's place at the port. It ends when dropped, however the session ends: a connection that is gone or a panic must
/// not leave a writer behind that nobody is.
#[derive(Debug)]
pub struct SessionGuard {
    console: Arc<Console>,
    /// Whose.
    pub id: SessionId,
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.console.detach(self.id);
    }
}
