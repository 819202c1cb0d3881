//! Unauthenticated clients that do not speak SSH, or abuse it: they are disconnected or time out, with bounded memory, and their names are
//! escaped in the journal.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;

use russh::keys::{Algorithm, PrivateKey, PrivateKeyWithHashAlg};
use socket2::{Domain, Socket, Type};

use crate::accounts::Accounts;
use crate::client::Client;
use crate::limits::connect;
use crate::rig::{Rig, TIMEOUT, until};
use crate::{at_terminal, served};

/// Limit of unauthenticated connections (`ssh::admission`), and of those from one address.
const PLACES: usize = 100;
const PER_SOURCE: usize = 80;
/// Kilobytes that each of them may cost: the longest packet that russh accepts, and the base cost of a connection; and what the
/// allocator may keep.
const EACH: u64 = 400;
const KEPT: u64 = 1024;
/// Bytes that one line of the journal may have.
const LINE: usize = 2000;

const VERSION: &[u8] = b"SSH-2.0-hostile\r\n";
const KEXINIT: u8 = 20;

/// A packet before any key (RFC 4253, section 6).
fn packet(payload: &[u8]) -> Vec<u8> {
    let padding = 8 + (8 - (5 + payload.len()) % 8) % 8;
    let length = (1 + payload.len() + padding) as u32;
    [&length.to_be_bytes(), [padding as u8].as_slice(), payload, &vec![0; padding]].concat()
}

/// The client's offer: ten name lists, each this (RFC 4253, section 7.1).
fn kexinit(list: &[u8]) -> Vec<u8> {
    let list = [&(list.len() as u32).to_be_bytes(), list].concat();
    packet(&[[[KEXINIT; 1].as_slice(), &[7; 16]].concat(), list.repeat(10), vec![0; 5]].concat())
}

/// A connection from the `number` th address.
fn stranger(rig: &Rig, number: usize) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let from = std::net::SocketAddr::from((Ipv4Addr::new(127, 0, 3, number as u8 + 1), 0));
    socket.bind(&from.into()).unwrap();
    let to = std::net::SocketAddr::from(([127, 0, 0, 1], rig.tcp_port));
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream
}

/// Waits until the port has closed it.
#[track_caller]
fn is_closed(mut stream: TcpStream, what: &str) {
    let mut heard = [0; 4096];
    loop {
        match stream.read(&mut heard) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            Err(error) => panic!("after {what}: {error}"),
        }
    }
}

#[test]
fn a_client_that_does_not_speak_ssh_is_disconnected() {
    let rig = served("");
    let mut inside = at_terminal(&rig);
    let names = |count: usize| vec!["curve25519-sha256"; count].join(",").into_bytes();
    for (what, words) in [
        ("a version without end", vec![b'x'; 1_000_000]),
        ("a long version", [b"SSH-2.0-".as_slice(), &vec![b'x'; 70_000], b"\r\n"].concat()),
        ("another protocol", b"GET / HTTP/1.0\r\n\r\n".to_vec()),
        ("a version of the last century", b"SSH-1.5-old\r\n".to_vec()),
        ("a greeting of many lines", b"hello\r\n".repeat(100_000)),
        ("control characters", b"\x1b]0;owned\x07\x1b[2J\0\r\nSSH-2.0-x\r\n".to_vec()),
        ("the longest packet", [VERSION, &[0xff; 64]].concat()),
        ("the shortest packet", [VERSION, &[0; 64]].concat()),
        ("padding longer than its packet", [VERSION, &[0, 0, 0, 12, 255], &[0; 64]].concat()),
        ("no offer at all", [VERSION, &packet(&[KEXINIT])].concat()),
        ("an offer of nothing", [VERSION, &kexinit(b"")].concat()),
        ("an offer of commas", [VERSION, &kexinit(&[b','; 20_000])].concat()),
        ("an offer of what there is not", [VERSION, &kexinit(&[b'x'; 20_000])].concat()),
        ("an offer of no text", [VERSION, &kexinit(&[0xff; 2000])].concat()),
        ("an offer of a thousand names", [VERSION, &kexinit(&names(1000))].concat()),
        ("lists without end", [VERSION, &packet(&[[KEXINIT; 17].as_slice(), &[0xff; 64]].concat())].concat()),
        ("a login before any key", [VERSION, &packet(b"\x32\0\0\0\x04root")].concat()),
    ] {
        let mut stream = stranger(&rig, 0);
        // The server may close the connection before all is sent.
        let _ = stream.write_all(&words);
        is_closed(stream, what);
    }
    inside.type_in("still here");
    rig.expect_at_device(b"still here");
    let journal = rig.journal();
    assert!(!journal.contains("panicked"), "{journal}");
    is_harmless(&journal);
}

/// A load balancer that adds its header to a connection of OpenSSH.
#[test]
fn the_header_of_the_proxy_protocol_is_rejected_with_a_message() {
    let rig = served("");
    let header = r"PROXY TCP4 192.0.2.7 192.0.2.1 51000 22\r\n";
    let proxy = format!(
        "ProxyCommand=sh -c \"{{ printf '{header}'; cat; }} | socat - TCP:127.0.0.1:{}\"",
        rig.tcp_port
    );
    let mut client = Client::start(rig.ssh(&["-o", &proxy, "demo@127.0.0.1"]));
    client.is_told("the PROXY protocol is not supported: configure the proxy to send no header");
    client.ends_with(255);
    rig.wait_for_journal("cannot serve 127.0.0.1: the PROXY protocol is not supported");
}

/// libssh before 0.9, which times out after ten seconds.
#[test]
fn a_client_that_waits_for_our_kexinit_receives_it() {
    let rig = served("");
    let mut stream = stranger(&rig, 0);
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    stream.write_all(b"SSH-2.0-libssh-0.7.1\r\n").unwrap();
    let mut heard = [0; b"SSH-2.0-consoleserver\r\n".len() + 6];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(heard.last(), Some(&KEXINIT), "{heard:?}");
}

#[test]
fn the_longest_packets_of_as_many_as_have_places_are_bounded_and_given_back() {
    let rig = served("");
    let memory = rig.private_memory();
    let length = (256 * 1024u32).to_be_bytes();
    let all_but_the_end = [VERSION, &length, &[0; 255 * 1024]].concat();
    let mut strangers: Vec<_> = (0..PLACES).map(|number| stranger(&rig, number / PER_SOURCE)).collect();
    for stranger in &mut strangers {
        stranger.write_all(&all_but_the_end).unwrap();
    }
    // Data in the kernel's buffers is not memory of the port.
    until("the packets to be read", || (unread(&rig) == 0).then_some(()));
    let costs = rig.private_memory();
    drop(strangers);
    until("the connections to end", || (crate::refused::connections(&rig) == 0).then_some(()));
    let mut kept = 0;
    until("the memory to be given back", || {
        kept = rig.private_memory();
        (kept <= memory + KEPT).then_some(())
    });
    eprintln!("{PLACES} packets of 256 KiB: {memory}, {costs} and {kept} kB");
    assert!(costs <= memory + PLACES as u64 * EACH, "{costs} kB instead of {memory}");
    at_terminal(&rig);
}

/// Bytes that have come to the port's connections and were not read.
fn unread(rig: &Rig) -> usize {
    let port = format!(":{:04X}", rig.tcp_port);
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let ours = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = ours.filter(|fields| fields[1].ends_with(&port) && fields[3] == "01");
    ours.map(|fields| usize::from_str_radix(fields[4].split_once(':').unwrap().1, 16).unwrap()).sum()
}

#[tokio::test]
async fn the_user_name_of_a_failed_login_is_one_escaped_line_in_the_journal() {
    let _accounts = Accounts::enter();
    let rig = served("");
    let control: String = (0..32u8).chain(127..160).map(char::from).collect();
    let long = control.repeat(1 + 64 * 1024 / control.len());
    let names = [
        "",
        "\0",
        "root\0",
        "root\n2026-11-24 granted as root",
        &control,
        &long[..100 * control.len()],
        &long,
    ];
    for name in names {
        let mut stranger = connect(&rig).await;
        let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap();
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
        assert!(!stranger.authenticate_publickey(name, key).await.unwrap().success());
        let _ = stranger.authenticate_keyboard_interactive_start(name, None).await.unwrap();
    }
    until("all to be told of", || {
        let journal = rig.login_journal();
        let told =
            journal.lines().filter(|line| line.contains("login of ") && line.contains(" to demo from "));
        (told.count() >= names.len()).then_some(())
    });
    is_harmless(&rig.journal());
    is_harmless(&rig.login_journal());
}

#[track_caller]
fn is_harmless(journal: &str) {
    assert_eq!(journal.find(|c: char| c.is_control() && c != '\n'), None, "{journal:?}");
    let longest = journal.lines().map(str::len).max().unwrap_or_default();
    assert!(longest <= LINE, "a line of {longest} bytes");
}
