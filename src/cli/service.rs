//! The administration service as a client has it: the connection, what is asked, and its refusals as sentences.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use thiserror::Error;
use zbus::proxy::CacheProperties;
use zbus::{Connection, DBusError, OwnedVariant, fdo};

use super::show::Three;
use super::tree::Target;
use super::value::{self, Keys};
use crate::admin::bus::{self, Change, ManagerProxy, PortProxy, Session};
use crate::config::{TemplateName, Value};
use crate::port::PortName;
use crate::port::nearest::{either, instead, nearest, whole};
use crate::session::plain;

/// For an answer. A commit may have to restart the listener of every port, one after the other.
const REPLY_TIMEOUT: Duration = Duration::from_secs(300);

/// For the bus to take a client. It starts nothing for that.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the service does not do it.
#[derive(Debug, Error)]
pub enum ServiceError {
    /// No bus.
    #[error("the system bus cannot be reached: {0}")]
    NoBus(zbus::Error),
    /// A bus that hangs.
    #[error("the system bus has not answered within {n} s", n = CONNECT_TIMEOUT.as_secs())]
    SilentBus,
    /// A bus, and nobody of that name.
    #[error("console-admin cannot be reached: {0}: see `systemctl status console-admin`")]
    Absent(String),
    /// It has not answered.
    #[error("console-admin has not answered within {n} s", n = REPLY_TIMEOUT.as_secs())]
    Silent,
    /// Its own words.
    #[error("{0}")]
    Said(String),
    /// Not allowed.
    #[error("{0}; root and the members of the groups sudo and root may")]
    Denied(String),
    /// No such port.
    #[error("there is no port {port}: {instead}")]
    UnknownPort {
        /// What was asked for.
        port: PortName,
        /// A similar one, or those that there are.
        instead: String,
        /// The only one that begins so.
        whole: Option<PortName>,
    },
    /// The conversation failed.
    #[error("the conversation with console-admin has failed: {0}")]
    Failed(zbus::Error),
}

impl ServiceError {
    /// Whether nobody was there to ask.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::NoBus(_) | Self::SilentBus | Self::Absent(_))
    }
}

/// What the ports are called that are like a template, between its keys.
pub(super) const PORTS: &str = "ports";

const PORT_INTERFACE: &str = "org.consoleserver1.Port";

type Answer<T> = Result<T, ServiceError>;

/// A port as the service tells of it.
#[derive(Debug, Clone, Default)]
pub struct PortView {
    /// Its settings.
    pub keys: Three,
    /// `open`, `not running`, …
    pub state: String,
    /// How many are attached.
    pub users: u32,
    /// Bytes ever received.
    pub received: u64,
    /// Bytes ever sent.
    pub sent: u64,
    /// Line errors; `None` if the driver does not count them.
    pub errors: Option<u64>,
}

impl PortView {
    /// What runs; of a port that was never reloaded, what would.
    pub fn effective(&self) -> &Keys {
        if self.keys.running.is_empty() { &self.keys.candidate } else { &self.keys.running }
    }
}

/// A connection to console-admin.
#[derive(Debug)]
pub struct Service {
    connection: Connection,
    /// `org.consoleserver1.Manager`
    pub manager: ManagerProxy<'static>,
}

impl Service {
    /// Connects to the system bus; whether the service is there, the first call tells.
    pub async fn connect() -> Answer<Self> {
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

    /// The connection itself.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// `org.consoleserver1.Port` of a port.
    pub async fn port(&self, port: &PortName) -> Answer<PortProxy<'static>> {
        PortProxy::builder(&self.connection)
            .path(bus::port_path(port))
            .cache_properties(CacheProperties::No)
            .build()
            .await
            .map_err(sentence)
    }

    /// All ports, in one call.
    pub async fn ports(&self) -> Answer<BTreeMap<PortName, PortView>> {
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

    /// The names of all ports, those included that nobody has reloaded yet.
    pub async fn names(&self) -> Answer<Vec<PortName>> {
        Ok(self.ports().await?.into_keys().collect())
    }

    /// The three states of a port or table.
    pub async fn keys(&self, of: &Target) -> Answer<Three> {
        let Target::Port(name) = of else {
            let (candidate, running, committed) =
                tokio::try_join!(self.manager.candidate(), self.manager.running(), self.manager.committed())
                    .map_err(sentence)?;
            let (table, prefix) = (of.to_string(), format!("{of}."));
            let below = |keys: &bus::Keys| -> Keys {
                let own = |(name, value): (String, Value)| {
                    // The name of a template alone has the ports that are like it.
                    let key = if name == table { PORTS } else { name.strip_prefix(&prefix)? };
                    // A name with a full stop in it is in quotes, as TOML has it.
                    let bare = if *of == Target::Groups { key.trim_matches('"') } else { key };
                    Some((bare.to_owned(), value))
                };
                value::keys(keys).into_iter().filter_map(own).collect()
            };
            let keys = Three {
                candidate: below(&candidate),
                running: below(&running),
                committed: below(&committed),
                ..Three::default()
            };
            return Ok(keys);
        };
        let port = self.port(name).await?;
        let asked = tokio::try_join!(port.candidate(), port.running(), port.committed(), port.origins());
        let (candidate, running, committed, origins) = self.of_port(name, asked).await?;
        Ok(Three {
            candidate: value::keys(&candidate),
            running: value::keys(&running),
            committed: value::keys(&committed),
            origins: origins.into_iter().collect(),
            ..Three::default()
        })
    }

    /// Refuses a template of which no configuration says anything.
    pub async fn known(&self, of: &Target, keys: &Three) -> Answer<()> {
        match of {
            Target::Template(name) if keys.is_empty() => {
                Err(unknown_template(name, &self.keys(&Target::Templates).await?.candidate))
            }
            _ => Ok(()),
        }
    }

    /// Who is at a port.
    pub async fn sessions(&self, name: &PortName) -> Answer<Vec<Session>> {
        let asked = self.port(name).await?.sessions().await;
        self.of_port(name, asked).await
    }

    /// Everything that is not committed.
    pub async fn changes(&self) -> Answer<Vec<Change>> {
        self.manager.changes().await.map_err(sentence)
    }

    /// What of it is also edited on the disk, and what is wrong there: a sentence each.
    pub async fn conflicts(&self) -> Answer<Vec<String>> {
        self.manager.conflicts().await.map_err(sentence)
    }

    /// What a call to a port has brought; of one that is not there, which ones are.
    pub async fn of_port<T>(&self, port: &PortName, result: zbus::Result<T>) -> Answer<T> {
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

/// The refusal of a template that is in no configuration.
fn unknown_template(name: &TemplateName, all: &Keys) -> ServiceError {
    let names: Vec<&str> = all.keys().filter(|key| !key.contains('.')).map(String::as_str).collect();
    let instead = match nearest(name.as_str(), names.iter().copied()).as_slice() {
        [] if names.is_empty() => format!("`set templates.{name} baud 9600` would make it"),
        [] => format!("there are {}", names.join(", ")),
        near => format!("did you mean {}?", either(near)),
    };
    ServiceError::Said(format!("there is no template {name}: {instead}"))
}

/// The refusal of a port that is none of these.
pub(super) fn unknown_port(port: &PortName, names: &[PortName]) -> ServiceError {
    let words: Vec<&str> = names.iter().map(PortName::as_str).collect();
    ServiceError::UnknownPort {
        port: port.clone(),
        instead: instead(port.as_str(), &words),
        whole: whole(port, names),
    }
}

fn view(properties: &HashMap<String, OwnedVariant>) -> PortView {
    let keys = |name: &str| {
        let value = properties.get(name).and_then(|value| bus::Keys::try_from(value.clone()).ok());
        value.map(|keys| value::keys(&keys)).unwrap_or_default()
    };
    let number = |name: &str| properties.get(name).and_then(|value| u64::try_from(value).ok());
    PortView {
        keys: Three {
            candidate: keys("Candidate"),
            running: keys("Running"),
            committed: keys("Committed"),
            origins: properties
                .get("Origins")
                .and_then(|value| HashMap::<String, String>::try_from(value.clone()).ok())
                .map(|origins| origins.into_iter().collect())
                .unwrap_or_default(),
            ..Three::default()
        },
        state: properties
            .get("State")
            .and_then(|value| String::try_from(value.clone()).ok())
            .unwrap_or_default(),
        users: properties.get("Users").and_then(|value| u32::try_from(value).ok()).unwrap_or_default(),
        received: number("BytesReceived").unwrap_or_default(),
        sent: number("BytesSent").unwrap_or_default(),
        errors: errors(properties),
    }
}

/// Framing and parity errors and overruns, together.
fn errors(properties: &HashMap<String, OwnedVariant>) -> Option<u64> {
    let counters = HashMap::<String, u64>::try_from(properties.get("Counters")?.clone()).ok()?;
    ["framing", "parity", "overruns"].iter().map(|name| counters.get(*name)).sum()
}

/// What the service or the bus has said, without D-Bus around it.
pub fn sentence(error: zbus::Error) -> ServiceError {
    let (name, words) = match &error {
        zbus::Error::MethodError(name, words, _) => (name.to_string(), words.clone()),
        zbus::Error::FDO(error) => (error.name().to_string(), error.description().map(str::to_owned)),
        zbus::Error::InputOutput(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            return ServiceError::Silent;
        }
        _ => return ServiceError::Failed(error),
    };
    let words = words.map(|words| plain_lines(&words)).filter(|words| !words.is_empty());
    let kind = ["org.freedesktop.DBus.Error.", "org.consoleserver1.Error."]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))
        .unwrap_or(&name);
    match kind {
        // Where polkit does not answer, the words say already who may.
        "AccessDenied" | "Denied" if words.as_ref().is_none_or(|words| !words.contains("only root may")) => {
            ServiceError::Denied(words.unwrap_or(name))
        }
        "NoReply" => ServiceError::Absent("it has gone while it was asked".to_owned()),
        kind if ABSENCE.contains(&kind) || kind.starts_with("Spawn.") => {
            ServiceError::Absent(words.unwrap_or(name))
        }
        _ => ServiceError::Said(words.unwrap_or(name)),
    }
}

/// How the bus says that nobody is there.
const ABSENCE: [&str; 3] = ["ServiceUnknown", "NameHasNoOwner", "TimedOut"];

/// Printable, its lines kept.
pub fn plain_lines(words: &str) -> String {
    words.lines().map(plain).collect::<Vec<_>>().join("\n")
}
