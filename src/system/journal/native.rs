//! Messages to the journal by its native protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>), without waiting for it:
//! its socket holds 512 messages of all programs together while journald is stopped or busy, and a blocking send
//! would then stop the thread that reads the tty. (tracing-journald has a blocking socket that it does not expose.)
//! A message that the socket does not accept is dropped and counted.

use std::fmt;
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata};

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";

#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    to: SocketAddrUnix,
    /// `SYSLOG_IDENTIFIER=` and `CONSOLE_PORT=`, which are the same in each message until the port is renamed.
    always: RwLock<Vec<u8>>,
    program: &'static str,
    dropped: AtomicU64,
}

impl Journal {
    /// A connection under the name `program`; no message has been sent yet.
    pub(super) fn new(program: &'static str, port: Option<&str>) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let always = RwLock::new(always(program, port));
        Ok(Self { socket, to: SocketAddrUnix::new(SOCKET)?, always, program, dropped: AtomicU64::new(0) })
    }

    /// Renames the port in later messages.
    pub(super) fn set_port(&self, port: &str) {
        *self.always.write().unwrap_or_else(PoisonError::into_inner) = always(self.program, Some(port));
    }

    fn put_always(&self, record: &mut Vec<u8>) {
        record.extend_from_slice(&self.always.read().unwrap_or_else(PoisonError::into_inner));
    }

    /// Reports how many messages were dropped, if there are any and the journal accepts messages again; false while it
    /// does not.
    pub(super) fn report_dropped(&self) -> bool {
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped == 0 {
            return true;
        }
        let mut record = Vec::with_capacity(256);
        put(&mut record, "PRIORITY", &[priority(Level::WARN)]);
        self.put_always(&mut record);
        put(&mut record, "MESSAGE", super::dropped(dropped, "the journal").as_bytes());
        if self.send(&record).is_err() {
            return false;
        }
        // Not stored as 0: another thread may have counted more in between.
        self.dropped.fetch_sub(dropped, Ordering::Relaxed);
        true
    }

    pub(super) fn log(&self, event: &Event<'_>) {
        let mut record = Record(Vec::with_capacity(512));
        record.begin(event.metadata());
        self.put_always(&mut record.0);
        event.record(&mut record);
        // The dropped messages came before this one.
        if !self.report_dropped() || self.send(&record.0).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends one record, or returns why it was not accepted. Never blocks.
    fn send(&self, record: &[u8]) -> io::Result<()> {
        match self.socket.send_to(record, SOCKET) {
            Ok(_) => Ok(()),
            Err(error) if error.raw_os_error() == Some(nix::libc::EMSGSIZE) => self.send_sealed(record),
            Err(error) => Err(error),
        }
    }

    /// A record that is longer than a datagram: in a sealed memfd.
    fn send_sealed(&self, record: &[u8]) -> io::Result<()> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file: OwnedFd = memfd_create("consoleserver-journal", flags)?;
        let mut file = std::fs::File::from(file);
        file.write_all(record)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [file.as_fd()];
        if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg_addr(&self.socket, &self.to, &[IoSlice::new(&[])], &mut control, flags)?;
        Ok(())
    }
}

fn always(program: &str, port: Option<&str>) -> Vec<u8> {
    let mut always = Vec::new();
    put(&mut always, "SYSLOG_IDENTIFIER", program.as_bytes());
    if let Some(port) = port {
        put(&mut always, "CONSOLE_PORT", port.as_bytes());
    }
    always
}

/// One message in journald's format.
struct Record(Vec<u8>);

impl Record {
    fn begin(&mut self, metadata: &Metadata<'_>) {
        let is_notice = metadata.target() == super::NOTICE;
        put(&mut self.0, "PRIORITY", &[if is_notice { b'5' } else { priority(*metadata.level()) }]);
        put(&mut self.0, "TARGET", metadata.target().as_bytes());
        if let Some(file) = metadata.file() {
            put(&mut self.0, "CODE_FILE", file.as_bytes());
        }
        if let Some(line) = metadata.line() {
            put(&mut self.0, "CODE_LINE", line.to_string().as_bytes());
        }
    }
}

impl Visit for Record {
    fn record_str(&mut self, field: &Field, value: &str) {
        put(&mut self.0, &field.name().to_uppercase(), value.as_bytes());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// The priorities of `man 3 syslog`, as digits.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => b'3',
        Level::WARN => b'4',
        Level::INFO => b'6',
        Level::DEBUG | Level::TRACE => b'7',
    }
}

/// A field with its length, so that its value may have any bytes in it.
fn put(record: &mut Vec<u8>, name: &str, value: &[u8]) {
    record.extend_from_slice(name.as_bytes());
    record.push(b'\n');
    record.extend_from_slice(&(value.len() as u64).to_le_bytes());
    record.extend_from_slice(value);
    record.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_name_length_and_value() {
        let mut record = Vec::new();
        put(&mut record, "MESSAGE", b"two\nlines");
        assert_eq!(record, b"MESSAGE\n\x09\0\0\0\0\0\0\0two\nlines\n");
    }
}
