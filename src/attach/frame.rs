//! The frames that the port sends after `Connected`: a byte for the kind, a big-endian `u32` length, and that many bytes of any value. So
//! a client without a terminal gets notices separate from device output, and learns how its session ended. The other direction is
//! plain bytes.

use std::io;

/// Longest frame that a client accepts; the port sends a few KiB more than 32 at most.
const MAX_FRAME_BYTES: usize = 64 * 1024;
/// Bytes before the content.
const HEADER_BYTES: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Output,
    /// Standard error.
    Notice,
    /// The port closed the session, and has printed the reason.
    Closed,
    Detached,
    /// The user switches to the console of this name.
    Switched,
    /// The command ended with this exit code, one byte.
    Exit,
    /// The user detached, and not all of the input was sent; the port has printed the reason.
    Unsent,
    /// An administrator disconnected the user; the port has printed a notice.
    Disconnected,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Output,
        Self::Notice,
        Self::Closed,
        Self::Detached,
        Self::Switched,
        Self::Exit,
        Self::Unsent,
        Self::Disconnected,
    ];
}

/// Encodes a frame of at most [`MAX_FRAME_BYTES`].
pub fn encode(kind: Kind, bytes: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER_BYTES + bytes.len());
    frame.push(kind as u8);
    frame.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    frame.extend_from_slice(bytes);
    frame
}

/// Decodes frames from received bytes.
#[derive(Debug, Default)]
pub struct Frames {
    received: Vec<u8>,
}

impl Frames {
    pub fn receive(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// The next complete frame. Fails on an invalid header.
    pub fn next_frame(&mut self) -> io::Result<Option<(Kind, Vec<u8>)>> {
        let Some((header, rest)) = self.received.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let [kind, length @ ..] = *header;
        let length = u32::from_be_bytes(length) as usize;
        let kind =
            Kind::ALL.into_iter().find(|known| *known as u8 == kind).filter(|_| length <= MAX_FRAME_BYTES);
        let kind = kind.ok_or_else(|| io::Error::other("invalid frame from the port"))?;
        let Some(content) = rest.get(..length).map(<[u8]>::to_vec) else { return Ok(None) };
        self.received.drain(..HEADER_BYTES + length);
        Ok(Some((kind, content)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_decoded_in_every_split() {
        let every_byte: Vec<u8> = (0..=255).collect();
        let mut wire = encode(Kind::Output, &every_byte);
        wire.extend(encode(Kind::Notice, b"[words]\n"));
        wire.extend(encode(Kind::Closed, b""));
        for size in [1, 3, wire.len()] {
            let mut frames = Frames::default();
            let mut decoded = Vec::new();
            for piece in wire.chunks(size) {
                frames.receive(piece);
                decoded.extend(std::iter::from_fn(|| frames.next_frame().unwrap()));
            }
            let wanted = [
                (Kind::Output, every_byte.clone()),
                (Kind::Notice, b"[words]\n".to_vec()),
                (Kind::Closed, Vec::new()),
            ];
            assert_eq!(decoded, wanted, "in pieces of {size}");
        }
    }

    #[test]
    fn an_unknown_kind_or_an_oversized_length_is_an_error() {
        for wire in [[9, 0, 0, 0, 0], [0, 0x40, 0, 0, 0]] {
            let mut frames = Frames::default();
            frames.receive(&wire);
            assert!(frames.next_frame().is_err(), "{wire:?}");
        }
    }
}
