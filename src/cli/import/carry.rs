//! `import`: reads a file into a plan, prints it, and puts it into the candidate in one call.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use zbus::{OwnedVariant, Variant};

use super::error::ImportError;
use super::kind::{self, Program};
use super::plan::{Draft, Plan};
use super::{foreign, formats, source};
use crate::admin::wire;
use crate::cli::args::first_port;
use crate::cli::client::{Client, print_warnings};
use crate::cli::commands::ssh_config::Host;
use crate::cli::error::{CommandError, Done};
use crate::cli::service::sentence;
use crate::cli::value::ValueError;
use crate::config::{Config, Value};

/// Arguments of `import`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ImportOptions {
    /// conserver.cf, conman.conf, ser2net.yaml, ser2net.conf or config.ini; - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Format of the file; default: inferred from its name or content
    #[arg(long, value_name = "PROGRAM")]
    pub from: Option<Program>,
    /// Assign free SSH ports, starting at N, to consoles without one in the file
    #[arg(long, value_name = "N", value_parser = first_port)]
    pub first_port: Option<u16>,
    /// Print the changes without making them
    #[arg(long)]
    pub dry_run: bool,
}

/// Reads a file into a plan. `this_host` is the host name of this machine.
fn read(options: &ImportOptions, this_host: &str) -> Result<Plan, ImportError> {
    let mut reader = source::Reader::of(&options.file);
    let source = reader.read(&options.file)?;
    if let (None, Some((program, instead))) = (options.from, foreign::recognized(&source.text)) {
        return Err(ImportError::Foreign(options.file.clone(), program, instead));
    }
    let program = options
        .from
        .or_else(|| kind::by_name(&options.file))
        .or_else(|| kind::by_text(&source.text))
        .filter(|program| options.from.is_some() || kind::is_plausible(*program, &source.text))
        .ok_or_else(|| ImportError::UnknownKind(options.file.clone()))?;
    let mut plan = formats::plan(program, source, &mut |path| reader.read_all(path), this_host)?;
    for place in reader.latin1 {
        plan.report(&place, "a byte that is not UTF-8", "the file is read as Latin-1");
    }
    Ok(plan)
}

/// `import FILE`
pub(in crate::cli) async fn run(options: ImportOptions, client: &Client, to: &mut impl Write) -> Done {
    let host = Host::of_this_machine().map_err(CommandError::of_command)?;
    let mut plan = read(&options, host.as_str()).map_err(CommandError::of_command)?;
    let existing = match client.candidate().await {
        Ok(existing) => existing,
        // A dry run works on a machine without console-admin.
        Err(CommandError::Service(error)) if options.dry_run && error.is_absence() => Config::default(),
        Err(error) => return Err(error),
    };
    if let Some(first) = options.first_port {
        plan.number(first, &existing);
    }
    plan.resolve_conflicts(&existing);
    plan.show(&existing, to)?;
    let (made, changed): (Vec<&Draft>, Vec<&Draft>) =
        plan.ports.iter().partition(|draft| !existing.ports.contains_key(&draft.name));
    let what = format!("{} to create, {} to change", made.len(), changed.len());
    if options.dry_run {
        return Ok(writeln!(to, "ports: {what}; nothing was changed")?);
    }
    let made: Vec<&str> = made.into_iter().map(|draft| draft.name.as_str()).collect();
    let set = |of: &str, key: &str, new: &Value| {
        let new = wire::to_bus(new).ok_or_else(|| ValueError::NotSent(new.to_string()))?;
        Ok((of.to_owned(), key.to_owned(), new))
    };
    let of_ports = plan
        .ports
        .iter()
        .flat_map(|draft| draft.keys.iter().map(|(key, (new, _))| set(draft.name.as_str(), key, new)));
    let of_server = plan.server.iter().map(|(key, (new, _))| set("", &format!("server.{key}"), new));
    let values: Vec<(String, String, OwnedVariant)> = of_server.chain(of_ports).collect::<Done<_>>()?;
    let values: Vec<(&str, &str, &Variant<'_>)> =
        values.iter().map(|(of, key, new)| (of.as_str(), key.as_str(), &**new)).collect();
    if made.is_empty() && values.is_empty() {
        return Ok(writeln!(to, "nothing to import")?);
    }
    let set = client.service().await?.manager.set_many(&made, &values, client.revision()).await;
    print_warnings(set.map_err(sentence)?)?;
    client.changed().await?;
    Ok(writeln!(
        to,
        "ports: {what}; imported: see `diff`; `reload PORT` applies one, `commit` makes all permanent"
    )?)
}
