//! `org.consoleserver1.Manager`: the whole server on the bus. `authorization` decides who may call; `core`
//! does the work.

use std::sync::Arc;

use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{ObjectServer, OwnedObjectPath, Variant};

use super::authorization::Permission;
use super::authors::{outcome, shown};
use super::bus::{By, Change, Keys, LISTED_KEYS, ListedPort, RunningPort, port_path};
use super::bus_error::{BusError, Result};
use super::commit::Whose;
use super::service::Shared;
use super::state::{Author, Rejected, State};
use super::wire::{from_bus, keys, running, to_bus};
use crate::config::changes::{KeyPath, Scope};
use crate::config::{Config, Groups, Layer, Value, keys as table};
use crate::ownership;
use crate::port::PortName;
use crate::port::nearest::no_port;

/// The object at `/org/consoleserver1`.
pub struct Manager(pub Arc<Shared>);

pub fn port(word: &str) -> Result<PortName> {
    word.parse().map_err(|error: crate::port::PortError| BusError::Rejected(error.to_string()))
}

/// Parses the key of a `Set` call: a key of the port, or with its table before it.
fn path(of_port: &str, key: &str) -> Result<KeyPath> {
    let path = match of_port {
        "" => key.parse(),
        name => KeyPath::new(Scope::Port(port(name)?), key),
    };
    match path {
        Ok(KeyPath { key: None, scope: Scope::Port(_) }) => {
            Err(BusError::Rejected(format!("{key:?} is a port: use CreatePort or RemovePort")))
        }
        path => path.map_err(|error| BusError::Rejected(error.to_string())),
    }
}

/// Converts a value from the bus.
pub fn value(path: &KeyPath, value: &Variant<'_>) -> Result<Value> {
    from_bus(value).ok_or_else(|| {
        BusError::Rejected(format!("{path} expects a number, a string, a boolean or an array of strings"))
    })
}

/// The keys of `[server]`, `[access]` and `[groups]`, and those that `[defaults]` and the templates state.
/// The name of a template alone lists the ports that use it.
fn general(config: &Config) -> Keys {
    let mut found = Keys::new();
    keys(table::SERVER, &config.server, "server.", &mut found);
    keys(table::ACCESS, &config.access, "access.", &mut found);
    for name in config.port_groups.keys() {
        let path = KeyPath { scope: Scope::Group(name.clone()), key: Some(table::GROUP[0].name) };
        let members = path.effective(config).as_ref().and_then(to_bus);
        found.extend(members.map(|members| (path.to_string(), members)));
    }
    layer("defaults", &config.defaults, &mut found);
    for (name, stated) in &config.templates {
        let ports = Value::Array(config.like(name).map(|port| port.as_str().into()).collect());
        found.extend(to_bus(&ports).map(|ports| (format!("templates.{name}"), ports)));
        layer(&format!("templates.{name}"), stated, &mut found);
    }
    found
}

fn layer(table: &str, stated: &Layer, into: &mut Keys) {
    for (key, value) in stated.stated() {
        into.extend(to_bus(&value).map(|value| (format!("{table}.{key}"), value)));
    }
}

impl Manager {
    /// Changes the candidate; ports may be added, renamed or removed by it.
    async fn edit(
        &self,
        server: &ObjectServer,
        revision: u64,
        edit: impl FnOnce(&State, &Author) -> Result<State, Rejected>,
    ) -> Result<Vec<String>> {
        let remarks = self.0.core.change(revision, edit).await?;
        self.0.keep_objects(server).await;
        Ok(remarks)
    }

    async fn commit_changes(
        &self,
        server: &ObjectServer,
        revision: u64,
        whose: Whose,
        confirm_within: Option<u32>,
    ) -> Result<Vec<String>> {
        let remarks = self.0.core.commit(revision, whose, confirm_within).await?;
        self.0.keep_objects(server).await;
        self.0.deadline_changed();
        Ok(remarks)
    }
}

#[zbus::interface(name = "org.consoleserver1.Manager", introspection_docs = false)]
impl Manager {
    #[zbus(out_args("port"))]
    async fn create_port(
        &self,
        name: &str,
        #[zbus(object_server)] server: &ObjectServer,
    ) -> Result<OwnedObjectPath> {
        let name = port(name)?;
        self.edit(server, 0, |state, author| state.create(&name, author)).await?;
        Ok(port_path(&name))
    }

    #[zbus(out_args("port"))]
    async fn rename_port(
        &self,
        from: &str,
        to: &str,
        revision: u64,
        #[zbus(object_server)] server: &ObjectServer,
    ) -> Result<OwnedObjectPath> {
        let (from, to) = (port(from)?, port(to)?);
        self.edit(server, revision, |state, author| state.rename(&from, &to, author, ownership::leads))
            .await?;
        Ok(port_path(&to))
    }

    #[zbus(out_args("port"))]
    async fn copy_port(
        &self,
        from: &str,
        to: &str,
        revision: u64,
        #[zbus(object_server)] server: &ObjectServer,
    ) -> Result<OwnedObjectPath> {
        let (from, to) = (port(from)?, port(to)?);
        self.edit(server, revision, |state, author| state.copy(&from, &to, author)).await?;
        Ok(port_path(&to))
    }

    #[zbus(out_args("remarks"))]
    async fn remove_port(
        &self,
        name: &str,
        #[zbus(object_server)] server: &ObjectServer,
    ) -> Result<Vec<String>> {
        let name = port(name)?;
        self.edit(server, 0, |state, author| state.remove(&name, author)).await
    }

    #[zbus(out_args("remarks"))]
    async fn set(&self, port: &str, key: &str, value: Variant<'_>, revision: u64) -> Result<Vec<String>> {
        let path = path(port, key)?;
        if path.key.is_none() {
            let whole = match path.scope {
                Scope::Template(_) => "a template: set one of its keys, such as baud",
                _ => "a trigger rule: set its match, silence, cooldown or start",
            };
            return Err(BusError::Rejected(format!("{path} is {whole}")));
        }
        let value = self::value(&path, &value)?;
        Ok(self.0.core.set(path, Some(value), revision).await?)
    }

    #[zbus(out_args("remarks"))]
    async fn unset(&self, port: &str, key: &str, revision: u64) -> Result<Vec<String>> {
        Ok(self.0.core.set(path(port, key)?, None, revision).await?)
    }

    #[zbus(out_args("remarks"))]
    async fn set_many(
        &self,
        ports: Vec<&str>,
        values: Vec<(&str, &str, Variant<'_>)>,
        revision: u64,
        #[zbus(object_server)] server: &ObjectServer,
    ) -> Result<Vec<String>> {
        let ports = ports.into_iter().map(port).collect::<Result<Vec<_>>>()?;
        let set = |(port, key, value): (&str, &str, Variant<'_>)| {
            let path = path(port, key)?;
            let value = self::value(&path, &value)?;
            Ok((path, Some(value)))
        };
        let values = values.into_iter().map(set).collect::<Result<Vec<_>>>()?;
        self.edit(server, revision, |state, author| state.change(&ports, values, author)).await
    }

    #[zbus(out_args("remarks"))]
    async fn unset_many(&self, keys: Vec<(&str, &str)>, revision: u64) -> Result<Vec<String>> {
        let unset = |(port, key): (&str, &str)| Ok((path(port, key)?, None));
        let keys = keys.into_iter().map(unset).collect::<Result<Vec<_>>>()?;
        Ok(self.0.core.change(revision, |state, author| state.change(&[], keys, author)).await?)
    }

    #[zbus(out_args("remarks"))]
    async fn remove_ports(
        &self,
        names: Vec<&str>,
        revision: u64,
        #[zbus(object_server)] server: &ObjectServer,
    ) -> Result<Vec<String>> {
        let names = names.into_iter().map(port).collect::<Result<Vec<_>>>()?;
        self.edit(server, revision, |state, author| state.remove_many(&names, author)).await
    }

    #[zbus(out_args("remarks"))]
    async fn reload_ports(
        &self,
        names: Vec<&str>,
        #[zbus(object_server)] server: &ObjectServer,
    ) -> Result<Vec<String>> {
        let names = names.into_iter().map(port).collect::<Result<std::collections::BTreeSet<_>>>()?;
        // If one of the ports does not exist, the whole call is rejected.
        let state = self.0.core.state();
        let known = state.ports();
        if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
            return Err(BusError::Rejected(no_port(unknown.as_str(), known.iter().copied())));
        }
        let remarks =
            self.0.core.reload(|scope| scope.port().is_some_and(|port| names.contains(port))).await?;
        self.0.keep_objects(server).await;
        Ok(remarks)
    }

    #[zbus(out_args("remarks"))]
    async fn reload(&self) -> Result<Vec<String>> {
        Ok(self.0.core.reload(|scope| !matches!(scope, Scope::Port(_))).await?)
    }

    #[zbus(out_args("remarks"))]
    async fn commit(
        &self,
        revision: u64,
        #[zbus(object_server)] server: &ObjectServer,
    ) -> Result<Vec<String>> {
        self.commit_changes(server, revision, Whose::All, None).await
    }

    #[zbus(out_args("remarks"))]
    async fn commit_confirmed(
        &self,
        revision: u64,
        seconds: u32,
        #[zbus(object_server)] server: &ObjectServer,
    ) -> Result<Vec<String>> {
        self.commit_changes(server, revision, Whose::All, Some(seconds)).await
    }

    #[zbus(out_args("remarks"))]
    async fn commit_mine(
        &self,
        revision: u64,
        seconds: u32,
        #[zbus(object_server)] server: &ObjectServer,
    ) -> Result<Vec<String>> {
        let within = Some(seconds).filter(|seconds| *seconds > 0);
        self.commit_changes(server, revision, Whose::Mine, within).await
    }

    async fn confirm(&self) -> Result<()> {
        Ok(self.0.core.confirm().await?)
    }

    #[zbus(out_args("remarks"))]
    async fn revert(&self, #[zbus(object_server)] server: &ObjectServer) -> Result<Vec<String>> {
        let remarks = self.0.core.revert().await?;
        self.0.keep_objects(server).await;
        Ok(remarks)
    }

    #[zbus(out_args("changes"))]
    fn changes(&self) -> Vec<Change> {
        let state = self.0.core.state();
        let pending = state.pending();
        let change = |(path, change): (&KeyPath, &crate::config::changes::Change)| Change {
            key: path.to_string(),
            old: shown(
                pending.origin(path).effective(&state.committed_config).as_ref().or(change.old.as_ref()),
                "configured",
            ),
            new: outcome(path, change),
            who: change.who.clone(),
            when: change.when.to_string(),
        };
        let renames = pending.renames();
        // A renamed port is one entry: its old name is not listed.
        let is_old_name = |path: &KeyPath, change: &crate::config::changes::Change| {
            let name = path.scope.port().filter(|_| path.key.is_none() && change.new.is_none());
            name.is_some_and(|name| renames.values().any(|old| old == name))
        };
        let renamed = |path: &KeyPath, row: Change| {
            let from = path.key.is_none().then(|| renames.get(path.scope.port()?)).flatten();
            match (from, path.scope.port()) {
                (Some(from), Some(to)) if matches!(path.scope, Scope::Port(_)) => {
                    Change { old: from.to_string(), new: format!("renamed {from} → {to}"), ..row }
                }
                _ => row,
            }
        };
        let rows = pending.iter().filter(|(path, change)| !is_old_name(path, change));
        rows.map(|(path, row)| renamed(path, change((path, row)))).collect()
    }

    /// All ports, with the keys that a list shows: a tenth of `GetManagedObjects`, which has all keys of three
    /// configurations.
    #[zbus(out_args("ports"))]
    fn list_ports(&self) -> Vec<ListedPort> {
        let state = self.0.core.state();
        let configs = [&state.running_config, &state.candidate_config, &state.committed_config];
        let listed = |name: &PortName| {
            let mut shown = Keys::new();
            if let Some(port) = configs.iter().find_map(|config| config.ports.get(name)) {
                let listed = table::PORT.iter().filter(|key| LISTED_KEYS.contains(&key.name));
                keys(listed, port, "", &mut shown);
            }
            let unit = state.instances.of(name).service();
            ListedPort { path: port_path(name), name: name.to_string(), unit, keys: shown }
        };
        state.ports().into_iter().map(listed).collect()
    }

    /// State, counters and sessions of the ports that run, without their keys.
    #[zbus(out_args("ports"))]
    async fn running_ports(&self) -> Result<Vec<RunningPort>> {
        let statuses = self.0.core.live.statuses().await;
        let statuses = statuses.map_err(|error| BusError::Failed(error.to_string()))?;
        Ok(statuses.into_iter().map(|(name, status)| running(&name, status)).collect())
    }

    #[zbus(out_args("may"))]
    async fn may_administer(&self, #[zbus(header)] header: Header<'_>) -> bool {
        self.0.authorizer.could(&header, Permission::Configure).await
    }

    #[zbus(signal)]
    pub async fn changed(
        emitter: &SignalEmitter<'_>,
        action: &str,
        by: By,
        revision: u64,
        keys: Vec<(String, String, String)>,
        count: u32,
        text: &str,
    ) -> zbus::Result<()>;

    /// A trigger of a port has fired: port, rule, line.
    #[zbus(signal)]
    pub async fn triggered(
        emitter: &SignalEmitter<'_>,
        port: &str,
        rule: &str,
        line: &str,
    ) -> zbus::Result<()>;

    #[zbus(property(emits_changed_signal = "false"))]
    fn candidate(&self) -> Keys {
        general(&self.0.core.state().candidate_config)
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn running(&self) -> Keys {
        general(&self.0.core.state().running_config)
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn committed(&self) -> Keys {
        general(&self.0.core.state().committed_config)
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn uncommitted(&self) -> u32 {
        u32::try_from(self.0.core.state().count()).unwrap_or(u32::MAX)
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn revision(&self) -> u64 {
        self.0.core.state().revision
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn conflicts(&self) -> Vec<String> {
        let state = self.0.core.state();
        state.fault.clone().into_iter().chain(state.conflicts()).collect()
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn confirm_within(&self) -> u32 {
        let left = self.0.core.waiting().map_or(0, |waiting| waiting.left().max(1));
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn last_change(&self) -> (String, String, String) {
        let last = self.0.core.state().last.clone();
        last.map(|last| (last.key, last.who, last.when.to_string())).unwrap_or_default()
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn last_commit(&self) -> (String, String, u32) {
        let last = self.0.core.files.last_commit();
        last.map(|last| (last.who, last.when.to_string(), last.count)).unwrap_or_default()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn monitor_path(&self) -> String {
        self.0.core.state().candidate_config.server.monitor.to_string_lossy().into_owned()
    }

    #[zbus(property)]
    async fn set_monitor_path(&self, path: String) -> Result<()> {
        self.put("monitor", path.into()).await
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn ssh_port(&self) -> u16 {
        self.0.core.state().candidate_config.server.ssh_port.unwrap_or(0)
    }

    #[zbus(property)]
    async fn set_ssh_port(&self, tcp: u16) -> Result<()> {
        self.put("ssh_port", tcp_port(tcp)).await
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn listen(&self) -> Vec<String> {
        let path = KeyPath { scope: Scope::Server, key: Some("listen") };
        let listed = path.effective(&self.0.core.state().candidate_config);
        let words = listed.as_ref().and_then(Value::as_array).into_iter().flatten();
        words.filter_map(|word| word.as_str().map(str::to_owned)).collect()
    }

    #[zbus(property)]
    async fn set_listen(&self, addresses: Vec<String>) -> Result<()> {
        self.put("listen", list(addresses)).await
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn access_groups(&self) -> Vec<String> {
        match &self.0.core.state().candidate_config.access.groups {
            Groups::Everyone => vec!["*".to_owned()],
            Groups::Members(names) => names.clone(),
        }
    }

    #[zbus(property)]
    async fn set_access_groups(&self, groups: Vec<String>) -> Result<()> {
        let path = KeyPath { scope: Scope::Access, key: Some("groups") };
        self.0.core.set(path, Some(list(groups)), 0).await?;
        Ok(())
    }
}

impl Manager {
    async fn put(&self, key: &'static str, value: Value) -> Result<()> {
        self.0.core.set(KeyPath { scope: Scope::Server, key: Some(key) }, Some(value), 0).await?;
        Ok(())
    }
}

fn list(words: Vec<String>) -> Value {
    Value::Array(words.into_iter().map(Value::String).collect())
}

/// 0 = no listener.
pub fn tcp_port(tcp: u16) -> Value {
    if tcp == 0 { "none".into() } else { Value::Integer(tcp.into()) }
}
