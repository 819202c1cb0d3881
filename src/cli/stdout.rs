//! Standard output and standard error. Output may come from devices, files and users: control characters are escaped on a terminal; a
//! pipe or file gets the bytes unchanged.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

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

/// Prints a message to standard error, escaped. Unlike `eprintln!`, it does not panic if the terminal was closed.
pub(super) fn print_error(why: &impl Display) {
    let _ = writeln!(io::stderr(), "{}", visible(&why.to_string()));
}
