//! The capture log by command. The port reads it, because its readers need not be in the group of the file.

use jiff::Timestamp;

use super::{DONE, Done, FAILED, Pattern, Task};
use crate::capture::{History, Sieve, Wanted};
use crate::config::LogType;
use crate::session::Outlet;

/// Lines that may be asked for: those of a long night. More is for a pager on the file.
const LINES: u32 = 100_000;

impl Task {
    pub(super) async fn log<O: Outlet>(
        &self,
        lines: Option<u32>,
        since: Option<Timestamp>,
        follow: bool,
        outlet: &mut O,
    ) -> Done {
        // Before the file is looked at: what comes in between is announced.
        let mut logged = self.console.hub.logged();
        let log = self.console.settings().log;
        self.has_times(since, log.kind)?;
        let mut tail = match lines {
            Some(lines) => self.console.log.last_lines(&log, lines.min(LINES) as usize).await,
            None => {
                let history = self.console.log.history(&log, Wanted { pattern: None, since }).await;
                let rest = self.show_history(self.read(history)?, outlet).await?.0;
                Ok(rest.into_tail())
            }
        }
        .or_else(|error| self.failed(error))?;
        let mut sieve = lines.and(since).map(Sieve::since);
        loop {
            let (going_on, piece) = self.read(self.console.log.read(tail).await)?;
            tail = going_on;
            if !piece.is_empty() {
                let passed = match &mut sieve {
                    Some(sieve) => sieve.pass(&piece),
                    None => piece,
                };
                outlet.send(passed).await?;
            } else if !follow || logged.changed().await.is_err() {
                return Ok(DONE);
            }
        }
    }

    pub(super) async fn grep<O: Outlet>(
        &self,
        pattern: Pattern,
        since: Option<Timestamp>,
        outlet: &mut O,
    ) -> Done {
        let log = self.console.settings().log;
        self.has_times(since, log.kind)?;
        let pattern = Some(Box::new(move |line: &[u8]| pattern.is_in(line)) as _);
        let history = self.console.log.history(&log, Wanted { pattern, since }).await;
        let (_, found) = self.show_history(self.read(history)?, outlet).await?;
        Ok(if found { DONE } else { FAILED })
    }

    /// Shows all of it: where it ended, and whether there was anything.
    async fn show_history<O: Outlet>(&self, mut history: History, outlet: &mut O) -> Done<(History, bool)> {
        let mut found = false;
        loop {
            let (going_on, piece) = self.read(self.console.log.look_on(history).await)?;
            history = going_on;
            match piece {
                Some(piece) if piece.is_empty() => {}
                Some(piece) => {
                    found = true;
                    outlet.send(piece).await?;
                }
                None => return Ok((history, found)),
            }
        }
    }

    fn has_times(&self, since: Option<Timestamp>, kind: LogType) -> Done<()> {
        match (since, kind) {
            (Some(_), LogType::Raw) => {
                self.failed("log.type is \"raw\": there are no times in it for --since")
            }
            _ => Ok(()),
        }
    }

    fn read<T>(&self, read: Result<T, impl std::fmt::Display>) -> Done<T> {
        read.or_else(|error| self.failed(error))
    }
}
