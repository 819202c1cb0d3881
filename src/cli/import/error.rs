//! Why an import failed, and where.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use crate::session::plain;

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceLine {
    /// The name of the file.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for SourceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", plain(&self.file), self.line)
    }
}

/// Why an import failed.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The format cannot be inferred.
    #[error(
        "{0:?}: unknown format (expected a conserver.cf, conman.conf, ser2net.yaml, ser2net.conf or config.ini): \
         use --from conserver, conman, ser2net or consoleserver"
    )]
    UnknownKind(PathBuf),
    /// A file of a program that is not imported: the program, and what to do.
    #[error(
        "{0:?}: a file of {1}, which is not imported: {2} \
         (imported are conserver.cf, conman.conf, ser2net.yaml, ser2net.conf and config.ini; --from PROGRAM reads it as one of them)"
    )]
    Foreign(PathBuf, &'static str, &'static str),
    /// It cannot be read.
    #[error("{0}: {1}")]
    Unreadable(String, io::Error),
    /// The files are too large.
    #[error("{0}: the files have more than {1} bytes in total, which is the limit")]
    TooLong(String, usize),
    /// UTF-16.
    #[error("{0}: UTF-16; convert it with `iconv -f utf-16 -t utf-8`")]
    Utf16(String),
    /// A syntax error.
    #[error("{0}: {1}")]
    Syntax(SourceLine, String),
    /// Too many ports.
    #[error("{0}: more than {1} ports")]
    TooMany(SourceLine, usize),
}
