//! The local client: become the console of a port, or see how the ports do.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use consoleserver::cli;
use consoleserver::port::PortName;
use consoleserver::systemd;

/// Use the consoles of this machine.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where the sockets are.
    #[arg(long, value_name = "DIR")]
    runtime_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Become the console of a port; ^Ec. leaves.
    Connect {
        /// The port.
        port: PortName,
    },
    /// Show the ports that are served, who uses them, and what went over them.
    Status,
}

fn main() -> ExitCode {
    let Arguments { runtime_dir, command } = Arguments::parse();
    let runtime_dir = runtime_dir.unwrap_or_else(systemd::runtime_directory);
    let done = match command {
        Command::Connect { port } => cli::connect(&runtime_dir, &port),
        Command::Status => cli::status(&runtime_dir, &mut std::io::stdout().lock()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("consolectl: {error}");
            ExitCode::FAILURE
        }
    }
}
