//! The ports that inherit a key from `[defaults]` or a template.

use std::collections::BTreeMap;

use super::service::PortView;
use crate::port::PortName;

/// Whether a key belongs to a table that ports inherit from.
pub fn is_inherited(key: &str) -> bool {
    key.starts_with("defaults.") || key.starts_with("templates.")
}

/// The ports that inherit a key; `None` for a key that is not inherited. `templates.NAME` stands for the whole template.
pub fn heirs(key: &str, ports: &BTreeMap<PortName, PortView>) -> Option<Vec<PortName>> {
    let (template, key) = match key.strip_prefix("templates.") {
        Some(rest) => rest.split_once('.').map_or((Some(rest), ""), |(name, key)| (Some(name), key)),
        None => (None, key.strip_prefix("defaults.")?),
    };
    let inherits = |view: &PortView| {
        let like = view.keys.candidate.get("like").and_then(|like| like.as_str());
        // The origin of a key that was removed from the table is now `built-in` or `defaults`; a removed rule has none.
        let origin = view.keys.origins.get(key).map_or("built-in", String::as_str);
        match template {
            Some(template) => like == Some(template) && origin != "port",
            None => ["defaults", "built-in"].contains(&origin),
        }
    };
    let ports = ports.iter().filter(|(_, view)| !view.keys.candidate.is_empty() && inherits(view));
    Some(ports.map(|(name, _)| name.clone()).collect())
}
