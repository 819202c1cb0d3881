//! The configured sources of keys. `console-auth` reads the configuration itself, so that the network processes cannot influence it, and
//! checks that root has approved the command: /etc/consoleserver belongs to `console-admin`, which must not be able to start programs this way.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::Uid;
use thiserror::Error;

use crate::config::{Access, Config, ConfigError, KeysCommand, KeysCommandUser, KeysFile};
use crate::system::persist;

/// The command that root approved last, in a directory that only root can write.
const CONFIRMED_FILE: &str = "var/lib/consoleserver/authorized_keys_command";

/// Bytes of the longest configuration, which `config` limits itself, and of the file above.
const TEXT_LIMIT: u64 = 1024 * 1024;

/// Location of the configuration.
#[derive(Debug, Clone)]
pub struct Configured {
    /// This file, instead of those below `root`.
    pub file: Option<PathBuf>,
    /// The directory with /etc, /usr and /var.
    pub root: PathBuf,
}

/// The sources of keys.
#[derive(Debug)]
pub struct Sources {
    /// Key files.
    pub files: Vec<KeysFile>,
    /// The command that prints keys, and its user.
    pub command: Option<(KeysCommand, KeysCommandUser)>,
    /// Why the command is not run: root has not approved it.
    pub unconfirmed: Option<Unconfirmed>,
}

/// Why a command is not run.
#[derive(Debug, Error)]
#[error(
    "authorized_keys_command is not run, because {} was not written by root{because}: as root, check the command and run \
     `chown root {}`, or set it again by consolectl",
    file.display(), file.display()
)]
pub struct Unconfirmed {
    file: PathBuf,
    because: String,
}

impl Unconfirmed {
    /// The command with which root approves it.
    pub fn command(&self) -> String {
        format!("chown root {}", self.file.display())
    }
}

impl Configured {
    /// Reads the configuration.
    ///
    /// # Errors
    /// If its settings of keys are invalid: then no key is accepted, rather than keys of a file that it may have meant to exclude.
    pub fn sources(&self) -> Result<Sources, ConfigError> {
        self.read(true)
    }

    /// Why the command is not run, if there is one; only root can check that. Does not record an approval.
    pub fn unconfirmed(&self) -> Option<Unconfirmed> {
        self.read(false).ok()?.unconfirmed
    }

    fn read(&self, remember: bool) -> Result<Sources, ConfigError> {
        let (access, file) = match &self.file {
            Some(file) => {
                let loaded = Config::load_file(file)?;
                (loaded.config.access, Some(loaded.path))
            }
            None => Config::load_access(&self.root)?,
        };
        let files = access.authorized_keys_files.clone();
        let Some((command, file)) = command(&access).zip(file) else {
            return Ok(Sources { files, command: None, unconfirmed: None });
        };
        Ok(match self.confirmed(&file, &command, remember) {
            Ok(()) => Sources { files, command: Some(command), unconfirmed: None },
            Err(unconfirmed) => Sources { files, command: None, unconfirmed: Some(unconfirmed) },
        })
    }

    /// Root approves a command by a configuration file that belongs to root, or has approved it before. The former is recorded, because a
    /// commit by `console-admin` makes the file its own.
    fn confirmed(&self, file: &Path, command: &Command, remember: bool) -> Result<(), Unconfirmed> {
        let record = self.root.join(CONFIRMED_FILE);
        let because = match read_file_of_root(file) {
            Ok(text) => match Config::parse(&text, file) {
                Ok(config) if self::command(&config.access).as_ref() == Some(command) => {
                    if self.file.is_none() && remember {
                        confirm(&self.root, command);
                    }
                    return Ok(());
                }
                // Reloaded and not committed.
                _ => ", or has another command".to_owned(),
            },
            Err(NotRoots::Owner) => String::new(),
            Err(NotRoots::Io(error)) => format!(" ({error})"),
        };
        match read_file_of_root(&record) {
            Ok(text) if self.file.is_none() && text == written(command) => Ok(()),
            _ => Err(Unconfirmed { file: file.to_owned(), because }),
        }
    }
}

type Command = (KeysCommand, KeysCommandUser);

fn command(access: &Access) -> Option<Command> {
    access.authorized_keys_command.clone().zip(access.authorized_keys_command_user.clone())
}

fn written((command, user): &Command) -> String {
    format!("{}\n{}\n", user.as_str(), command.as_str())
}

/// Records root's approval, if the process runs as root. If that fails, the file approves the command while it belongs to root.
fn confirm(root: &Path, command: &Command) {
    let (record, written) = (root.join(CONFIRMED_FILE), written(command));
    if !Uid::effective().is_root() || read_file_of_root(&record).is_ok_and(|text| text == written) {
        return;
    }
    if let Err(error) = persist::write(&record, written.as_bytes(), 0o600, None) {
        tracing::warn!("cannot write {}: {error}", record.display());
    }
}

/// Records root's approval of the command and user that root has just set by `consolectl`.
pub fn confirm_set_by_root(command: &str, user: &str) {
    if let (Ok(command), Ok(user)) = (KeysCommand::parse(command), KeysCommandUser::parse(user)) {
        confirm(Path::new("/"), &(command, user));
    }
}

enum NotRoots {
    Owner,
    Io(io::Error),
}

impl From<io::Error> for NotRoots {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The text of a file that only root could have written (or this process's user, if it is not root). Symbolic links are rejected: the
/// owner of the directory could link to another file of root's.
fn read_file_of_root(path: &Path) -> Result<String, NotRoots> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    let metadata = file.metadata()?;
    let own = [0, Uid::effective().as_raw()].contains(&metadata.uid());
    if !metadata.is_file() || !own || metadata.mode() & 0o022 != 0 {
        return Err(NotRoots::Owner);
    }
    let mut text = String::new();
    file.take(TEXT_LIMIT).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    const TEXT: &str = "[access]\nauthorized_keys_command = \"/usr/bin/true %u\"\nauthorized_keys_command_user = \"nobody\"\n";

    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new() -> Self {
            assert!(
                Uid::effective().is_root(),
                "this test changes owners of files: run it as root (make test does)"
            );
            let directory = tempfile::tempdir().unwrap();
            for inside in ["etc/consoleserver", "var/lib/consoleserver"] {
                fs::create_dir_all(directory.path().join(inside)).unwrap();
            }
            Self(directory)
        }

        fn file(&self) -> PathBuf {
            self.0.path().join("etc/consoleserver/config.toml")
        }

        fn write(&self, text: &str, owner: u32) {
            let _ = fs::remove_file(self.file());
            fs::write(self.file(), text).unwrap();
            fs::set_permissions(self.file(), fs::Permissions::from_mode(0o644)).unwrap();
            chown(self.file(), Some(owner), None).unwrap();
        }

        fn sources(&self) -> Result<Sources, ConfigError> {
            Configured { file: None, root: self.0.path().to_owned() }.sources()
        }

        fn runs(&self) -> bool {
            let sources = self.sources().unwrap();
            assert_eq!(sources.command.is_some(), sources.unconfirmed.is_none());
            sources.command.is_some()
        }
    }

    #[test]
    fn a_command_runs_only_if_root_approved_it() {
        let machine = Machine::new();
        machine.write(TEXT, 65534);
        assert!(!machine.runs(), "console-admin wrote it");
        let why = machine.sources().unwrap().unconfirmed.unwrap().to_string();
        assert!(why.contains(&format!("chown root {}", machine.file().display())), "{why}");

        machine.write(TEXT, 0);
        assert!(machine.runs());
        machine.write(&format!("{TEXT}groups = []\n"), 65534);
        assert!(machine.runs(), "a commit changes something else and the owner");
        machine.write(&TEXT.replace("true", "false"), 65534);
        assert!(!machine.runs(), "another command");
        machine.write(&TEXT.replace("nobody", "root"), 65534);
        assert!(!machine.runs(), "another user");
    }

    #[test]
    fn a_link_or_a_file_writable_by_others_does_not_approve_a_command() {
        let machine = Machine::new();
        machine.write(TEXT, 0);
        fs::set_permissions(machine.file(), fs::Permissions::from_mode(0o664)).unwrap();
        assert!(!machine.runs());
        machine.write(TEXT, 0);
        let elsewhere = machine.0.path().join("elsewhere");
        fs::rename(machine.file(), &elsewhere).unwrap();
        symlink(&elsewhere, machine.file()).unwrap();
        assert!(!machine.runs());
    }

    #[test]
    fn an_invalid_configuration_never_adds_key_sources() {
        let machine = Machine::new();
        let files =
            |sources: Sources| sources.files.iter().map(|file| file.as_str().to_owned()).collect::<Vec<_>>();
        let keys = "authorized_keys_files = [\"/etc/ssh/keys/%u\"]\n";
        machine.write(&format!("[access]\n{keys}[ports.ttyUSB0]\nbuad = 1\n"), 0);
        assert_eq!(files(machine.sources().unwrap()), ["/etc/ssh/keys/%u"], "another section is invalid");
        for wrong in [
            format!("[acess]\n{keys}"),
            format!("[access]\n{}", keys.replace("files", "file")),
            format!("[access]\n{keys}groups = 7\n"),
            format!("[access]\n{keys}[ports.x\n"),
            "[access]\nauthorized_keys_files = [\"/k/%f\"]\n".to_owned(),
        ] {
            machine.write(&wrong, 0);
            assert!(machine.sources().is_err(), "{wrong}");
        }
        machine.write("[ports.x\n", 0);
        assert_eq!(files(machine.sources().unwrap()), [".ssh/authorized_keys", ".ssh/authorized_keys2"]);
        fs::remove_file(machine.file()).unwrap();
        assert_eq!(files(machine.sources().unwrap()).len(), 2, "no file");
    }
}
