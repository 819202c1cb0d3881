//! `org.consoleserver1.Port`: one port on the bus. Its keys can be read and written as properties; a running
//! port is asked for its status.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use zbus::ObjectServer;

use super::authorization::caller;
use super::bus::{Keys, Session};
use super::bus_error::{
    BusError::{Failed, Rejected},
    Result,
};
use super::manager::tcp_port;
use super::power;
use super::service::Shared;
use super::wire::{counters, keys, session};
use crate::attach::{Status, client};
use crate::config::changes::{KeyPath, Scope};
use crate::config::{Config, Value, keys as table};
use crate::hub::BREAK_MS_RANGE;
use crate::port::power::{PowerVerb, PowerVerbError};
use crate::port::{BreakName, BreakNameError, PortName};

pub struct Port {
    shared: Arc<Shared>,
    name: PortName,
}

impl Port {
    pub fn new(shared: Arc<Shared>, name: PortName) -> Self {
        Self { shared, name }
    }

    async fn put(&self, key: &'static str, value: Value) -> Result<()> {
        let path = KeyPath { scope: Scope::Port(self.name.clone()), key: Some(key) };
        self.shared.core.set(path, Some(value), 0).await?;
        Ok(())
    }

    /// A key of the candidate; `None` if it has no value, or the port is to be removed.
    fn candidate_value(&self, key: &'static str) -> Option<Value> {
        let path = KeyPath { scope: Scope::Port(self.name.clone()), key: Some(key) };
        path.effective(&self.shared.core.state().candidate_config)
    }

    fn text(&self, key: &'static str) -> String {
        self.candidate_value(key).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
    }

    fn number<T: TryFrom<i64> + Default>(&self, key: &'static str) -> T {
        let number = self.candidate_value(key).and_then(|value| value.as_integer());
        number.and_then(|number| number.try_into().ok()).unwrap_or_default()
    }

    fn flag(&self, key: &'static str) -> bool {
        self.candidate_value(key).and_then(|value| value.as_bool()).unwrap_or_default()
    }

    fn keys(&self, config: &Config) -> Keys {
        let mut found = Keys::new();
        if let Some(port) = config.ports.get(&self.name) {
            keys(table::PORT, port, "", &mut found);
            for (name, rule) in &port.triggers {
                keys(table::TRIGGER, rule, &format!("triggers.{name}."), &mut found);
            }
        }
        found
    }

    /// The status of the port, if it runs and replies.
    async fn status(&self) -> Option<Status> {
        self.shared.core.live.status(&self.name).await?.ok()
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&std::path::Path, &PortName) -> Result<T, client::AttachError> + Send + 'static,
    ) -> Result<T> {
        let live = &self.shared.core.live;
        let active = live.active().await.map_err(|error| Failed(error.to_string()))?;
        if !active.contains(&self.name) {
            return Err(Failed(format!("{} is not running", self.name)));
        }
        live.ask(&self.name, question).await.map_err(Failed)
    }
}

#[zbus::interface(name = "org.consoleserver1.Port", introspection_docs = false)]
impl Port {
    async fn start(&self) -> Result<()> {
        Ok(self.shared.core.start(&self.name).await?)
    }

    async fn stop(&self) -> Result<()> {
        Ok(self.shared.core.stop(&self.name).await?)
    }

    #[zbus(out_args("remarks"))]
    async fn reload(&self, #[zbus(object_server)] server: &ObjectServer) -> Result<Vec<String>> {
        let this = Scope::Port(self.name.clone());
        let remarks = self.shared.core.reload(|scope| *scope == this).await?;
        self.shared.keep_objects(server).await;
        Ok(remarks)
    }

    async fn send_break(&self, milliseconds: u32) -> Result<()> {
        if !BREAK_MS_RANGE.contains(&milliseconds) {
            let (shortest, longest) = (BREAK_MS_RANGE.start(), BREAK_MS_RANGE.end());
            return Err(Rejected(format!(
                "expected a break of {shortest} to {longest} ms, not {milliseconds}"
            )));
        }
        let length = Duration::from_millis(milliseconds.into());
        let by = caller();
        self.ask(move |runtime_dir, port| client::send_break(runtime_dir, port, length, &by)).await
    }

    async fn send_named_break(&self, name: &str) -> Result<()> {
        let name: BreakName = name.parse().map_err(|error: BreakNameError| Rejected(error.to_string()))?;
        let by = caller();
        self.ask(move |runtime_dir, port| client::send_named_break(runtime_dir, port, &name, &by)).await
    }

    #[zbus(out_args("output"))]
    async fn power(&self, verb: &str) -> Result<String> {
        let verb: PowerVerb = verb.parse().map_err(|error: PowerVerbError| Rejected(error.to_string()))?;
        power::run(&self.shared, &self.name, verb, &caller()).await
    }

    #[zbus(out_args("sessions"))]
    async fn sessions(&self) -> Result<Vec<Session>> {
        let users = match self.shared.core.live.status(&self.name).await {
            None => Vec::new(),
            Some(status) => status.map_err(Failed)?.users,
        };
        Ok(users.into_iter().map(session).collect())
    }

    #[zbus(out_args("count"))]
    async fn disconnect(&self, user: String) -> Result<u32> {
        let by = caller();
        self.ask(move |runtime_dir, port| client::disconnect(runtime_dir, port, &user, &by)).await
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn unit(&self) -> String {
        self.shared.core.state().instances.of(&self.name).service()
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn candidate(&self) -> Keys {
        self.keys(&self.shared.core.state().candidate_config)
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn origins(&self) -> HashMap<String, String> {
        let state = self.shared.core.state();
        let config = &state.candidate_config;
        let of = |key: String| {
            let origin = config.origin(&self.name, &key).to_string();
            (key, origin)
        };
        self.keys(config).into_keys().map(of).collect()
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn running(&self) -> Keys {
        self.keys(&self.shared.core.state().running_config)
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn committed(&self) -> Keys {
        self.keys(&self.shared.core.state().committed_config)
    }

    #[zbus(property(emits_changed_signal = "false"))]
    async fn state(&self) -> String {
        match self.shared.core.live.status(&self.name).await {
            None => "not running".to_owned(),
            Some(Ok(status)) => status.state,
            Some(Err(why)) => why,
        }
    }

    #[zbus(property(emits_changed_signal = "false"))]
    async fn users(&self) -> u32 {
        self.status().await.map_or(0, |status| u32::try_from(status.users.len()).unwrap_or(u32::MAX))
    }

    #[zbus(property(emits_changed_signal = "false"))]
    async fn bytes_received(&self) -> u64 {
        self.status().await.map_or(0, |status| status.received)
    }

    #[zbus(property(emits_changed_signal = "false"))]
    async fn bytes_sent(&self) -> u64 {
        self.status().await.map_or(0, |status| status.sent)
    }

    #[zbus(property(emits_changed_signal = "false"))]
    async fn counters(&self) -> HashMap<String, u64> {
        self.status().await.map(|status| counters(&status)).unwrap_or_default()
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn enabled(&self) -> bool {
        self.flag("enabled")
    }

    #[zbus(property)]
    async fn set_enabled(&self, enabled: bool) -> Result<()> {
        self.put("enabled", enabled.into()).await
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn baud(&self) -> u32 {
        self.number("baud")
    }

    #[zbus(property)]
    async fn set_baud(&self, baud: u32) -> Result<()> {
        self.put("baud", Value::Integer(baud.into())).await
    }

    #[zbus(property(emits_changed_signal = "false"), name = "ByteSize")]
    fn byte_size(&self) -> u8 {
        self.number("bytesize")
    }

    #[zbus(property, name = "ByteSize")]
    async fn set_byte_size(&self, bits: u8) -> Result<()> {
        self.put("bytesize", Value::Integer(bits.into())).await
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn parity(&self) -> String {
        self.text("parity")
    }

    #[zbus(property)]
    async fn set_parity(&self, parity: String) -> Result<()> {
        self.put("parity", parity.into()).await
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn stop_bits(&self) -> u8 {
        self.number("stopbits")
    }

    #[zbus(property)]
    async fn set_stop_bits(&self, count: u8) -> Result<()> {
        self.put("stopbits", Value::Integer(count.into())).await
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn rts_cts(&self) -> bool {
        self.flag("rtscts")
    }

    #[zbus(property)]
    async fn set_rts_cts(&self, on: bool) -> Result<()> {
        self.put("rtscts", on.into()).await
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn xon_xoff(&self) -> bool {
        self.flag("xonxoff")
    }

    #[zbus(property)]
    async fn set_xon_xoff(&self, on: bool) -> Result<()> {
        self.put("xonxoff", on.into()).await
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn ssh_port(&self) -> u16 {
        self.number("ssh_port")
    }

    #[zbus(property)]
    async fn set_ssh_port(&self, tcp: u16) -> Result<()> {
        self.put("ssh_port", tcp_port(tcp)).await
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn log_file(&self) -> String {
        self.text("log.file")
    }

    #[zbus(property)]
    async fn set_log_file(&self, file: String) -> Result<()> {
        self.put("log.file", file.into()).await
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn log_type(&self) -> String {
        self.text("log.type")
    }

    #[zbus(property)]
    async fn set_log_type(&self, kind: String) -> Result<()> {
        self.put("log.type", kind.into()).await
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn timeout(&self) -> u32 {
        self.number("timeout")
    }

    #[zbus(property)]
    async fn set_timeout(&self, seconds: u32) -> Result<()> {
        self.put("timeout", Value::Integer(seconds.into())).await
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn description(&self) -> String {
        self.text("description")
    }

    #[zbus(property)]
    async fn set_description(&self, text: String) -> Result<()> {
        self.put("description", text.into()).await
    }

    /// Empty = the entry of the port's name in the monitored directory.
    #[zbus(property(emits_changed_signal = "false"))]
    fn device(&self) -> String {
        self.text("device")
    }

    #[zbus(property)]
    async fn set_device(&self, path: String) -> Result<()> {
        let key = KeyPath { scope: Scope::Port(self.name.clone()), key: Some("device") };
        let value = if path.is_empty() { None } else { Some(path.into()) };
        self.shared.core.set(key, value, 0).await?;
        Ok(())
    }
}
