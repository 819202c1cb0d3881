//! `org.consoleserver1.Watcher`: a port reports that a trigger has fired. Ports are the least trusted
//! callers: only rules of the running configuration are accepted, no more often than their cooldown allows,
//! and the configuration read here decides whether a unit is started.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;
use zbus::object_server::SignalEmitter;

use super::bus_error::{
    BusError::{Failed, Rejected},
    Result,
};
use super::manager::{Manager, port};
use super::power;
use super::service::Shared;
use super::units::Begun;
use crate::config::{TriggerName, TriggerNameError};
use crate::port::PortName;
use crate::port::power::{PowerVerb, PowerVerbError};
use crate::system::lock::Lock;
use crate::system::persist;
use crate::trigger::LONGEST_LINE;

/// The line that triggered, for the hook unit; `PORT:RULE`, below the root.
const EVENT_DIRECTORY: &str = "run/consoleserver/trigger";
/// Limit of a line in which every byte is escaped.
const MAX_EVENT_BYTES: usize = 4 * LONGEST_LINE;

/// The object at `/org/consoleserver1` that ports call.
pub struct Watcher {
    shared: Arc<Shared>,
    /// When each rule was last accepted. Bounded by the number of rules.
    believed: Mutex<HashMap<(PortName, TriggerName), Instant>>,
}

impl Watcher {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, believed: Mutex::default() }
    }

    /// The port enforces the cooldown. Half of it is tolerance for clocks and a restart between two reports.
    fn is_early(&self, port: &PortName, rule: &TriggerName, cooldown: std::time::Duration) -> bool {
        let now = Instant::now();
        let mut believed = self.believed.locked();
        // Drops entries of rules that no longer exist.
        believed.retain(|_, at| *at + std::time::Duration::from_secs(24 * 3600) > now);
        let last = believed.entry((port.clone(), rule.clone()));
        match last {
            std::collections::hash_map::Entry::Occupied(last) if *last.get() + cooldown / 2 > now => true,
            last => {
                last.insert_entry(now);
                false
            }
        }
    }

    /// Writes the line for the hook unit. Each rule has one file, so that there are no more files than rules.
    fn write(&self, port: &PortName, rule: &TriggerName, line: &str) -> std::io::Result<()> {
        let path: PathBuf = self.shared.core.files.root.join(EVENT_DIRECTORY).join(format!("{port}:{rule}"));
        let mut text = String::new();
        let when = jiff::Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%:z");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "PORT={port}\nTRIGGER={rule}\nTIME={when}\nLINE={line}");
        persist::write(&path, text.as_bytes(), 0o600, None)
    }
}

#[zbus::interface(name = "org.consoleserver1.Watcher", introspection_docs = false)]
impl Watcher {
    /// A user has typed a power command in a session at this port.
    #[zbus(out_args("output"))]
    async fn power(
        &self,
        port: &str,
        verb: &str,
        user: &str,
        #[zbus(header)] header: zbus::message::Header<'_>,
    ) -> Result<String> {
        let port = self::port(port)?;
        let verb: PowerVerb = verb.parse().map_err(|error: PowerVerbError| Rejected(error.to_string()))?;
        power::run_for_session(&self.shared, &header, &port, verb, user).await
    }

    async fn report(
        &self,
        port: &str,
        rule: &str,
        line: &str,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> Result<()> {
        let port = self::port(port)?;
        let rule: TriggerName =
            rule.parse().map_err(|error: TriggerNameError| Rejected(error.to_string()))?;
        if line.len() > MAX_EVENT_BYTES || line.contains(|c: char| c.is_control() && c != '\t') {
            return Err(Rejected(format!(
                "the line must be printable text of at most {MAX_EVENT_BYTES} bytes"
            )));
        }
        let state = self.shared.core.state();
        let trigger = state.running_config.ports.get(&port).and_then(|port| port.triggers.get(&rule));
        let trigger = trigger.ok_or_else(|| Rejected(format!("{port} has no running trigger {rule}")))?;
        if self.is_early(&port, &rule, trigger.cooldown) {
            return Err(Rejected(format!("trigger {rule} of {port} is in its cooldown")));
        }
        Manager::triggered(&emitter, port.as_str(), rule.as_str(), line).await?;
        if !trigger.start {
            return Ok(());
        }
        let unit = format!("console-trigger@{port}:{rule}.service");
        self.write(&port, &rule, line).map_err(|error| Failed(format!("{unit} was not started: {error}")))?;
        match self.shared.core.units.begin(&unit).await {
            Ok(Begun::Started) => {
                tracing::info!(console_port = %port, "{unit} started");
                Ok(())
            }
            Ok(Begun::StillRuns) => {
                tracing::warn!(
                    console_port = %port,
                    "{unit} is still running since an earlier match and was not started again"
                );
                Ok(())
            }
            Err(error) => {
                let hint = "it needs a drop-in with ExecStart=, see man console@.service";
                tracing::error!(console_port = %port, "{unit} cannot be started ({hint}): {error}");
                Err(Failed(format!("{unit} cannot be started: {error}")))
            }
        }
    }
}
