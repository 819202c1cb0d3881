//! The origin of a call for the audit trail: the address behind it and its session. The caller cannot choose
//! either. systemd returns the unit of the calling process (`GetUnitByPID`, with the process id that the bus
//! has from the kernel). A session of `ssh -p 8022` is a unit of its own; its STATUS has the address, and
//! only console-auth can set it (NotifyAccess=main). For a login session, logind knows the address.

use std::net::IpAddr;
use std::time::Duration;

use zbus::proxy::CacheProperties;
use zbus::{Connection, OwnedObjectPath};

use crate::auth::status::address_of;
use crate::system::systemd::bus::{ManagerProxy, ServiceProxy, UnitProxy};

/// Time for systemd and logind together. Without a reply the change is made anyway.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// Characters of an address or unit name that are kept; unit names have at most 255.
const MAX_NAME_CHARS: usize = 255;

/// Units of sessions of the admin CLI.
const ADMIN_SESSION: &str = "console-auth-cli@";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// An address; the terminal of a local login; or `local`.
    pub from: String,
    /// The unit of the calling process: `console-auth-cli@….service`, `session-3.scope`. Empty if systemd
    /// does not return it.
    pub session: String,
}

impl Origin {
    /// On this machine; nothing else is known.
    pub fn local() -> Self {
        Self { from: "local".to_owned(), session: String::new() }
    }
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

pub(super) async fn unit_of(bus: &Connection, pid: u32) -> zbus::Result<String> {
    Ok(unit_at(bus, pid).await?.1)
}

/// The unit that a process is in: its object and its name.
async fn unit_at(bus: &Connection, pid: u32) -> zbus::Result<(OwnedObjectPath, String)> {
    let units = ManagerProxy::builder(bus).cache_properties(CacheProperties::No).build().await?;
    let path = units.get_unit_by_pid(pid).await?;
    let unit = UnitProxy::builder(bus).path(&path).cache_properties(CacheProperties::No).build().await?;
    let name = unit.id().await?;
    Ok((path, name))
}

/// The origin of a call by `user` from this process. Unknown parts are left out.
pub async fn origin(bus: &Connection, pid: u32, user: &str) -> Origin {
    let mut origin = Origin::local();
    let requested = async {
        let (path, unit) = unit_at(bus, pid).await?;
        origin.session = bounded(&unit);
        let from = match origin.session.strip_prefix("session-").and_then(|unit| unit.strip_suffix(".scope"))
        {
            Some(id) => login(bus, id).await?,
            None if origin.session.starts_with(ADMIN_SESSION) => {
                let service = ServiceProxy::builder(bus).path(&path).cache_properties(CacheProperties::No);
                // `None` if the address is another user's: the process id was reused.
                address_of(&service.build().await?.status_text().await?, user).map(str::to_owned)
            }
            None => None,
        };
        if let Some(from) = from.filter(|from| !from.is_empty()) {
            origin.from = bounded(&canonical(from));
        }
        zbus::Result::Ok(())
    };
    match tokio::time::timeout(LOOKUP_TIMEOUT, requested).await {
        // Without a reply the origin is unknown; the change is made anyway.
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

/// An IPv4 address of a socket that also accepts IPv6 (`::ffff:192.0.2.7`, RFC 4291, 2.5.5.2) in its usual form;
/// a host name or terminal is unchanged.
fn canonical(from: String) -> String {
    match from.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().to_string(),
        Err(_) => from,
    }
}

fn bounded(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_is_reported_without_the_prefix_of_an_ipv6_socket() {
        for (from, reported) in [
            ("::ffff:127.0.0.1", "127.0.0.1"),
            ("::FFFF:c000:207", "192.0.2.7"),
            ("192.0.2.7", "192.0.2.7"),
            ("2001:db8::7", "2001:db8::7"),
            ("fe80::1%eth0", "fe80::1%eth0"),
            ("::1", "::1"),
            ("client.example.net", "client.example.net"),
            ("tty1", "tty1"),
        ] {
            assert_eq!(canonical(from.to_owned()), reported);
        }
    }
}
