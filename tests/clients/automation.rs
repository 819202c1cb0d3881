//! Automation tools at the console of a Cisco router: pexpect, netmiko, labgrid, Ansible.

use std::path::Path;
use std::process::Command;

use crate::programs::By;
use crate::rig::{listens, until};
use crate::tool::Tool;
use crate::{Bench, PASSWORD, here, python, succeeds};

/// A script of this directory, at the port.
fn script(bench: &Bench, name: &str, by: By<'_>) -> Command {
    let mut command = Command::new(python());
    command.args([&here(name), &bench.rig.tcp_port.to_string()]);
    match by {
        By::Key(key) => command.arg("--key").arg(key),
        By::Password(password) => command.args(["--password", password]),
    };
    command.env("HOME", bench.accounts.home("root"));
    command
}

#[track_caller]
fn shows_the_version(shown: &str) {
    assert!(shown.contains("Version 15.7(3)M3"), "{shown}");
    assert!(shown.contains("Configuration register is 0x2102"), "{shown}");
    assert!(!shown.contains("--More--"), "{shown}");
}

/// The device is already at its prompt, since these clients do not send Return first.
fn wake(bench: &Bench) {
    let key = bench.rig.path("key");
    succeeds(Tool::OpenSsh.command(&bench.rig, By::Key(&key), "send --expect 'Router>' '\\r'").arg(""));
}

#[test]
fn pexpects_pxssh_finds_the_prompt_that_is_there() {
    let bench = Bench::with_router();
    let key = bench.rig.path("key");
    wake(&bench);
    for by in Tool::logins(&key) {
        shows_the_version(&succeeds(&mut script(&bench, "pxssh-show", by)));
        bench.rig.wait_for_status("0 attached");
    }
}

#[test]
fn netmiko_goes_from_terminal_server_to_cisco_ios() {
    let bench = Bench::with_router();
    let key = bench.rig.path("key");
    for by in Tool::logins(&key) {
        let shown = succeeds(&mut script(&bench, "netmiko-show", by));
        shows_the_version(&shown);
        assert!(shown.contains("description reached by netmiko"), "{shown}");
        bench.rig.wait_for_status("0 attached");
    }
}

#[test]
fn labgrids_external_console_driver_talks_to_the_device() {
    let bench = Bench::with_router();
    let mut labgrid = Command::new(python());
    labgrid.arg(here("labgrid-show"));
    labgrid.arg(format!("ssh -T {} -p {} alice@127.0.0.1", bench.ssh_options(), bench.rig.tcp_port));
    shows_the_version(&succeeds(&mut labgrid));
}

/// The port is set to another rate: labgrid sets its own, and the port's is restored when it has disconnected.
#[test]
fn labgrids_serial_driver_talks_to_the_device_by_rfc2217() {
    let mut bench = Bench::prepared();
    let listener = bench.rig.listen_plain();
    bench.start(&format!("baud = 9600\nrfc2217 = \"{listener}\"\nremote_settings = true\n"));
    bench.connect(Command::new(here("fake-ios")));
    bench.rig.wait_for_log("Press RETURN to get started.");
    let labgrid = |port: u16| {
        let mut labgrid = Command::new(python());
        labgrid.arg(here("labgrid-serial")).arg(port.to_string());
        shows_the_version(&succeeds(&mut labgrid));
    };
    let given_back = || {
        until("9600 baud", || (bench.rig.line().c_ospeed == 9600).then_some(()));
        bench.rig.wait_for_status("0 attached");
    };
    labgrid(listener.port());
    given_back();
    // With a login: the command of console@.service(8). socat has no shell, and so no quotes.
    let here = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut socat = Command::new("socat")
        .arg(format!("TCP-LISTEN:{here},bind=127.0.0.1,reuseaddr,fork"))
        .arg(format!("EXEC:ssh -s {} -p {} alice@127.0.0.1 rfc2217", bench.ssh_options(), bench.rig.tcp_port))
        .spawn()
        .unwrap();
    until("socat", || listens(here).then_some(()));
    labgrid(here);
    given_back();
    socat.kill().unwrap();
    socat.wait().unwrap();
}

/// A program of Ansible, with its own home and settings.
fn ansible(bench: &Bench, program: &str) -> Command {
    // Ansible starts others by the same interpreter, which has pip's packages.
    let mut command = Command::new(python());
    command.arg(Path::new("/usr/bin").join(program));
    let home = bench.accounts.home("root");
    command.env("HOME", &home).env("ANSIBLE_HOST_KEY_CHECKING", "False").env("ANSIBLE_NOCOLOR", "1");
    command.env("ANSIBLE_LOCAL_TEMP", home.join("tmp")).current_dir(home);
    command
}

/// Thirty hosts, as Ansible sees it, behind one port; `-C -o ControlPersist=60s` are Ansible's own defaults.
#[test]
fn ansible_raw_runs_a_command_with_thirty_forks() {
    let bench = Bench::new("");
    let inventory = bench.rig.path("inventory");
    let key = bench.rig.path("key");
    std::fs::write(
        &inventory,
        format!(
            "[ports]\np[01:30] ansible_host=127.0.0.1 ansible_port={} ansible_user=alice\n",
            bench.rig.tcp_port
        ),
    )
    .unwrap();
    for options in ["-C -o ControlMaster=auto -o ControlPersist=60s", "-o ControlMaster=no"] {
        let mut command = ansible(&bench, "ansible");
        command.args([
            "-i",
            inventory.to_str().unwrap(),
            "ports",
            "-m",
            "raw",
            "--forks",
            "30",
            "-a",
            "status",
        ]);
        command.arg("--private-key").arg(&key).env("ANSIBLE_SSH_ARGS", options);
        let shown = succeeds(&mut command);
        assert_eq!(shown.matches("| CHANGED | rc=0 >>").count(), 30, "{options}: {shown}");
        assert_eq!(shown.matches("settings 115200 8N1").count(), 30, "{options}: {shown}");
    }
}

fn network_cli(library: &str) {
    let bench = Bench::with_router();
    wake(&bench);
    let key = bench.rig.path("key");
    let inventory = bench.rig.path("inventory");
    for login in
        [format!("ansible_private_key_file={}", key.display()), format!("ansible_password={PASSWORD}")]
    {
        let variables =
            format!("ansible_host=127.0.0.1 ansible_port={} ansible_user=alice {login}", bench.rig.tcp_port);
        std::fs::write(&inventory, format!("router {variables}\n")).unwrap();
        let mut play = ansible(&bench, "ansible-playbook");
        play.args(["-i", inventory.to_str().unwrap(), &here("network-cli.yml")]);
        let shown = succeeds(play.env("ANSIBLE_NETWORK_CLI_SSH_TYPE", library));
        shows_the_version(&shown);
        assert!(shown.contains("Current privilege level is 15"), "{shown}");
        assert!(shown.contains("failed=0"), "{shown}");
        // Ansible's connection process stays for a while, as ControlPersist does.
        until("the end of its session", || {
            let socket = bench.accounts.home("root").join(".ansible/pc");
            let left = std::fs::read_dir(socket).map_or(0, |files| files.count());
            (left == 0).then_some(())
        });
        bench.rig.wait_for_status("0 attached");
    }
}

#[test]
fn ansibles_network_cli_shows_and_configures_through_paramiko() {
    network_cli("paramiko");
}

#[test]
fn ansibles_network_cli_shows_and_configures_through_libssh() {
    network_cli("libssh");
}
