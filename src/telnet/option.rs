//! Negotiation of options without loops: the Q method (RFC 1143). Options are requested once, at the start,
//! and never disabled by this side, so only three of its six states remain, and no request is queued.

use super::{IAC, Role};

const BINARY: u8 = 0;
const ECHO: u8 = 1;
const SUPPRESS_GO_AHEAD: u8 = 3;
pub(super) const COM_PORT: u8 = 44;

/// A negotiation command (RFC 854).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Will,
    Wont,
    Do,
    Dont,
}

impl Verb {
    pub(super) fn decode(byte: u8) -> Option<Self> {
        match byte {
            251 => Some(Self::Will),
            252 => Some(Self::Wont),
            253 => Some(Self::Do),
            254 => Some(Self::Dont),
            _ => None,
        }
    }

    fn encode(self, option: u8, out: &mut Vec<u8>) {
        let byte = match self {
            Self::Will => 251,
            Self::Wont => 252,
            Self::Do => 253,
            Self::Dont => 254,
        };
        out.extend([IAC, byte, option]);
    }
}

/// The side that uses an option: for BINARY, whether this end or the peer sends binary data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Us,
    Peer,
}

impl Side {
    /// Requests or accepts an option, or disables or rejects it.
    fn verb(self, on: bool) -> Verb {
        match (self, on) {
            (Self::Us, true) => Verb::Will,
            (Self::Us, false) => Verb::Wont,
            (Self::Peer, true) => Verb::Do,
            (Self::Peer, false) => Verb::Dont,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    No,
    Requested,
    Yes,
}

#[derive(Debug)]
struct Negotiated {
    option: u8,
    side: Side,
    /// Whether it is requested at the start; otherwise it is only accepted.
    request: bool,
    state: State,
}

/// The supported options. All others are rejected.
#[derive(Debug)]
pub(super) struct Options(Vec<Negotiated>);

impl Options {
    pub(super) fn new(role: Role, com_port: bool) -> Self {
        // The server echoes: the device does, and the client must not echo locally.
        let (echo, com_port_side) = match role {
            Role::Client => (Side::Peer, Side::Us),
            Role::Server => (Side::Us, Side::Peer),
        };
        let entry = |option, side, request| Negotiated { option, side, request, state: State::No };
        let mut options = vec![
            entry(BINARY, Side::Us, true),
            entry(BINARY, Side::Peer, true),
            entry(SUPPRESS_GO_AHEAD, Side::Us, true),
            entry(SUPPRESS_GO_AHEAD, Side::Peer, true),
            entry(ECHO, echo, role == Role::Server),
        ];
        if com_port {
            // RFC 2217: the client sends WILL and the server DO. pyserial's client requests both and accepts
            // either.
            options.push(entry(COM_PORT, com_port_side, true));
            let other = if com_port_side == Side::Us { Side::Peer } else { Side::Us };
            options.push(entry(COM_PORT, other, false));
        }
        Self(options)
    }

    pub(super) fn start(&mut self, out: &mut Vec<u8>) {
        for entry in self.0.iter_mut().filter(|entry| entry.request && entry.state == State::No) {
            entry.state = State::Requested;
            entry.side.verb(true).encode(entry.option, out);
        }
    }

    /// Processes a negotiation and appends the reply, if it needs one. Returns whether the peer has rejected
    /// the COM port control option.
    pub(super) fn receive(&mut self, verb: Verb, option: u8, out: &mut Vec<u8>) -> bool {
        let (side, on) = match verb {
            Verb::Will => (Side::Peer, true),
            Verb::Wont => (Side::Peer, false),
            Verb::Do => (Side::Us, true),
            Verb::Dont => (Side::Us, false),
        };
        let Some(entry) = self.0.iter_mut().find(|entry| entry.option == option && entry.side == side) else {
            if on {
                side.verb(false).encode(option, out);
            }
            return false;
        };
        let before = entry.state;
        entry.state = if on { State::Yes } else { State::No };
        // A reply to a request is not replied to, nor is a request for the present state: this prevents
        // loops.
        if (before == State::No && on) || (before == State::Yes && !on) {
            side.verb(on).encode(option, out);
        }
        before == State::Requested && !on && option == COM_PORT
    }

    fn is_on(&self, option: u8, side: Side) -> bool {
        self.0.iter().any(|entry| entry.option == option && entry.side == side && entry.state == State::Yes)
    }

    pub(super) fn is_binary(&self, side: Side) -> bool {
        self.is_on(BINARY, side)
    }

    pub(super) fn com_port(&self) -> bool {
        self.is_on(COM_PORT, Side::Us) || self.is_on(COM_PORT, Side::Peer)
    }
}
