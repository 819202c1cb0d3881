//! The YAML of ser2net, parsed by a port of libyaml, which ser2net uses: a tree with source lines, in which keys may be repeated, names of
//! anchors are significant, and `*(name)` in a string is replaced by an anchor. Version 2 of the format, of ser2net 4.6, is plain YAML: it
//! has `connections` in place of `connection`, `=(name)` in place of `*(name)`, and any number of documents. The size after expansion is
//! bounded.

use std::collections::HashMap;
use std::io::{Chain, Read};
use std::panic::{self, AssertUnwindSafe};

use libyaml_safer::{Event, EventData, Parser};

use super::error::{ImportError, SourceLine};
use super::plan::quoted;
use super::source::Source;

/// Appended to the text: libyaml-safer 0.3 reads ahead without a check, and panics if a file ends in an escape; libyaml reads NULs there.
const LOOKAHEAD: [u8; 16] = [b'\n'; 16];
/// Nested levels; options of a connection are on the third one.
const MAX_DEPTH: usize = 16;
/// Bytes of one string after expansion.
const MAX_TEXT: usize = 16 * 1024;
/// Bytes of all strings after expansion.
const MAX_ALL: usize = 4 * 1024 * 1024;

#[derive(Clone)]
pub struct Node {
    pub place: SourceLine,
    pub name: Option<String>,
    pub kind: Kind,
}

#[derive(Clone)]
pub enum Kind {
    Text(String),
    List(Vec<Node>),
    /// In the order of the file, with repeated keys.
    Map(Vec<(Node, Node)>),
    /// Invalid; the reason.
    Invalid(String),
}

impl Node {
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn entries(&self) -> Option<&[(Node, Node)]> {
        match &self.kind {
            Kind::Map(entries) => Some(entries),
            _ => None,
        }
    }

    pub fn invalid(&self) -> Option<(&SourceLine, &str)> {
        match &self.kind {
            Kind::Invalid(why) => Some((&self.place, why.as_str())),
            Kind::Map(entries) => {
                entries.iter().find_map(|(key, node)| key.invalid().or_else(|| node.invalid()))
            }
            Kind::Text(_) | Kind::List(_) => None,
        }
    }
}

pub struct Document {
    pub version: Version,
    pub entries: Vec<(Node, Node)>,
    /// Syntax errors: what, and what is read in spite of it.
    pub faults: Vec<(SourceLine, String, &'static str)>,
}

/// The version of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    One,
    Two,
}

/// Top-level keys of version 1 that version 2 does not have.
const ONE: [&str; 7] = ["admin", "connection", "default", "define", "delete_default", "led", "rotator"];
/// Those of version 2.
pub const TWO: [&str; 7] =
    ["admins", "connections", "defaults", "defines", "delete_defaults", "leds", "rotators"];

impl Version {
    /// From its top-level keys, as in ser2net, which rejects a file that has those of both; version 1 then.
    fn of(text: &str) -> Self {
        let has = |keys: &[&str]| text.lines().filter_map(top_level).any(|key| is_one_of(keys, key));
        if has(&TWO) && !has(&ONE) { Self::Two } else { Self::One }
    }
}

fn is_one_of(keys: &[&str], key: &str) -> bool {
    keys.iter().any(|known| known.eq_ignore_ascii_case(key))
}

/// The key of a line in the first column, or behind the brace of a map there.
fn top_level(line: &str) -> Option<&str> {
    let line = line.strip_prefix('{').map_or(line, str::trim_start);
    let key = line.split_once(':')?.0.trim_end().trim_matches(['"', '\'']);
    Some(key).filter(|key| !key.contains(char::is_whitespace))
}

/// Handling of a file with a syntax error.
const REST_IS_READ: &str = "the rest of the file is read";

/// The strings of anchors, in a file and those that it includes.
#[derive(Default)]
pub struct Anchors {
    texts: HashMap<String, String>,
    /// Bytes of expanded strings so far.
    all: usize,
}

impl Anchors {
    /// Defines a string of version 2.
    pub fn define(&mut self, name: &str, text: &str) {
        self.texts.insert(name.to_owned(), text.to_owned());
    }

    /// Expands the strings of a node of version 2.
    pub fn expand(&mut self, node: &mut Node) -> Result<(), ImportError> {
        match &mut node.kind {
            Kind::Text(text) => node.kind = self.expanded(text, "=(", &node.place)?,
            Kind::List(nodes) => nodes.iter_mut().try_for_each(|node| self.expand(node))?,
            Kind::Map(entries) => entries.iter_mut().try_for_each(|(_, node)| self.expand(node))?,
            Kind::Invalid(_) => {}
        }
        Ok(())
    }

    /// Expands `*(name)` to the string of an anchor; `*(*` stands for `*(`. `begin` is `*(`, in version 2 `=(`.
    fn expanded(&mut self, text: &str, begin: &'static str, place: &SourceLine) -> Result<Kind, ImportError> {
        let mut whole = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(begin) {
            whole.push_str(before);
            if let Some(behind) = after.strip_prefix(&begin[..1]) {
                whole.push_str(begin);
                rest = behind;
                continue;
            }
            let Some((name, behind)) = after.split_once(')') else {
                return Ok(Kind::Invalid(format!("missing ) after {begin}")));
            };
            let Some(known) = self.texts.get(name) else {
                return Ok(Kind::Invalid(format!("{begin}{}): not defined before it", quoted(name))));
            };
            whole.push_str(known);
            rest = behind;
            if whole.len() > MAX_TEXT {
                break;
            }
        }
        whole.push_str(rest);
        if whole.len() > MAX_TEXT {
            return Ok(Kind::Invalid(format!("a string of more than {MAX_TEXT} bytes")));
        }
        self.counted(whole, place)
    }

    fn counted(&mut self, text: String, place: &SourceLine) -> Result<Kind, ImportError> {
        self.all += text.len();
        if self.all > MAX_ALL {
            return Err(ImportError::TooLong(place.file.to_string(), MAX_ALL));
        }
        Ok(Kind::Text(text))
    }
}

/// A syntax error: line and reason.
type Broken = (usize, String);

/// Reads a document. libyaml stops at an error: the top-level blocks are then read separately.
pub fn read(source: &Source, anchors: &mut Anchors) -> Result<Document, ImportError> {
    let version = Version::of(&source.text);
    let mut document = Document { version, entries: Vec::new(), faults: Vec::new() };
    let place = |line: usize| SourceLine { file: source.name.clone(), line };
    let (known, all) = (anchors.texts.clone(), anchors.all);
    let (text, second) = match version {
        Version::One => first_document(&source.text),
        Version::Two => (source.text.as_str(), None),
    };
    if let Some(line) = second {
        document.faults.push((
            place(line),
            "a second document".to_owned(),
            "left out: ser2net reads the first one only",
        ));
    }
    match Tree::of(source, text, 0, version, anchors).document() {
        Ok(entries) => {
            document.entries = entries;
            return Ok(document);
        }
        Err(Halt::Bound(error)) => return Err(error),
        Err(Halt::Broken((line, why))) => {
            (anchors.texts, anchors.all) = (known, all);
            if blocks(text).next().is_none() {
                document.faults.push((place(line), why, "nothing is read"));
            }
        }
    }
    for (first, block) in blocks(text) {
        let mut fault = |block: &str, (line, why): Broken| {
            let begin = block.lines().next().unwrap_or_default();
            let what = format!("{}: left out: {why}", quoted(begin.trim().trim_end_matches(':')));
            document.faults.push((place(line), what, REST_IS_READ));
        };
        let broken = match Tree::of(source, block, first, version, anchors).document() {
            Ok(entries) => {
                document.entries.extend(entries);
                continue;
            }
            Err(Halt::Bound(error)) => return Err(error),
            Err(Halt::Broken(broken)) => broken,
        };
        // All connections of version 2 are one block.
        let Some(key) = block.lines().next().and_then(top_level).filter(|key| is_one_of(&TWO, key)) else {
            fault(block, broken);
            continue;
        };
        let mut inside = Vec::new();
        for (line, child) in children(block) {
            match Tree::of(source, child, first + line, version, anchors).document() {
                Ok(entries) => inside.extend(entries),
                Err(Halt::Bound(error)) => return Err(error),
                Err(Halt::Broken(broken)) => fault(child, broken),
            }
        }
        let node = |kind| Node { place: place(first + 1), name: None, kind };
        document.entries.push((node(Kind::Text(key.to_owned())), node(Kind::Map(inside))));
    }
    Ok(document)
}

/// The text up to the end of its first document, and the line at which another one begins. ser2net serves the first one and logs an error.
fn first_document(text: &str) -> (&str, Option<usize>) {
    let is_marker = |line: &str, marker: &str| {
        line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
    };
    let is_content = |line: &str| !line.trim().is_empty() && !line.starts_with(['#', '%']);
    let (mut at, mut end, mut has_content) = (0, None, false);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let start = at;
        at += line.len();
        let line = line.trim_end();
        let ends = is_marker(line, "...");
        let begins = is_marker(line, "---");
        match end {
            Some(end) if is_content(line) && !ends => return (&text[..end], Some(index + 1)),
            None if has_content && ends => end = Some(start),
            None if has_content && begins => return (&text[..start], Some(index + 1)),
            _ => has_content |= is_content(line) && !ends && !(begins && line.len() == 3),
        }
    }
    (end.map_or(text, |end| &text[..end]), None)
}

/// The top-level blocks, which start in the first column, with the number of lines before each.
fn blocks(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut starts = Vec::new();
    let mut at = 0;
    for (line, content) in text.split_inclusive('\n').enumerate() {
        let is_key = content.starts_with("? ")
            || content.starts_with(|c: char| c.is_ascii_alphanumeric() || "\"'".contains(c))
                && content.contains(':');
        if is_key {
            starts.push((line, at));
        }
        at += content.len();
    }
    let ends: Vec<usize> = starts.iter().skip(1).map(|(_, at)| *at).chain([text.len()]).collect();
    starts.into_iter().zip(ends).map(move |((line, start), end)| (line, &text[start..end]))
}

/// The entries of a top-level block, which have the indentation of the first one, with the number of lines before each.
fn children(block: &str) -> impl Iterator<Item = (usize, &str)> {
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let is_content = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let first = block.lines().skip(1).find(is_content).map_or(0, indent);
    let mut starts = Vec::new();
    let mut at = 0;
    for (number, line) in block.split_inclusive('\n').enumerate() {
        if number > 0 && is_content(&line) && indent(line) == first {
            starts.push((number, at));
        }
        at += line.len();
    }
    let ends: Vec<usize> = starts.iter().skip(1).map(|(_, at)| *at).chain([block.len()]).collect();
    starts.into_iter().zip(ends).map(move |((line, start), end)| (line, &block[start..end]))
}

enum Halt {
    Broken(Broken),
    Bound(ImportError),
}

struct Tree<'s, 'a> {
    source: &'s Source,
    /// The number of lines before the text.
    before: usize,
    lines: usize,
    version: Version,
    events: Parser<Chain<&'s [u8], &'static [u8]>>,
    anchors: &'a mut Anchors,
    /// The end of the last event.
    at: u64,
}

/// libyaml-safer 0.3 panics at some invalid texts, such as `[!,`, which is treated as a syntax error: returns `None` and prints nothing.
fn without_panic<T>(parse: impl FnOnce() -> T) -> Option<T> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let parsed = panic::catch_unwind(AssertUnwindSafe(parse));
    panic::set_hook(hook);
    parsed.ok()
}

impl<'s, 'a> Tree<'s, 'a> {
    fn of(
        source: &'s Source,
        text: &'s str,
        before: usize,
        version: Version,
        anchors: &'a mut Anchors,
    ) -> Self {
        let mut events = Parser::new();
        events.set_input(text.as_bytes().chain(&LOOKAHEAD[..]));
        Self { source, before, lines: text.lines().count().max(1), version, events, anchors, at: 0 }
    }

    fn next(&mut self) -> Result<Event, Halt> {
        let Some(parsed) = without_panic(|| self.events.parse()) else {
            return Err(Halt::Broken((self.line(self.at), "invalid YAML".to_owned())));
        };
        if let Ok(event) = &parsed {
            self.at = event.end_mark.line;
        }
        parsed.map_err(|error| {
            let line = error.problem_mark().map_or(0, |mark| mark.line);
            let line = self.line(line);
            let text = self.source.text.lines().nth(line - 1).unwrap_or_default();
            if text.trim_start_matches(' ').starts_with('\t') {
                return Halt::Broken((line, "indented by a tab: YAML is indented by spaces".to_owned()));
            }
            let context = error.context().map(|context| format!("{context}: ")).unwrap_or_default();
            Halt::Broken((line, format!("{context}{}", error.problem())))
        })
    }

    /// A line of the whole file; libyaml counts from 0.
    fn line(&self, line: u64) -> usize {
        self.before + usize::try_from(line).unwrap_or(usize::MAX).saturating_add(1).clamp(1, self.lines)
    }

    fn place(&self, event: &Event) -> SourceLine {
        SourceLine { file: self.source.name.clone(), line: self.line(event.start_mark.line) }
    }

    fn document(mut self) -> Result<Vec<(Node, Node)>, Halt> {
        let mut entries = Vec::new();
        loop {
            let event = self.next()?;
            let place = self.place(&event);
            match event.data {
                EventData::StreamEnd => return Ok(entries),
                EventData::StreamStart { .. }
                | EventData::DocumentStart { .. }
                | EventData::DocumentEnd { .. } => {}
                _ => match self.node(event, 0)?.kind {
                    Kind::Map(map) => entries.extend(map),
                    // Only comments.
                    Kind::Text(text) if text.is_empty() => {}
                    _ => {
                        let why = "expected a key such as `connection` or `define`".to_owned();
                        return Err(Halt::Broken((place.line, why)));
                    }
                },
            }
        }
    }

    fn node(&mut self, event: Event, depth: usize) -> Result<Node, Halt> {
        let place = self.place(&event);
        if depth == MAX_DEPTH {
            return Err(Halt::Broken((place.line, format!("more than {MAX_DEPTH} levels"))));
        }
        let (name, kind) = match event.data {
            EventData::Scalar { anchor, value, .. } => {
                let kind = match self.version {
                    Version::One => self.anchors.expanded(&value, "*(", &place),
                    // Definitions are no anchors: the strings are expanded when they are used.
                    Version::Two => self.anchors.counted(value, &place),
                };
                (anchor, kind.map_err(Halt::Bound)?)
            }
            EventData::Alias { anchor } => match self.anchors.texts.get(&anchor).cloned() {
                Some(text) => (None, self.anchors.counted(text, &place).map_err(Halt::Bound)?),
                // Rotators refer to connections.
                None => (None, Kind::List(Vec::new())),
            },
            EventData::SequenceStart { anchor, .. } => {
                let mut nodes = Vec::new();
                loop {
                    let event = self.next()?;
                    match event.data {
                        EventData::SequenceEnd => break,
                        _ => nodes.push(self.node(event, depth + 1)?),
                    }
                }
                (anchor, Kind::List(nodes))
            }
            EventData::MappingStart { anchor, .. } => {
                let mut entries = Vec::new();
                loop {
                    let event = self.next()?;
                    if matches!(event.data, EventData::MappingEnd) {
                        break;
                    }
                    let key = self.node(event, depth + 1)?;
                    let event = self.next()?;
                    entries.push((key, self.node(event, depth + 1)?));
                }
                (anchor, Kind::Map(entries))
            }
            _ => return Err(Halt::Broken((place.line, "missing value".to_owned()))),
        };
        if let (Some(name), Kind::Text(text)) = (&name, &kind) {
            self.anchors.texts.insert(name.clone(), text.clone());
        }
        Ok(Node { place, name, kind })
    }
}
