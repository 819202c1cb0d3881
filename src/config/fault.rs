//! Errors in a configuration file. Each Display is a sentence that the administrator reads.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::meant;

/// Bytes of the longest configuration file; the vendor's 32 ports take 4 KiB.
pub(super) const MAX_BYTES: usize = 1024 * 1024;

/// Faults that are printed: one page of a terminal. Further ones are counted.
pub(super) const MAX_FAULTS: usize = 20;

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("no configuration file: {}", absent(.0))]
    Missing(Vec<PathBuf>),
    #[error("{}: cannot be read: {cause}{help}", path.display())]
    Unreadable { path: PathBuf, cause: io::Error, help: String },
    #[error("{}: cannot be read: it is {what}, not a file", path.display())]
    NotAFile { path: PathBuf, what: &'static str },
    #[error("{}: is empty, as a full disk leaves a file: restore it, or remove it to use the vendor's configuration", path.display())]
    Empty { path: PathBuf },
    #[error("{}: larger than the limit of {MAX_BYTES} bytes", path.display())]
    TooLong { path: PathBuf },
    #[error("{}:{line}: byte {column} of this line is not UTF-8: save the file as UTF-8 text", path.display())]
    NotUtf8 { path: PathBuf, line: usize, column: usize },
    #[error("{}", lines(path, faults, *more))]
    Wrong { path: PathBuf, faults: Vec<Fault>, more: usize },
}

impl ConfigError {
    /// The first error, in one line.
    pub fn first(&self) -> String {
        match self {
            Self::Wrong { path, faults, more } => {
                let others = faults.len().saturating_sub(1) + more;
                let first = faults.first().map(ToString::to_string).unwrap_or_default();
                let rest = if others > 0 {
                    format!(" (and {others} more: consolectl check)")
                } else {
                    String::new()
                };
                format!("{}:{first}{rest}", path.display())
            }
            other => other.to_string(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line, from 1.
    pub line: usize,
    /// Key path, `ports.ttyUSB0.baud`; empty for a syntax error.
    pub key: String,
    /// The value as written, shortened and printable.
    pub value: Option<String>,
    /// What is wrong, and what would be valid.
    pub reason: String,
}

impl fmt::Display for Fault {
    /// `12: ports.ttyUSB0.baud = "fast": expected a number from 1 to 4294967295`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.line)?;
        if !self.key.is_empty() {
            f.write_str(&self.key)?;
            if let Some(value) = &self.value {
                write!(f, " = {value}")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.reason)
    }
}

fn absent(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    match paths.as_slice() {
        [one] => format!("{one} does not exist"),
        _ => format!("none of {} exists", paths.join(", ")),
    }
}

fn lines(path: &Path, faults: &[Fault], more: usize) -> String {
    let mut lines: Vec<_> = faults.iter().map(|fault| format!("{}:{fault}", path.display())).collect();
    match more {
        0 => {}
        1 => lines.push(format!("{}: and 1 more error", path.display())),
        _ => lines.push(format!("{}: and {more} more errors", path.display())),
    }
    lines.join("\n")
}

/// Collects the faults of one text.
pub(super) struct Faults<'a> {
    text: &'a str,
    found: Vec<(Range<usize>, Fault)>,
    dropped: usize,
    /// End of the last line with a syntax error.
    broken_until: usize,
}

impl<'a> Faults<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, found: Vec::new(), dropped: 0, broken_until: 0 }
    }

    pub(super) fn add(&mut self, span: Range<usize>, key: String, value: Option<String>, reason: String) {
        self.found.push((span, Fault { line: 0, key, value, reason }));
        // The parser returns keys sorted by name: the first ones of the file are known only after all were
        // seen.
        if self.found.len() >= 10 * MAX_FAULTS {
            self.shorten();
        }
    }

    /// Number of faults found so far.
    pub(super) fn len(&self) -> usize {
        self.found.len() + self.dropped
    }

    /// Whether a fault has such a key. Returns true if faults were dropped, since their keys are unknown.
    pub(super) fn any(&self, is: impl Fn(&str) -> bool) -> bool {
        self.dropped > 0 || self.found.iter().any(|(_, fault)| is(&fault.key))
    }

    /// A fault of the value at `span`.
    pub(super) fn add_value(&mut self, span: Range<usize>, key: String, reason: String) {
        let value = self.text.get(span.clone()).filter(|value| !value.is_empty()).map(clip);
        self.add(span, key, value, reason);
    }

    /// A syntax error. Only the first one of a line is kept: the others follow from it.
    pub(super) fn not_toml(&mut self, message: &str, span: Range<usize>) {
        if span.start < self.broken_until {
            return;
        }
        let (before, after) = self.text.split_at_checked(span.start).unwrap_or((self.text, ""));
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        self.broken_until = after.find('\n').map_or(self.text.len(), |newline| span.start + newline) + 1;
        let line = self.text[start..].lines().next().unwrap_or_default();
        let message = match self.text.get(span.clone()) {
            // `parity = N`: the parser expects nan or inf.
            Some(word) if message.starts_with("invalid float") && word.starts_with(char::is_alphabetic) => {
                "string values must be quoted"
            }
            _ => message,
        };
        let message = meant::syntax(line.trim(), message).unwrap_or(message);
        self.add(span, String::new(), None, format!("invalid TOML: {message}: {}", clip(line.trim())));
    }

    /// The line number of an offset, from 1.
    pub(super) fn line(&self, start: usize) -> usize {
        self.text.bytes().take(start).filter(|b| *b == b'\n').count() + 1
    }

    fn shorten(&mut self) {
        self.found.sort_by_key(|(span, _)| span.start);
        self.dropped += self.found.len().saturating_sub(MAX_FAULTS);
        self.found.truncate(MAX_FAULTS);
    }

    pub(super) fn none_or(mut self, path: &Path) -> Result<(), ConfigError> {
        self.shorten();
        if self.found.is_empty() {
            return Ok(());
        }
        let span =
            |(span, fault): &(Range<usize>, Fault)| Fault { line: self.line(span.start), ..fault.clone() };
        let faults = self.found.iter().map(span).collect();
        Err(ConfigError::Wrong { path: path.to_owned(), faults, more: self.dropped })
    }
}

/// Untrusted text made safe to print: short, printable, on one line.
pub(super) fn clip(text: &str) -> String {
    const MAX_SHOWN_CHARS: usize = 60;
    let mut clipped = String::new();
    for (index, c) in text.chars().enumerate() {
        match c {
            _ if index == MAX_SHOWN_CHARS => {
                clipped.push('…');
                break;
            }
            '"' | '\'' | '\\' => clipped.push(c),
            _ => clipped.extend(c.escape_debug()),
        }
    }
    clipped
}

/// One segment of a key path, quoted where TOML requires it.
pub(super) fn segment(word: &str) -> String {
    let bare = !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    if bare { clip(word) } else { format!("\"{}\"", clip(word)) }
}
