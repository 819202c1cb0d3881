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
    pub name: Arc<str>,
    pub text: String,
}

/// Reads files, up to [`MAX_BYTES`] in total.
pub struct Reader {
    left: usize,
    /// The directory of the first file.
    directory: PathBuf,
    /// Where files have a byte that is not UTF-8.
    pub latin1: Vec<SourceLine>,
}

impl Reader {
    pub fn of(first: &Path) -> Self {
        let directory = first.parent().unwrap_or(Path::new("")).to_owned();
        Self { left: MAX_BYTES, directory, latin1: Vec::new() }
    }

    /// Reads an included file, or the files that match, in the order of their names, as glob(7) has them.
    pub fn read_all(&mut self, path: &Path) -> Result<Vec<Source>, ImportError> {
        let wildcards = |path: &Path| path.to_string_lossy().contains(['*', '?', '[']);
        let parent = path.parent().unwrap_or(Path::new(""));
        if !wildcards(path) || wildcards(parent) || path.exists() {
            return Ok(vec![self.read(path)?]);
        }
        let beside = self.directory.join(parent);
        let directory = if parent.is_dir() { parent } else { beside.as_path() };
        let pattern = path.file_name().unwrap_or_default().to_string_lossy();
        let unreadable = |error| ImportError::Unreadable(path.display().to_string(), error);
        let mut found = Vec::new();
        let here = if directory == Path::new("") { Path::new(".") } else { directory };
        for entry in here.read_dir().map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            if let Some(name) = name.to_str().filter(|name| matches(&pattern, name)) {
                found.push(directory.join(name));
            }
        }
        found.sort();
        if found.is_empty() {
            return Err(unreadable(io::Error::new(io::ErrorKind::NotFound, "no file matches")));
        }
        found.iter().map(|path| self.read(path)).collect()
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
        let (source, latin1) = text(name, bytes)?;
        self.latin1.extend(latin1);
        Ok(source)
    }
}

/// Whether a file name matches a pattern of glob(7): `*`, `?` and `[a-z]`. A leading dot is matched by a dot only.
fn matches(pattern: &str, name: &str) -> bool {
    fn of(pattern: &[char], name: &[char]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            (['*', rest @ ..], _) => of(rest, name) || !name.is_empty() && of(pattern, &name[1..]),
            (['?', rest @ ..], [_, behind @ ..]) => of(rest, behind),
            (['[', rest @ ..], [c, behind @ ..]) if rest.iter().skip(1).any(|c| *c == ']') => {
                let end = 1 + rest.iter().skip(1).position(|c| *c == ']').unwrap_or_default();
                let (set, rest) = (&rest[..end], &rest[end + 1..]);
                let (set, out) = match set {
                    ['!' | '^', set @ ..] => (set, true),
                    set => (set, false),
                };
                let range = set.windows(3).any(|three| three[1] == '-' && (three[0]..=three[2]).contains(c));
                (set.contains(c) || range) != out && of(rest, behind)
            }
            ([wanted, rest @ ..], [c, behind @ ..]) => wanted == c && of(rest, behind),
            _ => false,
        }
    }
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // Each `*` may be tried at each place.
    const MAX_STARS: usize = 4;
    let stars = pattern.iter().filter(|c| **c == '*').count();
    stars <= MAX_STARS && (name.first() != Some(&'.') || pattern.first() == Some(&'.')) && of(&pattern, &name)
}

/// Decodes a file, and removes a byte order mark. What is not UTF-8 is read as Latin-1, with the first line of it: the original programs
/// read bytes, which are usually in comments.
fn text(name: String, bytes: Vec<u8>) -> Result<(Source, Option<SourceLine>), ImportError> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(ImportError::Utf16(name));
    }
    let name: Arc<str> = name.into();
    match String::from_utf8(bytes) {
        Ok(text) => {
            let text = text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned();
            Ok((Source { name, text }, None))
        }
        Err(error) => {
            let right = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = right.iter().filter(|byte| **byte == b'\n').count() + 1;
            let text = error.as_bytes().iter().copied().map(char::from).collect();
            Ok((Source { name: name.clone(), text }, Some(SourceLine { file: name, line })))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn wildcards_are_those_of_glob_7() {
        for (pattern, name, wanted) in [
            ("*.yaml", "a.yaml", true),
            ("*.yaml", ".a.yaml", false),
            (".*", ".a", true),
            ("*.yaml", "a.yml", false),
            ("port-?.yaml", "port-1.yaml", true),
            ("port-?.yaml", "port-10.yaml", false),
            ("[0-9]*-x", "10-x", true),
            ("[!0-9]*", "10-x", false),
            ("[]a]", "]", true),
            ("[a", "[a", true),
        ] {
            assert_eq!(matches(pattern, name), wanted, "{pattern} {name}");
        }
    }
}
