//! Opens the log directory of each port and passes it on. Run by systemd as `console-logs.service`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use consoleserver::logdir::server::{self, Options, ServerError};
use consoleserver::system::journal;
use nix::unistd::{Group, User};

/// Open the log directory of each serial port that requests it, on the listener passed by systemd.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Directory that contains one directory for each port
    #[arg(long, value_name = "DIR", default_value = "/var/log/consoleserver")]
    base: PathBuf,
    /// User of the ports
    #[arg(long, value_name = "USER", default_value = "_console-port")]
    user: String,
    /// Group that can read logs
    #[arg(long, value_name = "GROUP", default_value = "adm")]
    group: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    journal::init("console-logs", None);
    let options = match options(arguments) {
        Ok(options) => options,
        Err(error) => {
            tracing::error!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    journal::exit_code(server::run(options), |error| matches!(error, ServerError::NoListener))
}

fn options(Arguments { base, user, group }: Arguments) -> anyhow::Result<Options> {
    let owner = User::from_name(&user)
        .with_context(|| format!("user {user}"))?
        .with_context(|| format!("there is no user {user}: systemd-sysusers creates it"))?;
    // Without that group, only the ports may read the logs.
    let readers = Group::from_name(&group).with_context(|| format!("group {group}"))?;
    Ok(Options { base, user: owner.uid, group: readers.map_or(owner.gid, |group| group.gid) })
}
