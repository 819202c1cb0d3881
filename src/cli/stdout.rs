//! Standard output and standard error. Output may come from devices, files and users: control characters are escaped on a terminal; a
//! pipe or file gets the bytes unchanged.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::printable::{Visible, visible};

/// The exit status when the reader of the output has gone, as `head` goes: 128 + SIGPIPE, which is what a shell reports of a program that
/// the signal ended. (Rust programs ignore it, and they do because a socket's peer may go as well.)
pub(super) const EXIT_CLOSED: u8 = 128 + 13;

/// Ends the process without a message if the reader of its output has exited, which is not a failure.
pub(super) fn end_if_closed(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(EXIT_CLOSED.into());
    }
    error
}

/// Ends the process as soon as the reader of its output has exited, as tail(1) does: a device may be silent for days.
pub(super) fn end_when_closed() {
    if io::stdout().is_terminal() {
        return;
    }
    // The thread ends with the process.
    std::thread::spawn(|| {
        let stdout = io::stdout();
        let mut watched = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
        // A file or a device does not report its end.
        while let Ok(_) | Err(Errno::EINTR) = poll(&mut watched, PollTimeout::NONE) {
            let seen = watched[0].revents().unwrap_or(PollFlags::empty());
            if seen.intersects(PollFlags::POLLERR | PollFlags::POLLHUP) {
                std::process::exit(EXIT_CLOSED.into());
            }
            if seen.contains(PollFlags::POLLNVAL) {
                return;
            }
        }
    });
}

pub(super) struct Stdout {
    stdout: io::Stdout,
    terminal: Option<Visible>,
}

impl Stdout {
    pub(super) fn new() -> Self {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal().then(Visible::default);
        Self { stdout, terminal }
    }

    /// Writes what the escaping has buffered, at the end of the output.
    pub(super) fn end(&mut self) -> io::Result<()> {
        let mut out = Vec::new();
        if let Some(visible) = &mut self.terminal {
            visible.end(&mut out);
        }
        self.stdout.write_all(&out).and_then(|()| self.stdout.flush()).map_err(end_if_closed)
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.terminal {
            Some(visible) => {
                let mut out = Vec::with_capacity(bytes.len());
                visible.show(bytes, &mut out);
                self.stdout.write_all(&out).map_err(end_if_closed)?;
                Ok(bytes.len())
            }
            None => self.stdout.write(bytes).map_err(end_if_closed),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush().map_err(end_if_closed)
    }
}

/// Prints a message to standard error, escaped. Unlike `eprintln!`, it does not panic if the terminal was closed.
pub(super) fn print_error(why: &impl Display) {
    let _ = writeln!(io::stderr(), "{}", visible(&why.to_string()));
}
