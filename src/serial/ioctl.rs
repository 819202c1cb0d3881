//! The tty ioctls (`man 2const TIOC…`, linux/serial.h) that no library wraps as needed here.
#![allow(unsafe_code)]

use std::fmt;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::libc::{self, c_int, c_uint, c_ulong, c_ushort, termios2};

mod raw {
    use super::*;

    nix::ioctl_read_bad!(tcgets2, libc::TCGETS2, termios2);
    nix::ioctl_write_ptr_bad!(tcsets2, libc::TCSETS2, termios2);
    nix::ioctl_none_bad!(tiocexcl, libc::TIOCEXCL);
    nix::ioctl_none_bad!(tiocnxcl, libc::TIOCNXCL);
    nix::ioctl_read_bad!(tiocgexcl, libc::TIOCGEXCL, c_int);
    nix::ioctl_none_bad!(tiocsbrk, libc::TIOCSBRK);
    nix::ioctl_none_bad!(tioccbrk, libc::TIOCCBRK);
    nix::ioctl_read_bad!(tiocoutq, libc::TIOCOUTQ, c_int);
    nix::ioctl_read_bad!(tiocinq, libc::TIOCINQ, c_int);
    nix::ioctl_write_int_bad!(tcflsh, libc::TCFLSH);
    nix::ioctl_read_bad!(tiocmget, libc::TIOCMGET, c_int);
    nix::ioctl_write_ptr_bad!(tiocmset, libc::TIOCMSET, c_int);
    nix::ioctl_write_ptr_bad!(tiocmbis, libc::TIOCMBIS, c_int);
    nix::ioctl_write_ptr_bad!(tiocmbic, libc::TIOCMBIC, c_int);
    nix::ioctl_read_bad!(tiocgicount, libc::TIOCGICOUNT, IcounterStruct);
    nix::ioctl_read_bad!(tiocgserial, libc::TIOCGSERIAL, SerialStruct);
    nix::ioctl_write_ptr_bad!(tiocsserial, libc::TIOCSSERIAL, SerialStruct);
}

/// `struct serial_icounter_struct`.
#[repr(C)]
#[derive(Default)]
struct IcounterStruct {
    cts: c_int,
    dsr: c_int,
    rng: c_int,
    dcd: c_int,
    rx: c_int,
    tx: c_int,
    frame: c_int,
    overrun: c_int,
    parity: c_int,
    brk: c_int,
    buf_overrun: c_int,
    reserved: [c_int; 9],
}

#[repr(C)]
struct SerialStruct {
    kind: c_int,
    line: c_int,
    port: c_uint,
    irq: c_int,
    flags: c_int,
    xmit_fifo_size: c_int,
    custom_divisor: c_int,
    baud_base: c_int,
    close_delay: c_ushort,
    io_type: u8,
    reserved: u8,
    hub6: c_int,
    closing_wait: c_ushort,
    closing_wait2: c_ushort,
    iomem_base: *mut u8,
    iomem_reg_shift: c_ushort,
    port_high: c_uint,
    iomap_base: c_ulong,
}

/// linux/tty_flags.h: the driver delivers input immediately (FTDI: after 1 ms instead of 16).
const ASYNC_LOW_LATENCY: c_int = 1 << 13;

/// A modem control line that the port sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModemLine {
    Dtr,
    Rts,
}

impl fmt::Display for ModemLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dtr => "DTR",
            Self::Rts => "RTS",
        })
    }
}

/// State of the modem control lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModemLines {
    /// Data Terminal Ready: output.
    pub dtr: bool,
    /// Request To Send: output.
    pub rts: bool,
    /// Clear To Send: input.
    pub cts: bool,
    /// Data Set Ready: input.
    pub dsr: bool,
    /// Data Carrier Detect: input.
    pub dcd: bool,
    /// Ring Indicator: input.
    pub ri: bool,
}

/// The driver's counters since it found the device (`TIOCGICOUNT`); each wraps at 2³².
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    pub rx: u32,
    /// Bytes sent.
    pub tx: u32,
    /// Framing errors: most often a wrong baud rate.
    pub frame: u32,
    /// Bytes lost in the hardware.
    pub overrun: u32,
    pub parity: u32,
    pub breaks: u32,
    /// Bytes lost in the kernel's buffer.
    pub buffer_overrun: u32,
}

pub(super) fn termios(tty: impl AsFd) -> Result<termios2, Errno> {
    // SAFETY: termios2 is plain numbers, for which zeros are valid.
    let mut termios: termios2 = unsafe { std::mem::zeroed() };
    // SAFETY: TCGETS2 writes one termios2, and that is what we point to.
    unsafe { raw::tcgets2(tty.as_fd().as_raw_fd(), &mut termios)? };
    Ok(termios)
}

/// Takes effect without waiting for output to drain (which a held CTS can delay without limit).
pub(super) fn set_termios(tty: impl AsFd, termios: &termios2) -> Result<(), Errno> {
    // SAFETY: TCSETS2 reads one termios2, and that is what we point to.
    unsafe { raw::tcsets2(tty.as_fd().as_raw_fd(), termios) }.map(drop)
}

/// After this, `open(2)` of this tty fails with EBUSY, except for root.
pub(super) fn set_exclusive(tty: impl AsFd) -> Result<(), Errno> {
    // SAFETY: TIOCEXCL takes no argument.
    unsafe { raw::tiocexcl(tty.as_fd().as_raw_fd()) }.map(drop)
}

pub(super) fn clear_exclusive(tty: impl AsFd) -> Result<(), Errno> {
    // SAFETY: TIOCNXCL takes no argument.
    unsafe { raw::tiocnxcl(tty.as_fd().as_raw_fd()) }.map(drop)
}

pub(super) fn is_exclusive(tty: impl AsFd) -> Result<bool, Errno> {
    let mut exclusive = 0;
    // SAFETY: TIOCGEXCL writes one int.
    unsafe { raw::tiocgexcl(tty.as_fd().as_raw_fd(), &mut exclusive)? };
    Ok(exclusive != 0)
}

/// Waits in the kernel until output has drained, then holds the line in break.
pub(super) fn begin_break(tty: impl AsFd) -> Result<(), Errno> {
    // SAFETY: TIOCSBRK takes no argument.
    unsafe { raw::tiocsbrk(tty.as_fd().as_raw_fd()) }.map(drop)
}

pub(super) fn end_break(tty: impl AsFd) -> Result<(), Errno> {
    // SAFETY: TIOCCBRK takes no argument.
    unsafe { raw::tioccbrk(tty.as_fd().as_raw_fd()) }.map(drop)
}

/// Bytes written and not yet sent.
pub(crate) fn unsent(tty: impl AsFd) -> Result<usize, Errno> {
    let mut bytes = 0;
    // SAFETY: TIOCOUTQ writes one int.
    unsafe { raw::tiocoutq(tty.as_fd().as_raw_fd(), &mut bytes)? };
    Ok(usize::try_from(bytes).unwrap_or(0))
}

pub(super) fn unread(tty: impl AsFd) -> Result<usize, Errno> {
    let mut bytes = 0;
    // SAFETY: TIOCINQ writes one int.
    unsafe { raw::tiocinq(tty.as_fd().as_raw_fd(), &mut bytes)? };
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Discards output that is not sent yet.
pub(super) fn discard_output(tty: impl AsFd) -> Result<(), Errno> {
    // SAFETY: TCFLSH takes an int by value.
    unsafe { raw::tcflsh(tty.as_fd().as_raw_fd(), libc::TCOFLUSH) }.map(drop)
}

fn modem_bits(tty: impl AsFd) -> Result<c_int, Errno> {
    let mut bits = 0;
    // SAFETY: TIOCMGET writes one int.
    unsafe { raw::tiocmget(tty.as_fd().as_raw_fd(), &mut bits)? };
    Ok(bits)
}

/// Sets the given modem lines in one call of the driver: between two calls, a board with the usual reset circuit of
/// an ESP32 (EN follows RTS and not DTR) would be reset.
pub(super) fn set_modem_lines(tty: impl AsFd, dtr: Option<bool>, rts: Option<bool>) -> Result<(), Errno> {
    let mut bits = modem_bits(&tty)?;
    for (bit, on) in [(libc::TIOCM_DTR, dtr), (libc::TIOCM_RTS, rts)] {
        match on {
            Some(true) => bits |= bit,
            Some(false) => bits &= !bit,
            None => {}
        }
    }
    // SAFETY: TIOCMSET reads one int, and that is what we point to.
    unsafe { raw::tiocmset(tty.as_fd().as_raw_fd(), &bits) }.map(drop)
}

pub(super) fn modem_lines(tty: impl AsFd) -> Result<ModemLines, Errno> {
    let bits = modem_bits(tty)?;
    Ok(ModemLines {
        dtr: bits & libc::TIOCM_DTR != 0,
        rts: bits & libc::TIOCM_RTS != 0,
        cts: bits & libc::TIOCM_CTS != 0,
        dsr: bits & libc::TIOCM_DSR != 0,
        dcd: bits & libc::TIOCM_CAR != 0,
        ri: bits & libc::TIOCM_RNG != 0,
    })
}

pub(super) fn set_modem_line(tty: impl AsFd, line: ModemLine, on: bool) -> Result<(), Errno> {
    let bits = match line {
        ModemLine::Dtr => libc::TIOCM_DTR,
        ModemLine::Rts => libc::TIOCM_RTS,
    };
    let fd = tty.as_fd().as_raw_fd();
    // SAFETY: TIOCMBIS and TIOCMBIC read one int, and that is what we point to.
    unsafe { if on { raw::tiocmbis(fd, &bits) } else { raw::tiocmbic(fd, &bits) } }.map(drop)
}

pub(super) fn counters(tty: impl AsFd) -> Result<Counters, Errno> {
    let mut counted = IcounterStruct::default();
    // SAFETY: TIOCGICOUNT writes one serial_icounter_struct, whose layout this is.
    unsafe { raw::tiocgicount(tty.as_fd().as_raw_fd(), &mut counted)? };
    Ok(Counters {
        rx: counted.rx as u32,
        tx: counted.tx as u32,
        frame: counted.frame as u32,
        overrun: counted.overrun as u32,
        parity: counted.parity as u32,
        breaks: counted.brk as u32,
        buffer_overrun: counted.buf_overrun as u32,
    })
}

/// Sets the low latency flag if it differs.
pub(super) fn set_low_latency(tty: impl AsFd, wanted: bool) -> Result<(), Errno> {
    // SAFETY: serial_struct is plain numbers and a pointer that only the kernel follows: zeros are valid.
    let mut serial: SerialStruct = unsafe { std::mem::zeroed() };
    // SAFETY: TIOCGSERIAL writes one serial_struct, whose layout this is.
    unsafe { raw::tiocgserial(tty.as_fd().as_raw_fd(), &mut serial)? };
    if (serial.flags & ASYNC_LOW_LATENCY != 0) != wanted {
        serial.flags ^= ASYNC_LOW_LATENCY;
        // SAFETY: TIOCSSERIAL reads one serial_struct: what the driver gave us, with one flag changed.
        unsafe { raw::tiocsserial(tty.as_fd().as_raw_fd(), &serial)? };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's size of both structs in linux/serial.h, on 64 and on 32 bits.
    #[test]
    fn the_structs_have_the_kernels_layout() {
        assert_eq!(size_of::<IcounterStruct>(), 80);
        assert_eq!(size_of::<SerialStruct>(), if cfg!(target_pointer_width = "64") { 72 } else { 60 });
    }
}
