//! What stands between the console's bytes and the far end: nothing, or telnet.

use crate::port::Source;
use crate::source::{FromDialer, Request};

/// A protocol to the far end.
#[derive(Debug)]
pub(super) enum Codec {
    /// Plain bytes. A break is this text, if there is one.
    Plain(Option<Vec<u8>>),
}

impl Codec {
    pub(super) fn of(_source: &Source, break_text: &Option<Vec<u8>>, _request: &Request) -> Self {
        Self::Plain(break_text.clone())
    }

    /// Bytes that are sent first.
    pub(super) fn begin(&mut self, _out: &mut Vec<u8>) {}

    /// What the far end has sent: the console's bytes, an answer to the far end, and what the port is told.
    pub(super) fn received(
        &mut self,
        bytes: &[u8],
        console: &mut Vec<u8>,
        _answer: &mut Vec<u8>,
        _events: &mut Vec<FromDialer>,
    ) {
        console.extend_from_slice(bytes);
    }

    /// Bytes of the port as the far end gets them.
    pub(super) fn typed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(bytes);
    }

    /// A break. A sentence if there is none.
    pub(super) fn send_break(&mut self, _milliseconds: u32, out: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Self::Plain(Some(text)) => out.extend_from_slice(text),
            Self::Plain(None) => {
                return Err("no break was sent: console-dial has no --break for this program".to_owned());
            }
        }
        Ok(())
    }

    /// Other line settings or modem lines than before.
    pub(super) fn requested(&mut self, _request: &Request, _out: &mut Vec<u8>) {}

    /// DTR or else RTS on or off.
    pub(super) fn set_modem(&mut self, _dtr: bool, _on: bool, _out: &mut Vec<u8>) {}
}
