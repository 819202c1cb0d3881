//! A far end that is switched off behind a proxy that accepts every connection: one notice and one mark when it goes, silence while it
//! is tried again, one when it is back.

use std::fs;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use super::rig::{Rig, until};
use super::{accept_tcp, attach, bench, on_demand_bench, tcp_bench};
use crate::client::Client;
use crate::dialer::Dialers;

/// How often the log, the journal and the user's terminal have a disconnect and a reconnect.
fn announced(rig: &Rig, client: &Client) -> [(usize, usize); 3] {
    let shown = String::from_utf8_lossy(&client.shown()).into_owned();
    let count =
        |text: &str| (text.matches("demo disconnected").count(), text.matches("demo reconnected").count());
    [rig.log_text(), rig.journal(), shown].map(|text| count(&text))
}

/// A user may see the notice before it is in the log, which another thread writes.
fn waits_for_one_disconnect_and_one_reconnect(rig: &Rig, client: &Client) {
    until("one disconnect and one reconnect in all three", || {
        (announced(rig, client) == [(1, 1); 3]).then_some(())
    });
}

#[test]
fn a_proxy_whose_server_is_off_is_one_disconnect_and_one_reconnect() {
    let (mut rig, _dialers, listener, mut far) = tcp_bench("");
    far.write_all(b"login: ").unwrap();
    let mut client = attach(&rig);
    client.sees("login: ");
    drop(far);
    client.sees("disconnected");
    let mut last = Instant::now();
    let mut waits = Vec::new();
    for _ in 0..4 {
        drop(accept_tcp(&listener));
        waits.push(last.elapsed());
        last = Instant::now();
    }
    // 0.25 s, 0.5 s, 1 s, 2 s, each a quarter more or less: a connection that was closed does not reset the back-off.
    assert!(waits[3] > 3 * waits[0], "{waits:?}");
    let mut far = accept_tcp(&listener);
    assert_eq!(announced(&rig, &client), [(1, 0); 3]);
    rig.wait_for_status("disconnected since");
    // A silent far end gets input at once.
    client.type_in("x");
    let mut typed = [0];
    far.read_exact(&mut typed).unwrap();
    assert_eq!(announced(&rig, &client), [(1, 0); 3]);
    far.write_all(b"back\r\n").unwrap();
    client.sees("reconnected");
    client.sees("back");
    let log = rig.wait_for_log("back");
    assert!(log.find("demo reconnected").unwrap() < log.find("back").unwrap(), "{log}");
    waits_for_one_disconnect_and_one_reconnect(&rig, &client);
    rig.wait_for_status("connected to tcp");
    assert!(rig.stop().success());
}

/// ser2net: "Port already in use", and other terminal servers similarly.
#[test]
fn a_terminal_server_whose_line_is_in_use_is_one_disconnect_and_a_silent_far_end_counts_after_a_while() {
    let (mut rig, _dialers, listener, mut far) = tcp_bench("");
    let mut client = attach(&rig);
    client.sees("for help");
    for _ in 0..4 {
        far.write_all(b"Port already in use\r\n").unwrap();
        drop(far);
        far = accept_tcp(&listener);
    }
    assert_eq!(announced(&rig, &client), [(1, 0); 3]);
    // The data of the closed connections is output.
    assert_eq!(rig.log_text().matches("Port already in use").count(), 4);
    client.sees("reconnected");
    rig.wait_for_status("connected to tcp");
    waits_for_one_disconnect_and_one_reconnect(&rig, &client);
    assert!(rig.stop().success());
}

#[test]
fn a_program_whose_far_end_is_off_is_one_disconnect_and_its_errors_are_not_output() {
    let place = tempfile::tempdir().unwrap();
    let (up, count) = (place.path().join("up"), place.path().join("count"));
    fs::write(&up, "").unwrap();
    let script = format!(
        "echo x >>{1}; if [ -e {0} ]; then echo Loading; echo ready; while [ -e {0} ]; do sleep 0.05; done; exit 1; fi; \
         echo Loading; sleep 1.5; echo 'Error: Unable to establish IPMI v2 / RMCP+ session' >&2; exit 1",
        up.display(),
        count.display()
    );
    let mut rig = bench("unit", "");
    rig.serve_logins(true);
    let _dialers = Dialers::new(&rig.path("run"), &["unit", "/bin/sh", "-c", &script]);
    rig.start();
    rig.wait_for_log("ready");
    let mut client = attach(&rig);
    client.sees("ready");
    fs::remove_file(&up).unwrap();
    client.sees("disconnected");
    let tries = || fs::read_to_string(&count).unwrap().lines().count();
    until("four tries", || (tries() >= 5).then_some(()));
    rig.wait_for_status("exit status 1 of sh: Error: Unable to establish IPMI v2 / RMCP+ session");
    assert_eq!(announced(&rig, &client), [(1, 0); 3]);
    let said = "Unable to establish";
    assert!(!rig.log_text().contains(said), "{}", rig.log_text());
    assert_eq!(rig.log_text().matches("Loading").count(), 1, "{}", rig.log_text());
    assert!(!String::from_utf8_lossy(&client.shown()).contains(said));
    fs::write(&up, "").unwrap();
    client.sees("reconnected");
    client.sees("ready");
    waits_for_one_disconnect_and_one_reconnect(&rig, &client);
    assert!(rig.stop().success());
}

/// A command counts as a client: it connects, and the connection ends after it.
#[test]
fn commands_connect_a_source_on_demand_and_autobaud_does_not() {
    let (mut rig, _dialers, listener) = on_demand_bench();
    let source = format!("tcp:{}", listener.local_addr().unwrap());
    let mut autobaud = Client::start(rig.consolectl(&["autobaud", "demo"]));
    autobaud.ends_with(1);
    assert_eq!(
        autobaud.aside(),
        format!("consolectl: autobaud of demo is not possible: {source} has no line rate\n")
    );
    assert!(listener.accept().is_err());
    let mut sending = Client::start(rig.ssh(&["demo@127.0.0.1", "send", "--expect", "pong", "ping\\r"]));
    let mut far = accept_tcp(&listener);
    let mut typed = [0; 5];
    far.read_exact(&mut typed).unwrap();
    assert_eq!(&typed, b"ping\r");
    far.write_all(b"pong\r\n").unwrap();
    sending.ends_with(0);
    // The connection is kept for 10 s.
    far.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    assert_eq!(far.read(&mut typed).unwrap(), 0);
    let mut expecting = Client::start(rig.ssh(&["demo@127.0.0.1", "expect", "login:"]));
    accept_tcp(&listener).write_all(b"login: ").unwrap();
    expecting.ends_with(0);
    drop(listener);
    // Without a listener.
    let mut sending = Client::start(rig.ssh(&["demo@127.0.0.1", "send", "x"]));
    sending.ends_with(1);
    assert!(sending.aside().contains("demo: disconnected since "), "{}", sending.aside());
    assert!(rig.stop().success());
}
