//! Keeps logins from blocking on journald. PAM modules call syslog(3), which blocks while journald is stopped or its queue is full; glibc
//! has no timeout for that. So while a module runs, a thread checks ten times a second which system call the PAM thread is in
//! (`/proc/self/task/TID/syscall`), and interrupts it if it waits in a send to a unix datagram socket, as syslog and the journal use. The
//! send fails with EINTR, the message is lost, and the module continues. A program started by a module that waits in such a send
//! (unix_chkpwd, which pam_unix of Debian 13 runs, logs wrong passwords itself; `logger` in a script of pam_exec) is killed, and the login
//! fails. Nothing else is interrupted: modules also wait for directory servers and for users.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname, getsockopt, sockopt};
use nix::unistd::{Pid, gettid};

/// Interval of the checks. A send is interrupted when two checks find the same one.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// A signal that neither we nor modules use.
const SIGNAL: Signal = Signal::SIGURG;
/// Programs of modules that are checked: `TasksMax=` allows no more.
const MAX_PROGRAMS: usize = 32;

/// While it exists, sends of the thread that created it do not block on journald.
#[derive(Debug)]
pub(super) struct Interrupter {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<u32>>,
}

impl Interrupter {
    /// Starts the checks of this thread. If that fails, PAM runs without them, and only the time limit of the process applies.
    pub(super) fn new() -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let thread = watch(gettid(), done.clone()).inspect_err(|error| {
            tracing::warn!(
                "a login may block on journald, because PAM modules cannot be interrupted: {error}"
            );
        });
        Self { done, thread: thread.ok() }
    }
}

impl Drop for Interrupter {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return };
        thread.thread().unpark();
        if let Ok(messages @ 1..) = thread.join() {
            tracing::warn!(
                "the journal did not accept messages of PAM modules: about {messages} were dropped"
            );
        }
    }
}

fn watch(tid: Pid, done: Arc<AtomicBool>) -> io::Result<JoinHandle<u32>> {
    extern "C" fn nothing(_: libc::c_int) {}
    // Without SA_RESTART, so that the system call ends.
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing, which is safe in a signal handler; the signal had none before.
    unsafe { sigaction(SIGNAL, &action) }?;
    // Opened now: modules may change the user.
    let syscall = File::open(format!("/proc/self/task/{tid}/syscall"))?;
    std::thread::Builder::new().name("interrupter".to_owned()).stack_size(64 * 1024).spawn(move || {
        let (mut interrupted, mut killed) = (0u32, 0);
        let mut before = None;
        let mut programs = HashMap::new();
        while !done.load(Ordering::Relaxed) {
            std::thread::park_timeout(CHECK_INTERVAL);
            let now = own_blocking_send(&syscall);
            if now.is_some() && now == before {
                // SAFETY: the thread lives, since it joins this one.
                unsafe {
                    libc::syscall(libc::SYS_tgkill, libc::getpid(), tid.as_raw(), SIGNAL as libc::c_int)
                };
                interrupted += 1;
            }
            before = now;
            killed += kill_blocked(tid, &mut programs);
        }
        // syslog(3) reconnects and sends each message once more.
        interrupted.div_ceil(2) + killed
    })
}

/// Kills the programs started by a thread that wait in the same send as at the last check. Returns their number.
fn kill_blocked(tid: Pid, before: &mut HashMap<i32, (OwnedFd, String)>) -> u32 {
    let mut now = HashMap::new();
    let mut killed = 0;
    for pid in programs(tid) {
        // A pidfd opened before the check, so that a reused pid is not killed.
        let held = rustix::process::Pid::from_raw(pid)
            .and_then(|pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok());
        let (Some(held), Some(send)) = (held, programs_blocking_send(pid)) else { continue };
        if before.get(&pid).is_some_and(|(_, earlier)| *earlier == send) {
            let kill = rustix::process::Signal::KILL;
            killed += u32::from(rustix::process::pidfd_send_signal(&held, kill).is_ok());
        }
        now.insert(pid, (held, send));
    }
    *before = now;
    killed
}

/// The descendants of a thread.
fn programs(tid: Pid) -> Vec<i32> {
    let children = |path: String| -> Vec<i32> {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    };
    let mut all = children(format!("/proc/self/task/{tid}/children"));
    let mut checked = 0;
    while checked < all.len() && all.len() < MAX_PROGRAMS {
        let pid = all[checked];
        all.extend(children(format!("/proc/{pid}/task/{pid}/children")));
        checked += 1;
    }
    all.truncate(MAX_PROGRAMS);
    all
}

fn programs_blocking_send(pid: i32) -> Option<String> {
    let line = fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
    let fd = sends_to(&line)?;
    let socket = fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?;
    let inode = socket.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
    // proc_net_unix(5): number, references, protocol, flags, type (2: datagrams), state, inode.
    let table = fs::read_to_string("/proc/net/unix").ok()?;
    let is_it = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().take(7).collect();
        fields.get(6) == Some(&inode) && fields.get(4) == Some(&"0002")
    };
    table.lines().any(is_it).then_some(line)
}

/// The system call in which our thread waits, if it sends to a unix datagram socket, in the format of proc_pid_syscall(5).
fn own_blocking_send(syscall: &File) -> Option<String> {
    let mut line = [0; 256];
    let length = syscall.read_at(&mut line, 0).ok()?;
    let line = std::str::from_utf8(&line[..length]).ok()?;
    is_unix_datagram(sends_to(line)?).then(|| line.to_owned())
}

/// The descriptor to which a system call sends, if it is a send.
fn sends_to(line: &str) -> Option<RawFd> {
    let mut words = line.split(' ');
    let number: libc::c_long = words.next()?.parse().ok()?;
    if ![libc::SYS_sendto, libc::SYS_sendmsg, libc::SYS_write, libc::SYS_writev].contains(&number) {
        return None;
    }
    RawFd::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()
}

fn is_unix_datagram(fd: RawFd) -> bool {
    let unix =
        getsockname::<SockaddrStorage>(fd).is_ok_and(|address| address.family() == Some(AddressFamily::Unix));
    // SAFETY: the descriptor is open, since a thread waits in a system call with it; if it is closed in between, the call fails or queries
    // another descriptor, which does no harm.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    unix && getsockopt(&fd, sockopt::SockType).is_ok_and(|kind| kind == nix::sys::socket::SockType::Datagram)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn a_send_to_a_full_datagram_socket_is_interrupted_and_a_read_is_not() {
        let (near, _far) = UnixDatagram::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        while near.send(b"full").is_ok() {}
        near.set_nonblocking(false).unwrap();
        let interrupter = Interrupter::new();
        let error = near.send(b"one more").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
        // A read is not interrupted.
        let (mut reader, writer) = io::pipe().unwrap();
        let answer = std::thread::spawn(move || {
            std::thread::sleep(5 * CHECK_INTERVAL);
            io::Write::write_all(&mut &writer, b"answer").unwrap();
        });
        let mut buffer = [0; 16];
        assert_eq!(io::Read::read(&mut reader, &mut buffer).unwrap(), 6, "not interrupted");
        answer.join().unwrap();
        drop(interrupter);
    }

    #[test]
    fn a_program_that_blocks_in_such_a_send_is_killed_and_another_one_is_not() {
        use std::os::unix::process::ExitStatusExt;
        use std::process::{Command, Stdio};

        let (near, _far) = UnixDatagram::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        while near.send(b"full").is_ok() {}
        near.set_nonblocking(false).unwrap();
        let _interrupter = Interrupter::new();
        let python = |script: &str, stdin: Stdio| {
            Command::new("python3").args(["-c", script]).stdin(stdin).spawn().unwrap()
        };
        let send = "import socket; socket.socket(fileno=0).send(b'one more')";
        let mut blocked = python(send, OwnedFd::from(near).into());
        let mut waits = python("import time; time.sleep(3600)", Stdio::null());
        assert_eq!(blocked.wait().unwrap().signal(), Some(libc::SIGKILL));
        assert!(waits.try_wait().unwrap().is_none(), "it sends nothing");
        waits.kill().unwrap();
        waits.wait().unwrap();
    }
}
