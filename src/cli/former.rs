//! Logs of ports that are not served: removed, renamed or disabled ones. No port process runs, so the files are read with the
//! permissions of the caller.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::stdout::print_error;
use crate::capture::{History, LineSelection, Matcher, TimeRange, guess_type, logs_in};
use crate::config::{Config, LogType};
use crate::exec::Command;
use crate::port::PortName;

/// Limits of what is kept to find the last lines of a log.
const MAX_LINES: usize = 100_000;
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Why the log of such a port cannot be read.
#[derive(Debug, Error)]
pub enum FormerError {
    #[error("the log of the {1} {0} is readable by root and the group adm only")]
    Denied(PortName, &'static str),
    #[error("the log of the {1} {0} cannot be read: {2}")]
    Io(PortName, &'static str, io::Error),
    #[error("the {1} {0} has no log")]
    None(PortName, &'static str),
    #[error("the log of the {1} {0} is of type \"raw\", which has no timestamps for --since and --until")]
    NoTimes(PortName, &'static str),
    #[error("cannot write: {0}")]
    Output(io::Error),
}

/// The result of reading a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// Whether all of its files could be read.
    pub whole: bool,
}

/// A port that is not served and has a log directory.
#[derive(Debug)]
pub struct Former {
    pub port: PortName,
    directory: PathBuf,
    pub what: &'static str,
}

impl Former {
    /// The port of this name, if it has a log directory.
    pub fn find(logs: &Path, port: &PortName) -> Option<Self> {
        let port = Self::renamed(logs, port).unwrap_or_else(|| port.clone());
        Self::among(logs, port, &configured())
    }

    /// The new name of a renamed port: `console-logs` leaves a link when it renames the log directory.
    pub fn renamed(logs: &Path, port: &PortName) -> Option<PortName> {
        let target = fs::read_link(logs.join(port.as_str())).ok()?;
        target.to_str().filter(|target| !target.contains('/'))?.parse().ok()
    }

    /// All of them, except those in `served`, in order.
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
        let what = if configured.contains(&port) { "closed port" } else { "former port" };
        // (Does not follow links.)
        let found = fs::symlink_metadata(&directory).ok()?;
        found.is_dir().then_some(Self { port, directory, what })
    }

    /// Runs `log` or `grep`.
    pub fn run(&self, command: Command, shown: &mut dyn Write) -> Result<Read, FormerError> {
        let (lines, pattern, range, as_is) = match command {
            Command::Log { lines, since, until, follow: _, raw } => {
                (lines, None, TimeRange { since, until }, raw)
            }
            Command::Grep { pattern, since, until, raw } => {
                (None, Some(pattern), TimeRange { since, until }, raw)
            }
            other => unreachable!("{other:?} needs a port process"),
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
            while let Some(piece) = history.read_appended().map_err(|error| self.failed(error))? {
                match &mut last {
                    Some(last) => last.take(&piece),
                    None => shown.write_all(&piece).map_err(FormerError::Output)?,
                }
            }
            for remark in history.remarks() {
                whole = false;
                print_error(&format_args!("{}: {remark}", self.port));
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

/// The ports of the configuration; none if it cannot be read.
fn configured() -> Vec<PortName> {
    Config::load(Path::new("/")).map(|loaded| loaded.config.ports.into_keys().collect()).unwrap_or_default()
}

/// Keeps the last lines of chunks.
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
    fn the_last_lines_are_kept_for_any_chunk_size() {
        let text = b"one\ntwo\nthree\nfour";
        for size in [1, 5, text.len()] {
            for (most, wanted) in [(0, ""), (1, "four"), (2, "three\nfour"), (9, "one\ntwo\nthree\nfour")] {
                let mut last = Last::new(most);
                text.chunks(size).for_each(|piece| last.take(piece));
                // (An unfinished line counts as a line.)
                assert_eq!(
                    last.lines.iter().flatten().copied().collect::<Vec<_>>(),
                    wanted.as_bytes(),
                    "{most}"
                );
            }
        }
    }
}
