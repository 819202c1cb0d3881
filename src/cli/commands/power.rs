//! `consolectl power PORT on|off|cycle|status`: runs `console-power@PORT:VERB.service` by console-admin, confirmed where it cuts the power.

use std::io::{self, IsTerminal, Write};

use clap::Args;
use thiserror::Error;

use crate::cli::client::{Client, each};
use crate::cli::error::{CommandError, Done};
use crate::cli::summary::counted;
use crate::port::power::PowerVerb;
use crate::port::{PortName, PortPattern};

/// `power PORT VERB`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PowerOptions {
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
    /// Ports
    pub port: PortPattern,
    /// on, off, cycle or status
    #[arg(value_parser = |word: &str| word.parse::<PowerVerb>())]
    pub verb: PowerVerb,
}

/// Why no power command was run.
#[derive(Debug, Error)]
pub enum PowerError {
    #[error("not confirmed: nothing was done")]
    NotConfirmed,
    #[error("power {0} cuts the power, and without a terminal it cannot be confirmed: add --yes")]
    Unconfirmed(PowerVerb),
}

pub(in crate::cli) async fn run(options: PowerOptions, client: &Client, to: &mut impl Write) -> Done {
    let PowerOptions { yes, port, verb } = options;
    let ports = client.select(&[port]).await?;
    if verb.cuts_power() && !yes && !confirmed(verb, &ports).await? {
        return Err(CommandError::of_command(PowerError::NotConfirmed));
    }
    let service = client.service().await?;
    let several = ports.len() > 1;
    let run = |port: PortName| async move {
        let ran = service.port(&port).await?.power(verb.as_str()).await;
        Ok((port.clone(), service.of_port(&port, ran).await?))
    };
    for (port, output) in each(ports, run).await? {
        let output = if output.is_empty() { "done".to_owned() } else { output };
        for line in output.lines() {
            if several {
                write!(to, "{port}: ")?;
            }
            writeln!(to, "{line}")?;
        }
    }
    Ok(())
}

/// Asks on the terminal. Without a terminal it is an error. The question is not part of the output, which is printed once the command has
/// ended.
async fn confirmed(verb: PowerVerb, ports: &[PortName]) -> Result<bool, CommandError> {
    if !io::stdin().is_terminal() {
        return Err(CommandError::of_command(PowerError::Unconfirmed(verb)));
    }
    let mut stderr = io::stderr();
    write!(stderr, "power {verb} {}: the device loses power. Continue? [y/N] ", counted(ports))?;
    stderr.flush()?;
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map(|_| line)
    });
    let answer = answer.await.map_err(io::Error::other)??;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
