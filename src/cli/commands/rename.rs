//! `rename` and `copy`.

use std::io::Write;

use clap::Args;

use crate::cli::client::Client;
use crate::cli::error::Done;
use crate::cli::target::Target;
use crate::port::PortName;

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Rename {
    /// Port
    pub port: PortName,
    /// New name
    #[arg(value_name = "NEW")]
    pub to: PortName,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Copy {
    /// Port to copy
    pub port: PortName,
    /// Name of the new port
    #[arg(value_name = "NEW")]
    pub to: PortName,
}

pub(in crate::cli) async fn rename(
    Rename { port, to: new }: Rename,
    client: &Client,
    to: &mut impl Write,
) -> Done {
    let manager = &client.service().await?.manager;
    let renamed = manager.rename_port(port.as_str(), new.as_str(), client.revision()).await;
    client.of(&[Target::Port(port.clone())], renamed).await?;
    client.changed().await?;
    Ok(writeln!(
        to,
        "{port} will be renamed to {new} by the next `reload {new}` or `commit`; its sessions and its log are kept"
    )?)
}

pub(in crate::cli) async fn copy(Copy { port, to: new }: Copy, client: &Client, to: &mut impl Write) -> Done {
    let manager = &client.service().await?.manager;
    let copied = manager.copy_port(port.as_str(), new.as_str(), client.revision()).await;
    client.of(&[Target::Port(port.clone())], copied).await?;
    client.changed().await?;
    Ok(writeln!(
        to,
        "{new} created with the settings of {port}, but not its ssh_port, device or source: `reload {new}` or `commit` opens it"
    )?)
}
