//! Determines which parts of an invalid file can still be used.

use super::*;

/// The ports of an invalid text, and the admin CLI, whose listeners are certain despite other errors, and
/// whose TCP port no other one claims; `None` if the text is not valid TOML.
pub(in crate::config) fn certain_listeners(text: &str) -> Option<Config> {
    let (reader, mut config) = valid_part(text)?;
    let conflicts = config.conflicts();
    let is_taken = |table: &str| {
        let tcp = format!("{table}.ssh_port");
        conflicts.iter().any(|conflict: &Conflict| {
            conflict.shared == Shared::TcpPort && (conflict.key == tcp || conflict.other == tcp)
        })
    };
    config.ports.retain(|name, port| {
        let path = port_path(name.as_str());
        reader.is_certain(&[&path], "ssh_port")
            && reader.is_certain_for_port(&path, port.like.as_ref(), &["defaults"], "enabled")
            && reader.is_certain_for_port(&path, port.like.as_ref(), &["defaults", "server"], "listen")
            && !is_taken(&path)
    });
    let server = ["server"];
    if !reader.is_certain(&server, "ssh_port") || !reader.is_certain(&server, "listen") || is_taken("server")
    {
        config.server.ssh_port = None;
    }
    Some(config)
}

/// `[access]` of an invalid text, if all errors are certainly elsewhere. An unknown table may be `[access]`
/// misspelt.
pub(in crate::config) fn certain_access(text: &str) -> Option<Access> {
    let (reader, config) = valid_part(text)?;
    let about_access = |key: &str| key.starts_with("access.") || key.starts_with('"') || !key.contains('.');
    (!reader.faults.any(about_access)).then_some(config.access)
}

/// The valid part of a text, and the reader with its errors; `None` if it is not valid TOML.
fn valid_part(text: &str) -> Option<(Reader<'_>, Config)> {
    let mut reader = Reader::new(text);
    let mut config = Config::default();
    let (tree, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return None;
    }
    reader.document(tree.get_ref(), &mut config);
    Some((reader, config))
}

impl Reader<'_> {
    /// Whether the value of a port's key is certain: its own table counts first, then its template, then
    /// the tables above.
    fn is_certain_for_port(
        &self,
        path: &str,
        like: Option<&TemplateName>,
        above: &[&str],
        key: &str,
    ) -> bool {
        let states = self.spans.contains_key(&format!("{path}.{key}"));
        if !states && self.uncertain.contains(&format!("{path}.like")) {
            return false;
        }
        let template = like.map(|name| format!("{TEMPLATES}.{name}"));
        let tables: Vec<&str> =
            std::iter::once(path).chain(template.as_deref()).chain(above.iter().copied()).collect();
        self.is_certain(&tables, key)
    }

    /// Whether the value of a key is certain: from the first of these tables that has it, or from none.
    fn is_certain(&self, tables: &[&str], key: &str) -> bool {
        if self.uncertain.contains("") {
            return false;
        }
        for table in tables {
            let full = format!("{table}.{key}");
            if self.spans.contains_key(&full) {
                return true;
            }
            if self.uncertain.contains(&full) || self.uncertain.contains(*table) {
                return false;
            }
        }
        true
    }
}

/// The keys that determine whether and where a port listens.
const LISTENING: [&str; 3] = ["enabled", "listen", "ssh_port"];

/// Whether an unknown key is certainly a misspelt key that does not affect listeners, by its name and its
/// value.
pub(super) fn is_unrelated_typo<T: Default>(word: &str, node: &Node<'_>, known: &'static [Key<T>]) -> bool {
    let names: Vec<_> = known.iter().map(|key| key.name).collect();
    let meant = nearest(word, &names).filter(|name| !LISTENING.contains(name));
    let meant = meant.and_then(|name| keys::find(known, name));
    let value = plain(node.get_ref());
    meant.zip(value).is_some_and(|(key, value)| key.put(&mut T::default(), &value).is_ok())
}
