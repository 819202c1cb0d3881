//! Escape sequences in the text of `send`.

use super::parse::ParseError;

pub fn unescape(text: &str) -> Result<Vec<u8>, ParseError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let (byte, length) = escape(escaped).ok_or_else(|| {
            let end = escaped.chars().next().map_or(0, char::len_utf8);
            ParseError::Escape(format!("\\{}", &escaped[..end]))
        })?;
        bytes.push(byte);
        rest = &escaped[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// Parses the text after a backslash. Returns the byte and the number of characters.
fn escape(text: &str) -> Option<(u8, usize)> {
    let digits = |from: usize, most: usize, radix: u32| {
        let rest = text.as_bytes().get(from..)?;
        let count = rest.iter().take(most).take_while(|&&c| char::from(c).is_digit(radix)).count();
        let byte = u8::from_str_radix(text.get(from..from + count)?, radix).ok()?;
        Some((byte, from + count))
    };
    let byte = match text.bytes().next()? {
        b'r' => b'\r',
        b'n' => b'\n',
        b't' => b'\t',
        b'e' => 0x1b,
        b'a' => 0x07,
        b'b' => 0x08,
        quoted @ (b'\\' | b'"' | b'\'') => quoted,
        b'x' => return digits(1, 2, 16),
        b'0'..=b'7' => return digits(0, 3, 8),
        _ => return None,
    };
    Some((byte, 1))
}
