//! The usable part of an invalid configuration file, for the generator: it must not fail the boot and should
//! not remove listeners because of a mistake in another key. The port itself reports the error to its
//! clients. The result never opens more than the file allows: a port in doubt is left out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::changes::Changes;
use super::{Access, Config, ConfigError, Instances, Loaded, Server, file, read};

/// Rounds of removing broken tables. A file that needs more contains no small mistake.
const MAX_CUTS: usize = 16;

/// A configuration that may lack parts of the file.
#[derive(Debug)]
pub struct Salvaged {
    /// The usable part; without any port if there is none.
    pub config: Config,
    /// The file it was read from.
    pub path: Option<PathBuf>,
    /// The error in the file that should have been read.
    pub fault: Option<ConfigError>,
    /// Why changes that were reloaded but not committed are ignored.
    pub left_out: Option<String>,
}

impl Config {
    /// As [`Config::load_or_last_good`]. Without a copy of a valid one: the ports of the invalid file whose
    /// listeners are certain; if the file is not valid TOML, only those tables of ports that are.
    pub fn load_salvaging(root: &Path) -> Salvaged {
        let fault = match Self::load_or_last_good(root) {
            Ok(Loaded { config, path, left_out, fault }) => {
                return Salvaged { config, path: Some(path), fault, left_out };
            }
            Err(fault) => fault,
        };
        let wrong = match &fault {
            ConfigError::Wrong { path, .. } => file::text(path).ok().flatten().zip(Some(path.clone())),
            _ => None,
        };
        // Listeners that were moved by a reload and not committed stay where they are.
        let running = Changes::running(root).unwrap_or_default();
        let moved = |text: &str| running.apply(text).unwrap_or_else(|_| text.to_owned());
        let usable = |(text, path): (String, PathBuf)| {
            let config =
                read::certain_listeners(&moved(&text)).unwrap_or_else(|| without_broken_tables(&text));
            (config, path)
        };
        let (mut config, path) = match wrong.map(usable) {
            Some((config, path)) => (config, Some(path)),
            None => (Self::without_listeners(), None),
        };
        config.take_instances(Instances::running(root));
        Salvaged { config, path, fault: Some(fault), left_out: None }
    }

    /// `[access]` of [`Config::load_or_last_good`], and its file. Without a last good copy, this table of the
    /// invalid file if it is certain. A file that mentions neither `authorized_keys` nor `revoked` uses the
    /// default locations of keys, of which none is revoked.
    ///
    /// # Errors
    /// The error in the file, if it cannot be determined where keys come from.
    pub fn load_access(root: &Path) -> Result<(Access, Option<PathBuf>), ConfigError> {
        let fault = match Self::load_or_last_good(root) {
            Ok(Loaded { config, path, .. }) => return Ok((config.access, Some(path))),
            Err(ConfigError::Missing(_)) => return Ok((Access::default(), None)),
            Err(fault) => fault,
        };
        let running = Changes::running(root).unwrap_or_default();
        let wrong = match &fault {
            ConfigError::Wrong { path, .. } => file::text(path).ok().flatten().zip(Some(path.clone())),
            _ => None,
        };
        if let Some((text, path)) = wrong {
            let moved = running.apply(&text).unwrap_or_else(|_| text.clone());
            if let Some(access) = read::certain_access(&moved) {
                return Ok((access, Some(path)));
            }
            if running.is_empty() && !["authorized_keys", "revoked"].iter().any(|key| text.contains(key)) {
                return Ok((Access::default(), None));
            }
        }
        Err(fault)
    }

    /// No ports and no admin CLI.
    fn without_listeners() -> Self {
        Self { server: Server { ssh_port: None, ..Server::default() }, ..Self::default() }
    }
}

/// Those ports of a text with syntax errors whose own tables are valid; none if what they inherit is not.
pub fn without_broken_tables(text: &str) -> Config {
    let Some((text, cut)) = without_broken_ports(text) else {
        return Config::without_listeners();
    };
    let is_cut = |table: &str, name: &str| cut.contains(&(table.to_owned(), name.to_owned()));
    let mut config = read::certain_listeners(&text).unwrap_or_else(Config::without_listeners);
    // The same port or template may have a second table: [ports.NAME.log], or one by mistake.
    config.ports.retain(|name, port| {
        let states = |key: &str| config.own.get(name).is_some_and(|own| own.contains(key));
        let template = port.like.as_ref().filter(|_| !(states("enabled") && states("listen")));
        !is_cut("ports", name.as_str()) && !template.is_some_and(|like| is_cut("templates", like.as_str()))
    });
    config
}

/// The text with each `[ports.NAME]`, `[templates.NAME]` and `[groups]` that is not valid TOML blanked out,
/// with the names of these tables; `None` if another table is invalid.
///
/// An unclosed bracket or quote is detected only further down. Then the tables from there on are removed one
/// by one until the rest parses: fewer ports, never different ones.
fn without_broken_ports(text: &str) -> Option<(String, BTreeSet<(String, String)>)> {
    let mut text = text.to_owned();
    let mut cut = BTreeSet::new();
    for _ in 0..MAX_CUTS {
        let (_, errors) = DeTable::parse_recoverable(&text);
        let Some(offset) = errors.iter().filter_map(|error| error.span()).map(|span| span.start).min() else {
            return errors.is_empty().then_some((text, cut));
        };
        let start = header_before(&text, offset)?;
        let end = header_after(&text, offset);
        match (text[start..end].starts_with("[ports."), name_of(&text[start..end])) {
            (true, name) => cut.extend(name),
            (false, Some(name)) if name.0 == "templates" => drop(cut.insert(name)),
            // [groups] does not affect listeners.
            (false, None) if text[start..].starts_with("[groups]") => {}
            // If a template's header is broken, its other table would be taken for the whole template.
            (false, _) => return None,
        }
        let blank: String = text[start..end].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
        text.replace_range(start..end, &blank);
    }
    None
}

/// `ports` and `NAME` of a table that begins with `[ports.NAME`; `None` if the header itself is broken.
fn name_of(table: &str) -> Option<(String, String)> {
    let header: toml::Table = table.lines().next()?.parse().ok()?;
    let (outer, inner) = header.into_iter().next()?;
    Some((outer, inner.as_table()?.keys().next()?.clone()))
}

/// Start of the table that contains `offset`.
fn header_before(text: &str, offset: usize) -> Option<usize> {
    headers(text).take_while(|start| *start <= offset).last()
}

/// End of the table that contains `offset`.
fn header_after(text: &str, offset: usize) -> usize {
    headers(text).find(|start| *start > offset).unwrap_or(text.len())
}

/// Offsets of the lines that begin with a bracket. A bracket inside a multi-line value counts as a header
/// too: the cut then breaks that value, and nothing is salvaged.
fn headers(text: &str) -> impl Iterator<Item = usize> {
    let lines = text.split_inclusive('\n').scan(0, |offset, line| {
        let start = *offset;
        *offset += line.len();
        Some((start, line))
    });
    lines.filter(|(_, line)| line.starts_with('[')).map(|(start, _)| start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        without_broken_tables(text).ports.keys().map(|name| name.to_string()).collect()
    }

    #[test]
    fn a_port_listens_despite_errors_in_other_keys() {
        let text = "[ports.a]\nssh_port = 1\n[ports.b]\nbaud = \"fast\"\n[ports.c]\nenabled = false\n";
        assert_eq!(names(text), ["a", "b", "c"]);
        for wrong in
            ["baud = 0", "log.type = 2", "device = \"..\"", "log.listen = 1", "buad = 9600", "Parity = \"E\""]
        {
            for table in ["[ports.a]\n", "[ports.b]\n[ports.a]\n"] {
                assert!(names(&format!("{table}{wrong}\n")).contains(&"a".to_owned()), "{wrong}");
            }
        }
        assert_eq!(names("[defaults]\nbaud = \"fast\"\n[ports.a]\n"), ["a"]);
        assert_eq!(names("[server]\nmonitor = 1\nssh_port = 0\n[ports.a]\n"), ["a"]);
    }

    #[test]
    fn a_port_is_left_out_if_its_listener_is_uncertain() {
        for wrong in [
            "enabled = 0",
            "listen = [\"localhost\"]",
            "ssh_port = 80233",
            "enable = false",
            "disabled = true",
            "listn = [\"127.0.0.1\"]",
            "bind = [\"127.0.0.1\"]",
            "address = \"127.0.0.1\"",
        ] {
            assert_eq!(names(&format!("[ports.a]\n{wrong}\n[ports.b]\n")), ["b"], "{wrong}");
        }
    }

    #[test]
    fn a_port_s_own_keys_count_before_errors_in_inherited_tables() {
        let own = "[ports.a]\nenabled = true\nlisten = [\"::1\"]\n[ports.b]\nlisten = [\"::1\"]\n[ports.c]\n";
        assert_eq!(names(&format!("[server]\nlisten = 1\n{own}")), ["a", "b"]);
        assert_eq!(names(&format!("[defaults]\nlisten = 1\n{own}")), ["a", "b"]);
        assert_eq!(names(&format!("[defaults]\nenabled = 1\n{own}")), ["a"]);
    }

    #[test]
    fn a_port_whose_table_has_a_syntax_error_does_not_fall_back_to_defaults() {
        assert_eq!(names("[ports.a]\nenabled = flase\n[ports.b]\n"), ["b"]);
        assert_eq!(names("[ports.a]\nlisten = [\"127.0.0.1\"\nssh_port = 8023\n"), [""; 0]);
        assert_eq!(names("[ports.a]\n[ports.b]\n[ports.a.log]\ntype = text\n"), ["b"]);
        assert_eq!(names("[ports.a]\n[ports.b]\n[ports.\"a\"]\nenabled = false\n"), ["b"]);
        assert_eq!(names("[ports.b]\n[ports.a]\ndescription = \"x\nenabled = false\n"), ["b"]);
    }

    #[test]
    fn ports_that_claim_the_same_tcp_port_are_all_left_out() {
        let text =
            "[ports.b]\nssh_port = 1\n[ports.\"a.b\"]\nssh_port = 1\n[ports.d]\nssh_port = 1\n[ports.a]\n";
        assert_eq!(names(text), ["a"]);
        assert_eq!(names("[ports.a]\nssh_port = 8022\n[ports.b]\n"), ["b"]);
    }

    #[test]
    fn no_port_listens_if_an_inherited_table_is_invalid() {
        for head in [
            "[server]\nlisten = [\"127.0.0.1\"\n",
            "[server]\nlisten = [\"localhost\"]\n",
            "[defaults]\nenable = false\n",
            "[defaults]\nlisten = 1\n",
            "[default]\nlisten = [\"::1\"]\n",
            "listen = [\"::1\"]\n",
            "defaults = 1\n",
            "server = 127\n",
            "= 1\n",
        ] {
            assert_eq!(names(&format!("{head}[ports.a]\nssh_port = 8023\n")), [""; 0], "{head}");
        }
    }

    #[test]
    fn errors_in_tables_that_do_not_affect_listeners_are_ignored() {
        assert_eq!(names("[access]\nroot = 1\n[ports.a]\n"), ["a"]);
        assert_eq!(names("[acess]\nroot = \"key\"\n[ports.a]\n"), ["a"]);
    }

    #[test]
    fn all_ports_with_errors_are_left_out_beyond_the_printed_ones() {
        let text: String = (0..300).map(|n| format!("[ports.p{n}]\nlisten = 1\n")).collect();
        assert_eq!(names(&format!("{text}[ports.good]\n")), ["good"]);
    }
}
