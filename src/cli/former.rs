//! The logs of ports that nothing serves: of those that were removed or renamed, and of those that are not enabled. Nobody
//! is there to ask, so they are read as the caller, whom the permissions of the files let or do not let.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::capture::{History, LineSelection, Matcher, TimeRange, guess_type, logs_in};
use crate::config::{Config, LogType};
use crate::exec::Command;
use crate::port::PortName;
use crate::printable::visible;

/// Lines of a log that are kept to find the last ones, and their bytes: those of a long night.
const MAX_LINES: usize = 100_000;
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Why the log of such a port cannot be read.
#[derive(Debug, Error)]
pub enum FormerError {
    /// The files are for others.
    #[error("{0} is a {1}, whose log only root and the group adm may read")]
    Denied(PortName, &'static str),
    /// The system's reason.
    #[error("the log of the {1} {0} cannot be read: {2}")]
    Io(PortName, &'static str, io::Error),
    /// No file.
    #[error("there is no log of the {1} {0}")]
    None(PortName, &'static str),
    /// No times.
    #[error("the log of the {1} {0} is of type \"raw\": there are no times in it for --since and --until")]
    NoTimes(PortName, &'static str),
    /// Standard output.
    #[error("cannot write: {0}")]
    Output(io::Error),
}

/// What came of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// Whether all of its files could be read.
    pub whole: bool,
}

/// A port that nothing serves and that has a log directory.
#[derive(Debug)]
pub struct Former {
    /// Its name.
    pub port: PortName,
    directory: PathBuf,
    /// What it is.
    pub what: &'static str,
}

impl Former {
    /// The one of this name, if there is a log directory of it.
    pub fn find(logs: &Path, port: &PortName) -> Option<Self> {
        let port = Self::renamed(logs, port).unwrap_or_else(|| port.clone());
        Self::among(logs, port, &configured())
    }

    /// What a port is called now that had this name: `console-logs` leaves a link as it renames its log.
    pub fn renamed(logs: &Path, port: &PortName) -> Option<PortName> {
        let target = fs::read_link(logs.join(port.as_str())).ok()?;
        target.to_str().filter(|target| !target.contains('/'))?.parse().ok()
    }

    /// All of them that are none of `served`, in order.
    pub fn all(logs: &Path, served: &[PortName]) -> io::Result<Vec<Self>> {
        let entries = match fs::read_dir(logs) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let configured = configured();
        let mut all = Vec::new();
        for entry in entries {
            let port = entry?.file_name().to_str().and_then(|name| name.parse::<PortName>().ok());
            let port = port.filter(|port| !served.contains(port));
            all.extend(port.and_then(|port| Self::among(logs, port, &configured)));
        }
        all.sort_by(|one, other| one.port.cmp(&other.port));
        Ok(all)
    }

    fn among(logs: &Path, port: PortName, configured: &[PortName]) -> Option<Self> {
        let directory = logs.join(port.as_str());
        let what = if configured.contains(&port) { "port that is not served" } else { "former port" };
        // (Does not follow links.)
        let found = fs::symlink_metadata(&directory).ok()?;
        found.is_dir().then_some(Self { port, directory, what })
    }

    /// Does `log` or `grep`.
    pub fn run(&self, command: Command, shown: &mut dyn Write) -> Result<Read, FormerError> {
        let (lines, pattern, range, as_is) = match command {
            Command::Log { lines, since, until, follow: _, raw } => {
                (lines, None, TimeRange { since, until }, raw)
            }
            Command::Grep { pattern, since, until, raw } => {
                (None, Some(pattern), TimeRange { since, until }, raw)
            }
            other => unreachable!("{other:?} is done by a port"),
        };
        let names = logs_in(&self.directory).map_err(|error| self.failed(error))?;
        if names.is_empty() {
            return Err(FormerError::None(self.port.clone(), self.what));
        }
        let last = |lines: u32| Last::new((lines as usize).min(MAX_LINES));
        let (mut last, mut whole) = (lines.map(last), true);
        for name in names {
            let path = self.directory.join(name);
            let kind = guess_type(&path).map_err(|error| self.failed(error))?;
            if kind == LogType::Raw && !range.is_all() {
                return Err(FormerError::NoTimes(self.port.clone(), self.what));
            }
            let matcher =
                pattern.clone().map(|pattern| Box::new(move |line: &[u8]| pattern.is_in(line)) as Matcher);
            let wanted = LineSelection { pattern: matcher, range, as_is };
            let mut history = History::new(&path, kind, wanted).map_err(|error| self.failed(error))?;
            while let Some(piece) = history.look_on().map_err(|error| self.failed(error))? {
                match &mut last {
                    Some(last) => last.take(&piece),
                    None => shown.write_all(&piece).map_err(FormerError::Output)?,
                }
            }
            for remark in history.remarks() {
                whole = false;
                eprintln!("{}: {}", self.port, visible(&remark));
            }
        }
        for line in last.iter().flat_map(|last| &last.lines) {
            shown.write_all(line).map_err(FormerError::Output)?;
        }
        shown.flush().map_err(FormerError::Output)?;
        Ok(Read { whole })
    }

    fn failed(&self, error: io::Error) -> FormerError {
        match error.kind() {
            io::ErrorKind::PermissionDenied => FormerError::Denied(self.port.clone(), self.what),
            _ => FormerError::Io(self.port.clone(), self.what, error),
        }
    }
}

/// The ports of the configuration; of one that cannot be read, none.
fn configured() -> Vec<PortName> {
    Config::load(Path::new("/")).map(|loaded| loaded.config.ports.into_keys().collect()).unwrap_or_default()
}

/// The last lines of what comes in pieces.
struct Last {
    most: usize,
    bytes: usize,
    lines: VecDeque<Vec<u8>>,
}

impl Last {
    fn new(most: usize) -> Self {
        Self { most, bytes: 0, lines: VecDeque::new() }
    }

    fn take(&mut self, piece: &[u8]) {
        for part in piece.split_inclusive(|&byte| byte == b'\n') {
            self.bytes += part.len();
            match self.lines.back_mut().filter(|line| !line.ends_with(b"\n")) {
                Some(line) => line.extend_from_slice(part),
                None => self.lines.push_back(part.to_vec()),
            }
            while self.lines.len() > self.most || self.bytes > MAX_BYTES && self.lines.len() > 1 {
                self.bytes -= self.lines.pop_front().map_or(0, |line| line.len());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_however_they_come() {
        let text = b"one\ntwo\nthree\nfour";
        for size in [1, 5, text.len()] {
            for (most, wanted) in [(0, ""), (1, "four"), (2, "three\nfour"), (9, "one\ntwo\nthree\nfour")] {
                let mut last = Last::new(most);
                text.chunks(size).for_each(|piece| last.take(piece));
                // (Of no lines, what has no end yet is none as well.)
                assert_eq!(
                    last.lines.iter().flatten().copied().collect::<Vec<_>>(),
                    wanted.as_bytes(),
                    "{most}"
                );
            }
        }
    }
}
