//! What a console said before, made fit to be shown again: text, colours and the movements of a line editor stay. What would
//! make the terminal answer (and so type into the device), change its modes or retitle it goes, and so does
//! half a sequence at either end. Pure.

use anstyle_parse::{DefaultCharAccumulator, Params, Parser, Perform};

/// Control characters that a printer would know: bell excepted, because nobody wants to hear last night's.
const CONTROLS: [u8; 6] = [b'\x08', b'\t', b'\n', b'\r', b'\x0e', b'\x0f'];

/// Final characters of control sequences that only move, erase or colour (ECMA-48, 8.3), without a private marker.
const HARMLESS: &[u8] = b"@ABCDEFGHJKLMPSTXZ`adefm";

/// Colours, the character set and the scrolling of before are over.
const RESET: &[u8] = b"\x1b[0m\x0f";

/// The part of `said` that can be shown again, with attributes reset behind it. Bytes at its end that begin a sequence which
/// goes on later are kept as they are: the next byte that the device says belongs to them.
pub(super) fn presentable(said: &[u8]) -> Vec<u8> {
    let mut filter = Filter { kept: Vec::with_capacity(said.len() + RESET.len()), whole: 0 };
    let mut parser = Parser::<DefaultCharAccumulator>::new();
    let mut whole = 0;
    for (index, byte) in said.iter().enumerate() {
        let before = filter.whole;
        parser.advance(&mut filter, *byte);
        if filter.whole != before {
            whole = index + 1;
        }
    }
    filter.kept.extend_from_slice(RESET);
    filter.kept.extend_from_slice(&said[whole..]);
    filter.kept
}

/// Keeps what is harmless of what the parser finds.
struct Filter {
    kept: Vec<u8>,
    /// Goes up with everything that has come to its end.
    whole: usize,
}

impl Perform for Filter {
    fn print(&mut self, c: char) {
        self.whole += 1;
        // The upper control characters too: some terminals take U+009B for the beginning of a sequence.
        if !c.is_control() {
            self.kept.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }

    fn execute(&mut self, byte: u8) {
        self.whole += 1;
        if CONTROLS.contains(&byte) {
            self.kept.push(byte);
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: u8) {
        self.whole += 1;
        if ignore || !intermediates.is_empty() || !HARMLESS.contains(&action) {
            return;
        }
        let groups =
            params.iter().map(|group| group.iter().map(u16::to_string).collect::<Vec<_>>().join(":"));
        let params = groups.collect::<Vec<_>>().join(";");
        self.kept.extend_from_slice(format!("\x1b[{params}{}", char::from(action)).as_bytes());
    }

    fn esc_dispatch(&mut self, _intermediates: &[u8], _ignore: bool, _byte: u8) {
        self.whole += 1;
    }

    fn osc_dispatch(&mut self, _params: &[&[u8]], _bell_terminated: bool) {
        self.whole += 1;
    }

    fn unhook(&mut self) {
        self.whole += 1;
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
