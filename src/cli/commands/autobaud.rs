//! `autobaud`: the port listens at common line rates until the output of its device reads as text.

use std::io::{self, IsTerminal, Write};

use clap::Args;
use thiserror::Error;

use super::change::{self, Setting};
use crate::attach::{Tried, client as attach};
use crate::cli::client::Client;
use crate::cli::error::{CommandError, Done};
use crate::cli::stdout::print_error;
use crate::cli::target::Target;
use crate::port::{PortName, PortPattern};

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Autobaud {
    /// Ports, tried one after the other
    pub port: PortPattern,
    /// Set the detected rate
    #[arg(long)]
    pub set: bool,
}

#[derive(Debug, Error)]
#[error(
    "the output of {0} does not read as text at any of these rates: the device may use another rate, or another parity or bytesize than the port"
)]
pub struct NotText(pub PortName);

pub(in crate::cli) async fn run(
    Autobaud { port, set }: Autobaud,
    client: &Client,
    to: &mut impl Write,
) -> Done {
    for port in client.endpoint.select(&[port])? {
        detect(client, &port, set, to).await?;
    }
    Ok(())
}

/// With `set`, the detected rate is put into the candidate.
async fn detect(client: &Client, port: &PortName, set: bool, to: &mut impl Write) -> Done {
    if io::stderr().is_terminal() {
        print_error(&format_args!("listening to {port} for up to 46 s; Ctrl-C stops"));
    }
    let mut found = None;
    let mut tried = |Tried { baud, bytes, text, is_text }| {
        found = is_text.then_some(baud);
        match bytes {
            0 => writeln!(to, "{baud:7}  no output"),
            _ => writeln!(to, "{baud:7}  {bytes} bytes, {text}% text"),
        }
    };
    attach::autobaud(&client.endpoint.runtime, port, &mut tried).await?;
    match found {
        None => Err(CommandError::of_command(NotText(port.clone()))),
        Some(baud) if set => {
            writeln!(to, "the output of {port} reads as text at {baud}")?;
            let of = Target::Port(port.clone()).into();
            let words = vec![baud.to_string()];
            change::set(Setting { of, key: "baud".to_owned(), words }, client, to).await
        }
        Some(baud) => {
            Ok(writeln!(to, "the output of {port} reads as text at {baud}: `baud {port} {baud}` sets it")?)
        }
    }
}
