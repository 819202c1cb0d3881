//! Which ports a change of `[defaults]` or of a template concerns: those that take the key from there.

use std::collections::BTreeMap;

use super::service::PortView;
use crate::port::PortName;

/// Whether a key belongs to a table that ports inherit from.
pub fn is_inherited(key: &str) -> bool {
    key.starts_with("defaults.") || key.starts_with("templates.")
}

/// The ports that take a key from the table that it is of; `None` for a key that no port inherits. Without its key, a whole template.
pub fn takers(key: &str, ports: &BTreeMap<PortName, PortView>) -> Option<Vec<PortName>> {
    let (template, key) = match key.strip_prefix("templates.") {
        Some(rest) => rest.split_once('.').map_or((Some(rest), ""), |(name, key)| (Some(name), key)),
        None => (None, key.strip_prefix("defaults.")?),
    };
    let takes = |view: &PortView| {
        let like = view.keys.candidate.get("like").and_then(|like| like.as_str());
        // A key that is taken out of the table is from further below by now; a rule that is taken out is nowhere.
        let origin = view.keys.origins.get(key).map_or("built-in", String::as_str);
        match template {
            Some(template) => like == Some(template) && origin != "port",
            None => ["defaults", "built-in"].contains(&origin),
        }
    };
    let ports = ports.iter().filter(|(_, view)| !view.keys.candidate.is_empty() && takes(view));
    Some(ports.map(|(name, _)| name.clone()).collect())
}
