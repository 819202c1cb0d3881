//! Regular expressions of users', in linear time whatever is searched, and in bounded memory. They are of bytes, not of characters:
//! Unicode's classes make large programs, and their tables would lie in the memory of each port.

use std::fmt;

use regex_automata::meta;
use regex_automata::util::syntax;

/// Bytes of a pattern.
const MAX_PATTERN: usize = 256;
/// Bytes of a compiled pattern: some thousand states, each of which a byte of a line may visit once.
const MAX_PROGRAM: usize = 64 * 1024;
/// Bytes that a search may keep of what it has learnt, in each direction; beyond, it begins afresh.
const MAX_CACHE: usize = 64 * 1024;

/// What a pattern is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// A line: `^` and `$` are its ends.
    Line,
    /// A stream: `^` and `$` are the ends of any of its lines, with CR LF or LF.
    Stream,
}

/// Compiles a pattern, or says what is wrong with it.
pub fn compile(text: &str, over: Over) -> Result<meta::Regex, String> {
    match text.len() {
        0 => return Err("an empty pattern matches everything".to_owned()),
        1..=MAX_PATTERN => {}
        _ => return Err(format!("it is longer than {MAX_PATTERN} bytes")),
    }
    let limits = meta::Config::new()
        .utf8_empty(false)
        .nfa_size_limit(Some(MAX_PROGRAM))
        .onepass_size_limit(Some(MAX_PROGRAM))
        .hybrid_cache_capacity(MAX_CACHE);
    let stream = over == Over::Stream;
    let syntax =
        syntax::Config::new().unicode(false).utf8(false).nest_limit(50).multi_line(stream).crlf(stream);
    meta::Builder::new().configure(limits).syntax(syntax).build(text).map_err(|error| {
        match (error.size_limit(), error.syntax_error()) {
            (Some(_), _) => {
                format!("it needs more than {} KiB when compiled: repeat less", MAX_PROGRAM / 1024)
            }
            (_, Some(regex_syntax::Error::Parse(error))) => placed(error.kind(), error.span()),
            (_, Some(regex_syntax::Error::Translate(error))) => placed(error.kind(), error.span()),
            _ => error.to_string(),
        }
    })
}

/// The parser's own Display draws the pattern over several lines.
fn placed(what: &dyn fmt::Display, at: &regex_syntax::ast::Span) -> String {
    format!("{what} (character {})", at.start.column)
}
