//! The `initial` steps of a port: what it sends, and waits for, each time its line is opened or its source connected. The steps see the
//! output as a session does, and a secret comes from a systemd credential, which is read when it is sent.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use regex_automata::meta;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::{self, CredentialName, Initial, InitialStep};
use crate::hub::{BreakRequest, Cursor, DEFAULT_BREAK_MS, Hub, LineState, Pulled};
use crate::port::{Pacing, Sequence, Step};
use crate::printable::visible;

/// Bytes read at once.
const READ_CHUNK: usize = 512;
/// Bytes that are searched: a prompt, and the message before it. With the costliest pattern, some milliseconds.
const MATCH_WINDOW_BYTES: usize = 1024;
/// Bytes of a credential: systemd's own limit is 1 MiB, a password is a line.
const MAX_CREDENTIAL_BYTES: u64 = 4096;
/// Failures in a row after which the steps are not tried again: BMCs and terminal servers lock an account after a few wrong passwords.
const MAX_FAILURES: u32 = 3;
/// Characters of the device's last line in a sentence.
const MAX_REASON_CHARS: usize = 80;
/// Time for the device to take what is sent, besides the delays of the port.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the steps did not end: a sentence without the step.
enum Failure {
    Reason(String),
    Closed,
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self::Reason(why)
    }
}

/// Runs the steps after each connect, for as long as there is a line. The settings change each time that the administrator reloads the
/// port: then failures are forgotten.
pub async fn run(hub: Arc<Hub>, mut settings: watch::Receiver<config::Port>) {
    let mut opened = hub.opened();
    let mut failures = 0;
    loop {
        let from = *opened.borrow_and_update();
        let Some(from) = from else {
            if opened.changed().await.is_err() {
                return;
            }
            continue;
        };
        if settings.has_changed().unwrap_or(false) {
            failures = 0;
        }
        hub.set_initial_failure(None);
        let (initial, pacing) = {
            let settings = settings.borrow_and_update();
            (settings.initial.clone(), settings.pacing)
        };
        match failures >= MAX_FAILURES {
            _ if initial.steps().is_empty() => {}
            // Each connection has this failure, and the log has it once.
            true => hub.set_initial_failure(Some(format!(
                "the initial steps were not tried again after {MAX_FAILURES} failures"
            ))),
            false => {
                // A separate receiver, so that the loop still sees the change.
                let mut reopened = opened.clone();
                let outcome = tokio::select! {
                    // A line that is closed and opened at once.
                    _ = reopened.changed() => Err(": the line was closed".to_owned()),
                    outcome = talk(&hub, &initial, pacing, from) => outcome,
                };
                match outcome {
                    Ok(()) => {
                        failures = 0;
                        hub.note("initial steps done".to_owned());
                    }
                    // The far end is switched off behind a proxy that accepts every connection.
                    Err(_) if hub.traffic().0 == from && !hub.line().borrow().takes_input() => {}
                    Err(why) => {
                        failures += 1;
                        let last = match failures >= MAX_FAILURES {
                            true => format!(
                                "; not tried again after {MAX_FAILURES} failures: correct them, then `consolectl reload` and ^Eco"
                            ),
                            false => String::new(),
                        };
                        report(&hub, format!("the initial steps failed{why}{last}"));
                    }
                }
            }
        }
        if opened.changed().await.is_err() {
            return;
        }
    }
}

fn report(hub: &Hub, why: String) {
    tracing::warn!("{why}");
    hub.note(why.clone());
    hub.set_initial_failure(Some(why));
}

/// Runs the steps. The error is what follows "the initial steps failed": the step and the reason.
async fn talk(hub: &Arc<Hub>, initial: &Initial, pacing: Pacing, from: u64) -> Result<(), String> {
    let mut output = Seen { cursor: hub.session_cursor(from), window: Vec::new(), secrets: Vec::new() };
    let mut line = hub.line();
    for (index, step) in initial.steps().iter().enumerate() {
        let done = async {
            tokio::select! {
                done = one(hub, step, pacing, &mut output) => done,
                () = closed(&mut line) => Err(Failure::Closed),
            }
        };
        let why = match done.await {
            Ok(()) => continue,
            Err(Failure::Closed) => {
                output.catch_up().await;
                format!("the line was closed{}", output.last_line())
            }
            Err(Failure::Reason(why)) => why,
        };
        return Err(format!(" at step {} of {}: {why}", index + 1, initial.steps().len()));
    }
    Ok(())
}

async fn closed(line: &mut watch::Receiver<LineState>) {
    // The sender lives in the hub.
    let _ = line.wait_for(LineState::is_closed).await;
}

async fn one(hub: &Arc<Hub>, step: &InitialStep, pacing: Pacing, output: &mut Seen) -> Result<(), Failure> {
    if let Some(expected) = &step.expect {
        let deadline = Instant::now() + step.timeout;
        let regex = expected.compiled();
        if timeout_at(deadline, output.wait_for(&regex)).await.is_err() {
            let seconds = step.timeout.as_secs();
            let why =
                format!("no match for {:?} within {seconds} s{}", expected.as_str(), output.last_line());
            return Err(why.into());
        }
    }
    if let Some(name) = &step.credential {
        let bytes = credential(name).await?;
        output.secrets.push(bytes.clone());
        write(hub, bytes, pacing, true).await?;
    }
    let default = Sequence::of_bytes(b"\r");
    match (&step.send, &step.credential) {
        (Some(sequence), _) => send(hub, sequence, pacing).await,
        (None, Some(_)) => send(hub, &default, pacing).await,
        (None, None) => Ok(()),
    }
}

async fn send(hub: &Arc<Hub>, sequence: &Sequence, pacing: Pacing) -> Result<(), Failure> {
    for step in sequence.steps() {
        match step {
            Step::Delay(time) => sleep(*time).await,
            Step::Bytes(bytes) => write(hub, bytes.clone(), pacing, false).await?,
            Step::Break(length) => {
                let length = length.unwrap_or(Duration::from_millis(DEFAULT_BREAK_MS.into()));
                let what = BreakRequest { length, sequence: Some(Sequence::serial_break()) };
                hub.send_break(what, "initial".to_owned()).await.ok_or(Failure::Closed)??;
            }
        }
    }
    Ok(())
}

/// Waits until the line has written these bytes.
async fn write(hub: &Hub, bytes: Vec<u8>, pacing: Pacing, is_secret: bool) -> Result<(), Failure> {
    let limit = SEND_TIMEOUT + pacing.time(&bytes);
    match tokio::time::timeout(limit, hub.write(bytes, pacing, is_secret)).await {
        Ok(Some(())) => Ok(()),
        Ok(None) => Err(Failure::Closed),
        Err(_) => Err("the device takes no input".to_owned().into()),
    }
}

/// The content of a credential without its line end. The error names the unit's setting, and never the content.
async fn credential(name: &CredentialName) -> Result<Vec<u8>, String> {
    let Some(directory) = std::env::var_os("CREDENTIALS_DIRECTORY") else {
        return Err(format!(
            "there is no credential {name}: `systemctl edit console@.service`, LoadCredential={name}:/PATH in [Service]"
        ));
    };
    let path = PathBuf::from(directory).join(name.to_string());
    let read = tokio::task::spawn_blocking(move || {
        use std::io::Read;
        let mut bytes = Vec::new();
        let count = std::fs::File::open(path)?.take(MAX_CREDENTIAL_BYTES + 1).read_to_end(&mut bytes)?;
        match count as u64 > MAX_CREDENTIAL_BYTES {
            true => Err(io::Error::other(format!("longer than {MAX_CREDENTIAL_BYTES} bytes"))),
            false => Ok(bytes),
        }
    });
    let read = read.await.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
    let mut bytes = read.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!(
            "there is no credential {name}: LoadCredential={name}:/PATH in [Service] of the unit, then restart it"
        ),
        _ => format!("the credential {name} cannot be read: {error}"),
    })?;
    // An editor ends a file with a line end, which is not a part of a password.
    for end in [b'\n', b'\r'] {
        if bytes.last() == Some(&end) {
            bytes.pop();
        }
    }
    Ok(bytes)
}

/// The output since the last match.
struct Seen {
    cursor: Cursor,
    window: Vec<u8>,
    /// Credentials that were sent: a device that echoes one must not bring it into the journal.
    secrets: Vec<Vec<u8>>,
}

impl Seen {
    /// Waits for a match, and drops the output up to its end. Cancel safe.
    async fn wait_for(&mut self, regex: &meta::Regex) {
        loop {
            if let Some(found) = regex.find(&self.window) {
                self.window.drain(..found.end());
                return;
            }
            self.pull().await;
        }
    }

    /// Cancel safe.
    async fn pull(&mut self) {
        match self.cursor.pull(READ_CHUNK).await {
            Pulled::Bytes(bytes) => {
                self.window.extend_from_slice(&bytes);
                let excess = self.window.len().saturating_sub(MATCH_WINDOW_BYTES);
                self.window.drain(..excess);
            }
            Pulled::Skipped(_) => self.window.clear(),
        }
    }

    /// Takes what is there.
    async fn catch_up(&mut self) {
        while tokio::time::timeout(Duration::ZERO, self.pull()).await.is_ok() {}
    }

    /// The last line that the device has printed, which usually is the reason.
    fn last_line(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.window).into_owned();
        for secret in self.secrets.iter().map(|secret| String::from_utf8_lossy(secret)) {
            if !secret.is_empty() {
                text = text.replace(&*secret, "***");
            }
        }
        let last = text.split(['\r', '\n']).map(str::trim).rfind(|line| !line.is_empty());
        last.map_or_else(String::new, |line| {
            let line: String = visible(line).chars().take(MAX_REASON_CHARS).collect();
            format!("; the device's last line: {line:?}")
        })
    }
}
