//! Power commands: `console-power@PORT:VERB.service` is started, its end is awaited, and its output is returned. What the unit does, an
//! administrator's drop-in defines; the command and its result are noted in the port's log and in the journal.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use zbus::message::Header;

use super::apply::Step;
use super::authorization::Session;
use super::bus_error::{
    BusError::{Denied, Failed, Rejected},
    Result,
};
use super::service::Shared;
use crate::attach::client;
use crate::event::Event;
use crate::port::PortName;
use crate::port::power::PowerVerb;
use crate::session::plain;
use crate::system::lock::Lock;
use crate::system::persist;

/// Time for the unit to end: longer than its own TimeoutStartSec=, so that systemd reports a hung power switch by itself.
const POWER_TIMEOUT: Duration = Duration::from_secs(150);
/// Where the units write their output, below the root. Owned by root: console-admin only reads there.
const OUTPUT_DIRECTORY: &str = "run/consoleserver/power";
/// Bytes of output that are returned; a fence agent prints a line.
const MAX_OUTPUT_BYTES: u64 = 4096;

/// Ports at which a power command is in progress: two at once could leave a device off.
static IN_PROGRESS: Mutex<BTreeSet<PortName>> = Mutex::new(BTreeSet::new());

struct InProgress(PortName);

impl InProgress {
    fn begin(port: &PortName) -> Result<Self> {
        match IN_PROGRESS.locked().insert(port.clone()) {
            true => Ok(Self(port.clone())),
            false => Err(Rejected(format!("another power command for {port} is still in progress"))),
        }
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        IN_PROGRESS.locked().remove(&self.0);
    }
}

/// Runs a power command for `user`, who has been authorized. Returns the unit's output.
pub async fn run(shared: &Shared, port: &PortName, verb: PowerVerb, user: &str) -> Result<String> {
    let _in_progress = InProgress::begin(port)?;
    let unit = format!("console-power@{port}:{verb}.service");
    let output = shared.core.files.root.join(OUTPUT_DIRECTORY).join(format!("{port}:{verb}"));
    let before = modified(&output);
    let user = plain(user);
    note(shared, port, format!("power {verb} by {user}")).await;
    tracing::info!(message_id = Event::Power.id(), console_port = %port, console_user = user, "power {verb} by {user}: {unit} is started");
    let done = shared.core.units.step_within(&Step::Start(unit.clone()), POWER_TIMEOUT).await;
    // Written by this run: systemd truncates the file when it starts the unit.
    let said = if modified(&output) == before { String::new() } else { read(&output) };
    match done {
        Ok(()) => {
            let result = if said.is_empty() { "done".to_owned() } else { said.clone() };
            note(shared, port, format!("power {verb}: {}", one_line(&result))).await;
            tracing::info!(message_id = Event::Power.id(), console_port = %port, console_user = user, "power {verb}: {}", one_line(&result));
            Ok(said)
        }
        Err(error) => {
            note(shared, port, format!("power {verb} failed")).await;
            let why = match said.as_str() {
                "" => format!(
                    "{error} (a drop-in must give {unit} an ExecStart= and the files that it reads, see man console@.service)"
                ),
                said => format!("{error}: {}", one_line(said)),
            };
            tracing::error!(message_id = Event::Power.id(), console_port = %port, console_user = user, "power {verb} failed: {why}");
            Err(Failed(format!("power {verb} of {port} failed: {why}")))
        }
    }
}

/// Runs a power command that a user has typed in a session at a port. The caller is `_console-port`, the least trusted of all callers: it
/// must be the unit of this very port, and polkit decides about the user that it names.
pub async fn run_for_session(
    shared: &Shared,
    header: &Header<'_>,
    port: &PortName,
    verb: PowerVerb,
    user: &str,
) -> Result<String> {
    let unit = {
        let state = shared.core.state();
        if !state.running_config.ports.contains_key(port) {
            return Err(Rejected(format!("no port {port} is running")));
        }
        state.instances.of(port).service()
    };
    let session = Session { unit: &unit, port: port.as_str(), user, verb: verb.as_str() };
    shared.authorizer.admit_session(header, session).await.map_err(|denied| Denied(denied.to_string()))?;
    run(shared, port, verb, user).await
}

/// A record in the port's log. A port that does not run has no log to write to; the journal has the same.
async fn note(shared: &Shared, port: &PortName, text: String) {
    let live = &shared.core.live;
    if live.active().await.is_ok_and(|active| active.contains(port))
        && let Err(why) =
            live.ask(port, move |runtime_dir, port| client::note(runtime_dir, port, &text)).await
    {
        tracing::warn!(console_port = %port, "the power command is not noted in the log of {port}: {why}");
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

/// The output as text. A file that cannot be read counts as empty: the unit's result does not depend on it.
fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    match persist::open(path).and_then(|file| file.take(MAX_OUTPUT_BYTES).read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(error) => {
            tracing::warn!("the output of a power command cannot be read: {}: {error}", path.display())
        }
    }
    let lines = String::from_utf8_lossy(&bytes).lines().map(plain).collect::<Vec<_>>();
    lines.join("\n").trim().to_owned()
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}
