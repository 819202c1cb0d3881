//! The configured sources of keys and authorities of certificates. `console-auth` reads the configuration itself, so that the network processes cannot influence it, and
//! checks that root has approved the command and the authorities: /etc/consoleserver belongs to `console-admin`, which must not be able to
//! start programs or become another user this way.

use std::cell::LazyCell;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::Uid;
use thiserror::Error;

use crate::config::{Access, Config, ConfigError, KeysCommand, KeysCommandUser, KeysFile};
use crate::system::persist;

/// A setting that only root may make, since by another one an administrator of consoles could become root: which program `console-auth`
/// runs, or whose certificates it accepts for every user.
struct Approval {
    /// What is not done without the approval, and the name of the setting.
    what: &'static str,
    subject: &'static str,
    /// The file with the last setting that root has approved, in a directory that only root can write.
    record: &'static str,
    /// The setting as it is recorded; `None`: there is none.
    text: fn(&Access) -> Option<String>,
}

const COMMAND: Approval = Approval {
    what: "authorized_keys_command is not run",
    subject: "the command",
    record: "var/lib/consoleserver/authorized_keys_command",
    text: |access| Some(command_text(&command(access)?)),
};

const AUTHORITIES: Approval = Approval {
    what: "user_ca accepts no certificate",
    subject: "user_ca and principals",
    record: "var/lib/consoleserver/user_ca",
    text: |access| {
        let user_ca = access.user_ca.as_ref()?.to_str()?;
        Some(authorities_text(user_ca, access.principals.as_ref().map(KeysFile::as_str)))
    },
};

/// Bytes of the longest configuration, which `config` limits itself, and of the file above.
const TEXT_LIMIT: u64 = 1024 * 1024;

#[derive(Debug, Clone)]
pub struct Configured {
    /// This file, instead of those below `root`.
    pub file: Option<PathBuf>,
    /// The directory with /etc, /usr and /var.
    pub root: PathBuf,
}

#[derive(Debug)]
pub struct Sources {
    pub files: Vec<KeysFile>,
    pub command: Option<(KeysCommand, KeysCommandUser)>,
    /// The file with the authorities that sign certificates for all users.
    pub user_ca: Option<PathBuf>,
    /// The file with a user's principals, instead of the user's name.
    pub principals: Option<KeysFile>,
    pub revoked: Option<PathBuf>,
    /// Settings that are not used, because root has not approved them.
    pub unconfirmed: Vec<Unconfirmed>,
}

/// Why a command or an authority is not used.
#[derive(Debug, Error)]
#[error(
    "{what}, because {} was not written by root{because}: as root, check {subject} and run \
     `chown root {}`, or set it again by consolectl",
    file.display(), file.display()
)]
pub struct Unconfirmed {
    what: &'static str,
    subject: &'static str,
    file: PathBuf,
    because: String,
}

impl Unconfirmed {
    /// The command with which root approves it.
    pub fn command(&self) -> String {
        format!("chown root {}", self.file.display())
    }
}

/// `[access]` of a file that belongs to root; `None` if the file is invalid.
type OfRoot = Result<Option<Access>, NotRoots>;

impl Configured {
    /// Reads the configuration.
    ///
    /// # Errors
    /// If its settings of keys are invalid: then no key is accepted, rather than keys of a file that it may have meant to exclude.
    pub fn sources(&self) -> Result<Sources, ConfigError> {
        self.read(true)
    }

    /// Settings that are not used, because root has not approved them; only root can check that. Does not record an approval.
    pub fn unconfirmed(&self) -> Vec<Unconfirmed> {
        self.read(false).map(|sources| sources.unconfirmed).unwrap_or_default()
    }

    fn read(&self, remember: bool) -> Result<Sources, ConfigError> {
        let (access, file) = match &self.file {
            Some(file) => {
                let loaded = Config::load_file(file)?;
                (loaded.config.access, Some(loaded.path))
            }
            None => Config::load_access(&self.root)?,
        };
        let mut sources = Sources {
            files: access.authorized_keys_files.clone(),
            command: command(&access),
            user_ca: access.user_ca.clone(),
            principals: access.principals.clone(),
            revoked: access.revoked.clone(),
            unconfirmed: Vec::new(),
        };
        // Without a file nothing is set.
        let Some(file) = file else { return Ok(sources) };
        // Read only if there is a setting that root must approve.
        let of_root = LazyCell::new(|| {
            let text = read_file_of_root(&file)?;
            Ok(Config::parse(&text, &file).ok().map(|config| config.access))
        });
        let confirmed = |approval| self.confirmed(&file, approval, &access, remember, &of_root);
        if let Err(unconfirmed) = confirmed(&COMMAND) {
            sources.command = None;
            sources.unconfirmed.push(unconfirmed);
        }
        if let Err(unconfirmed) = confirmed(&AUTHORITIES) {
            sources.user_ca = None;
            sources.unconfirmed.push(unconfirmed);
        }
        Ok(sources)
    }

    /// Root approves a setting by a configuration file that belongs to root, or has approved it before. The former is recorded, because a
    /// commit by `console-admin` makes the file its own.
    fn confirmed(
        &self,
        file: &Path,
        approval: &Approval,
        access: &Access,
        remember: bool,
        of_root: &LazyCell<OfRoot, impl FnOnce() -> OfRoot>,
    ) -> Result<(), Unconfirmed> {
        let Some(wanted) = (approval.text)(access) else { return Ok(()) };
        let record = self.root.join(approval.record);
        let because = match &**of_root {
            Ok(Some(theirs)) if (approval.text)(theirs).as_ref() == Some(&wanted) => {
                if self.file.is_none() && remember {
                    confirm(&record, &wanted);
                }
                return Ok(());
            }
            // Reloaded and not committed.
            Ok(_) => ", or has another one".to_owned(),
            Err(NotRoots::Owner) => String::new(),
            Err(NotRoots::Io(error)) => format!(" ({error})"),
        };
        match read_file_of_root(&record) {
            Ok(text) if self.file.is_none() && text == wanted => Ok(()),
            _ => {
                let Approval { what, subject, .. } = *approval;
                Err(Unconfirmed { what, subject, file: file.to_owned(), because })
            }
        }
    }
}

type Command = (KeysCommand, KeysCommandUser);

fn command(access: &Access) -> Option<Command> {
    access.authorized_keys_command.clone().zip(access.authorized_keys_command_user.clone())
}

fn command_text((command, user): &Command) -> String {
    format!("{}\n{}\n", user.as_str(), command.as_str())
}

fn authorities_text(user_ca: &str, principals: Option<&str>) -> String {
    format!("{user_ca}\n{}\n", principals.unwrap_or_default())
}

/// Records root's approval, if the process runs as root. If that fails, the file approves the setting while it belongs to root.
fn confirm(record: &Path, text: &str) {
    if !Uid::effective().is_root() || read_file_of_root(record).is_ok_and(|known| known == text) {
        return;
    }
    if let Err(error) = persist::write(record, text.as_bytes(), 0o600, None) {
        tracing::warn!("cannot write {}: {error}", record.display());
    }
}

/// Records root's approval of the command and user that root has just set by `consolectl`.
pub fn confirm_command_set_by_root(command: &str, user: &str) {
    if let (Ok(command), Ok(user)) = (KeysCommand::parse(command), KeysCommandUser::parse(user)) {
        confirm(&Path::new("/").join(COMMAND.record), &command_text(&(command, user)));
    }
}

/// Records root's approval of `user_ca` and `principals`, one of which root has just set by `consolectl`.
pub fn confirm_authorities_set_by_root(user_ca: &str, principals: Option<&str>) {
    confirm(&Path::new("/").join(AUTHORITIES.record), &authorities_text(user_ca, principals));
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
            assert_eq!(sources.command.is_some(), sources.unconfirmed.is_empty());
            sources.command.is_some()
        }
    }

    #[test]
    fn a_command_runs_only_if_root_approved_it() {
        let machine = Machine::new();
        machine.write(TEXT, 65534);
        assert!(!machine.runs(), "console-admin wrote it");
        let why = machine.sources().unwrap().unconfirmed[0].to_string();
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
    fn an_authority_is_trusted_only_if_root_approved_it() {
        const CA: &str = "[access]\nuser_ca = \"/etc/ssh/ca.pub\"\nrevoked = \"/etc/ssh/revoked\"\n";
        let machine = Machine::new();
        let trusted = |text: &str, owner| {
            machine.write(text, owner);
            let sources = machine.sources().unwrap();
            assert_eq!(sources.user_ca.is_some(), sources.unconfirmed.is_empty());
            assert_eq!(sources.revoked, Some("/etc/ssh/revoked".into()), "anyone may revoke");
            sources.user_ca.is_some()
        };
        assert!(!trusted(CA, 65534), "console-admin wrote it");
        let why = machine.sources().unwrap().unconfirmed[0].to_string();
        assert!(
            why.starts_with("user_ca accepts no certificate, because ") && why.contains("chown root"),
            "{why}"
        );
        assert!(trusted(CA, 0));
        assert!(
            trusted(&format!("{CA}groups = []\n"), 65534),
            "a commit changes something else and the owner"
        );
        assert!(!trusted(&CA.replace("ca.pub", "other.pub"), 65534), "another authority");
        let principals = format!("{CA}principals = \"/etc/cron.allow\"\n");
        assert!(!trusted(&principals, 65534), "other principals");
        assert!(trusted(&principals, 0));
        assert!(!trusted(CA, 65534), "principals are taken away");
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
