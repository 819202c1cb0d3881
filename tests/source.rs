//! A port without a tty: the real `console-port` and the real `console-dial`, with far ends that count how often they are connected.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[path = "support/dialer.rs"]
mod dialer;
#[path = "support/rig.rs"]
mod rig;

use dialer::Dialers;
use rig::{PATIENCE, Rig, collect, until};

/// A person at the console, by OpenSSH.
struct Client {
    child: Child,
    keys: ChildStdin,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Client {
    fn attach(rig: &Rig) -> Self {
        let mut ssh = rig.ssh(&["-tt", "demo@127.0.0.1"]);
        let mut child =
            ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let screen = collect(child.stdout.take().unwrap());
        let keys = child.stdin.take().unwrap();
        Self { child, keys, screen }
    }

    #[track_caller]
    fn sees(&self, words: &str) {
        until(&format!("{words:?} on the screen"), || {
            String::from_utf8_lossy(&self.screen.lock().unwrap()).contains(words).then_some(())
        });
    }

    fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A bench whose port has this source.
fn bench(source: &str, settings: &str) -> Rig {
    Rig::with_config(&format!("[ports.demo]\ngroups = [\"*\"]\nsource = \"{source}\"\n{settings}\n"))
}

/// Numbered lines, so that a loss or a double shows where.
fn lines(from: usize, to: usize) -> Vec<u8> {
    (from..to).flat_map(|number| format!("line {number:06} of the far end\r\n").into_bytes()).collect()
}

fn accept_tcp(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let stream = until("a connection", || listener.accept().ok()).0;
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn accept_unix(listener: &UnixListener) -> UnixStream {
    listener.set_nonblocking(true).unwrap();
    let stream = until("a connection", || listener.accept().ok()).0;
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn tcp_bench(settings: &str) -> (Rig, Dialers, TcpListener, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let source = format!("tcp:{}", listener.local_addr().unwrap());
    let mut rig = bench(&source, settings);
    let dialers = Dialers::new(&rig.path("run"), &[&source]);
    rig.serve_logins(true);
    rig.start();
    let far = accept_tcp(&listener);
    rig.wait_for_status(&format!("connected to {source}"));
    (rig, dialers, listener, far)
}

#[test]
fn bytes_go_both_ways_and_are_logged() {
    let (mut rig, _dialers, _listener, mut far) = tcp_bench("");
    far.write_all(b"login: \r\nready\r\n").unwrap();
    rig.wait_for_log("ready");
    let mut client = Client::attach(&rig);
    client.sees("ready");
    client.types("root\r");
    let mut typed = [0; 5];
    far.read_exact(&mut typed).unwrap();
    assert_eq!(&typed, b"root\r");
    assert!(rig.stop().success());
}

#[test]
fn a_killed_port_finds_the_same_connection_and_every_byte() {
    let (mut rig, dialers, listener, mut far) = tcp_bench("log = \"raw\"\n");
    let everything = lines(0, 20_000);
    let mut sender = far.try_clone().unwrap();
    let sent = everything.clone();
    let sending = std::thread::spawn(move || sender.write_all(&sent).unwrap());
    for part in 1..6 {
        until("the log to grow", || (rig.log().len() >= part * everything.len() / 8).then_some(()));
        rig.kill();
        assert_eq!(rig.stored(), ["dialer", "intake", "ring", "stream"]);
        rig.start();
    }
    sending.join().unwrap();
    until("the log", || (rig.log().len() >= everything.len()).then_some(()));
    assert!(rig.log() == everything);
    // It still carries bytes the other way.
    let mut client = Client::attach(&rig);
    client.types("x");
    let mut typed = [0];
    far.read_exact(&mut typed).unwrap();
    assert!(listener.accept().is_err(), "the far end was connected once");
    assert_eq!(dialers.started.load(Ordering::Relaxed), 1);
    assert!(rig.stop().success());
}

/// What the far end has sent before it closed, and while no process of the port was there.
#[test]
fn the_last_bytes_of_a_far_end_that_closes_while_the_port_is_down_are_read() {
    let (mut rig, _dialers, listener, mut far) = tcp_bench("log = \"raw\"\n");
    rig.kill();
    let everything = lines(0, 1000);
    far.write_all(&everything).unwrap();
    drop(far);
    rig.start();
    until("the log", || (rig.log().len() >= everything.len()).then_some(()));
    assert!(rig.log() == everything);
    accept_tcp(&listener);
    assert!(rig.stop().success());
}

#[test]
fn a_unix_socket_that_is_back_is_connected_at_once_and_sessions_stay() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("node17");
    let listener = UnixListener::bind(&path).unwrap();
    let source = format!("unix:{}", path.display());
    let mut rig = bench(&source, "");
    let _dialers = Dialers::new(&rig.path("run"), &[&source]);
    rig.serve_logins(true);
    rig.start();
    let mut far = accept_unix(&listener);
    far.write_all(b"first\r\n").unwrap();
    let client = Client::attach(&rig);
    client.sees("first");
    drop((far, listener));
    fs::remove_file(&path).unwrap();
    client.sees("disconnected");
    client.sees("the far end has closed the connection");
    // Beyond the first waits, so that the back-off alone would be late.
    rig.wait_for_status("there is no socket at");
    std::thread::sleep(Duration::from_secs(4));
    let back = Instant::now();
    let listener = UnixListener::bind(&path).unwrap();
    let mut far = accept_unix(&listener);
    let waited = back.elapsed();
    assert!(waited < Duration::from_millis(500), "{waited:?}");
    client.sees("connected again");
    far.write_all(b"second\r\n").unwrap();
    client.sees("second");
    let log = rig.wait_for_log("second");
    for mark in ["demo disconnected: the far end has closed the connection", "demo connected again"] {
        assert!(log.contains(mark), "{log}");
    }
    assert!(rig.stop().success());
}
