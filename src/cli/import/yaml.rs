//! YAML as ser2net takes it: a tree with places, in which a key may stand many times, anchors have names that count, and
//! `*(name)` inside a text is the text of an anchor. What a small file could blow up to is bounded.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScanError, Span};

use super::{ImportError, Place, Source};

/// A connection's options are the third level.
const MAX_DEPTH: usize = 16;
/// Bytes of one text after its anchors were put in.
const MAX_TEXT: usize = 16 * 1024;

/// A node.
pub struct Node {
    /// Where it begins.
    pub place: Place,
    /// Its anchor.
    pub name: Option<String>,
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
pub enum Kind {
    Text(String),
    /// Nothing that we read is in one.
    List,
    /// In the order of the file, as often as they stand there.
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// Its text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            Kind::List | Kind::Map(_) => None,
        }
    }

    /// Its entries, if it is a map.
    pub fn entries(&self) -> Option<&[(Node, Node)]> {
        match &self.kind {
            Kind::Map(entries) => Some(entries),
            Kind::Text(_) | Kind::List => None,
        }
    }
}

struct Tree<'s> {
    source: &'s Source,
    characters: Vec<char>,
    events: Parser<'s, saphyr_parser::StrInput<'s>>,
    /// The texts of anchors, by number and by name.
    by_number: HashMap<usize, String>,
    by_name: HashMap<String, String>,
}

/// The one document of a text; `None` if there is none.
pub fn read(source: &Source) -> Result<Option<Node>, ImportError> {
    let mut tree = Tree {
        source,
        characters: source.text.chars().collect(),
        events: Parser::new_from_str(&source.text),
        by_number: HashMap::new(),
        by_name: HashMap::new(),
    };
    let mut root = None;
    loop {
        let (event, span) = tree.next()?;
        match event {
            Event::StreamEnd => return Ok(root),
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
            event if root.is_none() => root = Some(tree.node(event, span, 0)?),
            _ => return Err(tree.wrong(&span, "a second document: ser2net reads one")),
        }
    }
}

impl<'s> Tree<'s> {
    fn next(&mut self) -> Result<(Event<'s>, Span), ImportError> {
        match self.events.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(self.scan_error(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn scan_error(&self, error: &ScanError) -> ImportError {
        ImportError::Syntax(self.place(error.marker().line()), error.info().to_owned())
    }

    fn place(&self, line: usize) -> Place {
        Place { file: self.source.name.clone(), line: line.max(1) }
    }

    fn wrong(&self, at: &Span, why: &str) -> ImportError {
        ImportError::Syntax(self.place(at.start.line()), why.to_owned())
    }

    fn node(&mut self, event: Event<'s>, span: Span, depth: usize) -> Result<Node, ImportError> {
        if depth == MAX_DEPTH {
            return Err(self.wrong(&span, &format!("more than {MAX_DEPTH} levels")));
        }
        let place = self.place(span.start.line());
        let (anchor, kind) = match event {
            Event::Scalar(text, _, anchor, _) => (anchor, Kind::Text(self.expanded(&text, &span)?)),
            Event::Alias(number) => match self.by_number.get(&number) {
                Some(text) => (0, Kind::Text(text.clone())),
                // Of connections, by rotators.
                None => (0, Kind::List),
            },
            Event::SequenceStart(anchor, _) => {
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, span) => drop(self.node(event, span, depth + 1)?),
                    }
                }
                (anchor, Kind::List)
            }
            Event::MappingStart(anchor, _) => {
                let mut entries = Vec::new();
                loop {
                    let key = match self.next()? {
                        (Event::MappingEnd, _) => break,
                        (event, span) => self.node(event, span, depth + 1)?,
                    };
                    let (event, span) = self.next()?;
                    entries.push((key, self.node(event, span, depth + 1)?));
                }
                (anchor, Kind::Map(entries))
            }
            _ => return Err(self.wrong(&span, "a value is missing")),
        };
        let name = if anchor == 0 { None } else { self.anchor_before(span.start.index()) };
        if let (Some(name), Kind::Text(text)) = (&name, &kind) {
            self.by_number.insert(anchor, text.clone());
            self.by_name.insert(name.clone(), text.clone());
        }
        Ok(Node { place, name, kind })
    }

    /// The parser counts anchors; their names stand before the nodes, or where these begin.
    fn anchor_before(&self, index: usize) -> Option<String> {
        let upto = (index + 1).min(self.characters.len());
        let begins = self.characters[..upto].iter().rposition(|c| *c == '&')? + 1;
        let ends = |c: &char| c.is_whitespace() || ",[]{}".contains(*c);
        Some(self.characters[begins..].iter().take_while(|c| !ends(c)).collect())
    }

    /// With the texts of anchors in it, as `*(name)` wants them.
    fn expanded(&self, text: &str, span: &Span) -> Result<String, ImportError> {
        let mut whole = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("*(") {
            whole.push_str(before);
            let Some((name, behind)) = after.split_once(')') else {
                return Err(self.wrong(span, "*( without its )"));
            };
            let known = self.by_name.get(name);
            let known = known.ok_or_else(|| {
                self.wrong(span, &format!("*({}): not defined before", super::plan::shown(name)))
            })?;
            whole.push_str(known);
            rest = behind;
            if whole.len() > MAX_TEXT {
                break;
            }
        }
        whole.push_str(rest);
        if whole.len() > MAX_TEXT {
            return Err(self.wrong(span, &format!("a text of more than {MAX_TEXT} bytes")));
        }
        Ok(whole)
    }
}
