//! `start`, `stop` and `reload`.

use std::io::Write;

use clap::Args;
use nix::unistd::geteuid;
use zbus::fdo;
use zbus::proxy::CacheProperties;

use crate::cli::client::{Client, each, print_remarks};
use crate::cli::error::{CommandError, Done};
use crate::cli::service::{ServiceError, sentence};
use crate::cli::units::{self, Verb};
use crate::port::{PortName, PortPattern};

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Reload {
    /// Ports
    #[arg(id = "port", value_name = "PORT")]
    pub ports: Vec<PortPattern>,
}

/// `reload`; without ports, of everything but the ports.
pub(in crate::cli) async fn reload(Reload { ports }: Reload, client: &Client, to: &mut impl Write) -> Done {
    match ports.is_empty() {
        true => print_remarks(client.service().await?.manager.reload().await.map_err(sentence)?, to),
        false => run(Verb::Reload, &ports, client, to).await,
    }
}

/// Starts, stops or reloads ports. If one of them does not exist, nothing is done; a port that fails does not affect the others.
pub(in crate::cli) async fn run(
    verb: Verb,
    ports: &[PortPattern],
    client: &Client,
    to: &mut impl Write,
) -> Done {
    let ports = client.select(ports).await?;
    if let (Verb::Reload, [_, _, ..]) = (verb, ports.as_slice()) {
        let names: Vec<&str> = ports.iter().map(PortName::as_str).collect();
        let manager = &client.service().await?.manager;
        return print_remarks(manager.reload_ports(&names).await.map_err(sentence)?, to);
    }
    for remarks in each(ports, |port| async move { drive(verb, &port, client).await }).await? {
        print_remarks(remarks, to)?;
    }
    Ok(())
}

async fn drive(verb: Verb, port: &PortName, client: &Client) -> Done<Vec<String>> {
    match by_service(verb, port, client).await {
        Err(CommandError::Service(error))
            if geteuid().is_root() && needs_systemctl(verb, &error, client).await =>
        {
            units::systemctl(verb, port).map_err(CommandError::of_command).map(|()| Vec::new())
        }
        driven => driven,
    }
}

async fn by_service(verb: Verb, port: &PortName, client: &Client) -> Done<Vec<String>> {
    let service = client.service().await?;
    let proxy = service.port(port).await?;
    match verb {
        Verb::Start => service.of_port(port, proxy.start().await).await?,
        Verb::Stop => service.of_port(port, proxy.stop().await).await?,
        Verb::Reload => return Ok(service.of_port(port, proxy.reload().await).await?),
    }
    Ok(Vec::new())
}

/// Without console-admin; or without polkit, where systemd rejects the requests of console-admin.
async fn needs_systemctl(verb: Verb, error: &ServiceError, client: &Client) -> bool {
    match error {
        error if error.is_absence() => true,
        ServiceError::Failed(_) if verb != Verb::Reload => !has_polkit(client).await,
        _ => false,
    }
}

/// Whether polkit answers, after bus activation.
async fn has_polkit(client: &Client) -> bool {
    let Ok(service) = client.service().await else { return false };
    let peer = fdo::PeerProxy::builder(service.connection())
        .destination("org.freedesktop.PolicyKit1")
        .path("/org/freedesktop/PolicyKit1/Authority")
        .cache_properties(CacheProperties::No);
    match peer.build().await {
        Ok(peer) => peer.ping().await.is_ok(),
        Err(_) => false,
    }
}
