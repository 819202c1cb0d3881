//! One typed message on a unix socket: a big-endian `u32` length, then that many bytes of JSON. Both the login
//! protocol (`auth::protocol`) and the local socket (`attach`) speak it. A peer is hostile until parsed:
//! a message longer than [`LIMIT`] or one that is not the expected type ends the conversation.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of the longest message: room for the largest public key and a page of prompts, and no more.
pub const LIMIT: usize = 64 * 1024;

/// Why a message could not be sent or understood.
#[derive(Debug, Error)]
pub enum MessageError {
    /// The socket failed.
    #[error("the peer is gone: {0}")]
    Io(#[from] io::Error),
    /// The peer announced more than [`LIMIT`].
    #[error("a message of {0} bytes is longer than the {LIMIT} that are taken")]
    TooLong(usize),
    /// Not JSON, or not of this protocol.
    #[error("a message that this protocol does not have: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// The bytes of one message.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, MessageError> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = frame.len() - 4;
    if length > LIMIT {
        return Err(MessageError::TooLong(length));
    }
    frame[..4].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(frame)
}

fn announced(prefix: [u8; 4]) -> Result<usize, MessageError> {
    match u32::from_be_bytes(prefix) as usize {
        length if length <= LIMIT => Ok(length),
        length => Err(MessageError::TooLong(length)),
    }
}

/// Sends one message.
pub fn send<T: Serialize>(to: &mut impl Write, message: &T) -> Result<(), MessageError> {
    to.write_all(&encode(message)?)?;
    Ok(())
}

/// Receives one message; `None` when the peer has closed in between two.
pub fn receive<T: DeserializeOwned>(from: &mut impl Read) -> Result<Option<T>, MessageError> {
    let mut prefix = [0; 4];
    match from.read(&mut prefix[..1]) {
        Ok(0) => return Ok(None),
        Ok(_) => from.read_exact(&mut prefix[1..])?,
        Err(error) => return Err(error.into()),
    }
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

/// [`receive`] for tokio. Not cancel safe: a message half read is lost.
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
    fn a_message_cut_short_is_an_error_and_not_an_end() {
        let mut wire = Vec::new();
        send(&mut wire, &"whole").unwrap();
        wire.pop();
        assert!(matches!(receive::<String>(&mut wire.as_slice()), Err(MessageError::Io(_))));
    }
}
