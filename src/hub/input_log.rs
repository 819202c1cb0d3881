//! Input that was sent to the device, on its way to the log: collected into lines, since a record for each key would be unreadable.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Hub, Noted};

/// Input is logged a line at a time, or this long after its first character.
const INPUT_NOTE_DELAY: Duration = Duration::from_secs(2);
/// Bytes of such a record.
const INPUT_NOTE_BYTES: usize = 1024;

/// The input that is not logged yet.
#[derive(Debug)]
pub(super) struct InputLog {
    hub: Arc<Hub>,
    typed: Vec<u8>,
    due: Option<Instant>,
}

impl InputLog {
    pub(super) fn new(hub: Arc<Hub>) -> Self {
        Self { hub, typed: Vec::new(), due: None }
    }

    /// When [`Self::flush`] is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// These bytes were sent.
    pub(super) fn sent(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.typed.extend_from_slice(bytes);
        self.due.get_or_insert_with(|| Instant::now() + INPUT_NOTE_DELAY);
        if self.typed.len() >= INPUT_NOTE_BYTES || bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
            self.flush();
        }
    }

    /// Logs what was sent so far.
    pub(super) fn flush(&mut self) {
        self.due = None;
        if !self.typed.is_empty() {
            self.hub.note_that(Noted::Input(std::mem::take(&mut self.typed)));
        }
    }
}
