//! Splits the stream of a peer into data, commands, negotiations and subnegotiations (RFC 854, RFC 855).

use super::option::Verb;
use super::{IAC, MAX_SUBNEGOTIATION_BYTES};

/// Begin and end of a subnegotiation.
pub(super) const SB: u8 = 250;
pub(super) const SE: u8 = 240;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token<'b> {
    Data(&'b [u8]),
    Command(u8),
    Negotiation(Verb, u8),
    Subnegotiation(Vec<u8>),
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Data,
    /// After CR outside of binary transmission.
    CarriageReturn,
    Command,
    Option(Verb),
    Subnegotiation,
    SubnegotiationCommand,
}

#[derive(Debug, Default)]
pub(super) struct Parser {
    state: State,
    /// The bytes of the subnegotiation; one more than [`MAX_SUBNEGOTIATION_BYTES`] if it is too long.
    subnegotiation: Vec<u8>,
}

impl Parser {
    /// The first part of `bytes`, and its length: at least one byte.
    pub(super) fn next<'b>(&mut self, bytes: &'b [u8], binary: bool) -> (usize, Option<Token<'b>>) {
        let byte = bytes[0];
        match self.state {
            State::CarriageReturn => {
                self.state = State::Data;
                match byte {
                    0 => (1, None),
                    _ => self.next(bytes, binary),
                }
            }
            State::Data if byte == IAC => self.enter(State::Command),
            State::Data => {
                let end = bytes.iter().position(|&byte| byte == IAC || (byte == b'\r' && !binary));
                let length = match end {
                    Some(at) if bytes[at] == b'\r' => {
                        self.state = State::CarriageReturn;
                        at + 1
                    }
                    Some(at) => at,
                    None => bytes.len(),
                };
                (length, Some(Token::Data(&bytes[..length])))
            }
            State::Command => self.command(bytes),
            State::Option(verb) => {
                self.state = State::Data;
                (1, Some(Token::Negotiation(verb, byte)))
            }
            State::Subnegotiation if byte == IAC => self.enter(State::SubnegotiationCommand),
            State::Subnegotiation => self.keep(byte),
            State::SubnegotiationCommand => match byte {
                IAC => {
                    self.state = State::Subnegotiation;
                    self.keep(IAC)
                }
                SE => {
                    self.state = State::Data;
                    let kept = std::mem::take(&mut self.subnegotiation);
                    let whole = kept.len() <= MAX_SUBNEGOTIATION_BYTES;
                    (1, whole.then_some(Token::Subnegotiation(kept)))
                }
                // The end of the subnegotiation was lost or not sent.
                _ => self.command(bytes),
            },
        }
    }

    fn enter<'b>(&mut self, state: State) -> (usize, Option<Token<'b>>) {
        self.state = state;
        (1, None)
    }

    fn keep<'b>(&mut self, byte: u8) -> (usize, Option<Token<'b>>) {
        if self.subnegotiation.len() <= MAX_SUBNEGOTIATION_BYTES {
            self.subnegotiation.push(byte);
        }
        (1, None)
    }

    /// The byte after IAC.
    fn command<'b>(&mut self, bytes: &'b [u8]) -> (usize, Option<Token<'b>>) {
        self.subnegotiation = Vec::new();
        self.state = State::Data;
        match bytes[0] {
            IAC => (1, Some(Token::Data(&bytes[..1]))),
            SB => self.enter(State::Subnegotiation),
            byte => match Verb::decode(byte) {
                Some(verb) => self.enter(State::Option(verb)),
                None => (1, Some(Token::Command(byte))),
            },
        }
    }
}

#[cfg(test)]
impl Parser {
    pub(super) fn memory(&self) -> usize {
        self.subnegotiation.capacity()
    }
}
