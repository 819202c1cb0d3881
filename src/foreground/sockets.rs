//! The sockets that systemd would hold: bound first, passed to the ports, removed at the end.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::ForegroundError;
use super::paths::in_file;
use crate::config::Address;
use crate::port::PortName;
use crate::system::persist::Owner;

/// Connections that may wait until a port has started: systemd's default.
const BACKLOG: i32 = 4096;

#[derive(Debug)]
pub struct PortSockets {
    /// SSH, one for each address.
    pub ssh: Vec<TcpListener>,
    pub attach: UnixSocket,
}

impl PortSockets {
    /// All of them, to watch readiness.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.ssh.iter().map(AsFd::as_fd).chain([self.attach.listener.as_fd()])
    }
}

/// A listening unix socket whose file is removed when it is dropped.
#[derive(Debug)]
pub struct UnixSocket {
    pub listener: UnixListener,
    path: PathBuf,
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!("{}: not removed: {error}", self.path.display());
        }
    }
}

/// Binds a port's SSH listeners, one for each address. `[::]` includes IPv4 unless an IPv4 address is listed as well, and means IPv4 on a
/// kernel without IPv6 (both as systemd's `ListenStream=`). An address without IPv6 support or interface is skipped, as by the generator.
pub fn listen_ssh(
    port: &PortName,
    addresses: &[Address],
    number: u16,
) -> Result<Vec<TcpListener>, ForegroundError> {
    let ipv4_is_listed = addresses.iter().any(Address::is_ipv4);
    let failed = |address, error| ForegroundError::Listen { port: port.clone(), address, error };
    let mut listeners = Vec::new();
    for wanted in addresses {
        let address = match wanted.socket_addr(number) {
            Ok(address) => address,
            Err(error) => {
                let interface = wanted.interface().unwrap_or_default();
                tracing::warn!("{port}: {wanted} skipped: there is no interface {interface} ({error})");
                continue;
            }
        };
        match listen_tcp(address, ipv4_is_listed) {
            Ok(listener) => listeners.push(listener),
            Err(error) if error.raw_os_error() != Some(nix::libc::EAFNOSUPPORT) => {
                return Err(failed(address, error));
            }
            Err(_) if wanted.ip().is_unspecified() && !ipv4_is_listed => {
                let address = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), number);
                listeners.push(listen_tcp(address, true).map_err(|error| failed(address, error))?);
            }
            Err(_) => tracing::warn!("{port}: {wanted} skipped: this kernel has no IPv6"),
        }
    }
    if listeners.is_empty() {
        tracing::warn!("{port}: no SSH listener: cannot listen on any of its addresses");
    }
    Ok(listeners)
}

fn listen_tcp(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // So that a restart need not wait for old connections; a second listener still fails.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // The machine may get the address later; the socket units have FreeBind= for this.
    setsockopt(&socket.as_fd(), sockopt::IpFreebind, &true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Binds a unix socket with this mode and owner. A stale socket without a listener is replaced.
pub fn listen_unix(path: &Path, mode: u32, owner: Option<Owner>) -> Result<UnixSocket, ForegroundError> {
    remove_stale(path)?;
    // Removed on failure. Until the mode is set, the umask (022) keeps other users out.
    let socket =
        UnixSocket { listener: UnixListener::bind(path).map_err(in_file(path))?, path: path.to_owned() };
    if let Some(Owner { uid, gid }) = owner {
        chown(path, Some(uid), Some(gid)).map_err(in_file(path))?;
    }
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(in_file(path))?;
    Ok(socket)
}

/// Removes a socket without a listener; an error if it has one.
pub fn remove_stale(path: &Path) -> Result<(), ForegroundError> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ForegroundError::NotASocket(path.to_owned()));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found.map_err(in_file(path))?,
    };
    // Not blocking: a listener whose queue is full does not accept, but it exists.
    let connect = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    match connect() {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(in_file(path))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Ok(()) => Err(ForegroundError::SocketInUse(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            Err(ForegroundError::SocketInUse(path.to_owned()))
        }
        Err(error) => Err(in_file(path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> PortName {
        "ttyUSB0".parse().unwrap()
    }

    #[test]
    fn a_tcp_port_in_use_is_reported_with_its_address() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = other.local_addr().unwrap().port();
        let error = listen_ssh(&name(), &["127.0.0.1".parse().unwrap()], number).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "ttyUSB0: cannot listen on 127.0.0.1:{number}: address in use (by another consoleserver?)"
            )
        );
    }

    #[test]
    fn the_ipv6_wildcard_takes_ipv4_too_unless_ipv4_has_its_own_listener() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let both = ["::".parse().unwrap(), "0.0.0.0".parse().unwrap()];
        drop(listen_ssh(&name(), &both, free).unwrap());

        let dual = listen_ssh(&name(), &both[..1], free).unwrap();
        std::net::TcpStream::connect(("127.0.0.1", free)).unwrap();
        dual[0].accept().unwrap();
    }

    #[test]
    fn a_stale_socket_is_replaced_but_not_a_live_one_or_a_file() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("socket");
        drop(UnixListener::bind(&path).unwrap());
        let live = listen_unix(&path, 0o666, None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);

        assert!(matches!(listen_unix(&path, 0o666, None), Err(ForegroundError::SocketInUse(_))));
        drop(live);
        assert!(!path.exists());

        fs::write(&path, "a file").unwrap();
        assert!(matches!(listen_unix(&path, 0o666, None), Err(ForegroundError::NotASocket(_))));
        assert!(path.exists());
    }
}
