//! The break that an SSH client asks for (`~B` in OpenSSH, Special Command in PuTTY; RFC 4335).
//!
//! russh has no callback for it: it answers the channel request `break` with a failure and logs `unknown channel request
//! break`, inside the session's own task and in order with the typed bytes. So this is a logger that
//! knows the sessions by their tasks and turns that line into an event. Not pretty, and in this file only;
//! `tests/ssh.rs` presses `~B` in the real client and fails should a russh update change the line.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use tokio::task::Id;

use crate::session::{Event, Feeder};

const LINE: &str = "unknown channel request break";

/// The sessions that can be sent a break, by the task that russh runs them in.
/// A connection may have several: which one has asked, the line does not say, and it is taken for the last that has begun.
static SESSIONS: LazyLock<Mutex<HashMap<Id, Vec<Arc<Feeder>>>>> = LazyLock::new(Mutex::default);

/// While it lives, breaks of the session whose russh task made it arrive as [`Event::Break`].
#[derive(Debug)]
pub struct Registration(Option<(Id, Arc<Feeder>)>);

impl Registration {
    /// Called in a russh callback, which runs in the session's task.
    pub fn here(feeder: Feeder) -> Self {
        let registered = tokio::task::try_id().map(|id| (id, Arc::new(feeder)));
        if let Some((id, feeder)) = &registered {
            sessions().entry(*id).or_default().push(feeder.clone());
        }
        Self(registered)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let Some((id, feeder)) = &self.0 else { return };
        let mut sessions = sessions();
        if let Some(those) = sessions.get_mut(id) {
            those.retain(|other| !Arc::ptr_eq(other, feeder));
            if those.is_empty() {
                sessions.remove(id);
            }
        }
    }
}

fn sessions() -> MutexGuard<'static, HashMap<Id, Vec<Arc<Feeder>>>> {
    SESSIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

struct BreakListener;

static LISTENER: BreakListener = BreakListener;

impl log::Log for BreakListener {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = record.args().to_string();
        if line != LINE {
            tracing::debug!("{}: {line}", record.target());
            return;
        }
        let sessions = sessions();
        if let Some(feeder) = tokio::task::try_id().and_then(|id| sessions.get(&id)?.last()) {
            feeder.feed(Event::Break);
        }
    }

    fn flush(&self) {}
}

/// Begins to listen; once a process.
pub fn listen() -> Result<(), log::SetLoggerError> {
    log::set_logger(&LISTENER)?;
    log::set_max_level(log::LevelFilter::Warn);
    Ok(())
}
