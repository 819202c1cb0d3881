//! The protocol between the console's bytes and the far end: none, or telnet (RFC 854), with the COM port
//! option (RFC 2217) for a remote serial line.

use std::time::Duration;

use tokio::time::Instant;

use crate::port::{LineSettings, Source};
use crate::source::{FromDialer, RemoteLine, RemoteModem, Request};
use crate::telnet::{Command, Event, Role, Telnet, control, modem_state};

/// Time for a server to reply to the request for the COM port option. pyserial waits 3 s.
const NEGOTIATION_TIMEOUT: Duration = Duration::from_secs(5);

/// A protocol to the far end.
#[derive(Debug)]
pub enum Codec {
    /// Plain bytes. This text is sent as a break, if there is one.
    Plain(Option<Vec<u8>>),
    Telnet(Box<Remote>),
}

#[derive(Debug)]
pub struct Remote {
    telnet: Telnet,
    /// Whether the COM port option is requested.
    com_port: bool,
    request: Request,
    /// When the server must have replied to that request.
    negotiated_by: Option<Instant>,
    /// The last settings that were requested and for which no difference was reported.
    asked: Option<LineSettings>,
    /// When a break in progress must end.
    break_until: Option<Instant>,
    /// The server has suspended our output.
    suspended: bool,
    /// The server has refused the COM port option.
    refused: bool,
    /// The server's modem lines, once it has reported any.
    modem: Option<RemoteModem>,
    /// The report that the port has requested.
    report: Option<Report>,
}

/// Modem lines of a server that has not reported any: a client that waits for CTS would wait without limit.
const READY: RemoteModem = RemoteModem { cts: true, dsr: true, ri: false, dcd: true, dtr: None, rts: None };

/// The replies to the commands that set a line, until there is one to each.
#[derive(Debug)]
struct Report {
    number: u32,
    /// What the server has set, as far as it has replied.
    set: LineSettings,
    /// Which commands it has replied to, in the order of [`Command::of_settings`].
    replied: [bool; 5],
}

impl Codec {
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
            negotiated_by: None,
            asked: None,
            break_until: None,
            suspended: false,
            refused: false,
            modem: None,
            report: None,
        }))
    }

    /// Bytes to send first.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if let Self::Telnet(remote) = self {
            remote.telnet.start(out);
            remote.negotiated_by = remote.com_port.then(|| Instant::now() + NEGOTIATION_TIMEOUT);
        }
    }

    /// When [`Self::not_negotiated`] is due.
    pub fn negotiated_by(&self) -> Option<Instant> {
        match self {
            Self::Plain(_) => None,
            Self::Telnet(remote) => remote.negotiated_by,
        }
    }

    /// The server has not replied to the request for the COM port option: it does not speak telnet, or not this option.
    pub fn not_negotiated(&mut self, events: &mut Vec<FromDialer>) {
        if let Self::Telnet(remote) = self {
            remote.negotiated_by = None;
            let seconds = NEGOTIATION_TIMEOUT.as_secs();
            remote.has_no_line(
                format!(
                    "the far end has not replied to the COM port option (RFC 2217) within {seconds} s: its line settings \
                     cannot be changed"
                ),
                events,
            );
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

    /// Applies changed line settings or modem lines. A new process of the port gets the modem lines.
    pub fn requested(&mut self, request: &Request, out: &mut Vec<u8>, events: &mut Vec<FromDialer>) {
        if let Self::Telnet(remote) = self {
            let before = std::mem::replace(&mut remote.request, request.clone());
            events.extend(remote.modem.map(FromDialer::Modem));
            if before.line != request.line || before.report != request.report {
                remote.set_line(out, events);
            }
            if (before.dtr, before.rts) != (request.dtr, request.rts) && remote.telnet.com_port() {
                remote.send_levels(out);
            }
        }
    }

    pub fn set_modem(&mut self, dtr: bool, on: bool, out: &mut Vec<u8>) {
        if let Self::Telnet(remote) = self
            && remote.telnet.com_port()
        {
            remote.telnet.command(&Command::modem_line(dtr, on), out);
        }
    }
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
                    (self.refused, self.negotiated_by) = (false, None);
                    // Regardless of what follows in the same read: the reply does not depend on where a read ends.
                    self.send_line(answer);
                    // Changes are notified; the initial state is requested (as by pyserial).
                    self.telnet.command(&Command::ModemStateMask(u8::MAX), answer);
                    self.telnet.command(&Command::ModemState(0), answer);
                    self.send_levels(answer);
                }
                Event::ComPort(false) if self.com_port => {
                    self.negotiated_by = None;
                    let remark = "the far end rejects the COM port option (RFC 2217): its line settings cannot be changed";
                    self.has_no_line(remark.to_owned(), events);
                }
                Event::Command(Command::Suspend) => self.suspended = true,
                Event::Command(Command::Resume) => self.suspended = false,
                Event::Command(Command::ModemState(bits)) => {
                    let modem = self.modem.get_or_insert(READY);
                    modem.cts = bits & modem_state::CLEAR_TO_SEND != 0;
                    modem.dsr = bits & modem_state::DATA_SET_READY != 0;
                    modem.ri = bits & modem_state::RING_INDICATOR != 0;
                    modem.dcd = bits & modem_state::CARRIER_DETECT != 0;
                    events.push(FromDialer::Modem(*modem));
                }
                Event::Command(Command::Control(value @ control::DTR_ON..=control::RTS_OFF)) => {
                    let modem = self.modem.get_or_insert(READY);
                    match value {
                        control::DTR_ON | control::DTR_OFF => modem.dtr = Some(value == control::DTR_ON),
                        control::RTS_ON | control::RTS_OFF => modem.rts = Some(value == control::RTS_ON),
                        // A client's question.
                        _ => continue,
                    }
                    events.push(FromDialer::Modem(*modem));
                }
                Event::Command(reply) if self.report.is_some() => events.extend(self.replied(&reply)),
                Event::Command(reply) => events.extend(self.differs(&reply).map(FromDialer::Remark)),
                // A terminal server does not send these to its clients.
                Event::Break | Event::ComPort(false) => {}
            }
        }
    }

    fn has_no_line(&mut self, remark: String, events: &mut Vec<FromDialer>) {
        self.refused = true;
        events.push(FromDialer::Remark(remark));
        // A report that is asked for has waited for the negotiation.
        let number = self.request.report;
        events.extend(number.map(|report| FromDialer::Line { report, line: None }));
    }

    /// Sets the remote line, if there is one. Before it is negotiated, [`Event::ComPort`] is waited for.
    fn set_line(&mut self, out: &mut Vec<u8>, events: &mut Vec<FromDialer>) {
        if self.telnet.com_port() {
            self.send_line(out);
        } else {
            self.report = None;
            let number = self.request.report.filter(|_| self.refused);
            events.extend(number.map(|report| FromDialer::Line { report, line: None }));
        }
    }

    fn send_line(&mut self, out: &mut Vec<u8>) {
        self.report = None;
        self.asked = self.request.line.and_then(|line| line.settings());
        let Some(settings) = self.asked else { return };
        for command in Command::of_settings(&settings) {
            self.telnet.command(&command, out);
        }
        self.report = self.request.report.map(|number| Report { number, set: settings, replied: [false; 5] });
    }

    /// Sets DTR and RTS, or requests their state, which no other message reports.
    fn send_levels(&mut self, out: &mut Vec<u8>) {
        let levels =
            [(self.request.dtr, true, control::DTR_QUERY), (self.request.rts, false, control::RTS_QUERY)];
        for (level, dtr, query) in levels {
            let command = match level {
                Some(on) => Command::modem_line(dtr, on),
                None => Command::Control(query),
            };
            self.telnet.command(&command, out);
        }
    }

    /// A reply while a report is asked for: the report, once it is whole.
    fn replied(&mut self, reply: &Command) -> Option<FromDialer> {
        let report = self.report.as_mut()?;
        let index = match reply {
            Command::Baud(_) => 0,
            Command::DataSize(_) => 1,
            Command::Parity(_) => 2,
            Command::StopSize(_) => 3,
            Command::Control(control::FLOW_NONE..=control::FLOW_HARDWARE) => 4,
            _ => return None,
        };
        report.replied[index] = true;
        // A value that no line has cannot have been set.
        report.set = reply.apply(report.set).unwrap_or(report.set);
        if report.replied.contains(&false) {
            return None;
        }
        let Report { number, set, .. } = self.report.take()?;
        // The report replaces a remark.
        self.asked = Some(set);
        Some(FromDialer::Line { report: number, line: Some(RemoteLine::from(&set)) })
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
        let modem = RemoteModem { cts: true, dcd: true, ..RemoteModem::default() };
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

    /// SERVER-SET-BAUDRATE (101) and the others of RFC 2217, section 3.
    #[test]
    fn a_report_is_what_the_server_has_set_once_it_has_replied_to_all() {
        let mut codec = remote("rfc2217:ts:4001");
        codec.begin(&mut Vec::new());
        codec.received(&[255, 253, 44], &mut Vec::new(), &mut Vec::new(), &mut Vec::new());
        let (mut answer, mut events) = (Vec::new(), Vec::new());
        let line = RemoteLine { baud: 9600, parity: 'E', ..LINE };
        let request = Request { line: Some(line), report: Some(7), ..Request::default() };
        codec.requested(&request, &mut answer, &mut events);
        assert!(answer.starts_with(&[255, 250, 44, 1, 0, 0, 0x25, 0x80, 255, 240]), "{answer:?}");
        let replies: [&[u8]; 5] = [&[101, 0, 0, 0x25, 0x80], &[102, 8], &[103, 1], &[104, 1], &[105, 1]];
        for (count, reply) in replies.iter().enumerate() {
            assert!(events.is_empty(), "{events:?} after {count} replies");
            let wire = [&[255, 250, 44], *reply, &[255, 240]].concat();
            codec.received(&wire, &mut Vec::new(), &mut answer, &mut events);
        }
        let set = RemoteLine { parity: 'N', ..line };
        assert_eq!(events, [FromDialer::Line { report: 7, line: Some(set) }], "and no remark");
        // The same request with another number is sent once more.
        answer.clear();
        codec.requested(&Request { report: Some(8), ..request }, &mut answer, &mut events);
        assert!(answer.starts_with(&[255, 250, 44, 1, 0, 0, 0x25, 0x80, 255, 240]), "{answer:?}");
    }

    #[test]
    fn a_report_of_a_server_that_refuses_the_option_is_that_there_is_no_line() {
        let mut codec = remote("rfc2217:ts:4001");
        codec.begin(&mut Vec::new());
        let (mut answer, mut events) = (Vec::new(), Vec::new());
        let request = Request { line: Some(LINE), report: Some(1), ..Request::default() };
        codec.requested(&request, &mut answer, &mut events);
        assert!(events.is_empty(), "it is not negotiated yet: {events:?}");
        // DONT COM-PORT-OPTION
        codec.received(&[255, 254, 44], &mut Vec::new(), &mut answer, &mut events);
        assert_eq!(events.last(), Some(&FromDialer::Line { report: 1, line: None }));
        events.clear();
        codec.requested(&Request { report: Some(2), ..request }, &mut answer, &mut events);
        assert_eq!(events, [FromDialer::Line { report: 2, line: None }]);
    }

    /// SERVER-SET-CONTROL 9 and 11: DTR off, RTS on.
    #[test]
    fn the_servers_dtr_and_rts_are_asked_for_and_told_to_each_process_of_the_port() {
        let mut codec = remote("rfc2217:ts:4001");
        codec.begin(&mut Vec::new());
        let (mut answer, mut events) = (Vec::new(), Vec::new());
        codec.received(&[255, 253, 44], &mut Vec::new(), &mut answer, &mut events);
        let rts_query = [255, 250, 44, 5, 10, 255, 240];
        assert!(answer.windows(7).any(|window| window == rts_query), "{answer:?}");
        let replies = [
            255, 250, 44, 107, 0x20, 255, 240, 255, 250, 44, 105, 9, 255, 240, 255, 250, 44, 105, 11, 255,
            240,
        ];
        codec.received(&replies, &mut Vec::new(), &mut answer, &mut events);
        let modem = RemoteModem { dsr: true, dtr: Some(false), rts: Some(true), ..RemoteModem::default() };
        assert_eq!(events.last(), Some(&FromDialer::Modem(modem)));
        events.clear();
        codec.requested(&Request::default(), &mut answer, &mut events);
        assert_eq!(events.first(), Some(&FromDialer::Modem(modem)));
    }
}
