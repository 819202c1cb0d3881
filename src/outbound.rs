//! No way out: a process that only takes connections cannot make one over TCP, also not by a socket that it was handed or has
//! accepted, which belongs to the host's network wherever the process is (`man 7 landlock`).

use landlock::{AccessNet, RestrictionStatus, Ruleset, RulesetAttr, RulesetError, RulesetStatus};

/// Forbids it to this thread and all that it starts, for ever; so before there are others. Whether it holds: kernels before 6.7 know
/// nothing of it, and a console that could not be served for want of it would be worse than one that is served without.
pub fn forbid() -> bool {
    match restrict() {
        Ok(status) => status.ruleset == RulesetStatus::FullyEnforced,
        Err(error) => {
            tracing::error!("connections out of this process cannot be forbidden: {error}");
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
        // The thread alone, and what it would start.
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
        let release = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
        let version: Vec<u32> =
            release.split(['.', '-']).take(2).map_while(|word| word.parse().ok()).collect();
        assert_eq!(bound.join().unwrap(), version >= vec![6, 7], "{release}");
    }
}
