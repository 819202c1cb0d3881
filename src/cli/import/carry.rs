//! Prints the plan of an import, and puts it into the candidate in one call.

use std::io::Write;

use zbus::{OwnedVariant, Variant};

use super::Draft;
use crate::admin::wire;
use crate::cli::client::{Client, CommandError, Done, warn};
use crate::cli::service::sentence;
use crate::cli::ssh_config::Host;
use crate::cli::tree::Target;
use crate::cli::value::{self, ValueError};
use crate::config::{Config, Value};

impl Client {
    /// `import FILE`
    pub async fn import(&self, options: &super::ImportOptions, to: &mut impl Write) -> Done {
        let host = Host::of_this_machine().map_err(CommandError::NoName)?;
        let mut plan = super::read(options, host.as_str())?;
        let there = match self.candidate().await {
            Ok(there) => there,
            // A dry run works on a machine without console-admin.
            Err(CommandError::Service(error)) if options.dry_run && error.is_absence() => Config::default(),
            Err(error) => return Err(error),
        };
        if let Some(first) = options.first_port {
            plan.number(first, &there);
        }
        plan.resolve_conflicts(&there);
        plan.show(&there, to)?;
        let (made, changed): (Vec<&Draft>, Vec<&Draft>) =
            plan.ports.iter().partition(|draft| !there.ports.contains_key(&draft.name));
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
        let set = self.service().await?.manager.set_many(&made, &values, self.revision()).await;
        warn(set.map_err(sentence)?)?;
        self.changed().await?;
        Ok(writeln!(
            to,
            "ports: {what}; imported: see `diff`; `reload PORT` applies one, `commit` makes all permanent"
        )?)
    }

    /// The candidate's ports and `[server]`, typed.
    pub(in crate::cli) async fn candidate(&self) -> Done<Config> {
        let service = self.service().await?;
        let (ports, server) = tokio::try_join!(service.ports(), service.keys(&Target::Server))?;
        let ports = ports.into_iter().filter(|(_, view)| !view.keys.candidate.is_empty());
        Ok(Config {
            server: value::server(&server.candidate),
            ports: ports.map(|(name, view)| (name, value::port(&view.keys.candidate))).collect(),
            ..Config::default()
        })
    }
}
