//! Finds and reads the configuration file. Only a file that does not exist is skipped in favour of the next
//! one: an unreadable one is an error, since the next file has other ports than those that the administrator
//! configured.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::changes::Changes;
use super::fault::MAX_BYTES;
use super::{Config, ConfigError, Instances, read};

/// console-admin's copy of the last valid configuration, below the root.
pub const LAST_GOOD: &str = "var/lib/consoleserver/admin/last-good.toml";

#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    pub path: PathBuf,
    /// Why changes that were reloaded but not committed are ignored.
    pub left_out: Option<String>,
    /// The error in the file that should have been read; `config` is then the last valid one.
    pub fault: Option<ConfigError>,
}

impl Config {
    /// `/etc/consoleserver/config.toml`, otherwise the vendor's `/usr/lib/consoleserver/config.toml`, both
    /// below `root`, with the changes that were reloaded but not committed.
    pub fn load(root: &Path) -> Result<Loaded, ConfigError> {
        overlaid(committed(root)?, root)
    }

    /// As [`Config::load`]; if the file is invalid, the last valid one. A missing file is not a fault: a machine
    /// whose configuration was removed is not meant to keep running it.
    pub fn load_or_last_good(root: &Path) -> Result<Loaded, ConfigError> {
        let fault = match Self::load(root) {
            Err(fault) if !matches!(fault, ConfigError::Missing(_)) => fault,
            loaded => return loaded,
        };
        match first_text(vec![root.join(LAST_GOOD)]).and_then(|good| overlaid(good, root)) {
            Ok(good) => Ok(Loaded { fault: Some(fault), ..good }),
            Err(_) => Err(fault),
        }
    }

    /// For `consoleserver` in a terminal: `./config.toml`, then `~/.consoleserver/config.toml`, then as
    /// [`Config::load`].
    pub fn load_foreground(cwd: &Path, home: Option<&Path>, root: &Path) -> Result<Loaded, ConfigError> {
        let own = home.map(|home| home.join(".consoleserver/config.toml"));
        first([cwd.join("config.toml")].into_iter().chain(own).chain(system(root)).collect())
    }

    /// This file only.
    pub fn load_file(path: &Path) -> Result<Loaded, ConfigError> {
        first(vec![path.to_owned()])
    }

    /// Parses a text; `path` is the file name in errors.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        read::read(text, path)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    pub text: String,
    pub path: PathBuf,
}

/// The committed text: the administrator's file, otherwise the vendor's.
pub fn committed(root: &Path) -> Result<Text, ConfigError> {
    first_text(system(root))
}

/// The configuration of a text with the running changes applied. If they do not fit, all of them are ignored:
/// a part of them would be a configuration that was never reloaded.
pub(super) fn overlaid(Text { text, path }: Text, root: &Path) -> Result<Loaded, ConfigError> {
    let config = Config::parse(&text, &path)?;
    let with_running = Changes::running(root).map_err(|error| error.to_string()).and_then(|running| {
        match running.is_empty() {
            true => Ok(None),
            false => {
                let text = running.apply(&text).map_err(|error| error.to_string())?;
                running.candidate(&text).map(Some)
            }
        }
    });
    let (mut config, left_out) = match with_running {
        Ok(None) => (config, None),
        Ok(Some(running)) => (running, None),
        Err(why) => {
            (config, Some(format!("changes that were reloaded but not committed are ignored: {why}")))
        }
    };
    config.take_instances(Instances::running(root));
    Ok(Loaded { config, path, left_out, fault: None })
}

/// The text of this configuration file.
pub fn only(path: &Path) -> Result<Text, ConfigError> {
    first_text(vec![path.to_owned()])
}

fn system(root: &Path) -> Vec<PathBuf> {
    ["etc", "usr/lib"].map(|directory| root.join(directory).join("consoleserver/config.toml")).to_vec()
}

fn first(paths: Vec<PathBuf>) -> Result<Loaded, ConfigError> {
    let Text { text, path } = first_text(paths)?;
    let config = Config::parse(&text, &path)?;
    Ok(Loaded { config, path, left_out: None, fault: None })
}

pub(super) fn first_text(paths: Vec<PathBuf>) -> Result<Text, ConfigError> {
    for path in &paths {
        if let Some(text) = text(path)? {
            // An editor or cp leaves an empty file on a full disk: not a configuration without ports.
            if text.trim().is_empty() {
                return Err(ConfigError::Empty { path: path.clone() });
            }
            return Ok(Text { text, path: path.clone() });
        }
    }
    Err(ConfigError::Missing(paths))
}

/// The text of a file; `None` if it does not exist.
pub fn text(path: &Path) -> Result<Option<String>, ConfigError> {
    let unreadable = |cause: io::Error| {
        let help = match cause.kind() {
            ErrorKind::PermissionDenied => format!(" (every port must be able to read it: {})", permit(path)),
            _ => String::new(),
        };
        ConfigError::Unreadable { path: path.to_owned(), cause, help }
    };
    let not_a_file = |what| ConfigError::NotAFile { path: path.to_owned(), what };
    // A FIFO must not block the boot: O_NONBLOCK opens it at once, and the type check below rejects it.
    let file = match OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return match fs::symlink_metadata(path) {
                Ok(_) => Err(not_a_file("a dangling symbolic link")),
                Err(_) => Ok(None),
            };
        }
        Err(error) => return Err(unreadable(error)),
    };
    let kind = file.metadata().map_err(unreadable)?.file_type();
    if !kind.is_file() {
        return Err(not_a_file(match () {
            () if kind.is_dir() => "a directory",
            () if kind.is_fifo() => "a FIFO",
            () => "a device",
        }));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > MAX_BYTES {
        return Err(ConfigError::TooLong { path: path.to_owned() });
    }
    utf8(bytes, path).map(Some)
}

/// The command that makes a file readable for every user: `umask 077; cp` restricts it to its owner, and a
/// directory above may do so too.
pub fn permit(path: &Path) -> String {
    // Below a directory without search permission the path cannot be resolved.
    let real = fs::canonicalize(path);
    let path = real.as_deref().unwrap_or(path);
    let mut above: Vec<&Path> = path.ancestors().skip(1).filter(|path| path.parent().is_some()).collect();
    above.reverse();
    let shut: Vec<String> = above
        .iter()
        .filter(|path| fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o001 == 0))
        .map(|path| path.display().to_string())
        .collect();
    let file = fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o004 == 0);
    match (shut.is_empty(), file) {
        (true, _) => format!("chmod a+r {}", path.display()),
        (false, true) => format!("chmod a+x {} && chmod a+r {}", shut.join(" "), path.display()),
        (false, false) => format!("chmod a+x {}", shut.join(" ")),
    }
}

fn utf8(bytes: Vec<u8>, path: &Path) -> Result<String, ConfigError> {
    String::from_utf8(bytes).map_err(|error| {
        let right = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = right.iter().filter(|b| **b == b'\n').count() + 1;
        let column = right.iter().rev().take_while(|b| **b != b'\n').count() + 1;
        ConfigError::NotUtf8 { path: path.to_owned(), line, column }
    })
}
