//! Makes the host key of the consoles, once: what `console-hostkeys.service` runs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use consoleserver::hostkeys::HostKeys;
use consoleserver::{hostkeys, journal};

/// Make the SSH host key, if the directory does not have it yet.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where it is kept; only their owner should be able to look inside.
    directory: PathBuf,
}

fn main() -> ExitCode {
    let Arguments { directory } = Arguments::parse();
    journal::init("console-hostkeys", None);
    match hostkeys::ensure(&directory) {
        Ok(made) => {
            if let Some(key) = made {
                tracing::info!("made the host key {}", key.display());
            }
            judge(&directory)
        }
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Says what of the directory is not served, and fails if nothing is.
fn judge(directory: &Path) -> ExitCode {
    match hostkeys::load(directory) {
        Ok(HostKeys { passed_over, .. }) => {
            for reason in passed_over {
                tracing::warn!("host key passed over: {reason}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
