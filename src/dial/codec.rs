//! The protocol between the console's bytes and the far end: none, or telnet (RFC 854), with the COM port
//! option (RFC 2217) for a remote serial line.

use std::time::Duration;

use tokio::time::Instant;

use crate::port::{LineSettings, Source};
use crate::source::{FromDialer, RemoteModem, Request};
use crate::telnet::{Command, Event, Role, Telnet, control, modem_state};

/// A protocol to the far end.
#[derive(Debug)]
pub enum Codec {
    /// Plain bytes. This text is sent as a break, if there is one.
    Plain(Option<Vec<u8>>),
    /// Telnet.
    Telnet(Box<Remote>),
}

/// A telnet connection.
#[derive(Debug)]
pub struct Remote {
    telnet: Telnet,
    /// Whether the COM port option is requested.
    com_port: bool,
    request: Request,
    /// The last settings that were requested and for which no difference was reported.
    asked: Option<LineSettings>,
    /// When a break in progress must end.
    break_until: Option<Instant>,
    /// The server has suspended our output.
    suspended: bool,
}

impl Codec {
    /// The protocol of this source.
    pub fn of(source: &Source, break_text: &Option<Vec<u8>>, request: &Request) -> Self {
        let com_port = match source {
            Source::Unix(_) | Source::Tcp(_) | Source::Unit => return Self::Plain(break_text.clone()),
            Source::Telnet(_) => false,
            Source::Rfc2217(_) => true,
        };
        Self::Telnet(Box::new(Remote {
            telnet: Telnet::new(Role::Client, com_port),
            com_port,
            request: request.clone(),
            asked: None,
            break_until: None,
            suspended: false,
        }))
    }

    /// Bytes to send first.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if let Self::Telnet(remote) = self {
            remote.telnet.start(out);
        }
    }

    /// Decodes input of the far end into console bytes, a reply to the far end, and messages for the port.
    pub fn received(
        &mut self,
        bytes: &[u8],
        console: &mut Vec<u8>,
        answer: &mut Vec<u8>,
        events: &mut Vec<FromDialer>,
    ) {
        match self {
            Self::Plain(_) => console.extend_from_slice(bytes),
            Self::Telnet(remote) => remote.received(bytes, console, answer, events),
        }
    }

    /// Encodes bytes of the port for the far end.
    pub fn typed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Plain(_) => out.extend_from_slice(bytes),
            Self::Telnet(remote) => remote.telnet.data(bytes, out),
        }
    }

    /// Sends a break. The error is a sentence.
    pub fn send_break(&mut self, milliseconds: u32, out: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Self::Plain(Some(text)) => out.extend_from_slice(text),
            Self::Plain(None) => {
                return Err("no break was sent: console-dial has no --break for this program".to_owned());
            }
            Self::Telnet(remote) if remote.telnet.com_port() => {
                remote.telnet.command(&Command::Control(control::BREAK_ON), out);
                remote.break_until = Some(Instant::now() + Duration::from_millis(milliseconds.into()));
            }
            // The far end determines the length (RFC 854).
            Self::Telnet(remote) => remote.telnet.send_break(out),
        }
        Ok(())
    }

    /// When [`Self::end_break`] is due.
    pub fn break_until(&self) -> Option<Instant> {
        match self {
            Self::Plain(_) => None,
            Self::Telnet(remote) => remote.break_until,
        }
    }

    /// Ends a break that has begun.
    pub fn end_break(&mut self, out: &mut Vec<u8>) {
        if let Self::Telnet(remote) = self
            && remote.break_until.take().is_some()
        {
            remote.telnet.command(&Command::Control(control::BREAK_OFF), out);
        }
    }

    /// Whether the far end has suspended output.
    pub fn is_suspended(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Telnet(remote) => remote.suspended,
        }
    }

    /// Applies changed line settings or modem lines.
    pub fn requested(&mut self, request: &Request, out: &mut Vec<u8>) {
        if let Self::Telnet(remote) = self {
            let before = std::mem::replace(&mut remote.request, request.clone());
            let same = |request: &Request| (request.line, request.dtr, request.rts);
            if remote.telnet.com_port() && same(&before) != same(request) {
                remote.set_line(out);
            }
        }
    }

    /// Sets DTR or RTS.
    pub fn set_modem(&mut self, dtr: bool, on: bool, out: &mut Vec<u8>) {
        if let Self::Telnet(remote) = self
            && remote.telnet.com_port()
        {
            remote.telnet.command(&modem_line(dtr, on), out);
        }
    }
}

fn modem_line(dtr: bool, on: bool) -> Command {
    Command::Control(match (dtr, on) {
        (true, true) => control::DTR_ON,
        (true, false) => control::DTR_OFF,
        (false, true) => control::RTS_ON,
        (false, false) => control::RTS_OFF,
    })
}

impl Remote {
    fn received(
        &mut self,
        bytes: &[u8],
        console: &mut Vec<u8>,
        answer: &mut Vec<u8>,
        events: &mut Vec<FromDialer>,
    ) {
        for event in self.telnet.receive(bytes, answer) {
            match event {
                Event::Data(data) => console.extend_from_slice(&data),
                Event::ComPort(true) => {
                    self.set_line(answer);
                    // Changes are notified; the initial state is requested (as by pyserial).
                    self.telnet.command(&Command::ModemStateMask(u8::MAX), answer);
                    self.telnet.command(&Command::ModemState(0), answer);
                }
                Event::ComPort(false) if self.com_port => {
                    let remark = "the far end rejects the COM port option (RFC 2217): its line settings cannot be changed";
                    events.push(FromDialer::Remark(remark.to_owned()));
                }
                Event::Command(Command::Suspend) => self.suspended = true,
                Event::Command(Command::Resume) => self.suspended = false,
                Event::Command(Command::ModemState(bits)) => events.push(FromDialer::Modem(RemoteModem {
                    cts: bits & modem_state::CLEAR_TO_SEND != 0,
                    dsr: bits & modem_state::DATA_SET_READY != 0,
                    ri: bits & modem_state::RING_INDICATOR != 0,
                    dcd: bits & modem_state::CARRIER_DETECT != 0,
                })),
                Event::Command(reply) => events.extend(self.differs(&reply).map(FromDialer::Remark)),
                // A terminal server does not send these to its clients.
                Event::Break | Event::ComPort(false) => {}
            }
        }
    }

    /// Sets the remote line.
    fn set_line(&mut self, out: &mut Vec<u8>) {
        self.asked = self.request.line.and_then(|line| line.settings());
        if let Some(settings) = &self.asked {
            for command in Command::of_settings(settings) {
                self.telnet.command(&command, out);
            }
        }
        for (dtr, level) in [(true, self.request.dtr), (false, self.request.rts)] {
            if let Some(on) = level {
                self.telnet.command(&modem_line(dtr, on), out);
            }
        }
    }

    /// The message about a reply that differs from the request, once for each request.
    fn differs(&mut self, reply: &Command) -> Option<String> {
        let asked = self.asked?;
        let wanted = reply.reply(&asked)?;
        if wanted == *reply {
            return None;
        }
        let set = reply.apply(asked)?;
        self.asked = Some(set);
        let flow = |settings: &LineSettings| match (settings.rtscts, settings.xonxoff) {
            (true, _) => "rtscts",
            (false, true) => "xonxoff",
            (false, false) => "no flow control",
        };
        Some(format!("the far end set {set}, {}, not {asked}, {}", flow(&set), flow(&asked)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::RemoteLine;

    const LINE: RemoteLine =
        RemoteLine { baud: 115_200, bytesize: 8, parity: 'N', stopbits: 1, rtscts: false, xonxoff: false };

    fn remote(source: &str) -> Codec {
        let request = Request { connect: true, line: Some(LINE), dtr: Some(true), ..Request::default() };
        Codec::of(&source.parse().unwrap(), &None, &request)
    }

    /// The bytes are those of RFC 2217, section 3: SB COM-PORT-OPTION(44), the command, the value, SE.
    #[test]
    fn a_server_that_agrees_is_told_the_line_and_its_other_rate_is_reported() {
        let mut codec = remote("rfc2217:ts:4001");
        codec.begin(&mut Vec::new());
        let (mut console, mut answer, mut events) = (Vec::new(), Vec::new(), Vec::new());
        codec.received(&[255, 253, 44], &mut console, &mut answer, &mut events);
        let baud = [255, 250, 44, 1, 0, 1, 0xc2, 0, 255, 240];
        let dtr_on = [255, 250, 44, 5, 8, 255, 240];
        for bytes in [&baud[..], &dtr_on] {
            assert!(answer.windows(bytes.len()).any(|window| window == bytes), "{bytes:?} in {answer:?}");
        }
        let reply = [255, 250, 44, 101, 0, 0, 0x25, 0x80, 255, 240];
        codec.received(&reply, &mut console, &mut answer, &mut events);
        let remark = "the far end set 9600 8N1, no flow control, not 115200 8N1, no flow control";
        assert_eq!(events, [FromDialer::Remark(remark.to_owned())]);
        codec.received(
            &[b'x', 255, 255, 255, 250, 44, 107, 0x90, 255, 240],
            &mut console,
            &mut answer,
            &mut events,
        );
        assert_eq!(console, [b'x', 255]);
        let modem = RemoteModem { cts: true, dsr: false, ri: false, dcd: true };
        assert_eq!(events.last(), Some(&FromDialer::Modem(modem)));
    }

    #[test]
    fn a_break_is_iac_brk_or_on_and_off_where_there_is_a_remote_line() {
        let mut out = Vec::new();
        let mut telnet = remote("telnet:ts:23");
        telnet.send_break(250, &mut out).unwrap();
        assert_eq!((out, telnet.break_until()), (vec![255, 243], None));
        let mut codec = remote("rfc2217:ts:4001");
        codec.begin(&mut Vec::new());
        codec.received(&[255, 253, 44], &mut Vec::new(), &mut Vec::new(), &mut Vec::new());
        let mut out = Vec::new();
        codec.send_break(250, &mut out).unwrap();
        assert_eq!(out, [255, 250, 44, 5, 5, 255, 240]);
        assert!(codec.break_until().is_some());
        codec.end_break(&mut out);
        assert_eq!(out[7..], [255, 250, 44, 5, 6, 255, 240]);
        assert!(Codec::Plain(None).send_break(250, &mut out).is_err());
    }
}
