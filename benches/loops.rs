//! The loops that every byte goes through, in bytes a second: `make bench-loops`. What the whole costs beside other console
//! servers is another measurement.

use consoleserver::capture::{Encoder, Times};
use consoleserver::config::{EscapePrefix, LogType};
use consoleserver::ring::{READ_MAX, Ring};
use consoleserver::session::escape::EscapeMachine;
use consoleserver::session::replay::presentable;
use consoleserver::session::timestamps::Timestamper;
use consoleserver::trigger::lines::Lines;
use divan::Bencher;
use divan::counter::BytesCount;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Bytes of a run: more than the ring holds, so that it wraps.
const BYTES: usize = 1024 * 1024;

fn main() {
    divan::main();
}

/// Output of devices.
#[derive(Debug, Clone, Copy)]
enum Said {
    /// Lines of a boot.
    Lines,
    /// The same in colours.
    Colours,
    /// Bytes of any value.
    Noise,
}

const SAID: [Said; 3] = [Said::Lines, Said::Colours, Said::Noise];

impl Said {
    fn bytes(self) -> Vec<u8> {
        let noise = |index: usize| (index.wrapping_mul(2_654_435_761) >> 13) as u8;
        match self {
            Self::Lines => {
                repeated(b"[    2.416512] usb 1-1.4: new high-speed USB device number 5 using xhci\r\n")
            }
            Self::Colours => {
                repeated(b"[\x1b[0;32m  OK  \x1b[0m] Started \x1b[0;1;39mssh.service\x1b[0m.\r\n")
            }
            Self::Noise => (0..BYTES).map(noise).collect(),
        }
    }
}

fn repeated(line: &[u8]) -> Vec<u8> {
    line.iter().copied().cycle().take(BYTES).collect()
}

/// Read from the tty into it, and pulled by one cursor.
#[divan::bench(args = [64, READ_MAX])]
fn ring(bencher: Bencher<'_, '_>, read: usize) {
    let said = Said::Lines.bytes();
    let mut ring = Ring::create(256 * 1024).expect("memory");
    let mut pulled = Vec::with_capacity(READ_MAX);
    bencher.counter(BytesCount::new(BYTES)).bench_local(|| {
        let mut rest = said.as_slice();
        let mut at = ring.head();
        while !rest.is_empty() {
            // (The pipe is written to in place of the tty's splice.)
            let count = rustix::io::write(ring.intake(), &rest[..read.min(rest.len())]).expect("room");
            rest = &rest[count..];
            ring.take_in(count).expect("a pipe");
            while at < ring.head() {
                pulled.clear();
                pulled.extend_from_slice(ring.read(at));
                at += pulled.len() as u64;
            }
        }
        at
    });
}

/// Handed in a backlog at a time, as the log writer does it.
fn encoded(bencher: Bencher<'_, '_>, kind: LogType, said: Said) {
    let said = said.bytes();
    let mut encoder = Encoder::new(kind, TimeZone::UTC);
    let times = Times { pending_since: Timestamp::UNIX_EPOCH, now: Timestamp::UNIX_EPOCH };
    let mut out = Vec::new();
    bencher.counter(BytesCount::new(BYTES)).bench_local(|| {
        let mut rest = said.as_slice();
        loop {
            out.clear();
            let backlog = &rest[..rest.len().min(64 * 1024)];
            let count = encoder.encode(backlog, times, backlog.len() == rest.len(), &mut out);
            rest = &rest[count..];
            if count == 0 || rest.is_empty() {
                break;
            }
        }
        rest.len()
    });
}

#[divan::bench(args = SAID)]
fn text_log(bencher: Bencher<'_, '_>, said: Said) {
    encoded(bencher, LogType::Text, said);
}

#[divan::bench]
fn hex_log(bencher: Bencher<'_, '_>) {
    encoded(bencher, LogType::Hex, Said::Noise);
}

/// Typed one by one, and pasted.
#[divan::bench(args = [1, 4096])]
fn escape_machine(bencher: Bencher<'_, '_>, piece: usize) {
    let typed = Said::Lines.bytes();
    let mut machine = EscapeMachine::new(Some(EscapePrefix::default()));
    bencher
        .counter(BytesCount::new(BYTES))
        .bench_local(|| typed.chunks(piece).map(|piece| machine.feed(piece).len()).sum::<usize>());
}

#[divan::bench(args = SAID)]
fn replay(bencher: Bencher<'_, '_>, said: Said) {
    let said = said.bytes();
    bencher.counter(BytesCount::new(BYTES)).bench_local(|| presentable(&said));
}

#[divan::bench]
fn time_before_lines(bencher: Bencher<'_, '_>) {
    let said = Said::Lines.bytes();
    let mut stamper = Timestamper::default();
    bencher.counter(BytesCount::new(BYTES)).bench_local(|| stamper.stamp(&said, "12:00:01"));
}

#[divan::bench(args = SAID)]
fn trigger_lines(bencher: Bencher<'_, '_>, said: Said) {
    let said = said.bytes();
    let mut lines = Lines::default();
    bencher.counter(BytesCount::new(BYTES)).bench_local(|| {
        let mut count = 0;
        lines.feed(&said, |_| count += 1);
        count
    });
}
