//! The admin CLI gives no access to the machine or its network.

use std::net::TcpListener;
use std::process::Command;

use crate::bench::Bench;
use crate::client::Client;
use crate::programs;
use crate::rig::run;

#[test]
fn ssh_audit_has_nothing_against_any_algorithm() {
    crate::audit::is_sound(Bench::new().tcp_port());
}

#[test]
fn forwardings_lead_nowhere() {
    let bench = Bench::new();
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let inside = format!("127.0.0.1:{}", target.local_addr().unwrap().port());
    let mut client = Client::start(bench.ssh(&["-v", "-W", &inside, "alice@127.0.0.1"]));
    client.is_told("administratively prohibited");
    assert_ne!(client.ends().code(), Some(0));
    target.set_nonblocking(true).unwrap();
    assert!(target.accept().is_err(), "it has connected to it");
    let mut client = Client::start(bench.ssh(&["-v", "-tt", "-R", "0:127.0.0.1:1", "alice@127.0.0.1"]));
    client.is_told("remote port forwarding failed");
    client.sees("at your service");
}

#[test]
fn other_ssh_features_are_rejected_and_the_session_continues() {
    let bench = Bench::new();
    let mut asking =
        Client::start(programs::hostile(bench.tcp_port(), "alice", &bench.path("key"), &["ask"]));
    asking.sees("typed\n");
    asking.sees("still here");
    programs::all_refused(&String::from_utf8(asking.shown()).unwrap());
    asking.end_input();
    asking.ends_with(0);
    bench.helpers_have_ended();
}

#[test]
fn agent_and_x11_change_nothing() {
    let bench = Bench::new();
    run(Command::new("xauth").arg("-f").arg(bench.path("xauthority")).args([
        "add",
        ":77",
        "MIT-MAGIC-COOKIE-1",
        "00112233445566778899aabbccddeeff",
    ]));
    let mut ssh = bench.ssh(&["-tt", "-A", "-Y", "alice@127.0.0.1"]);
    ssh.env("DISPLAY", ":77").env("XAUTHORITY", bench.path("xauthority"));
    let mut client = Client::start(ssh);
    client.is_told("X11 forwarding request failed");
    client.sees("at your service");
    client.type_in("report\r");
    let variables = client.sees("leader yes");
    assert!(!variables.contains("DISPLAY") && !variables.contains("SSH_AUTH_SOCK"), "{variables}");
}

#[test]
fn sftp_is_refused() {
    let bench = Bench::new();
    let mut client = Client::start(bench.ssh(&["-s", "alice@127.0.0.1", "sftp"]));
    client.is_told("sftp: file transfer is not supported here;");
    assert_ne!(client.ends().code(), Some(0));
    bench.helpers_have_ended();
}

#[test]
fn algorithms_and_banner_are_those_of_the_configuration() {
    let bench = Bench::new();
    let by_group = || {
        let options = ["-o", "KexAlgorithms=diffie-hellman-group16-sha512", "alice@127.0.0.1", "list"];
        bench.ssh(&options).output().unwrap().status.code()
    };
    assert_ne!(by_group(), Some(255));
    let directory = bench.path("root/etc/consoleserver");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(bench.path("issue"), "Authorized use only.\n").unwrap();
    let text = format!(
        "[server]\nssh_algorithms = \"strict\"\nbanner = {:?}\n",
        bench.path("issue").display().to_string()
    );
    std::fs::write(directory.join("config.toml"), text).unwrap();
    assert_eq!(by_group(), Some(255), "the next connection goes by the file");
    bench.wait_for_journal("ssh_algorithms = \"default\" in [server] would serve it");
    // The first of an option counts, and the bench's hides the text.
    let mut command = Command::new("ssh");
    command
        .args(["-F", "none", "-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no"])
        .args(["-o", "IdentitiesOnly=yes", "-p", &bench.tcp_port().to_string(), "-i"])
        .arg(bench.path("key"))
        .args(["alice@127.0.0.1", "list"]);
    let shown = String::from_utf8_lossy(&command.output().unwrap().stderr).into_owned();
    assert!(shown.contains("Authorized use only."), "{shown}");
}
