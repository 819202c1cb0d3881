//! The host keys by which an SSH client recognizes this machine: made once, kept in a directory that only root reads.
//! Ports and `console-cli` get them from `console-auth`, or from a credentials directory. sshd's own keys are not touched.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::RsaKeypair;
use russh::keys::{Algorithm, EcdsaCurve, PrivateKey, PublicKey};
use thiserror::Error;

use crate::system::persist;

/// Where they are kept.
pub const HOST_KEY_DIRECTORY: &str = "/var/lib/consoleserver/hostkeys";

/// Every file of this prefix in a credentials directory is a host key.
pub const PREFIX: &str = "hostkey";

/// The key that is made first and that clients prefer.
const GENERATED_KEY_FILE: &str = "hostkey_ed25519";
/// The keys made beside it, for clients without Ed25519 (FIPS, PuTTY before 0.68). The ECDSA one is served with
/// `ssh_algorithms = "compatible"` only. Its name is not that of a key which an administrator makes by hand.
const MADE_RSA: &str = "hostkey_rsa";
const MADE_ECDSA: &str = "hostkey_ecdsa_nistp256";
/// As ssh-keygen(1) makes them.
const RSA_BITS: usize = 3072;

/// The comment of the keys that are made here: `ssh_algorithms` decides whether they are served, and not whether those are that an
/// administrator has put beside them.
pub const MADE_COMMENT: &str = "made by consoleserver";

/// Whether a key was made by [`ensure`] or [`ensure_more`].
pub fn is_made(key: &PrivateKey) -> bool {
    key.comment().as_bytes() == MADE_COMMENT.as_bytes()
}

/// Keys that are served: one of each kind is what a client can ask for (Ed25519, RSA, three ECDSA curves).
const KEY_LIMIT: usize = 8;
/// Bytes of the largest key file: RSA of 16384 bits, OpenSSH's limit, has 13 KB.
const FILE_LIMIT: u64 = 16 * 1024;
/// Entries of the directory that are considered.
const ENTRY_LIMIT: usize = 1000;
/// Files that are passed over with a reason.
const REASON_LIMIT: usize = 16;

/// Why there is no host key.
#[derive(Debug, Error)]
pub enum HostKeyError {
    /// The directory, or a new key in it.
    #[error("host keys: {0}: {1}")]
    File(PathBuf, #[source] io::Error),
    /// A key could not be made.
    #[error("host key {0} cannot be made: {1}")]
    Key(PathBuf, #[source] russh::keys::ssh_key::Error),
    /// Nothing to load.
    #[error(
        "no usable host key in {path}: systemctl restart console-hostkeys makes one if {GENERATED_KEY_FILE} is not there{}",
        .1.iter().map(|reason| format!("; {reason}")).collect::<String>(), path = .0.display()
    )]
    None(PathBuf, Vec<String>),
}

/// Why a file is not used as a host key.
#[derive(Debug, Error)]
enum UnusableKey {
    #[error("it cannot be read: {0}")]
    File(#[from] io::Error),
    #[error("it is a dangling symbolic link")]
    Dangling,
    #[error("it is a directory, not a key file")]
    Directory,
    #[error("it is not a regular file")]
    NotAFile,
    #[error("it is empty")]
    Empty,
    #[error("it has {0} bytes, more than any private key")]
    TooLarge(u64),
    #[error("its mode is {0:04o}, which others may read: chmod 600 {path}", path = .1.display())]
    Mode(u32, PathBuf),
    #[error("it is the public half of a key; the private one is needed")]
    PublicHalf,
    #[error("it is not a private key in a format of OpenSSH's")]
    NotAKey,
    #[error("it has a passphrase, which nobody could enter: ssh-keygen -p -N '' -f {path}", path = .0.display())]
    Encrypted(PathBuf),
    #[error("keys of the kind {0} are not served: use ed25519, ecdsa or rsa")]
    Kind(Algorithm),
    #[error("another key of the kind {0} is served")]
    SameKind(Algorithm),
    #[error("{KEY_LIMIT} keys are served already")]
    TooMany,
}

/// Makes the key if `directory` does not have it yet (the file 0600), and says which.
///
/// # Errors
/// When the directory cannot be read or written.
pub fn ensure(directory: &Path) -> Result<Option<PathBuf>, HostKeyError> {
    let path = directory.join(GENERATED_KEY_FILE);
    // A link whose end is not there yet is somebody's intention, and is not replaced.
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(HostKeyError::File(path, error)),
        Ok(_) => return Ok(None),
    }
    make(&path, || PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519))?;
    Ok(Some(path))
}

/// Makes the keys for clients without Ed25519, each if the directory has no usable key of its kind, and says which. An RSA key takes
/// seconds on a small board.
///
/// # Errors
/// When the directory cannot be read or written.
pub fn ensure_more(directory: &Path) -> Result<Vec<PathBuf>, HostKeyError> {
    let known = load(directory).map(|found| found.keys).unwrap_or_default();
    let ecdsa = Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 };
    let mut made = Vec::new();
    for (name, is_there) in [
        (MADE_ECDSA, known.iter().any(|key| key.algorithm() == ecdsa)),
        (MADE_RSA, known.iter().any(|key| key.algorithm().is_rsa())),
    ] {
        let path = directory.join(name);
        match fs::symlink_metadata(&path) {
            _ if is_there => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(HostKeyError::File(path, error)),
            // A broken one is told, and never replaced.
            Ok(_) => continue,
        }
        make(&path, || {
            let mut rng = russh::keys::key::safe_rng();
            match name {
                MADE_RSA => Ok(PrivateKey::from(RsaKeypair::random(&mut rng, RSA_BITS)?)),
                _ => PrivateKey::random(&mut rng, ecdsa.clone()),
            }
        })?;
        made.push(path);
    }
    Ok(made)
}

fn make(
    path: &Path,
    random: impl FnOnce() -> Result<PrivateKey, russh::keys::ssh_key::Error>,
) -> Result<(), HostKeyError> {
    let key_error = |error| HostKeyError::Key(path.to_owned(), error);
    let mut key = random().map_err(key_error)?;
    key.set_comment(MADE_COMMENT);
    let text = key.to_openssh(LineEnding::LF).map_err(key_error)?;
    persist::write(path, text.as_bytes(), 0o600, None)
        .map_err(|error| HostKeyError::File(path.to_owned(), error))
}

/// What a directory of host keys has: one good key is enough, and no other file keeps it from being served.
#[derive(Debug, Default)]
pub struct HostKeys {
    /// The usable keys, Ed25519 first: clients take the first that they know.
    pub keys: Vec<PrivateKey>,
    /// Every other file, with the reason. Public halves are no fault and are not among them.
    pub passed_over: Vec<String>,
}

impl HostKeys {
    /// Adds the key in `path`, or the reason why it is not used.
    fn add(&mut self, path: &Path, source: Source) {
        let added = match Self::read(path, source) {
            Ok(_) if self.keys.len() >= KEY_LIMIT => Err(UnusableKey::TooMany),
            Ok(key) => match self.keys.iter_mut().find(|known| known.algorithm() == key.algorithm()) {
                None => Ok(key),
                // Of a kind, the administrator's goes before ours, without a word.
                Some(known) if is_made(known) && !is_made(&key) => {
                    *known = key;
                    return;
                }
                Some(known) if is_made(&key) && !is_made(known) => return,
                Some(_) => Err(UnusableKey::SameKind(key.algorithm())),
            },
            refused => refused,
        };
        match added {
            Ok(key) => self.keys.push(key),
            Err(UnusableKey::PublicHalf) if path.extension().is_some_and(|end| end == "pub") => {}
            Err(_) if self.passed_over.len() >= REASON_LIMIT => {}
            Err(error) => self.passed_over.push(format!("{}: {error}", path.display())),
        }
    }

    fn read(path: &Path, source: Source) -> Result<PrivateKey, UnusableKey> {
        let metadata = match fs::metadata(path) {
            // The entry was listed a moment ago.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(UnusableKey::Dangling),
            metadata => metadata?,
        };
        if metadata.is_dir() {
            return Err(UnusableKey::Directory);
        }
        if !metadata.is_file() {
            return Err(UnusableKey::NotAFile);
        }
        match metadata.len() {
            0 => return Err(UnusableKey::Empty),
            length if length > FILE_LIMIT => return Err(UnusableKey::TooLarge(length)),
            _ => {}
        }
        let mut text = Vec::new();
        // Not blocking: the name may have become a FIFO's since.
        let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
        file.take(FILE_LIMIT).read_to_end(&mut text)?;
        let text = String::from_utf8(text).map_err(|_| UnusableKey::NotAKey)?;
        if PublicKey::from_openssh(text.trim()).is_ok() {
            return Err(UnusableKey::PublicHalf);
        }
        let key = match russh::keys::decode_secret_key(&text, None) {
            Err(russh::keys::Error::KeyIsEncrypted) => return Err(UnusableKey::Encrypted(path.to_owned())),
            key => key.map_err(|_| UnusableKey::NotAKey)?,
        };
        if key.is_encrypted() {
            return Err(UnusableKey::Encrypted(path.to_owned()));
        }
        // As sshd (auth.c, sshkey_perm_ok). systemd's credentials have an ACL, whose mask shows in the group's bits.
        let mode = metadata.permissions().mode();
        if source == Source::Directory && mode & 0o077 != 0 {
            return Err(UnusableKey::Mode(mode & 0o7777, path.to_owned()));
        }
        match key.algorithm() {
            Algorithm::Ed25519 | Algorithm::Ecdsa { .. } | Algorithm::Rsa { .. } => Ok(key),
            other => Err(UnusableKey::Kind(other)),
        }
    }
}

/// Where the files come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The administrator's directory, where every file counts.
    Directory,
    /// A credentials directory, where other things may be beside those of our prefix.
    Credentials,
}

/// Loads the host keys of the administrator's directory.
///
/// # Errors
/// When the directory cannot be read, or has no usable key.
pub fn load(directory: &Path) -> Result<HostKeys, HostKeyError> {
    load_from(directory, Source::Directory)
}

/// Loads the host keys that systemd or `consoleserver` has put into the credentials directory; `None` if there are none
/// among the credentials.
///
/// # Errors
/// As [`load`].
pub fn load_credentials(directory: &Path) -> Result<Option<HostKeys>, HostKeyError> {
    if entries(directory, Source::Credentials)?.is_empty() {
        return Ok(None);
    }
    load_from(directory, Source::Credentials).map(Some)
}

fn load_from(directory: &Path, source: Source) -> Result<HostKeys, HostKeyError> {
    let mut found = HostKeys::default();
    for path in entries(directory, source)? {
        found.add(&path, source);
    }
    if found.keys.is_empty() {
        return Err(HostKeyError::None(directory.to_owned(), found.passed_over));
    }
    found.keys.sort_by_key(|key| key.algorithm() != Algorithm::Ed25519);
    Ok(found)
}

/// The names in a directory that may be keys, sorted.
fn entries(directory: &Path, source: Source) -> Result<Vec<PathBuf>, HostKeyError> {
    let at = |error| HostKeyError::File(directory.to_owned(), error);
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(at)?.take(ENTRY_LIMIT) {
        let entry = entry.map_err(at)?;
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        // What begins with a dot is a draft of ours, or an editor's.
        if !name.starts_with(b".") && (source == Source::Directory || name.starts_with(PREFIX.as_bytes())) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use tempfile::TempDir;

    use super::*;

    fn private(path: &Path, contents: impl AsRef<[u8]>) {
        fs::write(path, contents).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn ssh_keygen(arguments: &[&str], path: &Path) {
        let output =
            Command::new("ssh-keygen").arg("-q").args(arguments).arg("-f").arg(path).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    fn kinds(found: &HostKeys) -> Vec<String> {
        found.keys.iter().map(|key| key.algorithm().as_str().to_owned()).collect()
    }

    /// A directory with the key that is made, and what else is put there.
    fn with(add: impl FnOnce(&Path)) -> (TempDir, HostKeys) {
        let room = tempfile::tempdir().unwrap();
        ensure(room.path()).unwrap();
        add(room.path());
        let found = load(room.path()).unwrap();
        (room, found)
    }

    #[test]
    fn a_key_is_made_once_kept_private_and_loads_before_others_that_were_added() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join(GENERATED_KEY_FILE);
        assert_eq!(ensure(room.path()).unwrap(), Some(path.clone()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let before = fs::read(&path).unwrap();
        assert_eq!(ensure(room.path()).unwrap(), None);
        assert_eq!(fs::read(path).unwrap(), before);

        let kind = Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 };
        let other = PrivateKey::random(&mut russh::keys::key::safe_rng(), kind).unwrap();
        private(&room.path().join("hostkey_ecdsa"), other.to_openssh(LineEnding::LF).unwrap());
        assert_eq!(kinds(&load(room.path()).unwrap()), ["ssh-ed25519", "ecdsa-sha2-nistp256"]);
    }

    #[test]
    fn what_the_manual_says_to_type_adds_a_key_and_its_public_half_is_no_fault() {
        let (_room, found) = with(|room| {
            ssh_keygen(&["-t", "ecdsa", "-N", ""], &room.join("hostkey_ecdsa"));
            assert!(room.join("hostkey_ecdsa.pub").exists());
        });
        assert_eq!(kinds(&found), ["ssh-ed25519", "ecdsa-sha2-nistp256"]);
        assert_eq!(found.passed_over, [""; 0]);
    }

    #[test]
    fn old_formats_of_openssh_and_links_to_the_keys_of_sshd_are_read() {
        let (_room, found) = with(|room| {
            ssh_keygen(&["-t", "rsa", "-b", "2048", "-N", "", "-m", "PEM"], &room.join("hostkey_rsa"));
            let elsewhere = room.join(".ssh_host_ecdsa_key");
            ssh_keygen(&["-t", "ecdsa", "-b", "384", "-N", ""], &elsewhere);
            symlink(elsewhere, room.join("hostkey_sshd")).unwrap();
        });
        assert_eq!(kinds(&found), ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp384"]);
        assert_eq!(found.passed_over, [""; 0]);
    }

    /// (What `ssh-keygen -t dsa` of OpenSSH 9 writes; OpenSSH 10 has it no more.)
    const DSA: &str = include_str!("../tests/support/dsa_key");

    #[test]
    fn whatever_else_lies_beside_a_good_key_is_passed_over_with_the_reason() {
        type Spoil = fn(&Path);
        let cases: [(&str, Spoil, &str); 12] = [
            ("is empty", |path| private(path, ""), "it is empty"),
            (
                "half a key",
                |path| private(path, "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n"),
                "not a private key",
            ),
            ("random bytes", |path| private(path, [0xfe; 300]), "not a private key"),
            ("encrypted", |path| ssh_keygen(&["-t", "ecdsa", "-N", "secret"], path), "ssh-keygen -p"),
            (
                "encrypted, old format",
                |path| ssh_keygen(&["-t", "rsa", "-N", "secret", "-m", "PEM"], path),
                "ssh-keygen -p",
            ),
            ("a directory", |path| fs::create_dir(path).unwrap(), "it is a directory"),
            ("a dangling link", |path| symlink("/nonexistent", path).unwrap(), "link to nothing"),
            ("a circle of links", |path| symlink(path, path).unwrap(), "Too many levels of symbolic links"),
            (
                "a FIFO",
                |path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRUSR).unwrap(),
                "not a regular file",
            ),
            (
                "world readable",
                |path| {
                    ssh_keygen(&["-t", "ecdsa", "-N", ""], path);
                    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
                },
                "mode is 0644, which others may read: chmod 600 ",
            ),
            ("large", |path| private(path, vec![b'x'; 2 << 20]), "2097152 bytes"),
            (
                "a public key by another name",
                |path| {
                    private(
                        path,
                        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ x\n",
                    )
                },
                "public half",
            ),
        ];
        for (what, spoil, reason) in cases {
            let (room, found) = with(|room| spoil(&room.join("hostkey_ecdsa")));
            assert_eq!(kinds(&found), ["ssh-ed25519"], "{what}");
            let [said] = found.passed_over.as_slice() else { panic!("{what}: {:?}", found.passed_over) };
            let path = room.path().join("hostkey_ecdsa");
            assert!(said.starts_with(path.to_str().unwrap()) && said.contains(reason), "{what}: {said}");
        }
        let (_room, found) = with(|room| private(&room.join("ssh_host_dsa_key"), DSA));
        assert_eq!((kinds(&found).len(), found.passed_over.len()), (1, 1), "{found:?}");
        let (_room, found) = with(|room| {
            fs::copy(room.join(GENERATED_KEY_FILE), room.join("hostkey_ed25519.bak")).unwrap();
            private(&room.join("notes"), "to do: keys");
        });
        assert_eq!((kinds(&found).len(), found.passed_over.len()), (1, 2), "{found:?}");
    }

    #[test]
    fn a_crowd_of_files_is_bounded() {
        let (_room, found) = with(|room| {
            for number in 0..200 {
                private(&room.join(format!("hostkey_x{number}")), "");
            }
        });
        assert_eq!((found.keys.len(), found.passed_over.len()), (1, REASON_LIMIT));
    }

    #[test]
    fn of_credentials_only_those_of_the_name_are_meant_and_their_mode_is_of_systemd() {
        let room = tempfile::tempdir().unwrap();
        private(&room.path().join("something"), "else");
        assert!(load_credentials(room.path()).unwrap().is_none());
        ensure(room.path()).unwrap();
        fs::set_permissions(room.path().join(GENERATED_KEY_FILE), fs::Permissions::from_mode(0o440)).unwrap();
        let found = load_credentials(room.path()).unwrap().unwrap();
        assert_eq!((found.keys.len(), found.passed_over.len()), (1, 0), "{found:?}");
    }

    #[test]
    fn a_broken_key_is_named_and_never_replaced() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("hostkey_ed25519");
        private(&path, "half a ke");
        ensure(room.path()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"half a ke");
        let refusal = load(room.path()).unwrap_err().to_string();
        assert!(refusal.contains(path.to_str().unwrap()), "{refusal}");
        // Nor is a link whose end is to come, as sshd's keys do at a first boot.
        fs::remove_file(&path).unwrap();
        symlink("/nonexistent", &path).unwrap();
        assert_eq!(ensure(room.path()).unwrap(), None);
    }

    #[test]
    fn a_directory_without_keys_is_an_error() {
        let room = tempfile::tempdir().unwrap();
        assert!(matches!(load(room.path()), Err(HostKeyError::None(..))));
    }
}
