//! Whether systemd restarts or stops this service when it ends (`man org.freedesktop.systemd1`).

use std::time::Duration;

use zbus::Connection;
use zbus::proxy::CacheProperties;

use super::bus::{JobProxy, ManagerProxy, UnitProxy};

/// Time for three queries to systemd. Sessions wait for the reply, and systemd kills the service 15 s after its SIGTERM.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// The sentence that ends the sessions of `service`. A service that systemd restarts is back immediately and its listeners never
/// close, so that a client may log in again. SIGTERM is the same for a restart and a stop; only the unit's job distinguishes them. If
/// systemd or the bus does not reply, the sentence is shorter.
pub async fn farewell(service: &str) -> String {
    let restarting = match tokio::time::timeout(ANSWER_TIMEOUT, is_restart()).await {
        Ok(Ok(restart)) => restart,
        Ok(Err(error)) => {
            tracing::info!("systemd did not report whether this is a restart: {error}");
            false
        }
        Err(_) => {
            tracing::info!(
                "systemd did not report within {} ms whether this is a restart",
                ANSWER_TIMEOUT.as_millis()
            );
            false
        }
    };
    match restarting {
        true => format!("{service} is restarting, log in again"),
        false => format!("{service} is stopping"),
    }
}

/// Whether the job of this process's unit is a restart. It stays one until the process has ended.
async fn is_restart() -> zbus::Result<bool> {
    let bus = Connection::system().await?;
    let unit = ManagerProxy::new(&bus).await?.get_unit_by_pid(std::process::id()).await?;
    let unit = UnitProxy::builder(&bus).path(unit).cache_properties(CacheProperties::No).build().await?;
    let (number, job) = unit.job().await?;
    if number == 0 {
        return Ok(false);
    }
    let job = JobProxy::builder(&bus).path(job).cache_properties(CacheProperties::No).build().await?;
    Ok(job.job_type().await?.ends_with("restart"))
}
