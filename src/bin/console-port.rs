//! One serial port: reads the tty, logs what it says, serves it by SSH and locally. Made to be run by systemd as
//! `console@NAME.service`, or by `consoleserver`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use consoleserver::port::PortName;
use consoleserver::{journal, service};

/// Serve one serial port by SSH and locally, and log what it says.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The one configuration file to read.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Look for /etc/consoleserver and /usr/lib/consoleserver below this directory.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Tell console-admin of triggers, over the system bus.
    #[arg(long)]
    bus: bool,
    /// The port, as configured.
    port: PortName,
}

fn main() -> ExitCode {
    let Arguments { config, root, bus, port } = Arguments::parse();
    journal::init("console-port", Some(&port));
    match service::run(&service::Options { port, config, root, bus }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
