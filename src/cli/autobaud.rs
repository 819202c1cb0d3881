//! `autobaud PORT`: the port listens at common line rates until the output of its device reads as text.

use std::io::{self, IsTerminal, Write};

use super::client::{Client, CommandError, Done};
use super::tree::{Setting, Target};
use crate::attach::{Tried, client};
use crate::port::PortName;

impl Client {
    /// With `set`, the detected rate is put into the candidate.
    pub async fn autobaud(&self, port: &PortName, set: bool, to: &mut impl Write) -> Done {
        let port = &self.whole(port)?;
        if io::stderr().is_terminal() {
            eprintln!("listening to {port} for up to 46 s; Ctrl-C stops");
        }
        let mut found = None;
        let mut tried = |Tried { baud, bytes, text, is_text }| {
            found = is_text.then_some(baud);
            match bytes {
                0 => writeln!(to, "{baud:7}  no output"),
                _ => writeln!(to, "{baud:7}  {bytes} bytes, {text}% text"),
            }
        };
        client::autobaud(self.runtime(), port, &mut tried).await?;
        match found {
            None => Err(CommandError::NoText(port.clone())),
            Some(baud) if set => {
                writeln!(to, "the output of {port} reads as text at {baud}")?;
                let words = vec![baud.to_string()];
                self.set(Setting { of: Target::Port(port.clone()).into(), key: "baud".to_owned(), words }, to)
                    .await
            }
            Some(baud) => Ok(writeln!(
                to,
                "the output of {port} reads as text at {baud}: `baud {port} {baud}` sets it"
            )?),
        }
    }
}
