//! A port as a serial line for other programs: pyserial by RFC 2217, over SSH and by the plain listener, and
//! socat at the raw one.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

#[path = "support/client.rs"]
mod client;
#[path = "support/dialer.rs"]
mod dialer;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/ser2net.rs"]
mod ser2net;

#[path = "rfc2217/given_back.rs"]
mod given_back;
#[path = "rfc2217/pyserial.rs"]
mod pyserial;

use client::Client;
use rig::{Rig, TIMEOUT, listens, until};

/// A port with both plain listeners.
fn plain(settings: &str) -> (Rig, SocketAddr, SocketAddr) {
    let mut rig = Rig::new("");
    let (rfc2217, raw) = (rig.listen_plain(), rig.listen_plain());
    rig.configure(&format!(
        "[ports.demo]\ngroups = [\"*\"]\ndevice = \"@DIR@/dev/demo\"\nrfc2217 = \"{rfc2217}\"\nraw = \"{raw}\"\n{settings}\n"
    ));
    rig.start_plugged();
    (rig, rfc2217, raw)
}

/// A program on pyserial, which does a line of Python at a time: `port` is the open line.
struct Pyserial {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Pyserial {
    /// Opens a line as `serial_for_url(url, options)` does.
    fn open(url: &str, options: &str) -> Self {
        let script = format!(
            "import sys, time, serial\n\
             try:\n    port = serial.serial_for_url({url:?}, {options})\n    print('open', flush=True)\n\
             except Exception as error:\n    print(repr(error), flush=True); sys.exit(1)\n\
             for line in sys.stdin:\n    print(repr(eval(line)), flush=True)\n"
        );
        let mut child = Command::new("/usr/bin/python3")
            .args(["-W", "ignore", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, to, from }
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn does(&mut self, expression: &str) -> String {
        writeln!(self.to, "{expression}").unwrap();
        self.answer()
    }
}

impl Drop for Pyserial {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn rate_is(rig: &Rig, rate: u32) {
    until(&format!("{rate} baud"), || (rig.line().c_ospeed == rate).then_some(()));
}

/// Everything that a line can carry, IAC and CR among it.
fn every_byte() -> Vec<u8> {
    (0..=255).chain(*b"\xff\xff\r\n\r\0\r\xff").collect()
}

fn python_bytes(bytes: &[u8]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("bytes.fromhex('{hex}')")
}

/// Checks that all bytes pass in both directions.
fn carries_everything(rig: &Rig, port: &mut Pyserial) {
    let all = every_byte();
    assert_eq!(port.does(&format!("port.write({})", python_bytes(&all))), all.len().to_string());
    let mut device = rig.device();
    let mut sent = vec![0; all.len()];
    device.read_exact(&mut sent).unwrap();
    assert_eq!(sent, all);
    device.write_all(&all).unwrap();
    assert_eq!(port.does(&format!("port.read({}) == {}", all.len(), python_bytes(&all))), "True");
}

/// RFC 854, "Synch": the second byte of IAC DM is urgent data. telnet(1) sends it for `send synch`, and with `autosynch` for ^C.
#[test]
fn a_synch_of_a_client_takes_no_byte_with_it() {
    let (mut rig, rfc2217, _) = plain("");
    let mut client = TcpStream::connect(rfc2217).unwrap();
    client.write_all(b"before\xff").unwrap();
    nix::sys::socket::send(
        std::os::fd::AsRawFd::as_raw_fd(&client),
        b"\xf2",
        nix::sys::socket::MsgFlags::MSG_OOB,
    )
    .unwrap();
    client.write_all(b"after").unwrap();
    rig.expect_at_device(b"beforeafter");
    assert!(rig.stop().success());
}

#[test]
fn pyserial_sets_the_line_and_the_line_is_given_back() {
    let (rig, rfc2217, _) = plain("remote_settings = true");
    for _ in 0..2 {
        let mut port = Pyserial::open(&format!("rfc2217://{rfc2217}"), "115200, timeout=20");
        assert_eq!(port.answer(), "open");
        rate_is(&rig, 115_200);
        carries_everything(&rig, &mut port);
        assert_eq!(port.does("setattr(port, 'baudrate', 57600)"), "None");
        rate_is(&rig, 57_600);
        assert_eq!(port.does("setattr(port, 'dtr', False) or setattr(port, 'rts', False)"), "None");
        assert_eq!(port.does("(port.cts, port.dsr, port.cd, port.ri)"), "(True, True, True, False)");
        assert_eq!(port.does("port.close()"), "None");
        rate_is(&rig, 9600);
    }
    // After a client that is killed, the line is restored too.
    let mut port = Pyserial::open(&format!("rfc2217://{rfc2217}"), "115200");
    assert_eq!(port.answer(), "open");
    rate_is(&rig, 115_200);
    drop(port);
    rate_is(&rig, 9600);
    rig.wait_for_log("rfc2217 (127.0.0.1:");
}

#[test]
fn a_port_without_remote_settings_is_not_set() {
    let (rig, rfc2217, _) = plain("");
    let url = format!("rfc2217://{rfc2217}");
    let mut port = Pyserial::open(&url, "115200");
    let refused = port.answer();
    assert!(refused.contains("remote rejected value for option 'baudrate'"), "{refused}");
    rig.wait_for_status("0 attached");
    let mut port = Pyserial::open(&url, "9600, timeout=20");
    assert_eq!(port.answer(), "open", "as the port is set");
    carries_everything(&rig, &mut port);
    assert_eq!(rig.line().c_ospeed, 9600);
}

#[test]
fn a_setting_that_the_driver_has_not_is_refused_and_the_others_stay() {
    let (rig, rfc2217, _) = plain("remote_settings = true");
    // A pty has eight bits and no parity (drivers/tty/pty.c, pty_set_termios).
    let mut port = Pyserial::open(&format!("rfc2217://{rfc2217}"), "115200, parity='E'");
    let refused = port.answer();
    assert!(refused.contains("remote rejected value for option 'parity'"), "{refused}");
    rate_is(&rig, 9600);
}

#[test]
fn an_adapter_that_comes_back_is_set_as_its_client_had_it() {
    let (mut rig, rfc2217, _) = plain("remote_settings = true");
    let mut port = Pyserial::open(&format!("rfc2217://{rfc2217}"), "115200, timeout=20");
    assert_eq!(port.answer(), "open");
    rate_is(&rig, 115_200);
    rig.unplug();
    rig.wait_for_status("unplugged");
    rig.plug();
    rate_is(&rig, 115_200);
    carries_everything(&rig, &mut port);
    drop(port);
    rate_is(&rig, 9600);
}

#[test]
fn the_ssh_subsystem_is_a_serial_line_with_a_login() {
    let mut rig = Rig::new("remote_settings = true");
    rig.serve_logins(true);
    rig.start_plugged();
    let ssh = rig.ssh(&["-s", "demo@127.0.0.1", "rfc2217"]);
    let words: Vec<_> = ssh.get_args().map(|word| word.to_str().unwrap()).collect();
    // As in the manual: a loopback port of the client's machine, by a script because socat has its own
    // quoting.
    let script = rig.path("line");
    fs::write(&script, format!("#!/bin/sh\nexec ssh {}\n", words.join(" "))).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let here = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut socat = Command::new("socat")
        .arg(format!("TCP-LISTEN:{},bind=127.0.0.1,reuseaddr", here.port()))
        .arg(format!("EXEC:{}", script.display()))
        .spawn()
        .unwrap();
    until("socat", || listens(here.port()).then_some(()));
    let mut port = Pyserial::open(&format!("rfc2217://{here}"), "115200, timeout=20");
    assert_eq!(port.answer(), "open");
    rate_is(&rig, 115_200);
    carries_everything(&rig, &mut port);
    assert_eq!(port.does("port.close()"), "None");
    rate_is(&rig, 9600);
    until("socat to end", || socat.try_wait().unwrap());
    rig.wait_for_status("0 attached");
}

#[test]
fn a_reader_by_ssh_sets_nothing() {
    let mut rig = Rig::new("remote_settings = true");
    rig.serve_logins(true);
    rig.start_plugged();
    let mut writer = Client::start(rig.consolectl(&["connect", "demo"]));
    rig.wait_for_status("1 attached");
    let mut ssh = rig.ssh(&["-s", "demo@127.0.0.1", "rfc2217"]);
    let mut ssh = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // WILL COM-PORT-OPTION, SET-BAUDRATE 115200: the reply has what is in effect, 9600.
    let (mut to, mut from) = (ssh.stdin.take().unwrap(), ssh.stdout.take().unwrap());
    to.write_all(b"\xff\xfb\x2c\xff\xfa\x2c\x01\x00\x01\xc2\x00\xff\xf0").unwrap();
    let reply = b"\xff\xfa\x2c\x65\x00\x00\x25\x80\xff\xf0";
    let mut received = Vec::new();
    while !received.windows(reply.len()).any(|window| window == reply) {
        let mut byte = [0];
        from.read_exact(&mut byte).unwrap_or_else(|error| panic!("{error} after {received:02x?}"));
        received.push(byte[0]);
    }
    assert_eq!(rig.line().c_ospeed, 9600);
    to.write_all(b"not sent").unwrap();
    writer.type_in("sent");
    rig.expect_at_device(b"sent");
    drop(to);
    assert!(until("ssh", || ssh.try_wait().unwrap()).success());
    let mut aside = String::new();
    ssh.stderr.take().unwrap().read_to_string(&mut aside).unwrap();
    assert!(aside.contains("(local)"), "{aside}");
}

/// Everything that a listener sends until it closes.
fn words_of(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).unwrap();
    String::from_utf8(said).unwrap()
}

/// Every byte, from a client to the device and back.
fn passes_every_byte(rig: &Rig, to: &mut impl Write, from: &mut impl Read) {
    let all = every_byte();
    to.write_all(&all).unwrap();
    let mut sent = vec![0; all.len()];
    rig.device().read_exact(&mut sent).unwrap();
    assert_eq!(sent, all);
    rig.device().write_all(&all).unwrap();
    let mut shown = vec![0; all.len()];
    from.read_exact(&mut shown).unwrap();
    assert_eq!(shown, all);
}

#[test]
fn socat_has_the_bytes_of_the_line_and_a_second_client_is_refused() {
    let (rig, rfc2217, raw) = plain("");
    let mut socat = Command::new("socat");
    socat.arg("-").arg(format!("TCP:{raw}"));
    let mut socat = socat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    rig.wait_for_status("1 attached");
    let (mut to, mut from) = (socat.stdin.take().unwrap(), socat.stdout.take().unwrap());
    passes_every_byte(&rig, &mut to, &mut from);
    for address in [raw, rfc2217] {
        let said = words_of(address);
        assert!(said.starts_with("demo is in use: raw (127.0.0.1:"), "{said}");
        assert!(said.ends_with(") has write access\r\n"), "{said}");
    }
    drop(to);
    assert!(until("socat", || socat.try_wait().unwrap()).success());
    rig.wait_for_status("0 attached");
    // Data that a client sends as it closes reaches the device.
    let mut last = TcpStream::connect(raw).unwrap();
    last.write_all(b"last words").unwrap();
    drop(last);
    rig.expect_at_device(b"last words");
    rig.wait_for_status("0 attached");
    let mut next = TcpStream::connect(raw).unwrap();
    next.write_all(b"next").unwrap();
    rig.expect_at_device(b"next");
}

#[test]
fn gensio_speaks_telnet_with_the_port() {
    let (rig, rfc2217, _) = plain("remote_settings = true");
    // ser2net's own library as the client.
    let mut client = Command::new("gensiot");
    client.args(["-i", "stdio(self)"]).arg(format!(
        "telnet(rfc2217),tcp,{},{}",
        rfc2217.ip(),
        rfc2217.port()
    ));
    let mut client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    rig.wait_for_status("1 attached");
    let (mut to, mut from) = (client.stdin.take().unwrap(), client.stdout.take().unwrap());
    passes_every_byte(&rig, &mut to, &mut from);
    drop(to);
    until("gensiot", || client.try_wait().unwrap());
    rig.wait_for_status("0 attached");
}

#[test]
fn a_plain_client_that_loses_its_write_access_is_disconnected() {
    let (rig, _, raw) = plain("");
    let mut plain = TcpStream::connect(raw).unwrap();
    plain.set_read_timeout(Some(TIMEOUT)).unwrap();
    rig.wait_for_status("1 attached");
    let mut writer = Client::start(rig.consolectl(&["connect", "--force", "demo"]));
    let mut said = String::new();
    plain.read_to_string(&mut said).unwrap();
    assert!(said.contains("(local)"), "{said}");
    plain.shutdown(Shutdown::Write).unwrap_or_default();
    writer.type_in("mine");
    rig.expect_at_device(b"mine");
    assert!(words_of(raw).contains("demo is in use: "), "and does not come back");
}

#[test]
fn shared_ports_have_several_plain_clients_and_no_more_than_eight() {
    let (rig, _, raw) = plain("write = \"shared\"");
    let mut clients: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(raw).unwrap()).collect();
    rig.wait_for_status("8 attached");
    assert_eq!(words_of(raw), "demo is in use by 8 clients\r\n");
    rig.say(b"to all");
    for client in &mut clients {
        client.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut said = [0; 6];
        client.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"to all");
    }
}

#[test]
fn a_hostile_client_costs_bounded_memory_and_delays_nobody() {
    let (rig, rfc2217, _) = plain("remote_settings = true");
    let mut hostile = TcpStream::connect(rfc2217).unwrap();
    rig.wait_for_status("1 attached");
    // Excludes the pages of the program file: those of one that was just linked count as written to.
    let heap = || {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", rig.pid())).unwrap();
        let line = rollup.lines().find(|line| line.starts_with("Anonymous:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = heap();
    // Options without end, a subnegotiation without end, and replies that are not read.
    let options: Vec<u8> = (0..=255).flat_map(|option| [255, 251, option, 255, 253, option]).collect();
    hostile.set_write_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    let mut flood = || {
        for _ in 0..200 {
            if hostile.write_all(&options).is_err() || hostile.write_all(&[255, 250, 44]).is_err() {
                return;
            }
            if hostile.write_all(&[b'x'; 4096]).is_err() || hostile.write_all(&[255, 240]).is_err() {
                return;
            }
        }
    };
    flood();
    let mut reader = Client::start(rig.consolectl(&["connect", "demo"]));
    reader.is_told("rfc2217 (");
    rig.say(b"still here\r\n");
    reader.sees("still here");
    let grown = heap().saturating_sub(before);
    assert!(grown < 1024, "{grown} KiB for a client that reads nothing");
    drop(hostile);
}

#[test]
fn plain_listeners_beyond_loopback_want_a_key_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let check = |text: &str| {
        fs::write(&file, text).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_consolectl")).arg("check").arg(&file).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    for address in ["0.0.0.0:7001", "[::]:7001", "192.0.2.1:7001", "[2001:db8::1]:7001"] {
        for key in ["rfc2217", "raw"] {
            let (status, said) = check(&format!("[ports.a]\n{key} = \"{address}\"\n"));
            assert_eq!(status, Some(1), "{said}");
            assert!(said.contains(&format!("2: ports.a.{key} = \"{address}\": other machines")), "{said}");
            assert!(said.contains("plaintext_beyond_loopback = true"), "{said}");
            let meant = format!("[ports.a]\nplaintext_beyond_loopback = true\n{key} = \"{address}\"\n");
            assert_eq!(check(&meant).0, Some(0), "{}", check(&meant).1);
        }
    }
    let (status, said) = check("[ports.a]\nrfc2217 = \"[::1]:7001\"\n[ports.b]\nraw = \"[::1]:7001\"\n");
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("ports.b.raw") && said.contains("ports.a.rfc2217"), "{said}");
    let (_, said) = check("[ports.a]\nraw = \"7002\"\n");
    assert!(said.contains("expected an IP address with a TCP port, such as \"[::1]:7001\""), "{said}");
}

/// A program that opens a device and speaks no RFC 2217: the manual's pty of socat, by Debian's tio.
#[test]
fn tio_opens_the_pty_that_socat_makes_of_a_session() {
    let mut rig = Rig::new("");
    rig.serve_logins(true);
    rig.start_plugged();
    let ssh = rig.ssh(&["-T", "demo@127.0.0.1"]);
    let words: Vec<_> = ssh.get_args().map(|word| word.to_str().unwrap()).collect();
    let script = rig.path("session");
    fs::write(&script, format!("#!/bin/sh\nexec ssh {}\n", words.join(" "))).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let link = rig.path("core");
    let mut socat = Command::new("socat")
        .arg(format!("PTY,link={},rawer", link.display()))
        .arg(format!("EXEC:{}", script.display()))
        .spawn()
        .unwrap();
    until("the pty", || link.exists().then_some(()));
    rig.wait_for_status("1 attached");
    // tio wants a terminal.
    let mut tio = Command::new("script");
    tio.args(["-qec", &format!("tio {}", link.display()), "/dev/null"]);
    let mut tio = Client::start(tio);
    tio.sees("Connected");
    rig.say(b"login: ");
    tio.sees("login: ");
    tio.type_in("root\r");
    rig.expect_at_device(b"root\r");
    // Control-T q.
    tio.type_in("\x14q");
    tio.ends_with(0);
    socat.kill().unwrap();
    socat.wait().unwrap();
    rig.wait_for_status("0 attached");
}
