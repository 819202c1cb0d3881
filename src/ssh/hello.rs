//! A client's messages before the key exchange: its version line and its `SSH_MSG_KEXINIT` (RFC 4253, sections 4.2 and 7.1). They are read
//! here first, and then passed to russh: they decide which thread serves the connection ([`super::slow_key_exchange`]), and a client that
//! has no algorithm in common with us is reported in the journal.

use std::io;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::refuse::disconnect;

/// Timeout of the KEXINIT after the client's version line; after it, a client is served as if its algorithms were unknown. Under load,
/// unauthenticated clients are not read at once.
const KEXINIT_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout if nothing has arrived after that line: libssh before 0.9 (Debian 10, RHEL 7) sends its KEXINIT when it has ours. Other clients
/// send both at once, or the KEXINIT a round trip later.
const SILENT_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of the longest version line, and of a packet that every implementation must accept (RFC 4253, sections 4.2 and 6.1).
const LINE_LIMIT: usize = 255;
const PACKET_LIMIT: usize = 35_000;
const VERSION_PREFIX: &[u8] = b"SSH-";
/// Versions that have SSH 2 (RFC 4253, section 5.1).
const SERVED_PREFIXES: [&[u8]; 2] = [b"SSH-2.0-", b"SSH-1.99-"];
/// How the header of the PROXY protocol begins, of version 1 and 2 (HAProxy's proxy-protocol.txt).
const PROXY_PREFIXES: [&[u8]; 2] = [b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"];
const KEXINIT: u8 = 20;
const COOKIE: usize = 16;
/// Its name lists: key exchange, host key, and ciphers and MACs for each direction.
const LISTS: usize = 6;

pub(super) const OUR_VERSION: &[u8] = b"SSH-2.0-consoleserver\r\n";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KexInit {
    pub(super) lists: [Vec<String>; LISTS],
}

/// The messages that a client has sent so far.
#[derive(Debug, Default)]
pub(super) struct Hello {
    pub(super) bytes: Vec<u8>,
    /// Length of the version line and the KEXINIT packet.
    pub(super) plain: usize,
    /// Its algorithms, if they arrived in time.
    pub(super) kexinit: Option<KexInit>,
}

/// Why a client's first bytes are rejected. Display is the message for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum NotSsh {
    /// A load balancer that is configured to add a header.
    #[error(
        "the PROXY protocol is not supported: configure the proxy to send no header (HAProxy: remove send-proxy)"
    )]
    Proxy,
    /// SSH 1, or a later one than 2, in sshd's words.
    #[error("Protocol major versions differ.")]
    OtherVersion,
    /// Another protocol, in sshd's words.
    #[error("Invalid SSH identification string.")]
    Other,
}

impl NotSsh {
    fn of(bytes: &[u8]) -> Self {
        if PROXY_PREFIXES.iter().any(|prefix| bytes.starts_with(prefix)) {
            Self::Proxy
        } else if bytes.starts_with(VERSION_PREFIX) && bytes.contains(&b'\n') {
            Self::OtherVersion
        } else {
            Self::Other
        }
    }
}

/// Why there is no key exchange with a client.
#[derive(Debug, Error)]
pub(super) enum HelloError {
    #[error(transparent)]
    NotSsh(#[from] NotSsh),
    #[error(transparent)]
    Io(#[from] io::Error),
}

pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// Whether bytes have arrived that are not read yet.
    fn has_unread(&self) -> bool;
}

impl Hello {
    /// Sends our version line and reads the client's, and its KEXINIT.
    pub(super) async fn exchange(stream: &mut impl Socket) -> Result<Self, HelloError> {
        stream.write_all(OUR_VERSION).await?;
        stream.flush().await?;
        let mut hello = Self::default();
        while !hello.bytes.contains(&b'\n') {
            if hello.bytes.len() > LINE_LIMIT || !VERSION_PREFIX.starts_with(hello.prefix()) {
                return Err(hello.reject(stream).await?.into());
            }
            read_more(stream, &mut hello.bytes).await?;
        }
        if !SERVED_PREFIXES.iter().any(|prefix| hello.bytes.starts_with(prefix)) {
            return Err(hello.reject(stream).await?.into());
        }
        if let Ok(read) = timeout(SILENT_TIMEOUT, hello.read_kexinit(stream)).await {
            read?;
        } else if (hello.has_begun() || stream.has_unread())
            && let Ok(read) = timeout(KEXINIT_TIMEOUT - SILENT_TIMEOUT, hello.read_kexinit(stream)).await
        {
            read?;
        }
        Ok(hello)
    }

    async fn read_kexinit(&mut self, stream: &mut impl Socket) -> io::Result<()> {
        while !self.parse() {
            read_more(stream, &mut self.bytes).await?;
        }
        Ok(())
    }

    /// Whether something follows the version line.
    fn has_begun(&self) -> bool {
        self.bytes.len() > self.plain
    }

    /// Sends the reason. The client of a proxy has received our version line and expects packets.
    async fn reject(&self, stream: &mut impl Socket) -> io::Result<NotSsh> {
        let why = NotSsh::of(&self.bytes);
        let message = match why {
            NotSsh::Proxy => disconnect(&why.to_string()),
            NotSsh::OtherVersion | NotSsh::Other => format!("{why}\r\n").into_bytes(),
        };
        stream.write_all(&message).await?;
        stream.flush().await?;
        Ok(why)
    }

    fn prefix(&self) -> &[u8] {
        &self.bytes[..self.bytes.len().min(VERSION_PREFIX.len())]
    }

    /// The client's version, without the line ending.
    pub(super) fn version(&self) -> String {
        let line = self.bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        String::from_utf8_lossy(line).trim_end().to_owned()
    }

    /// Whether no more input is needed: the KEXINIT is complete, or cannot arrive.
    fn parse(&mut self) -> bool {
        let Some(line) = self.bytes.iter().position(|byte| *byte == b'\n') else { return true };
        let start = line + 1;
        self.plain = start;
        let Some(length) = packet_length(&self.bytes[start..]) else { return false };
        if length > PACKET_LIMIT {
            return true;
        }
        let Some(packet) = self.bytes.get(start..start + length) else { return false };
        self.kexinit = KexInit::read(packet);
        self.plain = start + length;
        true
    }
}

/// Reads more; end of file is an error.
async fn read_more<S: AsyncRead + Unpin>(stream: &mut S, into: &mut Vec<u8>) -> io::Result<()> {
    match stream.read_buf(into).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// Length of the packet that begins here, with its length field.
pub(super) fn packet_length(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_be_bytes(*bytes.first_chunk()?);
    usize::try_from(length).ok()?.checked_add(4)
}

impl KexInit {
    /// Parses an unencrypted packet; `None` if it is another message, or invalid.
    fn read(packet: &[u8]) -> Option<Self> {
        // After the length: the padding length, and the message type.
        let (_padding, payload) = packet.get(4..)?.split_first()?;
        let (kind, rest) = payload.split_first()?;
        let mut rest = rest.get(COOKIE..).filter(|_| *kind == KEXINIT)?;
        let mut lists = [const { Vec::new() }; LISTS];
        for list in &mut lists {
            let (length, after) = rest.split_first_chunk()?;
            let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
            let (names, after) = after.split_at_checked(length)?;
            let names = std::str::from_utf8(names).ok()?;
            *list = names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
            rest = after;
        }
        Some(Self { lists })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A KEXINIT as a client sends it, with these lists.
    pub(crate) fn packet(lists: [&str; LISTS]) -> Vec<u8> {
        let mut payload = vec![KEXINIT];
        payload.extend([7; COOKIE]);
        for list in lists.into_iter().chain(["none", "none", "", ""]) {
            payload.extend(u32::try_from(list.len()).unwrap().to_be_bytes());
            payload.extend(list.as_bytes());
        }
        payload.extend([0; 5]);
        let padding = 8 + (8 - (5 + payload.len()) % 8) % 8;
        let mut packet = u32::try_from(1 + payload.len() + padding).unwrap().to_be_bytes().to_vec();
        packet.push(padding as u8);
        packet.extend(payload);
        packet.resize(packet.len() + padding, 0);
        packet
    }

    impl Socket for tokio::io::DuplexStream {
        fn has_unread(&self) -> bool {
            false
        }
    }

    const LISTS_OF_A_CLIENT: [&str; LISTS] = ["a,b", "c", "d", "d", "e,f", "e"];

    #[tokio::test]
    async fn the_version_and_the_lists_are_read_in_every_split() {
        let mut all = b"SSH-2.0-client_1.0 comment\r\n".to_vec();
        all.extend(packet(LISTS_OF_A_CLIENT));
        let plain = all.len();
        all.extend(b"more");
        for cut in [1, 7, 27, 28, 29, 40, plain - 1] {
            let (mut ours, mut theirs) = tokio::io::duplex(64 * 1024);
            let (first, second) = all.split_at(cut);
            theirs.write_all(first).await.unwrap();
            let exchange = Hello::exchange(&mut ours);
            let rest = async {
                tokio::task::yield_now().await;
                theirs.write_all(second).await.unwrap();
            };
            let (hello, ()) = tokio::join!(exchange, rest);
            let hello = hello.unwrap();
            assert_eq!(hello.version(), "SSH-2.0-client_1.0 comment");
            assert_eq!(hello.plain, plain, "{cut}");
            let kexinit = hello.kexinit.unwrap();
            assert_eq!(kexinit.lists[0], ["a", "b"]);
            assert_eq!(kexinit.lists[5], ["e"]);
        }
    }

    #[tokio::test]
    async fn an_invalid_kexinit_is_passed_on_and_other_protocols_are_rejected() {
        let mut broken = b"SSH-2.0-x\n".to_vec();
        broken.extend(packet(LISTS_OF_A_CLIENT));
        // The first list is longer than the packet.
        broken[10 + 6 + COOKIE] = 0xff;
        for bytes in [&broken[..], b"SSH-2.0-x\n\xff\xff\xff\xff"] {
            let (mut ours, mut theirs) = tokio::io::duplex(64 * 1024);
            theirs.write_all(bytes).await.unwrap();
            let hello = Hello::exchange(&mut ours).await.unwrap();
            assert_eq!((hello.kexinit, &hello.bytes[..]), (None, bytes));
        }
        let long = [&b"SSH-2.0-"[..], &[b'x'; 300]].concat();
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\n", b"\x16\x03\x01", &long] {
            let (mut ours, mut theirs) = tokio::io::duplex(64 * 1024);
            theirs.write_all(bytes).await.unwrap();
            let rejected = Hello::exchange(&mut ours).await.unwrap_err();
            assert!(matches!(rejected, HelloError::NotSsh(NotSsh::Other)), "{bytes:?}: {rejected}");
        }
        let (mut ours, mut theirs) = tokio::io::duplex(64 * 1024);
        theirs.write_all(b"SSH-2.0-x\r\n").await.unwrap();
        theirs.shutdown().await.unwrap();
        let ended = Hello::exchange(&mut ours).await.unwrap_err();
        let HelloError::Io(ended) = ended else { panic!("{ended}") };
        assert_eq!(ended.kind(), io::ErrorKind::UnexpectedEof);
    }
}
