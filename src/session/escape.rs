//! The escape machine: finds conserver's escape commands (`^Ec.`) in input. Pure: bytes in, [`Action`]s out, independent of how the bytes
//! are split. No byte of a command is sent to the device. The prefix's first character alone, and a command that end of input cuts off,
//! are passed on ([`EscapeMachine::release`]).

use crate::config::EscapePrefix;

/// Bytes of a line that a command prompts for: a message, a pattern, a port's name.
const MAX_LINE_BYTES: usize = 200;

/// Ends a line on the screen that the user has cancelled.
const CANCELLED: &[u8] = b" (cancelled)]\r\n";

/// The meaning of input bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Input for the device.
    Input(Vec<u8>),
    /// `.`: detach.
    Detach,
    /// `?`: list the commands.
    Help,
    /// `l0` to `l9`: send a break, longer for higher digits.
    Break(u8),
    /// `la` to `lz`: send the break whose name begins with this letter.
    NamedBreak(u8),
    /// `l?`: list the breaks.
    Breaks,
    /// `a`: get write access if it is free.
    RequestWrite,
    /// `f`: take over write access.
    TakeOver,
    /// `s`: give up write access.
    ReadOnly,
    /// `w` and `u`: list the attached users.
    Who,
    /// `i`: show settings, counters, modem lines.
    Information,
    /// `v`: show the version.
    Version,
    /// `o`: reopen the tty.
    Reopen,
    /// `p`, `r`, `^R`: replay this many lines.
    Replay(usize),
    /// `t`: toggle timestamps.
    Timestamps,
    /// `M…`: set a modem line.
    Modem(Modem),
    /// `;`, `b`, `/`, `!`: prompt for a line.
    Ask(Prompt),
    /// Echo of the line that the user edits.
    Echo(Vec<u8>),
    Line(Prompt, String),
    /// Tab in such a line, or Return if it is empty: the text before it. Answer with [`EscapeMachine::complete`].
    Complete(Prompt, String),
    /// Return or newline: cancel a command that was begun by mistake.
    Nothing,
    /// The characters are not a command.
    Unknown(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prompt {
    /// `;`: the name of another console.
    Console,
    /// `b`: a message to the other users.
    Message,
    /// `/`: a search of the log.
    Search,
    /// `!`: a power command.
    Power,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Modem {
    /// `p`: DTR off and on again.
    PulseDtr,
    /// `d`, `D`.
    Dtr(bool),
    /// `r`, `R`.
    Rts(bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Typing,
    /// The prefix's first character, which is held back.
    Prefix,
    Command,
    /// After `l`: the digit of a break.
    Break,
    /// After `M`: the letter of a modem line.
    Modem,
    /// After `\`: the number of octal digits, and their value.
    Octal(u8, u16),
    Line(Prompt),
    /// After an Escape that cancelled a line or a command: the key may be an arrow, whose other bytes are not for the device. The value is
    /// 0, or the byte after Escape.
    Key(u8),
}

#[derive(Debug)]
pub struct EscapeMachine {
    prefix: Option<EscapePrefix>,
    state: State,
    line: Vec<u8>,
}

/// Actions in order; adjacent bytes of one kind are merged.
#[derive(Default)]
struct Actions(Vec<Action>);

impl Actions {
    fn typed(&mut self, bytes: &[u8]) {
        match self.0.last_mut() {
            Some(Action::Input(before)) => before.extend_from_slice(bytes),
            _ => self.0.push(Action::Input(bytes.to_vec())),
        }
    }

    fn echo(&mut self, bytes: &[u8]) {
        match self.0.last_mut() {
            Some(Action::Echo(before)) => before.extend_from_slice(bytes),
            _ => self.0.push(Action::Echo(bytes.to_vec())),
        }
    }
}

impl EscapeMachine {
    /// A machine with this prefix. Without a prefix all input goes to the device.
    pub fn new(prefix: Option<EscapePrefix>) -> Self {
        Self { prefix, state: State::Typing, line: Vec::new() }
    }

    /// Parses bytes that follow the earlier ones, without completion.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Vec<Action> {
        let mut actions = Vec::new();
        while !bytes.is_empty() {
            actions.extend(self.step(&mut bytes));
        }
        actions
    }

    /// Parses bytes up to the first [`Action::Complete`] or the name of a console, which must be answered before the rest is parsed, and
    /// removes them from `bytes`.
    pub fn step(&mut self, bytes: &mut &[u8]) -> Vec<Action> {
        let Some(EscapePrefix([first, second])) = self.prefix else {
            return vec![Action::Input(std::mem::take(bytes).to_vec())];
        };
        let mut actions = Actions::default();
        while let Some((&byte, rest)) = bytes.split_first() {
            *bytes = rest;
            self.state = match self.state {
                State::Typing if byte == first => State::Prefix,
                State::Typing => {
                    actions.typed(&[byte]);
                    State::Typing
                }
                State::Prefix if byte == second => State::Command,
                State::Prefix if byte == first => {
                    actions.typed(&[first]);
                    State::Prefix
                }
                State::Prefix => {
                    actions.typed(&[first, byte]);
                    State::Typing
                }
                State::Line(asked) => self.edit_line(asked, byte, &mut actions),
                State::Key(0) if matches!(byte, b'[' | b'O') => State::Key(byte),
                State::Key(b'[') if matches!(byte, b'0'..=b'9' | b';') => State::Key(b'['),
                State::Key(b'[') if byte.is_ascii_alphabetic() || byte == b'~' => State::Typing,
                State::Key(b'O') if b"ABCDFHPQRS".contains(&byte) => State::Typing,
                State::Key(held) => {
                    if held != 0 {
                        actions.typed(&[held]);
                    }
                    if byte == first {
                        State::Prefix
                    } else {
                        actions.typed(&[byte]);
                        State::Typing
                    }
                }
                State::Octal(digits, value) => octal(digits, value, byte, &mut actions),
                state => command(state, byte, &mut actions),
            };
            if let Some(Action::Complete(..) | Action::Line(Prompt::Console, _)) = actions.0.last() {
                break;
            }
        }
        actions.0
    }

    /// Whether the prefix's first character is held back because its second may follow.
    pub fn holds_prefix(&self) -> bool {
        self.state == State::Prefix
    }

    /// Cancels an incomplete command. Returns its bytes for the device; a line that the user was editing was never meant for it.
    pub fn release(&mut self) -> Vec<u8> {
        let Some(EscapePrefix([first, second])) = self.prefix else { return Vec::new() };
        self.line.clear();
        match std::mem::replace(&mut self.state, State::Typing) {
            State::Typing | State::Line(_) | State::Key(0) => Vec::new(),
            State::Key(held) => vec![held],
            State::Prefix => vec![first],
            State::Command => vec![first, second],
            State::Break => vec![first, second, b'l'],
            State::Modem => vec![first, second, b'M'],
            State::Octal(0, _) => vec![first, second, b'\\'],
            // Two digits at most: end of input completes them.
            State::Octal(_, value) => vec![value as u8],
        }
    }

    /// Appends `rest` to the line. Returns the echo.
    pub fn complete(&mut self, rest: &str) -> Vec<u8> {
        let room = MAX_LINE_BYTES - self.line.len();
        let rest = rest.as_bytes();
        let rest = &rest[..rest.len().min(room)];
        self.line.extend_from_slice(rest);
        rest.to_vec()
    }

    fn complete_line(&self, asked: Prompt, actions: &mut Actions) {
        let begun = String::from_utf8_lossy(&self.line).into_owned();
        actions.0.push(Action::Complete(asked, begun));
    }

    /// Another line follows an [`Action::Line`] that was not usable.
    pub fn ask_again(&mut self, asked: Prompt) {
        self.state = State::Line(asked);
    }

    /// Handles one byte of a line. Escape and Control-C cancel it.
    fn edit_line(&mut self, asked: Prompt, byte: u8, actions: &mut Actions) -> State {
        match byte {
            // Return at an empty name lists the consoles, as Tab does, and the user enters a name: ended, it would go to the device.
            b'\t' if asked == Prompt::Console => self.complete_line(asked, actions),
            b'\r' if asked == Prompt::Console && self.line.is_empty() => self.complete_line(asked, actions),
            b'\r' | b'\n' => {
                let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
                actions.0.push(Action::Line(asked, line));
                return State::Typing;
            }
            0x03 | 0x1b => {
                self.line.clear();
                // Further input is sent to the device.
                actions.echo(CANCELLED);
                return if byte == 0x1b { State::Key(0) } else { State::Typing };
            }
            0x08 | 0x7f => {
                if self.erase() {
                    actions.echo(b"\x08 \x08");
                }
            }
            0x15 => {
                while self.erase() {
                    actions.echo(b"\x08 \x08");
                }
            }
            0..0x20 => {}
            _ if self.line.len() == MAX_LINE_BYTES => actions.echo(b"\x07"),
            _ => {
                self.line.push(byte);
                actions.echo(&[byte]);
            }
        }
        State::Line(asked)
    }

    /// Removes the last character, all its bytes.
    fn erase(&mut self) -> bool {
        let mut last = self.line.pop();
        let erased = last.is_some();
        while last.is_some_and(|byte| byte & 0xc0 == 0x80) {
            last = self.line.pop();
        }
        erased
    }
}

/// A character as up to three octal digits. A shorter number ends at the first other character, which is sent too.
fn octal(digits: u8, value: u16, byte: u8, actions: &mut Actions) -> State {
    if let b'0'..=b'7' = byte {
        let value = value * 8 + u16::from(byte - b'0');
        if digits < 2 {
            return State::Octal(digits + 1, value);
        }
        match u8::try_from(value) {
            Ok(character) => actions.typed(&[character]),
            Err(_) => actions.0.push(Action::Unknown(format!("\\{value:o}"))),
        }
    } else if digits == 0 {
        actions.0.push(Action::Unknown(format!("\\{}", byte.escape_ascii())));
    } else {
        actions.typed(&[value as u8]);
        if !matches!(byte, b'\r' | b'\n') {
            actions.typed(&[byte]);
        }
    }
    State::Typing
}

fn command(state: State, byte: u8, actions: &mut Actions) -> State {
    let asks = |asked| (Action::Ask(asked), State::Line(asked));
    let (action, next) = match (state, byte) {
        (State::Command, b'l') => return State::Break,
        (State::Command, b'M') => return State::Modem,
        (State::Command, b'\\') => return State::Octal(0, 0),
        (State::Command, b';') => asks(Prompt::Console),
        (State::Command, b'b') => asks(Prompt::Message),
        (State::Command, b'/') => asks(Prompt::Search),
        (State::Command, b'!') => asks(Prompt::Power),
        (state, 0x1b) => (single_key_command(state, byte), State::Key(0)),
        (state, byte) => (single_key_command(state, byte), State::Typing),
    };
    actions.0.push(action);
    next
}

/// A command without a prompt.
fn single_key_command(state: State, byte: u8) -> Action {
    match (state, byte) {
        (State::Break, b'0'..=b'9') => Action::Break(byte - b'0'),
        (State::Break, b'a'..=b'z') => Action::NamedBreak(byte),
        (State::Break, b'?') => Action::Breaks,
        (State::Break, _) => Action::Unknown(format!("l{}", byte.escape_ascii())),
        (State::Modem, b'p') => Action::Modem(Modem::PulseDtr),
        (State::Modem, b'd') => Action::Modem(Modem::Dtr(false)),
        (State::Modem, b'D') => Action::Modem(Modem::Dtr(true)),
        (State::Modem, b'r') => Action::Modem(Modem::Rts(false)),
        (State::Modem, b'R') => Action::Modem(Modem::Rts(true)),
        (State::Modem, _) => Action::Unknown(format!("M{}", byte.escape_ascii())),
        (_, b'.') => Action::Detach,
        (_, b'?') => Action::Help,
        (_, b'a') => Action::RequestWrite,
        (_, b'f') => Action::TakeOver,
        (_, b'i') => Action::Information,
        (_, b'o') => Action::Reopen,
        (_, b'p') => Action::Replay(60),
        (_, b'r') => Action::Replay(20),
        (_, 0x12) => Action::Replay(1),
        (_, b's') => Action::ReadOnly,
        (_, b't') => Action::Timestamps,
        (_, b'v') => Action::Version,
        (_, b'w' | b'u') => Action::Who,
        (_, b'\r' | b'\n') => Action::Nothing,
        _ => Action::Unknown(byte.escape_ascii().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Action::*;

    fn typed(text: &str) -> Action {
        Input(text.as_bytes().to_vec())
    }

    fn echo(text: &str) -> Action {
        Echo(text.as_bytes().to_vec())
    }

    fn line(asked: Prompt, text: &str) -> Action {
        Line(asked, text.to_owned())
    }

    fn unknown(characters: &str) -> Action {
        Unknown(characters.to_owned())
    }

    /// Merges adjacent bytes of one kind, which depend on how the input was split.
    fn merged(actions: Vec<Action>) -> Vec<Action> {
        let mut merged: Vec<Action> = Vec::new();
        for action in actions {
            match (merged.last_mut(), action) {
                (Some(Input(before)), Input(bytes)) | (Some(Echo(before)), Echo(bytes)) => {
                    before.extend(bytes)
                }
                (_, action) => merged.push(action),
            }
        }
        merged
    }

    #[test]
    fn every_command_under_every_split() {
        let table: &[(&str, Vec<Action>)] = &[
            ("show version\r", vec![typed("show version\r")]),
            ("\x05c.", vec![Detach]),
            ("a\x05c?b", vec![typed("a"), Help, typed("b")]),
            ("\x05cl0\x05cl9", vec![Break(0), Break(9)]),
            ("\x05cl?", vec![Breaks]),
            ("\x05clx\x05clZ", vec![NamedBreak(b'x'), unknown("lZ")]),
            ("\x05ca\x05cf\x05cs", vec![RequestWrite, TakeOver, ReadOnly]),
            ("\x05cw\x05cu", vec![Who, Who]),
            ("\x05ci\x05cv", vec![Information, Version]),
            ("\x05co\x05ct", vec![Reopen, Timestamps]),
            ("\x05cp\x05cr", vec![Replay(60), Replay(20)]),
            ("\x05c\x12x", vec![Replay(1), typed("x")]),
            ("\x05cMp\x05cMd", vec![Modem(super::Modem::PulseDtr), Modem(super::Modem::Dtr(false))]),
            ("\x05cMD", vec![Modem(super::Modem::Dtr(true))]),
            ("\x05cMr\x05cMR", vec![Modem(super::Modem::Rts(false)), Modem(super::Modem::Rts(true))]),
            ("\x05cMx", vec![unknown("Mx")]),
            ("\x05c\\101b", vec![typed("Ab")]),
            ("\x05c\\005c.", vec![typed("\x05c.")]),
            ("\x05c\\33[", vec![typed("\x1b[")]),
            ("\x05c\\4\r", vec![typed("\x04")]),
            ("\x05c\\777", vec![unknown("\\777")]),
            ("\x05c\\x", vec![unknown("\\x")]),
            ("\x05c;tty1\r", vec![Ask(Prompt::Console), echo("tty1"), line(Prompt::Console, "tty1")]),
            (
                "\x05cbhi\x7f\x7fx\r",
                vec![Ask(Prompt::Message), echo("hi\x08 \x08\x08 \x08x"), line(Prompt::Message, "x")],
            ),
            (
                "\x05cb\u{e9}\x7f\r",
                vec![Ask(Prompt::Message), echo("\u{e9}\x08 \x08"), line(Prompt::Message, "")],
            ),
            (
                "\x05c/ab\x15c\r",
                vec![Ask(Prompt::Search), echo("ab\x08 \x08\x08 \x08c"), line(Prompt::Search, "c")],
            ),
            ("\x05cba\x05c.\r", vec![Ask(Prompt::Message), echo("ac."), line(Prompt::Message, "ac.")]),
            ("\x05c!on\r", vec![Ask(Prompt::Power), echo("on"), line(Prompt::Power, "on")]),
            ("\x05c/x\x1bq", vec![Ask(Prompt::Search), echo("x (cancelled)]\r\n"), typed("q")]),
            ("\x05c/x\x03q", vec![Ask(Prompt::Search), echo("x (cancelled)]\r\n"), typed("q")]),
            ("\x05c\r", vec![Nothing]),
            ("\x05cZ", vec![unknown("Z")]),
            ("\x05c\x1b", vec![unknown("\\x1b")]),
            // Arrow keys, in both modes of the keypad.
            ("\x05c\x1b[Ax", vec![unknown("\\x1b"), typed("x")]),
            ("\x05c/x\x1b[Aq", vec![Ask(Prompt::Search), echo("x (cancelled)]\r\n"), typed("q")]),
            ("\x05c/\x1bOAq", vec![Ask(Prompt::Search), echo(" (cancelled)]\r\n"), typed("q")]),
            ("\x05c/\x1b[3~q", vec![Ask(Prompt::Search), echo(" (cancelled)]\r\n"), typed("q")]),
            ("\x05c/\x1bOK", vec![Ask(Prompt::Search), echo(" (cancelled)]\r\n"), typed("OK")]),
            ("\x05c/\x1b\x05c.", vec![Ask(Prompt::Search), echo(" (cancelled)]\r\n"), Detach]),
            ("\x05x", vec![typed("\x05x")]),
            ("\x05\x05c.", vec![typed("\x05"), Detach]),
            ("x\x05c.\x05", vec![typed("x"), Detach]),
        ];
        for (input, wanted) in table {
            let bytes = input.as_bytes();
            for cut in 0u32..1 << (bytes.len() - 1) {
                let mut machine = EscapeMachine::new(Some(EscapePrefix([5, b'c'])));
                let mut actions = Vec::new();
                let mut from = 0;
                for at in 1..=bytes.len() {
                    if at == bytes.len() || cut & (1 << (at - 1)) != 0 {
                        actions.extend(machine.feed(&bytes[from..at]));
                        from = at;
                    }
                }
                assert_eq!(&merged(actions), wanted, "{input:?} cut by {cut:b}");
            }
        }
    }

    #[test]
    fn the_bytes_of_an_incomplete_command_are_released_once() {
        for (input, held, rest) in [
            ("ls\x05", true, "\x05"),
            ("\x05\x05", true, "\x05"),
            ("\x05c", false, "\x05c"),
            ("\x05cl", false, "\x05cl"),
            ("\x05cM", false, "\x05cM"),
            ("\x05c\\", false, "\x05c\\"),
            ("\x05c\\4", false, "\x04"),
            ("\x05cba message", false, ""),
            ("ls", false, ""),
            ("\x05c.", false, ""),
        ] {
            let mut machine = EscapeMachine::new(Some(EscapePrefix([5, b'c'])));
            machine.feed(input.as_bytes());
            assert_eq!(machine.holds_prefix(), held, "{input:?}");
            assert_eq!(machine.release(), rest.as_bytes(), "{input:?}");
            assert_eq!(machine.release(), b"", "{input:?}: once");
            assert_eq!(machine.feed(b"c."), [typed("c.")], "{input:?}: and is over");
        }
    }

    #[test]
    fn parsing_stops_at_a_tab_until_the_completion_is_there() {
        let mut machine = EscapeMachine::new(Some(EscapePrefix([5, b'c'])));
        let mut bytes: &[u8] = b"\x05c;co\t\rls";
        let asked = machine.step(&mut bytes);
        assert_eq!(asked, [Ask(Prompt::Console), echo("co"), Complete(Prompt::Console, "co".to_owned())]);
        assert_eq!(machine.complete("re-1"), b"re-1");
        assert_eq!(machine.step(&mut bytes), [line(Prompt::Console, "core-1")]);
        assert_eq!(machine.step(&mut bytes), [typed("ls")]);
        assert_eq!(
            machine.feed(b"\x05cba\tb\r"),
            [Ask(Prompt::Message), echo("ab"), line(Prompt::Message, "ab")]
        );
    }

    #[test]
    fn the_length_of_a_line_is_bounded() {
        let mut machine = EscapeMachine::new(Some(EscapePrefix([5, b'c'])));
        machine.feed(b"\x05cb");
        machine.feed(&[b'x'; 10 * MAX_LINE_BYTES]);
        let actions = machine.feed(b"\r");
        assert_eq!(actions, [line(Prompt::Message, &"x".repeat(MAX_LINE_BYTES))]);
    }

    #[test]
    fn without_a_prefix_all_input_goes_to_the_device() {
        let mut machine = EscapeMachine::new(None);
        assert_eq!(machine.feed(b"\x05c."), vec![typed("\x05c.")]);
    }
}
