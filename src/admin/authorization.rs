//! The only place that decides who may administer. A table lists each method and writable property with the
//! permission it requires; anything else is denied. polkit is asked about the caller's unique bus name, never
//! about a process id, which may have been reused.

use std::collections::HashMap;

use thiserror::Error;
use zbus::Connection;
use zbus::fdo::DBusProxy;
use zbus::message::{Flags, Header};
use zbus::names::BusName;
use zbus_polkit::policykit1::{AuthorityProxy, CheckAuthorizationFlags, Subject};

use super::origin::{Origin, origin, unit_of};
use crate::auth::account::Account;

const PORT_USER: &str = "_console-port";

/// The polkit action of a power command.
const POWER_ACTION: &str = "org.consoleserver1.power";

/// The permission that a call requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// No action is required: every user of this machine may read.
    Nothing,
    Configure,
    /// Act on ports: start, stop, reload, break, disconnect.
    Manage,
    Commit,
    /// Switching the power of a port's device.
    Power,
    /// Be a port. Checked by uid, without polkit.
    Port,
}

impl Permission {
    pub fn action(self) -> Option<&'static str> {
        match self {
            Self::Nothing | Self::Port => None,
            Self::Configure => Some("org.consoleserver1.configure"),
            Self::Manage => Some("org.consoleserver1.manage"),
            Self::Commit => Some("org.consoleserver1.commit"),
            Self::Power => Some(POWER_ACTION),
        }
    }
}

/// Every method and writable property.
const TABLE: &[(&str, &[&str], Permission)] = {
    use Permission::{Commit, Configure, Manage, Nothing, Port, Power};
    &[
        ("org.freedesktop.DBus.ObjectManager", &["GetManagedObjects"], Nothing),
        ("org.consoleserver1.Manager", &["Changes", "ListPorts", "MayAdminister", "RunningPorts"], Nothing),
        (
            "org.consoleserver1.Manager",
            &["CreatePort", "RenamePort", "CopyPort", "RemovePort", "Set", "SetMany", "Unset"],
            Configure,
        ),
        ("org.consoleserver1.Manager", &["MonitorPath", "SshPort", "Listen", "AccessGroups"], Configure),
        ("org.consoleserver1.Manager", &["RemovePorts", "UnsetMany"], Configure),
        ("org.consoleserver1.Manager", &["Reload", "ReloadPorts"], Manage),
        (
            "org.consoleserver1.Manager",
            &["Commit", "CommitConfirmed", "CommitMine", "Confirm", "Revert"],
            Commit,
        ),
        ("org.consoleserver1.Watcher", &["Report", "Power"], Port),
        ("org.consoleserver1.Port", &["Power"], Power),
        ("org.consoleserver1.Port", &["Sessions"], Nothing),
        (
            "org.consoleserver1.Port",
            &["Start", "Stop", "Reload", "SendBreak", "SendNamedBreak", "Disconnect"],
            Manage,
        ),
        ("org.consoleserver1.Port", &["Enabled", "Description", "Device", "SshPort", "Timeout"], Configure),
        (
            "org.consoleserver1.Port",
            &["Baud", "ByteSize", "Parity", "StopBits", "RtsCts", "XonXoff"],
            Configure,
        ),
        ("org.consoleserver1.Port", &["LogFile", "LogType"], Configure),
    ]
};

/// The permission that a member requires; `None` = unknown member.
pub fn needs(interface: &str, member: &str) -> Option<Permission> {
    let row = TABLE.iter().find(|(of, members, _)| *of == interface && members.contains(&member));
    row.map(|(_, _, needs)| *needs)
}

#[derive(Debug, Error)]
pub enum Denied {
    #[error("{0}.{1} cannot be called")]
    NotInTable(String, String),
    #[error("the bus does not identify the caller: {0}")]
    Nobody(String),
    #[error("{0} is not {PORT_USER}: only ports may report triggers")]
    NotAPort(String),
    #[error("{unit} is not {port}: a session can switch the power of its own port only")]
    NotThisPort { unit: String, port: String },
    #[error("{0} may not switch the power of {1} (polkit: {POWER_ACTION})")]
    NoPower(String, String),
    #[error("{0} may not administer this console server (polkit: {1})")]
    No(String, &'static str),
    #[error(
        "{0} may not administer this console server: polkit does not reply, and without it only root may ({1})"
    )]
    NoPolkit(String, String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub name: String,
    pub origin: Origin,
    /// The caller's unique bus name, by which a client recognizes its own changes in a signal; empty for
    /// console-admin itself.
    pub connection: String,
}

tokio::task_local! {
    /// The authorized caller of the current call.
    static CALLER: Caller;
}

/// Runs a call on behalf of a caller.
pub async fn as_caller<T>(caller: Caller, call: impl Future<Output = T>) -> T {
    CALLER.scope(caller, call).await
}

/// The name of the current caller.
pub fn caller() -> String {
    whole_caller().name
}

/// The current caller with its origin; outside of a call, console-admin.
pub fn whole_caller() -> Caller {
    CALLER.try_with(Clone::clone).unwrap_or_else(|_| Caller {
        name: "console-admin".to_owned(),
        origin: Origin::local(),
        connection: String::new(),
    })
}

/// A power command that was typed in a session at a port.
#[derive(Debug, Clone, Copy)]
pub struct Session<'c> {
    /// The port's unit, which must be the caller.
    pub unit: &'c str,
    pub port: &'c str,
    pub user: &'c str,
    /// `on`, `off`, `cycle` or `status`.
    pub verb: &'c str,
}

pub struct Authorizer {
    bus: DBusProxy<'static>,
    connection: Connection,
}

impl Authorizer {
    /// Creates an authorizer for the calls of this connection.
    pub async fn new(connection: &Connection) -> zbus::Result<Self> {
        Ok(Self { bus: DBusProxy::new(connection).await?, connection: connection.clone() })
    }

    /// Authorizes the caller of a method or writer of a property. The origin of calls that only read is not
    /// looked up.
    pub async fn admit(&self, header: &Header<'_>, interface: &str, member: &str) -> Result<Caller, Denied> {
        let needs = needs(interface, member)
            .ok_or_else(|| Denied::NotInTable(interface.to_owned(), member.to_owned()))?;
        let name = self.check(header, needs).await?;
        let connection = header.sender().map(ToString::to_string).unwrap_or_default();
        let origin = match (needs.action(), header.sender()) {
            (Some(_), Some(sender)) => {
                match self.bus.get_connection_unix_process_id(BusName::from(sender.to_owned())).await {
                    Ok(pid) => origin(&self.connection, pid, &name).await,
                    Err(_) => Origin::local(),
                }
            }
            _ => Origin::local(),
        };
        Ok(Caller { name, origin, connection })
    }

    /// Whether the caller has a permission, without asking for a password.
    pub async fn could(&self, header: &Header<'_>, needs: Permission) -> bool {
        self.check(header, needs).await.is_ok()
    }

    async fn check(&self, header: &Header<'_>, needs: Permission) -> Result<String, Denied> {
        let nobody = |error: &dyn std::fmt::Display| Denied::Nobody(error.to_string());
        let sender = header.sender().ok_or_else(|| nobody(&"no sender"))?;
        let uid = self.bus.get_connection_unix_user(BusName::from(sender.to_owned())).await;
        let uid = uid.map_err(|error| nobody(&error))?;
        let name = user_name(uid).await;
        if needs == Permission::Port && name != PORT_USER {
            return Err(Denied::NotAPort(name));
        }
        let Some(action) = needs.action() else { return Ok(name) };
        // polkit allows root everything, so it is not needed for root.
        if uid == 0 {
            return Ok(name);
        }
        match self.ask_polkit(header, action, &HashMap::new()).await {
            Ok(true) => Ok(name),
            Ok(false) => Err(Denied::No(name, action)),
            Err(error) => Err(Denied::NoPolkit(name, error)),
        }
    }

    /// Admits a power command of a session. polkit cannot be asked about a user who is not on the bus: it is asked about the port, and a
    /// rule decides by the details `user`, `groups` (separated by spaces), `port` and `verb`.
    pub async fn admit_session(&self, header: &Header<'_>, session: Session<'_>) -> Result<(), Denied> {
        let Session { unit, port, user, verb } = session;
        let nobody = |error: &dyn std::fmt::Display| Denied::Nobody(error.to_string());
        let sender = header.sender().ok_or_else(|| nobody(&"no sender"))?;
        let pid = self.bus.get_connection_unix_process_id(BusName::from(sender.to_owned())).await;
        let pid = pid.map_err(|error| nobody(&error))?;
        let found = unit_of(&self.connection, pid).await.map_err(|error| nobody(&error))?;
        if found != unit {
            return Err(Denied::NotThisPort { unit: found, port: unit.to_owned() });
        }
        let name = user.to_owned();
        let looked_up = tokio::task::spawn_blocking(move || Account::look_up(&name)?.identity());
        let identity = match looked_up.await {
            Ok(Ok(identity)) => identity,
            Ok(Err(error)) => return Err(nobody(&error)),
            Err(panicked) => return Err(nobody(&panicked)),
        };
        let groups = identity.groups.join(" ");
        let details = HashMap::from([
            ("user", identity.name.as_str()),
            ("groups", &groups),
            ("port", port),
            ("verb", verb),
        ]);
        match self.ask_polkit(header, POWER_ACTION, &details).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Denied::NoPower(identity.name, port.to_owned())),
            Err(error) => Err(Denied::NoPolkit(identity.name, error)),
        }
    }

    async fn ask_polkit(
        &self,
        header: &Header<'_>,
        action: &str,
        details: &HashMap<&str, &str>,
    ) -> Result<bool, String> {
        match self.ask_polkit_once(header, action, details).await {
            // polkitd may have exited; the bus activates it again for the next call.
            Err(_) => self.ask_polkit_once(header, action, details).await,
            answer => answer,
        }
    }

    async fn ask_polkit_once(
        &self,
        header: &Header<'_>,
        action: &str,
        details: &HashMap<&str, &str>,
    ) -> Result<bool, String> {
        let subject = Subject::new_for_message_header(header).map_err(|error| error.to_string())?;
        let polkit =
            AuthorityProxy::builder(&self.connection).cache_properties(zbus::proxy::CacheProperties::No);
        let polkit = polkit.build().await.map_err(|error| error.to_string())?;
        let flags = match header.primary().flags().contains(Flags::ALLOW_INTERACTIVE_AUTH) {
            true => CheckAuthorizationFlags::ALLOW_USER_INTERACTION,
            false => CheckAuthorizationFlags::empty(),
        };
        let answer = polkit.check_authorization(&subject, action, details, flags, "").await;
        answer.map(|answer| answer.is_authorized).map_err(|error| error.to_string())
    }
}

/// The name of a user, or the number if there is none. NSS may ask a server.
async fn user_name(uid: u32) -> String {
    let looked_up = tokio::task::spawn_blocking(move || nix::unistd::User::from_uid(uid.into()));
    match looked_up.await {
        Ok(Ok(Some(user))) => user.name,
        _ => format!("uid {uid}"),
    }
}
