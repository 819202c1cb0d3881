//! Standard output and standard error. What commands print came from devices, files and users; a terminal is given nothing of
//! it that it would obey, and a pipe or a file the bytes.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use crate::printable::{Visible, visible};

/// Standard output.
pub(super) struct Stdout {
    stdout: io::Stdout,
    /// If it is a terminal.
    terminal: Option<Visible>,
}

impl Stdout {
    /// As it is now.
    pub(super) fn new() -> Self {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal().then(Visible::default);
        Self { stdout, terminal }
    }

    /// Writes what was kept of the end: nothing follows.
    pub(super) fn end(&mut self) -> io::Result<()> {
        let mut out = Vec::new();
        if let Some(visible) = &mut self.terminal {
            visible.end(&mut out);
        }
        self.stdout.write_all(&out)?;
        self.stdout.flush()
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.terminal {
            Some(visible) => {
                let mut out = Vec::with_capacity(bytes.len());
                visible.show(bytes, &mut out);
                self.stdout.write_all(&out)?;
                Ok(bytes.len())
            }
            None => self.stdout.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }
}

/// Prints a sentence to standard error.
pub(super) fn complain(why: &impl Display) {
    eprintln!("{}", visible(&why.to_string()));
}
