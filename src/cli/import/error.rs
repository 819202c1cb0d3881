//! Why an import failed, and where.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use crate::session::plain;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceLine {
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for SourceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", plain(&self.file), self.line)
    }
}

#[derive(Debug, Error)]
pub enum ImportError {
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
    #[error("{0}: {1}")]
    Unreadable(String, io::Error),
    #[error("{0}: the files have more than {1} bytes in total, which is the limit")]
    TooLong(String, usize),
    #[error("{0}: UTF-16; convert it with `iconv -f utf-16 -t utf-8`")]
    Utf16(String),
    #[error("{0}: {1}")]
    Syntax(SourceLine, String),
    #[error("{0}: more than {1} ports")]
    TooMany(SourceLine, usize),
}
