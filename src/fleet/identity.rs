//! What a server is called, and where clients reach it.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::process::{Command, Stdio};

use super::directory::{Identity, Settings, is_reachable, label};
use super::publish::PublishError;
use crate::config::Config;

/// This server, without the fingerprints of its host keys.
pub fn identity(settings: &Settings, id: &str) -> Result<Identity, PublishError> {
    let host = || {
        let file = "/proc/sys/kernel/hostname";
        std::fs::read_to_string(file).map_err(|error| PublishError::File(file.into(), error))
    };
    let name = settings.name.clone().map_or_else(host, Ok)?;
    let first = name.trim().split('.').next().unwrap_or_default();
    let name = label(first).ok_or_else(|| PublishError::HostName(name.trim().to_owned()))?;
    let addresses = match settings.addresses.is_empty() {
        true => own_addresses(&settings.server)?,
        false => settings.addresses.clone(),
    };
    Ok(Identity { name, id: id.to_owned(), addresses, fingerprints: Vec::new() })
}

/// The addresses from which this machine reaches the DNS server: one for IPv4 and one for IPv6.
fn own_addresses(server: &str) -> Result<Vec<IpAddr>, PublishError> {
    const DNS: u16 = 53;
    let failed = |error| PublishError::Address { server: server.to_owned(), error };
    let from = |to: SocketAddr| -> io::Result<IpAddr> {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        // Chooses the route, and sends nothing.
        socket.connect(to)?;
        Ok(socket.local_addr()?.ip())
    };
    let mut found = Vec::new();
    let mut error = io::ErrorKind::AddrNotAvailable.into();
    for to in (server, DNS).to_socket_addrs().map_err(failed)? {
        match from(to) {
            Ok(address) => found.push(address),
            Err(why) => error = why,
        }
    }
    found.sort();
    found.dedup();
    if found.is_empty() {
        return Err(failed(error));
    }
    // A server on this machine is reached from 127.0.0.1, which is another machine for each client.
    found.retain(|address| is_reachable(*address));
    match found.is_empty() {
        true => Err(PublishError::NoAddress(server.to_owned())),
        false => Ok(found),
    }
}

/// The fingerprints of the host keys, which all listeners share, as that of the admin CLI offers them.
pub fn fingerprints(config: &Config) -> Result<Vec<String>, PublishError> {
    let first = config.server.listen.first().map(|address| address.ip());
    let (Some(tcp_port), Some(address)) = (config.server.ssh_port, first) else {
        return Err(PublishError::NoAdminPort);
    };
    let address = match address {
        IpAddr::V4(all) if all.is_unspecified() => "127.0.0.1".to_owned(),
        IpAddr::V6(all) if all.is_unspecified() => "::1".to_owned(),
        address => address.to_string(),
    };
    let mut command = Command::new("ssh-keyscan");
    command.args(["-D", "-T", "5", "-p", &tcp_port.to_string(), &address]).stdin(Stdio::null());
    let output = command.output().map_err(|error| PublishError::Start("ssh-keyscan", error))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // RFC 6594: 2 is SHA-256; SHA-1 is obsolete.
    let data = text.lines().filter_map(|line| Some(line.split_once(" IN SSHFP ")?.1.trim().to_owned()));
    let mut data: Vec<String> = data.filter(|data| data.split(' ').nth(1) == Some("2")).collect();
    // (ssh-keyscan asks for all types at once.)
    data.sort_unstable();
    // Without this check, a server that offers no key would remove the records of keys that have not changed.
    if data.is_empty() { Err(PublishError::NoHostKey { address, tcp_port }) } else { Ok(data) }
}
