//! Standard error, where a program is not a service: a terminal that was stopped by Ctrl-S, a pipe that is not read or a full
//! socket must not stop a port. What is not accepted immediately is dropped, by whole lines, and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::sync::Mutex;

use nix::libc::{O_NOCTTY, O_NONBLOCK};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};

use crate::system::lock::Lock;

/// Standard error, to which lines are written without waiting for the reader.
#[derive(Debug)]
pub(super) struct Stderr(Mutex<State>);

#[derive(Debug)]
struct State {
    to: Destination,
    /// The rest of a line of which a terminal has accepted the beginning.
    rest: Vec<u8>,
    dropped: u64,
}

#[derive(Debug)]
enum Destination {
    /// A pipe or terminal, opened again: `O_NONBLOCK` on the inherited descriptor would affect the shell, too.
    Own(File),
    /// A socket, which takes a flag with each message.
    Socket,
    /// A pipe or terminal that cannot be opened again: polled before each line.
    Polled,
    /// A file, which always accepts a line.
    File,
}

impl Default for Stderr {
    fn default() -> Self {
        Self(Mutex::new(State { to: Destination::of_stderr(), rest: Vec::new(), dropped: 0 }))
    }
}

impl Destination {
    fn of_stderr() -> Self {
        let kind = std::fs::metadata("/proc/self/fd/2").map(|metadata| metadata.file_type());
        match kind {
            Ok(kind) if kind.is_socket() => Self::Socket,
            Ok(kind) if kind.is_fifo() || io::stderr().is_terminal() => {
                let flags = O_NONBLOCK | O_NOCTTY;
                let own = OpenOptions::new().write(true).custom_flags(flags).open("/proc/self/fd/2");
                own.map_or(Self::Polled, Self::Own)
            }
            _ => Self::File,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let stderr = io::stderr();
        match self {
            Self::Own(file) => file.write(bytes),
            Self::Socket => {
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                Ok(send(std::os::fd::AsRawFd::as_raw_fd(&stderr), bytes, flags)?)
            }
            Self::Polled if !takes(stderr.as_fd())? => Err(io::ErrorKind::WouldBlock.into()),
            Self::Polled | Self::File => stderr.lock().write(bytes),
        }
    }
}

fn takes(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut asked = [PollFd::new(fd, PollFlags::POLLOUT)];
    Ok(poll(&mut asked, PollTimeout::ZERO)? > 0)
}

impl State {
    /// Whether all of it was accepted, or will be, as its beginning was.
    fn line(&mut self, line: &[u8]) -> bool {
        if !self.rest.is_empty() {
            let taken = self.to.write(&self.rest).unwrap_or(0);
            self.rest.drain(..taken);
            if !self.rest.is_empty() {
                return false;
            }
        }
        match self.to.write(line) {
            Ok(0) | Err(_) => false,
            Ok(taken) => {
                self.rest = line[taken..].to_vec();
                true
            }
        }
    }

    fn report_dropped(&mut self) -> bool {
        if self.dropped > 0 {
            let report = format!("{}\n", super::dropped(self.dropped, "standard error"));
            if !self.line(report.as_bytes()) {
                return false;
            }
            self.dropped = 0;
        }
        true
    }
}

impl Stderr {
    pub(super) fn print(&self, line: &str) {
        let mut state = self.0.locked();
        if !state.report_dropped() || !state.line(line.as_bytes()) {
            state.dropped += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;

    use super::*;

    /// As it is with a pipe at file descriptor 2, opened the same way.
    fn over(writer: &impl AsRawFd) -> Stderr {
        let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
        let own = OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(path).unwrap();
        Stderr(Mutex::new(State { to: Destination::Own(own), rest: Vec::new(), dropped: 0 }))
    }

    #[test]
    fn a_pipe_that_is_not_read_drops_lines_and_says_how_many_afterwards() {
        let (mut reader, writer) = io::pipe().unwrap();
        let stderr = over(&writer);
        // A pipe holds 64 KiB (man 7 pipe).
        let line = format!("{}\n", "x".repeat(1023));
        for _ in 0..100 {
            stderr.print(&line);
        }
        let dropped = stderr.0.lock().unwrap().dropped;
        assert_eq!(
            dropped,
            100 - 64,
            "the pipe takes as much as it has room for, and we do not wait for more"
        );
        let mut taken = vec![0; 64 * 1024];
        reader.read_exact(&mut taken).unwrap();
        stderr.print("again\n");
        drop((stderr, writer));
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        assert_eq!(said, "36 messages were dropped: standard error did not accept them\nagain\n");
    }
}
