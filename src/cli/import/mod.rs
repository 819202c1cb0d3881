//! `import`: ports out of another console server's configuration. Readers make a [`Plan`] of the ports that
//! there would be and of what has no place here; `conserver` reads conserver.cf(5) by `lexer` and `blocks`,
//! `ser2net` reads ser2net.yaml(5) by `yaml` and `former` its format before 4.0, and `ini` config.ini of
//! ConsoleServer. They see texts only, and get the texts of included files from their caller; `carry` does
//! what the plan says.

mod blocks;
mod carry;
mod consent;
mod conserver;
mod former;
mod gensio;
mod ini;
mod kind;
mod lexer;
mod options;
mod plan;
mod ser2net;
mod source;
mod subst;
#[cfg(test)]
mod tests;
mod words;
mod yaml;

use std::io;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use thiserror::Error;

pub use lexer::Include;
pub use plan::{Draft, Plan, SourceLine};
pub use source::Source;

/// Why a list of hosts is not carried over.
const NARROWER: &str =
    "narrower here: ports listen on the loopback addresses only; widen `listen` behind a firewall";

/// What to import, and how.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ImportOptions {
    /// conserver.cf, ser2net.yaml, ser2net.conf or config.ini; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Whose file it is, if neither its name nor its lines say so
    #[arg(long, value_name = "PROGRAM")]
    pub from: Option<Program>,
    /// TCP ports for the consoles that have none in the file, from this one up
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub first_port: Option<u16>,
    /// Only print what would be done
    #[arg(long)]
    pub dry_run: bool,
}

/// Whose configuration it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Program {
    /// conserver.cf
    Conserver,
    /// ser2net.yaml, or ser2net.conf of before 4.0
    Ser2net,
    /// config.ini
    Consoleserver,
}

/// Why nothing is imported.
#[derive(Debug, Error)]
pub enum ImportError {
    /// Its name says nothing.
    #[error(
        "{0:?}: is that a conserver.cf, a ser2net.yaml, a ser2net.conf or a config.ini? \
         Say it by --from conserver, ser2net or consoleserver"
    )]
    UnknownKind(PathBuf),
    /// It cannot be read.
    #[error("{0}: {1}")]
    Unreadable(String, io::Error),
    /// Too much.
    #[error("{0}: with it there are more than {1} bytes: no configuration is so long")]
    TooLong(String, usize),
    /// Bytes of some other encoding.
    #[error("{0}: not UTF-8: `iconv -f latin1 -t utf8` makes it so if it is Latin-1")]
    Encoding(SourceLine),
    /// Two bytes a character.
    #[error("{0}: UTF-16: `iconv -f utf-16 -t utf-8` makes it readable")]
    Utf16(String),
    /// Not of its format.
    #[error("{0}: {1}")]
    Syntax(SourceLine, String),
    /// A port more would be one too many.
    #[error("{0}: more than {max} ports", max = plan::MAX_PORTS)]
    TooMany(SourceLine),
}

/// Reads a file and makes a plan of it. `this_host` is this machine's name.
pub fn read(wish: &ImportOptions, this_host: &str) -> Result<Plan, ImportError> {
    let mut reader = source::Reader::of(&wish.file);
    let source = reader.read(&wish.file)?;
    let program = wish
        .from
        .or_else(|| kind::by_name(&wish.file))
        .or_else(|| kind::by_text(&source.text))
        .ok_or_else(|| ImportError::UnknownKind(wish.file.clone()))?;
    plan(program, source, &mut |path| reader.read(path), this_host)
}

/// Makes a plan of a text, and of those that it includes.
pub fn plan(
    program: Program,
    source: Source,
    include: &mut Include<'_>,
    this_host: &str,
) -> Result<Plan, ImportError> {
    match program {
        Program::Conserver => conserver::plan(source, include, this_host),
        Program::Ser2net if kind::is_former(&source.text) => former::plan(&source),
        Program::Ser2net => ser2net::plan(source, include),
        Program::Consoleserver => ini::plan(&source),
    }
}
