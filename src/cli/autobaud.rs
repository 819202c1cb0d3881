//! `autobaud PORT`: has a port listen at the usual rates, and says at which one its device reads as text.

use std::io::{self, IsTerminal, Write};

use super::client::{Client, CommandError, Done};
use super::tree::{Setting, Target};
use crate::attach::{Tried, client};
use crate::port::PortName;

impl Client {
    /// Tries them; with `set`, the rate goes into the candidate.
    pub async fn autobaud(&self, port: &PortName, set: bool, to: &mut impl Write) -> Done {
        let port = &self.whole(port)?;
        if io::stderr().is_terminal() {
            eprintln!("listening to {port}, for up to 46 s; Control-C ends it");
        }
        let mut found = None;
        let mut tried = |Tried { baud, bytes, text, is_text }| {
            found = is_text.then_some(baud);
            match bytes {
                0 => writeln!(to, "{baud:7}  nothing"),
                _ => writeln!(to, "{baud:7}  {bytes} bytes, {text} % text"),
            }
        };
        client::autobaud(self.runtime(), port, &mut tried).await?;
        match found {
            None => Err(CommandError::NoText(port.clone())),
            Some(baud) if set => {
                writeln!(to, "{port} reads as text at {baud}")?;
                let words = vec![baud.to_string()];
                self.set(Setting { of: Target::Port(port.clone()).into(), key: "baud".to_owned(), words }, to)
                    .await
            }
            Some(baud) => Ok(writeln!(to, "{port} reads as text at {baud}: `baud {port} {baud}` sets it")?),
        }
    }
}
