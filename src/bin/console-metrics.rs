//! Figures of the serial consoles for Prometheus. Run by systemd as `console-metrics.service`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use consoleserver::metrics::{self, MetricsError, Output};
use consoleserver::system::journal;

/// Serve figures of the serial consoles to Prometheus, on the listeners passed by systemd; or write them once.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Print the figures once
    #[arg(long, conflicts_with = "output")]
    print: bool,
    /// Write the figures to this file once, for node_exporter's textfile collector
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn main() -> ExitCode {
    let Arguments { print, output } = Arguments::parse();
    journal::init("console-metrics", None);
    let output = output.map(Output::File).or(print.then_some(Output::Stdout));
    let ended = match output {
        Some(output) => metrics::once(&output),
        None => metrics::run(),
    };
    journal::exit_code(ended, |error| matches!(error, MetricsError::NoListener))
}
