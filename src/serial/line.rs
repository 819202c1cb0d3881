//! Line settings to `termios` and back: set, read back, compare. A driver does not fail on settings that it does not support: it
//! sets others, which only a read shows.

use std::fmt;
use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::libc::{self, termios2};

use super::ioctl;
use crate::port::{LineSettings, Parity, StopBits};

/// Percent by which a rate may be off and still be understood by the device: UART divisors are whole numbers.
const BAUD_TOLERANCE: u64 = 2;

const CHARACTER: u32 =
    libc::CSIZE | libc::PARENB | libc::PARODD | libc::CMSPAR | libc::CSTOPB | libc::CRTSCTS;
const RATE: u32 = libc::CBAUD | libc::CIBAUD;

/// A setting that the driver refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedSetting {
    /// Its configuration key: `baud`.
    pub key: &'static str,
    pub wanted: String,
    /// The value in effect, or why it is not set.
    pub outcome: String,
}

impl RejectedSetting {
    pub(super) fn set(key: &'static str, wanted: &dyn fmt::Display, got: &dyn fmt::Display) -> Self {
        Self { key, wanted: wanted.to_string(), outcome: format!("the driver set {got}") }
    }

    pub(super) fn failed(key: &'static str, wanted: &dyn fmt::Display, errno: Errno) -> Self {
        let outcome = match errno {
            errno if is_unsupported(errno) => "the driver does not support it".to_owned(),
            errno => format!("the driver failed ({})", io::Error::from(errno)),
        };
        Self { key, wanted: wanted.to_string(), outcome }
    }
}

impl fmt::Display for RejectedSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.key, self.wanted, self.outcome)
    }
}

/// What drivers return for operations that they do not support (`tty_io.c`, `serial_core.c`, `usb-serial.c`).
pub(super) fn is_unsupported(errno: Errno) -> bool {
    matches!(errno, Errno::ENOTTY | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS)
}

/// Sets the line raw with these settings, and returns what the driver refused. A line that has them already is not touched.
pub(super) fn apply(tty: impl AsFd, line: &LineSettings) -> Result<Vec<RejectedSetting>, Errno> {
    let before = ioctl::termios(&tty)?;
    let wanted = wanted(&before, line);
    if !same(&before, &wanted) {
        ioctl::set_termios(&tty, &wanted)?;
    }
    Ok(compare(line, &ioctl::termios(&tty)?))
}

fn wanted(before: &termios2, line: &LineSettings) -> termios2 {
    let mut termios = *before;
    termios.c_iflag = if line.xonxoff { libc::IXON | libc::IXOFF } else { 0 };
    termios.c_oflag &= !libc::OPOST;
    termios.c_lflag &= !(libc::ECHO | libc::ECHONL | libc::ICANON | libc::ISIG | libc::IEXTEN);
    // Without HUPCL, DTR stays up on close, so that a restart of the port does not reset the device.
    termios.c_cflag &= !(CHARACTER | RATE | libc::HUPCL);
    termios.c_cflag |= libc::CREAD | libc::CLOCAL | libc::BOTHER | character(line);
    termios.c_ispeed = line.baud.get();
    termios.c_ospeed = line.baud.get();
    termios.c_cc[libc::VMIN] = 1;
    termios.c_cc[libc::VTIME] = 0;
    termios.c_cc[libc::VSTART] = 0x11;
    termios.c_cc[libc::VSTOP] = 0x13;
    termios
}

fn character(line: &LineSettings) -> u32 {
    let size = match line.bytesize.bits() {
        5 => libc::CS5,
        6 => libc::CS6,
        7 => libc::CS7,
        _ => libc::CS8,
    };
    let parity = match line.parity {
        Parity::None => 0,
        Parity::Even => libc::PARENB,
        Parity::Odd => libc::PARENB | libc::PARODD,
        Parity::Mark => libc::PARENB | libc::PARODD | libc::CMSPAR,
        Parity::Space => libc::PARENB | libc::CMSPAR,
    };
    let stop = if line.stopbits == StopBits::Two { libc::CSTOPB } else { 0 };
    let flow = if line.rtscts { libc::CRTSCTS } else { 0 };
    size | parity | stop | flow
}

/// The rate's symbol in `c_cflag` is ignored: the kernel turns `BOTHER` with 9600 into `B9600`.
fn same(a: &termios2, b: &termios2) -> bool {
    let key =
        |t: &termios2| (t.c_iflag, t.c_oflag, t.c_cflag & !RATE, t.c_lflag, t.c_cc, t.c_ispeed, t.c_ospeed);
    key(a) == key(b)
}

fn compare(line: &LineSettings, got: &termios2) -> Vec<RejectedSetting> {
    let mut refused = Vec::new();
    let mut check = |key, right: bool, wanted: &dyn fmt::Display, got: &dyn fmt::Display| {
        if !right {
            refused.push(RejectedSetting::set(key, wanted, got));
        }
    };
    let (baud, got_baud) = (line.baud.get(), got.c_ospeed);
    let near = u64::from(baud.abs_diff(got_baud)) * 100 <= u64::from(baud) * BAUD_TOLERANCE;
    check("baud", near, &baud, &got_baud);
    let bits = match got.c_cflag & libc::CSIZE {
        libc::CS5 => 5,
        libc::CS6 => 6,
        libc::CS7 => 7,
        _ => 8,
    };
    check("bytesize", bits == line.bytesize.bits(), &line.bytesize.bits(), &bits);
    let flag = |bit| got.c_cflag & bit != 0;
    let parity = match (flag(libc::PARENB), flag(libc::PARODD), flag(libc::CMSPAR)) {
        (false, ..) => Parity::None,
        (true, false, false) => Parity::Even,
        (true, true, false) => Parity::Odd,
        (true, true, true) => Parity::Mark,
        (true, false, true) => Parity::Space,
    };
    check("parity", parity == line.parity, &line.parity.letter(), &parity.letter());
    let stopbits = if flag(libc::CSTOPB) { 2 } else { 1 };
    check("stopbits", stopbits == line.stopbits.count(), &line.stopbits.count(), &stopbits);
    check("rtscts", flag(libc::CRTSCTS) == line.rtscts, &line.rtscts, &flag(libc::CRTSCTS));
    let xonxoff = got.c_iflag & libc::IXON != 0 && got.c_iflag & libc::IXOFF != 0;
    check("xonxoff", xonxoff == line.xonxoff, &line.xonxoff, &xonxoff);
    refused
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::Baud;

    fn zeroed() -> termios2 {
        termios2 {
            c_iflag: 0,
            c_oflag: 0,
            c_cflag: libc::HUPCL | libc::CMSPAR | libc::PARENB,
            c_lflag: libc::ICANON | libc::ECHO,
            c_line: 0,
            c_cc: [0; 19],
            c_ispeed: 0,
            c_ospeed: 0,
        }
    }

    #[test]
    fn requested_settings_equal_those_read_back() {
        for parity in [Parity::None, Parity::Even, Parity::Odd, Parity::Mark, Parity::Space] {
            for bits in 5..=8 {
                for stop in [1, 2] {
                    let line = LineSettings {
                        baud: Baud::try_from(31_250).unwrap(),
                        bytesize: bits.try_into().unwrap(),
                        parity,
                        stopbits: stop.try_into().unwrap(),
                        rtscts: stop == 2,
                        xonxoff: stop == 1,
                    };
                    let termios = wanted(&zeroed(), &line);
                    assert_eq!(compare(&line, &termios), [], "{line}");
                    assert_eq!(termios.c_cflag & libc::HUPCL, 0, "closing must not drop DTR");
                    assert_eq!(termios.c_cflag & libc::CMSPAR != 0, "MS".contains(parity.letter()), "{line}");
                }
            }
        }
    }

    #[test]
    fn a_rate_within_the_tolerance_is_not_refused() {
        let line = LineSettings { baud: Baud::try_from(1_000_000).unwrap(), ..LineSettings::default() };
        let mut termios = wanted(&zeroed(), &line);
        termios.c_ospeed = 980_000;
        assert_eq!(compare(&line, &termios), []);
        termios.c_ospeed = 921_600;
        let refused: Vec<_> = compare(&line, &termios).iter().map(RejectedSetting::to_string).collect();
        assert_eq!(refused, ["baud 1000000: the driver set 921600"]);
    }
}
