//! The text before the login (`banner`, as `Banner` of sshd_config(5)): a file, sent as `SSH_MSG_USERAUTH_BANNER`
//! (RFC 4252, section 5.4).
//!
//! sshd sends the file's bytes, and OpenSSH's client prints control characters as `\033` (strnvis(3), VIS_OCTAL). Other clients interpret
//! them, so they are replaced that way here, and OpenSSH's output is the same.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use thiserror::Error;

use crate::system::lock::Lock;

/// The banner must fit into a packet that every client accepts, of 32768 bytes (RFC 4253, section 6.1).
const MAX_BANNER_BYTES: u64 = 32_000;
/// Timeout of reading the file. The login does not wait longer for a disk that hangs.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Error)]
enum BannerError {
    #[error("{0}")]
    File(#[from] io::Error),
    #[error("it is not a regular file")]
    NotAFile,
    #[error("it is larger than {MAX_BANNER_BYTES} bytes")]
    TooLarge,
    #[error("it could not be read within {} s", READ_TIMEOUT.as_secs())]
    TimedOut,
}

/// The banner of a listener, and the last error about it.
#[derive(Debug, Default)]
pub(super) struct Banner {
    reported: Mutex<Option<String>>,
}

impl Banner {
    /// The text in `path`, read again for each connection, as sshd does; `None` if it is empty or cannot be read. Why not, the
    /// journal reports once.
    pub(super) async fn text(&self, path: PathBuf) -> Option<String> {
        let file = path.clone();
        let reading = tokio::task::spawn_blocking(move || read(&file));
        let text = match tokio::time::timeout(READ_TIMEOUT, reading).await {
            Ok(Ok(text)) => text,
            Ok(Err(panicked)) => Err(io::Error::other(panicked).into()),
            Err(_) => Err(BannerError::TimedOut),
        };
        let trouble = text.as_ref().err().map(|error| format!("banner {} not sent: {error}", path.display()));
        let mut reported = self.reported.locked();
        if let Some(trouble) = trouble.as_ref().filter(|trouble| reported.as_ref() != Some(trouble)) {
            tracing::warn!("{trouble}");
        }
        *reported = trouble;
        text.ok().filter(|text| !text.is_empty())
    }
}

fn read(path: &Path) -> Result<String, BannerError> {
    // O_NONBLOCK: the file may be a FIFO.
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(BannerError::NotAFile);
    }
    let mut bytes = Vec::new();
    file.take(MAX_BANNER_BYTES + 1).read_to_end(&mut bytes)?;
    let text = shown(&bytes);
    if bytes.len() as u64 > MAX_BANNER_BYTES || text.len() as u64 > MAX_BANNER_BYTES {
        return Err(BannerError::TooLarge);
    }
    Ok(text)
}

/// Lines end in CR LF (RFC 4252, section 5.4); control characters are octal, and what is not UTF-8 is replaced.
fn shown(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in String::from_utf8_lossy(bytes).split_inclusive('\n') {
        let (line, end) = match line.strip_suffix('\n') {
            Some(line) => (line.strip_suffix('\r').unwrap_or(line), "\r\n"),
            None => (line, ""),
        };
        for character in line.chars() {
            match character {
                '\t' => text.push(character),
                hidden if hidden.is_control() => {
                    let mut utf8 = [0; 4];
                    for byte in hidden.encode_utf8(&mut utf8).bytes() {
                        text.push_str(&format!("\\{byte:03o}"));
                    }
                }
                character => text.push(character),
            }
        }
        text.push_str(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_octal_and_lines_end_in_cr_lf() {
        assert_eq!(shown(b"a\nb\r\n\tc\x1b[2J\x07\x7f\r."), "a\r\nb\r\n\tc\\033[2J\\007\\177\\015.");
        assert_eq!(
            shown("Zugang nur f\u{fc}r Befugte\u{9b}2J\n".as_bytes()),
            "Zugang nur f\u{fc}r Befugte\\302\\2332J\r\n"
        );
        assert_eq!(shown(b"\xff"), "\u{fffd}");
    }

    #[test]
    fn an_unusable_banner_is_rejected() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("banner");
        let denied = |path: &Path| read(path).unwrap_err().to_string();
        assert!(denied(&path).starts_with("No such file or directory"));
        assert_eq!(denied(room.path()), "it is not a regular file");
        assert_eq!(denied(Path::new("/dev/zero")), "it is not a regular file");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(denied(&path), "it is not a regular file");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, vec![b'x'; 32_001]).unwrap();
        assert_eq!(denied(&path), "it is larger than 32000 bytes");
        std::fs::write(&path, vec![b'x'; 32_000]).unwrap();
        assert_eq!(read(&path).unwrap().len(), 32_000);
    }
}
