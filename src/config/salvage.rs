//! What can still be used of a configuration file that is wrong: for the generator, which must not fail a boot and should
//! not take listeners away for a slip in another key; the port itself tells whoever comes what is wrong. What
//! comes out never opens more than the file says; a port that is in doubt is left out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::changes::Changes;
use super::{Access, Config, ConfigError, Instances, Loaded, Server, file, read};

/// Rounds of cutting out broken tables; a file that needs more is not a file with a slip in it.
const MAX_CUTS: usize = 16;

/// A configuration that may be less than the file says.
#[derive(Debug)]
pub struct Salvaged {
    /// What can be used; without any port if nothing can.
    pub config: Config,
    /// Where it comes from; `None` if from nowhere.
    pub path: Option<PathBuf>,
    /// What was wrong with the file that should have been read.
    pub fault: Option<ConfigError>,
    /// Why what was reloaded and not committed is left out.
    pub left_out: Option<String>,
}

impl Config {
    /// As [`Config::load_or_last_good`]; without a last good copy the ports of the bad file whose listeners are plain, and if it is
    /// not even TOML, those tables of ports that parse.
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
        // Listeners that were moved and not committed stay where they are.
        let running = Changes::running(root).unwrap_or_default();
        let moved = |text: &str| running.apply(text).unwrap_or_else(|_| text.to_owned());
        let usable = |(text, path): (String, PathBuf)| {
            let config = read::plain_listeners(&moved(&text)).unwrap_or_else(|| without_broken_tables(&text));
            (config, path)
        };
        let (mut config, path) = match wrong.map(usable) {
            Some((config, path)) => (config, Some(path)),
            None => (Self::listening_nowhere(), None),
        };
        config.take_instances(Instances::running(root));
        Salvaged { config, path, fault: Some(fault), left_out: None }
    }

    /// `[access]` as [`Config::load_or_last_good`] has it, and the file. Without a last good copy, it is this table of the wrong file, if
    /// that is plain. A file that does not name `authorized_keys` anywhere leaves keys where they always are.
    ///
    /// # Errors
    /// What is wrong with the file, when it is not to be told where it wants keys to come from.
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
            if let Some(access) = read::plain_access(&moved) {
                return Ok((access, Some(path)));
            }
            if running.is_empty() && !text.contains("authorized_keys") {
                return Ok((Access::default(), None));
            }
        }
        Err(fault)
    }

    /// Neither a port nor the admin CLI, which a file that says nothing of it has.
    fn listening_nowhere() -> Self {
        Self { server: Server { ssh_port: None, ..Server::default() }, ..Self::default() }
    }
}

/// The ports of a text that is not TOML whose own tables are; none if what they inherit is not.
pub fn without_broken_tables(text: &str) -> Config {
    let Some((text, cut)) = without_broken_ports(text) else {
        return Config::listening_nowhere();
    };
    let is_cut = |table: &str, name: &str| cut.contains(&(table.to_owned(), name.to_owned()));
    let mut config = read::plain_listeners(&text).unwrap_or_else(Config::listening_nowhere);
    // The same port or template may have another table: [ports.NAME.log], or a second one by mistake.
    config.ports.retain(|name, port| {
        let states = |key: &str| config.own.get(name).is_some_and(|own| own.contains(key));
        let template = port.like.as_ref().filter(|_| !(states("enabled") && states("listen")));
        !is_cut("ports", name.as_str()) && !template.is_some_and(|like| is_cut("templates", like.as_str()))
    });
    config
}

/// The text with each `[ports.NAME]`, `[templates.NAME]` and `[groups]` that is not even TOML blanked out, and table and name of each; `None` if
/// something else is not.
///
/// An unclosed bracket or quote shows only further down. Then the tables from there on are cut one by one, until what
/// is left parses: fewer ports, never other ones.
fn without_broken_ports(text: &str) -> Option<(String, BTreeSet<(String, String)>)> {
    let mut text = text.to_owned();
    let mut cut = BTreeSet::new();
    for _ in 0..MAX_CUTS {
        let (_, errors) = DeTable::parse_recoverable(&text);
        let Some(place) = errors.iter().filter_map(|error| error.span()).map(|span| span.start).min() else {
            return errors.is_empty().then_some((text, cut));
        };
        let start = header_before(&text, place)?;
        let end = header_after(&text, place);
        match (text[start..end].starts_with("[ports."), name_of(&text[start..end])) {
            (true, name) => cut.extend(name),
            (false, Some(name)) if name.0 == "templates" => drop(cut.insert(name)),
            // [groups] does not concern listening.
            (false, None) if text[start..].starts_with("[groups]") => {}
            // Of a template whose header is broken, another table would stand for the whole.
            (false, _) => return None,
        }
        let blank: String = text[start..end].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
        text.replace_range(start..end, &blank);
    }
    None
}

/// `ports` and `NAME` of the table that begins `[ports.NAME`; `None` if the header itself is broken.
fn name_of(table: &str) -> Option<(String, String)> {
    let header: toml::Table = table.lines().next()?.parse().ok()?;
    let (outer, inner) = header.into_iter().next()?;
    Some((outer, inner.as_table()?.keys().next()?.clone()))
}

/// Where the table begins that holds `place`.
fn header_before(text: &str, place: usize) -> Option<usize> {
    headers(text).take_while(|start| *start <= place).last()
}

/// Where the table ends that holds `place`.
fn header_after(text: &str, place: usize) -> usize {
    headers(text).find(|start| *start > place).unwrap_or(text.len())
}

/// Offsets of the lines that begin with a bracket at the margin. One inside a multi-line value is taken for a header too: then the
/// cut breaks that value, and nothing is salvaged.
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
    fn a_port_listens_whatever_else_of_it_is_wrong() {
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
    fn a_port_of_which_it_is_not_plain_whether_and_where_it_listens_is_left_out() {
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
    fn what_a_port_says_itself_goes_before_what_is_wrong_above_it() {
        let own = "[ports.a]\nenabled = true\nlisten = [\"::1\"]\n[ports.b]\nlisten = [\"::1\"]\n[ports.c]\n";
        assert_eq!(names(&format!("[server]\nlisten = 1\n{own}")), ["a", "b"]);
        assert_eq!(names(&format!("[defaults]\nlisten = 1\n{own}")), ["a", "b"]);
        assert_eq!(names(&format!("[defaults]\nenabled = 1\n{own}")), ["a"]);
    }

    #[test]
    fn a_port_whose_key_is_not_even_toml_is_not_taken_with_the_default_instead() {
        assert_eq!(names("[ports.a]\nenabled = flase\n[ports.b]\n"), ["b"]);
        assert_eq!(names("[ports.a]\nlisten = [\"127.0.0.1\"\nssh_port = 8023\n"), [""; 0]);
        assert_eq!(names("[ports.a]\n[ports.b]\n[ports.a.log]\ntype = text\n"), ["b"]);
        assert_eq!(names("[ports.a]\n[ports.b]\n[ports.\"a\"]\nenabled = false\n"), ["b"]);
        assert_eq!(names("[ports.b]\n[ports.a]\ndescription = \"x\nenabled = false\n"), ["b"]);
    }

    #[test]
    fn ports_that_want_the_same_are_all_in_doubt() {
        let text =
            "[ports.b]\nssh_port = 1\n[ports.\"a.b\"]\nssh_port = 1\n[ports.d]\nssh_port = 1\n[ports.a]\n";
        assert_eq!(names(text), ["a"]);
        assert_eq!(names("[ports.a]\nssh_port = 8022\n[ports.b]\n"), ["b"]);
    }

    #[test]
    fn no_port_is_taken_when_what_all_inherit_is_wrong() {
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
    fn what_does_not_concern_listening_does_not_keep_ports_from_it() {
        assert_eq!(names("[access]\nroot = 1\n[ports.a]\n"), ["a"]);
        assert_eq!(names("[acess]\nroot = \"key\"\n[ports.a]\n"), ["a"]);
    }

    #[test]
    fn more_faulty_ports_than_are_told_are_all_left_out() {
        let text: String = (0..300).map(|n| format!("[ports.p{n}]\nlisten = 1\n")).collect();
        assert_eq!(names(&format!("{text}[ports.good]\n")), ["good"]);
    }
}
