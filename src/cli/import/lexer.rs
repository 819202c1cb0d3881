//! The lexer of conserver.cf(5), compatible with conserver's: quotes, comments, and `#include` lines, which may be indented. A file that
//! cannot be included is reported, and the rest is read.

use std::path::Path;
use std::sync::Arc;

use super::error::{ImportError, SourceLine};
use super::plan::quoted;
use super::source::Source;

/// Nested includes, as in conserver.
const MAX_DEPTH: usize = 10;
/// Files of one import: each may include several, so the depth does not bound them.
const MAX_FILES: usize = 256;
/// Bytes of one name or value; the longest are lists of users.
const MAX_WORD: usize = 16 * 1024;

/// Reads an included file, or those that a name with wildcards matches.
pub type Include<'a> = dyn FnMut(&Path) -> Result<Vec<Source>, ImportError> + 'a;

/// A part of a file that is not imported.
pub struct Fault {
    pub place: SourceLine,
    pub what: String,
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    Word(String, SourceLine),
    Open,
    Close,
    Semicolon,
    End,
}

struct Input {
    name: Arc<str>,
    text: String,
    at: usize,
    line: usize,
}

impl Input {
    fn of(source: Source) -> Self {
        Self { name: source.name, text: source.text, at: 0, line: 1 }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        self.line += usize::from(c == '\n');
        Some(c)
    }

    /// The rest of the line, and whether it ends with a newline.
    fn comment(&mut self) -> (String, bool) {
        let rest = &self.text[self.at..];
        let (line, ends) = rest.split_once('\n').map_or((rest, false), |(line, _)| (line, true));
        let line = line.to_owned();
        self.at += line.len() + usize::from(ends);
        self.line += usize::from(ends);
        (line, ends)
    }

    /// Reads to the closing quote; `false` if there is none.
    fn quoted(&mut self, word: &mut String) -> bool {
        let mut escaped = false;
        while let Some(c) = self.next() {
            match (c, escaped) {
                ('"', false) => return true,
                ('"', true) => {
                    word.push('"');
                    escaped = false;
                }
                (_, true) => {
                    word.push('\\');
                    escaped = c == '\\';
                    if !escaped {
                        word.push(c);
                    }
                }
                ('\\', false) => escaped = true,
                (_, false) => word.push(c),
            }
            if word.len() > MAX_WORD {
                return true;
            }
        }
        false
    }
}

/// The tokens of a file and the files that it includes.
pub struct Lexer<'l, 'i> {
    inputs: Vec<Input>,
    include: &'l mut Include<'i>,
    files: usize,
    /// Errors so far.
    pub faults: Vec<Fault>,
    /// The position of the last token.
    last: SourceLine,
}

impl<'l, 'i> Lexer<'l, 'i> {
    pub fn of(source: Source, include: &'l mut Include<'i>) -> Self {
        let last = SourceLine { file: source.name.clone(), line: 1 };
        Self { inputs: vec![Input::of(source)], include, files: 1, faults: Vec::new(), last }
    }

    pub fn place(&self) -> SourceLine {
        match self.inputs.last() {
            // There is no line after the last newline.
            Some(input) => {
                let line = if input.at == input.text.len() && input.text.ends_with('\n') {
                    input.line - 1
                } else {
                    input.line
                };
                SourceLine { file: input.name.clone(), line: line.max(1) }
            }
            None => self.last.clone(),
        }
    }

    pub fn fault(&mut self, place: SourceLine, what: impl Into<String>, why: impl Into<String>) {
        self.faults.push(Fault { place, what: what.into(), why: why.into() });
    }

    /// The next token. `spaces`: a name or value, which may contain spaces.
    pub fn token(&mut self, spaces: bool) -> Result<Token, ImportError> {
        loop {
            self.last = self.place();
            let Some(input) = self.inputs.last_mut() else { return Ok(Token::End) };
            let mut word = String::new();
            let mut begins = None;
            // A quoted word may be empty.
            let mut is_word = false;
            // After a comment that is a prefix of "include", conserver ignores an `#include` in the next line.
            let mut may_include = true;
            let included = loop {
                let line = input.line;
                let Some(c) = input.next() else { break None };
                if !c.is_ascii_whitespace() && c != '#' {
                    begins.get_or_insert(line);
                }
                match c {
                    '#' => {
                        let (comment, ends) = input.comment();
                        let file = comment
                            .strip_prefix("include")
                            .filter(|rest| may_include && rest.starts_with(|c: char| c.is_ascii_whitespace()))
                            .map(str::trim)
                            .filter(|name| !name.is_empty());
                        match file {
                            Some(file) => break Some((file.to_owned(), line, ends)),
                            None => may_include = !may_include || !"include".starts_with(&comment),
                        }
                    }
                    '\\' => {
                        word.extend(input.next());
                        is_word = true;
                    }
                    '"' => {
                        is_word = true;
                        if !input.quoted(&mut word) {
                            let place = SourceLine { file: input.name.clone(), line };
                            self.faults.push(Fault {
                                place,
                                what: format!("\"{}", quoted(word.trim())),
                                why: "missing closing quote".to_owned(),
                            });
                        }
                    }
                    '{' | '}' | ';' if word.is_empty() && !is_word => {
                        return Ok(match c {
                            '{' => Token::Open,
                            '}' => Token::Close,
                            _ => Token::Semicolon,
                        });
                    }
                    '{' | '}' | ';' => {
                        input.at -= 1;
                        break None;
                    }
                    c if c.is_ascii_whitespace() => {
                        may_include |= c == '\n';
                        match (word.is_empty(), spaces) {
                            (true, _) => {}
                            (false, true) => word.push(c),
                            (false, false) => break None,
                        }
                    }
                    c => word.push(c),
                }
                if word.len() > MAX_WORD {
                    let place = SourceLine { file: input.name.clone(), line: begins.unwrap_or(line) };
                    let why = format!("a name or value of more than {MAX_WORD} bytes");
                    return Err(ImportError::Syntax(place, why));
                }
            };
            if let Some((file, line, ends)) = included {
                let place = SourceLine { file: input.name.clone(), line };
                self.enter(&file, place, ends)?;
                continue;
            }
            if !word.is_empty() || is_word {
                word.truncate(word.trim_ascii_end().len());
                let line = begins.unwrap_or(input.line);
                return Ok(Token::Word(word, SourceLine { file: input.name.clone(), line }));
            }
            let read = self.inputs.pop();
            if self.inputs.is_empty() {
                // Errors at the end are reported for the first file.
                self.inputs.extend(read);
                return Ok(Token::End);
            }
        }
    }

    fn enter(&mut self, file: &str, place: SourceLine, ends: bool) -> Result<(), ImportError> {
        let what = format!("#include {}", quoted(file));
        if !ends {
            self.fault(place, what, "conserver requires a newline after it");
        } else if self.inputs.len() == MAX_DEPTH {
            self.fault(
                place,
                what,
                format!("more than {MAX_DEPTH} nested files, which is conserver's limit"),
            );
        } else if file.contains(['*', '?', '[']) {
            self.fault(place, what, "not read: conserver has no wildcards there");
        } else if self.files == MAX_FILES {
            return Err(ImportError::Syntax(place, format!("more than {MAX_FILES} files")));
        } else {
            self.files += 1;
            match (self.include)(Path::new(file)) {
                Ok(sources) => self.inputs.extend(sources.into_iter().map(Input::of)),
                Err(error @ ImportError::TooLong(..)) => return Err(error),
                Err(error) => self.fault(place, what, format!("not read: {error}")),
            }
        }
        Ok(())
    }
}
