//! Rejects an SSH client with a reason before the key exchange: a version line and an unencrypted `SSH_MSG_DISCONNECT` (RFC 4253,
//! sections 4.2, 6 and 11.1), whose text OpenSSH and PuTTY print.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Timeout for the client to receive the message and close.
const REJECT_TIMEOUT: Duration = Duration::from_secs(5);
/// `SSH_MSG_DISCONNECT` and its reason `SSH_DISCONNECT_SERVICE_NOT_AVAILABLE`.
const DISCONNECT: u8 = 1;
const NOT_AVAILABLE: u32 = 7;
/// Unencrypted packets are padded to this, by at least 4 bytes.
const BLOCK: usize = 8;

/// Sends `why` and closes.
pub async fn refuse(mut client: TcpStream, why: &str) {
    let conversation = async {
        client.write_all(b"SSH-2.0-consoleserver\r\n").await?;
        client.write_all(&disconnect(why)).await?;
        client.shutdown().await?;
        // Closing with unread bytes would reset the connection, and the message could be lost.
        let mut scratch = [0; 1024];
        while client.read(&mut scratch).await? > 0 {}
        std::io::Result::Ok(())
    };
    let _ = tokio::time::timeout(REJECT_TIMEOUT, conversation).await;
}

pub(super) fn disconnect(why: &str) -> Vec<u8> {
    let mut payload = vec![DISCONNECT];
    payload.extend(NOT_AVAILABLE.to_be_bytes());
    payload.extend((why.len() as u32).to_be_bytes());
    payload.extend(why.as_bytes());
    payload.extend(0u32.to_be_bytes());
    let unpadded = 4 + 1 + payload.len();
    let padding = BLOCK + (BLOCK - (unpadded + BLOCK) % BLOCK) % BLOCK;
    let mut packet = ((1 + payload.len() + padding) as u32).to_be_bytes().to_vec();
    packet.push(padding as u8);
    packet.extend(payload);
    packet.resize(packet.len() + padding, 0);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packet_is_padded_to_whole_blocks() {
        for length in 0..40 {
            let packet = disconnect(&"x".repeat(length));
            assert_eq!(packet.len() % BLOCK, 0);
            assert!(packet[4] >= 4);
            assert_eq!(u32::from_be_bytes(packet[..4].try_into().unwrap()) as usize, packet.len() - 4);
        }
    }
}
