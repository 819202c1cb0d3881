//! Paths and users of the foreground program: as root, those of the systemd units; otherwise the caller's own.

use std::env;
use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::{Group, Uid, User, geteuid};
use russh::keys::ssh_key::LineEnding;

use super::ForegroundError;
use super::sockets::remove_stale;
use crate::hostkeys::HostKeys;
use crate::port::PortName;
use crate::system::persist::Owner;
use crate::{hostkeys, system::persist};

/// The user of the systemd units, created by sysusers.d.
const PORT_USER: &str = "_console-port";
/// The user of the ports on a machine without [`PORT_USER`].
const NOBODY_USER: &str = "nobody";
/// The group that may open serial ttys.
const TTY_GROUP: &str = "dialout";
/// The group that may read logs.
const LOG_GROUP: &str = "adm";
/// Where the package installs the programs, if they are not beside ours.
const PROGRAM_DIRECTORIES: [&str; 2] = ["/usr/libexec/consoleserver", "/usr/bin"];

#[derive(Debug, Clone)]
pub struct Paths {
    /// `RUNTIME_DIRECTORY`: sockets, the configuration in effect.
    pub runtime: PathBuf,
    pub hostkeys: PathBuf,
    /// The log directories of all ports.
    pub logs: PathBuf,
    /// User of the ports; `None` = the caller, who is not root.
    pub port_user: Option<Owner>,
    pub port_user_name: String,
    /// Home of the caller; never used as root.
    pub home: PathBuf,
}

impl Paths {
    pub fn of_caller() -> Result<Self, ForegroundError> {
        if geteuid().is_root() { Self::of_root() } else { Self::of_user(geteuid()) }
    }

    fn of_root() -> Result<Self, ForegroundError> {
        let user = match User::from_name(PORT_USER).map_err(ForegroundError::Users)? {
            Some(user) => user,
            None => User::from_name(NOBODY_USER)
                .map_err(ForegroundError::Users)?
                .ok_or(ForegroundError::NoUser(PORT_USER, NOBODY_USER))?,
        };
        let gid = match Group::from_name(TTY_GROUP).map_err(ForegroundError::Users)? {
            Some(group) => group.gid,
            None => user.gid,
        };
        Ok(Self {
            runtime: crate::system::systemd::RUNTIME_DIRECTORY.into(),
            hostkeys: hostkeys::HOST_KEY_DIRECTORY.into(),
            logs: "/var/log/consoleserver".into(),
            port_user: Some(Owner { uid: user.uid.as_raw(), gid: gid.as_raw() }),
            port_user_name: user.name,
            home: "/root".into(),
        })
    }

    fn of_user(uid: Uid) -> Result<Self, ForegroundError> {
        let user = User::from_uid(uid).map_err(ForegroundError::Users)?;
        let home = absolute("HOME")
            .or_else(|| user.as_ref().map(|user| user.dir.clone()))
            .ok_or(ForegroundError::NoHome)?;
        let own = home.join(".consoleserver");
        let runtime = match absolute("XDG_RUNTIME_DIR") {
            Some(directory) => directory.join("consoleserver"),
            None => own.join("run"),
        };
        Ok(Self {
            runtime,
            hostkeys: own.join("hostkeys"),
            logs: own.join("log"),
            port_user: None,
            port_user_name: user.map_or_else(|| uid.to_string(), |user| user.name),
            home,
        })
    }

    /// Creates the directories and locks them against another instance until the result is dropped.
    pub fn claim(&self) -> Result<File, ForegroundError> {
        let (open, private) = if self.port_user.is_some() { (0o755, 0o700) } else { (0o700, 0o700) };
        make_directory(&self.runtime, open)?;
        let claim = File::open(&self.runtime).map_err(in_file(&self.runtime))?;
        match claim.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(ForegroundError::AlreadyRunning(self.runtime.clone()));
            }
            Err(TryLockError::Error(error)) => return Err(in_file(&self.runtime)(error)),
        }
        // The package's units use the same directory: what they have there must not be replaced now or removed in the end.
        remove_stale(&self.auth_port())?;
        make_directory(&self.attach(), open)?;
        // Marks of a previous instance that was killed.
        persist::gone(fs::remove_dir_all(self.running())).map_err(in_file(&self.running()))?;
        make_directory(&self.running(), open)?;
        make_directory(&self.logs, open)?;
        make_directory(&self.hostkeys, private)?;
        Ok(claim)
    }

    /// The directory of the local sockets.
    pub fn attach(&self) -> PathBuf {
        self.runtime.join("attach")
    }

    /// The directory with a mark for each running port.
    pub fn running(&self) -> PathBuf {
        self.runtime.join("running")
    }

    /// The socket of the login helper.
    pub fn auth_port(&self) -> PathBuf {
        self.runtime.join("auth-port")
    }

    /// The configuration in effect, for the ports.
    pub fn config(&self) -> PathBuf {
        self.runtime.join("config.toml")
    }

    /// Creates the port's log directory. Its group is `adm`, and so is that of its files (set-group-id), as in the package.
    pub fn log_directory(&self, port: &PortName) -> Result<PathBuf, ForegroundError> {
        let directory = self.logs.join(port.as_str());
        make_directory(&directory, 0o700)?;
        if let Some(Owner { uid, gid }) = self.port_user {
            let readers = Group::from_name(LOG_GROUP).map_err(ForegroundError::Users)?;
            let gid = readers.map_or(gid, |group| group.gid.as_raw());
            chown(&directory, Some(uid), Some(gid)).map_err(in_file(&directory))?;
            fs::set_permissions(&directory, Permissions::from_mode(0o2750)).map_err(in_file(&directory))?;
        }
        Ok(directory)
    }

    /// Generates the host key if it is missing, and copies all usable keys to a directory that ports can read (`CREDENTIALS_DIRECTORY`),
    /// because only root can read the originals. Without any, ports are served locally and logged.
    pub fn credentials(&self) -> Result<PathBuf, ForegroundError> {
        let directory = self.runtime.join("credentials");
        persist::gone(fs::remove_dir_all(&directory)).map_err(in_file(&directory))?;
        make_directory(&directory, 0o700)?;
        self.copy_host_keys(&self.host_keys(), &directory)?;
        if let Some(Owner { uid, gid }) = self.port_user {
            chown(&directory, Some(uid), Some(gid)).map_err(in_file(&directory))?;
            fs::set_permissions(&directory, Permissions::from_mode(0o500)).map_err(in_file(&directory))?;
        }
        Ok(directory)
    }

    fn copy_host_keys(&self, found: &HostKeys, directory: &Path) -> Result<(), ForegroundError> {
        for certificate in &found.certificates {
            let name = certificate.algorithm().to_certificate_type();
            let copy = directory.join(format!("{}_{name}", hostkeys::PREFIX));
            let text = certificate.to_openssh().map_err(ForegroundError::HostKeyCopy)?;
            persist::write(&copy, text.as_bytes(), 0o400, self.port_user).map_err(in_file(&copy))?;
        }
        for key in &found.keys {
            let copy = directory.join(format!("{}_{}", hostkeys::PREFIX, key.algorithm()));
            let text = key.to_openssh(LineEnding::LF).map_err(ForegroundError::HostKeyCopy)?;
            persist::write(&copy, text.as_bytes(), 0o400, self.port_user).map_err(in_file(&copy))?;
        }
        Ok(())
    }

    /// Generates the host keys for clients without Ed25519, if they are missing, and copies them into `credentials`. An RSA key may take
    /// seconds, so this runs on a thread; a port loads it for the first client that needs it.
    pub fn make_more_host_keys(self, credentials: PathBuf) {
        std::thread::spawn(move || {
            let made = hostkeys::ensure_more(&self.hostkeys).map_err(ForegroundError::from);
            let copied = made.and_then(|made| {
                if made.is_empty() {
                    return Ok(());
                }
                self.copy_host_keys(&hostkeys::load(&self.hostkeys)?, &credentials)
            });
            if let Err(error) = copied {
                tracing::warn!("clients without Ed25519 cannot connect: {error}");
            }
        });
    }

    /// The usable host keys. Errors are logged.
    fn host_keys(&self) -> HostKeys {
        match hostkeys::ensure(&self.hostkeys).and_then(|_| hostkeys::load(&self.hostkeys)) {
            Ok(found) => {
                for reason in &found.ignored {
                    tracing::warn!("host key ignored: {reason}");
                }
                found
            }
            Err(error) => {
                tracing::error!("SSH is not available: {error}");
                HostKeys::default()
            }
        }
    }

    /// Opens a program whose path the ports' user cannot search; `None` if it can.
    pub fn opened(&self, program: &Path) -> Result<Option<Arc<File>>, ForegroundError> {
        let Some(Owner { uid, gid }) = self.port_user else { return Ok(None) };
        let searches = |directory: &Path| {
            fs::metadata(directory).is_ok_and(|found| {
                let bits = match () {
                    () if found.uid() == uid => found.mode() >> 6,
                    () if found.gid() == gid => found.mode() >> 3,
                    () => found.mode(),
                };
                bits & 0o1 == 0o1
            })
        };
        if program.ancestors().skip(1).all(searches) {
            return Ok(None);
        }
        File::open(program).map(|file| Some(Arc::new(file))).map_err(in_file(program))
    }

    /// The user who called sudo, as owner of files for users.
    pub fn person(&self) -> Option<Owner> {
        let id = |name| env::var(name).ok()?.parse().ok();
        self.port_user?;
        Some(Owner { uid: id("SUDO_UID")?, gid: id("SUDO_GID")? })
    }
}

/// Finds one of our programs: beside this one, or where the package installs it; never by `PATH`.
pub fn program(name: &'static str) -> Result<PathBuf, ForegroundError> {
    let own = env::current_exe().map_err(|error| ForegroundError::File("/proc/self/exe".into(), error))?;
    let beside = own.parent().map(Path::to_owned);
    beside
        .into_iter()
        .chain(PROGRAM_DIRECTORIES.map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .ok_or(ForegroundError::NoProgram { name, own })
}

fn absolute(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Creates a directory and its parents; only the last one gets `mode`, and only if it is new.
fn make_directory(path: &Path, mode: u32) -> Result<(), ForegroundError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        DirBuilder::new().recursive(true).create(above).map_err(in_file(above))?;
    }
    DirBuilder::new().mode(mode).create(path).map_err(in_file(path))
}

/// Adds the file name to an I/O error.
pub fn in_file(path: &Path) -> impl FnOnce(io::Error) -> ForegroundError {
    let path = path.to_owned();
    move |error| ForegroundError::File(path, error)
}
