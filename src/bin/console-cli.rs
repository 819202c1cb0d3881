//! The admin CLI over SSH: logs people in, and has `consolectl` run as them. Made to be run by systemd as
//! `console-cli.service`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use consoleserver::gateway::{self, GatewayError};
use consoleserver::system::journal;

/// Serve the admin CLI by SSH, on the listeners that systemd hands over.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Look for /etc/consoleserver and /usr/lib/consoleserver below this directory.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

fn main() -> ExitCode {
    let Arguments { root } = Arguments::parse();
    journal::init("console-cli", None);
    match gateway::run(root) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            match error {
                GatewayError::NoListener => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}
