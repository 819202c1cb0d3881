//! `console-admin`: keeps the objects on the bus in step with the ports, rolls back a commit at its
//! deadline, and exits when idle.

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

/// Exit after this time without a call.
const IDLE_EXIT_DELAY: Duration = Duration::from_secs(60);
/// Interval of checks while a commit waits: timers do not include suspend.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Time between two attempts at a rollback.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// Time for polkit, systemd or the bus to reply; jobs of systemd have their own timeout.
const REPLY_TIMEOUT: Duration = Duration::from_secs(90);
/// Time for calls in progress when the service is stopped: the restarts of a reload, bounded each, rarely take
/// as long.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug, Error)]
pub enum ServiceError {
    #[error("the system bus: {0}")]
    Bus(#[from] zbus::Error),
    #[error("{BUS_NAME} on the system bus: {0}")]
    Name(fdo::Error),
    #[error("{0}: {1}")]
    System(&'static str, std::io::Error),
}

pub struct Shared {
    /// The state and the means to change it.
    pub core: Core,
    pub authorizer: Authorizer,
    objects: tokio::sync::Mutex<BTreeSet<PortName>>,
    calls: AtomicUsize,
    started: Instant,
    last_call: AtomicU64,
    changed: Notify,
}

pub struct Busy<'h>(&'h Shared);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.note();
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
        self.0.changed.notify_waiters();
    }
}

impl Shared {
    /// A call begins; it ends when the result is dropped.
    pub fn busy(&self) -> Busy<'_> {
        self.note();
        self.calls.fetch_add(1, Ordering::Relaxed);
        Busy(self)
    }

    fn note(&self) {
        let since = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_call.store(since, Ordering::Relaxed);
    }

    /// When the service will have been idle for [`IDLE_EXIT_DELAY`]; `None` while a call is in progress or
    /// a commit waits.
    fn idle_at(&self) -> Option<Instant> {
        let last = self.started + Duration::from_millis(self.last_call.load(Ordering::Relaxed));
        (self.calls.load(Ordering::Relaxed) == 0 && self.core.waiting().is_none())
            .then_some(last + IDLE_EXIT_DELAY)
    }

    pub fn deadline_changed(&self) {
        self.changed.notify_waiters();
    }

    /// Keeps one object for each port. Must not be called while a property is written: that locks the tree.
    pub async fn keep_objects(self: &Arc<Self>, server: &ObjectServer) {
        let mut objects = self.objects.lock().await;
        let expected: BTreeSet<PortName> = self.core.state().ports().into_iter().cloned().collect();
        for port in expected.difference(&objects.clone()) {
            let object = Guarded::new(Port::new(self.clone(), port.clone()), self.clone());
            match server.at(port_path(port), object).await {
                Ok(_) => drop(objects.insert(port.clone())),
                Err(error) => {
                    tracing::error!(console_port = %port, "{port} has no object on the bus: {error}")
                }
            }
        }
        for port in objects.clone().difference(&expected) {
            match server.remove::<Guarded<Port>, _>(port_path(port)).await {
                Ok(_) => drop(objects.remove(port)),
                Err(error) => {
                    tracing::error!(console_port = %port, "{port} still has an object on the bus: {error}")
                }
            }
        }
    }
}

/// Serves until idle.
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
        started: Instant::now(),
        last_call: AtomicU64::new(0),
        changed: Notify::new(),
    });
    shared.core.finish().await;
    // A commit whose deadline is of an earlier boot is rolled back before it can be confirmed.
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
            // A failed rollback, on a full disk for example, is retried.
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

/// Releases the name first, so that the next call activates a new service. Earlier calls are completed.
async fn leave(connection: &Connection, shared: &Shared) {
    if let Err(error) = connection.release_name(BUS_NAME).await {
        tracing::warn!("cannot release {BUS_NAME}: {error}");
    }
    let answered = async {
        loop {
            let changed = shared.changed.notified();
            // Messages that the bus sent before it released the name are in the socket: one iteration for
            // each.
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
        tracing::error!("a call timed out after {} s", DRAIN_TIMEOUT.as_secs());
    }
}
