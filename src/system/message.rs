//! One typed message on a unix socket: a big-endian `u32` length, then that many bytes of JSON. Both the login
//! protocol (`auth::protocol`) and the local socket (`attach`) speak it. A peer is hostile until parsed:
//! a message longer than [`MAX_MESSAGE_BYTES`] or one that is not of the expected type ends the connection.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of the longest message: room for the largest public key and a page of prompts.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// Descriptors that are sent together: a session's socket, and the three ends of its program without a terminal.
const MAX_DESCRIPTORS: usize = 4;

/// Why a message could not be sent or received.
#[derive(Debug, Error)]
pub enum MessageError {
    #[error("the peer is gone: {0}")]
    Io(#[from] io::Error),
    #[error("a message of {0} bytes exceeds the limit of {MAX_MESSAGE_BYTES}")]
    TooLong(usize),
    #[error("unknown message: {0}")]
    Malformed(#[from] serde_json::Error),
}

pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, MessageError> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = frame.len() - 4;
    if length > MAX_MESSAGE_BYTES {
        return Err(MessageError::TooLong(length));
    }
    frame[..4].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(frame)
}

fn announced(prefix: [u8; 4]) -> Result<usize, MessageError> {
    match u32::from_be_bytes(prefix) as usize {
        length if length <= MAX_MESSAGE_BYTES => Ok(length),
        length => Err(MessageError::TooLong(length)),
    }
}

pub fn send<T: Serialize>(to: &mut impl Write, message: &T) -> Result<(), MessageError> {
    to.write_all(&encode(message)?)?;
    Ok(())
}

/// Receives one message; `None` if the peer has closed the connection between two messages.
pub fn receive<T: DeserializeOwned>(from: &mut impl Read) -> Result<Option<T>, MessageError> {
    let mut prefix = [0; 4];
    let first = loop {
        match from.read(&mut prefix[..1]) {
            // A socket with a timeout is interrupted by any signal, SIGCONT after a stop among them (signal(7)).
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            first => break first?,
        }
    };
    if first == 0 {
        return Ok(None);
    }
    from.read_exact(&mut prefix[1..])?;
    let mut body = vec![0; announced(prefix)?];
    from.read_exact(&mut body)?;
    Ok(Some(serde_json::from_slice(&body)?))
}

/// [`send`] for tokio.
pub async fn send_async<T: Serialize>(
    to: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> Result<(), MessageError> {
    to.write_all(&encode(message)?).await?;
    Ok(())
}

/// [`receive`] for tokio. Not cancel safe: a message that was received in part is lost.
pub async fn receive_async<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> Result<Option<T>, MessageError> {
    let mut prefix = [0; 4];
    if from.read(&mut prefix[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut prefix[1..]).await?;
    let mut body = vec![0; announced(prefix)?];
    from.read_exact(&mut body).await?;
    Ok(Some(serde_json::from_slice(&body)?))
}

/// Sends descriptors with one byte: at most four (`man 7 unix`, SCM_RIGHTS).
pub fn send_descriptors(to: impl AsFd, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(to, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives what [`send_descriptors`] has sent. The kernel closes further descriptors.
pub fn receive_descriptors(from: impl AsFd) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    recvmsg(from, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let received = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok(received.flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_received_and_the_end_is_seen() {
        let mut wire = Vec::new();
        send(&mut wire, &("two", 2)).unwrap();
        send(&mut wire, &("words", 5)).unwrap();
        let mut wire = wire.as_slice();
        assert_eq!(receive::<(String, u8)>(&mut wire).unwrap(), Some(("two".to_owned(), 2)));
        assert_eq!(receive::<(String, u8)>(&mut wire).unwrap(), Some(("words".to_owned(), 5)));
        assert_eq!(receive::<(String, u8)>(&mut wire).unwrap(), None);
    }

    #[test]
    fn an_announced_gigabyte_is_refused_before_it_is_allocated() {
        let wire = u32::MAX.to_be_bytes();
        let refusal = receive::<String>(&mut wire.as_slice()).unwrap_err();
        assert!(matches!(refusal, MessageError::TooLong(_)), "{refusal}");
    }

    #[test]
    fn a_signal_while_it_waits_is_no_end() {
        struct Interrupted<'a>(bool, &'a [u8]);
        impl Read for Interrupted<'_> {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                match std::mem::replace(&mut self.0, false) {
                    true => Err(io::ErrorKind::Interrupted.into()),
                    false => Read::read(&mut self.1, into),
                }
            }
        }
        let wire = encode(&"whole").unwrap();
        assert_eq!(receive::<String>(&mut Interrupted(true, &wire)).unwrap().unwrap(), "whole");
    }

    #[test]
    fn a_message_cut_short_is_an_error_and_not_an_end() {
        let mut wire = Vec::new();
        send(&mut wire, &"whole").unwrap();
        wire.pop();
        assert!(matches!(receive::<String>(&mut wire.as_slice()), Err(MessageError::Io(_))));
    }

    #[test]
    fn descriptors_arrive_between_two_messages() {
        use std::os::unix::net::UnixStream;
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        send(&mut near, &"before").unwrap();
        send_descriptors(&near, &[writer.as_fd(), near.as_fd()]).unwrap();
        send(&mut near, &"after").unwrap();
        drop(writer);
        assert_eq!(receive::<String>(&mut far).unwrap().unwrap(), "before");
        let mut received = receive_descriptors(&far).unwrap();
        assert_eq!(received.len(), 2);
        assert_eq!(receive::<String>(&mut far).unwrap().unwrap(), "after");
        std::fs::File::from(received.remove(0)).write_all(b"through").unwrap();
        let mut heard = String::new();
        reader.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "through");
    }
}
