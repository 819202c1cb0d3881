//! The files of `[access]` about certificates: the authorities that sign them (`user_ca`) and what is revoked (`revoked`). They are read for
//! each key that a client offers, so that a change needs no reload. A file that cannot be read or parsed grants nothing: an unreadable
//! `user_ca` accepts no certificate, and an unreadable `revoked` no key at all, as in sshd.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use russh::keys::ssh_key::public::KeyData;
use thiserror::Error;

use super::certificate::{self, Offered};
use super::keyfile::{self, FILE_LIMIT, KeyFileError};
use super::krl::{self, KRL_LIMIT, KrlError};

/// Why a file cannot be used.
#[derive(Debug, Error)]
pub enum TrustError {
    #[error(transparent)]
    Unsafe(#[from] KeyFileError),
    /// A line of a list of keys is not a key.
    #[error("{}, line {line}: not a public key, as ssh-keygen writes them to .pub files", path.display())]
    Line {
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    #[error("{} is not a list of public keys", .0.display())]
    NotText(PathBuf),
    #[error("{}: {source}", path.display())]
    Krl { path: PathBuf, source: KrlError },
}

/// The keys of the trusted authorities in a file that only root, or the user of this process, could have written.
///
/// # Errors
/// If the file cannot be read, or another user can write it or a directory above it, or a line is invalid.
pub fn authorities(path: &Path) -> Result<Vec<KeyData>, TrustError> {
    let real = keyfile::only_this_user_writes(path)?;
    let text = read(&real, FILE_LIMIT)?;
    keys(&text, path, |key| !matches!(key, KeyData::Certificate(_)))
}

/// Whether a file revokes the key, the certificate or the key of its authority: a key revocation list, or public keys, one a line.
///
/// # Errors
/// If the file cannot be read, or any of it is invalid.
pub fn is_revoked(path: &Path, offered: &Offered) -> Result<bool, TrustError> {
    match revocations(path)? {
        Revocations::Krl(list) => krl::is_revoked(&list, offered)
            .map_err(|source| TrustError::Krl { path: path.to_owned(), source }),
        Revocations::Keys(keys) => {
            let mut concerned = vec![offered.key().key_data()];
            if let Offered::Certificate(certificate) = offered {
                concerned.push(certificate.authority().key_data());
            }
            Ok(keys.iter().any(|revoked| {
                // The key of a listed certificate, regardless of its other fields (sshkey_equal_public).
                let revoked = revoked.certificate().map_or(revoked, |certificate| certificate.public_key());
                concerned.contains(&revoked)
            }))
        }
    }
}

/// Whether a file of revoked keys can be used.
///
/// # Errors
/// As [`is_revoked`].
pub fn check_revoked(path: &Path) -> Result<(), TrustError> {
    match revocations(path)? {
        Revocations::Krl(list) => {
            krl::check(&list).map_err(|source| TrustError::Krl { path: path.to_owned(), source })
        }
        Revocations::Keys(_) => Ok(()),
    }
}

enum Revocations {
    Krl(Vec<u8>),
    Keys(Vec<KeyData>),
}

fn revocations(path: &Path) -> Result<Revocations, TrustError> {
    let bytes = read(path, KRL_LIMIT as u64)?;
    if bytes.starts_with(krl::MAGIC) {
        return Ok(Revocations::Krl(bytes));
    }
    keys(&bytes, path, |_| true).map(Revocations::Keys)
}

/// Keys, one a line, with empty lines and comments. An invalid line makes all of it invalid, as in sshd: it may be the one that matters.
fn keys(text: &[u8], path: &Path, accepts: impl Fn(&KeyData) -> bool) -> Result<Vec<KeyData>, TrustError> {
    let text = std::str::from_utf8(text).map_err(|_| TrustError::NotText(path.to_owned()))?;
    // Not `str::lines`: to sshd a line with nothing but a carriage return is not empty.
    let lines = (1..).zip(text.split('\n').map(|line| line.trim_matches(certificate::BLANKS)));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let key = |(number, line): (usize, &str)| match certificate::parse(line) {
        Ok(key) if accepts(&key) => Ok(key),
        _ => Err(TrustError::Line { path: path.to_owned(), line: number }),
    };
    lines.map(key).collect()
}

/// Reads a regular file of limited length. A link is followed: `user_ca` has been checked, and `revoked` only takes rights away.
fn read(path: &Path, limit: u64) -> Result<Vec<u8>, KeyFileError> {
    let failed = |source: io::Error| KeyFileError::Read { path: path.to_owned(), source };
    // O_NONBLOCK: opening a FIFO must not wait for a writer. O_NOCTTY: a terminal must not become the controlling one.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(KeyFileError::NotAFile(path.to_owned()));
    }
    let contents = keyfile::bounded(file, limit + 1).map_err(failed)?;
    // The file may have grown since its length was known.
    let length = metadata.len().max(contents.len() as u64);
    if length > limit { Err(KeyFileError::TooLong(path.to_owned(), length, limit)) } else { Ok(contents) }
}
