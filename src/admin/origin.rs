//! Where a call comes from: the address behind it and its session, for the audit trail. Neither is taken from the caller. systemd says
//! which unit the calling process is in (`GetUnitByPID`, by the process id that the bus has from the kernel). A session of `ssh -p 8022` is a unit
//! of its own, and its STATUS, which only console-auth can set (NotifyAccess=main), has the address; of a login session, logind knows it.

use std::time::Duration;

use zbus::proxy::CacheProperties;
use zbus::{Connection, OwnedObjectPath};

use crate::auth::status::whose;

/// For systemd and logind to answer, together. A change is made without an answer, too.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// Characters of an address or of a unit's name that are kept: systemd's names have at most 255.
const MAX_NAME_CHARS: usize = 255;

/// Units of sessions of the admin CLI.
const ADMIN_SESSION: &str = "console-auth-cli@";

/// Where somebody calls from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// An address; the terminal of a local login; or `local`.
    pub from: String,
    /// The unit that the calling process is in: `console-auth-cli@….service`, `session-3.scope`. Empty if systemd does not say.
    pub session: String,
}

impl Origin {
    /// On this machine, nothing more is known.
    pub fn local() -> Self {
        Self { from: "local".to_owned(), session: String::new() }
    }
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Units {
    #[zbus(name = "GetUnitByPID", no_autostart)]
    fn unit_by_pid(&self, pid: u32) -> zbus::Result<OwnedObjectPath>;
}

#[zbus::proxy(interface = "org.freedesktop.systemd1.Unit", default_service = "org.freedesktop.systemd1")]
trait Unit {
    #[zbus(property)]
    fn id(&self) -> zbus::Result<String>;
}

#[zbus::proxy(interface = "org.freedesktop.systemd1.Service", default_service = "org.freedesktop.systemd1")]
trait Service {
    #[zbus(property)]
    fn status_text(&self) -> zbus::Result<String>;
}

#[zbus::proxy(
    interface = "org.freedesktop.login1.Manager",
    default_service = "org.freedesktop.login1",
    default_path = "/org/freedesktop/login1"
)]
trait Logins {
    #[zbus(no_autostart)]
    fn get_session(&self, id: &str) -> zbus::Result<OwnedObjectPath>;
}

#[zbus::proxy(interface = "org.freedesktop.login1.Session", default_service = "org.freedesktop.login1")]
trait Session {
    #[zbus(property)]
    fn remote_host(&self) -> zbus::Result<String>;
    #[zbus(property, name = "TTY")]
    fn tty(&self) -> zbus::Result<String>;
}

/// Where `user` calls from, whose process has this id. What nobody knows is left out.
pub async fn origin(bus: &Connection, pid: u32, user: &str) -> Origin {
    let mut origin = Origin::local();
    let asked = async {
        let units = UnitsProxy::builder(bus).cache_properties(CacheProperties::No).build().await?;
        let path = units.unit_by_pid(pid).await?;
        let unit = UnitProxy::builder(bus).path(&path).cache_properties(CacheProperties::No).build().await?;
        origin.session = bounded(&unit.id().await?);
        let from = match origin.session.strip_prefix("session-").and_then(|unit| unit.strip_suffix(".scope"))
        {
            Some(id) => login(bus, id).await?,
            None if origin.session.starts_with(ADMIN_SESSION) => {
                let service = ServiceProxy::builder(bus).path(&path).cache_properties(CacheProperties::No);
                // Of another user, it is about another process that has got the id since.
                whose(&service.build().await?.status_text().await?, user).map(str::to_owned)
            }
            None => None,
        };
        if let Some(from) = from.filter(|from| !from.is_empty()) {
            origin.from = bounded(&from);
        }
        zbus::Result::Ok(())
    };
    match tokio::time::timeout(LOOKUP_TIMEOUT, asked).await {
        // Without an answer nothing is known, and that is no fault of the change.
        Ok(Ok(()) | Err(_)) | Err(_) => origin,
    }
}

/// The address of a login session, or its terminal.
async fn login(bus: &Connection, id: &str) -> zbus::Result<Option<String>> {
    let logins = LoginsProxy::builder(bus).cache_properties(CacheProperties::No).build().await?;
    let path = logins.get_session(id).await?;
    let session = SessionProxy::builder(bus).path(path).cache_properties(CacheProperties::No).build().await?;
    let remote = session.remote_host().await?;
    Ok(Some(if remote.is_empty() { session.tty().await? } else { remote }))
}

fn bounded(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect()
}
