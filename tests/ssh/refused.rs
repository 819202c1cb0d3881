//! A console gives no access to the machine or its network.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use crate::client::Client;
use crate::rig::{Rig, run, until};
use crate::served;

#[test]
fn ssh_audit_has_nothing_against_any_algorithm() {
    crate::audit::is_sound(served("").tcp_port);
}

#[test]
fn a_command_that_there_is_not_is_refused_with_one_sentence_and_exit_status_2() {
    let rig = served("");
    let mut client = Client::start(rig.ssh(&["demo@127.0.0.1", "show version"]));
    client.ends_with(2);
    assert!(client.shown().is_empty());
    assert_eq!(client.aside(), "unknown command \"show\": did you mean status? help lists the commands\n");
    rig.wait_for_status("0 attached");
}

#[test]
fn a_command_with_a_long_standard_input_is_refused_as_well() {
    let rig = served("");
    let mut client = Client::start(rig.ssh(&["demo@127.0.0.1", "cat"]));
    let mut input = client.take_input();
    let typing = std::thread::spawn(move || {
        use std::io::Write;
        // Stops when the client ends.
        let _ = input.write_all(&vec![b'x'; 1_000_000]);
    });
    client.ends_with(2);
    typing.join().unwrap();
    until("the connection to end", || (connections(&rig) == 0).then_some(()));
}

/// TCP connections that the port has open.
pub fn connections(rig: &Rig) -> usize {
    let port = format!(":{:04X}", rig.tcp_port);
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let established = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        // Local address, and states 01 (established) and 08 (close-wait).
        fields[1].ends_with(&port) && matches!(fields[3], "01" | "08")
    };
    table.lines().skip(1).filter(established).count()
}

#[test]
fn a_local_forwarding_leads_nowhere() {
    let rig = served("");
    let (target, forwarded) = (listener(), free_port());
    let option = format!("127.0.0.1:{forwarded}:127.0.0.1:{}", port_of(&target));
    let mut client = Client::start(rig.ssh(&["-v", "-tt", "-L", &option, "demo@127.0.0.1"]));
    client.sees("for help]");
    is_closed_at_once(forwarded);
    client.is_told("administratively prohibited");
    assert!(target.accept().is_err(), "the port has connected to it");
    still_a_console(&rig, client);
}

#[test]
fn a_dynamic_forwarding_leads_nowhere() {
    let rig = served("");
    let (target, forwarded) = (listener(), free_port());
    let mut client =
        Client::start(rig.ssh(&["-v", "-tt", "-D", &format!("127.0.0.1:{forwarded}"), "demo@127.0.0.1"]));
    client.sees("for help]");
    let mut stream = TcpStream::connect(("127.0.0.1", forwarded)).unwrap();
    use std::io::Write;
    let [high, low] = port_of(&target).to_be_bytes();
    // SOCKS4: connect to 127.0.0.1 (openssh.com/txt/socks4.protocol).
    stream.write_all(&[4, 1, high, low, 127, 0, 0, 1, 0]).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    client.is_told("administratively prohibited");
    assert!(target.accept().is_err(), "the port has connected to it");
    still_a_console(&rig, client);
}

#[test]
fn another_host_is_not_reached_through_it() {
    let rig = served("");
    let target = listener();
    let inside = format!("127.0.0.1:{}", port_of(&target));
    let mut client = Client::start(rig.ssh(&["-v", "-W", &inside, "demo@127.0.0.1"]));
    client.is_told("administratively prohibited");
    assert_ne!(client.ends().code(), Some(0));
    assert!(target.accept().is_err(), "the port has connected to it");
}

#[test]
fn sockets_of_the_machine_are_not_reached_and_none_is_made() {
    let rig = served("");
    let (target, here, there) = (rig.path("target"), rig.path("here"), rig.path("there"));
    let listener = UnixListener::bind(&target).unwrap();
    listener.set_nonblocking(true).unwrap();
    let to = |from: &Path| format!("{}:{}", from.display(), target.display());
    let mut client =
        Client::start(rig.ssh(&["-v", "-tt", "-L", &to(&here), "-R", &to(&there), "demo@127.0.0.1"]));
    client.is_told("remote port forwarding failed");
    client.sees("for help]");
    let mut stream = UnixStream::connect(&here).unwrap();
    stream.set_read_timeout(Some(crate::rig::TIMEOUT)).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    client.is_told("open failed");
    assert!(listener.accept().is_err(), "the port has connected to it");
    assert!(!there.exists());
    still_a_console(&rig, client);
}

#[test]
fn a_remote_forwarding_is_not_listened_for() {
    let rig = served("");
    let listened = free_port();
    let option = format!("127.0.0.1:{listened}:127.0.0.1:1");
    let mut client = Client::start(rig.ssh(&["-v", "-tt", "-R", &option, "demo@127.0.0.1"]));
    client.is_told("remote port forwarding failed");
    client.sees("for help]");
    assert!(TcpStream::connect(("127.0.0.1", listened)).is_err());
    still_a_console(&rig, client);
}

#[test]
fn agent_x11_and_environment_change_nothing() {
    let rig = served("");
    run(Command::new("xauth").arg("-f").arg(rig.path("xauthority")).args([
        "add",
        ":77",
        "MIT-MAGIC-COOKIE-1",
        "00112233445566778899aabbccddeeff",
    ]));
    let mut ssh =
        rig.ssh(&["-tt", "-A", "-Y", "-o", "SendEnv=SECRET", "-o", "SetEnv=SECRET2=y", "demo@127.0.0.1"]);
    ssh.env("DISPLAY", ":77").env("XAUTHORITY", rig.path("xauthority")).env("SECRET", "x");
    let agent = TempAgent::start(&rig);
    ssh.env("SSH_AUTH_SOCK", &agent.socket);
    let mut client = Client::start(ssh);
    client.is_told("X11 forwarding request failed");
    client.sees("for help]");
    let environment = std::fs::read(format!("/proc/{}/environ", rig.pid())).unwrap();
    assert!(!String::from_utf8_lossy(&environment).contains("SECRET"));
    still_a_console(&rig, client);
}

/// A real ssh-agent, ended with the test.
struct TempAgent {
    socket: std::path::PathBuf,
    child: std::process::Child,
}

impl TempAgent {
    fn start(rig: &Rig) -> Self {
        let socket = rig.path("agent");
        let mut command = Command::new("ssh-agent");
        command.arg("-D").arg("-a").arg(&socket).stdout(std::process::Stdio::null());
        let child = command.spawn().unwrap();
        until("the agent", || socket.exists().then_some(()));
        Self { socket, child }
    }
}

impl Drop for TempAgent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn sftp_is_refused() {
    let rig = served("");
    let mut client = Client::start(rig.ssh(&["-s", "demo@127.0.0.1", "sftp"]));
    client.is_told("sftp: file transfer is not supported here; to send files to a device use sz, rz or sx");
    assert_ne!(client.ends().code(), Some(0));
    rig.wait_for_status("0 attached");
    until("the connection to end", || (connections(&rig) == 0).then_some(()));
}

fn listener() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

fn port_of(listener: &TcpListener) -> u16 {
    listener.local_addr().unwrap().port()
}

/// A TCP port without a listener; the client is about to listen on it.
fn free_port() -> u16 {
    port_of(&listener())
}

fn is_closed_at_once(port: u16) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(crate::rig::TIMEOUT)).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

fn still_a_console(rig: &Rig, mut client: Client) {
    client.type_in("still a console\r");
    rig.expect_at_device(b"still a console\r");
}
