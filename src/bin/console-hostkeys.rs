//! Generates the host keys of the consoles, once (`console-hostkeys.service`).

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use consoleserver::hostkeys::HostKeys;
use consoleserver::{hostkeys, system::journal, system::systemd};
use sd_notify::NotifyState;

/// Generate the SSH host keys that the directory does not contain yet.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Directory of the keys, readable only by its owner
    directory: PathBuf,
}

fn main() -> ExitCode {
    let Arguments { directory } = Arguments::parse();
    journal::init("console-hostkeys", None);
    match hostkeys::ensure(&directory) {
        Ok(made) => made.iter().for_each(|key| report(key)),
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::FAILURE;
        }
    }
    // The next step may take seconds, and ports wait for this unit.
    systemd::notify(&[NotifyState::Ready]);
    match hostkeys::ensure_more(&directory) {
        Ok(made) => made.iter().for_each(|key| report(key)),
        // Existing keys can be used.
        Err(error) => tracing::error!("{error}"),
    }
    judge(&directory)
}

fn report(made: &Path) {
    tracing::info!("generated host key {}", made.display());
}

/// Reports files that are skipped, and fails if no key is usable.
fn judge(directory: &Path) -> ExitCode {
    match hostkeys::load(directory) {
        Ok(HostKeys { passed_over, .. }) => {
            for reason in passed_over {
                tracing::warn!("host key skipped: {reason}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
