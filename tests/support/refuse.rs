#![allow(unsafe_code)]
//! A kernel in which some ioctls fail, for one process: the drivers that do so are of hardware that no bed has (CH34x, CDC-ACM and
//! PL2303 at TIOCSBRK), and a pty's succeed and do nothing.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::libc::{self, c_int, c_ulong, sock_filter, sock_fprog};

/// Makes each of these ioctls of `command` fail (`man 2 seccomp`).
pub fn refuse_ioctls(command: &mut Command, refused: &[(c_ulong, c_int)]) {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, k, jt, jf| sock_filter { code, jt, jf, k };
    // struct seccomp_data: the number of the call at 0, its second argument at 24 (little-endian).
    let mut filter = vec![step(LOAD, 0, 0, 0), step(EQUAL, libc::SYS_ioctl as u32, 1, 0)];
    filter.extend([step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0), step(LOAD, 24, 0, 0)]);
    for (request, errno) in refused {
        filter.push(step(EQUAL, *request as u32, 0, 1));
        filter.push(step(RETURN, libc::SECCOMP_RET_ERRNO | *errno as u32, 0, 0));
    }
    filter.push(step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0));
    let install = move || {
        let program = sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: both take plain numbers and a pointer to a program that lives as long as the call.
        let installed = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &program) == 0
        };
        if installed { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: the two calls are async-signal-safe, and nothing is allocated between fork and exec.
    unsafe { command.pre_exec(install) };
}
