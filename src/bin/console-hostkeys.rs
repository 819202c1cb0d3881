//! Makes the host keys of the consoles, once: what `console-hostkeys.service` runs.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use consoleserver::{hostkeys, journal};

/// Make the SSH host keys that the directory does not have yet.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where the keys are kept; only their owner should be able to look inside.
    directory: PathBuf,
}

fn main() -> ExitCode {
    let Arguments { directory } = Arguments::parse();
    journal::init("console-hostkeys", None);
    match hostkeys::ensure(&directory) {
        Ok(made) => {
            for key in made {
                tracing::info!("made the host key {}", key.display());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
