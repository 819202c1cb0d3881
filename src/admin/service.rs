//! `console-admin`: the objects on the bus, kept in step with the ports that there are; the deadline of a commit that waits; and
//! leaving when nobody needs it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::Instant;
use zbus::{Connection, ObjectServer, fdo};

use super::act::emitter;
use super::authorization::Authorizer;
use super::bus::{BUS_NAME, OBJECT_PATH, port_path};
use super::core::Core;
use super::files::Files;
use super::guarded::Guarded;
use super::live::Live;
use super::manager::Manager;
use super::port::Port;
use super::units::Units;
use super::watcher::Watcher;
use crate::port::PortName;
use crate::system::systemd;

/// Without a call for so long, nobody needs us.
const IDLE_EXIT_DELAY: Duration = Duration::from_secs(60);
/// How often the clock is looked at while a commit waits: a machine that slept in between does not tell.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Between two tries at a rollback.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// For polkit, systemd or the bus to answer; a job of systemd's has a limit of its own.
const REPLY_TIMEOUT: Duration = Duration::from_secs(90);
/// For calls that run as the service is stopped: a reload's restarts, bounded each, seldom take as long.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);

/// Why there is no administration.
#[derive(Debug, Error)]
pub enum ServiceError {
    /// No bus.
    #[error("the system bus: {0}")]
    Bus(#[from] zbus::Error),
    /// Somebody has our name.
    #[error("{BUS_NAME} on the system bus: {0}")]
    Name(fdo::Error),
    /// Signals, the runtime.
    #[error("{0}: {1}")]
    System(&'static str, std::io::Error),
}

/// What all objects share.
pub struct Shared {
    /// Does the work.
    pub core: Core,
    /// Decides who may.
    pub authorizer: Authorizer,
    /// Ports that have an object.
    objects: tokio::sync::Mutex<BTreeSet<PortName>>,
    calls: AtomicUsize,
    begun: Instant,
    last_call: AtomicU64,
    changed: Notify,
}

/// A call that runs.
pub struct Busy<'h>(&'h Shared);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.note();
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
        self.0.changed.notify_waiters();
    }
}

impl Shared {
    /// A call begins; it ends with what is returned.
    pub fn busy(&self) -> Busy<'_> {
        self.note();
        self.calls.fetch_add(1, Ordering::Relaxed);
        Busy(self)
    }

    fn note(&self) {
        let since = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_call.store(since, Ordering::Relaxed);
    }

    /// When nobody will have called for [`IDLE_EXIT_DELAY`]; `None` while somebody does, or a commit waits.
    fn idle_at(&self) -> Option<Instant> {
        let last = self.begun + Duration::from_millis(self.last_call.load(Ordering::Relaxed));
        (self.calls.load(Ordering::Relaxed) == 0 && self.core.waiting().is_none())
            .then_some(last + IDLE_EXIT_DELAY)
    }

    /// A deadline is new.
    pub fn look_at_the_clock(&self) {
        self.changed.notify_waiters();
    }

    /// An object for each port that there is, and no other. Not to be called while a property is being written: that holds the tree.
    pub async fn keep_objects(self: &Arc<Self>, server: &ObjectServer) {
        let mut objects = self.objects.lock().await;
        let wanted: BTreeSet<PortName> = self.core.state().ports().into_iter().cloned().collect();
        for port in wanted.difference(&objects.clone()) {
            let object = Guarded::new(Port::new(self.clone(), port.clone()), self.clone());
            match server.at(port_path(port), object).await {
                Ok(_) => drop(objects.insert(port.clone())),
                Err(error) => {
                    tracing::error!(console_port = %port, "{port} has no object on the bus: {error}")
                }
            }
        }
        for port in objects.clone().difference(&wanted) {
            match server.remove::<Guarded<Port>, _>(port_path(port)).await {
                Ok(_) => drop(objects.remove(port)),
                Err(error) => {
                    tracing::error!(console_port = %port, "{port} still has an object on the bus: {error}")
                }
            }
        }
    }
}

/// Serves until nobody needs it.
pub fn run(root: PathBuf) -> Result<(), ServiceError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| ServiceError::System("no runtime", error))?;
    runtime.block_on(serve(root))
}

async fn serve(root: PathBuf) -> Result<(), ServiceError> {
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|error| ServiceError::System("signals", error))?;
    let connection = zbus::connection::Builder::system().method_timeout(REPLY_TIMEOUT).build().await?;
    let units = Units::new(&connection).await?;
    let runtime_dir =
        root.join(systemd::runtime_directory().strip_prefix("/").unwrap_or(&systemd::runtime_directory()));
    let live = Live::new(runtime_dir, units.clone());
    let shared = Arc::new(Shared {
        core: Core::new(Files { root }, units, live, emitter(&connection)?),
        authorizer: Authorizer::new(&connection).await?,
        objects: tokio::sync::Mutex::default(),
        calls: AtomicUsize::new(0),
        begun: Instant::now(),
        last_call: AtomicU64::new(0),
        changed: Notify::new(),
    });
    shared.core.finish().await;
    // A commit that a reboot has overtaken goes back before anybody can confirm it.
    shared.core.expire().await;
    let server = connection.object_server();
    server.at(OBJECT_PATH, Guarded::new(Manager(shared.clone()), shared.clone())).await?;
    server.at(OBJECT_PATH, Guarded::new(Watcher::new(shared.clone()), shared.clone())).await?;
    server.at(OBJECT_PATH, Guarded::new(fdo::ObjectManager, shared.clone())).await?;
    shared.keep_objects(server).await;
    connection.request_name(BUS_NAME).await?;

    let mut tried: Option<Instant> = None;
    loop {
        let changed = shared.changed.notified();
        let idle = shared.idle_at();
        let waits = shared.core.waiting().map(|waiting| match waiting.left() {
            // A rollback that has failed, on a disk that is full say, is tried again.
            0 => tried.map_or_else(Instant::now, |tried| tried + RETRY_INTERVAL),
            left => Instant::now() + Duration::from_secs(left).min(CHECK_INTERVAL),
        });
        tokio::select! {
            () = changed => {}
            () = crate::system::clock::reached(waits) => {
                shared.core.expire().await;
                tried = Some(Instant::now());
                shared.keep_objects(server).await;
            }
            () = crate::system::clock::reached(idle) => {
                if shared.idle_at().is_some_and(|at| at <= Instant::now()) {
                    break;
                }
            }
            _ = terminate.recv() => break,
        }
    }
    leave(&connection, &shared).await;
    Ok(())
}

/// Gives the name back first: the next call starts the next service. Calls that have come before are answered.
async fn leave(connection: &Connection, shared: &Shared) {
    if let Err(error) = connection.release_name(BUS_NAME).await {
        tracing::warn!("{BUS_NAME} cannot be given back: {error}");
    }
    let answered = async {
        loop {
            let changed = shared.changed.notified();
            // What the bus had sent before it took the name back lies in the socket: one turn of the loop for each message.
            let quiet = tokio::time::timeout(Duration::from_millis(100), connection.monitor_activity())
                .await
                .is_err();
            if quiet && shared.calls.load(Ordering::Relaxed) == 0 {
                return;
            }
            if quiet {
                changed.await;
            }
        }
    };
    if tokio::time::timeout(DRAIN_TIMEOUT, answered).await.is_err() {
        tracing::error!("a call has not ended within {} s", DRAIN_TIMEOUT.as_secs());
    }
}
