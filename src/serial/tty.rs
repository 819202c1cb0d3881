//! A serial tty that is locked for this port: opened or adopted, read and written without blocking, closed when dropped. A [`Contact`] waits
//! for it. The kernel's ways to report a hang-up (0 bytes read, `EIO`) become a type here, so that they cannot be mistaken.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, SpliceFFlags, splice};
use nix::unistd::{AccessFlags, access};

use super::claim::{claim, claim_again, exempt_pty, hung_up, let_go};
use super::contact::Contact;
use super::error::{AdoptError, OpenError};
use super::ioctl::{self, Counters, ModemLine, ModemLines};
use super::line::{self, RejectedSetting, is_unsupported};
use super::line_break::{self, BreakError};
use crate::port::{LineLevel, LineSettings, ModemLevels};

/// The major number of /dev/ttyACM0 and similar ttys (`admin-guide/devices.txt`).
const ACM_MAJOR: u64 = 166;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOutcome {
    /// This many bytes, at least one.
    Bytes(usize),
    /// No bytes yet: wait until it is readable.
    Empty,
    /// The device is gone. Drop the [`Tty`] immediately, or its name is still in use when it comes back.
    HungUp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    Wrote(usize),
    /// The device is gone.
    HungUp,
}

/// An open serial port. All calls return immediately; only [`Self::send_break`] and [`Self::drain`] wait.
#[derive(Debug)]
pub struct Tty {
    file: File,
    itself: bool,
}

impl Tty {
    /// Opens and locks a port and sets its line. Also returns the settings that the driver refused; the port is served all the
    /// same.
    pub fn open(
        path: &Path,
        line: &LineSettings,
        low_latency: bool,
    ) -> Result<(Self, Vec<RejectedSetting>), OpenError> {
        let failed = |error: io::Error| OpenError::from_io(path, error);
        // Opening some devices has effects: /dev/watchdog starts a countdown to reboot.
        if !fs::metadata(path).map_err(failed)?.file_type().is_char_device() {
            return Err(OpenError::NotATty(path.to_owned()));
        }
        let flags = OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags.bits())
            .open(path)
            .map_err(failed)?;
        ioctl::termios(&file).map_err(|errno| failed(errno.into()))?;
        claim(&file).map_err(failed)?;
        let mut refused = line::apply(&file, line).map_err(|errno| match hung_up(&file) {
            Ok(false) => OpenError::Settings(path.to_owned(), *line, errno.into()),
            Ok(true) | Err(_) => failed(errno.into()),
        })?;
        let tty = Self::ours(file).map_err(failed)?;
        // The flag is also cleared if low latency is not requested: the driver keeps the flag of the program that had the port before.
        refused.extend(tty.set_low_latency(low_latency, false));
        Ok((tty, refused))
    }

    /// Adopts a port from the FD store, if it is still the device that `path` names. Its settings, DTR and
    /// RTS stay as they are; a break that was not finished ends.
    pub fn adopt(fd: OwnedFd, path: &Path) -> Result<Self, AdoptError> {
        let file = File::from(fd);
        let failed = |error: io::Error| AdoptError::Io(path.to_owned(), error);
        let kept = file.metadata().map_err(failed)?;
        if !kept.file_type().is_char_device() {
            return Err(AdoptError::NotATty);
        }
        if hung_up(&file).map_err(failed)? {
            return Err(AdoptError::HungUp(path.to_owned()));
        }
        match ioctl::termios(&file) {
            Ok(_) => {}
            Err(Errno::EIO) => return Err(AdoptError::HungUp(path.to_owned())),
            Err(_) => return Err(AdoptError::NotATty),
        }
        if !fs::metadata(path).is_ok_and(|named| named.rdev() == kept.rdev()) {
            return Err(AdoptError::OtherDevice(path.to_owned()));
        }
        claim_again(&file).map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => AdoptError::Busy(path.to_owned()),
            _ => failed(error),
        })?;
        // A process that was killed within a break has left the line in it: the kernel ends a break only with the last close, and
        // the FD store has kept the file open. Without a break this does nothing; a driver without breaks has made none.
        if let Err(errno @ (Errno::EIO | Errno::ETIMEDOUT | Errno::EPIPE)) = ioctl::end_break(&file) {
            tracing::warn!("{}: the line may be held in break: the driver failed ({errno})", path.display());
        }
        Self::ours(file).map_err(failed)
    }

    /// A tty that has been locked. Whether the runtime can watch it is tried here, where the error can be reported: later the port could only
    /// be reopened.
    fn ours(file: File) -> io::Result<Self> {
        let itself = nix::sys::stat::major(file.metadata()?.rdev()) == ACM_MAJOR;
        let tty = Self { file, itself };
        tty.contact()?;
        Ok(tty)
    }

    /// Why a device that is open could not be opened now, by its owner and mode: another program has taken it over.
    pub fn denied(path: &Path) -> Option<OpenError> {
        let denied = access(path, AccessFlags::R_OK | AccessFlags::W_OK).err()?;
        (denied == Errno::EACCES).then(|| OpenError::from_io(path, denied.into()))
    }

    /// Sets the line and returns what the driver refused. A line that has these settings already is not touched.
    pub fn apply(&self, line: &LineSettings) -> io::Result<Vec<RejectedSetting>> {
        Ok(line::apply(self, line)?)
    }

    /// Sets low latency, and returns what the driver refused. A driver without it counts as refusing only
    /// if a user has `asked` for it: it is the default.
    pub fn set_low_latency(&self, wanted: bool, asked: bool) -> Option<RejectedSetting> {
        let errno = ioctl::set_low_latency(self, wanted).err()?;
        let quiet = match wanted {
            true => !asked && (is_unsupported(errno) || errno == Errno::EPERM),
            false => is_unsupported(errno),
        };
        (!quiet).then(|| RejectedSetting::failed("low_latency", &wanted, errno))
    }

    /// Sets the modem lines that are not left as they are, both in one ioctl, and returns what the driver refused. With `rtscts` the driver
    /// controls RTS.
    pub fn set_modem_levels(&self, levels: ModemLevels, rtscts: bool) -> Vec<RejectedSetting> {
        let ModemLevels { dtr, mut rts } = levels;
        let mut refused = Vec::new();
        if rtscts && rts != LineLevel::Leave {
            let outcome = "not set: with rtscts = true the driver controls it".to_owned();
            refused.push(RejectedSetting { key: "rts", wanted: rts.word().to_owned(), outcome });
            rts = LineLevel::Leave;
        }
        let asked = [("dtr", dtr), ("rts", rts)];
        if asked.iter().all(|(_, level)| *level == LineLevel::Leave) {
            return refused;
        }
        let set = ioctl::set_modem_lines(self, dtr.wanted(), rts.wanted());
        match set.and_then(|()| ioctl::modem_lines(self)) {
            Ok(ModemLines { dtr: is_dtr, rts: is_rts, .. }) => {
                for ((key, level), is) in asked.into_iter().zip([is_dtr, is_rts]) {
                    if level.wanted().is_some_and(|wanted| wanted != is) {
                        refused.push(RejectedSetting::set(
                            key,
                            &level.word(),
                            &if is { "on" } else { "off" },
                        ));
                    }
                }
            }
            Err(errno) => {
                let asked = asked.into_iter().filter(|(_, level)| *level != LineLevel::Leave);
                refused.extend(asked.map(|(key, level)| match is_unsupported(errno) {
                    true => RejectedSetting {
                        key,
                        wanted: level.word().to_owned(),
                        outcome: "the device has no modem lines".to_owned(),
                    },
                    false => RejectedSetting::failed(key, &level.word(), errno),
                }));
            }
        }
        refused
    }

    /// Registers it with the runtime until the returned value is dropped.
    pub fn contact(&self) -> io::Result<Contact<'_>> {
        Contact::new(self)
    }

    pub fn number(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.rdev())
    }

    /// Whether there is no serial line behind it: a board with native USB, whose tty disappears when it resets.
    pub fn is_the_device_itself(&self) -> bool {
        self.itself
    }

    /// Bytes that wait to be read: a read of this size gets them all. 0 also if the device is gone.
    pub fn unread(&self) -> usize {
        ioctl::unread(self).unwrap_or(0)
    }

    /// Bytes that were written and not sent yet, as far as the driver knows. 0 for a pty, and if the device is gone.
    pub fn unsent(&self) -> usize {
        ioctl::unsent(self).unwrap_or(0)
    }

    /// Moves at most `most` bytes into a pipe, which must have room for them. A kill loses none: the kernel
    /// copies them into pages of its own and puts these into the pipe before it looks at signals (`copy_splice_read()`, before Linux 6.5 `generic_file_splice_read()`).
    pub fn try_splice(&self, pipe: BorrowedFd<'_>, most: usize) -> io::Result<ReadOutcome> {
        match splice(&self.file, None, pipe, None, most, SpliceFFlags::SPLICE_F_NONBLOCK) {
            // 0 is a hang-up, unless another program has set VMIN to 0 on this tty.
            Ok(0) if hung_up(&self.file)? => Ok(ReadOutcome::HungUp),
            Ok(0) | Err(Errno::EAGAIN | Errno::EINTR) => Ok(ReadOutcome::Empty),
            Ok(count) => Ok(ReadOutcome::Bytes(count)),
            // EINVAL: a tty that was hung up has no splice (`hung_up_tty_fops`).
            Err(Errno::EIO | Errno::ENODEV | Errno::ENXIO) => Ok(ReadOutcome::HungUp),
            Err(Errno::EINVAL) if hung_up(&self.file)? => Ok(ReadOutcome::HungUp),
            Err(errno) => Err(errno.into()),
        }
    }

    pub(super) fn exempt_pty(&self) -> io::Result<()> {
        exempt_pty(&self.file)
    }

    /// Sends a break of this length, after the output before it. Output that flow control holds back is discarded, since the
    /// break must get through. Returns the number of discarded bytes, and whether the break was sent. `begun` is called once the driver
    /// has begun it. Dropping the future ends the break.
    pub async fn send_break(
        &self,
        length: Duration,
        begun: impl FnOnce(),
    ) -> (usize, Result<(), BreakError>) {
        line_break::send(&self.file, length, begun).await
    }

    /// Waits until all output is sent. What flow control holds back is discarded. Returns the number of discarded bytes.
    pub async fn drain(&self) -> io::Result<usize> {
        line_break::drain(&self.file).await
    }

    /// Discards output that is not sent. Needed before the last close of a port whose flow control holds output
    /// back, because the kernel waits up to 30 seconds in `close(2)` for that.
    pub fn discard_output(&self) -> io::Result<()> {
        Ok(ioctl::discard_output(self)?)
    }

    /// Closes it so that it can be opened again immediately. A plain close leaves the locks to copies of the descriptor, and systemd closes
    /// its copy some time later.
    pub fn close(self) {
        let_go(&self.file);
    }

    /// State of the modem lines; `None` if the driver has none (a pty).
    pub fn modem_lines(&self) -> io::Result<Option<ModemLines>> {
        match ioctl::modem_lines(self) {
            Err(errno) if is_unsupported(errno) => Ok(None),
            lines => Ok(Some(lines?)),
        }
    }

    /// Sets a modem line of the port. A pty has none (`ENOTTY`).
    pub fn set_modem_line(&self, line: ModemLine, on: bool) -> io::Result<()> {
        Ok(ioctl::set_modem_line(self, line, on)?)
    }

    /// The driver's counters; `None` if it has none (a pty), or the device is gone.
    pub fn counters(&self) -> Option<Counters> {
        ioctl::counters(self).ok()
    }
}

impl AsFd for Tty {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

pub(super) fn is_hang_up(error: &io::Error) -> bool {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
    matches!(errno, Errno::EIO | Errno::ENODEV | Errno::ENXIO)
}
