//! The commands of the COM port control option (RFC 2217). A server replies with the same command, whose code
//! is greater by 100, and the value that is in effect.

use super::option::COM_PORT;
use super::parser::{SB, SE};
use super::{IAC, Role};
use crate::port::{Baud, ByteSize, LineSettings, Parity, StopBits};

/// The code of a server's reply is the client's code plus this.
const SERVER: u8 = 100;

/// Values of [`Command::Control`].
pub mod control {
    pub const FLOW_QUERY: u8 = 0;
    pub const FLOW_NONE: u8 = 1;
    pub const FLOW_XON_XOFF: u8 = 2;
    pub const FLOW_HARDWARE: u8 = 3;
    pub const BREAK_QUERY: u8 = 4;
    pub const BREAK_ON: u8 = 5;
    pub const BREAK_OFF: u8 = 6;
    pub const DTR_QUERY: u8 = 7;
    pub const DTR_ON: u8 = 8;
    pub const DTR_OFF: u8 = 9;
    pub const RTS_QUERY: u8 = 10;
    pub const RTS_ON: u8 = 11;
    pub const RTS_OFF: u8 = 12;
    pub const INBOUND_FLOW_QUERY: u8 = 13;
    pub const INBOUND_FLOW_NONE: u8 = 14;
    pub const INBOUND_FLOW_XON_XOFF: u8 = 15;
    pub const INBOUND_FLOW_HARDWARE: u8 = 16;
    pub const FLOW_DCD: u8 = 17;
    pub const INBOUND_FLOW_DTR: u8 = 18;
    pub const FLOW_DSR: u8 = 19;
}

/// Bits of [`Command::LineState`], those of a 16550's line status register.
pub mod line_state {
    pub const BREAK: u8 = 16;
    pub const FRAMING_ERROR: u8 = 8;
    pub const PARITY_ERROR: u8 = 4;
    pub const OVERRUN_ERROR: u8 = 2;
}

/// Bits of [`Command::ModemState`], those of a 16550's modem status register.
pub mod modem_state {
    pub const CARRIER_DETECT: u8 = 128;
    pub const RING_INDICATOR: u8 = 64;
    pub const DATA_SET_READY: u8 = 32;
    pub const CLEAR_TO_SEND: u8 = 16;
    pub const TRAILING_EDGE_RING: u8 = 4;
}

/// A command. A client sends 0 to query a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A text about the sender; empty to query it. From a peer, any bytes.
    Signature(Vec<u8>),
    Baud(u32),
    DataSize(u8),
    /// 1 none, 2 odd, 3 even, 4 mark, 5 space.
    Parity(u8),
    /// 1 one, 2 two, 3 one and a half.
    StopSize(u8),
    /// Flow control, break, DTR, RTS: see [`control`].
    Control(u8),
    /// From a server: errors and breaks of the line, see [`line_state`]. From a client: a query, which is not
    /// in the RFC.
    LineState(u8),
    /// From a server: the modem lines, see [`modem_state`]. From a client: a query, which is not in the RFC
    /// (pyserial's `poll_modem`).
    ModemState(u8),
    /// The peer must stop sending data.
    Suspend,
    /// The peer may send again.
    Resume,
    /// The bits of the line state that are notified; initially none.
    LineStateMask(u8),
    /// The bits of the modem state that are notified; initially all.
    ModemStateMask(u8),
    /// The buffers to discard: 1 received bytes, 2 bytes to send, 3 both.
    Purge(u8),
}

impl Command {
    pub fn modem_line(dtr: bool, on: bool) -> Self {
        Self::Control(match (dtr, on) {
            (true, true) => control::DTR_ON,
            (true, false) => control::DTR_OFF,
            (false, true) => control::RTS_ON,
            (false, false) => control::RTS_OFF,
        })
    }

    /// Parses a subnegotiation; `None` if it belongs to another option, is unknown or truncated.
    pub(super) fn decode(sender: Role, bytes: &[u8]) -> Option<Self> {
        let (&[option, code], value) = bytes.split_first_chunk::<2>()?;
        let code = match sender {
            Role::Client => code,
            Role::Server => code.checked_sub(SERVER)?,
        };
        let byte = value.first().copied();
        Some(match (option, code) {
            (COM_PORT, 0) => Self::Signature(value.to_vec()),
            (COM_PORT, 1) => Self::Baud(u32::from_be_bytes(*value.first_chunk()?)),
            (COM_PORT, 2) => Self::DataSize(byte?),
            (COM_PORT, 3) => Self::Parity(byte?),
            (COM_PORT, 4) => Self::StopSize(byte?),
            (COM_PORT, 5) => Self::Control(byte?),
            (COM_PORT, 6) => Self::LineState(byte.unwrap_or(0)),
            (COM_PORT, 7) => Self::ModemState(byte.unwrap_or(0)),
            (COM_PORT, 8) => Self::Suspend,
            (COM_PORT, 9) => Self::Resume,
            (COM_PORT, 10) => Self::LineStateMask(byte?),
            (COM_PORT, 11) => Self::ModemStateMask(byte?),
            (COM_PORT, 12) => Self::Purge(byte?),
            _ => return None,
        })
    }

    pub(super) fn encode(&self, sender: Role, out: &mut Vec<u8>) {
        let baud;
        let (code, value): (u8, &[u8]) = match self {
            Self::Signature(text) => (0, text),
            Self::Baud(rate) => {
                baud = rate.to_be_bytes();
                (1, &baud)
            }
            Self::DataSize(value) => (2, std::slice::from_ref(value)),
            Self::Parity(value) => (3, std::slice::from_ref(value)),
            Self::StopSize(value) => (4, std::slice::from_ref(value)),
            Self::Control(value) => (5, std::slice::from_ref(value)),
            Self::LineState(value) => (6, std::slice::from_ref(value)),
            Self::ModemState(value) => (7, std::slice::from_ref(value)),
            Self::Suspend => (8, &[]),
            Self::Resume => (9, &[]),
            Self::LineStateMask(value) => (10, std::slice::from_ref(value)),
            Self::ModemStateMask(value) => (11, std::slice::from_ref(value)),
            Self::Purge(value) => (12, std::slice::from_ref(value)),
        };
        let code = if sender == Role::Server { code + SERVER } else { code };
        out.extend([IAC, SB, COM_PORT, code]);
        for &byte in value {
            out.push(byte);
            if byte == IAC {
                out.push(IAC);
            }
        }
        out.extend([IAC, SE]);
    }

    /// The commands that set or report the line settings. The reply is equal to the command if the server has
    /// applied it.
    pub fn of_settings(settings: &LineSettings) -> [Self; 5] {
        let LineSettings { baud, bytesize, parity, stopbits, .. } = settings;
        let parity = match parity {
            Parity::None => 1,
            Parity::Odd => 2,
            Parity::Even => 3,
            Parity::Mark => 4,
            Parity::Space => 5,
        };
        [
            Self::Baud(baud.get()),
            Self::DataSize(bytesize.bits()),
            Self::Parity(parity),
            Self::StopSize(stopbits.count()),
            Self::Control(flow(settings)),
        ]
    }

    /// The line settings with the ones that this command sets. `None` if it is a query, is not about a
    /// setting, or has a value that no line supports.
    pub fn apply(&self, mut settings: LineSettings) -> Option<LineSettings> {
        match *self {
            Self::Baud(rate) => settings.baud = Baud::try_from(u64::from(rate)).ok()?,
            Self::DataSize(bits) => settings.bytesize = ByteSize::try_from(u64::from(bits)).ok()?,
            Self::Parity(value) => {
                settings.parity = match value {
                    1 => Parity::None,
                    2 => Parity::Odd,
                    3 => Parity::Even,
                    4 => Parity::Mark,
                    5 => Parity::Space,
                    _ => return None,
                }
            }
            Self::StopSize(count) => settings.stopbits = StopBits::try_from(u64::from(count)).ok()?,
            Self::Control(value) => {
                (settings.rtscts, settings.xonxoff) = match value {
                    control::FLOW_NONE => (false, false),
                    control::FLOW_XON_XOFF => (false, true),
                    control::FLOW_HARDWARE => (true, false),
                    _ => return None,
                }
            }
            _ => return None,
        }
        Some(settings)
    }

    /// The server's reply to a command that sets or queries a setting: what is in effect. `None` for other
    /// commands.
    pub fn reply(&self, settings: &LineSettings) -> Option<Self> {
        let [baud, data_size, parity, stop_size, flow_control] = Self::of_settings(settings);
        match *self {
            Self::Baud(_) => Some(baud),
            Self::DataSize(_) => Some(data_size),
            Self::Parity(_) => Some(parity),
            Self::StopSize(_) => Some(stop_size),
            // Linux has no flow control by DCD, DSR or DTR.
            Self::Control(
                control::FLOW_QUERY..=control::FLOW_HARDWARE | control::FLOW_DCD | control::FLOW_DSR,
            ) => Some(flow_control),
            // Linux has one setting for both directions.
            Self::Control(
                control::INBOUND_FLOW_QUERY..=control::INBOUND_FLOW_HARDWARE | control::INBOUND_FLOW_DTR,
            ) => Some(Self::Control(flow(settings) + control::INBOUND_FLOW_QUERY)),
            _ => None,
        }
    }
}

fn flow(settings: &LineSettings) -> u8 {
    match (settings.rtscts, settings.xonxoff) {
        (true, _) => control::FLOW_HARDWARE,
        (false, true) => control::FLOW_XON_XOFF,
        (false, false) => control::FLOW_NONE,
    }
}
