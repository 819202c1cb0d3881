//! Publishes the names of the ports in DNS. Started by console-directory.service.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use consoleserver::fleet;
use consoleserver::system::journal;

/// Publish the names of the ports in DNS, by dynamic updates, and exit.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Directory with /etc, /usr and /var.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

fn main() -> ExitCode {
    let Arguments { root } = Arguments::parse();
    journal::init("console-directory", None);
    let key =
        std::env::var_os("CREDENTIALS_DIRECTORY").map(|directory| PathBuf::from(directory).join("tsig"));
    match fleet::publish(&root, key.as_deref()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            tracing::info!("nothing to publish: there is no /etc/consoleserver/directory.toml");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
