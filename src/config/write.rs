//! A [`Config`] as TOML that parses to the same value: the foreground program passes it to its ports.

use toml::Table;

use super::keys::{self, Key};
use super::{Config, Layer, Port, value};

impl Config {
    /// Every key of every port, without relying on defaults.
    pub fn to_toml(&self) -> String {
        let ports = self.ports.iter().map(|(name, port)| (name.to_string(), of_port(port, |_| true).into()));
        let templates = self.templates.iter().map(|(name, stated)| (name.to_string(), layer(stated).into()));
        let mut document = Table::new();
        document.insert("server".to_owned(), table(keys::SERVER, &self.server, |_| true).into());
        document.insert("access".to_owned(), table(keys::ACCESS, &self.access, |_| true).into());
        let groups = self.port_groups.iter();
        let groups = groups.map(|(name, members)| (name.to_string(), value::show_list(members)));
        document.insert("groups".to_owned(), groups.collect::<Table>().into());
        document.insert("defaults".to_owned(), layer(&self.defaults).into());
        document.insert("templates".to_owned(), templates.collect::<Table>().into());
        document.insert("ports".to_owned(), ports.collect::<Table>().into());
        document.to_string()
    }
}

/// The stated keys of `[defaults]` or a template.
fn layer(layer: &Layer) -> Table {
    let mut port = Port::default();
    layer.apply(&mut port);
    of_port(&port, |key| layer.keys.contains_key(key))
}

fn of_port(port: &Port, which: impl Fn(&str) -> bool) -> Table {
    let mut keys = table(keys::PORT, port, which);
    let rules = port.triggers.iter();
    let rules = rules.map(|(name, rule)| (name.to_string(), table(keys::TRIGGER, rule, |_| true).into()));
    keys.insert("triggers".to_owned(), rules.collect::<Table>().into());
    keys
}

fn table<T>(keys: &'static [Key<T>], from: &T, which: impl Fn(&str) -> bool) -> Table {
    let mut table = Table::new();
    for key in keys.iter().filter(|key| which(key.name)) {
        let Some(value) = key.get(from) else { continue };
        match key.name.split_once('.') {
            None => {
                table.insert(key.name.to_owned(), value);
            }
            Some((outer, inner)) => {
                let entry = table.entry(outer).or_insert_with(|| Table::new().into());
                if let Some(entry) = entry.as_table_mut() {
                    entry.insert(inner.to_owned(), value);
                }
            }
        }
    }
    table
}
