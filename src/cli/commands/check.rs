//! `check`: validates a configuration file before it is applied, as `sshd -t` does: reports all errors at once, or what the file would
//! change.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::doctor::config_file;
use crate::cli::doctor::finding::Finding;
use crate::cli::summary::counted;
use crate::cli::table::table;
use crate::config::compare::{Difference, differences};
use crate::config::{self, Config, ConfigError, LAST_GOOD};

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Check {
    /// File; default: the configuration of this machine
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub file: Option<PathBuf>,
}

/// Checks a file, and prints what it would change; without a file, the configuration of this machine.
pub fn run(root: &Path, file: Option<&Path>, to: &mut impl Write) -> Result<(), CheckError> {
    let is_committed = file.is_none();
    let (path, text, in_force) = match file {
        Some(file) => {
            let config::Text { text, .. } = config::load_only(file)?;
            (file.to_owned(), text, Config::load_or_last_good(root).map(|loaded| loaded.config).ok())
        }
        None => {
            let config::Text { text, path } = config::committed(root)?;
            (path, text, Config::load_file(&root.join(LAST_GOOD)).map(|loaded| loaded.config).ok())
        }
    };
    let config = Config::parse(&text, &path)?;
    let ports = match config.ports.len() {
        1 => "1 port".to_owned(),
        count => format!("{count} ports"),
    };
    writeln!(to, "{}: no errors; {ports}", path.display())?;
    if config.ports.is_empty() {
        writeln!(to, "{}", config_file::without_ports(&path).problem)?;
    }
    if is_committed {
        for other in config_file::ignored(root) {
            writeln!(to, "{}", config_file::not_read(&other).problem)?;
        }
    }
    if let Some(in_force) = in_force {
        print(&differences(&in_force, &config), to)?;
    }
    // Root may read what the ports may not.
    match (is_committed && root == Path::new("/")).then(|| config_file::check(&path)).flatten() {
        Some(Finding { problem, fix, .. }) => {
            Err(CheckError::Unreadable(problem, fix.lines().next().unwrap_or_default().to_owned()))
        }
        None => Ok(()),
    }
}

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error(transparent)]
    Invalid(#[from] ConfigError),
    /// The programs that read it may not.
    #[error("{0}: {1}")]
    Unreadable(String, String),
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

fn print(changes: &[Difference], to: &mut impl Write) -> io::Result<()> {
    if changes.is_empty() {
        return writeln!(to, "no changes");
    }
    let cell = |value: &Option<String>, none: &str| value.clone().unwrap_or_else(|| none.to_owned());
    let row = |Difference { key, old, new, ports }: &Difference| {
        let at = if ports.is_empty() { String::new() } else { format!(" at {}", counted(ports)) };
        [key.clone(), cell(old, "-"), format!("{}{at}", cell(new, "-"))]
    };
    let heading = ["KEY", "CURRENT", "NEW"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(heading).chain(changes.iter().map(row)).collect();
    table(&rows, to)
}
