//! `list`: the configured ports, or adapters without a port.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::args::Output;
use crate::cli::client::{Client, print_remarks};
use crate::cli::error::Done;
use crate::cli::listing::{self, Listed};
use crate::cli::service::sentence;
use crate::cli::{adapters, select};
use crate::config::Config;
use crate::port::{PortName, PortPattern};

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct List {
    /// List USB adapters that no port names as its `device`: vendor, product, serial number, path
    #[arg(long)]
    pub unconfigured: bool,
    /// Ports; default: all
    #[arg(id = "port", value_name = "PORT", conflicts_with = "unconfigured")]
    pub ports: Vec<PortPattern>,
    #[command(flatten)]
    pub output: Output,
}

pub(in crate::cli) async fn run(list: List, client: &Client, to: &mut impl Write) -> Done {
    let List { unconfigured, ports: patterns, output: Output { json } } = list;
    if unconfigured {
        let loaded = Config::load(Path::new("/"))?;
        return Ok(listing::adapters(&adapters::unbound(&loaded.config), json, to)?);
    }
    let service = client.service().await?;
    let mut ports = service.ports().await?;
    if !patterns.is_empty() {
        let names: Vec<PortName> = ports.keys().cloned().collect();
        let selected = select::abbreviated(&patterns, &names, &client.groups(&patterns).await?)?;
        ports.retain(|port, _| selected.contains(port));
    }
    let monitor: PathBuf = service.manager.monitor_path().await.map_err(sentence)?.into();
    client.mark_shown().await?;
    // Errors in the configuration file are printed beside the table.
    if !json {
        print_remarks(service.conflicts().await?, &mut io::stderr().lock())?;
    }
    let listed: Vec<_> = ports.into_iter().map(|(port, view)| Listed::new(port, &view, &monitor)).collect();
    Ok(listing::list(&listed, json, to)?)
}
