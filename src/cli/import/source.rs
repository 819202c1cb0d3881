//! Reads files, and makes text of their bytes.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{ImportError, SourceLine};

/// Of a file and all that it includes together: as much as is read of our own. The largest known of its kind
/// is a tenth of that.
const MAX_BYTES: usize = 1024 * 1024;

/// A text and where it is from.
#[derive(Debug, Clone)]
pub struct Source {
    /// What its places are called by.
    pub name: Arc<str>,
    /// All of it.
    pub text: String,
}

/// Reads files, no more than [`MAX_BYTES`] of all together.
pub struct Reader {
    left: usize,
    /// Where the first file lies.
    directory: PathBuf,
}

impl Reader {
    /// For a file and those that it includes.
    pub fn of(first: &Path) -> Self {
        let directory = first.parent().unwrap_or(Path::new("")).to_owned();
        Self { left: MAX_BYTES, directory }
    }

    /// Reads one. A path that is not absolute is meant from where one is, as the programs take it, or else
    /// from the directory of the first file.
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

/// The text of a file's bytes, without a byte order mark.
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
