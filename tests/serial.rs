#![allow(unsafe_code)]
//! The device edge on real ptys: locked, read back, hung up, plugged in again, adopted.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use consoleserver::port::{Baud, LineSettings, Parity, StopBits};
use consoleserver::serial::{
    AdoptError, BreakError, Contact, DeviceWatch, OpenError, Output, ReadOutcome, Tty, WriteOutcome,
};
use nix::libc;
use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, OutputFlags, tcgetattr};
use nix::unistd::{pipe, read, ttyname, write};
use tempfile::TempDir;
use tokio::time::timeout;

/// Timeout of everything that must happen.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A pty whose slave is linked to as ttyUSB0. The slave is closed: nothing else has it open.
struct Adapter {
    master: OwnedFd,
    slave: PathBuf,
    dir: TempDir,
}

impl Adapter {
    fn plug() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pty = openpty(None, None).unwrap();
        let slave = ttyname(&pty.slave).unwrap();
        symlink(&slave, dir.path().join("ttyUSB0")).unwrap();
        Self { master: pty.master, slave, dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("ttyUSB0")
    }

    fn open(&self) -> Tty {
        Tty::open(&self.path(), &LineSettings::default(), true).unwrap().0
    }
}

/// Reads as the hub does, through a pipe.
fn try_read(contact: &Contact<'_>, buffer: &mut [u8]) -> ReadOutcome {
    let (from, to) = pipe().unwrap();
    let outcome = contact.try_splice(to.as_fd(), buffer.len()).unwrap();
    if let ReadOutcome::Bytes(count) = outcome {
        assert_eq!(read(&from, &mut buffer[..count]).unwrap(), count);
    }
    outcome
}

async fn read_some(contact: &Contact<'_>, buffer: &mut [u8]) -> ReadOutcome {
    timeout(TIMEOUT, async {
        loop {
            contact.readable().await.unwrap();
            match try_read(contact, buffer) {
                ReadOutcome::Empty => {}
                outcome => return outcome,
            }
        }
    })
    .await
    .expect("nothing was read")
}

#[tokio::test]
async fn bytes_go_both_ways_unchanged() {
    let adapter = Adapter::plug();
    let tty = adapter.open();
    let contact = tty.contact().unwrap();
    let bytes: Vec<u8> = (0..=255).collect();
    write(&adapter.master, &bytes).unwrap();
    let mut buffer = [0; 512];
    let mut got = Vec::new();
    while got.len() < bytes.len() {
        let ReadOutcome::Bytes(length) = read_some(&contact, &mut buffer).await else { panic!("hung up") };
        got.extend_from_slice(&buffer[..length]);
    }
    assert_eq!(got, bytes);
    assert_eq!(try_read(&contact, &mut buffer), ReadOutcome::Empty);

    assert_eq!(Output::new(&tty).write(&bytes).await.unwrap(), WriteOutcome::Wrote(256));
    let mut buffer = [0; 512];
    let mut got = Vec::new();
    while got.len() < bytes.len() {
        let length = read(&adapter.master, &mut buffer).unwrap();
        got.extend_from_slice(&buffer[..length]);
    }
    assert_eq!(got, bytes, "and nothing was echoed");
}

#[tokio::test]
async fn waiting_for_bytes_does_not_spin() {
    let adapter = Adapter::plug();
    let tty = adapter.open();
    let contact = tty.contact().unwrap();
    write(&adapter.master, b"x").unwrap();
    let mut buffer = [0; 16];
    assert_eq!(read_some(&contact, &mut buffer).await, ReadOutcome::Bytes(1));
    assert_eq!(try_read(&contact, &mut buffer), ReadOutcome::Empty);
    let waited = timeout(Duration::from_millis(200), contact.readable()).await;
    assert!(waited.is_err(), "readable with nothing to read");
}

#[tokio::test]
async fn a_full_line_is_no_error_and_takes_bytes_again_once_it_drains() {
    let adapter = Adapter::plug();
    let tty = adapter.open();
    let mut output = Output::new(&tty);
    let mut taken = 0;
    while let Ok(written) = timeout(Duration::from_millis(200), output.write(&[b'x'; 4096])).await {
        let Ok(WriteOutcome::Wrote(length)) = written else { panic!("{written:?}") };
        taken += length;
        assert!(taken < 16 << 20, "a pty takes everything");
    }
    let mut buffer = vec![0; 65536];
    let mut drained = 0;
    while drained < taken {
        drained += read(&adapter.master, &mut buffer).unwrap();
    }
    let written = timeout(TIMEOUT, output.write(b"y")).await.expect("never writable again");
    assert_eq!(written.unwrap(), WriteOutcome::Wrote(1));
}

#[tokio::test]
async fn a_second_open_is_refused_and_leaves_the_first_alone() {
    let adapter = Adapter::plug();
    let first = adapter.open();
    for _ in 0..2 {
        // Tests often run as root, which TIOCEXCL does not stop: flock does.
        let refused = Tty::open(&adapter.path(), &LineSettings::default(), false).unwrap_err();
        assert!(matches!(refused, OpenError::Busy { .. }), "{refused}");
        assert!(refused.to_string().contains("ttyUSB0 is in use by another program"), "{refused}");
    }
    let mut output = Output::new(&first);
    assert_eq!(output.write(b"mine").await.unwrap(), WriteOutcome::Wrote(4));
    // A stream has set the locks again, and leaves them as they were: flock held, and no TIOCEXCL on a pty (`man 2const TIOCEXCL`).
    output.release();
    assert!(matches!(
        Tty::open(&adapter.path(), &LineSettings::default(), false),
        Err(OpenError::Busy { .. })
    ));
    assert_eq!(exclusive(&first), 0);
    drop(output);
    drop(first);
    adapter.open();
}

fn exclusive(tty: &Tty) -> libc::c_int {
    nix::ioctl_read_bad!(tiocgexcl, libc::TIOCGEXCL, libc::c_int);
    let mut exclusive = -1;
    // SAFETY: the kernel writes an int there.
    unsafe { tiocgexcl(tty.as_fd().as_raw_fd(), &mut exclusive) }.unwrap();
    exclusive
}

#[tokio::test]
async fn errors_of_open_name_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let open = |path: &Path| Tty::open(path, &LineSettings::default(), false).unwrap_err();

    let absent = open(&dir.path().join("ttyUSB7"));
    assert!(matches!(absent, OpenError::Absent { .. }), "{absent}");
    assert!(absent.to_string().contains("ttyUSB7"), "{absent}");

    let file = dir.path().join("file");
    fs::write(&file, "kept").unwrap();
    assert!(matches!(open(&file), OpenError::NotATty { .. }));
    assert_eq!(fs::read(&file).unwrap(), b"kept");
    assert!(matches!(open(Path::new("/dev/null")), OpenError::NotATty { .. }));

    let adapter = Adapter::plug();
    drop(adapter.master);
    let gone = Tty::open(&adapter.dir.path().join("ttyUSB0"), &LineSettings::default(), false).unwrap_err();
    assert!(matches!(gone, OpenError::Absent { .. }), "{gone}");
}

#[tokio::test]
async fn settings_are_read_back_and_refused_ones_are_returned() {
    let adapter = Adapter::plug();
    let line = LineSettings { baud: Baud::try_from(31_250).unwrap(), ..LineSettings::default() };
    let (tty, refused) = Tty::open(&adapter.path(), &line, false).unwrap();
    assert_eq!(refused, []);
    let set = tcgetattr(&tty).unwrap();
    assert!(!set.local_flags.intersects(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG));
    assert!(!set.output_flags.contains(OutputFlags::OPOST));

    let line = LineSettings {
        bytesize: 7.try_into().unwrap(),
        parity: Parity::Mark,
        stopbits: StopBits::Two,
        xonxoff: true,
        ..line
    };
    // A pty always has eight bits and no parity.
    let refused: Vec<_> = tty.apply(&line).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(refused, ["bytesize 7: the driver set 8", "parity M: the driver set N"]);
    assert_eq!(tty.apply(&LineSettings::default()).unwrap(), []);
}

#[tokio::test]
async fn a_hang_up_is_seen_by_reader_and_writer_after_the_last_bytes() {
    let adapter = Adapter::plug();
    let tty = adapter.open();
    let contact = tty.contact().unwrap();
    write(&adapter.master, b"last words").unwrap();
    let mut buffer = [0; 64];
    assert_eq!(read_some(&contact, &mut buffer).await, ReadOutcome::Bytes(10));
    drop(adapter.master);
    assert_eq!(read_some(&contact, &mut buffer).await, ReadOutcome::HungUp);
    assert_eq!(try_read(&contact, &mut buffer), ReadOutcome::HungUp, "and stays so");
    assert_eq!(Output::new(&tty).write(b"x").await.unwrap(), WriteOutcome::HungUp);
}

#[tokio::test]
async fn vmin_zero_set_by_another_program_is_no_hang_up() {
    let adapter = Adapter::plug();
    let tty = adapter.open();
    let contact = tty.contact().unwrap();
    let mut set = tcgetattr(&tty).unwrap();
    set.control_chars[nix::libc::VMIN] = 0;
    nix::sys::termios::tcsetattr(&tty, nix::sys::termios::SetArg::TCSANOW, &set).unwrap();
    write(&adapter.master, b"x").unwrap();
    let mut buffer = [0; 64];
    assert_eq!(read_some(&contact, &mut buffer).await, ReadOutcome::Bytes(1));
    assert_eq!(try_read(&contact, &mut buffer), ReadOutcome::Empty);
}

#[tokio::test]
async fn a_break_lasts_as_long_as_asked_and_a_pty_has_no_modem_lines() {
    let adapter = Adapter::plug();
    let tty = adapter.open();
    for length in [250, 3500].map(Duration::from_millis) {
        let begun = std::time::Instant::now();
        let mut has_begun = false;
        let (discarded, sent) = tty.send_break(length, || has_begun = true).await;
        assert_eq!((discarded, has_begun), (0, true));
        sent.unwrap();
        assert!(begun.elapsed() >= length);
        assert!(begun.elapsed() < length + Duration::from_secs(30));
    }
    assert_eq!(tty.modem_lines().unwrap(), None);
    assert_eq!(tty.counters(), None);
}

#[tokio::test]
async fn a_stored_descriptor_is_adopted_and_still_locked() {
    let adapter = Adapter::plug();
    let line = LineSettings { baud: Baud::try_from(57_600).unwrap(), ..LineSettings::default() };
    let (tty, _) = Tty::open(&adapter.path(), &line, false).unwrap();
    let stored = tty.as_fd().try_clone_to_owned().unwrap();
    let before = tcgetattr(&tty).unwrap();
    drop(tty);
    // The process has ended; the FD store keeps the lock.
    let refused = Tty::open(&adapter.path(), &line, false).unwrap_err();
    assert!(matches!(refused, OpenError::Busy { .. }), "{refused}");
    write(&adapter.master, b"sent before it").unwrap();

    let tty = Tty::adopt(stored, &adapter.path()).unwrap();
    assert_eq!(tcgetattr(&tty).unwrap(), before);
    let mut buffer = [0; 64];
    let contact = tty.contact().unwrap();
    assert_eq!(read_some(&contact, &mut buffer).await, ReadOutcome::Bytes(14));
}

#[tokio::test]
async fn a_stored_descriptor_of_another_device_is_refused() {
    let adapter = Adapter::plug();
    let other = Adapter::plug();
    let kept = |adapter: &Adapter| adapter.open().as_fd().try_clone_to_owned().unwrap();

    let refused = Tty::adopt(kept(&adapter), &other.path()).unwrap_err();
    assert!(matches!(refused, AdoptError::OtherDevice(_)), "{refused}");
    let refused = Tty::adopt(kept(&adapter), Path::new("/nowhere/ttyUSB0")).unwrap_err();
    assert!(matches!(refused, AdoptError::OtherDevice(_)), "{refused}");
    for path in ["/dev/null", "/"] {
        let stranger = fs::File::open(path).unwrap().into();
        let refused = Tty::adopt(stranger, &adapter.path()).unwrap_err();
        assert!(matches!(refused, AdoptError::NotATty), "{refused}");
    }
    let hung_up = kept(&adapter);
    drop(adapter.master);
    let refused = Tty::adopt(hung_up, &adapter.dir.path().join("ttyUSB0")).unwrap_err();
    assert!(matches!(refused, AdoptError::HungUp(_)), "{refused}");
}

/// Whether the watch reports nothing for 200 ms. A longer wait would prove no more about something that must
/// not happen.
async fn quiet(watch: &mut DeviceWatch) -> bool {
    timeout(Duration::from_millis(200), watch.appeared()).await.is_err()
}

async fn seen(watch: &mut DeviceWatch) {
    timeout(TIMEOUT, watch.appeared()).await.expect("the watch saw nothing").unwrap();
}

#[tokio::test]
async fn the_return_of_a_device_is_seen_through_a_link_that_is_replaced() {
    let adapter = Adapter::plug();
    let mut watch = DeviceWatch::new(&[adapter.path()]).unwrap();
    assert!(quiet(&mut watch).await);

    let again = openpty(None, None).unwrap();
    let fresh = adapter.dir.path().join(".ttyUSB0.new");
    symlink(ttyname(&again.slave).unwrap(), &fresh).unwrap();
    assert!(quiet(&mut watch).await, "a neighbour is not the device");
    fs::rename(&fresh, adapter.path()).unwrap();
    seen(&mut watch).await;
    assert!(Tty::open(&adapter.path(), &LineSettings::default(), false).is_ok());
    assert!(quiet(&mut watch).await, "opening it is no event");
}

#[tokio::test]
async fn the_return_of_a_device_is_seen_through_directories_that_are_missing() {
    let dir = tempfile::tempdir().unwrap();
    let dev = dir.path();
    let path = dev.join("serial/by-path/pci-0:1.4-port0");
    let mut watch = DeviceWatch::new(std::slice::from_ref(&path)).unwrap();

    // The order of udev, with its relative link; each step may or may not be a separate event.
    let pty = openpty(None, None).unwrap();
    let slave = ttyname(&pty.slave).unwrap();
    drop(pty.slave);
    symlink(&slave, dev.join("ttyUSB0")).unwrap();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink("../../ttyUSB0", &path).unwrap();
    seen(&mut watch).await;
    assert!(Tty::open(&path, &LineSettings::default(), false).is_ok(), "armed, tried: it is there");

    // Unplugged with all its directories, as udev does, and plugged in again.
    fs::remove_dir_all(dev.join("serial")).unwrap();
    fs::remove_file(dev.join("ttyUSB0")).unwrap();
    for step in 0..4 {
        match step {
            0 => fs::create_dir(dev.join("serial")).unwrap(),
            1 => fs::create_dir(dev.join("serial/by-path")).unwrap(),
            2 => symlink("../../ttyUSB0", &path).unwrap(),
            _ => symlink(&slave, dev.join("ttyUSB0")).unwrap(),
        }
        seen(&mut watch).await;
    }
    assert!(Tty::open(&path, &LineSettings::default(), false).is_ok());
}

#[tokio::test]
async fn the_chown_that_udev_does_after_the_device_is_seen() {
    let adapter = Adapter::plug();
    let mut watch = DeviceWatch::new(&[adapter.path()]).unwrap();
    fs::set_permissions(&adapter.slave, fs::Permissions::from_mode(0o600)).unwrap();
    seen(&mut watch).await;
    let owner = nix::unistd::getuid();
    nix::unistd::chown(&adapter.slave, Some(owner), None).unwrap();
    seen(&mut watch).await;
}

#[tokio::test]
async fn a_loop_of_links_is_watched_and_not_followed_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ttyUSB0");
    symlink("ttyUSB0", &path).unwrap();
    let mut watch = DeviceWatch::new(std::slice::from_ref(&path)).unwrap();
    fs::remove_file(&path).unwrap();
    symlink("/dev/null", &path).unwrap();
    seen(&mut watch).await;
}

#[test]
fn errors_read_as_in_the_golden_file() {
    let path = || PathBuf::from("/dev/ttyUSB0");
    let system = std::io::Error::from_raw_os_error;
    let permission = ", which is root:dialout 0660: is group dialout missing?".to_owned();
    let opening = [
        OpenError::Absent(path(), system(libc::ENOENT)),
        OpenError::Busy(path()),
        OpenError::Denied(path(), permission),
        OpenError::Forbidden(path(), "ttyUSB".to_owned()),
        OpenError::Settings(path(), LineSettings::default(), system(libc::EIO)),
        OpenError::NotATty(path()),
        OpenError::Io(path(), system(libc::EMFILE)),
    ];
    let adopting = [
        AdoptError::NotATty,
        AdoptError::HungUp(path()),
        AdoptError::OtherDevice(path()),
        AdoptError::Busy(path()),
        AdoptError::Io(path(), system(libc::EIO)),
    ];
    let breaks = [
        BreakError::Unsupported(system(libc::EOPNOTSUPP)),
        BreakError::Begin(system(libc::EIO)),
        BreakError::End(system(libc::EIO)),
        BreakError::Drain(system(libc::EIO)),
    ];
    let text: String = (opening.iter().map(ToString::to_string))
        .chain(adopting.iter().map(ToString::to_string))
        .chain(breaks.iter().map(ToString::to_string))
        .map(|error| error + "\n")
        .collect();
    snapbox::assert_data_eq!(text, snapbox::file!["golden/serial/errors.txt"]);
}
