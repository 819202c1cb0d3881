//! The capture log on real files: output can be read back, through any splitting, crash, full disk or rotation.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use consoleserver::capture::{CaptureError, CaptureLog, Encoder, Left, Mark, Recovered, Times};
use consoleserver::config::{Log, LogType};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use nix::sched::{CloneFlags, unshare};
use proptest::prelude::*;

const STAMP: usize = "2026-11-22T21:15:51.123+01:00 ".len();

fn log(kind: LogType) -> Log {
    Log { kind, file: "console.log".to_owned(), input: false, journal: false, record: false, sync: None }
}

fn open(dir: &Path) -> CaptureLog {
    CaptureLog::open(dir, &log(LogType::Text)).unwrap()
}

fn times() -> Times {
    let now: Timestamp = "2026-11-22T20:15:51.123Z".parse().unwrap();
    Times { pending_since: now, now }
}

/// The output of the device, as a reader of the log restores it. Whether the last line had its end is not in the log.
fn decode(log: &[u8], last_line_is_open: bool) -> Vec<u8> {
    let log = std::str::from_utf8(log).expect("a text log is UTF-8");
    assert!(log.is_empty() || log.ends_with('\n'));
    let mut said = Vec::new();
    let mut any = false;
    for record in log.lines() {
        match &record[STAMP..STAMP + 2] {
            "< " if any => said.push(b'\n'),
            "< " | "<+" => {}
            "# " => continue,
            mark => panic!("no such mark: {mark:?}"),
        }
        any = true;
        unescape(&record[STAMP + 2..], &mut said);
    }
    if any && !last_line_is_open {
        said.push(b'\n');
    }
    said
}

fn unescape(text: &str, said: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        said.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest[at + 1..];
        let length = match escape.as_bytes()[0] {
            b'\\' => {
                said.push(b'\\');
                1
            }
            b'r' => {
                said.push(b'\r');
                1
            }
            b'x' => {
                said.push(u8::from_str_radix(&escape[1..3], 16).unwrap());
                3
            }
            b'u' => {
                let end = escape.find('}').unwrap();
                let character = u32::from_str_radix(&escape[2..end], 16).unwrap();
                said.extend_from_slice(char::from_u32(character).unwrap().to_string().as_bytes());
                end + 1
            }
            other => panic!("no such escape: {}", char::from(other)),
        };
        rest = &escape[length..];
    }
    said.extend_from_slice(rest.as_bytes());
}

/// The lines of these bytes with any line end, without empty ones and without NULs, which may be a CR's padding.
fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> =
        bytes.split(|byte| matches!(byte, b'\r' | b'\n')).map(<[u8]>::to_vec).collect();
    lines.iter_mut().for_each(|line| line.retain(|byte| *byte != 0));
    lines.retain(|line| !line.is_empty());
    lines
}

/// Bytes as consoles send them: lines, prompts, colours, foreign scripts, noise at the wrong baud rate, and lines
/// longer than a record.
fn said() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => "[ -~]{0,40}".prop_map(String::into_bytes),
        2 => Just(b"\r\n".to_vec()),
        1 => Just(b"\n".to_vec()),
        1 => Just(b"\r".to_vec()),
        1 => ".{0,8}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..16),
        1 => Just("東".repeat(1500).into_bytes()),
        1 => Just("x".repeat(4095).into_bytes()),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn what_was_said_can_be_read_back(
        said in said(),
        reads in prop::collection::vec((1_usize..6000, any::<bool>()), 1..40),
    ) {
        let mut encoder = Encoder::new(LogType::Text, TimeZone::UTC);
        let (mut head, mut consumed) = (0_usize, 0);
        let mut log = Vec::new();
        // After the random reads, one reads the rest and flushes it.
        for (length, flush) in reads.into_iter().chain([(usize::MAX, true)]) {
            head = head.saturating_add(length).min(said.len());
            loop {
                let mut records = Vec::new();
                let pending = &said[consumed..head];
                let taken = encoder.encode(pending, times(), flush, &mut records);
                log.extend(records);
                consumed += taken;
                if taken == 0 { break }
            }
            if flush {
                prop_assert_eq!(consumed, head, "a flush leaves nothing");
            } else {
                prop_assert!(head - consumed < 4096, "more is pending than a record holds");
                prop_assert!(!said[consumed..head].contains(&b'\n'), "a whole line is pending");
            }
            encoder.note("between", times().now, &mut log);
        }
        for control in log.iter().filter(|byte| byte.is_ascii_control()) {
            prop_assert!(b"\n\t".contains(control), "{control:#x} is in the log");
        }
        let read = decode(&log, encoder.left != Left::Ended);
        prop_assert_eq!(lines(&read), lines(&said));
    }

    #[test]
    fn raw_is_what_was_said(said in prop::collection::vec(any::<u8>(), 0..100_000)) {
        let dir = tempfile::tempdir().unwrap();
        let mut log = CaptureLog::open(dir.path(), &log(LogType::Raw)).unwrap();
        prop_assert_eq!(log.append(&said, times(), false).unwrap(), said.len());
        prop_assert_eq!(fs::read(dir.path().join("console.log")).unwrap(), said);
    }
}

#[test]
fn a_crash_at_any_byte_of_a_write_loses_and_duplicates_nothing() {
    let said = b"U-Boot\r\nlogin: root\r\nPassword: \xff\r\n# ";
    let whole = tempfile::tempdir().unwrap();
    let mut log = open(whole.path());
    let prompt = b"U-Boot\r\nlogin: ".len();
    assert_eq!(log.append(&said[..prompt], times(), true).unwrap(), prompt);
    let mark = Mark::from(<[u64; 6]>::from(log.mark()));
    assert_eq!(mark.left, Left::Unfinished);
    assert_eq!(log.append(&said[prompt..], times(), true).unwrap(), said.len() - prompt);
    let expected = fs::read(whole.path().join("console.log")).unwrap();
    let next = Mark::from(<[u64; 6]>::from(log.mark()));

    for written in mark.size as usize..=expected.len() {
        // State after the kill: its mark, the end of its write, and a file that is longer than the mark.
        fs::write(whole.path().join("console.log"), &expected[..written]).unwrap();
        let mut log = open(whole.path());
        if written == expected.len() {
            assert_eq!(log.resume(mark, Some(next)).unwrap(), Recovered::Whole);
            assert_eq!((log.mark().size, log.mark().left), (next.size, next.left));
            continue;
        }
        assert_eq!(log.resume(mark, Some(next)).unwrap(), Recovered::Nothing);
        assert_eq!((log.mark().size, log.mark().left), (mark.size, mark.left));
        assert_eq!(log.append(&said[prompt..], times(), true).unwrap(), said.len() - prompt);
        assert_eq!(fs::read(whole.path().join("console.log")).unwrap(), expected, "{written} were written");
    }
}

#[test]
fn a_mark_of_another_file_or_beyond_the_end_changes_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("console.log");
    let mut first = open(dir.path());
    first.append(b"one\n", times(), false).unwrap();
    let mark = first.mark();

    fs::rename(&path, dir.path().join("console.log.1")).unwrap();
    fs::write(&path, "of another process, and longer than the mark records").unwrap();
    let before = fs::read(&path).unwrap();
    let mut other = open(dir.path());
    assert_eq!(other.resume(mark, None).unwrap(), Recovered::Nothing);
    assert_eq!(fs::read(&path).unwrap(), before);

    let beyond = Mark { size: 1 << 40, ..other.mark() };
    assert_eq!(other.resume(other.mark(), Some(beyond)).unwrap(), Recovered::Nothing);
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(other.mark().size, before.len() as u64);

    fs::remove_file(dir.path().join("console.log.1")).unwrap();
    let next = Mark { size: mark.size + 40, ..mark };
    assert_eq!(other.resume(mark, Some(next)).unwrap(), Recovered::Gone);
    assert_eq!(fs::read(&path).unwrap(), before);
}

/// The marks before and after a write, and the file before.
fn a_write(dir: &Path) -> (Mark, Mark, Vec<u8>) {
    let mut log = open(dir);
    log.append(b"one\n", times(), false).unwrap();
    let before = log.mark();
    log.append(b"two\nthree\n", times(), false).unwrap();
    (before, log.mark(), fs::read(dir.join("console.log")).unwrap())
}

#[test]
fn a_write_is_found_in_a_renamed_file() {
    let dir = tempfile::tempdir().unwrap();
    let (path, rotated) = (dir.path().join("console.log"), dir.path().join("console.log.1"));
    let (before, next, whole) = a_write(dir.path());
    fs::rename(&path, &rotated).unwrap();
    let resumed = || open(dir.path()).resume(before, Some(next)).unwrap();
    assert_eq!(resumed(), Recovered::Whole);
    assert_eq!(fs::read(&rotated).unwrap(), whole);
    // A part of the write is in the file: it is undone, and can be written to the new file.
    let file = OpenOptions::new().write(true).open(&rotated).unwrap();
    file.set_len(next.size - 3).unwrap();
    assert_eq!(resumed(), Recovered::Nothing);
    assert_eq!(fs::read(&rotated).unwrap(), whole[..before.size as usize]);
    assert_eq!(fs::read(&path).unwrap(), b"");
}

#[test]
fn bytes_appended_by_others_are_not_mistaken_for_a_write() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("console.log");
    let (before, next, whole) = a_write(dir.path());
    OpenOptions::new().write(true).open(&path).unwrap().set_len(before.size).unwrap();
    let theirs = "of an administrator, and longer than the write that did not happen: ".repeat(4);
    OpenOptions::new().append(true).open(&path).unwrap().write_all(theirs.as_bytes()).unwrap();
    let mut log = open(dir.path());
    assert_eq!(log.resume(before, Some(next)).unwrap(), Recovered::Nothing);
    log.append(b"two\nthree\n", times(), false).unwrap();
    let expected = [&whole[..before.size as usize], theirs.as_bytes(), b"\n", &whole[before.size as usize..]];
    assert_eq!(fs::read(&path).unwrap(), expected.concat());
}

/// The log of a machine after a power failure, with these bytes in it, after a record at the next start.
fn after_a_power_cut(kind: LogType, left: &[u8]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("console.log");
    fs::write(&path, left).unwrap();
    let mut log = CaptureLog::open(dir.path(), &log(kind)).unwrap();
    log.resume(Mark::default(), None).unwrap();
    log.trim_nuls(false).unwrap();
    log.append(b"booted\n", times(), false).unwrap();
    log.append(b"login: ", times(), true).unwrap();
    fs::read(&path).unwrap()
}

const BEFORE: &[u8] = b"2026-11-22T21:15:51.123+01:00 < Linux\n";

#[test]
fn a_record_begins_on_a_line_of_its_own_after_half_of_another() {
    for kind in [LogType::Text, LogType::Hex, LogType::Both] {
        let log = after_a_power_cut(kind, &BEFORE[..34]);
        let lines: Vec<&[u8]> = log.split(|byte| *byte == b'\n').collect();
        assert_eq!(lines[0], &BEFORE[..34], "{kind:?}");
        assert_eq!(&lines[1][STAMP - 1..STAMP + 2], b" < ", "{kind:?}");
        let whole = after_a_power_cut(kind, BEFORE);
        assert_eq!(whole.iter().filter(|byte| **byte == b'\n').count(), lines.len() - 1, "{kind:?}");
    }
    assert_eq!(after_a_power_cut(LogType::Raw, b"Lin"), b"Linbooted\nlogin: ");
}

#[test]
fn nuls_of_a_power_failure_are_removed_from_records_and_noted() {
    for nuls in [1, 1400, 3100, 4096, 100_000] {
        for before in [BEFORE, &BEFORE[..34], b""] {
            let left = [before, &vec![0; nuls]].concat();
            let log = String::from_utf8(after_a_power_cut(LogType::Text, &left)).unwrap();
            assert!(!log.contains('\0'));
            let note = format!(" # {nuls} NUL bytes removed here: left by a power failure\n");
            let (start, rest) = log.split_once(&note).expect("a note");
            let ends = if before == BEFORE || before.is_empty() { "" } else { "\n" };
            let start = &start[..start.len() - (STAMP - 1)];
            assert_eq!(start, format!("{}{ends}", String::from_utf8_lossy(before)), "{nuls}");
            assert!(rest[STAMP..].starts_with("< booted\n"), "{rest}");
            // NULs in a raw log may be output of the device.
            assert_eq!(after_a_power_cut(LogType::Raw, &left), [&left[..], b"booted\nlogin: "].concat());
        }
    }
}

#[test]
fn what_was_not_synced_is_undone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("console.log");
    let mut log = open(dir.path());
    log.append(b"one\ntw", times(), true).unwrap();
    log.sync().unwrap();
    let synced = log.mark();
    let before = fs::read(&path).unwrap();
    log.append(b"o\nthree\n", times(), false).unwrap();
    let after = fs::read(&path).unwrap();
    log.roll_back(synced).unwrap();
    assert_eq!(fs::read(&path).unwrap(), before);
    log.append(b"o\nthree\n", times(), false).unwrap();
    assert_eq!(fs::read(&path).unwrap(), after);
}

#[test]
fn an_administrator_may_truncate_the_open_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("console.log");
    let mut log = open(dir.path());
    log.append(b"a long line that is no more\n", times(), false).unwrap();
    OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
    log.append(b"two\n", times(), false).unwrap();
    assert_eq!(log.mark().size, fs::metadata(&path).unwrap().len());
    assert_eq!(decode(&fs::read(&path).unwrap(), false), b"two\n");
}

#[test]
fn a_rotation_by_rename_and_reopen_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("console.log");
    let rotated = dir.path().join("console.log.1");
    let mut log = open(dir.path());
    log.append(b"one\n", times(), false).unwrap();
    fs::rename(&path, &rotated).unwrap();
    assert_eq!(log.append(b"two\nthr", times(), true).unwrap(), 7);
    let before = log.mark();
    log.reopen().unwrap();
    assert_ne!(log.mark().file, before.file);
    log.append(b"ee\nfour\n", times(), false).unwrap();
    log.note("ttyUSB0 unplugged").unwrap();

    let both = [fs::read(&rotated).unwrap(), fs::read(&path).unwrap()];
    assert_eq!(decode(&both.concat(), false), b"one\ntwo\nthree\nfour\n");
    assert!(both[1].ends_with(b" # ttyUSB0 unplugged\n"));
    assert_eq!(log.mark().size, both[1].len() as u64);
}

#[test]
fn only_a_regular_file_is_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("console.log");
    let refusal = || CaptureLog::open(dir.path(), &log(LogType::Text)).unwrap_err();

    let target = dir.path().join("target");
    fs::write(&target, "kept").unwrap();
    symlink(&target, &path).unwrap();
    assert!(matches!(refusal(), CaptureError::Symlink(_)));
    assert!(refusal().to_string().contains(path.to_str().unwrap()));
    assert_eq!(fs::read(&target).unwrap(), b"kept");
    fs::remove_file(&path).unwrap();

    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(refusal(), CaptureError::NotAFile(_)), "and did not hang");
    let reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    assert!(matches!(refusal(), CaptureError::NotAFile(_)), "also with a reader");
    drop(reader);
    fs::remove_file(&path).unwrap();

    fs::create_dir(&path).unwrap();
    assert!(matches!(refusal(), CaptureError::NotAFile(_)));

    let missing = CaptureLog::open(dir.path().join("missing").as_path(), &log(LogType::Text)).unwrap_err();
    assert_eq!(
        missing.to_string(),
        format!("the log directory {} does not exist", dir.path().join("missing").display())
    );
}

#[test]
fn the_log_is_not_for_others_to_read_and_type_none_makes_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut none = CaptureLog::open(dir.path(), &log(LogType::None)).unwrap();
    assert_eq!(none.append(b"gone\nhalf", times(), false).unwrap(), 9);
    none.note("unplugged").unwrap();
    none.reopen().unwrap();
    none.sync().unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

    open(dir.path()).sync().unwrap();
    let mode = fs::metadata(dir.path().join("console.log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7137, 0, "{mode:o}");
}

#[test]
fn a_log_can_be_handed_to_another_thread() {
    fn sendable<T: Send + 'static>() {}
    sendable::<CaptureLog>();
}

/// Runs `test` with a private tmpfs of 64 KiB. A user other than root becomes root in a user
/// namespace, for which the test runs itself again.
fn on_a_small_disk(name: &str, test: fn(&Path)) {
    if !nix::unistd::geteuid().is_root() {
        let again = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "--"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .output()
            .expect("unshare(1) of util-linux");
        let out = String::from_utf8_lossy(&again.stdout).into_owned();
        assert!(again.status.success() && out.contains("1 passed"), "{out}{again:?}");
        return;
    }
    let thread = std::thread::spawn(move || {
        // The mount namespace belongs to this thread and ends with it.
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(&["--make-rprivate", "/"]);
        let dir = tempfile::tempdir().unwrap();
        mount(&["-t", "tmpfs", "-o", "size=64k", "none", dir.path().to_str().unwrap()]);
        test(dir.path());
        let unmounted = Command::new("umount").arg(dir.path()).status().unwrap();
        assert!(unmounted.success(), "something on the disk is still open");
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn mount(arguments: &[&str]) {
    let mounted = Command::new("mount").args(arguments).output().unwrap();
    assert!(mounted.status.success(), "mount {arguments:?}: {mounted:?}");
}

#[test]
fn a_full_disk_loses_nothing_once_there_is_space_again() {
    on_a_small_disk("a_full_disk_loses_nothing_once_there_is_space_again", |dir| {
        let path = dir.join("console.log");
        let ballast = dir.join("ballast");
        fs::write(&ballast, vec![0; 40 * 1024]).unwrap();
        let said: Vec<u8> = (0..900).flat_map(|n| format!("line {n} of a boot\r\n").into_bytes()).collect();
        let mut log = open(dir);
        let mut position = 0;

        // The first call writes what fits in complete batches, the second one only returns the error.
        let full = loop {
            assert!(position < said.len(), "the disk took everything");
            let head = (position + 1500).min(said.len());
            let mark = log.mark();
            match log.append(&said[position..head], times(), false) {
                Ok(consumed) => position += consumed,
                Err(full) => {
                    assert_eq!(log.mark(), mark);
                    break full;
                }
            }
        };
        assert!(full.to_string().contains("cannot write the log") && full.to_string().contains("No space"));
        for _ in 0..3 {
            log.append(&said[position..], times(), false).unwrap_err();
            let written = fs::read(&path).unwrap();
            assert_eq!(written.len() as u64, log.mark().size, "half a record was left behind");
            assert_eq!(lines(&decode(&written, false)), lines(&said[..position]));
        }

        fs::remove_file(&ballast).unwrap();
        assert_eq!(log.append(&said[position..], times(), true).unwrap(), said.len() - position);
        assert_eq!(lines(&decode(&fs::read(&path).unwrap(), false)), lines(&said));
    });
}

#[test]
fn a_backlog_that_fits_in_part_returns_the_part_and_then_the_error() {
    on_a_small_disk("a_backlog_that_fits_in_part_returns_the_part_and_then_the_error", |dir| {
        let backlog = b"x".repeat(100).into_iter().chain(*b"\n").cycle().take(101 * 2000).collect::<Vec<_>>();
        let mut log = open(dir);
        let consumed = log.append(&backlog, times(), false).unwrap();
        assert!(0 < consumed && consumed < backlog.len(), "{consumed}");
        assert_eq!(consumed % 101, 0);
        let full = log.append(&backlog[consumed..], times(), false).unwrap_err();
        assert!(full.to_string().contains("No space"), "{full}");
        let written = fs::read(dir.join("console.log")).unwrap();
        assert_eq!(decode(&written, false), &backlog[..consumed]);
    });
}

#[test]
fn a_read_only_disk_is_named_as_such() {
    on_a_small_disk("a_read_only_disk_is_named_as_such", |dir| {
        fs::File::create(dir.join("console.log")).unwrap().write_all(b"old\n").unwrap();
        mount(&["-o", "remount,ro", dir.to_str().unwrap()]);
        let refusal = CaptureLog::open(dir, &log(LogType::Text)).unwrap_err();
        assert!(matches!(refusal, CaptureError::ReadOnly(_)), "{refusal}");
        assert!(refusal.to_string().contains("console.log is on a read-only file system"));
    });
}

#[test]
fn errors_read_as_in_the_golden_file() {
    let directory = PathBuf::from("/var/log/consoleserver/core");
    let path = || directory.join("console.log");
    let source = std::io::Error::from_raw_os_error(nix::libc::ENOSPC);
    let errors = [
        CaptureError::NoDirectory(directory.clone()),
        CaptureError::Symlink(path()),
        CaptureError::NotAFile(path()),
        CaptureError::ReadOnly(path()),
        CaptureError::Hangs(path()),
        CaptureError::Io { what: "write", path: path(), source },
    ];
    let text: String = errors.iter().map(|error| format!("{error}\n")).collect();
    snapbox::assert_data_eq!(text, snapbox::file!["golden/capture/errors.txt"]);
}
