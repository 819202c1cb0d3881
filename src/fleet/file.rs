//! The files of `consolectl` for many servers: groups of hosts, and the DNS zone of the consoles.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use super::hosts::{HostError, HostGroups};
use crate::port::PatternError;
use crate::system::persist;

const SYSTEM: &str = "etc/consoleserver/hosts.toml";
/// The user's file, in the directory of the user's configuration.
const USER: &str = "consolectl.toml";

/// The content of the files. A group or key of the user's file replaces that of the machine's.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FleetFile {
    /// `[groups]`
    pub groups: HostGroups,
    /// The zone in which the consoles have names: `console.example`.
    pub zone: Option<String>,
}

/// Why a file cannot be used.
#[derive(Debug, Error)]
pub enum FleetFileError {
    #[error("{0}: {1}")]
    Read(PathBuf, io::Error),
    #[error("{path}:{line}: {message}")]
    Syntax { path: PathBuf, line: usize, message: String },
    #[error("{0}, group {1}: {2}")]
    Host(PathBuf, String, HostError),
    #[error("{0}: {1}")]
    Group(PathBuf, PatternError),
    #[error("{0}: invalid zone {1:?}: use a DNS name such as console.example")]
    Zone(PathBuf, String),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    zone: Option<String>,
    #[serde(default)]
    groups: BTreeMap<String, Vec<String>>,
}

impl FleetFile {
    /// Reads the machine's file below `root` and the user's; a missing one is empty.
    pub fn load(root: &Path) -> Result<Self, FleetFileError> {
        let mut all = Self::default();
        for path in [Some(root.join(SYSTEM)), of_user()].into_iter().flatten() {
            all.add(&path)?;
        }
        Ok(all)
    }

    fn add(&mut self, path: &Path) -> Result<(), FleetFileError> {
        let Some(text) = read(path)? else { return Ok(()) };
        let Text { zone, groups } = toml::from_str(&text).map_err(|error| FleetFileError::Syntax {
            path: path.to_owned(),
            line: line_of(&error, &text),
            message: error.message().to_owned(),
        })?;
        if let Some(zone) = zone {
            self.zone = Some(valid_zone(&zone).ok_or_else(|| FleetFileError::Zone(path.to_owned(), zone))?);
        }
        for (name, members) in groups {
            let group = name.parse().map_err(|error| FleetFileError::Group(path.to_owned(), error))?;
            let patterns = members.iter().map(|member| member.parse()).collect::<Result<_, _>>();
            let patterns = patterns.map_err(|error| FleetFileError::Host(path.to_owned(), name, error))?;
            self.groups.insert(group, patterns);
        }
        Ok(())
    }
}

/// A zone without the dot at its end, in lower case; `None` if it is not a name of RFC 1035 with at least one label.
pub(super) fn valid_zone(zone: &str) -> Option<String> {
    let zone = zone.strip_suffix('.').unwrap_or(zone).to_ascii_lowercase();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    // The longest name of a console is a port's, and `_ssh._tcp.` before it.
    (zone.len() <= 200 && zone.split('.').all(label)).then_some(zone)
}

fn of_user() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // The XDG specification: a relative path is invalid and ignored.
    let directory = set("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
    Some(directory.or_else(|| Some(set("HOME")?.join(".config")))?.join(USER))
}

fn read(path: &Path) -> Result<Option<String>, FleetFileError> {
    let text = persist::read(path).and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other));
    match text {
        Ok(text) => Ok(Some(text)),
        // (NotADirectory: ~/.config is a file.)
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(FleetFileError::Read(path.to_owned(), error)),
    }
}

/// The number of the line of an error in a TOML text.
pub(super) fn line_of(error: &toml::de::Error, text: &str) -> usize {
    error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(text: &str) -> Result<FleetFile, String> {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("hosts.toml");
        std::fs::write(&path, text).unwrap();
        let mut all = FleetFile::default();
        let error = all.add(&path).err();
        match error {
            None => Ok(all),
            Some(error) => Err(error.to_string().replace(&format!("{}/", room.path().display()), "")),
        }
    }

    #[test]
    fn groups_and_the_zone_are_read() {
        let file =
            loaded("zone = 'Console.Example.'\n[groups]\ncore = ['rack[1-2]', '@edge']\nedge = ['e1']\n")
                .unwrap();
        assert_eq!(file.zone.as_deref(), Some("console.example"));
        assert_eq!(file.groups.len(), 2);
    }

    #[test]
    fn a_mistake_has_its_file_and_line() {
        for (text, wanted) in [
            ("[groups]\ncore = 'rack1'\n", "hosts.toml:2: invalid type"),
            ("\n\ngroup = 1\n", "hosts.toml:3: unknown field `group`"),
            ("[groups\n", "hosts.toml:1: "),
            ("[groups]\ncore = ['-x']\n", "hosts.toml, group core: invalid host \"-x\""),
            ("[groups]\n'a b' = []\n", "hosts.toml: invalid group name \"a b\""),
            ("zone = 'a..b'\n", "hosts.toml: invalid zone \"a..b\""),
            ("zone = ''\n", "hosts.toml: invalid zone \"\""),
        ] {
            let error = loaded(text).unwrap_err();
            assert!(error.starts_with(wanted), "{text:?}: {error}");
        }
    }
}
