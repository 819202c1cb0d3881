//! The host keys by which an SSH client knows us again: made once, kept in a directory that only their owner
//! reads, and handed to the ports as credentials. sshd's own keys are not touched.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey};
use thiserror::Error;

use crate::persist;

/// Every file of this prefix in a credentials directory is a host key.
pub const PREFIX: &str = "hostkey";

/// What is made: the key that everybody prefers. Who has clients that know no Ed25519 (FIPS, PuTTY before 0.68) adds another,
/// which is served too.
const MADE: &str = "hostkey_ed25519";

/// Why there is no host key.
#[derive(Debug, Error)]
pub enum HostKeyError {
    /// The directory or a file of it.
    #[error("host keys: {0}: {1}")]
    File(PathBuf, #[source] io::Error),
    /// There, but not a key.
    #[error(
        "host key {0} is not an OpenSSH private key without a passphrase ({1}): remove it to have a new one made"
    )]
    Key(PathBuf, #[source] russh::keys::ssh_key::Error),
    /// Nothing to load.
    #[error("no host key in {0}: a file named {PREFIX}* is wanted there")]
    None(PathBuf),
}

/// Makes the key if `directory` does not have it yet (the file 0600), and says which.
pub fn ensure(directory: &Path) -> Result<Option<PathBuf>, HostKeyError> {
    let path = directory.join(MADE);
    if path.try_exists().map_err(|error| HostKeyError::File(path.clone(), error))? {
        return Ok(None);
    }
    let key_error = |error| HostKeyError::Key(path.clone(), error);
    let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).map_err(key_error)?;
    let text = key.to_openssh(LineEnding::LF).map_err(key_error)?;
    persist::write(&path, text.as_bytes(), 0o600, None)
        .map_err(|error| HostKeyError::File(path.clone(), error))?;
    Ok(Some(path))
}

/// Loads every key in `directory`, Ed25519 first: clients take the first that they know.
pub fn load(directory: &Path) -> Result<Vec<PrivateKey>, HostKeyError> {
    let mut keys = Vec::new();
    for path in files(directory)? {
        let text = persist::read(&path).map_err(|error| HostKeyError::File(path.clone(), error))?;
        let key = PrivateKey::from_openssh(&text).map_err(|error| HostKeyError::Key(path.clone(), error))?;
        if key.is_encrypted() {
            return Err(HostKeyError::Key(path, russh::keys::ssh_key::Error::Encrypted));
        }
        keys.push(key);
    }
    if keys.is_empty() {
        return Err(HostKeyError::None(directory.to_owned()));
    }
    keys.sort_by_key(|key| key.algorithm() != Algorithm::Ed25519);
    Ok(keys)
}

/// The key files of a directory, by name; public halves (`.pub`) are not keys to serve.
pub fn files(directory: &Path) -> Result<Vec<PathBuf>, HostKeyError> {
    let at = |error| HostKeyError::File(directory.to_owned(), error);
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(at)? {
        let path = entry.map_err(at)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with(PREFIX) && !name.ends_with(".pub") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use russh::keys::EcdsaCurve;

    use super::*;

    #[test]
    fn a_key_is_made_once_kept_private_and_loads_before_others_that_were_added() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join(MADE);
        assert_eq!(ensure(room.path()).unwrap(), Some(path.clone()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let before = fs::read(&path).unwrap();
        assert_eq!(ensure(room.path()).unwrap(), None);
        assert_eq!(fs::read(path).unwrap(), before);

        let kind = Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 };
        let other = PrivateKey::random(&mut russh::keys::key::safe_rng(), kind).unwrap();
        fs::write(room.path().join("hostkey_ecdsa"), other.to_openssh(LineEnding::LF).unwrap()).unwrap();
        let keys = load(room.path()).unwrap();
        let kinds: Vec<_> = keys.iter().map(|key| key.algorithm().as_str().to_owned()).collect();
        assert_eq!(kinds, ["ssh-ed25519", "ecdsa-sha2-nistp256"]);
    }

    #[test]
    fn a_broken_key_is_named_and_never_replaced() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("hostkey_ed25519");
        fs::write(&path, "half a ke").unwrap();
        ensure(room.path()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"half a ke");
        let refusal = load(room.path()).unwrap_err().to_string();
        assert!(refusal.contains(path.to_str().unwrap()), "{refusal}");
    }

    #[test]
    fn a_directory_without_keys_is_an_error() {
        let room = tempfile::tempdir().unwrap();
        assert!(matches!(load(room.path()), Err(HostKeyError::None(_))));
    }
}
