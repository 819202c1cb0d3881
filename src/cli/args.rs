//! Arguments that several commands have.

use clap::{Args, ValueEnum};

use crate::port::PortPattern;

/// `--json`, of the commands that list or show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Args)]
pub struct Output {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of commands that report on ports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Ports {
    /// Ports; default: all
    #[arg(id = "port", value_name = "PORT")]
    pub ports: Vec<PortPattern>,
    #[command(flatten)]
    pub output: Output,
}

/// Arguments of commands that act on ports.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Named {
    /// Ports: names, p[01-48], 'rack1-*', a,b or @group
    #[arg(id = "port", value_name = "PORT", required = true)]
    pub ports: Vec<PortPattern>,
}

/// The value of `--first-port`.
pub fn first_port(word: &str) -> Result<u16, String> {
    word.parse().ok().filter(|port| *port > 0).ok_or_else(|| "expected a TCP port from 1 to 65535".to_owned())
}

/// Shells for which there is a completion script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}
