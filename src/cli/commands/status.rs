//! `status` and `who`.

use std::io::Write;
use std::time::Duration;

use crate::cli::args::{Output, Ports};
use crate::cli::client::Client;
use crate::cli::error::{CommandError, Done};
use crate::cli::listing::{self, NOT_RUNNING, PortStatus};
use crate::cli::service::Service;
use crate::cli::{local, select};
use crate::port::{PortName, PortPattern};

/// How long `status` waits for console-admin before it queries the ports themselves.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);
/// How long it then waits for console-admin if a port did not answer either.
const STATUS_RETRY_TIMEOUT: Duration = Duration::from_secs(10);

pub(in crate::cli) async fn run(
    Ports { ports, output }: Ports,
    client: &Client,
    to: &mut impl Write,
) -> Done {
    let Output { json } = output;
    Ok(listing::status(&statuses(client, &ports).await?, json, to)?)
}

pub(in crate::cli) async fn who(
    Ports { ports, output }: Ports,
    client: &Client,
    to: &mut impl Write,
) -> Done {
    let Output { json } = output;
    Ok(listing::who(&statuses(client, &ports).await?, json, to)?)
}

/// The open ports, or the given ones; without console-admin, all that are served.
async fn statuses(client: &Client, patterns: &[PortPattern]) -> Done<Vec<PortStatus>> {
    let mut all = all(client, !patterns.is_empty()).await?;
    if !patterns.is_empty() {
        let names: Vec<PortName> = all.iter().map(|status| status.port.clone()).collect();
        let selected = select::abbreviated(patterns, &names, &client.groups(patterns).await?)?;
        all.retain(|status| selected.contains(&status.port));
    }
    Ok(all)
}

async fn all(client: &Client, closed: bool) -> Done<Vec<PortStatus>> {
    let local = || Ok(local::status(&client.endpoint.runtime)?);
    if client.endpoint.foreground {
        return local();
    }
    let query = async { query(client.service().await?, closed).await };
    tokio::pin!(query);
    let reply = match tokio::time::timeout(STATUS_TIMEOUT, &mut query).await {
        Ok(reply) => reply,
        // The bus or console-admin hangs, or the machine is slow. The ports answer users with access.
        Err(_) => match local() {
            Ok(statuses) if !statuses.iter().any(PortStatus::is_unknown) => return Ok(statuses),
            local => tokio::time::timeout(STATUS_RETRY_TIMEOUT, query).await.unwrap_or(local),
        },
    };
    match reply {
        Err(CommandError::Service(error)) if error.is_absence() => local(),
        reply => reply,
    }
}

async fn query(service: &Service, closed: bool) -> Done<Vec<PortStatus>> {
    let mut statuses = Vec::new();
    for (port, view) in service.ports().await? {
        if !closed && (view.state == NOT_RUNNING || view.keys.running.is_empty()) {
            continue;
        }
        let users = if view.users > 0 { service.sessions(&port).await? } else { Vec::new() };
        statuses.push(PortStatus::new(port, &view, users));
    }
    Ok(statuses)
}
