//! `connect`: an interactive session.

use clap::Args;

use crate::attach::client;
use crate::cli::endpoint::Endpoint;
use crate::cli::error::Done;
use crate::port::PortPattern;
use crate::session::{Escape, Options};

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Connect {
    #[command(flatten)]
    pub how: Connection,
    /// Port; exactly one
    pub port: PortPattern,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Connection {
    /// Escape keys of this session, such as ^Xc, or none
    #[arg(long, value_name = "KEYS")]
    escape: Option<Escape>,
    /// Exit with an error if the device is absent or unplugged
    #[arg(long)]
    no_reconnect: bool,
    /// Take over write access from another client
    #[arg(long)]
    force: bool,
}

impl From<Connection> for Options {
    fn from(Connection { escape, no_reconnect, force }: Connection) -> Self {
        Self { escape: escape.unwrap_or_default(), no_reconnect, force, watch: false }
    }
}

/// Runs until the user detaches. The name can be abbreviated.
pub(in crate::cli) fn run(Connect { how, port }: Connect, endpoint: &Endpoint) -> Done {
    let port = endpoint.one("connect", &port)?;
    Ok(client::connect(&endpoint.runtime, &port, how.into())?)
}
