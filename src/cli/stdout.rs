//! Standard output and standard error. Output may come from devices, files and users: control characters are escaped on a terminal; a
//! pipe or file gets the bytes unchanged.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::printable::{Visible, visible};

pub(super) struct Stdout {
    stdout: io::Stdout,
    /// The escaping, if it is a terminal.
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
        noted(self.stdout.write_all(&out))?;
        noted(self.stdout.flush())
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.terminal {
            Some(visible) => {
                let mut out = Vec::with_capacity(bytes.len());
                visible.show(bytes, &mut out);
                noted(self.stdout.write_all(&out))?;
                Ok(bytes.len())
            }
            None => noted(self.stdout.write(bytes)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        noted(self.stdout.flush())
    }
}

/// Whether the reader of standard output has closed it.
static READER_GONE: AtomicBool = AtomicBool::new(false);

fn noted<T>(written: io::Result<T>) -> io::Result<T> {
    if written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        READER_GONE.store(true, Ordering::Relaxed);
    }
    written
}

/// Whether the reader of standard output has closed it: `consolectl grep panic | head` is no error.
pub(super) fn reader_is_gone() -> bool {
    READER_GONE.load(Ordering::Relaxed)
}

/// Prints a message to standard error, escaped. Unlike `eprintln!`, it does not panic if the terminal was closed.
pub(super) fn print_error(why: &impl Display) {
    let _ = writeln!(io::stderr(), "{}", visible(&why.to_string()));
}
