//! `break` and `disconnect`.

use std::io::Write;

use clap::Args;
use thiserror::Error;

use crate::cli::client::{Client, each};
use crate::cli::error::{CommandError, Done};
use crate::cli::service::ServiceError;
use crate::cli::summary::counted;
use crate::hub::DEFAULT_BREAK_MS;
use crate::port::{BreakArgument, PortName, PortPattern};

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Break {
    /// Ports
    pub port: PortPattern,
    /// Duration in milliseconds, or the name of one of the port's breaks
    #[arg(value_name = "MS|NAME")]
    pub which: Option<BreakArgument>,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Disconnect {
    /// Ports
    pub port: PortPattern,
    /// Login name
    pub user: String,
}

#[derive(Debug, Error)]
#[error("{user} has no session at {ports}")]
pub struct NoSession {
    pub user: String,
    pub ports: String,
}

/// Why a user without the right to administer cannot send a break by console-admin.
#[derive(Debug, Error)]
#[error(
    "{0}; with write access at the port, Ctrl-E c l 0 in a session or `ssh -p TCP-PORT HOST break` sends one"
)]
pub struct BreakDenied(ServiceError);

pub(in crate::cli) async fn send_break(Break { port, which }: Break, client: &Client) -> Done {
    let ports = client.select(&[port]).await?;
    let service = client.service().await?;
    let which = &which.unwrap_or(BreakArgument::Length(DEFAULT_BREAK_MS));
    let send = |port: PortName| async move {
        let proxy = service.port(&port).await?;
        let sent = match which {
            BreakArgument::Length(milliseconds) => proxy.send_break(*milliseconds).await,
            BreakArgument::Name(name) => proxy.send_named_break(&name.to_string()).await,
        };
        match service.of_port(&port, sent).await {
            Err(error @ ServiceError::Denied(_)) => Err(CommandError::of_command(BreakDenied(error))),
            sent => Ok(sent?),
        }
    };
    each(ports, send).await.map(drop)
}

pub(in crate::cli) async fn disconnect(
    Disconnect { port, user }: Disconnect,
    client: &Client,
    to: &mut impl Write,
) -> Done {
    let ports = client.select(&[port]).await?;
    let service = client.service().await?;
    let name = &user;
    let end = |port: PortName| async move {
        let ended = service.port(&port).await?.disconnect(name).await;
        Ok(service.of_port(&port, ended).await?)
    };
    match each(ports.clone(), end).await?.into_iter().sum::<u32>() {
        0 => Err(CommandError::of_command(NoSession { user, ports: counted(&ports) })),
        1 => Ok(writeln!(to, "1 session disconnected")?),
        count => Ok(writeln!(to, "{count} sessions disconnected")?),
    }
}
