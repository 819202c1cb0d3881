//! The admin CLI over SSH: authenticates users and runs `consolectl` as them. Started by systemd as `console-cli.service`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use consoleserver::gateway::{self, GatewayError};
use consoleserver::system::journal;

/// Serve the admin CLI over SSH, on the listeners passed by systemd.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Directory with /etc/consoleserver and /usr/lib/consoleserver.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

fn main() -> ExitCode {
    let Arguments { root } = Arguments::parse();
    journal::init("console-cli", None);
    journal::exit_code(gateway::run(root), |error| matches!(error, GatewayError::NoListener))
}
