//! The line settings of an RFC 2217 client, and the replies to it. A client can change settings only if it
//! has write access and the port has `remote_settings`; otherwise, and if the driver rejects a setting, the
//! reply contains the settings in effect. Settings, DTR and RTS are on a lease, which ends when the client
//! disconnects or loses write access.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::hub::{BREAK_MS_RANGE, Condition, Control};
use crate::port::LineSettings;
use crate::serial::{Counters, ModemLine, ModemLines};
use crate::session::{Console, Event, Feeder, SessionId};
use crate::telnet::{Command, control, line_state, modem_state};

/// Time for the line to apply settings.
const LINE_TIMEOUT: Duration = Duration::from_secs(5);

/// The line from the view of one client.
pub(super) struct BorrowedLine {
    console: Arc<Console>,
    member: SessionId,
    /// The settings of the client, once it has changed any.
    wanted: Option<LineSettings>,
    /// Restores the line when it is dropped.
    lease: Option<oneshot::Sender<()>>,
    /// DTR and RTS, where the client has set them.
    levels: [Option<bool>; 2],
    /// DTR and RTS of a device without modem lines: nothing can be set, and clients expect the values that
    /// they have sent.
    imagined: (bool, bool),
    breaking_since: Option<Instant>,
    modem_mask: u8,
    line_mask: u8,
    last_modem: Option<u8>,
    last_counters: Option<Counters>,
}

impl BorrowedLine {
    pub(super) fn new(console: Arc<Console>, member: SessionId) -> Self {
        Self {
            console,
            member,
            wanted: None,
            lease: None,
            levels: [None; 2],
            imagined: (true, true),
            breaking_since: None,
            // RFC 2217, sections on the two masks: all modem states and no line states are notified at first.
            modem_mask: 255,
            line_mask: 0,
            last_modem: None,
            last_counters: None,
        }
    }

    /// Runs a command. Returns the reply, if it has one.
    pub(super) async fn command(&mut self, command: Command, feeder: &Feeder) -> Vec<Command> {
        let reply = match command {
            // With a text it is the signature of the client.
            Command::Signature(text) if !text.is_empty() => return Vec::new(),
            Command::Signature(_) => {
                let name = self.console.name();
                Command::Signature(format!("consoleserver {} {name}", env!("CARGO_PKG_VERSION")).into_bytes())
            }
            Command::Control(value @ control::BREAK_QUERY..=control::BREAK_OFF) => {
                self.line_break(value, feeder)
            }
            Command::Control(value @ control::DTR_QUERY..=control::RTS_OFF) => self.modem_line(value).await,
            Command::LineStateMask(mask) => {
                self.line_mask = mask;
                command
            }
            Command::ModemStateMask(mask) => {
                self.modem_mask = mask;
                command
            }
            Command::ModemState(_) => return self.modem_state().await.into_iter().collect(),
            Command::LineState(_) => Command::LineState(0),
            // Nothing is buffered here that could be discarded: earlier output of the device is not sent to
            // the client, and the client's input is already queued for the device.
            Command::Purge(_) => command,
            _ => {
                if let Some(wanted) = command.apply(self.current()) {
                    self.set(wanted).await;
                }
                match command.reply(&self.current()) {
                    Some(reply) => reply,
                    None => return Vec::new(),
                }
            }
        };
        vec![reply]
    }

    /// Whether the client may change settings now.
    fn may_set(&self) -> bool {
        self.console.settings().remote_settings && self.console.roster().writes(self.member)
    }

    fn is_leased(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| !lease.is_closed())
    }

    fn current(&self) -> LineSettings {
        match self.wanted {
            Some(wanted) if self.is_leased() => wanted,
            _ => self.console.settings().line,
        }
    }

    /// Sets the line, if the client is allowed to and the driver supports it. A line with these settings is
    /// left as it is.
    async fn set(&mut self, wanted: LineSettings) {
        let before = self.current();
        if wanted == before || !self.may_set() {
            return;
        }
        if !self.apply(wanted).await && self.is_leased() {
            // The driver may have applied other settings than both.
            self.apply(before).await;
        }
    }

    /// Whether the line has exactly these settings now.
    async fn apply(&mut self, wanted: LineSettings) -> bool {
        let mut ends = None;
        if !self.is_leased() {
            let (lease, other) = oneshot::channel();
            self.lease = Some(lease);
            ends = Some(other);
        }
        let (told, done) = oneshot::channel();
        let control = Control::Lease { settings: wanted, lease: ends, sends: true, told };
        let asked = async {
            self.console.hub.control().send(control).await.ok()?;
            done.await.ok()
        };
        match tokio::time::timeout(LINE_TIMEOUT, asked).await {
            Ok(Some(Ok(refused))) => {
                self.wanted = Some(wanted);
                refused.is_empty()
            }
            Ok(Some(Err(why))) => {
                tracing::info!("{}: RFC 2217 client: {wanted} is not set: {why}", self.console.name());
                false
            }
            Ok(None) | Err(_) => false,
        }
    }

    async fn modem_line(&mut self, value: u8) -> Command {
        let line = if value < control::RTS_QUERY { ModemLine::Dtr } else { ModemLine::Rts };
        let on = match value {
            control::DTR_ON | control::RTS_ON => Some(true),
            control::DTR_OFF | control::RTS_OFF => Some(false),
            _ => None,
        };
        let of = |lines: ModemLines| if line == ModemLine::Dtr { lines.dtr } else { lines.rts };
        let mut is = self.condition().await.modem.map(of);
        if let Some(on) = on
            && self.may_set()
        {
            match is {
                None if line == ModemLine::Dtr => self.imagined.0 = on,
                None => self.imagined.1 = on,
                Some(is_on) if is_on == on => {}
                // The lease restores DTR and RTS, so it must exist before either is set.
                Some(_) if self.is_leased() || self.apply(self.current()).await => {
                    self.set_level(line, on).await;
                    is = self.condition().await.modem.map(of);
                }
                Some(_) => {}
            }
            self.levels[usize::from(line == ModemLine::Rts)] = Some(on);
        }
        let imagined = if line == ModemLine::Dtr { self.imagined.0 } else { self.imagined.1 };
        let is = is.unwrap_or(imagined);
        Command::modem_line(line == ModemLine::Dtr, is)
    }

    async fn set_level(&self, line: ModemLine, on: bool) {
        let (told, done) = oneshot::channel();
        let asked = async {
            self.console.hub.control().send(Control::Set(line, on, told)).await.ok()?;
            done.await.ok()
        };
        if let Ok(Some(Err(why))) = tokio::time::timeout(LINE_TIMEOUT, asked).await {
            tracing::info!("{}: RFC 2217 client: {why}", self.console.name());
        }
    }

    /// A break is sent when its client ends it, with the same length: it is in order with the preceding
    /// input, and a client that disconnects cannot leave the line in the break state.
    fn line_break(&mut self, value: u8, feeder: &Feeder) -> Command {
        match value {
            control::BREAK_ON => {
                self.breaking_since.get_or_insert_with(Instant::now);
            }
            control::BREAK_OFF => {
                if let Some(since) = self.breaking_since.take() {
                    let length = u32::try_from(since.elapsed().as_millis()).unwrap_or(u32::MAX);
                    let length = length.clamp(*BREAK_MS_RANGE.start(), *BREAK_MS_RANGE.end());
                    feeder.feed(Event::TimedBreak(Duration::from_millis(length.into())));
                }
            }
            _ => {}
        }
        Command::Control(if self.breaking_since.is_some() { control::BREAK_ON } else { control::BREAK_OFF })
    }

    async fn condition(&self) -> Condition {
        self.console.hub.examine().await
    }

    /// The modem lines now, whether they have changed or not.
    pub(super) async fn modem_state(&mut self) -> Option<Command> {
        let lines = self.condition().await.modem;
        let state = bits(lines);
        let deltas = deltas(self.last_modem.replace(state), state);
        Some(Command::ModemState(state | deltas))
    }

    /// Renews or ends the lease, and returns the changes since the last call.
    pub(super) async fn look(&mut self) -> Vec<Command> {
        if self.lease.is_some() && !self.may_set() {
            (self.lease, self.wanted, self.levels) = (None, None, [None; 2]);
        }
        // An adapter that was plugged in again gets the settings of the client.
        if let Some(wanted) = self.wanted.filter(|_| !self.is_leased())
            && self.console.hub.line().borrow().takes_input()
        {
            self.apply(wanted).await;
            for (line, level) in [ModemLine::Dtr, ModemLine::Rts].into_iter().zip(self.levels) {
                if let (Some(on), true) = (level, self.is_leased()) {
                    self.set_level(line, on).await;
                }
            }
        }
        let Condition { modem, counters, .. } = self.condition().await;
        let mut told = Vec::new();
        let state = bits(modem);
        let changed = deltas(self.last_modem.replace(state), state);
        if changed & self.modem_mask != 0 || (changed << 4) & self.modem_mask != 0 {
            told.push(Command::ModemState((state | changed) & self.modem_mask));
        }
        let errors = errors(self.last_counters, counters) & self.line_mask;
        self.last_counters = counters;
        if errors != 0 {
            told.push(Command::LineState(errors));
        }
        told
    }
}

/// The modem lines as bits of a 16550. A device without modem lines is reported as ready, because a client
/// would wait for CTS without limit.
fn bits(lines: Option<ModemLines>) -> u8 {
    let Some(ModemLines { cts, dsr, dcd, ri, .. }) = lines else {
        return modem_state::CLEAR_TO_SEND | modem_state::DATA_SET_READY | modem_state::CARRIER_DETECT;
    };
    [
        (cts, modem_state::CLEAR_TO_SEND),
        (dsr, modem_state::DATA_SET_READY),
        (dcd, modem_state::CARRIER_DETECT),
        (ri, modem_state::RING_INDICATOR),
    ]
    .into_iter()
    .filter_map(|(on, bit)| on.then_some(bit))
    .fold(0, |all, bit| all | bit)
}

/// The bits of the lines that have changed; for the ring indicator, only its end.
fn deltas(before: Option<u8>, now: u8) -> u8 {
    let Some(before) = before else { return 0 };
    let ring_ended = (before & !now & modem_state::RING_INDICATOR) >> 4;
    (((before ^ now) >> 4) & !modem_state::TRAILING_EDGE_RING) | ring_ended
}

fn errors(before: Option<Counters>, now: Option<Counters>) -> u8 {
    let (Some(before), Some(now)) = (before, now) else { return 0 };
    [
        (before.breaks != now.breaks, line_state::BREAK),
        (before.frame != now.frame, line_state::FRAMING_ERROR),
        (before.parity != now.parity, line_state::PARITY_ERROR),
        (
            before.overrun != now.overrun || before.buffer_overrun != now.buffer_overrun,
            line_state::OVERRUN_ERROR,
        ),
    ]
    .into_iter()
    .filter_map(|(more, bit)| more.then_some(bit))
    .fold(0, |all, bit| all | bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modem_states_are_those_of_a_16550() {
        let lines = ModemLines { dtr: true, rts: true, cts: true, dsr: false, dcd: false, ri: true };
        assert_eq!(bits(Some(lines)), 0x50);
        assert_eq!(deltas(Some(0x50), 0x10), 0x04, "the ring has ended: TERI");
        assert_eq!(deltas(Some(0x10), 0x50), 0, "the ring has begun");
        assert_eq!(deltas(Some(0x10), 0xa0), 0x0b, "CTS off, DSR and DCD on");
        assert_eq!(deltas(None, 0xff), 0);
    }
}
