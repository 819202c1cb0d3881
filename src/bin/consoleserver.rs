//! `consoleserver`: serves console ports in the foreground of a terminal, by the module `foreground`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Parser;
use consoleserver::config::{Config, ConfigError, Loaded};
use consoleserver::foreground::{self, Scope};
use consoleserver::printable::visible;
use consoleserver::system::journal;

/// The configuration of a machine that has none.
const VENDOR: &str = include_str!("../../units/config.toml");

/// Serve the console ports in the foreground, without systemd: each port over SSH, logged, for several users.
///
/// The configuration is the first of ./config.toml, ~/.consoleserver/config.toml, /etc/consoleserver/config.toml
/// and /usr/lib/consoleserver/config.toml. Ctrl-C ends it. See consoleserver(8).
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Add a port `demo` with a shell, and print how to connect to it
    #[arg(long)]
    demo: bool,
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the configuration, or FILE, and exit
    #[arg(long, value_name = "FILE", num_args = 0..=1, conflicts_with_all = ["demo", "config"])]
    check: Option<Option<PathBuf>>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    journal::init_at_terminal();
    match serve(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not `eprintln!`, which panics if the terminal was closed.
            let _ = writeln!(io::stderr(), "consoleserver: {}", visible(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(file) = &arguments.check {
        return check(file.as_deref());
    }
    let (config, scope) = configuration(arguments)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| anyhow!("cannot start: {error}"))?
        .block_on(foreground::run(config, scope, arguments.demo))?;
    Ok(())
}

/// Checks the configuration, as `sshd -t` does.
fn check(file: Option<&Path>) -> anyhow::Result<()> {
    let path = match file {
        Some(path) => path.to_owned(),
        None => found(None)??.path,
    };
    Ok(consoleserver::cli::check(Path::new("/"), Some(&path), &mut std::io::stdout().lock())?)
}

/// The named file, or the first that exists.
fn found(named: Option<&Path>) -> anyhow::Result<Result<Loaded, ConfigError>> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let here = std::env::current_dir()
        .map_err(|error| anyhow!("cannot read the working directory for ./config.toml: {error}"))?;
    Ok(match named {
        Some(path) => Config::load_file(path),
        None => Config::load_foreground(&here, home.as_deref(), Path::new("/")),
    })
}

/// The configuration, and which of its ports are served. If no file is installed, the built-in vendor configuration is used, of which a
/// demonstration serves only ports whose device is present.
fn configuration(arguments: &Arguments) -> anyhow::Result<(Config, Scope)> {
    let installed = Path::new("/usr/lib/consoleserver/config.toml");
    let (config, path) = match found(arguments.config.as_deref())? {
        Ok(Loaded { config, path, .. }) => (config, path),
        Err(ConfigError::Missing(_)) if arguments.config.is_none() => {
            (Config::parse(VENDOR, installed)?, installed.to_owned())
        }
        Err(error) => return Err(error.into()),
    };
    let vendor = path == installed;
    match vendor {
        true => tracing::info!("configuration: vendor defaults; there is no config.toml"),
        false => tracing::info!("configuration: {}", path.display()),
    }
    let scope = if vendor && arguments.demo { Scope::Present } else { Scope::Configured };
    Ok((config, scope))
}
