//! Makes the host keys of the consoles, once: what `console-hostkeys.service` runs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use consoleserver::hostkeys::HostKeys;
use consoleserver::{hostkeys, system::journal, system::systemd};
use sd_notify::NotifyState;

/// Make the SSH host keys that the directory does not have yet.
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
        Ok(made) => made.iter().for_each(|key| report(key)),
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::FAILURE;
        }
    }
    // What follows may take seconds, and ports wait for us.
    systemd::notify(&[NotifyState::Ready]);
    match hostkeys::ensure_more(&directory) {
        Ok(made) => made.iter().for_each(|key| report(key)),
        // What there is can be served.
        Err(error) => tracing::error!("{error}"),
    }
    judge(&directory)
}

fn report(made: &Path) {
    tracing::info!("made the host key {}", made.display());
}

/// Prints which files of the directory are not served, and fails if none is.
fn judge(directory: &Path) -> ExitCode {
    let loaded = hostkeys::load(directory);
    for reason in loaded.iter().flat_map(|keys: &HostKeys| &keys.ignored) {
        tracing::warn!("host key ignored: {reason}");
    }
    journal::exit_code(loaded.map(drop), |_| false)
}
