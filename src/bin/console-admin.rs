//! Administration of the consoles over D-Bus (console-admin(8)).

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use consoleserver::{admin, system::journal};

/// Serve org.consoleserver1 on the system bus: change, reload and commit the configuration. Activated by
/// the bus.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Root directory that contains etc, usr/lib, run and var/lib
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

fn main() -> ExitCode {
    let Arguments { root } = Arguments::parse();
    journal::init("console-admin", None);
    journal::exit_code(admin::service::run(root), |_| false)
}
