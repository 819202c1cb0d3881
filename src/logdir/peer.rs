//! Which port is at the other end of a connection: the unit of the connected process, by its control group. All ports
//! have one user id, so that identifies none.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use thiserror::Error;

use crate::port::PortName;

/// Why a peer gets no directory.
#[derive(Debug, Error)]
pub enum PeerError {
    /// The kernel does not identify the process, or it has ended.
    #[error("the peer cannot be identified: {0}")]
    Io(#[from] io::Error),
    /// It has ended since it connected: its process id may have been reused.
    #[error("the peer has ended")]
    Ended,
    #[error("the peer is in {0:?}, not in a console@NAME.service")]
    NoPort(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// The process of the port in `console@INSTANCE.service`.
    Port(PortName),
    /// `console-admin`.
    Admin,
}

pub fn of(stream: impl AsFd) -> Result<Peer, PeerError> {
    let pid = getsockopt(&stream, sockopt::PeerCredentials).map_err(io::Error::from)?.pid();
    // Since Linux 6.5. It identifies the process itself, whereas a number may be reused.
    let process: Option<OwnedFd> = match getsockopt(&stream, sockopt::PeerPidfd) {
        Ok(process) => Some(process),
        Err(Errno::ENOPROTOOPT) => None,
        // It has been reaped; EINVAL by kernels of before 6.15.
        Err(Errno::EINVAL | Errno::ESRCH | Errno::ENODATA) => return Err(PeerError::Ended),
        Err(errno) => return Err(io::Error::from(errno).into()),
    };
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    // Checked afterwards: if the process lives, the number was its own when its control group was read.
    if process.is_some_and(|process| has_ended(&process)) {
        return Err(PeerError::Ended);
    }
    peer_of(&groups).ok_or(PeerError::NoPort(groups))
}

/// A pidfd becomes readable when its process ends (pidfd_open(2)).
fn has_ended(process: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO) != Ok(0)
}

/// The port in a `/proc/PID/cgroup` (cgroups(7)): in the one hierarchy, or in systemd's own where there are several.
fn peer_of(groups: &str) -> Option<Peer> {
    groups.lines().find_map(|line| {
        let (_, path) = line.split_once("::").or_else(|| line.split_once(":name=systemd:"))?;
        let unit = path.rsplit('/').next()?;
        if unit == "console-admin.service" {
            return Some(Peer::Admin);
        }
        unit.strip_prefix("console@")?.strip_suffix(".service")?.parse().ok().map(Peer::Port)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_the_instance_of_the_unit() {
        let port = |groups| match peer_of(groups) {
            Some(Peer::Port(port)) => Some(port.to_string()),
            Some(Peer::Admin) => Some("the administration".to_owned()),
            None => None,
        };
        let admin = "0::/system.slice/console-admin.service\n";
        assert_eq!(port(admin).as_deref(), Some("the administration"));
        let v2 = "0::/system.slice/system-console.slice/console@core-1.service\n";
        assert_eq!(port(v2).as_deref(), Some("core-1"));
        let v1 = "12:pids:/x\n1:name=systemd:/system.slice/system-console.slice/console@ttyUSB0.service\n";
        assert_eq!(port(v1).as_deref(), Some("ttyUSB0"));
        // Both, as in a container of systemd-nspawn.
        let both = format!("9:name=systemd:/\n8:pids:/\n{v2}");
        assert_eq!(port(&both).as_deref(), Some("core-1"));
        for other in [
            "0::/system.slice/console-admin.service/inner\n",
            "0::/user.slice/xconsole-admin.service\n",
            "",
            "0::/\n",
            "0::/system.slice/console-cli.service\n",
            "0::/system.slice/system-console.slice/console@a.service/inner\n",
            "0::/console@../x.service\n",
            "0::/console@.service\n",
        ] {
            assert_eq!(port(other), None, "{other:?}");
        }
    }
}
