//! Blocks outgoing connections: a process that only accepts connections cannot make one over TCP, nor by a socket that it was given or has
//! accepted, which belongs to the host's network wherever the process is (`man 7 landlock`).

use landlock::{AccessNet, RestrictionStatus, Ruleset, RulesetAttr, RulesetError, RulesetStatus};

/// Blocks them for this thread and all that it starts, without a way back; so call it before there are others. Returns whether that worked:
/// kernels before 6.7 do not support it, and it is better to serve a console without it than not at all.
pub fn forbid() -> bool {
    match restrict() {
        Ok(status) => status.ruleset == RulesetStatus::FullyEnforced,
        Err(error) => {
            tracing::error!("outgoing connections of this process cannot be blocked: {error}");
            false
        }
    }
}

fn restrict() -> Result<RestrictionStatus, RulesetError> {
    Ruleset::default().handle_access(AccessNet::ConnectTcp)?.create()?.restrict_self()
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use nix::libc;
    use rustix::net::{connect, connect_unspec};

    use super::*;

    #[test]
    fn what_is_accepted_is_served_and_leads_nowhere_else() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let elsewhere = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let dialed = elsewhere.local_addr().unwrap();
        let _clients = [TcpStream::connect(address).unwrap(), TcpStream::connect(address).unwrap()];
        let (first, _) = listener.accept().unwrap();
        connect_unspec(&first).unwrap();
        connect(&first, &dialed).expect("else there would be nothing to forbid");
        // Affects this thread, and all that it would start.
        let bound = std::thread::spawn(move || {
            if !forbid() {
                return false;
            }
            let (second, _) = listener.accept().unwrap();
            connect_unspec(&second).unwrap();
            let refused = connect(&second, &dialed);
            assert_eq!(refused, Err(rustix::io::Errno::ACCESS));
            assert_eq!(TcpStream::connect(dialed).unwrap_err().kind(), ErrorKind::PermissionDenied);
            true
        });
        assert_eq!(bound.join().unwrap(), landlock_version() >= 4);
    }

    /// The version of Landlock that this process sees, which a container may filter: 4 supports TCP (landlock(7)).
    #[allow(unsafe_code)]
    fn landlock_version() -> i64 {
        const VERSION: u32 = 1;
        // SAFETY: with this flag the call reads no memory (landlock_create_ruleset(2)).
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<()>(), 0_usize, VERSION) }
    }

    /// Makes this thread's landlock_create_ruleset fail, as the seccomp filters of containers do.
    #[allow(unsafe_code)]
    fn filter_landlock(errno: i32) {
        let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
        let mut steps = [
            // The number of the system call, the first of seccomp_data.
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
            step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_landlock_create_ruleset as u32),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
        nix::sys::prctl::set_no_new_privs().unwrap();
        // SAFETY: the kernel copies the program, which outlives the call.
        let done = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    }

    #[test]
    fn where_landlock_is_filtered_it_is_done_without() {
        for errno in [libc::ENOSYS, libc::EPERM] {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let address = listener.local_addr().unwrap();
            let filtered = std::thread::spawn(move || {
                filter_landlock(errno);
                assert!(!forbid());
                assert!(landlock_version() < 0);
                TcpStream::connect(address).map(drop)
            });
            filtered.join().unwrap().unwrap();
        }
    }
}
