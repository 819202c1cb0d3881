//! The ring: what is written and read, and a ring that is found. Input: which of them, then orders, or the first page of a memfd.

use std::os::fd::{AsFd, OwnedFd};

use consoleserver::ring::{LogMark, LogRecord, READ_MAX, Ring};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::uio::pwrite;
use nix::unistd::{ftruncate, write};

const CAPACITY: usize = 4 * 4096;
/// "console1" and the version of its layout.
const MAGIC: u64 = 0x636f_6e73_6f6c_0002;

/// See the module.
pub fn run(data: &[u8]) {
    match data.split_first() {
        Some((0..=127, orders)) => said_and_heard(orders),
        Some((_, page)) => found(page),
        None => {}
    }
}

/// Two bytes an order, against a list of everything.
fn said_and_heard(orders: &[u8]) {
    let mut ring = Ring::create(CAPACITY).expect("memory");
    let mut all: Vec<u8> = Vec::new();
    let mut oldest = 0;
    for order in orders.chunks_exact(2).take(100) {
        let [what, size] = [order[0], order[1]];
        match what % 8 {
            0..=3 => {
                let line =
                    |index: usize| if index % 29 == 28 { b'\n' } else { size.wrapping_add(index as u8) };
                let said: Vec<u8> = (0..(usize::from(size) * 17).min(READ_MAX)).map(line).collect();
                say(&mut ring, &said);
                all.extend_from_slice(&said);
            }
            4 => {
                // Nothing is there.
                ring.take_in(0).expect("a pipe");
            }
            5 => {
                let memfd = ring.as_fd().try_clone_to_owned().expect("a descriptor");
                let intake = ring.intake().try_clone_to_owned().expect("a descriptor");
                let said = vec![what; if what & 8 == 0 { size.into() } else { 0 }];
                write(ring.intake(), &said).expect("a pipe");
                // Killed before or after the ring has taken them.
                if what & 16 == 0 {
                    ring.take_in(said.len()).expect("a pipe");
                }
                all.extend(said);
                drop(ring);
                ring = Ring::adopt(vec![memfd], Some(intake)).expect("one of ours");
            }
            6 => {
                ring = ring.resized([2, 3, 4, 8][usize::from(size) % 4] * 4096).expect("memory");
            }
            _ => {
                let mark =
                    LogMark { position: ring.head().min(size.into()), lost: 1, file: [u64::from(what); 6] };
                let next = (size & 1 == 0).then_some(mark);
                let record = LogRecord { mark, next, synced: LogMark { position: 0, ..mark } };
                ring.set_log_record(record);
                ring.count_sent(usize::from(size));
                assert_eq!(ring.log_record(), record);
            }
        }
        assert_eq!(ring.head(), all.len() as u64);
        assert!(ring.tail() >= oldest, "what is gone does not come back");
        oldest = ring.tail();
        assert!(ring.head() - oldest <= ring.window() as u64);
        assert_eq!(
            heard(&ring, u64::from(size)),
            &all[oldest.max(u64::from(size)).min(ring.head()) as usize..]
        );
        let lines = usize::from(size % 5);
        let from = ring.last_lines(lines) as usize;
        assert!(from == oldest as usize || from == all.len() || all[from - 1] == b'\n');
        if lines > 0 {
            let ends = all[from..].strip_suffix(b"\n").unwrap_or(&all[from..]);
            assert!(ends.iter().filter(|byte| **byte == b'\n').count() < lines);
        }
    }
}

fn say(ring: &mut Ring, said: &[u8]) {
    let count = write(ring.intake(), said).expect("a pipe");
    ring.take_in(count).expect("a pipe");
}

fn heard(ring: &Ring, from: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut at = from.max(ring.tail());
    while at < ring.head() {
        let piece = ring.read(at);
        assert!(!piece.is_empty() && piece.len() <= ring.window());
        bytes.extend_from_slice(piece);
        at += piece.len() as u64;
    }
    bytes
}

/// Any content is either rejected or usable.
fn found(page: &[u8]) {
    let Ok(mut ring) = Ring::adopt(vec![memfd(page)], None) else { return };
    let (tail, head) = (ring.tail(), ring.head());
    assert!(tail <= head && head - tail <= ring.window() as u64, "{tail} {head}");
    assert!(ring.log_record().mark.position <= head, "the log is not ahead of the device");
    assert!(heard(&ring, 0).len() <= ring.window());
    for lines in [0, 1, 20, 10_000] {
        assert!((tail..=head).contains(&ring.last_lines(lines)));
    }
    ring.set_log_record(ring.log_record());
    ring.count_sent(1);
    say(&mut ring, &[b'x'; READ_MAX]);
    assert_eq!(ring.head(), head + READ_MAX as u64);
    let other = ring.resized(2 * CAPACITY).expect("memory");
    assert_eq!(heard(&other, 0), heard(&ring, 0));
    assert_eq!((other.head(), other.sent()), (ring.head(), ring.sent()));
}

/// Bytes behind a right beginning; with an odd first one it is wrong too.
fn memfd(page: &[u8]) -> OwnedFd {
    let memfd = memfd_create("fuzz", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).expect("memory");
    ftruncate(&memfd, 4096 + CAPACITY as i64).expect("memory");
    let (kind, words) = page.split_first().unwrap_or((&0, &[]));
    let head =
        if kind & 1 == 0 { [MAGIC.to_ne_bytes(), CAPACITY.to_ne_bytes()].concat() } else { Vec::new() };
    let page = [&head[..], words].concat();
    pwrite(&memfd, &page[..page.len().min(4096)], 0).expect("room");
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&memfd, FcntlArg::F_ADD_SEALS(seals)).expect("seals");
    memfd
}
