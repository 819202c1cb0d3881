//! `import`: converts the configuration of another console server. Readers produce a [`Plan`] of the ports and of what is not imported:
//! `conserver` reads conserver.cf(5) by `lexer` and `blocks`, `ser2net` reads ser2net.yaml(5) by `yaml` and `former` its format before
//! 4.0, and `ini` reads config.ini of ConsoleServer. They do no I/O; their caller reads included files. `carry` applies the plan.

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

/// Why a list of hosts is not imported.
const NARROWER: &str =
    "narrower here: ports listen on loopback addresses only; extend `listen` behind a firewall";

/// Arguments of `import`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ImportOptions {
    /// conserver.cf, ser2net.yaml, ser2net.conf or config.ini; - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Format of the file; default: inferred from its name or content
    #[arg(long, value_name = "PROGRAM")]
    pub from: Option<Program>,
    /// Assign free SSH ports, starting at N, to consoles without one in the file
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub first_port: Option<u16>,
    /// Print the changes without making them
    #[arg(long)]
    pub dry_run: bool,
}

/// The program that a configuration is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Program {
    /// conserver.cf
    Conserver,
    /// ser2net.yaml, or ser2net.conf of before 4.0
    Ser2net,
    /// config.ini
    Consoleserver,
}

/// Why an import failed.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The format cannot be inferred.
    #[error(
        "{0:?}: unknown format (expected a conserver.cf, ser2net.yaml, ser2net.conf or config.ini): \
         use --from conserver, ser2net or consoleserver"
    )]
    UnknownKind(PathBuf),
    /// It cannot be read.
    #[error("{0}: {1}")]
    Unreadable(String, io::Error),
    /// The files are too large.
    #[error("{0}: the files have more than {1} bytes in total, which is the limit")]
    TooLong(String, usize),
    /// Another encoding than UTF-8.
    #[error("{0}: not UTF-8; if it is Latin-1, convert it with `iconv -f latin1 -t utf8`")]
    Encoding(SourceLine),
    /// UTF-16.
    #[error("{0}: UTF-16; convert it with `iconv -f utf-16 -t utf-8`")]
    Utf16(String),
    /// A syntax error.
    #[error("{0}: {1}")]
    Syntax(SourceLine, String),
    /// Too many ports.
    #[error("{0}: more than {max} ports", max = plan::MAX_PORTS)]
    TooMany(SourceLine),
}

/// Reads a file into a plan. `this_host` is the host name of this machine.
pub fn read(options: &ImportOptions, this_host: &str) -> Result<Plan, ImportError> {
    let mut reader = source::Reader::of(&options.file);
    let source = reader.read(&options.file)?;
    let program = options
        .from
        .or_else(|| kind::by_name(&options.file))
        .or_else(|| kind::by_text(&source.text))
        .ok_or_else(|| ImportError::UnknownKind(options.file.clone()))?;
    plan(program, source, &mut |path| reader.read(path), this_host)
}

/// Reads a text, and those that it includes, into a plan.
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
