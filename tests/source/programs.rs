//! Programs as far ends: the commands of the drop-ins in `units/source`, with Debian's ipmitool at OpenIPMI's simulator of a BMC, and OpenSSH
//! at Debian's sshd and at a console of our own.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::rig::{Rig, until, until_within};
use super::{accept_tcp, attach, bench, free_port};
use crate::client::Client;
use crate::dialer::Dialers;

/// The words of `ExecStart=` in a shipped drop-in after the name of the port, as systemd passes them, with these replacements.
fn dropin(name: &str, replaced: &[(&str, &str)]) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("units/source").join(name);
    let text = fs::read_to_string(path).unwrap();
    let command =
        text.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/libexec/consoleserver/console-dial "));
    let mut command = command.expect("an ExecStart= of console-dial").to_owned();
    for (from, to) in replaced {
        assert!(command.contains(from), "{from} in {command}");
        command = command.replace(from, to);
    }
    assert!(!command.contains('%') && !command.contains("${"), "{command}");
    // systemd.service(5), "Command lines": quotes and the escapes of C.
    let words = shlex::split(&command).unwrap();
    words.iter().map(|word| word.replace("\\r", "\r").replace("\\x1d", "\x1d")).collect()
}

/// The dialer of a drop-in; `%i` was the name of the port, which the bench gives.
fn dialers(rig: &Rig, words: &[String]) -> Dialers {
    let words: Vec<&str> = words.iter().map(String::as_str).filter(|word| *word != "PORT").collect();
    Dialers::new(&rig.path("run"), &words)
}

/// A BMC whose serial line is a TCP connection, at the same address after each boot.
struct Bmc {
    child: Child,
    port: u16,
    line: TcpStream,
    listener: TcpListener,
    place: tempfile::TempDir,
}

impl Bmc {
    fn start() -> Self {
        let place = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let emulation = "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\n\
                         sel_enable 0x20 1000 0x0a\nmc_enable 0x20\n";
        fs::write(place.path().join("sim.emu"), emulation).unwrap();
        let (child, line) = Self::simulator(place.path(), port, &listener, "s3cret");
        Self { child, port, line, listener, place }
    }

    fn simulator(place: &Path, port: u16, line: &TcpListener, password: &str) -> (Child, TcpStream) {
        let lan = format!(
            "name \"node17\"\nset_working_mc 0x20\n startlan 1\n  addr 127.0.0.1 {port}\n  priv_limit admin\n  \
             allowed_auths_callback none md2 md5 straight\n  allowed_auths_user none md2 md5 straight\n  \
             allowed_auths_operator none md2 md5 straight\n  allowed_auths_admin none md2 md5 straight\n  \
             guid a123456789abcdefa123456789abcdef\n endlan\n sol \"tcp:{}\" 115200\n \
             user 1 true \"\" \"test\" user 10 none md2 md5 straight\n \
             user 2 true \"admin\" \"{password}\" admin 10 none md2 md5 straight\n",
            line.local_addr().unwrap()
        );
        fs::write(place.join("lan.conf"), lan).unwrap();
        let child = Command::new("ipmi_sim")
            .args(["-n", "-c"])
            .arg(place.join("lan.conf"))
            .arg("-f")
            .arg(place.join("sim.emu"))
            .arg("-s")
            .arg(place)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("ipmi_sim of openipmi, which `make` installs");
        (child, accept_tcp(line))
    }

    fn power_off(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts the BMC again, with this password of the user admin.
    fn power_on(&mut self, password: &str) {
        (self.child, self.line) = Self::simulator(self.place.path(), self.port, &self.listener, password);
    }

    /// The drop-in's command for it, with this password. A local BMC answers at once: `-N 1` waits no longer than a second.
    fn command(&self, rig: &Rig, password: &str) -> Vec<String> {
        fs::write(rig.path("password"), password).unwrap();
        let at = format!("-N 1 -p {} -H 127.0.0.1 -U admin", self.port);
        let file = rig.path("password").display().to_string();
        dropin("ipmi.conf", &[("%i", "PORT"), ("-H ${BMC} -U ${BMC_USER}", &at), ("%d/password", &file)])
    }
}

impl Drop for Bmc {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command without a terminal, for which the client would have escapes.
fn by_command(rig: &Rig, words: &[&str]) {
    let output = rig.ssh(&["demo@127.0.0.1"]).args(words).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
}

fn reads_until(line: &mut impl Read, wanted: &[u8]) -> Vec<u8> {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.windows(wanted.len()).any(|window| window == wanted) {
        assert!(line.read(&mut byte).unwrap() == 1, "{:?}", String::from_utf8_lossy(&read));
        read.push(byte[0]);
    }
    read
}

#[test]
fn ipmitool_carries_a_console_of_a_bmc_with_its_break() {
    let mut bmc = Bmc::start();
    let mut rig = bench("unit", "");
    rig.serve_logins(true);
    let _dialers = dialers(&rig, &bmc.command(&rig, "s3cret"));
    rig.start();
    rig.wait_for_log("SOL Session operational");
    bmc.line.write_all(b"\r\nnode17 login: \r\n").unwrap();
    rig.wait_for_log("node17 login: ");
    attach(&rig).sees("node17 login: ");
    // ~. at the beginning of a line would end ipmitool's session; as started here, it passes it on.
    by_command(&rig, &["send", "--force", "root\\r~.x"]);
    reads_until(&mut bmc.line, b"~.x");
    by_command(&rig, &["break", "--force"]);
    // Its simulator passes a break on as telnet's BRK (RFC 854).
    reads_until(&mut bmc.line, b"\xff\xf3");
    rig.wait_for_log("send break");
    assert!(rig.stop().success());
}

#[test]
fn a_wrong_password_of_a_bmc_is_one_sentence_and_is_tried_three_times() {
    let bmc = Bmc::start();
    let mut rig = bench("unit", "");
    let _dialers = dialers(&rig, &bmc.command(&rig, "guess"));
    rig.start();
    let status = rig.wait_for_status("not retried after 3 rejected logins");
    assert!(
        status.contains("the far end rejected the login of ipmitool: > RAKP 2 HMAC is invalid"),
        "{status}"
    );
    assert!(!rig.journal().contains("guess") && !rig.log_text().contains("guess"));
    assert!(rig.stop().success());
}

fn disconnects(rig: &Rig) -> usize {
    rig.log_text().matches("demo disconnected: ").count()
}

/// Waits until ipmitool has noticed that its BMC is away, by its own keepalive: up to a minute.
fn sees_disconnect(rig: &Rig, client: &mut Client, before: usize) {
    until_within(Duration::from_secs(180), "a disconnect", || (disconnects(rig) > before).then_some(()));
    client.sees("disconnected");
}

/// A BMC that is off for a while, and one that comes back with another password, as after a reset to factory settings.
#[test]
#[ignore = "two minutes: make release-check"]
fn a_bmc_that_reboots_is_connected_again() {
    let mut bmc = Bmc::start();
    let mut rig = bench("unit", "");
    rig.serve_logins(true);
    let _dialers = dialers(&rig, &bmc.command(&rig, "s3cret"));
    rig.start();
    rig.wait_for_log("SOL Session operational");
    let mut client = attach(&rig);
    client.sees("SOL Session operational");

    bmc.power_off();
    sees_disconnect(&rig, &mut client, 0);
    // Later attempts are silent, and their reason is in the status.
    rig.wait_for_status("exit status 1 of ipmitool: Error: Unable to establish IPMI v2 / RMCP+ session");
    assert_eq!(disconnects(&rig), 1);
    bmc.power_on("s3cret");
    client.sees("reconnected");
    client.sees("SOL Session operational");
    bmc.line.write_all(b"\r\nnode17 login: \r\n").unwrap();
    client.sees("node17 login: ");
    let log = rig.wait_for_log("node17 login: ");
    let marks = ["demo disconnected: ", "demo reconnected", "node17 login: "];
    let places: Vec<_> =
        marks.iter().map(|mark| log.find(mark).unwrap_or_else(|| panic!("{mark} in {log}"))).collect();
    assert!(places.is_sorted(), "{log}");
    by_command(&rig, &["send", "--force", "root\\r"]);
    reads_until(&mut bmc.line, b"root\r");

    let before = disconnects(&rig);
    bmc.power_off();
    bmc.power_on("factory");
    sees_disconnect(&rig, &mut client, before);
    let sentence = "the far end rejected the login of ipmitool: > RAKP 2 HMAC is invalid";
    let status = rig.wait_for_status("not retried after 3 rejected logins");
    assert!(status.contains(sentence), "{status}");
    // The administrator writes the password into its file, and reloads.
    bmc.command(&rig, "factory");
    rig.apply();
    client.sees("reconnected");
    client.sees("SOL Session operational");
    bmc.line.write_all(b"\r\nnode17 again\r\n").unwrap();
    client.sees("node17 again");
    assert!(rig.stop().success());
}

/// sshd with a console in place of a shell, for the user who runs the test.
struct SshBmc {
    child: Child,
    port: u16,
}

impl SshBmc {
    fn start(rig: &Rig) -> Self {
        let port = free_port();
        fs::create_dir_all("/run/sshd").unwrap();
        let key = fs::read_to_string(rig.path("key.pub")).unwrap();
        fs::write(rig.path("admitted"), key).unwrap();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nAuthorizedKeysFile {}\nPrintMotd no\nPrintLastLog no\n\
             ForceCommand stty raw -echo; printf 'bmc console\\r\\n'; exec cat\n",
            rig.path("hostkeys/hostkey_ed25519").display(),
            rig.path("admitted").display(),
        );
        fs::write(rig.path("sshd_config"), config).unwrap();
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(rig.path("sshd_config"))
            .stdin(Stdio::null())
            .stderr(fs::File::create(rig.path("sshd-journal")).unwrap())
            .spawn()
            .unwrap();
        until("sshd", || TcpStream::connect(("127.0.0.1", port)).ok());
        write_known_hosts(rig, rig, port);
        Self { child, port }
    }
}

impl Drop for SshBmc {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The drop-in's command.
fn ssh(known: &Path, key: &Path, port: u16, at: &str) -> Vec<String> {
    dropin(
        "ssh.conf",
        &[
            ("%i", "PORT"),
            ("%d/key", key.to_str().unwrap()),
            ("%d/hosts", known.to_str().unwrap()),
            ("${BMC_PORT}", &port.to_string()),
            ("${BMC}", at),
        ],
    )
}

fn user() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap().unwrap();
    format!("{}@127.0.0.1", user.name)
}

#[test]
fn ssh_carries_a_console_and_a_key_that_is_not_admitted_is_one_sentence() {
    let mut rig = bench("unit", "");
    rig.serve_logins(true);
    let bmc = SshBmc::start(&rig);
    let dialer = dialers(&rig, &ssh(&rig.path("known"), &rig.path("key"), bmc.port, &user()));
    rig.start();
    rig.wait_for_log("bmc console");
    by_command(&rig, &["send", "--force", "hello\\r~.there\\r\\n"]);
    rig.wait_for_log("~.there");
    // The BMC goes down: its console ends with it.
    drop(bmc);
    drop(dialer);

    // The host key of that BMC is known, and the key is another one.
    let bmc = SshBmc::start(&rig);
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(rig.path("other"))
        .status()
        .unwrap();
    assert!(made.success());
    let _dialer = dialers(&rig, &ssh(&rig.path("known"), &rig.path("other"), bmc.port, &user()));
    let status = rig.wait_for_status("not retried after 3 rejected logins");
    let why = format!("the far end rejected the login of ssh: {}: Permission denied (publickey).", user());
    assert!(status.contains(&why), "{status}");
    assert!(rig.stop().success());
}

/// The known_hosts of `rig`, for a server at this TCP port with the host key of `server`.
fn write_known_hosts(rig: &Rig, server: &Rig, port: u16) {
    let key = server.path("hostkeys/hostkey_ed25519");
    let printed = Command::new("ssh-keygen").arg("-yf").arg(key).output().unwrap();
    let public = String::from_utf8(printed.stdout).unwrap();
    fs::write(rig.path("known"), format!("[127.0.0.1]:{port} {public}")).unwrap();
}

/// A console server in front of another one.
#[test]
fn a_break_by_ssh_reaches_the_line_of_a_console_server_behind_it() {
    let mut bmc = Rig::new("");
    bmc.serve_logins(true);
    bmc.start_plugged();
    let mut rig = bench("unit", "");
    rig.serve_logins(true);
    write_known_hosts(&rig, &bmc, bmc.tcp_port);
    let _dialer = dialers(&rig, &ssh(&rig.path("known"), &bmc.path("key"), bmc.tcp_port, "demo@127.0.0.1"));
    rig.start();
    rig.wait_for_log("for help]");
    by_command(&rig, &["break", "--force"]);
    bmc.wait_for_journal("demo sends a break of 500 ms");
    assert!(rig.stop().success() && bmc.stop().success());
}
