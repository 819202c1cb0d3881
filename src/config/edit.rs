//! Writes changes into a text: a key takes its new value in place, comments and order stay. Handles tables
//! with headers, inline tables and dotted keys.

use toml_edit::{DocumentMut, InlineTable, Item, Table, TableLike};

use super::Value;
use super::changes::{Change, Changes, ChangesError, Holder, KeyPath, Scope};

/// The text with the changes. `empties` returns whether a created port is emptied if it exists already.
pub(super) fn apply(
    text: &str,
    changes: &Changes,
    empties: impl Fn(&Change) -> bool,
) -> Result<String, ChangesError> {
    if changes.is_empty() {
        return Ok(text.to_owned());
    }
    let mut document: DocumentMut = text
        .parse()
        .map_err(|error: toml_edit::TomlError| ChangesError::NotToml(error.message().to_owned()))?;
    rename_ports(document.as_table_mut(), changes)?;
    // Renamed ports were moved before.
    for (path, change) in changes.iter().filter(|(_, change)| change.renamed_from().is_none()) {
        edit(document.as_table_mut(), path, change.new.as_ref(), empties(change))?;
    }
    let edited = document.to_string();
    // An empty line separates a new table from what comes before.
    Ok(if text.is_empty() { edited.trim_start().to_owned() } else { edited })
}

/// Renames the tables of ports in place. All are removed before the first one is inserted, since two ports
/// may swap names.
fn rename_ports(document: &mut Table, changes: &Changes) -> Result<(), ChangesError> {
    let renames = changes.renames();
    let mut moved = Vec::with_capacity(renames.len());
    for (to, from) in &renames {
        let ports = document.get_mut("ports").and_then(Item::as_table_like_mut);
        let Some(item) = ports.and_then(|ports| ports.remove(from.as_str())) else {
            return Err(ChangesError::NotThere(from.clone(), to.clone()));
        };
        moved.push((to, from, item));
    }
    for (to, from, item) in moved {
        let Some(ports) = document.get_mut("ports").and_then(Item::as_table_like_mut) else { continue };
        // A table that had the new name at the time of the rename was removed by then.
        let was_there = changes.get(&KeyPath::table(to.clone())).is_some_and(|change| change.old.is_some());
        if ports.contains_key(to.as_str()) && !was_there {
            return Err(ChangesError::IsThere(from.clone(), to.clone()));
        }
        ports.insert(to.as_str(), item);
    }
    Ok(())
}

/// Whether a new table gets a header.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Header {
    /// Always.
    Own,
    /// Only if the table has keys: [ports] and [templates] have no header, only their children do.
    OfChildren,
}

fn edit(
    document: &mut Table,
    path: &KeyPath,
    new: Option<&Value>,
    empties: bool,
) -> Result<(), ChangesError> {
    const PORTS: (&str, Header) = ("ports", Header::OfChildren);
    const TEMPLATES: (&str, Header) = ("templates", Header::OfChildren);
    const TRIGGERS: (&str, Header) = ("triggers", Header::OfChildren);
    if let Scope::Group(group) = &path.scope {
        if let Some(groups) = child(document, "groups", Header::Own, new.is_some())? {
            put(groups, group.as_str(), new);
        }
        return Ok(());
    }
    let (above, name) = match &path.scope {
        Scope::Port(name) => (vec![PORTS], name.to_string()),
        Scope::Template(name) => (vec![TEMPLATES], name.to_string()),
        Scope::Trigger(holder, rule) => {
            let above = match holder {
                Holder::Defaults => vec![("defaults", Header::Own), TRIGGERS],
                Holder::Template(name) => vec![TEMPLATES, (name.as_str(), Header::Own), TRIGGERS],
                Holder::Port(port) => vec![PORTS, (port.as_str(), Header::Own), TRIGGERS],
            };
            (above, rule.to_string())
        }
        scope => (Vec::new(), scope.to_string()),
    };
    let mut parent = document as &mut dyn TableLike;
    for (table, header) in above {
        let Some(inner) = child(parent, table, header, new.is_some())? else { return Ok(()) };
        parent = inner;
    }
    let Some(key) = path.key else {
        match (new, parent.get_mut(&name).and_then(Item::as_table_like_mut)) {
            (None, _) => drop(parent.remove(&name)),
            // A port that is created again keeps its place.
            (Some(_), Some(there)) => {
                if empties {
                    there.clear();
                }
                written_out(parent.get_mut(&name));
            }
            (Some(_), None) => make(parent, &name, Header::Own),
        }
        return Ok(());
    };
    let Some(table) = child(parent, &name, Header::Own, new.is_some())? else { return Ok(()) };
    match key.split_once('.') {
        None => put(table, key, new),
        Some((outer, inner)) => put_inner(table, outer, inner, new)?,
    }
    Ok(())
}

/// The table of that name; created if `create` is set.
fn child<'t>(
    parent: &'t mut dyn TableLike,
    name: &str,
    header: Header,
    create: bool,
) -> Result<Option<&'t mut dyn TableLike>, ChangesError> {
    if !parent.contains_key(name) {
        if !create {
            return Ok(None);
        }
        make(parent, name, header);
    }
    match parent.get_mut(name).and_then(Item::as_table_like_mut) {
        Some(table) => Ok(Some(table)),
        None => Err(ChangesError::NotATable(name.to_owned())),
    }
}

/// A table defined only by its sub-tables or dotted keys would vanish with the last of them: gives it a
/// header.
fn written_out(item: Option<&mut Item>) {
    match item {
        Some(Item::Table(table)) => {
            table.set_implicit(false);
            table.set_dotted(false);
        }
        Some(Item::Value(toml_edit::Value::InlineTable(table))) => table.set_dotted(false),
        _ => {}
    }
}

/// Creates a table in the style of its parent: `[ports.NAME]`, or inline.
fn make(parent: &mut dyn TableLike, name: &str, header: Header) {
    let item = match Item::Table(Table::new()) {
        // An inline table contains values only.
        _ if parent.iter().any(|(_, item)| item.is_inline_table()) => Item::Value(InlineTable::new().into()),
        mut item => {
            if let Some(table) = item.as_table_mut() {
                table.set_implicit(header == Header::OfChildren);
                table.decor_mut().set_prefix("\n");
            }
            item
        }
    };
    parent.insert(name, item);
}

/// Sets or removes one key; a comment on its line stays.
fn put(table: &mut dyn TableLike, key: &str, new: Option<&Value>) {
    let Some(new) = new else {
        table.remove(key);
        return;
    };
    let mut value = written(new);
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        None => {
            // A table with headers in place of the value is removed.
            table.remove(key);
            table.insert(key, Item::Value(value));
        }
    }
}

/// `log.type`: in its own table, dotted, inline, or `log = "raw"`, which is the type alone.
fn put_inner(
    table: &mut dyn TableLike,
    outer: &str,
    inner: &str,
    new: Option<&Value>,
) -> Result<(), ChangesError> {
    let short = table.get(outer).and_then(Item::as_str).map(str::to_owned);
    match (short, new) {
        (Some(_), _) if inner == "type" => {
            put(table, outer, new);
            return Ok(());
        }
        (Some(kind), Some(_)) => {
            let mut long = InlineTable::new();
            long.insert("type", kind.into());
            let decor = table.get(outer).and_then(Item::as_value).map(|value| value.decor().clone());
            let mut long = toml_edit::Value::from(long);
            *long.decor_mut() = decor.unwrap_or_default();
            if let Some(item) = table.get_mut(outer) {
                *item = Item::Value(long);
            }
        }
        (Some(_), None) | (None, None) if !table.contains_key(outer) => return Ok(()),
        (Some(_), None) => return Ok(()),
        (None, Some(_)) if !table.contains_key(outer) => {
            table.insert(outer, Item::Value(InlineTable::new().into()));
        }
        (None, _) => {}
    }
    let Some(item) = table.get_mut(outer) else { return Ok(()) };
    let Some(nested) = item.as_table_like_mut() else {
        return Err(ChangesError::NotATable(outer.to_owned()));
    };
    put(nested, inner, new);
    if nested.is_empty() {
        table.remove(outer);
    }
    Ok(())
}

/// A value in TOML syntax. Keys have no other types.
fn written(value: &Value) -> toml_edit::Value {
    match value {
        Value::String(text) => text.as_str().into(),
        Value::Integer(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::Boolean(flag) => (*flag).into(),
        Value::Datetime(time) => (*time).into(),
        Value::Array(list) => toml_edit::Value::Array(list.iter().map(written).collect()),
        Value::Table(table) => {
            let entries = table.iter().map(|(key, value)| (key.as_str(), written(value)));
            toml_edit::Value::InlineTable(entries.collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::changes::stated;
    use super::*;

    fn changed(text: &str, edits: &[(&str, Option<Value>)]) -> String {
        let mut changes = Changes::default();
        for (path, new) in edits {
            let path: KeyPath = path.parse().unwrap();
            let change = Change {
                who: "alice".to_owned(),
                when: jiff::Timestamp::UNIX_EPOCH,
                old: stated(text, &path),
                new: new.clone(),
            };
            changes.insert(path, change);
        }
        changes.apply(text).unwrap()
    }

    fn empty() -> Option<Value> {
        Some(Value::Table(toml::Table::new()))
    }

    #[test]
    fn a_value_is_changed_in_place_and_everything_else_stays() {
        let text = "# head\n[ports.b]   # second first\nssh_port = 8024\nbaud = 9600  # slow\n\n# on the first\n[ports.a]\nparity='N'\n";
        assert_eq!(
            changed(text, &[("ports.b.baud", Some(115200.into())), ("ports.a.parity", Some("E".into()))]),
            text.replace("9600", "115200").replace("'N'", "\"E\"")
        );
        assert_eq!(changed(text, &[("ports.b.baud", None)]), text.replace("baud = 9600  # slow\n", ""));
    }

    #[test]
    fn a_new_key_is_appended_to_its_table() {
        let text = "[ports.a]\nssh_port = 1 # one\n# b's\n[ports.b]\n";
        assert_eq!(
            changed(text, &[("ports.a.baud", Some(300.into()))]),
            "[ports.a]\nssh_port = 1 # one\nbaud = 300\n# b's\n[ports.b]\n"
        );
        assert_eq!(
            changed(text, &[("server.ssh_port", Some(22.into()))]),
            format!("{text}\n[server]\nssh_port = 22\n")
        );
    }

    #[test]
    fn the_log_is_changed_in_every_notation() {
        for (text, with_raw) in [
            ("[ports.a]\nlog = \"text\" # c\n", "[ports.a]\nlog = \"raw\" # c\n"),
            (
                "[ports.a]\nlog = { sync = \"5s\", type = \"text\" } # c\n",
                "[ports.a]\nlog = { sync = \"5s\", type = \"raw\" } # c\n",
            ),
            ("[ports.a]\nlog.type = \"text\" # c\n", "[ports.a]\nlog.type = \"raw\" # c\n"),
            (
                "[ports.a]\n[ports.a.log]\ntype = \"text\" # c\n",
                "[ports.a]\n[ports.a.log]\ntype = \"raw\" # c\n",
            ),
            ("[ports]\na = { log = { type = \"text\" } }\n", "[ports]\na = { log = { type = \"raw\" } }\n"),
            ("[ports.a]\nbaud = 1\n", "[ports.a]\nbaud = 1\nlog = { type = \"raw\" }\n"),
        ] {
            assert_eq!(changed(text, &[("ports.a.log.type", Some("raw".into()))]), with_raw, "{text}");
        }
        assert_eq!(
            changed("[ports.a]\nlog = \"raw\" # c\n", &[("ports.a.log.sync", Some("1s".into()))]),
            "[ports.a]\nlog = { type = \"raw\", sync = \"1s\" } # c\n"
        );
        for text in [
            "[ports.a]\nlog = \"raw\"\n",
            "[ports.a]\nlog = { type = \"raw\" }\n",
            "[ports.a]\nlog.type = \"raw\"\n",
            "[ports.a]\n[ports.a.log]\ntype = \"raw\"\n",
        ] {
            assert_eq!(changed(text, &[("ports.a.log.type", None)]), "[ports.a]\n", "{text}");
        }
    }

    #[test]
    fn ports_are_added_and_removed_as_tables() {
        let text = "[ports.a]\nbaud = 300\n\n[ports.\"b.c\"] # two\nbaud = 600\n";
        assert_eq!(changed(text, &[("ports.\"b.c\"", None)]), "[ports.a]\nbaud = 300\n");
        assert_eq!(
            changed(text, &[("ports.z", empty()), ("ports.z.baud", Some(50.into()))]),
            format!("{text}\n[ports.z]\nbaud = 50\n")
        );
        for name in ["z", "ports", "triggers"] {
            let key = format!("ports.{name}");
            assert_eq!(changed("", &[(&key, empty())]), format!("[{key}]\n"));
        }
        assert_eq!(changed("[ports.a]\nbaud = 300\n", &[("ports.a", empty())]), "[ports.a]\n");
        for text in ["[ports.a.log]\ntype = \"raw\"\n", "[ports]\na.baud = 300\n", "ports.a.baud = 300\n"] {
            let again = changed(text, &[("ports.a", empty())]);
            assert!(again.parse::<toml::Table>().unwrap()["ports"].get("a").is_some(), "{text}: {again}");
        }
        assert_eq!(changed("ports = { a.baud = 300 }\n", &[("ports.a", empty())]), "ports = { a = {} }\n");
        assert_eq!(
            changed("ports = { a = {} }\n", &[("ports.z", empty()), ("ports.z.baud", Some(50.into()))]),
            "ports = { a = {} , z = { baud = 50 } }\n"
        );
        assert_eq!(changed(text, &[("ports.gone.baud", None)]), text);
    }
}
