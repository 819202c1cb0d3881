//! Generates those host keys of the consoles that do not exist. Started by systemd as `console-hostkeys.service`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use consoleserver::hostkeys::HostKeys;
use consoleserver::{hostkeys, system::journal, system::systemd};
use sd_notify::NotifyState;

/// Generate the SSH host keys that are missing in a directory.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Directory of the keys; only its owner should have access
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
    // The other keys may take seconds, and ports wait for this notification.
    systemd::notify(&[NotifyState::Ready]);
    match hostkeys::ensure_more(&directory) {
        Ok(made) => made.iter().for_each(|key| report(key)),
        // The existing keys can be served.
        Err(error) => tracing::error!("{error}"),
    }
    judge(&directory)
}

fn report(made: &Path) {
    tracing::info!("generated the host key {}", made.display());
}

/// Prints which files of the directory are not served, and fails if none is.
fn judge(directory: &Path) -> ExitCode {
    let loaded = hostkeys::load(directory);
    for reason in loaded.iter().flat_map(|keys: &HostKeys| &keys.ignored) {
        tracing::warn!("host key ignored: {reason}");
    }
    journal::exit_code(loaded.map(drop), |_| false)
}
