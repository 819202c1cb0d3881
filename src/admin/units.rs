//! Calls to systemd (org.freedesktop.systemd1(5)): start, stop and restart units, daemon-reload, list active
//! ports. A polkit rule allows `_console-admin` this for its own units only.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use thiserror::Error;
use zbus::Connection;
use zbus::proxy::CacheProperties;

use super::apply::Step;
use crate::port::PortName;
use crate::system::systemd::bus::{ManagerProxy, UnitProxy};

/// Time for one job: a port takes at most 15 s to stop, and as long again for its socket; a start waits for the
/// device's driver.
const JOB_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for a reply, and for generators to run: systemd limits these to 90 s.
const REPLY_TIMEOUT: Duration = Duration::from_secs(100);

/// A failed call to systemd.
#[derive(Debug, Error)]
pub enum UnitsError {
    #[error("systemd denied {0}: {1}")]
    Denied(String, String),
    #[error("{0} failed: {1}")]
    Failed(String, String),
    #[error("{what} timed out after {n} s", n = .limit.as_secs())]
    Slow { what: String, limit: Duration },
    #[error("{0}: {1}")]
    Bus(String, zbus::Error),
}

impl UnitsError {
    /// Whether polkit denied it, so that nothing was done.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Denied(..))
    }

    fn of(what: &str, error: zbus::Error) -> Self {
        match &error {
            zbus::Error::MethodError(name, printed, _) => {
                let printed = printed.clone().unwrap_or_else(|| name.to_string());
                let denied = ["AccessDenied", "InteractiveAuthorizationRequired", "AuthFailed"];
                // If polkit cannot be asked, the error has the name of polkit's own failure.
                match denied.iter().any(|end| name.as_str().ends_with(end)) || printed.contains("polkit") {
                    true => Self::Denied(what.to_owned(), printed),
                    false => Self::Failed(what.to_owned(), printed),
                }
            }
            _ => Self::Bus(what.to_owned(), error),
        }
    }
}

/// Result of a start that is not waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    Started,
    /// The unit is still running since an earlier start.
    StillRuns,
}

/// A unit that systemd has loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitState {
    pub name: String,
    /// `active`, `inactive`, `failed`, `activating`, …
    pub active: String,
}

#[derive(Debug, Clone)]
pub struct Units(ManagerProxy<'static>);

impl Units {
    pub async fn new(bus: &Connection) -> zbus::Result<Self> {
        let proxy = ManagerProxy::builder(bus).cache_properties(CacheProperties::No);
        Ok(Self(proxy.build().await?))
    }

    pub async fn daemon_reload(&self) -> Result<(), UnitsError> {
        reply("systemctl daemon-reload", self.0.reload()).await
    }

    pub async fn step(&self, step: &Step) -> Result<(), UnitsError> {
        self.step_within(step, JOB_TIMEOUT).await
    }

    /// Does the same with a longer limit, for a slow unit.
    pub async fn step_within(&self, step: &Step, limit: Duration) -> Result<(), UnitsError> {
        let what = step.to_string();
        bounded(&what, limit, self.job(&what, step)).await?
    }

    /// Starts a unit without waiting for its end, which may take any time. A unit that is still running is
    /// left alone: systemd would report success and start nothing.
    pub async fn begin(&self, unit: &str) -> Result<Begun, UnitsError> {
        let what = format!("systemctl start --no-block {unit}");
        let patterns = [unit];
        let running = self.0.list_units_by_patterns(&["active", "activating", "reloading"], &patterns);
        if !reply(&what, running).await?.is_empty() {
            return Ok(Begun::StillRuns);
        }
        reply(&what, self.0.start_unit(unit, "replace")).await.map(|_| Begun::Started)
    }

    async fn job(&self, what: &str, step: &Step) -> Result<(), UnitsError> {
        let of = |error| UnitsError::of(what, error);
        // Subscribed before the call: a job may end before its number is known.
        let mut ended = self.0.receive_job_removed().await.map_err(of)?;
        self.0.subscribe().await.or_else(already).map_err(of)?;
        let begin = async {
            match step {
                Step::Start(unit) => self.0.start_unit(unit, "replace").await.map(Some),
                Step::Stop(unit) => match self.0.stop_unit(unit, "replace").await {
                    // A unit that systemd does not know is not running.
                    Err(zbus::Error::MethodError(name, ..)) if name.as_str().ends_with(".NoSuchUnit") => {
                        Ok(None)
                    }
                    job => job.map(Some),
                },
                Step::Restart(unit) => self.0.restart_unit(unit, "replace").await.map(Some),
            }
        };
        // Signals are read while waiting for the reply, which polkit may delay: zbus stops reading, replies
        // included, after 64 queued signals.
        let (mut begin, mut early) = (pin!(begin), Vec::new());
        let job = loop {
            tokio::select! {
                job = &mut begin => match job.map_err(of)? {
                    Some(job) => break job,
                    None => return Ok(()),
                },
                Some(signal) = ended.next() => early.push(signal),
            }
        };
        let mut ended = stream::iter(early).chain(ended);
        while let Some(signal) = ended.next().await {
            let end = signal.args().map_err(of)?;
            if *end.job() == *job {
                return match *end.result() {
                    "done" => Ok(()),
                    result => Err(UnitsError::Failed(
                        what.to_owned(),
                        format!("{result}; see systemctl status {}", step.unit()),
                    )),
                };
            }
        }
        Err(UnitsError::Failed(what.to_owned(), "the connection to the bus was closed".to_owned()))
    }

    /// Instances of the ports whose service is active or activating.
    pub async fn active(&self) -> Result<BTreeSet<PortName>, UnitsError> {
        self.ports_of(&["active", "activating", "reloading", "deactivating"], &["console@*.service"]).await
    }

    /// Instances of the ports with an active socket.
    pub async fn open(&self) -> Result<BTreeSet<PortName>, UnitsError> {
        self.ports_of(&["active"], &["console@*.socket", "console-attach@*.socket"]).await
    }

    /// Instances of the ports whose local socket is loaded and was never active. (That of a port that was stopped stays loaded, since the
    /// target wants it, with the time of its stop.)
    pub async fn never_started(&self) -> Result<BTreeSet<PortName>, UnitsError> {
        let what = "systemctl list-units --state=inactive console-attach@*.socket";
        let mut found = BTreeSet::new();
        // While the target is stopped, so are all ports.
        if self.loaded(&["consoleserver.target"]).await?.iter().all(|unit| unit.active != "active") {
            return Ok(found);
        }
        let listed =
            reply(what, self.0.list_units_by_patterns(&["inactive"], &["console-attach@*.socket"])).await?;
        for row in listed.into_iter().filter(|row| row.2 == "loaded") {
            let unit = UnitProxy::builder(self.0.inner().connection())
                .path(row.6)
                .cache_properties(CacheProperties::No);
            let unit = unit.build().await.map_err(|error| UnitsError::of(what, error))?;
            let stopped = bounded(what, REPLY_TIMEOUT, unit.inactive_enter_timestamp_monotonic()).await?;
            if stopped.is_ok_and(|time| time == 0) {
                found.extend(PortName::of_unit(&row.0));
            }
        }
        Ok(found)
    }

    /// Loaded units with these names, in any state.
    pub async fn loaded(&self, patterns: &[&str]) -> Result<Vec<UnitState>, UnitsError> {
        let what = format!("systemctl list-units --all {}", patterns.join(" "));
        let listed = reply(&what, self.0.list_units_by_patterns(&["loaded"], patterns)).await?;
        Ok(listed.into_iter().map(|row| UnitState { name: row.0, active: row.3 }).collect())
    }

    async fn ports_of(&self, states: &[&str], patterns: &[&str]) -> Result<BTreeSet<PortName>, UnitsError> {
        let what = format!("systemctl list-units {}", patterns.join(" "));
        let listed = reply(&what, self.0.list_units_by_patterns(states, patterns)).await?;
        Ok(listed.into_iter().filter_map(|row| PortName::of_unit(&row.0)).collect())
    }
}

/// An existing subscription is not an error.
fn already(error: zbus::Error) -> zbus::Result<()> {
    match &error {
        zbus::Error::MethodError(name, ..) if name.as_str().ends_with(".AlreadySubscribed") => Ok(()),
        _ => Err(error),
    }
}

async fn bounded<T>(what: &str, limit: Duration, doing: impl Future<Output = T>) -> Result<T, UnitsError> {
    tokio::time::timeout(limit, doing).await.map_err(|_| UnitsError::Slow { what: what.to_owned(), limit })
}

/// systemd's reply to a call that starts no job.
async fn reply<T>(what: &str, call: impl Future<Output = zbus::Result<T>>) -> Result<T, UnitsError> {
    bounded(what, REPLY_TIMEOUT, call).await?.map_err(|error| UnitsError::of(what, error))
}
