//! The escape machine: finds conserver's escape commands (`^Ec.`) in what is typed. Pure: bytes in, [`Action`]s out, the
//! same however the bytes are split. Nothing of a command reaches the device; a prefix that no command
//! follows is passed on.

use crate::config::EscapePrefix;

/// What the typed bytes mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// For the device.
    Type(Vec<u8>),
    /// `.`: leave.
    Leave,
    /// `?`: the list of commands.
    Help,
    /// `l0`: send a break.
    Break,
    /// `a`: write, if nobody does.
    Attach,
    /// `f`: write, whoever does.
    Force,
    /// `s`: watch only.
    Spy,
    /// `w` and `u`: who is here.
    Who,
    /// Return or newline: nothing, a command begun by mistake.
    Nothing,
    /// Not a command; its characters.
    Unknown(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Typing,
    /// The prefix's first character was typed, and is held back.
    Prefix,
    Command,
    /// `l`: which break?
    BreakOf,
}

/// The machine of one session.
#[derive(Debug)]
pub struct EscapeMachine {
    prefix: Option<EscapePrefix>,
    state: State,
}

impl EscapeMachine {
    /// A machine with this prefix; without one everything is typed.
    pub fn new(prefix: Option<EscapePrefix>) -> Self {
        Self { prefix, state: State::Typing }
    }

    /// What these bytes mean, after those before.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Action> {
        let Some(EscapePrefix([first, second])) = self.prefix else {
            return vec![Action::Type(bytes.to_vec())];
        };
        let mut actions = Vec::new();
        let mut typed = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            match self.state {
                State::Typing if byte == first => self.state = State::Prefix,
                State::Typing => typed.push(byte),
                State::Prefix if byte == second => self.state = State::Command,
                State::Prefix if byte == first => typed.push(first),
                State::Prefix => {
                    typed.extend([first, byte]);
                    self.state = State::Typing;
                }
                State::Command if byte == b'l' => self.state = State::BreakOf,
                State::Command | State::BreakOf => {
                    if !typed.is_empty() {
                        actions.push(Action::Type(std::mem::take(&mut typed)));
                    }
                    actions.push(command(self.state, byte));
                    self.state = State::Typing;
                }
            }
        }
        if !typed.is_empty() {
            actions.push(Action::Type(typed));
        }
        actions
    }
}

fn command(state: State, byte: u8) -> Action {
    match (state, byte) {
        (State::BreakOf, b'0') => Action::Break,
        (State::BreakOf, _) => Action::Unknown(format!("l{}", byte.escape_ascii())),
        (_, b'.') => Action::Leave,
        (_, b'?') => Action::Help,
        (_, b'a') => Action::Attach,
        (_, b'f') => Action::Force,
        (_, b's') => Action::Spy,
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
        Type(text.as_bytes().to_vec())
    }

    /// Adjacent `Type`s are one: how they are cut depends on how the bytes came.
    fn merged(actions: Vec<Action>) -> Vec<Action> {
        let mut merged: Vec<Action> = Vec::new();
        for action in actions {
            match (merged.last_mut(), action) {
                (Some(Type(before)), Type(bytes)) => before.extend(bytes),
                (_, action) => merged.push(action),
            }
        }
        merged
    }

    #[test]
    fn every_command_under_every_split() {
        let table: &[(&str, Vec<Action>)] = &[
            ("show version\r", vec![typed("show version\r")]),
            ("\x05c.", vec![Leave]),
            ("a\x05c?b", vec![typed("a"), Help, typed("b")]),
            ("\x05cl0", vec![Break]),
            ("\x05clx", vec![Unknown("lx".to_owned())]),
            ("\x05ca\x05cf\x05cs", vec![Attach, Force, Spy]),
            ("\x05cw\x05cu", vec![Who, Who]),
            ("\x05c\r", vec![Nothing]),
            ("\x05cZ", vec![Unknown("Z".to_owned())]),
            ("\x05c\x1b", vec![Unknown("\\x1b".to_owned())]),
            ("\x05x", vec![typed("\x05x")]),
            ("\x05\x05c.", vec![typed("\x05"), Leave]),
            ("x\x05c.\x05", vec![typed("x"), Leave]),
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
    fn without_a_prefix_everything_is_typed() {
        let mut machine = EscapeMachine::new(None);
        assert_eq!(machine.feed(b"\x05c."), vec![typed("\x05c.")]);
    }
}
