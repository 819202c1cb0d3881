//! `consoleserver`: console ports in the foreground of a terminal; `foreground` does the work.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Parser;
use consoleserver::config::{Config, ConfigError, Loaded};
use consoleserver::foreground::{self, Scope};
use consoleserver::journal;
use consoleserver::printable::visible;
use tracing_subscriber::fmt::{format::Writer, time::FormatTime};

/// The configuration of a machine that has none.
const VENDOR: &str = include_str!("../../units/config.toml");

/// Serve the console ports from this terminal, without systemd: every port over SSH, logged, for several people.
///
/// The configuration is the first of ./config.toml, ~/.consoleserver/config.toml, /etc/consoleserver/config.toml
/// and /usr/lib/consoleserver/config.toml. Ctrl-C ends it. See consoleserver(8).
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Add a port `demo` with a shell behind it, and print how to reach it
    #[arg(long)]
    demo: bool,
    /// Read this configuration instead
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_writer(journal::Stderr::default())
        .with_target(false)
        .with_timer(WallClock)
        // A terminal that is gone must not end the ports before they have told their sessions.
        .log_internal_errors(false)
        .init();
    journal::report_panics();
    match serve(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("consoleserver: {}", visible(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let (config, scope) = configuration(arguments)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| anyhow!("cannot start: {error}"))?
        .block_on(foreground::run(config, scope, arguments.demo))?;
    Ok(())
}

/// The configuration and which of its ports are served. Where no file is installed, the vendor's is the one that we
/// were built with; a demonstration takes its ports only where the adapters are there.
fn configuration(arguments: &Arguments) -> anyhow::Result<(Config, Scope)> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let here = std::env::current_dir().map_err(|error| anyhow!("cannot look for ./config.toml: {error}"))?;
    let installed = Path::new("/usr/lib/consoleserver/config.toml");
    let loaded = match &arguments.config {
        Some(path) => Config::load_file(path),
        None => Config::load_foreground(&here, home.as_deref(), Path::new("/")),
    };
    let (config, path) = match loaded {
        Ok(Loaded { config, path, .. }) => (config, path),
        Err(ConfigError::Missing(_)) if arguments.config.is_none() => {
            (Config::parse(VENDOR, installed)?, installed.to_owned())
        }
        Err(error) => return Err(error.into()),
    };
    let vendor = path == installed;
    match vendor {
        true => tracing::info!("configuration: the vendor's; there is no config.toml of yours"),
        false => tracing::info!("configuration: {}", path.display()),
    }
    let scope = if vendor && arguments.demo { Scope::Present } else { Scope::Configured };
    Ok((config, scope))
}

/// Local time of day: the screen is read as it scrolls.
struct WallClock;

impl FormatTime for WallClock {
    fn format_time(&self, to: &mut Writer<'_>) -> fmt::Result {
        write!(to, "{}", jiff::Zoned::now().strftime("%H:%M:%S"))
    }
}
