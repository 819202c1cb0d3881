#![allow(unsafe_code)]
//! Modem lines for a pty, which has none: seccomp's user notification (`man 2 seccomp_unotify`) passes the TIOCM… ioctls of one process
//! to this one, which answers as a driver does. The wiring is that of pyserial's loopback adapter (its test/test.py): RTS is
//! connected to CTS, DTR to DSR.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::libc::{self, c_int, c_ulong, sock_filter, sock_fprog};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;

/// Descriptor at which the child keeps its end until this process has a copy. Above those that a test passes on.
const LISTENER: c_int = 900;

const HANDLED: [c_ulong; 4] = [libc::TIOCMGET, libc::TIOCMBIS, libc::TIOCMBIC, libc::TIOCMSET];

nix::ioctl_readwrite!(receive, b'!', 0, libc::seccomp_notif);
nix::ioctl_readwrite!(respond, b'!', 1, libc::seccomp_notif_resp);

/// The modem lines of one adapter. They outlive the processes that set them, as those of a tty that stays open do.
#[derive(Clone)]
pub struct Adapter(Arc<AtomicI32>);

impl Adapter {
    /// DTR and RTS are on, as the kernel sets them when a tty is opened.
    pub fn new() -> Self {
        Self(Arc::new(AtomicI32::new(libc::TIOCM_DTR | libc::TIOCM_RTS)))
    }

    /// DTR and RTS.
    pub fn levels(&self) -> (bool, bool) {
        let bits = self.0.load(Ordering::Relaxed);
        (bits & libc::TIOCM_DTR != 0, bits & libc::TIOCM_RTS != 0)
    }

    /// Makes `command` forward the ioctls.
    pub fn install(&self, command: &mut Command) {
        const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
        const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
        let step = |code, k, jt, jf| sock_filter { code, jt, jf, k };
        // struct seccomp_data: the number of the call at 0, its second argument at 24 (little-endian).
        let mut filter = vec![step(LOAD, 0, 0, 0), step(EQUAL, libc::SYS_ioctl as u32, 1, 0)];
        filter.extend([step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0), step(LOAD, 24, 0, 0)]);
        for request in HANDLED {
            filter.push(step(EQUAL, request as u32, 0, 1));
            filter.push(step(RETURN, libc::SECCOMP_RET_USER_NOTIF, 0, 0));
        }
        filter.push(step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0));
        let install = move || {
            let program = sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
            // SAFETY: these take plain numbers and a pointer to a program that lives as long as the call.
            let installed = unsafe {
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && {
                    let listener = libc::syscall(
                        libc::SYS_seccomp,
                        libc::SECCOMP_SET_MODE_FILTER,
                        libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
                        &program,
                    );
                    // The copy is not closed by exec(2).
                    listener >= 0 && libc::dup2(listener as c_int, LISTENER) == LISTENER
                }
            };
            if installed { Ok(()) } else { Err(io::Error::last_os_error()) }
        };
        // SAFETY: the calls are async-signal-safe, and nothing is allocated between fork and exec.
        unsafe { command.pre_exec(install) };
    }

    /// Answers for a process that was started by such a command, until it has ended.
    pub fn serve(&self, pid: u32) {
        // SAFETY: plain numbers; each result is checked before it is owned.
        let listener = unsafe {
            let process = libc::syscall(libc::SYS_pidfd_open, pid, 0);
            assert!(process >= 0, "pidfd_open: {}", io::Error::last_os_error());
            let process = OwnedFd::from_raw_fd(process as c_int);
            let listener = libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), LISTENER, 0);
            assert!(listener >= 0, "pidfd_getfd: {}", io::Error::last_os_error());
            OwnedFd::from_raw_fd(listener as c_int)
        };
        let lines = self.0.clone();
        std::thread::spawn(move || while answer(&listener, &lines) {});
    }
}

/// Answers one ioctl. Whether there may be another.
fn answer(listener: &OwnedFd, lines: &AtomicI32) -> bool {
    use std::os::fd::AsFd;
    let mut waited = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    if poll(&mut waited, PollTimeout::NONE).is_err() {
        return true;
    }
    if !waited[0].revents().is_some_and(|events| events.contains(PollFlags::POLLIN)) {
        // No process has the filter now.
        return false;
    }
    // SAFETY: zeros are valid values of these structs of integers, and the kernel wants the first one zeroed.
    let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills the struct in.
    if unsafe { receive(listener.as_raw_fd(), &mut asked) }.is_err() {
        // The process was killed in between.
        return true;
    }
    let done = ioctl(Pid::from_raw(asked.pid as i32), asked.data.args, lines);
    let mut reply = libc::seccomp_notif_resp { id: asked.id, val: 0, error: 0, flags: 0 };
    if let Err(errno) = done {
        (reply.val, reply.error) = (-1, -(errno as i32));
    }
    // SAFETY: the struct has the layout of the kernel. It fails for a process that was killed in between.
    let _ = unsafe { respond(listener.as_raw_fd(), &mut reply) };
    true
}

/// As a driver does (drivers/tty/tty_io.c, `tty_tiocmget`, `tty_tiocmset`).
fn ioctl(pid: Pid, arguments: [u64; 6], lines: &AtomicI32) -> Result<(), nix::errno::Errno> {
    let [_, request, address, ..] = arguments;
    let remote = [RemoteIoVec { base: address as usize, len: size_of::<c_int>() }];
    let settable = libc::TIOCM_DTR | libc::TIOCM_RTS;
    if request == libc::TIOCMGET {
        let out = lines.load(Ordering::Relaxed);
        let wired = [(libc::TIOCM_RTS, libc::TIOCM_CTS), (libc::TIOCM_DTR, libc::TIOCM_DSR)];
        let bits =
            wired.into_iter().fold(out, |bits, (from, to)| if out & from != 0 { bits | to } else { bits });
        process_vm_writev(pid, &[io::IoSlice::new(&bits.to_ne_bytes())], &remote)?;
        return Ok(());
    }
    let mut bits = [0; size_of::<c_int>()];
    process_vm_readv(pid, &mut [io::IoSliceMut::new(&mut bits)], &remote)?;
    let bits = c_int::from_ne_bytes(bits) & settable;
    match request {
        libc::TIOCMBIS => drop(lines.fetch_or(bits, Ordering::Relaxed)),
        libc::TIOCMBIC => drop(lines.fetch_and(!bits, Ordering::Relaxed)),
        _ => lines.store(bits, Ordering::Relaxed),
    }
    Ok(())
}
