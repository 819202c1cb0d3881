//! SRV records (RFC 2782) from the DNS servers of resolv.conf(5). getaddrinfo(3) has none, and a machine without systemd-resolved or BIND's
//! tools has no program for them.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::Path;
use std::time::Duration;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, SimpleDnsError, TYPE};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::time::timeout;

/// Time for an answer of one server. resolv.conf(5) has 5 s; a login waits for this.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often each server is asked: a datagram may be lost.
const ROUNDS: usize = 2;
/// Servers that are used, as in resolv.conf(5).
const MAX_SERVERS: usize = 3;
/// Search domains that are used.
const MAX_DOMAINS: usize = 6;

/// The part of resolv.conf(5) that is used here.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    servers: Vec<String>,
    pub domains: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Srv {
    priority: u16,
    /// The largest first.
    weight: std::cmp::Reverse<u16>,
    /// The name of the host.
    pub target: String,
    pub tcp_port: u16,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ResolveError {
    #[error("/etc/resolv.conf: {0}")]
    File(io::Error),
    #[error("invalid DNS name {0:?}")]
    Name(String),
    #[error("no DNS server of /etc/resolv.conf answers ({servers}): {error}")]
    NoAnswer { servers: String, error: io::Error },
    #[error("the DNS server {server} answers {rcode} to the query for {name}")]
    Failed { server: String, name: String, rcode: String },
}

impl ResolvConf {
    /// Reads etc/resolv.conf below `root`. As for glibc, a missing file means a server on this machine.
    pub fn load(root: &Path) -> Result<Self, ResolveError> {
        match std::fs::read(root.join("etc/resolv.conf")) {
            Ok(text) => Ok(Self::parse(&String::from_utf8_lossy(&text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::parse("")),
            Err(error) => Err(ResolveError::File(error)),
        }
    }

    fn parse(text: &str) -> Self {
        let mut parsed = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") if parsed.servers.len() < MAX_SERVERS => {
                    parsed.servers.extend(words.next().map(str::to_owned));
                }
                // The last of them is in effect.
                Some("search" | "domain") => {
                    let domain = |word: &str| word.trim_end_matches('.').to_owned();
                    parsed.domains =
                        words.take(MAX_DOMAINS).map(domain).filter(|word| !word.is_empty()).collect();
                }
                _ => {}
            }
        }
        if parsed.servers.is_empty() {
            parsed.servers.push("127.0.0.1".to_owned());
        }
        parsed
    }

    /// The SRV records of a name, in the order in which they are to be tried; none if the name or the records do not exist.
    pub async fn srv(&self, name: &str) -> Result<Vec<Srv>, ResolveError> {
        let mut failed = io::Error::from(io::ErrorKind::TimedOut);
        let mut refused = None;
        for _ in 0..ROUNDS {
            for server in &self.servers {
                let query = query(name)?;
                let answer = match timeout(ANSWER_TIMEOUT, ask(server, &query)).await {
                    Ok(Ok(answer)) => answer,
                    Ok(Err(error)) => {
                        failed = error;
                        continue;
                    }
                    Err(_) => continue,
                };
                match found(&answer) {
                    Ok(Ok(found)) => return Ok(found),
                    Ok(Err(rcode)) => {
                        let (server, name) = (server.clone(), name.to_owned());
                        refused = Some(ResolveError::Failed { server, name, rcode: format!("{rcode:?}") });
                    }
                    Err(error) => failed = io::Error::other(error.to_string()),
                }
            }
            if refused.is_some() {
                break;
            }
        }
        Err(refused
            .unwrap_or_else(|| ResolveError::NoAnswer { servers: self.servers.join(", "), error: failed }))
    }
}

/// A query with an identifier that others cannot guess.
fn query(name: &str) -> Result<Vec<u8>, ResolveError> {
    let invalid = |_: SimpleDnsError| ResolveError::Name(name.to_owned());
    let mut packet = Packet::new_query(RandomState::new().build_hasher().finish() as u16);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let of = Name::new(name).map_err(invalid)?;
    packet.questions.push(Question::new(of, QTYPE::TYPE(TYPE::SRV), QCLASS::CLASS(CLASS::IN), false));
    packet.build_bytes_vec().map_err(invalid)
}

/// The answer of a server, over TCP if it is too long for a datagram.
async fn ask(server: &str, query: &[u8]) -> io::Result<Vec<u8>> {
    const DNS: u16 = 53;
    // (An IPv6 address may have an interface, which the C library resolves.)
    let address = lookup_host((server, DNS)).await?.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await?;
    // Only this server's datagrams arrive, and its ICMP errors do.
    socket.connect(address).await?;
    socket.send(query).await?;
    let mut answer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut answer).await?;
        let packet = Packet::parse(&answer[..length]).ok().filter(|packet| is_answer(packet, query));
        match packet.map(|packet| packet.has_flags(PacketFlag::TRUNCATION)) {
            Some(true) => break,
            Some(false) => {
                answer.truncate(length);
                return Ok(answer);
            }
            // The answer is not for this query: it is forged or late.
            None => {}
        }
    }
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&[&(query.len() as u16).to_be_bytes(), query].concat()).await?;
    let length = stream.read_u16().await?;
    answer.resize(length.into(), 0);
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

fn is_answer(packet: &Packet<'_>, query: &[u8]) -> bool {
    let asked = Packet::parse(query).ok();
    packet.has_flags(PacketFlag::RESPONSE)
        && asked.is_some_and(|asked| {
            let name = |packet: &Packet<'_>| {
                packet.questions.first().map(|question| question.qname.to_string().to_ascii_lowercase())
            };
            asked.id() == packet.id() && name(&asked) == name(packet)
        })
}

/// The records of an answer, or its response code.
fn found(answer: &[u8]) -> Result<Result<Vec<Srv>, RCODE>, SimpleDnsError> {
    let packet = Packet::parse(answer)?;
    match packet.rcode() {
        RCODE::NoError | RCODE::NameError => {}
        other => return Ok(Err(other)),
    }
    let mut found: Vec<Srv> = packet
        .answers
        .iter()
        .filter_map(|record| match &record.rdata {
            RData::SRV(srv) => Some(Srv {
                priority: srv.priority,
                weight: std::cmp::Reverse(srv.weight),
                target: srv.target.to_string(),
                tcp_port: srv.port,
            }),
            _ => None,
        })
        // RFC 2782: the root as the target means that there is no such service.
        .filter(|srv| !srv.target.is_empty() && srv.target != ".")
        .collect();
    found.sort();
    Ok(Ok(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_is_read_as_glibc_reads_it() {
        let text = "# x\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\ndomain a.example\nsearch b.example. c.example\n\
                    nameserver 192.0.2.3\nnameserver 192.0.2.4\noptions ndots:2\n";
        let parsed = ResolvConf::parse(text);
        assert_eq!(parsed.servers, ["192.0.2.1", "fe80::1%eth0", "192.0.2.3"]);
        assert_eq!(parsed.domains, ["b.example", "c.example"]);
        assert_eq!(ResolvConf::parse("").servers, ["127.0.0.1"]);
    }

    #[test]
    fn an_answer_to_another_query_is_none() {
        let asked = query("_ssh._tcp.core.console.example").unwrap();
        let answer = |name: &str, id: u16| {
            let mut packet = Packet::new_reply(id);
            let question = Question::new(
                Name::new(name).unwrap(),
                QTYPE::TYPE(TYPE::SRV),
                QCLASS::CLASS(CLASS::IN),
                false,
            );
            packet.questions.push(question);
            packet.build_bytes_vec().unwrap()
        };
        let id = u16::from_be_bytes([asked[0], asked[1]]);
        let is = |bytes: &[u8]| is_answer(&Packet::parse(bytes).unwrap(), &asked);
        assert!(is(&answer("_ssh._TCP.core.console.example", id)));
        assert!(!is(&answer("_ssh._tcp.core.console.example", id.wrapping_add(1))));
        assert!(!is(&answer("_ssh._tcp.edge.console.example", id)));
        assert!(!is(&asked), "a query is not an answer");
    }
}
