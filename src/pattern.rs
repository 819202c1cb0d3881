//! Regular expressions of users, in linear time and bounded memory. They match bytes, not characters: Unicode
//! classes need large programs, and their tables would be in the memory of each port.

use std::fmt;

use regex_automata::meta;
use regex_automata::util::syntax;

/// Bytes of a pattern.
const MAX_PATTERN: usize = 256;
/// Bytes of a compiled pattern: some thousand states, each of which is visited at most once per byte.
const MAX_PROGRAM: usize = 64 * 1024;
/// Cache of a search, in each direction; when it is full, it is cleared.
const MAX_CACHE: usize = 64 * 1024;

/// What a pattern is matched against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// A line: `^` and `$` are its ends.
    Line,
    /// A stream: `^` and `$` match at each of its lines, which end with CR LF or LF.
    Stream,
}

/// Compiles a pattern, or returns what is wrong with it.
pub fn compile(text: &str, over: Over) -> Result<meta::Regex, String> {
    match text.len() {
        0 => return Err("an empty pattern matches everything".to_owned()),
        1..=MAX_PATTERN => {}
        _ => return Err(format!("longer than {MAX_PATTERN} bytes")),
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
                format!("needs more than {} KiB when compiled: use fewer repetitions", MAX_PROGRAM / 1024)
            }
            (_, Some(regex_syntax::Error::Parse(error))) => placed(error.kind(), error.span()),
            (_, Some(regex_syntax::Error::Translate(error))) => placed(error.kind(), error.span()),
            _ => error.to_string(),
        }
    })
}

/// In one line: the parser's own Display has several.
fn placed(what: &dyn fmt::Display, at: &regex_syntax::ast::Span) -> String {
    format!("{what} (character {})", at.start.column)
}
