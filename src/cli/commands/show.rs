//! `show`: the configuration of ports and tables.

use std::io::Write;

use clap::Args;
use thiserror::Error;

use crate::cli::args::Output;
use crate::cli::client::Client;
use crate::cli::error::{CommandError, Done};
use crate::cli::listing;
use crate::cli::select::{groups_of, selected};
use crate::cli::service::ServiceError;
use crate::cli::target::{Target, Targets};
use crate::config::keys;
use crate::port::{PatternError, PortName};

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Show {
    /// Ports; or server, access, defaults, groups, templates or templates.NAME
    #[arg(value_name = "PORT", required = true)]
    pub of: Vec<Targets>,
    #[command(flatten)]
    pub output: Output,
}

/// Several targets are shown under their names; as JSON, one object per line.
pub(in crate::cli) async fn run(Show { of, output }: Show, client: &Client, to: &mut impl Write) -> Done {
    let targets = match of.as_slice() {
        // A single name is checked by console-admin.
        [Targets::Ports(pattern)] => match pattern.literal() {
            Some(port) => vec![Target::Port(port.clone())],
            None => client.targets(&of).await?,
        },
        of => client.targets(of).await.map_err(about_keys)?,
    };
    let shown = match client.keys_of(targets).await {
        // Names can be abbreviated.
        Err(CommandError::Service(ServiceError::UnknownPort { whole: Some(port), .. })) => {
            client.keys_of(vec![Target::Port(port)]).await?
        }
        shown => shown?,
    };
    client.mark_shown().await?;
    let several = shown.len() > 1;
    for (index, (of, mut keys)) in shown.into_iter().enumerate() {
        client.service().await?.check_exists(&of, &keys).await?;
        if of == Target::Groups {
            keys.selected = selected(&groups_of(&keys.candidate), &client.names().await?);
        }
        if output.json {
            listing::json(&keys.json(&of), to)?;
            continue;
        }
        if several {
            writeln!(to, "{}{of}:", if index > 0 { "\n" } else { "" })?;
        }
        keys.show(&of, to)?;
    }
    Ok(())
}

/// `show core baud`: the error for a word that is a key.
#[derive(Debug, Error)]
#[error(
    "{error}; `show PORT` prints all keys, and `consolectl show PORT --json | jq '.candidate[\"{key}\"]'` one of them"
)]
struct IsKey {
    error: PatternError,
    key: PortName,
}

fn about_keys(error: CommandError) -> CommandError {
    match error {
        CommandError::Ports(PatternError::NoSuchPort { port, instead, whole })
            if keys::find(keys::PORT, port.as_str()).is_some() =>
        {
            let key = port.clone();
            CommandError::of_command(IsKey { error: PatternError::NoSuchPort { port, instead, whole }, key })
        }
        error => error,
    }
}

/// Shows what our own change did. A change of another user does not count as shown by that.
pub(super) async fn changed(of: Target, client: &Client, to: &mut impl Write) -> Done {
    client.changed().await?;
    let shown = client.shown();
    run(Show { of: vec![of.into()], output: Output::default() }, client, to).await?;
    client.set_shown(shown);
    Ok(())
}
