//! `autobaud`: reads from a device at the usual rates until the output is text. Nothing is sent to it. The port's own rate is restored
//! when the lease on the line settings ends, which is when the caller disconnects.

use std::os::fd::AsFd;
use std::time::Duration;

use tokio::io::{AsyncWrite, Interest};
use tokio::net::UnixStream;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::{Reply, Tried};
use crate::hub::{Control, Cursor, LineState, Pulled};
use crate::port::{Baud, LineSettings};
use crate::session::{Console, plain};
use crate::system::message::{MessageError, send_async};
use crate::system::reactor::peer_closed;

/// The usual rates of consoles, likely ones first.
const RATES: [u64; 12] =
    [9600, 115_200, 38_400, 57_600, 19_200, 230_400, 460_800, 921_600, 1_500_000, 4800, 2400, 1200];
/// Timeout of the first output, at the rate that is set. Long enough for a device that prints a prompt every few seconds.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for one rate. With all of them and the wait before: 46 s at most.
const LISTEN_TIME: Duration = Duration::from_secs(3);
/// Time after a change of the rate in which bytes are discarded, because the hardware and the kernel received them before it.
const SETTLE_TIME: Duration = Duration::from_millis(100);
/// Bytes that are enough, and the minimum to judge by: eight random bytes are text once in thousands of tries.
const ENOUGH_BYTES: usize = 256;
const TOO_FEW: usize = 8;
/// Minimum percentage of text: a byte may be cut off at the beginning, and escape sequences count as text.
const TEXT: usize = 95;
/// Timeout of setting a rate.
const LINE_TIMEOUT: Duration = Duration::from_secs(5);

/// Percentage of text in these bytes.
pub fn legible(bytes: &[u8]) -> usize {
    let mut text = 0;
    for piece in bytes.utf8_chunks() {
        for c in piece.valid().chars() {
            let shown = match c {
                '\t' | '\n' | '\r' | '\x07' | '\x08' | '\x1b' => true,
                // Garbage may be valid UTF-8 of two bytes, but is rarely a letter then.
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

pub(super) async fn autobaud(
    console: &Console,
    mut stream: UnixStream,
    user: &str,
) -> Result<(), MessageError> {
    let line = console.hub.line().borrow().clone();
    let name = &console.name();
    if let Some(source) = console.settings().source.as_ref().filter(|source| !source.has_line()) {
        let why = format!("autobaud of {name} is not possible: {source} has no line rate");
        return send_async(&mut stream, &Reply::Rejected(why)).await;
    }
    let (LineState::Open(settings) | LineState::OnTrial(_, _, settings)) = line else {
        return send_async(
            &mut stream,
            &Reply::Rejected(format!("autobaud of {name} is not possible: {line}")),
        )
        .await;
    };
    let other = console.roster().writer().map(|member| member.client.clone());
    if let Some(other) = other.filter(|writer| writer.user != user) {
        let why = format!("autobaud of {name} is not possible: {other} has write access");
        return send_async(&mut stream, &Reply::Rejected(why)).await;
    }
    let watched = stream.as_fd().try_clone_to_owned()?;
    let (_reader, mut writer) = stream.into_split();
    let notice = format!("{} is testing line rates: output may be garbled until the test ends", plain(user));
    tracing::info!(console_user = user, "{notice}");
    notify(console, &notice);
    let ended = tokio::select! {
        ended = try_rates(console, settings, &mut writer) => ended,
        // The lease ends with the dropped future.
        _ = peer_closed(watched, Interest::WRITABLE) => Ok(()),
    };
    notify(console, &format!("{name} is back at {} baud", console.settings().line.baud.get()));
    ended
}

fn notify(console: &Console, notice: &str) {
    console.roster().notify_all(None, notice);
    console.hub.note(notice.to_owned());
}

async fn try_rates(
    console: &Console,
    settings: LineSettings,
    to: &mut (impl AsyncWrite + Unpin),
) -> Result<(), MessageError> {
    let mut cursor = console.hub.cursor_from_now();
    let mut line = console.hub.line();
    let received = tokio::select! {
        received = read_for(&mut cursor, 1, SILENCE_TIMEOUT) => Some(received),
        () = closed(&mut line) => None,
    };
    let Some(received) = received else {
        let why = format!("{} was unplugged", console.name());
        return send_async(to, &Reply::Rejected(why)).await;
    };
    if received.is_empty() {
        let why = format!("no output from {} within {} s", console.name(), SILENCE_TIMEOUT.as_secs());
        return send_async(
            to,
            &Reply::Rejected(format!("{why}: make the device print something and try again")),
        )
        .await;
    }
    let others = RATES.iter().filter_map(|rate| Baud::try_from(*rate).ok());
    let rates = std::iter::once(settings.baud).chain(others.filter(|baud| *baud != settings.baud));
    // Dropped when this function ends or is cancelled.
    let (end, lease) = oneshot::channel();
    let mut lease = Some(lease);
    for baud in rates {
        match set_leased(console, LineSettings { baud, ..settings }, lease.take()).await {
            Ok(true) => {}
            // The driver does not support this rate.
            Ok(false) => continue,
            Err(why) => return send_async(to, &Reply::Rejected(why)).await,
        }
        read_for(&mut cursor, usize::MAX, SETTLE_TIME).await;
        let received = read_for(&mut cursor, ENOUGH_BYTES, LISTEN_TIME).await;
        if end.is_closed() {
            let why = format!(
                "{}: the settings were changed or the device was unplugged during the test",
                console.name()
            );
            return send_async(to, &Reply::Rejected(why)).await;
        }
        let text = legible(&received);
        let is_text = received.len() >= TOO_FEW && text >= TEXT;
        let tried = Tried { baud: baud.get(), bytes: received.len(), text, is_text };
        send_async(to, &Reply::Tried(tried)).await?;
        if is_text {
            break;
        }
    }
    // Before the reply, after which the caller may read the settings.
    drop(end);
    send_async(to, &Reply::Done).await
}

/// Sets the line until the other end of the first lease is dropped. Returns whether the driver supports the settings.
async fn set_leased(
    console: &Console,
    settings: LineSettings,
    lease: Option<oneshot::Receiver<()>>,
) -> Result<bool, String> {
    let (told, done) = oneshot::channel();
    let asked = async {
        console.hub.control().send(Control::Lease { settings, lease, sends: false, told }).await.ok()?;
        done.await.ok()
    };
    match tokio::time::timeout(LINE_TIMEOUT, asked).await {
        Ok(Some(done)) => done.map(|refused| !refused.contains(&"baud")),
        Ok(None) => Err(format!("{} is shutting down", console.name())),
        Err(_) => Err(format!("{}: timeout while setting the rate", console.name())),
    }
}

/// Waits until the tty is closed.
async fn closed(line: &mut watch::Receiver<LineState>) {
    // Fails only when the port shuts down.
    let _ = line.wait_for(|line| !line.takes_input()).await;
}

/// Reads until `enough` bytes, or until the time is over.
async fn read_for(cursor: &mut Cursor, enough: usize, time: Duration) -> Vec<u8> {
    let until = Instant::now() + time;
    let mut received = Vec::new();
    while received.len() < enough {
        match timeout_at(until, cursor.pull(ENOUGH_BYTES)).await {
            // `usize::MAX` discards. A flood ends with the time, too.
            Ok(Pulled::Bytes(bytes)) => {
                received.extend(bytes);
                if enough == usize::MAX {
                    received.clear();
                }
            }
            Ok(Pulled::Skipped(_)) => {}
            Err(_) => break,
        }
        if Instant::now() >= until {
            break;
        }
    }
    received
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_distinguished_from_garbage_of_another_rate() {
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
