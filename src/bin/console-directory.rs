//! Publishes the names of the ports in DNS. Started by console-directory.service.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use consoleserver::fleet::{self, Extent};
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
    // systemd names the unit that started the service (systemd.exec(5), TRIGGER_UNIT).
    let is_timer = std::env::var_os("TRIGGER_UNIT").is_some_and(|unit| unit == "console-directory.timer");
    let extent = if is_timer { Extent::Changes } else { Extent::All };
    let published = fleet::publish(&root, key.as_deref(), extent);
    if let Ok(false) = published {
        tracing::info!("nothing to publish: there is no /etc/consoleserver/directory.toml");
    }
    journal::exit_code(published.map(drop), |_| false)
}
