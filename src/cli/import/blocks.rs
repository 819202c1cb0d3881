//! The grammar of conserver.cf(5): named blocks of keywords and values. A console with an error is left out and reported with its line;
//! other blocks keep what conserver keeps, so that an error in a list of users removes no name from it.

use super::error::{ImportError, SourceLine};
use super::lexer::{Fault, Include, Lexer, Token};
use super::plan::quoted;
use super::source::Source;

/// `KIND NAME { … }`
pub struct Block {
    /// `console`, in lower case.
    pub kind: &'static str,
    pub name: String,
    pub place: SourceLine,
    /// In the order of the file.
    pub statements: Vec<Statement>,
}

/// `KEYWORD VALUE;`
#[derive(Clone)]
pub struct Statement {
    /// `baud`, in lower case.
    pub keyword: &'static str,
    /// `9600`
    pub value: String,
    pub place: SourceLine,
}

impl Statement {
    /// The value as in the file.
    pub fn original(&self) -> String {
        format!("{} {}", self.keyword, self.value)
    }
}

/// The blocks of a file, and its errors.
pub struct Read {
    pub blocks: Vec<Block>,
    pub faults: Vec<Fault>,
    /// Names of `default` blocks that conserver discards because of an error.
    pub dropped: Vec<String>,
}

const ACCESS: &str = "admin allowed include limited rejected trusted";
const BREAK: &str = "confirm delay string";
const CONFIG: &str = "autocomplete daemonmode defaultaccess initdelay logfile loghostnames passwdfile primaryport \
     redirect reinitcheck secondaryport setproctitle sslcacertificatefile sslcredentials \
     sslreqclientcert sslrequired unifiedlog";
const CONSOLE: &str = "aliases baud break breaklist device devicesubst exec execrunas execsubst host idlestring \
     idletimeout include initcmd initrunas initspinmax initspintimer initsubst ipmiciphersuite \
     ipmikg ipmiprivlevel ipmiworkaround logfile logfilemax master motd options parity password port \
     portbase portinc protocol replstring ro rw tasklist timestamp type uds udssubst username";
const GROUP: &str = "users";
const TASK: &str = "cmd confirm description runas subst";

/// Kinds of blocks with their keywords.
const KINDS: [(&str, &str); 7] = [
    ("access", ACCESS),
    ("break", BREAK),
    ("config", CONFIG),
    ("console", CONSOLE),
    ("default", CONSOLE),
    ("group", GROUP),
    ("task", TASK),
];

/// Keywords whose values are free text.
const FREE: &str = "cmd description exec idlestring initcmd ipmikg motd password replstring string username";
/// Keywords whose values are lists, which spaces may separate too.
const LISTS: &str = "admin aliases allowed limited rejected ro rw trusted users";

/// Whether a word begins a line of the format before conserver 8: `LOGDIR=/var/consoles`, `NAME:DEVICE:BAUD:LOG:`.
fn is_former(word: &str) -> bool {
    let begins =
        ["LOGDIR=", "TIMESTAMP=", "DOMAINHACK=", "BREAK"].iter().any(|begin| word.starts_with(begin));
    begins && word.contains('=') || word == "%%" || word.split(':').count() > 3
}

/// Whether a line begins a block, includes a file, or has the format before conserver 8.
pub fn is_line(line: &str) -> bool {
    let word = line.trim_start().split([' ', '\t', '{']).next().unwrap_or_default();
    kind(word).is_some() || word == "#include" || is_former(word)
}

fn kind(word: &str) -> Option<(&'static str, &'static str)> {
    KINDS.into_iter().find(|(kind, _)| kind.eq_ignore_ascii_case(word))
}

fn keyword(keywords: &'static str, word: &str) -> Option<&'static str> {
    keywords.split(' ').find(|keyword| keyword.eq_ignore_ascii_case(word))
}

pub fn read(source: Source, include: &mut Include<'_>) -> Result<Read, ImportError> {
    let mut parser =
        Parser { lexer: Lexer::of(source, include), blocks: Vec::new(), dropped: Vec::new(), pending: None };
    while parser.next_block()? {}
    Ok(Read { blocks: parser.blocks, faults: parser.lexer.faults, dropped: parser.dropped })
}

struct Parser<'l, 'i> {
    lexer: Lexer<'l, 'i>,
    blocks: Vec<Block>,
    dropped: Vec<String>,
    /// The start of a block inside an unclosed one.
    pending: Option<(String, SourceLine)>,
}

enum End {
    Closed,
    /// conserver discards it.
    Dropped,
    /// The next block starts inside it, or the file ends.
    Open,
}

impl Parser<'_, '_> {
    /// Reads one block; `false` at the end.
    fn next_block(&mut self) -> Result<bool, ImportError> {
        let (word, place) = match self.pending.take() {
            Some(pending) => pending,
            None => match self.lexer.token(false)? {
                Token::End => return Ok(false),
                Token::Word(word, place) => (word, place),
                Token::Semicolon => return Ok(true),
                Token::Open | Token::Close => {
                    let place = self.lexer.place();
                    self.lexer.fault(place, "{ or }", "outside of a block");
                    return Ok(true);
                }
            },
        };
        let Some((kind, keywords)) = kind(&word) else {
            let why = match is_former(&word) {
                true => "the format before conserver 8; its program `convert` makes a conserver.cf of it",
                false => "expected access, break, config, console, default, group or task",
            };
            self.lexer.fault(place, quoted(&word), why);
            return self.skip();
        };
        let name = match self.lexer.token(true)? {
            Token::Word(name, _) if !name.is_empty() => name,
            _ => {
                self.lexer.fault(place, kind, format!("expected {kind} NAME {{"));
                return self.skip();
            }
        };
        let title = format!("{kind} {}", quoted(&name));
        loop {
            match self.lexer.token(false)? {
                Token::Open => break,
                Token::Semicolon => {}
                _ => {
                    self.lexer.fault(place, title, format!("expected {kind} NAME {{"));
                    return Ok(true);
                }
            }
        }
        let mut block = Block { kind, name, place, statements: Vec::new() };
        let before = self.lexer.faults.len();
        match self.statements(&mut block, keywords)? {
            End::Closed => self.blocks.push(block),
            End::Open if kind != "console" => {
                self.lexer.fault(block.place.clone(), title, "missing }");
                self.blocks.push(block);
            }
            End::Open => self.lexer.fault(block.place, title, "left out: missing }"),
            End::Dropped => {
                // One message per error, with its own line rather than the line of the block.
                if let Some(fault) = self.lexer.faults[before..].last_mut() {
                    fault.what = format!("{title}: {}", fault.what);
                    fault.why = format!("left out: {}", fault.why);
                }
                if kind == "default" {
                    self.dropped.push(block.name.to_ascii_lowercase());
                }
            }
        }
        Ok(true)
    }

    /// Skips to the next block.
    fn skip(&mut self) -> Result<bool, ImportError> {
        let mut inside = false;
        loop {
            match self.lexer.token(false)? {
                Token::End => return Ok(false),
                Token::Close => return Ok(true),
                Token::Open => inside = true,
                Token::Semicolon => {}
                Token::Word(word, place) if !inside && kind(&word).is_some() => {
                    self.pending = Some((word, place));
                    return Ok(true);
                }
                Token::Word(..) => {}
            }
        }
    }

    fn statements(&mut self, block: &mut Block, keywords: &'static str) -> Result<End, ImportError> {
        // An unknown keyword is reported once, with its value.
        let mut reported = false;
        loop {
            let (word, place) = match self.lexer.token(false)? {
                Token::Close => return Ok(End::Closed),
                Token::End => return Ok(End::Open),
                Token::Semicolon => {
                    reported = false;
                    continue;
                }
                Token::Open => {
                    let place = self.lexer.place();
                    self.lexer.fault(place, "{", "expected KEYWORD VALUE;");
                    continue;
                }
                Token::Word(word, place) => (word, place),
            };
            let Some(keyword) = keyword(keywords, &word) else {
                if kind(&word).is_some() {
                    self.pending = Some((word, place));
                    return Ok(End::Open);
                }
                if !reported {
                    let why = format!("unknown keyword in a {} block", block.kind);
                    self.lexer.fault(place, quoted(&word), why);
                }
                reported = true;
                continue;
            };
            reported = false;
            let value = loop {
                match self.lexer.token(true)? {
                    Token::Word(value, _) => break Some(value),
                    Token::Open => {}
                    Token::Semicolon => break None,
                    Token::Close => {
                        self.lexer.fault(place, keyword, "expected KEYWORD VALUE;");
                        return Ok(End::Dropped);
                    }
                    Token::End => return Ok(End::Open),
                }
            };
            let Some(value) = value else {
                self.lexer.fault(place, keyword, "expected KEYWORD VALUE;");
                continue;
            };
            if let Some(next) = swallowed(keyword, &value, keywords) {
                let what = shown(keyword, &value);
                self.lexer.fault(place.clone(), what, format!("missing ; before {next}"));
                if block.kind == "console" {
                    self.skip_block()?;
                    return Ok(End::Dropped);
                }
            }
            let statement = Statement { keyword, value, place };
            loop {
                match self.lexer.token(false)? {
                    Token::Semicolon => break,
                    Token::Close => {
                        let what = shown(keyword, &statement.value);
                        self.lexer.fault(statement.place, what, "missing ; before }");
                        return Ok(End::Dropped);
                    }
                    Token::End => return Ok(End::Open),
                    Token::Open | Token::Word(..) => {}
                }
            }
            block.statements.push(statement);
        }
    }

    /// Skips the rest of a block.
    fn skip_block(&mut self) -> Result<(), ImportError> {
        loop {
            match self.lexer.token(false)? {
                Token::Close | Token::End => return Ok(()),
                _ => {}
            }
        }
    }
}

/// A statement in a message, without the secret of a BMC.
fn shown(keyword: &str, value: &str) -> String {
    if ["password", "ipmikg"].contains(&keyword) {
        keyword.to_owned()
    } else {
        format!("{keyword} {}", quoted(value))
    }
}

/// A keyword inside a value, because the `;` before it is missing.
fn swallowed(keyword: &str, value: &str, keywords: &'static str) -> Option<&'static str> {
    if FREE.split(' ').any(|free| free == keyword) {
        return None;
    }
    let is_list = LISTS.split(' ').any(|list| list == keyword);
    let lines: Vec<&str> = value.lines().collect();
    let next_lines = lines.windows(2).filter(|pair| !(is_list && pair[0].trim_end().ends_with(',')));
    let mut starts = next_lines.filter_map(|pair| pair[1].split_ascii_whitespace().next());
    let is_keyword = |word: &str| self::keyword(keywords, word);
    let by_line = starts.find_map(is_keyword);
    let by_word = || match is_list {
        true => None,
        false => value.split_ascii_whitespace().skip(1).find_map(is_keyword),
    };
    by_line.or_else(by_word)
}

/// Splits a list as conserver does.
pub fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split([',', ' ', '\u{c}', '\u{b}', '\t', '\n', '\r']).filter(|word| !word.is_empty())
}
