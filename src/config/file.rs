//! Which file is the configuration, and its text. Only a file that does not exist gives way to the next one: an
//! unreadable one is an error, since the ports of the next one are not those that the administrator wrote.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::fault::MAX_BYTES;
use super::{Config, ConfigError, read};

/// A configuration, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What the file says.
    pub config: Config,
    /// The file.
    pub path: PathBuf,
}

impl Config {
    /// `/etc/consoleserver/config.toml`, else the vendor's `/usr/lib/consoleserver/config.toml`; both below `root`.
    pub fn load(root: &Path) -> Result<Loaded, ConfigError> {
        first(system(root))
    }

    /// For a terminal window: `./config.toml`, else `~/.consoleserver/config.toml`, else as [`Config::load`].
    pub fn load_foreground(cwd: &Path, home: Option<&Path>, root: &Path) -> Result<Loaded, ConfigError> {
        let own = home.map(|home| home.join(".consoleserver/config.toml"));
        first([cwd.join("config.toml")].into_iter().chain(own).chain(system(root)).collect())
    }

    /// This file and no other.
    pub fn load_file(path: &Path) -> Result<Loaded, ConfigError> {
        first(vec![path.to_owned()])
    }

    /// A text; `path` is what errors call it.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        read::read(text, path)
    }
}

fn system(root: &Path) -> Vec<PathBuf> {
    ["etc", "usr/lib"].map(|directory| root.join(directory).join("consoleserver/config.toml")).to_vec()
}

fn first(paths: Vec<PathBuf>) -> Result<Loaded, ConfigError> {
    for path in &paths {
        if let Some(text) = text(path)? {
            let config = Config::parse(&text, path)?;
            return Ok(Loaded { config, path: path.clone() });
        }
    }
    Err(ConfigError::Missing(paths))
}

/// The text of a file; `None` if it does not exist.
pub(super) fn text(path: &Path) -> Result<Option<String>, ConfigError> {
    let unreadable = |cause| ConfigError::Unreadable { path: path.to_owned(), cause };
    let not_a_file = |what| ConfigError::NotAFile { path: path.to_owned(), what };
    // A FIFO in its place must not hold up the boot: O_NONBLOCK opens it at once, and then it is refused.
    let file = match OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return match fs::symlink_metadata(path) {
                Ok(_) => Err(not_a_file("a symbolic link to nothing")),
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

fn utf8(bytes: Vec<u8>, path: &Path) -> Result<String, ConfigError> {
    String::from_utf8(bytes).map_err(|error| {
        let right = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = right.iter().filter(|b| **b == b'\n').count() + 1;
        let column = right.iter().rev().take_while(|b| **b != b'\n').count() + 1;
        ConfigError::NotUtf8 { path: path.to_owned(), line, column }
    })
}
