//! What the port sends after `Connected`: frames of a byte that says which stream, a big-endian `u32` length, and as many
//! bytes of any value. So what we say reaches a pipe beside the device's bytes, never among them, and the client
//! learns how its session ended. The other way go plain bytes.

use std::io;

/// Bytes of the longest frame that a client takes; the port sends a few KiB more than 32 at most.
const MAX_FRAME_BYTES: usize = 64 * 1024;
/// Bytes before the content.
const HEADER_BYTES: usize = 5;

/// Where a frame's bytes belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Standard output.
    Shown,
    /// Standard error.
    Aside,
    /// Nowhere: the port has ended the session, and has said why.
    Closed,
    /// Nowhere: the user has left.
    Left,
    /// Nowhere: the user goes to the console of this name.
    Moved,
    /// Nowhere: the command has ended with this exit code, one byte.
    Exit,
    /// Nowhere: the user has left, and not all of the input was sent, as the port has said.
    Unsent,
    /// Nowhere: an administrator has ended the session, as the port has said.
    Dismissed,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Shown,
        Self::Aside,
        Self::Closed,
        Self::Left,
        Self::Moved,
        Self::Exit,
        Self::Unsent,
        Self::Dismissed,
    ];
}

/// The frame of these bytes, at most [`MAX_FRAME_BYTES`].
pub fn encode(kind: Kind, bytes: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER_BYTES + bytes.len());
    frame.push(kind as u8);
    frame.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    frame.extend_from_slice(bytes);
    frame
}

/// Takes frames out of what has been received.
#[derive(Debug, Default)]
pub struct Frames {
    received: Vec<u8>,
}

impl Frames {
    /// More has come.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// The next whole frame, once it is there. Fails on what is none.
    pub fn next_frame(&mut self) -> io::Result<Option<(Kind, Vec<u8>)>> {
        let Some((header, rest)) = self.received.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let [kind, length @ ..] = *header;
        let length = u32::from_be_bytes(length) as usize;
        let kind =
            Kind::ALL.into_iter().find(|known| *known as u8 == kind).filter(|_| length <= MAX_FRAME_BYTES);
        let kind = kind.ok_or_else(|| io::Error::other("the port sent what this protocol does not have"))?;
        let Some(content) = rest.get(..length).map(<[u8]>::to_vec) else { return Ok(None) };
        self.received.drain(..HEADER_BYTES + length);
        Ok(Some((kind, content)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_the_socket_cuts_them() {
        let every_byte: Vec<u8> = (0..=255).collect();
        let mut wire = encode(Kind::Shown, &every_byte);
        wire.extend(encode(Kind::Aside, b"[words]\n"));
        wire.extend(encode(Kind::Closed, b""));
        for size in [1, 3, wire.len()] {
            let mut frames = Frames::default();
            let mut found = Vec::new();
            for piece in wire.chunks(size) {
                frames.receive(piece);
                found.extend(std::iter::from_fn(|| frames.next_frame().unwrap()));
            }
            let wanted = [
                (Kind::Shown, every_byte.clone()),
                (Kind::Aside, b"[words]\n".to_vec()),
                (Kind::Closed, Vec::new()),
            ];
            assert_eq!(found, wanted, "in pieces of {size}");
        }
    }

    #[test]
    fn an_unknown_kind_or_an_announced_gigabyte_is_an_error() {
        for wire in [[9, 0, 0, 0, 0], [0, 0x40, 0, 0, 0]] {
            let mut frames = Frames::default();
            frames.receive(&wire);
            assert!(frames.next_frame().is_err(), "{wire:?}");
        }
    }
}
