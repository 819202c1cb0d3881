//! Filters earlier output of a device for a replay: text, colours and the cursor movements of a line editor stay. Sequences that would
//! make the terminal answer (and so type into the device), change its modes or its title are removed, and so are incomplete sequences
//! at either end. Pure.

use anstyle_parse::{DefaultCharAccumulator, Params, Parser, Perform};

/// Control characters that a printer would know, without the bell, which would ring for old output.
const CONTROLS: [u8; 6] = [b'\x08', b'\t', b'\n', b'\r', b'\x0e', b'\x0f'];

/// Final characters of control sequences that only move, erase or colour (ECMA-48, 8.3), without a private marker.
const HARMLESS: &[u8] = b"@ABCDEFGHJKLMPSTXZ`adefm";

/// Begins a sequence; the other two end one.
const ESC: u8 = 0x1b;
const CAN: u8 = 0x18;
const SUB: u8 = 0x1a;

/// Reset colours (ECMA-48, 8.3.117), and select the first character set (SI).
const NO_COLOURS: &[u8] = b"\x1b[0m";
const FIRST_SET: u8 = b'\x0f';

/// The harmless part of `output`. If its last line is unfinished, colours are reset before that line and not after it: programs expect a
/// prompt at the end of what they have read (pexpect, `[>#] ?$`). An incomplete sequence at the end is kept, since the device's next byte
/// belongs to it.
pub fn presentable(output: &[u8]) -> Vec<u8> {
    let (mut filter, begun) = filter(output);
    let Line { at, style } = filter.last_line;
    filter.kept.splice(at..at, style.reset());
    filter.kept.extend_from_slice(&begun);
    filter.kept
}

/// The harmless part of `output`, with colours reset at the end, because a notice follows.
pub fn presentable_before_words(output: &[u8]) -> Vec<u8> {
    let (mut filter, _) = filter(output);
    filter.kept.extend(filter.style.reset());
    filter.kept
}

/// The harmless part of `output`, and the incomplete sequence at its end.
pub fn harmless(output: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (filter, begun) = filter(output);
    (filter.kept, begun)
}

fn filter(output: &[u8]) -> (Filter, Vec<u8>) {
    let mut filter =
        Filter { kept: Vec::with_capacity(output.len() + NO_COLOURS.len() + 1), ..Filter::default() };
    let mut parser = Parser::<DefaultCharAccumulator>::new();
    let mut begun = Vec::new();
    for &byte in output {
        filter.parsed = None;
        parser.advance(&mut filter, byte);
        match (byte, filter.parsed) {
            // It ends the sequence before it; only an incomplete character consumes it.
            (ESC, None | Some(Parsed::End)) => {
                begun.clear();
                begun.push(ESC);
            }
            (_, Some(Parsed::Print | Parsed::End)) | (CAN | SUB, _) => begun.clear(),
            // Executed at once, also inside a sequence.
            (_, Some(Parsed::Control)) => {}
            (_, None) => begun.push(byte),
        }
    }
    // The parser does not report the end of every sequence: the effect of one more character shows whether one is open.
    let mut next = Filter::default();
    parser.advance(&mut next, b'x');
    let start = match next.kept.as_slice() {
        b"" => 0,
        b"x" => begun.len(),
        // It makes an incomplete character an invalid one.
        _ => begun.iter().rposition(|byte| *byte >= 0xc0).unwrap_or(begun.len()),
    };
    begun.drain(..start);
    (filter, begun)
}

/// The terminal's style, as far as [`HARMLESS`] and [`CONTROLS`] can change it.
#[derive(Debug, Clone, Copy, Default)]
struct Style {
    /// Possibly: sequences that reset single attributes are not tracked.
    coloured: bool,
    /// The second character set is selected.
    shifted: bool,
}

impl Style {
    fn reset(self) -> Vec<u8> {
        let mut reset = Vec::new();
        if self.coloured {
            reset.extend_from_slice(NO_COLOURS);
        }
        if self.shifted {
            reset.push(FIRST_SET);
        }
        reset
    }
}

/// Where the last line begins, and with which style.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    at: usize,
    style: Style,
}

/// The parser's classification of a byte.
#[derive(Clone, Copy)]
enum Parsed {
    /// A character, or the replacement for an incomplete one.
    Print,
    /// A control character.
    Control,
    End,
}

/// Keeps the harmless part.
#[derive(Default)]
struct Filter {
    kept: Vec<u8>,
    parsed: Option<Parsed>,
    style: Style,
    last_line: Line,
}

impl Perform for Filter {
    fn print(&mut self, c: char) {
        self.parsed = Some(Parsed::Print);
        // C1 control characters too: some terminals take U+009B as the beginning of a sequence.
        if !c.is_control() {
            self.kept.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }

    fn execute(&mut self, byte: u8) {
        self.parsed = Some(Parsed::Control);
        if CONTROLS.contains(&byte) {
            self.kept.push(byte);
        }
        match byte {
            b'\x0e' => self.style.shifted = true,
            FIRST_SET => self.style.shifted = false,
            b'\n' => self.last_line = Line { at: self.kept.len(), style: self.style },
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: u8) {
        self.parsed = Some(Parsed::End);
        if ignore || !intermediates.is_empty() || !HARMLESS.contains(&action) {
            return;
        }
        if action == b'm' {
            // Parameters apply in order: a last 0, or no parameter, resets everything (ECMA-48, 8.3.117).
            self.style.coloured = params.iter().last().is_some_and(|last| last != [0]);
        }
        let groups =
            params.iter().map(|group| group.iter().map(u16::to_string).collect::<Vec<_>>().join(":"));
        let params = groups.collect::<Vec<_>>().join(";");
        self.kept.extend_from_slice(format!("\x1b[{params}{}", char::from(action)).as_bytes());
    }

    fn esc_dispatch(&mut self, _intermediates: &[u8], _ignore: bool, _byte: u8) {
        self.parsed = Some(Parsed::End);
    }

    fn osc_dispatch(&mut self, _params: &[&[u8]], _bell_terminated: bool) {
        self.parsed = Some(Parsed::End);
    }

    fn unhook(&mut self) {
        self.parsed = Some(Parsed::End);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(output: &str) -> String {
        String::from_utf8(presentable(output.as_bytes())).unwrap()
    }

    #[test]
    fn text_and_colours_stay_and_queries_are_removed() {
        for (output, wanted) in [
            ("login: \r\n\u{fc}ber", "login: \r\n\u{fc}ber"),
            ("\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"),
            ("\x1b[38:2:1:2:3mx", "\x1b[38:2:1:2:3mx"),
            ("ab\x08\x1b[K", "ab\x08\x1b[0K"),
            ("a\x05b\x07c", "abc"),
            // Device attributes, status, cursor position, modes, window reports, terminal parameters.
            ("\x1b[c\x1b[>c\x1b[=c\x1b[5n\x1b[6n\x1b[?6nx", "x"),
            ("\x1b[?2026$p\x1b[18t\x1b[x\x1b[>qx", "x"),
            ("\x1b[?1000h\x1b[?1004h\x1b[?1049hx", "x"),
            ("\x1bZ\x1bcx", "x"),
            // Queries of colours, the clipboard, a title; queries of settings.
            ("\x1b]11;?\x07\x1b]52;c;?\x1b\\\x1b]0;title\x07x", "x"),
            ("\x1bP$qm\x1b\\\x1bP+q544e\x1b\\x", "x"),
            ("\x1b_Gi=1\x1b\\x", "x"),
        ] {
            assert_eq!(shown(output), wanted, "{output:?}");
        }
    }

    #[test]
    fn colours_are_reset_before_the_prompt_which_stays_last() {
        for (output, wanted) in [
            ("up\r\nSwitch>", "up\r\nSwitch>"),
            ("\x1b[31mred\r\nSwitch>", "\x1b[31mred\r\n\x1b[0mSwitch>"),
            ("\x1b[31mred\x1b[m\r\nSwitch>", "\x1b[31mred\x1b[0m\r\nSwitch>"),
            ("\x1b[31mred\x1b[1;0m\r\nSwitch>", "\x1b[31mred\x1b[1;0m\r\nSwitch>"),
            ("\x1b[31mred\x1b[0;1m\r\nSwitch>", "\x1b[31mred\x1b[0;1m\r\n\x1b[0mSwitch>"),
            ("\x0elines\r\nSwitch>", "\x0elines\r\n\x0fSwitch>"),
            ("\x0elines\x0f\r\nSwitch>", "\x0elines\x0f\r\nSwitch>"),
            ("\x1b[1m\x0eboth\r\nSwitch>", "\x1b[1m\x0eboth\r\n\x1b[0m\x0fSwitch>"),
            // The prompt's own colours: live clients see them too.
            ("up\r\n\x1b[1mSwitch>", "up\r\n\x1b[1mSwitch>"),
            ("up\r\n\x1b[1mSwitch>\x1b[0m ", "up\r\n\x1b[1mSwitch>\x1b[0m "),
            ("\x1b[1mup\r\n", "\x1b[1mup\r\n\x1b[0m"),
            ("", ""),
        ] {
            assert_eq!(shown(output), wanted, "{output:?}");
        }
    }

    #[test]
    fn before_a_notice_colours_are_reset_and_no_sequence_is_open() {
        for (output, wanted) in [
            ("a\r\n\x1b[1mb>", "a\r\n\x1b[1mb>\x1b[0m"),
            ("a\x1b[0m>\x1b[3", "a\x1b[0m>"),
            ("\x0ea", "\x0ea\x0f"),
        ] {
            let shown = String::from_utf8(presentable_before_words(output.as_bytes())).unwrap();
            assert_eq!(shown, wanted, "{output:?}");
        }
    }

    #[test]
    fn an_incomplete_sequence_at_the_end_is_kept() {
        for output in ["a\x1b[3", "a\x1b", "a\x1b]0;ti"] {
            assert_eq!(shown(output), output);
        }
        assert_eq!(presentable(b"a\xc3"), b"a\xc3");
        for (output, wanted) in [
            // A control character inside is executed, and the sequence continues.
            ("a\x1b[3\n1", "a\n\x1b[31"),
            // The first byte of the sequence that ends a title.
            ("a\x1b]0;title\x1b", "a\x1b"),
            // Complete, though not in our list; a terminal may know it.
            ("a\x1b[6?n", "a"),
            ("a\x1b[6?n\r\x1b[", "a\r\x1b["),
            ("a\x1b[3\x18", "a"),
        ] {
            assert_eq!(shown(output), wanted, "{output:?}");
        }
        assert_eq!(presentable(b"a\x1b[6?n\xc3"), b"a\xc3");
    }

    proptest! {
        #[test]
        fn no_bytes_get_a_query_through(output in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut output = output;
            // Return to the ground state, since an incomplete end is kept; and to a last line that needs no reset.
            output.extend(b"\x18x");
            let shown = presentable(&output);
            let (again, _) = harmless(&shown);
            prop_assert_eq!(&again, &shown, "the result is a fixed point of the filter");
            prop_assert!(!shown.contains(&0x05));
        }
    }
}
