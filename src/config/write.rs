//! A [`Config`] as TOML that reads back as the same: what the foreground program hands to its ports.

use toml::Table;

use super::Config;
use super::keys::{self, Key};

impl Config {
    /// Every key of every port, with nothing left to defaults.
    pub fn to_toml(&self) -> String {
        let ports = self.ports.iter().map(|(name, port)| {
            let mut keys = table(keys::PORT, port);
            let rules = port
                .triggers
                .iter()
                .map(|(name, rule)| (name.to_string(), table(keys::TRIGGER, rule).into()));
            keys.insert("triggers".to_owned(), rules.collect::<Table>().into());
            (name.to_string(), keys.into())
        });
        let mut document = Table::new();
        document.insert("server".to_owned(), table(keys::SERVER, &self.server).into());
        document.insert("access".to_owned(), table(keys::ACCESS, &self.access).into());
        document.insert("ports".to_owned(), ports.collect::<Table>().into());
        document.to_string()
    }
}

fn table<T>(keys: &'static [Key<T>], from: &T) -> Table {
    let mut table = Table::new();
    for key in keys {
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
