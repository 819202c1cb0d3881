//! Bytes made printable: whatever a device says, `cat` of the log shows it and does nothing else, and the bytes can
//! be read back. Tab and printable UTF-8 stay as they are; the rest becomes `\\`, `\r`, `\n`, `\x1b` (a byte) or
//! `\u{202e}` (a character).

use std::ops::RangeInclusive;

/// Bytes that mean themselves: tab and printable ASCII but the backslash.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = b' ';
    while byte < 0x7f {
        plain[byte as usize] = true;
        byte += 1;
    }
    plain[b'\t' as usize] = true;
    plain[b'\\' as usize] = false;
    plain
};

/// Characters outside ASCII that reorder, hide or break up the text around them: C1 controls and those of Unicode's
/// general categories Cf, Zl and Zp (UnicodeData.txt 16.0), which have no shape of their own.
const HIDDEN: [RangeInclusive<char>; 21] = [
    '\u{80}'..='\u{9f}',
    '\u{ad}'..='\u{ad}',
    '\u{600}'..='\u{605}',
    '\u{61c}'..='\u{61c}',
    '\u{6dd}'..='\u{6dd}',
    '\u{70f}'..='\u{70f}',
    '\u{890}'..='\u{891}',
    '\u{8e2}'..='\u{8e2}',
    '\u{180e}'..='\u{180e}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{feff}'..='\u{feff}',
    '\u{fff9}'..='\u{fffb}',
    '\u{110bd}'..='\u{110bd}',
    '\u{110cd}'..='\u{110cd}',
    '\u{13430}'..='\u{1343f}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0001}'..='\u{e0001}',
    '\u{e0020}'..='\u{e007f}',
];

/// Whether a character has no shape of its own, but does something to the text around it.
pub fn is_hidden(character: char) -> bool {
    HIDDEN.iter().any(|range| range.contains(&character))
}

/// Appends the printable form of `bytes` to `out`.
pub fn escape(mut bytes: &[u8], out: &mut Vec<u8>) {
    while !bytes.is_empty() {
        bytes = plain_run(bytes, out);
        bytes = ascii_run(bytes, out);
        bytes = wide_run(bytes, out);
    }
}

fn split_while(bytes: &[u8], belongs: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|&byte| !belongs(byte)).unwrap_or(bytes.len());
    bytes.split_at(end)
}

fn plain_run<'a>(bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let (run, rest) = split_while(bytes, |byte| PLAIN[byte as usize]);
    out.extend_from_slice(run);
    rest
}

fn ascii_run<'a>(bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let (run, rest) = split_while(bytes, |byte| byte.is_ascii() && !PLAIN[byte as usize]);
    for &byte in run {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\n' => out.extend_from_slice(b"\\n"),
            _ => escape_byte(byte, out),
        }
    }
    rest
}

fn wide_run<'a>(bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let (run, rest) = split_while(bytes, |byte| !byte.is_ascii());
    for chunk in run.utf8_chunks() {
        for character in chunk.valid().chars() {
            if is_hidden(character) {
                out.extend(character.escape_unicode().map(|c| c as u8));
            } else {
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        for &byte in chunk.invalid() {
            escape_byte(byte, out);
        }
    }
    rest
}

fn escape_byte(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(&[b'\\', b'x', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        escape(bytes, &mut out);
        String::from_utf8(out).expect("what was escaped is UTF-8")
    }

    #[test]
    fn every_control_character_but_tab_is_shown_and_not_obeyed() {
        for byte in (0..b' ').chain([0x7f]) {
            let expected = match byte {
                b'\t' => "\t".to_owned(),
                b'\n' => "\\n".to_owned(),
                b'\r' => "\\r".to_owned(),
                _ => format!("\\x{byte:02x}"),
            };
            assert_eq!(escaped(&[byte]), expected);
        }
        for c1 in '\u{80}'..='\u{9f}' {
            assert_eq!(escaped(c1.to_string().as_bytes()), format!("\\u{{{:x}}}", c1 as u32));
        }
    }

    #[test]
    fn printable_text_stays_as_it_is_and_a_backslash_is_doubled() {
        let all: String = (' '..='~').filter(|&c| c != '\\').collect();
        assert_eq!(escaped(all.as_bytes()), all);
        assert_eq!(escaped("Zürich → 東京 🚀\tok".as_bytes()), "Zürich → 東京 🚀\tok");
        assert_eq!(escaped(br"C:\x1b"), r"C:\\x1b");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_shown_one_by_one() {
        assert_eq!(escaped(b"a\xff\xfeb"), r"a\xff\xfeb");
        assert_eq!(escaped(b"\xe2\x82"), r"\xe2\x82", "a sequence cut short");
        assert_eq!(escaped(b"\xed\xa0\x80"), r"\xed\xa0\x80", "a surrogate");
        assert_eq!(escaped(b"\xc0\x9b"), r"\xc0\x9b", "an overlong escape");
        assert_eq!(escaped(b"\xf4\x90\x80\x80"), r"\xf4\x90\x80\x80", "beyond Unicode");
    }

    #[test]
    fn text_cannot_be_turned_round_or_hidden() {
        for hidden in "\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}\u{200e}\u{200f}\u{61c}\u{200b}\u{feff}\u{2028}\u{e0041}".chars() {
            assert_eq!(escaped(hidden.to_string().as_bytes()), format!("\\u{{{:x}}}", hidden as u32));
        }
        assert_eq!(escaped("user\u{202e}toor".as_bytes()), r"user\u{202e}toor");
    }
}
