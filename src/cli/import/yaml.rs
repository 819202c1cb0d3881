//! YAML as ser2net takes it, read by a port of libyaml, which ser2net reads it with: a tree with places, in
//! which a key may stand many times, anchors have names that count, and `*(name)` inside a text is the text
//! of an anchor. What a small file could blow up to is bounded.

use std::collections::HashMap;
use std::io::{Chain, Read};
use std::panic::{self, AssertUnwindSafe};

use libyaml_safer::{Event, EventData, Parser};

use super::plan::shown;
use super::{ImportError, Source, SourceLine};

/// Behind the text. libyaml-safer 0.3 looks ahead without asking whether there is more, and panics where a file ends within an escape:
/// libyaml finds NULs there.
const LOOKAHEAD: [u8; 16] = [b'\n'; 16];
/// A connection's options are the third level.
const MAX_DEPTH: usize = 16;
/// Bytes of one text after its anchors were put in.
const MAX_TEXT: usize = 16 * 1024;
/// Bytes of all of them.
const MAX_ALL: usize = 4 * 1024 * 1024;

/// A node.
#[derive(Clone)]
pub struct Node {
    /// Where it begins.
    pub place: SourceLine,
    /// Its anchor.
    pub name: Option<String>,
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
#[derive(Clone)]
pub enum Kind {
    Text(String),
    /// Nothing that is read is in one.
    List,
    /// In the order of the file, as often as they stand there.
    Map(Vec<(Node, Node)>),
    /// Why it cannot be had.
    Wrong(String),
}

impl Node {
    /// Its text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Its entries, if it is a map.
    pub fn entries(&self) -> Option<&[(Node, Node)]> {
        match &self.kind {
            Kind::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The first thing in it that cannot be had.
    pub fn wrong(&self) -> Option<(&SourceLine, &str)> {
        match &self.kind {
            Kind::Wrong(why) => Some((&self.place, why.as_str())),
            Kind::Map(entries) => entries.iter().find_map(|(key, node)| key.wrong().or_else(|| node.wrong())),
            Kind::Text(_) | Kind::List => None,
        }
    }
}

/// What a file says.
pub struct Document {
    /// The entries of its first level.
    pub entries: Vec<(Node, Node)>,
    /// Parts that are no YAML.
    pub faults: Vec<(SourceLine, String)>,
}

/// Texts of anchors: of a file and those that it includes.
#[derive(Default)]
pub struct Anchors {
    texts: HashMap<String, String>,
    /// Bytes of texts so far.
    all: usize,
}

/// A part that cannot be read: its line, and why.
type Broken = (usize, String);

/// The one document of a text. libyaml ends at a mistake: the blocks of the first level are then read each by
/// itself.
pub fn read(source: &Source, anchors: &mut Anchors) -> Result<Document, ImportError> {
    let mut document = Document { entries: Vec::new(), faults: Vec::new() };
    let place = |line: usize| SourceLine { file: source.name.clone(), line };
    let (known, all) = (anchors.texts.clone(), anchors.all);
    match Tree::of(source, &source.text, 0, anchors).document() {
        Ok(entries) => {
            document.entries = entries;
            return Ok(document);
        }
        Err(Halt::Bound(error)) => return Err(error),
        Err(Halt::Broken((line, why))) => {
            (anchors.texts, anchors.all) = (known, all);
            if blocks(&source.text).next().is_none() {
                document.faults.push((place(line), why));
            }
        }
    }
    for (first, block) in blocks(&source.text) {
        match Tree::of(source, block, first, anchors).document() {
            Ok(entries) => document.entries.extend(entries),
            Err(Halt::Bound(error)) => return Err(error),
            Err(Halt::Broken((line, why))) => {
                let begin = block.lines().next().unwrap_or_default();
                document.faults.push((place(line), format!("{}: left out: {why}", shown(begin.trim()))));
            }
        }
    }
    Ok(document)
}

/// The blocks of the first level, with the lines before them. Each begins in the first column.
fn blocks(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut starts = Vec::new();
    let mut at = 0;
    for (line, content) in text.split_inclusive('\n').enumerate() {
        let is_key = content.starts_with("? ")
            || content.starts_with(|c: char| c.is_ascii_alphabetic() || "\"'".contains(c))
                && content.contains(':');
        if is_key {
            starts.push((line, at));
        }
        at += content.len();
    }
    let ends: Vec<usize> = starts.iter().skip(1).map(|(_, at)| *at).chain([text.len()]).collect();
    starts.into_iter().zip(ends).map(move |((line, start), end)| (line, &text[start..end]))
}

/// Why reading ends.
enum Halt {
    Broken(Broken),
    Bound(ImportError),
}

struct Tree<'s, 'a> {
    source: &'s Source,
    /// Lines before the text.
    before: usize,
    lines: usize,
    events: Parser<Chain<&'s [u8], &'static [u8]>>,
    anchors: &'a mut Anchors,
    /// Where the last event ended.
    at: u64,
}

/// libyaml-safer 0.3 panics at some texts that are no YAML, such as `[!,`: for the reader that is one more mistake of the file. `None`
/// if it did; nothing is printed.
fn without_panic<T>(parse: impl FnOnce() -> T) -> Option<T> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let parsed = panic::catch_unwind(AssertUnwindSafe(parse));
    panic::set_hook(hook);
    parsed.ok()
}

impl<'s, 'a> Tree<'s, 'a> {
    fn of(source: &'s Source, text: &'s str, before: usize, anchors: &'a mut Anchors) -> Self {
        let mut events = Parser::new();
        events.set_input(text.as_bytes().chain(&LOOKAHEAD[..]));
        Self { source, before, lines: text.lines().count().max(1), events, anchors, at: 0 }
    }

    fn next(&mut self) -> Result<Event, Halt> {
        let Some(parsed) = without_panic(|| self.events.parse()) else {
            return Err(Halt::Broken((self.line(self.at), "what follows is no YAML".to_owned())));
        };
        if let Ok(event) = &parsed {
            self.at = event.end_mark.line;
        }
        parsed.map_err(|error| {
            let line = error.problem_mark().map_or(0, |mark| mark.line);
            let context = error.context().map(|context| format!("{context}: ")).unwrap_or_default();
            Halt::Broken((self.line(line), format!("{context}{}", error.problem())))
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
        let mut documents = 0;
        loop {
            let event = self.next()?;
            let place = self.place(&event);
            match event.data {
                EventData::StreamEnd => return Ok(entries),
                EventData::StreamStart { .. } | EventData::DocumentEnd { .. } => {}
                EventData::DocumentStart { .. } if documents == 0 => documents = 1,
                EventData::DocumentStart { .. } => {
                    return Err(Halt::Broken((
                        place.line,
                        "a second document: ser2net reads one".to_owned(),
                    )));
                }
                _ => match self.node(event, 0)?.kind {
                    Kind::Map(map) => entries = map,
                    // Nothing but comments.
                    Kind::Text(text) if text.is_empty() => {}
                    _ => {
                        let why = "expected connection:, define: and so on".to_owned();
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
            EventData::Scalar { anchor, value, .. } => (anchor, self.expanded(&value)?),
            EventData::Alias { anchor } => match self.anchors.texts.get(&anchor).cloned() {
                Some(text) => (None, self.counted(text)?),
                // Of connections, by rotators.
                None => (None, Kind::List),
            },
            EventData::SequenceStart { anchor, .. } => {
                loop {
                    let event = self.next()?;
                    match event.data {
                        EventData::SequenceEnd => break,
                        _ => drop(self.node(event, depth + 1)?),
                    }
                }
                (anchor, Kind::List)
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
            _ => return Err(Halt::Broken((place.line, "a value is missing".to_owned()))),
        };
        if let (Some(name), Kind::Text(text)) = (&name, &kind) {
            self.anchors.texts.insert(name.clone(), text.clone());
        }
        Ok(Node { place, name, kind })
    }

    /// With the texts of anchors in it, as `*(name)` wants them; `*(*` is `*(`.
    fn expanded(&mut self, text: &str) -> Result<Kind, Halt> {
        let mut whole = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("*(") {
            whole.push_str(before);
            if let Some(behind) = after.strip_prefix('*') {
                whole.push_str("*(");
                rest = behind;
                continue;
            }
            let Some((name, behind)) = after.split_once(')') else {
                return Ok(Kind::Wrong("*( without its )".to_owned()));
            };
            let Some(known) = self.anchors.texts.get(name) else {
                return Ok(Kind::Wrong(format!("*({}): not defined before", shown(name))));
            };
            whole.push_str(known);
            rest = behind;
            if whole.len() > MAX_TEXT {
                break;
            }
        }
        whole.push_str(rest);
        if whole.len() > MAX_TEXT {
            return Ok(Kind::Wrong(format!("a text of more than {MAX_TEXT} bytes")));
        }
        self.counted(whole)
    }

    fn counted(&mut self, text: String) -> Result<Kind, Halt> {
        self.anchors.all += text.len();
        if self.anchors.all > MAX_ALL {
            return Err(Halt::Bound(ImportError::TooLong(self.source.name.to_string(), MAX_ALL)));
        }
        Ok(Kind::Text(text))
    }
}
