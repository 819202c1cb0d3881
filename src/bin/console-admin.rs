//! The administration of the consoles over D-Bus (`man console-admin`).

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use consoleserver::{admin, system::journal};

/// Serve org.consoleserver1 on the system bus: change, reload and commit the configuration. Started by the bus.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Look for /etc, /usr/lib, /run and /var/lib below this directory.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

fn main() -> ExitCode {
    let Arguments { root } = Arguments::parse();
    journal::init("console-admin", None);
    match admin::service::run(root) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
