//! Negotiation of options without loops: the Q method (RFC 1143). Options are requested once, at the begin,
//! and never given up by this side, so that of its six states three are left, and no request is ever queued.

use super::{IAC, Role};

const BINARY: u8 = 0;
const ECHO: u8 = 1;
const SUPPRESS_GO_AHEAD: u8 = 3;
pub(super) const COM_PORT: u8 = 44;

/// A negotiation's verb (RFC 854).
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

/// Whose use of an option: of BINARY for example, whether this end or the peer sends binary data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Us,
    Peer,
}

impl Side {
    /// Asks for an option, or agrees to it; asks for its end, or refuses it.
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

/// An option at one side.
#[derive(Debug)]
struct Negotiated {
    option: u8,
    side: Side,
    /// Requested at the begin; otherwise only agreed to.
    request: bool,
    state: State,
}

/// The options that are used. All others are refused.
#[derive(Debug)]
pub(super) struct Options(Vec<Negotiated>);

impl Options {
    pub(super) fn new(role: Role, com_port: bool) -> Self {
        // The server echoes, which is: the device does, and a client does not echo locally.
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
            // RFC 2217: the client sends WILL and the server DO. pyserial's client asks for DO and WILL, and
            // takes either.
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

    /// Takes a negotiation, and appends the answer that it needs. Whether the peer has refused the COM port
    /// control option.
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
        // An answer to a request is not answered, nor is what is so already: this is what keeps two ends from
        // a loop.
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
