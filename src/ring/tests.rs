use super::*;
use proptest::prelude::*;

const CAPACITY: usize = 16 * 4096;

fn say(ring: &mut Ring, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let count = nix::unistd::write(ring.intake(), &bytes[..bytes.len().min(READ_MAX)]).unwrap();
        ring.take_in(count).unwrap();
        bytes = &bytes[count..];
    }
}

/// Adopts the ring as the next process does.
fn adopted(ring: Ring) -> Result<Ring, RingError> {
    let memfd = ring.as_fd().try_clone_to_owned().unwrap();
    let intake = ring.intake().try_clone_to_owned().unwrap();
    drop(ring);
    Ring::adopt(vec![memfd], Some(intake))
}

fn heard(ring: &Ring, from: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut at = from.max(ring.tail());
    while at < ring.head() {
        let piece = ring.read(at);
        bytes.extend_from_slice(piece);
        at += piece.len() as u64;
    }
    bytes
}

#[test]
fn another_process_resumes_where_this_one_stopped() {
    let mut ring = Ring::create(CAPACITY).unwrap();
    say(&mut ring, b"before the kill");
    let mark = LogMark { position: 6, lost: 1, file: [1, 2, 3, 4, 5, 6] };
    let next = Some(LogMark { position: 8, ..mark });
    let record = LogRecord { mark, next, synced: LogMark { position: 5, ..mark } };
    ring.set_log_record(LogRecord { next: None, ..record });
    ring.set_log_record(record);
    ring.count_sent(9);

    let ring = adopted(ring).unwrap();
    assert_eq!(heard(&ring, 0), b"before the kill");
    assert_eq!((ring.log_record(), ring.sent()), (record, 9));
}

/// A process is killed between any two steps of a read of any bytes, across the ring's end.
#[test]
fn a_read_is_published_once_wherever_it_was_interrupted() {
    for before in [0, CAPACITY - 2] {
        for said in [vec![0xfe; 5], vec![0; 5], b"after".to_vec(), vec![7]] {
            for step in 0..4 {
                let mut ring = Ring::create(CAPACITY).unwrap();
                say(&mut ring, &vec![0xfe; before]);
                nix::unistd::write(ring.intake(), &said).unwrap();
                let (head, waiting) = (ring.head(), said.len());
                if step >= 1 {
                    ring.header().intake_end.store(head + waiting as u64, Ordering::Release);
                }
                if step >= 2 {
                    let space = space(&mut ring.map, ring.capacity, head, waiting);
                    assert!(ring.intake.read(space).unwrap() > 0);
                }
                if step >= 3 {
                    ring.finish_read().unwrap();
                }
                let ring = adopted(ring).unwrap();
                assert_eq!(heard(&ring, before as u64), said, "{before} step {step}");
            }
        }
    }
}

#[test]
fn without_its_pipe_a_ring_has_what_was_published() {
    let mut ring = Ring::create(CAPACITY).unwrap();
    say(&mut ring, b"words");
    ring.header().intake_end.store(9, Ordering::Relaxed);
    let memfd = ring.as_fd().try_clone_to_owned().unwrap();
    let ring = Ring::adopt(vec![memfd], None).unwrap();
    assert_eq!(heard(&ring, 0), b"words");
}

#[test]
fn of_two_rings_the_resized_one_is_adopted() {
    let mut ring = Ring::create(CAPACITY).unwrap();
    say(&mut ring, b"words");
    let mut other = ring.resized(2 * CAPACITY).unwrap();
    assert_eq!((ring.stored_as().0, other.stored_as().0), (STORED_AS[0], STORED_AS[1]));
    say(&mut other, b" and more");
    let fds = || [&ring, &other].map(|ring| ring.as_fd().try_clone_to_owned().unwrap());
    for turn in [false, true] {
        let mut fds = Vec::from(fds());
        if turn {
            fds.reverse();
        }
        let adopted = Ring::adopt(fds, None).unwrap();
        assert_eq!((heard(&adopted, 0), adopted.capacity()), (b"words and more".to_vec(), 2 * CAPACITY));
        assert_eq!(adopted.resized(CAPACITY).unwrap().stored_as(), ("ring", "ring-resized"));
    }
}

#[test]
fn only_a_ring_of_the_same_layout_is_adopted() {
    let ring = Ring::create(CAPACITY).unwrap();
    ring.header().magic.store(MAGIC + 1, Ordering::Relaxed);
    let memfd = ring.as_fd().try_clone_to_owned().unwrap();
    assert!(matches!(Ring::adopt(vec![memfd], None), Err(RingError::Foreign(_))));
    let file = tempfile::tempfile().unwrap();
    assert!(matches!(Ring::adopt(vec![file.into()], None), Err(RingError::Foreign(_))));
}

#[test]
fn a_ring_whose_offsets_contradict_each_other_is_not_adopted() {
    let spoilt = |spoil: fn(&mut Ring)| {
        let mut ring = Ring::create(CAPACITY).unwrap();
        say(&mut ring, b"words");
        spoil(&mut ring);
        adopted(ring)
    };
    assert!(spoilt(|_| {}).is_ok());
    for spoil in [
        (|ring| ring.header().floor.store(6, Ordering::Relaxed)) as fn(&mut Ring),
        |ring| ring.header().head.store(u64::MAX - 1, Ordering::Relaxed),
        |ring| {
            let mark = LogMark { position: 6, ..LogMark::default() };
            ring.set_log_record(LogRecord { mark, ..LogRecord::default() });
        },
        |ring| {
            let next = Some(LogMark { position: 6, ..LogMark::default() });
            ring.set_log_record(LogRecord { next, ..LogRecord::default() });
        },
    ] {
        assert!(matches!(spoilt(spoil), Err(RingError::Foreign(_))));
    }
}

#[test]
fn a_resized_ring_continues_the_old_one() {
    let mut ring = Ring::create(CAPACITY).unwrap();
    say(&mut ring, &[b'x'; 3 * CAPACITY]);
    say(&mut ring, b"the last words");
    let mark = LogMark { position: ring.head() - 4, lost: 1, file: [1, 2, 3, 4, 5, 6] };
    let record = LogRecord { mark, next: None, synced: mark };
    ring.set_log_record(record);
    for capacity in [2 * CAPACITY, CAPACITY / 2] {
        let mut other = ring.resized(capacity).unwrap();
        assert_eq!((other.head(), other.log_record(), other.capacity()), (ring.head(), record, capacity));
        let kept = heard(&other, 0);
        assert_eq!(kept, heard(&ring, ring.head() - kept.len() as u64));
        assert_eq!(kept.len(), ring.window().min(other.window()));
        say(&mut other, b", and more");
        assert!(heard(&other, 0).ends_with(b"the last words, and more"));
        let other = adopted(other).unwrap();
        assert_eq!((other.capacity(), other.head()), (capacity, ring.head() + 10));
    }
}

#[test]
fn the_last_lines_begin_after_a_newline() {
    let mut ring = Ring::create(CAPACITY).unwrap();
    assert_eq!(ring.last_lines(3), 0);
    say(&mut ring, b"one\ntwo\nthree\nfour");
    assert_eq!(heard(&ring, ring.last_lines(2)), b"three\nfour");
    say(&mut ring, b"\n");
    assert_eq!(heard(&ring, ring.last_lines(2)), b"three\nfour\n");
    assert_eq!(heard(&ring, ring.last_lines(99)), b"one\ntwo\nthree\nfour\n");
    assert_eq!(ring.last_lines(0), ring.head());
}

proptest! {
    #[test]
    fn bytes_are_read_back_however_they_wrap(chunks in prop::collection::vec(0usize..9000, 0..40)) {
        let mut ring = Ring::create(CAPACITY).unwrap();
        let mut all = Vec::new();
        for (index, size) in chunks.into_iter().enumerate() {
            let chunk: Vec<u8> = (0..size).map(|byte| (byte * 7 + index) as u8).collect();
            say(&mut ring, &chunk);
            all.extend_from_slice(&chunk);
            let kept = &all[ring.tail() as usize..];
            prop_assert_eq!(heard(&ring, 0), kept);
            let lines = ring.last_lines(5);
            prop_assert!(lines == ring.tail() || all[lines as usize - 1] == b'\n');
        }
    }
}
