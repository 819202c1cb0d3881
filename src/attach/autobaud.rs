//! `autobaud`: listens to a device at the usual rates until it reads as text. Nothing is sent to it. The rate that the port is
//! set to comes back when the lease on the line ends, and that is whenever whoever has asked is gone.

use std::os::fd::AsFd;
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::net::UnixStream;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::server::{Server, left};
use super::{Reply, Tried};
use crate::hub::{Control, Cursor, LineState, Pulled};
use crate::port::{Baud, LineSettings};
use crate::session::plain;
use crate::system::message::{MessageError, send_async};

/// What consoles are set to, the likely ones first.
const RATES: [u64; 12] =
    [9600, 115_200, 38_400, 57_600, 19_200, 230_400, 460_800, 921_600, 1_500_000, 4800, 2400, 1200];
/// For a device to say anything at all at the rate that is set. One that blinks a prompt every few seconds is heard.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(10);
/// For one rate. With all of them and the silence before: 46 s at most.
const LISTEN_TIME: Duration = Duration::from_secs(3);
/// After the rate has changed: what the hardware and the kernel had received before is not of it.
const SETTLE_TIME: Duration = Duration::from_millis(100);
/// Bytes that are enough, and such as are too few to judge by: eight random ones are text once in thousands of tries.
const ENOUGH_BYTES: usize = 256;
const TOO_FEW: usize = 8;
/// Per cent of text that text has: a byte may be lost where listening begins, and escape sequences count as text.
const TEXT: usize = 95;
/// For the line to take a rate.
const LINE_TIMEOUT: Duration = Duration::from_secs(5);

/// How much of these bytes is text, in per cent.
pub fn legible(bytes: &[u8]) -> usize {
    let mut text = 0;
    for piece in bytes.utf8_chunks() {
        for c in piece.valid().chars() {
            let shown = match c {
                '\t' | '\n' | '\r' | '\x07' | '\x08' | '\x1b' => true,
                // Garbage can look like two bytes of UTF-8, but is no letter then as a rule.
                c => {
                    c.is_alphanumeric() || (' '..='~').contains(&c) || ('\u{2500}'..='\u{259f}').contains(&c)
                }
            };
            if shown {
                text += c.len_utf8();
            }
        }
    }
    (text * 100).checked_div(bytes.len()).unwrap_or(0)
}

impl Server {
    pub(super) async fn autobaud(&self, mut stream: UnixStream, user: &str) -> Result<(), MessageError> {
        let line = self.console.hub.line().borrow().clone();
        let name = &self.console.name();
        let LineState::Open(settings) = line else {
            return send_async(&mut stream, &Reply::Refused(format!("no autobaud of {name}: {line}"))).await;
        };
        let other = self.console.roster().writer().map(|member| member.client.clone());
        if let Some(other) = other.filter(|writer| writer.user != user) {
            let why = format!("no autobaud of {name}: {other} writes there");
            return send_async(&mut stream, &Reply::Refused(why)).await;
        }
        let watched = stream.as_fd().try_clone_to_owned()?;
        let (_reader, mut writer) = stream.into_split();
        let said = format!("{} tries line rates: what is shown until then may be garbage", plain(user));
        tracing::info!(console_user = user, "{said}");
        self.tell(&said);
        let ended = tokio::select! {
            ended = self.try_rates(settings, &mut writer) => ended,
            // The lease goes with what is dropped here.
            _ = left(watched) => Ok(()),
        };
        self.tell(&format!("{name} is at {} baud again", self.console.settings().line.baud.get()));
        ended
    }

    fn tell(&self, said: &str) {
        self.console.roster().tell_all(None, said);
        self.console.hub.note(said.to_owned());
    }

    async fn try_rates(
        &self,
        settings: LineSettings,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), MessageError> {
        let mut cursor = self.console.hub.cursor_from_now();
        let mut line = self.console.hub.line();
        let heard = tokio::select! {
            heard = listen(&mut cursor, 1, SILENCE_TIMEOUT) => Some(heard),
            () = closed(&mut line) => None,
        };
        let Some(heard) = heard else {
            let why = format!("{} was unplugged in the meantime", self.console.name());
            return send_async(to, &Reply::Refused(why)).await;
        };
        if heard.is_empty() {
            let why =
                format!("{} has said nothing within {} s", self.console.name(), SILENCE_TIMEOUT.as_secs());
            return send_async(to, &Reply::Refused(format!("{why}: make it talk, and try again"))).await;
        }
        let others = RATES.iter().filter_map(|rate| Baud::try_from(*rate).ok());
        let rates = std::iter::once(settings.baud).chain(others.filter(|baud| *baud != settings.baud));
        // Dropped with this function, whatever ends it.
        let (end, lease) = oneshot::channel();
        let mut lease = Some(lease);
        for baud in rates {
            match self.lease(LineSettings { baud, ..settings }, lease.take()).await {
                Ok(true) => {}
                // Of a rate that the driver has not, nothing can be heard.
                Ok(false) => continue,
                Err(why) => return send_async(to, &Reply::Refused(why)).await,
            }
            listen(&mut cursor, usize::MAX, SETTLE_TIME).await;
            let heard = listen(&mut cursor, ENOUGH_BYTES, LISTEN_TIME).await;
            if end.is_closed() {
                let why = format!("{}: the line was set or unplugged meanwhile", self.console.name());
                return send_async(to, &Reply::Refused(why)).await;
            }
            let text = legible(&heard);
            let is_text = heard.len() >= TOO_FEW && text >= TEXT;
            let tried = Tried { baud: baud.get(), bytes: heard.len(), text, is_text };
            send_async(to, &Reply::Tried(tried)).await?;
            if is_text {
                break;
            }
        }
        // Before the answer: whoever has it may look.
        drop(end);
        send_async(to, &Reply::Done).await
    }

    /// Sets the line for as long as the other end of the lease is there, the first one that was handed over. Whether the driver
    /// could.
    async fn lease(
        &self,
        settings: LineSettings,
        lease: Option<oneshot::Receiver<()>>,
    ) -> Result<bool, String> {
        let (told, done) = oneshot::channel();
        let asked = async {
            self.console
                .hub
                .control()
                .send(Control::Lease { settings, lease, sends: false, told })
                .await
                .ok()?;
            done.await.ok()
        };
        match tokio::time::timeout(LINE_TIMEOUT, asked).await {
            Ok(Some(done)) => done.map(|refused| !refused.contains(&"baud")),
            Ok(None) => Err(format!("{} is ending", self.console.name())),
            Err(_) => Err(format!("{}: its line has not answered", self.console.name())),
        }
    }
}

/// Waits until the line is not open any more.
async fn closed(line: &mut watch::Receiver<LineState>) {
    // Fails with the port only.
    let _ = line.wait_for(|line| !matches!(line, LineState::Open(_))).await;
}

/// What comes until it is `enough`, or the time is over.
async fn listen(cursor: &mut Cursor, enough: usize, time: Duration) -> Vec<u8> {
    let until = Instant::now() + time;
    let mut heard = Vec::new();
    while heard.len() < enough {
        match timeout_at(until, cursor.pull(ENOUGH_BYTES)).await {
            // Only as much is kept as is judged by; a flood ends with the time, too.
            Ok(Pulled::Bytes(bytes)) => {
                heard.extend(bytes);
                if enough == usize::MAX {
                    heard.clear();
                }
            }
            Ok(Pulled::Skipped(_)) => {}
            Err(_) => break,
        }
        if Instant::now() >= until {
            break;
        }
    }
    heard
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_told_from_what_another_rate_makes_of_it() {
        for text in [
            &b"U-Boot 2024.01\r\nHit any key to stop autoboot:  3\x08\x08\x08 2"[..],
            b"\x1b[32mlogin:\x1b[0m ",
            "Änderung übernommen".as_bytes(),
        ] {
            assert!(legible(text) >= TEXT, "{text:?}: {}", legible(text));
        }
        for garbage in
            [&[0_u8; 16][..], &[0xff; 16], b"\xe6\x06\x98\x00\x9e\x66\x80\xf8", b"", &[0xc2, 0x80, 0xfe]]
        {
            assert!(legible(garbage) < TEXT, "{garbage:?}: {}", legible(garbage));
        }
    }
}
