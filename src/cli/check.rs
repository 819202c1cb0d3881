//! `check`: a configuration file before it is put in force, as `sshd -t`: everything that is wrong with it at once, or what it would
//! change.

use std::io::{self, Write};
use std::path::Path;

use super::select::counted;
use super::table::table;
use crate::config::compare::{Difference, differences};
use crate::config::{self, Config, ConfigError, LAST_GOOD};

/// Says whether the file is right, and what it would change; without a file, the one that the machine has.
///
/// # Errors
/// What is wrong with the file, every mistake at once.
pub fn run(root: &Path, file: Option<&Path>, to: &mut impl Write) -> Result<(), CheckError> {
    let (path, text, in_force) = match file {
        Some(file) => {
            let text = config::load_text(file)?;
            let text = text.ok_or_else(|| ConfigError::Missing(vec![file.to_owned()]))?;
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
    writeln!(to, "{}: nothing wrong was found; {ports}", path.display())?;
    if let Some(in_force) = in_force {
        say(&differences(&in_force, &config), to)?;
    }
    Ok(())
}

/// Why there is nothing good to say.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The file.
    #[error("{0}")]
    Wrong(#[from] ConfigError),
    /// Standard output.
    #[error("{0}")]
    Output(#[from] io::Error),
}

fn say(changes: &[Difference], to: &mut impl Write) -> io::Result<()> {
    if changes.is_empty() {
        return writeln!(to, "it changes nothing");
    }
    let cell = |value: &Option<String>, none: &str| value.clone().unwrap_or_else(|| none.to_owned());
    let row = |Difference { key, old, new, ports }: &Difference| {
        let at = if ports.is_empty() { String::new() } else { format!(" at {}", counted(ports)) };
        [key.clone(), cell(old, "-"), format!("{}{at}", cell(new, "-"))]
    };
    let heading = ["KEY", "IN FORCE", "NEW"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(heading).chain(changes.iter().map(row)).collect();
    table(&rows, to)
}
