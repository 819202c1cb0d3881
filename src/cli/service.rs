//! The D-Bus client of console-admin: the connection, the queries, and errors as sentences.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use thiserror::Error;
use zbus::proxy::CacheProperties;
use zbus::{Connection, DBusError, OwnedVariant, fdo};

use super::configurations::{Configurations, PORTS};
use super::target::Target;
use super::value::{self, Keys};
use crate::admin::bus::{self, Change, ManagerProxy, PortProxy, Session};
use crate::config::{TemplateName, Value};
use crate::port::PortName;
use crate::port::nearest::{either, instead, nearest, whole};
use crate::session::plain;

/// Time for a reply. A commit may have to restart the listener of every port, one after the other.
const REPLY_TIMEOUT: Duration = Duration::from_secs(300);

/// Time for connecting to the bus, which starts no service.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a call to console-admin failed.
#[derive(Debug, Error)]
pub enum ServiceError {
    #[error("cannot connect to the system bus: {0}")]
    NoBus(zbus::Error),
    #[error("no reply from the system bus within {n} s", n = CONNECT_TIMEOUT.as_secs())]
    SilentBus,
    #[error("cannot reach console-admin: {0}: see `systemctl status console-admin`")]
    Absent(String),
    #[error("no reply from console-admin within {n} s", n = REPLY_TIMEOUT.as_secs())]
    Silent,
    #[error("{0}")]
    Failed(String),
    #[error("{0}; this requires root, or membership in the group sudo or root")]
    Denied(String),
    #[error("there is no port {port}: {instead}")]
    UnknownPort { port: PortName, instead: String, whole: Option<PortName> },
    #[error("D-Bus error in a call to console-admin: {0}")]
    Bus(zbus::Error),
}

impl ServiceError {
    /// Whether console-admin or the bus is not available.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::NoBus(_) | Self::SilentBus | Self::Absent(_))
    }
}

const PORT_INTERFACE: &str = "org.consoleserver1.Port";

type Reply<T> = Result<T, ServiceError>;

/// The D-Bus properties of a port.
#[derive(Debug, Clone, Default)]
pub struct PortView {
    pub keys: Configurations,
    /// `open`, `not running`, …
    pub state: String,
    pub users: u32,
    /// Bytes received from the device.
    pub received: u64,
    pub sent: u64,
    /// Line errors; `None` if the driver does not count them.
    pub errors: Option<u64>,
}

impl PortView {
    /// The running configuration; the candidate for a port that was never reloaded.
    pub fn effective(&self) -> &Keys {
        if self.keys.running.is_empty() { &self.keys.candidate } else { &self.keys.running }
    }
}

#[derive(Debug)]
pub struct Service {
    connection: Connection,
    /// `org.consoleserver1.Manager`
    pub manager: ManagerProxy<'static>,
}

impl Service {
    /// Connects to the system bus. The first call reports whether console-admin is available.
    pub async fn connect() -> Reply<Self> {
        let builder = zbus::connection::Builder::system().method_timeout(REPLY_TIMEOUT);
        let connection = tokio::time::timeout(CONNECT_TIMEOUT, builder.build()).await;
        let connection = connection.map_err(|_| ServiceError::SilentBus)?.map_err(ServiceError::NoBus)?;
        let manager = ManagerProxy::builder(&connection)
            .cache_properties(CacheProperties::No)
            .build()
            .await
            .map_err(sentence)?;
        Ok(Self { connection, manager })
    }

    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// `org.consoleserver1.Port` of a port.
    pub async fn port(&self, port: &PortName) -> Reply<PortProxy<'static>> {
        PortProxy::builder(&self.connection)
            .path(bus::port_path(port))
            .cache_properties(CacheProperties::No)
            .build()
            .await
            .map_err(sentence)
    }

    /// All ports, in one D-Bus call.
    pub async fn ports(&self) -> Reply<BTreeMap<PortName, PortView>> {
        let objects = fdo::ObjectManagerProxy::builder(&self.connection)
            .destination(bus::BUS_NAME)
            .path(bus::OBJECT_PATH)
            .cache_properties(CacheProperties::No)
            .build()
            .await
            .map_err(sentence)?
            .get_managed_objects()
            .await
            .map_err(|error| sentence(error.into()))?;
        let mut ports = BTreeMap::new();
        for (path, interfaces) in objects {
            let properties = interfaces.into_iter().find(|(name, _)| name.as_str() == PORT_INTERFACE);
            if let (Some(name), Some((_, properties))) = (bus::port_of(path.as_str()), properties) {
                ports.insert(name, view(&properties));
            }
        }
        Ok(ports)
    }

    /// The names of all ports, including those that are not reloaded yet.
    pub async fn names(&self) -> Reply<Vec<PortName>> {
        Ok(self.ports().await?.into_keys().collect())
    }

    /// The three configurations of a port or table.
    pub async fn keys(&self, of: &Target) -> Reply<Configurations> {
        let Target::Port(name) = of else {
            let (candidate, running, committed) =
                tokio::try_join!(self.manager.candidate(), self.manager.running(), self.manager.committed())
                    .map_err(sentence)?;
            let (table, prefix) = (of.to_string(), format!("{of}."));
            let below = |keys: &bus::Keys| -> Keys {
                let own = |(name, value): (String, Value)| {
                    // The key `templates.NAME` lists the ports of the template.
                    let key = if name == table { PORTS } else { name.strip_prefix(&prefix)? };
                    // TOML quotes a name with a full stop.
                    let bare = if *of == Target::Groups { key.trim_matches('"') } else { key };
                    Some((bare.to_owned(), value))
                };
                value::keys(keys).into_iter().filter_map(own).collect()
            };
            let keys = Configurations {
                candidate: below(&candidate),
                running: below(&running),
                committed: below(&committed),
                ..Configurations::default()
            };
            return Ok(keys);
        };
        let port = self.port(name).await?;
        let asked = tokio::try_join!(port.candidate(), port.running(), port.committed(), port.origins());
        let (candidate, running, committed, origins) = self.of_port(name, asked).await?;
        Ok(Configurations {
            candidate: value::keys(&candidate),
            running: value::keys(&running),
            committed: value::keys(&committed),
            origins: origins.into_iter().collect(),
            ..Configurations::default()
        })
    }

    /// Rejects a template that is in no configuration.
    pub async fn check_exists(&self, of: &Target, keys: &Configurations) -> Reply<()> {
        match of {
            Target::Template(name) if keys.is_empty() => {
                Err(unknown_template(name, &self.keys(&Target::Templates).await?.candidate))
            }
            _ => Ok(()),
        }
    }

    pub async fn sessions(&self, name: &PortName) -> Reply<Vec<Session>> {
        let asked = self.port(name).await?.sessions().await;
        self.of_port(name, asked).await
    }

    pub async fn changes(&self) -> Reply<Vec<Change>> {
        self.manager.changes().await.map_err(sentence)
    }

    /// Conflicts with edits of the file, and errors in it, as sentences.
    pub async fn conflicts(&self) -> Reply<Vec<String>> {
        self.manager.conflicts().await.map_err(sentence)
    }

    /// The result of a call to a port; the error of an unknown port names the existing ones.
    pub async fn of_port<T>(&self, port: &PortName, result: zbus::Result<T>) -> Reply<T> {
        let Err(zbus::Error::FDO(error)) = &result else { return result.map_err(sentence) };
        match **error {
            fdo::Error::UnknownObject(_) | fdo::Error::UnknownInterface(_) | fdo::Error::UnknownMethod(_) => {
                Err(self.unknown(port).await)
            }
            _ => result.map_err(sentence),
        }
    }

    async fn unknown(&self, port: &PortName) -> ServiceError {
        let names = match self.names().await {
            Ok(names) => names,
            Err(error) => return error,
        };
        unknown_port(port, &names)
    }
}

fn unknown_template(name: &TemplateName, all: &Keys) -> ServiceError {
    let names: Vec<&str> = all.keys().filter(|key| !key.contains('.')).map(String::as_str).collect();
    let instead = match nearest(name.as_str(), names.iter().copied()).as_slice() {
        [] if names.is_empty() => format!("`set templates.{name} baud 9600` creates it"),
        [] => format!("there are {}", names.join(", ")),
        near => format!("did you mean {}?", either(near)),
    };
    ServiceError::Failed(format!("there is no template {name}: {instead}"))
}

/// The error for a port that is not among `names`.
pub(super) fn unknown_port(port: &PortName, names: &[PortName]) -> ServiceError {
    let words: Vec<&str> = names.iter().map(PortName::as_str).collect();
    ServiceError::UnknownPort {
        port: port.clone(),
        instead: instead(port.as_str(), &words),
        whole: whole(port, names),
    }
}

fn view(properties: &HashMap<String, OwnedVariant>) -> PortView {
    let keys =
        |name| property(properties, name).map(|keys: bus::Keys| value::keys(&keys)).unwrap_or_default();
    let origins: Option<HashMap<String, String>> = property(properties, "Origins");
    PortView {
        keys: Configurations {
            candidate: keys("Candidate"),
            running: keys("Running"),
            committed: keys("Committed"),
            origins: origins.into_iter().flatten().collect(),
            ..Configurations::default()
        },
        state: property(properties, "State").unwrap_or_default(),
        users: property(properties, "Users").unwrap_or_default(),
        received: property(properties, "BytesReceived").unwrap_or_default(),
        sent: property(properties, "BytesSent").unwrap_or_default(),
        errors: errors(properties),
    }
}

/// A property of a port; `None` if it has another type, or console-admin does not have it.
fn property<T: TryFrom<OwnedVariant>>(properties: &HashMap<String, OwnedVariant>, name: &str) -> Option<T> {
    properties.get(name)?.clone().try_into().ok()
}

/// The sum of framing errors, parity errors and overruns.
fn errors(properties: &HashMap<String, OwnedVariant>) -> Option<u64> {
    let counters: HashMap<String, u64> = property(properties, "Counters")?;
    ["framing", "parity", "overruns"].iter().map(|name| counters.get(*name)).sum()
}

/// The message of console-admin or the bus, without the D-Bus error name.
pub fn sentence(error: zbus::Error) -> ServiceError {
    let (name, words) = match &error {
        zbus::Error::MethodError(name, words, _) => (name.to_string(), words.clone()),
        zbus::Error::FDO(error) => (error.name().to_string(), error.description().map(str::to_owned)),
        zbus::Error::InputOutput(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            return ServiceError::Silent;
        }
        _ => return ServiceError::Bus(error),
    };
    let words = words.map(|words| plain_lines(&words)).filter(|words| !words.is_empty());
    let kind = ["org.freedesktop.DBus.Error.", "org.consoleserver1.Error."]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))
        .unwrap_or(&name);
    match kind {
        // If polkit does not answer, the message already names who may.
        "AccessDenied" | "Denied" if words.as_ref().is_none_or(|words| !words.contains("only root may")) => {
            ServiceError::Denied(words.unwrap_or(name))
        }
        "NoReply" => ServiceError::Absent("it exited before it replied".to_owned()),
        kind if ABSENCE.contains(&kind) || kind.starts_with("Spawn.") => {
            ServiceError::Absent(words.unwrap_or(name))
        }
        _ => ServiceError::Failed(words.unwrap_or(name)),
    }
}

/// D-Bus errors for a service that is not available.
const ABSENCE: [&str; 3] = ["ServiceUnknown", "NameHasNoOwner", "TimedOut"];

/// Makes text printable, and keeps its lines.
pub fn plain_lines(words: &str) -> String {
    words.lines().map(plain).collect::<Vec<_>>().join("\n")
}
