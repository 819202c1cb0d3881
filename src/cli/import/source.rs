//! Reads files and decodes them.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{ImportError, SourceLine};

/// Bytes of a file and all that it includes, as for our own configuration: ten times the largest known file.
const MAX_BYTES: usize = 1024 * 1024;

/// A text and where it is from.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its name in messages.
    pub name: Arc<str>,
    /// The content.
    pub text: String,
}

/// Reads files, up to [`MAX_BYTES`] in total.
pub struct Reader {
    left: usize,
    /// The directory of the first file.
    directory: PathBuf,
}

impl Reader {
    pub fn of(first: &Path) -> Self {
        let directory = first.parent().unwrap_or(Path::new("")).to_owned();
        Self { left: MAX_BYTES, directory }
    }

    /// Reads a file. A relative path is resolved from the working directory, as in the original programs, or else from the directory of the
    /// first file.
    pub fn read(&mut self, path: &Path) -> Result<Source, ImportError> {
        let beside = self.directory.join(path);
        let path = if !path.exists() && beside.exists() { beside.as_path() } else { path };
        let standard_input = path == Path::new("-");
        let name = if standard_input { "standard input".to_owned() } else { path.display().to_string() };
        let mut bytes = Vec::new();
        let limit = u64::try_from(self.left).unwrap_or(u64::MAX) + 1;
        let read = match standard_input {
            true => io::stdin().lock().take(limit).read_to_end(&mut bytes),
            false => File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)),
        };
        read.map_err(|error| ImportError::Unreadable(name.clone(), error))?;
        self.left = self
            .left
            .checked_sub(bytes.len())
            .ok_or_else(|| ImportError::TooLong(name.clone(), MAX_BYTES))?;
        text(name, bytes)
    }
}

/// Decodes a file, and removes a byte order mark.
fn text(name: String, bytes: Vec<u8>) -> Result<Source, ImportError> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(ImportError::Utf16(name));
    }
    let name: Arc<str> = name.into();
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source { name, text: text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned() }),
        Err(error) => {
            let right = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = right.iter().filter(|byte| **byte == b'\n').count() + 1;
            Err(ImportError::Encoding(SourceLine { file: name, line }))
        }
    }
}
