//! Copies bytes between the port and the far end. Each direction has one buffer, which is filled only when it
//! is empty: so an end that does not read stops the other end by the kernel's flow control.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::Instant;

use super::codec::Codec;
use super::far::FarEnd;
use super::hold::Hold;
use super::program::ProgramEnd;
use super::{Dial, DialError};
use crate::source::{FromDialer, FromPort, PacketError};
use crate::system::clock::reached;

/// Bytes of one read.
const READ_CHUNK: usize = 4 * 1024;
/// Limit of bytes of replies and breaks that wait because the far end does not read. A far end that sends
/// options and does not read the replies is disconnected.
const MAX_PENDING: usize = 256 * 1024;

/// Interval between two reports of modem lines.
const NEWS_INTERVAL: Duration = Duration::from_millis(100);
/// Delay after a report that the port has not accepted.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Limit of remarks of one connection: each is a line in the journal and in the log.
const MAX_REMARKS: usize = 8;

pub(super) type PortStream = (OwnedReadHalf, OwnedWriteHalf);

pub(super) enum Ended {
    Far {
        /// A sentence.
        why: String,
        /// Whether it has rejected the login.
        refused: bool,
        /// Closed after the port was notified, so that the reason is the next message that it reads.
        stream: Option<PortStream>,
    },
    /// The port ended the connection: it has requested another one or none.
    Port,
}

/// Bytes in transit, of which the first `sent` were sent.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    sent: usize,
}

impl Buffer {
    fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    fn left(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    fn advance(&mut self, count: usize) {
        self.sent += count;
        if self.is_empty() {
            self.bytes.clear();
            self.sent = 0;
        }
    }
}

pub(super) async fn run(
    dial: &mut Dial<'_>,
    far: FarEnd,
    port: UnixStream,
    mut codec: Codec,
) -> Result<Ended, DialError> {
    let FarEnd { bytes, mut program } = far;
    let (mut far_in, mut far_out) = tokio::io::split(bytes);
    let (mut port_in, mut port_out) = port.into_split();
    let (mut to_port, mut to_far) = (Buffer::default(), Buffer::default());
    let mut from_far = vec![0; READ_CHUNK];
    let mut from_port = vec![0; READ_CHUNK];
    let mut far_error: Option<io::Result<()>> = None;
    let mut events = Vec::new();
    let mut news = News::default();
    let mut hold = program.is_some().then(|| Hold::new(&dial.failures));
    let mut end = None;
    codec.begin(&mut to_far.bytes);
    loop {
        if to_far.left().len() > MAX_PENDING {
            let why = "the far end sends telnet options but does not read the replies".to_owned();
            return Ok(Ended::Far { why, refused: false, stream: Some((port_in, port_out)) });
        }
        let holds = hold.as_ref().is_some_and(Hold::holds);
        let is_over = far_error.is_some() && (to_port.is_empty() || holds);
        if let Some(program) = program.take_if(|_| is_over) {
            let ProgramEnd { why, refused, failed } = program.ended().await;
            if let Some(hold) = &mut hold
                && hold.end(failed, &mut dial.failures, Instant::now())
            {
                to_port = Buffer::default();
            }
            end = Some((why, refused));
        }
        if let Some(ended) = far_error.as_ref().filter(|_| to_port.is_empty()) {
            let (why, refused) = end.unwrap_or_else(|| (reason(ended), false));
            return Ok(Ended::Far { why, refused, stream: Some((port_in, port_out)) });
        }
        let holds = hold.as_ref().is_some_and(Hold::holds);
        let holds_until = hold.as_ref().and_then(Hold::until);
        tokio::select! {
            read = far_in.read(&mut from_far), if (to_port.is_empty() || holds) && far_error.is_none() => match read {
                Ok(0) => far_error = Some(Ok(())),
                Ok(count) => {
                    if let Some(program) = &mut program {
                        program.heard(&from_far[..count]);
                        if let Some(hold) = &mut hold {
                            hold.heard(&from_far[..count], &dial.failures, Instant::now());
                            dial.lasting_since = hold.passed();
                        }
                    }
                    codec.received(&from_far[..count], &mut to_port.bytes, &mut to_far.bytes, &mut events);
                    for event in events.drain(..) {
                        news.add(event);
                    }
                }
                Err(error) => far_error = Some(Err(error)),
            },
            written = port_out.write(to_port.left()), if !to_port.is_empty() && !holds => match written {
                Ok(count) => to_port.advance(count),
                Err(_) => return Ok(Ended::Port),
            },
            read = port_in.read(&mut from_port), if to_far.is_empty() && !codec.is_suspended() => match read {
                Ok(0) | Err(_) => return Ok(Ended::Port),
                Ok(count) => codec.typed(&from_port[..count], &mut to_far.bytes),
            },
            written = far_out.write(to_far.left()), if !to_far.is_empty() && far_error.is_none() => match written {
                Ok(count) => to_far.advance(count),
                // The earlier output of the far end must still be read.
                Err(_) => to_far = Buffer::default(),
            },
            () = reached(holds_until) => if let Some(hold) = &mut hold {
                hold.release(Instant::now());
                dial.lasting_since = hold.passed();
            },
            () = reached(codec.negotiated_by()) => {
                codec.not_negotiated(&mut events);
                for event in events.drain(..) {
                    news.add(event);
                }
            }
            () = reached(codec.break_until()) => codec.end_break(&mut to_far.bytes),
            () = reached(news.due) => news.send(dial)?,
            message = dial.message() => match message? {
                FromPort::Break { milliseconds } => {
                    if let Err(remark) = codec.send_break(milliseconds, &mut to_far.bytes) {
                        news.add(FromDialer::Remark(remark));
                    }
                }
                FromPort::Modem { dtr, on } => codec.set_modem(dtr, on, &mut to_far.bytes),
                message => {
                    dial.take(message)?;
                    if !dial.request.connect {
                        return Ok(Ended::Port);
                    }
                    codec.requested(&dial.request, &mut to_far.bytes, &mut events);
                    for event in events.drain(..) {
                        news.add(event);
                    }
                }
            }
        }
    }
}

/// Messages to the port beside the bytes, with limits: a far end may report modem lines continuously, and the
/// port may not read.
#[derive(Default)]
struct News {
    remarks: VecDeque<FromDialer>,
    remarked: usize,
    modem: Option<FromDialer>,
    line: Option<FromDialer>,
    due: Option<Instant>,
    sent: Option<Instant>,
}

impl News {
    fn add(&mut self, event: FromDialer) {
        match event {
            FromDialer::Modem(_) => self.modem = Some(event),
            // The port waits for it, and asks for one at a time.
            FromDialer::Line { .. } => self.line = Some(event),
            _ if self.remarked < MAX_REMARKS => {
                self.remarked += 1;
                self.remarks.push_back(event);
            }
            _ => return,
        }
        let now = Instant::now();
        let earliest = match self.line {
            Some(_) => now,
            None => self.sent.map_or(now, |sent| sent + NEWS_INTERVAL),
        };
        self.due = Some(self.due.map_or(earliest, |due| due.min(earliest)));
    }

    /// Sends the waiting messages. Those that the port does not accept now are sent later.
    fn send(&mut self, dial: &Dial<'_>) -> Result<(), PacketError> {
        self.sent = Some(Instant::now());
        self.due = None;
        while let Some(event) = self.remarks.front().or(self.modem.as_ref()).or(self.line.as_ref()) {
            match dial.send(event) {
                Err(PacketError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.due = Some(Instant::now() + RETRY_INTERVAL);
                    return Ok(());
                }
                sent => sent?,
            }
            if self.remarks.pop_front().is_none() && self.modem.take().is_none() {
                self.line = None;
            }
        }
        Ok(())
    }
}

fn reason(ended: &io::Result<()>) -> String {
    match ended {
        Ok(()) => "the far end has closed the connection".to_owned(),
        Err(error) => format!("the connection has failed: {error}"),
    }
}
