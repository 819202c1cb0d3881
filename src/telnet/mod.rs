//! Telnet (RFC 854) with binary transmission (RFC 856) and the COM port control option (RFC 2217), for both
//! roles. Pure: bytes in, [`Event`]s and the bytes of the replies out.
//!
//! The peer is hostile. Memory is bounded by the input of one call: every byte yields at most one event,
//! every negotiation of three bytes at most one reply of three bytes, and a subnegotiation is kept up to
//! [`MAX_SUBNEGOTIATION_BYTES`]. A caller writes the replies of one [`Telnet::receive`] before it reads
//! again, so a peer that does not read its replies is not read from either.
//!
//! Use by a client:
//!
//! ```text
//! use consoleserver::telnet::{Command, Event, Role, Telnet};
//! let mut out = Vec::new();
//! let mut telnet = Telnet::new(Role::Client, true);
//! telnet.start(&mut out);                                 // to be written to the socket, as is all that follows in `out`
//! let events = telnet.receive(b"\xff\xfd\x2c", &mut out); // IAC DO COM-PORT-OPTION
//! assert_eq!(events, [Event::ComPort(true)]);
//! telnet.command(&Command::Baud(115_200), &mut out);      // the server answers with Event::Command(Command::Baud(…))
//! telnet.data(b"to the device", &mut out);
//! ```

mod com_port;
mod option;
mod parser;
#[cfg(test)]
mod tests;

pub use com_port::{Command, control, line_state, modem_state};
use option::{Options, Side};
use parser::{Parser, Token};

/// Limit of bytes of a subnegotiation; a longer one is discarded. The longest in use is the text of a
/// signature.
pub const MAX_SUBNEGOTIATION_BYTES: usize = 256;

/// Interpret as command (RFC 854).
const IAC: u8 = 255;
const BRK: u8 = 243;

/// The role of this end of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It has connected to the peer and uses the peer's serial line.
    Client,
    /// It owns a serial line, which the peer uses.
    Server,
}

impl Role {
    fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Bytes of the serial line.
    Data(Vec<u8>),
    /// IAC BRK: a break, of no particular length.
    Break,
    /// Whether both ends use the COM port control option from now on. `false` also if the peer rejects it.
    ComPort(bool),
    /// A command of a client, or the reply or the notification of a server.
    Command(Command),
}

/// One end of a telnet connection.
#[derive(Debug)]
pub struct Telnet {
    role: Role,
    parser: Parser,
    options: Options,
}

impl Telnet {
    /// A connection that negotiates the COM port control option, or rejects it.
    pub fn new(role: Role, com_port: bool) -> Self {
        Self { role, parser: Parser::default(), options: Options::new(role, com_port) }
    }

    /// Requests the options, at the start of a connection.
    pub fn start(&mut self, out: &mut Vec<u8>) {
        self.options.start(out);
    }

    /// Processes bytes from the peer, in pieces of any size. Replies to negotiations are appended to `out`.
    pub fn receive(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Vec<Event> {
        let mut events = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let binary = self.options.is_binary(Side::Peer);
            let (taken, token) = self.parser.next(rest, binary);
            rest = &rest[taken..];
            match token {
                None => {}
                Some(Token::Data(data)) => match events.last_mut() {
                    Some(Event::Data(before)) => before.extend_from_slice(data),
                    _ => events.push(Event::Data(data.to_vec())),
                },
                Some(Token::Command(BRK)) => events.push(Event::Break),
                // The other commands are for the user of a terminal: interrupt, erase line, go ahead. A
                // serial line has none of them.
                Some(Token::Command(_)) => {}
                Some(Token::Negotiation(verb, option)) => {
                    let before = self.com_port();
                    let refused = self.options.receive(verb, option, out);
                    let now = self.com_port();
                    if now != before || (refused && !now) {
                        events.push(Event::ComPort(now));
                    }
                }
                Some(Token::Subnegotiation(bytes)) => {
                    let command = self.com_port().then(|| Command::decode(self.role.peer(), &bytes));
                    events.extend(command.flatten().map(Event::Command));
                }
            }
        }
        events
    }

    /// Whether commands of the COM port control option may be sent.
    pub fn com_port(&self) -> bool {
        self.options.com_port()
    }

    /// Appends bytes of the serial line, encoded for the peer.
    pub fn data(&self, bytes: &[u8], out: &mut Vec<u8>) {
        let binary = self.options.is_binary(Side::Us);
        out.reserve(bytes.len());
        for (at, &byte) in bytes.iter().enumerate() {
            out.push(byte);
            match byte {
                IAC => out.push(IAC),
                // RFC 854: outside of binary transmission, CR is followed by LF or NUL.
                b'\r' if !binary && bytes.get(at + 1) != Some(&b'\n') => out.push(0),
                _ => {}
            }
        }
    }

    /// Appends IAC BRK. Where the COM port control option is used, a break of a certain length is
    /// [`control::BREAK_ON`], and later [`control::BREAK_OFF`].
    pub fn send_break(&self, out: &mut Vec<u8>) {
        out.extend([IAC, BRK]);
    }

    /// Appends a command of a client, or a reply or notification of a server. The caller must wait for
    /// [`Event::ComPort`].
    pub fn command(&self, command: &Command, out: &mut Vec<u8>) {
        command.encode(self.role, out);
    }
}

#[cfg(test)]
impl Telnet {
    /// Whether bytes of the serial line pass unchanged in both directions.
    fn is_binary(&self) -> bool {
        self.options.is_binary(Side::Us) && self.options.is_binary(Side::Peer)
    }

    fn parser_bytes(&self) -> usize {
        self.parser.memory()
    }
}
