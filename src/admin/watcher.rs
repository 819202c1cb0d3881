//! `org.consoleserver1.Watcher`: a port says that a rule has fired. A port is the least trusted of all callers: of what it says,
//! only rules that run are believed, at the rate at which they may fire; and whether something is started says the
//! configuration as it is read here.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;
use zbus::object_server::SignalEmitter;

use super::manager::{Manager, port};
use super::refused::{
    BusError::{Failed, Refused},
    Result,
};
use super::service::Shared;
use super::units::Begun;
use crate::config::{TriggerName, TriggerNameError};
use crate::port::PortName;
use crate::system::persist;
use crate::trigger::LONGEST_LINE;

/// What a unit reads, below the root: `PORT:RULE`.
const EVENT_DIRECTORY: &str = "run/consoleserver/trigger";
/// Bytes of a line that is all escapes.
const MAX_EVENT_BYTES: usize = 4 * LONGEST_LINE;

/// The object at `/org/consoleserver1` that ports speak to.
pub struct Watcher {
    shared: Arc<Shared>,
    /// When a rule was believed last. No more of them than there are rules.
    believed: Mutex<HashMap<(PortName, TriggerName), Instant>>,
}

impl Watcher {
    /// Nothing was heard yet.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, believed: Mutex::default() }
    }

    /// The port keeps the rest; half of it is what clocks and a restart between two reports may not make an error of.
    fn is_early(&self, port: &PortName, rule: &TriggerName, rest: std::time::Duration) -> bool {
        let now = Instant::now();
        let mut believed = self.believed.lock().unwrap_or_else(PoisonError::into_inner);
        // Of rules that there are no more, too.
        believed.retain(|_, at| *at + std::time::Duration::from_secs(24 * 3600) > now);
        let last = believed.entry((port.clone(), rule.clone()));
        match last {
            std::collections::hash_map::Entry::Occupied(last) if *last.get() + rest / 2 > now => true,
            last => {
                last.insert_entry(now);
                false
            }
        }
    }

    /// For the unit to read. A name of its own for each rule, so that there are never more than rules.
    fn write(&self, port: &PortName, rule: &TriggerName, line: &str) -> std::io::Result<()> {
        let path: PathBuf = self.shared.core.files.root.join(EVENT_DIRECTORY).join(format!("{port}:{rule}"));
        let mut text = String::new();
        let when = jiff::Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%:z");
        // Writing into a String does not fail.
        let _ = writeln!(text, "PORT={port}\nTRIGGER={rule}\nTIME={when}\nLINE={line}");
        persist::write(&path, text.as_bytes(), 0o600, None)
    }
}

#[zbus::interface(name = "org.consoleserver1.Watcher", introspection_docs = false)]
impl Watcher {
    async fn report(
        &self,
        port: &str,
        rule: &str,
        line: &str,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> Result<()> {
        let port = self::port(port)?;
        let rule: TriggerName = rule.parse().map_err(|error: TriggerNameError| Refused(error.to_string()))?;
        if line.len() > MAX_EVENT_BYTES || line.contains(|c: char| c.is_control() && c != '\t') {
            return Err(Refused(format!(
                "a line has at most {MAX_EVENT_BYTES} bytes, and nothing in it but text"
            )));
        }
        let state = self.shared.core.state();
        let trigger = state.running_config.ports.get(&port).and_then(|port| port.triggers.get(&rule));
        let trigger = trigger.ok_or_else(|| Refused(format!("{port} has no trigger {rule} that runs")))?;
        if self.is_early(&port, &rule, trigger.rest) {
            return Err(Refused(format!("trigger {rule} of {port} rests: it was told of a moment ago")));
        }
        Manager::triggered(&emitter, port.as_str(), rule.as_str(), line).await?;
        if !trigger.start {
            return Ok(());
        }
        let unit = format!("console-trigger@{port}:{rule}.service");
        self.write(&port, &rule, line).map_err(|error| Failed(format!("{unit} is not started: {error}")))?;
        match self.shared.core.units.begin(&unit).await {
            Ok(Begun::Started) => {
                tracing::info!(console_port = %port, "{unit} is started");
                Ok(())
            }
            Ok(Begun::StillRuns) => {
                tracing::warn!(
                    console_port = %port,
                    "{unit} still runs since an earlier trigger, and was not started again"
                );
                Ok(())
            }
            Err(error) => {
                let hint = "a drop-in has to give it ExecStart=, see man console@.service";
                tracing::error!(console_port = %port, "{unit} cannot be started ({hint}): {error}");
                Err(Failed(format!("{unit} cannot be started: {error}")))
            }
        }
    }
}
