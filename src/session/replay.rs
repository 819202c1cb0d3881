//! What a console said before, made fit to be shown again: text, colours and the movements of a line editor stay. What would
//! make the terminal answer (and so type into the device), change its modes or retitle it goes, and so does
//! half a sequence at either end. Pure.

use anstyle_parse::{DefaultCharAccumulator, Params, Parser, Perform};

/// Control characters that a printer would know: bell excepted, because nobody wants to hear last night's.
const CONTROLS: [u8; 6] = [b'\x08', b'\t', b'\n', b'\r', b'\x0e', b'\x0f'];

/// Final characters of control sequences that only move, erase or colour (ECMA-48, 8.3), without a private marker.
const HARMLESS: &[u8] = b"@ABCDEFGHJKLMPSTXZ`adefm";

/// Begins a sequence; the other two end one.
const ESC: u8 = 0x1b;
const CAN: u8 = 0x18;
const SUB: u8 = 0x1a;

/// Colours, the character set and the scrolling of before are over.
pub const RESET: &[u8] = b"\x1b[0m\x0f";

/// The part of `said` that can be shown again, with attributes reset behind it. Bytes at its end that begin a sequence which
/// goes on later are kept as they are: the next byte that the device says belongs to them.
pub fn presentable(said: &[u8]) -> Vec<u8> {
    let mut filter = Filter { kept: Vec::with_capacity(said.len() + RESET.len()), came: None };
    let mut parser = Parser::<DefaultCharAccumulator>::new();
    let mut begun = Vec::new();
    for &byte in said {
        filter.came = None;
        parser.advance(&mut filter, byte);
        match (byte, filter.came) {
            // It ends whatever came before it; only half a character takes it along.
            (ESC, None | Some(Came::End)) => {
                begun.clear();
                begun.push(ESC);
            }
            (_, Some(Came::Print | Came::End)) | (CAN | SUB, _) => begun.clear(),
            // Obeyed at once, also inside a sequence.
            (_, Some(Came::Control)) => {}
            (_, None) => begun.push(byte),
        }
    }
    // Not every sequence says its end: what is open shows by what becomes of the next character.
    let mut next = Filter { kept: Vec::new(), came: None };
    parser.advance(&mut next, b'x');
    let start = match next.kept.as_slice() {
        b"" => 0,
        b"x" => begun.len(),
        // It makes half a character a wrong one.
        _ => begun.iter().rposition(|byte| *byte >= 0xc0).unwrap_or(begun.len()),
    };
    filter.kept.extend_from_slice(RESET);
    filter.kept.extend_from_slice(&begun[start..]);
    filter.kept
}

/// What a byte was to the parser.
#[derive(Clone, Copy)]
enum Came {
    /// A character, or what takes the place of half a one.
    Print,
    /// A control character.
    Control,
    /// The end of a sequence.
    End,
}

/// Keeps what is harmless of what the parser finds.
struct Filter {
    kept: Vec<u8>,
    came: Option<Came>,
}

impl Perform for Filter {
    fn print(&mut self, c: char) {
        self.came = Some(Came::Print);
        // The upper control characters too: some terminals take U+009B for the beginning of a sequence.
        if !c.is_control() {
            self.kept.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }

    fn execute(&mut self, byte: u8) {
        self.came = Some(Came::Control);
        if CONTROLS.contains(&byte) {
            self.kept.push(byte);
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: u8) {
        self.came = Some(Came::End);
        if ignore || !intermediates.is_empty() || !HARMLESS.contains(&action) {
            return;
        }
        let groups =
            params.iter().map(|group| group.iter().map(u16::to_string).collect::<Vec<_>>().join(":"));
        let params = groups.collect::<Vec<_>>().join(";");
        self.kept.extend_from_slice(format!("\x1b[{params}{}", char::from(action)).as_bytes());
    }

    fn esc_dispatch(&mut self, _intermediates: &[u8], _ignore: bool, _byte: u8) {
        self.came = Some(Came::End);
    }

    fn osc_dispatch(&mut self, _params: &[&[u8]], _bell_terminated: bool) {
        self.came = Some(Came::End);
    }

    fn unhook(&mut self) {
        self.came = Some(Came::End);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(said: &str) -> String {
        let shown = String::from_utf8(presentable(said.as_bytes())).unwrap();
        shown.replace(std::str::from_utf8(RESET).unwrap(), "|")
    }

    #[test]
    fn text_and_colours_stay_and_nothing_that_makes_a_terminal_answer() {
        for (said, wanted) in [
            ("login: \r\n\u{fc}ber", "login: \r\n\u{fc}ber|"),
            ("\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m|"),
            ("\x1b[38:2:1:2:3mx", "\x1b[38:2:1:2:3mx|"),
            ("ab\x08\x1b[K", "ab\x08\x1b[0K|"),
            ("a\x05b\x07c", "abc|"),
            // Device attributes, status, cursor position, modes, window reports, terminal parameters.
            ("\x1b[c\x1b[>c\x1b[=c\x1b[5n\x1b[6n\x1b[?6nx", "x|"),
            ("\x1b[?2026$p\x1b[18t\x1b[x\x1b[>qx", "x|"),
            ("\x1b[?1000h\x1b[?1004h\x1b[?1049hx", "x|"),
            ("\x1bZ\x1bcx", "x|"),
            // Colours asked for, the clipboard, a title; settings asked for.
            ("\x1b]11;?\x07\x1b]52;c;?\x1b\\\x1b]0;title\x07x", "x|"),
            ("\x1bP$qm\x1b\\\x1bP+q544e\x1b\\x", "x|"),
            ("\x1b_Gi=1\x1b\\x", "x|"),
        ] {
            assert_eq!(shown(said), wanted, "{said:?}");
        }
    }

    #[test]
    fn half_a_sequence_at_the_end_waits_for_its_other_half() {
        for (said, wanted) in [("a\x1b[3", "a|\x1b[3"), ("a\x1b", "a|\x1b"), ("a\x1b]0;ti", "a|\x1b]0;ti")] {
            assert_eq!(shown(said), wanted, "{said:?}");
        }
        assert_eq!(presentable(b"a\xc3"), [b"a".as_slice(), RESET, b"\xc3"].concat());
        for (said, wanted) in [
            // A control character inside is obeyed, and the sequence goes on.
            ("a\x1b[3\n1", "a\n|\x1b[31"),
            // The first half of what ends a title.
            ("a\x1b]0;title\x1b", "a|\x1b"),
            // Whole, though nobody knows it; a terminal might.
            ("a\x1b[6?n", "a|"),
            ("a\x1b[6?n\r\x1b[", "a\r|\x1b["),
            ("a\x1b[3\x18", "a|"),
        ] {
            assert_eq!(shown(said), wanted, "{said:?}");
        }
        assert_eq!(presentable(b"a\x1b[6?n\xc3"), [b"a".as_slice(), RESET, b"\xc3"].concat());
    }

    proptest! {
        #[test]
        fn no_bytes_get_a_query_through(said in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut said = said;
            // To the ground state: what is left at the end is not ours to judge.
            said.extend(b"\x18x");
            let shown = presentable(&said);
            let again = presentable(&shown);
            prop_assert_eq!(&again[..again.len() - RESET.len()], &shown[..], "what is shown is harmless, all of it");
            prop_assert!(!shown.contains(&0x05));
        }
    }
}
