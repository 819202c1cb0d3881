//! The grammar of conserver.cf(5): named blocks of keywords and values, quotes, comments, `#include` lines.

use std::path::Path;
use std::sync::Arc;

use super::{ImportError, Place, Source};

/// As conserver's own.
const MAX_DEPTH: usize = 10;
/// Words of one name or value that are kept; conserver's longest are lists of users.
const MAX_WORD: usize = 16 * 1024;

/// `KIND NAME { … }`
pub struct Block {
    /// `console`
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Where it begins.
    pub place: Place,
    /// In the order of the file.
    pub statements: Vec<Statement>,
}

/// `KEYWORD VALUE;`
#[derive(Clone)]
pub struct Statement {
    /// `baud`
    pub keyword: String,
    /// `9600`
    pub value: String,
    /// Where it begins.
    pub place: Place,
}

impl Statement {
    /// As it would be written.
    pub fn said(&self) -> String {
        format!("{} {}", self.keyword, self.value)
    }
}

/// Where another file is from.
pub type Include<'a> = dyn FnMut(&Path) -> Result<Source, ImportError> + 'a;

/// The lines of a file with those that it includes in their places.
fn lines(
    source: Source,
    include: &mut Include<'_>,
    depth: usize,
    to: &mut Vec<(Arc<str>, usize, String)>,
) -> Result<(), ImportError> {
    for (index, line) in source.text.lines().enumerate() {
        let line_number = index + 1;
        let included = line.strip_prefix("#include").filter(|rest| rest.starts_with([' ', '\t']));
        let Some(name) = included.map(str::trim).filter(|name| !name.is_empty()) else {
            to.push((source.name.clone(), line_number, line.to_owned()));
            continue;
        };
        if depth == MAX_DEPTH {
            let place = Place { file: source.name, line: line_number };
            return Err(ImportError::Syntax(place, format!("#include: files in {MAX_DEPTH} files")));
        }
        lines(include(Path::new(name))?, include, depth + 1, to)?;
    }
    Ok(())
}

/// Characters with their places, quotes taken away.
struct Text {
    lines: Vec<(Arc<str>, usize, String)>,
    /// In which line.
    line: usize,
    /// The bytes of it that are read.
    at: usize,
}

/// What a word ends with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Space,
    Open,
    Close,
    Semicolon,
    File,
}

impl Text {
    fn place(&self) -> Place {
        let (file, line) = match self.lines.get(self.line).or(self.lines.last()) {
            Some((file, line, _)) => (file.clone(), *line),
            None => (Arc::from("the file"), 1),
        };
        Place { file, line }
    }

    /// The next character; the end of a line is one too.
    fn next(&mut self) -> Option<char> {
        let (_, _, line) = self.lines.get(self.line)?;
        match line[self.at..].chars().next() {
            Some(c) => {
                self.at += c.len_utf8();
                Some(c)
            }
            None => {
                self.line += 1;
                self.at = 0;
                Some('\n')
            }
        }
    }

    /// Up to the end of the line, which is not read.
    fn skip_comment(&mut self) {
        self.at = self.lines.get(self.line).map_or(0, |(_, _, line)| line.len());
    }

    /// A word, what it ends with, and where it begins. One in which space may be goes on up to a `{`, `}` or `;`.
    fn word(&mut self, spaces: bool) -> Result<(String, End, Place), ImportError> {
        let mut word = String::new();
        let mut begins = None;
        // Length up to which nothing is trimmed, because it was quoted.
        let mut quoted = 0;
        let end = loop {
            let place = self.place();
            let Some(c) = self.next() else { break End::File };
            if c.is_whitespace() {
                match (begins.is_some(), spaces) {
                    (true, false) => break End::Space,
                    (true, true) => word.push(' '),
                    (false, _) => {}
                }
                continue;
            }
            match c {
                '#' => {
                    self.skip_comment();
                    continue;
                }
                '{' => break End::Open,
                '}' => break End::Close,
                ';' => break End::Semicolon,
                '\\' => {
                    word.extend(self.next());
                    quoted = word.len();
                }
                '"' => {
                    self.quoted(&mut word, &place)?;
                    quoted = word.len();
                }
                c => word.push(c),
            }
            begins.get_or_insert(place);
            if word.len() > MAX_WORD {
                let why = format!("more than {MAX_WORD} bytes without an end");
                return Err(ImportError::Syntax(self.place(), why));
            }
        };
        word.truncate(quoted.max(word.trim_end().len()));
        let place = begins.unwrap_or_else(|| self.place());
        Ok((word, end, place))
    }

    fn quoted(&mut self, word: &mut String, begun: &Place) -> Result<(), ImportError> {
        loop {
            match self.next() {
                Some('"') => return Ok(()),
                Some('\\') => match self.next() {
                    Some('"') => word.push('"'),
                    other => {
                        word.push('\\');
                        word.extend(other);
                    }
                },
                Some(c) if word.len() <= MAX_WORD => word.push(c),
                _ => return Err(ImportError::Syntax(begun.clone(), "a quote that is not closed".to_owned())),
            }
        }
    }
}

/// The blocks of a file.
pub fn read(source: Source, include: &mut Include<'_>) -> Result<Vec<Block>, ImportError> {
    let mut all = Vec::new();
    lines(source, include, 0, &mut all)?;
    let mut text = Text { lines: all, line: 0, at: 0 };
    let mut blocks = Vec::new();
    loop {
        let (kind, end, place) = text.word(false)?;
        match (kind.is_empty(), end) {
            (true, End::File) => return Ok(blocks),
            (true, End::Semicolon) => continue,
            (false, End::Space) => blocks.push(block(&mut text, kind, place)?),
            (false, End::File)
            | (false, End::Semicolon)
            | (_, End::Open | End::Close)
            | (true, End::Space) => {
                return Err(ImportError::Syntax(place, "expected BLOCK NAME { KEYWORD VALUE; }".to_owned()));
            }
        }
    }
}

fn block(text: &mut Text, kind: String, place: Place) -> Result<Block, ImportError> {
    let (name, end, _) = text.word(true)?;
    if end != End::Open || name.is_empty() {
        return Err(ImportError::Syntax(place, format!("expected {} NAME {{", super::plan::shown(&kind))));
    }
    let mut statements = Vec::new();
    loop {
        let (keyword, end, begins) = text.word(false)?;
        let value = match (keyword.is_empty(), end) {
            (true, End::Close) => return Ok(Block { kind, name, place, statements }),
            (true, End::Semicolon) => continue,
            (false, End::Semicolon) => String::new(),
            (false, End::Space) => match text.word(true)? {
                (value, End::Semicolon, _) => value,
                (_, end, _) => return Err(unended(end, begins, &place)),
            },
            (_, end) => return Err(unended(end, begins, &place)),
        };
        statements.push(Statement { keyword, value, place: begins });
    }
}

fn unended(end: End, place: Place, block: &Place) -> ImportError {
    match end {
        End::File => ImportError::Syntax(block.clone(), "a block that is not closed by }".to_owned()),
        _ => ImportError::Syntax(place, "expected KEYWORD VALUE;".to_owned()),
    }
}
